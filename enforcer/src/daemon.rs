//! Builds every part once, in order, and wires them; the only file that knows all crates.
//!
//! What can be refused is refused before anything changes: the lock, the ports, the certificates,
//! the files. Then the kernel half is attached or adopted, the blocks are put back, privileges are
//! given up, and only then is the first request served.

use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow, bail};
use arc_swap::{ArcSwap, ArcSwapOption};
use enforcer_admin::call::Begin;
use enforcer_admin::{Call, Incoming, Peer, Server};
use enforcer_audit::index::Keeper;
use enforcer_audit::{Audit, ConfigChange, ConfigEvent, Record};
use enforcer_authn::{DpopProofs, FingerprintKey, KeyStore, Pepper, RevocationStore, Tokens};
use enforcer_authz::Quarantine;
use enforcer_cache::Cache;
use enforcer_detect::Clients;
use enforcer_limits::{Limits, QuotaStore};
use enforcer_model::{Author, Clock, SystemClock};
use enforcer_notify::Notifier;
use enforcer_policy::{Policy, Serves};
use enforcer_proxy::{
    Certificates, Connections, Counters, Endpoints, IncidentLevel, Listeners, Shared,
};
use enforcer_upstream::Fleet;
use parking_lot::Mutex;
use tokio::sync::{mpsc, oneshot, watch};
use tokio_util::sync::CancellationToken;
use tracing::{debug, error, info, warn};

use crate::act::Actor;
use crate::anchoring::Showing;
use crate::desk::{
    Causes, CertDesk, Clerk, Desk, EndpointDesk, ListDesk, TokenDesk, UpstreamDesk,
    tell_of_upstreams,
};
use crate::detection::{Detection, Hands};
use crate::handover::{self, Attended, Cutter, Estate, Predecessor, Reception};
use crate::incident::Incident;
use crate::incidents::{ASKED_MAX, Docket};
use crate::kernel_signals::SIGNALS_MAX;
use crate::notifications::{self, Notifications};
use crate::openings::{bind_admin, host_name, limit_seed, open_assertions, open_audit, own_sha256};
use crate::policies::{Policies, Probation, guards};
use crate::privileges::Thread;
use crate::respond::{self, Decisions, KernelPart, ListFiles, ORDERS_MAX, Responder, Store};
use crate::rules::ASKS_MAX;
use crate::shutdown::{self, Over, Running, Wishes};
use crate::state::{lock, make_private, warn_of_loss};
use crate::watcher::Finished;
use crate::{descriptors, heartbeat, kernel_signals, notify, privileges, watcher};

/// Targets that layer 7 can hold under quarantine; more are refused and told.
const QUARANTINE_MAX: usize = 1 << 20;

/// Operators' calls that may wait.
const CALLS_MAX: usize = 32;

/// How an agent comes to serve.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Start {
    /// Nobody else serves.
    Alone,
    /// It takes the place of the agent that serves, if one does.
    TakeOver,
}

/// Serves `policy`, read from `file`, until a signal says stop or a successor takes its place.
pub(crate) fn run(policy: Policy, file: PathBuf, start: Start) -> Result<()> {
    privileges::seal()?;
    // Nothing this process makes is for others, whatever the caller's umask.
    rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o077));
    descriptors::raise(policy.connections());
    let state = policy.agent().state.clone();
    make_private(&state)?;
    let predecessor = match start {
        Start::Alone => None,
        Start::TakeOver => Predecessor::of(&policy, &state)?,
    };
    let policy = match &predecessor {
        None if Probation::of(&state).recover(&file)? => {
            Policy::load(&file).map_err(|error| anyhow!(crate::cli::chain(&error)))?
        }
        None | Some(_) => policy,
    };
    let runtime = control_runtime().context("cannot start the control thread")?;
    let serving = serve(policy, file, &state, predecessor);
    let outcome = tokio::task::LocalSet::new().block_on(&runtime, serving);
    // A call that hangs in the kernel must not keep the process.
    runtime.shutdown_timeout(Duration::from_secs(1));
    outcome
}

