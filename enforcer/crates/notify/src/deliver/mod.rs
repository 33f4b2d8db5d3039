//! Carries a job out: the right form, the right place, one answer in time.

use std::io;
use std::time::Duration;

use enforcer_model::{Clock, Timestamp};
use http::{HeaderMap, StatusCode};
use tokio::io::AsyncWriteExt;
use tokio::net::{UdpSocket, UnixDatagram};

use crate::connect::{self, ConnectError};
use crate::forms::{alertmanager, pagerduty, slack, syslog, webhook};
use crate::post::{Answered, post};
use crate::{Bundle, Form, Job, Receiver, Scheme, Target, Token};

/// What came of a job.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The receiver has it; what it said.
    Delivered(String),
    /// The receiver wants nothing more (410).
    Gone(String),
    /// The receiver understands it and does not want it as it is.
    Refused(String),
    /// It may work later.
    Failed {
        /// Why.
        why: String,
        /// Not before, as the receiver asks.
        wait: Option<Duration>,
    },
}

/// Carries jobs out over the network.
#[derive(Clone, Copy, Debug, Default)]
pub struct Courier;

impl Courier {
    /// Carries `job` out, each of its requests within the time that its receiver has.
    pub async fn deliver(job: &Job, clock: &dyn Clock) -> Outcome {
        deliver(job, clock.now().wall).await
    }
}

impl Outcome {
    /// What the receiver said, or why it could not say anything.
    pub fn said(&self) -> &str {
        match self {
            Self::Delivered(said) | Self::Gone(said) | Self::Refused(said) => said,
            Self::Failed { why, .. } => why,
        }
    }

    const fn failed(why: String) -> Self {
        Self::Failed { why, wait: None }
    }

    /// What an answer means.
    fn of(answered: &Answered) -> Self {
        let Answered { status, wait, said } = answered;
        let told = if said.is_empty() { status.to_string() } else { format!("{status}: {said}") };
        match *status {
            status if status.is_success() => Self::Delivered(told),
            StatusCode::GONE => Self::Gone(told),
            // Not this message, however often it comes.
            StatusCode::BAD_REQUEST
            | StatusCode::PAYLOAD_TOO_LARGE
            | StatusCode::UNSUPPORTED_MEDIA_TYPE
            | StatusCode::UNPROCESSABLE_ENTITY => Self::Refused(told),
            status if status.is_redirection() => Self::failed(format!(
                "{status}; redirects are not followed: write the URL it leads to"
            )),
            _ => Self::Failed { why: told, wait: *wait },
        }
    }
}

async fn deliver(job: &Job, now: Timestamp) -> Outcome {
    let receiver = &*job.receiver;
    let host = &*job.host;
    match (&receiver.form, job.bundle.as_deref()) {
        (Form::Webhook { target, keys }, Some(bundle)) => {
            let body = webhook::body(bundle, host);
            let seconds = now.unix_seconds();
            let Some(headers) = webhook::headers(keys, &bundle.id, seconds, &body) else {
                return Outcome::failed("the message cannot be signed".to_owned());
            };
            send(receiver, target, headers, None, body, now).await
        }
        (Form::Slack { target }, Some(bundle)) => {
            send(receiver, target, HeaderMap::new(), None, slack::body(bundle, host), now).await
        }
        (Form::PagerDuty { target, routing_key }, Some(bundle)) => {
            let mut last = Outcome::failed("nothing was sent".to_owned());
            for event in pagerduty::events(bundle, routing_key, host) {
                let body = event.to_string().into_bytes();
                last = send(receiver, target, HeaderMap::new(), None, body, now).await;
                if !matches!(last, Outcome::Delivered(_)) {
                    break;
                }
            }
            last
        }
        (Form::Alertmanager { target, token, resend }, bundle) => {
            let body = alertmanager::body(bundle, &job.firing, host, now, *resend);
            let target = target.join("/api/v2/alerts");
            send(receiver, &target, HeaderMap::new(), token.as_ref(), body, now).await
        }
        (Form::Syslog { target, format, facility }, Some(bundle)) => {
            let messages = syslog::messages(bundle, *format, *facility, host);
            let patience = receiver.timeout;
            match tokio::time::timeout(patience, write(receiver, target, &messages)).await {
                Ok(Ok(())) => Outcome::Delivered(said_of(target, bundle)),
                Ok(Err(error)) => Outcome::failed(chain(&error)),
                Err(_elapsed) => Outcome::failed(format!("not written within {patience:?}")),
            }
        }
        // Only Alertmanager is told anything again.
        (
            Form::Webhook { .. }
            | Form::Slack { .. }
            | Form::PagerDuty { .. }
            | Form::Syslog { .. },
            None,
        ) => Outcome::Delivered("nothing to tell".to_owned()),
    }
}

async fn send(
    receiver: &Receiver,
    target: &Target,
    headers: HeaderMap,
    token: Option<&Token>,
    body: Vec<u8>,
    now: Timestamp,
) -> Outcome {
    match post(receiver, target, headers, token, body, now).await {
        Ok(answered) => Outcome::of(&answered),
        Err(error) => Outcome::failed(chain(&error)),
    }
}

/// Syslog says nothing back: written is all that can be known.
fn said_of(target: &Target, bundle: &Bundle) -> String {
    match target.scheme() {
        Scheme::Udp => format!("{} sent; UDP confirms nothing", bundle.count),
        Scheme::Http | Scheme::Https | Scheme::Tcp | Scheme::Tls | Scheme::Unix => {
            format!("{} written; syslog confirms nothing", bundle.count)
        }
    }
}

#[derive(Debug, thiserror::Error)]
enum WriteError {
    #[error(transparent)]
    Connect(#[from] ConnectError),
    #[error("cannot write to {to}")]
    Write {
        to: String,
        #[source]
        source: io::Error,
    },
}

async fn write(
    receiver: &Receiver,
    target: &Target,
    messages: &[Vec<u8>],
) -> Result<(), WriteError> {
    let failed = |source| WriteError::Write { to: target.to_string(), source };
    match target.scheme() {
        Scheme::Unix => {
            let socket = UnixDatagram::unbound().map_err(failed)?;
            socket.connect(target.rest()).map_err(failed)?;
            for message in messages {
                socket.send(message).await.map_err(failed)?;
            }
        }
        Scheme::Udp => {
            let addresses = connect::addresses(receiver, target).await?;
            let Some(address) = addresses.first() else {
                return Err(ConnectError::NoAddress(target.host().to_owned()).into());
            };
            let any = if address.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
            let socket = UdpSocket::bind(any).await.map_err(failed)?;
            socket.connect(address).await.map_err(failed)?;
            for message in messages {
                socket.send(message).await.map_err(failed)?;
            }
        }
        Scheme::Tcp | Scheme::Tls | Scheme::Http | Scheme::Https => {
            let mut stream = connect::stream(receiver, target).await?;
            for message in messages {
                // RFC 6587, 3.4.1: the length, a blank, the message.
                let mut frame = format!("{} ", message.len()).into_bytes();
                frame.extend_from_slice(message);
                stream.write_all(&frame).await.map_err(failed)?;
            }
            stream.flush().await.map_err(failed)?;
            stream.shutdown().await.map_err(failed)?;
        }
    }
    Ok(())
}

/// `error` and its causes on one line, outermost first.
fn chain(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(Some(error), |error| error.source());
    causes.map(ToString::to_string).collect::<Vec<_>>().join(": ")
}

#[cfg(test)]
mod tests;
