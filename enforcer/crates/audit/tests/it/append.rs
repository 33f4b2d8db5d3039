//! Writing: what is acknowledged can be read, in order, and nothing is ever taken in silence.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::sync::Arc;
use std::time::Duration;

use enforcer_audit::{
    Audit, Config, ConfigChange, ConfigEvent, FindingMode, FindingRecord, Full, Health,
    KernelCount, KernelSummary, Layer, ListChange, ListCounts, ListEvent, Log, Lost, OpenError,
    Record, Stored,
};
use enforcer_model::{Author, Expiry, FailureCount, Failures, Offence, SystemClock, Timestamp};
use serde_json::json;

use crate::lab::{Lab, append_many, block, note, number_of, request};

#[tokio::test]
async fn an_acknowledged_record_is_readable_and_verified_at_once() {
    let lab = Lab::new();
    let (audit, opened) = lab.open().unwrap();

    let index = audit.append(note(7)).await.unwrap();

    assert!(opened.created);
    assert_eq!(index, 0);
    let log = Log::open_read_only(&lab.directory()).unwrap();
    assert_eq!(number_of(&log.record(0).unwrap()), 7);
    let report = lab.verify().unwrap();
    assert_eq!((report.checkpoint.size, report.tail_records), (1, 0));
    let state = audit.state();
    assert_eq!((state.size, state.root), (1, report.checkpoint.root));
    assert_eq!(&*state.checkpoint, log.note());
    assert_eq!(state.health, Health::Serving);
}

#[tokio::test]
async fn records_keep_their_order_over_segments_tiles_and_restarts() {
    let lab = Lab::with_segments(10_000).with_records(1_000).await;

    let (audit, opened) = lab.open().unwrap();
    append_many(&audit, 1_000..2_000).await;
    audit.close().await.unwrap();

    assert_eq!((opened.size, opened.recovered, opened.created), (1_000, 0, false));
    let report = lab.verify().unwrap();
    assert_eq!((report.checkpoint.size, report.sealed), (2_000, 0));
    assert!(report.segments > 2, "{}", report.segments);
    let log = Log::open_read_only(&lab.directory()).unwrap();
    for range in [0..2_000, 255..257, 700..701, 1_999..2_005] {
        let records = log.records(range.clone()).unwrap();
        let numbers: Vec<u64> = records.map(|record| number_of(&record.unwrap())).collect();
        assert_eq!(numbers, (range.start..range.end.min(2_000)).collect::<Vec<_>>());
    }
    let tail = log.tail(3).unwrap().map(|record| record.unwrap().index);
    assert_eq!(tail.collect::<Vec<_>>(), [1_997, 1_998, 1_999]);
}

