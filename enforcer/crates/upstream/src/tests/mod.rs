//! Against real little servers on loopback, each with one way to misbehave.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use enforcer_model::Reason;
use http::StatusCode;
use http_body_util::BodyExt;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::task::spawn_local;
use tokio::time::{Instant, sleep, timeout};

mod hosts;
mod lines;
mod server;
mod tunnels;

use self::server::{Server, Steps, get, local, plan, pools, read_head, refusing, request, until};
use crate::{Affinity, BodyFailure, Fault, Plan, Retry};

const OK: &str = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";

#[tokio::test]
async fn requests_one_after_the_other_share_a_connection() {
    local(async {
        let server = Server::answering(OK).await;
        let pools = pools();

        for _ in 0..5 {
            assert_eq!(get(&pools, &server.plan()).await.unwrap(), "ok");
        }

        assert_eq!(server.accepted.get(), 1);
        assert_eq!(pools.open_connections("test"), 1);
    })
    .await;
}

#[tokio::test]
async fn a_connection_is_free_only_after_its_answer_was_read_to_the_end() {
    local(async {
        let server = Server::answering(OK).await;
        let pools = pools();

        let unread = pools
            .forward(request("GET", Steps::none()), Affinity::NONE, &server.plan())
            .await
            .unwrap();
        get(&pools, &server.plan()).await.unwrap();
        assert_eq!(server.accepted.get(), 2);

        unread.response.into_body().collect().await.unwrap();
        get(&pools, &server.plan()).await.unwrap();
        assert_eq!(server.accepted.get(), 2);
    })
    .await;
}

#[tokio::test]
async fn a_host_that_refuses_is_unreachable_and_a_retry_is_safe() {
    local(async {
        let plan = plan(vec![refusing().await]);

        let failure = get(&pools(), &plan).await.unwrap_err();

        assert_eq!(failure.reason(), Reason::UpstreamUnreachable);
        assert_eq!((failure.whose, failure.retry), (Fault::Upstream, Retry::Safe));
        assert_eq!(failure.upstream, Some(Arc::clone(&plan.tiers[0][0].name)));
    })
    .await;
}

#[tokio::test]
async fn the_next_host_is_asked_when_one_refuses_and_the_dead_one_is_asked_last() {
    local(async {
        let server = Server::answering(OK).await;
        let plan = plan(vec![refusing().await, server.address]);
        let pools = pools();

        for _ in 0..4 {
            let answer =
                pools.forward(request("GET", Steps::none()), Affinity::NONE, &plan).await.unwrap();
            assert_eq!(*answer.upstream, server.address.to_string());
            answer.response.into_body().collect().await.unwrap();
        }

        assert_eq!(server.accepted.get(), 1);
    })
    .await;
}

#[tokio::test]
async fn hosts_take_turns() {
    local(async {
        let (one, two) = (Server::answering(OK).await, Server::answering(OK).await);
        let plan = plan(vec![one.address, two.address]);
        let pools = pools();

        let mut asked = Vec::new();
        for _ in 0..4 {
            let answer =
                pools.forward(request("GET", Steps::none()), Affinity::NONE, &plan).await.unwrap();
            asked.push(answer.upstream.to_string());
            answer.response.into_body().collect().await.unwrap();
        }

        assert_eq!(
            asked,
            [one.address, two.address, one.address, two.address].map(|one| one.to_string())
        );
    })
    .await;
}

#[tokio::test]
async fn silence_before_the_head_is_a_timeout() {
    local(async {
        let server = Server::start(async |mut stream, _| {
            read_head(&mut stream).await;
            sleep(Duration::from_secs(30)).await;
        })
        .await;
        let started = Instant::now();

        let failure = get(&pools(), &server.plan()).await.unwrap_err();

        assert_eq!(failure.reason(), Reason::UpstreamTimeout);
        assert_eq!((failure.whose, failure.retry), (Fault::Upstream, Retry::Unsafe));
        assert!(started.elapsed() < Duration::from_secs(5));
    })
    .await;
}

