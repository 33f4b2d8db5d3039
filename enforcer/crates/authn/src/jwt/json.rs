//! JSON (RFC 8259) that has exactly one meaning.
//!
//! Refused: a member that stands in an object twice (however it is escaped), lone surrogates, bytes
//! that are not UTF-8, anything before or behind the one value but blanks, nesting deeper than
//! [`DEPTH_MAX`], more values than the caller admits. Numbers keep their text, so that whoever needs
//! one decides what it may be.

use std::borrow::Cow;
use std::sync::Arc;

use enforcer_model::{Claims, Value};

/// Arrays and objects inside one another.
pub(crate) const DEPTH_MAX: usize = 16;

/// A value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Json<'a> {
    Null,
    Flag(bool),
    /// As written.
    Number(&'a str),
    Text(Cow<'a, str>),
    List(Vec<Self>),
    Table(Table<'a>),
}

/// An object; its members sorted by name, each name once.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Table<'a>(Vec<(Cow<'a, str>, Json<'a>)>);

/// The bytes are not JSON, or not JSON with one meaning.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{problem} at byte {at}")]
pub struct JsonError {
    /// What is wrong.
    pub problem: JsonProblem,
    /// Where; for a repeated member the object's end.
    pub at: usize,
}

/// What is wrong with a piece of JSON.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum JsonProblem {
    /// Arrays and objects inside one another beyond the bound.
    #[error("nested too deeply")]
    Depth,
    /// One name twice in one object.
    #[error("a member that stands there twice")]
    Duplicate,
    /// The bytes are not UTF-8.
    #[error("not UTF-8")]
    NotUtf8,
    /// Something else than an object, where one is needed.
    #[error("not an object")]
    NotAnObject,
    /// Not what the grammar asks for.
    #[error("not JSON")]
    Syntax,
    /// More values than the bound.
    #[error("too many values")]
    TooMany,
    /// Something behind the value.
    #[error("more than one value")]
    Trailing,
}

/// The one object that `bytes` are, of at most `values` values.
pub(crate) fn object(bytes: &[u8], values: usize) -> Result<Table<'_>, JsonError> {
    match parse(bytes, values)? {
        Json::Table(table) => Ok(table),
        Json::Null | Json::Flag(_) | Json::Number(_) | Json::Text(_) | Json::List(_) => {
            Err(JsonError { problem: JsonProblem::NotAnObject, at: 0 })
        }
    }
}

/// The one value that `bytes` are.
fn parse(bytes: &[u8], values: usize) -> Result<Json<'_>, JsonError> {
    let text = std::str::from_utf8(bytes)
        .map_err(|error| JsonError { problem: JsonProblem::NotUtf8, at: error.valid_up_to() })?;
    let mut reader = Reader { text, at: 0, values_left: values };
    reader.blanks();
    let value = reader.value(0)?;
    reader.blanks();
    match reader.peek() {
        None => Ok(value),
        Some(_) => Err(reader.wrong(JsonProblem::Trailing)),
    }
}

impl<'a> Table<'a> {
    /// The value called `name`.
    pub(crate) fn get(&self, name: &str) -> Option<&Json<'a>> {
        let found = self.0.binary_search_by(|(candidate, _)| (**candidate).cmp(name)).ok()?;
        self.0.get(found).map(|(_, value)| value)
    }

    /// Names and values, by name.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&str, &Json<'a>)> {
        self.0.iter().map(|(name, value)| (&**name, value))
    }

    /// In the form that a policy can compare.
    pub(crate) fn to_claims(&self) -> Claims {
        self.iter().map(|(name, value)| (name.into(), value.to_value())).collect()
    }
}

impl Json<'_> {
    /// The text, if it is one.
    pub(crate) fn text(&self) -> Option<&str> {
        match self {
            Self::Text(text) => Some(text),
            Self::Null | Self::Flag(_) | Self::Number(_) | Self::List(_) | Self::Table(_) => None,
        }
    }

    fn to_value(&self) -> Value {
        match self {
            Self::Null => Value::Other,
            Self::Flag(flag) => Value::Flag(*flag),
            // A fraction or an exponent does not parse, and neither does what does not fit.
            Self::Number(digits) => digits.parse().map_or(Value::Other, Value::Number),
            Self::Text(text) => Value::Text(Arc::from(&**text)),
            Self::List(values) => Value::List(values.iter().map(Self::to_value).collect()),
            Self::Table(table) => Value::Table(table.to_claims()),
        }
    }
}

