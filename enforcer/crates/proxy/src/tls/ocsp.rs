//! What an authority says of a certificate: an OCSP response (RFC 6960), to be stapled.
//!
//! It is looked at as far as it takes to know that clients can use it: it is about this certificate,
//! says that it is good, and its time has not run out. Its signature is for the client to verify, who
//! does not trust us to have done so.

use enforcer_model::Timestamp;
use ring::digest::{self, digest};

use super::der::{Der, ENUMERATED, INTEGER, OCTET_STRING, OID, SEQUENCE, Value};
use super::facts::Facts;

/// A response that can be stapled until its end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Staple {
    pub(super) der: Vec<u8>,
    pub(super) from: Timestamp,
    pub(super) until: Option<Timestamp>,
}

/// Why a response is not stapled.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Useless {
    #[error("it is about another certificate")]
    Foreign,
    #[error("it is no OCSP response in DER")]
    Malformed,
    #[error("it says that the certificate is revoked")]
    Revoked,
    #[error("its authority knows nothing of the certificate")]
    Unknown,
    #[error("it is an error of the authority's, no answer")]
    Unsuccessful,
}

/// The longest response, in bytes.
pub(super) const BYTES_MAX: u64 = 64 * 1024;

const BASIC_RESPONSE: &[u8] = &[0x2b, 0x06, 0x01, 0x05, 0x05, 0x07, 0x30, 0x01, 0x01];
const SHA1: &[u8] = &[0x2b, 0x0e, 0x03, 0x02, 0x1a];
const SHA256: &[u8] = &[0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02, 0x01];

/// What `der` says of the certificate with these `facts`, vouched for by one with the public key
/// `issuer_key`, if that is known.
pub(super) fn read(
    der: Vec<u8>,
    facts: &Facts,
    issuer_key: Option<&[u8]>,
) -> Result<Staple, Useless> {
    let answers = answers(&der)?;
    let mut answers = Der(answers);
    while !answers.is_empty() {
        let answer = answers.sequence().and_then(Answer::read).ok_or(Useless::Malformed)?;
        if !answer.is_about(facts, issuer_key) {
            continue;
        }
        // [0] good, [1] revoked, [2] unknown.
        return match answer.status.tag & 0x1f {
            0 => {
                let (from, until) = (answer.from, answer.until);
                Ok(Staple { der, from, until })
            }
            1 => Err(Useless::Revoked),
            _ => Err(Useless::Unknown),
        };
    }
    Err(Useless::Foreign)
}

/// The single responses inside of a successful basic response.
fn answers(der: &[u8]) -> Result<&[u8], Useless> {
    let mut all = Der(der);
    let mut response = all.sequence().filter(|_| all.is_empty()).ok_or(Useless::Malformed)?;
    let status = response.expect(ENUMERATED).ok_or(Useless::Malformed)?;
    if status.inside != [0] {
        return Err(Useless::Unsuccessful);
    }
    let inside = || -> Option<&[u8]> {
        let mut typed = response.expect(0xa0)?.values().sequence()?;
        typed.expect(OID).filter(|kind| kind.inside == BASIC_RESPONSE)?;
        let mut basic = typed.expect(OCTET_STRING)?.values().sequence()?;
        let mut data = basic.sequence()?;
        data.optional(0xa0);
        // Who responds ([1] or [2]), and when it did.
        data.next()?;
        data.next()?;
        Some(data.expect(SEQUENCE)?.inside)
    };
    let mut inside = inside;
    inside().ok_or(Useless::Malformed)
}

/// What is said of one certificate.
struct Answer<'a> {
    algorithm: &'a [u8],
    issuer_name_hash: &'a [u8],
    issuer_key_hash: &'a [u8],
    serial: &'a [u8],
    status: Value<'a>,
    from: Timestamp,
    until: Option<Timestamp>,
}

impl<'a> Answer<'a> {
    fn read(mut der: Der<'a>) -> Option<Self> {
        let mut id = der.sequence()?;
        Some(Self {
            algorithm: id.sequence()?.expect(OID)?.inside,
            issuer_name_hash: id.expect(OCTET_STRING)?.inside,
            issuer_key_hash: id.expect(OCTET_STRING)?.inside,
            serial: id.expect(INTEGER)?.inside,
            status: der.next()?,
            from: der.next()?.time()?,
            until: match der.optional(0xa0) {
                Some(until) => Some(until.values().next()?.time()?),
                None => None,
            },
        })
    }

    fn is_about(&self, facts: &Facts, issuer_key: Option<&[u8]>) -> bool {
        let algorithm = match self.algorithm {
            SHA1 => &digest::SHA1_FOR_LEGACY_USE_ONLY,
            SHA256 => &digest::SHA256,
            _ => return false,
        };
        let is = |bytes: &[u8], hash: &[u8]| digest(algorithm, bytes).as_ref() == hash;
        self.serial == &*facts.serial
            && is(&facts.issuer_der, self.issuer_name_hash)
            && issuer_key.is_none_or(|key| is(key, self.issuer_key_hash))
    }
}
