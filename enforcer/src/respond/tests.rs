//! The responder without a kernel part: what layer 7 and the files hold after each order.

use std::path::Path;
use std::time::Duration;

use enforcer_admin::RefusalKind;
use enforcer_admin::call::{self, Imported, Which};
use enforcer_model::{
    Author, Expiry, FailureCount, Failures, Offence, Reason, Source, SystemClock,
};
use parking_lot::Mutex;

use super::testing::prefix;
use super::*;

/// The host's clock, and what an operator adds to the wall clock.
#[derive(Default)]
struct Hands {
    ahead: Mutex<Duration>,
}

impl Clock for Hands {
    fn now(&self) -> Moment {
        let now = SystemClock.now();
        Moment { wall: now.wall.saturating_add(*self.ahead.lock()), ..now }
    }
}

struct House {
    folder: tempfile::TempDir,
    clock: Arc<Hands>,
    responder: Responder,
}

fn responder(folder: &Path, clock: Arc<Hands>) -> Responder {
    let (files, lists) = ListFiles::open(&folder.join("lists")).unwrap();
    let config = enforcer_audit::Config::new(folder.join("audit"), "test.example/enforcer");
    let (audit, _) = Audit::open(config, Arc::new(SystemClock)).unwrap();
    Responder::new(Parts {
        decisions: Decisions::load(Store::open(&folder.join("blocks.db")).unwrap()).unwrap(),
        lists,
        files,
        kernel: KernelPart::new(None, Vec::new()),
        quarantine: Arc::new(Quarantine::new(64)),
        connections: Arc::new(Connections::new()),
        audit,
        guards: Guards { clients_percent_max: 50, ..Guards::default() },
        when_full: WhenFull::default(),
        clients: Arc::default(),
        policy: Arc::new(ArcSwap::from_pointee(policy())),
        clock,
    })
}

fn policy() -> Policy {
    Policy::parse(
        r#"
        version = 1
        [listen.public]
        address = "127.0.0.1:0"
        [upstream.orders]
        hosts = ["127.0.0.1:9"]
        [[route]]
        name = "open"
        match = "api.test/{**}"
        upstream = "orders"
        public = true
        "#,
        Path::new("policy.toml"),
    )
    .unwrap()
}

#[tokio::test]
async fn a_name_of_every_kind_is_blocked_found_verified_and_released_also_by_the_next_agent() {
    let mut house = House::new();
    let targets = [
        "user:token:corp/alice",
        "role:auditor",
        "token:00112233445566778899aabbccddeeff",
        "ja4:t13d1516h2_8daaf6152771_e5627efa2ab1",
    ];
    for text in targets {
        let shut = Shut {
            target: text.parse().unwrap(),
            through: None,
            reason: "60 objects in 10m".into(),
            author: Author::Rule("bola".into()),
            ttl: Duration::from_secs(60),
        };
        let held = house.responder.shut(shut.clone()).unwrap();
        assert!(held.layer7 && !held.kernel && !held.stood && held.kernel_off.is_none(), "{text}");
        let again = house.responder.shut(Shut { ttl: Duration::from_secs(9), ..shut }).unwrap();
        assert!(again.stood && again.id == held.id, "never shortened: {text}");
    }

    let mut house = house.restart().await;

    let verified = house.responder.verify(Repair::Tell).unwrap();
    assert!(verified.differences.is_empty(), "{verified:?}");
    assert_eq!(house.responder.list(None).unwrap().blocks.len(), 4);
    for text in &targets[..3] {
        let which = Which::Target(text.parse().unwrap());
        let (released, _) = house.responder.release(&which, None, &Author::Agent).unwrap();
        assert!(released.layer7 && released.problems.is_empty());
    }
    *house.clock.ahead.lock() = Duration::from_secs(61);
    // A clock that is set moves the end along; only time that passes ends a block.
    house.responder.tick();
    assert_eq!(house.responder.list(None).unwrap().blocks.len(), 1);
    let fourth: Target = targets[3].parse().unwrap();
    house.responder.parts.quarantine.remove(&fourth);
    let verified = house.responder.verify(Repair::Tell).unwrap();
    assert!(verified.differences[0].contains("decided, not at layer 7"), "{verified:?}");
}

impl House {
    fn new() -> Self {
        let (folder, clock) = (tempfile::tempdir().unwrap(), Arc::<Hands>::default());
        let mut responder = responder(folder.path(), Arc::clone(&clock));
        responder.start().unwrap();
        Self { folder, clock, responder }
    }

    /// The agent ends and another one begins.
    async fn restart(self) -> Self {
        let Self { folder, clock, responder: old } = self;
        let audit = old.parts.audit.clone();
        drop(old);
        audit.close().await.unwrap();
        let mut responder = responder(folder.path(), Arc::clone(&clock));
        responder.start().unwrap();
        Self { folder, clock, responder }
    }

