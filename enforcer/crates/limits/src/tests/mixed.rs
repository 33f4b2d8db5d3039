//! Several limits of several kinds in one request, and what is told about them.

use std::num::NonZeroU64;
use std::sync::Arc;

use enforcer_model::{Claims, Reason, Rejection, Value};

use super::*;
use crate::{Cost, DEMANDS_MAX, Durability, Override, Period, Unavailable, Why, headers};

#[test]
fn a_refusal_names_the_limit_with_the_longest_wait_and_takes_nothing() {
    let (wide, narrow) = (rate("per_key", By::Key, 1, 10), rate("per_ip", By::Ip, 2, 2));
    let (limits, start) = limits(64);
    let payer = Payer { key: Some(key(1)), ..from(1) };
    let demands = [demand(&wide, &payer), demand(&narrow, &payer)];

    assert!(take(&limits, &demands, start).is_ok());
    assert!(take(&limits, &demands, start).is_ok());
    for _ in 0..20 {
        let refused = take(&limits, &demands, start).unwrap_err();
        assert_eq!((&*refused.limit, refused.by), ("per_ip", Some(By::Ip)));
        assert_eq!(refused.retry_after, Duration::from_millis(500));
    }

    // Of the wide one exactly two are gone: the refusals took nothing.
    for _ in 0..8 {
        assert!(take(&limits, &demands[..1], start).is_ok());
    }
    let refused = take(&limits, &demands, start).unwrap_err();
    assert_eq!((&*refused.limit, refused.retry_after), ("per_key", Duration::from_secs(1)));
}

#[test]
fn a_refusal_by_any_kind_leaves_the_others_untouched() {
    let (per_ip, daily, busy) = (rate("per_ip", By::Ip, 1, 10), quota(10), concurrent(2));
    let (limits, start) = limits(64);
    let payer = from(1);
    let all = [demand(&per_ip, &payer), demand(&daily, &payer), demand(&busy, &payer)];

    let held = [(); 2].map(|()| take(&limits, &all, start).unwrap());
    for _ in 0..20 {
        assert_eq!(take(&limits, &all, start).unwrap_err().why, Why::Concurrent);
    }
    drop(held);
    for _ in 0..8 {
        drop(take(&limits, &all, start).unwrap());
    }

    // Of ten each, ten were admitted; the longest wait is the quota's.
    let refused = take(&limits, &all, start).unwrap_err();
    assert_eq!((refused.why, refused.retry_after), (Why::Quota, Duration::from_secs(13 * 3_600)));
    assert_eq!(take(&limits, &all[..1], start).unwrap_err().why, Why::Rate);
    assert!(take(&limits, &all[2..], start).is_ok());
}

#[test]
fn one_limit_asked_twice_in_a_request_pays_twice_or_not_at_all() {
    for three in [rate("three", By::Ip, 1, 3), quota(3)] {
        let (limits, start) = limits(64);
        let payer = from(1);
        let once = demand(&three, &payer);

        assert!(take(&limits, &[once, once], start).is_ok());
        assert!(take(&limits, &[once, once], start).is_err());
        assert!(take(&limits, &[once], start).is_ok());
        assert!(take(&limits, &[once], start).is_err());
    }
}

#[test]
fn no_demand_is_admitted_and_more_than_a_request_may_have_are_refused() {
    let (limits, start) = limits(64);
    let wide = rate("wide", By::Ip, 1, 100);
    let payer = from(1);

    assert!(take(&limits, &[], start).is_ok());
    assert!(take(&limits, &[demand(&wide, &payer); DEMANDS_MAX], start).is_ok());
    let refused = take(&limits, &[demand(&wide, &payer); DEMANDS_MAX + 1], start).unwrap_err();
    assert_eq!(refused.why, Why::Unavailable(Unavailable::Demands));
    assert_eq!(Rejection::from(refused).reason, Reason::LimitUnavailable);
}

#[test]
fn whoever_lacks_the_attribute_is_counted_by_the_next_best_name_or_with_all_others_who_do() {
    let (ann, payer) = (principal(1), from(1));
    let known = Payer { principal: Some(&ann), ..payer };
    let with_key = Payer { key: Some(key(1)), ..known };
    let subject = |by, payer: &Payer<'_>| rate("l", by, 1, 1).subject(payer).to_string();

    assert_eq!(subject(By::Key, &with_key), "key:bbbbbbbbbbbb");
    assert_eq!(subject(By::Key, &known), "key:bbbbbbbbbbbb");
    assert_eq!(subject(By::Key, &payer), "0.0.0.1");
    assert_eq!(subject(By::Principal, &payer), "0.0.0.1");
    let tenant = By::Claim(["tenant".into()].into());
    for by in [By::Application, By::Region, By::Role, tenant] {
        assert_eq!(subject(by.clone(), &payer), "(absent)");
        let one = rate("one", by, 1, 1);
        let (limits, start) = limits(64);
        assert!(take(&limits, &[demand(&one, &payer)], start).is_ok());
        assert!(take(&limits, &[demand(&one, &from(2))], start).is_err());
    }
}

