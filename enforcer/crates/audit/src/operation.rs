//! What is changed about the service while it runs: endpoints, upstreams, certificates, the cache.
//!
//! Each record says what was before and what is after, who decided, and the operator's words or the
//! cause that the agent saw.

use enforcer_model::{Author, Expiry, Timestamp};
use serde::Serialize;

use crate::record::{cut_author, cut_option, cut_text};

/// A change of what an endpoint answers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct EndpointChange {
    /// What happened.
    pub what: EndpointEvent,
    /// The rule's name; records of the requests that it refused carry it as `rule`.
    pub id: String,
    /// Method and pattern.
    pub endpoint: String,
    /// What held before.
    pub before: Option<String>,
    /// What holds afterwards.
    pub after: Option<String>,
    /// When that ends.
    pub until: Option<Expiry>,
    /// Requests that the rule has refused so far.
    pub refused: u64,
    /// Requests under way that were cut.
    pub cut: u64,
    /// Who decided.
    pub author: Author,
    /// The operator's words.
    pub reason: Option<String>,
}

/// What happened to an endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum EndpointEvent {
    /// Its requests are refused.
    Disabled,
    /// They are no longer.
    Enabled,
    /// The time of a rule ran out.
    Expired,
    /// It has no limit of an operator's any more.
    Relaxed,
    /// It has one.
    Tightened,
}

/// A change of an upstream, or of one of its hosts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct UpstreamChange {
    /// What happened.
    pub what: UpstreamEvent,
    /// As the policy names it.
    pub upstream: String,
    /// One of its hosts; none: all of it.
    pub host: Option<String>,
    /// How it was.
    pub before: Option<String>,
    /// How it is.
    pub after: Option<String>,
    /// When that ends by itself.
    pub until: Option<Expiry>,
    /// Requests under way when it happened.
    pub in_flight: u64,
    /// Requests under way that were cut.
    pub cut: u64,
    /// Who decided.
    pub author: Author,
    /// The operator's words.
    pub reason: Option<String>,
    /// What the agent saw.
    pub cause: Option<String>,
}

/// What happened to an upstream or a host.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum UpstreamEvent {
    /// Requests go through again.
    BreakerClosed,
    /// Requests are refused at once until a probe succeeds.
    BreakerOpened,
    /// It gets no new requests; those under way finish.
    Drained,
    /// It failed too often and rests.
    Ejected,
    /// Another pool takes over.
    FailedOver,
    /// Its health checks succeed.
    Healthy,
    /// It gets nothing; what was under way is cut.
    Isolated,
    /// Its name could not be looked up; the last addresses are kept.
    ResolveFailed,
    /// Its name leads to other addresses.
    Resolved,
    /// Its isolation is over.
    Restored,
    /// It takes requests after a rest.
    Returned,
    /// It takes requests after a drain.
    Undrained,
    /// Its health checks fail.
    Unhealthy,
}

/// A change of a listener's certificate, or what its end makes necessary.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct CertificateChange {
    /// What happened.
    pub what: CertificateEvent,
    /// As the policy names it.
    pub listener: String,
    /// Names that it serves.
    pub names: Vec<String>,
    /// SHA-256 of the certificate before, in hex.
    pub before: Option<String>,
    /// SHA-256 of the one in force, in hex.
    pub after: Option<String>,
    /// When the one in force ends.
    pub not_after: Option<Timestamp>,
    /// Who caused it.
    pub author: Author,
    /// Why a new one is not in force, or what is wrong with the one that is.
    pub cause: Option<String>,
}

/// What happened to a certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum CertificateEvent {
    /// The one in force has expired.
    Expired,
    /// The one in force expires soon.
    Expiring,
    /// A new one was not accepted; the old one stays.
    Refused,
    /// Another one is in force.
    Replaced,
}

/// Answers that were taken out of the cache by hand.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct CacheChange {
    /// Which, as the operator said it: `route orders`.
    pub purged: String,
    /// How many there were.
    pub entries: u64,
    /// Who decided.
    pub author: Author,
    /// The operator's words.
    pub reason: Option<String>,
}

impl EndpointChange {
    pub(crate) fn cut(&mut self, longest: usize) {
        cut_text(&mut self.endpoint, longest);
        let texts = [&mut self.before, &mut self.after, &mut self.reason];
        texts.into_iter().for_each(|text| cut_option(text, longest));
        cut_author(&mut self.author, longest);
    }
}

impl UpstreamChange {
    pub(crate) fn cut(&mut self, longest: usize) {
        cut_text(&mut self.upstream, longest);
        let texts =
            [&mut self.host, &mut self.before, &mut self.after, &mut self.reason, &mut self.cause];
        texts.into_iter().for_each(|text| cut_option(text, longest));
        cut_author(&mut self.author, longest);
    }
}

impl CertificateChange {
    pub(crate) fn cut(&mut self, longest: usize) {
        cut_text(&mut self.listener, longest);
        self.names.truncate(longest);
        self.names.iter_mut().for_each(|name| cut_text(name, longest));
        let texts = [&mut self.before, &mut self.after, &mut self.cause];
        texts.into_iter().for_each(|text| cut_option(text, longest));
        cut_author(&mut self.author, longest);
    }
}

impl CacheChange {
    pub(crate) fn cut(&mut self, longest: usize) {
        cut_text(&mut self.purged, longest);
        cut_option(&mut self.reason, longest);
        cut_author(&mut self.author, longest);
    }
}
