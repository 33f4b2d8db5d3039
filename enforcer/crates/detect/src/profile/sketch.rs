//! How many different things, and whether one was there before, in a few bytes each.

use super::num::{measure, slot};

/// Registers of [`Distinct`], of four bits each.
const REGISTERS: usize = 64;

/// How many different names were added: a `HyperLogLog` of 64 registers in 32 bytes, wrong by about
/// 13 %, exact enough below a few dozen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Distinct(pub(super) [u8; REGISTERS / 2]);

/// What [`Distinct`] amounts to, kept beside it: how many registers are filled, and in parts of
/// 2^-15 what their harmonic sum has lost since all were empty.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Estimate(pub(super) u32);

/// One filled register.
const FILLED: u32 = 1 << 24;
/// A register's part of the sum when it is empty.
const WHOLE: u32 = 1 << 15;

impl Distinct {
    /// Adds `name`; whether the count has changed.
    pub(super) fn add(&mut self, name: u64, estimate: &mut Estimate) -> bool {
        let register = slot(name & 63, REGISTERS);
        let rank = u8::try_from((name >> 6).trailing_zeros().min(14) + 1).unwrap_or(15);
        let Some(pair) = self.0.get_mut(register / 2) else { return false };
        let shift = if register.is_multiple_of(2) { 0 } else { 4 };
        let before = *pair >> shift & 15;
        if rank <= before {
            return false;
        }
        *pair = *pair & !(15 << shift) | rank << shift;
        let lost = (WHOLE >> before) - (WHOLE >> rank);
        let filled = if before == 0 { FILLED } else { 0 };
        estimate.0 = estimate.0.saturating_add(lost + filled);
        true
    }
}

impl Distinct {
    /// Something of the line of the cache that it is in.
    pub(super) fn touch(&self) -> u64 {
        u64::from(self.0[0])
    }
}

impl Estimate {
    /// About how many there were.
    pub(super) fn count(self) -> f32 {
        let registers = 64.0_f32;
        let sum = registers - measure(u64::from(self.0 % FILLED)) / measure(u64::from(WHOLE));
        let raw = 0.709 * registers * registers / sum;
        let empty = registers - measure(u64::from(self.0 / FILLED));
        if raw <= 2.5 * registers && empty > 0.5 {
            return registers * (registers / empty).ln();
        }
        raw
    }
}

/// Blocks of [`Seen`]; all that is asked of one name is in one of them.
const BLOCKS: usize = 4;
/// Words of one generation in a block: 256 bits.
const WORDS: usize = 4;
/// Bits that one name sets.
const PROBES: u32 = 3;
/// Names after which the elder generation is forgotten: about 5 % of strangers are then taken for
/// known, and 170 to 340 of the latest names are known.
const GENERATION: u16 = 170;

/// Which names were there before: a bloom filter of two generations in 256 bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Seen {
    /// By block: the younger generation, then the elder; a block is a line of the cache.
    pub(super) blocks: [[u64; 2 * WORDS]; BLOCKS],
}

/// Names in both generations, which stand elsewhere: nearly every request asks for them.
#[derive(Debug)]
pub(super) struct Generations<'a> {
    pub(super) young: &'a mut u16,
    pub(super) old: &'a mut u16,
}

impl Seen {
    /// How new `name` is: none when it was there before, else one and more, because so many
    /// others like it are taken for known. It is remembered when `learn` says so.
    pub(super) fn novelty(
        &mut self,
        names: &mut Generations<'_>,
        name: u64,
        learn: bool,
    ) -> Option<f32> {
        let masks = Self::masks(name);
        let block = self.blocks.get_mut(slot(name >> 56, BLOCKS))?;
        let (young, old) = block.split_at_mut(WORDS);
        let has = |words: &[u64]| words.iter().zip(masks).all(|(word, mask)| word & mask == mask);
        let (in_young, in_old) = (has(young), has(old));
        if learn && !in_young {
            young.iter_mut().zip(masks).for_each(|(word, mask)| *word |= mask);
            *names.young = names.young.saturating_add(1);
        }
        let doubt = || doubt(*names.young, *names.old);
        let novelty = (!in_young && !in_old).then(|| 1.0 / (1.0 - doubt()));
        if *names.young >= GENERATION {
            self.turn();
            (*names.old, *names.young) = (*names.young, 0);
        }
        novelty
    }

    /// Something of the line of the cache in which `name` is looked for.
    pub(super) fn touch(&self, name: u64) -> u64 {
        self.blocks.get(slot(name >> 56, BLOCKS)).map_or(0, |block| block[0])
    }

    fn turn(&mut self) {
        for block in &mut self.blocks {
            let (young, old) = block.split_at_mut(WORDS);
            old.copy_from_slice(young);
            young.fill(0);
        }
    }

