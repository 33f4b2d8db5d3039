//! `when`: conditions, with what is wrong in them shown at its place in the file; and what they read.

use std::collections::BTreeSet;
use std::sync::Arc;

use enforcer_authz::{
    Attribute, Condition, Expr, Flag, Number, Numbers, Test, Text, Texts, Vocabulary,
};

use crate::codes::{CONDITION, NO_REGIONS};
use crate::grammar::Fields;
use crate::parse::Base;
use crate::problem::Report;

/// The names that conditions may use, and the text that places refer to.
#[derive(Clone, Copy)]
pub(super) struct Names<'a> {
    pub(super) vocabulary: Vocabulary<'a>,
    pub(super) base: Base<'a>,
}

/// The condition `when`; inner `None` where there is none, outer `None` where it has problems.
pub(super) fn condition(
    fields: Fields<'_>,
    params: &[&str],
    names: &Names<'_>,
    report: &mut Report,
) -> Option<Option<Condition>> {
    let Some(text) = fields.text("when") else {
        return if fields.has("when") { None } else { Some(None) };
    };
    if text.trim().is_empty() {
        return None;
    }
    let inside = || names.base.text.inside(fields.span_of("when"), text);
    // A region is told apart from what is not understood: the condition is right, a file is missing.
    let vocabulary = Vocabulary { has_regions: true, ..names.vocabulary };
    match Condition::parse(text, &vocabulary, params) {
        Ok(condition) => {
            let mut reads = Reads::default();
            reads.note(condition.expr());
            if reads.region && !names.vocabulary.has_regions {
                let span = word(text, "region").map_or_else(
                    || fields.span_of("when"),
                    |at| inside().span(&(at..at + "region".len())),
                );
                let hint = "add `[region]` with `database = \"FILE.mmdb\"`".to_owned();
                report.add(&NO_REGIONS, span, "no database knows the region of an address", hint);
            }
            Some(Some(condition))
        }
        Err(problems) => {
            let inside = inside();
            for problem in problems {
                let hint = Some(problem.hint).filter(|hint| !hint.is_empty());
                report.add(&CONDITION, inside.span(&problem.span), problem.message, hint);
            }
            None
        }
    }
}

/// Where `wanted` stands as a name of its own, outside of strings.
fn word(text: &str, wanted: &str) -> Option<usize> {
    let mut quote = None;
    for (at, letter) in text.char_indices() {
        match (quote, letter) {
            (Some(open), letter) if open == letter => quote = None,
            (Some(_), _) => {}
            (None, '"' | '\'') => quote = Some(letter),
            (None, _) => {
                let name = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '.');
                let before = text.get(..at).and_then(|text| text.chars().next_back());
                let behind = text.get(at..).and_then(|text| text.strip_prefix(wanted));
                if behind.is_some_and(|behind| !behind.starts_with(name))
                    && !before.is_some_and(name)
                {
                    return Some(at);
                }
            }
        }
    }
    None
}

/// What conditions read that somebody has to provide, or that the policy defines.
#[derive(Debug, Default)]
pub(super) struct Reads {
    pub(super) queries: BTreeSet<Arc<str>>,
    pub(super) params: bool,
    pub(super) region: bool,
    pub(super) issuer: bool,
    pub(super) roles: BTreeSet<Arc<str>>,
    pub(super) networks: BTreeSet<Arc<str>>,
    pub(super) windows: BTreeSet<Arc<str>>,
}

impl Reads {
    /// Adds what `other` holds.
    pub(super) fn add(&mut self, other: Self) {
        self.queries.extend(other.queries);
        self.params |= other.params;
        self.region |= other.region;
        self.issuer |= other.issuer;
        self.roles.extend(other.roles);
        self.networks.extend(other.networks);
        self.windows.extend(other.windows);
    }

    /// Adds what `expr` reads; its depth has a bound.
    pub(super) fn note(&mut self, expr: &Expr) {
        match expr {
            Expr::Constant(_) => {}
            Expr::Not(inner) => self.note(inner),
            Expr::All(parts) | Expr::Any(parts) => parts.iter().for_each(|part| self.note(part)),
            Expr::Same(sides) => sides.iter().for_each(|side| self.note(side)),
            Expr::Test(test) => self.note_test(test),
        }
    }

    fn note_test(&mut self, test: &Test) {
        match test {
            Test::Flag(Flag::Time(hours)) => drop(self.windows.insert(Arc::clone(&hours.name))),
            Test::Flag(Flag::Mtls | Flag::Dpop | Flag::Anonymous | Flag::Claim(_))
            | Test::Compare(_, _, Number::Literal(_) | Number::Numeric(_))
            | Test::NumberOneOf(_, Numbers::Literals(_) | Numbers::Claim(_)) => {}
            Test::Has(read) | Test::StartsWith(read, _) | Test::EndsWith(read, _) => {
                self.note_attribute(read);
            }
            Test::Equal(left, right) => {
                self.note_attribute(left);
                self.note_text(right);
            }
            Test::OneOf(one, Texts::Literals(_) | Texts::Scopes | Texts::Claim(_)) => {
                self.note_text(one);
            }
            Test::Inside(network) => drop(self.networks.insert(Arc::clone(&network.name))),
            Test::Role(held) => drop(self.roles.insert(held.role.as_str().into())),
        }
    }

    fn note_text(&mut self, text: &Text) {
        match text {
            Text::Attribute(attribute) => self.note_attribute(attribute),
            Text::Literal(_) => {}
        }
    }

    fn note_attribute(&mut self, attribute: &Attribute) {
        match attribute {
            Attribute::Param(_) => self.params = true,
            Attribute::Query(name) => drop(self.queries.insert(Arc::clone(name))),
            Attribute::Region => self.region = true,
            Attribute::Issuer => self.issuer = true,
            Attribute::Principal
            | Attribute::Kind
            | Attribute::Application
            | Attribute::Owner
            | Attribute::Spiffe
            | Attribute::Method
            | Attribute::Host
            | Attribute::Path
            | Attribute::Header(_)
            | Attribute::Claim(_) => {}
        }
    }
}
