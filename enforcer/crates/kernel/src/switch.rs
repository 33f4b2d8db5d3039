//! Two places for tables of blocks, of which one is in force, and the way from one to the other.
//!
//! A table that cannot be changed in place (too small, too large, a list of a million networks) gets
//! a successor: made beside it, filled, put in the other place, and put in force by one word of
//! `CONFIG`. No packet sees half of it. The kernel answers a write to the pair of tables only when
//! every program that ran before has ended, which is how this side knows that the old table has no
//! reader left. An agent that dies on the way leaves two pins, and `CONFIG` says which one counts.

use std::fs;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{Ordering, fence};

use aya::maps::{Array, ArrayOfMaps, Map, MapData};
use enforcer_ebpf::table::PROBES;
use enforcer_ebpf::{TableWord, map};

use crate::error::MapError;
use crate::family::{Family, Key};
use crate::mapped::Mapped;
use crate::maps::{ConfigMap, open};
use crate::pins::Pins;
use crate::table::{Block, Quiet, Refused, Table, seed};

/// `BPF_MAP_TYPE_ARRAY`
const ARRAY: u32 = 2;

/// The tables of one family.
pub(crate) struct Tables<F: Family> {
    config: Arc<ConfigMap>,
    folder: PathBuf,
    outer: ArrayOfMaps<MapData, MapData>,
    /// The same map, which answers with the numbers of the maps in it.
    numbers: Array<MapData, u32>,
    held: Option<Held<F>>,
    /// Somebody died on the way from one table to another.
    cut_short: bool,
    /// Nothing has been written by this process yet.
    untouched: bool,
}

/// A table in a map of its own.
pub(crate) struct Held<F: Family> {
    map: MapData,
    pub(crate) table: Table<F::Row, Mapped<F::Row>>,
    /// Its place in the pair.
    place: u32,
}

/// Every program that runs now.
struct Readers<'t> {
    outer: &'t mut ArrayOfMaps<MapData, MapData>,
    map: &'t MapData,
    place: u32,
    name: &'static str,
}

/// For a table that no program can find yet.
pub(crate) struct Nobody;

impl<F: Family> Tables<F> {
    /// The table in force, as `CONFIG` says. Changes nothing.
    pub(crate) fn open(pins: &Pins, config: Arc<ConfigMap>) -> Result<Self, MapError> {
        let shape = || MapError::Shape { map: F::BLOCK };
        let outer = ArrayOfMaps::try_from(open(pins, F::BLOCK)?).or(Err(shape()))?;
        let Map::ArrayOfMaps(data) = open(pins, F::BLOCK)? else { return Err(shape()) };
        let numbers = Array::try_from(Map::Array(data)).or(Err(shape()))?;
        let folder = pins.folder().to_owned();
        let mut tables =
            Self { config, folder, outer, numbers, held: None, cut_short: false, untouched: true };
        // Who only looks may come while an agent changes tables.
        loop {
            let word = tables.word();
            match tables.find_held() {
                Err(_) if tables.word() != word => {}
                held => {
                    tables.held = held?;
                    break;
                }
            }
        }
        tables.cut_short = tables.pin(F::TABLE_NEXT).exists();
        Ok(tables)
    }

    pub(crate) fn table(&self) -> Option<&Table<F::Row, Mapped<F::Row>>> {
        self.held.as_ref().map(|held| &held.table)
    }

    pub(crate) fn table_mut(&mut self) -> Option<&mut Table<F::Row, Mapped<F::Row>>> {
        self.held.as_mut().map(|held| &mut held.table)
    }

    /// What `CONFIG` says.
    pub(crate) fn word(&self) -> TableWord {
        TableWord::from_word(F::table_word(&self.config).get())
    }

    /// Whether the table that is held here is the one in force: another agent may have put one in
    /// its place.
    pub(crate) fn is_current(&self) -> bool {
        self.word() == self.held.as_ref().map_or(TableWord::default(), Held::word)
    }

    /// Puts in a network that is not there yet.
    pub(crate) fn insert(&mut self, key: &Key<F>, block: &Block) -> Result<(), Refused<MapError>> {
        let Some(Held { map, table, place }) = &mut self.held else {
            return Err(Refused::Crowded);
        };
        let mut readers = Readers { outer: &mut self.outer, map, place: *place, name: F::BLOCK };
        table.insert(key, block, &mut readers)
    }

