//! API keys: their form, and files of those that were given out elsewhere.

use std::collections::BTreeSet;

use enforcer_authn::{
    Environment, IMPORT_MAX, ImportFile, ImportFormat, ImportedKey, KeyPrefix, Token, read_import,
};
use enforcer_model::{Role, Timestamp};
use serde_json::json;

const CHECKSUM_LENGTH: usize = 6;
const COVERED_LENGTH: usize = Token::LENGTH - CHECKSUM_LENGTH;

/// What keys begin with, by one policy.
const PREFIXES: [&str; 2] = ["enf", "acme2"];

const NOW: Timestamp = Timestamp::from_unix_seconds(1_795_000_000);

/// The text of a key, and a file of keys to import, as JSON lines and as CSV.
///
/// A key is what has the documented form and the right checksum, nothing else, whatever it may
/// begin with; any changed byte is noticed. A file is taken whole, or the lines that are no keys are
/// told, in their order; no two keys of it share a name or a secret, each could be issued, no hash
/// of one is shown, and written down and read again they are the same.
pub fn key(bytes: &[u8]) {
    form(bytes);
    if let Ok(text) = std::str::from_utf8(bytes) {
        for format in [ImportFormat::JsonLines, ImportFormat::Csv] {
            let file = read_import(text, format, NOW);
            told(&file, text);
            if let Ok(keys) = file.whole() {
                imported(&keys);
            }
        }
    }
}

fn form(bytes: &[u8]) {
    judge(bytes);
    let Some(covered) = bytes.get(..COVERED_LENGTH) else { return };
    let mut mended = [covered, &checksum(covered)].concat();
    judge(&mended);

    let place = bytes.get(COVERED_LENGTH).map_or(0, |byte| usize::from(*byte) % mended.len());
    let flips = bytes.get(COVERED_LENGTH + 1).copied().unwrap_or(1).max(1);
    let was_key = Token::parse(&mended).is_ok();
    mended.iter_mut().skip(place).take(1).for_each(|byte| *byte ^= flips);
    assert!(!was_key || Token::parse(&mended).is_err(), "byte {place} does not matter");
}

fn judge(bytes: &[u8]) {
    let parsed = Token::parse(bytes);
    assert_eq!(parsed.is_ok(), is_key(bytes), "{parsed:?}");
    let known = PREFIXES.map(|prefix| prefix.parse::<KeyPrefix>().expect("a prefix"));
    let either = Token::parse_with(bytes, &known);
    let wanted = PREFIXES.iter().any(|prefix| begins_with(bytes, prefix));
    assert_eq!(either.is_ok(), wanted, "{either:?}");
    assert!(parsed.is_err() || parsed == either);
    if let Ok(token) = either {
        let environment = match token.environment() {
            Environment::Live => "live",
            Environment::Test => "test",
        };
        let begin = format!("{}_{environment}_{}_", token.prefix(), token.id());
        assert!(bytes.starts_with(begin.as_bytes()), "{token:?} is another key");
        assert_eq!(format!("{token:?}"), format!("Token({begin}…)"));
    }
}

/// `enf_live_` or `enf_test_`, 12 characters, `_`, 43 characters, and their checksum.
pub(super) fn is_key(text: &[u8]) -> bool {
    begins_with(text, "enf")
}

/// The same behind any word that a policy may choose.
pub(super) fn is_any_key(text: &[u8]) -> bool {
    let word = text.split(|byte| *byte == b'_').next().unwrap_or_default();
    std::str::from_utf8(word).is_ok_and(|word| begins_with(text, word))
}

/// The same behind another word than `enf`.
fn begins_with(text: &[u8], prefix: &str) -> bool {
    let length = COVERED_LENGTH - "enf".len() + prefix.len();
    let Some((covered, sum)) = text.split_at_checked(length) else { return false };
    let Some(rest) = covered.strip_prefix(prefix.as_bytes()) else { return false };
    let (environment, body) = rest.split_at(6);
    let plain = |(place, byte): (usize, &u8)| match place {
        12 => *byte == b'_',
        _ => byte.is_ascii_alphanumeric(),
    };
    matches!(environment, b"_live_" | b"_test_")
        && body.iter().enumerate().all(plain)
        && sum == checksum(covered)
}

