//! What an answer gives away: secrets and personal data in its body, counted as it passes.
//!
//! A look at plain text of at most [`SCANNED_MAX`] bytes an answer. What is compressed by the upstream,
//! images and streams of other types are not looked at. Nothing is changed or held back, and no value
//! is kept: only how many there were. A value that is split between two parts of a body is found, for
//! the last [`TAIL`] bytes are looked at again with the next part; one that ends where the known bytes
//! end is judged when more are known, since it might go on.

mod find;

use enforcer_model::Exposed;
use http::HeaderMap;
use http::header::{CONTENT_ENCODING, CONTENT_TYPE};

use find::Text;

/// Of one answer.
const SCANNED_MAX: usize = 64 * 1024;

/// More than the longest of what is looked for, and what has to be known behind it.
const TAIL: usize = 192;

/// One answer's body on its way.
#[derive(Debug)]
pub struct Exposure {
    /// The end of what was seen.
    tail: Vec<u8>,
    /// Something stood in front of `tail`.
    is_cut: bool,
    left: usize,
    found: Exposed,
}

impl Exposure {
    /// For the body of an answer with `headers`; none where it is not plain text.
    pub fn of(headers: &HeaderMap) -> Option<Self> {
        let is_plain = headers.get_all(CONTENT_ENCODING).iter().all(|coding| coding == "identity");
        let kind = headers.get(CONTENT_TYPE)?.as_bytes();
        (is_plain && is_text(kind)).then(|| Self {
            tail: Vec::new(),
            is_cut: false,
            left: SCANNED_MAX,
            found: Exposed::default(),
        })
    }

    /// The next part of the body.
    pub fn see(&mut self, part: &[u8]) {
        let part = part.get(..self.left).unwrap_or(part);
        if part.is_empty() {
            return;
        }
        self.left -= part.len();
        if self.tail.is_empty() {
            // Most bodies come whole, and are looked at where they lie.
            self.look(&Text { bytes: part, judged: 0, is_cut: false, is_end: false });
            let from = part.len().saturating_sub(TAIL);
            self.is_cut = from > 0;
            self.tail.extend_from_slice(part.get(from..).unwrap_or_default());
        } else {
            let mut bytes = std::mem::take(&mut self.tail);
            let judged = bytes.len();
            bytes.extend_from_slice(part);
            self.look(&Text { bytes: &bytes, judged, is_cut: self.is_cut, is_end: false });
            let from = bytes.len().saturating_sub(TAIL);
            self.is_cut |= from > 0;
            bytes.drain(..from);
            self.tail = bytes;
        }
    }

    /// There is no more; what was found, if anything was.
    pub fn end(mut self) -> Option<Exposed> {
        let tail = std::mem::take(&mut self.tail);
        // Behind what is no longer looked at, a number might go on.
        let is_end = self.left > 0;
        self.look(&Text { bytes: &tail, judged: tail.len(), is_cut: self.is_cut, is_end });
        (!self.found.is_nothing()).then_some(self.found)
    }

    fn look(&mut self, text: &Text<'_>) {
        let add = |count: &mut u32, more: u32| *count = count.saturating_add(more);
        add(&mut self.found.secrets, text.secrets());
        add(&mut self.found.cards, text.cards());
        add(&mut self.found.accounts, text.accounts());
        add(&mut self.found.emails, text.emails());
    }
}

/// `text/…`, JSON, XML, forms, and what is built on them.
fn is_text(kind: &[u8]) -> bool {
    let end = kind.iter().position(|byte| matches!(byte, b';' | b' ')).unwrap_or(kind.len());
    let kind = kind.get(..end).unwrap_or_default().to_ascii_lowercase();
    let is = |suffix: &[u8]| kind.ends_with(suffix);
    kind.starts_with(b"text/")
        || is(b"json")
        || is(b"xml")
        || is(b"/yaml")
        || is(b"/csv")
        || is(b"/x-www-form-urlencoded")
}

#[cfg(test)]
mod tests {
    use super::*;

    const CARD: &str = "4111 1111 1111 1111";
    const IBAN: &str = "DE89370400440532013000";

    fn whole(body: &str) -> Exposed {
        in_parts(body, body.len().max(1))
    }

    fn in_parts(body: &str, length: usize) -> Exposed {
        let headers = HeaderMap::from_iter([(CONTENT_TYPE, "application/json".parse().unwrap())]);
        let mut exposure = Exposure::of(&headers).unwrap();
        body.as_bytes().chunks(length).for_each(|part| exposure.see(part));
        exposure.end().unwrap_or_default()
    }

