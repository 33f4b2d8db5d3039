//! An index makes an answer fast and never changes it; what it leaves out can be proven.

use std::fs;
use std::sync::Arc;
use std::time::Duration;

use enforcer_audit::index::{self, Keeper, ProofError, SegmentProof, Statement};
use enforcer_audit::{Condition, Log, Order, Query, Record, Selector, Stored, Verdict};
use enforcer_model::{
    CredentialKind, Exchange, Fingerprint, KeyId, Principal, Reason, RequestId, Who,
};
use proptest::prelude::*;

use crate::lab::{Lab, block, note, refused, request};

/// Records in a segment; no multiple of anything.
const SEGMENT_RECORDS: usize = 203;

/// One record, by a few small choices.
#[derive(Clone, Copy, Debug)]
struct Choice {
    kind: u8,
    who: u8,
    from: u8,
    id: u16,
}

fn choices(count: usize) -> impl Strategy<Value = Vec<Choice>> {
    let one = (0..12u8, 0..6u8, 0..10u8, any::<u16>()).prop_map(|(kind, who, from, id)| Choice {
        kind,
        who,
        from,
        id,
    });
    proptest::collection::vec(one, count..count + 300)
}

fn record(choice: Choice) -> Record {
    let Choice { kind, who, from, id } = choice;
    let peer = match from {
        0..5 => format!("203.0.113.{from}:4711"),
        5..8 => format!("[2001:db8:0:{from}::7]:4711"),
        _ => format!("198.51.{from}.1:4711"),
    };
    match kind {
        0 => Record::Block(block("B-7K2Q4XW", "203.0.113.0/25")),
        1 => Record::Block(block("B-0000001", "key:k7Qx2mP9aB3c")),
        2 => Record::Block(block("B-0000002", "2001:db8::/32")),
        3 => note(u64::from(id)),
        4 => Record::Http(Arc::new(refused(u128::from(id), &peer, Reason::KeyUnknown))),
        _ => Record::Http(Arc::new(asked(id, who, &peer))),
    }
}

fn asked(id: u16, who: u8, peer: &str) -> Exchange {
    let key: KeyId = format!("k7Qx2mP9aB3{who}").parse().unwrap();
    Exchange {
        id: RequestId::from_bits(u128::from(id)),
        credential: Some(Fingerprint([who; 16])),
        who: Some(if who < 4 {
            Who { key: Some(key), ..Who::new(Principal::from_key(key), CredentialKind::ApiKey) }
        } else {
            let mut caller = Who::new(
                Principal::from_key("k7Qx2mP9aB3c".parse().unwrap()),
                CredentialKind::Token,
            );
            caller.token = Some(format!("token \"{who}\"").into());
            caller
        }),
        route: Some(if who.is_multiple_of(2) { "orders".into() } else { "stock".into() }),
        status: if id.is_multiple_of(7) { 503 } else { 200 },
        incident: u8::from(id.is_multiple_of(11)),
        ..request(1, peer)
    }
}

fn selectors() -> Vec<Selector> {
    [
        "203.0.113.2",
        "203.0.113.0/24",
        "203.0.113.0/30",
        "203.0.112.0/23",
        "198.51.9.0/24",
        "192.0.2.1",
        "0.0.0.0/0",
        "2001:db8:0:6::7",
        "2001:db8:0:6::/64",
        "2001:db8::/44",
        "2001:db9::/48",
        "key:k7Qx2mP9aB3c",
        "key:k7Qx2mP9aB32",
        "principal:key:k7Qx2mP9aB33",
        "principal:nobody",
        "route:orders",
        "rule:orders.allow[1]",
        "rule:key-guessing",
        "token:token \"5\"",
        "incident:1",
        "incident:3",
        "incident:INC-0042",
        "F-7K2Q4XW",
        "B-7K2Q4XW",
        "B-0000009",
        "02020202020202020202020202020202",
        "fingerprint:03030303030303030303030303030303",
        "0000000000000000000000000000002a",
        "request:00000000000000000000000000000007",
    ]
    .map(|text| text.parse().unwrap())
    .to_vec()
}

