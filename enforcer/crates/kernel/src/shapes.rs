//! What the maps of this layout look like, and whether those that are pinned do.
//!
//! Maps that were made by this layout and have another shape are not ours, whatever they are
//! called. Only the memory of sources may have another size: then a new one takes its place.

use aya::maps::{MapInfo, MapType};
use enforcer_ebpf::escalation::{Escalation, PLACES};
use enforcer_ebpf::events::REPORTS;
use enforcer_ebpf::flood::{COLUMNS, ROWS, State};
use enforcer_ebpf::prefilter::{WORDS4, WORDS6};
use enforcer_ebpf::source::{CLASSES, PEER_SETS};
use enforcer_ebpf::{
    COUNTERS, Class, Config as Shared, Counter, EVENT_BYTES, MAX_NETWORKS, Set, map,
};

use crate::error::MapError;
use crate::pins::Pins;
use crate::sources::sets6;

/// Type, bytes of a key and of a value, and entries.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Shape {
    kind: MapType,
    key: u32,
    value: u32,
    entries: u32,
}

/// Every pinned map is one that this program can use. The memory of sources is marked to be
/// replaced when it has not `sets` sets.
pub(crate) fn check(sets: u32, pins: &mut Pins) -> Result<(), MapError> {
    for name in map::ALL {
        let Some(found) = shape_of_pinned(name, pins)? else { continue };
        let expected = shape(name, sets);
        if found == expected {
            continue;
        }
        let resized = Shape { entries: expected.entries, ..found };
        if matches!(name, map::SOURCE4 | map::SOURCE6) && resized == expected {
            pins.replace(name);
        } else {
            return Err(MapError::Shape { map: name });
        }
    }
    Ok(())
}

/// How many sets of sources the pinned memory has.
pub(crate) fn pinned_sets(pins: &Pins) -> Result<u32, MapError> {
    let found = shape_of_pinned(map::SOURCE4, pins)?;
    found.map(|shape| shape.entries).ok_or(MapError::Shape { map: map::SOURCE4 })
}

fn shape_of_pinned(name: &'static str, pins: &Pins) -> Result<Option<Shape>, MapError> {
    let path = pins.folder().join(name);
    if !path.exists() {
        return Ok(None);
    }
    let open = |source| MapError::Open { map: name, source };
    let info = MapInfo::from_pin(path).map_err(open)?;
    let kind = info.map_type().map_err(open)?;
    let (key, value, entries) = (info.key_size(), info.value_size(), info.max_entries());
    Ok(Some(Shape { kind, key, value, entries }))
}

fn shape(name: &str, sets: u32) -> Shape {
    let array = |value, entries| Shape { kind: MapType::Array, key: 4, value, entries };
    let networks = |key| Shape { kind: MapType::LpmTrie, key, value: 4, entries: MAX_NETWORKS };
    match name {
        map::ALLOW4 | map::CLASS4 => networks(8),
        map::ALLOW6 | map::CLASS6 => networks(20),
        map::BLOCK4 | map::BLOCK6 => {
            Shape { kind: MapType::ArrayOfMaps, key: 4, value: 4, entries: 2 }
        }
        map::CLASS => array(bytes_of::<Class>(), CLASSES),
        map::CONFIG => array(bytes_of::<Shared>(), 1),
        map::ESCALATED => array(bytes_of::<Escalation>(), PLACES),
        map::EVENTS => Shape { kind: MapType::RingBuf, key: 0, value: 0, entries: EVENT_BYTES },
        map::FLOOD => array(8, ROWS * COLUMNS),
        map::PEER4 | map::PEER6 => array(bytes_of::<Set>(), PEER_SETS),
        map::PREFILTER4 => array(8, WORDS4),
        map::PREFILTER6 => array(8, WORDS6),
        map::REPORTED => array(8, 2 * REPORTS),
        map::SOURCE4 => array(bytes_of::<Set>(), sets),
        map::SOURCE6 => array(bytes_of::<Set>(), sets6(sets)),
        map::STATE => array(bytes_of::<State>(), 1),
        _ => Shape {
            kind: MapType::PerCpuArray,
            key: 4,
            value: bytes_of::<Counter>(),
            entries: COUNTERS,
        },
    }
}

fn bytes_of<T>() -> u32 {
    u32::try_from(size_of::<T>()).unwrap_or(u32::MAX)
}
