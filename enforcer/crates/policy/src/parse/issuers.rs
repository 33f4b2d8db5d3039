//! `[issuer.NAME]`: whose tokens are believed, in what, and on which terms.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use enforcer_authn::jwt::{Algorithm, Algorithms, KeySet, Kind};
use enforcer_authn::{
    Bindings, ClientSecret, Endpoint, Introspection, IssuerPlan, KeySource, RoleValues, Roots,
    Unbound,
};
use enforcer_authz::{Grant, Roles};
use zeroize::Zeroizing;

use super::{DAY, MILLISECOND, MINUTE, SECOND};
use crate::codes::{
    AUDIENCE_SHARED, EXCLUDES, FILE_UNREADABLE, FILE_WRONG, ISSUER_TWICE, MISSING_PART, TOO_MANY,
    UNUSED, WRONG_VALUE,
};
use crate::files;
use crate::grammar::{
    ALGORITHM, CLAIM, ENDPOINT, Fields, ISSUER, Key, Named, Need, PATH, Shape, WORDS, claim_path,
};
use crate::parse::Base;
use crate::problem::Report;

/// Issuers that a policy may have; each of them is asked in the background.
const ISSUERS_MAX: usize = 64;
/// The largest file with a secret or authorities, in bytes.
pub(super) const FILE_MAX: u64 = 1 << 20;

pub(super) static KEYS: &[Key] = &[
    Key::required(
        "url",
        Shape::Text(&ISSUER),
        "The `iss` of its tokens, byte for byte; its discovery document is found by it.",
    ),
    Key::required(
        "audience",
        Shape::OneOrMore(&Shape::Text(&WORDS)),
        "A token must be meant for one of these (`aud`).",
    ),
    Key::required(
        "algs",
        Shape::OneOrMore(&Shape::Text(&ALGORITHM)),
        "What a token may be signed with; HS256 only with `secret`, and alone.",
    ),
    Key::optional(
        "jwks",
        Shape::Text(&ENDPOINT),
        "Where its keys are, when its discovery document is not to be asked.",
    ),
    Key::optional(
        "keys",
        Shape::Text(&PATH),
        "A file with its keys (JWKS); nothing is fetched then. Relative to the policy file.",
    ),
    Key::optional(
        "secret",
        Shape::Text(&PATH),
        "A file with the secret that is shared with it, at least 32 bytes, for HS256.",
    ),
    Key::optional(
        "roles",
        Shape::Text(&CLAIM),
        "Where the values stand that `issuer:NAME/VALUE` names. Without it: the words of the scope.",
    ),
    Key::with_default(
        "bind",
        Shape::Choice(&["mtls-or-dpop", "mtls", "dpop"]),
        Need::Text("mtls-or-dpop"),
        "Which proofs count for tokens that are bound to their holder; as plain bearer tokens they \
         are never accepted.",
    ),
    Key::with_default(
        "require_binding",
        Shape::Flag,
        Need::False,
        "Refuse tokens that are not bound to their holder.",
    ),
    Key::with_default(
        "type",
        Shape::Choice(&["at+jwt", "jwt"]),
        Need::Text("at+jwt"),
        "The `typ` of its tokens: RFC 9068, or also `JWT` and none.",
    ),
    Key::with_default(
        "leeway",
        Shape::Span(std::time::Duration::ZERO, MINUTE.saturating_mul(5)),
        Need::Text("30s"),
        "By how much its clock and ours may differ.",
    ),
    Key::with_default(
        "refresh",
        Shape::Span(SECOND, DAY),
        Need::Text("5m"),
        "How often its keys are fetched.",
    ),
    Key::with_default(
        "timeout",
        Shape::Span(MILLISECOND.saturating_mul(100), MINUTE),
        Need::Text("5s"),
        "For one question to it.",
    ),
    Key::optional(
        "ca",
        Shape::Text(&PATH),
        "PEM file with the authorities that vouch for it. Without it: those of the system.",
    ),
    Key::optional(
        "introspection",
        Shape::Table(INTROSPECTION_KEYS),
        "Ask it about opaque tokens (RFC 7662).",
    ),
];