async fn filled(choices: &[Choice]) -> Lab {
    let lab = Lab::in_memory();
    let (audit, _) = lab.open().unwrap();
    for choices in choices.chunks(SEGMENT_RECORDS) {
        let mut tickets = Vec::new();
        for choice in choices {
            tickets.push(audit.reserve().unwrap().write(record(*choice)));
        }
        for ticket in tickets {
            ticket.committed().await.unwrap();
        }
        audit.roll().await.unwrap();
    }
    audit.close().await.unwrap();
    lab
}

/// Indexes every closed segment and has the log vouch for it.
async fn keep(lab: &Lab) {
    let (audit, _) = lab.open().unwrap();
    let mut keeper = Keeper::new(audit.clone(), lab.directory());
    let report = keeper.pass(&|| false).unwrap();
    assert!(report.segments > 2 && report.impossible == 0, "{report:?}");
    audit.append(note(0)).await.unwrap();
    drop(keeper);
    audit.close().await.unwrap();
}

fn numbers(log: &Log, query: Query) -> (Vec<u64>, u64) {
    let mut search = log.search(query).unwrap();
    let found = search.by_ref().map(|record| record.unwrap().index).collect();
    (found, search.unindexed())
}

fn all(log: &Log) -> Vec<Stored> {
    log.records(0..log.size()).unwrap().map(Result::unwrap).collect()
}

fn scanned(all: &[Stored], query: &Query) -> Vec<u64> {
    all.iter().filter(|record| query.matches(record)).map(|record| record.index).collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1, ..ProptestConfig::default() })]

    #[test]
    fn an_index_answers_as_reading_everything_does(choices in choices(700)) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let lab = runtime.block_on(filled(&choices));
        runtime.block_on(keep(&lab));
        let log = Log::open_read_only(&lab.directory()).unwrap();
        let all = all(&log);
        let half = log.record(log.size() / 2).unwrap().header().unwrap().time;
        let filters = [
            vec![],
            vec![Condition::Class(vec!["block".into(), "admin".into()])],
            vec![Condition::Status(vec![500..=599])],
            vec![Condition::Reason(vec!["key-unknown".into()])],
            vec![Condition::Verdict(Verdict::Refused)],
            vec![Condition::Who("route:orders".parse().unwrap())],
        ];
        // Each selector alone, and with one of the filters.
        for (turn, selector) in selectors().into_iter().enumerate() {
            for filter in [&filters[0], &filters[turn % filters.len()]] {
                let mut conditions = filter.clone();
                conditions.push(Condition::Who(selector.clone()));
                let query = Query { conditions, ..Query::default() };
                let mut expected = scanned(&all, &query);

                let (found, unindexed) = numbers(&log, query.clone());
                prop_assert_eq!(&found, &expected, "{}", selector);
                // Networks of addresses that lie apart are looked for in the records.
                let is_read = matches!(selector, Selector::Network(network) if !network.is_single());
                prop_assert!(unindexed == 0 || is_read, "{selector}");
                let since = Query { since: Some(half), ..query.clone() };
                prop_assert_eq!(numbers(&log, since.clone()).0, scanned(&all, &since));
                let until = Query { until: Some(half), ..query.clone() };
                prop_assert_eq!(numbers(&log, until.clone()).0, scanned(&all, &until));
                expected.reverse();
                let newest = Query { order: Order::NewestFirst, ..query };
                prop_assert_eq!(numbers(&log, newest).0, expected);
            }
        }
    }

    #[test]
    fn a_proof_names_exactly_the_records_of_its_selector(choices in choices(700)) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let lab = runtime.block_on(filled(&choices));
        runtime.block_on(keep(&lab));
        let log = Log::open_read_only(&lab.directory()).unwrap();
        let all = all(&log);
        for selector in selectors() {
            let query = Query {
                conditions: vec![Condition::Who(selector.clone())],
                ..Query::default()
            };
            let expected = scanned(&all, &query);
            let proofs = index::prove(&log, &selector, 0..log.size()).unwrap();
            let is_read = matches!(selector, Selector::Network(network) if !network.is_single());
            let mut covered = 0;
            for proof in proofs {
                let proof = SegmentProof::parse(&proof.to_text()).unwrap();
                let range = proof.first..proof.end;
                let Some(statement) = proof.statement() else { continue };
                covered += 1;
                let statement = Statement::of(&log.record(statement).unwrap().text).unwrap();
                let proven = proof.verify(&selector, &statement).unwrap();

                let mut here = expected.iter().filter(|number| range.contains(number));
                prop_assert!(here.all(|number| proven.contains(number)), "{selector}: withheld");
                let other: Selector = "principal:somebody".parse().unwrap();
                if !matches!(selector, Selector::Principal(_)) {
                    prop_assert!(proof.verify(&other, &statement).is_err());
                }
                // What is more than the selector selects tells what handles stand for, is of a
                // caller's key, or of the next wider network.
                let more = proven.iter().filter(|number| !expected.contains(number));
                for record in more.map(|number| log.record(*number).unwrap()) {
                    let is_wider = matches!(selector, Selector::Network(_) | Selector::Principal(_));
                    prop_assert!(is_wider || record.text.contains("subject"), "{selector}");
                }
            }
            prop_assert!(covered > 1 || is_read, "{selector}");
        }
    }
}

