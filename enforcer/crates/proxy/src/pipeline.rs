//! The life of one request, in the order it happens. Read this file first.
//!
//! Every stage is one call, and the call names all that the stage may look at. A stage returns what
//! the next one needs, often a proof that only that stage can make, or a [`Rejection`]. What is
//! forwarded needs a `Head`, a `Permit` and an `Admitted`, so "forwarded though not authorised" does
//! not compile.

use std::cell::OnceCell;
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use enforcer_authn::{Asked, Identity, Presented, Proof, ProofTarget, Scheme};
use enforcer_cache::Found;
use enforcer_inspect::{self as inspect, Head, Host};
use enforcer_model::{CacheUse, Moment, Reason, Rejection, RequestId, Thumbprint};
use enforcer_policy::{Durability, Errors, Policy, Serves};
use enforcer_upstream::{Fault, Opened, Pools};
use http::header::{CONTENT_LENGTH, HOST};
use http::request::Parts;
use http::uri::{Authority, Uri};
use http::{HeaderMap, Request, Response};
use http_body::Body;
use hyper::body::Incoming;

use crate::admission::Till;
use crate::answer::{AnswerBody, Content};
use crate::believed::believed;
use crate::body::{ClientBody, Gathered, Notes};
use crate::cached::{self, Outcome, Refreshes, Wanted, given, heard, nothing_kept, target};
use crate::concealed::{Said, conceal};
use crate::entry::{Entry, Origin};
use crate::forward::{
    Allowed, Onward, about_the_server, affinity, blame, forward, redirect, rewritten, tidy,
};
use crate::guard::{Deadline, unless_panic, within};
use crate::ids::Ids;
use crate::metadata::{challenge, metadata};
use crate::problem::problem;
use crate::reply::Reply;
use crate::roll::Roll;
use crate::scene::{Known, NoCredential, Scene, authorise, roles_of};
use crate::shared::Shared;
use crate::told::Told;
use crate::tunnel::{self, Tunnel};
use crate::under_way::unless_cut;
use crate::unread::Unread;
use crate::watch::Watch;
use crate::wire::Active;

/// One thread's half of the proxy: its connections to the upstreams, and what all threads share.
pub(crate) struct Engine {
    pub(crate) shared: Arc<Shared>,
    pools: Rc<Pools<ClientBody>>,
    refreshes: Refreshes,
    ids: Ids,
    gathered: Gathered,
    /// The connections of this thread.
    pub(crate) roll: Rc<Roll>,
}

/// A request that has come in.
pub(crate) struct Arrival<'a> {
    pub(crate) origin: &'a Origin,
    pub(crate) serves: &'a Serves,
    /// Whether proxies in front of us agree about whom it is from.
    pub(crate) hops: Result<(), Rejection>,
}

/// How long a request waits for a place in the audit log before it is refused: longer than a disk
/// pauses when it is well, shorter than a client's patience.
const ROOM_WAIT: Duration = Duration::from_secs(2);

/// No route of the policy matches.
#[derive(Debug, thiserror::Error)]
#[error("no route matches host and path")]
struct NoRoute;

/// An answer would wait for witnesses that do not answer.
#[derive(Debug, thiserror::Error)]
#[error("too few witnesses answer, and the record must be witnessed")]
struct Unwitnessed;

impl Engine {
    /// An engine without connections; needs a `LocalSet` around it.
    pub(crate) fn new(shared: Arc<Shared>) -> Self {
        let pools = Rc::new(Pools::new(Arc::clone(&shared.fleet)));
        let (refreshes, gathered) = (Refreshes::default(), Gathered::default());
        Self { shared, pools, refreshes, ids: Ids::new(), gathered, roll: Rc::default() }
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
        // Whom proxies in front of us name, where they are to be believed.
        let (named, hops) = match believed(arrival.origin, request.headers(), &policy) {
            Ok(named) => (named, Ok(())),
            Err(disagreement) => (None, Err(disagreement.into())),
        };
        let origin = named.as_ref().unwrap_or(arrival.origin);
        let arrival = Arrival { origin, hops, ..arrival };
        let now = self.shared.clock.now();
        let id = self.ids.next();
        let believes = !policy.issuers().is_empty();
        let authority = believes.then(|| authority(request.uri(), request.headers()).to_owned());
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
        entry.said(request.headers());
        let served = {
            let serving = pin!(self.serve(request, arrival, id, &policy, now, &mut entry));
            unless_panic(serving).await.unwrap_or_else(|panic| {
                self.shared.counters.panics.add_one();
                Err(Reason::Internal.because(panic))
            })
        };
        match served {
            Ok(answer) => {
                let level = policy.incident(self.shared.incident.get());
                let durability = level.allowed(policy.audit().allowed);
                reply.complete(answer, entry, durability, policy.detection().scan_answers).await
            }
            Err(rejection) => {
                // What the caller named is repeated only once it was understood.
                let authority = entry.host().and(authority.as_deref());
                let challenge = challenge(authority, &policy, origin);
                reply.refuse(&rejection, challenge, entry, policy.audit().denied).await
            }
        }
    }

