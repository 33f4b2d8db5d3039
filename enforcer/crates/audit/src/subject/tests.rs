//! Values go in, handles are stored, values come out; erased ones never again.

use std::fs;
use std::path::Path;

use enforcer_model::PersonalKind as Kind;
use proptest::prelude::*;
use serde_json::{Value, json};

use super::conceal::{VALUE_BYTES_MAX, escaped};
use super::*;

proptest! {
    #[test]
    fn what_is_concealed_is_revealed_byte_for_byte(
        arguments in prop::collection::vec(".{0,40}", 0..80),
        detail in ".{0,400}",
        agent in ".{1,100}",
        principal in "[a-z@\"\\\\é]{1,20}",
    ) {
        let (mut concealer, mut revealer) = pair();
        let detail = detail.as_str();
        let admin = record("admin", &json!({
            "operator": "agent", "verb": "x", "arguments": arguments, "outcome": "done",
            "detail": detail,
        }));
        let http = record("http", &json!({
            "id": "1", "peer": "[2001:db8::7]:4711", "source": "203.0.113.7",
            "user_agent": agent, "who": {"principal": principal}, "reason": "unauthenticated",
        }));
        for text in [admin, http] {
            let mut stored = text.clone().into_bytes();
            let subjects = concealer.conceal(&mut stored, 0);
            let stored = String::from_utf8(stored).unwrap();

            prop_assert!(serde_json::from_str::<Value>(&stored).is_ok());
            prop_assert!(stored.len() <= text.len() + GROWTH_MAX);
            prop_assert_eq!(read_with(&mut revealer, subjects, &stored), text);
        }
    }
}

#[test]
fn no_personal_value_is_left_in_what_is_stored() {
    let (mut concealer, _) = pair();
    let mut stored = visit("203.0.113.7").into_bytes();

    let subjects = concealer.conceal(&mut stored, 0);

    let stored = String::from_utf8(stored).unwrap();
    let sealed = serde_json::to_string(&subjects).unwrap();
    for value in ["203.0.113", "curl/8", "alice"] {
        assert!(!stored.contains(value) && !sealed.contains(value), "{stored} {sealed}");
    }
    let json: Value = serde_json::from_str(&stored).unwrap();
    let peer = json["body"]["peer"].as_str().unwrap();
    assert!(peer.starts_with('~') && peer.ends_with(":4711") && peer.len() == 17, "{peer}");
    assert_eq!(json["body"]["reason"], "unauthenticated");
    let kinds: Vec<_> = subjects[0].subjects.iter().map(|subject| subject.kind).collect();
    assert_eq!(kinds, [Kind::Address, Kind::UserAgent, Kind::Principal]);
}

#[test]
fn a_value_is_sealed_once_in_a_segment_and_has_another_handle_in_the_next() {
    let (mut concealer, _) = pair();
    let conceal = |concealer: &mut Concealer| {
        let mut stored = visit("203.0.113.7").into_bytes();
        let subjects = concealer.conceal(&mut stored, 0);
        (String::from_utf8(stored).unwrap(), subjects.len())
    };

    let (first, sealed) = conceal(&mut concealer);
    let (second, sealed_again) = conceal(&mut concealer);
    let next = Concealer::new(2, Seed::random().unwrap()).unwrap();
    let table = std::mem::replace(&mut concealer, next).end();
    let (third, sealed_anew) = conceal(&mut concealer);

    assert_eq!((sealed, sealed_again, sealed_anew), (1, 0, 1));
    assert_eq!(first, second);
    assert_ne!(first, third);
    assert_eq!(table.rows().len(), 3);
}

