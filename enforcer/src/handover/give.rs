//! The predecessor's part: everything is lent, and either comes back or is gone for good.
//!
//! Requests are served throughout. From the moment the log is lent until the successor has it open,
//! their records wait in the slots of the audit queue; nothing else of a request depends on what is
//! lent.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow, bail, ensure};
use enforcer_admin::call::{HandingOver, Shared};
use enforcer_admin::{Peer, Refusal, RefusalKind, Visitor};
use enforcer_audit::{Audit, ConfigChange, ConfigEvent, Lender, Record};
use enforcer_limits::Limits;
use enforcer_model::Author;
use enforcer_proxy::{Connections, Inherited};
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;
use tracing::{debug, error, info, warn};

use super::elsewhere::Cutter;
use super::outlet::ToSuccessor;
use super::reception::Reception;
use super::words::{Conversation, SOCKETS_MAX, Spent, Word};
use super::{Loan, PROTOCOL, Returned};
use crate::respond::Order;

/// For a successor to prepare itself, while everything is served.
const TO_PREPARE: Duration = Duration::from_secs(60);

/// For what is under way with each owner, before it lets go.
const TO_LET_GO: Duration = Duration::from_secs(8);

/// For a successor to take everything up. The log has been open for most of that time.
const TO_TAKE_UP: Duration = Duration::from_secs(60);

/// Between two messages about quotas.
const SPENT_EVERY: Duration = Duration::from_millis(100);

/// Words that may wait for the successor.
const WORDS_MAX: usize = 1_024;

/// What can be handed over.
pub(crate) struct Estate {
    /// The sockets that clients come to, again.
    pub(crate) sockets: Vec<Inherited>,
    /// The lock on the state directory.
    pub(crate) lock: Arc<File>,
    pub(crate) reception: Reception,
    pub(crate) desk: mpsc::Sender<Loan>,
    pub(crate) watcher: mpsc::Sender<Loan>,
    pub(crate) orders: mpsc::Sender<Order>,
    pub(crate) audit: Audit,
    pub(crate) limits: Arc<Limits>,
    pub(crate) connections: Arc<Connections>,
    /// Where records go if the successor dies before this agent.
    pub(crate) spill: PathBuf,
}

impl Estate {
    /// Nobody new is let in from here on: first of all, while everybody who was let in is still
    /// accepted.
    pub(crate) fn refuse_newcomers(&self) {
        for one in self.sockets.iter().filter(|one| one.address.tcp().is_some()) {
            if let Err(error) = enforcer_kernel::refuse_newcomers(&one.socket) {
                warn!(%error, address = %one.address, "whoever connects just now may be reset");
            }
        }
    }

    /// Only callers have to be looked after to the end. The lock, the sockets and what could be
    /// handed over are let go.
    pub(crate) fn into_reception(self) -> Reception {
        self.reception
    }
}

/// What came of it.
pub(crate) enum Given {
    /// Everything is as before.
    Kept,
    /// The successor serves. This agent is to finish what runs.
    Away(Box<Away>),
}

/// A successor that serves.
pub(crate) struct Away {
    conversation: Conversation,
    pid: Option<i32>,
}

/// The last words to a successor.
pub(crate) struct Farewell {
    words: SyncSender<Word>,
    speaking: JoinHandle<()>,
}

/// What has been let go so far, in this order.
#[derive(Default)]
struct Lent {
    desk: Option<oneshot::Sender<Returned>>,
    responder: Option<oneshot::Sender<Returned>>,
    watcher: Option<oneshot::Sender<Returned>>,
    quotas: bool,
    log: Option<(Lender, UnixStream)>,
}

/// Says no to somebody who wants to take this agent's place.
pub(crate) fn decline(visitor: Visitor, why: &str, hint: &str) {
    let refusal = Refusal::new(RefusalKind::Failed, why.to_owned()).hint(hint.to_owned());
    let mut conversation = Conversation(visitor.stream);
    if let Err(error) = conversation.answer(Err(refusal)) {
        debug!(%error, "the visitor is gone");
    }
}

