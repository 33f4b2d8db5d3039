//! The maps, typed: prefixes and entries in, prefixes and entries out.
//!
//! Both families behind one interface. A listing reads at most twice what a map can hold, so a map
//! that changes meanwhile cannot make it endless.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::Path;

use aya::Pod;
use aya::maps::lpm_trie::{Key as LpmKey, LpmTrie};
use aya::maps::{Array, HashMap, Map, MapData, PerCpuArray};
use enforcer_ebpf::{Address, Config, Entry, Key4, Key6, MAX_ALLOW, V4, V6, map};
use enforcer_model::Prefix;

use crate::error::{BlockError, MapError};
use crate::pins::Pins;
use crate::program::errno;

const E2BIG: i32 = 7;
const ENOENT: i32 = 2;
const ENOSPC: i32 = 28;

/// One address family as the maps spell it.
pub(crate) trait Family: Address {
    const BLOCKS: &'static str;
    const ALLOW: &'static str;
    /// A key of the map of blocks.
    type Row: Pod + Ord;
    /// What the allow list calls an address.
    type Bytes: Pod + Ord;

    fn row(prefix: Prefix) -> Option<Self::Row>;
    fn prefix(row: Self::Row) -> Option<Prefix>;
    fn bytes(address: IpAddr) -> Option<Self::Bytes>;
    fn address(bytes: Self::Bytes) -> IpAddr;
}

/// The blocks of one family.
pub(crate) struct Blocks<F: Family> {
    map: HashMap<MapData, F::Row, [u64; 7]>,
    pub(crate) capacity: u32,
}

/// What the kernel works with, for either family.
pub(crate) trait BlockTable {
    fn get(&self, prefix: Prefix) -> Result<Option<Entry>, MapError>;
    fn put(&mut self, prefix: Prefix, entry: Entry) -> Result<(), BlockError>;
    fn remove(&mut self, prefix: Prefix) -> Result<(), MapError>;
    fn list(&self) -> Result<Vec<(Prefix, Entry)>, MapError>;
}

/// The networks of one family that are never dropped.
pub(crate) struct AllowList<F: Family> {
    map: LpmTrie<MapData, F::Bytes, u32>,
}

/// The one value of `CONFIG`.
pub(crate) struct ConfigMap {
    map: Array<MapData, [u64; 9]>,
}

/// A pinned map, whatever its type.
pub(crate) fn open(pins: &Pins, name: &'static str) -> Result<Map, MapError> {
    open_at(&pins.map(name), name)
}

fn open_at(path: &Path, name: &'static str) -> Result<Map, MapError> {
    MapData::from_pin(path)
        .and_then(Map::from_map_data)
        .map_err(|source| MapError::Open { map: name, source })
}

pub(crate) fn open_stats(pins: &Pins) -> Result<PerCpuArray<MapData, [u64; 2]>, MapError> {
    open(pins, map::STATS)?.try_into().or(Err(MapError::Shape { map: map::STATS }))
}

impl<F: Family> Blocks<F> {
    pub(crate) fn open(pins: &Pins) -> Result<Self, MapError> {
        Self::new(open(pins, F::BLOCKS)?)
    }

    /// The map that the last agent worked with.
    pub(crate) fn open_settled(pins: &Pins) -> Result<Self, MapError> {
        Self::new(open_at(&pins.settled_map(F::BLOCKS), F::BLOCKS)?)
    }

    fn new(map: Map) -> Result<Self, MapError> {
        let shape = || MapError::Shape { map: F::BLOCKS };
        let Map::HashMap(data) = &map else { return Err(shape()) };
        let info = data.info().map_err(|source| MapError::Read { map: F::BLOCKS, source })?;
        let capacity = info.max_entries();
        Ok(Self { map: HashMap::try_from(map).or(Err(shape()))?, capacity })
    }
}

impl<F: Family> BlockTable for Blocks<F> {
    fn get(&self, prefix: Prefix) -> Result<Option<Entry>, MapError> {
        let Some(row) = F::row(prefix) else { return Ok(None) };
        match self.map.get(&row, 0) {
            Ok(words) => Ok(Some(Entry::from_words(words))),
            Err(source) if is_absent(&source) => Ok(None),
            Err(source) => Err(MapError::Read { map: F::BLOCKS, source }),
        }
    }

