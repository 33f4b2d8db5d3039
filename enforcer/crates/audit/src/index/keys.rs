//! What an index calls a term: a hash under a key that only this segment has.
//!
//! Each kind of term has a key of its own. Whoever shall check a proof about a fingerprint is given
//! the key of fingerprints, and learns nothing about addresses from it; the `segment` record in the
//! log commits to all of them. Equal terms of two segments have different names, so index files of
//! one host cannot be joined without its keys.

use std::net::IpAddr;

use enforcer_model::Prefix;
use ring::hmac;

use crate::merkle::{Hash, sha256};
use crate::select::Selector;
use crate::term::{Term, handle};

/// Bits of a name. Two terms of a segment rarely share one, and a search looks at the records.
pub(super) const ID_BITS: u32 = 40;
/// Bytes of a name.
pub(super) const ID_BYTES: usize = 5;

/// Lengths by which an address is found as part of a network.
const RUNGS_V4: [u8; 4] = [8, 16, 24, 32];
const RUNGS_V6: [u8; 4] = [32, 48, 64, 128];

/// Kinds of terms, in the order of the commitments in a `segment` record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Kind {
    Block,
    Class,
    Handle,
    Hex,
    Incident,
    Key,
    Network,
    Place,
    Principal,
    Reason,
    Request,
    Route,
    Rule,
    Segment,
    Status,
    Token,
}

/// A term as an index knows it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Word {
    pub(super) kind: Kind,
    pub(super) value: Vec<u8>,
}

/// The keys of one segment's index.
#[derive(Debug)]
pub(super) struct Keys {
    kinds: Vec<(Kind, [u8; 32], hmac::Key)>,
    nonces: hmac::Key,
}

/// Lengths of the networks, other than single addresses, that records of a segment name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Lengths {
    pub(super) v4: u64,
    /// A bit for each length below 128.
    pub(super) v6: u128,
}

impl Kind {
    pub(super) const ALL: [Self; 16] = [
        Self::Block,
        Self::Class,
        Self::Handle,
        Self::Hex,
        Self::Incident,
        Self::Key,
        Self::Network,
        Self::Place,
        Self::Principal,
        Self::Reason,
        Self::Request,
        Self::Route,
        Self::Rule,
        Self::Segment,
        Self::Status,
        Self::Token,
    ];

    /// As proofs and keys say it.
    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::Block => "block",
            Self::Class => "class",
            Self::Handle => "handle",
            Self::Hex => "fingerprint",
            Self::Incident => "incident",
            Self::Key => "key",
            Self::Network => "network",
            Self::Place => "place",
            Self::Principal => "principal",
            Self::Reason => "reason",
            Self::Request => "request",
            Self::Route => "route",
            Self::Rule => "rule",
            Self::Segment => "segment",
            Self::Status => "status",
            Self::Token => "token",
        }
    }

    pub(super) fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.as_str() == name)
    }

    /// Whether the filter of the file knows terms of this kind. Requests are as many as records, and
    /// are looked for in the table itself.
    pub(super) fn is_filtered(self) -> bool {
        self != Self::Request
    }
}

impl Word {
    fn new(kind: Kind, value: impl AsRef<[u8]>) -> Self {
        Self { kind, value: value.as_ref().to_vec() }
    }
}

/// Hands over each kind and value that a record with `term` is indexed by.
pub(super) fn words_of(term: &Term<'_>, sink: &mut dyn FnMut(Kind, &[u8])) {
    match term {
        Term::Block(id) => sink(Kind::Block, id.to_string().as_bytes()),
        Term::Case(id) => sink(Kind::Incident, id.as_bytes()),
        Term::Class(class) => sink(Kind::Class, class.as_bytes()),
        Term::Handle(handle) => sink(Kind::Handle, handle.as_bytes()),
        Term::Hex(digits) => sink(Kind::Hex, digits.as_bytes()),
        Term::Incident(level) => sink(Kind::Incident, incident(*level).as_bytes()),
        Term::Key(id) => sink(Kind::Key, id.as_str().as_bytes()),
        Term::Place(place) => {
            for rung in rungs(place.address()).into_iter().filter(|rung| *rung <= place.length()) {
                let around = Prefix::around(place.address(), rung);
                sink(Kind::Place, &place_bytes(around));
            }
            if !place.is_single() {
                sink(Kind::Network, &place_bytes(*place));
            }
        }
        // A caller that is a key is found by its key.
        Term::Principal(name) => {
            if key_of(name).is_none() && handle(name).is_none() {
                sink(Kind::Principal, name.as_bytes());
            }
        }
        Term::Reason(reason) => sink(Kind::Reason, reason.as_bytes()),
        Term::Request(digits) => sink(Kind::Request, digits.as_bytes()),
        Term::Route(name) => sink(Kind::Route, name.as_bytes()),
        Term::Rule(name) => sink(Kind::Rule, name.as_bytes()),
        Term::Segment(first) => sink(Kind::Segment, first.to_string().as_bytes()),
        // As many as records, nearly; what is left out is refused or of another class.
        Term::Served => {}
        Term::Status(status) => sink(Kind::Status, status.to_string().as_bytes()),
        Term::Token(id) => {
            if handle(id).is_none() {
                sink(Kind::Token, id.as_bytes());
            }
        }
    }
}

