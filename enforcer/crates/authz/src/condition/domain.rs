//! What values an attribute can have at all: a comparison with any other one is a mistake.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::expr::Attribute;
use crate::SpiffePattern;
use enforcer_condition::{brief, listed, suggest};

/// What is wrong, and what to write.
type Wrong = (String, String);

/// The levels of an incident.
pub(super) const INCIDENTS: [i64; 6] = [0, 1, 2, 3, 4, 5];

const KINDS: [&str; 3] = ["api-key", "certificate", "token"];

const METHODS: [&str; 9] =
    ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "CONNECT", "TRACE"];

/// Whether a request can come without it, so that asking `has` makes sense.
pub(super) const fn may_be_absent(attribute: &Attribute) -> bool {
    match attribute {
        Attribute::Method | Attribute::Host | Attribute::Path | Attribute::Param(_) => false,
        Attribute::Principal
        | Attribute::Kind
        | Attribute::Issuer
        | Attribute::Application
        | Attribute::Owner
        | Attribute::Spiffe
        | Attribute::Region
        | Attribute::Query(_)
        | Attribute::Header(_)
        | Attribute::Claim(_) => true,
    }
}

/// Why `attribute` is never `literal`.
pub(super) fn never(
    attribute: &Attribute,
    literal: &str,
    issuers: &BTreeSet<Arc<str>>,
) -> Option<Wrong> {
    let shown = brief(literal);
    let wrong = |message: String, hint: String| Some((message, hint));
    match attribute {
        Attribute::Kind if !KINDS.contains(&literal) => {
            let meant = match literal {
                "key" | "apikey" | "api_key" => Some("api-key"),
                "cert" | "mtls" | "spiffe" => Some("certificate"),
                "jwt" | "bearer" | "oidc" => Some("token"),
                other => suggest(other, KINDS),
            };
            let hint = match meant {
                Some(meant) => format!("did you mean `{meant}`?"),
                None => format!("write one of: {}", KINDS.join(", ")),
            };
            wrong(format!("no credential is of the kind `{shown}`"), hint)
        }
        Attribute::Issuer if !issuers.contains(literal) => {
            let known = issuers.iter().map(|name| &**name);
            let hint = match suggest(literal, known.clone()) {
                Some(meant) => format!("did you mean `{meant}`?"),
                None if issuers.iter().len() == 0 => "define it as `[issuer.NAME]`".to_owned(),
                None => format!("use its name in the policy, one of: {}", listed(known)),
            };
            wrong(format!("no issuer is called `{shown}`"), hint)
        }
        Attribute::Region if !is_region(literal) => wrong(
            format!("`{shown}` is no region"),
            "write the code of a country in two capital letters, such as `DE` (ISO 3166-1)"
                .to_owned(),
        ),
        Attribute::Method => {
            let upper = literal.to_ascii_uppercase();
            let token =
                |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
            if METHODS.contains(&&*upper) && upper != literal {
                wrong(
                    format!("`{shown}` is not `{upper}`: methods have capital letters"),
                    format!("write `{upper}`"),
                )
            } else if literal.is_empty() || !literal.bytes().all(token) {
                wrong(format!("no method is called `{shown}`"), "write it as `POST`".to_owned())
            } else {
                None
            }
        }
        Attribute::Host => never_host(literal).or_else(|| {
            literal.is_empty().then(|| ("no host is empty".to_owned(), "write a host".to_owned()))
        }),
        Attribute::Path if !literal.starts_with('/') => wrong(
            format!("every path begins with `/`, never `{shown}`"),
            format!("write `/{shown}`"),
        ),
        Attribute::Path => never_path(literal),
        Attribute::Spiffe => {
            let is_id = matches!(literal.parse(), Ok(SpiffePattern::Exact(_)));
            let hint =
                "write it as `spiffe://trust.domain/path`, or use `.startsWith(\"spiffe://…/\")`";
            if is_id { None } else { wrong(format!("`{shown}` is no SPIFFE id"), hint.to_owned()) }
        }
        Attribute::Principal if !begins_principal(literal) => wrong(
            format!("no principal is called `{shown}`"),
            "write `key:ID`, `token:ISSUER/SUBJECT`, `spiffe://…` or `cert:THUMBPRINT`".to_owned(),
        ),
        Attribute::Kind
        | Attribute::Issuer
        | Attribute::Region
        | Attribute::Principal
        | Attribute::Application
        | Attribute::Owner
        | Attribute::Param(_)
        | Attribute::Query(_)
        | Attribute::Header(_)
        | Attribute::Claim(_) => None,
    }
}

/// Why `attribute` never begins, or ends, with `literal`.
pub(super) fn never_part(attribute: &Attribute, literal: &str, is_start: bool) -> Option<Wrong> {
    let shown = brief(literal);
    match attribute {
        Attribute::Path if is_start && !literal.starts_with('/') => Some((
            format!("every path begins with `/`, never with `{shown}`"),
            format!("write `/{shown}`"),
        )),
        Attribute::Path => never_path(literal),
        Attribute::Host => never_host(literal),
        Attribute::Kind => Some((
            "a kind of credential is compared whole".to_owned(),
            "write `kind == \"token\"`".to_owned(),
        )),
        Attribute::Region => Some((
            "a region is compared whole".to_owned(),
            "write `region in [\"DE\", \"FR\"]`".to_owned(),
        )),
        Attribute::Principal
        | Attribute::Issuer
        | Attribute::Application
        | Attribute::Owner
        | Attribute::Spiffe
        | Attribute::Method
        | Attribute::Param(_)
        | Attribute::Query(_)
        | Attribute::Header(_)
        | Attribute::Claim(_) => None,
    }
}

fn never_host(literal: &str) -> Option<Wrong> {
    let shown = brief(literal);
    if literal.bytes().any(|byte| byte.is_ascii_uppercase()) {
        let hint = format!("write `{}`", brief(&literal.to_ascii_lowercase()));
        return Some((format!("hosts are compared in lower case, never `{shown}`"), hint));
    }
    let is_host = literal.bytes().all(|byte| byte.is_ascii_graphic() && !b"/?#@*".contains(&byte));
    (!is_host).then(|| {
        (format!("`{shown}` stands in no host"), "write it as `api.example.com`".to_owned())
    })
}

fn never_path(literal: &str) -> Option<Wrong> {
    let is_path = literal.bytes().all(|byte| byte.is_ascii_graphic() && !b"?#".contains(&byte));
    (!is_path).then(|| {
        let hint =
            "a path is compared as it is forwarded: percent-encoded, without query".to_owned();
        (format!("`{}` stands in no path", brief(literal)), hint)
    })
}

fn is_region(literal: &str) -> bool {
    literal.len() == 2 && literal.bytes().all(|byte| byte.is_ascii_uppercase())
}

fn begins_principal(literal: &str) -> bool {
    ["key:", "token:", "spiffe://", "cert:"].iter().any(|scheme| literal.starts_with(scheme))
}