#[tokio::test]
async fn informational_answers_are_kept_and_do_not_extend_the_time() {
    local(async {
        let hints = "HTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\n";
        let polite = Server::answering(hints.repeat(3).leak()).await;
        let server = Server::answering(format!("{hints}{OK}").leak()).await;

        assert_eq!(get(&pools(), &server.plan()).await.unwrap(), "ok");
        let failure = get(&pools(), &polite.plan()).await.unwrap_err();

        assert_eq!(failure.reason(), Reason::UpstreamTimeout);
    })
    .await;
}

#[tokio::test]
async fn a_fresh_connection_that_closes_is_broken_and_not_tried_again() {
    local(async {
        let server = Server::start(async |mut stream, _| {
            read_head(&mut stream).await;
        })
        .await;

        let failure = get(&pools(), &server.plan()).await.unwrap_err();

        assert_eq!(failure.reason(), Reason::UpstreamBroken);
        assert_eq!(failure.retry, Retry::Unsafe);
        assert_eq!(server.accepted.get(), 1);
    })
    .await;
}

#[tokio::test]
async fn a_stale_connection_is_replaced_once_for_a_get_and_never_for_a_post() {
    local(async {
        // Each connection answers once and dies with the second request already read.
        let server = Server::start(async |mut stream, _| {
            read_head(&mut stream).await;
            stream.write_all(OK.as_bytes()).await.unwrap();
            read_head(&mut stream).await;
        })
        .await;
        let pools = pools();

        get(&pools, &server.plan()).await.unwrap();
        assert_eq!(get(&pools, &server.plan()).await.unwrap(), "ok");
        assert_eq!(server.accepted.get(), 2);

        let post = request("POST", Steps::of(["x"]));
        let failure =
            pools.forward(post, Affinity::NONE, &server.plan()).await.map(drop).unwrap_err();
        assert_eq!(failure.reason(), Reason::UpstreamBroken);
        assert_eq!(server.accepted.get(), 2);
    })
    .await;
}

#[tokio::test]
async fn a_connection_closed_while_unused_costs_no_post() {
    local(async {
        let server = Server::start(async |mut stream, _| {
            read_head(&mut stream).await;
            stream.write_all(OK.as_bytes()).await.unwrap();
        })
        .await;
        let pools = pools();

        for _ in 0..20 {
            let post = request("POST", Steps::none());
            let answer = pools.forward(post, Affinity::NONE, &server.plan()).await.unwrap();
            assert_eq!(answer.response.into_body().collect().await.unwrap().to_bytes(), "ok");
        }

        assert_eq!(server.accepted.get(), 20);
    })
    .await;
}

#[tokio::test]
async fn an_answer_cut_short_is_an_error_and_not_an_end() {
    local(async {
        for half in [
            "HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhalf",
            "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n4\r\nhalf\r\n",
        ] {
            let server = Server::start(async move |mut stream, _| {
                read_head(&mut stream).await;
                stream.write_all(half.as_bytes()).await.unwrap();
            })
            .await;
            let pools = pools();

            let answer = pools
                .forward(request("GET", Steps::none()), Affinity::NONE, &server.plan())
                .await
                .unwrap();
            let failure = answer.response.into_body().collect().await.unwrap_err();

            assert_eq!(failure.reason(), Reason::UpstreamBroken);
        }
    })
    .await;
}

