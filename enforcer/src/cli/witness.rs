//! `enforcer witness`: cosign the audit logs of other hosts.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use clap::{Args, Subcommand};
use enforcer_audit::{VerifierKey, WitnessKey};
use enforcer_model::{Clock, SystemClock};
use enforcer_witness::{Home, HomeError, WitnessError};
use serde_json::json;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tracing::info;
use tracing_subscriber::EnvFilter;

use super::{Context, Exit, Failure, counted};
use crate::notify;
use crate::privileges::{self, Thread};
use crate::shutdown::{Wish, Wishes};

/// Threads that wait for the disk.
const DISK_THREADS: usize = 8;

/// Cosign the audit logs of other hosts, so that they cannot be changed in silence
#[derive(Debug, Subcommand)]
pub(crate) enum Witness {
    /// Make a witness: a directory with a new key; prints the key that the logs' policies name
    Init(Init),
    /// The public key of a witness
    Key(Key),
    /// Serve C2SP tlog-witness over plain HTTP until SIGTERM
    Run(Run),
}

/// Make a witness: a directory with a new key; prints the key that the logs' policies name
#[derive(Args, Debug)]
pub(crate) struct Init {
    #[command(flatten)]
    place: Place,
    /// The name in its cosignatures, such as `witness.example.com/w1`; never changes
    #[arg(long)]
    name: String,
}

/// The public key of a witness
#[derive(Args, Debug)]
pub(crate) struct Key {
    #[command(flatten)]
    place: Place,
}

/// Serve C2SP tlog-witness over plain HTTP until SIGTERM
///
/// Checkpoints and cosignatures are public and prove themselves, so plain HTTP gives nothing away;
/// an `enforcer` in front adds TLS. The state directory must never be put back from a backup: a
/// witness that forgets would cosign what it has seen contradicted.
#[derive(Args, Debug)]
pub(crate) struct Run {
    #[command(flatten)]
    place: Place,
    /// Where to listen; port 0 takes a free one, and the first line of output says which
    #[arg(long, value_name = "ADDRESS")]
    listen: SocketAddr,
    /// Keys of the logs that it cosigns, as their `key.pub` has them; repeatable, or with commas
    #[arg(long = "log", value_name = "KEY", value_delimiter = ',')]
    logs: Vec<VerifierKey>,
    /// A file with such keys, one on a line
    #[arg(long = "logs", value_name = "FILE")]
    file: Option<PathBuf>,
    /// What goes to stderr: `info`, `debug`, …
    #[arg(long = "log-filter", value_name = "FILTER", default_value = "info")]
    filter: String,
}

#[derive(Args, Debug)]
struct Place {
    /// The directory of the witness
    #[arg(long, value_name = "FOLDER")]
    state: PathBuf,
}

impl Witness {
    pub(crate) fn execute(&self, context: &Context) -> Result<Exit, Failure> {
        match self {
            Self::Init(verb) => {
                let made = Home::at(&verb.place.state).make(&verb.name);
                show(context, made.map_err(|error| failed(&error))?.key())
            }
            Self::Key(verb) => {
                let cosigner = Home::at(&verb.place.state).cosigner();
                show(context, cosigner.map_err(|error| failed(&error))?.key())
            }
            Self::Run(verb) => verb.execute(context),
        }
    }
}

impl Run {
    fn execute(&self, context: &Context) -> Result<Exit, Failure> {
        let filter = EnvFilter::try_new(&self.filter).map_err(|error| {
            Failure::usage(format!("`{}` is not a filter: {error}", self.filter))
        })?;
        tracing_subscriber::fmt()
            .with_env_filter(filter)
            .with_writer(std::io::stderr)
            .with_ansi(false)
            .init();
        let mut logs = self.logs.clone();
        if let Some(file) = &self.file {
            logs.extend(read_logs(file)?);
        }
        if logs.is_empty() {
            return Err(Failure::usage("a witness of no log has nothing to do")
                .hint("`--log KEY` names one; its key is in `key.pub` in the log's directory"));
        }
        privileges::seal().map_err(|error| Failure::because(&error))?;
        rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o077));
        let witness = enforcer_witness::Witness::open(&Home::at(&self.place.state), logs);
        let witness = witness.map_err(|error| match &error {
            WitnessError::Home(home) => failed(home),
            WitnessError::Memory(_) => Failure::because(&error)
                .hint("one process at a time; a file that is damaged is evidence, keep it"),
        })?;
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .max_blocking_threads(DISK_THREADS)
            .build()
            .map_err(|error| Failure::failed(format!("cannot start: {error}")))?;
        runtime.block_on(self.serve(context, witness))
    }

    async fn serve(
        &self,
        context: &Context,
        witness: enforcer_witness::Witness,
    ) -> Result<Exit, Failure> {
        let mut wishes = Wishes::listen()
            .map_err(|error| Failure::failed(format!("cannot take over the signals: {error}")))?;
        let refused = |error: std::io::Error| {
            Failure::failed(format!("cannot listen on {}: {error}", self.listen))
        };
        let listener = TcpListener::bind(self.listen).await.map_err(refused)?;
        let address = listener.local_addr().map_err(refused)?;
        privileges::reduce_to(Thread::Other).map_err(|error| Failure::because(&error))?;
        let url = format!("http://{address}");
        let key = witness.key().to_string();
        let logs = u64::try_from(witness.logs()).unwrap_or(u64::MAX);
        let line = format!("{url} {key}");
        context.printer.item(&json!({ "url": url, "key": key, "logs": logs }), &[line])?;
        info!(%address, logs = counted(logs, "log"), "witness");
        let stop = CancellationToken::new();
        let clock: Arc<dyn Clock> = Arc::new(SystemClock);
        let serving = enforcer_witness::serve(Arc::new(witness), listener, clock, stop.clone());
        notify::serving();
        let asked = async {
            while wishes.next().await != Wish::Stop {}
            notify::stopping();
            stop.cancel();
        };
        tokio::join!(serving, asked);
        Ok(Exit::Done)
    }
}

fn show(context: &Context, key: &WitnessKey) -> Result<Exit, Failure> {
    let answer = json!({ "name": key.name(), "key": key.to_string() });
    context.printer.item(&answer, &[key.to_string()])?;
    Ok(Exit::Done)
}

fn read_logs(file: &Path) -> Result<Vec<VerifierKey>, Failure> {
    let told = file.display();
    let text = std::fs::read_to_string(file)
        .map_err(|error| Failure::failed(format!("cannot read {told}: {error}")))?;
    let lines = (1..).zip(text.lines()).map(|(number, line)| (number, line.trim()));
    let written = lines.filter(|(_, line)| !line.is_empty() && !line.starts_with('#'));
    let parsed = written.map(|(number, line)| {
        line.parse().map_err(|error| {
            Failure::usage(format!("{told}, line {number}: {error}"))
                .hint("one key on a line, as the `key.pub` of the log has it")
        })
    });
    parsed.collect()
}

fn failed(error: &HomeError) -> Failure {
    let failure = Failure::because(error);
    match error {
        HomeError::NoWitness(_) => failure.exit(Exit::NothingMatched),
        HomeError::Name(_) => failure.exit(Exit::Usage),
        HomeError::Exists(_)
        | HomeError::File { .. }
        | HomeError::Key { .. }
        | HomeError::Open(_) => failure,
    }
}
