//! Every unknown key, missing key and malformed value of a file at once.

use enforcer_model::Bytes;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::fields::{factor, spanned, whole};
use super::forms::{Form, NAME, Refused, brief};
use super::{Key, Need, Shape, parse_duration};
use crate::codes::{MISSING_KEY, UNKNOWN_KEY, WRONG_TYPE, WRONG_VALUE};
use crate::problem::Report;
use crate::text::Span;

/// Checks `table` at `path` (empty for the file) against its keys.
pub(crate) fn check(
    table: &DeTable<'_>,
    span: Span,
    keys: &'static [Key],
    path: &str,
    report: &mut Report,
) {
    for (name, value) in table {
        let place = spanned(name);
        match keys.iter().find(|key| key.name == name.get_ref()) {
            Some(key) => check_value(value, place, &key.shape, &join(path, key.name), report),
            None => unknown(name.get_ref(), place, keys, path, report),
        }
    }
    for key in keys.iter().filter(|key| matches!(key.need, Need::Required)) {
        if !table.contains_key(key.name) {
            let message = format!("`{}` is missing", join(path, key.name));
            report.add(&MISSING_KEY, span, message, format!("add {}", example(key)));
        }
    }
}

/// The one of `known` that was probably meant by `written`.
pub(crate) fn suggest<'a>(
    written: &str,
    known: impl IntoIterator<Item = &'a str>,
) -> Option<&'a str> {
    // Long texts are no misspelt names, and the distance takes time in proportion to both lengths.
    if written.len() > 128 {
        return None;
    }
    let lower = written.to_ascii_lowercase();
    known
        .into_iter()
        // A difference in length is at least as large a distance.
        .filter(|name| name.len().abs_diff(lower.len()) <= name.len().max(lower.len()) / 3)
        .map(|name| (strsim::damerau_levenshtein(&lower, &name.to_ascii_lowercase()), name))
        .filter(|(distance, name)| *distance <= name.len().max(lower.len()) / 3)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, name)| name)
}

fn unknown(name: &str, span: Span, keys: &'static [Key], path: &str, report: &mut Report) {
    let known = keys.iter().map(|key| key.name);
    let hint = match suggest(name, known.clone()) {
        Some(meant) => format!("did you mean `{meant}`?"),
        None => format!("known here: {}", known.collect::<Vec<_>>().join(", ")),
    };
    let place = if path.is_empty() { String::new() } else { format!(" in `{path}`") };
    report.add(&UNKNOWN_KEY, span, format!("unknown key `{}`{place}", brief(name)), hint);
}