async fn serve(
    policy: Policy,
    file: PathBuf,
    state: &Path,
    mut predecessor: Option<Predecessor>,
) -> Result<()> {
    let mut wishes = Wishes::listen().context("cannot take over the signals")?;
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let started = clock.now().monotonic;
    let policy = Arc::new(policy);
    for warning in policy.warnings() {
        warn!(%warning, "policy");
    }

    let program = own_sha256();
    // Before anything that an agent which runs here could notice, its addresses and sockets included.
    let lock = Arc::new(match &predecessor {
        None => lock(&state.join("agent.lock"))?,
        Some(predecessor) => predecessor.lock.try_clone()?,
    });
    let threads = policy.agent().threads.unwrap_or_else(cores);
    let inherited = predecessor.as_mut().map(|one| std::mem::take(&mut one.sockets));
    let listeners = Listeners::adopt(&policy, threads, inherited.unwrap_or_default())?;
    let certificates = Arc::new(Certificates::load(&policy, &clock)?);
    certificates.warn();
    let admin = match &predecessor {
        None => Some(bind_admin(&policy)?),
        Some(_) => None,
    };
    rehearse_reload(&file, &clock)?;
    let fleet = Arc::new(Fleet::new());
    let plans: Vec<_> = policy.upstreams().map(Arc::clone).collect();
    fleet.prepare(&plans).await;
    fleet.apply(&plans, started);
    if let Some(predecessor) = &mut predecessor {
        predecessor.begin()?;
    }
    let (audit, audit_folder, audit_found) =
        privileges::without(|| open_audit(&policy, state, &clock))??;
    let mut attended =
        predecessor.as_ref().map(|predecessor| predecessor.relay(&audit)).transpose()?;
    let are_spills_read = handover::append_spills(state, &audit, &audit_folder).await.is_ok();
    let audit_log = audit_folder.clone();
    warn_of_loss(state);
    let keys =
        KeyStore::open(&state.join("keys.db"), Pepper::load_or_create(&state.join("pepper"))?)?;
    let fingerprints = FingerprintKey::load_or_create(&state.join("fingerprint.key"))?;
    let revocations = RevocationStore::open(&state.join("revocations.db"))?;
    let (tokens, issuers) = Tokens::new(policy.issuers(), revocations.index(), DpopProofs::new());
    let assertions = open_assertions(&policy, state)?;

    let (notifier, told_of) = Notifier::new();
    let level = Arc::new(IncidentLevel::default());
    let incident = Incident::open(
        state.join("incident.json"),
        Arc::clone(&level),
        audit.clone(),
        notifier.clone(),
        clock.now().wall,
    );
    let gate = Arc::new(Endpoints::default());
    let endpoints = EndpointDesk::open(
        state.join("endpoints.json"),
        Arc::clone(&gate),
        audit.clone(),
        clock.now().wall,
    )?;
    let quarantine = Arc::new(Quarantine::new(QUARANTINE_MAX));
    let connections = Arc::new(Connections::new());
    let counters = Arc::new(Counters::default());
    let limits = Limits::new(policy.agent().limit_entries, limit_seed()?, started);
    let limits = Arc::new(limits);
    let quotas = QuotaStore::open(&state.join("quotas.db")).map_err(|error| {
        let hint = error.hint();
        anyhow!("quotas cannot be kept: {}\nhint: {hint}", crate::cli::chain(&error))
    })?;
    let keeper = limits.remember(quotas, Arc::clone(&clock))?;
    let (finished, observer) = Finished::new();
    let shared = Arc::new(Shared {
        assertions,
        audit: audit.clone(),
        cache: Arc::new(Cache::new(policy.cache())),
        certificates,
        clock: Arc::clone(&clock),
        connections: Arc::clone(&connections),
        counters: Arc::clone(&counters),
        endpoints: gate,
        fingerprints,
        fleet: Arc::clone(&fleet),
        incident: Arc::clone(&level),
        keys: keys.index(),
        limits: Arc::clone(&limits),
        observer,
        policy: Arc::new(ArcSwap::new(Arc::clone(&policy))),
        quarantine: Arc::clone(&quarantine),
        revocations: revocations.index(),
        rolls: Arc::default(),
        shadow: Arc::new(ArcSwapOption::empty()),
        tokens: tokens.clone(),
    });

    let causes = Arc::new(Causes::default());
    let upstreams = UpstreamDesk::open(
        state.join("upstreams.json"),
        Arc::clone(&fleet),
        Arc::clone(&causes),
        audit.clone(),
        clock.now(),
    )?;
    if let Some(events) = fleet.events() {
        let (audit, clock) = (audit.clone(), Arc::clone(&clock));
        tokio::task::spawn_local(tell_of_upstreams(events, causes, audit, clock));
    }

    let clients = Arc::new(Mutex::new(Clients::default()));
    let guards = guards(&policy);
    let decisions = Decisions::load(Store::open(&state.join("blocks.db"))?)?;
    let folder = state.join("lists");
    let (files, lists) = ListFiles::open(&folder)
        .with_context(|| format!("the lists in {} cannot be read", folder.display()))?;
    let mut responder = Responder::new(respond::Parts {
        decisions,
        lists,
        files,
        kernel: KernelPart::new(policy.kernel(), guards.networks()),
        quarantine,
        connections: Arc::clone(&connections),
        audit: audit.clone(),
        guards,
        when_full: policy.when_full(),
        clients: Arc::clone(&clients),
        policy: Arc::clone(&shared.policy),
        clock: Arc::clone(&clock),
    });
    let (started_with, events) =
        responder.start().map_err(|refusal| anyhow!("the blocks cannot be put back: {refusal}"))?;

    let stop = CancellationToken::new();
    let (orders, waiting) = mpsc::channel(ORDERS_MAX);
    let (words, heard) = handover::words();
    let answering = {
        let successor = words.clone();
        thread("responder", Thread::Responder, &stop, move || {
            if let Some(left) = responder.work(waiting) {
                handover::forward(left, &successor);
            }
            Ok(())
        })?
    };
    let keeping = thread("quotas", Thread::Other, &stop, move || {
        keeper.run();
        Ok(())
    })?;
    let indexing = {
        let (audit, folder, until) = (audit.clone(), audit_folder.clone(), stop.clone());
        thread("index", Thread::Other, &stop, move || {
            Keeper::new(audit, folder).run(&|| until.is_cancelled());
            Ok(())
        })?
    };
    let asking = {
        let (clock, until) = (Arc::clone(&clock), stop.clone());
        thread("issuers", Thread::Other, &stop, move || {
            control_runtime()?.block_on(issuers.run(clock, until.cancelled()));
            Ok(())
        })?
    };
    let tending = {
        let until = stop.clone();
        thread("upstreams", Thread::Other, &stop, move || {
            let tend = fleet.look_after(until.cancelled());
            tokio::task::LocalSet::new().block_on(&control_runtime()?, tend);
            Ok(())
        })?
    };
    let mut serving = Vec::new();
    let (rules, policies_seen) = watch::channel(Arc::clone(&policy));
    let beating = rules.subscribe();
    let told = described(&listeners, &policy);
    let sockets = listeners.share().context("the sockets cannot be shared")?;
    let mut found = None;
    let admin = match predecessor {
        None => admin,
        Some(mut predecessor) => {
            if wishes.is_over_already().await {
                bail!("asked to stop: the agent that serves goes on");
            }
            predecessor.ready()?;
            let admin = Server::adopt(predecessor.admin.try_clone()?, &policy.agent().socket)?;
            if let Some(attended) = &mut attended {
                let limits = Arc::clone(&limits);
                found = Some(predecessor.attend(attended, limits, &connections)?);
            }
            Some(admin)
        }
    };
    let admin = admin.context("there is no admin socket")?;
    for (number, sockets) in listeners.into_threads().into_iter().enumerate() {
        let (shared, until) = (Arc::clone(&shared), stop.clone());
        let serve = move || enforcer_proxy::serve_thread(sockets, &until, shared);
        serving.push(thread(&format!("proxy-{number}"), Thread::Other, &stop, serve)?);
    }

    let (showing, anchors) =
        Showing::start(&audit, &audit_folder, &clock, policies_seen.clone(), &stop)?;
    let (telling, receivers) = Notifications::start(
        notifications::Means {
            state: state.to_owned(),
            policies: policies_seen.clone(),
            told: told_of,
            audit: audit.clone(),
            audit_found,
            anchors: anchors.clone(),
            clock: Arc::clone(&clock),
            host: host_name(),
        },
        &stop,
    )?;
    let policies = Policies::new(
        file,
        Arc::clone(&shared),
        upstreams.orders(),
        rules,
        audit.clone(),
        Arc::clone(&clock),
    );
    let (rules_desk, rules_asked) = mpsc::channel(ASKS_MAX);
    let (profiles_desk, profiles_asked) = mpsc::channel(ASKS_MAX);
    let keeper = crate::profiles::Keeper::open(state, policy.profiling(), clock.now().monotonic)?;
    let (docket, again) =
        Docket::open(state, policy.detection().limits.clone(), audit.clone(), clock.now().wall)?;
    let (cases, asked) = mpsc::channel(ASKED_MAX);
    let desk = Desk {
        clerk: Clerk { orders: orders.clone(), audit: audit.clone() },
        lists: ListDesk { folder, clients: Arc::clone(&clients), one_at_a_time: Arc::default() },
        cache: Arc::clone(&shared.cache),
        rolls: Arc::clone(&shared.rolls),
        certs: CertDesk::new(Arc::clone(&shared.certificates), audit.clone()),
        endpoints,
        upstreams,
        keys,
        limits: Arc::clone(&limits),
        tokens: TokenDesk { tokens, revocations, connections },
        incident,
        rules: rules_desk,
        profiles: profiles_desk,
        cases,
        policies,
        anchors,
        receivers,
        notifier: notifier.clone(),
        audit_folder,
        counters,
        listeners: told.clone(),
        started,
        clock: Arc::clone(&clock),
    };
    let (calls, incoming) = mpsc::channel(CALLS_MAX);
    let (loans, asked_for) = mpsc::channel(1);
    let (watcher_loans, wanted) = mpsc::channel(1);
    let attending = thread("desk", Thread::Other, &stop, move || {
        control_runtime()?.block_on(desk.attend(incoming, asked_for))
    })?;
    privileges::reduce_to(Thread::Other)?;
    let (visits, mut visitors) = mpsc::channel(CALLS_MAX);
    let admin = admin.with_visitors(visits);
    let mut estate = Estate {
        sockets,
        lock,
        reception: Reception::open(admin, calls.clone(), stop.clone())?,
        desk: loans,
        watcher: watcher_loans,
        orders: orders.clone(),
        audit: audit.clone(),
        limits: Arc::clone(&limits),
        connections: Arc::clone(&shared.connections),
        spill: handover::spills(state).join(format!("{}.spill", std::process::id())),
    };
    let (signals, packets) = mpsc::channel(SIGNALS_MAX);
    let actor = Actor::new(orders.clone(), &calls, Arc::clone(&clock));
    let (hands, outcomes) = Hands::new(actor, notifier);
    let detection = Detection::new(&policy, keeper, (docket, again), hands, clock.now(), level);
    let watching = tokio::task::spawn_local(watcher::watch(
        finished,
        detection,
        watcher::Wires {
            packets,
            outcomes,
            cases: asked,
            rules: rules_asked,
            profiles: profiles_asked,
            loans: wanted,
        },
        watcher::Means {
            policies: policies_seen,
            clients,
            orders: orders.clone(),
            audit: audit.clone(),
            clock: Arc::clone(&clock),
        },
    ));
    tokio::task::spawn_local(respond::keep_going(orders.clone(), stop.clone()));
    tokio::task::spawn_local(heartbeat::beat(audit.clone(), beating, stop.clone()));
    if let Some(events) = events {
        let clock = Arc::clone(&clock);
        tokio::task::spawn_local(kernel_signals::tell(events, signals, clock));
    }
    if let Some(found) = found {
        tokio::task::spawn_local(watcher::answer(found, orders.clone(), audit.clone()));
    }
    if are_spills_read {
        let state = state.to_owned();
        let appending = handover::keep_appending_spills(state, audit.clone(), audit_log);
        tokio::task::spawn_local(appending);
    }
    note(&audit, ConfigEvent::Started, &policy, program.clone(), started_with).await;
    for listener in &told {
        info!(listener, "listening");
    }
    info!(policy = %policy.sha256(), pid = std::process::id(), "serving");
    notify::serving();

    // Beside the loop: a disk that hangs must not keep anybody from stopping.
    let reload = || drop(tokio::task::spawn_local(reload(calls.clone())));
    let over = shutdown::until_over(&mut wishes, &stop, &mut visitors, &mut estate, reload).await;
    let farewell = match &over {
        Over::Asked | Over::Unasked => {
            info!("stopping: no new connections, finishing what runs");
            notify::stopping();
            estate.refuse_newcomers();
            None
        }
        Over::HandedOver(_) => Some(Cutter {
            connections: Arc::clone(&shared.connections),
            quarantine: Arc::clone(&shared.quarantine),
            revocations: shared.revocations.clone(),
            policy: Arc::clone(&shared.policy),
            store: state.join("revocations.db"),
            fleet: Arc::clone(&shared.fleet),
            clock: Arc::clone(&clock),
        }),
    };
    stop.cancel();
    let reception = estate.into_reception();
    drop((calls, orders));
    let patience = shared.policy.load().timeouts().shutdown + Duration::from_secs(2);
    let unasked = matches!(over, Over::Unasked);
    // A successor delivers what waits, and must not wait for connections to end.
    let telling = match &over {
        Over::HandedOver(_) => {
            telling.end(patience).await;
            None
        }
        Over::Asked | Over::Unasked => Some(telling),
    };
    let farewell = match (over, farewell) {
        (Over::HandedOver(away), Some(cutter)) => {
            Some(away.accompany(cutter, Arc::clone(&limits), (words, heard))?)
        }
        _ => None,
    };
    let running = Running {
        reception,
        attending,
        serving,
        asking,
        indexing,
        tending,
        limits,
        keeping,
        shared,
        watching,
        answering,
        attended: attended.map(Attended::into_threads).unwrap_or_default(),
    };
    let wound_down = async {
        running.wind_down(patience).await;
        if let Some(telling) = telling {
            telling.end(patience).await;
        }
        showing.end(patience).await;
        let version = format!("version {}", env!("CARGO_PKG_VERSION"));
        note(&audit, ConfigEvent::Stopped, &policy, program, version).await;
        match audit.close().await {
            Ok(size) => info!(records = size, "stopped; blocks stay in force in the kernel"),
            Err(error) => error!(%error, "the audit log was not closed cleanly"),
        }
        if let Some(farewell) = farewell {
            farewell.end().await;
        }
    };
    tokio::select! {
        () = wound_down => {}
        () = wishes.impatient() => bail!("ended at once, as asked; what was committed is kept"),
    }
    if unasked {
        bail!("a part of the agent ended unasked; the log above says which; blocks stay in force");
    }
    Ok(())
}

