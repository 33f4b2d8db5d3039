//! Which of a policy's roles a caller has, in 64 bytes and without a name.

use std::fmt;

const WORD: usize = 64;

/// The most roles that a policy may have.
pub const ROLES_MAX: usize = RoleSet::WORDS * WORD;

/// The place of a role among those of its policy, below [`ROLES_MAX`]; only [`crate::Roles`] makes one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RoleIndex(u16);

/// Roles of one policy. A set means nothing to another policy, whose roles have other places.
///
/// Made by [`crate::Roles`], and then closed over inclusion: who has `writer`, which includes `reader`,
/// has both.
#[derive(Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct RoleSet([u64; Self::WORDS]);

impl RoleIndex {
    /// The place `index`, if a policy can have so many roles.
    pub(crate) fn new(index: usize) -> Option<Self> {
        u16::try_from(index).ok().filter(|_| index < ROLES_MAX).map(Self)
    }

    /// As a number from 0.
    pub fn get(self) -> usize {
        usize::from(self.0)
    }

    fn word(self) -> usize {
        self.get() / WORD
    }

    const fn bit(self) -> u64 {
        1 << (self.0 % 64)
    }
}

impl RoleSet {
    const WORDS: usize = 8;

    /// No role at all.
    pub const NONE: Self = Self([0; Self::WORDS]);

    /// Whether the role at `index` is in the set.
    #[inline]
    pub fn contains(&self, index: RoleIndex) -> bool {
        self.0.get(index.word()).is_some_and(|word| word & index.bit() != 0)
    }

    /// The roles that are in one of the two sets; closed if both are.
    #[must_use]
    pub fn union(mut self, other: Self) -> Self {
        self.0.iter_mut().zip(other.0).for_each(|(word, other)| *word |= other);
        self
    }

    /// The roles that are in both sets; closed if both are.
    #[must_use]
    pub fn intersection(mut self, other: Self) -> Self {
        self.0.iter_mut().zip(other.0).for_each(|(word, other)| *word &= other);
        self
    }

    /// Whether there is no role in it.
    pub fn is_empty(&self) -> bool {
        self.0.iter().all(|word| *word == 0)
    }

    /// Whether every role of `other` is in the set.
    pub fn includes(&self, other: &Self) -> bool {
        self.0.iter().zip(other.0).all(|(word, other)| other & !word == 0)
    }

    /// The places of its roles, in ascending order.
    pub fn iter(&self) -> impl Iterator<Item = RoleIndex> + '_ {
        (0..ROLES_MAX).filter_map(RoleIndex::new).filter(|index| self.contains(*index))
    }

    pub(crate) fn insert(&mut self, index: RoleIndex) {
        if let Some(word) = self.0.get_mut(index.word()) {
            *word |= index.bit();
        }
    }
}

impl fmt::Debug for RoleSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.iter().map(RoleIndex::get)).finish()
    }
}
