//! Receivers in the lab's host, and what reaches them.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use ring::hmac;
use serde_json::Value;

use crate::stage::Stage;

/// What was posted.
#[derive(Clone, Debug)]
pub(crate) struct Post {
    pub(super) head: String,
    pub(super) body: Vec<u8>,
}

impl Post {
    pub(super) fn field(&self, name: &str) -> &str {
        let prefix = format!("{name}: ");
        self.head.lines().find_map(|line| line.strip_prefix(&prefix)).unwrap()
    }

    pub(super) fn id(&self) -> &str {
        self.field("webhook-id")
    }

    pub(crate) fn body(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap()
    }

    /// The notices of a webhook.
    pub(super) fn notices(&self) -> Vec<Value> {
        self.body()["data"]["notices"].as_array().unwrap().clone()
    }

    pub(super) fn is_signed_by(&self, secret: &str) -> bool {
        let key = hmac::Key::new(hmac::HMAC_SHA256, &STANDARD.decode(secret).unwrap());
        let head = format!("{}.{}.", self.id(), self.field("webhook-timestamp"));
        let content = [head.as_bytes(), &self.body].concat();
        let signed = format!("v1,{}", STANDARD.encode(hmac::sign(&key, &content)));
        self.field("webhook-signature").split(' ').any(|one| one == signed)
    }
}

/// A door that nobody opens yet.
pub(super) fn listener(stage: &Stage) -> TcpListener {
    stage.lab.host.run(|| TcpListener::bind("127.0.0.1:0")).unwrap().unwrap()
}

/// A receiver in the host that gives these answers, one for each connection, the last for ever.
pub(crate) fn receiver(stage: &Stage, answers: &[&'static str]) -> (SocketAddr, Receiver<Post>) {
    let listener = listener(stage);
    let address = listener.local_addr().unwrap();
    (address, serve(listener, answers.to_vec()))
}

/// The same at an address that was given up.
pub(super) fn receiver_at(
    stage: &Stage,
    address: SocketAddr,
    answers: &[&'static str],
) -> Receiver<Post> {
    let listener = stage.lab.host.run(|| TcpListener::bind(address)).unwrap().unwrap();
    serve(listener, answers.to_vec())
}

/// A receiver that does what it likes with each connection, once it has read what was asked.
pub(super) fn odd(
    stage: &Stage,
    answer: impl Fn(&mut TcpStream) + Send + Sync + 'static,
) -> SocketAddr {
    let listener = listener(stage);
    let address = listener.local_addr().unwrap();
    let answer = Arc::new(answer);
    thread::spawn(move || {
        for connection in listener.incoming() {
            let (mut connection, answer) = (connection.unwrap(), Arc::clone(&answer));
            thread::spawn(move || {
                if read(&mut connection).is_some() {
                    answer(&mut connection);
                }
            });
        }
    });
    address
}

fn serve(listener: TcpListener, answers: Vec<&'static str>) -> Receiver<Post> {
    let (send, posts): (Sender<Post>, _) = channel();
    thread::spawn(move || {
        let last = *answers.last().unwrap();
        let mut answers = answers.into_iter().chain(std::iter::repeat(last));
        for connection in listener.incoming() {
            let mut connection = connection.unwrap();
            connection.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
            let Some(post) = read(&mut connection) else { continue };
            let answer = answers.next().unwrap();
            let answer = format!("HTTP/1.1 {answer}\r\ncontent-length: 0\r\n\r\n");
            connection.write_all(answer.as_bytes()).unwrap_or_default();
            if send.send(post).is_err() {
                return;
            }
        }
    });
    posts
}

/// One request.
pub(super) fn read(connection: &mut impl Read) -> Option<Post> {
    let mut read = Vec::new();
    loop {
        let mut piece = [0; 4_096];
        let length = connection.read(&mut piece).ok().filter(|length| *length > 0)?;
        read.extend_from_slice(&piece[..length]);
        let Some(end) = read.windows(4).position(|four| four == b"\r\n\r\n") else { continue };
        let head = String::from_utf8(read[..end].to_vec()).unwrap();
        let wanted: usize =
            head.lines().find_map(|line| line.strip_prefix("content-length: "))?.parse().ok()?;
        if read.len() >= end + 4 + wanted {
            return Some(Post { head, body: read[end + 4..].to_vec() });
        }
    }
}