/// Says now what would keep a reload from reading the policy or its certificates, which happens
/// without privileges.
fn rehearse_reload(file: &Path, clock: &Arc<dyn Clock>) -> Result<()> {
    let read = || -> Result<()> {
        Certificates::load(&Policy::load(file)?, clock)?;
        Ok(())
    };
    if let Err(error) = privileges::without(read)? {
        warn!(
            error = crate::cli::chain(&*error),
            "a reload would be refused: what it reads must belong to the agent's user, or be \
             readable for it or its groups"
        );
    }
    Ok(())
}

/// Asks the desk to read the policy file again, as a call like any other.
async fn reload(calls: mpsc::Sender<Incoming>) {
    let (reply, answer) = oneshot::channel();
    let peer = Peer {
        uid: rustix::process::geteuid().as_raw(),
        gid: rustix::process::getegid().as_raw(),
        pid: None,
    };
    let call = Call::PolicyApply { text: None, begin: Begin::Now };
    if calls.send(Incoming { call, peer, author: None, reply }).await.is_err() {
        return;
    }
    match answer.await {
        Ok(Ok(_)) | Err(_) => {}
        Ok(Err(refusal)) => {
            error!(reason = refusal.message, "reload refused; the old policy stays");
        }
    }
}

async fn note(
    audit: &Audit,
    what: ConfigEvent,
    policy: &Policy,
    program: Option<String>,
    detail: String,
) {
    let change = ConfigChange {
        what,
        by: Some(Author::Agent),
        policy: Some(Arc::clone(policy.sha256())),
        program,
        kernel_program: enforcer_kernel::object_sha256(),
        detail: Some(detail),
    };
    if let Err(error) = audit.append(Record::Config(change)).await {
        warn!(%error, "start or stop is not on record");
    }
}

