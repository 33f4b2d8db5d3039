//! The successor's part: asks, takes up what is handed over, and goes on alone if it must.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow, bail};
use enforcer_admin::call::{HandOver, Shared};
use enforcer_admin::{Answer, Call};
use enforcer_audit::Audit;
use enforcer_limits::{Limits, Period, QuotaSpent};
use enforcer_model::Offence;
use enforcer_policy::{Address, Policy};
use enforcer_proxy::{Connections, Inherited};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::net::sockopt::socket_peercred;
use rustix::process::{PidfdFlags, pidfd_open};
use tokio::sync::mpsc;
use tracing::{debug, error, info, warn};

use super::words::{Conversation, SOCKETS_MAX, Spent, Word};
use super::{PROTOCOL, elsewhere, findings, outlet};
use crate::policies::Probation;
use crate::privileges::{self, Thread};

/// For an agent to answer, and to let go of what it has.
const PATIENCE: Duration = Duration::from_secs(60);

/// For a process that breaks off to be gone, with its locks.
const TO_END: Duration = Duration::from_secs(10);

/// Findings of the predecessor that may wait.
const FINDINGS_MAX: usize = 256;

/// The agent whose place is taken.
pub(crate) struct Predecessor {
    conversation: Conversation,
    /// Its process, whoever gets the number next.
    process: Option<OwnedFd>,
    /// The sockets that clients come to.
    pub(crate) sockets: Vec<Inherited>,
    /// The admin socket.
    pub(crate) admin: OwnedFd,
    /// The lock on the state directory, which is never free in between.
    pub(crate) lock: File,
    records: UnixStream,
    /// It broke off: everything is as after its death.
    is_gone: bool,
}

/// A predecessor that finishes what runs there.
pub(crate) struct Attended {
    threads: Vec<JoinHandle<()>>,
}

impl Predecessor {
    /// The agent that serves with the same state, if there is one. Nothing has changed for it yet.
    pub(crate) fn of(policy: &Policy, state: &Path) -> Result<Option<Self>> {
        let predecessor = Self::ask(&policy.agent().socket, &state.join("agent.lock"))?;
        match &predecessor {
            None => info!("there is no agent to take over from: starting as usual"),
            Some(_) if Probation::of(state).is_on() => bail!(
                "the policy of the agent that serves is on probation\nhint: `enforcer policy \
                 promote` keeps it, `enforcer policy rollback` ends it; then take over"
            ),
            Some(_) => {}
        }
        Ok(predecessor)
    }