    fn masks(name: u64) -> [u64; WORDS] {
        let mut masks = [0; WORDS];
        for probe in 0..PROBES {
            let bit = name >> (8 * probe + 12) & 255;
            if let Some(mask) = masks.get_mut(slot(bit >> 6, WORDS)) {
                *mask |= 1 << (bit & 63);
            }
        }
        masks
    }
}

/// The share of strangers that are taken for known.
fn doubt(young: u16, old: u16) -> f32 {
    let one = |names: u16| {
        let filled = 1.0 - (-3.0 * f32::from(names) / 1024.0).exp();
        filled * filled * filled
    };
    (one(young) + one(old)).min(0.5)
}

/// Which routes were used: 256 bits, two of them for each.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Routes(pub(super) [u64; 4]);

impl Routes {
    /// Whether `name` was there before.
    pub(super) fn has(&self, name: u64) -> bool {
        [name, name >> 8].into_iter().all(|bits| {
            self.0.get(slot(bits >> 6 & 3, 4)).is_some_and(|word| word >> (bits & 63) & 1 == 1)
        })
    }

    /// Something of the line of the cache that they are in.
    pub(super) const fn touch(&self) -> u64 {
        self.0[0]
    }

    /// Remembers `name`.
    pub(super) fn add(&mut self, name: u64) {
        for bits in [name, name >> 8] {
            if let Some(word) = self.0.get_mut(slot(bits >> 6 & 3, 4)) {
                *word |= 1 << (bits & 63);
            }
        }
    }

    /// Adds all of `others`.
    pub(super) fn join(&mut self, others: &Self) {
        self.0.iter_mut().zip(others.0).for_each(|(mine, theirs)| *mine |= theirs);
    }

    /// About how many there are.
    pub(super) fn count(&self) -> f32 {
        let set: u32 = self.0.iter().map(|word| word.count_ones()).sum();
        let free = 1.0 - measure(u64::from(set)) / 256.0;
        -128.0 * free.max(1.0 / 256.0).ln()
    }
}

#[cfg(test)]
mod tests {
    use super::super::hash::Key;
    use super::*;

    fn name(number: u64) -> u64 {
        Key::new([9; 16]).number(1, &[number])
    }

    #[derive(Default)]
    struct Filter {
        seen: Seen,
        young: u16,
        old: u16,
    }

    impl Filter {
        fn novelty(&mut self, name: u64, learn: bool) -> Option<f32> {
            let mut names = Generations { young: &mut self.young, old: &mut self.old };
            self.seen.novelty(&mut names, name, learn)
        }
    }

    #[test]
    fn a_count_of_different_names_is_right_within_a_third() {
        for many in [1_u16, 5, 20, 60, 300, 5_000] {
            let (mut distinct, mut estimate) = (Distinct::default(), Estimate::default());

            for number in 0..many {
                distinct.add(name(u64::from(number)), &mut estimate);
                distinct.add(name(u64::from(number)), &mut estimate);
            }

            let off = (estimate.count() - f32::from(many)).abs() / f32::from(many);
            assert!(off < 0.34, "{many}: {}", estimate.count());
        }
    }

    #[test]
    fn what_was_there_is_known_until_two_generations_later() {
        let mut seen = Filter::default();

        assert!(seen.novelty(name(1), true).is_some());
        assert!(seen.novelty(name(1), true).is_none());
        for number in 2..150 {
            seen.novelty(name(number), true);
        }
        assert!(seen.novelty(name(1), true).is_none());
        for number in 1_000..1_800 {
            seen.novelty(name(number), true);
        }
        assert!(seen.novelty(name(1), true).is_some());
    }

    #[test]
    fn the_novelty_of_strangers_adds_up_to_their_number_though_some_are_taken_for_known() {
        let mut seen = Filter::default();

        let sum: f32 = (0..5_000).filter_map(|number| seen.novelty(name(number), true)).sum();

        assert!((4_500.0..5_500.0).contains(&sum), "{sum}");
    }

    #[test]
    fn what_is_not_learned_stays_new() {
        let mut seen = Filter::default();

        assert!(seen.novelty(name(1), false).is_some());
        assert!(seen.novelty(name(1), false).is_some());
    }

    #[test]
    fn routes_are_known_once_added_and_counted_about_right() {
        let mut routes = Routes::default();
        for number in 0..20 {
            routes.add(name(number));
        }

        assert!((0..20).all(|number| routes.has(name(number))));
        let taken = (1_000..2_000).filter(|number| routes.has(name(*number))).count();
        assert!(taken < 60, "{taken}");
        assert!((16.0..24.0).contains(&routes.count()));
    }
}