pub(crate) fn control_runtime() -> std::io::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_current_thread().enable_all().build()
}

fn cores() -> NonZeroUsize {
    std::thread::available_parallelism().unwrap_or(NonZeroUsize::MIN)
}

/// `public 0.0.0.0:8443 tls`, for each address.
fn described(listeners: &Listeners, policy: &Policy) -> Vec<String> {
    let serves = |name: &str| {
        let found = policy.listeners().iter().find(|listener| *listener.name == *name);
        match found.map(|listener| &listener.serves) {
            Some(Serves::Tls(_)) => "tls",
            Some(Serves::Redirect { .. }) => "redirects to https",
            Some(Serves::Plain) | None => "plain",
        }
    };
    let addresses = listeners.addresses().iter();
    addresses.map(|(name, address)| format!("{name} {address} {}", serves(name))).collect()
}

/// Starts a thread without which the agent is not whole: when it ends, the agent stops. It gives up
/// what its work does not need before it begins.
pub(crate) fn thread(
    name: &str,
    privileged: Thread,
    stop: &CancellationToken,
    work: impl FnOnce() -> std::io::Result<()> + Send + 'static,
) -> Result<JoinHandle<()>> {
    debug!(name, "thread starts");
    let ending = stop.clone().drop_guard();
    let named = name.to_owned();
    std::thread::Builder::new()
        .name(name.to_owned())
        .spawn(move || {
            let _ending = ending;
            let reduced = privileges::reduce_to(privileged).map_err(std::io::Error::other);
            if let Err(error) = reduced.and_then(|_kept| work()) {
                error!(name = named, %error, "thread ended");
            }
        })
        .with_context(|| format!("cannot start the {name} thread"))
}
