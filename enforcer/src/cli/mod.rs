//! The command line: one file for each verb, one place for options, exit codes and errors.

mod audit;
mod blocks;
mod cache;
mod certs;
mod confirm;
mod detach;
mod doctor;
mod endpoint;
mod escape;
mod explain;
mod failure;
mod findings;
mod generate;
mod incident;
mod init;
mod kernel;
mod keys;
mod limits;
mod notify;
mod output;
mod pinned;
mod policy;
mod profile;
mod progress;
mod quarantine;
mod record;
mod release;
mod rules;
mod run;
mod status;
mod talkers;
mod tally;
mod tokens;
mod trail;
mod upstream;
mod witness;

use std::fs;
use std::io::ErrorKind;
use std::path::PathBuf;
use std::process::ExitCode;

use anstream::ColorChoice;
use clap::{Args, CommandFactory, Parser, Subcommand};
use enforcer_admin::{Answer, Call, CallError};
use enforcer_policy::LoadError;

use crate::paths::Places;

pub(crate) use failure::{Exit, Failure, chain};
pub(crate) use output::{Format, Printed, Printer, Table};
pub(crate) use quarantine::span;

/// eBPF-assisted host-level API traffic enforcer.
#[derive(Debug, Parser)]
#[command(name = "enforcer", version = version(), after_help = AFTER_HELP, arg_required_else_help = true)]
pub(crate) struct Cli {
    #[command(flatten)]
    options: Options,
    #[command(subcommand)]
    verb: Verb,
}

const AFTER_HELP: &str = "\
Exit codes: 0 done, 1 failed, 2 usage, 3 nothing matched, 4 refused by a guard,
            5 agent not reachable, 6 partly applied, 7 verification failed, 8 timed out waiting";

/// Options of every verb.
#[derive(Args, Clone, Debug)]
pub(crate) struct Options {
    /// How answers are printed; `auto` is a table on a terminal and plain text in a pipe
    #[arg(short, long, global = true, value_enum, default_value_t = Format::Auto)]
    output: Format,
    /// Short for `-o json`
    #[arg(long, global = true, conflicts_with = "output")]
    json: bool,
    /// The agent's admin socket, such as `unix:/run/enforcer/admin.sock`
    #[arg(long, global = true, value_name = "SOCKET")]
    agent: Option<String>,
    /// The policy file
    #[arg(long, global = true, value_name = "FILE")]
    policy: Option<PathBuf>,
    /// Never use colour
    #[arg(long, global = true)]
    no_color: bool,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Write a first policy and a certificate for a test
    Init(init::Init),
    /// Serve, in the foreground
    Run(run::Run),
    /// How the agent is, read back from where it acts
    Status(status::Status),
    /// Who sends most, from the kernel's table, again each second
    Top(status::Top),
    /// What would keep the agent from working here, each with its fix
    Doctor(doctor::Doctor),
    /// Shut out an address, a network or a key
    Quarantine(quarantine::Quarantine),
    /// End a block by id or target
    Release(release::Release),
    /// Every block, as the kernel and layer 7 hold it
    Blocks(blocks::Blocks),
    /// Incidents: what was found, what was decided about it; and the incident level
    #[command(subcommand)]
    Incident(incident::Incident),
    /// What rules and profiles have found
    #[command(subcommand)]
    Findings(findings::Findings),
    /// Rules of detection: which, what they do, what they would have done
    #[command(subcommand)]
    Rules(rules::Rules),
    /// What is usual for an identity, and who is unusual today
    #[command(subcommand)]
    Profile(profile::Profile),
    /// Disable endpoints, or let them be used less, for a while
    #[command(subcommand)]
    Endpoint(endpoint::Endpoint),
    /// Upstreams and their hosts: how they do, taking them out and back
    #[command(subcommand)]
    Upstream(upstream::Upstream),
    /// Certificates of listeners: which, until when, new files
    #[command(subcommand)]
    Certs(certs::Certs),
    /// Answers that are kept: how many, getting rid of some
    #[command(subcommand)]
    Cache(cache::Cache),
    /// The kernel half: how it is, put in force, upgraded, taken off this host
    #[command(subcommand)]
    Kernel(kernel::Kernel),
    /// Take the kernel half off this host, blocks and all, where no agent runs
    Detach(detach::Detach),
    /// API keys
    #[command(subcommand)]
    Keys(keys::Keys),
    /// Tokens of issuers: take back, list, look into
    #[command(subcommand)]
    Tokens(tokens::Tokens),
    /// Limits of callers: how they stand, other numbers for a while
    #[command(subcommand)]
    Limits(limits::Limits),
    /// Receivers of notices: how they do, trying them out, sending again
    #[command(subcommand)]
    Notify(notify::Notify),
    /// Check, test, explain and compare policies, or put one in force
    #[command(subcommand)]
    Policy(policy::Policy),
    /// Verify, read and export the audit log
    #[command(subcommand)]
    Audit(audit::Audit),
    /// Everything one token, key, address, request or block did, from the audit log
    Trail(Box<trail::Trail>),
    /// Cosign the audit logs of other hosts, so that they cannot be changed in silence
    #[command(subcommand)]
    Witness(witness::Witness),
    /// What an error code means and what to do, or why a recorded request got its answer
    Explain(explain::Explain),
    /// Shell completions for bash, zsh, fish, …
    Completions(generate::Completions),
    #[command(hide = true)]
    Gen(generate::Generate),
}

