//! What a quota promises, over the end of a period, a restart and a crash.

use std::fs::OpenOptions;
use std::io::Write as _;
use std::num::{NonZeroU64, NonZeroUsize};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use enforcer_model::{Clock, Moment, SystemClock};
use parking_lot::Mutex;

use super::*;
use crate::tests::{demand, from, later, limits, noon, take};
use crate::{By, Cost, Durability, Kind, Limit, Limits, Payer, Period, Unavailable, Why};

#[test]
fn a_quota_begins_anew_with_its_period_and_not_before() {
    let daily = quota("daily", 3, Durability::Background);
    let (limits, start) = limits(64);
    let payer = from(1);
    let left = |at: Moment| {
        (0..9).take_while(|_| take(&limits, &[demand(&daily, &payer)], at).is_ok()).count()
    };

    assert_eq!(left(start), 3);
    assert_eq!(left(later(start, Duration::from_secs(13 * 3_600 - 1))), 0);
    assert_eq!(left(later(start, Duration::from_secs(13 * 3_600))), 3);
    // Set back to before midnight: what has begun stays.
    assert_eq!(left(start), 0);
    assert_eq!(left(later(start, Duration::from_secs(37 * 3_600 - 1))), 0);
}

#[test]
fn an_answer_is_charged_to_the_period_it_was_admitted_in_or_the_one_that_runs() {
    let cost: Cost = "response.bytes".parse().unwrap();
    let daily = quota("daily", 100, Durability::Background).costing(cost);
    let (limits, start) = limits(64);
    let payer = from(1);
    let used = |at: Moment| limits.standing(&demand(&daily, &payer), at).used;

    let (first, second) = (
        take(&limits, &[demand(&daily, &payer)], start),
        take(&limits, &[demand(&daily, &payer)], start),
    );
    first.unwrap().settle(70, 0);
    assert_eq!(used(start), 70);
    let tomorrow = later(start, Duration::from_secs(86_400));
    assert!(take(&limits, &[demand(&daily, &payer)], tomorrow).is_ok());
    second.unwrap().settle(60, 0);
    assert_eq!(used(tomorrow), 60);
}

#[test]
fn a_strict_quota_without_a_disk_is_refused() {
    let daily = quota("daily", 3, Durability::Strict);
    let (limits, start) = limits(64);

    let refused = take(&limits, &[demand(&daily, &from(1))], start).unwrap_err();

    assert_eq!(refused.why, Why::Unavailable(Unavailable::Unwritten));
}

#[test]
fn levels_survive_an_orderly_restart_to_the_last_unit() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("quotas.db");
    let quotas = [quota("a", 1_000, Durability::Strict), quota("b", 1_000, Durability::Background)];
    for run in 0..3u64 {
        let house = House::open(&path);
        for limit in &quotas {
            let used = house.limits.standing(&demand(limit, &from(1)), house.now).used;
            assert_eq!(used, run * 77, "{} in run {run}", limit.name());
            for _ in 0..77 {
                house.spend(limit, 1).unwrap();
            }
        }
        house.close();
    }
    let house = House::open(&path);
    assert_eq!(house.limits.quota_levels("b", 9, noon())[0].used, 231);
    assert_eq!(house.limits.occupancy(house.now.monotonic).quotas, 2);
    house.close();
}

#[test]
fn callers_have_counters_of_their_own_and_no_strict_unit_is_handed_out_twice() {
    let folder = tempfile::tempdir().unwrap();
    let house = House::open(&folder.path().join("quotas.db"));
    let daily = quota("daily", 300, Durability::Strict);
    let admitted = Mutex::new([0u32; 2]);

    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                for n in 0..200u32 {
                    match house.spend(&daily, n % 2) {
                        Ok(()) => admitted.lock()[usize::try_from(n % 2).unwrap()] += 1,
                        Err(why) => assert_eq!(why, Why::Quota),
                    }
                }
            });
        }
    });

    assert_eq!(admitted.into_inner(), [300, 300]);
    house.close();
}

