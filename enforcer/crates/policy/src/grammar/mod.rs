//! What a policy may look like: the keys of each table and the form of each value.
//!
//! One description serves three readers, so that they cannot disagree: [`check`] reports every
//! unknown key, missing key and malformed value at once; [`Fields`] reads values and defaults; the
//! JSON Schema is printed from it. What the values mean together is for the sections in
//! [`crate::parse`].

mod check;
mod fields;
mod forms;
mod places;

use std::time::Duration;

pub(crate) use check::{check, suggest};
pub(crate) use fields::{Fields, Mixed, Named};
pub(crate) use forms::{
    ALGORITHM, ALLOTMENT, BYTES_PER_SECOND, CALLERS, CLAIM, CONDITION, COST, DAYS, ENDPOINT, Form,
    GRANT, HOST, HOURS, INTERFACE, ISSUER, KEY_PREFIX, LEVEL, METHOD, NAME, NETWORK, ORIGIN, PATH,
    PATH_PREFIX, PATTERN, PER_SECOND, PERCENT, RATE, RECIPIENT, SIGNED_ENDPOINT, VALUE,
    WITNESS_KEY, WORDS, ZONE, brief, claim_path, parse_bytes_per_second, parse_duration,
};
pub(crate) use places::{
    BALANCE, HASH_KEY, HOST_ADDRESS, MODE, PERMIT, PLACE, PROXIES, SERVER_NAME, TARGET,
};

/// One key of a table.
#[derive(Debug)]
pub(crate) struct Key {
    pub(crate) name: &'static str,
    pub(crate) need: Need,
    pub(crate) shape: Shape,
    /// One line for the schema.
    pub(crate) doc: &'static str,
}

/// What its absence means.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Need {
    /// The policy cannot do without.
    Required,
    /// Nothing stands for it.
    Optional,
    /// This stands for it.
    Text(&'static str),
    /// This stands for it.
    Count(u64),
    /// `false` stands for it.
    False,
    /// `true` stands for it.
    True,
}

/// What a value looks like.
#[derive(Debug)]
pub(crate) enum Shape {
    /// `true` or `false`.
    Flag,
    /// A whole number in a range, both ends included.
    Count(u64, u64),
    /// A string that names a span of time in a range.
    Span(Duration, Duration),
    /// A string that names a number of bytes in a range.
    Size(u64, u64),
    /// One of these words.
    Choice(&'static [&'static str]),
    /// A string of a form.
    Text(&'static Form),
    /// At least one value of a shape.
    List(&'static Self),
    /// The same, where a single value may stand without brackets.
    OneOrMore(&'static Self),
    /// This word, or a value of a shape that is no string.
    WordOr(&'static str, &'static Self),
    /// `true`, `false`, or a table with these keys.
    FlagOr(&'static [Key]),
    /// A string of a form, or a table with these keys.
    TextOr(&'static Form, &'static [Key]),
    /// A table with these keys.
    Table(&'static [Key]),
    /// A table whose keys are names that the operator chooses.
    Named(&'static Self),
    /// A table whose keys are of a form.
    Keyed(&'static Form, &'static Self),
    /// A number from 0 to 1 with at most three decimals.
    Factor,
    /// A whole number in a range, or a string of a form.
    CountOr(u64, u64, &'static Form),
}

impl Key {
    pub(crate) const fn required(name: &'static str, shape: Shape, doc: &'static str) -> Self {
        Self { name, need: Need::Required, shape, doc }
    }

    pub(crate) const fn optional(name: &'static str, shape: Shape, doc: &'static str) -> Self {
        Self { name, need: Need::Optional, shape, doc }
    }

    pub(crate) const fn with_default(
        name: &'static str,
        shape: Shape,
        default: Need,
        doc: &'static str,
    ) -> Self {
        Self { name, need: default, shape, doc }
    }
}