#[test]
fn a_full_table_of_known_values_loses_nothing() {
    let (mut concealer, mut revealer) = pair();
    let mut stored = visit("203.0.113.7").into_bytes();
    let before = concealer.conceal(&mut stored, 0);
    for number in 0..70_000_u32 {
        let address = std::net::Ipv4Addr::from(0x0a00_0000 + number).to_string();
        concealer.conceal(&mut visit(&address).into_bytes(), 1);
    }
    let mut again = visit("203.0.113.7").into_bytes();
    let after = concealer.conceal(&mut again, 2);

    assert_eq!(again, stored);
    assert_eq!(after[0].subjects[0], before[0].subjects[0]);
    let stored = String::from_utf8(stored).unwrap();
    assert_eq!(read_with(&mut revealer, before, &stored), visit("203.0.113.7"));
}

#[test]
fn a_segment_of_very_many_persons_asks_for_its_end() {
    let (mut concealer, _) = pair();
    let mut number = 0_u32;
    while !concealer.wants_roll() {
        number += 1;
        assert!(number < 300_000, "the keys of a segment grow without bound");
        let address = std::net::Ipv4Addr::from(0x0a00_0000 + number).to_string();
        concealer.conceal(&mut visit(&address).into_bytes(), 1);
    }
    assert!(number > 200_000);
}

#[test]
fn what_was_given_up_is_sealed_again() {
    let (mut concealer, mut revealer) = pair();
    let mut kept = visit("203.0.113.7").into_bytes();
    concealer.conceal(&mut kept, 0);
    let mut lost = visit("203.0.113.8").into_bytes();
    assert_eq!(concealer.conceal(&mut lost, 2).len(), 1);

    concealer.forget_from(2);

    let mut again = visit("203.0.113.8").into_bytes();
    let subjects = concealer.conceal(&mut again, 2);
    let text = String::from_utf8(again).unwrap();
    assert_eq!(read_with(&mut revealer, subjects, &text), visit("203.0.113.8"));
    assert!(concealer.end().rows().iter().all(|row| row.at == 0 || row.at == 2));
}

#[test]
fn a_value_that_is_too_long_is_cut_and_stays_text() {
    for (unit, count) in [("é", 20_000), ("\n", 20_000), ("\\\"", 20_000), ("a", 60_000)] {
        for offset in 0..7 {
            let (mut concealer, mut revealer) = pair();
            let detail = format!("{}{}", "x".repeat(offset), unit.repeat(count));
            let text = record("list", &json!({"reason": "r", "detail": detail}));
            let mut stored = text.clone().into_bytes();

            let subjects = concealer.conceal(&mut stored, 0);
            let stored = String::from_utf8(stored).unwrap();
            let read = read_with(&mut revealer, subjects, &stored);

            let json: Value = serde_json::from_str(&read).unwrap();
            let cut = json["body"]["detail"].as_str().unwrap();
            assert!(cut.ends_with(" bytes]"), "{cut}");
            assert!(detail.starts_with(cut.split_once('…').unwrap().0));
            assert!(cut.len() <= VALUE_BYTES_MAX + 64 && cut.len() > 5_000);
        }
    }
    let (mut concealer, mut revealer) = pair();
    let arguments = vec!["a\"b".repeat(20); 700];
    let text = record("admin", &json!({"arguments": arguments, "detail": null}));
    let mut stored = text.into_bytes();
    let subjects = concealer.conceal(&mut stored, 0);
    let read = read_with(&mut revealer, subjects, &String::from_utf8(stored).unwrap());
    let json: Value = serde_json::from_str(&read).unwrap();
    let kept = json["body"]["arguments"].as_array().unwrap();
    assert_eq!(kept.last().unwrap(), &format!("…[{} of 700 arguments]", kept.len() - 1));
}

#[test]
fn every_subject_record_fits_an_entry_and_its_place_is_known() {
    let (mut concealer, _) = pair();
    let arguments: Vec<String> =
        (0..60).map(|number| format!("{number}{}", "x".repeat(900))).collect();
    let mut stored = record("admin", &json!({"arguments": arguments, "detail": null})).into_bytes();

    let subjects = concealer.conceal(&mut stored, 40);

    assert!(subjects.len() > 1);
    let table = concealer.end();
    for (number, record) in subjects.iter().enumerate() {
        assert!(serde_json::to_string(record).unwrap().len() < 48 << 10);
        for subject in &record.subjects {
            let handle = Handle::parse(subject.handle.as_bytes()).unwrap();
            let row = table.rows().iter().find(|row| row.handle == handle).unwrap();
            assert_eq!(usize::try_from(row.at).unwrap(), 40 + number);
        }
    }
}

