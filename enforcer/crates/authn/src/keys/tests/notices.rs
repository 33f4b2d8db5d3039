//! Who is told, and how often.

use std::time::Duration;

use super::*;
use crate::{KeyPlan, NoticeKind};

const DAY: u64 = 86_400;

const NONE: [u64; 0] = [];

#[test]
fn each_notice_is_given_once_as_its_day_comes() {
    let mut home = Home::new();
    home.issue(|new| {
        new.expires = Some(at(NOW + 40 * DAY));
        new.owner = Some("ops".into());
    });
    let mut given = |day: u64| -> Vec<u64> {
        let notices = home.store.give_notices(&plan(), at(NOW + day * DAY)).unwrap();
        notices.iter().map(|notice| notice.seconds_left / DAY).collect()
    };

    assert_eq!(given(9), NONE);
    assert_eq!(given(10), [30]);
    assert_eq!(given(11), NONE);
    assert_eq!(given(33), [7]);
    assert_eq!(given(38), NONE);
    assert_eq!(given(39), [1]);
    assert_eq!(given(39), NONE);
    assert_eq!(given(40), NONE, "it is over");
}

#[test]
fn a_restart_repeats_no_notice() {
    let mut home = Home::new();
    home.issue(|new| new.expires = Some(at(NOW + 5 * DAY)));
    assert_eq!(home.store.give_notices(&plan(), now()).unwrap().len(), 1);

    let mut home = home.restart();

    assert_eq!(home.store.give_notices(&plan(), now()).unwrap(), []);
}

#[test]
fn of_several_notices_that_are_due_at_once_the_most_urgent_is_given() {
    let mut home = Home::new();
    home.issue(|new| new.expires = Some(at(NOW + DAY / 2)));

    let notices = home.store.give_notices(&plan(), now()).unwrap();

    assert_eq!(notices.len(), 1);
    assert_eq!(notices[0].mark.ahead, Duration::from_secs(DAY));
}

#[test]
fn a_rotation_is_due_once_for_each_secret() {
    let mut home = Home::new();
    let (record, _) = home.issue(|_| {});
    let plan = KeyPlan { every: Some(Duration::from_secs(90 * DAY)), ..plan() };
    let given = |home: &mut Home, day| home.store.give_notices(&plan, at(NOW + day * DAY)).unwrap();

    assert_eq!(given(&mut home, 89), []);
    let notices = given(&mut home, 90);
    assert_eq!((notices.len(), notices[0].notice), (1, NoticeKind::Rotation));
    assert_eq!(notices[0].advice, format!("enforcer keys rotate {}", record.id));
    assert_eq!(given(&mut home, 91), []);

    home.store.rotate(&record.name, Duration::ZERO, at(NOW + 91 * DAY)).unwrap();

    assert_eq!(given(&mut home, 92), []);
    assert_eq!(given(&mut home, 181).len(), 1);
}

#[test]
fn nobody_is_told_about_a_revoked_key() {
    let mut home = Home::new();
    let (record, _) = home.issue(|new| new.expires = Some(at(NOW + DAY)));
    home.store.revoke(&record.name, "leaked", now()).unwrap();

    assert_eq!(home.store.give_notices(&plan(), now()).unwrap(), []);
}

#[test]
fn what_is_not_posted_is_found_again_until_it_is() {
    let mut home = Home::new();
    home.issue(|new| new.expires = Some(at(NOW + DAY)));
    let plan = KeyPlan { webhook: Some("https://hook.test/".into()), ..plan() };
    let given = home.store.give_notices(&plan, now()).unwrap();

    let mut home = home.restart();
    let left = home.store.unposted_notices(now()).unwrap();
    assert_eq!(left, given);
    home.store.notice_posted(&left[0].mark, now()).unwrap();

    assert_eq!(home.store.unposted_notices(now()).unwrap(), []);
    assert_eq!(home.restart().store.unposted_notices(now()).unwrap(), []);
}

#[test]
fn without_a_webhook_there_is_nothing_to_post_later() {
    let mut home = Home::new();
    home.issue(|new| new.expires = Some(at(NOW + DAY)));

    assert_eq!(home.store.give_notices(&plan(), now()).unwrap().len(), 1);

    assert_eq!(home.store.unposted_notices(now()).unwrap(), []);
}

#[test]
fn a_notice_for_a_webhook_says_who_what_when_and_what_to_do() {
    let mut home = Home::new();
    let (record, _) = home.issue(|new| {
        (new.name, new.owner) = ("ci".into(), Some("ops".into()));
        new.expires = Some(at(NOW + DAY));
    });

    let notices = home.store.give_notices(&plan(), at(NOW + 60)).unwrap();

    let json = serde_json::to_value(&notices[0]).unwrap();
    let expected = serde_json::json!({
        "notice": "expiry",
        "key": record.id.to_string(),
        "name": "ci",
        "owner": "ops",
        "application": null,
        "due": at(NOW + DAY).to_string(),
        "seconds_left": DAY - 60,
        "given": at(NOW + 60).to_string(),
        "advice": "give its user a new key: `enforcer keys issue`",
    });
    assert_eq!(json, expected);
}

fn plan() -> KeyPlan {
    KeyPlan::default()
}
