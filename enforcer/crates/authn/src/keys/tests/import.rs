//! Keys from elsewhere.

use std::fs;
use std::time::Duration;

use enforcer_model::Reason;
use proptest::prelude::*;
use ring::digest;

use super::*;
use crate::{ImportFormat, ImportProblem, SecretForm, read_import};

const KEY: &str = "SG.x7-foreign_key~1+2/3==";

#[test]
fn an_imported_key_is_accepted_as_it_was_given_out_and_has_a_record() {
    let mut home = Home::new();
    let line = format!(
        r#"{{"hash":"{}","name":"old ci","roles":["reader"],"owner":"ops","networks":["192.0.2.0/24"]}}"#,
        sha256(KEY)
    );
    let keys = read_import(&line, ImportFormat::JsonLines, now()).whole().unwrap();
    assert_eq!(home.store.check_import(&keys).unwrap(), []);

    let made = home.store.import(keys, now()).unwrap();
    let home = home.restart();

    let who = home.identify(KEY).unwrap();
    assert_eq!(who.key_id(), Some(made[0].id));
    let record = home.store.show("old ci").unwrap();
    assert_eq!(
        (record.secrets[0].form, record.owner.as_deref()),
        (SecretForm::Imported, Some("ops"))
    );
    let far = identify(&home.keys(), KEY, "198.51.100.1", NOW).unwrap_err();
    assert_eq!(far.reason, Reason::KeyWrongNetwork);
    for other in ["SG.x7-foreign_key~1+2/3=", &KEY.to_lowercase(), "x"] {
        assert_eq!(home.identify(other).unwrap_err().reason, Reason::KeyUnknown, "{other}");
    }
}

#[test]
fn without_imports_what_is_no_key_stays_malformed() {
    let mut home = Home::new();
    assert_eq!(home.identify(KEY).unwrap_err().reason, Reason::KeyMalformed);

    import(&mut home, KEY);

    assert!(home.identify(KEY).is_ok());
    assert_eq!(home.identify(&"a".repeat(256)).unwrap_err().reason, Reason::KeyUnknown);
    assert_eq!(home.identify(&"a".repeat(257)).unwrap_err().reason, Reason::KeyMalformed);
    assert_eq!(home.identify("enf_live_oops").unwrap_err().reason, Reason::KeyMalformed);
}

#[test]
fn three_parts_between_dots_are_a_token_even_if_they_were_imported() {
    let mut home = Home::new();
    import(&mut home, "a.b.c");
    import(&mut home, "opaque.key");

    assert!(home.identify("a.b.c").is_ok(), "behind X-Api-Key it is what it is");
    assert!(!home.keys().looks_like_key(b"a.b.c"));
    assert!(home.keys().looks_like_key(b"opaque.key"));
    assert!(!home.keys().looks_like_key(b"opaque.token"));
}

#[test]
fn an_imported_key_is_rotated_to_one_of_ours() {
    let mut home = Home::new();
    let id = import(&mut home, KEY);

    let (_, new) = home.store.rotate(&id, Duration::from_secs(60), now()).unwrap();

    assert_eq!(home.identify(KEY).unwrap().key_id(), home.identify(new.expose()).unwrap().key_id());
    let late = identify(&home.keys(), KEY, "192.0.2.1", NOW + 60).unwrap_err();
    assert_eq!(late.reason, Reason::KeyExpired);
    home.store.rotate(&id, Duration::ZERO, at(NOW + 60)).unwrap();
    assert_eq!(home.identify(KEY).unwrap_err().reason, Reason::KeyMalformed, "it is forgotten");
}

/// Whoever steals the database must not be able to try keys that people chose.
#[test]
fn no_file_holds_the_hash_of_an_imported_key() {
    let mut home = Home::new();
    import(&mut home, KEY);
    let hash = digest::digest(&digest::SHA256, KEY.as_bytes());

    for file in fs::read_dir(home.directory()).unwrap() {
        let bytes = fs::read(file.unwrap().path()).unwrap();
        assert!(!bytes.windows(32).any(|window| window == hash.as_ref()));
    }
}