#[tokio::test]
async fn every_class_of_record_has_its_documented_form() {
    let lab = Lab::new();
    let (audit, _) = lab.open().unwrap();
    let finding = Offence {
        rule: "key-guessing".to_owned(),
        target: "203.0.113.7".parse().unwrap(),
        through: None,
        failures: FailureCount {
            seen: 10,
            window: Duration::from_secs(10),
            of: Failures::Authentication,
        },
        ttl: Duration::from_secs(900),
        evidence: vec![enforcer_model::RequestId::from_bits(0x1f)],
    };
    let records = [
        Record::Http(Arc::new(request(0xfeed, "203.0.113.7:4711"))),
        note(0),
        Record::Block(block("B-7K2Q4XW", "203.0.113.7")),
        Record::Config(ConfigChange {
            what: ConfigEvent::PolicyApplied,
            by: None,
            policy: Some("ab".into()),
            program: None,
            kernel_program: Some("3b185187f1855c4c".to_owned()),
            detail: None,
        }),
        Record::Finding(FindingRecord {
            finding,
            mode: FindingMode::Auto,
            block: Some("B-7K2Q4XW".parse().unwrap()),
            detail: None,
        }),
        Record::KernelSummary(KernelSummary {
            from: Timestamp::from_unix_seconds(0),
            until: Timestamp::from_unix_seconds(1),
            counts: vec![KernelCount {
                verdict: "drop".to_owned(),
                reason: "blocked".to_owned(),
                packets: 3,
                bytes: 180,
            }],
        }),
        Record::List(Box::new(ListChange {
            what: ListEvent::Imported,
            list: "drop-feed".to_owned(),
            id: "B-7K2Q4XW".parse().unwrap(),
            reason: "daily feed".to_owned(),
            author: Author::Agent,
            since: Timestamp::from_unix_seconds(0),
            until: Expiry::Never,
            networks: 1_000_000,
            sha256: "ab".to_owned(),
            counts: ListCounts { duplicates: 1, contained: 2, refused: 3, removed: 4 },
            layers: vec![Layer::Proxy],
            took: Some(Duration::from_millis(420)),
            detail: None,
        })),
    ];
    for record in records {
        audit.append(record).await.unwrap();
    }

    let log = Log::open_read_only(&lab.directory()).unwrap();
    let records = log.records(0..log.size()).unwrap().map(|it| it.unwrap());
    // What the handles of the others stand for.
    let records = records.filter(|it| it.header().unwrap().class != "subject");
    let bodies: Vec<_> = records.map(|it| body(&it)).collect();

    assert_eq!(
        bodies,
        [
            r#"http {"id":"0000000000000000000000000000feed","at":"2027-01-15T08:00:00.000000Z","peer":"203.0.113.7:4711","listener":"public","tls":"1.3","http":"2","method":"GET","host":"api.example.com","path":"/v1/orders/7","route":"orders","who":{"principal":"key:k7Qx2mP9aB3c","key":"k7Qx2mP9aB3c","kind":"api-key","role":"reader"},"credential":"abababababababababababababababab","status":200,"reason":null,"cause":null,"rule":"orders.allow[1]","upstream":"127.0.0.1:9000","bytes_in":0,"bytes_out":512,"duration_us":1500,"upstream_us":1200,"policy":"5f5f5f5f5f5f5f5f5f5f5f5f5f5f5f5f5f5f5f5f5f5f5f5f5f5f5f5f5f5f5f5f"}"#,
            r#"admin {"operator":{"operator":{"uid":0,"name":"root"}},"verb":"note 0","arguments":[],"outcome":"done","detail":null}"#,
            r#"block {"what":"applied","block":{"id":"B-7K2Q4XW","target":"203.0.113.7","reason":"10 failures of authentication in 10s","author":{"rule":"key-guessing"},"since":"2027-01-15T08:00:00.000000Z","until":"2027-01-15T08:15:00.000000Z"},"layers":["proxy",{"kernel":{"interface":"eth1","mode":"native"}}],"took_us":420,"detail":null}"#,
            r#"config {"what":"policy-applied","by":null,"policy":"ab","program":null,"kernel_program":"3b185187f1855c4c","detail":null}"#,
            r#"finding {"rule":"key-guessing","target":"203.0.113.7","failures":10,"window_us":10000000,"ttl_us":900000000,"evidence":["0000000000000000000000000000001f"],"mode":"auto","block":"B-7K2Q4XW","detail":null}"#,
            r#"kernel-summary {"from":"1970-01-01T00:00:00.000000Z","until":"1970-01-01T00:00:01.000000Z","counts":[{"verdict":"drop","reason":"blocked","packets":3,"bytes":180}]}"#,
            r#"list {"what":"imported","list":"drop-feed","id":"B-7K2Q4XW","reason":"daily feed","author":"agent","since":"1970-01-01T00:00:00.000000Z","until":"forever","networks":1000000,"sha256":"ab","counts":{"duplicates":1,"contained":2,"refused":3,"removed":4},"layers":["proxy"],"took_us":420000,"detail":null}"#,
        ]
    );
}

#[tokio::test]
async fn a_record_that_an_attacker_made_long_is_cut_and_says_how_much_is_missing() {
    let lab = Lab::new();
    let (audit, _) = lab.open().unwrap();
    let mut exchange = request(1, "203.0.113.7:1");
    exchange.path = Some("/ä".repeat(20_000));
    exchange.cause = Some("\u{1}".repeat(70_000));
    exchange.host = Some("\u{1}".repeat(70_000));

    audit.append(Record::Http(Arc::new(exchange))).await.unwrap();

    let log = Log::open_read_only(&lab.directory()).unwrap();
    let stored = log.record(log.size() - 1).unwrap();
    let json = stored.json().unwrap();
    assert!(stored.text.len() <= 65_535);
    let path = json.pointer("/body/path").unwrap().as_str().unwrap();
    assert!(path.starts_with("/ä/ä") && path.contains(" of 60000 bytes]"), "{path}");
    assert_eq!(json.pointer("/body/status"), Some(&json!(200)), "the rest is whole");
    lab.verify().unwrap();
}

