//! What many identities do: which networks, TLS clients and routes are common, and which are new
//! everywhere at once, as in a rollout.

use super::num::slot;

/// Counters of one sketch. Two names that share both of their counters look more common than they
/// are, which only calms.
const COUNTERS: usize = 65_536;

/// How many identities use what, by its name: a count-min sketch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Common {
    pub(super) counters: Vec<u16>,
}

impl Common {
    pub(super) fn new() -> Self {
        Self { counters: vec![0; COUNTERS] }
    }

    /// One more identity uses `name`.
    pub(super) fn add(&mut self, name: u64) {
        for place in Self::places(name) {
            if let Some(counter) = self.counters.get_mut(place) {
                *counter = counter.saturating_add(1);
            }
        }
    }

    /// How many do.
    pub(super) fn users(&self, name: u64) -> u16 {
        Self::places(name)
            .into_iter()
            .map(|place| self.counters.get(place).copied().unwrap_or_default())
            .min()
            .unwrap_or_default()
    }

    /// Forgets all.
    pub(super) fn clear(&mut self) {
        self.counters.fill(0);
    }

    fn places(name: u64) -> [usize; 2] {
        [slot(name, COUNTERS), slot(name >> 32, COUNTERS)]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn users_are_counted_by_name() {
        let mut common = Common::new();
        let (mine, other) = (0x1234_5678_9abc_def0, 0x0fed_cba9_8765_4321);
        for _ in 0..16 {
            common.add(mine);
        }

        assert_eq!((common.users(mine), common.users(other)), (16, 0));
        common.clear();
        assert_eq!(common.users(mine), 0);
    }
}
