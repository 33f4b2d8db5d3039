//! `enforcer keys`: issue, list, show, rotate, revoke, import, scan.

mod import;
mod issue;
mod rotate;
mod scan;
mod told;

use clap::{Args, Subcommand};
use enforcer_admin::{Answer, Call};

use super::{Context, Exit, Failure, Table, mismatched, recorded};

use told::{joined, lines, or_none};

/// API keys
#[derive(Debug, Subcommand)]
pub(crate) enum Keys {
    /// Make a key; its secret is shown this once
    Issue(Box<issue::Issue>),
    /// Every key
    List(List),
    /// One key, and when and from where each of its secrets was last used
    Show(Show),
    /// Give a key another secret, shown this once; the old one lives on for a while
    Rotate(rotate::Rotate),
    /// End a key; in force before the command returns
    Revoke(Revoke),
    /// Make keys of secrets from elsewhere, known by their SHA-256
    Import(import::Import),
    /// Find leaked keys in files; works without an agent
    Scan(scan::Scan),
}

/// Every key
#[derive(Args, Debug)]
pub(crate) struct List {}

/// One key, and when and from where each of its secrets was last used
#[derive(Args, Debug)]
pub(crate) struct Show {
    /// Id or name
    which: String,
}

/// End a key; in force before the command returns
#[derive(Args, Debug)]
pub(crate) struct Revoke {
    /// Id or name
    which: String,
    /// Why; goes on record
    #[arg(long, value_name = "TEXT")]
    reason: String,
    /// Only say what it would end
    #[arg(long)]
    dry_run: bool,
}

impl Keys {
    pub(crate) fn execute(&self, context: &Context) -> Result<Exit, Failure> {
        match self {
            Self::Issue(verb) => verb.execute(context),
            Self::List(List {}) => list(context),
            Self::Show(verb) => verb.execute(context),
            Self::Rotate(verb) => verb.execute(context),
            Self::Revoke(verb) => verb.execute(context),
            Self::Import(verb) => verb.execute(context),
            Self::Scan(verb) => verb.execute(context),
        }
    }
}

fn list(context: &Context) -> Result<Exit, Failure> {
    let Answer::Keys(answer) = context.ask(&Call::KeyList)? else { return Err(mismatched()) };
    let rows = answer
        .keys
        .iter()
        .map(|key| {
            let last = key.secrets.iter().filter_map(|secret| secret.last_used).max();
            vec![
                key.id.to_string(),
                key.name.clone(),
                key.state.clone(),
                joined(&key.roles),
                if key.networks.is_empty() { "any".to_owned() } else { joined(&key.networks) },
                key.expires.map_or_else(|| "never".to_owned(), |end| end.to_string()),
                or_none(key.owner.as_deref()),
                last.map_or_else(|| "never".to_owned(), |at| at.to_string()),
            ]
        })
        .collect();
    let header = &["ID", "NAME", "STATE", "ROLES", "NETWORKS", "EXPIRES", "OWNER", "LAST USED"];
    context.printer.list(&answer.keys, &Table { header, rows })?;
    Ok(Exit::Done)
}

impl Show {
    fn execute(&self, context: &Context) -> Result<Exit, Failure> {
        let call = Call::KeyShow { which: self.which.clone() };
        let Answer::Key(key) = context.ask(&call)? else { return Err(mismatched()) };
        context.printer.item(&key, &lines(&key))?;
        Ok(Exit::Done)
    }
}

impl Revoke {
    fn execute(&self, context: &Context) -> Result<Exit, Failure> {
        let (which, reason) = (self.which.clone(), self.reason.clone());
        let answer = context.ask(&Call::KeyRevoke { which, reason, dry_run: self.dry_run })?;
        if let Answer::KeyRehearsed(rehearsed) = &answer {
            return told::rehearsed(context, rehearsed);
        }
        let Answer::Key(key) = answer else { return Err(mismatched()) };
        let mut lines = lines(&key);
        if let Some(first) = lines.first_mut() {
            first.insert_str(0, "revoked  ");
        }
        lines.push(format!("  audit     {}", recorded(key.audit)));
        lines.push("this cannot be undone; `enforcer keys issue` makes a new key".to_owned());
        context.printer.item(&key, &lines)?;
        Ok(Exit::Done)
    }
}
