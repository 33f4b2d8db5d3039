//! Promises of the whole: what is found, what is not, and what is kept.

use std::time::Duration;

use enforcer_model::{Reason, RequestId, Source, Timestamp};
use proptest::prelude::*;

use super::*;
use crate::{Entity, Request};

/// A Monday, 2024-10-07.
const MONDAY: u64 = 20_003 * 86_400;
const KEY: [u8; 16] = *b"a key for tests.";

/// What identities do, the same every day but for a little chance.
struct Crowd {
    profiles: Profiles,
    number: u64,
    chance: u64,
}

impl Crowd {
    fn new(seed: u64) -> Self {
        let profiles = Profiles::new(Plan::default(), KEY);
        Self { profiles, number: 0, chance: seed | 1 }
    }

    fn draw(&mut self, below: u64) -> u64 {
        self.chance ^= self.chance << 13;
        self.chance ^= self.chance >> 7;
        self.chance ^= self.chance << 17;
        self.chance % below
    }

    fn ask(&mut self, second: u64, change: impl Fn(&mut Request<'_>)) -> Option<crate::Finding> {
        self.number += 1;
        let mut request = Request {
            at: Timestamp::from_unix_seconds(MONDAY + second),
            id: RequestId::from_bits(self.number.into()),
            source: Source::new("192.0.2.7".parse().unwrap()),
            through: None,
            identity: Some("key:aaaaaaaaaaaa"),
            role: Some("clerk"),
            credential: None,
            ja4: Some("t13d1516h2_8daaf6152771_e5627efa2ab1"),
            user_agent: None,
            region: None,
            method: "GET",
            host: None,
            path: None,
            route: Some("orders"),
            object: None,
            status: 200,
            reason: None,
            permitted: true,
            upstream: None,
            bytes_in: 100,
            bytes_out: 2_000,
            exposed: enforcer_model::Exposed::default(),
            incident: 0,
            duration: Duration::from_millis(5),
        };
        change(&mut request);
        self.profiles.observe(&request)
    }

    /// A day of work of twelve identities, about forty requests each, from nine to five.
    fn day(&mut self, day: u64) -> usize {
        let mut found = 0;
        for second in (9 * 3_600..17 * 3_600).step_by(60) {
            let identity = format!("key:{:012}", self.draw(12));
            let object = self.draw(60).to_string();
            let second = day * 86_400 + second;
            let finding = self.ask(second, |request| {
                // The texts live as long as the call.
                request.identity = Some(kept(&identity));
                request.object = Some(kept(&object));
            });
            found += usize::from(finding.is_some());
        }
        found
    }

    fn after(mut self, days: u64) -> Self {
        for day in 0..days {
            self.day(day);
        }
        self
    }
}

/// A text for the rest of the test: requests borrow for longer than a closure can know.
fn kept(text: &str) -> &'static str {
    Box::leak(text.into())
}

const WHO: &str = "key:000000000003";

#[test]
fn fifty_times_the_usual_on_new_objects_is_found_within_its_ten_minutes_and_once() {
    let mut crowd = Crowd::new(3).after(10);
    let noon = 10 * 86_400 + 12 * 3_600;

    let found: Vec<_> = (0..500)
        .filter_map(|number| {
            let object = kept(&format!("9{number:05}"));
            crowd.ask(noon + number / 2, |request| {
                request.identity = Some(WHO);
                request.object = Some(object);
            })
        })
        .collect();

    let first = found.first().expect("it is found");
    assert!(found.len() <= 3, "{} findings of one episode", found.len());
    assert_eq!(&*first.rule, BEHAVIOUR);
    assert!(matches!(&first.about, Entity::Identity(who) if who.as_str() == WHO));
    assert!(first.at.unix_seconds() < MONDAY + noon + 600);
    let told = first.explanation();
    assert!(told.contains("usual"), "{told}");
    assert!((1..=3).contains(&first.signals.len()));
    assert!(!first.evidence.is_empty() && first.evidence.len() <= 16);
    assert_eq!(first.respond, Plan::default().respond);
}