    /// Records the refusal of what was not read to its end; how it is told, if it was not.
    pub(crate) fn refuse_unread(&self, origin: &Origin, rejection: &Rejection) -> Response<Bytes> {
        let policy = self.shared.policy.load();
        let now = self.shared.clock.now();
        let id = self.ids.next();
        let slot = match self.shared.audit.reserve() {
            Ok(slot) => slot,
            Err(full) => {
                let unrecorded = Reason::AuditUnavailable.because(full);
                self.shared.counters.refuse(unrecorded.reason);
                return problem(&unrecorded, id, origin.http);
            }
        };
        let mut entry = Entry::open(slot, id, origin, "", policy.sha256(), now, &self.shared);
        entry.refused(rejection);
        let answer = problem(rejection, id, origin.http);
        entry.sent(answer.body().len());
        drop(entry.close());
        answer
    }

    async fn serve(
        &self,
        request: Request<Incoming>,
        Arrival { origin, serves, hops }: Arrival<'_>,
        id: RequestId,
        policy: &Policy,
        now: Moment,
        entry: &mut Entry,
    ) -> Result<Response<Content>, Rejection> {
        let (parts, body) = request.into_parts();
        let length = declared(&parts.headers, &body);
        let body = Unread::new(body, &parts.headers);
        let shared = &*self.shared;

        // Whoever is shut out learns nothing, not even whether the request was well-formed.
        shared.quarantine.refuse_source(origin.source, now.wall)?;
        shared.quarantine.refuse_ja4(origin.ja4.as_ref(), origin.source, now.wall)?;

        // One meaning per request, before anything is decided by it.
        hops?;
        if inspect::is_about_the_server(&parts)? {
            return Ok(about_the_server(id).map(Content::Whole));
        }
        let exact = |host: &Host, raw: &str| policy.exact_route(host.as_str(), raw).is_some();
        let head = inspect::normalise_or(&parts, exact)?;
        entry.head(&head);
        // Where it is found by whoever wants it to end.
        let (turn, alone) = (entry.turn().map(Rc::clone), OnceCell::new());
        let head = match &turn {
            Some(turn) => turn.asks(head),
            None => alone.get_or_init(|| head),
        };
        if let Some(shown) = &origin.shown {
            shown.refuse_misdirected(head.host.as_str(), &shared.certificates)?;
        }

        // Clear text from outside gets no further: neither route nor credential is looked at.
        if let Serves::Redirect { port } = serves {
            tunnel::refuse_unless(false, head)?;
            return Ok(redirect(head, *port, id)?.map(Content::Whole));
        }

        // What an operator has disabled is refused whoever asks, before anything is spent on it.
        let gate = shared.endpoints.before(head, &head.path, now.wall);
        if let Some(gate) = &gate {
            gate.admit_source(origin.source, &shared.limits, now).await?;
        }

        let level = shared.incident.get();
        let watch = Watch::new(shared, head, &parts.headers, origin, level, now.wall);
        let matched = policy.route(head);
        // A route that takes everything else would ask for a token to tell where tokens come from;
        // what an operator shows to everybody under these paths stands.
        if matched.as_ref().is_none_or(|matched| !matched.route.authz.is_public()) {
            let authority = authority(&parts.uri, &parts.headers);
            if let Some(document) = metadata(head, authority, policy, shared, origin, id) {
                return Ok(document.map(Content::Whole));
            }
        }
        let Some(matched) = matched else {
            let nowhere = Reason::NoRoute.because(NoRoute);
            watch.compare(None, None, Err(&nowhere));
            return Err(nowhere);
        };
        let route = matched.route;
        entry.route(&route.name);
        tunnel::refuse_unless(route.websocket, head)?;
        let route_gate = shared.endpoints.before_route(&route.name, now.wall);
        if let Some(gate) = &route_gate {
            gate.admit_source(origin.source, &shared.limits, now).await?;
        }
        let scene = Scene::new(&matched, head, &parts.headers, origin, policy, level, now.wall)?;
        let scene = scene.under(&shared.endpoints);
        entry.scene(&scene);

        // The address pays before the credential is looked at, so that guessing is limited too.
        let (limits, endpoints) = (&shared.limits, &*shared.endpoints);
        let till = Till { scene: &scene, policy, limits, endpoints, body: length, now };
        let admitted = till.admit_source().await?;

        let known = match self.meet(&scene, head, &parts, policy, now, entry).await {
            Ok(known) => known,
            Err(unknown) => {
                watch.compare(Some(route), None, Err(&unknown));
                till.charge_stranger().await?;
                return Err(unknown);
            }
        };
        let caller = known.as_ref().map(|known| (known.identity(), known.roles));
        let decided = authorise(&scene, caller, policy);
        watch.compare(Some(route), caller.map(|(identity, _)| identity), decided.as_ref());
        let permit = decided?;
        entry.permit(&permit);
        // A path that is written anew is another request: its own route must allow it as well.
        let path = rewritten(head, &scene, caller, policy, endpoints)?;
        let rewritten_gates = path.as_ref().map(|path| {
            let other = policy.route_for(head.host.as_str(), path.as_str());
            let other = other.filter(|other| other.route.number != route.number);
            let other = other.and_then(|other| endpoints.before_route(&other.route.name, now.wall));
            [endpoints.before(head, path, now.wall), other]
        });
        let rewritten_gates = rewritten_gates.iter().flatten().flatten();
        for gate in rewritten_gates.clone() {
            gate.admit_source(origin.source, &shared.limits, now).await?;
        }
        for gate in gate.iter().chain(&route_gate).chain(rewritten_gates) {
            let payer = scene.payer(caller.map(|(identity, _)| identity), None, None);
            gate.admit_caller(&payer, &shared.limits, now).await?;
        }

        let notes = Notes::new(entry.received());
        let rate_min = policy.timeouts().body_rate;
        let mut body = ClientBody::new(body, route.body_max, rate_min, notes.clone())?;
        let total = route.total(policy.timeouts()).map(Deadline::after);
        let in_flight = known.as_ref().map(|known| &known.in_flight);
        // A slow client keeps neither a place nor a connection from others.
        if !body.is_whole(route.buffer) {
            let mut gathering = Box::pin(body.gather(route.buffer, &self.gathered));
            within(total, pin!(unless_cut(in_flight, gathering.as_mut()))).await???;
        }

        // What could not be witnessed is not begun.
        if matches!(policy.audit().allowed, Some(Durability::Witnessed { .. }))
            && !shared.audit.are_witnesses_reachable()
        {
            return Err(Reason::AuditUnavailable.because(Unwitnessed));
        }

        // The caller pays last: a refusal for another reason costs it nothing.
        let admitted = till.admit_caller(admitted, caller, &permit).await?;

        let onward = Onward { head, path: path.as_ref(), route, origin, id };
        let told = Told::new(caller.map(|(identity, _)| identity), &admitted, policy, now.wall);

        // What is kept of an earlier answer is for whoever got this far, and costs the upstream
        // nothing.
        let (mut errand, mut kept) = (None, None);
        if let Some(plan) = route.cache.as_ref().filter(|_| head.upgrade.is_none()) {
            let has_body = length != Some(0);
            let (onward, parts, scene) = (&onward, &parts, &scene);
            let wanted = Wanted { plan, onward, parts, caller, scene, policy, has_body, shared };
            // Few routes keep answers; the others keep no room for it.
            let mut looking = Box::pin(wanted.find());
            match within(total, pin!(unless_cut(in_flight, looking.as_mut()))).await?? {
                Found::Answer(answer) => kept = Some(answer),
                Found::Ask(asks) => errand = Some(asks),
                Found::Nothing => return Ok(nothing_kept(id, entry)),
                Found::Refresh(answer, asks) => {
                    let (id, slot) = (self.ids.next(), shared.audit.reserve().ok());
                    if let Some(record) = slot.and_then(|slot| entry.again(slot, id, now)) {
                        let allowed = Allowed::by(&permit, &admitted);
                        let refresh = wanted.again(asks, allowed, record, id, now)?;
                        self.refreshes.send(refresh, Rc::clone(&self.pools));
                    }
                    kept = Some(answer);
                }
            }
        }
        if let Some(answer) = kept {
            entry.holds(admitted);
            let in_flight = known.map(|known| known.in_flight);
            return Ok(told.add_to(given(answer, id, entry, in_flight)));
        }

        let (plan, identity) = (&route.upstream, caller.map(|(identity, _)| identity));
        let affinity = affinity(plan, identity, head, &parts.headers, origin);
        let word = onward.vouch(&shared.assertions, caller, &scene, policy, now.wall);
        let mut request = onward.request(parts.uri, parts.headers, body, caller.is_some(), word)?;
        if let Some(errand) = &mut errand {
            errand.prepare(request.headers_mut(), shared.clock.now());
        }

        let in_flight = known.map(|known| known.in_flight);
        let (upstream, pools) = (&route.upstream, &self.pools);
        let opened = {
            let forwarded = pin!(async {
                match head.upgrade {
                    None => {
                        let answer =
                            forward(request, affinity, upstream, &permit, &admitted, pools).await;
                        answer.map(Opened::Answered)
                    }
                    Some(protocol) => {
                        // Few requests ask for it; the others keep no room for it.
                        Box::pin(tunnel::open(
                            request, protocol, affinity, upstream, &permit, &admitted, pools,
                        ))
                        .await
                    }
                }
            });
            within(total, pin!(unless_cut(in_flight.as_ref(), forwarded))).await??
        };
        let opened = match opened {
            Ok(opened) => opened,
            Err(failure) => {
                entry.upstream(failure.upstream.clone(), Duration::ZERO);
                let is_theirs = failure.whose != Fault::Client && notes.fault().is_none();
                let stands_in = errand.filter(|_| is_theirs);
                if let Some(answer) = stands_in.and_then(|errand| errand.failed(shared.clock.now()))
                {
                    entry.holds(admitted);
                    return Ok(told.add_to(given(answer, id, entry, in_flight)));
                }
                return Err(blame(failure, &notes));
            }
        };
        // What was taken is held for as long as the request is on record.
        entry.holds(admitted);
        let answer = match opened {
            Opened::Answered(answer) => answer,
            Opened::Switched(switched) => {
                entry.upstream(Some(Arc::clone(&switched.upstream)), switched.waited);
                let head = tunnel::agreed(&switched, id);
                return Ok(head.map(|()| Content::Tunnel(Tunnel::new(switched, in_flight))));
            }
        };
        entry.upstream(Some(Arc::clone(&answer.upstream)), answer.waited);
        if let (Some(by), Some(turn)) = (total, entry.turn()) {
            turn.until(by);
        }
        let length = cached::length(&answer.response);
        let response = tidy(answer.response, id);
        shared.cache.changed(
            &head.method,
            target(head, origin),
            response.status(),
            response.headers(),
        );
        let response = match route.errors {
            Errors::Hidden => conceal(response, &head.method, id),
            Errors::Passed => response.map(Said::Theirs),
        };
        let (response, fill) = match errand {
            None => (response, None),
            Some(errand) => {
                let ends = match response.body() {
                    Said::Ours(bytes) => bytes.is_empty(),
                    Said::Theirs(body) => body.is_end_stream(),
                };
                match heard(errand, response, length, ends, shared.clock.now()) {
                    Outcome::Goes(response, fill) => {
                        entry.cache(CacheUse::Miss);
                        (response, fill)
                    }
                    Outcome::Reused(answer) => {
                        return Ok(told.add_to(given(answer, id, entry, in_flight)));
                    }
                }
            }
        };
        Ok(told.add_to(response).map(|body| match body {
            Said::Ours(bytes) => Content::Whole(bytes),
            Said::Theirs(body) => Content::Streamed { body, request: notes, in_flight, fill },
        }))
    }

