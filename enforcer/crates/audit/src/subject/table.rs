//! The keys of a closed segment's personal values: what erasing takes a row out of.
//!
//! A row leads from a value, by its keyed tag, to its handle and its key. The tag's secret is made
//! for the segment and gives no handle: once the row is gone, a guess of the value cannot be told
//! from a value that was never there. The file ends with a hash, so that no damage goes unnoticed.

use enforcer_model::PersonalKind as Kind;
use zeroize::{Zeroize as _, Zeroizing};

use super::seal::{HANDLE_BYTES, Handle, SECRET_BYTES, SealKey, TagSecret};
use crate::merkle::{HASH_BYTES, sha256};

const MAGIC: &[u8; 16] = b"enforcer-names/1";
const ROW_BYTES: usize = HANDLE_BYTES + HANDLE_BYTES + 1 + 4 + SECRET_BYTES;

/// Where a value went.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Row {
    /// Of the value, or of one that it mentions.
    pub(crate) tag: [u8; HANDLE_BYTES],
    pub(crate) handle: Handle,
    pub(crate) link: Link,
    /// The record that holds it sealed, counted from the segment's first.
    pub(crate) at: u32,
    pub(crate) key: SealKey,
}

/// How a tag belongs to a handle.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Link {
    /// The handle stands for the value.
    Value,
    /// It stands for a text that mentions the value.
    Mention,
}

/// All rows of one segment.
#[derive(Debug)]
pub(crate) struct Table {
    first: u64,
    secret: TagSecret,
    /// Ascending by tag, then handle.
    rows: Vec<Row>,
}

/// The bytes are no table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("its bytes do not fit their hash")]
pub struct TableError;

impl Row {
    fn order(&self) -> ([u8; HANDLE_BYTES], Handle, Link) {
        (self.tag, self.handle, self.link)
    }
}

impl Link {
    /// All of them.
    pub(crate) const ALL: [Self; 2] = [Self::Value, Self::Mention];

    const fn byte(self) -> u8 {
        match self {
            Self::Value => 0,
            Self::Mention => 1,
        }
    }

    const fn from_byte([byte]: [u8; 1]) -> Result<Self, TableError> {
        match byte {
            0 => Ok(Self::Value),
            1 => Ok(Self::Mention),
            _ => Err(TableError),
        }
    }
}

impl Table {
    pub(crate) fn new(first: u64, secret: TagSecret, mut rows: Vec<Row>) -> Self {
        rows.sort_by_key(|row| (row.order(), row.at));
        rows.dedup_by_key(|row| row.order());
        Self { first, secret, rows }
    }

    /// The segment's first record.
    pub(crate) const fn first(&self) -> u64 {
        self.first
    }

    /// Every handle that a tag of these values leads to, by one of these links.
    pub(crate) fn find(&self, values: &[(Kind, Vec<u8>)], links: &[Link]) -> Vec<Handle> {
        let mut found = Vec::new();
        for (kind, value) in values {
            let tag = self.secret.tag(*kind, value);
            let begin = self.rows.partition_point(|row| row.tag < tag);
            let rows = self.rows.iter().skip(begin).take_while(|row| row.tag == tag);
            found.extend(rows.filter(|row| links.contains(&row.link)).map(|row| row.handle));
        }
        found.sort_unstable();
        found.dedup();
        found
    }

    /// Takes every row of `handles` out, whatever tag it has.
    pub(crate) fn erase(&mut self, handles: &[Handle]) {
        self.rows.retain(|row| !handles.contains(&row.handle));
    }

    pub(crate) fn rows(&self) -> &[Row] {
        &self.rows
    }

    pub(crate) fn encode(&self) -> Zeroizing<Vec<u8>> {
        let fixed = MAGIC.len() + 8 + SECRET_BYTES + 8 + HASH_BYTES;
        // Never grows, so that no copy of the keys is left behind.
        let mut bytes = Zeroizing::new(Vec::with_capacity(fixed + ROW_BYTES * self.rows.len()));
        bytes.extend_from_slice(MAGIC);
        bytes.extend_from_slice(&self.first.to_be_bytes());
        bytes.extend_from_slice(self.secret.bytes());
        bytes.extend_from_slice(&u64::try_from(self.rows.len()).unwrap_or(u64::MAX).to_be_bytes());
        for row in &self.rows {
            bytes.extend_from_slice(&row.tag);
            bytes.extend_from_slice(&row.handle.bytes());
            bytes.push(row.link.byte());
            bytes.extend_from_slice(&row.at.to_be_bytes());
            bytes.extend_from_slice(row.key.bytes());
        }
        let hash = sha256(&bytes);
        bytes.extend_from_slice(&hash);
        bytes
    }