    /// Asks the agent at `socket`, whose lock is at `lock`, to hand over; none when no agent is there.
    fn ask(socket: &Path, lock: &Path) -> Result<Option<Self>> {
        let stream = match UnixStream::connect(socket) {
            Ok(stream) => stream,
            Err(error)
                if matches!(
                    error.kind(),
                    io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused
                ) =>
            {
                return Ok(None);
            }
            Err(error) => {
                return Err(error).with_context(|| format!("cannot call {}", socket.display()));
            }
        };
        let peer = socket_peercred(&stream)?;
        let own = rustix::process::geteuid();
        if peer.uid != own && !peer.uid.is_root() {
            bail!(
                "the process at {} belongs to user {}; only this user's own agent, or root's, is \
                 taken over from",
                socket.display(),
                peer.uid.as_raw()
            );
        }
        let process = pidfd_open(peer.pid, PidfdFlags::empty()).ok();
        let mut conversation = Conversation(stream);
        conversation.patience(Some(PATIENCE))?;
        let version = env!("CARGO_PKG_VERSION").to_owned();
        conversation.call(&Call::HandOver(HandOver { protocol: PROTOCOL, version }))?;
        let welcome = match conversation.answered().context("the agent gave no answer")? {
            Ok(Answer::HandingOver(welcome)) if welcome.protocol == PROTOCOL => welcome,
            Ok(_) => bail!(
                "the agent answers in another protocol; stop it and start this one: blocks stay in \
                 force in the kernel"
            ),
            Err(refusal) => {
                let hint = refusal.hint.map(|hint| format!("\nhint: {hint}")).unwrap_or_default();
                bail!("the agent does not hand over: {}{hint}", refusal.message);
            }
        };
        if welcome.listeners.len() >= SOCKETS_MAX {
            bail!("the agent offers more sockets than any agent has");
        }
        info!(version = welcome.version, pid = ?peer.pid, "taking over from the agent that serves");
        let mut taken = conversation.take(welcome.listeners.len().saturating_add(3))?;
        let mut last = || taken.pop().context("a socket is missing");
        let (records, own_lock, admin) = (last()?, last()?, last()?);
        let mut sockets = Vec::new();
        for (Shared { listener, address }, socket) in welcome.listeners.into_iter().zip(taken) {
            let address = match address.strip_prefix("unix:") {
                Some(path) => Address::Unix(path.into()),
                None => Address::Tcp(address.parse().context("the address of a socket")?),
            };
            sockets.push(Inherited { listener: listener.into(), address, socket });
        }
        let own_lock = File::from(own_lock);
        if !is_at(&own_lock, lock)? {
            bail!(
                "the agent at {} keeps its state elsewhere; [agent] state and socket cannot change \
                 in a hand-over: stop it and start this one",
                socket.display()
            );
        }
        Ok(Some(Self {
            sockets,
            admin,
            lock: own_lock,
            records: records.into(),
            conversation,
            process,
            is_gone: false,
        }))
    }

    /// Everything is prepared: the agent lets go of what it has on disk.
    pub(crate) fn begin(&mut self) -> Result<()> {
        info!("prepared: asking for everything");
        match self.ask_for(&Word::Begin)? {
            Some(Word::Yours { records }) => info!(records, "everything is handed over"),
            Some(word) => bail!("the agent answered {word:?}"),
            None => {}
        }
        Ok(())
    }

    /// From here on records of the agent go to `audit`.
    pub(crate) fn relay(&self, audit: &Audit) -> Result<Attended> {
        let (stream, audit) = (self.records.try_clone()?, audit.clone());
        let thread = thread("predecessor", move || outlet::take_in_and_tell(&stream, &audit))?;
        Ok(Attended { threads: vec![thread] })
    }

    /// This agent could serve: when this returns, it is to.
    pub(crate) fn ready(&mut self) -> Result<()> {
        info!("ready to serve");
        match self.ask_for(&Word::Ready)? {
            Some(Word::Done) | None => Ok(()),
            Some(word) => bail!("the agent answered {word:?}"),
        }
    }

    /// Charges what the agent still spends, tells it whom to cut, and passes on what it finds, until
    /// it has ended.
    pub(crate) fn attend(
        self,
        attended: &mut Attended,
        limits: Arc<Limits>,
        connections: &Arc<Connections>,
    ) -> Result<mpsc::Receiver<Offence>> {
        let (findings, found) = mpsc::channel(FINDINGS_MAX);
        if self.is_gone {
            return Ok(found);
        }
        self.conversation.patience(None)?;
        let (elsewhere, teller) = elsewhere::telling();
        let gone = Arc::new(AtomicBool::new(false));
        let telling = self.conversation.again()?;
        connections.tell_elsewhere(Some(elsewhere));
        let until = Arc::clone(&gone);
        drop(thread("cuts", move || teller.tell(telling, &until))?);
        let connections = Arc::clone(connections);
        let listening = thread("farewell", move || {
            listen(self.conversation, &limits, &findings);
            connections.tell_elsewhere(None);
            gone.store(true, Ordering::Release);
        })?;
        attended.threads.push(listening);
        Ok(found)
    }

