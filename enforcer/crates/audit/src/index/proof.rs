//! Which records of a segment a selector selects, provably all of them: a text for third parties.
//!
//! ```text
//! enforcer-index-proof/1
//! segment FIRST END
//! statement RECORD            or: uncovered
//! handle HANDLE               for each that stands for what the selector wants
//! key KIND BASE64             for each kind of names that follow
//!                             an empty line before each name
//! present PLACE NONCE         or: absent
//! records N N …               before PLACE NAME COMMITMENT, after PLACE NAME COMMITMENT
//! HASH                        the path to the root, one hash a line, below each
//! ```
//!
//! The names are not written down: whoever verifies makes them from the selector and the keys, and
//! the keys must be those that the `segment` record commits to. So a proof about another selector,
//! or with a name left out, is none.

use super::Statement;
use super::build::{entry_leaf, numbers_commitment};
use super::keys::{ID_BITS, Kind, commitment, id_of, words_for};
use crate::merkle::{HASH_BYTES, Hash, root_from_inclusion};
use crate::note::{decode, encode, parse_number};
use crate::select::Selector;
use crate::term::handle;

const HEADER: &str = "enforcer-index-proof/1";

/// Names in one proof: a network has as many as there are lengths.
const CLAIMS_MAX: usize = 256;
/// Lines of a proof, of which one may hold a number for each record of a segment.
const TEXT_BYTES_MAX: usize = 256 << 20;
const PATH_HASHES_MAX: usize = 40;

/// What is known of the records `first..end`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SegmentProof {
    /// The first record of the segment.
    pub first: u64,
    /// The first record behind it.
    pub end: u64,
    /// Whether the log vouches for its index.
    pub coverage: Coverage,
}

/// How far a proof reaches.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Coverage {
    /// The log vouches for the index of the segment, which says this.
    Proven(Proven),
    /// It has no index yet that the log vouches for: nothing is proven about these records.
    Uncovered,
}

/// Which records a selector selects in a segment, by the index that the log vouches for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Proven {
    /// The record of class `segment` that does so.
    pub(super) record: u64,
    /// What stands in records for values that the selector wants.
    pub(super) handles: Vec<String>,
    /// The keys under which names are made, as far as they are needed.
    pub(super) keys: Vec<(Kind, [u8; 32])>,
    /// One for each name that the selector has.
    pub(super) claims: Vec<Claim>,
}

/// What is said of one name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Claim {
    /// It is the entry `at`, with these records.
    Present {
        /// Its place in the table.
        at: u64,
        /// Of the commitment.
        nonce: [u8; 16],
        /// The records.
        numbers: Vec<u64>,
        /// From the entry to the root.
        path: Vec<Hash>,
    },
    /// It is none: these two stand side by side, and it would be between them.
    Absent {
        /// None: `after` is the first entry.
        before: Option<Neighbour>,
        /// None: `before` is the last one.
        after: Option<Neighbour>,
    },
}

/// An entry beside the place where a name is not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Neighbour {
    /// Its place in the table.
    pub(super) at: u64,
    /// Its name.
    pub(super) id: u64,
    /// The commitment to its records.
    pub(super) numbers: Hash,
    /// From the entry to the root.
    pub(super) path: Vec<Hash>,
}

/// The proof does not prove anything.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProofError {
    /// Not in the form of a proof.
    #[error("not a proof of completeness")]
    Form,
    /// A key is missing, or not the one that the log commits to.
    #[error("the keys of the proof are not those that the log commits to")]
    Keys,
    /// The names are not those of the selector.
    #[error("the proof is about something else")]
    Names,
    /// The path from an entry does not lead to the root in the log.
    #[error("an entry is not in the index that the log vouches for, or not at this place")]
    Path,
    /// The log vouches for another segment.
    #[error("the statement is about another segment")]
    Segment,
    /// Nothing is proven.
    #[error("records {first} to {end} are not covered by an index that the log vouches for")]
    Uncovered {
        /// The first of them.
        first: u64,
        /// The first behind them.
        end: u64,
    },
}

impl SegmentProof {
    /// The record of class `segment` that has to be verified first; none when nothing is covered.
    pub const fn statement(&self) -> Option<u64> {
        match &self.coverage {
            Coverage::Proven(proven) => Some(proven.record),
            Coverage::Uncovered => None,
        }
    }

    /// Handles that, by the prover's word, stand for values that the selector wants; the `subject`
    /// records of the segment show whether they do.
    pub fn handles(&self) -> &[String] {
        match &self.coverage {
            Coverage::Proven(proven) => &proven.handles,
            Coverage::Uncovered => &[],
        }
    }