#[tokio::test]
async fn a_full_queue_refuses_at_once_and_a_gap_counts_the_refusals_exactly() {
    let lab = Lab::with_queue(4);
    let (audit, _) = lab.open().unwrap();
    let slots: Vec<_> = (0..4).map(|_| audit.reserve().unwrap()).collect();

    let refused = (0..1_000).filter(|_| audit.reserve().err() == Some(Full::Queue)).count();
    drop(slots);
    let stored = audit.append(note(1)).await.unwrap();
    let state = audit.state();
    audit.close().await.unwrap();

    assert_eq!(refused, 1_000);
    assert_eq!((state.refused, state.waiting), (1_000, 0));
    let log = Log::open_read_only(&lab.directory()).unwrap();
    let gaps: Vec<_> = log.records(0..10).unwrap().map(|it| it.unwrap()).filter(is_gap).collect();
    assert_eq!(gaps.len(), 1);
    let json = gaps[0].json().unwrap();
    assert_eq!(json.pointer("/body/records"), Some(&json!(1_000)));
    assert_eq!(json.pointer("/body/why"), Some(&json!("queue-full")));
    assert_ne!(gaps[0].index, stored);
}

#[tokio::test]
async fn whoever_waits_for_room_gets_it_when_there_is_some_and_is_counted_once_when_not() {
    let lab = Lab::with_queue(1);
    let (audit, _) = lab.open().unwrap();
    let slot = audit.reserve().unwrap();

    let refused = audit.reserve_within(Duration::from_millis(20)).await.err();
    assert_eq!(refused, Some(Full::Queue));
    assert_eq!(audit.state().refused, 1);

    let waiting = tokio::spawn({
        let audit = audit.clone();
        async move { audit.reserve_within(Duration::from_secs(60)).await.is_ok() }
    });
    tokio::task::yield_now().await;
    drop(slot);
    assert!(waiting.await.unwrap());
    assert_eq!(audit.state().refused, 1);
}

#[tokio::test]
async fn offered_is_stored_plus_counted_under_a_flood_from_many_threads() {
    let lab = Lab::with_queue(64);
    let (audit, _) = lab.open().unwrap();

    let flood = |audit: Audit| move || (0..20_000).filter(|it| offer(&audit, *it)).count();
    let threads: Vec<_> = (0..4).map(|_| std::thread::spawn(flood(audit.clone()))).collect();
    let stored: usize = threads.into_iter().map(|thread| thread.join().unwrap()).sum();
    let refused = audit.state().refused;
    audit.close().await.unwrap();

    assert_eq!(stored as u64 + refused, 80_000);
    let log = Log::open_read_only(&lab.directory()).unwrap();
    let (mut notes, mut counted) = (0, 0);
    for record in log.records(0..u64::MAX).unwrap().map(Result::unwrap) {
        match is_gap(&record) {
            true => counted += record.json().unwrap()["body"]["records"].as_u64().unwrap(),
            false => notes += 1,
        }
    }
    assert_eq!((notes, counted), (stored as u64, refused));
    lab.verify().unwrap();
}

#[tokio::test]
async fn a_slot_that_is_dropped_unwritten_is_free_again() {
    let lab = Lab::with_queue(1);
    let (audit, _) = lab.open().unwrap();

    for _ in 0..10 {
        drop(audit.reserve().unwrap());
    }

    assert_eq!(audit.append(note(0)).await, Ok(0));
    assert_eq!(audit.append(note(1)).await, Ok(1));
}

#[tokio::test]
async fn a_second_writer_is_refused_until_the_first_has_closed() {
    let lab = Lab::new();
    let (audit, _) = lab.open().unwrap();

    let second = lab.open().unwrap_err();

    assert!(matches!(second, OpenError::Locked(_)));
    assert!(second.to_string().contains("another agent"), "{second}");
    audit.close().await.unwrap();
    assert!(lab.open().is_ok());
}

