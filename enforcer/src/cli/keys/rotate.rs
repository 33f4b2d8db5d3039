//! `enforcer keys rotate`: begin with a new secret, finish with the end of the old one.

use std::time::Duration;

use clap::Args;
use enforcer_admin::call::{KeyFinish, KeyRotate};
use enforcer_admin::{Answer, Call};

use super::super::quarantine::parse_span;
use super::super::{Context, Exit, Failure, mismatched, recorded};
use super::told;

/// Give a key another secret, shown this once; the old one lives on for a while
///
/// The key keeps its id, roles, quota and history. `enforcer keys show` tells whether, when and
/// from where the old secret is still used.
#[derive(Args, Debug)]
pub(crate) struct Rotate {
    /// Id or name
    which: String,
    /// How long the old secret lives on: `24h`, `0` for not at all; by default as the policy says
    #[arg(long, value_name = "TIME", value_parser = parse_grace, conflicts_with = "finish")]
    grace: Option<Duration>,
    /// End the old secret now
    #[arg(long)]
    finish: bool,
    /// Even when the old secret was used within the last hour
    #[arg(short, long, requires = "finish")]
    yes: bool,
    /// Only say what would be done
    #[arg(long)]
    dry_run: bool,
}

impl Rotate {
    pub(super) fn execute(&self, context: &Context) -> Result<Exit, Failure> {
        if self.finish { self.finish(context) } else { self.begin(context) }
    }

    fn begin(&self, context: &Context) -> Result<Exit, Failure> {
        let call = Call::KeyRotate(KeyRotate {
            which: self.which.clone(),
            grace_seconds: self.grace.map(|grace| grace.as_secs()),
            dry_run: self.dry_run,
        });
        let answer = context.ask(&call)?;
        if let Answer::KeyRehearsed(rehearsed) = &answer {
            return told::rehearsed(context, rehearsed);
        }
        let Answer::KeyIssued(issued) = answer else { return Err(mismatched()) };
        let id = issued.key.id;
        let retiring = issued.key.secrets.iter().find(|secret| secret.state == "retiring");
        let more = match retiring.and_then(|secret| secret.ends) {
            Some(end) => vec![
                format!("the old secret ends at {end}"),
                format!("  who still uses it:  enforcer keys show {id}"),
                format!("  end it earlier:     enforcer keys rotate {id} --finish"),
            ],
            None => vec!["the old secret has ended, and its requests were cut".to_owned()],
        };
        told::show_credential(context, &issued, more)
    }

    fn finish(&self, context: &Context) -> Result<Exit, Failure> {
        let call = Call::KeyFinish(KeyFinish {
            which: self.which.clone(),
            even_if_used: self.yes,
            dry_run: self.dry_run,
        });
        let answer = context.ask(&call)?;
        if let Answer::KeyRehearsed(rehearsed) = &answer {
            return told::rehearsed(context, rehearsed);
        }
        let Answer::Key(key) = answer else { return Err(mismatched()) };
        let mut lines = told::lines(&key);
        lines.push(format!("  audit     {}", recorded(key.audit)));
        lines.push("the old secret has ended; this cannot be undone".to_owned());
        context.printer.item(&key, &lines)?;
        Ok(Exit::Done)
    }
}

fn parse_grace(text: &str) -> Result<Duration, String> {
    let none = (text == "0").then_some(Duration::ZERO);
    none.or_else(|| parse_span(text)).ok_or_else(|| "write a time such as `24h`, or `0`".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_grace_is_a_time_or_nothing_at_all() {
        assert_eq!(parse_grace("0"), Ok(Duration::ZERO));
        assert_eq!(parse_grace("0s"), Ok(Duration::ZERO));
        assert_eq!(parse_grace("1h30m"), Ok(Duration::from_secs(5_400)));
        for bad in ["", "24", "-1h", "soon"] {
            assert!(parse_grace(bad).is_err(), "{bad}");
        }
    }
}
