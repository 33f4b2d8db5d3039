//! That a checkpoint existed at a time: requests to a timestamping authority and its answers
//! (RFC 3161).
//!
//! The answer is checked for what only we can know: that it was granted, and that it is about our
//! bytes and our nonce. Whether its signature leads to an authority that somebody believes is for
//! `openssl ts -verify`, with the authorities that he believes; so the answer is kept as it came.

use ring::rand::{SecureRandom, SystemRandom};

use crate::merkle::{HASH_BYTES, Hash, sha256};

use super::der::{
    self, BIT_STRING, BOOLEAN, CONTEXT_0, GENERALIZED_TIME, INTEGER, NULL, OBJECT, OCTET_STRING,
    Reader, SEQUENCE, SET, UTF8_STRING,
};

/// Bytes of the longest answer that is read; certificates make most of it.
pub const TOKEN_BYTES_MAX: usize = 64 << 10;

/// 2.16.840.1.101.3.4.2.1
const SHA_256: &[u8] = &[0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02, 0x01];
/// 1.2.840.113549.1.7.2
const SIGNED_DATA: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x07, 0x02];
/// 1.2.840.113549.1.9.16.1.4
const TST_INFO: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x09, 0x10, 0x01, 0x04];

/// A question to a timestamping authority.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TimestampRequest {
    imprint: Hash,
    /// Without leading zeroes.
    nonce: Vec<u8>,
}

/// What a granted answer says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stamped {
    /// The authority's time, as it is written: `20260131120000Z`.
    pub time: String,
    /// The hash of what existed then.
    pub imprint: Hash,
    /// Without leading zeroes; none was asked for, or none was given.
    pub nonce: Option<Vec<u8>>,
}

/// The answer is no timestamp over what was asked.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TimestampError {
    /// Not in the form of RFC 3161, strictly.
    #[error("not an answer in the form of RFC 3161")]
    Form,
    /// About other bytes.
    #[error("the timestamp is about other bytes")]
    Imprint,
    /// To another question.
    #[error("the timestamp answers another question: its nonce is not ours")]
    Nonce,
    /// The authority refused.
    #[error("the authority refused: status {status}{}", said(.text))]
    Refused {
        /// As RFC 3161 numbers it.
        status: u8,
        /// Its words.
        text: Option<String>,
    },
}

impl Stamped {
    /// The authority's time, to the second.
    pub fn at(&self) -> Option<enforcer_model::Timestamp> {
        let part = |range: std::ops::Range<usize>| self.time.get(range);
        let day = format!("{}-{}-{}", part(0..4)?, part(4..6)?, part(6..8)?);
        format!("{day}T{}:{}:{}Z", part(8..10)?, part(10..12)?, part(12..14)?).parse().ok()
    }
}

impl TimestampRequest {
    /// About `bytes`; none when the system gives no random bits.
    pub fn about(bytes: &[u8]) -> Option<Self> {
        let mut nonce = [0; 16];
        SystemRandom::new().fill(&mut nonce).ok()?;
        // One without a zero in front has one spelling.
        let nonce = nonce.into_iter().skip_while(|byte| *byte == 0).collect();
        Some(Self { imprint: sha256(bytes), nonce })
    }

    /// As it is sent, with the content type `application/timestamp-query`.
    pub fn to_bytes(&self) -> Vec<u8> {
        let parts = [
            der::number(&[1]),
            imprint(&self.imprint),
            der::number(&self.nonce),
            der::value(BOOLEAN, &[0xff]),
        ];
        der::value(SEQUENCE, &parts.concat())
    }

    /// What `answer` says, if it is a timestamp that was granted to this very question.
    pub fn check(&self, answer: &[u8]) -> Result<Stamped, TimestampError> {
        let timestamp = read_timestamp(answer)?;
        if timestamp.imprint != self.imprint {
            return Err(TimestampError::Imprint);
        }
        if timestamp.nonce.as_ref() != Some(&self.nonce) {
            return Err(TimestampError::Nonce);
        }
        Ok(timestamp)
    }
}

/// What a granted answer says, whoever asked.
pub fn read_timestamp(answer: &[u8]) -> Result<Stamped, TimestampError> {
    if answer.len() > TOKEN_BYTES_MAX {
        return Err(TimestampError::Form);
    }
    let (status, text, token) = parse_response(answer).ok_or(TimestampError::Form)?;
    // 0: granted, 1: granted with changes.
    if status > 1 {
        return Err(TimestampError::Refused { status, text });
    }
    token.and_then(parse_token).ok_or(TimestampError::Form)
}

/// `TimeStampResp`: status, words, and the rest.
fn parse_response(answer: &[u8]) -> Option<(u8, Option<String>, Option<Reader<'_>>)> {
    let mut outer = Reader::new(answer);
    let mut response = outer.inside(SEQUENCE)?;
    let mut info = response.inside(SEQUENCE)?;
    let status = info.small()?;
    let text = match info.optional(SEQUENCE)? {
        Some(words) => {
            let first = Reader::new(words).value(UTF8_STRING)?;
            Some(std::str::from_utf8(first).ok()?.chars().filter(|c| !c.is_control()).collect())
        }
        None => None,
    };
    info.optional(BIT_STRING)?;
    let token = if response.is_at_end() { None } else { Some(response.inside(SEQUENCE)?) };
    let is_whole = outer.is_at_end() && info.is_at_end() && response.is_at_end();
    is_whole.then_some((status, text, token))
}

