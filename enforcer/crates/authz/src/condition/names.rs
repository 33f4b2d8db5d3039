//! The names of the language, and those that a policy adds.

use std::ops::Range;
use std::sync::Arc;

use enforcer_condition::{ConditionProblem, Name, brief, listed, suggest};
use http::HeaderName;

use super::expr::{Attribute, ClaimPath, Flag, Held, Network, Time};
use crate::Vocabulary;

/// What a name stands for.
pub(super) enum Thing {
    Address,
    Networks(Network),
    Flag(Flag),
    Roles,
    Scopes,
    Text(Attribute),
    Incident,
    /// Of the type that its use asks for.
    Claim(ClaimPath),
}

/// Where names are looked up.
pub(super) struct Names<'a> {
    pub(super) vocabulary: &'a Vocabulary<'a>,
    pub(super) params: &'a [&'a str],
}

/// Names that stand alone.
const ALONE: [&str; 17] = [
    "ip",
    "mtls",
    "dpop",
    "anonymous",
    "roles",
    "scopes",
    "incident",
    "principal",
    "kind",
    "issuer",
    "application",
    "owner",
    "spiffe",
    "region",
    "method",
    "host",
    "path",
];

/// Names that need another one behind them, with an example.
const SPACES: [(&str, &str); 6] = [
    ("net", "net.office"),
    ("time", "time.work"),
    ("claims", "claims.tenant"),
    ("param", "param.id"),
    ("query", "query.page"),
    ("header", "header.x-tenant"),
];

/// What people write who know another language.
const MEANT: [(&str, &str); 18] = [
    ("source", "ip"),
    ("source_ip", "ip"),
    ("remote_addr", "ip"),
    ("client_ip", "ip"),
    ("role", "\"NAME\" in roles"),
    ("scope", "\"NAME\" in scopes"),
    ("country", "region"),
    ("verb", "method"),
    ("url", "path"),
    ("uri", "path"),
    ("user", "principal"),
    ("subject", "principal"),
    ("jwt", "claims.NAME"),
    ("token", "claims.NAME"),
    ("headers", "header.NAME"),
    ("params", "param.NAME"),
    ("networks", "net.NAME"),
    ("null", "has(x)"),
];

/// Headers that carry credentials, or that are stripped because a client could forge them.
const SECRETS: [&str; 6] =
    ["authorization", "proxy-authorization", "cookie", "dpop", "x-api-key", "enforcer-identity"];