/// Hands everything over to `visitor`, or nothing. `abandon` is heard until it begins.
pub(crate) async fn give(
    visitor: Visitor,
    estate: &mut Estate,
    abandon: &CancellationToken,
) -> Given {
    let Visitor { asked, peer, stream } = visitor;
    let again = stream.try_clone();
    let visitor = Visitor { asked, peer, stream };
    match try_to_give(visitor, estate, abandon).await {
        Ok(away) => Given::Away(Box::new(away)),
        Err(error) => {
            let why = format!("{error:#}");
            warn!(why, pid = peer.pid, "nothing is handed over; this agent serves on");
            if let Ok(stream) = again {
                // It may be gone, which is why it failed.
                Conversation(stream).say(&Word::Refused { why }).unwrap_or_default();
            }
            Given::Kept
        }
    }
}

async fn try_to_give(
    visitor: Visitor,
    estate: &mut Estate,
    abandon: &CancellationToken,
) -> Result<Away> {
    let Visitor { asked, peer, stream } = visitor;
    let mut conversation = Conversation(stream);
    conversation.patience(Some(TO_PREPARE))?;
    if let Err(refusal) = may_take_over(&asked, peer) {
        let why = refusal.message.clone();
        conversation.answer(Err(refusal))?;
        // It has its answer; the word that follows is not waited for.
        bail!(why);
    }
    info!(pid = peer.pid, version = asked.version, "another agent wants to take this one's place");
    let process = process(peer);
    let (records, theirs) = UnixStream::pair().context("a stream for records")?;
    welcome(&mut conversation, estate, &theirs)?;
    drop(theirs);

    let listening = conversation.again()?;
    let begun = tokio::select! {
        word = heard(listening) => word,
        () = abandon.cancelled() => bail!("the agent was told to stop"),
    };
    let word = begun.context("it did not begin")?;
    ensure!(matches!(word, Word::Begin), "it said {word:?} before it began");

    let mut lent = Lent::default();
    let given = async {
        let records = let_go(estate, &mut lent, records, peer).await?;
        conversation.patience(Some(TO_TAKE_UP))?;
        conversation.say(&Word::Yours { records })?;
        let word = heard(conversation.again()?).await.context("it did not come to serve")?;
        ensure!(matches!(word, Word::Ready), "it said {word:?} before it was ready");
        // Last of all, for nothing is found while nobody detects.
        let (loan, watcher) = loan();
        estate.watcher.send(loan).await.map_err(|_gone| anyhow!("nobody detects any more"))?;
        lent.watcher = Some(watcher.back);
        within(watcher.lent).await.context("detection holds on to what it owns")?;
        // From here on it serves, whatever becomes of this agent.
        conversation.say(&Word::Done).context("it broke off when it was ready")
    };
    match given.await {
        Ok(()) => {
            // First: with the owners' threads ends everything else.
            estate.connections.hand_over();
            lent.never();
            estate.reception.leave();
            estate.sockets.clear();
            conversation.patience(None)?;
            Ok(Away { conversation, pid: peer.pid })
        }
        Err(error) => {
            // Whatever state it is in, it must not write any more.
            end(process.as_ref()).await;
            take_back(estate, lent).await;
            Err(error)
        }
    }
}

/// Only this agent's own user, and root, who could do anything anyway.
fn may_take_over(asked: &enforcer_admin::call::HandOver, peer: Peer) -> Result<(), Refusal> {
    let own = rustix::process::geteuid().as_raw();
    if peer.uid != own && peer.uid != 0 {
        let why = "only the agent's own user and root may take its place";
        return Err(Refusal::new(RefusalKind::Usage, why).hint("run it as the agent's user"));
    }
    if asked.protocol != PROTOCOL {
        let why = format!(
            "the agent is of version {} and hands over by protocol {PROTOCOL}; the new one, of \
             version {}, by {}",
            env!("CARGO_PKG_VERSION"),
            asked.version,
            asked.protocol
        );
        let hint = "stop the agent and start the new one; blocks stay in force in the kernel";
        return Err(Refusal::new(RefusalKind::Failed, why).hint(hint));
    }
    Ok(())
}

/// A handle that stays with this process, whoever gets its number next.
fn process(peer: Peer) -> Option<OwnedFd> {
    pidfd_open(Pid::from_raw(peer.pid?)?, PidfdFlags::empty()).ok()
}