/// The words whose records hold everything that `selector` selects in a segment whose networks have
/// `lengths`; none when an index does not help. `handles` stand for the values that it wants.
pub(super) fn words_for(
    selector: &Selector,
    lengths: &Lengths,
    handles: &[String],
) -> Option<Vec<Word>> {
    let mut words = match selector {
        Selector::Block(id) => vec![Word::new(Kind::Block, id.to_string())],
        Selector::Case(id) => vec![Word::new(Kind::Incident, id)],
        Selector::Fingerprint(digits) => vec![Word::new(Kind::Hex, digits)],
        Selector::Hex(digits) => {
            vec![Word::new(Kind::Hex, digits), Word::new(Kind::Request, digits)]
        }
        Selector::Incident(level) => vec![
            Word::new(Kind::Incident, incident(Some(u64::from(*level)))),
            Word::new(Kind::Incident, incident(None)),
        ],
        Selector::Key(id) => vec![Word::new(Kind::Key, id.as_str())],
        Selector::Network(network) => network_words(*network, lengths)?,
        Selector::Principal(name) => vec![match key_of(name) {
            Some(id) => Word::new(Kind::Key, id),
            None => Word::new(Kind::Principal, name),
        }],
        Selector::Request(digits) => vec![Word::new(Kind::Request, digits)],
        Selector::Route(name) => vec![Word::new(Kind::Route, name)],
        Selector::Rule(name) => vec![Word::new(Kind::Rule, name)],
        Selector::Token(id) => vec![Word::new(Kind::Token, id)],
    };
    words.extend(handles.iter().map(|handle| Word::new(Kind::Handle, handle)));
    words.sort_unstable();
    words.dedup();
    Some(words)
}

/// Words of filters that are no selectors.
pub(super) fn class_word(class: &str) -> Word {
    Word::new(Kind::Class, class)
}

pub(super) fn status_word(status: u16) -> Word {
    Word::new(Kind::Status, status.to_string())
}

pub(super) fn reason_word(reason: &str) -> Word {
    Word::new(Kind::Reason, reason)
}

pub(super) fn segment_word(first: u64) -> Word {
    Word::new(Kind::Segment, first.to_string())
}

/// What lies inside is found by the longest rung that covers it; what lies around, by its length.
fn network_words(network: Prefix, lengths: &Lengths) -> Option<Vec<Word>> {
    let rungs = rungs(network.address()).into_iter();
    let rung = rungs.filter(|rung| *rung <= network.length()).max()?;
    let around = Prefix::around(network.address(), rung);
    let mut words = vec![Word::new(Kind::Place, place_bytes(around))];
    for length in lengths.shorter_than(network) {
        let around = Prefix::around(network.address(), length);
        words.push(Word::new(Kind::Network, place_bytes(around)));
    }
    Some(words)
}

const fn rungs(address: IpAddr) -> [u8; 4] {
    match address {
        IpAddr::V4(_) => RUNGS_V4,
        IpAddr::V6(_) => RUNGS_V6,
    }
}

fn place_bytes(place: Prefix) -> Vec<u8> {
    format!("{}/{}", place.address(), place.length()).into_bytes()
}

fn incident(level: Option<u64>) -> String {
    level.map_or_else(|| "change".to_owned(), |level| level.to_string())
}

