//! What a log asks a witness (C2SP tlog-witness, `add-checkpoint`): one spelling, bounded.

use std::fmt;

use crate::merkle::Hash;
use crate::note::{decode, encode, parse_number};

use super::consistency::PROOF_HASHES_MAX;

/// Bytes of the longest request: the longest proof and the longest checkpoint.
pub const REQUEST_BYTES_MAX: usize = 20 << 10;

/// The content type of the answer that tells which size a witness knows.
pub const SIZE_TYPE: &str = "text/x.tlog.size";

/// A checkpoint, and the proof that it continues the one that the witness knows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AddCheckpoint {
    /// Leaves of the tree that the witness knows; zero when it knows none.
    pub old: u64,
    /// From that one to the checkpoint's.
    pub proof: Vec<Hash>,
    /// The signed checkpoint.
    pub note: String,
}

/// Not in the form of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RequestError {
    /// A line of the proof is not the base64 of a hash, or there are too many.
    #[error("the consistency proof is not lines of base64, 63 at most")]
    Proof,
    /// The first line.
    #[error("the first line is not `old` and a size")]
    Old,
    /// There is no checkpoint.
    #[error("no empty line stands before the checkpoint")]
    Separator,
    /// It is not text.
    #[error("the request is not text, or is too long")]
    Text,
}

impl AddCheckpoint {
    /// The request in `body`.
    pub fn parse(body: &[u8]) -> Result<Self, RequestError> {
        if body.len() > REQUEST_BYTES_MAX {
            return Err(RequestError::Text);
        }
        let body = std::str::from_utf8(body).or(Err(RequestError::Text))?;
        let (head, note) = body.split_once("\n\n").ok_or(RequestError::Separator)?;
        let mut lines = head.split('\n');
        let old = lines.next().and_then(|line| parse_number(line.strip_prefix("old ")?));
        let old = old.ok_or(RequestError::Old)?;
        let hash = |line| decode(line)?.try_into().ok();
        let proof: Option<Vec<Hash>> = lines.map(hash).collect();
        let proof = proof.filter(|proof| proof.len() <= PROOF_HASHES_MAX);
        Ok(Self { old, proof: proof.ok_or(RequestError::Proof)?, note: note.to_owned() })
    }
}

impl fmt::Display for AddCheckpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "old {}", self.old)?;
        self.proof.iter().try_for_each(|hash| writeln!(f, "{}", encode(hash)))?;
        write!(f, "\n{}", self.note)
    }
}

/// The size in the answer of a witness that knows another one than was said.
pub fn parse_size(body: &[u8]) -> Option<u64> {
    parse_number(std::str::from_utf8(body).ok()?.strip_suffix('\n')?)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The request in the specification.
    const EXAMPLE: &str = "old 20852014\n\
        PlRNCrwHpqhGrupue0L7gxbjbMiKA9temvuZZDDpkaw=\n\
        jrJZDmY8Y7SyJE0MWLpLozkIVMSMZcD5kvuKxPC3swk=\n\
        5+pKlUdi2LeF/BcMHBn+Ku6yhPGNCswZZD1X/6QgPd8=\n\
        /6WVhPs2CwSsb5rYBH5cjHV/wSmA79abXAwhXw3Kj/0=\n\
        \n\
        example.com/behind-the-sofa\n20852163\nCsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=\n\
        \n— example.com/behind-the-sofa Az3grlgtzPICa5OS8npVmf1Myq/5IZniMp+ZJurmRDeOoRDe4URYN7u5/Zh\
        cyv2q1gGzGku9nTo+zyWE+xeMcTOAYQ8=\n";

    #[test]
    fn the_request_in_the_specification_is_read_and_written_byte_for_byte() {
        let request = AddCheckpoint::parse(EXAMPLE.as_bytes()).unwrap();

        assert_eq!((request.old, request.proof.len()), (20_852_014, 4));
        assert!(request.note.starts_with("example.com/behind-the-sofa\n20852163\n"));
        assert_eq!(request.to_string(), EXAMPLE);
    }

    #[test]
    fn what_is_spelled_otherwise_is_refused() {
        let hash = encode(&[1; 32]);
        let many = format!("old 1\n{}\nnote", format!("{hash}\n").repeat(64));
        for (body, why) in [
            ("", RequestError::Separator),
            ("old 1\nnote", RequestError::Separator),
            ("old 01\n\nnote", RequestError::Old),
            ("old +1\n\nnote", RequestError::Old),
            ("old -1\n\nnote", RequestError::Old),
            ("old  1\n\nnote", RequestError::Old),
            ("old 1 \n\nnote", RequestError::Old),
            ("old 1\r\n\nnote", RequestError::Old),
            ("old 18446744073709551616\n\nnote", RequestError::Old),
            ("OLD 1\n\nnote", RequestError::Old),
            ("\n\nnote", RequestError::Old),
            ("old 1\nAQ==\n\nnote", RequestError::Proof),
            ("old 1\nAQ\n\nnote", RequestError::Proof),
            (&many, RequestError::Proof),
        ] {
            assert_eq!(AddCheckpoint::parse(body.as_bytes()), Err(why), "{body}");
        }
        let long = vec![b'a'; REQUEST_BYTES_MAX + 1];
        assert_eq!(AddCheckpoint::parse(&long), Err(RequestError::Text));
        assert_eq!(AddCheckpoint::parse(b"old 1\n\n\xff"), Err(RequestError::Text));
    }

    #[test]
    fn the_size_that_a_witness_knows_has_one_spelling() {
        assert_eq!(parse_size(b"20852014\n"), Some(20_852_014));
        for wrong in ["", "\n", "1", "01\n", "1\n\n", " 1\n", "-1\n", "1 \n"] {
            assert_eq!(parse_size(wrong.as_bytes()), None, "{wrong:?}");
        }
    }

    proptest! {
        #[test]
        fn every_request_survives_being_written(
            old: u64, proof in prop::collection::vec(any::<Hash>(), 0..=63), note in "[ -~\n]{0,200}",
        ) {
            let request = AddCheckpoint { old, proof, note };
            prop_assert_eq!(AddCheckpoint::parse(request.to_string().as_bytes()), Ok(request));
        }

        #[test]
        fn whatever_is_read_is_written_the_same(body in "old [0-9]{1,3}\n([A-Za-z0-9+/]{43}=\n)?\n[ -~\n]{0,40}") {
            if let Ok(request) = AddCheckpoint::parse(body.as_bytes()) {
                prop_assert_eq!(request.to_string(), body);
            }
        }
    }
}
