//! The JOSE vectors of C2SP Wycheproof, which are not part of this repository.
//!
//! They are read from the folder that `ENFORCER_WYCHEPROOF` names, else from
//! `shared/data/wycheproof-jose` beside the folder of this repository; where neither exists, the
//! test says that it was skipped. Every answer of ours that is not the expected one is in
//! [`DEVIATIONS`], with its reason.

use std::collections::HashSet;
use std::fs;
use std::path::{Path, PathBuf};

use super::json::{Json, Table};
use super::*;

/// File, number, and why we answer otherwise: by being stricter, but for two that contradict others.
const DEVIATIONS: &[(&str, &str, &str)] = &[
    ("jw_signature.json", "346", KEY_SAYS_OTHERWISE),
    ("jw_signature.json", "347", NOT_ACCEPTED),
    ("jw_signature.json", "350", KEY_SAYS_OTHERWISE),
    ("jw_signature.json", "351", NOT_ACCEPTED),
    ("jw_signature.json", "367", SAME_AS_VALID),
    ("jw_signature.json", "370", SAME_AS_VALID),
    ("jw_signature.json", "372", NOT_BASE64URL),
    ("jw_signature.json", "373", NOT_BASE64URL),
    ("jw_key.json", "2", SECRET_IN_SET),
    ("jw_key.json", "13", SECRET_IN_SET),
    ("jw_key.json", "14", NOT_ACCEPTED),
    ("jw_key.json", "15", NOT_ACCEPTED),
    ("jw_crypto.json", "48", SECRET_IN_SET),
];

const KEY_SAYS_OTHERWISE: &str = "the token is PS384, and its key says that it is for PS256 alone";
const NOT_ACCEPTED: &str = "ES512, HS384 and HS512 are not among the accepted algorithms";
const NOT_BASE64URL: &str =
    "a `?` stands in a part; RFC 7515 has no such character and no rule to pass over one";
const SAME_AS_VALID: &str = "byte for byte the token of vector 357, which is valid; the padding that \
                             its comment speaks of is not there";
const SECRET_IN_SET: &str = "a secret is never taken from a key set; as the operator's secret it \
                             verifies, which the test shows";

/// What the vectors say of one token.
struct Vector<'a> {
    number: &'a str,
    token: String,
    valid: bool,
}

#[test]
fn the_vectors_of_wycheproof_have_the_expected_answers_but_for_what_is_listed() {
    let Some(folder) = folder() else {
        report("skipped: no vectors; name their folder in ENFORCER_WYCHEPROOF");
        return;
    };
    let mut deviations = Vec::new();
    let mut valid = HashSet::new();
    let mut counted = [0_usize; 3];
    let files = ["jw_signature.json", "jw_key.json", "jw_crypto.json"];
    for (file, count) in files.into_iter().zip(&mut counted) {
        let bytes = fs::read(folder.join(file)).unwrap();
        let document = json::object(&bytes, usize::MAX).unwrap();
        for group in tables(&document, "testGroups") {
            let Some(keys) = group.get("public").or_else(|| group.get("private")) else {
                panic!("{file}: a group without keys")
            };
            for vector in tables(group, "tests").filter_map(vector) {
                *count += 1;
                if is_accepted(keys, &vector.token) != vector.valid {
                    deviations.push((file, vector.number.to_owned()));
                }
                match listed(file, vector.number) {
                    Some(SECRET_IN_SET) => {
                        assert!(is_accepted_with_a_secret_of(keys, &vector.token), "{file}");
                    }
                    Some(SAME_AS_VALID) => assert!(valid.contains(&vector.token), "{file}"),
                    Some(_) | None => {}
                }
                if vector.valid {
                    valid.insert(vector.token);
                }
            }
        }
    }

    let expected: Vec<_> =
        DEVIATIONS.iter().map(|(file, number, _)| (*file, (*number).to_owned())).collect();
    assert_eq!(deviations, expected);
    assert!(counted.iter().all(|&count| count > 0), "{counted:?}");
    let [signatures, keys, crypto] = counted;
    report(&format!(
        "{signatures} signature, {keys} key and {crypto} crypto vectors; {} answered otherwise",
        deviations.len()
    ));
}

