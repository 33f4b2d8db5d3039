//! A condition without types, and its bounds.

use std::ops::Range;

use crate::lexer::Relation;

/// The deepest nesting of parentheses, and of operators within each other.
pub const DEPTH_MAX: usize = 32;

/// The most parts of a condition; a list is one.
pub const NODES_MAX: usize = 512;

/// The most elements of a list.
pub const LIST_MAX: usize = 256;

/// A part of a condition.
#[derive(Debug)]
pub struct Node {
    /// Where it stands.
    pub span: Range<usize>,
    /// What it is.
    pub kind: Kind,
    /// Operators within each other, itself included.
    pub height: usize,
}

/// What a part is.
#[derive(Debug)]
pub enum Kind {
    /// Something that has been told.
    Broken,
    /// `true` or `false`.
    Flag(bool),
    /// A whole number.
    Int(i64),
    /// A text in quotes.
    Text(String),
    /// `[a, b]`.
    List(Vec<Node>),
    /// `a.b["c"]`: at least one name.
    Path(Vec<Name>),
    /// `!a`.
    Not(Box<Node>),
    /// `a && b && …`.
    All(Vec<Node>),
    /// `a || b || …`.
    Any(Vec<Node>),
    /// `a == b`, `a in b`, ….
    Relation(Box<[Node; 2]>, Relation),
    /// `has(a)`.
    Has(Box<Node>),
    /// `a.startsWith("b")`.
    Call {
        /// What stands in front of the dot.
        receiver: Box<Node>,
        /// What is called.
        method: Name,
        /// What stands in the parentheses.
        arguments: Vec<Node>,
    },
}

/// One name of a path, and where it stands.
#[derive(Clone, Debug)]
pub struct Name {
    /// Without quotes.
    pub text: String,
    /// Where.
    pub span: Range<usize>,
}
