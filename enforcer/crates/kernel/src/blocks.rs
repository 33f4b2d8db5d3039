//! The blocks of one family: the table in force, and what packets are asked before it.
//!
//! A block is in force by one word of its slot. What leads there comes first: the bit of its
//! neighbourhood in the prefilter, and its prefix length in `CONFIG`. Both may say too much, never
//! too little; [`Blocks::sweep`] takes back what nobody needs any more. Memory follows use: a table
//! that is nearly full gets a larger successor, one that is nearly empty a smaller one.

use std::sync::Arc;
use std::time::Duration;

use enforcer_ebpf::config::Lengths;
use enforcer_ebpf::table::{MAX_LENGTHS, MOMENT_NS, Meta, Seen};
use enforcer_ebpf::{NEVER_NS, Shared, TableWord};
use enforcer_model::{BlockId, Prefix};

use crate::error::{BlockError, MapError};
use crate::family::{Family, Key, length};
use crate::kernel::{Entry, Installed, Loaded};
use crate::mapped::Mapped;
use crate::maps::{ConfigMap, open_mapped};
use crate::pins::Pins;
use crate::switch::{Held, Nobody, Tables};
use crate::system::boot_ns;
use crate::table::{Block, FEWEST_HOMES, Refused, Table, homes_for, seed};

/// Percent of the slots in use from which a table gets a larger successor when there is time for
/// it, and from which the next block waits for it.
const FULL: (u32, u32) = (84, 88);

/// Percent of the slots in use below which a table gets a smaller successor.
const EMPTY: u32 = 25;

/// Percent of the slots that are in use in a successor, and in the table of a list.
const ROOMY: u32 = 60;
const SNUG: u32 = 80;

/// A pass over a table that took longer than this is not made again before it was idle for
/// [`REST`] times as long.
const LONG_NS: u64 = 5_000_000;
const REST: u64 = 32;

/// The blocks of one family.
pub(crate) struct Blocks<F: Family> {
    config: Arc<ConfigMap>,
    tables: Tables<F>,
    prefilter: Mapped<Shared>,
    /// No block ends before.
    next_end_ns: u64,
    /// Prefilter or lengths may say too much.
    loose: bool,
    /// When the last pass over the table ended, and how long it took.
    last_pass: (u64, u64),
}

/// A table that is filled and not in force yet.
pub(crate) struct Prepared<F: Family> {
    new: Held<F>,
    lengths: Lengths,
    next_end_ns: u64,
    pub(crate) loaded: Loaded,
}

/// What the kernel's owner does with blocks, for either family.
pub(crate) trait BlockTable {
    fn check(&self) -> Result<(), MapError>;
    fn find(&self, prefix: Prefix) -> Option<Block>;
    fn put(&mut self, prefix: Prefix, meta: Meta, id: u64, most: u32) -> Result<(), BlockError>;
    fn remove(&mut self, prefix: Prefix) -> Result<(), MapError>;
    fn sweep_now(&mut self) -> Result<usize, MapError>;
}

impl<F: Family> Blocks<F> {
    pub(crate) fn open(pins: &Pins, config: &Arc<ConfigMap>) -> Result<Self, MapError> {
        Ok(Self {
            tables: Tables::open(pins, Arc::clone(config))?,
            prefilter: open_mapped(pins, F::PREFILTER)?,
            config: Arc::clone(config),
            // Unknown before the first pass.
            next_end_ns: 0,
            loose: true,
            last_pass: (0, 0),
        })
    }

    pub(crate) fn table(&self) -> Option<&Table<F::Row, Mapped<F::Row>>> {
        self.tables.table()
    }

    pub(crate) fn prefilter(&self) -> &[Shared] {
        &self.prefilter
    }

    /// Refuses to answer from a table that is not in force any more.
    pub(crate) fn check(&self) -> Result<(), MapError> {
        if self.tables.is_current() { Ok(()) } else { Err(MapError::Lost { map: F::BLOCK }) }
    }

    /// Which table is in force; another word, and rows have other numbers.
    pub(crate) fn word(&self) -> TableWord {
        self.tables.word()
    }

    /// Slots in use.
    pub(crate) fn used(&self) -> u32 {
        self.table().map_or(0, Table::used)
    }

