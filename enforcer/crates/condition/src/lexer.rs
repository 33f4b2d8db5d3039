//! From text to tokens; what is wrong with one of them is told, and reading goes on.
//!
//! A token that cannot be meant becomes [`Token::Broken`], or the one that was probably meant: a single
//! `=` is told and read as `==`, so that what stands around it is looked at as well.

use std::ops::Range;

use crate::Dialect;
use crate::problem::ConditionProblem;

/// The smallest piece with a meaning.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Token {
    Name(String),
    Text(String),
    Int(i64),
    /// Something that has been told.
    Broken,
    And,
    Or,
    Not,
    Relation(Relation),
    Open,
    Close,
    OpenList,
    CloseList,
    Comma,
    Dot,
    End,
}

/// What stands between two operands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Relation {
    /// `==`
    Equal,
    /// `!=`
    NotEqual,
    /// `<`
    Less,
    /// `<=`
    AtMost,
    /// `>`
    Greater,
    /// `>=`
    AtLeast,
    /// `in`
    In,
}

/// A token and where it stands.
#[derive(Clone, Debug)]
pub(crate) struct Placed {
    pub(crate) token: Token,
    pub(crate) span: Range<usize>,
}

/// Whether `name` can stand behind a dot.
pub fn is_name(name: &str) -> bool {
    name.starts_with(begins_name) && name_length(name) == name.len() && reserved(name).is_none()
}

/// Every token of `text`, and an [`Token::End`].
pub(crate) fn tokens(
    text: &str,
    dialect: &Dialect,
    problems: &mut Vec<ConditionProblem>,
) -> Vec<Placed> {
    let mut lexer = Lexer { text, at: 0, dialect, problems };
    let mut tokens: Vec<Placed> = Vec::new();
    loop {
        let blank = lexer.rest().len() - lexer.rest().trim_ascii_start().len();
        lexer.at += blank;
        let start = lexer.at;
        let Some(first) = lexer.rest().chars().next() else { break };
        let is_member = matches!(tokens.last(), Some(Placed { token: Token::Dot, .. }));
        let token = lexer.token(first, is_member);
        // Every arm consumes at least one character, so this ends.
        tokens.push(Placed { token, span: start..lexer.at });
    }
    tokens.push(Placed { token: Token::End, span: text.len()..text.len() });
    tokens
}

struct Lexer<'a> {
    text: &'a str,
    at: usize,
    dialect: &'a Dialect,
    problems: &'a mut Vec<ConditionProblem>,
}

