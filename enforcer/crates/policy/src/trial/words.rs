//! The words of a sentence: separated by blanks, quoted where they hold some.

use std::fmt;
use std::ops::Range;

use enforcer_model::Value;

/// One word.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Word {
    /// Without its quotes.
    pub(crate) text: String,
    /// Where it stands in the sentence, in bytes.
    pub(crate) span: Range<usize>,
    /// Whether any part of it is quoted: then it is a text, whatever it looks like.
    pub(crate) is_quoted: bool,
    /// For each byte of `text` whether it stood in quotes.
    plain: Vec<bool>,
}

/// A value behind `=`.
#[derive(Clone, Debug)]
pub(crate) struct Written<'a>(pub(crate) &'a Value);

/// The text of a claim's value, before its type is looked at.
#[derive(Debug)]
pub(crate) struct Untyped<'a> {
    text: &'a str,
    plain: &'a [bool],
}

/// The words of `text`; or where a quote opens that nothing closes.
pub(crate) fn words(text: &str) -> Result<Vec<Word>, Range<usize>> {
    let mut words = Vec::new();
    let mut word: Option<Word> = None;
    let mut quote: Option<usize> = None;
    let mut escaped = false;
    for (at, letter) in text.char_indices() {
        let end = at + letter.len_utf8();
        if quote.is_none() && letter.is_whitespace() {
            words.extend(word.take());
            continue;
        }
        let word = word.get_or_insert_with(|| Word {
            text: String::new(),
            span: at..end,
            is_quoted: false,
            plain: Vec::new(),
        });
        word.span.end = end;
        match letter {
            '"' if !escaped => {
                word.is_quoted = true;
                quote = if quote.is_some() { None } else { Some(at) };
            }
            '\\' if quote.is_some() && !escaped => {
                escaped = true;
                continue;
            }
            _ => {
                word.text.push(letter);
                word.plain.resize(word.text.len(), quote.is_none());
            }
        }
        escaped = false;
    }
    words.extend(word);
    quote.map_or(Ok(words), |open| Err(open..text.len()))
}

impl Word {
    /// `NAME=VALUE`, split at the first plain `=`.
    pub(crate) fn pair(&self) -> Option<(&str, &str)> {
        let at = self.position(0, '=')?;
        Some((self.text.get(..at)?, self.text.get(at + 1..)?))
    }

    /// `claims.NAME.NAME=VALUE`; a name with dots stands in quotes.
    pub(crate) fn claim(&self) -> Option<(Vec<String>, Untyped<'_>)> {
        let begin = "claims".len();
        let equals = self.position(0, '=')?;
        if !self.text.starts_with("claims.") || equals <= begin {
            return None;
        }
        let mut path = Vec::new();
        let mut at = begin;
        while at < equals {
            let next = self.position(at + 1, '.').filter(|next| *next < equals).unwrap_or(equals);
            path.push(self.text.get(at + 1..next).filter(|name| !name.is_empty())?.to_owned());
            at = next;
        }
        let value =
            Untyped { text: self.text.get(equals + 1..)?, plain: self.plain.get(equals + 1..)? };
        Some((path, value))
    }

    /// The first place from `from` on where `wanted` stands outside quotes.
    fn position(&self, from: usize, wanted: char) -> Option<usize> {
        let rest = self.text.get(from..)?;
        rest.match_indices(wanted)
            .map(|(at, _)| from + at)
            .find(|at| self.plain.get(*at).copied().unwrap_or_default())
    }
}