    pub(crate) fn table_bytes(&self) -> usize {
        self.tables.bytes()
    }

    /// The blocks in force in these rows.
    pub(crate) fn in_force(
        &self,
        first: u32,
        rows: u32,
        now_ns: u64,
    ) -> impl Iterator<Item = (Prefix, Block)> {
        let blocks = self.table().into_iter().flat_map(move |table| table.iter_rows(first, rows));
        blocks
            .filter(move |(_, _, block)| block.meta.in_force(now_ns))
            .map(|(_, key, block)| (F::prefix(&key, block.meta.length()), block))
    }

    /// Removes what has expired, and what leads to nothing, when there may be something of it.
    pub(crate) fn sweep(&mut self) -> Result<usize, MapError> {
        let now_ns = boot_ns();
        let resting = self.table().is_some_and(Table::has_resting);
        let due = now_ns >= self.next_end_ns || self.loose || resting;
        let (ended_ns, took_ns) = self.last_pass;
        let tired =
            took_ns > LONG_NS && now_ns < ended_ns.saturating_add(took_ns.saturating_mul(REST));
        if !due || tired {
            self.begin()?;
            self.resize()?;
            return Ok(0);
        }
        self.sweep_now()
    }

    /// A table like the one in force, without `remove` and with `add`.
    ///
    /// The ends of `add` are counted from `now_ns`. `None` when nothing is of this family. Until
    /// [`Self::enforce`] nothing has changed.
    pub(crate) fn prepare(
        &mut self,
        add: &[(Prefix, Entry)],
        remove: &[Prefix],
        most: u32,
        now_ns: u64,
    ) -> Result<Option<Prepared<F>>, BlockError> {
        self.begin()?;
        let fresh = add.iter().filter_map(|(prefix, _)| Some((F::key(*prefix)?, prefix.length())));
        let concerned =
            fresh.clone().next().is_some() || remove.iter().any(|prefix| F::key(*prefix).is_some());
        if !concerned {
            return Ok(None);
        }
        let fresh = match self.table().filter(|table| table.used() > 0) {
            Some(table) => fresh.filter(|(key, length)| table.find(key, *length).is_none()).count(),
            None => fresh.count(),
        };
        let blocks = u32::try_from(fresh).unwrap_or(u32::MAX).saturating_add(self.used()).min(most);
        let mut homes = homes_for(blocks, SNUG);
        loop {
            match self.fill(homes, add, remove, most, now_ns) {
                Err(Refused::Crowded) => homes = homes.saturating_add(homes / 4),
                Err(Refused::Quiet(error)) => return Err(error),
                Ok(prepared) => {
                    self.check_lengths(&prepared, add)?;
                    return Ok(Some(prepared));
                }
            }
        }
    }

    /// Puts a prepared table in force, in one step.
    pub(crate) fn enforce(&mut self, prepared: Prepared<F>) -> Result<Loaded, MapError> {
        let Prepared { new, lengths, next_end_ns, loaded } = prepared;
        if self.lengths().union(lengths).count() > MAX_LENGTHS {
            // Packets are compared with so many lengths and no more. What is to go goes first.
            self.remove_all_but(&new);
            self.tidy()?;
            let seed = seed(&self.config);
            for (_, key, block) in new.table.iter() {
                F::mark(&key, block.meta.length(), seed, |word, bits| self.set_bits(word, bits));
            }
        }
        self.set_lengths(self.lengths().union(lengths))?;
        self.tables.switch(new)?;
        self.set_lengths(lengths)?;
        self.next_end_ns = next_end_ns;
        self.loose = true;
        Ok(loaded)
    }