#[tokio::test]
async fn answers_that_could_be_misread_are_invalid() {
    let too_large =
        format!("HTTP/1.1 200 OK\r\nx: {}\r\ncontent-length: 0\r\n\r\n", "x".repeat(80_000));
    local(async move {
        for answer in [
            "SSH-2.0-OpenSSH_9.2\r\n",
            "\0\0\0\0\0\0\0\0\r\n\r\n",
            "HTTP/1.1 200 OK\r\nbad header\r\n\r\n",
            "HTTP/1.1 200 OK\r\ncontent-length: 2\r\ncontent-length: 3\r\n\r\nok",
            "HTTP/1.1 200 OK\r\ncontent-length: 2\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
            "HTTP/1.1 200 OK\r\ntransfer-encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
            "HTTP/1.0 200 OK\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
            "HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: x\r\n\r\n",
            "HTTP/1.1 799 Odd\r\ncontent-length: 0\r\n\r\n",
            too_large.leak(),
        ] {
            let server = Server::answering(answer).await;
            let pools = pools();

            let failure = get(&pools, &server.plan()).await.expect_err("refused");

            assert_eq!(failure.reason(), Reason::UpstreamInvalid, "{answer}: {failure:?}");
            until(|| pools.open_connections("test") == 0).await;
        }
    })
    .await;
}

#[tokio::test]
async fn an_early_answer_is_handed_over_while_the_body_is_still_being_sent() {
    local(async {
        let server = Server::answering("HTTP/1.1 413 No\r\ncontent-length: 2\r\n\r\nno").await;
        let pools = pools();
        let (_client, endless) = Steps::channel();

        let answer = pools
            .forward(request("POST", endless), Affinity::NONE, &server.plan())
            .await
            .expect("answered early");

        assert_eq!(answer.response.status(), StatusCode::PAYLOAD_TOO_LARGE);
        assert_eq!(answer.response.into_body().collect().await.unwrap().to_bytes(), "no");
        until(|| pools.open_connections("test") == 0).await;
    })
    .await;
}