/// The key id in a principal that is a key.
fn key_of(principal: &str) -> Option<&str> {
    let id = principal.strip_prefix("key:")?;
    id.parse::<enforcer_model::KeyId>().is_ok().then_some(id)
}

// === impl Lengths ===

impl Lengths {
    pub(super) fn note(&mut self, place: Prefix) {
        match place.address() {
            _ if place.is_single() => {}
            IpAddr::V4(_) => self.v4 |= 1 << place.length(),
            IpAddr::V6(_) => self.v6 |= 1 << place.length(),
        }
    }

    /// Lengths of networks that could have `network` inside.
    fn shorter_than(&self, network: Prefix) -> impl Iterator<Item = u8> + use<> {
        let known = match network.address() {
            IpAddr::V4(_) => u128::from(self.v4),
            IpAddr::V6(_) => self.v6,
        };
        (0..network.length()).filter(move |length| known >> length & 1 == 1)
    }

    /// The lengths of one family, ascending.
    pub(super) fn list(bits: u128) -> Vec<u8> {
        (0..128).filter(|length| bits >> length & 1 == 1).collect()
    }

    pub(super) fn of(v4: &[u8], v6: &[u8]) -> Self {
        let bits = |list: &[u8]| {
            list.iter()
                .filter(|length| **length < 128)
                .fold(0u128, |bits, length| bits | 1 << length)
        };
        Self { v4: u64::try_from(bits(v4)).unwrap_or(u64::MAX), v6: bits(v6) }
    }
}

// === impl Keys ===

impl Keys {
    pub(super) fn new(index_key: &[u8; 32]) -> Self {
        let root = hmac::Key::new(hmac::HMAC_SHA256, index_key);
        let derived = |label: &str, kind: &str| {
            let mut context = hmac::Context::with_key(&root);
            context.update(label.as_bytes());
            context.update(kind.as_bytes());
            truncated::<32>(&context.sign())
        };
        let kinds = Kind::ALL.map(|kind| {
            let key = derived("kind ", kind.as_str());
            (kind, key, hmac::Key::new(hmac::HMAC_SHA256, &key))
        });
        let nonces = hmac::Key::new(hmac::HMAC_SHA256, &derived("nonces", ""));
        Self { kinds: kinds.to_vec(), nonces }
    }

    fn kind(&self, kind: Kind) -> Option<&(Kind, [u8; 32], hmac::Key)> {
        self.kinds.iter().find(|(known, ..)| *known == kind)
    }

    /// What the index calls this value.
    pub(super) fn id(&self, kind: Kind, value: &[u8]) -> u64 {
        self.kind(kind).map_or(0, |(_, _, key)| id_under(key, value))
    }

    /// The key by which values of a kind are named; given away with a proof.
    pub(super) fn disclosed(&self, kind: Kind) -> [u8; 32] {
        self.kind(kind).map_or([0; 32], |(_, key, _)| *key)
    }

    /// A commitment to the key of each kind.
    pub(super) fn commitments(&self) -> Vec<(Kind, Hash)> {
        self.kinds.iter().map(|(kind, key, _)| (*kind, commitment(key))).collect()
    }

    /// What hides the records of an entry from whoever sees its hash.
    pub(super) fn nonce(&self, id: u64) -> [u8; 16] {
        truncated(&hmac::sign(&self.nonces, &id_bytes(id)))
    }
}

/// A commitment to the key of a kind.
pub(super) fn commitment(key: &[u8; 32]) -> Hash {
    sha256(key)
}

/// What an index calls `value` whose kind has this key.
pub(super) fn id_of(key: &[u8; 32], value: &[u8]) -> u64 {
    id_under(&hmac::Key::new(hmac::HMAC_SHA256, key), value)
}

fn id_under(key: &hmac::Key, value: &[u8]) -> u64 {
    let [a, b, c, d, e] = truncated::<ID_BYTES>(&hmac::sign(key, value));
    u64::from_be_bytes([0, 0, 0, a, b, c, d, e])
}

pub(super) const fn id_bytes(id: u64) -> [u8; ID_BYTES] {
    let [_, _, _, a, b, c, d, e] = id.to_be_bytes();
    [a, b, c, d, e]
}

fn truncated<const N: usize>(tag: &hmac::Tag) -> [u8; N] {
    let mut bytes = [0; N];
    bytes.iter_mut().zip(tag.as_ref()).for_each(|(to, from)| *to = *from);
    bytes
}