#[test]
fn a_claim_names_its_bearer_by_text_number_or_flag_and_by_nothing_else() {
    let by = By::Claim(["org".into(), "tenant".into()].into());
    let one = rate("one", by, 1, 1);
    let said = |value| {
        let org = Claims::from_iter([(Arc::from("tenant"), value)]);
        Claims::from_iter([(Arc::from("org"), Value::Table(org))])
    };
    let told = |value| {
        let claims = said(value);
        one.subject(&Payer { claims: Some(&claims), ..from(1) }).to_string()
    };

    assert_eq!(told(Value::Text("acme".into())), "claim:\"acme\"");
    assert_eq!(told(Value::Number(7)), "claim:7");
    assert_eq!(told(Value::Flag(true)), "claim:true");
    assert_eq!(told(Value::List([Value::Text("acme".into())].into())), "(absent)");
    assert_eq!(told(Value::Other), "(absent)");
}

#[test]
fn refusals_become_429_by_whose_bucket_is_empty() {
    let (ann, limits_and_start) = (principal(1), limits(64));
    let (limits, start) = limits_and_start;
    let payer = Payer { principal: Some(&ann), key: Some(key(1)), ..from(1) };
    let reason = |limit: &Limit| {
        let demands = [demand(limit, &payer)];
        let held = take(&limits, &demands, start).unwrap();
        let refused = take(&limits, &demands, start).unwrap_err();
        drop(held);
        assert!(refused.retry_after > Duration::ZERO);
        let rejection = Rejection::from(refused);
        assert_eq!(rejection.reason.status(), 429);
        rejection.reason
    };

    for (by, expected) in [
        (By::Key, Reason::LimitKey),
        (By::Principal, Reason::LimitKey),
        (By::Ip, Reason::LimitSource),
        (By::Prefix { v4: 24, v6: 48 }, Reason::LimitSource),
        (By::Application, Reason::LimitShared),
        (By::Global, Reason::LimitShared),
        (By::Route, Reason::LimitShared),
    ] {
        assert_eq!(reason(&rate(&by.to_string(), by, 1, 1)), expected);
    }
    assert_eq!(reason(&quota(1)), Reason::QuotaUsed);
    assert_eq!(reason(&concurrent(1)), Reason::LimitConcurrent);
}

#[test]
fn networks_share_a_bucket_by_the_lengths_of_the_policy() {
    let nets = rate("nets", By::Prefix { v4: 24, v6: 48 }, 1, 1);
    let subject = |address: &str| {
        let source = Source::new(address.parse().unwrap());
        nets.subject(&Payer::from_source(source, "r", None)).to_string()
    };

    assert_eq!(subject("192.0.2.77"), "192.0.2.0/24");
    assert_eq!(subject("2001:db8:1:2::3"), "2001:db8:1::/48");
}

#[test]
fn time_that_runs_backwards_admits_nothing_more() {
    let one = rate("one", By::Ip, 1, 1);
    let (limits, start) = limits(64);
    let payer = from(1);
    let demands = [demand(&one, &payer)];
    let then = later(start, Duration::from_secs(100));

    assert!(take(&limits, &demands, then).is_ok());

    assert!(take(&limits, &demands, start).is_err());
    assert!(take(&limits, &demands, then).is_err());
}

#[test]
fn the_bytes_of_an_answer_are_a_debt_that_has_to_be_worked_off() {
    let cost: Cost = "response.kib".parse().unwrap();
    let slow = rate("slow", By::Ip, 10, 20).costing(cost);
    let (limits, start) = limits(64);
    let payer = from(1);
    let demands = [demand(&slow, &payer)];

    // Twenty were there; fifty were used: thirty are owed, and one more is needed to begin.
    take(&limits, &demands, start).unwrap().settle(50 << 10, 0);
    let refused = take(&limits, &demands, start).unwrap_err();

    let wait = refused.retry_after;
    assert!(
        wait > Duration::from_millis(2_999) && wait <= Duration::from_millis(3_001),
        "{wait:?}"
    );
    assert!(take(&limits, &demands, later(start, wait)).is_ok());
    // A request that is dropped without an answer owes nothing.
    drop(take(&limits, &demands, later(start, wait)).unwrap());
    assert!(take(&limits, &demands, later(start, wait)).is_ok());
}

#[test]
fn a_body_of_known_length_pays_at_once_and_any_other_when_it_is_over() {
    let cost: Cost = "request.bytes".parse().unwrap();
    let upload = rate("upload", By::Ip, 1_000, 5_000).costing(cost);
    let (limits, start) = limits(64);
    let sized = |bytes| Payer { body: bytes, ..from(1) };

    assert!(take(&limits, &[demand(&upload, &sized(Some(4_000)))], start).is_ok());
    assert!(take(&limits, &[demand(&upload, &sized(Some(2_000)))], start).is_err());
    take(&limits, &[demand(&upload, &sized(None))], start).unwrap().settle(0, 3_000);
    let refused = take(&limits, &[demand(&upload, &sized(None))], start).unwrap_err();
    assert_eq!(refused.retry_after, Duration::from_secs(2) + Duration::from_nanos(1));
}