impl Names<'_> {
    /// What `path` stands for.
    pub(super) fn find(&self, path: &[Name]) -> Result<Thing, ConditionProblem> {
        let Some((first, members)) = path.split_first() else {
            return Err(ConditionProblem::new(0..0, "a name is missing", "write an attribute"));
        };
        if let Some((_, example)) = SPACES.iter().find(|(space, _)| *space == first.text) {
            return match members {
                [] => Err(ConditionProblem::new(
                    first.span.clone(),
                    format!("`{}` alone means nothing", first.text),
                    format!("name one, such as `{example}`"),
                )),
                _ if first.text == "claims" => claim(members),
                [name] => self.member(&first.text, name),
                [_, second, ..] => Err(ConditionProblem::new(
                    second.span.clone(),
                    format!("`{}` has no members of members", first.text),
                    format!("write one name behind it, such as `{example}`"),
                )),
            };
        }
        let thing = self.alone(first)?;
        match members {
            [] => Ok(thing),
            [member, ..] => Err(ConditionProblem::new(
                member.span.clone(),
                format!("`{}` has no members", first.text),
                match thing {
                    Thing::Roles | Thing::Scopes => {
                        format!("write `\"{}\" in {}`", brief(&member.text), first.text)
                    }
                    Thing::Address
                    | Thing::Networks(_)
                    | Thing::Flag(_)
                    | Thing::Text(_)
                    | Thing::Incident
                    | Thing::Claim(_) => format!("write `{}` alone", first.text),
                },
            )),
        }
    }

    /// The role called `name`.
    pub(super) fn role(&self, name: &str, span: &Range<usize>) -> Result<Held, ConditionProblem> {
        let roles = self.vocabulary.roles;
        let found = roles
            .index(name)
            .and_then(|index| Some(Held { role: roles.role(index)?.clone(), index }));
        found.ok_or_else(|| {
            let known = roles.iter().map(|role| role.as_str());
            unknown("role", name, span, known)
        })
    }

    fn alone(&self, name: &Name) -> Result<Thing, ConditionProblem> {
        Ok(match &*name.text {
            "ip" => Thing::Address,
            "mtls" => Thing::Flag(Flag::Mtls),
            "dpop" => Thing::Flag(Flag::Dpop),
            "anonymous" => Thing::Flag(Flag::Anonymous),
            "roles" => Thing::Roles,
            "scopes" => Thing::Scopes,
            "incident" => Thing::Incident,
            "principal" => Thing::Text(Attribute::Principal),
            "kind" => Thing::Text(Attribute::Kind),
            "issuer" => Thing::Text(Attribute::Issuer),
            "application" => Thing::Text(Attribute::Application),
            "owner" => Thing::Text(Attribute::Owner),
            "spiffe" => Thing::Text(Attribute::Spiffe),
            "region" if self.vocabulary.has_regions => Thing::Text(Attribute::Region),
            "region" => {
                return Err(ConditionProblem::new(
                    name.span.clone(),
                    "without a region database `region` is never known",
                    "add `[region]` with `database = \"….mmdb\"`",
                ));
            }
            "method" => Thing::Text(Attribute::Method),
            "host" => Thing::Text(Attribute::Host),
            "path" => Thing::Text(Attribute::Path),
            _ => return Err(self.unknown(name)),
        })
    }

    fn unknown(&self, name: &Name) -> ConditionProblem {
        let text = &*name.text;
        let lower = text.to_ascii_lowercase();
        let Vocabulary { roles, networks, windows, .. } = self.vocabulary;
        let words = ALONE.into_iter().chain(["true", "false", "has"]);
        let words = words.chain(SPACES.map(|(space, _)| space));
        let meant = MEANT.iter().find(|(written, _)| *written == lower);
        let hint = if networks.contains_key(text) {
            format!("did you mean `net.{text}`?")
        } else if windows.contains_key(text) {
            format!("did you mean `time.{text}`?")
        } else if roles.index(text).is_some() {
            format!("did you mean `\"{text}\" in roles`?")
        } else if self.params.contains(&text) {
            format!("did you mean `param.{text}`?")
        } else if let Some((_, meant)) = meant {
            format!("did you mean `{meant}`?")
        } else if lower == "request" {
            "attributes stand alone: `method`, `path`, `header.NAME`".to_owned()
        } else if let Some(meant) = suggest(text, words) {
            format!("did you mean `{meant}`?")
        } else {
            format!("a text stands in quotes; attributes are: {}, and {}", ALONE.join(", "), {
                SPACES.map(|(space, _)| format!("{space}.NAME")).join(", ")
            })
        };
        ConditionProblem::new(
            name.span.clone(),
            format!("no attribute is called `{}`", brief(text)),
            hint,
        )
    }

    fn member(&self, space: &str, name: &Name) -> Result<Thing, ConditionProblem> {
        let Vocabulary { networks, windows, .. } = self.vocabulary;
        let (text, span) = (&*name.text, &name.span);
        match space {
            "net" => match networks.get_key_value(text) {
                Some((name, networks)) => {
                    let (name, networks) = (Arc::clone(name), Arc::clone(networks));
                    Ok(Thing::Networks(Network { name, networks }))
                }
                None => Err(unknown("net", text, span, networks.keys().map(|name| &**name))),
            },
            "time" => match windows.get_key_value(text) {
                Some((name, window)) => {
                    let (name, window) = (Arc::clone(name), Arc::clone(window));
                    Ok(Thing::Flag(Flag::Time(Time { name, window })))
                }
                None => Err(unknown("time", text, span, windows.keys().map(|name| &**name))),
            },
            "param" => match self.params.iter().find(|known| **known == text) {
                Some(known) => Ok(Thing::Text(Attribute::Param((*known).into()))),
                None => {
                    let hint = match suggest(text, self.params.iter().copied()) {
                        Some(meant) => format!("did you mean `{meant}`?"),
                        None if self.params.is_empty() => "the pattern has no `{NAME}`".to_owned(),
                        None => format!("the pattern has: {}", listed(self.params.iter().copied())),
                    };
                    let message = format!("the route's pattern has no `{{{}}}`", brief(text));
                    Err(ConditionProblem::new(span.clone(), message, hint))
                }
            },
            "query" if text.is_empty() => {
                Err(ConditionProblem::new(span.clone(), "a name is missing", "write `query.page`"))
            }
            "query" => Ok(Thing::Text(Attribute::Query(text.into()))),
            _ => header(text, span),
        }
    }
}

fn claim(members: &[Name]) -> Result<Thing, ConditionProblem> {
    if let Some(name) = members.get(ClaimPath::NAMES_MAX) {
        return Err(ConditionProblem::new(
            name.span.clone(),
            format!("a path to a claim has at most {} names", ClaimPath::NAMES_MAX),
            "no token nests so deep",
        ));
    }
    Ok(Thing::Claim(ClaimPath(members.iter().map(|name| name.text.as_str().into()).collect())))
}

fn header(text: &str, span: &Range<usize>) -> Result<Thing, ConditionProblem> {
    let Ok(name) = HeaderName::from_bytes(text.as_bytes()) else {
        let message = format!("`{}` is not the name of a header", brief(text));
        return Err(ConditionProblem::new(span.clone(), message, "write it as `header.x-tenant`"));
    };
    if SECRETS.contains(&name.as_str()) {
        let message = format!("no condition reads the header `{name}`");
        let hint = "ask for what it proves: `kind`, `principal`, `claims.NAME`, `dpop`";
        return Err(ConditionProblem::new(span.clone(), message, hint));
    }
    Ok(Thing::Text(Attribute::Header(name)))
}

fn unknown<'k>(
    section: &str,
    name: &str,
    span: &Range<usize>,
    known: impl Iterator<Item = &'k str> + Clone,
) -> ConditionProblem {
    let what = match section {
        "net" => "network",
        "time" => "time window",
        other => other,
    };
    let hint = match suggest(name, known.clone()) {
        Some(meant) => format!("did you mean `{meant}`?"),
        None => format!("define it under `[{section}]`, or use one of: {}", listed(known)),
    };
    ConditionProblem::new(span.clone(), format!("no {what} is called `{}`", brief(name)), hint)
}