    fn fill(
        &self,
        homes: u32,
        add: &[(Prefix, Entry)],
        remove: &[Prefix],
        most: u32,
        now_ns: u64,
    ) -> Result<Prepared<F>, Refused<BlockError>> {
        let crowded = |refused| match refused {
            Refused::Crowded => Refused::Crowded,
            Refused::Quiet(error) => Refused::Quiet(BlockError::Map(error)),
        };
        let mut new = self.tables.make(homes).map_err(|error| Refused::Quiet(error.into()))?;
        let table = &mut new.table;
        let mut loaded = Loaded::default();
        let held = self.table().into_iter().flat_map(Table::iter);
        for (_, key, block) in held.filter(|(_, _, block)| block.meta.in_force(now_ns)) {
            // What the old one counts until the end is added at the end.
            let block = Block { packets: 0, bytes: 0, ..block };
            table.insert(&key, &block, &mut Nobody).map_err(crowded)?;
        }
        for prefix in remove {
            let Some(key) = F::key(*prefix) else { continue };
            if let Some((at, _)) = table.find(&key, prefix.length()) {
                table.remove(at);
                loaded.removed += 1;
            }
        }
        let before = table.used();
        let seed = seed(&self.config);
        for (prefix, entry) in add {
            let (Some(key), length) = (F::key(*prefix), prefix.length()) else { continue };
            let meta = entry.meta(length, now_ns);
            if let Some((at, _)) = table.find(&key, length) {
                table.change(at, meta, entry.id.bits());
                loaded.changed += 1;
                continue;
            }
            if table.used() >= most {
                let full = BlockError::Full { map: F::BLOCK, capacity: most };
                return Err(Refused::Quiet(full));
            }
            let block = Block { meta, id: entry.id.bits(), ..Block::default() };
            table.insert(&key, &block, &mut Nobody).map_err(crowded)?;
            F::mark(&key, length, seed, |word, bits| self.set_bits(word, bits));
        }
        loaded.added = usize::try_from(table.used() - before).unwrap_or(usize::MAX);
        let mut lengths = [false; 256];
        let mut next_end_ns = NEVER_NS;
        for (_, _, block) in new.table.iter() {
            next_end_ns = next_end_ns.min(block.meta.expires_ns());
            if let Some(seen) = lengths.get_mut(usize::from(block.meta.length())) {
                *seen = true;
            }
        }
        let lengths = (0..=u8::MAX).zip(lengths).filter(|(_, seen)| *seen);
        let lengths = lengths.fold(Lengths::default(), |all, (one, _)| all.union(length::<F>(one)));
        Ok(Prepared { new, lengths, next_end_ns, loaded })
    }

    fn check_lengths(
        &self,
        prepared: &Prepared<F>,
        add: &[(Prefix, Entry)],
    ) -> Result<(), BlockError> {
        if prepared.lengths.count() <= MAX_LENGTHS {
            return Ok(());
        }
        let known = self.lengths();
        let is_new = |prefix: &Prefix| {
            F::key(*prefix).is_some() && known.union(length::<F>(prefix.length())) != known
        };
        match add.iter().map(|(prefix, _)| *prefix).find(is_new) {
            Some(prefix) => Err(BlockError::Lengths { prefix }),
            None => Ok(()),
        }
    }

    /// Before anything is changed.
    fn begin(&mut self) -> Result<(), MapError> {
        self.config.draw_seed()?;
        self.tables.settle()
    }

    /// Makes packets look for a block that is about to be in force.
    fn lead_to(&mut self, prefix: Prefix, key: &Key<F>) -> Result<(), BlockError> {
        let wanted = |blocks: &Self| blocks.lengths().union(length::<F>(prefix.length()));
        if wanted(self).count() > MAX_LENGTHS {
            self.tidy()?;
        }
        if wanted(self).count() > MAX_LENGTHS {
            return Err(BlockError::Lengths { prefix });
        }
        self.set_lengths(wanted(self))?;
        let seed = seed(&self.config);
        F::mark(key, prefix.length(), seed, |word, bits| self.set_bits(word, bits));
        Ok(())
    }

    /// A successor of another size, for the same blocks.
    fn change_size(&mut self, homes: u32) -> Result<(), MapError> {
        let now_ns = boot_ns();
        let mut homes = homes;
        loop {
            match self.fill(homes, &[], &[], u32::MAX, now_ns) {
                Err(Refused::Crowded) => homes = homes.saturating_add(homes / 4),
                Err(Refused::Quiet(BlockError::Map(error))) => return Err(error),
                Err(Refused::Quiet(_)) => return Err(MapError::Shape { map: F::BLOCK }),
                Ok(prepared) => return self.tables.switch(prepared.new),
            }
        }
    }