    fn draft(&self, name: &str, networks: &[&str], ttl: Option<u64>) -> Draft {
        let given = networks.iter().map(|text| prefix(text)).collect();
        let guards = self.responder.parts.guards.clone();
        let around = Surroundings::default();
        let mut sifted = sift(given, &guards, &around, &[], Objections::Count);
        let networks = std::mem::take(&mut sifted.networks);
        let now = self.clock.now();
        let until = ttl.map(Duration::from_secs).map(|ttl| now.wall.saturating_add(ttl));
        let name: call::ListName = name.parse().unwrap();
        let list = List {
            id: self.responder.enlist(&name).unwrap(),
            name,
            reason: "a feed".into(),
            author: Author::Agent,
            since: now.wall,
            until: until.map_or(Expiry::Never, Expiry::At),
            sha256: sha256_of(&networks),
            networks: Arc::new(networks),
        };
        draft(&self.folder.path().join("lists"), &list).unwrap();
        Draft { list, sifted, guards, not_written: None, dry_run: false, begun: now.monotonic }
    }

    fn import(&mut self, name: &str, networks: &[&str], ttl: Option<u64>) -> Imported {
        let draft = self.draft(name, networks, ttl);
        self.responder.import(draft).unwrap().0
    }

    fn quarantine(&mut self, target: &str, ttl_seconds: Option<u64>) -> call::Blocked {
        let asked = call::Quarantine {
            target: target.parse().unwrap(),
            ttl_seconds,
            reason: "guessing".into(),
            // Whatever this host's own gateway is.
            override_guard: Some(target.parse().unwrap()),
            dry_run: false,
            ssh_peer: None,
        };
        self.responder.quarantine(&asked, Author::Agent).unwrap().0
    }

    /// What layer 7 says to a request from there.
    fn refuses(&self, address: &str) -> bool {
        let source = Source::new(address.parse().unwrap());
        match self.responder.parts.quarantine.refuse_source(source, self.clock.now().wall) {
            Ok(()) => false,
            Err(refused) => {
                assert_eq!(refused.reason, Reason::Quarantined);
                true
            }
        }
    }

    fn is_as_decided(&mut self) -> bool {
        let verified = self.responder.verify(Repair::Tell).unwrap();
        verified.differences.is_empty()
    }
}

#[tokio::test]
async fn a_list_takes_the_place_of_the_one_of_its_name_and_keeps_its_id() {
    let mut house = House::new();

    let first = house.import("drop", &["192.0.2.1", "192.0.2.2", "192.0.2.2", "127.0.0.1"], None);
    assert_eq!((first.networks, first.duplicates, first.refused_total), (2, 1, 1));
    assert!(first.layer7 && first.not_stored.is_none() && first.replaced.is_none());

    let second = house.import("drop", &["192.0.2.2", "192.0.2.3"], None);
    assert_eq!((second.removed, second.replaced), (1, Some(first.id)));
    assert_eq!(second.id, first.id);
    assert!(second.previous.is_some_and(|kept| kept.exists()));
    assert!(!house.refuses("192.0.2.1"));
    assert!(house.refuses("192.0.2.2") && house.refuses("192.0.2.3"));
    assert!(house.is_as_decided());
}

#[tokio::test]
async fn lists_and_decisions_are_in_force_again_after_a_restart() {
    let mut house = House::new();
    house.import("drop", &["192.0.2.0/24"], Some(600));
    house.quarantine("198.51.100.7", None);

    let mut house = house.restart().await;

    assert!(house.refuses("192.0.2.9") && house.refuses("198.51.100.7"));
    assert!(house.is_as_decided());
}

#[tokio::test]
async fn what_two_decisions_name_stays_blocked_until_both_are_gone() {
    let mut house = House::new();
    house.import("a", &["192.0.2.1"], None);
    let both = house.import("b", &["192.0.2.1", "192.0.2.2"], None);
    assert_eq!(both.already_blocked, 1);
    let third = house.quarantine("192.0.2.1", Some(600));
    assert_eq!(third.overlaps.len(), 2, "{:?}", third.overlaps);

    let by = Author::Agent;
    let released = house.responder.release_list(&"b".parse().unwrap(), None, &by).unwrap().0;
    assert_eq!((released.networks, released.still_blocked), (2, 1));
    assert!(house.refuses("192.0.2.1") && !house.refuses("192.0.2.2"));

    let target = Which::Target("192.0.2.1".parse().unwrap());
    let lifted = house.responder.release(&target, None, &by).unwrap().0;
    assert!(lifted.problems[0].contains("also in list a"), "{:?}", lifted.problems);
    assert!(house.refuses("192.0.2.1"));
    house.responder.release_list(&"a".parse().unwrap(), None, &by).unwrap();
    assert!(!house.refuses("192.0.2.1"));
    assert!(house.is_as_decided());
}

#[tokio::test]
async fn a_wall_clock_that_is_set_ahead_ends_neither_a_list_nor_a_block() {
    let mut house = House::new();
    house.import("drop", &["192.0.2.1"], Some(600));
    house.quarantine("198.51.100.7", Some(600));

    *house.clock.ahead.lock() = Duration::from_secs(86_400);
    house.responder.tick();

    assert!(house.refuses("192.0.2.1") && house.refuses("198.51.100.7"));
    house.responder.parts.files.retry(&house.responder.parts.lists);
    assert!(house.is_as_decided());
    let mut house = house.restart().await;
    assert!(house.refuses("192.0.2.1") && house.refuses("198.51.100.7"));
    assert!(house.is_as_decided());
}