struct Reader<'a> {
    text: &'a str,
    at: usize,
    values_left: usize,
}

impl<'a> Reader<'a> {
    fn value(&mut self, depth: usize) -> Result<Json<'a>, JsonError> {
        self.values_left =
            self.values_left.checked_sub(1).ok_or_else(|| self.wrong(JsonProblem::TooMany))?;
        match self.peek() {
            Some(b'{') => self.table(self.deeper(depth)?).map(Json::Table),
            Some(b'[') => self.list(self.deeper(depth)?).map(Json::List),
            Some(b'"') => self.string().map(Json::Text),
            Some(b'-' | b'0'..=b'9') => self.number().map(Json::Number),
            Some(b't') => self.word("true", Json::Flag(true)),
            Some(b'f') => self.word("false", Json::Flag(false)),
            Some(b'n') => self.word("null", Json::Null),
            Some(_) | None => Err(self.wrong(JsonProblem::Syntax)),
        }
    }

    fn deeper(&self, depth: usize) -> Result<usize, JsonError> {
        if depth < DEPTH_MAX { Ok(depth + 1) } else { Err(self.wrong(JsonProblem::Depth)) }
    }

    fn table(&mut self, depth: usize) -> Result<Table<'a>, JsonError> {
        let mut members = Vec::new();
        self.at += 1;
        self.blanks();
        if !self.take(b'}') {
            loop {
                if self.peek() != Some(b'"') {
                    return Err(self.wrong(JsonProblem::Syntax));
                }
                let name = self.string()?;
                self.blanks();
                self.expect(b':')?;
                self.blanks();
                members.push((name, self.value(depth)?));
                self.blanks();
                if self.take(b'}') {
                    break;
                }
                self.expect(b',')?;
                self.blanks();
            }
        }
        members.sort_by(|(one, _), (other, _)| one.cmp(other));
        let twice = members.windows(2).any(|pair| match pair {
            [(one, _), (other, _)] => one == other,
            _ => false,
        });
        if twice { Err(self.wrong(JsonProblem::Duplicate)) } else { Ok(Table(members)) }
    }

    fn list(&mut self, depth: usize) -> Result<Vec<Json<'a>>, JsonError> {
        let mut values = Vec::new();
        self.at += 1;
        self.blanks();
        if self.take(b']') {
            return Ok(values);
        }
        loop {
            values.push(self.value(depth)?);
            self.blanks();
            if self.take(b']') {
                return Ok(values);
            }
            self.expect(b',')?;
            self.blanks();
        }
    }

    /// At the opening quote.
    fn string(&mut self) -> Result<Cow<'a, str>, JsonError> {
        self.at += 1;
        let start = self.at;
        loop {
            match self.peek() {
                Some(b'"') => {
                    let text = self.since(start);
                    self.at += 1;
                    return Ok(Cow::Borrowed(text));
                }
                Some(b'\\') => break,
                Some(0x20..) => self.at += 1,
                Some(_) | None => return Err(self.wrong(JsonProblem::Syntax)),
            }
        }
        let mut text = self.since(start).to_owned();
        loop {
            let piece = self.at;
            while matches!(self.peek(), Some(byte) if byte >= 0x20 && byte != b'"' && byte != b'\\')
            {
                self.at += 1;
            }
            text.push_str(self.since(piece));
            match self.peek() {
                Some(b'"') => {
                    self.at += 1;
                    return Ok(Cow::Owned(text));
                }
                Some(b'\\') => {
                    self.at += 1;
                    text.push(self.escape()?);
                }
                Some(_) | None => return Err(self.wrong(JsonProblem::Syntax)),
            }
        }
    }

    /// Behind the backslash.
    fn escape(&mut self) -> Result<char, JsonError> {
        let byte = self.peek().ok_or_else(|| self.wrong(JsonProblem::Syntax))?;
        self.at += 1;
        Ok(match byte {
            b'"' => '"',
            b'\\' => '\\',
            b'/' => '/',
            b'b' => '\u{8}',
            b'f' => '\u{c}',
            b'n' => '\n',
            b'r' => '\r',
            b't' => '\t',
            b'u' => return self.unicode(),
            _ => return Err(self.wrong(JsonProblem::Syntax)),
        })
    }

    fn unicode(&mut self) -> Result<char, JsonError> {
        let first = self.hex4()?;
        let code = if (0xd800..0xdc00).contains(&first) {
            self.expect(b'\\')?;
            self.expect(b'u')?;
            let second = self.hex4()?;
            if !(0xdc00..0xe000).contains(&second) {
                return Err(self.wrong(JsonProblem::Syntax));
            }
            0x10000 + ((first - 0xd800) << 10) + (second - 0xdc00)
        } else {
            first
        };
        char::from_u32(code).ok_or_else(|| self.wrong(JsonProblem::Syntax))
    }

    fn hex4(&mut self) -> Result<u32, JsonError> {
        let mut code = 0;
        for _ in 0..4 {
            let digit = self.peek().and_then(|byte| char::from(byte).to_digit(16));
            code = code * 16 + digit.ok_or_else(|| self.wrong(JsonProblem::Syntax))?;
            self.at += 1;
        }
        Ok(code)
    }

    fn number(&mut self) -> Result<&'a str, JsonError> {
        let start = self.at;
        self.take(b'-');
        if !self.take(b'0') {
            self.digits()?;
        }
        if self.take(b'.') {
            self.digits()?;
        }
        if self.take(b'e') || self.take(b'E') {
            if !self.take(b'+') {
                self.take(b'-');
            }
            self.digits()?;
        }
        Ok(self.since(start))
    }

    fn digits(&mut self) -> Result<(), JsonError> {
        let start = self.at;
        while matches!(self.peek(), Some(b'0'..=b'9')) {
            self.at += 1;
        }
        if self.at == start { Err(self.wrong(JsonProblem::Syntax)) } else { Ok(()) }
    }

    fn word(&mut self, word: &str, value: Json<'a>) -> Result<Json<'a>, JsonError> {
        let rest = self.text.as_bytes().get(self.at..).unwrap_or_default();
        if !rest.starts_with(word.as_bytes()) {
            return Err(self.wrong(JsonProblem::Syntax));
        }
        self.at += word.len();
        Ok(value)
    }

    fn blanks(&mut self) {
        while matches!(self.peek(), Some(b' ' | b'\t' | b'\n' | b'\r')) {
            self.at += 1;
        }
    }

    fn expect(&mut self, byte: u8) -> Result<(), JsonError> {
        if self.take(byte) { Ok(()) } else { Err(self.wrong(JsonProblem::Syntax)) }
    }

    fn take(&mut self, byte: u8) -> bool {
        let there = self.peek() == Some(byte);
        self.at += usize::from(there);
        there
    }

    fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    /// From `start` to here. Both lie beside ASCII, so they cut no character.
    fn since(&self, start: usize) -> &'a str {
        self.text.get(start..self.at).unwrap_or_default()
    }

    const fn wrong(&self, problem: JsonProblem) -> JsonError {
        JsonError { problem, at: self.at }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn problem(text: impl AsRef<[u8]>) -> Option<JsonProblem> {
        parse(text.as_ref(), 1000).err().map(|error| error.problem)
    }

    #[test]
    fn what_the_grammar_allows_is_read_as_it_says() {
        let text = "{ \"a\" : [1, -2.5e+3, true, false, null, \"\\u0041\\ud83d\\ude00\\n\\/\"],\t\"b\":{}}";

        let table = object(text.as_bytes(), 100).unwrap();

        let Some(Json::List(list)) = table.get("a") else { panic!("{table:?}") };
        assert_eq!(list[1], Json::Number("-2.5e+3"));
        assert_eq!(list[5].text(), Some("A\u{1f600}\n/"));
        assert_eq!(table.get("b"), Some(&Json::Table(Table::default())));
        assert_eq!(table.get("c"), None);
    }

    #[test]
    fn a_member_that_stands_there_twice_is_refused_at_every_depth() {
        for text in [
            r#"{"a":1,"a":1}"#,
            r#"{"a":1,"b":2,"\u0061":1}"#,
            r#"{"x":{"a":1,"a":2}}"#,
            r#"[[{"a":1,"a":2}]]"#,
            r#"{"":1,"":2}"#,
        ] {
            assert_eq!(problem(text), Some(JsonProblem::Duplicate), "{text}");
        }
        assert_eq!(problem(r#"{"a":{"a":1},"A":2}"#), None);
    }

    #[test]
    fn what_only_some_parsers_accept_is_refused() {
        for text in [
            "",
            " ",
            "{",
            "}",
            "[1,]",
            "{\"a\":1,}",
            "{\"a\"}",
            "{a:1}",
            "{'a':1}",
            "1.",
            ".5",
            "+1",
            "1e",
            "1e+",
            "NaN",
            "Infinity",
            "-",
            "- 1",
            "--1",
            "truE",
            "tru",
            "nul",
            "\"\u{1}\"",
            "\"\n\"",
            "\"\\x41\"",
            "\"\\u00\"",
            "\"\\u+041\"",
            "\"",
            "\"\\",
            "[1 2]",
            "/*c*/1",
            "\u{feff}1",
            "\u{a0}1",
            "{\"a\":1 \"b\":2}",
            "[,1]",
            "{,}",
        ] {
            assert_eq!(problem(text), Some(JsonProblem::Syntax), "{text:?}");
        }
        for text in
            ["1 2", "{}{}", "{}\0", "1,", "00", "01", "-01", "0x10", "\"a\"\"b\"", "[]]", "{} x"]
        {
            assert_eq!(problem(text), Some(JsonProblem::Trailing), "{text:?}");
        }
        for surrogate in [r#""\ud800""#, r#""\udc00""#, r#""\ud800\ud800""#, r#""\ud800A""#] {
            assert_eq!(problem(surrogate), Some(JsonProblem::Syntax), "{surrogate}");
        }
        assert_eq!(problem(b"\"\xc0\x80\""), Some(JsonProblem::NotUtf8));
        assert_eq!(problem(b"\"\xed\xa0\x80\""), Some(JsonProblem::NotUtf8));
    }

    #[test]
    fn nesting_and_the_number_of_values_are_bounded() {
        let nested = |depth: usize| "[".repeat(depth) + &"]".repeat(depth);

        assert_eq!(problem(nested(DEPTH_MAX)), None);
        assert_eq!(problem(nested(DEPTH_MAX + 1)), Some(JsonProblem::Depth));
        assert_eq!(problem("[".repeat(1_000_000)), Some(JsonProblem::Depth));
        assert_eq!(parse(b"[1,2,3]", 3).unwrap_err().problem, JsonProblem::TooMany);
        assert!(parse(b"[1,2,3]", 4).is_ok());
    }

    #[test]
    fn a_number_that_is_not_whole_or_does_not_fit_equals_nothing() {
        let claims = object(br#"{"a":7,"b":7.0,"c":9223372036854775808,"d":null,"e":1e3}"#, 9)
            .unwrap()
            .to_claims();

        assert_eq!(claims.get("a"), Some(&Value::Number(7)));
        for name in ["b", "c", "d", "e"] {
            assert_eq!(claims.get(name), Some(&Value::Other), "{name}");
        }
    }

    proptest! {
        #[test]
        fn bytes_of_any_kind_are_parsed_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            drop(parse(&bytes, 100));
        }

        #[test]
        fn a_text_survives_being_written_and_read(text in ".*") {
            let escaped: String = text
                .encode_utf16()
                .map(|unit| format!("\\u{unit:04X}"))
                .collect();
            let json = format!("\"{escaped}\"");

            let read = parse(json.as_bytes(), 1).unwrap();
            prop_assert_eq!(read.text(), Some(&*text));
        }
    }
}
