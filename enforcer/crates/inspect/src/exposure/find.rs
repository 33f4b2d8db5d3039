//! The finders. Each passes over a text once, and looks closer only where something could be.

use std::ops::Range;
use std::sync::LazyLock;

use aho_corasick::{AhoCorasick, AhoCorasickKind};
use memchr::memchr_iter;

/// A part of a body, of which the first `judged` bytes were looked at before.
pub(super) struct Text<'a> {
    pub(super) bytes: &'a [u8],
    pub(super) judged: usize,
    /// Something stood in front of it.
    pub(super) is_cut: bool,
    /// Nothing follows it.
    pub(super) is_end: bool,
}

/// How a secret begins, and how many characters of a word follow at least. By the makers' own
/// documents, and the rules of public scanners for them.
const SECRETS: &[(&str, usize)] = &[
    ("-----BEGIN PRIVATE KEY-----", 0),
    ("-----BEGIN RSA PRIVATE KEY-----", 0),
    ("-----BEGIN EC PRIVATE KEY-----", 0),
    ("-----BEGIN DSA PRIVATE KEY-----", 0),
    ("-----BEGIN OPENSSH PRIVATE KEY-----", 0),
    ("-----BEGIN ENCRYPTED PRIVATE KEY-----", 0),
    ("-----BEGIN PGP PRIVATE KEY BLOCK-----", 0),
    ("AGE-SECRET-KEY-1", 58),
    ("AKIA", 16),
    ("ASIA", 16),
    ("AIza", 35),
    ("ghp_", 36),
    ("gho_", 36),
    ("ghu_", 36),
    ("ghs_", 36),
    ("ghr_", 36),
    ("github_pat_", 36),
    ("glpat-", 20),
    ("npm_", 36),
    ("pypi-AgEIcHlwaS5vcmc", 32),
    ("sk_live_", 16),
    ("rk_live_", 16),
    ("xoxb-", 10),
    ("xoxp-", 10),
    ("xoxa-", 10),
    ("xoxs-", 10),
    ("hvs.", 24),
    ("enf_live_", 24),
    ("$2a$", 56),
    ("$2b$", 56),
    ("$2y$", 56),
    ("$argon2id$v=", 20),
    ("$argon2i$v=", 20),
];

#[expect(clippy::expect_used, reason = "the patterns are constants, and a test builds them")]
static SECRET_BEGINS: LazyLock<AhoCorasick> = LazyLock::new(|| {
    let begins = SECRETS.iter().map(|(begin, _)| begin);
    AhoCorasick::builder().kind(Some(AhoCorasickKind::DFA)).build(begins).expect("they are few")
});

/// The lengths of IBANs by country (the registry of ISO 13616, as of 2024).
const IBANS: &[(&[u8; 2], usize)] = &[
    (b"AD", 24),
    (b"AE", 23),
    (b"AL", 28),
    (b"AT", 20),
    (b"AZ", 28),
    (b"BA", 20),
    (b"BE", 16),
    (b"BG", 22),
    (b"BH", 22),
    (b"BR", 29),
    (b"CH", 21),
    (b"CR", 22),
    (b"CY", 28),
    (b"CZ", 24),
    (b"DE", 22),
    (b"DK", 18),
    (b"DO", 28),
    (b"EE", 20),
    (b"EG", 29),
    (b"ES", 24),
    (b"FI", 18),
    (b"FO", 18),
    (b"FR", 27),
    (b"GB", 22),
    (b"GE", 22),
    (b"GI", 23),
    (b"GL", 18),
    (b"GR", 27),
    (b"GT", 28),
    (b"HR", 21),
    (b"HU", 28),
    (b"IE", 22),
    (b"IL", 23),
    (b"IS", 26),
    (b"IT", 27),
    (b"JO", 30),
    (b"KW", 30),
    (b"KZ", 20),
    (b"LB", 28),
    (b"LI", 21),
    (b"LT", 20),
    (b"LU", 20),
    (b"LV", 21),
    (b"MC", 27),
    (b"MD", 24),
    (b"ME", 22),
    (b"MK", 19),
    (b"MT", 31),
    (b"MU", 30),
    (b"NL", 18),
    (b"NO", 15),
    (b"PK", 24),
    (b"PL", 28),
    (b"PT", 25),
    (b"QA", 29),
    (b"RO", 24),
    (b"RS", 22),
    (b"SA", 24),
    (b"SE", 24),
    (b"SI", 19),
    (b"SK", 24),
    (b"SM", 27),
    (b"TN", 24),
    (b"TR", 26),
    (b"UA", 29),
    (b"VG", 24),
    (b"XK", 20),
];