fn welcome(conversation: &mut Conversation, estate: &Estate, records: &UnixStream) -> Result<()> {
    let listeners = estate
        .sockets
        .iter()
        .map(|one| Shared { listener: one.listener.to_string(), address: one.address.to_string() });
    let listeners: Vec<_> = listeners.collect();
    if listeners.len() >= SOCKETS_MAX {
        bail!("there are too many sockets to hand over");
    }
    let version = env!("CARGO_PKG_VERSION").to_owned();
    conversation.answer(Ok(HandingOver { protocol: PROTOCOL, version, listeners }))?;
    let sockets = estate.sockets.iter().map(|one| one.socket.as_fd());
    let others = [estate.reception.socket().as_fd(), estate.lock.as_fd(), records.as_fd()];
    let all: Vec<BorrowedFd<'_>> = sockets.chain(others).collect();
    Ok(conversation.give(&all)?)
}

/// The next word, on a thread that may wait.
async fn heard(mut conversation: Conversation) -> Result<Word> {
    let word = tokio::task::spawn_blocking(move || conversation.hear()).await?;
    word.map_err(|error| {
        let is = |kinds: [io::ErrorKind; 2]| kinds.contains(&error.kind());
        if is([io::ErrorKind::UnexpectedEof, io::ErrorKind::ConnectionReset]) {
            anyhow!("it broke off; its own log says why")
        } else if is([io::ErrorKind::WouldBlock, io::ErrorKind::TimedOut]) {
            anyhow!("it took too long")
        } else {
            anyhow!(error)
        }
    })
}

/// Every owner lets go; the log last, so that it tells of the others. How many records it has.
async fn let_go(
    estate: &mut Estate,
    lent: &mut Lent,
    records: UnixStream,
    peer: Peer,
) -> Result<u64> {
    estate.reception.close(TO_LET_GO).await?;
    let (loan, desk) = loan();
    estate.desk.send(loan).await.map_err(|_gone| anyhow!("the desk is gone"))?;
    lent.desk = Some(desk.back);
    within(desk.lent).await.context("the desk holds on to what it owns")?;
    let (loan, responder) = self::loan();
    let order = Order::Lend(loan);
    estate.orders.send(order).await.map_err(|_gone| anyhow!("the responder is gone"))?;
    lent.responder = Some(responder.back);
    within(responder.lent).await.context("the responder holds on to what it owns")?;
    let limits = Arc::clone(&estate.limits);
    lent.quotas = tokio::task::spawn_blocking(move || limits.lend(TO_LET_GO)).await?;
    if !lent.quotas {
        bail!("the levels of quotas cannot be written");
    }
    let detail = format!("to process {}", peer.pid.unwrap_or_default());
    note(&estate.audit, ConfigEvent::HandingOver, detail).await;
    let cut_off = records.try_clone()?;
    let outlet = Box::new(ToSuccessor(records));
    let (size, lender) = estate.audit.lend(outlet, estate.spill.clone()).await?;
    lent.log = Some((lender, cut_off));
    Ok(size)
}

struct Lending {
    lent: oneshot::Receiver<Result<(), String>>,
    back: oneshot::Sender<Returned>,
}

fn loan() -> (Loan, Lending) {
    let (said, lent) = oneshot::channel();
    let (back, waiting) = oneshot::channel();
    (Loan { lent: said, back: waiting }, Lending { lent, back })
}

async fn within(lent: oneshot::Receiver<Result<(), String>>) -> Result<()> {
    let lent = tokio::time::timeout(TO_LET_GO, lent).await.context("it is busy; try again")?;
    lent.context("it is gone")?.map_err(|why| anyhow!(why))
}

/// Ends a process that was to take this one's place, and waits for its end.
async fn end(process: Option<&OwnedFd>) {
    let Some(process) = process.and_then(|process| process.try_clone().ok()) else { return };
    // It may have ended already, which is as well.
    pidfd_send_signal(&process, Signal::KILL).unwrap_or_default();
    let ended = tokio::task::spawn_blocking(move || super::take::wait_for_end(&process));
    if let Err(error) = ended.await {
        warn!(%error, "the end of the successor was not seen");
    }
}

/// Everything is as before, in the order in which others depend on it.
async fn take_back(estate: &mut Estate, lent: Lent) {
    let Lent { desk, responder, watcher, quotas, log } = lent;
    if let Some((lender, cut_off)) = log {
        // A delivery that waits for an answer waits no longer.
        cut_off.shutdown(std::net::Shutdown::Both).unwrap_or_default();
        if let Err(error) = lender.take_back().await {
            error!(%error, "the audit log did not come back; nothing is served without it");
        }
        note(&estate.audit, ConfigEvent::TakenBack, "the successor broke off".to_owned()).await;
    }
    if quotas {
        estate.limits.take_back();
    }
    for owner in [responder, desk, watcher].into_iter().flatten() {
        // One that is gone has stopped the agent.
        owner.send(Returned::Back).unwrap_or_default();
    }
    estate.reception.reopen();
}