impl Lexer<'_> {
    fn rest(&self) -> &str {
        self.text.get(self.at..).unwrap_or_default()
    }

    fn tell(&mut self, start: usize, message: impl Into<String>, hint: impl Into<String>) {
        self.problems.push(ConditionProblem::new(start..self.at, message, hint));
    }

    fn token(&mut self, first: char, is_member: bool) -> Token {
        match first {
            '"' | '\'' => self.quoted(first),
            '0'..='9' | '-' => self.number(),
            first if begins_name(first) => self.name(is_member),
            _ => self.sign(first),
        }
    }

    fn name(&mut self, is_member: bool) -> Token {
        let length = name_length(self.rest());
        let name = self.rest().get(..length).unwrap_or_default().to_owned();
        self.at += length;
        // `claims.in` is a claim.
        reserved(&name).filter(|_| !is_member).unwrap_or(Token::Name(name))
    }

    fn sign(&mut self, first: char) -> Token {
        const SIGNS: [(&str, Token); 14] = [
            ("&&", Token::And),
            ("||", Token::Or),
            ("==", Token::Relation(Relation::Equal)),
            ("!=", Token::Relation(Relation::NotEqual)),
            ("<=", Token::Relation(Relation::AtMost)),
            (">=", Token::Relation(Relation::AtLeast)),
            ("<", Token::Relation(Relation::Less)),
            (">", Token::Relation(Relation::Greater)),
            ("!", Token::Not),
            ("(", Token::Open),
            (")", Token::Close),
            ("[", Token::OpenList),
            ("]", Token::CloseList),
            (",", Token::Comma),
        ];
        const MEANT: [(&str, &str, Token); 9] = [
            ("===", "==", Token::Relation(Relation::Equal)),
            ("!==", "!=", Token::Relation(Relation::NotEqual)),
            ("<>", "!=", Token::Relation(Relation::NotEqual)),
            ("=>", ">=", Token::Relation(Relation::AtLeast)),
            ("=<", "<=", Token::Relation(Relation::AtMost)),
            ("=~", "==", Token::Broken),
            ("&", "&&", Token::And),
            ("|", "||", Token::Or),
            ("=", "==", Token::Relation(Relation::Equal)),
        ];
        let start = self.at;
        let wrong = MEANT.iter().find(|(written, ..)| self.rest().starts_with(written));
        let right = SIGNS.iter().find(|(written, _)| self.rest().starts_with(written));
        match (wrong, right) {
            (Some((written, meant, token)), right)
                if right.is_none_or(|(right, _)| right.len() < written.len()) =>
            {
                self.at += written.len();
                let hint = if *token == Token::Broken {
                    "there are no patterns; write `==`, `.startsWith(\"…\")` or `.endsWith(\"…\")`"
                        .to_owned()
                } else {
                    format!("write `{meant}`")
                };
                self.tell(start, format!("`{written}` is no operator"), hint);
                token.clone()
            }
            (_, Some((written, token))) => {
                self.at += written.len();
                token.clone()
            }
            (_, None) if first == '.' => {
                self.at += 1;
                Token::Dot
            }
            (_, None) => self.stray(first),
        }
    }

    /// A run of characters that no condition has.
    fn stray(&mut self, first: char) -> Token {
        const QUOTES: [char; 9] = ['“', '”', '„', '«', '»', '‘', '’', '‚', '`'];
        let start = self.at;
        if QUOTES.contains(&first) {
            // Up to the quote that closes it, so that what it quotes is not told as well.
            let inside = self.rest().get(first.len_utf8()..).unwrap_or_default();
            let end = inside.char_indices().find(|(_, c)| QUOTES.contains(c));
            let length = end.map_or(inside.len(), |(at, c)| at + c.len_utf8());
            self.at += first.len_utf8() + length;
            let shown = crate::shown(self.text, start..self.at);
            self.tell(start, format!("{shown} is no text"), "write it in plain quotes: `\"…\"`");
            return Token::Broken;
        }
        self.at += self
            .rest()
            .find(|c: char| c.is_ascii() && c != first)
            .unwrap_or_else(|| self.rest().len());
        let hint = match first {
            '+' | '*' | '/' | '%' => "there is no arithmetic; compare values as they are",
            '?' | ':' => "there is no `? :`; join conditions with `&&` and `||`",
            '{' | '}' => "a list is written in brackets: `[\"a\", \"b\"]`",
            '$' | '@' => self.dialect.mark,
            '#' => "a condition has no comments; write it beside the rule",
            ';' => "a condition is one expression; join parts with `&&` and `||`",
            _ => {
                "conditions have names, texts, whole numbers, `&&`, `||`, `!`, comparisons and `in`"
            }
        };
        let shown = crate::shown(self.text, start..self.at);
        self.tell(start, format!("{shown} means nothing here"), hint);
        Token::Broken
    }

    fn number(&mut self) -> Token {
        let start = self.at;
        let sign = usize::from(self.rest().starts_with('-'));
        let tail = self.rest().get(sign..).unwrap_or_default();
        let length =
            tail.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(tail.len());
        // A fraction is one wrong number, not a number with a member.
        let fraction = tail
            .get(length..)
            .and_then(|tail| tail.strip_prefix('.'))
            .filter(|tail| tail.starts_with(|c: char| c.is_ascii_digit()));
        let fraction = fraction.map_or(0, |tail| {
            let digits = tail.find(|c: char| !c.is_ascii_alphanumeric() && c != '.');
            1 + digits.unwrap_or(tail.len())
        });
        self.at += sign + length + fraction;
        let written = self.text.get(start..self.at).unwrap_or_default();
        let digits = written.get(sign..).unwrap_or_default();
        if digits.is_empty() {
            self.tell(
                start,
                "`-` stands alone",
                "there is no arithmetic; a number is written like `-5`",
            );
            return Token::Broken;
        }
        let is_plain = digits.bytes().all(|byte| byte.is_ascii_digit());
        let has_zeros = digits.len() > 1 && digits.starts_with('0');
        match written.parse() {
            Ok(number) if is_plain && !has_zeros => return Token::Int(number),
            _ if is_plain && has_zeros => {
                self.tell(start, "the number begins with `0`", "write it without leading zeros");
            }
            _ if is_plain => self.tell(
                start,
                "the number is too large",
                format!("whole numbers go from {} to {}", i64::MIN, i64::MAX),
            ),
            _ if digits.split('.').count() == 4 => {
                self.tell(start, "an address cannot be written here", self.dialect.address);
            }
            _ => {
                let shown = crate::shown(self.text, start..self.at);
                self.tell(
                    start,
                    format!("{shown} is not a whole number"),
                    "write decimal digits only, such as `250`",
                );
            }
        }
        Token::Broken
    }

    fn quoted(&mut self, quote: char) -> Token {
        let start = self.at;
        let told = self.problems.len();
        let mut text = String::new();
        self.at += 1;
        while let Some(c) = self.rest().chars().next() {
            let from = self.at;
            self.at += c.len_utf8();
            match c {
                // A text that is partly wrong is compared with nothing.
                c if c == quote && self.problems.len() > told => return Token::Broken,
                c if c == quote => return Token::Text(text),
                '\\' => match self.escape() {
                    Some(c) => text.push(c),
                    None => self.tell(
                        from,
                        "the escape means nothing",
                        "write `\\\\` for a backslash; others are `\\\"`, `\\'`, `\\n`, `\\r`, `\\t`, \
                         `\\u` with four hexadecimal digits",
                    ),
                },
                c if c.is_control() => {
                    self.tell(from, "a control character in a text", "write it as `\\n`, `\\t` or `\\u…`");
                }
                c => text.push(c),
            }
        }
        self.tell(start, "the text does not end", format!("close it with `{quote}`"));
        Token::Broken
    }

    /// What stands behind a backslash.
    fn escape(&mut self) -> Option<char> {
        let c = self.rest().chars().next()?;
        self.at += c.len_utf8();
        let digits = match c {
            '"' | '\'' | '\\' => return Some(c),
            'n' => return Some('\n'),
            'r' => return Some('\r'),
            't' => return Some('\t'),
            'u' => 4,
            'U' => 8,
            _ => return None,
        };
        let code = self.rest().get(..digits)?;
        let is_plain = code.bytes().all(|byte| byte.is_ascii_hexdigit());
        let c = u32::from_str_radix(code, 16).ok().filter(|_| is_plain).and_then(char::from_u32)?;
        self.at += digits;
        Some(c)
    }
}

fn begins_name(first: char) -> bool {
    first == '_' || first.is_ascii_alphabetic()
}

/// Names may have `-` inside, as those of a policy do.
fn name_length(text: &str) -> usize {
    let end = text.find(|c: char| !(c.is_ascii_alphanumeric() || matches!(c, '_' | '-')));
    let name = text.get(..end.unwrap_or(text.len())).unwrap_or_default();
    name.trim_end_matches('-').len()
}

fn reserved(name: &str) -> Option<Token> {
    match name {
        "in" => Some(Token::Relation(Relation::In)),
        _ => None,
    }
}

impl Relation {
    /// As it is written.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Equal => "==",
            Self::NotEqual => "!=",
            Self::Less => "<",
            Self::AtMost => "<=",
            Self::Greater => ">",
            Self::AtLeast => ">=",
            Self::In => "in",
        }
    }
}