    /// Who is calling, registered as under way; nobody on a route that everybody may use.
    async fn meet(
        &self,
        scene: &Scene<'_, '_>,
        head: &Head,
        parts: &Parts,
        policy: &Policy,
        now: Moment,
        entry: &mut Entry,
    ) -> Result<Option<Known>, Rejection> {
        if !scene.wants_caller(policy) {
            return Ok(None);
        }
        let presented = Presented::from_headers(&parts.headers)?;
        let origin = scene.origin;
        let credential = presented.as_ref().map(|one| one.fingerprint(&self.shared.fingerprints));
        let identity = match &presented {
            Some(presented) => {
                if let Some(credential) = credential {
                    entry.credential(credential);
                    // Nobody is asked about a credential that is shut out.
                    self.shared.quarantine.refuse_token(credential, now.wall)?;
                }
                self.identify(presented, origin, head, parts, policy, now).await?
            }
            // A connection that has proven who it is needs no more.
            None => match &origin.certificate {
                Some(certificate) => Identity::from_certificate(certificate),
                None => return Err(Reason::CredentialMissing.because(NoCredential)),
            },
        };
        let roles = roles_of(&identity, policy);
        entry.caller(&identity, policy.roles().named(roles));
        // Registered before the look-ups: whoever shuts the caller out finds the request here, or is
        // found there.
        let in_flight = self.shared.connections.enter(identity, origin.named(), credential);
        self.refuse_shut_out(in_flight.caller(), presented.as_ref(), origin, now)?;
        let quarantine = &self.shared.quarantine;
        quarantine.refuse_roles(|| policy.roles().named(roles), now.wall)?;
        credential.map_or(Ok(()), |credential| quarantine.refuse_token(credential, now.wall))?;
        Ok(Some(Known { in_flight, roles }))
    }