#[test]
fn after_a_strict_block_could_not_be_written_the_request_is_refused_and_later_ones_recover() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("quotas.db");
    let house = House::open(&path);
    let strict = quota("strict", 10, Durability::Strict);
    let background = quota("background", 10, Durability::Background);
    let other = rusqlite::Connection::open(&path).unwrap();
    other.execute_batch("DROP TABLE quota").unwrap();

    assert_eq!(house.spend(&strict, 1), Err(Why::Unavailable(Unavailable::Unwritten)));
    assert_eq!(house.spend(&background, 1), Ok(()));
    assert!(house.limits.quota_problem().unwrap().contains("no such table"));

    other.execute_batch(store::SCHEMA).unwrap();
    assert_eq!(house.spend(&strict, 1), Ok(()));
    assert_eq!(house.limits.quota_problem(), None);
    house.close();
}

#[test]
fn a_full_table_makes_room_from_past_periods_and_else_refuses_new_subjects() {
    let (limits, start) = limits(64);
    let daily = quota("daily", 5, Durability::Background);
    let max = u32::try_from(QUOTAS_MAX).unwrap();
    for n in 0..max {
        assert!(take(&limits, &[demand(&daily, &from(n))], start).is_ok());
    }

    let refused = take(&limits, &[demand(&daily, &from(max))], start).unwrap_err();
    assert_eq!(refused.why, Why::Unavailable(Unavailable::Full));
    assert!(take(&limits, &[demand(&daily, &from(7))], start).is_ok());
    let tomorrow = later(start, Duration::from_secs(86_400));
    assert!(take(&limits, &[demand(&daily, &from(max))], tomorrow).is_ok());
    assert_eq!(limits.occupancy(start.monotonic).quotas, 1);
}

#[test]
fn a_long_subject_is_kept_by_its_beginning_and_a_hash_of_all_of_it() {
    let (a, b) = ("x".repeat(500), "x".repeat(501));

    let (a, b) = (told(&Subject::Application(&a)), told(&Subject::Application(&b)));

    assert_ne!(a, b);
    assert!(a.len() < 200 && a.starts_with("application:xxx"), "{a}");
    assert_eq!(&*told(&Subject::Application("short")), "application:short");
}

#[test]
fn a_database_of_another_program_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("quotas.db");
    rusqlite::Connection::open(&path).unwrap().execute_batch("CREATE TABLE t (x)").unwrap();

    let refused = QuotaStore::open(&path).unwrap_err();

    assert!(matches!(refused, QuotaStoreError::Foreign(_)), "{refused}");
    assert!(QuotaStore::open(&folder.path().join("no/such/folder")).is_err());
}

/// The promise of `strict`: killed at any moment, again and again, the processes together never
/// hand out more than the quota; and what a crash wastes stays about a block each.
#[test]
fn processes_that_are_killed_again_and_again_never_spend_more_than_a_strict_quota() {
    const CRASHES: u64 = 12;
    let folder = tempfile::tempdir().unwrap();
    let spent = || std::fs::metadata(folder.path().join("spent")).map_or(0, |file| file.len());
    for crash in 0..CRASHES {
        let mut child = spender(folder.path());
        // Until it has spent something more, and then a little: kills fall anywhere in the cycle.
        let (before, deadline) = (spent(), SystemClock.now().monotonic + Duration::from_secs(20));
        while spent() < before + 20 * (crash + 1) && child.try_wait().unwrap().is_none() {
            assert!(SystemClock.now().monotonic < deadline, "a child spends nothing");
            std::thread::sleep(Duration::from_micros(200 + crash * 70));
        }
        child.kill().unwrap();
        child.wait().unwrap();
    }
    assert!(spender(folder.path()).wait().unwrap().success());

    // Four threads may each have died between a spent unit and its mark; a block is one in a hundred.
    let (spent, wasted) = (spent(), CRASHES * (2 * CHILD_QUOTA / 100 + CHILD_THREADS));
    assert!(spent <= CHILD_QUOTA, "{spent} of {CHILD_QUOTA} spent");
    assert!(spent >= CHILD_QUOTA - wasted, "only {spent} of {CHILD_QUOTA} could be spent");
}

