//! The life of one request, in the order it happens. Read this file first.
//!
//! Every stage is one call, and the call names all that the stage may look at. A stage returns what
//! the next one needs, often a proof that only that stage can make, or a [`Rejection`]. What is
//! forwarded needs a `Head`, a `Permit` and an `Admitted`, so "forwarded though not authorised" does
//! not compile.

use std::sync::Arc;
use std::time::Duration;

use enforcer_authn::{Identity, Presented, Proof};
use enforcer_authz as authz;
use enforcer_inspect as inspect;
use enforcer_model::{Moment, Reason, Rejection, RequestId};
use enforcer_policy::{Policy, Serves};
use enforcer_upstream::{Opened, Pools};
use http::{HeaderMap, Request, Response};
use hyper::body::Incoming;

use crate::admission::{admit_caller, admit_source};
use crate::answer::{AnswerBody, Content};
use crate::body::{ClientBody, Notes};
use crate::entry::{Entry, Origin};
use crate::forward::{blame, forward, outgoing, redirect, tidy};
use crate::ids::Ids;
use crate::reply::Reply;
use crate::shared::Shared;
use crate::tunnel::{self, Tunnel};
use crate::under_way::{InFlight, unless_cut};
use crate::unread::Unread;
use crate::wire::Active;

/// One thread's half of the proxy: its connections to the upstreams, and what all threads share.
pub(crate) struct Engine {
    pub(crate) shared: Arc<Shared>,
    pools: Pools<ClientBody>,
    ids: Ids,
}

/// A request that has come in.
pub(crate) struct Arrival<'a> {
    pub(crate) origin: &'a Origin,
    pub(crate) serves: &'a Serves,
    /// What the raw bytes of the head said that hyper no longer shows.
    pub(crate) framing: Result<(), Rejection>,
}

/// How long a request waits for a place in the audit log before it is refused: longer than a disk
/// pauses when it is well, shorter than a client's patience.
const ROOM_WAIT: Duration = Duration::from_secs(2);

/// No route of the policy matches.
#[derive(Debug, thiserror::Error)]
#[error("no route matches host and path")]
struct NoRoute;

/// The route wants a caller.
#[derive(Debug, thiserror::Error)]
#[error("no credential in the request")]
struct NoCredential;

impl Engine {
    /// An engine without connections; needs a `LocalSet` around it.
    pub(crate) fn new(shared: Arc<Shared>) -> Self {
        Self { shared, pools: Pools::new(), ids: Ids::new() }
    }

    /// Answers `request`, whatever happens, and leaves exactly one audit record behind.
    ///
    /// One policy and one moment hold for all of it; a reload does not touch a request under way.
    /// The connection counts as busy until `active` is dropped with the record.
    pub(crate) async fn answer(
        &self,
        request: Request<Incoming>,
        arrival: Arrival<'_>,
        active: Active,
    ) -> Response<AnswerBody> {
        let policy = self.shared.policy.load_full();
        let now = self.shared.clock.now();
        let id = self.ids.next();
        let reply = Reply::to(&request, id, arrival.origin.http);

        // No room in the audit log means no service: an unrecorded request cannot happen.
        let slot = match self.shared.audit.reserve_within(ROOM_WAIT).await {
            Ok(slot) => slot,
            Err(full) => {
                let rejection = Reason::AuditUnavailable.because(full);
                return reply.unrecorded(&rejection, &self.shared.counters);
            }
        };
        let method = request.method().as_str();
        let entry =
            Entry::open(slot, id, arrival.origin, method, policy.sha256(), now, &self.shared);
        let mut entry = entry.keeps_busy(active);
        match self.serve(request, arrival, id, &policy, now, &mut entry).await {
            Ok(answer) => reply.complete(answer, entry, policy.audit().allowed).await,
            Err(rejection) => reply.refuse(&rejection, entry, policy.audit().denied).await,
        }
    }

    /// Records the refusal of a head that hyper could not read, and has answered itself.
    pub(crate) fn refuse_unread(&self, origin: &Origin, rejection: &Rejection) {
        let policy = self.shared.policy.load();
        let now = self.shared.clock.now();
        let Ok(slot) = self.shared.audit.reserve() else {
            return self.shared.counters.refuse(Reason::AuditUnavailable);
        };
        let id = self.ids.next();
        let mut entry = Entry::open(slot, id, origin, "", policy.sha256(), now, &self.shared);
        entry.refused(rejection);
        drop(entry.close());
    }