#[tokio::test]
async fn a_closed_log_refuses_and_says_so() {
    let lab = Lab::new();
    let (audit, _) = lab.open().unwrap();
    let other = audit.clone();
    let late = other.reserve().unwrap();

    audit.append(note(0)).await.unwrap();
    assert_eq!(audit.close().await, Ok(1));

    assert_eq!(other.reserve().err(), Some(Full::Closed));
    assert_eq!(late.write(note(1)).committed().await, Err(Lost::Closed));
    assert_eq!(other.state().waiting, 0);
}

#[tokio::test]
async fn a_key_that_others_may_read_is_refused_with_the_way_out() {
    let lab = Lab::new().with_records(1).await;
    let key = lab.directory().join("key");
    assert_eq!(fs::metadata(&key).unwrap().permissions().mode() & 0o777, 0o600);

    for mode in [0o640, 0o604, 0o644, 0o660] {
        fs::set_permissions(&key, fs::Permissions::from_mode(mode)).unwrap();
        let refused = lab.open().unwrap_err();

        assert!(matches!(refused, OpenError::KeyMode { .. }), "{mode:o}");
        assert!(refused.to_string().contains(&format!("{mode:04o}")), "{refused}");
        assert!(refused.hint().contains("chmod 600"), "{}", refused.hint());
    }
    fs::set_permissions(&key, fs::Permissions::from_mode(0o600)).unwrap();
    assert!(lab.open().is_ok());
}

#[tokio::test]
async fn a_log_keeps_its_name() {
    let lab = Lab::new().with_records(1).await;

    let renamed = Config::new(lab.directory(), "other.example/enforcer");
    let refused = Audit::open(renamed, Arc::new(SystemClock)).unwrap_err();
    let unnameable = Config::new(lab.beside("other"), "two words");
    let unnamed = Audit::open(unnameable, Arc::new(SystemClock)).unwrap_err();

    assert!(matches!(refused, OpenError::OtherOrigin { .. }));
    assert!(refused.hint().contains("host.example/enforcer"), "{}", refused.hint());
    assert!(matches!(unnamed, OpenError::Origin(_)));
}

#[tokio::test]
async fn a_subscriber_sees_every_committed_record_in_order() {
    let lab = Lab::new();
    let (audit, _) = lab.open().unwrap();
    let mut committed = audit.subscribe();

    append_many(&audit, 0..500).await;

    for number in 0..500 {
        let stored = committed.recv().await.unwrap();
        assert_eq!((stored.index, number_of(&stored)), (number, number));
    }
}

#[tokio::test]
async fn a_log_that_is_taken_away_is_noticed_and_nothing_more_is_accepted() {
    type Take = fn(&Lab);
    let removes: [Take; 3] = [
        |lab| fs::remove_file(lab.segment()).unwrap(),
        |lab| fs::rename(lab.segment(), lab.beside("stolen")).unwrap(),
        |lab| fs::rename(lab.directory(), lab.beside("moved")).unwrap(),
    ];
    for remove in removes {
        let lab = Lab::new();
        let (audit, _) = lab.open().unwrap();
        audit.append(note(0)).await.unwrap();

        remove(&lab);
        let lost = audit.append(note(1)).await.unwrap_err();

        assert!(lost.to_string().contains("moved away"), "{lost}");
        assert!(matches!(audit.reserve().err(), Some(Full::Failed(_))));
        assert!(matches!(audit.state().health, Health::Failed(_)));
    }
}

fn offer(audit: &Audit, number: u64) -> bool {
    match audit.reserve() {
        Ok(slot) => {
            drop(slot.write(note(number)));
            true
        }
        Err(_) => false,
    }
}

fn is_gap(stored: &Stored) -> bool {
    stored.header().unwrap().class == "gap"
}

fn body(stored: &Stored) -> String {
    let header = stored.header().unwrap();
    assert_eq!((header.v, header.index), (1, stored.index));
    let (_, body) = stored.text.split_once(r#","body":"#).unwrap();
    format!("{} {}", header.class, body.strip_suffix('}').unwrap())
}