    /// The records that `selector` selects among those of the segment, once everything holds: each
    /// of them belongs into a bundle, and no other record of the segment names what it selects, in
    /// clear or by one of [`Self::handles`].
    ///
    /// `statement` is the body of the record [`Self::statement`], whose place in the log was proven.
    ///
    /// A few may name something else: those of the next wider network that an index knows, and those
    /// of another name with the same hash. Each record says so itself.
    pub fn verify(
        &self,
        selector: &Selector,
        statement: &Statement,
    ) -> Result<Vec<u64>, ProofError> {
        let Coverage::Proven(Proven { record: _, handles, keys, claims }) = &self.coverage else {
            return Err(ProofError::Uncovered { first: self.first, end: self.end });
        };
        if (statement.first, statement.end) != (self.first, self.end) {
            return Err(ProofError::Segment);
        }
        let genuine =
            |(kind, key): &(Kind, [u8; 32])| statement.commitment(*kind) == Some(commitment(key));
        if !keys.iter().all(genuine) {
            return Err(ProofError::Keys);
        }
        let words = words_for(selector, &statement.lengths(), handles).ok_or(ProofError::Names)?;
        if words.len() != claims.len() {
            return Err(ProofError::Names);
        }
        let mut records = Vec::new();
        for (word, claim) in words.iter().zip(claims) {
            let key = keys.iter().find(|(kind, _)| *kind == word.kind).ok_or(ProofError::Keys)?;
            records.extend(claim.verify(id_of(&key.1, &word.value), statement)?);
        }
        records.sort_unstable();
        records.dedup();
        Ok(records)
    }

    /// The proof as text.
    pub fn to_text(&self) -> String {
        let Self { first, end, coverage } = self;
        let mut text = format!("{HEADER}\nsegment {first} {end}\n");
        let Coverage::Proven(Proven { record, handles, keys, claims }) = coverage else {
            text.push_str("uncovered\n");
            return text;
        };
        text.push_str(&format!("statement {record}\n"));
        handles.iter().for_each(|handle| text.push_str(&format!("handle {handle}\n")));
        for (kind, key) in keys {
            text.push_str(&format!("key {} {}\n", kind.as_str(), encode(key)));
        }
        for claim in claims {
            text.push('\n');
            claim.write(&mut text);
        }
        text
    }

    /// The proof in `text`, as [`Self::to_text`] writes it.
    pub fn parse(text: &str) -> Result<Self, ProofError> {
        if text.len() > TEXT_BYTES_MAX {
            return Err(ProofError::Form);
        }
        let proof = read(text).ok_or(ProofError::Form)?;
        // One proof has one text.
        if proof.to_text() == text { Ok(proof) } else { Err(ProofError::Form) }
    }
}

fn read(text: &str) -> Option<SegmentProof> {
    let text = text.strip_suffix('\n')?;
    let mut parts = text.split("\n\n");
    let mut head = parts.next()?.split('\n');
    if head.next()? != HEADER {
        return None;
    }
    let (first, end) = head.next()?.strip_prefix("segment ")?.split_once(' ')?;
    let (first, end) = (parse_number(first)?, parse_number(end)?);
    let coverage = head.next()?;
    if coverage == "uncovered" {
        let is_end = head.next().is_none() && parts.next().is_none();
        return is_end.then_some(SegmentProof { first, end, coverage: Coverage::Uncovered });
    }
    let record = parse_number(coverage.strip_prefix("statement ")?)?;
    let mut head = head.peekable();
    let mut handles = Vec::new();
    while let Some(named) = head.peek().and_then(|line| line.strip_prefix("handle ")) {
        if handles.len() == CLAIMS_MAX || handle(named) != Some(named) {
            return None;
        }
        handles.push(named.to_owned());
        head.next();
    }
    let mut keys = Vec::new();
    for line in head {
        if keys.len() == Kind::ALL.len() {
            return None;
        }
        let (kind, key) = line.strip_prefix("key ")?.split_once(' ')?;
        keys.push((Kind::named(kind)?, decode(key)?.try_into().ok()?));
    }
    let mut claims = Vec::new();
    for part in parts {
        if claims.len() == CLAIMS_MAX {
            return None;
        }
        claims.push(Claim::read(part)?);
    }
    let coverage = Coverage::Proven(Proven { record, handles, keys, claims });
    Some(SegmentProof { first, end, coverage })
}

