//! Which records are wanted: the filters that `search`, `stats` and `trail` share.

use std::io::Read;
use std::ops::RangeInclusive;
use std::path::PathBuf;

use clap::{Args, ValueEnum};
use enforcer_audit::{Condition, Order, Query, Selector, Verdict};
use enforcer_authn::{FingerprintKey, Presented, bearer};
use enforcer_model::Timestamp;
use zeroize::Zeroizing;

use crate::cli::trail::parse_begin;
use crate::cli::{Context, Failure};

/// What is read of a credential on standard input.
const INPUT_MAX: u64 = 64 * 1024;

/// A stretch of time.
#[derive(Args, Clone, Debug)]
pub(crate) struct Time {
    /// From then on: `24h` ago, or a time such as `2026-01-31T12:00:00Z`
    #[arg(long, value_name = "TIME", value_parser = parse_begin)]
    pub(crate) since: Option<Timestamp>,
    /// Up to then, in the same forms
    #[arg(long, value_name = "TIME", value_parser = parse_begin)]
    pub(crate) until: Option<Timestamp>,
}

/// A credential that is looked for without being named.
#[derive(Args, Clone, Debug)]
pub(crate) struct Credential {
    /// Read a key or token from standard input (`-`) and look for its fingerprint; it is neither
    /// stored nor sent anywhere
    #[arg(long, value_name = "-", value_parser = ["-"])]
    credential: Option<String>,
    /// The folder with the agent's `fingerprint.key`; its state folder by default
    #[arg(long, value_name = "FOLDER", requires = "credential")]
    state: Option<PathBuf>,
}

/// Filters; a record must meet all that are given.
#[derive(Args, Clone, Debug)]
pub(crate) struct Filters {
    /// Whom or what it has to do with: an address or network, `key:ID`, `principal:NAME`,
    /// `token:JTI`, `fingerprint:DIGITS`, `request:ID`, `route:NAME`, `rule:NAME`,
    /// `incident:ID`, `level:N`, the id of a decision, finding or block; given more than once, it has to do with all of them
    #[arg(long, value_name = "SELECTOR")]
    pub(crate) who: Vec<Selector>,
    #[command(flatten)]
    pub(crate) credential: Credential,
    #[command(flatten)]
    pub(crate) time: Time,
    /// Of a class such as `http` or `block`; one of them, when given more than once
    #[arg(long, value_name = "CLASS")]
    class: Vec<String>,
    /// Requests with this status: `404`, `5xx` or `400-499`; one of them, when given more than once
    #[arg(long, value_name = "STATUS", value_parser = parse_status)]
    status: Vec<RangeInclusive<u16>>,
    /// Requests of this route of the policy
    #[arg(long, value_name = "NAME")]
    route: Option<String>,
    /// Requests that were served, or that were refused here
    #[arg(long, value_enum)]
    verdict: Option<VerdictName>,
    /// Requests refused for this reason, such as `key-unknown`; one of them, when given more than
    /// once
    #[arg(long, value_name = "REASON")]
    reason: Vec<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum VerdictName {
    /// The answer is the upstream's or the cache's
    Served,
    /// The answer is ours
    Refused,
}

impl Time {
    /// For the record of a look.
    pub(crate) fn told(&self) -> impl Iterator<Item = String> + use<> {
        let since = self.since.map(|since| format!("since {since}"));
        since.into_iter().chain(self.until.map(|until| format!("until {until}")))
    }
}

impl Filters {
    /// The query that these filters are.
    pub(crate) fn query(&self, context: &Context, order: Order) -> Result<Query, Failure> {
        let mut conditions: Vec<Condition> = self.who.iter().cloned().map(Condition::Who).collect();
        conditions.extend(self.credential.selector(context)?.map(Condition::Who));
        conditions.extend(self.route.clone().map(|route| Condition::Who(Selector::Route(route))));
        if !self.class.is_empty() {
            conditions.push(Condition::Class(self.class.clone()));
        }
        if !self.status.is_empty() {
            conditions.push(Condition::Status(self.status.clone()));
        }
        if !self.reason.is_empty() {
            conditions.push(Condition::Reason(self.reason.clone()));
        }
        conditions.extend(self.verdict.map(|verdict| {
            Condition::Verdict(match verdict {
                VerdictName::Served => Verdict::Served,
                VerdictName::Refused => Verdict::Refused,
            })
        }));
        let Time { since, until } = self.time;
        Ok(Query { conditions, since, until, order, ..Query::default() })
    }

