//! What operators reach: one call and one answer per connection over a Unix socket.
//!
//! [`call`] has the words of the protocol, [`client`] asks, [`server`] listens and says who asks, by
//! the peer credentials that the kernel vouches for, [`networks_file`] reads the files that an
//! operator imports. What a call does is the program's business. A call and an answer are one line of
//! JSON each, of at most [`call::LINE_MAX`] and [`call::ANSWER_MAX`] bytes.

pub mod call;
pub mod client;
pub mod networks_file;
pub mod server;

pub use call::{Answer, Call, Refusal, RefusalKind};
pub use client::{CallError, Progress, ask, ask_with};
pub use server::{BindError, Incoming, Peer, Server, Visitor};
