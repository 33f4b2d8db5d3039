//! The forms that strings of a policy have.

use std::fmt::Display;
use std::net::SocketAddr;
use std::str::FromStr;
use std::time::Duration;

use enforcer_model::{Bytes, PerSecond, Prefix, Rate};

use crate::parse::{BYTES_MIN, Percent};
use crate::routing::Pattern;

/// A form of string.
#[derive(Debug)]
pub(crate) struct Form {
    /// `a rate`, `an address with a port`.
    pub(crate) what: &'static str,
    /// One that is right.
    pub(crate) example: &'static str,
    /// A regular expression of ECMA-262 for the schema; may admit more than [`Form::check`].
    pub(crate) pattern: &'static str,
    pub(crate) check: fn(&str) -> Result<(), Refused>,
}

/// Why a string does not have its form, and what to write.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Refused {
    pub(crate) message: String,
    pub(crate) hint: Option<String>,
}

pub(crate) static NAME: Form = Form {
    what: "a name",
    example: "orders",
    pattern: "^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$",
    check: |text| {
        let inside = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
        let first = text.bytes().next().is_some_and(|byte| byte.is_ascii_alphanumeric());
        if first && text.len() <= 64 && text.bytes().all(inside) {
            return Ok(());
        }
        Err(Refused::with(
            format!("`{}` is not a name", brief(text)),
            "names have letters, digits, `.`, `_` and `-`, begin with a letter or digit, and are \
             at most 64 characters long",
        ))
    },
};

pub(crate) static PATH: Form = Form {
    what: "a path",
    example: "path/to/file",
    pattern: "^[^\\u0000]+$",
    check: |text| {
        if text.is_empty() || text.contains('\0') {
            let message = "a path cannot be empty or contain a NUL byte";
            return Err(Refused::with(
                message,
                "write a path, relative to the policy file or absolute",
            ));
        }
        Ok(())
    },
};

pub(crate) static ADDRESS: Form = Form {
    what: "an address with a port",
    example: "0.0.0.0:8443",
    pattern: "^(\\d{1,3}(\\.\\d{1,3}){3}|\\[[0-9A-Fa-f:.]+\\]):\\d{1,5}$",
    check: |text| match text.parse::<SocketAddr>() {
        Ok(_) => Ok(()),
        Err(_) => Err(not_an_address(text)),
    },
};

pub(crate) static HOST_ADDRESS: Form = Form {
    what: "the address of a host with its port",
    example: "127.0.0.1:9000",
    pattern: ADDRESS.pattern,
    check: |text| match text.parse::<SocketAddr>() {
        Ok(address) if address.port() == 0 => Err(Refused::with(
            format!("`{text}` has port 0"),
            "write the port that the host listens on",
        )),
        Ok(address) if address.ip().is_unspecified() => Err(Refused::with(
            format!("`{text}` is not the address of a host"),
            "for this host write `127.0.0.1` or `[::1]`",
        )),
        Ok(_) => Ok(()),
        Err(_) => Err(not_an_address(text)),
    },
};

pub(crate) static NETWORK: Form = Form {
    what: "an address or network",
    example: "10.0.5.0/24",
    pattern: "^[0-9A-Fa-f:.]+(/\\d{1,3})?$",
    check: parses::<Prefix>,
};

pub(crate) static RATE: Form = Form {
    what: "a rate",
    example: "100/s",
    pattern: "^[1-9][0-9]* ?/ ?[smhd]$",
    check: parses::<Rate>,
};

pub(crate) static PER_SECOND: Form = Form {
    what: "a rate per second",
    example: "50000/s",
    pattern: "^[1-9][0-9]* ?/s$",
    check: parses::<PerSecond>,
};

pub(crate) static BYTES_PER_SECOND: Form = Form {
    what: "bytes per second",
    example: "100MiB/s",
    pattern: "^[1-9][0-9]* ?(B|KiB|MiB|GiB)? ?/ ?s$",
    check: |text| match parse_bytes_per_second(text) {
        Some(rate) if rate >= BYTES_MIN => Ok(()),
        Some(_) => Err(Refused::with(
            format!("`{}` is out of range", brief(text)),
            format!("at least {}/s, the step in which the kernel counts", Bytes(BYTES_MIN)),
        )),
        None => Err(Refused::with(
            format!("`{}` is not a rate of bytes", brief(text)),
            "write it as `100MiB/s`, with `KiB`, `MiB` or `GiB`",
        )),
    },
};

pub(crate) static PERCENT: Form = Form {
    what: "a percentage",
    example: "20%",
    pattern: "^([1-9][0-9]?|100)%$",
    check: parses::<Percent>,
};

pub(crate) static PATTERN: Form = Form {
    what: "a pattern of host and path",
    example: "api.example.com/v1/orders/{**}",
    pattern: "^[^/]+/.*$",
    check: |text| match text.parse::<Pattern>() {
        Ok(_) => Ok(()),
        Err(error) => Err(Refused { message: error.to_string(), hint: Some(error.hint()) }),
    },
};