impl Claim {
    /// The records of the name `id`, if the claim holds.
    fn verify(&self, id: u64, statement: &Statement) -> Result<&[u64], ProofError> {
        match self {
            Self::Present { at, nonce, numbers, path } => {
                let inside =
                    numbers.iter().all(|number| (statement.first..statement.end).contains(number));
                if !inside || numbers.is_empty() || !numbers.is_sorted_by(|one, next| one < next) {
                    return Err(ProofError::Form);
                }
                let committed = numbers_commitment(nonce, numbers.iter().copied());
                holds(*at, id, &committed, path, statement)?;
                Ok(numbers)
            }
            Self::Absent { before, after } => {
                let [before_at, after_at] =
                    [before, after].map(|side| side.as_ref().map(|it| it.at));
                let side_by_side = match (before_at, after_at) {
                    (None, None) => statement.keys == 0,
                    (None, Some(at)) => at == 0,
                    (Some(at), None) => at.checked_add(1) == Some(statement.keys),
                    (Some(before), Some(after)) => before.checked_add(1) == Some(after),
                };
                let around = before.as_ref().is_none_or(|it| it.id < id)
                    && after.as_ref().is_none_or(|it| id < it.id);
                if !side_by_side || !around {
                    return Err(ProofError::Names);
                }
                for it in [before, after].into_iter().flatten() {
                    holds(it.at, it.id, &it.numbers, &it.path, statement)?;
                }
                Ok(&[])
            }
        }
    }

    fn write(&self, text: &mut String) {
        match self {
            Self::Present { at, nonce, numbers, path } => {
                text.push_str(&format!("present {at} {}\nrecords", encode(nonce)));
                numbers.iter().for_each(|number| text.push_str(&format!(" {number}")));
                text.push('\n');
                write_path(path, text);
            }
            Self::Absent { before, after } => {
                text.push_str("absent\n");
                for (side, neighbour) in [("before", before), ("after", after)] {
                    let Some(Neighbour { at, id, numbers, path }) = neighbour else { continue };
                    text.push_str(&format!("{side} {at} {id:010x} {}\n", encode(numbers)));
                    write_path(path, text);
                }
            }
        }
    }

    fn read(part: &str) -> Option<Self> {
        let mut lines = part.split('\n').peekable();
        let first = lines.next()?;
        if let Some(rest) = first.strip_prefix("present ") {
            let (at, nonce) = rest.split_once(' ')?;
            let (at, nonce) = (parse_number(at)?, decode(nonce)?.try_into().ok()?);
            let numbers = lines.next()?.strip_prefix("records ")?;
            let numbers = numbers.split(' ').map(parse_number).collect::<Option<_>>()?;
            let path = read_path(&mut lines)?;
            return lines.next().is_none().then_some(Self::Present { at, nonce, numbers, path });
        }
        if first != "absent" {
            return None;
        }
        let before = Neighbour::read("before ", &mut lines)?;
        let after = Neighbour::read("after ", &mut lines)?;
        lines.next().is_none().then_some(Self::Absent { before, after })
    }
}

impl Neighbour {
    /// Outside: not in the form; inside: not there.
    #[expect(clippy::option_option, reason = "what is not there is in the form, too")]
    fn read<'a>(
        side: &str,
        lines: &mut std::iter::Peekable<impl Iterator<Item = &'a str>>,
    ) -> Option<Option<Self>> {
        let Some(line) = lines.next_if(|line| line.starts_with(side)) else { return Some(None) };
        let mut words = line.strip_prefix(side)?.split(' ');
        let at = parse_number(words.next()?)?;
        let id = u64::from_str_radix(words.next()?, 16).ok().filter(|id| id >> ID_BITS == 0)?;
        let numbers = decode(words.next()?)?.try_into().ok()?;
        let path = read_path(lines)?;
        Some(Some(Self { at, id, numbers, path }))
    }
}

fn write_path(path: &[Hash], text: &mut String) {
    path.iter().for_each(|hash| {
        text.push_str(&encode(hash));
        text.push('\n');
    });
}

/// Lines that are hashes.
fn read_path<'a>(
    lines: &mut std::iter::Peekable<impl Iterator<Item = &'a str>>,
) -> Option<Vec<Hash>> {
    const HASH_CHARACTERS: usize = HASH_BYTES.div_ceil(3) * 4;
    let mut path = Vec::new();
    while let Some(line) =
        lines.next_if(|line| line.len() == HASH_CHARACTERS && !line.contains(' '))
    {
        if path.len() == PATH_HASHES_MAX {
            return None;
        }
        path.push(decode(line)?.try_into().ok()?);
    }
    Some(path)
}

fn holds(
    at: u64,
    id: u64,
    numbers: &Hash,
    path: &[Hash],
    statement: &Statement,
) -> Result<(), ProofError> {
    let root = root_from_inclusion(entry_leaf(id, numbers), at, statement.keys, path);
    if root == Some(statement.root) { Ok(()) } else { Err(ProofError::Path) }
}