/// What a verb has at hand.
#[derive(Debug)]
pub(crate) struct Context {
    pub(crate) options: Options,
    pub(crate) places: Places,
    pub(crate) printer: Printer,
}

/// Parses the arguments, does what they say, and turns the outcome into an exit code.
pub(crate) fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            // clap prints help to stdout and usage errors to stderr, with its own codes 0 and 2.
            let code = u8::try_from(error.exit_code()).unwrap_or(2);
            return if error.print().is_ok() { code.into() } else { Exit::Failed.into() };
        }
    };
    let format = if cli.options.json { Format::Json } else { cli.options.output };
    let color = if cli.options.no_color { ColorChoice::Never } else { ColorChoice::Auto };
    let printer = Printer::new(format, color);
    let context = Context { options: cli.options, places: Places::of_this_user(), printer };
    let outcome = match cli.verb {
        Verb::Init(verb) => verb.execute(&context),
        Verb::Run(verb) => verb.execute(&context),
        Verb::Status(verb) => verb.execute(&context),
        Verb::Top(verb) => verb.execute(&context),
        Verb::Doctor(verb) => verb.execute(&context),
        Verb::Quarantine(verb) => verb.execute(&context),
        Verb::Release(verb) => verb.execute(&context),
        Verb::Blocks(verb) => verb.execute(&context),
        Verb::Incident(verb) => verb.execute(&context),
        Verb::Findings(verb) => verb.execute(&context),
        Verb::Rules(verb) => verb.execute(&context),
        Verb::Profile(verb) => verb.execute(&context),
        Verb::Endpoint(verb) => verb.execute(&context),
        Verb::Upstream(verb) => verb.execute(&context),
        Verb::Certs(verb) => verb.execute(&context),
        Verb::Cache(verb) => verb.execute(&context),
        Verb::Kernel(verb) => verb.execute(&context),
        Verb::Detach(verb) => verb.execute(&context),
        Verb::Keys(verb) => verb.execute(&context),
        Verb::Tokens(verb) => verb.execute(&context),
        Verb::Limits(verb) => verb.execute(&context),
        Verb::Notify(verb) => verb.execute(&context),
        Verb::Policy(verb) => verb.execute(&context),
        Verb::Audit(verb) => verb.execute(&context),
        Verb::Trail(verb) => verb.execute(&context),
        Verb::Witness(verb) => verb.execute(&context),
        Verb::Explain(verb) => verb.execute(&context),
        Verb::Completions(verb) => verb.execute(&context),
        Verb::Gen(verb) => verb.execute(&context),
    };
    match outcome {
        Ok(exit) => exit.into(),
        Err(failure) => {
            context.printer.failure(&failure);
            failure.exit.into()
        }
    }
}

impl Context {
    /// The policy file that was named, or this user's own.
    pub(crate) fn policy_file(&self) -> PathBuf {
        self.options.policy.clone().unwrap_or_else(|| self.places.policy.clone())
    }

    /// The admin socket: as named, as the policy says, or this user's own.
    pub(crate) fn socket(&self) -> Result<PathBuf, Failure> {
        if let Some(named) = &self.options.agent {
            let path = named.strip_prefix("unix:").unwrap_or(named);
            if path.contains("://") {
                return Err(Failure::usage(format!("`{named}` is not a socket"))
                    .hint("write it as `unix:/run/enforcer/admin.sock`"));
            }
            return Ok(path.into());
        }
        let policy = self.policy().map_err(|failure| match failure.hint {
            Some(_) => failure,
            None => failure.hint("`--agent unix:PATH` reaches an agent without its policy file"),
        })?;
        Ok(policy
            .map_or_else(|| self.places.socket.clone(), |policy| policy.agent().socket.clone()))
    }

