//! Questions about a request, with the three values that conditions have.
//!
//! Conditions and what a plan asks of methods and roles become one [`Formula`], in which two steps
//! lead back to yes and no: what is *surely* so allows, what is *maybe* so denies. Nothing here knows
//! how values are found; that is the business of the search.

use std::ops::{BitAnd, BitOr, Not};

use enforcer_authz::{Attribute, Expr, Flag, Test, Text};

/// Something to ask about a request.
#[derive(Clone, Debug)]
pub(crate) enum Formula<'a> {
    /// The answer is known.
    Known(Outcomes),
    /// Kleene's conjunction.
    All(Vec<Self>),
    /// Kleene's disjunction.
    Any(Vec<Self>),
    /// Kleene's negation.
    Not(Box<Self>),
    /// Yes when it is true, no when it is false or unknown.
    Surely(Box<Self>),
    /// No when it is false, yes when it is true or unknown.
    Maybe(Box<Self>),
    /// A condition of the policy.
    Condition(&'a Expr),
    /// One look at the request.
    Test(Test),
    /// Host and path lead to the route in question.
    Routed,
    /// As the world of this number sees it: policies differ in what their roles mean.
    In(usize, Box<Self>),
}

/// Which of the three values an answer can still have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Outcomes(u8);

impl Outcomes {
    pub(crate) const TRUE: Self = Self(1);
    pub(crate) const FALSE: Self = Self(2);
    pub(crate) const UNKNOWN: Self = Self(4);
    /// Any of the three.
    pub(crate) const OPEN: Self = Self(7);

    pub(crate) const fn of(truth: bool) -> Self {
        if truth { Self::TRUE } else { Self::FALSE }
    }

    pub(crate) const fn can_be(self, outcome: Self) -> bool {
        self.0 & outcome.0 != 0
    }

    /// Whether more than one is left.
    pub(crate) const fn is_open(self) -> bool {
        self.0.count_ones() > 1
    }

    /// Unknown becomes false.
    pub(crate) const fn surely(self) -> Self {
        let no = if self.0 & 6 == 0 { 0 } else { 2 };
        Self((self.0 & 1) | no)
    }

    /// Unknown becomes true.
    pub(crate) const fn maybe(self) -> Self {
        let yes = if self.0 & 5 == 0 { 0 } else { 1 };
        Self((self.0 & 2) | yes)
    }

    /// Whether two truth values are the same; unknown if one of them is.
    pub(crate) fn same(self, other: Self) -> Self {
        (self & other) | (!self & !other)
    }
}

impl BitOr for Outcomes {
    type Output = Self;

    /// Kleene's disjunction of every pair.
    fn bitor(self, other: Self) -> Self {
        let yes = (self.0 | other.0) & 1;
        let no = self.0 & other.0 & 2;
        let unknown =
            (self.0 & 4 != 0 && other.0 & 6 != 0) || (other.0 & 4 != 0 && self.0 & 6 != 0);
        Self(yes | no | if unknown { 4 } else { 0 })
    }
}

impl BitAnd for Outcomes {
    type Output = Self;

    /// Kleene's conjunction of every pair.
    fn bitand(self, other: Self) -> Self {
        !(!self | !other)
    }
}

impl Not for Outcomes {
    type Output = Self;

    fn not(self) -> Self {
        Self((self.0 & 4) | ((self.0 & 1) << 1) | ((self.0 & 2) >> 1))
    }
}

impl<'a> Formula<'a> {
    pub(crate) const YES: Self = Self::Known(Outcomes::TRUE);

    pub(crate) fn surely(self) -> Self {
        Self::Surely(Box::new(self))
    }

    pub(crate) fn maybe(self) -> Self {
        Self::Maybe(Box::new(self))
    }

    pub(crate) fn negated(self) -> Self {
        Self::Not(Box::new(self))
    }

    /// As world `number` sees it.
    pub(crate) fn seen_in(self, number: usize) -> Self {
        Self::In(number, Box::new(self))
    }

    /// Whether `attribute` is `value`.
    pub(crate) fn is(attribute: Attribute, value: &str) -> Self {
        Self::Test(Test::Equal(attribute, Text::Literal(value.into())))
    }

    pub(crate) const fn flag(flag: Flag) -> Self {
        Self::Test(Test::Flag(flag))
    }

    /// Calls `look` with every test in it.
    pub(crate) fn each_test(&self, look: &mut dyn FnMut(&Test)) {
        match self {
            Self::Known(_) | Self::Routed => {}
            Self::All(parts) | Self::Any(parts) => {
                parts.iter().for_each(|part| part.each_test(look));
            }
            Self::Not(inner) | Self::Surely(inner) | Self::Maybe(inner) | Self::In(_, inner) => {
                inner.each_test(look);
            }
            Self::Condition(expr) => each_test(expr, look),
            Self::Test(test) => look(test),
        }
    }
}

/// Calls `look` with every test in `expr`, whose depth its parser bounds.
pub(crate) fn each_test(expr: &Expr, look: &mut dyn FnMut(&Test)) {
    match expr {
        Expr::Constant(_) => {}
        Expr::Not(inner) => each_test(inner, look),
        Expr::All(parts) | Expr::Any(parts) => parts.iter().for_each(|part| each_test(part, look)),
        Expr::Same(pair) => pair.iter().for_each(|part| each_test(part, look)),
        Expr::Test(test) => look(test),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tables_are_those_of_kleene() {
        const ALL: [Outcomes; 3] = [Outcomes::FALSE, Outcomes::UNKNOWN, Outcomes::TRUE];

        for (m, a) in ALL.into_iter().enumerate() {
            for (n, b) in ALL.into_iter().enumerate() {
                assert_eq!(a & b, ALL[m.min(n)]);
                assert_eq!(a | b, ALL[m.max(n)]);
                let known = m != 1 && n != 1;
                assert_eq!(a.same(b), if known { Outcomes::of(m == n) } else { ALL[1] });
            }
            assert_eq!(!a, ALL[2 - m]);
            assert_eq!(a.surely(), Outcomes::of(a == Outcomes::TRUE));
            assert_eq!(a.maybe(), Outcomes::of(a != Outcomes::FALSE));
        }
    }

    #[test]
    fn an_open_answer_keeps_exactly_what_can_still_come() {
        assert_eq!(Outcomes::OPEN & Outcomes::FALSE, Outcomes::FALSE);
        assert_eq!(Outcomes::OPEN | Outcomes::TRUE, Outcomes::TRUE);
        assert_eq!(Outcomes::OPEN & Outcomes::TRUE, Outcomes::OPEN);
        assert!(!(Outcomes::OPEN & Outcomes::UNKNOWN).can_be(Outcomes::TRUE));
        assert_eq!(Outcomes::UNKNOWN.surely(), Outcomes::FALSE);
        assert!(!Outcomes::OPEN.surely().can_be(Outcomes::UNKNOWN));
    }
}
