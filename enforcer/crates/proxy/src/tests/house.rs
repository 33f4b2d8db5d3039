//! A proxy in this process, with everything around it.

use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use arc_swap::ArcSwap;
use enforcer_audit::{Audit, Config, Log};
use enforcer_authn::{
    Assertions, DpopProofs, FingerprintKey, KeyStore, NewKey, Pepper, RevocationStore, Tokens,
};
use enforcer_authz::Quarantine;
use enforcer_cache::Cache;
use enforcer_limits::Limits;
use enforcer_model::{
    Author, Block, BlockId, Clock, Exchange, Expiry, KeyId, Moment, Role, SystemClock, Target,
    Timestamp,
};
use enforcer_policy::{Address, Policy};
use parking_lot::Mutex;
use rcgen::{CertifiedKey, generate_simple_self_signed};
use rustls_pki_types::CertificateDer;
use tempfile::TempDir;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

use super::authority::Authority;
use super::upstream::Upstream;
use crate::{Certificates, Connections, Counters, Listeners, Observed, Shared, serve_thread};

pub(super) struct House {
    pub(super) shared: Arc<Shared>,
    pub(super) upstream: Upstream,
    pub(super) keys: KeyStore,
    pub(super) stop: CancellationToken,
    seen: Arc<Mutex<Vec<Exchange>>>,
    addresses: Vec<(Arc<str>, SocketAddr)>,
    threads: Vec<JoinHandle<()>>,
    /// Vouches for clients.
    pub(super) authority: Authority,
    pub(super) folder: TempDir,
}

/// What a test wants to be different.
pub(super) struct Plan {
    pub(super) timeouts: &'static str,
    pub(super) audit: &'static str,
    pub(super) connections: &'static str,
    pub(super) threads: usize,
    pub(super) on_finish: fn(&Exchange),
    /// The clock panics once, when this is set.
    pub(super) bug: Arc<AtomicBool>,
    /// Beside certificate and key of the secure listener.
    pub(super) clients: &'static str,
    /// More keys of the secure listener.
    pub(super) secure: &'static str,
    /// More listeners.
    pub(super) listen: &'static str,
}

struct TestClock(Arc<AtomicBool>);

impl Clock for TestClock {
    fn now(&self) -> Moment {
        assert!(!self.0.swap(false, Ordering::SeqCst), "a bug, on purpose");
        SystemClock.now()
    }
}

impl Default for Plan {
    fn default() -> Self {
        Self {
            timeouts: "",
            audit: "",
            connections: "",
            threads: 1,
            on_finish: |_| (),
            bug: Arc::default(),
            clients: "",
            secure: "",
            listen: "",
        }
    }
}

impl House {
    pub(super) fn open() -> Self {
        Self::with(Plan::default())
    }

    pub(super) fn with(plan: Plan) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let upstream = Upstream::start();
        write_certificate(folder.path());
        let authority = Authority::new("ours");
        authority.write(folder.path(), &[]);
        let policy = parse(
            &text(upstream.address, plan.timeouts, plan.audit, plan.connections, plan.clients)
                .replace(
                    "\n[listen.door]",
                    &format!("{}\n{}\n[listen.door]", plan.secure, plan.listen),
                ),
            folder.path(),
        );

        let clock: Arc<dyn Clock> = Arc::new(TestClock(plan.bug));
        let audit = Config::new(folder.path().join("audit"), "proxy.test/enforcer");
        let (audit, _opened) = Audit::open(audit, Arc::new(SystemClock)).unwrap();
        let pepper = Pepper::load_or_create(&folder.path().join("pepper")).unwrap();
        let keys = KeyStore::open(&folder.path().join("keys.db"), pepper).unwrap();
        let seen = Arc::<Mutex<Vec<Exchange>>>::default();
        let (noted, on_finish) = (Arc::clone(&seen), plan.on_finish);
        let listeners = Listeners::bind(&policy, NonZeroUsize::new(plan.threads).unwrap()).unwrap();
        let revocations = RevocationStore::open(&folder.path().join("revocations.db")).unwrap();
        let (tokens, _issuers) =
            Tokens::new(policy.issuers(), revocations.index(), DpopProofs::new());
        let identity = folder.path().join("identity.key");
        let life = Duration::from_secs(60);
        let shared = Arc::new(Shared {
            assertions: Assertions::load_or_create(&identity, "proxy.test", life).unwrap(),
            audit,
            cache: Arc::new(Cache::new(policy.cache())),
            certificates: Arc::new(Certificates::load(&policy, &clock).unwrap()),
            connections: Arc::new(Connections::new()),
            counters: Arc::new(Counters::default()),
            endpoints: Arc::default(),
            fleet: Arc::default(),
            fingerprints: FingerprintKey::load_or_create(&folder.path().join("fp")).unwrap(),
            keys: keys.index(),
            limits: Arc::new(Limits::new(
                NonZeroUsize::new(1024).unwrap(),
                [1, 2],
                clock.now().monotonic,
            )),
            observer: Box::new(move |exchange| {
                noted.lock().push(Exchange::clone(exchange));
                on_finish(exchange);
                Observed::Seen
            }),
            clock,
            policy: Arc::new(ArcSwap::from_pointee(policy)),
            quarantine: Arc::new(Quarantine::new(64)),
            incident: Arc::default(),
            revocations: revocations.index(),
            rolls: Arc::default(),
            shadow: Arc::default(),
            tokens,
        });

