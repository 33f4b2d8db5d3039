//! `[[test]]`: requests with the answers that the operator expects.
//!
//! Kept as written here; what they mean is read where they are run.

use std::sync::Arc;

use super::Base;
use crate::grammar::{Fields, Key, Shape, WORDS};

/// One `[[test]]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Case {
    /// The request, as a sentence.
    pub run: Arc<str>,
    /// The answer.
    pub expect: Arc<str>,
    /// Where it begins in the file.
    pub line: usize,
}

pub(super) static KEYS: &[Key] = &[
    Key::required(
        "do",
        Shape::Text(&WORDS),
        "A request: `GET api.example.com/v1/orders as reader from 192.0.2.1`.",
    ),
    Key::required(
        "expect",
        Shape::Text(&WORDS),
        "Its answer: `allow`, `allow: RULE`, `deny`, `deny: TEXT` or `404`.",
    ),
];

pub(super) fn read(root: Fields<'_>, base: Base<'_>) -> Vec<Case> {
    let case = |fields: Fields<'_>| {
        Some(Case {
            run: fields.text("do")?.into(),
            expect: fields.text("expect")?.into(),
            line: base.text.place(fields.span()).line,
        })
    };
    root.tables("test").into_iter().filter_map(case).collect()
}
