//! How a condition is written: from text to a tree without types.
//!
//! Two languages have this grammar: conditions over requests, which decide, and conditions over what
//! has happened, by which detection looks. Names and types are theirs; what a text may look like at
//! all, its bounds, and how mistakes are told is here. Nothing here fails, loops without bound or
//! recurses deeper than [`DEPTH_MAX`].

mod lexer;
mod parser;
mod problem;
mod tree;

use std::ops::Range;

pub use lexer::{Relation, is_name};
pub use parser::parse;
pub use problem::ConditionProblem;
pub use tree::{DEPTH_MAX, Kind, LIST_MAX, NODES_MAX, Name, Node};

/// The longest text of a condition, in bytes.
pub const CONDITION_BYTES_MAX: usize = 4096;

/// What hints name, where the two languages have different names.
#[derive(Clone, Copy, Debug)]
pub struct Dialect {
    /// What to write in place of an address without quotes.
    pub address: &'static str,
    /// What to write in place of `$name`.
    pub mark: &'static str,
    /// How `has` is written.
    pub has: &'static str,
    /// What can stand around a dot.
    pub member: &'static str,
}

/// `text` for a message: short, and without anything that moves a cursor.
pub fn brief(text: &str) -> String {
    const SHOWN: usize = 60;
    let mut brief = String::new();
    for (n, c) in text.chars().enumerate() {
        if n == SHOWN {
            brief.push('…');
            break;
        }
        if is_unseen(c) { brief.push('\u{FFFD}') } else { brief.push(c) }
    }
    brief
}

/// What stands at `span`, in backticks.
pub fn shown(text: &str, span: Range<usize>) -> String {
    format!("`{}`", brief(text.get(span).unwrap_or_default()))
}

/// The first few of `names`.
pub fn listed<'k>(names: impl Iterator<Item = &'k str>) -> String {
    const SHOWN: usize = 8;
    let names: Vec<&str> = names.take(SHOWN + 1).collect();
    match names.get(..SHOWN) {
        Some(first) if names.len() > SHOWN => format!("{}, …", first.join(", ")),
        _ if names.is_empty() => "(none is defined)".to_owned(),
        _ => names.join(", "),
    }
}

/// The name that was probably meant.
pub fn suggest<'k>(written: &str, known: impl IntoIterator<Item = &'k str>) -> Option<&'k str> {
    // The distance takes time in proportion to both lengths.
    if written.len() > 64 {
        return None;
    }
    let lower = written.to_ascii_lowercase();
    let near = |name: &str| name.len().max(lower.len()) / 3;
    known
        .into_iter()
        .filter(|name| name.len().abs_diff(lower.len()) <= near(name))
        .map(|name| (strsim::damerau_levenshtein(&lower, &name.to_ascii_lowercase()), name))
        .filter(|(distance, name)| *distance <= near(name))
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, name)| name)
}

/// Controls, and what reorders or hides the text around it.
pub fn is_unseen(c: char) -> bool {
    c.is_control()
        || matches!(
            c,
            '\u{AD}' | '\u{61C}' | '\u{180E}' | '\u{200B}'..='\u{200F}' | '\u{2028}'..='\u{202E}'
                | '\u{2060}'..='\u{206F}' | '\u{FEFF}' | '\u{FFF9}'..='\u{FFFB}'
        )
}
