//! `enforcer audit erase`: a personal value goes out of the log for good, and every proof stays.

use std::io::Read as _;
use std::net::IpAddr;

use clap::Args;
use enforcer_admin::call::{self, ErasedAnswer, PersonalValue};
use enforcer_admin::{Answer, Call};
use enforcer_model::PersonalKind;

use crate::cli::confirm::confirm;
use crate::cli::{Context, Exit, Failure, counted, mismatched, recorded};

/// Longest value that is read from the standard input.
const VALUE_MAX: u64 = 16 << 10;

/// Erase a personal value from the log, for good
///
/// The keys of the value are destroyed in every segment, and of every text that names it. No stored
/// byte of the records changes: every proof and signature holds as before, and `~` with eleven
/// characters stands where the value was. A receipt without the value is on record. What others
/// exported or backed up before is theirs to erase.
#[derive(Args, Debug)]
pub(crate) struct Erase {
    /// One address, or a caller's name as records have it; `-` reads it from the standard input, so
    /// that no other process sees it
    value: String,
    /// What it is: `address`, `principal`, `text` or `user-agent`; by default `address` where it is
    /// one, else `principal`
    #[arg(long, value_name = "KIND")]
    kind: Option<PersonalKind>,
    /// Why; goes on record, so without the value
    #[arg(long, value_name = "TEXT")]
    reason: String,
    /// Only say what it would erase
    #[arg(long)]
    dry_run: bool,
    /// Do not ask
    #[arg(short, long)]
    yes: bool,
}

impl Erase {
    pub(super) fn execute(&self, context: &Context) -> Result<Exit, Failure> {
        let value = self.value()?;
        let kind = self.kind.unwrap_or_else(|| match value.parse::<IpAddr>() {
            Ok(_) => PersonalKind::Address,
            Err(_) => PersonalKind::Principal,
        });
        check(kind, &value, &self.reason)?;
        if !self.dry_run && !self.yes {
            let would = self.ask(context, kind, &value, true)?;
            let question = format!(
                "{} in {} will be unreadable for ever; type `erase` to go on:",
                counted(would.handles, "handle"),
                counted(would.segments, "segment")
            );
            confirm(context, &question, |answer| answer == "erase")
                .map_err(|failure| failure.hint("say `--yes` if that is meant"))?;
        }
        let erased = self.ask(context, kind, &value, self.dry_run)?;
        context.printer.item(&erased, &told(&erased))?;
        let is_whole = erased.dry_run || erased.audit.is_some();
        Ok(if is_whole { Exit::Done } else { Exit::PartlyApplied })
    }

    fn value(&self) -> Result<String, Failure> {
        if self.value != "-" {
            return Ok(self.value.clone());
        }
        let mut text = String::new();
        std::io::stdin()
            .lock()
            .take(VALUE_MAX)
            .read_to_string(&mut text)
            .map_err(|error| Failure::failed(format!("cannot read the value: {error}")))?;
        Ok(text.strip_suffix('\n').unwrap_or(&text).to_owned())
    }

    fn ask(
        &self,
        context: &Context,
        kind: PersonalKind,
        value: &str,
        dry_run: bool,
    ) -> Result<ErasedAnswer, Failure> {
        let (value, reason) = (PersonalValue(value.to_owned()), self.reason.clone());
        let call = Call::AuditErase(call::Erase { kind, value, reason, dry_run });
        let Answer::Erased(erased) = context.ask(&call)? else { return Err(mismatched()) };
        Ok(erased)
    }
}

/// Refuses what could never be found, and a reason that would keep the value.
fn check(kind: PersonalKind, value: &str, reason: &str) -> Result<(), Failure> {
    if value.is_empty() {
        return Err(Failure::usage("the value is empty"));
    }
    if value.parse::<enforcer_model::Prefix>().is_ok_and(|network| !network.is_single())
        && kind != PersonalKind::Text
    {
        return Err(Failure::usage("a network is not erased").hint("name each address of it"));
    }
    if kind == PersonalKind::Principal && value.starts_with("key:") {
        return Err(Failure::usage("the id of an API key is no personal value, and stays")
            .hint("the name of its owner is in the store of keys: `enforcer keys revoke`"));
    }
    if reason.contains(value) {
        return Err(Failure::usage("the reason names the value, and would keep it on record")
            .hint("write the number of the case, such as `--reason 'request 2026-17'`"));
    }
    Ok(())
}

fn told(erased: &ErasedAnswer) -> Vec<String> {
    let (handles, segments) =
        (counted(erased.handles, "handle"), counted(erased.segments, "segment"));
    if erased.dry_run {
        return vec![format!("would erase  {} of an {}: {handles}", segments, erased.kind)];
    }
    vec![
        format!("erased   {handles} in {segments}; kind {}", erased.kind),
        "  proofs  hold as before: no stored byte of a record was changed".to_owned(),
        "  left    what is in force elsewhere, such as a block, and copies that were made before"
            .to_owned(),
        format!("  audit   {}", recorded(erased.audit)),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_erased_is_refused_with_what_to_do() {
        use PersonalKind::{Address, Principal};
        for (kind, value, reason, wanted) in [
            (Principal, "203.0.113.0/24", "r", "network"),
            (Address, "2001:db8::/32", "r", "network"),
            (Principal, "key:k7Qx2mP9aB3c", "r", "API key"),
            (Principal, "alice", "asked by alice", "names the value"),
            (Principal, "", "r", "empty"),
        ] {
            let refused = check(kind, value, reason).unwrap_err();
            assert!(refused.message.contains(wanted), "{value}");
        }
        assert!(check(Address, "203.0.113.7", "request 17").is_ok());
    }

    #[test]
    fn the_answer_tells_how_much_and_where_it_is_on_record() {
        let erased = ErasedAnswer {
            kind: PersonalKind::Address,
            handles: 3,
            segments: 1,
            dry_run: false,
            audit: Some(9),
        };

        let told = told(&erased).join("\n");

        assert!(told.contains("3 handles in 1 segment") && told.contains("#9"), "{told}");
    }
}
