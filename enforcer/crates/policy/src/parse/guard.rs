//! `[guard]`: whom no block may hit.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use enforcer_model::Prefix;

use crate::codes::GUARDS_EVERYTHING;
use crate::grammar::{Fields, Key, NETWORK, Need, PERCENT, Shape};
use crate::parse::Base;
use crate::parse::kernel::check_count;
use crate::problem::Report;

/// Whom no block may hit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Guard {
    /// Named lists of networks; also the kernel's allow list.
    pub never_block: Vec<NeverBlock>,
    /// A block that hits more of the recent clients than this is refused.
    pub max_clients: Percent,
}

/// One list of networks that are never blocked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NeverBlock {
    /// As the policy names it.
    pub name: Arc<str>,
    /// At least one.
    pub networks: Vec<Prefix>,
    /// Where it stands in the policy file, for refusals that name it.
    pub line: usize,
}

/// A share from 1 % to 100 %.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Percent(u8);

/// The text is not a share from 1 % to 100 %.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a percentage; write it as `20%`, from `1%` to `100%`")]
pub struct PercentError(String);

pub(super) static KEYS: &[Key] = &[
    Key::optional(
        "never_block",
        Shape::Named(&Shape::List(&Shape::Text(&NETWORK))),
        "Named lists of addresses and networks that no block may hit.",
    ),
    Key::with_default(
        "max_clients",
        Shape::Text(&PERCENT),
        Need::Text("20%"),
        "Refuse a block that hits more of the clients seen in the last ten minutes.",
    ),
];

pub(super) fn read(fields: Fields<'_>, base: Base<'_>, report: &mut Report) -> Option<Guard> {
    let mut never_block = Vec::new();
    for entry in fields.named("never_block") {
        let mut networks = Vec::new();
        for (text, span) in entry.texts() {
            let Ok(network) = text.parse::<Prefix>() else { continue };
            if network.length() == 0 {
                report.add(
                    &GUARDS_EVERYTHING,
                    span,
                    format!("with `{text}` in `{}` nobody can be blocked", entry.name),
                    "name the networks that must stay reachable".to_owned(),
                );
            }
            networks.push(network);
        }
        let line = base.text.place(entry.span).line;
        never_block.push(NeverBlock { name: entry.name.into(), networks, line });
    }
    let networks = never_block.iter().flat_map(|list: &NeverBlock| &list.networks);
    check_count(&networks, "are never to be blocked", fields, "never_block", report);
    Some(Guard { never_block, max_clients: fields.parsed("max_clients")? })
}

impl Percent {
    /// Of hundred.
    pub const fn get(self) -> u8 {
        self.0
    }
}

impl FromStr for Percent {
    type Err = PercentError;

    fn from_str(text: &str) -> Result<Self, PercentError> {
        let digits = text.strip_suffix('%').filter(|digits| !digits.starts_with(['+', '0']));
        let share = digits.and_then(|digits| digits.parse().ok());
        share
            .filter(|share| (1..=100).contains(share))
            .map(Self)
            .ok_or_else(|| PercentError(text.into()))
    }
}

impl fmt::Display for Percent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}%", self.0)
    }
}