fn check_value(
    value: &Spanned<DeValue<'_>>,
    key: Span,
    shape: &'static Shape,
    path: &str,
    report: &mut Report,
) {
    let span = spanned(value);
    let mut refuse = |refused: Refused| {
        report.add(&WRONG_VALUE, span, format!("`{path}`: {}", refused.message), refused.hint);
    };
    match (shape, value.get_ref()) {
        (Shape::Flag | Shape::FlagOr(_), DeValue::Boolean(_)) => {}
        (Shape::Count(min, max), DeValue::Integer(written)) => {
            if !whole(value.get_ref()).is_some_and(|count| (*min..=*max).contains(&count)) {
                refuse(Refused::with(
                    format!("{written} is out of range"),
                    if min == max {
                        format!("write {min}")
                    } else {
                        format!("a whole number from {min} to {max}")
                    },
                ));
            }
        }
        (Shape::Span(min, max), DeValue::String(text)) => match parse_duration(text) {
            Some(span) if (*min..=*max).contains(&span) => {}
            Some(_) => refuse(Refused::with(
                format!("`{}` is out of range", brief(text)),
                format!("from {min:?} to {}", human(*max)),
            )),
            None => refuse(Refused::with(
                format!("`{}` is not a span of time", brief(text)),
                "write it as `10s`, `15m`, `1h30m` or `500ms`",
            )),
        },
        (Shape::Size(min, max), DeValue::String(text)) => match text.parse::<Bytes>() {
            Ok(size) if (*min..=*max).contains(&size.0) => {}
            Ok(size) => refuse(Refused::with(
                format!("`{size}` is out of range"),
                format!("from {} to {}", Bytes(*min), Bytes(*max)),
            )),
            Err(error) => refuse(Refused::split(&error)),
        },
        (Shape::Choice(words), DeValue::String(text)) => {
            if !words.contains(&text.as_ref()) {
                refuse(Refused::with(
                    format!("`{}` is not one of the choices", brief(text)),
                    match suggest(text, words.iter().copied()) {
                        Some(meant) => format!("did you mean \"{meant}\"?"),
                        None => format!("one of {}", quoted(words)),
                    },
                ));
            }
        }
        (Shape::Text(form), DeValue::String(text)) => {
            if let Err(refused) = (form.check)(text) {
                refuse(refused);
            }
        }
        (Shape::List(of), DeValue::Array(list)) => check_list(list, span, of, path, report),
        (Shape::OneOrMore(of), DeValue::Array(list)) => check_list(list, span, of, path, report),
        (Shape::OneOrMore(of), _) => check_value(value, key, of, path, report),
        (Shape::TextOr(form, _), DeValue::String(text)) => {
            if let Err(refused) = (form.check)(text) {
                refuse(refused);
            }
        }
        (Shape::WordOr(word, _), DeValue::String(text)) => {
            if text != word {
                refuse(Refused::with(
                    format!("`{}` is not `{word}`", brief(text)),
                    format!("write \"{word}\", or a table with its keys"),
                ));
            }
        }
        (Shape::WordOr(_, of), _) => check_value(value, key, of, path, report),
        // The table of a header has no place worth showing; its name has.
        (
            Shape::Table(keys) | Shape::FlagOr(keys) | Shape::TextOr(_, keys),
            DeValue::Table(table),
        ) => {
            let inline = span.start > key.end;
            check(table, if inline { span } else { key }, keys, path, report);
        }
        (Shape::Named(of), DeValue::Table(table)) => check_keyed(table, &NAME, of, path, report),
        (Shape::Keyed(form, of), DeValue::Table(table)) => {
            check_keyed(table, form, of, path, report);
        }
        (Shape::Factor, DeValue::Integer(_) | DeValue::Float(_)) => {
            if factor(value.get_ref()).is_none() {
                refuse(Refused::with(
                    "the number is out of range",
                    "a number from 0 to 1 with at most three decimals, such as `0.25`",
                ));
            }
        }
        (Shape::CountOr(min, max, _), DeValue::Integer(written)) => {
            if !whole(value.get_ref()).is_some_and(|count| (*min..=*max).contains(&count)) {
                refuse(Refused::with(
                    format!("{written} is out of range"),
                    format!("a whole number from {min} to {max}"),
                ));
            }
        }
        (Shape::CountOr(_, _, form), DeValue::String(text)) => {
            if let Err(refused) = (form.check)(text) {
                refuse(refused);
            }
        }
        (
            Shape::Flag
            | Shape::Count(..)
            | Shape::Span(..)
            | Shape::Size(..)
            | Shape::Choice(_)
            | Shape::Text(_)
            | Shape::List(_)
            | Shape::FlagOr(_)
            | Shape::TextOr(..)
            | Shape::Table(_)
            | Shape::Named(_)
            | Shape::Keyed(..)
            | Shape::Factor
            | Shape::CountOr(..),
            found,
        ) => {
            let message = format!("`{path}` is {}, not {}", kind(found), wanted(shape));
            report.add(&WRONG_TYPE, span, message, form(shape));
        }
    }
}

fn check_keyed(
    table: &DeTable<'_>,
    form: &Form,
    of: &'static Shape,
    path: &str,
    report: &mut Report,
) {
    for (name, value) in table {
        let place = spanned(name);
        match (form.check)(name.get_ref()) {
            Ok(()) => check_value(value, place, of, &join(path, name.get_ref()), report),
            Err(refused) => {
                let message = format!("`{path}`: {}", refused.message);
                report.add(&WRONG_VALUE, place, message, refused.hint);
            }
        }
    }
}