    /// Waits until slots that were emptied may be filled again.
    pub(crate) fn rest(&mut self) -> Result<(), MapError> {
        let Some(Held { map, table, place }) = &mut self.held else { return Ok(()) };
        if table.has_resting() {
            Readers { outer: &mut self.outer, map, place: *place, name: F::BLOCK }.wait()?;
            table.rested();
        }
        Ok(())
    }

    /// A table of zeros that nobody knows yet.
    pub(crate) fn make(&self, homes: u32) -> Result<Held<F>, MapError> {
        let map = make::<F>(homes.saturating_add(PROBES - 1))?;
        let rows = Mapped::new(&map, F::BLOCK)?;
        let table = Table::new(rows, seed(&self.config), false);
        Ok(Held { map, table: table.ok_or(MapError::Shape { map: F::BLOCK })?, place: 0 })
    }

    /// Puts `new` in force in place of the table that is. Its counters go on from those of the old.
    pub(crate) fn switch(&mut self, mut new: Held<F>) -> Result<(), MapError> {
        // Until everything is done, the next change finds out what was.
        self.cut_short = true;
        new.place = self.held.as_ref().map_or(0, |held| 1 - held.place);
        let next = self.pin(F::TABLE_NEXT);
        remove(&next).map_err(unwritable::<F>)?;
        new.map.pin(&next).map_err(|error| unwritable::<F>(io::Error::other(error)))?;
        self.outer.set(new.place, &new.map, 0).map_err(refused::<F>)?;
        // Whatever was written into the new table comes before the word that leads there.
        fence(Ordering::Release);
        self.config.set(F::table_word, new.word().word())?;
        new.table.go_live();
        let old = self.held.replace(new);
        self.readers().map_or(Ok(()), |mut readers| readers.wait())?;
        if let (Some(old), Some(new)) = (&old, &self.held) {
            move_counts::<F>(&old.table, &new.table);
        }
        self.end_switch()?;
        self.check()
    }

    /// Ends a change from one table to another that somebody did not live to end, or takes it back.
    ///
    /// `CONFIG` is the judge: the table that it names is in force and stays so.
    pub(crate) fn settle(&mut self) -> Result<(), MapError> {
        if !self.is_current() {
            self.held = self.find_held()?;
            self.untouched = true;
        }
        if self.untouched {
            self.untouched = false;
            self.table_mut().into_iter().for_each(Table::repair);
        }
        if !self.cut_short {
            return Ok(());
        }
        tracing::warn!(map = F::BLOCK, "a change of tables was cut short; it is brought to an end");
        let number = |map: &MapData| map.info().map(|info| info.id()).ok();
        let pinned = |name| MapData::from_pin(self.pin(name)).ok();
        let held = self.held.as_ref().and_then(|held| number(&held.map));
        let next = pinned(F::TABLE_NEXT).as_ref().and_then(number);
        let before = pinned(F::TABLE);
        if held.is_some() && held == next {
            if let (Some(before), Some(held)) = (&before, &self.held)
                && let Ok(rows) = Mapped::new(before, F::BLOCK)
                && let Some(old) = Table::<F::Row, _>::new(rows, seed(&self.config), false)
            {
                move_counts::<F>(&old, &held.table);
            }
            return self.end_switch();
        }
        remove(&self.pin(F::TABLE_NEXT)).map_err(unwritable::<F>)?;
        if before.as_ref().and_then(number) != held {
            remove(&self.pin(F::TABLE)).map_err(unwritable::<F>)?;
            if let Some(held) = &self.held {
                let pinned = held.map.pin(self.pin(F::TABLE));
                pinned.map_err(|error| unwritable::<F>(io::Error::other(error)))?;
            }
        }
        self.empty_other_place()?;
        self.cut_short = false;
        Ok(())
    }

    /// Bytes of the table in force.
    pub(crate) fn bytes(&self) -> usize {
        self.table().map_or(0, |table| size_of_val(table.rows()))
    }

    /// The new table takes the name of the old one, whose memory is given back.
    fn end_switch(&mut self) -> Result<(), MapError> {
        fs::rename(self.pin(F::TABLE_NEXT), self.pin(F::TABLE)).map_err(unwritable::<F>)?;
        self.empty_other_place()?;
        self.cut_short = false;
        Ok(())
    }

