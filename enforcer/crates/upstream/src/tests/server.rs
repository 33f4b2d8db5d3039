//! The little servers, and what is sent to them.

use std::cell::Cell;
use std::io;
use std::net::SocketAddr;
use std::num::NonZeroU16;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::Request;
use http_body::Frame;
use http_body_util::BodyExt;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::task::{LocalSet, spawn_local};
use tokio::time::{sleep, timeout};

use crate::{
    Affinity, Balance, Failure, HostPlan, Link, Plan, Pools, Protocol, Replay, RetryPlan, Target,
};

pub(super) struct Server {
    pub(super) address: SocketAddr,
    pub(super) accepted: Rc<Cell<usize>>,
    pub(super) closed: Rc<Cell<usize>>,
}

impl Server {
    /// Runs `script` on every connection.
    pub(super) async fn start(script: impl AsyncFn(TcpStream, Rc<Cell<usize>>) + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (accepted, closed) = (Rc::new(Cell::new(0)), Rc::new(Cell::new(0)));
        let (count, ended, script) = (Rc::clone(&accepted), Rc::clone(&closed), Rc::new(script));
        spawn_local(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                count.set(count.get() + 1);
                let (script, ended) = (Rc::clone(&script), Rc::clone(&ended));
                spawn_local(async move { script(stream, ended).await });
            }
        });
        Self { address, accepted, closed }
    }

    /// Answers every request head with `answer` and keeps the connection.
    pub(super) async fn answering(answer: &'static str) -> Self {
        Self::start(async move |mut stream, closed| {
            while !read_head(&mut stream).await.is_empty() {
                if stream.write_all(answer.as_bytes()).await.is_err() {
                    break;
                }
            }
            closed.set(closed.get() + 1);
        })
        .await
    }

    pub(super) fn plan(&self) -> Plan {
        plan(vec![self.address])
    }
}

/// A body whose parts come from a channel, or at once.
pub(super) struct Steps(Option<mpsc::Receiver<io::Result<Bytes>>>);

impl Steps {
    pub(super) fn none() -> Self {
        Self(None)
    }

    pub(super) fn of<const N: usize>(parts: [&'static str; N]) -> Self {
        let (sender, body) = Self::channel();
        for part in parts {
            sender.try_send(Ok(Bytes::from_static(part.as_bytes()))).unwrap();
        }
        body
    }

    pub(super) fn channel() -> (mpsc::Sender<io::Result<Bytes>>, Self) {
        let (sender, receiver) = mpsc::channel(8);
        (sender, Self(Some(receiver)))
    }
}

impl Replay for Steps {
    fn replay(&self) -> Option<Self> {
        self.0.is_none().then(Self::none)
    }
}

impl http_body::Body for Steps {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        match &mut self.0 {
            Some(parts) => parts.poll_recv(cx).map(|part| Some(part?.map(Frame::data))),
            None => Poll::Ready(None),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.0.is_none()
    }
}

pub(super) fn request(method: &str, body: Steps) -> Request<Steps> {
    Request::builder().method(method).uri("/").header("host", "test").body(body).unwrap()
}

pub(super) fn pools() -> Pools<Steps> {
    Pools::new(Arc::default())
}

pub(super) async fn get(pools: &Pools<Steps>, plan: &Plan) -> Result<Bytes, Failure> {
    let answer = pools.forward(request("GET", Steps::none()), Affinity::NONE, plan).await?;
    Ok(answer.response.into_body().collect().await.unwrap().to_bytes())
}

pub(super) fn plan(hosts: Vec<SocketAddr>) -> Plan {
    let hosts = hosts.into_iter().map(|address| HostPlan {
        name: address.to_string().into(),
        target: Target::Address(address),
        weight: NonZeroU16::MIN,
    });
    Plan {
        name: "test".into(),
        tiers: vec![hosts.collect()],
        protocol: Protocol::Http1,
        tls: None,
        balance: Balance::RoundRobin,
        health: None,
        eject: None,
        breaker: None,
        retry: RetryPlan { attempts: 0, budget_percent: 20 },
        slow_start: Duration::ZERO,
        dns: Duration::from_secs(30),
        connect_timeout: Duration::from_millis(500),
        first_byte: Duration::from_millis(250),
        between_bytes: Duration::from_millis(250),
        body_rate_min: 0,
        idle: Duration::from_secs(60),
        connections: 16,
        link: Link::default(),
    }
}

pub(super) async fn refusing() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    listener.local_addr().unwrap()
}

/// The head of one request; empty when the connection ended.
pub(super) async fn read_head(stream: &mut TcpStream) -> String {
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        match stream.read_u8().await {
            Ok(byte) => head.push(char::from(byte)),
            Err(_) => return String::new(),
        }
    }
    head
}

pub(super) async fn until(condition: impl Fn() -> bool) {
    let waiting = async {
        while !condition() {
            sleep(Duration::from_millis(2)).await;
        }
    };
    timeout(Duration::from_secs(5), waiting).await.expect("the condition holds in time");
}

pub(super) async fn local<T>(test: impl Future<Output = T>) -> T {
    LocalSet::new().run_until(test).await
}