#[test]
fn places_are_free_again_when_the_request_is_over_however_it_ends() {
    let busy = concurrent(1);
    let (limits, start) = limits(64);
    let payer = from(1);
    let demands = [demand(&busy, &payer)];

    take(&limits, &demands, start).unwrap().settle(1, 1);
    let held = take(&limits, &demands, start).unwrap();
    assert!(take(&limits, &demands, start).is_err());
    assert!(take(&limits, &[demand(&busy, &from(2))], start).is_ok());
    // Two stages of one request become one.
    let both = Taken::default().and(held);
    assert!(take(&limits, &demands, start).is_err());
    drop(both);
    assert!(take(&limits, &demands, start).is_ok());
    assert_eq!(limits.occupancy(start.monotonic).concurrent, 0);
}

#[test]
fn other_numbers_hold_at_once_and_for_their_time_only() {
    let per_ip = rate("per_ip", By::Ip, 1, 2);
    let (limits, start) = limits(64);
    let payer = from(1);
    let demands = [demand(&per_ip, &payer)];
    let more = Override {
        rate: None,
        burst: NonZeroU32::new(5),
        amount: None,
        concurrent: None,
        until: start.wall.saturating_add(Duration::from_secs(60)),
        reason: "launch".into(),
        by: "ann".into(),
    };
    let left = |at: Moment| (0..100).take_while(|_| take(&limits, &demands, at).is_ok()).count();

    assert_eq!(left(start), 2);
    assert_eq!(limits.set_override(per_ip.name(), more.clone(), start.wall), Ok(None));
    // The bucket keeps its time: three more, not five.
    assert_eq!(left(start), 3);
    assert_eq!(limits.override_of("per_ip", start.wall), Some(more));
    assert_eq!(left(later(start, Duration::from_secs(50))), 5);
    assert_eq!(left(later(start, Duration::from_secs(100))), 2);
    assert_eq!(limits.override_of("per_ip", later(start, Duration::from_secs(60)).wall), None);
}

#[test]
fn callers_are_told_what_is_left_only_where_the_policy_wants_it() {
    let (told, silent) = (rate("told", By::Ip, 2, 10).with_headers(), rate("silent", By::Ip, 1, 3));
    let daily = quota(50).with_headers();
    let (limits, start) = limits(64);
    let payer = from(1);
    let demands = [demand(&told, &payer), demand(&silent, &payer), demand(&daily, &payer)];

    let taken = take(&limits, &demands, start).unwrap();

    let headers = headers(taken.levels()).unwrap();
    assert_eq!(headers.limit, "\"told\";r=9;t=1, \"daily\";r=49;t=46800");
    assert_eq!(headers.policy, "\"told\";q=10;w=5, \"daily\";q=50;w=86400");
    for _ in 0..2 {
        assert!(take(&limits, &demands, start).is_ok());
    }
    assert_eq!(take(&limits, &demands, start).unwrap_err().level, None);
    for _ in 0..7 {
        assert!(take(&limits, &demands[..1], start).is_ok());
    }
    let level = take(&limits, &demands[..1], start).unwrap_err().level.unwrap();
    assert_eq!((level.quota, level.remaining, level.reset), (10, 0, Duration::from_secs(5)));
}

#[test]
fn where_a_subject_stands_is_told_without_taking_anything() {
    let (per_ip, daily, busy) = (rate("per_ip", By::Ip, 1, 10), quota(10), concurrent(2));
    let (limits, start) = limits(64);
    let payer = from(1);
    let all = [demand(&per_ip, &payer), demand(&daily, &payer), demand(&busy, &payer)];
    let held = [(); 2].map(|()| take(&limits, &all, start).unwrap());

    for _ in 0..3 {
        let used = all.map(|demand| limits.standing(&demand, start).used);
        assert_eq!(used, [2, 2, 2]);
    }
    drop(held);
    let later = later(start, Duration::from_secs(1));
    assert_eq!(all.map(|demand| limits.standing(&demand, later).used), [1, 2, 0]);
    assert_eq!(limits.standing(&all[0], later).full_in, Some(Duration::from_secs(1)));
    assert_eq!(limits.quota_levels("daily", 5, later.wall)[0].subject, "0.0.0.1");
}

fn quota(amount: u64) -> Limit {
    let amount = NonZeroU64::new(amount).unwrap();
    let durability = Durability::Background;
    Limit::new("daily", By::Ip, Kind::Quota { amount, period: Period::Day, durability })
}

fn concurrent(most: u32) -> Limit {
    Limit::new("busy", By::Ip, Kind::Concurrent(NonZeroU32::new(most).unwrap()))
}
