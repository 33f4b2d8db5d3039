//! `enforcer keys`: issue, list, show, revoke.

use clap::{Args, Subcommand};
use enforcer_admin::call::{Key, KeyIssue};
use enforcer_admin::{Answer, Call};
use enforcer_model::{Clock, Prefix, SystemClock, Timestamp};

use super::quarantine::parse_span;
use super::{Context, Exit, Failure, Table, mismatched, recorded};

/// API keys
#[derive(Debug, Subcommand)]
pub(crate) enum Keys {
    /// Make a key; its secret is shown this once
    Issue(Issue),
    /// Every key
    List(List),
    /// One key
    Show(Show),
    /// End a key; in force before the command returns
    Revoke(Revoke),
}

/// Make a key; its secret is shown this once
#[derive(Args, Debug)]
pub(crate) struct Issue {
    /// A name nobody else has
    #[arg(long)]
    name: String,
    /// A role of the policy; may be given more than once
    #[arg(long = "role", value_name = "ROLE", required = true)]
    roles: Vec<String>,
    /// A network the key may be used from; may be given more than once
    #[arg(long = "network", value_name = "NETWORK")]
    networks: Vec<Prefix>,
    /// When it ends: `90d`, or a time such as `2027-01-31T12:00:00Z`; never by default
    #[arg(long, value_name = "TIME", value_parser = parse_end)]
    expires: Option<Timestamp>,
    /// Make an `enf_test_…` key
    #[arg(long)]
    test: bool,
}

/// Every key
#[derive(Args, Debug)]
pub(crate) struct List {}

/// One key
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
}

impl Keys {
    pub(crate) fn execute(&self, context: &Context) -> Result<Exit, Failure> {
        match self {
            Self::Issue(verb) => verb.execute(context),
            Self::List(List {}) => list(context),
            Self::Show(verb) => verb.execute(context),
            Self::Revoke(verb) => verb.execute(context),
        }
    }
}

impl Issue {
    fn execute(&self, context: &Context) -> Result<Exit, Failure> {
        let call = Call::KeyIssue(KeyIssue {
            name: self.name.clone(),
            roles: self.roles.clone(),
            networks: self.networks.clone(),
            expires: self.expires,
            test: self.test,
        });
        let Answer::KeyIssued(issued) = context.ask(&call)? else { return Err(mismatched()) };
        if context.printer.is_for_programs() {
            context.printer.item(&issued, &[])?;
            return Ok(Exit::Done);
        }
        // The credential alone on stdout, so that `$(enforcer keys issue …)` is the key.
        let mut lines = told(&issued.key);
        lines.push(format!("  audit     {}", recorded(issued.audit)));
        lines.push(format!("undo: enforcer keys revoke {} --reason 'not needed'", issued.key.id));
        lines.push("the key is shown this once; keep it where secrets are kept:".to_owned());
        for line in lines {
            context.printer.say(&line);
        }
        context.printer.data(&issued.credential)?;
        Ok(Exit::Done)
    }
}

fn list(context: &Context) -> Result<Exit, Failure> {
    let Answer::Keys(answer) = context.ask(&Call::KeyList)? else { return Err(mismatched()) };
    let rows = answer
        .keys
        .iter()
        .map(|key| {
            vec![
                key.id.to_string(),
                key.name.clone(),
                key.state.clone(),
                joined(&key.roles),
                if key.networks.is_empty() { "any".to_owned() } else { joined(&key.networks) },
                key.expires.map_or_else(|| "never".to_owned(), |end| end.to_string()),
            ]
        })
        .collect();
    let header = &["ID", "NAME", "STATE", "ROLES", "NETWORKS", "EXPIRES"];
    context.printer.list(&answer.keys, &Table { header, rows })?;
    Ok(Exit::Done)
}

impl Show {
    fn execute(&self, context: &Context) -> Result<Exit, Failure> {
        let call = Call::KeyShow { which: self.which.clone() };
        let Answer::Key(key) = context.ask(&call)? else { return Err(mismatched()) };
        context.printer.item(&key, &told(&key))?;
        Ok(Exit::Done)
    }
}

impl Revoke {
    fn execute(&self, context: &Context) -> Result<Exit, Failure> {
        let call = Call::KeyRevoke { which: self.which.clone(), reason: self.reason.clone() };
        let Answer::Key(key) = context.ask(&call)? else { return Err(mismatched()) };
        let mut lines = told(&key);
        if let Some(first) = lines.first_mut() {
            first.insert_str(0, "revoked  ");
        }
        lines.push(format!("  audit     {}", recorded(key.audit)));
        lines.push("this cannot be undone; `enforcer keys issue` makes a new key".to_owned());
        context.printer.item(&key, &lines)?;
        Ok(Exit::Done)
    }
}

fn told(key: &Key) -> Vec<String> {
    let mut lines = vec![
        format!("key:{}  {}  {}", key.id, key.name, key.state),
        format!("  roles     {}", joined(&key.roles)),
        format!("  created   {}", key.created),
    ];
    if !key.networks.is_empty() {
        lines.push(format!("  networks  {}", joined(&key.networks)));
    }
    if let Some(end) = key.expires {
        lines.push(format!("  expires   {end}"));
    }
    if let Some(end) = key.revoked {
        let why = key.revoked_because.as_deref().unwrap_or("no reason given");
        lines.push(format!("  revoked   {end}: {why}"));
    }
    if !key.unknown_roles.is_empty() {
        let unknown = joined(&key.unknown_roles);
        lines.push(format!("  the policy in force knows no role {unknown}: it opens nothing"));
    }
    lines
}

fn joined(things: &[impl ToString]) -> String {
    things.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

fn parse_end(text: &str) -> Result<Timestamp, String> {
    match parse_span(text) {
        Some(span) => Ok(SystemClock.now().wall.saturating_add(span)),
        None => text.parse::<Timestamp>().map_err(|error| format!("{error}, or as `90d`")),
    }
}
