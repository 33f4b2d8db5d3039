//! Pinned maps by name, and the one value of `CONFIG`, written word by word.
//!
//! A change that a packet must not see half of is a change of one word.

use std::fs;
use std::io;
use std::ops::Deref;
use std::os::fd::{AsFd, AsRawFd};

use aya::maps::{Map, MapData, PerCpuArray};
use enforcer_ebpf::{Config, Shared, map};
use ring::rand::{SecureRandom, SystemRandom};

use crate::error::MapError;
use crate::mapped::{Mapped, Words};
use crate::pins::Pins;

/// The one value of `CONFIG`, where the kernel reads it.
pub(crate) struct ConfigMap {
    values: Mapped<Config<Shared>>,
    none: Config<Shared>,
}

/// A pinned map, whatever its type.
pub(crate) fn open(pins: &Pins, name: &'static str) -> Result<Map, MapError> {
    MapData::from_pin(pins.map(name))
        .and_then(Map::from_map_data)
        .map_err(|source| MapError::Open { map: name, source })
}

/// The values of a pinned array map.
pub(crate) fn open_mapped<T: Words>(
    pins: &Pins,
    name: &'static str,
) -> Result<Mapped<T>, MapError> {
    Mapped::of(&open(pins, name)?, name)
}

pub(crate) fn open_stats(pins: &Pins) -> Result<PerCpuArray<MapData, [u64; 2]>, MapError> {
    open(pins, map::STATS)?.try_into().or(Err(MapError::Shape { map: map::STATS }))
}

/// Bytes that all pinned maps take, as the kernel itself counts them; without the tables of blocks,
/// which come and go.
pub(crate) fn memory_of(pins: &Pins) -> u64 {
    let maps = map::ALL.iter().filter_map(|name| MapData::from_pin(pins.map(name)).ok());
    maps.map(|map| charged(&map).unwrap_or_else(|| as_made(&map))).sum()
}

fn charged(map: &MapData) -> Option<u64> {
    let file = map.fd().as_fd().as_raw_fd();
    let about = fs::read_to_string(format!("/proc/self/fdinfo/{file}")).ok()?;
    let bytes = about.lines().find_map(|line| line.strip_prefix("memlock:"))?;
    bytes.trim().parse().ok()
}

/// What its values take, where the kernel does not tell.
fn as_made(map: &MapData) -> u64 {
    map.info().map_or(0, |info| u64::from(info.max_entries()) * u64::from(info.value_size()))
}

impl ConfigMap {
    pub(crate) fn open(pins: &Pins) -> Result<Self, MapError> {
        Ok(Self { values: open_mapped(pins, map::CONFIG)?, none: Config::default() })
    }

    /// Makes one word `number`, and reads it back.
    pub(crate) fn set(
        &self,
        word: impl Fn(&Config<Shared>) -> &Shared,
        number: u64,
    ) -> Result<(), MapError> {
        let word = word(self);
        if word.get() != number {
            word.set(number);
        }
        if word.get() == number { Ok(()) } else { Err(MapError::Lost { map: map::CONFIG }) }
    }

    /// Draws the secrets of this host's hashes, once: blocks and sources lie where they say.
    pub(crate) fn draw_seed(&self) -> Result<(), MapError> {
        if crate::table::seed(self) != [0, 0] {
            return Ok(());
        }
        let mut drawn = [0; 16];
        let refused = |_| {
            let source = io::Error::other("the system has no random numbers").into();
            MapError::Write { map: map::CONFIG, source }
        };
        SystemRandom::new().fill(&mut drawn).map_err(refused)?;
        let [first, second] = &self.seed;
        let (high, low) = drawn.split_at(8);
        for (word, bytes) in [(first, high), (second, low)] {
            let number = bytes.iter().fold(0, |number, byte| number << 8 | u64::from(*byte));
            word.set(number | 1);
        }
        Ok(())
    }
}

impl Deref for ConfigMap {
    type Target = Config<Shared>;

    fn deref(&self) -> &Config<Shared> {
        // One value, as its name promises; a map of none cannot be made.
        self.values.first().unwrap_or(&self.none)
    }
}