    /// Refuses who is under quarantine, or was taken back, since the credential was looked at.
    fn refuse_shut_out(
        &self,
        caller: &Identity,
        presented: Option<&Presented>,
        origin: &Origin,
        now: Moment,
    ) -> Result<(), Rejection> {
        let Shared { keys, quarantine, revocations, .. } = &*self.shared;
        if let Some(named) = origin.named() {
            quarantine.refuse_source(named, now.wall)?;
        }
        quarantine.refuse_user(caller.principal(), now.wall)?;
        if let Proof::Key(key) = caller.proof() {
            quarantine.refuse_key(key.id, now.wall)?;
            if let Some(presented) = presented
                && !keys.is_current(key)
            {
                keys.identify(presented, origin.source, thumbprint(origin), now)?;
            }
        }
        revocations.check(caller, now.wall)
    }

    /// Whose credential it is: a key's by its form, else a token's.
    async fn identify(
        &self,
        presented: &Presented,
        origin: &Origin,
        head: &Head,
        parts: &Parts,
        policy: &Policy,
        now: Moment,
    ) -> Result<Identity, Rejection> {
        let Shared { keys, tokens, .. } = &*self.shared;
        let is_key = presented.scheme() == Scheme::ApiKey
            || policy.issuers().is_empty()
            || keys.looks_like_key(presented.as_bytes());
        let certificate = origin.certificate.as_ref();
        let identity = if is_key {
            keys.identify(presented, origin.source, thumbprint(origin), now)?
        } else {
            let request = ProofTarget {
                method: head.method.as_str(),
                scheme: if origin.tls.is_some() { "https" } else { "http" },
                authority: authority(&parts.uri, &parts.headers),
                path: head.path.as_str(),
            };
            tokens.identify(presented, &Asked { request, certificate }, now).await?
        };
        Ok(identity.with_certificate(certificate.cloned()))
    }
}

fn thumbprint(origin: &Origin) -> Option<Thumbprint> {
    origin.certificate.as_ref().map(|certificate| certificate.thumbprint)
}

/// What the request says of the length of its body; nothing when it comes in chunks.
fn declared(headers: &HeaderMap, body: &Incoming) -> Option<u64> {
    let length = headers.get(CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse().ok());
    length.or_else(|| body.is_end_stream().then_some(0))
}

/// Host and port as the caller named them; a proof of possession names them as well.
fn authority<'a>(target: &'a Uri, headers: &'a HeaderMap) -> &'a str {
    let host = || headers.get(HOST).and_then(|host| host.to_str().ok());
    target.authority().map(Authority::as_str).or_else(host).unwrap_or_default()
}