    /// The answer to `word`; none when the agent is gone.
    fn ask_for(&mut self, word: &Word) -> Result<Option<Word>> {
        if self.is_gone {
            return Ok(None);
        }
        let said = self.conversation.say(word);
        // Who does not listen any more may have said why.
        let heard = self.conversation.hear().map_err(|unheard| said.err().unwrap_or(unheard));
        match heard {
            Ok(Word::Refused { why }) => bail!("the agent does not hand over: {why}"),
            Ok(word) => Ok(Some(word)),
            Err(error) if is_broken(&error) => {
                self.is_gone = true;
                warn!("the agent that served is gone: going on as after its death");
                if let Some(process) = &self.process
                    && !wait_for_end(process)
                {
                    bail!("the agent that served broke off and does not end");
                }
                Ok(None)
            }
            Err(error) => Err(anyhow!(error).context("the agent that serves gave no answer")),
        }
    }
}

impl Attended {
    /// Waits until nothing more can come from the predecessor.
    pub(crate) fn into_threads(self) -> Vec<JoinHandle<()>> {
        self.threads
    }
}

/// Starts a thread that holds no privilege; it ends by itself.
fn thread(name: &str, work: impl FnOnce() + Send + 'static) -> io::Result<JoinHandle<()>> {
    std::thread::Builder::new().name(name.to_owned()).spawn(move || {
        match privileges::reduce_to(Thread::Other) {
            Ok(_none) => work(),
            Err(error) => error!(%error, "a thread keeps its privileges, and does nothing"),
        }
    })
}

fn listen(mut conversation: Conversation, limits: &Limits, findings: &mpsc::Sender<Offence>) {
    loop {
        match conversation.hear() {
            Ok(Word::Spent { spent }) => {
                limits.charge(spent.into_iter().filter_map(charged).collect());
            }
            Ok(Word::Found { finding }) => {
                if findings.try_send(findings::read(finding)).is_err() {
                    warn!("a finding of the predecessor is not answered: too many wait");
                }
            }
            Ok(Word::Bye) => return info!("the predecessor has ended"),
            Ok(word) => warn!(?word, "a word out of place"),
            Err(error) => return warn!(%error, "the predecessor broke off"),
        }
    }
}

fn charged(spent: Spent) -> Option<QuotaSpent> {
    let Spent { limit, subject, period, ends, units } = spent;
    Some(QuotaSpent { limit, subject, period: Period::from_name(&period)?, ends, units })
}

fn is_broken(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe
    )
}

/// Whether `file` is what stands at `path`.
fn is_at(file: &File, path: &Path) -> Result<bool> {
    use std::os::unix::fs::MetadataExt;
    let found = match std::fs::symlink_metadata(path) {
        Ok(found) => found,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
        Err(error) => return Err(error).with_context(|| format!("looking at {}", path.display())),
    };
    let own = file.metadata()?;
    Ok(own.dev() == found.dev() && own.ino() == found.ino())
}

/// Waits for the end of a process; whether it came.
pub(super) fn wait_for_end(process: &OwnedFd) -> bool {
    let mut polled = [PollFd::from_borrowed_fd(process.as_fd(), PollFlags::IN)];
    let patience = Timespec::try_from(TO_END).ok();
    let ended = poll(&mut polled, patience.as_ref());
    debug!(?ended, "waited for the end of the other agent");
    matches!(ended, Ok(1..))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lock_that_is_not_that_of_the_state_is_not_taken() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("agent.lock");
        let own = File::create(&path).unwrap();
        let other = File::create(folder.path().join("other")).unwrap();

        assert!(is_at(&own, &path).unwrap());
        assert!(!is_at(&other, &path).unwrap());
        std::fs::remove_file(&path).unwrap();
        assert!(!is_at(&own, &path).unwrap());
    }

    #[test]
    fn where_no_agent_is_there_is_nobody_to_ask() {
        let folder = tempfile::tempdir().unwrap();
        let socket = folder.path().join("admin.sock");
        let ask = || Predecessor::ask(&socket, &folder.path().join("agent.lock"));

        assert!(ask().unwrap().is_none());
        drop(std::os::unix::net::UnixListener::bind(&socket).unwrap());
        assert!(ask().unwrap().is_none());
    }
}