        let stop = CancellationToken::new();
        let tcp = |(name, address): &(Arc<str>, Address)| Some((Arc::clone(name), address.tcp()?));
        let addresses = listeners.addresses().iter().filter_map(tcp).collect();
        let threads = listeners.into_threads().into_iter().map(|listeners| {
            let (stop, shared) = (stop.clone(), Arc::clone(&shared));
            std::thread::spawn(move || serve_thread(listeners, &stop, shared).unwrap())
        });
        let threads = threads.collect();
        Self { shared, upstream, keys, stop, seen, addresses, threads, authority, folder }
    }

    /// Where clear text is served.
    pub(super) fn plain(&self) -> SocketAddr {
        self.address("plain")
    }

    pub(super) fn address(&self, listener: &str) -> SocketAddr {
        self.addresses.iter().find(|(name, _)| &**name == listener).unwrap().1
    }

    pub(super) fn certificate(&self) -> CertificateDer<'static> {
        use rustls_pki_types::pem::PemObject;
        CertificateDer::from_pem_file(self.folder.path().join("cert.pem")).unwrap()
    }

    /// Replaces certificate and key in the files.
    pub(super) fn renew_certificate(&self) {
        write_certificate(self.folder.path());
    }

    /// The policy once more, with other sections.
    pub(super) fn policy(&self, timeouts: &str, audit: &str) -> Policy {
        parse(&text(self.upstream.address, timeouts, audit, "", ""), self.folder.path())
    }

    /// A fresh key with these roles.
    pub(super) fn key(&mut self, roles: &[&str]) -> (KeyId, String) {
        let count = self.keys.list().unwrap().len();
        let new = new_key(&format!("key-{count}"), roles);
        let (_record, issued) = self.keys.issue(new, now()).unwrap();
        (issued.id(), issued.expose().to_owned())
    }

    /// A well-formed key that nobody here issued.
    pub(super) fn key_of_another_house(&self) -> String {
        let folder = tempfile::tempdir_in(self.folder.path()).unwrap();
        let pepper = Pepper::load_or_create(&folder.path().join("pepper")).unwrap();
        let mut keys = KeyStore::open(&folder.path().join("keys.db"), pepper).unwrap();
        let (_record, issued) = keys.issue(new_key("other", &["reader"]), now()).unwrap();
        issued.expose().to_owned()
    }

    /// What an operator does, without the kernel.
    pub(super) fn block(&self, target: Target) -> usize {
        let block = Block {
            id: BlockId::from_bits(1),
            target,
            reason: "test".to_owned(),
            author: Author::Rule("test".to_owned()),
            since: now(),
            until: Expiry::Never,
            through: None,
        };
        self.shared.quarantine.insert(&block).unwrap();
        let policy = self.shared.policy.load();
        self.shared.connections.close_named(&block.target, &policy, |_| false)
    }

    /// The records so far, once there are `count`.
    pub(super) async fn records(&self, count: usize) -> Vec<Exchange> {
        self.until(|| self.seen.lock().len() >= count).await;
        let seen = self.seen.lock().clone();
        assert_eq!(seen.len(), count, "{seen:#?}");
        seen
    }

    /// The record number `nth`, once it is there.
    pub(super) async fn seen_at(&self, nth: usize) -> Exchange {
        self.until(|| self.count() > nth).await;
        self.seen.lock()[nth].clone()
    }

    /// How many records there are.
    pub(super) fn count(&self) -> usize {
        self.seen.lock().len()
    }

    /// The only record so far.
    pub(super) async fn record(&self) -> Exchange {
        self.records(1).await.remove(0)
    }

    pub(super) async fn until(&self, condition: impl Fn() -> bool) {
        let waiting = async {
            while !condition() {
                sleep(Duration::from_millis(2)).await;
            }
        };
        let in_time = timeout(Duration::from_secs(10), waiting).await;
        assert!(in_time.is_ok(), "{:#?}\n{:?}", self.seen.lock(), self.shared.counters.read());
    }

    /// Stops the proxy, and checks that the log has as many records as there were requests.
    pub(super) async fn close(mut self) {
        let written = self.stopped().await;
        assert_eq!(written, u64::try_from(self.seen.lock().len()).unwrap());
    }

    /// Stops the proxy, and checks that the log has so many records.
    pub(super) async fn close_with(mut self, records: u64) {
        assert_eq!(self.stopped().await, records);
    }

    /// How many records the log has when all is over.
    async fn stopped(&mut self) -> u64 {
        self.stop.cancel();
        self.until(|| self.threads.iter().all(JoinHandle::is_finished)).await;
        for thread in self.threads.drain(..) {
            thread.join().unwrap();
        }
        let size = self.shared.audit.clone().close().await.unwrap();
        let log = Log::open_read_only(&self.folder.path().join("audit")).unwrap();
        assert_eq!(log.size(), size);
        let records = log.records(0..size).unwrap().map(|record| record.unwrap().header().unwrap());
        // What their handles stand for has records of its own.
        let requests = records.filter(|header| header.class != "subject").count();
        u64::try_from(requests).unwrap()
    }

    pub(super) fn has_ended(&self) -> bool {
        self.threads.iter().all(JoinHandle::is_finished)
    }
}

