//! Reading the values of a table whose keys are described.
//!
//! A value that is absent gives its default; one that [`super::check`] has refused gives nothing,
//! so a section that reads on never tells the same problem twice.

use std::str::FromStr;
use std::time::Duration;

use enforcer_model::Bytes;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::{Key, Need, Shape, parse_duration};
use crate::text::Span;

/// The values of one table.
#[derive(Clone, Copy)]
pub(crate) struct Fields<'a> {
    keys: &'static [Key],
    table: Option<&'a DeTable<'a>>,
    span: Span,
}

/// Where a value stands.
pub(crate) fn spanned<T>(value: &Spanned<T>) -> Span {
    value.span().into()
}

impl<'a> Fields<'a> {
    pub(crate) fn new(keys: &'static [Key], table: &'a DeTable<'a>, span: Span) -> Self {
        Self { keys, table: Some(table), span }
    }

    /// Where the table begins.
    pub(crate) const fn span(&self) -> Span {
        self.span
    }

    /// Where the value of `key` stands, else the table.
    pub(crate) fn span_of(&self, key: &str) -> Span {
        self.value(key).map_or(self.span, spanned)
    }

    /// Whether `key` is written.
    pub(crate) fn has(&self, key: &str) -> bool {
        self.value(key).is_some()
    }

    /// Whether the value of `key` is a table.
    pub(crate) fn is_table(&self, key: &str) -> bool {
        self.value(key).is_some_and(|value| value.get_ref().is_table())
    }

    pub(crate) fn flag(&self, key: &str) -> Option<bool> {
        match self.value(key) {
            Some(value) => value.get_ref().as_bool(),
            None => match self.need(key) {
                Need::False => Some(false),
                Need::True => Some(true),
                Need::Count(_) | Need::Optional | Need::Required | Need::Text(_) => None,
            },
        }
    }

    /// The number from 0 to 1 of `key`, in parts of a thousand.
    pub(crate) fn factor(&self, key: &str) -> Option<u32> {
        factor(self.value(key)?.get_ref())
    }

    pub(crate) fn count(&self, key: &str) -> Option<u64> {
        let (Some(&(Shape::Count(min, max) | Shape::CountOr(min, max, _))), value) =
            (self.shape(key), self.value(key))
        else {
            return None;
        };
        match (value, self.need(key)) {
            (Some(value), _) => whole(value.get_ref()).filter(|count| (min..=max).contains(count)),
            (None, Need::Count(count)) => Some(count),
            (None, _) => None,
        }
    }

    /// The string of `key`; its default when absent.
    pub(crate) fn text(&self, key: &str) -> Option<&'a str> {
        match (self.value(key), self.need(key)) {
            (Some(value), _) => value.get_ref().as_str(),
            (None, Need::Text(default)) => Some(default),
            (None, _) => None,
        }
    }

    /// The string of `key` as what it names.
    pub(crate) fn parsed<T: FromStr>(&self, key: &str) -> Option<T> {
        self.text(key)?.parse().ok()
    }

    pub(crate) fn duration(&self, key: &str) -> Option<Duration> {
        let Some(&Shape::Span(min, max)) = self.shape(key) else { return None };
        parse_duration(self.text(key)?).filter(|span| (min..=max).contains(span))
    }

    /// The spans of time of the list `key` that are in range, each with its place.
    pub(crate) fn durations(&self, key: &str) -> Vec<(Duration, Span)> {
        let Some(Shape::List(Shape::Span(min, max))) = self.shape(key) else { return Vec::new() };
        let parsed = |(text, span): (&str, _)| Some((parse_duration(text)?, span));
        let spans = self.texts(key).into_iter().filter_map(parsed);
        spans.filter(|(span, _)| (*min..=*max).contains(span)).collect()
    }

    pub(crate) fn size(&self, key: &str) -> Option<Bytes> {
        let Some(&Shape::Size(min, max)) = self.shape(key) else { return None };
        self.parsed::<Bytes>(key).filter(|size| (min..=max).contains(&size.0))
    }

    /// The strings of `key`, each with its place; those that are none are left out.
    pub(crate) fn texts(&self, key: &str) -> Vec<(&'a str, Span)> {
        let Some(value) = self.value(key) else { return Vec::new() };
        texts_of(value)
    }

    /// The whole numbers of the list `key` that are in range, each with its place.
    pub(crate) fn counts(&self, key: &str) -> Vec<(u64, Span)> {
        let (Some(Shape::List(Shape::Count(min, max))), Some(value)) =
            (self.shape(key), self.value(key))
        else {
            return Vec::new();
        };
        let list = value.get_ref().as_array().into_iter().flatten();
        let counts = list.filter_map(|one| Some((whole(one.get_ref())?, spanned(one))));
        counts.filter(|(count, _)| (*min..=*max).contains(count)).collect()
    }

    /// The strings of `key` as what they name.
    pub(crate) fn all_parsed<T: FromStr>(&self, key: &str) -> Vec<(T, Span)> {
        let parsed = |(text, span): (&str, _)| Some((text.parse().ok()?, span));
        self.texts(key).into_iter().filter_map(parsed).collect()
    }

    /// The table of `key`; an absent one reads as empty, so that its defaults hold.
    pub(crate) fn table(&self, key: &str) -> Self {
        let keys: &'static [Key] = match self.shape(key) {
            Some(
                Shape::Table(keys)
                | Shape::FlagOr(keys)
                | Shape::TextOr(_, keys)
                | Shape::WordOr(_, Shape::Table(keys)),
            ) => keys,
            _ => &[],
        };
        let table = self.value(key).and_then(|value| value.get_ref().as_table());
        Self { keys, table, span: self.span_of(key) }
    }

    /// What stands in the list `key`, or alone, as strings and tables.
    pub(crate) fn mixed(&self, key: &str) -> Vec<Mixed<'a>> {
        let (Some(Shape::OneOrMore(Shape::TextOr(_, keys))), Some(value)) =
            (self.shape(key), self.value(key))
        else {
            return Vec::new();
        };
        mixed_of(value, keys)
    }

    /// What stands in each of the lists of `key`.
    pub(crate) fn mixed_lists(&self, key: &str) -> Vec<Vec<Mixed<'a>>> {
        let (Some(Shape::List(Shape::List(Shape::TextOr(_, keys)))), Some(value)) =
            (self.shape(key), self.value(key))
        else {
            return Vec::new();
        };
        let lists = value.get_ref().as_array().into_iter().flatten();
        lists.map(|list| mixed_of(list, keys)).collect()
    }

    /// The tables of the list `key`.
    pub(crate) fn tables(&self, key: &str) -> Vec<Self> {
        let (Some(Shape::List(Shape::Table(keys))), Some(value)) =
            (self.shape(key), self.value(key))
        else {
            return Vec::new();
        };
        let list = value.get_ref().as_array().into_iter().flatten();
        list.filter_map(|item| Some(Self::new(keys, item.get_ref().as_table()?, spanned(item))))
            .collect()
    }

    /// What stands under the names of `key`, in the order of the file.
    pub(crate) fn named(&self, key: &str) -> Vec<Named<'a>> {
        let table = self.value(key).and_then(|value| value.get_ref().as_table());
        let mut entries: Vec<_> = table
            .into_iter()
            .flatten()
            .map(|(name, value)| Named { name: name.get_ref(), span: spanned(name), value })
            .collect();
        entries.sort_by_key(|entry| entry.span.start);
        entries
    }

    fn value(&self, key: &str) -> Option<&'a Spanned<DeValue<'a>>> {
        self.table?.get(key)
    }

    fn key(&self, key: &str) -> Option<&'static Key> {
        self.keys.iter().find(|known| known.name == key)
    }

    fn shape(&self, key: &str) -> Option<&'static Shape> {
        self.key(key).map(|key| &key.shape)
    }

    fn need(&self, key: &str) -> Need {
        self.key(key).map_or(Need::Optional, |key| key.need)
    }
}

