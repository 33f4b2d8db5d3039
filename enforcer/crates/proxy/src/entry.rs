//! One request's place in the audit log: reserved before anything else, written exactly once.
//!
//! Facts are noted as they become known. [`Entry::close`] writes them; an entry that is dropped
//! open (the client left, the connection was cut, a bug) writes what it knows and why it ended.

use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use enforcer_audit::{Record, Slot, Ticket};
use enforcer_authn::{Binding, Certificate, Identity, Proof};
use enforcer_authz::Permit;
use enforcer_inspect::Head;
use enforcer_limits::Exceeded;
use enforcer_model::{
    CacheUse, Exchange, Exposed, Fingerprint, HttpVersion, Moment, Peer, Reason, Rejection,
    RequestId, Role, Source, SourceBy, TlsVersion, Who,
};
use http::{HeaderMap, HeaderValue, StatusCode};
use tokio::time::timeout;

use crate::admission::Admitted;
use crate::endpoints::Barred;
use crate::problem;
use crate::said;
use crate::scene::Scene;
use crate::shared::{Observed, Shared};
use crate::tls::Shown;
use crate::turn::Turn;
use crate::wire::{Active, Ended};

/// A client that left before it had any answer; the status is never sent.
const CLIENT_LEFT: u16 = 499;

/// Waits for a record to be on disk at most this long: a client is not to hang on our disk.
const COMMIT_WAIT: Duration = Duration::from_secs(5);

/// How a request came in; the same for all requests of a connection but for its id.
#[derive(Clone, Debug)]
pub(crate) struct Origin {
    pub(crate) peer: Peer,
    /// Whom it comes from: the peer, or whom trusted proxies name.
    pub(crate) source: Source,
    /// How that is known, when it is not the peer.
    pub(crate) source_by: Option<SourceBy>,
    pub(crate) source_doubt: Option<&'static str>,
    /// Every hop that is believed, from the source to the peer; none when the source is the peer.
    pub(crate) hops: Vec<Source>,
    /// The field that told of them.
    pub(crate) forwarded_by: Option<SourceBy>,
    pub(crate) listener: Arc<str>,
    pub(crate) tls: Option<TlsVersion>,
    /// The fingerprint of the client's TLS software.
    pub(crate) ja4: Option<Arc<str>>,
    /// What the connection is for; with TLS.
    pub(crate) shown: Option<Shown>,
    /// What browsers are told.
    pub(crate) hsts: Option<HeaderValue>,
    /// The client's, which TLS has verified.
    pub(crate) certificate: Option<Arc<Certificate>>,
    pub(crate) http: HttpVersion,
}

/// The open record of one request.
pub(crate) struct Entry {
    open: Option<Open>,
    shared: Arc<Shared>,
}

struct Open {
    slot: Slot,
    /// Nobody else has it before it is complete.
    exchange: Arc<Exchange>,
    began: Instant,
    received: Rc<Cell<u64>>,
    active: Option<Active>,
    admitted: Option<Admitted>,
    /// Without a record when nothing goes wrong.
    unrecorded: bool,
}

/// The record did not reach the disk in time.
#[derive(Debug, thiserror::Error)]
#[error("the record was not on disk after {0:?}")]
struct NotCommitted(Duration);

/// The witnesses did not cosign in time.
#[derive(Debug, thiserror::Error)]
#[error("the record was not known to enough witnesses after {0:?}")]
struct NotWitnessed(Duration);

/// The client closed its connection, or reset its stream.
const LEFT: &str = "the client left before the answer was complete";

/// A bug; the agent's own log has where.
const PANICKED: &str = "serving the request ended in a panic";

impl Origin {
    /// Whom a header names as the source; the connection is somebody else's.
    pub(crate) fn named(&self) -> Option<Source> {
        self.hops.first().copied().filter(|_| self.hops.len() > 1)
    }