/// The shortest number of a card, and of an account.
const CARD_MIN: usize = 13;
const IBAN_MIN: usize = 15;

/// Cards print groups of at most so many digits.
const GROUP_MAX: usize = 6;

/// So much behind a value has to be known to know that it does not go on: a gap, and whether what
/// follows is a group.
const AHEAD: usize = GROUP_MAX + 2;

/// A name and a domain are at most so long here; RFC 5321 allows more than anybody has.
const NAME_MAX: usize = 64;
const DOMAIN_MAX: usize = 60;

impl Text<'_> {
    pub(super) fn secrets(&self) -> u32 {
        self.count(SECRET_BEGINS.find_overlapping_iter(self.bytes).filter_map(|begin| {
            let (literal, more) = SECRETS.get(begin.pattern().as_usize())?;
            if literal.starts_with(|first: char| first.is_alphanumeric())
                && self.before(begin.start()).is_some_and(is_word)
            {
                return None;
            }
            let end = begin.end() + more;
            let rest = self.bytes.get(begin.end()..end)?;
            rest.iter().all(|byte| is_of_secret(*byte)).then_some(begin.start()..end)
        }))
    }

    pub(super) fn cards(&self) -> u32 {
        let runs = self.runs(CARD_MIN, |byte| byte.is_ascii_digit() || is_gap(byte));
        self.count(runs.flat_map(|run| self.numbers(run)).filter(|number| {
            let before = self.before(number.start);
            let is_alone = before.is_none_or(|byte| !is_word(byte) && byte != b'.')
                && !self.bytes.get(number.end).copied().is_some_and(is_word);
            is_alone && self.bytes.get(number.clone()).is_some_and(is_card)
        }))
    }

    /// The numbers in a run of digits and gaps: groups of few digits with one gap between them are one
    /// number, and more digits in a row one of their own.
    fn numbers(&self, run: Range<usize>) -> impl Iterator<Item = Range<usize>> {
        let mut at = run.start;
        let mut groups = std::iter::from_fn(move || {
            let rest = self.bytes.get(at..run.end)?;
            let start = at + rest.iter().position(u8::is_ascii_digit)?;
            let digits = self.bytes.get(start..run.end)?;
            at = start + digits.iter().take_while(|byte| byte.is_ascii_digit()).count();
            Some(start..at)
        })
        .peekable();
        std::iter::from_fn(move || {
            let mut number = groups.next()?;
            if number.len() <= GROUP_MAX {
                let goes_on = |end: usize, next: &Range<usize>| {
                    next.start == end + 1 && next.len() <= GROUP_MAX
                };
                while let Some(next) = groups.next_if(|next| goes_on(number.end, next)) {
                    number.end = next.end;
                }
            }
            Some(number)
        })
    }

    pub(super) fn accounts(&self) -> u32 {
        let runs = self.runs(IBAN_MIN, |byte| byte.is_ascii_uppercase() || byte.is_ascii_digit());
        self.count(runs.filter_map(|run| {
            let is_alone = !self.before(run.start).is_some_and(is_word)
                && !self.bytes.get(run.end).copied().is_some_and(is_word);
            (is_alone && is_iban(self.bytes.get(run.clone())?)).then_some(run)
        }))
    }

    pub(super) fn emails(&self) -> u32 {
        self.count(memchr_iter(b'@', self.bytes).filter_map(|at| {
            let (name, domain) = (self.bytes.get(..at)?, self.bytes.get(at + 1..)?);
            let of_name = |byte: &&u8| is_word(**byte) || b".%+-".contains(byte);
            let of_domain = |byte: &&u8| byte.is_ascii_alphanumeric() || b".-".contains(byte);
            let before = name.iter().rev().take(NAME_MAX).take_while(of_name).count();
            let after = domain.iter().take(DOMAIN_MAX).take_while(of_domain).count();
            let domain = domain.get(..after)?;
            // The dot behind a sentence is not the domain's.
            let domain = domain.strip_suffix(b".").unwrap_or(domain);
            let top = domain.rsplit(|byte| *byte == b'.').next()?;
            let is_address = before > 0
                && top.len() >= 2
                && top.len() < domain.len()
                && !domain.starts_with(b".")
                && top.iter().all(u8::is_ascii_alphabetic);
            is_address.then_some(at - before..at + 1 + after)
        }))
    }

    /// How many of `found` were not counted before, and cannot go on behind what is known.
    fn count(&self, found: impl Iterator<Item = Range<usize>>) -> u32 {
        let is_known = |found: &Range<usize>, known: usize| found.end + AHEAD <= known;
        let is_new = |found: &Range<usize>| {
            !is_known(found, self.judged)
                && (is_known(found, self.bytes.len()) || self.is_end)
                && !(self.is_cut && found.start == 0)
        };
        u32::try_from(found.filter(is_new).count()).unwrap_or(u32::MAX)
    }

    fn before(&self, at: usize) -> Option<u8> {
        self.bytes.get(at.checked_sub(1)?).copied()
    }

    /// Every run of at least `least` bytes that `are`. Such a run covers a multiple of `least`, so
    /// that most bytes are passed over unseen.
    fn runs(&self, least: usize, are: impl Fn(u8) -> bool) -> impl Iterator<Item = Range<usize>> {
        let mut probe = least - 1;
        std::iter::from_fn(move || {
            loop {
                if !are(*self.bytes.get(probe)?) {
                    probe += least;
                    continue;
                }
                let before = self.bytes.get(..probe)?.iter().rev().take_while(|byte| are(**byte));
                let start = probe - before.count();
                let after = self.bytes.get(probe..)?.iter().take_while(|byte| are(**byte));
                let end = probe + after.count();
                probe = end + least;
                if end - start >= least {
                    return Some(start..end);
                }
            }
        })
    }
}