    fn put(&mut self, prefix: Prefix, entry: Entry) -> Result<(), BlockError> {
        let Some(row) = F::row(prefix) else { return Err(BlockError::Lost { prefix }) };
        self.map.insert(row, entry.to_words(), 0).map_err(|source| match errno(&source) {
            Some(E2BIG) => BlockError::Full { map: F::BLOCKS, capacity: self.capacity },
            _ => MapError::Write { map: F::BLOCKS, source }.into(),
        })
    }

    fn remove(&mut self, prefix: Prefix) -> Result<(), MapError> {
        let Some(row) = F::row(prefix) else { return Ok(()) };
        match self.map.remove(&row) {
            Err(source) if !is_absent(&source) => Err(MapError::Write { map: F::BLOCKS, source }),
            Ok(()) | Err(_) => Ok(()),
        }
    }

    fn list(&self) -> Result<Vec<(Prefix, Entry)>, MapError> {
        // An element that goes away under the reader sends the kernel back to the first one, so
        // the same row can come twice.
        let mut rows = BTreeMap::new();
        let steps = usize::try_from(self.capacity).unwrap_or(usize::MAX).saturating_mul(2);
        for row in self.map.iter().take(steps) {
            let (row, words) = row.map_err(|source| MapError::Read { map: F::BLOCKS, source })?;
            rows.insert(row, Entry::from_words(words));
        }
        let entries = rows.into_iter();
        Ok(entries.filter_map(|(row, entry)| Some((F::prefix(row)?, entry))).collect())
    }
}

impl<F: Family> AllowList<F> {
    pub(crate) fn open(pins: &Pins) -> Result<Self, MapError> {
        let map = LpmTrie::try_from(open(pins, F::ALLOW)?);
        Ok(Self { map: map.or(Err(MapError::Shape { map: F::ALLOW }))? })
    }

    /// Makes the list hold exactly the networks of its family among `networks`.
    ///
    /// What is new comes in before what is old goes out, so that nothing which is on both lists is
    /// ever missing; only a list that would then be too long is thinned out first.
    pub(crate) fn set(&mut self, networks: &[Prefix]) -> Result<(), BlockError> {
        let wanted: BTreeMap<_, _> = networks
            .iter()
            .filter_map(|network| Some(((network.length(), F::bytes(network.address())?), network)))
            .collect();
        if wanted.len() > usize::try_from(MAX_ALLOW).unwrap_or(usize::MAX) {
            return Err(BlockError::TooManyAllowed { networks: wanted.len() });
        }
        let surplus: Vec<_> =
            self.list()?.into_iter().filter(|key| !wanted.contains_key(key)).collect();
        if let Err(full) = self.add(wanted.keys()) {
            let no_room = matches!(&full, MapError::Write { source, .. }
                if matches!(errno(source), Some(ENOSPC | E2BIG)));
            if !no_room {
                return Err(full.into());
            }
            self.remove(&surplus)?;
            self.add(wanted.keys())?;
        }
        self.remove(&surplus)?;
        let held = self.list()?;
        match wanted.iter().find(|(key, _)| !held.contains(key)) {
            Some((_, network)) => Err(BlockError::Lost { prefix: **network }),
            None => Ok(()),
        }
    }

    fn add<'a>(&mut self, keys: impl Iterator<Item = &'a (u8, F::Bytes)>) -> Result<(), MapError> {
        for &(length, bytes) in keys {
            let key = LpmKey::new(u32::from(length), bytes);
            self.map
                .insert(&key, 1, 0)
                .map_err(|source| MapError::Write { map: F::ALLOW, source })?;
        }
        Ok(())
    }

    fn remove(&mut self, keys: &[(u8, F::Bytes)]) -> Result<(), MapError> {
        for &(length, bytes) in keys {
            match self.map.remove(&LpmKey::new(u32::from(length), bytes)) {
                Err(source) if !is_absent(&source) => {
                    return Err(MapError::Write { map: F::ALLOW, source });
                }
                Ok(()) | Err(_) => {}
            }
        }
        Ok(())
    }

    fn list(&self) -> Result<BTreeSet<(u8, F::Bytes)>, MapError> {
        let steps = usize::try_from(MAX_ALLOW).unwrap_or(usize::MAX).saturating_mul(2);
        let keys = self.map.keys().take(steps);
        keys.map(|key| {
            let key = key.map_err(|source| MapError::Read { map: F::ALLOW, source })?;
            let length = u8::try_from(key.prefix_len());
            Ok((length.or(Err(MapError::Shape { map: F::ALLOW }))?, key.data()))
        })
        .collect()
    }

    /// The networks on the list.
    pub(crate) fn networks(&self) -> Result<Vec<Prefix>, MapError> {
        let keys = self.list()?.into_iter();
        Ok(keys.map(|(length, bytes)| Prefix::around(F::address(bytes), length)).collect())
    }
}