async fn note(audit: &Audit, what: ConfigEvent, detail: String) {
    let change = ConfigChange {
        what,
        by: Some(Author::Agent),
        policy: None,
        program: None,
        kernel_program: None,
        detail: Some(detail),
    };
    if let Err(error) = audit.append(Record::Config(change)).await {
        warn!(%error, "a step of the hand-over is not on record");
    }
}

impl Lent {
    /// It stays with the successor.
    fn never(self) {
        let Self { desk, responder, watcher, quotas: _, log } = self;
        for owner in [watcher, responder, desk].into_iter().flatten() {
            owner.send(Returned::Never).unwrap_or_default();
        }
        // From here on a broken outlet means a spill.
        drop(log);
    }
}

impl Away {
    /// Listens to the successor, and tells it what is still spent and found, until this agent ends.
    pub(crate) fn accompany(
        self,
        cutter: Cutter,
        limits: Arc<Limits>,
        (words, waiting): (SyncSender<Word>, Receiver<Word>),
    ) -> Result<Farewell> {
        info!(pid = self.pid, "handed over: accepting no more, finishing what runs");
        let mut hearing = self.conversation.again()?;
        std::thread::Builder::new().name("successor".to_owned()).spawn(move || {
            while let Ok(word) = hearing.hear() {
                if let Word::Cut { cut } = &word {
                    cutter.obey(cut);
                } else {
                    warn!(?word, "a word out of place");
                }
            }
            debug!("the successor says nothing more");
        })?;
        let speaking = std::thread::Builder::new()
            .name("farewell".to_owned())
            .spawn(move || speak(self.conversation, &limits, &waiting))?;
        Ok(Farewell { words, speaking })
    }
}

/// Words that may be sent once there is a successor.
pub(crate) fn words() -> (SyncSender<Word>, Receiver<Word>) {
    sync_channel(WORDS_MAX)
}

fn speak(mut conversation: Conversation, limits: &Limits, waiting: &Receiver<Word>) {
    loop {
        let word = waiting.recv_timeout(SPENT_EVERY);
        let spent = limits.spent_since();
        if !spent.is_empty() {
            let spent = spent.into_iter().map(|one| Spent {
                limit: one.limit,
                subject: one.subject,
                period: one.period.as_str().to_owned(),
                ends: one.ends,
                units: one.units,
            });
            let spent: Vec<_> = spent.collect();
            if conversation.say(&Word::Spent { spent }).is_err() {
                return;
            }
        }
        let Ok(word) = word else { continue };
        let is_last = word == Word::Bye;
        if conversation.say(&word).is_err() || is_last {
            return;
        }
    }
}

impl Farewell {
    /// This agent has ended.
    pub(crate) async fn end(self) {
        let Self { words, speaking } = self;
        // A successor that is gone needs no word.
        let said = tokio::task::spawn_blocking(move || {
            words.send(Word::Bye).unwrap_or_default();
            speaking.join().is_ok()
        });
        if !matches!(said.await, Ok(true)) {
            warn!("the successor was not told that this agent has ended");
        }
    }
}

#[cfg(test)]
mod tests {
    use enforcer_admin::call::HandOver;

    use super::*;

    #[test]
    fn only_root_and_the_agents_own_user_may_take_its_place() {
        let own = rustix::process::geteuid().as_raw();
        let asked = HandOver { protocol: PROTOCOL, version: "1".to_owned() };
        let by = |uid| Peer { uid, gid: 0, pid: None };

        assert!(may_take_over(&asked, by(own)).is_ok());
        assert!(may_take_over(&asked, by(0)).is_ok());
        let refused = may_take_over(&asked, by(own.wrapping_add(4711))).unwrap_err();
        assert!(refused.message.contains("own user and root"), "{refused}");
    }

    #[test]
    fn another_protocol_is_refused_with_both_versions_and_what_to_do() {
        let asked = HandOver { protocol: PROTOCOL + 1, version: "9.9.9".to_owned() };
        let own = rustix::process::geteuid().as_raw();

        let refused = may_take_over(&asked, Peer { uid: own, gid: 0, pid: None }).unwrap_err();

        assert!(refused.message.contains("9.9.9"), "{refused}");
        assert!(refused.hint.unwrap().contains("stop the agent and start the new one"));
    }
}