fn rich(count: u16) -> Vec<Choice> {
    let one =
        |id: u16| Choice { kind: (id % 12) as u8, who: (id % 5) as u8, from: (id % 9) as u8, id };
    (0..count).map(one).collect()
}

#[tokio::test]
async fn a_proof_with_a_record_withheld_added_or_moved_is_refused() {
    let lab = filled(&rich(1_500)).await;
    keep(&lab).await;
    let log = Log::open_read_only(&lab.directory()).unwrap();
    let selector: Selector = "fingerprint:02020202020202020202020202020202".parse().unwrap();
    let proof = index::prove(&log, &selector, 0..1).unwrap().remove(0);
    let statement = log.record(proof.statement().unwrap()).unwrap();
    let statement = Statement::of(&statement.text).unwrap();
    let text = proof.to_text();
    let line = text.lines().find(|line| line.starts_with("records ")).unwrap();
    let numbers: Vec<&str> = line.split(' ').skip(1).collect();
    assert!(numbers.len() > 2);
    assert!(proof.verify(&selector, &statement).is_ok());

    for gone in 0..numbers.len() {
        let mut fewer = numbers.clone();
        fewer.remove(gone);
        let forged = text.replace(line, &format!("records {}", fewer.join(" ")));
        let forged = SegmentProof::parse(&forged).unwrap();
        assert_eq!(forged.verify(&selector, &statement), Err(ProofError::Path));
    }
    let more = text.replace(line, &format!("{line} {}", proof.end - 1));
    let more = SegmentProof::parse(&more).unwrap();
    assert!(more.verify(&selector, &statement).is_err());
    for (name, forged) in [
        ("keys", text.replace("key fingerprint ", "key request ")),
        ("place", text.replacen("present ", "present 1", 1)),
    ] {
        let verified =
            SegmentProof::parse(&forged).and_then(|proof| proof.verify(&selector, &statement));
        assert!(verified.is_err(), "{name}");
    }
    let nobody: Selector = "fingerprint:99999999999999999999999999999999".parse().unwrap();
    let absent = index::prove(&log, &nobody, 0..1).unwrap().remove(0);
    assert_eq!(absent.verify(&nobody, &statement), Ok(vec![]));
    assert_eq!(absent.verify(&selector, &statement), Err(ProofError::Names));
}

#[tokio::test]
async fn the_live_tail_is_told_as_not_covered() {
    let lab = filled(&rich(1_500)).await;
    keep(&lab).await;
    let log = Log::open_read_only(&lab.directory()).unwrap();

    let proofs = index::prove(&log, &"route:orders".parse().unwrap(), 0..log.size()).unwrap();

    assert!(proofs.is_sorted_by(|one, next| one.end == next.first));
    let last = proofs.last().unwrap();
    assert_eq!((last.end, last.statement()), (log.size(), None));
    assert!(proofs.iter().rev().skip(1).all(|proof| proof.statement().is_some()));
}