    pub(crate) fn decode(bytes: &[u8]) -> Result<Self, TableError> {
        let (content, hash) = bytes.split_last_chunk::<HASH_BYTES>().ok_or(TableError)?;
        let mut rest = content;
        let magic: [u8; MAGIC.len()] = take(&mut rest)?;
        let first = u64::from_be_bytes(take(&mut rest)?);
        let secret = Zeroizing::new(take::<SECRET_BYTES>(&mut rest)?);
        let count = u64::from_be_bytes(take(&mut rest)?);
        let fits = magic == *MAGIC
            && sha256(content) == *hash
            && rest.len().is_multiple_of(ROW_BYTES)
            && u64::try_from(rest.len() / ROW_BYTES) == Ok(count);
        if !fits {
            return Err(TableError);
        }
        let mut rows = Vec::with_capacity(rest.len() / ROW_BYTES);
        while !rest.is_empty() {
            let tag = take(&mut rest)?;
            let handle = Handle::from_bytes(take(&mut rest)?);
            let link = Link::from_byte(take(&mut rest)?)?;
            let at = u32::from_be_bytes(take(&mut rest)?);
            let mut key = take::<SECRET_BYTES>(&mut rest)?;
            rows.push(Row { tag, handle, link, at, key: SealKey::from_bytes(key) });
            key.zeroize();
        }
        let is_ordered = rows.is_sorted_by(|one, next| one.order() < next.order());
        is_ordered
            .then(|| Self { first, secret: TagSecret::from_bytes(secret), rows })
            .ok_or(TableError)
    }
}

fn take<const N: usize>(rest: &mut &[u8]) -> Result<[u8; N], TableError> {
    let (taken, left) = rest.split_first_chunk::<N>().ok_or(TableError)?;
    *rest = left;
    Ok(*taken)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::seal::Seed;
    use super::*;

    proptest! {
        #[test]
        fn erasing_takes_these_values_and_no_other_in_whatever_order(
            values in prop::collection::btree_set("[a-z0-9.:]{1,12}", 2..40),
            order in any::<prop::sample::Index>(),
            gone in 1_usize..8,
        ) {
            let values: Vec<String> = values.into_iter().collect();
            let (seed, mut table) = table(&values);
            let mut left = values.clone();
            let mut erased = Vec::new();
            for step in 0..gone.min(values.len() - 1) {
                let value = left.remove((order.index(left.len()) + step) % left.len());
                let found = table.find(&[(Kind::Address, value.clone().into_bytes())], &Link::ALL);
                prop_assert_eq!(&found, &[seed.handle(Kind::Address, value.as_bytes())]);
                table.erase(&found);
                erased.push(value);
            }
            let kept = Table::decode(&table.encode()).unwrap();

            for value in &left {
                let handle = seed.handle(Kind::Address, value.as_bytes());
                let row = kept.rows().iter().find(|row| row.handle == handle).unwrap();
                prop_assert!(row.key == seed.key(handle));
            }
            for value in &erased {
                prop_assert!(kept.find(&[(Kind::Address, value.clone().into_bytes())], &Link::ALL).is_empty());
                let handle = seed.handle(Kind::Address, value.as_bytes());
                let bytes = table.encode();
                let key = seed.key(handle);
                for secret in [key.bytes().as_slice(), &handle.bytes()] {
                    prop_assert!(!bytes.windows(secret.len()).any(|window| window == secret));
                }
            }
        }
    }

    #[test]
    fn whoever_is_mentioned_takes_the_text_along() {
        let seed = Seed::random().unwrap();
        let secret = TagSecret::random().unwrap();
        let text = seed.handle(Kind::Text, b"ask bob@example.com");
        let row = |kind, value: &[u8], link| Row {
            tag: secret.tag(kind, value),
            handle: text,
            link,
            at: 3,
            key: seed.key(text),
        };
        let rows = vec![
            row(Kind::Text, b"ask bob@example.com", Link::Value),
            row(Kind::Principal, b"bob@example.com", Link::Mention),
        ];
        let mut table = Table::new(0, secret, rows);

        let bob = [(Kind::Principal, b"bob@example.com".to_vec())];
        assert_eq!(table.find(&bob, &[Link::Value]), []);
        let found = table.find(&bob, &Link::ALL);
        table.erase(&found);

        assert_eq!(found, [text]);
        assert_eq!(table.rows(), []);
    }

    #[test]
    fn every_changed_byte_of_a_table_is_noticed() {
        let (_, table) = table(&["203.0.113.7".to_owned(), "203.0.113.8".to_owned()]);
        let bytes = table.encode();
        assert_eq!(Table::decode(&bytes).unwrap().rows(), table.rows());

        for place in 0..bytes.len() {
            let mut bad = bytes.to_vec();
            bad[place] ^= 1;
            assert_eq!(Table::decode(&bad).unwrap_err(), TableError, "byte {place}");
            assert_eq!(Table::decode(&bytes[..place]).unwrap_err(), TableError, "cut at {place}");
        }
    }

    fn table(values: &[String]) -> (Seed, Table) {
        let seed = Seed::random().unwrap();
        let secret = TagSecret::random().unwrap();
        let rows = values.iter().map(|value| {
            let handle = seed.handle(Kind::Address, value.as_bytes());
            let tag = secret.tag(Kind::Address, value.as_bytes());
            Row { tag, handle, link: Link::Value, at: 0, key: seed.key(handle) }
        });
        let rows = rows.collect();
        (seed, Table::new(7, secret, rows))
    }
}
