//! Finding again what happened to one key, one source, one request, one block.

use std::sync::Arc;

use enforcer_audit::{Log, Record, Selector};
use enforcer_model::{Reason, Timestamp};

use crate::lab::{Lab, block, note, refused, request};

async fn log() -> (Lab, Log) {
    let lab = Lab::new();
    let (audit, _) = lab.open().unwrap();
    let mut forged = refused(3, "198.51.100.9:5", Reason::NoRoute);
    forged.host = Some("203.0.113.7".to_owned());
    forged.path = Some("/k7Qx2mP9aB3c/B-7K2Q4XW".to_owned());
    forged.credential = None;
    forged.route = None;
    for record in [
        Record::Http(Arc::new(request(1, "192.0.2.4:1"))),
        Record::Http(Arc::new(refused(2, "203.0.113.7:2", Reason::KeyUnknown))),
        Record::Http(Arc::new(forged)),
        Record::Block(block("B-7K2Q4XW", "203.0.113.0/24")),
        Record::Block(block("B-0000001", "key:k7Qx2mP9aB3c")),
        note(9),
    ] {
        audit.append(record).await.unwrap();
    }
    audit.close().await.unwrap();
    let log = Log::open_read_only(&lab.directory()).unwrap();
    (lab, log)
}

#[tokio::test]
async fn a_trail_has_every_record_of_its_selector_and_no_other() {
    let (_lab, log) = log().await;
    let records = log.records(0..log.size()).unwrap().map(|it| it.unwrap());
    // Beside these stands what their handles mean.
    let records = records.filter(|it| it.header().unwrap().class != "subject");
    let written: Vec<_> = records.map(|it| it.index).collect();

    for (selector, expected) in [
        ("key:k7Qx2mP9aB3c", vec![0, 4]),
        ("principal:key:k7Qx2mP9aB3c", vec![0]),
        ("203.0.113.7", vec![1, 3]),
        ("203.0.113.0/25", vec![1, 3]),
        ("192.0.2.0/24", vec![0]),
        ("2001:db8::/32", vec![]),
        ("abababababababababababababababab", vec![0, 1]),
        ("00000000000000000000000000000002", vec![1]),
        ("B-7K2Q4XW", vec![3]),
        ("route:orders", vec![0, 1]),
    ] {
        let selector: Selector = selector.parse().unwrap();
        let found = log.trail(selector.clone(), None).unwrap().map(|it| it.unwrap().index);
        let found: Vec<_> = found.map(|index| written.iter().position(|it| *it == index)).collect();

        assert_eq!(found, expected.into_iter().map(Some).collect::<Vec<_>>(), "{selector}");
    }
}

#[tokio::test]
async fn a_trail_begins_where_it_is_asked_to() {
    let (_lab, log) = log().await;
    let first = log.record(0).unwrap().header().unwrap().time;
    let later = Timestamp::from_unix_seconds(first.unix_seconds() + 3_600);
    let key = || "key:k7Qx2mP9aB3c".parse().unwrap();

    assert_eq!(log.trail(key(), Some(first)).unwrap().count(), 2);
    assert_eq!(log.trail(key(), Some(later)).unwrap().count(), 0);
}
