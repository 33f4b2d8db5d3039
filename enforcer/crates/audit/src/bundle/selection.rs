//! The file `selection`: what a bundle says it holds, one line each, in one spelling.

use std::fmt;

use crate::note::parse_number;

/// What a bundle says it holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Selection {
    pub(super) origin: String,
    /// Records under the checkpoint.
    pub(super) size: u64,
    pub(super) what: What,
    /// The first record that could belong to it.
    pub(super) from: u64,
    /// The first behind the last that could.
    pub(super) to: u64,
    pub(super) since: Option<String>,
    pub(super) until: Option<String>,
    pub(super) records: u64,
    pub(super) context: u64,
    /// When it was exported.
    pub(super) made: String,
}

/// Which records.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum What {
    Everything,
    Numbers,
    Trail(String),
}

impl Selection {
    /// What `text` says, if it is the one spelling of it.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let mut lines = text.lines().peekable();
        (lines.next()? == "enforcer-bundle/1").then_some(())?;
        let selection = Self {
            origin: lines.next()?.strip_prefix("log ")?.to_owned(),
            size: number(lines.next()?.strip_prefix("size ")?)?,
            what: What::parse(lines.next()?.strip_prefix("what ")?)?,
            from: number(lines.next()?.strip_prefix("from ")?)?,
            to: number(lines.next()?.strip_prefix("to ")?)?,
            since: match lines.next_if(|line| line.starts_with("since ")) {
                Some(line) => Some(time(line.strip_prefix("since ")?)?),
                None => None,
            },
            until: match lines.next_if(|line| line.starts_with("until ")) {
                Some(line) => Some(time(line.strip_prefix("until ")?)?),
                None => None,
            },
            records: number(lines.next()?.strip_prefix("records ")?)?,
            context: number(lines.next()?.strip_prefix("context ")?)?,
            made: time(lines.next()?.strip_prefix("made ")?)?,
        };
        let ordered = selection.from <= selection.to && selection.to <= selection.size;
        (ordered && selection.to_string() == text && !text.contains('\0')).then_some(selection)
    }
}

impl fmt::Display for Selection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { origin, size, what, from, to, since, until, records, context, made } = self;
        writeln!(f, "enforcer-bundle/1\nlog {origin}\nsize {size}\nwhat {what}")?;
        writeln!(f, "from {from}\nto {to}")?;
        if let Some(since) = since {
            writeln!(f, "since {since}")?;
        }
        if let Some(until) = until {
            writeln!(f, "until {until}")?;
        }
        writeln!(f, "records {records}\ncontext {context}\nmade {made}")
    }
}

impl What {
    fn parse(text: &str) -> Option<Self> {
        match text {
            "everything" => Some(Self::Everything),
            "numbers" => Some(Self::Numbers),
            _ => {
                let selector = text.strip_prefix("trail ")?;
                (!selector.is_empty()).then(|| Self::Trail(selector.to_owned()))
            }
        }
    }
}

impl fmt::Display for What {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Everything => f.write_str("everything"),
            Self::Numbers => f.write_str("numbers"),
            Self::Trail(selector) => write!(f, "trail {selector}"),
        }
    }
}

/// A number that the arithmetic of every shell can hold.
fn number(text: &str) -> Option<u64> {
    parse_number(text).filter(|_| text.len() <= 18)
}

/// A time in the one form of the log, whose order is that of its bytes.
fn time(text: &str) -> Option<String> {
    let fits = |(form, byte): (u8, u8)| match form {
        b'0' => byte.is_ascii_digit(),
        other => byte == other,
    };
    const FORM: &[u8; 27] = b"0000-00-00T00:00:00.000000Z";
    let whole = text.len() == FORM.len();
    (whole && FORM.iter().copied().zip(text.bytes()).all(fits)).then(|| text.to_owned())
}