    /// Put together here, so that no file of this project holds what looks like a secret.
    fn secrets() -> Vec<String> {
        let filled = |prefix: &str, count: usize| format!("{prefix}{}", "A1b2".repeat(count / 4));
        vec![
            format!("-----BEGIN {} KEY-----", "RSA PRIVATE"),
            format!("-----BEGIN {} KEY-----", "PRIVATE"),
            format!("AK{}", "IAIOSFODNN7EXAMPLE"),
            filled("ghp_", 36),
            filled("github_pat_", 40),
            filled("sk_live_", 24),
            filled("xoxb-", 24),
            format!("AIza{}", "B".repeat(35)),
            filled("glpat-", 20),
            format!("npm_{}", "a".repeat(36)),
            filled("enf_live_", 40),
            format!("$2b$12${}", "N9qo8uLOickgx2ZMRZoMye".repeat(3).split_at(53).0),
            "$argon2id$v=19$m=65536,t=3,p=4$c29tZXNhbHQ".to_owned(),
        ]
    }

    #[test]
    fn what_should_seldom_leave_is_counted() {
        let body = format!(
            r#"{{"card":"{CARD}","amex":378282246310005,"n":[378282246310005,93],"iban":"{IBAN}","mail":"ann@example.com"}}"#
        );
        let expected = Exposed { secrets: 0, cards: 3, accounts: 1, emails: 1 };
        assert_eq!(whole(&body), expected);
        for secret in secrets() {
            let body = format!(r#"{{"is":"{secret}","next":1}}"#);
            assert_eq!(whole(&body), Exposed { secrets: 1, ..Exposed::default() }, "{secret}");
        }
    }

    #[test]
    fn how_a_body_is_split_makes_no_difference() {
        let body = format!(
            "{} {CARD} {IBAN}, ann@example.com {} bob@example.org",
            secrets().join(" "),
            "x".repeat(300)
        );
        let expected = whole(&body);
        assert_eq!((expected.secrets, expected.emails), (13, 2));
        for length in 1..200 {
            assert_eq!(in_parts(&body, length), expected, "in parts of {length}");
        }
    }

    #[test]
    fn what_only_looks_like_it_is_not_counted() {
        for body in [
            "4111111111111112",                              // a wrong check digit
            "41111111111111111111111",                       // too long
            "a4111111111111111",                             // part of a name
            "1795397968246282647",                           // a time in nanoseconds
            "0.4111111111111111",                            // a fraction
            "411-11111-1111-11-11",                          // not grouped as cards are
            "DE89370400440532013001",                        // wrong check digits
            "XX89370400440532013000",                        // no country
            "a@b, @example.com, ann@, ann@localhost, x@1.2", // no addresses
            "6f9619ff-8b86-d011-b42d-00cf4fc964ff",
            "AKIA and sk_live_ and $2b$12$ and -----BEGIN CERTIFICATE-----",
            "MASKIAIOSFODNN7EXAMPLEXX",
            "**** **** **** 1111",
        ] {
            assert_eq!(whole(body), Exposed::default(), "{body}");
        }
    }

    #[test]
    fn what_goes_on_behind_a_part_is_not_judged_before() {
        for length in [16, 17, 19] {
            assert_eq!(in_parts("4111111111111111000000", length), Exposed::default());
        }
        assert_eq!(whole("4111111111111111").cards, 1);
        assert_eq!(in_parts("4111111111111111", 16).cards, 1);
    }

    #[test]
    fn only_plain_text_is_looked_at_and_only_so_much_of_it() {
        let of = |fields: &[(http::HeaderName, &str)]| {
            let fields = fields.iter().map(|(name, value)| (name.clone(), value.parse().unwrap()));
            Exposure::of(&HeaderMap::from_iter(fields)).is_some()
        };
        assert!(of(&[(CONTENT_TYPE, "application/problem+json; charset=utf-8")]));
        assert!(of(&[(CONTENT_TYPE, "Text/CSV"), (CONTENT_ENCODING, "identity")]));
        assert!(!of(&[(CONTENT_TYPE, "text/html"), (CONTENT_ENCODING, "gzip")]));
        assert!(!of(&[(CONTENT_TYPE, "image/png")]));
        assert!(!of(&[]));
        let late = format!("{}{CARD}", " ".repeat(SCANNED_MAX));
        assert_eq!(whole(&late), Exposed::default());
        let cut = format!("{}4111111111111111", " ".repeat(SCANNED_MAX - 16));
        assert_eq!(whole(&cut), Exposed::default(), "it might go on");
    }
}