fn listed(file: &str, number: &str) -> Option<&'static str> {
    let entry = DEVIATIONS.iter().find(|(f, n, _)| (*f, *n) == (file, number));
    entry.map(|(_, _, reason)| *reason)
}

/// A vector about signatures; those about encryption have another member.
fn vector<'a>(test: &'a Table<'_>) -> Option<Vector<'a>> {
    let token = test.get("jws")?;
    let token = token.text().map_or_else(|| written(token), str::to_owned);
    let Some(Json::Number(number)) = test.get("tcId") else { panic!("a vector without number") };
    let valid = match test.get("result").and_then(Json::text) {
        Some("valid") => true,
        Some("invalid") => false,
        other => panic!("{number}: {other:?}"),
    };
    Some(Vector { number, token, valid })
}

/// What we say: with one symmetric key of the right kind, as an operator would have configured it;
/// with anything else, as an issuer would have published it.
fn is_accepted(keys: &Json<'_>, token: &str) -> bool {
    let Json::Table(table) = keys else { return false };
    let keys = match table.get("keys") {
        Some(_) => KeySet::parse(written(keys).as_bytes()).unwrap(),
        None if text(table, "kty") == "oct" && text(table, "alg") == "HS256" => {
            KeySet::of_secret(&secret(table)).unwrap()
        }
        None => KeySet::parse(format!(r#"{{"keys":[{}]}}"#, written(keys)).as_bytes()).unwrap(),
    };
    is_signed(token, &keys)
}

fn is_accepted_with_a_secret_of(keys: &Json<'_>, token: &str) -> bool {
    let Json::Table(set) = keys else { return false };
    tables(set, "keys").any(|key| is_signed(token, &KeySet::of_secret(&secret(key)).unwrap()))
}

/// The payloads are no claims, so this stops at the signature.
fn is_signed(token: &str, keys: &KeySet) -> bool {
    Jws::parse(token.as_bytes(), Embedded::Never)
        .and_then(|jws| jws.verify(keys.find(jws.header())?))
        .is_ok()
}

fn secret(key: &Table<'_>) -> Vec<u8> {
    URL_SAFE_NO_PAD.decode(text(key, "k")).unwrap()
}

fn text<'a>(table: &'a Table<'_>, name: &str) -> &'a str {
    table.get(name).and_then(Json::text).unwrap_or_default()
}

fn tables<'a, 'b>(table: &'a Table<'b>, name: &str) -> impl Iterator<Item = &'a Table<'b>> {
    let Some(Json::List(list)) = table.get(name) else { panic!("no list `{name}`") };
    list.iter().map(|entry| {
        let Json::Table(table) = entry else { panic!("{entry:?} is no object") };
        table
    })
}

/// As JSON again. The texts of the vectors need no escapes but those of Rust.
fn written(value: &Json<'_>) -> String {
    match value {
        Json::Null => "null".to_owned(),
        Json::Flag(flag) => flag.to_string(),
        Json::Number(number) => (*number).to_owned(),
        Json::Text(text) => format!("{text:?}"),
        Json::List(list) => {
            format!("[{}]", list.iter().map(written).collect::<Vec<_>>().join(","))
        }
        Json::Table(table) => {
            let member = |(name, value)| format!("{name:?}:{}", written(value));
            format!("{{{}}}", table.iter().map(member).collect::<Vec<_>>().join(","))
        }
    }
}

fn folder() -> Option<PathBuf> {
    let beside = || {
        let repository = Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(3)?;
        Some(repository.parent()?.join("shared/data/wycheproof-jose"))
    };
    std::env::var_os("ENFORCER_WYCHEPROOF")
        .map(PathBuf::from)
        .or_else(beside)
        .filter(|folder| folder.is_dir())
}

#[expect(clippy::print_stderr, reason = "a test that is skipped, or counts, must say so")]
fn report(text: &str) {
    eprintln!("wycheproof: {text}");
}