#[test]
fn a_reader_at_random_asks_for_the_record_that_holds_the_value() {
    let folder = tempfile::tempdir().unwrap();
    let (vault, subject, stored) = closed(folder.path(), 100, &visit("203.0.113.7"));
    let mut revealer = Revealer::new();
    revealer.begin_segment(vault.open(100).unwrap());
    let mut asked = Vec::new();

    let read = revealer.reveal(&stored, &mut |handle, at| {
        asked.push((handle.to_string(), at));
        Some(subject.clone().into())
    });

    assert_eq!(read, visit("203.0.113.7"));
    assert_eq!(asked.len(), 1);
    assert_eq!(asked[0].1, Some(5));
}

#[test]
fn an_erased_value_is_gone_and_every_other_stays() {
    let folder = tempfile::tempdir().unwrap();
    let (vault, subject, stored) = closed(folder.path(), 100, &visit("203.0.113.7"));
    let (_, later, stored_later) = closed(folder.path(), 200, &visit("203.0.113.7"));
    let other = closed(folder.path(), 300, &visit("203.0.113.8"));
    let handles = vault.handles(100, Kind::Address, "203.0.113.7").unwrap();
    let key = table_of(&vault, 100)
        .rows()
        .iter()
        .find(|row| row.handle == handles[0])
        .unwrap()
        .key
        .clone();
    let holds = |secret: &[u8]| contains(folder.path(), secret);
    assert!(holds(key.bytes()) && holds(&handles[0].bytes()));

    let rehearsed = vault.erase(Kind::Address, "203.0.113.7", Erasing::Rehearsed).unwrap();
    assert!(holds(key.bytes()));
    let erased = vault.erase(Kind::Address, "203.0.113.7", Erasing::ForGood).unwrap();

    assert_eq!(erased, Erased { handles: 2, segments: 2 });
    assert_eq!(rehearsed, erased);
    assert!(!holds(key.bytes()) && !holds(&handles[0].bytes()));
    for (first, subject, stored) in [(100, subject, stored), (200, later, stored_later)] {
        let read = reread(&vault, first, &subject, &stored);
        let json: Value = serde_json::from_str(&read).unwrap();
        assert!(json["body"]["peer"].as_str().unwrap().starts_with('~'), "{read}");
        assert_eq!(json["body"]["user_agent"], "curl/8");
        assert!(vault.handles(first, Kind::Address, "203.0.113.7").unwrap().is_empty());
    }
    assert_eq!(reread(&vault, 300, &other.1, &other.2), visit("203.0.113.8"));
    let again = vault.erase(Kind::Address, "203.0.113.7", Erasing::ForGood).unwrap();
    assert_eq!(again, Erased::default());
    vault.check().unwrap();
}

