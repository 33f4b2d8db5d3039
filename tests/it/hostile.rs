//! Requests that can be read in two ways, and requests that only look like it.
//!
//! Two tables, written for this test: what is refused, with its reason, and what passes. Each request
//! is sent as it stands to the real program, with an upstream behind it that remembers what it saw.

use std::net::{Ipv4Addr, SocketAddr};

use enforcer_tests::lab::{Seen, raw_exchange};

use crate::stage::{LAYER_7, Stage};

const REFUSED: &str = include_str!("hostile/refused.txt");
const LAWFUL: &str = include_str!("hostile/lawful.txt");

/// Tables with fewer lines have lost some.
const REFUSED_MIN: usize = 120;
const LAWFUL_MIN: usize = 60;

/// Where clear text is served, to the host itself.
const LOCAL: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 8081);

const SMUGGLED: &[u8] = b"GET /open/smuggled HTTP/1.1\r\nHost: api.test\r\n\r\n";

struct Refused {
    reason: &'static str,
    why: &'static str,
    bytes: Vec<u8>,
}

struct Lawful {
    statuses: Vec<u16>,
    sees: &'static str,
    why: &'static str,
    bytes: Vec<u8>,
}

#[test]
#[ignore = "needs root; run by `cargo xtask test`"]
fn what_is_ambiguous_is_refused_on_record_and_never_reaches_the_upstream() {
    let stage = stage();
    let table = refused();
    assert!(table.len() >= REFUSED_MIN, "{}", table.len());
    let mut wrong = Vec::new();

    for Refused { why, bytes, .. } in &table {
        let answer = ask(&stage, &[bytes, SMUGGLED].concat());
        let statuses = statuses(&answer);
        let seen = stage.upstream.requests();
        if !matches!(statuses[..], [400..500]) || seen > 0 {
            wrong.push(format!("{why}: {statuses:?}, {seen} seen\n{:?}", shown(&answer)));
        }
    }

    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    let records = stage.records_of("http");
    let reasons: Vec<_> = records.iter().map(|record| record["body"]["reason"].as_str()).collect();
    for (nth, Refused { reason, why, .. }) in table.iter().enumerate() {
        let told = reasons.get(nth).copied().flatten();
        if told != Some(reason) {
            wrong.push(format!("{why}: on record as {told:?}, not {reason}\n{}", records[nth]));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert_eq!(records.len(), table.len(), "one record each");
}

#[test]
#[ignore = "needs root; run by `cargo xtask test`"]
fn what_is_unusual_and_lawful_passes_unharmed() {
    let stage = stage();
    let table = lawful();
    assert!(table.len() >= LAWFUL_MIN, "{}", table.len());
    let mut wrong = Vec::new();

    for Lawful { statuses: expected, sees, why, bytes } in &table {
        let before = stage.upstream.requests();
        let answer = ask(&stage, bytes);
        let told = statuses(&answer);
        let forwarded = expected.iter().filter(|status| **status == 200).count();
        let reached = stage.upstream.requests() - before;
        let holds = match (*sees, sees.strip_prefix("up:")) {
            ("-", _) => true,
            (_, Some(field)) => {
                let seen = stage.upstream.seen().pop();
                seen.is_some_and(|seen| has(&seen, &String::from_utf8(unescaped(field)).unwrap()))
            }
            (text, None) => String::from_utf8_lossy(&answer).contains(text),
        };
        if told != *expected || reached != u64::try_from(forwarded).unwrap() || !holds {
            wrong.push(format!("{why}: {told:?}, {reached} reached\n{:?}", shown(&answer)));
        }
    }

    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// Everything, with a door for clear text and a public route behind it.
fn stage() -> Stage {
    let policy = LAYER_7.replace("state  = \"state\"", "state  = \"state\"\nthreads = 1")
        + r#"
[listen.local]
address = "127.0.0.1:8081"

[[route]]
name     = "open"
match    = "api.test/open/{**}"
upstream = "orders"
public   = true
body_max = "8KiB"
"#;
    Stage::with_policy(&policy)
}

fn ask(stage: &Stage, bytes: &[u8]) -> Vec<u8> {
    raw_exchange(&stage.lab.host, LOCAL, bytes).unwrap()
}

/// The statuses of all answers. A body that looks like an answer would count as one; none here does.
fn statuses(answer: &[u8]) -> Vec<u16> {
    let text = String::from_utf8_lossy(answer);
    let heads = text.split("HTTP/1.").skip(1);
    let status = |head: &str| head.get(2..5).and_then(|status| status.parse().ok());
    heads.filter_map(status).collect()
}

fn has(seen: &Seen, field: &str) -> bool {
    let (name, value) = field.split_once(':').unwrap();
    let values = seen.headers.get_all(name);
    values.iter().any(|seen| seen.as_bytes() == value.trim_start_matches(' ').as_bytes())
}

fn shown(answer: &[u8]) -> String {
    String::from_utf8_lossy(answer).chars().take(300).collect()
}

fn refused() -> Vec<Refused> {
    let lines = lines(REFUSED).map(|line| {
        let [reason, source, why, bytes] = fields(line);
        assert!(!source.is_empty(), "{line}");
        Refused { reason, why, bytes: unescaped(bytes) }
    });
    lines.collect()
}

fn lawful() -> Vec<Lawful> {
    let lines = lines(LAWFUL).map(|line| {
        let [statuses, sees, source, why, bytes] = fields(line);
        assert!(!source.is_empty(), "{line}");
        let statuses = statuses.split(',').map(|status| status.parse().unwrap()).collect();
        Lawful { statuses, sees, why, bytes: unescaped(bytes) }
    });
    lines.collect()
}

fn lines(table: &'static str) -> impl Iterator<Item = &'static str> {
    table.lines().filter(|line| !line.is_empty() && !line.starts_with('#'))
}

fn fields<const N: usize>(line: &'static str) -> [&'static str; N] {
    let fields: Vec<&str> = line.splitn(N, " | ").collect();
    assert_eq!(fields.len(), N, "{line}");
    fields.try_into().unwrap()
}

/// The bytes that a line of a table stands for.
fn unescaped(text: &str) -> Vec<u8> {
    let text = text
        .replace("{g}", r"GET /open/x HTTP/1.1\r\nHost: api.test\r\n")
        .replace("{p}", r"POST /open/x HTTP/1.1\r\nHost: api.test\r\n");
    let mut bytes = Vec::new();
    let mut rest = text.as_bytes();
    while let Some((first, behind)) = rest.split_first() {
        rest = match (first, behind) {
            (b'\\', [b'x', high, low, behind @ ..]) => {
                let digits = String::from_utf8(vec![*high, *low]).unwrap();
                bytes.push(u8::from_str_radix(&digits, 16).unwrap());
                behind
            }
            (b'\\', [letter, behind @ ..]) => {
                bytes.push(match letter {
                    b'r' => b'\r',
                    b'n' => b'\n',
                    b't' => b'\t',
                    b'0' => 0,
                    other => *other,
                });
                behind
            }
            (b'{', [what, b'*', behind @ ..]) => {
                let end = behind.iter().position(|byte| *byte == b'}').unwrap();
                let count: usize = std::str::from_utf8(&behind[..end]).unwrap().parse().unwrap();
                match what {
                    b'F' => (0..count).for_each(|n| bytes.extend(format!("X-{n}: y\r\n").bytes())),
                    what => bytes.extend(std::iter::repeat_n(*what, count)),
                }
                &behind[end + 1..]
            }
            (byte, behind) => {
                bytes.push(*byte);
                behind
            }
        };
    }
    bytes
}