pub(crate) static METHOD: Form = Form {
    what: "a method",
    example: "GET",
    pattern: "^(DELETE|GET|HEAD|OPTIONS|PATCH|POST|PUT)$",
    check: |text| {
        if METHODS.contains(&text) {
            return Ok(());
        }
        let upper = text.to_ascii_uppercase();
        let hint = if METHODS.contains(&upper.as_str()) {
            format!("methods are upper case: `{upper}`")
        } else {
            format!("one of {}", METHODS.join(", "))
        };
        Err(Refused::with(
            format!("`{}` is not a method that a route can allow", brief(text)),
            hint,
        ))
    },
};

/// CONNECT and TRACE are no requests to an API and stay refused.
const METHODS: &[&str] = &["DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT"];

pub(crate) static INTERFACE: Form = Form {
    what: "the name of a network interface",
    example: "eth1",
    // `dev_valid_name` of the kernel: at most 15 bytes, no slash, colon or space, not `.` or `..`.
    pattern: "^[^/:\\s]{1,15}$",
    check: |text| {
        let inside = |c: char| !c.is_whitespace() && !c.is_control() && c != '/' && c != ':';
        if (1..=15).contains(&text.len()) && text != "." && text != ".." && text.chars().all(inside)
        {
            return Ok(());
        }
        Err(Refused::with(
            format!("`{}` cannot be the name of a network interface", brief(text)),
            "`ip -br link` lists the interfaces of this host",
        ))
    },
};

pub(crate) static ORIGIN: Form = Form {
    what: "the name of an audit log",
    example: "host.example/enforcer",
    // C2SP signed-note: a key name is not empty and has neither spaces nor plus signs.
    pattern: "^[^\\s+]{1,128}$",
    check: |text| {
        let inside = |c: char| !c.is_whitespace() && !c.is_control() && c != '+';
        if (1..=128).contains(&text.len()) && text.chars().all(inside) {
            return Ok(());
        }
        Err(Refused::with(
            format!("`{}` cannot be the name of an audit log", brief(text)),
            "at most 128 bytes without spaces and `+`, such as `host.example/enforcer`",
        ))
    },
};

/// `100MiB/s`, as bytes.
pub(crate) fn parse_bytes_per_second(text: &str) -> Option<u64> {
    let size = text.strip_suffix('s')?.trim_end().strip_suffix('/')?.trim_end();
    size.parse::<Bytes>().ok().map(|Bytes(rate)| rate)
}

/// `10s`, `15m`, `1h30m`, `500ms`: whole numbers with a unit, the larger unit first.
pub(crate) fn parse_duration(text: &str) -> Option<Duration> {
    const UNITS: [(&str, u64); 5] =
        [("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1_000), ("ms", 1)];
    let mut rest = text;
    let mut units = UNITS.iter();
    let mut total_ms = 0u64;
    while !rest.is_empty() {
        let after = rest.trim_start_matches(|c: char| c.is_ascii_digit());
        let count: u64 = rest.strip_suffix(after)?.parse().ok()?;
        let end = after.find(|c: char| c.is_ascii_digit()).unwrap_or(after.len());
        let (unit, behind) = after.split_at_checked(end)?;
        let (_, unit_ms) = units.find(|(name, _)| *name == unit)?;
        total_ms = total_ms.checked_add(count.checked_mul(*unit_ms)?)?;
        rest = behind;
    }
    if text.is_empty() { None } else { Some(Duration::from_millis(total_ms)) }
}

impl Refused {
    pub(crate) fn with(message: impl Into<String>, hint: impl Into<String>) -> Self {
        Self { message: message.into(), hint: Some(hint.into()) }
    }

    /// From an error that says the correct form behind a semicolon, as those of the model do.
    pub(crate) fn split(error: &impl Display) -> Self {
        let text = error.to_string();
        match text.split_once("; ") {
            Some((message, hint)) => Self::with(message, hint),
            None => Self { message: text, hint: None },
        }
    }
}

/// Text of the operator's as far as it helps in a message.
pub(crate) fn brief(text: &str) -> String {
    const SHOWN: usize = 60;
    let shown: String = text.chars().take(SHOWN).flat_map(char::escape_debug).collect();
    if text.chars().count() > SHOWN { format!("{shown}…") } else { shown }
}

fn parses<T: FromStr<Err: Display>>(text: &str) -> Result<(), Refused> {
    text.parse::<T>().map(|_| ()).map_err(|error| Refused::split(&error))
}

fn not_an_address(text: &str) -> Refused {
    Refused::with(
        format!("`{}` is not an address with a port", brief(text)),
        "write it as `192.0.2.1:8443` or `[2001:db8::1]:8443`; names are not looked up",
    )
}