    /// What is looked for, as the record of the look has it. Of a credential that is its fingerprint.
    pub(crate) fn told(&self, query: &Query) -> Vec<String> {
        let who = query.conditions.iter().filter_map(|condition| match condition {
            Condition::Who(selector) => Some(selector.to_string()),
            Condition::Any(_)
            | Condition::Class(_)
            | Condition::Reason(_)
            | Condition::Segment(_)
            | Condition::Status(_)
            | Condition::Verdict(_) => None,
        });
        let status = |range: &RangeInclusive<u16>| {
            if range.start() == range.end() {
                format!("status {}", range.start())
            } else {
                format!("status {}-{}", range.start(), range.end())
            }
        };
        let verdict = self.verdict.map(|verdict| match verdict {
            VerdictName::Served => "served".to_owned(),
            VerdictName::Refused => "refused".to_owned(),
        });
        who.chain(self.class.iter().map(|class| format!("class {class}")))
            .chain(self.status.iter().map(status))
            .chain(self.reason.iter().map(|reason| format!("reason {reason}")))
            .chain(verdict)
            .chain(self.time.told())
            .collect()
    }
}

impl Credential {
    /// Reads the credential and makes its fingerprint.
    pub(crate) fn selector(&self, context: &Context) -> Result<Option<Selector>, Failure> {
        if self.credential.is_none() {
            return Ok(None);
        }
        let state = self.state.clone().map_or_else(|| context.state(), Ok)?;
        let file = state.join("fingerprint.key");
        let key = FingerprintKey::load(&file).map_err(|error| Failure::because(&error))?;
        let key = key.ok_or_else(|| {
            Failure::failed(format!("there is no {}", file.display())).hint(
                "a credential is looked for on the host that saw it, or with `--state` and a copy \
                 of that file",
            )
        })?;
        let mut input = Zeroizing::new(Vec::new());
        let read = std::io::stdin().lock().take(INPUT_MAX).read_to_end(&mut input);
        read.map_err(|error| Failure::failed(format!("cannot read the credential: {error}")))?;
        let input = input.trim_ascii();
        // Alone, or as it is copied from a request.
        let credential = bearer(input).unwrap_or(input);
        if credential.is_empty() || credential.iter().any(u8::is_ascii_whitespace) {
            return Err(Failure::usage("standard input holds no single credential")
                .hint("give the key or token alone, on one line"));
        }
        let fingerprint = Presented::bearer(credential).fingerprint(&key).to_string();
        Ok(Some(Selector::Fingerprint(fingerprint)))
    }
}

fn parse_status(text: &str) -> Result<RangeInclusive<u16>, String> {
    let one = |text: &str| text.parse::<u16>().ok().filter(|status| (100..600).contains(status));
    let range = match (text.strip_suffix("xx"), text.split_once('-')) {
        (Some(class), _) => class
            .parse::<u16>()
            .ok()
            .filter(|class| (1..6).contains(class) && text.len() == 3)
            .map(|class| class * 100..=class * 100 + 99),
        (None, Some((first, last))) => one(first).zip(one(last)).map(|(first, last)| first..=last),
        (None, None) => one(text).map(|status| status..=status),
    };
    let range = range.filter(|range| !range.is_empty());
    range.ok_or_else(|| "write it as `404`, `5xx` or `400-499`".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_is_one_a_class_or_a_range() {
        assert_eq!(parse_status("404"), Ok(404..=404));
        assert_eq!(parse_status("5xx"), Ok(500..=599));
        assert_eq!(parse_status("400-499"), Ok(400..=499));
        for text in ["", "6xx", "xx", "05xx", "99", "600", "499-400", "4x"] {
            assert!(parse_status(text).is_err(), "{text}");
        }
    }
}