#[test]
fn a_token_used_from_elsewhere_with_another_client_at_night_is_found_by_what_is_new() {
    let mut crowd = Crowd::new(5).after(12);
    let night = 12 * 86_400 + 3 * 3_600;

    let found = (0..60).find_map(|number| {
        let object = kept(&format!("8{number:05}"));
        crowd.ask(night + number * 20, |request| {
            request.identity = Some(WHO);
            request.object = Some(object);
            request.source = Source::new("203.0.113.9".parse().unwrap());
            request.ja4 = Some("t13d190900_9dc949149365_97f8aa674fd9");
        })
    });

    let told = found.expect("it is found").explanation();
    assert!(
        told.contains("never read before") || told.contains("when it usually is not"),
        "{told}"
    );
    let shown = crowd.profiles.signals(WHO, Timestamp::from_unix_seconds(MONDAY + night + 1_200));
    let bits = |wanted| shown.iter().find(|(aspect, _)| *aspect == wanted).map_or(0.0, |one| one.1);
    assert!(bits(Aspect::Network) > 3.0 && bits(Aspect::TlsClient) > 3.0, "{shown:?}");
    assert!(bits(Aspect::Hours) > 3.0, "{shown:?}");
}

#[test]
fn our_own_denials_are_no_evidence_and_nothing_is_found_while_the_host_learns() {
    let mut crowd = Crowd::new(7).after(10);
    let noon = 10 * 86_400 + 12 * 3_600;
    for number in 0..500 {
        let found = crowd.ask(noon + number / 2, |request| {
            request.identity = Some(WHO);
            request.status = 403;
            request.reason = Some(Reason::Quarantined);
        });
        assert!(found.is_none());
        assert!(crowd.profiles.last_score() < f32::EPSILON);
    }

    let mut young = Crowd::new(7).after(3);
    let noon = 3 * 86_400 + 12 * 3_600;
    for number in 0..2_000 {
        let object = kept(&format!("7{number:05}"));
        let found = young.ask(noon + number / 4, |request| {
            request.identity = Some(WHO);
            request.object = Some(object);
        });
        assert!(found.is_none());
    }
    assert!(young.profiles.surprises().is_empty());
}

#[test]
fn a_day_with_a_finding_is_not_learned_from() {
    let mut crowd = Crowd::new(9).after(10);
    let view = |crowd: &Crowd, day: u64| {
        crowd.profiles.show(WHO, Timestamp::from_unix_seconds(MONDAY + day * 86_400)).unwrap()
    };
    let before = view(&crowd, 9);
    for number in 0..800 {
        let object = kept(&format!("6{number:05}"));
        crowd.ask(10 * 86_400 + 12 * 3_600 + number, |request| {
            request.identity = Some(WHO);
            request.object = Some(object);
        });
    }

    crowd.day(11);

    let after = view(&crowd, 11);
    assert_eq!(after.days, before.days + 1, "only the ordinary day before it was learned");
    assert!(after.objects.usual < before.objects.usual * 1.3, "{after:?}");
}

/// States the bound: what grows by a tenth each day is found before it is eight times the usual.
#[test]
fn who_reads_a_tenth_more_each_day_is_found_before_it_reads_eight_times_the_usual() {
    let mut crowd = Crowd::new(13).after(14);
    let mut factor: f64 = 1.0;
    let mut found = false;
    for day in 14..60_u32 {
        factor *= 1.1;
        let mut extra = 40.0 * (factor - 1.0);
        let mut number = 0_u64;
        while extra > 0.0 && !found {
            let object = kept(&format!("{day}{number:05}"));
            let second = u64::from(day) * 86_400 + 9 * 3_600 + number * 20 % 28_000;
            found |= crowd
                .ask(second, |request| {
                    request.identity = Some(WHO);
                    request.object = Some(object);
                })
                .is_some();
            number += 1;
            extra -= 1.0;
        }
        if found {
            break;
        }
        crowd.day(day.into());
    }

    assert!(found && factor < 8.0, "{factor}");
}

fn bytes_of(profiles: &Profiles) -> Vec<u8> {
    let mut cursor = profiles.snapshot();
    std::iter::from_fn(|| profiles.piece(&mut cursor)).flatten().collect()
}

fn restored(key: [u8; 16], mut bytes: &[u8]) -> Result<Profiles, SnapshotError> {
    Profiles::restore(Plan::default(), key, &mut bytes)
}