    /// Of a connection from `peer` of which nothing more is known yet.
    pub(crate) fn of(peer: Peer, listener: &Arc<str>) -> Self {
        Self {
            peer,
            source: peer.source(),
            source_by: None,
            source_doubt: None,
            hops: Vec::new(),
            forwarded_by: None,
            listener: Arc::clone(listener),
            tls: None,
            ja4: None,
            shown: None,
            hsts: None,
            certificate: None,
            http: HttpVersion::H1,
        }
    }
}

impl Entry {
    /// Takes the place that was reserved. No slot, no entry: an unrecorded request cannot happen.
    pub(crate) fn open(
        slot: Slot,
        id: RequestId,
        origin: &Origin,
        method: &str,
        policy: &Arc<str>,
        now: Moment,
        shared: &Arc<Shared>,
    ) -> Self {
        let exchange = Arc::new(Exchange {
            id,
            at: now.wall,
            peer: origin.peer,
            source: origin.source_by.map(|_by| origin.source),
            source_by: origin.source_by,
            source_doubt: origin.source_doubt,
            listener: Arc::clone(&origin.listener),
            tls: origin.tls,
            ja4: origin.ja4.clone(),
            user_agent: None,
            trace: None,
            http: origin.http,
            method: method.chars().take(32).collect(),
            host: None,
            path: None,
            route: None,
            who: None,
            incident: 0,
            region: None,
            credential: None,
            status: 0,
            reason: None,
            cause: None,
            rule: None,
            upstream: None,
            cache: None,
            bytes_in: 0,
            bytes_out: 0,
            exposed: None,
            duration: Duration::ZERO,
            upstream_wait: Duration::ZERO,
            policy: Arc::clone(policy),
        });
        let open = Open {
            slot,
            exchange,
            began: now.monotonic,
            received: Rc::default(),
            active: None,
            admitted: None,
            unrecorded: false,
        };
        Self { open: Some(open), shared: Arc::clone(shared) }
    }

    /// The record of a request of ours that asks the same as this one.
    pub(crate) fn again(&self, slot: Slot, id: RequestId, now: Moment) -> Option<Self> {
        let of = self.open.as_ref()?;
        let mut exchange = Exchange::clone(&of.exchange);
        exchange.id = id;
        exchange.at = now.wall;
        exchange.method = "GET".to_owned();
        let open = Open {
            slot,
            exchange: Arc::new(exchange),
            began: now.monotonic,
            received: Rc::default(),
            active: None,
            admitted: None,
            unrecorded: false,
        };
        Some(Self { open: Some(open), shared: Arc::clone(&self.shared) })
    }

    /// Keeps `active` until the request is over.
    pub(crate) fn keeps_busy(mut self, active: Active) -> Self {
        if let Some(open) = &mut self.open {
            open.active = Some(active);
        }
        self
    }

    /// Counts the bytes of the request's body.
    pub(crate) fn received(&self) -> Rc<Cell<u64>> {
        self.open.as_ref().map(|open| Rc::clone(&open.received)).unwrap_or_default()
    }

    /// Whose turn it is with the answer.
    pub(crate) fn turn(&self) -> Option<&Rc<Turn>> {
        self.open.as_ref()?.active.as_ref().map(Active::turn)
    }

    /// What the client says of itself.
    pub(crate) fn said(&mut self, headers: &HeaderMap) {
        let (user_agent, trace) = (said::user_agent(headers), said::trace(headers));
        if user_agent.is_some() || trace.is_some() {
            self.note(|exchange| {
                exchange.user_agent = user_agent;
                exchange.trace = trace;
            });
        }
    }

    pub(crate) fn head(&mut self, head: &Head) {
        self.note(|exchange| {
            exchange.host = Some(head.host.as_str().to_owned());
            exchange.path = Some(head.path.as_str().to_owned());
        });
    }

    pub(crate) fn route(&mut self, name: &Arc<str>) {
        self.note(|exchange| exchange.route = Some(Arc::clone(name)));
    }

    pub(crate) fn credential(&mut self, fingerprint: Fingerprint) {
        self.note(|exchange| exchange.credential = Some(fingerprint));
    }

    pub(crate) fn scene(&mut self, scene: &Scene<'_, '_>) {
        self.note(|exchange| {
            exchange.incident = scene.incident;
            exchange.region = scene.observed_region.map(Into::into);
        });
    }