    async fn serve(
        &self,
        request: Request<Incoming>,
        Arrival { origin, serves, framing }: Arrival<'_>,
        id: RequestId,
        policy: &Policy,
        now: Moment,
        entry: &mut Entry,
    ) -> Result<Response<Content>, Rejection> {
        let (parts, body) = request.into_parts();
        let body = Unread::new(body, &parts.headers);

        // Whoever is shut out learns nothing, not even whether the request was well-formed.
        self.shared.quarantine.refuse_source(origin.source, now.wall)?;

        // One meaning per request, before anything is decided by it.
        framing?;
        let head = inspect::normalise_or(&parts, |_, _| false)?;
        entry.head(&head);

        // Clear text from outside gets no further: neither route nor credential is looked at.
        if let Serves::Redirect { port } = serves {
            tunnel::refuse_unless(false, &head)?;
            return Ok(redirect(&head, *port, id)?.map(Content::Whole));
        }

        let route = policy
            .route_for(head.host.as_str(), head.path.as_str())
            .ok_or_else(|| Reason::NoRoute.because(NoRoute))?;
        entry.route(&route.name);
        tunnel::refuse_unless(route.websocket, &head)?;

        // The address pays before the credential is looked at, so that guessing is limited too.
        let limits = &self.shared.limits;
        let (source, instant) = (origin.source, now.monotonic);
        let admitted = admit_source(source, &route.limits, limits, instant)?;

        let caller = match route.authz.is_public() {
            true => None,
            false => Some(self.identify(&parts.headers, origin, now, entry)?),
        };
        let in_flight = caller.map(|caller| self.enter(caller, now)).transpose()?;
        let caller = in_flight.as_ref().map(InFlight::caller);

        let roles = match caller.map(Identity::proof) {
            Some(Proof::Key(key)) => &key.roles,
            Some(Proof::Certificate | Proof::Token(_)) | None => &[][..],
        };
        let permit = authz::permit(roles, &head.method, &route.authz)?;
        entry.permit(&permit);

        // The caller pays last: a refusal for another reason costs it nothing.
        let principal = caller.map(Identity::principal);
        let admitted = admit_caller(admitted, source, principal, &route.limits, limits, instant)?;

        let notes = Notes::new(entry.received());
        let rate_min = policy.timeouts().body_rate;
        let body = ClientBody::new(body, route.body_max, rate_min, notes.clone())?;
        let request = outgoing(&head, parts.headers, body, origin, id)?;
        let (upstream, pools) = (&route.upstream, &self.pools);
        let forwarded = async {
            match head.upgrade {
                None => {
                    let answer = forward(request, upstream, &permit, admitted, pools).await;
                    answer.map(Opened::Answered)
                }
                Some(protocol) => {
                    tunnel::open(request, protocol, upstream, &permit, admitted, pools).await
                }
            }
        };
        let opened = match unless_cut(in_flight.as_ref(), forwarded).await? {
            Ok(opened) => opened,
            Err(failure) => {
                entry.upstream(failure.upstream, Duration::ZERO);
                return Err(blame(failure, &notes));
            }
        };
        let answer = match opened {
            Opened::Answered(answer) => answer,
            Opened::Switched(switched) => {
                entry.upstream(Some(switched.upstream), switched.waited);
                let head = tunnel::agreed(&switched, id);
                return Ok(head.map(|()| Content::Tunnel(Tunnel::new(switched, in_flight))));
            }
        };
        entry.upstream(Some(answer.upstream), answer.waited);
        Ok(tidy(answer.response, id).map(|body| Content::Streamed {
            body,
            request: notes,
            in_flight,
        }))
    }

    /// Who is calling. The fingerprint is noted whether the credential is accepted or not.
    fn identify(
        &self,
        headers: &HeaderMap,
        origin: &Origin,
        now: Moment,
        entry: &mut Entry,
    ) -> Result<Identity, Rejection> {
        let presented = Presented::from_headers(headers)?
            .ok_or_else(|| Reason::CredentialMissing.because(NoCredential))?;
        entry.credential(presented.fingerprint(&self.shared.fingerprints));
        let caller = self.shared.keys.identify(&presented, origin.source, None, now)?;
        entry.caller(&caller);
        Ok(caller)
    }

    /// Refuses a caller that is shut out. The request is known to be under way before the look-up,
    /// so whoever shuts the caller out finds the request here, or is found there.
    fn enter(&self, caller: Identity, now: Moment) -> Result<InFlight, Rejection> {
        let in_flight = self.shared.connections.enter(caller);
        if let Some(key) = in_flight.caller().key_id() {
            self.shared.quarantine.refuse_key(key, now.wall)?;
        }
        Ok(in_flight)
    }
}
