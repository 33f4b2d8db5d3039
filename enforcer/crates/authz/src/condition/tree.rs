//! A condition without types, and its bounds.

use std::ops::Range;

use super::lexer::Relation;

/// The deepest nesting of parentheses, and of operators within each other.
pub(super) const DEPTH_MAX: usize = 32;

/// The most parts of a condition; a list is one.
pub(super) const NODES_MAX: usize = 512;

/// The most elements of a list.
pub(super) const LIST_MAX: usize = 256;

/// A part of a condition.
#[derive(Debug)]
pub(super) struct Node {
    pub(super) span: Range<usize>,
    pub(super) kind: Kind,
    /// Operators within each other, itself included.
    pub(super) height: usize,
}

#[derive(Debug)]
pub(super) enum Kind {
    /// Something that has been told.
    Broken,
    Flag(bool),
    Int(i64),
    Text(String),
    List(Vec<Node>),
    /// At least one name.
    Path(Vec<Name>),
    Not(Box<Node>),
    All(Vec<Node>),
    Any(Vec<Node>),
    Relation(Box<[Node; 2]>, Relation),
    Has(Box<Node>),
    Call {
        receiver: Box<Node>,
        method: Name,
        arguments: Vec<Node>,
    },
}

#[derive(Clone, Debug)]
pub(super) struct Name {
    pub(super) text: String,
    pub(super) span: Range<usize>,
}
