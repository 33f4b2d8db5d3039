//! The forms that strings of a policy have.

use std::fmt::Display;
use std::str::FromStr;
use std::time::Duration;

use enforcer_audit::{Recipient, WitnessKey};
use enforcer_authn::jwt::Algorithm;
use enforcer_authn::{Endpoint, KeyPrefix};
use enforcer_authz::{Days, Grant, Hours};
use enforcer_inspect::{Host, Path};
use enforcer_limits::{Allotment, Cost};
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

pub(crate) static VALUE: Form = Form {
    what: "the value of a header",
    example: "orders.internal",
    pattern: "^[!-~]{1,255}$",
    check: |text| {
        let inside = |byte: u8| byte.is_ascii_graphic();
        if (1..=255).contains(&text.len()) && text.bytes().all(inside) {
            return Ok(());
        }
        Err(Refused::with(
            format!("`{}` is not a host", brief(text)),
            "write a name or an address, with a port if it is not the usual one",
        ))
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

pub(crate) static CONDITION: Form = Form {
    what: "a condition",
    example: "mtls || ip in net.office",
    pattern: "\\S",
    // What it means is for the section, which knows the names.
    check: |text| match text.trim() {
        "" => Err(Refused::with("a condition cannot be empty", "leave `when` out, or say when")),
        _ => Ok(()),
    },
};

pub(crate) static GRANT: Form = Form {
    what: "a kind of credential",
    example: "key",
    pattern: "^(key|issuer:[^/]+/.+|spiffe://.+)$",
    check: parses::<Grant>,
};

pub(crate) static ALGORITHM: Form = Form {
    what: "a signature algorithm",
    example: "ES256",
    pattern: "^(ES256|ES384|EdDSA|Ed25519|HS256|PS256|PS384|PS512|RS256|RS384|RS512)$",
    check: parses::<Algorithm>,
};

pub(crate) static ISSUER: Form = Form {
    what: "the name of an issuer",
    example: "https://idp.example.com",
    pattern: "^[!-~]{1,2048}$",
    check: |text| {
        if text.starts_with("http://") {
            return (ENDPOINT.check)(text);
        }
        if (1..=Endpoint::LENGTH_MAX).contains(&text.len())
            && text.bytes().all(|byte| byte.is_ascii_graphic())
        {
            return Ok(());
        }
        Err(Refused::with(
            format!("`{}` cannot be the name of an issuer", brief(text)),
            "write the `iss` of its tokens, byte for byte, such as `https://idp.example.com`",
        ))
    },
};

pub(crate) static ENDPOINT: Form = Form {
    what: "a URL",
    example: "https://idp.example.com/jwks",
    pattern: "^https?://[!-~]{1,2048}$",
    check: |text| Endpoint::parse(text).map(|_| ()).map_err(|error| Refused::split(&error)),
};

pub(crate) static SIGNED_ENDPOINT: Form = Form {
    what: "a URL",
    example: "https://witness.example.com",
    pattern: "^https?://[!-~]{1,2048}$",
    check: |text| {
        let parsed = Endpoint::parse_self_proving(text);
        parsed.map(|_| ()).map_err(|error| Refused::split(&error))
    },
};

pub(crate) static WITNESS_KEY: Form = Form {
    what: "the key of a witness",
    example: "witness.example.com/w1+1234abcd+BA…",
    pattern: "^[^\\s+]{1,255}\\+[0-9a-f]{8}\\+[0-9A-Za-z+/]{44}$",
    check: |text| {
        text.parse::<WitnessKey>().map(|_| ()).map_err(|error| {
            Refused::with(
                format!("`{}` is not the key of a witness: {error}", brief(text)),
                "`enforcer witness key` prints it where the witness runs",
            )
        })
    },
};

pub(crate) static WORDS: Form = Form {
    what: "a text",
    example: "https://api.example.com",
    pattern: "^.{1,512}$",
    check: |text| {
        if (1..=512).contains(&text.len()) && !text.chars().any(char::is_control) {
            return Ok(());
        }
        Err(Refused::with(
            format!("`{}` is not a text of 1 to 512 bytes", brief(text)),
            "write it without line ends and other control characters",
        ))
    },
};

pub(crate) static CLAIM: Form = Form {
    what: "a place in a token",
    example: "claims.roles",
    pattern: "^(scope|claims(\\.[A-Za-z0-9_-]+|\\[\"[^\"]+\"\\])+)$",
    check: |text| match (text, claim_path(text)) {
        ("scope", _) | (_, Some(_)) => Ok(()),
        (_, None) => Err(not_a_claim(text, "`scope`, ")),
    },
};

pub(crate) static CALLERS: Form = Form {
    what: "whom a limit counts",
    example: "key",
    pattern: "^(application|global|ip|key|prefix|principal|region|role|route|claims[.\\[].+)$",
    check: |text| {
        if COUNTED.contains(&text) || claim_path(text).is_some() {
            return Ok(());
        }
        if text.starts_with("claims") {
            return Err(not_a_claim(text, ""));
        }
        Err(Refused::with(
            format!("`{}` is nothing that a limit can count by", brief(text)),
            match super::suggest(text, COUNTED.iter().copied()) {
                Some(meant) => format!("did you mean \"{meant}\"?"),
                None => format!("one of {}, or `claims.NAME`", COUNTED.join(", ")),
            },
        ))
    },
};

/// What a limit can count by, besides a claim.
const COUNTED: &[&str] =
    &["application", "global", "ip", "key", "prefix", "principal", "region", "role", "route"];

pub(crate) static ALLOTMENT: Form = Form {
    what: "a quota",
    example: "50/day",
    pattern: "^ ?[1-9][0-9]* ?/ ?(hour|day|month)$",
    check: parses::<Allotment>,
};

pub(crate) static COST: Form = Form {
    what: "a cost",
    example: "response.kib / 1024",
    pattern: "^(request|response)\\.(bytes|kib|mib)( ?/ ?[1-9][0-9]*)?$",
    check: parses::<Cost>,
};

pub(crate) static DAYS: Form = Form {
    what: "days of the week",
    example: "mon-fri",
    pattern: "^[A-Za-z, -]+$",
    check: parses::<Days>,
};

pub(crate) static HOURS: Form = Form {
    what: "hours of a day",
    example: "08:00-18:00",
    pattern: "^ *\\d\\d:\\d\\d *- *\\d\\d:\\d\\d *$",
    check: parses::<Hours>,
};

pub(crate) static ZONE: Form = Form {
    what: "a time zone",
    example: "Europe/Berlin",
    pattern: "^[A-Za-z0-9_+/-]{1,64}$",
    check: |text| {
        let inside = |byte: u8| byte.is_ascii_alphanumeric() || b"_+/-".contains(&byte);
        if (1..=64).contains(&text.len()) && text.bytes().all(inside) {
            return Ok(());
        }
        Err(Refused::with(
            format!("`{}` is not a time zone", brief(text)),
            "write an IANA name such as `Europe/Berlin`, or `UTC`",
        ))
    },
};

pub(crate) static KEY_PREFIX: Form = Form {
    what: "the beginning of keys",
    example: "enf",
    pattern: "^[a-z][a-z0-9]{1,11}$",
    check: parses::<KeyPrefix>,
};

pub(crate) static HOST: Form = Form {
    what: "a host",
    example: "api.example.com",
    pattern: "^[^/]+$",
    check: |text| match text.parse::<Host>() {
        Ok(_) => Ok(()),
        Err(error) => Err(Refused::with(
            error.to_string(),
            "a name without port or scheme, or an address; `*` has no rules of its own",
        )),
    },
};

pub(crate) static LEVEL: Form = Form {
    what: "an incident level",
    example: "2",
    pattern: "^[0-5]$",
    check: |text| match text.as_bytes() {
        [b'0'..=b'5'] => Ok(()),
        _ => Err(Refused::with(
            format!("`{}` is not an incident level", brief(text)),
            "levels are 0 to 5; write `[incident.2]`",
        )),
    },
};

pub(crate) static PATH_PREFIX: Form = Form {
    what: "the beginning of a path",
    example: "/v2",
    pattern: "^/.+[^/]$",
    check: |text| match text.parse::<Path>() {
        Ok(_) if text.len() > 1 && !text.ends_with('/') => Ok(()),
        Ok(_) => Err(Refused::with(
            format!("`{}` is no beginning of a path", brief(text)),
            "write whole segments without a slash at the end, such as `/v2`",
        )),
        Err(error) => Err(Refused::with(
            format!("`{}` is no path: {error}", brief(text)),
            "write whole segments, such as `/v2`",
        )),
    },
};

/// The names in `claims.realm.roles` or `claims["https://example.com/roles"]`, in order.
pub(crate) fn claim_path(text: &str) -> Option<Vec<&str>> {
    let mut rest = text.strip_prefix("claims")?;
    let mut names = Vec::new();
    while !rest.is_empty() {
        let (name, behind) = if let Some(quoted) = rest.strip_prefix("[\"") {
            quoted.split_once("\"]")?
        } else {
            let plain = rest.strip_prefix('.')?;
            let inside = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
            plain.split_at_checked(plain.find(|c| !inside(c)).unwrap_or(plain.len()))?
        };
        if name.is_empty() || names.len() == 16 {
            return None;
        }
        names.push(name);
        rest = behind;
    }
    if names.is_empty() { None } else { Some(names) }
}

fn not_a_claim(text: &str, other: &str) -> Refused {
    Refused::with(
        format!("`{}` is not a place in a token", brief(text)),
        format!("write {other}`claims.NAME`, `claims.realm.roles` or `claims[\"https://…\"]`"),
    )
}

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

pub(crate) static RECIPIENT: Form = Form {
    what: "a public key of age",
    example: "age1ql3z7hjy54pw3hyww5ayyfg7zqgvc7w3j2elw8zmrj2kg5sfn9aqmcac8p",
    pattern: "^age1[02-9ac-hj-np-z]{58}$",
    check: |text| match text.parse::<Recipient>() {
        Ok(_) => Ok(()),
        Err(_) => Err(Refused::with(
            format!("`{}` is not a public key of age", brief(text)),
            "`age-keygen --output FILE` makes a pair and prints the public half, `age1…`; keep FILE \
             away from this host",
        )),
    },
};

/// `100MiB/s`, as bytes.
pub(crate) fn parse_bytes_per_second(text: &str) -> Option<u64> {
    let size = text.strip_suffix('s')?.trim_end().strip_suffix('/')?.trim_end();
    size.parse::<Bytes>().ok().map(|Bytes(rate)| rate)
}

/// `10s`, `15m`, `1h30m`, `500ms`, `2y` (of 365 days): whole numbers with a unit, the larger unit first.
pub(crate) fn parse_duration(text: &str) -> Option<Duration> {
    const UNITS: [(&str, u64); 6] = [
        ("y", 31_536_000_000),
        ("d", 86_400_000),
        ("h", 3_600_000),
        ("m", 60_000),
        ("s", 1_000),
        ("ms", 1),
    ];
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