#[test]
fn a_snapshot_is_restored_exactly_and_a_damaged_or_strange_one_is_refused() {
    let mut crowd = Crowd::new(11).after(9);
    let bytes = bytes_of(&crowd.profiles);

    let mut again = restored(KEY, &bytes).unwrap();
    assert_eq!(bytes_of(&again), bytes);
    let now = Timestamp::from_unix_seconds(MONDAY + 8 * 86_400 + 60_000);
    assert_eq!(again.show(WHO, now), crowd.profiles.show(WHO, now));
    std::mem::swap(&mut again, &mut crowd.profiles);
    assert_eq!(crowd.day(9), 0);

    for place in [8, 1_000, bytes.len() / 2, bytes.len() - 1] {
        let mut damaged = bytes.clone();
        damaged[place] ^= 1;
        assert_eq!(restored(KEY, &damaged).unwrap_err(), SnapshotError::Damaged);
    }
    for left in [bytes.len() - 9, bytes.len() - 20, bytes.len() / 2, 9] {
        assert_eq!(restored(KEY, &bytes[..left]).unwrap_err(), SnapshotError::Damaged);
    }
    let longer = [&bytes[..], b"x"].concat();
    assert_eq!(restored(KEY, &longer).unwrap_err(), SnapshotError::Damaged);
    assert_eq!(restored([1; 16], &bytes).unwrap_err(), SnapshotError::Damaged);
    assert_eq!(restored(KEY, b"no profiles").unwrap_err(), SnapshotError::Version);
    assert_eq!(restored(KEY, b"ENFPROF1 of another time").unwrap_err(), SnapshotError::Version);
}

#[test]
fn requests_between_the_pieces_of_a_snapshot_do_it_no_harm() {
    let plan = Plan { identities_max: 1_200, ..Plan::default() };
    let mut crowd = Crowd::new(1);
    crowd.profiles = Profiles::new(plan, KEY);
    let mut next = 0;
    let mut strangers = |crowd: &mut Crowd, many: u64, role: &'static str| {
        for _ in 0..many {
            next += 1;
            let who = kept(&format!("key:{next:012}"));
            crowd.ask(next, |request| {
                request.identity = Some(who);
                request.role = Some(role);
            });
        }
    };
    strangers(&mut crowd, 1_100, "clerk");
    let mut cursor = crowd.profiles.snapshot();
    let (mut bytes, mut largest) = (Vec::new(), 0);

    // Some come, of a group that was not there; others have to go for them.
    while let Some(piece) = crowd.profiles.piece(&mut cursor) {
        largest = largest.max(piece.len());
        bytes.extend(piece);
        strangers(&mut crowd, 300, "newcomer");
    }

    let again = restored(KEY, &bytes).unwrap();
    assert!((900..=1_100).contains(&again.len()), "{}", again.len());
    assert!(largest < 1 << 20, "{largest}");
}

#[test]
fn an_identity_takes_no_more_than_a_kibibyte_and_the_table_is_bounded() {
    let stated = IDENTITY_BYTES;
    assert!((size_of::<identity::Identity>()..=1_024).contains(&stated), "{stated}");

    let plan = Plan { identities_max: 50, ..Plan::default() };
    let mut crowd = Crowd::new(1);
    crowd.profiles = Profiles::new(plan, KEY);
    for number in 0..2_000 {
        let who = kept(&format!("key:{number:012}"));
        crowd.ask(number, |request| request.identity = Some(who));
    }
    assert_eq!(crowd.profiles.len(), 50);
    assert!(
        crowd.profiles.show("key:000000001999", Timestamp::from_unix_seconds(MONDAY)).is_some()
    );
}

#[test]
fn what_is_shown_tells_hours_volumes_and_the_score() {
    let crowd = Crowd::new(2).after(9);
    let now = Timestamp::from_unix_seconds(MONDAY + 8 * 86_400 + 60_000);

    let view = crowd.profiles.show(WHO, now).unwrap();

    assert_eq!((view.identity.as_str(), view.role.as_str()), (WHO, "clerk"));
    assert_eq!(view.hours.len(), 168);
    assert!(view.hours[10] > 0.5 && view.hours[3] < 0.05);
    assert!((20.0..70.0).contains(&view.requests.usual), "{view:?}");
    assert_eq!((view.networks, view.clients), (1, 1));
    assert!(!view.learning && view.score < BITS);
    let listed = crowd.profiles.list(3, now);
    assert_eq!(listed.len(), 3);
    assert!(listed[0].score >= listed[2].score);
    assert!(crowd.profiles.show("key:nobody", now).is_none());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4))]

    #[test]
    fn steady_work_is_never_found_whatever_its_seed(seed: u64) {
        let mut crowd = Crowd::new(seed);
        let found: usize = (0..21).map(|day| crowd.day(day)).sum();
        prop_assert_eq!(found, 0);
    }

    #[test]
    fn bytes_that_are_no_snapshot_never_become_profiles(bytes: Vec<u8>) {
        let mut whole = b"ENFPROF2".to_vec();
        whole.extend(bytes);
        prop_assert!(restored(KEY, &whole).is_err());
    }
}