#[tokio::test]
async fn a_list_whose_time_is_over_ends_with_its_file() {
    let mut house = House::new();
    house.import("drop", &["192.0.2.1"], Some(0));
    assert!(!house.refuses("192.0.2.1"));

    house.responder.tick();

    assert_eq!(house.responder.parts.lists.len(), 0);
    assert!(!house.folder.path().join("lists/drop.list").exists());
    assert!(house.is_as_decided());
}

#[tokio::test]
async fn a_list_that_was_judged_by_other_guards_is_not_put_in_force() {
    let mut house = House::new();
    let draft = house.draft("drop", &["192.0.2.1"], None);
    house.responder.parts.guards.never_block =
        vec![("monitoring".into(), vec![prefix("192.0.2.0/24")])];

    let refused = house.responder.import(draft).unwrap_err();

    assert_eq!(refused.kind, RefusalKind::Failed);
    assert_eq!(house.responder.parts.lists.len(), 0);
    assert!(!house.refuses("192.0.2.1"));
}

#[tokio::test]
async fn a_rehearsal_changes_nothing() {
    let mut house = House::new();
    house.import("drop", &["192.0.2.1"], None);
    let rehearsal = Draft { dry_run: true, ..house.draft("drop", &["192.0.2.2"], None) };

    let (imported, ticket) = house.responder.import(rehearsal).unwrap();

    assert!(ticket.is_none() && imported.dry_run && !imported.layer7);
    assert_eq!((imported.networks, imported.removed), (1, 1));
    assert!(house.refuses("192.0.2.1") && !house.refuses("192.0.2.2"));
}

#[tokio::test]
async fn lists_are_limited_in_number_and_one_that_exists_can_still_be_exchanged() {
    let mut house = House::new();
    for number in 0..lists::LISTS_MAX {
        house.import(&format!("l{number}"), &["192.0.2.1"], None);
    }

    let refused = house.responder.enlist(&"one-more".parse().unwrap()).unwrap_err();

    assert!(refused.hint.is_some());
    assert_eq!(house.import("l0", &["192.0.2.9"], None).removed, 1);
}

#[tokio::test]
async fn a_never_block_list_that_grows_lifts_the_blocks_that_it_covers() {
    let mut house = House::new();
    house.quarantine("192.0.2.1", None);
    house.quarantine("198.51.100.1", None);
    let guards = Guards {
        never_block: vec![("monitoring".into(), vec![prefix("192.0.2.0/24")])],
        ..house.responder.parts.guards.clone()
    };

    let problems =
        house.responder.reguard(Policed { guards, when_full: WhenFull::default(), kernel: None });

    assert!(problems.is_empty(), "{problems:?}");
    let left: Vec<_> =
        house.responder.parts.decisions.all().map(|block| block.target.clone()).collect();
    assert_eq!(left, ["198.51.100.1".parse().unwrap()]);
}

#[tokio::test]
async fn whoever_came_through_a_proxy_is_refused_at_layer_7_and_the_kernel_hears_nothing_of_it() {
    let mut house = House::new();
    let proxy = Source::new([10, 0, 0, 5].into());
    let found = |target: &str, through| Offence {
        rule: "key-guessing".into(),
        target: prefix(target),
        through,
        failures: FailureCount {
            seen: 5,
            window: Duration::from_secs(10),
            of: Failures::Authentication,
        },
        ttl: Duration::from_secs(600),
        evidence: Vec::new(),
    };

    let id = house.responder.answer(&found("203.0.113.7", Some(proxy))).unwrap();
    house.responder.answer(&found("203.0.113.8", None)).unwrap();

    assert!(house.refuses("203.0.113.7") && house.refuses("203.0.113.8"));
    let wanted = |house: &House| {
        let now = house.clock.now().wall;
        let claims = house.responder.claims(now);
        claims.all().map(|(network, _)| network.to_string()).collect::<Vec<_>>()
    };
    assert_eq!(wanted(&house), ["203.0.113.8"]);
    assert!(house.is_as_decided());
    let mut house = house.restart().await;
    assert!(house.refuses("203.0.113.7"));
    assert_eq!(wanted(&house), ["203.0.113.8"]);
    let block = house.responder.parts.decisions.by_id(id).unwrap();
    assert_eq!(block.through, Some(proxy));
    // The word of a proxy takes nothing back that packets have shown.
    let standing = house.responder.answer(&found("203.0.113.8", Some(proxy))).unwrap();
    let block = house.responder.parts.decisions.by_id(standing).unwrap();
    assert_eq!(block.through, None);
    // An operator may say so all the same.
    house.quarantine("203.0.113.7", None);
    assert_eq!(wanted(&house), ["203.0.113.7", "203.0.113.8"]);
}