#[test]
fn a_file_is_imported_whole_or_not_at_all() {
    let mut home = Home::new();
    home.issue(|new| new.name = "taken".into());
    import(&mut home, KEY);
    let text = [("a", "new"), ("b", "taken"), ("c", KEY)]
        .map(|(name, key)| {
            format!(r#"{{"hash":"{}","name":"{name}","roles":"reader"}}"#, sha256(key))
        })
        .join("\n")
        .replace("\"b\"", "\"taken\"");
    let keys = read_import(&text, ImportFormat::JsonLines, now()).whole().unwrap();
    let before = home.store.list().unwrap();

    let problems = home.store.check_import(&keys).unwrap();
    assert_eq!(problems.iter().map(|problem| problem.line).collect::<Vec<_>>(), [2, 3]);
    assert!(home.store.import(keys, now()).is_err());

    assert_eq!(home.store.list().unwrap(), before);
    assert_eq!(home.identify("new").unwrap_err().reason, Reason::KeyUnknown);
}

#[test]
fn every_problem_of_a_file_is_told_with_its_line() {
    let (one, two) = (sha256("1"), sha256("2"));
    let text = format!(
        "{{\"hash\":\"{one}\",\"name\":\"a\",\"roles\":[\"r\"]}}\n\
         \n\
         {{\"hash\":\"abc\",\"name\":\"b\",\"roles\":[\"r\"]}}\n\
         {{\"hash\":\"{two}\",\"name\":\"c\",\"roles\":[]}}\n\
         {{\"hash\":\"{two}\",\"name\":\"d\",\"roles\":[\"r\"],\"role\":1}}\n\
         not json\n\
         {{\"hash\":\"{one}\",\"name\":\"a\",\"roles\":\"r s;t\"}}\n"
    );

    let problems = read_import(&text, ImportFormat::JsonLines, now()).whole().unwrap_err();

    let lines: Vec<_> = problems.iter().map(|problem| problem.line).collect();
    assert_eq!(lines, [3, 4, 5, 6, 7, 7]);
    let said = |n: usize, words: &str| assert!(problems[n].what.contains(words), "{}", problems[n]);
    said(0, "sha256sum");
    said(1, "at least one role");
    said(2, "unknown field `role`");
    said(4, "on line 1 already");
    said(5, "on line 1 already");
}

#[test]
fn csv_says_the_same_as_json() {
    let (one, two) = (sha256("1"), sha256("2"));
    let csv = format!(
        "\u{feff}Name,hash,roles,networks,notes,expires,environment\r\n\
         a,{one},reader;writer,192.0.2.0/24;2001:db8::/32,\"says \"\"hi\"\", twice\",,\r\n\
         \"b\",sha256:{two},reader,,,2100-01-01T00:00:00Z,test\r\n"
    );
    let json = format!(
        r#"{{"name":"a","hash":"{one}","roles":["reader","writer"],"networks":["192.0.2.0/24","2001:db8::/32"],"notes":"says \"hi\", twice"}}
{{"name":"b","hash":"{two}","roles":"reader","expires":"2100-01-01T00:00:00Z","environment":"test"}}"#
    );

    let mut from_csv = read_import(&csv, ImportFormat::Csv, now()).whole().unwrap();
    let from_json = read_import(&json, ImportFormat::JsonLines, now()).whole().unwrap();

    from_csv.iter_mut().for_each(|key| key.line -= 1);
    assert_eq!(from_csv, from_json);
}

#[test]
fn a_csv_that_cannot_be_understood_says_why() {
    let problem = |text: &str| -> ImportProblem {
        read_import(text, ImportFormat::Csv, now()).whole().unwrap_err().remove(0)
    };

    for (text, line, words) in [
        ("hash,name,role\n", 1, "no column is called `role`"),
        ("hash,name,name\n", 1, "twice"),
        ("hash,name\n", 1, "names no column `roles`"),
        ("hash,name,roles\n", 1, "no key in the file"),
        ("", 1, "no key in the file"),
        ("hash,name,roles\na,b\n", 2, "2 fields"),
        ("hash,name,roles\n\"a,b,c\n", 2, "does not end"),
        ("hash,name,roles\n\"a\"b,c,d\n", 2, "behind a closing quote"),
        ("hash,name,roles\na\"b,c,d\n", 2, "quote inside"),
    ] {
        let found = problem(text);
        assert!(found.line == line && found.what.contains(words), "{text}: {found}");
    }
}

#[test]
fn a_file_has_a_longest_length() {
    let line = |n: usize| {
        format!("{{\"hash\":\"{}\",\"name\":\"{n}\",\"roles\":\"r\"}}\n", sha256(&n.to_string()))
    };
    let most: String = (0..crate::IMPORT_MAX).map(line).collect();
    assert_eq!(
        read_import(&most, ImportFormat::JsonLines, now()).whole().unwrap().len(),
        crate::IMPORT_MAX
    );

    let more = most + &line(crate::IMPORT_MAX);

    let problems = read_import(&more, ImportFormat::JsonLines, now()).whole().unwrap_err();
    assert_eq!((problems.len(), problems[0].line), (1, crate::IMPORT_MAX + 1));
}

proptest! {
    #[test]
    fn no_text_stops_the_reader(text in "(hash,name,roles\n)?[\\PC\n\",;{}:]{0,200}") {
        for format in [ImportFormat::Csv, ImportFormat::JsonLines] {
            match read_import(&text, format, now()).whole() {
                Ok(keys) => prop_assert!(!keys.is_empty()),
                Err(problems) => prop_assert!(!problems.is_empty()),
            }
        }
    }
}

fn import(home: &mut Home, key: &str) -> String {
    let name = format!("import {}", home.store.list().unwrap().len());
    let line = format!(r#"{{"hash":"{}","name":"{name}","roles":["reader"]}}"#, sha256(key));
    let keys = read_import(&line, ImportFormat::JsonLines, now()).whole().unwrap();
    home.store.import(keys, now()).unwrap()[0].id.to_string()
}

fn sha256(text: &str) -> String {
    let hash = digest::digest(&digest::SHA256, text.as_bytes());
    hash.as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
}