static INTROSPECTION_KEYS: &[Key] = &[
    Key::required("client", Shape::Text(&WORDS), "Whom the issuer knows us as."),
    Key::required(
        "secret",
        Shape::Text(&PATH),
        "File with the client's secret; relative to the policy file.",
    ),
    Key::optional(
        "endpoint",
        Shape::Text(&ENDPOINT),
        "Where to ask. Without it: what the discovery document says.",
    ),
    Key::with_default(
        "cache",
        Shape::Span(std::time::Duration::ZERO, Introspection::CACHE_MAX),
        Need::Text("30s"),
        "How long an answer holds, at most.",
    ),
];

/// All issuers, in the order of the file.
pub(super) fn read(root: Fields<'_>, base: Base<'_>, report: &mut Report) -> Vec<Arc<IssuerPlan>> {
    let entries = root.named("issuer");
    if entries.len() > ISSUERS_MAX {
        let message = format!("{} issuers are more than {ISSUERS_MAX}", entries.len());
        report.add(&TOO_MANY, root.span_of("issuer"), message, "leave some out".to_owned());
        return Vec::new();
    }
    let mut urls = HashMap::new();
    let mut audiences = HashMap::new();
    let mut plans = Vec::new();
    for entry in &entries {
        let Some(fields) = entry.fields(KEYS) else { continue };
        if let Some(url) = fields.text("url")
            && let Some(other) = urls.insert(url, entry.name)
        {
            let message = format!("`{other}` and `{}` are the same issuer", entry.name);
            let hint = "join them; an issuer can have several audiences".to_owned();
            report.add(&ISSUER_TWICE, fields.span_of("url"), message, hint);
        }
        for (audience, span) in fields.texts("audience") {
            if let Some(other) = audiences.insert(audience, entry.name)
                && other != entry.name
            {
                let message =
                    format!("tokens of `{other}` and `{}` are for one audience", entry.name);
                let hint = "give each issuer an audience of its own, if you can".to_owned();
                report.add(&AUDIENCE_SHARED, span, message, hint);
            }
        }
        plans.extend(issuer(entry, fields, base, report).map(Arc::new));
    }
    plans
}

fn issuer(
    entry: &Named<'_>,
    fields: Fields<'_>,
    base: Base<'_>,
    report: &mut Report,
) -> Option<IssuerPlan> {
    let algorithms = algorithms(fields, report);
    let keys = key_source(fields, base, report);
    let roots = roots(fields, base, report);
    let introspection = introspection(fields, base, report);
    found_by_url(fields, report);
    Some(IssuerPlan {
        name: entry.name.into(),
        url: fields.text("url")?.into(),
        audience: fields.texts("audience").into_iter().map(|(text, _)| text.into()).collect(),
        algorithms: algorithms?,
        keys: keys?,
        roles: role_values(fields),
        bindings: match fields.text("bind")? {
            "mtls" => Bindings::Mtls,
            "dpop" => Bindings::Dpop,
            _ => Bindings::Either,
        },
        unbound: match fields.flag("require_binding")? {
            true => Unbound::Refused,
            false => Unbound::Accepted,
        },
        kind: match fields.text("type")? {
            "jwt" => Kind::Jwt,
            _ => Kind::AccessToken,
        },
        leeway: fields.duration("leeway")?,
        refresh: fields.duration("refresh")?,
        timeout: fields.duration("timeout")?,
        roots: roots?,
        introspection: introspection?,
    })
}