    /// The state directory that the policy names, or this user's own.
    pub(crate) fn state(&self) -> Result<PathBuf, Failure> {
        let policy = self.policy()?;
        Ok(policy.map_or_else(|| self.places.state.clone(), |policy| policy.agent().state.clone()))
    }

    /// Where the policy pins maps and links, or the usual place.
    pub(crate) fn pins(&self) -> Result<PathBuf, Failure> {
        let configured = self.policy()?.and_then(|policy| Some(policy.kernel()?.pins.clone()));
        Ok(configured.unwrap_or_else(|| "/sys/fs/bpf/enforcer".into()))
    }

    /// The policy, to know where things are: the one that was named, which must load, or this user's
    /// own, where it does.
    ///
    /// A named file that does not load would otherwise lead to another agent. This user's own must
    /// not keep an operator from a running agent. The TLS files are not read: whoever may call the
    /// agent need not be allowed to.
    pub(crate) fn policy(&self) -> Result<Option<enforcer_policy::Policy>, Failure> {
        let file = self.policy_file();
        let read = match fs::read_to_string(&file) {
            Ok(text) => enforcer_policy::Policy::parse(&text, &file).map_err(LoadError::from),
            Err(source) => Err(LoadError::Read { file, source }),
        };
        match (read, &self.options.policy) {
            (Ok(policy), _) => Ok(Some(policy)),
            (Err(_), None) => Ok(None),
            (Err(error), Some(_)) => Err(policy::refused(&error)),
        }
    }

    /// Refuses while an agent runs, or when that cannot be told; `instead` says what to do then.
    pub(crate) fn without_agent(&self, instead: &str) -> Result<(), Failure> {
        if self.ask_if_there(&Call::Status)?.is_none() {
            return Ok(());
        }
        let socket = self.socket()?;
        Err(Failure::failed(format!("an agent runs at {}", socket.display())).hint(instead))
    }

    /// What the agent answers; `None` when certainly none runs.
    pub(crate) fn ask_if_there(
        &self,
        call: &Call,
    ) -> Result<Option<Result<Answer, Failure>>, Failure> {
        match enforcer_admin::ask(&self.socket()?, call) {
            Err(CallError::Unreachable { source, .. })
                if matches!(source.kind(), ErrorKind::NotFound | ErrorKind::ConnectionRefused) =>
            {
                Ok(None)
            }
            Ok(answer) => Ok(Some(Ok(answer))),
            Err(error @ CallError::Refused(_)) => Ok(Some(Err(error.into()))),
            Err(error) => Err(error.into()),
        }
    }

    /// Sends `call` to the agent and waits for the answer.
    pub(crate) fn ask(&self, call: &Call) -> Result<Answer, Failure> {
        enforcer_admin::ask(&self.socket()?, call).map_err(Failure::from)
    }

    /// The same, and tells `progress` how far it is.
    pub(crate) fn ask_with(
        &self,
        call: &Call,
        progress: &mut dyn FnMut(enforcer_admin::Progress),
    ) -> Result<Answer, Failure> {
        enforcer_admin::ask_with(&self.socket()?, call, progress).map_err(Failure::from)
    }
}

/// `1 network`, `3 networks`.
pub(crate) fn counted(count: u64, what: &str) -> String {
    if count == 1 { format!("1 {what}") } else { format!("{count} {what}s") }
}

/// A number of bytes for people.
pub(crate) fn bytes(count: u64) -> String {
    const UNITS: [(&str, u64); 3] = [("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)];
    let Some((unit, size)) = UNITS.iter().find(|(_, size)| count >= *size) else {
        return format!("{count} B");
    };
    format!("{}.{} {unit}", count / size, count % size * 10 / size)
}

/// The command as clap knows it, for completions, man pages and the reference.
pub(crate) fn command() -> clap::Command {
    Cli::command()
}

fn version() -> String {
    let object = enforcer_kernel::object_sha256();
    let kernel = object.unwrap_or_else(|| "none; build with `cargo xtask build`".to_owned());
    format!("{}\nkernel program sha256: {kernel}", env!("CARGO_PKG_VERSION"))
}

/// The agent answered a different question: only another version does that.
pub(crate) fn mismatched() -> Failure {
    Failure::failed("the agent's answer does not fit the question")
        .hint("use the `enforcer` command of the agent's own version")
}

/// Whether a deed is on record, for people.
pub(crate) fn recorded(audit: Option<u64>) -> String {
    audit.map_or_else(
        || "NOT recorded: see `enforcer status`".to_owned(),
        |record| format!("#{record}"),
    )
}