    /// What is not in force becomes as small as it can be.
    fn empty_other_place(&mut self) -> Result<(), MapError> {
        let other = 1 - self.held.as_ref().map_or(0, |held| held.place);
        if self.numbers.get(&other, 0).is_err() {
            // Nothing was ever there.
            return Ok(());
        }
        let smallest = make::<F>(PROBES)?;
        self.outer.set(other, &smallest, 0).map_err(refused::<F>)
    }

    /// Whether programs find the table that is held here.
    fn check(&self) -> Result<(), MapError> {
        let Some(held) = &self.held else { return Ok(()) };
        let unreadable = |source| MapError::Read { map: F::BLOCK, source };
        let found = self.numbers.get(&held.place, 0).map_err(unreadable)?;
        let info = held.map.info().map_err(unreadable)?;
        if found == info.id() && self.is_current() {
            Ok(())
        } else {
            Err(MapError::Lost { map: F::BLOCK })
        }
    }

    fn find_held(&self) -> Result<Option<Held<F>>, MapError> {
        let word = self.word();
        if word.rows == 0 {
            return Ok(None);
        }
        let unreadable = |source| MapError::Read { map: F::BLOCK, source };
        let number = self.numbers.get(&word.index, 0).map_err(unreadable)?;
        let is_it = |map: &MapData| map.info().is_ok_and(|info| info.id() == number);
        let pins = [F::TABLE, F::TABLE_NEXT].into_iter();
        let pinned = pins.filter_map(|name| MapData::from_pin(self.pin(name)).ok()).find(is_it);
        let map = match pinned {
            Some(map) => map,
            // Somebody removed its pin; it is in force all the same.
            None => MapData::from_id(number)
                .map_err(|source| MapError::Open { map: F::BLOCK, source })?,
        };
        let rows = Mapped::new(&map, F::BLOCK)?;
        let table = Table::new(rows, seed(&self.config), true);
        let table = table.filter(|table| table.homes() == word.rows);
        let table = table.ok_or(MapError::Shape { map: F::BLOCK })?;
        Ok(Some(Held { map, table, place: word.index }))
    }

    fn readers(&mut self) -> Option<Readers<'_>> {
        let Held { map, place, .. } = self.held.as_ref()?;
        Some(Readers { outer: &mut self.outer, map, place: *place, name: F::BLOCK })
    }

    fn pin(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }
}

impl<F: Family> Held<F> {
    /// What `CONFIG` says when it is in force.
    fn word(&self) -> TableWord {
        TableWord { index: self.place, rows: self.table.homes() }
    }
}

impl Quiet for Readers<'_> {
    type Error = MapError;

    /// The kernel answers a write to a map of maps when every program that ran before has ended.
    fn wait(&mut self) -> Result<(), MapError> {
        self.outer
            .set(self.place, self.map, 0)
            .map_err(|source| MapError::Write { map: self.name, source })
    }
}

impl Quiet for Nobody {
    type Error = MapError;

    fn wait(&mut self) -> Result<(), MapError> {
        Ok(())
    }
}

/// What the old table counted for blocks that the new one has as well is counted there. What is
/// moved is gone from the old one, so that doing it again adds nothing.
fn move_counts<F: Family>(
    old: &Table<F::Row, Mapped<F::Row>>,
    new: &Table<F::Row, Mapped<F::Row>>,
) {
    for (at, key, block) in old.iter().filter(|(_, _, block)| block.packets != 0) {
        if let Some((to, found)) = new.find(&key, block.meta.length())
            && found.id == block.id
        {
            new.add_counts(to, &old.take_counts(at));
        }
    }
}

fn make<F: Family>(rows: u32) -> Result<MapData, MapError> {
    let value = u32::try_from(size_of::<F::Row>()).unwrap_or(u32::MAX);
    let key = u32::try_from(size_of::<u32>()).unwrap_or(u32::MAX);
    let flags = map::MMAPABLE | map::INNER;
    let shape = aya_obj::Map::new_from_params(ARRAY, key, value, rows, flags);
    let made = MapData::create(shape, F::TABLE, None);
    made.map_err(|source| MapError::Make { map: F::BLOCK, source })
}

fn remove(pin: &std::path::Path) -> io::Result<()> {
    match fs::remove_file(pin) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        Ok(()) | Err(_) => Ok(()),
    }
}

fn refused<F: Family>(source: aya::maps::MapError) -> MapError {
    MapError::Write { map: F::BLOCK, source }
}

fn unwritable<F: Family>(error: io::Error) -> MapError {
    refused::<F>(error.into())
}