    /// Makes the table larger or smaller when its use says so. A kernel that has no memory for that
    /// leaves the table as it is.
    fn resize(&mut self) -> Result<(), MapError> {
        let Some(table) = self.table() else { return Ok(()) };
        let (early, _) = FULL;
        let homes = homes_for(table.used(), ROOMY);
        let fits = table.percent() < early
            && (table.percent() >= EMPTY || table.homes() <= FEWEST_HOMES.max(homes));
        if fits {
            return Ok(());
        }
        match self.change_size(homes) {
            Err(error @ MapError::Make { .. }) => {
                tracing::warn!(%error, "the table keeps its size");
                Ok(())
            }
            result => result,
        }
    }

    /// Removes what has expired, and what leads to nothing.
    fn tidy(&mut self) -> Result<usize, MapError> {
        let began_ns = boot_ns();
        let mut wanted = vec![0u64; self.prefilter.len()];
        let mut lengths = Lengths::default();
        let mut expired = Vec::new();
        let mut next_end_ns = NEVER_NS;
        let seed = seed(&self.config);
        for (at, key, block) in self.table().into_iter().flat_map(Table::iter) {
            if !block.meta.in_force(began_ns) {
                expired.push(at);
                continue;
            }
            let of_block = block.meta.length();
            next_end_ns = next_end_ns.min(block.meta.expires_ns());
            lengths = lengths.union(length::<F>(of_block));
            F::mark(&key, of_block, seed, |word, bits| {
                let word = usize::try_from(word).ok().and_then(|word| wanted.get_mut(word));
                word.into_iter().for_each(|word| *word |= bits);
            });
        }
        if let Some(table) = self.tables.table_mut() {
            expired.iter().for_each(|at| table.remove(*at));
            table.shorten_walks();
        }
        for (word, wanted) in self.prefilter.iter().zip(wanted) {
            if word.get() != wanted {
                word.set(wanted);
            }
        }
        self.set_lengths(lengths)?;
        self.tables.rest()?;
        self.next_end_ns = next_end_ns;
        self.loose = false;
        let ended_ns = boot_ns();
        self.last_pass = (ended_ns, ended_ns.saturating_sub(began_ns));
        Ok(expired.len())
    }

    /// Takes out every block that `new` does not have.
    fn remove_all_but(&mut self, new: &Held<F>) {
        let Some(table) = self.tables.table_mut() else { return };
        let gone = |(at, key, block): (_, _, Block)| {
            new.table.find(&key, block.meta.length()).is_none().then_some(at)
        };
        let gone: Vec<_> = table.iter().filter_map(gone).collect();
        gone.into_iter().for_each(|at| table.remove(at));
    }

    fn set_bits(&self, word: u32, bits: u64) {
        let word = usize::try_from(word).ok().and_then(|word| self.prefilter.get(word));
        if let Some(word) = word
            && word.get() & bits != bits
        {
            word.set(word.get() | bits);
        }
    }

    pub(crate) fn lengths(&self) -> Lengths {
        let Lengths(words) = F::lengths(&self.config);
        Lengths(words.each_ref().map(Shared::get))
    }

    fn set_lengths(&self, lengths: Lengths) -> Result<(), MapError> {
        let Lengths([a, b, c]) = lengths;
        self.config.set(
            |config| {
                let Lengths([a, _, _]) = F::lengths(config);
                a
            },
            a,
        )?;
        self.config.set(
            |config| {
                let Lengths([_, b, _]) = F::lengths(config);
                b
            },
            b,
        )?;
        self.config.set(
            |config| {
                let Lengths([_, _, c]) = F::lengths(config);
                c
            },
            c,
        )
    }
}

impl<F: Family> BlockTable for Blocks<F> {
    fn check(&self) -> Result<(), MapError> {
        Self::check(self)
    }

    fn find(&self, prefix: Prefix) -> Option<Block> {
        let key = F::key(prefix)?;
        self.table()?.find(&key, prefix.length()).map(|(_, block)| block)
    }