#[tokio::test]
async fn a_damaged_or_missing_index_makes_a_search_slower_and_never_wrong() {
    let lab = filled(&rich(1_500)).await;
    keep(&lab).await;
    let directory = lab.directory();
    let log = Log::open_read_only(&directory).unwrap();
    let selector: Selector = "key:k7Qx2mP9aB32".parse().unwrap();
    let query = Query { conditions: vec![Condition::Who(selector)], ..Query::default() };
    let expected = scanned(&all(&log), &query);
    assert_eq!(numbers(&log, query.clone()), (expected.clone(), 0));
    let path = directory.join("index/00000000000000000000.idx");
    let genuine = fs::read(&path).unwrap();

    for at in (0..genuine.len()).step_by(691).chain(genuine.len() - 8..genuine.len()) {
        let mut bytes = genuine.clone();
        bytes[at] ^= 1 << (at % 8);
        fs::write(&path, &bytes).unwrap();
        assert_eq!(numbers(&log, query.clone()).0, expected, "byte {at}");
        assert_eq!(index::damaged_files(&directory).unwrap(), [0], "byte {at}");
    }
    for length in [0, 31, 4_096, genuine.len() - 1] {
        fs::write(&path, &genuine[..length]).unwrap();
        assert_eq!(numbers(&log, query.clone()), (expected.clone(), 1), "{length} bytes");
    }
    let other = fs::read_dir(directory.join("index")).unwrap().map(|entry| entry.unwrap().path());
    let other = other.filter(|it| it.extension().is_some_and(|it| it == "idx") && *it != path);
    fs::copy(other.min().unwrap(), &path).unwrap();
    assert_eq!(numbers(&log, query.clone()), (expected.clone(), 1), "of another segment");
    fs::remove_file(&path).unwrap();
    assert_eq!(numbers(&log, query.clone()), (expected.clone(), 1), "missing");

    let report = index::catch_up(&directory, |_, _| ()).unwrap();
    assert_eq!((report.built, report.impossible), (1, 0));
    assert_eq!(numbers(&log, query), (expected, 0));
    let proofs = index::prove(&log, &"route:orders".parse().unwrap(), 0..1).unwrap();
    assert!(proofs[0].statement().is_some(), "made again, it is the one that the log vouches for");
}

#[tokio::test]
async fn the_agent_vouches_for_each_index_once() {
    let lab = filled(&rich(1_500)).await;
    keep(&lab).await;
    keep(&lab).await;
    let log = Log::open_read_only(&lab.directory()).unwrap();
    let conditions = vec![Condition::Class(vec!["segment".to_owned()])];

    let records = log.search(Query { conditions, ..Query::default() }).unwrap();
    let firsts: Vec<u64> =
        records.map(|it| Statement::of(&it.unwrap().text).unwrap().first).collect();

    let mut unique = firsts.clone();
    unique.dedup();
    assert!(!firsts.is_empty());
    assert_eq!(firsts, unique);
}

#[tokio::test]
async fn the_thread_indexes_what_was_closed_before_it_began() {
    let lab = filled(&rich(1_500)).await;
    let (audit, _) = lab.open().unwrap();
    let keeper = Keeper::new(audit.clone(), lab.directory());
    let directory = lab.directory();
    let done = move || {
        let log = Log::open_read_only(&directory).unwrap();
        let vouched = log.records(0..log.size()).unwrap();
        let vouched = vouched.filter(|it| it.as_ref().unwrap().text.contains("index_root")).count();
        vouched + 1 >= fs::read_dir(directory.join("segments")).unwrap().count()
    };

    let thread = std::thread::spawn(move || keeper.run(&done));

    tokio::time::timeout(Duration::from_secs(60), tokio::task::spawn_blocking(|| thread.join()))
        .await
        .unwrap()
        .unwrap()
        .unwrap();
    let log = Log::open_read_only(&lab.directory()).unwrap();
    let query = Query {
        conditions: vec![Condition::Who("route:stock".parse().unwrap())],
        ..Query::default()
    };
    assert_eq!(numbers(&log, query).1, 0);
}