fn algorithms(fields: Fields<'_>, report: &mut Report) -> Option<Algorithms> {
    let named = fields.all_parsed::<Algorithm>("algs");
    let secret = named.iter().find(|(algorithm, _)| *algorithm == Algorithm::Hs256);
    match (secret, fields.has("secret")) {
        (Some((_, span)), _) if named.iter().any(|(other, _)| *other != Algorithm::Hs256) => {
            let message = "HS256 stands beside an algorithm with public keys";
            let hint =
                "whoever knows a public key could sign with it as a secret; keep HS256 alone";
            report.add(&EXCLUDES, *span, message, hint.to_owned());
        }
        (Some((_, span)), false) => {
            let message = "HS256 needs a secret that is shared with the issuer";
            let hint =
                "add `secret = \"FILE\"`, or choose an algorithm with public keys".to_owned();
            report.add(&MISSING_PART, *span, message, hint);
        }
        (None, true) if !named.is_empty() => {
            let message = "a secret is of use for HS256 only, which `algs` does not name";
            let hint = "write `algs = [\"HS256\"]`, or remove the secret".to_owned();
            report.add(&MISSING_PART, fields.span_of("secret"), message, hint);
        }
        _ => {}
    }
    if named.is_empty() { None } else { Some(named.into_iter().map(|(one, _)| one).collect()) }
}

fn key_source(fields: Fields<'_>, base: Base<'_>, report: &mut Report) -> Option<KeySource> {
    let sources = ["jwks", "keys", "secret"];
    let mut written = sources.iter().filter(|key| fields.has(key));
    if let (Some(first), Some(second)) = (written.next(), written.next()) {
        let message = format!("`{first}` and `{second}` are two sources of one issuer's keys");
        let hint = "keep one of them".to_owned();
        report.add(&EXCLUDES, fields.span_of(second), message, hint);
        return None;
    }
    if let Some(url) = fields.text("jwks") {
        return Endpoint::parse(url).ok().map(KeySource::Jwks);
    }
    // Without files nothing of the issuer can be verified, and nothing is.
    let most = u64::try_from(KeySet::DOCUMENT_MAX).unwrap_or(FILE_MAX);
    let set = if fields.has("keys") {
        let Some(found) = contents(fields, "keys", most, base, report)? else {
            return Some(KeySource::None);
        };
        let set = KeySet::parse(&found).map_err(|error| error.to_string());
        set.and_then(|set| match set.is_empty() {
            true => Err("it has no key that can be used".to_owned()),
            false => Ok(set),
        })
    } else if fields.has("secret") {
        let Some(found) = secret(fields, "secret", base, report)? else {
            return Some(KeySource::None);
        };
        KeySet::of_secret(&found).map_err(|error| error.to_string())
    } else {
        return Some(KeySource::Discovery);
    };
    let key = if fields.has("keys") { "keys" } else { "secret" };
    match set {
        Ok(set) => Some(KeySource::Pinned(Arc::new(set))),
        Err(why) => {
            let hint = match key {
                "keys" => "write a JSON Web Key Set, `{\"keys\": [ … ]}`",
                _ => "`head -c 32 /dev/urandom | base64 > FILE` makes one",
            };
            wrong(fields, key, &why, hint, report);
            None
        }
    }
}

pub(super) fn roots(fields: Fields<'_>, base: Base<'_>, report: &mut Report) -> Option<Roots> {
    if !fields.has("ca") {
        return Some(Roots::System);
    }
    let Some(pem) = contents(fields, "ca", FILE_MAX, base, report)? else {
        return Some(Roots::System);
    };
    match Roots::from_pem(&pem) {
        Ok(roots) => Some(roots),
        Err(error) => {
            let hint = "it begins with `-----BEGIN CERTIFICATE-----`";
            wrong(fields, "ca", &error.to_string(), hint, report);
            None
        }
    }
}

fn introspection(
    fields: Fields<'_>,
    base: Base<'_>,
    report: &mut Report,
) -> Option<Option<Introspection>> {
    if !fields.has("introspection") {
        return Some(None);
    }
    let fields = fields.table("introspection");
    let Some(found) = secret(fields, "secret", base, report)? else { return Some(None) };
    let text = String::from_utf8(found.to_vec()).map(Zeroizing::new).ok();
    let Some(text) = text.filter(|text| !text.is_empty()) else {
        wrong(fields, "secret", "it is not a line of text", "write the secret to it", report);
        return None;
    };
    let endpoint = match fields.text("endpoint") {
        Some(url) => Some(Endpoint::parse(url).ok()?),
        None => None,
    };
    Some(Some(Introspection {
        endpoint,
        client: fields.text("client")?.into(),
        secret: ClientSecret::new(text),
        cache: fields.duration("cache")?,
    }))
}