#[test]
fn nothing_beside_the_log_tells_an_erased_value_from_one_that_was_never_there() {
    let folder = tempfile::tempdir().unwrap();
    let (vault, ..) = closed(folder.path(), 0, &visit("203.0.113.7"));
    vault.erase(Kind::Address, "203.0.113.7", Erasing::ForGood).unwrap();

    // All that an attacker with this program and every address can ask of the files.
    let found: Vec<_> = (0..=255)
        .filter(|last| {
            let guess = format!("203.0.113.{last}");
            !vault.handles(0, Kind::Address, &guess).unwrap().is_empty()
        })
        .collect();

    assert!(found.is_empty());
    assert_eq!(table_of(&vault, 0).rows().len(), 2);
    let names: Vec<_> = fs::read_dir(folder.path().join("subjects"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    assert_eq!(names, ["00000000000000000000.keys"]);
}

#[test]
fn whoever_is_erased_takes_texts_along_that_name_him() {
    let folder = tempfile::tempdir().unwrap();
    for (first, reason, taken) in [
        (0, "asked by bob@example.com, see (203.0.113.7:443).", true),
        (1, "bob@example.com!", true),
        (2, "\u{7}\nbob@example.com\t2001:db8::7", true),
        (3, "bob@example.com.test", false),
        (4, "no one", false),
    ] {
        let text = record("block", &json!({"block": {"target": "10.0.0.0/8", "reason": reason}}));
        let (vault, subject, stored) = closed(folder.path(), first, &text);
        vault.erase(Kind::Principal, "bob@example.com", Erasing::ForGood).unwrap();

        let read = reread(&vault, first, &subject, &stored);

        assert_eq!(read == stored, taken, "{reason}");
        assert_eq!(read == text, !taken, "{reason}");
    }
    let text = record("admin", &json!({"arguments": ["203.0.113.9", "scan by 203.0.113.9"]}));
    let (vault, subject, stored) = closed(folder.path(), 9, &text);
    let erased = vault.erase(Kind::Address, "203.0.113.9", Erasing::ForGood).unwrap();
    assert_eq!(erased, Erased { handles: 2, segments: 1 });
    assert_eq!(reread(&vault, 9, &subject, &stored), stored);
}

#[test]
fn an_address_is_erased_in_every_spelling_and_with_its_subscribers_network() {
    let folder = tempfile::tempdir().unwrap();
    let finding = record("finding", &json!({"rule": "r", "target": "2001:db8:1:2::/64"}));
    let (vault, subject, stored) = closed(folder.path(), 0, &finding);
    let (_, mapped, stored_mapped) = closed(folder.path(), 1, &visit("203.0.113.7"));

    vault.erase(Kind::Address, "2001:DB8:1:2:0::7", Erasing::ForGood).unwrap();
    vault.erase(Kind::Address, "::ffff:203.0.113.7", Erasing::ForGood).unwrap();

    assert_eq!(reread(&vault, 0, &subject, &stored), stored);
    assert!(!reread(&vault, 1, &mapped, &stored_mapped).contains("203.0.113.7"));
    for bad in ["203.0.113.0/24", "2001:db8::/32", "example.com", ""] {
        let refused = vault.erase(Kind::Address, bad, Erasing::ForGood);
        assert!(matches!(refused, Err(VaultError::Value(_))), "{bad}");
    }
}

#[test]
fn a_segment_whose_writer_died_is_ended_from_its_records() {
    let folder = tempfile::tempdir().unwrap();
    let vault = Vault::of(folder.path());
    vault.prepare().unwrap();
    let text = visit("203.0.113.7");
    let mut concealer = Concealer::new(50, vault.begin(50).unwrap()).unwrap();
    let mut stored = text.clone().into_bytes();
    let subject = subject_record(&concealer.conceal(&mut stored, 50));
    let stored = String::from_utf8(stored).unwrap();
    drop(concealer);
    assert_eq!(vault.unfinished().unwrap(), [50]);
    assert_eq!(reread(&vault, 50, &subject, &stored), text);
    assert_eq!(vault.handles(50, Kind::Address, "203.0.113.7").unwrap().len(), 1);

    vault.recover(50, [(0, subject.as_str()), (1, stored.as_str())]).unwrap();
    vault.recover(50, [(0, "a second time")]).unwrap();

    assert_eq!(vault.unfinished().unwrap(), [0_u64; 0]);
    assert_eq!(reread(&vault, 50, &subject, &stored), text);
    assert_eq!(vault.erase(Kind::Principal, "alice", Erasing::ForGood).unwrap().handles, 1);
    assert!(!reread(&vault, 50, &subject, &stored).contains("alice"));
    vault.forget(50).unwrap();
    assert_eq!(reread(&vault, 50, &subject, &stored), stored);
}

#[test]
fn what_a_crash_leaves_in_the_vault_is_destroyed_at_the_next_start() {
    let folder = tempfile::tempdir().unwrap();
    let (vault, ..) = closed(folder.path(), 0, &visit("203.0.113.7"));
    for name in ["erasing", "closing-former"] {
        fs::write(folder.path().join("subjects").join(name), "a key that must not stay").unwrap();
    }

    vault.prepare().unwrap();

    assert!(!contains(folder.path(), b"a key that must not stay"));
    assert_eq!(fs::read_dir(folder.path().join("subjects")).unwrap().count(), 1);
}

#[test]
fn every_changed_byte_in_the_vault_is_noticed() {
    let folder = tempfile::tempdir().unwrap();
    let (vault, ..) = closed(folder.path(), 0, &visit("203.0.113.7"));
    vault.begin(7).unwrap();
    vault.check().unwrap();

    for entry in fs::read_dir(folder.path().join("subjects")).unwrap() {
        let path = entry.unwrap().path();
        let good = fs::read(&path).unwrap();
        for place in 0..good.len() {
            let mut bad = good.clone();
            bad[place] ^= 0x40;
            fs::write(&path, bad).unwrap();
            assert!(matches!(vault.check(), Err(VaultError::Altered { .. })), "{place}");
        }
        fs::write(&path, good).unwrap();
    }
}

#[test]
fn a_client_that_sends_a_handle_gets_nobodys_value() {
    let folder = tempfile::tempdir().unwrap();
    let (vault, ..) = closed(folder.path(), 0, &visit("203.0.113.7"));
    let handle = vault.handles(0, Kind::Address, "203.0.113.7").unwrap()[0].to_string();
    let text = visit("198.51.100.1").replace("curl/8", &handle);

    let (_, subject, stored) = closed(folder.path(), 1, &text);

    assert!(!stored.contains(&handle));
    assert_eq!(reread(&vault, 1, &subject, &stored), text);
}

fn pair() -> (Concealer, Revealer) {
    let seed = Seed::random().unwrap();
    let mut revealer = Revealer::new();
    let bytes = zeroize::Zeroizing::new(*seed.bytes());
    revealer.begin_segment(Keys::Open(Seed::from_bytes(bytes)));
    (Concealer::new(0, seed).unwrap(), revealer)
}

fn record(class: &str, body: &Value) -> String {
    format!(
        r#"{{"time":"2026-11-22T07:34:22.892790Z","mono_ns":1,"boot":"b","class":"{class}","body":{body}}}"#
    )
}

fn visit(address: &str) -> String {
    // In the order of the fields of a request.
    format!(
        r#"{{"v":1,"index":6,"time":"t","class":"http","body":{{"id":"1","peer":"{address}:4711","path":"/a","user_agent":"{}","who":{{"principal":"alice","key":null}},"reason":"unauthenticated"}}}}"#,
        escaped("curl/8")
    )
}

fn subject_record(subjects: &[Subjects]) -> String {
    assert_eq!(subjects.len(), 1);
    record("subject", &serde_json::to_value(&subjects[0]).unwrap())
}

fn read_with(revealer: &mut Revealer, subjects: Vec<Subjects>, stored: &str) -> String {
    for subjects in subjects {
        let text = record("subject", &serde_json::to_value(&subjects).unwrap());
        assert_eq!(revealer.reveal(&text, &mut |_, _| None), text);
    }
    revealer.reveal(stored, &mut |_, _| None).into_owned()
}

/// A closed segment of one record: the vault, its `subject` record and the stored text.
fn closed(folder: &Path, first: u64, text: &str) -> (Vault, String, String) {
    let vault = Vault::of(folder);
    vault.prepare().unwrap();
    let mut concealer = Concealer::new(first, vault.begin(first).unwrap()).unwrap();
    let mut stored = text.to_owned().into_bytes();
    let subject = subject_record(&concealer.conceal(&mut stored, first + 5));
    vault.close(&concealer.end()).unwrap();
    assert!(!vault.is_open(first));
    (vault, subject, String::from_utf8(stored).unwrap())
}

fn reread(vault: &Vault, first: u64, subject: &str, stored: &str) -> String {
    let mut revealer = Revealer::new();
    revealer.begin_segment(vault.open(first).unwrap());
    revealer.reveal(subject, &mut |_, _| None);
    revealer.reveal(stored, &mut |_, _| None).into_owned()
}

fn table_of(vault: &Vault, first: u64) -> table::Table {
    let path = vault.directory().join(format!("{first:020}.keys"));
    table::Table::decode(&fs::read(path).unwrap()).unwrap()
}

fn contains(folder: &Path, secret: &[u8]) -> bool {
    fs::read_dir(folder.join("subjects")).unwrap().any(|entry| {
        let bytes = fs::read(entry.unwrap().path()).unwrap();
        bytes.windows(secret.len()).any(|window| window == secret)
    })
}

#[test]
fn a_writer_that_was_killed_goes_on_with_its_segment() {
    let folder = tempfile::tempdir().unwrap();
    let open = |records: Vec<(u32, Box<str>)>| {
        Names::open(Vault::of(folder.path()), 50, |_| Some(records.clone())).unwrap()
    };
    let write = |names: &mut Names, address: &str, index| {
        let mut stored = visit(address).into_bytes();
        let subjects = names.conceal(&mut stored, index);
        let subjects = subjects.iter().map(|it| String::from_utf8(beside(&stored, it)).unwrap());
        (subjects.collect::<Vec<_>>(), String::from_utf8(stored).unwrap())
    };
    let mut killed = open(Vec::new());
    let (subjects, before) = write(&mut killed, "203.0.113.7", 50);
    killed.settle().unwrap();
    drop(killed);
    let records = vec![(0, subjects[0].clone().into_boxed_str())];

    let mut names = open(records);
    let (again, after) = write(&mut names, "203.0.113.7", 52);
    names.begin_segment(54).unwrap();
    names.settle().unwrap();

    assert_eq!(before, after, "the same person has the same handle");
    assert_eq!(again.len(), 1);
    let vault = Vault::of(folder.path());
    assert_eq!(reread(&vault, 50, &subjects[0], &before), visit("203.0.113.7"));
    assert_eq!(vault.unfinished().unwrap(), [54]);
    let row = table_of(&vault, 50).rows()[0].clone();
    assert_eq!(row.at, 0);
    assert_eq!(
        Vault::of(folder.path()).erase(Kind::Address, "203.0.113.7", Erasing::ForGood).unwrap(),
        Erased { handles: 1, segments: 1 }
    );
}

#[test]
fn a_segment_that_was_left_open_is_ended_by_the_next_start() {
    let folder = tempfile::tempdir().unwrap();
    let vault = Vault::of(folder.path());
    vault.prepare().unwrap();
    let mut concealer = Concealer::new(0, vault.begin(0).unwrap()).unwrap();
    let mut stored = visit("203.0.113.7").into_bytes();
    let subject = subject_record(&concealer.conceal(&mut stored, 0));

    let asked = |first| (first == 0).then(|| vec![(0, subject.clone().into_boxed_str())]);
    drop(Names::open(vault.clone(), 2, asked).unwrap());

    assert!(vault.unfinished().unwrap().is_empty(), "nothing is written of the next one yet");
    let stored = String::from_utf8(stored).unwrap();
    assert_eq!(reread(&vault, 0, &subject, &stored), visit("203.0.113.7"));
}

#[test]
fn a_subject_record_has_the_envelope_of_the_record_that_needs_it() {
    let (mut concealer, _) = pair();
    let mut stored = record("http", &json!({"peer": "203.0.113.7:1"})).into_bytes();

    let subjects = concealer.conceal(&mut stored, 0);
    let text = String::from_utf8(beside(&stored, &subjects[0])).unwrap();

    assert_eq!(text, subject_record(&subjects));
}