/// CRC-32 by long division, highest power first, on reflected bytes; then base 62.
fn checksum(bytes: &[u8]) -> Vec<u8> {
    let bits = bytes.iter().flat_map(|byte| (0..8).map(move |bit| u64::from(byte >> bit & 1)));
    let ones = std::iter::repeat_n(1, 32);
    let mut rest = 0u64;
    // The initial inversion is the first 32 bits inverted; 32 zeros make room for the remainder.
    let padded = bits.chain(std::iter::repeat_n(0, 32));
    for (bit, flip) in padded.zip(ones.chain(std::iter::repeat(0))) {
        rest = rest << 1 | (bit ^ flip);
        if rest >> 32 == 1 {
            rest ^= 0x1_04C1_1DB7;
        }
    }
    let mut value = u64::from(!u32::try_from(rest).unwrap_or_default().reverse_bits());
    let mut digits = Vec::new();
    for _ in 0..CHECKSUM_LENGTH {
        let digit = u8::try_from(value % 62).unwrap_or_default();
        digits.push(match digit {
            0..10 => b'0' + digit,
            10..36 => b'A' + (digit - 10),
            _ => b'a' + (digit - 36),
        });
        value /= 62;
    }
    digits.reverse();
    digits
}

fn told(file: &ImportFile, text: &str) {
    assert!(!file.problems.is_empty() || !file.keys.is_empty(), "nothing is said of it");
    assert!(file.problems.is_sorted_by_key(|problem| problem.line), "told out of order");
    assert!(file.keys.len() <= IMPORT_MAX);
    let lines = text.lines().count().max(1);
    for problem in &file.problems {
        assert!((1..=lines).contains(&problem.line), "{problem}");
        assert!(!problem.what.is_empty(), "line {} is told without a word", problem.line);
    }
    let taken: BTreeSet<usize> = file.keys.iter().map(|key| key.line).collect();
    assert_eq!(taken.len(), file.keys.len(), "two keys on one line");
    assert!(taken.iter().all(|line| (1..=lines).contains(line)));
}

fn imported(keys: &[ImportedKey]) {
    let names: BTreeSet<&str> = keys.iter().map(|key| &*key.new.name).collect();
    let hashes: BTreeSet<&[u8; 32]> = keys.iter().map(|key| &key.hash).collect();
    assert!(!keys.is_empty() && names.len() == keys.len() && hashes.len() == keys.len());
    for key in keys {
        assert_eq!(key.new.check(NOW), Ok(()), "{key:?} could not be issued");
        assert!(!format!("{key:?}").contains(&digits(&key.hash)), "the hash is shown");
    }
    let lines: Vec<String> = keys.iter().map(line).collect();
    let mut again = read_import(&lines.join("\n"), ImportFormat::JsonLines, NOW)
        .whole()
        .expect("what was read can be written");
    for (again, key) in again.iter_mut().zip(keys) {
        again.line = key.line;
    }
    assert!(again == keys, "written down and read again, they are other keys");
}

fn line(key: &ImportedKey) -> String {
    let new = &key.new;
    let line = json!({
        "hash": digits(&key.hash),
        "name": new.name,
        "owner": new.owner,
        "application": new.application,
        "roles": new.roles.iter().map(Role::as_str).collect::<Vec<_>>(),
        "scopes": new.scopes,
        "routes": new.routes,
        "networks": new.networks.iter().map(ToString::to_string).collect::<Vec<_>>(),
        "certificate": new.certificate.map(|print| print.to_string()),
        "not_before": new.not_before.map(|time| time.to_string()),
        "expires": new.expires.map(|time| time.to_string()),
        "limits": new.limits,
        "notes": new.notes,
        "environment": new.environment.to_string(),
    });
    line.to_string()
}

fn digits(hash: &[u8]) -> String {
    hash.iter().map(|byte| format!("{byte:02x}")).collect()
}