fn check_list(
    list: &[Spanned<DeValue<'_>>],
    span: Span,
    of: &'static Shape,
    path: &str,
    report: &mut Report,
) {
    if list.is_empty() {
        let message = format!("`{path}` is an empty list");
        report.add(
            &WRONG_VALUE,
            span,
            message,
            "name at least one, or leave the key out".to_owned(),
        );
    }
    for (n, item) in list.iter().enumerate() {
        check_value(item, spanned(item), of, &format!("{path}[{n}]"), report);
    }
}

fn join(path: &str, name: &str) -> String {
    if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") }
}

fn kind(value: &DeValue<'_>) -> &'static str {
    match value {
        DeValue::String(_) => "a string",
        DeValue::Integer(_) => "a whole number",
        DeValue::Float(_) => "a number with a fraction",
        DeValue::Boolean(_) => "true or false",
        DeValue::Datetime(_) => "a date",
        DeValue::Array(_) => "a list",
        DeValue::Table(_) => "a table",
    }
}

fn wanted(shape: &Shape) -> String {
    match shape {
        Shape::Flag => "true or false".to_owned(),
        Shape::Count(..) => "a whole number".to_owned(),
        Shape::Span(..) => "a span of time in quotes".to_owned(),
        Shape::Size(..) => "a size in quotes".to_owned(),
        Shape::Choice(words) => format!("one of {}", quoted(words)),
        Shape::Text(form) => format!("{} in quotes", form.what),
        Shape::List(_) => "a list".to_owned(),
        Shape::OneOrMore(of) => wanted(of),
        Shape::WordOr(word, of) => format!("\"{word}\" or {}", wanted(of)),
        Shape::FlagOr(_) => "true, false or a table".to_owned(),
        Shape::TextOr(form, _) => format!("{} in quotes, or a table", form.what),
        Shape::Table(_) | Shape::Named(_) | Shape::Keyed(..) => "a table".to_owned(),
        Shape::Factor => "a number from 0 to 1".to_owned(),
        Shape::CountOr(_, _, form) => format!("a whole number, or {} in quotes", form.what),
    }
}

/// How a value of the shape is written.
fn form(shape: &Shape) -> Option<String> {
    let text = match shape {
        Shape::Flag | Shape::FlagOr(_) => "`true` or `false`".to_owned(),
        Shape::Count(min, max) => format!("a number from {min} to {max} without quotes"),
        Shape::Span(..) => "such as \"10s\"".to_owned(),
        Shape::Size(..) => "such as \"64KiB\"".to_owned(),
        Shape::Choice(words) => format!("one of {}", quoted(words)),
        Shape::Text(form) | Shape::TextOr(form, _) => format!("such as \"{}\"", form.example),
        Shape::List(Shape::Table(_)) => return None,
        Shape::List(of) => format!("such as [{}]", sample(of)?),
        Shape::OneOrMore(of) => return form(of),
        Shape::WordOr(word, _) => format!("such as \"{word}\""),
        Shape::Factor => "such as 0.25".to_owned(),
        Shape::CountOr(min, _, form) => format!("such as {min}, or \"{}\"", form.example),
        Shape::Table(_) | Shape::Named(_) | Shape::Keyed(..) => return None,
    };
    Some(text)
}

/// One value that is right.
fn sample(shape: &Shape) -> Option<String> {
    Some(match shape {
        Shape::Flag | Shape::FlagOr(_) => "true".to_owned(),
        Shape::Count(min, _) => min.to_string(),
        Shape::Span(..) => "\"10s\"".to_owned(),
        Shape::Size(..) => "\"1MiB\"".to_owned(),
        Shape::Choice(words) => format!("\"{}\"", words.first()?),
        Shape::Text(form) | Shape::TextOr(form, _) => format!("\"{}\"", form.example),
        Shape::List(of) => format!("[{}]", sample(of)?),
        Shape::OneOrMore(of) => return sample(of),
        Shape::WordOr(word, _) => format!("\"{word}\""),
        Shape::Factor => "0.25".to_owned(),
        Shape::CountOr(min, ..) => min.to_string(),
        Shape::Table(_) | Shape::Named(_) | Shape::Keyed(..) => return None,
    })
}

fn example(key: &Key) -> String {
    match (&key.shape, sample(&key.shape)) {
        (_, Some(sample)) => format!("`{} = {sample}`", key.name),
        (Shape::List(_), None) => format!("`[[{}]]`", key.name),
        (Shape::Table(keys), None) => {
            let inside: Vec<_> = keys
                .iter()
                .filter(|key| matches!(key.need, Need::Required))
                .filter_map(|key| Some(format!("{} = {}", key.name, sample(&key.shape)?)))
                .collect();
            format!("`{} = {{ {} }}`", key.name, inside.join(", "))
        }
        (_, None) => format!("`[{}.NAME]`", key.name),
    }
}

fn quoted(words: &[&str]) -> String {
    words.iter().map(|word| format!("\"{word}\"")).collect::<Vec<_>>().join(", ")
}

fn human(span: std::time::Duration) -> String {
    match span.as_secs() {
        seconds if seconds >= 86_400 && seconds % 86_400 == 0 => format!("{}d", seconds / 86_400),
        seconds if seconds >= 3_600 && seconds % 3_600 == 0 => format!("{}h", seconds / 3_600),
        _ => format!("{span:?}"),
    }
}