    pub(crate) fn caller<'r>(&mut self, caller: &Identity, roles: impl Iterator<Item = &'r Role>) {
        self.note(|exchange| {
            let (issuer, token) = match caller.proof() {
                Proof::Token(token) => (Some(Arc::clone(&token.issuer)), token.id.clone()),
                Proof::Certificate | Proof::Key(_) => (None, None),
            };
            exchange.who = Some(Who {
                key: caller.key_id(),
                roles: roles.cloned().collect(),
                scopes: caller.scopes().to_vec(),
                issuer,
                token,
                application: caller.application().map(Into::into),
                certificate: caller.certificate().map(|shown| shown.thumbprint),
                bound: caller.bound().map(|bound| match bound {
                    Binding::Certificate => "mtls",
                    Binding::Dpop => "dpop",
                }),
                ..Who::new(caller.principal().clone(), caller.kind())
            });
        });
    }

    /// Keeps what the request has taken from its limits until it is over.
    pub(crate) fn holds(&mut self, admitted: Admitted) {
        if let Some(open) = &mut self.open {
            open.admitted = Some(admitted);
        }
    }

    /// Leaves no record when the request ends as it should.
    pub(crate) fn matters_only_if_wrong(&mut self) {
        if let Some(open) = &mut self.open {
            open.unrecorded = true;
        }
    }

    /// The host that was asked for, once it is known.
    pub(crate) fn host(&self) -> Option<&str> {
        self.open.as_ref()?.exchange.host.as_deref()
    }

    pub(crate) fn permit(&mut self, permit: &Permit<'_>) {
        self.note(|exchange| {
            exchange.rule = Some(permit.rule().to_string());
            if let Some(who) = &mut exchange.who {
                who.role = permit.role().cloned();
            }
        });
    }

    pub(crate) fn upstream(&mut self, upstream: Option<Arc<str>>, waited: Duration) {
        self.note(|exchange| {
            exchange.upstream = upstream;
            exchange.upstream_wait = waited;
        });
    }

    /// Where the answer came from.
    pub(crate) fn cache(&mut self, used: CacheUse) {
        self.note(|exchange| exchange.cache = Some(used));
    }

    /// The client gets an answer with this status.
    pub(crate) fn status(&mut self, status: StatusCode) {
        self.note(|exchange| exchange.status = status.as_u16());
    }

    /// The client gets a refusal, or an answer that breaks off.
    pub(crate) fn refused(&mut self, rejection: &Rejection) {
        self.note(|exchange| {
            if exchange.status == 0 {
                exchange.status = problem::status(rejection).as_u16();
            }
            exchange.reason = Some(rejection.reason);
            exchange.cause = Some(rejection.chain());
            if let Some(exceeded) = rejection.cause.downcast_ref::<Exceeded>() {
                exchange.rule = Some(exceeded.limit.to_string());
            }
            if let Some(barred) = rejection.cause.downcast_ref::<Barred>() {
                exchange.rule = Some(barred.id.to_string());
            }
        });
    }

    /// So many bytes more of the answer's body.
    pub(crate) fn sent(&mut self, bytes: usize) {
        let bytes = u64::try_from(bytes).unwrap_or(u64::MAX);
        self.note(|exchange| exchange.bytes_out = exchange.bytes_out.saturating_add(bytes));
    }

    /// What the answer's body gave away.
    pub(crate) fn exposed(&mut self, found: Option<Exposed>) {
        if found.is_some() {
            self.note(|exchange| exchange.exposed = found);
        }
    }

    /// Writes the record; the observer sees it before the disk does.
    pub(crate) fn close(mut self) -> Option<Ticket> {
        self.open.take().and_then(|open| self.write(open))
    }

    fn write(&self, open: Open) -> Option<Ticket> {
        let Open { slot, exchange: mut shared, began, received, active, admitted, unrecorded } =
            open;
        let exchange = Arc::make_mut(&mut shared);
        exchange.bytes_in = received.get();
        if let Some(admitted) = admitted {
            admitted.settle(exchange.bytes_out, exchange.bytes_in);
        }
        exchange.duration = self.shared.clock.now().monotonic.saturating_duration_since(began);
        let counters = &self.shared.counters;
        match exchange.reason {
            Some(reason) => counters.refuse(reason),
            None if exchange.cause.is_some() => counters.clients_left.add_one(),
            None => counters.allowed.add_one(),
        }
        // A bug of the observer's costs neither the record nor the answer.
        let observe = AssertUnwindSafe(|| (self.shared.observer)(&shared));
        match catch_unwind(observe) {
            Ok(Observed::Seen) => {}
            Ok(Observed::Dropped) => counters.observations_dropped.add_one(),
            Err(_) => counters.panics.add_one(),
        }
        drop(active);
        if unrecorded && shared.cause.is_none() {
            return None;
        }
        Some(slot.write(Record::Http(shared)))
    }

    /// Why the request ended before its answer did: a reason if that was our doing, and a cause.
    fn abandoned(&self, open: &Open) -> (Option<Reason>, String) {
        if std::thread::panicking() {
            return (Some(Reason::Internal), PANICKED.to_owned());
        }
        match open.active.as_ref().and_then(Active::ended) {
            Some(ended @ Ended::Cut(reason)) => return (Some(reason), ended.to_string()),
            Some(ended @ Ended::Distrusted) => {
                return (Some(Reason::Quarantined), ended.to_string());
            }
            Some(ended @ Ended::ShutDown) => {
                return (Some(Reason::ShuttingDown), ended.to_string());
            }
            Some(ended @ Ended::Withdrawn) => {
                return (Some(Reason::EndpointDisabled), ended.to_string());
            }
            Some(ended @ Ended::Flooded) => {
                return (Some(Reason::Http2Flood), ended.to_string());
            }
            Some(ended @ Ended::TooLong(_)) => {
                return (Some(Reason::RequestTimeout), ended.to_string());
            }
            Some(ended @ (Ended::Slow(_) | Ended::Stalled(_))) => {
                return (None, ended.to_string());
            }
            None => {}
        }
        let source = open.exchange.source();
        match self.shared.quarantine.refuse_source(source, self.shared.clock.now().wall) {
            Ok(()) => (None, LEFT.to_owned()),
            Err(rejection) => (Some(rejection.reason), rejection.chain()),
        }
    }

    fn note(&mut self, fact: impl FnOnce(&mut Exchange)) {
        if let Some(open) = &mut self.open {
            fact(Arc::make_mut(&mut open.exchange));
        }
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        let Some(mut open) = self.open.take() else { return };
        let (reason, cause) = self.abandoned(&open);
        let exchange = Arc::make_mut(&mut open.exchange);
        if exchange.status == 0 {
            exchange.status = reason.map_or(CLIENT_LEFT, Reason::status);
        }
        exchange.reason = reason;
        exchange.cause = Some(cause);
        // Nobody is left to wait for the disk.
        drop(self.write(open));
    }
}

/// Waits until the record behind `ticket` is on disk.
pub(crate) async fn committed(ticket: Option<Ticket>) -> Result<(), Rejection> {
    let Some(ticket) = ticket else { return Ok(()) };
    match timeout(COMMIT_WAIT, ticket.committed()).await {
        Ok(Ok(_index)) => Ok(()),
        Ok(Err(lost)) => Err(Reason::AuditUnavailable.because(lost)),
        Err(_elapsed) => Err(Reason::AuditUnavailable.because(NotCommitted(COMMIT_WAIT))),
    }
}

/// Waits until the quorum of witnesses knows the record behind `ticket`.
pub(crate) async fn witnessed(ticket: Option<Ticket>, within: Duration) -> Result<(), Rejection> {
    let Some(ticket) = ticket else { return Ok(()) };
    match timeout(within, ticket.witnessed()).await {
        Ok(Ok(_index)) => Ok(()),
        Ok(Err(lost)) => Err(Reason::AuditUnavailable.because(lost)),
        Err(_elapsed) => Err(Reason::AuditUnavailable.because(NotWitnessed(within))),
    }
}