pub(super) fn now() -> Timestamp {
    SystemClock.now().wall
}

fn new_key(name: &str, roles: &[&str]) -> NewKey {
    NewKey {
        name: name.to_owned(),
        roles: roles.iter().map(|role| Role::new(role)).collect(),
        ..NewKey::default()
    }
}

fn parse(text: &str, folder: &Path) -> Policy {
    Policy::parse(text, &folder.join("policy.toml")).unwrap_or_else(|problems| panic!("{problems}"))
}

fn write_certificate(folder: &Path) {
    let CertifiedKey { cert, signing_key } =
        generate_simple_self_signed(["api.test".to_owned()]).unwrap();
    std::fs::write(folder.join("cert.pem"), cert.pem()).unwrap();
    std::fs::write(folder.join("key.pem"), signing_key.serialize_pem()).unwrap();
}

fn text(
    upstream: SocketAddr,
    timeouts: &str,
    audit: &str,
    connections: &str,
    clients: &str,
) -> String {
    format!(
        r#"
version = 1

[listen.plain]
address = "127.0.0.1:0"

[listen.secure]
address = "127.0.0.1:0"
tls = {{ certificate = "cert.pem", key = "key.pem"{clients} }}

[listen.door]
address = "127.0.0.1:0"
redirect = "https"

[timeouts]
{timeouts}

[connections]
{connections}

[audit]
{audit}

[role]
reader = {{ from = ["key"] }}
writer = {{ includes = ["reader"], from = ["key"] }}

[limit]
ip  = {{ by = "ip", rate = "1/h", burst = 3 }}
key = {{ by = "key", rate = "1/h", burst = 2 }}

[upstream.app]
hosts = ["{upstream}"]
first_byte = "5s"
between_bytes = "5s"

[[route]]
name = "app"
match = "api.test/app/{{**}}"
upstream = "app"
body_max = "100MiB"

  [[route.allow]]
  method = ["GET", "HEAD"]
  role = "reader"

  [[route.allow]]
  method = ["POST"]
  role = "writer"

[[route]]
name = "open"
match = "api.test/open/{{**}}"
upstream = "app"
public = true
body_max = "100MiB"

[[route]]
name = "socket"
match = "api.test/socket/{{**}}"
upstream = "app"
upgrade = ["websocket"]

  [[route.allow]]
  method = ["GET"]
  role = "reader"

[[route]]
name = "small"
match = "api.test/small/{{**}}"
upstream = "app"
public = true
body_max = "1KiB"

[[route]]
name = "tight"
match = "api.test/tight/{{**}}"
upstream = "app"
limits = ["ip", "key"]

  [[route.allow]]
  method = ["GET"]
  role = "reader"
"#
    )
}
