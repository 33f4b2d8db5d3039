//! Connections that are asked to become tunnels.

use enforcer_model::Reason;
use http_body_util::BodyExt;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::server::{Server, Steps, get, local, pools, read_head, request, until};
use super::{OK, Plan};
use crate::{Affinity, Opened, Pools};

const SWITCH: &str = "HTTP/1.1 101 Switching Protocols\r\nConnection: keep-alive, Upgrade\r\nUpgrade: WebSocket\r\n\r\n";

#[tokio::test]
async fn a_tunnel_begins_behind_the_head_and_carries_bytes_both_ways() {
    local(async {
        let server = Server::start(async |mut stream, _| {
            let head = read_head(&mut stream).await;
            assert!(head.contains("connection: upgrade") && head.contains("upgrade: websocket"));
            stream.write_all(format!("{SWITCH}early").as_bytes()).await.unwrap();
            let mut word = [0; 5];
            stream.read_exact(&mut word).await.unwrap();
            stream.write_all(&word).await.unwrap();
        })
        .await;
        let pools = pools();

        let Opened::Switched(tunnel) = open(&pools, &server.plan()).await.unwrap() else {
            panic!("an answer");
        };
        assert_eq!(*tunnel.upstream, server.address.to_string());
        assert_eq!(tunnel.response.headers()["upgrade"], "WebSocket");
        let (mut stream, early, _place) = tunnel.into_parts();
        stream.write_all(b"hello").await.unwrap();
        let mut text = early.to_vec();
        stream.read_to_end(&mut text).await.unwrap();

        assert_eq!(text, b"earlyhello");
    })
    .await;
}

#[tokio::test]
async fn a_tunnel_has_a_connection_of_its_own_and_counts_as_one_to_its_end() {
    local(async {
        let server = Server::start(async |mut stream, _| {
            while !read_head(&mut stream).await.is_empty() {
                stream.write_all(SWITCH.as_bytes()).await.unwrap();
            }
        })
        .await;
        let plan = Plan { connections: 2, ..server.plan() };
        let pools = pools();

        let tunnels = [open(&pools, &plan).await.unwrap(), open(&pools, &plan).await.unwrap()];
        assert_eq!((server.accepted.get(), pools.open_connections("test")), (2, 2));
        let refused = open(&pools, &plan).await.map(drop).unwrap_err();
        assert_eq!(refused.reason(), Reason::UpstreamBusy);

        drop(tunnels);
        assert_eq!(pools.open_connections("test"), 0);
    })
    .await;
}

#[tokio::test]
async fn another_answer_than_101_is_an_answer_and_its_connection_is_not_used_again() {
    local(async {
        let server = Server::answering(OK).await;
        let pools = pools();

        let Opened::Answered(answer) = open(&pools, &server.plan()).await.unwrap() else {
            panic!("a tunnel");
        };
        let text = answer.response.into_body().collect().await.unwrap().to_bytes();
        assert_eq!(text, "ok");
        until(|| pools.open_connections("test") == 0).await;
        get(&pools, &server.plan()).await.unwrap();

        assert_eq!(server.accepted.get(), 2);
    })
    .await;
}

#[tokio::test]
async fn a_101_to_another_protocol_is_no_answer() {
    local(async {
        for fields in [
            "upgrade: websocket\r\n",
            "connection: upgrade\r\n",
            "connection: upgrade\r\nupgrade: h2c\r\n",
            "connection: upgrade\r\nupgrade: websocket, h2c\r\n",
            "connection: upgrade\r\nupgrade: websocket\r\nupgrade: websocket\r\n",
            "connection: close\r\nupgrade: websocket\r\n",
        ] {
            let answer = format!("HTTP/1.1 101 Switching Protocols\r\n{fields}\r\n").leak();
            let server = Server::answering(answer).await;
            let pools = pools();

            let failure = open(&pools, &server.plan()).await.map(drop).unwrap_err();

            assert_eq!(failure.reason(), Reason::UpstreamInvalid, "{fields}");
            until(|| pools.open_connections("test") == 0).await;
        }
    })
    .await;
}

async fn open(pools: &Pools<Steps>, plan: &Plan) -> Result<Opened<Steps>, crate::Failure> {
    pools.open(request("GET", Steps::none()), "websocket", Affinity::NONE, plan).await
}