/// The `TSTInfo` in a `ContentInfo` of `SignedData`.
fn parse_token(mut token: Reader<'_>) -> Option<Stamped> {
    if token.value(OBJECT)? != SIGNED_DATA {
        return None;
    }
    let mut explicit = token.inside(CONTEXT_0)?;
    let mut signed = explicit.inside(SEQUENCE)?;
    if !token.is_at_end() || !explicit.is_at_end() {
        return None;
    }
    signed.small()?;
    signed.value(SET)?;
    let mut content = signed.inside(SEQUENCE)?;
    if content.value(OBJECT)? != TST_INFO {
        return None;
    }
    let mut explicit = content.inside(CONTEXT_0)?;
    let mut octets = Reader::new(explicit.value(OCTET_STRING)?);
    let mut info = octets.inside(SEQUENCE)?;
    // Certificates and signers follow; an unsigned one would have none of them.
    let is_whole = octets.is_at_end() && explicit.is_at_end() && content.is_at_end();
    if !is_whole || signed.is_at_end() || info.small()? != 1 {
        return None;
    }
    info.value(OBJECT)?;
    let imprint = parse_imprint(&mut info)?;
    info.unsigned()?;
    let time = std::str::from_utf8(info.value(GENERALIZED_TIME)?).ok()?;
    let digits = time.strip_suffix('Z')?;
    if digits.len() < 14 || !digits.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.') {
        return None;
    }
    info.optional(SEQUENCE)?;
    info.optional(BOOLEAN)?;
    let nonce = match info.optional(INTEGER)? {
        Some(content) => Some(der::unsigned(content)?.to_vec()),
        None => None,
    };
    Some(Stamped { time: time.to_owned(), imprint, nonce })
}

fn imprint(hash: &Hash) -> Vec<u8> {
    let algorithm = [der::value(OBJECT, SHA_256), der::value(NULL, &[])].concat();
    let parts = [der::value(SEQUENCE, &algorithm), der::value(OCTET_STRING, hash)];
    der::value(SEQUENCE, &parts.concat())
}

fn parse_imprint(info: &mut Reader<'_>) -> Option<Hash> {
    let mut imprint = info.inside(SEQUENCE)?;
    let mut algorithm = imprint.inside(SEQUENCE)?;
    let is_sha256 = algorithm.value(OBJECT)? == SHA_256;
    let parameters = algorithm.optional(NULL)?.unwrap_or_default();
    let hash: [u8; HASH_BYTES] = imprint.value(OCTET_STRING)?.try_into().ok()?;
    let is_whole = algorithm.is_at_end() && imprint.is_at_end() && parameters.is_empty();
    (is_sha256 && is_whole).then_some(hash)
}

fn said(text: &Option<String>) -> String {
    text.as_ref().map_or_else(String::new, |text| format!(", `{text}`"))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Of `openssl ts -reply`, to the question about `checkpoint` with this nonce.
    const GRANTED: &[u8] = include_bytes!("../../tests/timestamp/granted.tsr");
    const REFUSED: &[u8] = include_bytes!("../../tests/timestamp/refused.tsr");
    const NONCE: [u8; 8] = [0x11, 0x22, 0x33, 0x44, 0x55, 0x66, 0x77, 0x88];

    #[test]
    fn an_answer_of_openssl_is_read() {
        let timestamp = question().check(GRANTED).unwrap();

        assert_eq!(timestamp.imprint, sha256(b"checkpoint\n"));
        assert!(timestamp.time.starts_with("20") && timestamp.time.ends_with('Z'));
        let at = timestamp.at().unwrap().to_string();
        assert!(at.starts_with(timestamp.time.get(..4).unwrap()), "{at}");
    }

    #[test]
    fn an_answer_about_other_bytes_or_to_another_question_is_refused() {
        let other = TimestampRequest { imprint: [1; 32], ..question() };
        assert_eq!(other.check(GRANTED), Err(TimestampError::Imprint));
        let other = TimestampRequest { nonce: vec![1], ..question() };
        assert_eq!(other.check(GRANTED), Err(TimestampError::Nonce));
    }

    #[test]
    fn a_refusal_tells_its_status_and_words() {
        let refused = question().check(REFUSED).unwrap_err();

        let TimestampError::Refused { status: 2, text: Some(text) } = refused else {
            panic!("{refused}");
        };
        assert!(!text.is_empty());
    }

    #[test]
    fn an_answer_that_is_cut_or_has_more_behind_it_is_refused() {
        for length in 0..GRANTED.len() {
            assert_eq!(question().check(&GRANTED[..length]), Err(TimestampError::Form), "{length}");
        }
        let longer = [GRANTED, &[0]].concat();
        assert_eq!(question().check(&longer), Err(TimestampError::Form));
        let long = vec![0x30; TOKEN_BYTES_MAX + 1];
        assert_eq!(read_timestamp(&long), Err(TimestampError::Form));
    }

    #[test]
    fn every_question_has_its_own_nonce_and_one_spelling() {
        let (one, two) = (TimestampRequest::about(b"a").unwrap(), TimestampRequest::about(b"a"));

        assert_ne!(Some(&one), two.as_ref());
        let bytes = question().to_bytes();
        let start = [0x30, 0x43, 0x02, 0x01, 0x01, 0x30, 0x31, 0x30, 0x0d, 0x06, 0x09];
        assert!(bytes.starts_with(&start), "{bytes:x?}");
        assert!(bytes.ends_with(&[0x77, 0x88, 0x01, 0x01, 0xff]));
        assert_ne!(one.nonce.first(), Some(&0));
    }

    fn question() -> TimestampRequest {
        TimestampRequest { imprint: sha256(b"checkpoint\n"), nonce: NONCE.to_vec() }
    }
}