const fn is_gap(byte: u8) -> bool {
    matches!(byte, b' ' | b'-')
}

const fn is_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_'
}

const fn is_of_secret(byte: u8) -> bool {
    is_word(byte) || matches!(byte, b'-' | b'.' | b'/' | b'+' | b'=' | b'$' | b',')
}

/// Digits of a card in a row, or in the groups that cards print, with the check digit of Luhn (ISO/IEC
/// 7812-1, annex B) and a first part that an issuer of payment cards has.
fn is_card(shown: &[u8]) -> bool {
    let groups: Vec<usize> = shown.split(|byte| !byte.is_ascii_digit()).map(<[u8]>::len).collect();
    let digits: Vec<u32> = shown
        .iter()
        .filter(|byte| byte.is_ascii_digit())
        .map(|&digit| u32::from(digit - b'0'))
        .collect();
    let is_grouped = matches!(*groups, [_] | [4, 4, 4, 4] | [4, 6, 5] | [4, 4, 4, 4, 1..=3]);
    let first =
        |count: usize| digits.iter().take(count).fold(0, |number, digit| number * 10 + digit);
    let is_issued = matches!(
        (digits.len(), first(2), first(4)),
        // Visa, Mastercard
        (13 | 16, 40..=49, _) | (16, 51..=55, _) | (16, _, 2_221..=2_720)
            // American Express, Diners Club
            | (15, 34 | 37, _) | (14, 36 | 38..=39, _) | (14, _, 3_000..=3_059)
            // Discover, JCB, UnionPay
            | (16..=19, 62 | 65, _) | (16..=19, _, 6_011 | 6_440..=6_499) | (16, _, 3_528..=3_589)
    );
    is_grouped && is_issued && luhn(&digits)
}

fn luhn(digits: &[u32]) -> bool {
    let doubled = |digit: u32| if digit > 4 { digit * 2 - 9 } else { digit * 2 };
    let sum: u32 = digits
        .iter()
        .rev()
        .enumerate()
        .map(|(place, &digit)| if place % 2 == 1 { doubled(digit) } else { digit })
        .sum();
    // A row of one digit is a filler.
    sum.is_multiple_of(10) && digits.windows(2).any(|pair| pair.first() != pair.last())
}

/// A country of the registry, its length, and the remainder of ISO 7064 (MOD 97-10).
fn is_iban(number: &[u8]) -> bool {
    let Some((head, account)) = number.split_at_checked(4) else { return false };
    let is_known =
        IBANS.iter().any(|(country, length)| head.starts_with(*country) && number.len() == *length);
    let values = account.iter().chain(head).map(|&byte| match byte {
        b'0'..=b'9' => u32::from(byte - b'0'),
        other => u32::from(other.saturating_sub(b'A')) + 10,
    });
    let remainder =
        values.fold(0, |rest, value| (rest * if value > 9 { 100 } else { 10 } + value) % 97);
    is_known && remainder == 1
}