/// A string, or a table in its place.
pub(crate) enum Mixed<'a> {
    /// A string and its place.
    Text(&'a str, Span),
    /// A table.
    Table(Fields<'a>),
}

fn mixed_of<'a>(value: &'a Spanned<DeValue<'a>>, keys: &'static [Key]) -> Vec<Mixed<'a>> {
    let one = |value: &'a Spanned<DeValue<'a>>| match (value.get_ref().as_str(), value.get_ref()) {
        (Some(text), _) => Some(Mixed::Text(text, spanned(value))),
        (None, found) => {
            let table = found.as_table()?;
            Some(Mixed::Table(Fields::new(keys, table, spanned(value))))
        }
    };
    match value.get_ref().as_array() {
        Some(list) => list.iter().filter_map(one).collect(),
        None => one(value).into_iter().collect(),
    }
}

/// One entry of a table whose keys are names.
#[derive(Clone, Copy)]
pub(crate) struct Named<'a> {
    pub(crate) name: &'a str,
    /// Of the name.
    pub(crate) span: Span,
    value: &'a Spanned<DeValue<'a>>,
}

impl<'a> Named<'a> {
    /// Its table, described by `keys`.
    pub(crate) fn fields(&self, keys: &'static [Key]) -> Option<Fields<'a>> {
        Some(Fields::new(keys, self.value.get_ref().as_table()?, self.span))
    }

    /// Its string.
    pub(crate) fn text(&self) -> Option<&'a str> {
        self.value.get_ref().as_str()
    }

    /// Its number from 0 to 1, in parts of a thousand.
    pub(crate) fn factor(&self) -> Option<u32> {
        factor(self.value.get_ref())
    }

    /// Where its value stands.
    pub(crate) fn value_span(&self) -> Span {
        spanned(self.value)
    }

    /// Its strings, each with its place.
    pub(crate) fn texts(&self) -> Vec<(&'a str, Span)> {
        texts_of(self.value)
    }
}

/// A whole number that is not negative.
pub(crate) fn whole(value: &DeValue<'_>) -> Option<u64> {
    let integer = value.as_integer()?;
    u64::from_str_radix(integer.as_str(), integer.radix()).ok()
}

/// A number from 0 to 1 with at most three decimals, in parts of a thousand.
pub(crate) fn factor(value: &DeValue<'_>) -> Option<u32> {
    let parts = match value {
        DeValue::Integer(_) => u32::try_from(whole(value)?).ok()?.checked_mul(1_000)?,
        DeValue::Float(float) => {
            let (ones, decimals) = float.as_str().split_once('.')?;
            let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
            if !digits(ones) || !digits(decimals) || !(1..=3).contains(&decimals.len()) {
                return None;
            }
            let ones: u32 = ones.parse().ok()?;
            format!("{decimals:0<3}").parse::<u32>().ok()?.checked_add(ones.checked_mul(1_000)?)?
        }
        DeValue::String(_)
        | DeValue::Boolean(_)
        | DeValue::Datetime(_)
        | DeValue::Array(_)
        | DeValue::Table(_) => return None,
    };
    (parts <= 1_000).then_some(parts)
}

fn texts_of<'a>(value: &'a Spanned<DeValue<'a>>) -> Vec<(&'a str, Span)> {
    let one = |value: &'a Spanned<DeValue<'a>>| Some((value.get_ref().as_str()?, spanned(value)));
    match value.get_ref().as_array() {
        Some(list) => list.iter().filter_map(one).collect(),
        None => one(value).into_iter().collect(),
    }
}
