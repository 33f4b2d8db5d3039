//! `enforcer run`: serve, in the foreground.

use std::io::IsTerminal;
use std::path::PathBuf;

use clap::{Args, ValueEnum};
use tracing_subscriber::EnvFilter;

use super::{Context, Exit, Failure};
use crate::daemon::Start;

/// Serve, in the foreground
#[derive(Args, Debug)]
pub(crate) struct Run {
    /// What goes to stderr: `info`, `debug`, `enforcer_proxy=debug,info`, …
    #[arg(long, value_name = "FILTER", default_value = "info")]
    log: String,
    /// How log lines look
    #[arg(long, value_enum, default_value_t = LogForm::Text)]
    log_form: LogForm,
    /// Take the place of the agent that serves with this state, without a request lost
    #[arg(long)]
    take_over: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum LogForm {
    /// For people
    Text,
    /// One JSON object each
    Json,
}

impl Run {
    pub(crate) fn execute(&self, context: &Context) -> Result<Exit, Failure> {
        let filter = EnvFilter::try_new(&self.log)
            .map_err(|error| Failure::usage(format!("`{}` is not a filter: {error}", self.log)))?;
        let subscriber =
            tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
        match self.log_form {
            LogForm::Text => {
                let color = !context.options.no_color && std::io::stderr().is_terminal();
                subscriber.with_ansi(color).init();
            }
            LogForm::Json => subscriber.json().init(),
        }
        let file: PathBuf = context.policy_file();
        let file = std::path::absolute(&file).unwrap_or(file);
        let policy = super::policy::load(&file)?;
        let start = if self.take_over { Start::TakeOver } else { Start::Alone };
        crate::daemon::run(policy, file, start)?;
        Ok(Exit::Done)
    }
}