impl ConfigMap {
    pub(crate) fn open(pins: &Pins) -> Result<Self, MapError> {
        let map = Array::try_from(open(pins, map::CONFIG)?);
        Ok(Self { map: map.or(Err(MapError::Shape { map: map::CONFIG }))? })
    }

    pub(crate) fn get(&self) -> Result<Config, MapError> {
        let words = self.map.get(&0, 0);
        let words = words.map_err(|source| MapError::Read { map: map::CONFIG, source })?;
        Ok(Config::from_words(words))
    }

    pub(crate) fn set(&mut self, config: Config) -> Result<(), MapError> {
        let written = self.map.set(0, config.to_words(), 0);
        written.map_err(|source| MapError::Write { map: map::CONFIG, source })?;
        if self.get()? == config { Ok(()) } else { Err(MapError::Shape { map: map::CONFIG }) }
    }
}

impl Family for V4 {
    const BLOCKS: &'static str = map::BLOCK4;
    const ALLOW: &'static str = map::ALLOW4;
    type Row = [u32; 2];
    type Bytes = [u8; 4];

    fn row(prefix: Prefix) -> Option<[u32; 2]> {
        let address = u32::from_be_bytes(Self::bytes(prefix.address())?);
        Some(Key4 { address, length: u32::from(prefix.length()) }.to_words())
    }

    fn prefix(row: [u32; 2]) -> Option<Prefix> {
        let Key4 { address, length } = Key4::from_words(row);
        Prefix::new(Ipv4Addr::from(address).into(), u8::try_from(length).ok()?).ok()
    }

    fn bytes(address: IpAddr) -> Option<[u8; 4]> {
        match address {
            IpAddr::V4(address) => Some(address.octets()),
            IpAddr::V6(_) => None,
        }
    }

    fn address(bytes: [u8; 4]) -> IpAddr {
        Ipv4Addr::from(bytes).into()
    }
}

impl Family for V6 {
    const BLOCKS: &'static str = map::BLOCK6;
    const ALLOW: &'static str = map::ALLOW6;
    type Row = [u64; 3];
    type Bytes = [u8; 16];

    fn row(prefix: Prefix) -> Option<[u64; 3]> {
        let bytes = Self::bytes(prefix.address())?;
        let (high, low) = (bytes.first_chunk()?, bytes.last_chunk()?);
        let (high, low) = (u64::from_be_bytes(*high), u64::from_be_bytes(*low));
        Some(Key6 { high, low, length: u64::from(prefix.length()) }.to_words())
    }

    fn prefix(row: [u64; 3]) -> Option<Prefix> {
        let Key6 { high, low, length } = Key6::from_words(row);
        let address = Ipv6Addr::from(u128::from(high) << 64 | u128::from(low));
        Prefix::new(address.into(), u8::try_from(length).ok()?).ok()
    }

    fn bytes(address: IpAddr) -> Option<[u8; 16]> {
        match address {
            IpAddr::V4(_) => None,
            IpAddr::V6(address) => Some(address.octets()),
        }
    }

    fn address(bytes: [u8; 16]) -> IpAddr {
        Ipv6Addr::from(bytes).into()
    }
}

fn is_absent(error: &aya::maps::MapError) -> bool {
    matches!(error, aya::maps::MapError::KeyNotFound) || errno(error) == Some(ENOENT)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn every_ipv4_network_survives_the_map(bits: u32, length in 0..=32u8) {
            let prefix = Prefix::around(Ipv4Addr::from(bits).into(), length);

            prop_assert_eq!(V4::row(prefix).and_then(V4::prefix), Some(prefix));
            prop_assert_eq!(V6::row(prefix), None);
        }

        #[test]
        fn every_ipv6_network_survives_the_map(bits: u128, length in 0..=128u8) {
            // Networks of mapped addresses are IPv4 to every part of the house.
            let bits = bits | 1 << 127;
            let prefix = Prefix::around(Ipv6Addr::from(bits).into(), length);

            prop_assert_eq!(V6::row(prefix).and_then(V6::prefix), Some(prefix));
            prop_assert_eq!(V4::row(prefix), None);
        }
    }
}