    fn put(&mut self, prefix: Prefix, meta: Meta, id: u64, most: u32) -> Result<(), BlockError> {
        let Some(key) = F::key(prefix) else { return Err(BlockError::Lost { prefix }) };
        self.begin()?;
        let found = self.table().and_then(|table| table.find(&key, prefix.length()));
        let full = BlockError::Full { map: F::BLOCK, capacity: most };
        if found.is_none() && self.used() >= most {
            return Err(full);
        }
        self.lead_to(prefix, &key)?;
        self.next_end_ns = self.next_end_ns.min(meta.expires_ns());
        if let (Some((at, _)), Some(table)) = (found, self.tables.table_mut()) {
            table.change(at, meta, id);
            return Ok(());
        }
        let (_, late) = FULL;
        let larger = |blocks: &Self| homes_for(blocks.used().saturating_add(1), ROOMY);
        if self.table().is_none_or(|table| table.percent() >= late) {
            self.change_size(larger(self))?;
        }
        let block = Block { meta, id, ..Block::default() };
        for _ in 0..2 {
            match self.tables.insert(&key, &block) {
                Ok(()) => return Ok(()),
                Err(Refused::Quiet(error)) => return Err(error.into()),
                Err(Refused::Crowded) => {
                    let homes = self.table().map_or(0, Table::homes);
                    self.change_size(larger(self).max(homes.saturating_add(homes / 4)))?;
                }
            }
        }
        Err(full)
    }

    fn remove(&mut self, prefix: Prefix) -> Result<(), MapError> {
        self.begin()?;
        let Some(key) = F::key(prefix) else { return Ok(()) };
        let Some(table) = self.tables.table_mut() else { return Ok(()) };
        if let Some((at, _)) = table.find(&key, prefix.length()) {
            table.remove(at);
            self.loose = true;
        }
        Ok(())
    }

    fn sweep_now(&mut self) -> Result<usize, MapError> {
        self.begin()?;
        let expired = self.tidy()?;
        self.resize()?;
        Ok(expired)
    }
}

impl Entry {
    pub(crate) fn meta(&self, length: u8, now_ns: u64) -> Meta {
        // Whole moments, and rather a part of one too few. Beyond the clock is never.
        let end = |left: Duration| {
            let left = u64::try_from(left.as_nanos()).ok()?;
            now_ns.checked_add(left).map(|end| end / MOMENT_NS * MOMENT_NS)
        };
        let expires_ns = self.expires.and_then(end).unwrap_or(NEVER_NS);
        let observe = if self.observe { Meta::OBSERVE } else { 0 };
        let contain = if self.contain { Meta::CONTAIN } else { 0 };
        Meta::new(length, expires_ns, observe | contain)
    }
}

impl Installed {
    pub(crate) fn new(prefix: Prefix, block: &Block, now_ns: u64) -> Self {
        let Block { meta, id, packets, bytes, seen } = *block;
        let span = |ns: u64| Duration::from_nanos(ns);
        let expires_ns = meta.expires_ns();
        Self {
            prefix,
            id: BlockId::from_bits(id),
            remaining: (expires_ns != NEVER_NS).then(|| span(expires_ns.saturating_sub(now_ns))),
            observe: meta.has(Meta::OBSERVE),
            contain: meta.has(Meta::CONTAIN),
            packets,
            bytes,
            last_hit: Seen::last_hit_ns(seen).map(|hit_ns| span(now_ns.saturating_sub(hit_ns))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_block_says_what_was_asked_for_and_never_lasts_longer() {
        let entry = |expires| {
            let id = BlockId::from_bits(7);
            Entry { id, expires, observe: true, contain: false }
        };
        let now_ns = 5_000_000_123;
        let told = |expires| {
            let meta = entry(expires).meta(24, now_ns);
            let block = Block { meta, id: 7, ..Block::default() };
            Installed::new("192.0.2.0/24".parse().unwrap(), &block, now_ns)
        };

        assert_eq!(told(None).remaining, None);
        assert_eq!(told(Some(Duration::MAX)).remaining, None);
        let hour = Duration::from_secs(3_600);
        let left = told(Some(hour)).remaining.unwrap();
        assert!(left <= hour && left > hour - Duration::from_millis(2), "{left:?}");
        assert!(!entry(Some(Duration::ZERO)).meta(24, now_ns).in_force(now_ns));
        assert_eq!(
            (told(None).observe, told(None).contain, told(None).id.bits()),
            (true, false, 7)
        );
    }
}