impl Untyped<'_> {
    /// `true`, `7`, `[a,b]`, `null`; anything else, and what is quoted, is a text.
    pub(crate) fn typed(&self) -> Value {
        let inside = self.text.strip_prefix('[').and_then(|text| text.strip_suffix(']'));
        let brackets = self.plain.first().copied().unwrap_or_default();
        match inside {
            Some(inside) if brackets => {
                let mut values = Vec::new();
                let mut begin = 1;
                for (at, _) in inside.match_indices(',').chain([(inside.len(), "")]) {
                    let end = at + 1;
                    if end < self.text.len() - 1 && !self.is_plain(end) {
                        continue;
                    }
                    values.extend(self.part(begin..end));
                    begin = end + 1;
                }
                Value::List(values.into())
            }
            Some(_) | None => self.scalar(),
        }
    }

    fn part(&self, range: Range<usize>) -> Option<Value> {
        let part = Untyped { text: self.text.get(range.clone())?, plain: self.plain.get(range)? };
        let quoted = !part.plain.is_empty() && !part.plain.iter().all(|plain| *plain);
        (quoted || !part.text.is_empty()).then(|| part.scalar())
    }

    fn scalar(&self) -> Value {
        let text = || Value::Text(self.text.into());
        if self.text.is_empty() || self.plain.iter().any(|plain| !plain) {
            return text();
        }
        match self.text {
            "true" => Value::Flag(true),
            "false" => Value::Flag(false),
            "null" => Value::Other,
            number => number.parse().map_or_else(|_| text(), Value::Number),
        }
    }

    fn is_plain(&self, at: usize) -> bool {
        self.plain.get(at).copied().unwrap_or_default()
    }
}

/// `text` as one word.
pub(crate) fn quoted(text: &str) -> String {
    let plain = |c: char| !c.is_whitespace() && !matches!(c, '"' | '\\');
    if !text.is_empty() && text.chars().all(plain) { text.to_owned() } else { always(text) }
}

fn always(text: &str) -> String {
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""))
}

/// `.name`, in quotes where it must be.
pub(crate) fn write_name(f: &mut fmt::Formatter<'_>, name: &str) -> fmt::Result {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-');
    if name.chars().all(plain) { write!(f, ".{name}") } else { write!(f, ".{}", always(name)) }
}

impl fmt::Display for Written<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Value::Flag(flag) => write!(f, "{flag}"),
            Value::Number(number) => write!(f, "{number}"),
            Value::Text(text) => f.write_str(&as_text(text)),
            Value::List(values) => {
                let scalars = values.iter().filter(|value| !matches!(value, Value::List(_)));
                f.write_str("[")?;
                for (n, value) in scalars.enumerate() {
                    write!(f, "{}{}", if n == 0 { "" } else { "," }, Written(value))?;
                }
                f.write_str("]")
            }
            Value::Table(_) | Value::Other => f.write_str("null"),
        }
    }
}

/// A text that does not read as anything else.
fn as_text(text: &str) -> String {
    let other = matches!(text, "true" | "false" | "null") || text.parse::<i64>().is_ok();
    if other || text.contains([',', '[', ']']) { always(text) } else { quoted(text) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_word_in_quotes_is_one_and_may_hold_quotes() {
        let words = words(r#"a "b c" d."e=f"=g "\"\\""#).unwrap();

        let texts: Vec<&str> = words.iter().map(|word| &*word.text).collect();
        assert_eq!(texts, ["a", "b c", "d.e=f=g", "\"\\"]);
        assert_eq!(words[2].pair(), Some(("d.e=f", "g")));
        assert_eq!(super::words("a \"b"), Err(2..4));
    }

    #[test]
    fn a_value_has_the_type_that_it_looks_like_unless_it_is_quoted() {
        let typed = |text: &str| {
            let words = words(&format!("claims.x={text}")).unwrap();
            words[0].claim().unwrap().1.typed()
        };

        assert_eq!(typed("true"), Value::Flag(true));
        assert_eq!(typed("\"true\""), Value::Text("true".into()));
        assert_eq!(typed("-7"), Value::Number(-7));
        assert_eq!(typed("null"), Value::Other);
        assert_eq!(
            typed("[a,\"b,c\",7,\"\"]"),
            Value::List(
                [Value::Text("a".into()), Value::Text("b,c".into()), Value::Number(7),].into()
            )
        );
        assert_eq!(typed("[]"), Value::List([].into()));
        assert_eq!(typed("\"[a]\""), Value::Text("[a]".into()));
    }
}