#[test]
fn what_is_spent_beside_a_successor_is_charged_there_to_the_unit() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("quotas.db");
    let quotas = [quota("a", 1_000, Durability::Strict), quota("b", 1_000, Durability::Background)];
    let old = House::open(&path);
    let spend = |house: &House, times: u32| {
        for limit in &quotas {
            (0..times).for_each(|_| house.spend(limit, 1).unwrap());
            (0..times / 10).for_each(|_| house.spend(limit, 2).unwrap());
        }
    };
    spend(&old, 70);

    assert!(old.limits.lend(Duration::from_secs(10)));
    let new = House::open(&path);
    spend(&old, 50);
    spend(&new, 20);
    new.limits.charge(old.limits.spent_since());
    spend(&old, 10);
    old.limits.close();
    // What is settled last.
    spend(&old, 10);
    new.limits.charge(old.limits.spent_since());

    assert_eq!(old.limits.spent_since(), []);
    old.close();
    new.close();
    let next = House::open(&path);
    for limit in &quotas {
        let used = |who| next.limits.standing(&demand(limit, &from(who)), next.now).used;
        assert_eq!((used(1), used(2)), (160, 16), "{}", limit.name());
    }
    next.close();
}

#[test]
fn a_store_that_comes_back_has_everything_that_was_spent_meanwhile() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("quotas.db");
    let strict = quota("a", 1_000, Durability::Strict);
    let house = House::open(&path);
    (0..10).for_each(|_| house.spend(&strict, 1).unwrap());

    assert!(house.limits.lend(Duration::from_secs(10)));
    (0..300).for_each(|_| house.spend(&strict, 1).unwrap());
    house.limits.take_back();
    (0..10).for_each(|_| house.spend(&strict, 1).unwrap());

    house.close();
    let next = House::open(&path);
    assert_eq!(next.limits.standing(&demand(&strict, &from(1)), next.now).used, 320);
    next.close();
}

const CHILD_QUOTA: u64 = 5_000;
const CHILD_THREADS: u64 = 4;

/// Not a test of its own: spends the quota in the folder that the parent names, mark by mark.
#[test]
#[ignore = "run by the test about processes that are killed"]
fn spend_until_nothing_is_left() {
    let Some(folder) = std::env::var_os("ENFORCER_SPEND_IN").map(PathBuf::from) else { return };
    let house = House::open(&folder.join("quotas.db"));
    let strict = quota("strict", CHILD_QUOTA, Durability::Strict);
    std::thread::scope(|scope| {
        for _ in 0..CHILD_THREADS {
            scope.spawn(|| {
                let path = folder.join("spent");
                let mut marks = OpenOptions::new().create(true).append(true).open(path).unwrap();
                loop {
                    match house.spend(&strict, 1) {
                        Ok(()) => marks.write_all(b"x").unwrap(),
                        Err(why) => return assert_eq!(why, Why::Quota),
                    }
                }
            });
        }
    });
    house.close();
}

fn spender(folder: &Path) -> std::process::Child {
    Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "quota::tests::spend_until_nothing_is_left", "--ignored"])
        .env("ENFORCER_SPEND_IN", folder)
        .stdout(Stdio::null())
        .spawn()
        .unwrap()
}

/// Limits with a keeper on a thread of its own, at a time that stands still.
struct House {
    limits: Arc<Limits>,
    keeper: std::thread::JoinHandle<()>,
    now: Moment,
}

impl House {
    fn open(path: &Path) -> Self {
        let now = Moment { monotonic: SystemClock.now().monotonic, wall: noon() };
        let limits = Limits::new(NonZeroUsize::new(64).unwrap(), [1, 2], now.monotonic);
        let limits = Arc::new(limits);
        let keeper = limits.remember(QuotaStore::open(path).unwrap(), Arc::new(Noon)).unwrap();
        Self { limits, keeper: std::thread::spawn(move || keeper.run()), now }
    }

    fn spend(&self, limit: &Limit, from: u32) -> Result<(), Why> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        let payer = Payer { route: "r", ..crate::tests::from(from) };
        let demands = [demand(limit, &payer)];
        let taken = runtime.block_on(self.limits.take(&demands, self.now));
        taken.map(drop).map_err(|exceeded| exceeded.why)
    }

    fn close(self) {
        self.limits.close();
        self.keeper.join().unwrap();
    }
}

struct Noon;

impl Clock for Noon {
    fn now(&self) -> Moment {
        Moment { monotonic: SystemClock.now().monotonic, wall: noon() }
    }
}

fn quota(name: &str, amount: u64, durability: Durability) -> Limit {
    let amount = NonZeroU64::new(amount).unwrap();
    Limit::new(name, By::Ip, Kind::Quota { amount, period: Period::Day, durability })
}