/// Tells when something has to be found by the issuer's url, and nothing can be asked there.
fn found_by_url(fields: Fields<'_>, report: &mut Report) {
    let Some(url) = fields.text("url") else { return };
    let keys_known = ["jwks", "keys", "secret"].iter().any(|key| fields.has(key));
    let introspection = fields.table("introspection");
    let asks = fields.has("introspection") && !introspection.has("endpoint");
    if keys_known && !asks {
        return;
    }
    if let Err(error) = Endpoint::parse(url) {
        let text = error.to_string();
        let (message, _) = text.split_once("; ").unwrap_or((&text, ""));
        let hint = if asks && keys_known {
            "add `introspection.endpoint`, for nothing can be asked at this url"
        } else {
            "add `jwks`, `keys` or `secret`, for nothing can be asked at this url"
        };
        // What begins with `http://` has been told as malformed.
        if !url.starts_with("http://") {
            report.add(&WRONG_VALUE, fields.span_of("url"), message, hint.to_owned());
        }
    }
}

fn role_values(fields: Fields<'_>) -> RoleValues {
    match fields.text("roles").and_then(claim_path) {
        Some(path) => RoleValues::Claim(path.into_iter().map(Arc::from).collect()),
        None => RoleValues::Scopes,
    }
}

/// The contents of the file that `key` names; inner `None` when no files are read.
pub(super) fn contents(
    fields: Fields<'_>,
    key: &str,
    most: u64,
    base: Base<'_>,
    report: &mut Report,
) -> Option<Option<Zeroizing<Vec<u8>>>> {
    let file = base.resolve(fields.text(key)?);
    if !base.reads_files {
        return Some(None);
    }
    let span = fields.span_of(key);
    let found = files::contents(&file, most, &FILE_UNREADABLE, span, report)?;
    Some(Some(Zeroizing::new(found)))
}

/// The same for a secret, without the line end behind it.
pub(super) fn secret(
    fields: Fields<'_>,
    key: &str,
    base: Base<'_>,
    report: &mut Report,
) -> Option<Option<Zeroizing<Vec<u8>>>> {
    let Some(mut found) = contents(fields, key, FILE_MAX, base, report)? else { return Some(None) };
    files::private(&base.resolve(fields.text(key)?), fields.span_of(key), report);
    while found.last().is_some_and(|byte| matches!(byte, b'\n' | b'\r')) {
        found.pop();
    }
    Some(Some(found))
}

pub(super) fn wrong(fields: Fields<'_>, key: &str, why: &str, hint: &str, report: &mut Report) {
    let file = fields.text(key).unwrap_or_default();
    let message = format!("{file} cannot be used: {why}");
    report.add(&FILE_WRONG, fields.span_of(key), message, hint.to_owned());
}

/// The names of all issuers, for those who name one; also of issuers with problems.
pub(super) fn names(root: Fields<'_>) -> BTreeSet<Arc<str>> {
    root.named("issuer").into_iter().map(|entry| entry.name.into()).collect()
}

/// Warns about issuers whose tokens give no role and are asked for by no condition.
pub(super) fn unused(root: Fields<'_>, used: &dyn Fn(&str) -> bool, report: &mut Report) {
    for entry in root.named("issuer").iter().filter(|entry| !used(entry.name)) {
        let message = format!("no role comes from issuer `{}`", entry.name);
        let hint = format!("add `from = [\"issuer:{}/VALUE\"]` to a role", entry.name);
        report.add(&UNUSED, entry.span, message, hint);
    }
}

/// Whether a role can come from a token of `issuer`.
pub(super) fn grants(roles: &Roles, issuer: &str) -> bool {
    let from = |role| roles.grants(role).iter();
    roles
        .iter()
        .flat_map(from)
        .any(|grant| matches!(grant, Grant::Issuer { issuer: named, .. } if **named == *issuer))
}