#[tokio::test]
async fn bodies_stream_both_ways_at_once() {
    local(async {
        let server = Server::start(async |mut stream, _| {
            let head = read_head(&mut stream).await;
            assert!(head.contains("transfer-encoding: chunked"), "{head}");
            stream
                .write_all(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n")
                .await
                .unwrap();
            // Chunks are echoed as they come, framing and all.
            let mut buffer = [0; 1024];
            loop {
                let count = stream.read(&mut buffer).await.unwrap();
                stream.write_all(&buffer[..count]).await.unwrap();
                if buffer[..count].ends_with(b"0\r\n\r\n") {
                    break;
                }
            }
            sleep(Duration::from_secs(30)).await;
        })
        .await;
        let pools = pools();
        let (client, body) = Steps::channel();

        let answer =
            pools.forward(request("POST", body), Affinity::NONE, &server.plan()).await.unwrap();
        let mut echo = answer.response.into_body();
        for word in ["one", "two", "three"] {
            client.send(Ok(Bytes::from(word))).await.unwrap();
            let frame = echo.frame().await.unwrap().unwrap();
            assert_eq!(frame.into_data().unwrap(), word);
        }
        drop(client);

        assert!(echo.frame().await.is_none());
        assert_eq!(pools.open_connections("test"), 1);
    })
    .await;
}

#[tokio::test]
async fn a_body_that_stops_dripping_is_stalled_and_a_slow_one_is_not() {
    local(async {
        let server = Server::start(async |mut stream, _| {
            read_head(&mut stream).await;
            stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n").await.unwrap();
            for _ in 0..6 {
                sleep(Duration::from_millis(100)).await;
                stream.write_all(b"x").await.unwrap();
            }
            sleep(Duration::from_secs(30)).await;
        })
        .await;
        let pools = pools();

        let answer = pools
            .forward(request("GET", Steps::none()), Affinity::NONE, &server.plan())
            .await
            .unwrap();
        let mut body = answer.response.into_body();
        let mut received = 0;
        let failure = loop {
            match body.frame().await.unwrap() {
                Ok(frame) => received += frame.into_data().unwrap().len(),
                Err(failure) => break failure,
            }
        };

        assert_eq!(received, 6);
        assert!(matches!(failure, BodyFailure::Stalled(_)), "{failure}");
        until(|| pools.open_connections("test") == 0).await;
    })
    .await;
}

#[tokio::test]
async fn a_slow_client_does_not_count_against_the_upstream() {
    local(async {
        let server = Server::start(async |mut stream, _| {
            let mut all = read_head(&mut stream).await;
            while !all.ends_with("0\r\n\r\n") {
                all.push(char::from(stream.read_u8().await.unwrap()));
            }
            stream.write_all(OK.as_bytes()).await.unwrap();
            sleep(Duration::from_secs(30)).await;
        })
        .await;
        let (client, body) = Steps::channel();
        spawn_local(async move {
            for _ in 0..3 {
                sleep(Duration::from_millis(300)).await;
                client.send(Ok(Bytes::from_static(b"x"))).await.unwrap();
            }
        });

        let answer = pools().forward(request("POST", body), Affinity::NONE, &server.plan()).await;

        assert_eq!(answer.map(|answer| answer.response.status()).unwrap(), StatusCode::OK);
    })
    .await;
}

#[tokio::test]
async fn a_body_that_fails_is_the_clients_fault() {
    local(async {
        let server = Server::start(async |mut stream, _| {
            read_head(&mut stream).await;
            sleep(Duration::from_secs(30)).await;
        })
        .await;
        let (client, body) = Steps::channel();
        client.send(Err(io::Error::other("gone"))).await.unwrap();

        let failure = pools()
            .forward(request("POST", body), Affinity::NONE, &server.plan())
            .await
            .map(drop)
            .unwrap_err();

        assert_eq!((failure.whose, failure.reason()), (Fault::Client, Reason::BodyBroken));
    })
    .await;
}

#[tokio::test]
async fn a_request_beyond_the_connections_of_the_plan_is_refused_at_once() {
    local(async {
        let server = Server::answering(OK).await;
        let plan = Plan { connections: 2, ..server.plan() };
        let pools = pools();

        let one =
            pools.forward(request("GET", Steps::none()), Affinity::NONE, &plan).await.unwrap();
        let two =
            pools.forward(request("GET", Steps::none()), Affinity::NONE, &plan).await.unwrap();
        let failure = get(&pools, &plan).await.unwrap_err();
        assert_eq!((failure.reason(), failure.whose), (Reason::UpstreamBusy, Fault::Us));

        one.response.into_body().collect().await.unwrap();
        assert_eq!(get(&pools, &plan).await.unwrap(), "ok");
        drop(two);
        until(|| pools.open_connections("test") == 1).await;
        assert_eq!(server.accepted.get(), 2);
    })
    .await;
}

#[tokio::test]
async fn an_unused_connection_is_closed_after_its_time() {
    local(async {
        let server = Server::answering(OK).await;
        let plan = Plan { idle: Duration::from_millis(100), ..server.plan() };
        let pools = pools();

        get(&pools, &plan).await.unwrap();
        assert_eq!(pools.open_connections("test"), 1);

        until(|| pools.open_connections("test") == 0).await;
        until(|| server.closed.get() == 1).await;
    })
    .await;
}

#[tokio::test]
async fn giving_up_closes_the_connection() {
    local(async {
        let server = Server::start(async |mut stream, closed| {
            read_head(&mut stream).await;
            assert_eq!(stream.read(&mut [0]).await.unwrap_or(0), 0);
            closed.set(closed.get() + 1);
        })
        .await;
        let plan = Plan { first_byte: Duration::from_secs(30), ..server.plan() };
        let pools = pools();

        let impatient = timeout(Duration::from_millis(100), get(&pools, &plan)).await;

        assert!(impatient.is_err());
        until(|| server.closed.get() == 1).await;
        assert_eq!(pools.open_connections("test"), 0);
    })
    .await;
}

#[tokio::test]
async fn hosts_that_left_the_plan_lose_their_unused_connections() {
    local(async {
        let (old, new) = (Server::answering(OK).await, Server::answering(OK).await);
        let pools = pools();

        get(&pools, &old.plan()).await.unwrap();
        get(&pools, &new.plan()).await.unwrap();

        until(|| old.closed.get() == 1).await;
        assert_eq!(pools.open_connections("test"), 1);
    })
    .await;
}
