//! Lists of networks that the kernel searches for the longest match: who is never dropped, who has
//! which budget class.
//!
//! What is new comes in before what is old goes out, so that nothing which is on both lists is ever
//! missing; only a list that would then be too long is thinned out first.

use std::collections::BTreeMap;
use std::net::IpAddr;

use aya::maps::MapData;
use aya::maps::lpm_trie::{Key, LpmTrie};
use enforcer_ebpf::MAX_NETWORKS;
use enforcer_model::Prefix;

use crate::error::MapError;
use crate::family::Family;
use crate::maps;
use crate::pins::Pins;
use crate::program::errno;

const E2BIG: i32 = 7;
const ENOENT: i32 = 2;
const ENOSPC: i32 = 28;

/// Networks of one family, each with a number.
pub(crate) struct NetworkList<F: Family> {
    map: LpmTrie<MapData, F::Octets, u32>,
    name: &'static str,
}

/// A list was not made what it was to be.
pub(crate) enum NotListed {
    /// So many networks are more than fit.
    TooMany(usize),
    /// This one was written and is not there.
    Lost(Prefix),
    /// The map cannot be used.
    Map(MapError),
}

type Listed<F> = BTreeMap<(u8, <F as enforcer_ebpf::Address>::Octets), u32>;

impl<F: Family> NetworkList<F> {
    pub(crate) fn open(pins: &Pins, name: &'static str) -> Result<Self, MapError> {
        let map = LpmTrie::try_from(maps::open(pins, name)?);
        Ok(Self { map: map.or(Err(MapError::Shape { map: name }))?, name })
    }

    /// Makes the list hold exactly the networks of its family among these; whether that was a
    /// change.
    pub(crate) fn set(&mut self, networks: &[(Prefix, u32)]) -> Result<bool, NotListed> {
        let wanted = Self::wanted(networks)?;
        let held = self.list()?;
        if held == wanted {
            return Ok(false);
        }
        let surplus = |(key, _): &(&_, _)| !wanted.contains_key(*key);
        let surplus: Vec<_> = held.iter().filter(surplus).map(|(key, _)| *key).collect();
        let fresh = wanted.iter().filter(|(key, number)| held.get(*key) != Some(*number));
        if let Err(full) = self.add(fresh.clone()) {
            let no_room = matches!(&full, MapError::Write { source, .. }
                if matches!(errno(source), Some(ENOSPC | E2BIG)));
            if !no_room {
                return Err(full.into());
            }
            self.remove(&surplus)?;
            self.add(fresh)?;
        }
        self.remove(&surplus)?;
        let held = self.list()?;
        match wanted.iter().find(|(key, number)| held.get(*key) != Some(*number)) {
            Some((&(length, octets), _)) => Err(NotListed::Lost(network::<F>(length, octets))),
            None => Ok(true),
        }
    }

    /// Whether these would fit.
    pub(crate) fn check(networks: &[(Prefix, u32)]) -> Result<(), NotListed> {
        Self::wanted(networks).map(drop)
    }

    /// The networks on the list.
    pub(crate) fn networks(&self) -> Result<Vec<(Prefix, u32)>, MapError> {
        let listed = self.list()?.into_iter();
        Ok(listed
            .map(|((length, octets), number)| (network::<F>(length, octets), number))
            .collect())
    }

    /// The longest network around an address, and its number.
    pub(crate) fn around(&self, address: IpAddr) -> Result<Option<(Prefix, u32)>, MapError> {
        let listed = self.networks()?.into_iter();
        Ok(listed
            .filter(|(network, _)| network.contains(address))
            .max_by_key(|(network, _)| network.length()))
    }

    /// The number of the longest network around an address, as the kernel finds it.
    pub(crate) fn get(&self, address: F) -> Option<u32> {
        self.map.get(&Key::new(F::BITS, address.octets()), 0).ok()
    }

    fn wanted(networks: &[(Prefix, u32)]) -> Result<Listed<F>, NotListed> {
        let wanted: Listed<F> = networks
            .iter()
            .filter_map(|(network, number)| {
                let octets = F::from_ip(network.address())?.octets();
                Some(((network.length(), octets), *number))
            })
            .collect();
        if u32::try_from(wanted.len()).map_or(true, |count| count > MAX_NETWORKS) {
            return Err(NotListed::TooMany(wanted.len()));
        }
        Ok(wanted)
    }

    fn add<'a>(
        &mut self,
        listed: impl Iterator<Item = (&'a (u8, F::Octets), &'a u32)>,
    ) -> Result<(), MapError> {
        for (&(length, octets), number) in listed {
            self.map
                .insert(&Key::new(u32::from(length), octets), number, 0)
                .map_err(|source| MapError::Write { map: self.name, source })?;
        }
        Ok(())
    }

    fn remove(&mut self, keys: &[(u8, F::Octets)]) -> Result<(), MapError> {
        for &(length, octets) in keys {
            match self.map.remove(&Key::new(u32::from(length), octets)) {
                Err(source) if !is_absent(&source) => {
                    return Err(MapError::Write { map: self.name, source });
                }
                Ok(()) | Err(_) => {}
            }
        }
        Ok(())
    }

    /// At most twice what the map can hold, so that one which changes meanwhile ends.
    fn list(&self) -> Result<Listed<F>, MapError> {
        let unreadable = |source| MapError::Read { map: self.name, source };
        let steps = usize::try_from(MAX_NETWORKS).unwrap_or(usize::MAX).saturating_mul(2);
        let mut listed = BTreeMap::new();
        for key in self.map.keys().take(steps) {
            let key = key.map_err(unreadable)?;
            let length = u8::try_from(key.prefix_len());
            let length = length.or(Err(MapError::Shape { map: self.name }))?;
            let number = match self.map.get(&key, 0) {
                Ok(number) => number,
                Err(source) if is_absent(&source) => continue,
                Err(source) => return Err(unreadable(source)),
            };
            listed.insert((length, key.data()), number);
        }
        Ok(listed)
    }
}

impl From<MapError> for NotListed {
    fn from(error: MapError) -> Self {
        Self::Map(error)
    }
}

fn network<F: Family>(length: u8, octets: F::Octets) -> Prefix {
    Prefix::around(F::from_octets(octets), length)
}

fn is_absent(error: &aya::maps::MapError) -> bool {
    matches!(error, aya::maps::MapError::KeyNotFound) || errno(error) == Some(ENOENT)
}
