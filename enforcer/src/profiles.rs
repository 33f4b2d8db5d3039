//! Behaviour profiles at work: kept in a file over restarts, shown to operators.
//!
//! The file is replaced whole, every few minutes and at the end: a piece at each tick, by a thread of
//! its own, so that detection never waits for it. One that is damaged is put aside and said; profiles
//! then begin anew, and find nothing until they have learned.

use std::fs::File;
use std::io::{self, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use enforcer_admin::call::ProfilesShown;
use enforcer_detect::profile::{Ahead, Plan, SnapshotCursor, SnapshotError};
use enforcer_detect::{Finding, ProfileView, Profiles, Request, Signal};
use enforcer_model::Timestamp;
use ring::rand::{SecureRandom, SystemRandom};
use tokio::sync::{mpsc, oneshot};
use tracing::{info, warn};

use crate::files;

/// How often the file is replaced.
const SAVED_EVERY: Duration = Duration::from_secs(300);

/// The largest file that is read: as many identities as there may be, and what groups take.
const FILE_MAX: u64 = 1_200 << 20;

/// Pieces of half a megabyte that may wait for the disk. While they do, no more are made.
const PIECES_MAX: usize = 2;

/// What the desk asks of the owner of the profiles.
#[derive(Debug)]
pub(crate) enum ProfilesAsk {
    /// What is known of one identity.
    Show {
        /// Whom.
        identity: String,
        /// Where to; none: nothing is known.
        reply: oneshot::Sender<Option<ProfileView>>,
    },
    /// Those whose day is the most surprising.
    List {
        /// At most so many.
        most: usize,
        /// Where to.
        reply: oneshot::Sender<ProfilesShown>,
    },
}

/// The way to the owner of the profiles.
pub(crate) type ProfilesDesk = mpsc::Sender<ProfilesAsk>;

/// The profiles, and the file that they are kept in.
pub(crate) struct Keeper {
    profiles: Profiles,
    file: PathBuf,
    saved: Instant,
    changed: bool,
    saving: Option<Saving>,
    ahead: Vec<Ahead>,
}

/// A snapshot on its way to the disk. Without its end, which is nothing, it never gets there.
struct Saving {
    cursor: SnapshotCursor,
    pieces: SyncSender<Option<Vec<u8>>>,
    /// The piece that there was no room for.
    next: Option<Option<Vec<u8>>>,
    thread: JoinHandle<()>,
}

impl Keeper {
    /// What is kept in the folder `state`.
    pub(crate) fn open(state: &Path, plan: &Plan, now: Instant) -> Result<Self> {
        let key = key(&state.join("profiles.key"))?;
        let file = state.join("profiles");
        let profiles = match restore(plan, key, &file) {
            None => Profiles::new(plan.clone(), key),
            Some(Ok(profiles)) => profiles,
            Some(Err(SnapshotError::Unread(kind))) => {
                return Err(io::Error::from(kind))
                    .with_context(|| format!("cannot read {}", file.display()));
            }
            Some(Err(error)) => {
                let aside = file.with_extension("damaged");
                // The next file takes its place either way.
                let kept = std::fs::rename(&file, &aside).is_ok();
                warn!(%error, kept, "profiles begin anew: the file of the last run is of no use");
                Profiles::new(plan.clone(), key)
            }
        };
        info!(identities = profiles.len(), "profiles");
        Ok(Self { profiles, file, saved: now, changed: false, saving: None, ahead: Vec::new() })
    }

    /// Puts another plan in force.
    pub(crate) fn replace(&mut self, plan: &Plan) {
        if self.profiles.plan() != plan {
            self.profiles.replace(plan.clone());
        }
    }

    /// Looks up those of `requests`, which are observed next and in this order.
    pub(crate) fn look_ahead(&mut self, requests: &[Request<'_>]) {
        self.ahead.clear();
        self.ahead.extend(requests.iter().map(|request| self.profiles.ahead(request)));
        self.profiles.fetch(&self.ahead);
    }

    /// Takes note of a request: the one in this `place` of those that were looked up.
    pub(crate) fn observe(&mut self, place: usize, request: &Request<'_>) -> Option<Finding> {
        self.changed = true;
        match self.ahead.get(place) {
            Some(ahead) => self.profiles.observe_ahead(*ahead, request),
            None => self.profiles.observe(request),
        }
    }

    /// What the last request has made more surprising.
    pub(crate) fn surprises(&self) -> Vec<(&'static str, Signal)> {
        self.profiles.surprises()
    }

    /// The plan in force.
    pub(crate) const fn plan(&self) -> &Plan {
        self.profiles.plan()
    }

    /// Answers an operator.
    pub(crate) fn answer(&self, ask: ProfilesAsk, now: Timestamp) {
        // Whoever asked may be gone.
        match ask {
            ProfilesAsk::Show { identity, reply } => {
                drop(reply.send(self.profiles.show(&identity, now)));
            }
            ProfilesAsk::List { most, reply } => {
                let profiles = self.profiles.list(most, now);
                let known = u64::try_from(self.profiles.len()).unwrap_or(u64::MAX);
                drop(reply.send(ProfilesShown { profiles, known }));
            }
        }
    }

    /// Begins to replace the file when it is time.
    pub(crate) fn save_when_due(&mut self, now: Instant) {
        if !self.changed
            || self.saving.is_some()
            || now.saturating_duration_since(self.saved) < SAVED_EVERY
        {
            return;
        }
        self.saved = now;
        self.changed = false;
        let (pieces, received) = sync_channel(PIECES_MAX);
        let file = self.file.clone();
        let thread = std::thread::Builder::new()
            .name("profiles".to_owned())
            .spawn(move || told(write_pieces(&file, &received)));
        match thread {
            Ok(thread) => {
                let cursor = self.profiles.snapshot();
                self.saving = Some(Saving { cursor, pieces, next: None, thread });
            }
            Err(error) => told(Err(error)),
        }
    }

    /// Goes on with replacing the file, by a piece: call it several times a second. A disk that is
    /// behind is not waited for.
    pub(crate) fn save_more(&mut self) {
        let Some(saving) = &mut self.saving else { return };
        if saving.thread.is_finished() {
            self.saving = None;
            return;
        }
        let Saving { cursor, pieces, next, .. } = saving;
        let piece = next.take().unwrap_or_else(|| self.profiles.piece(cursor));
        if let Err(TrySendError::Full(piece)) = pieces.try_send(piece) {
            *next = Some(piece);
        }
    }

    /// Replaces the file now, if something has changed.
    pub(crate) fn save(&mut self) {
        let given_up = self.saving.take().map(|Saving { pieces, thread, .. }| {
            // Without an end it is given up; what is on its way to the disk goes before the last file.
            drop(pieces);
            thread.join().is_err()
        });
        if std::mem::take(&mut self.changed) || given_up.is_some() {
            told(self.write());
        }
    }

    fn write(&self) -> io::Result<()> {
        files::write_private_with(&self.file, |file| {
            let mut cursor = self.profiles.snapshot();
            while let Some(piece) = self.profiles.piece(&mut cursor) {
                file.write_all(&piece)?;
            }
            Ok(())
        })
    }
}

impl Drop for Keeper {
    fn drop(&mut self) {
        self.save();
    }
}

/// Writes what comes until nothing comes; what ends before that leaves the file as it was.
fn write_pieces(file: &Path, pieces: &Receiver<Option<Vec<u8>>>) -> io::Result<()> {
    files::write_private_with(file, |file| {
        loop {
            match pieces.recv() {
                Ok(Some(piece)) => file.write_all(&piece)?,
                Ok(None) => return Ok(()),
                Err(_) => return Err(io::ErrorKind::Interrupted.into()),
            }
        }
    })
}

fn told(written: io::Result<()>) {
    match written {
        // The last file follows.
        Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
        Err(error) => {
            warn!(%error, "profiles are not on disk; a restart forgets what was learned since");
        }
        Ok(()) => {}
    }
}

/// What the file tells, if there is one. One that is too large is none of ours.
fn restore(plan: &Plan, key: [u8; 16], file: &Path) -> Option<Result<Profiles, SnapshotError>> {
    let opened = match File::open(file) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return None,
        Err(error) => return Some(Err(SnapshotError::Unread(error.kind()))),
        Ok(opened) => opened,
    };
    if opened.metadata().is_ok_and(|found| found.len() > FILE_MAX) {
        return Some(Err(SnapshotError::Version));
    }
    Some(Profiles::restore(plan.clone(), key, &mut BufReader::new(opened)))
}

/// The secret that names are hashed with; made at the first start.
fn key(file: &Path) -> Result<[u8; 16]> {
    let read = match std::fs::read(file) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        read => Some(read.with_context(|| format!("cannot read {}", file.display()))?),
    };
    if let Some(bytes) = read {
        if let Ok(key) = <[u8; 16]>::try_from(bytes.as_slice()) {
            return Ok(key);
        }
        warn!("the key of the profiles is damaged: another one is made, and profiles begin anew");
    }
    let mut key = [0; 16];
    if SystemRandom::new().fill(&mut key).is_err() {
        anyhow::bail!("the system gives no random bytes");
    }
    files::write_private(file, &key).with_context(|| format!("cannot write {}", file.display()))?;
    Ok(key)
}

#[cfg(test)]
mod tests {
    use enforcer_model::{Clock, Source, SystemClock};

    use super::*;

    #[test]
    fn what_was_learned_is_there_after_a_restart_and_a_damaged_file_is_put_aside() {
        let folder = tempfile::tempdir().unwrap();
        let now = SystemClock.now().monotonic;
        let plan = Plan::default();
        let mut keeper = Keeper::open(folder.path(), &plan, now).unwrap();
        keeper.observe(0, &request());
        drop(keeper);

        let again = Keeper::open(folder.path(), &plan, now).unwrap();
        assert_eq!(again.profiles.len(), 1);

        let file = folder.path().join("profiles");
        let mut bytes = std::fs::read(&file).unwrap();
        bytes[100] ^= 1;
        std::fs::write(&file, bytes).unwrap();
        let anew = Keeper::open(folder.path(), &plan, now).unwrap();
        assert!(anew.profiles.is_empty());
        assert!(folder.path().join("profiles.damaged").exists());
    }

    #[test]
    fn the_file_is_replaced_piece_by_piece_and_one_that_was_given_up_changes_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("profiles");
        let start = SystemClock.now().monotonic;
        let mut keeper = Keeper::open(folder.path(), &Plan::default(), start).unwrap();
        keeper.look_ahead(&[request()]);
        keeper.observe(0, &request());
        keeper.save_when_due(start + Duration::from_secs(1));
        assert!(keeper.saving.is_none() && !file.exists());

        keeper.save_when_due(start + SAVED_EVERY);
        while keeper.saving.is_some() {
            keeper.save_more();
            std::thread::yield_now();
        }
        let first = std::fs::read(&file).unwrap();
        assert!(!first.is_empty() && !folder.path().join("profiles.new").exists());

        // As after a kill in the middle: without an end there is no new file.
        let (pieces, received) = sync_channel(PIECES_MAX);
        pieces.send(Some(b"half".to_vec())).unwrap();
        drop(pieces);
        assert!(write_pieces(&file, &received).is_err());
        assert_eq!(std::fs::read(&file).unwrap(), first);
        std::fs::write(folder.path().join("profiles.new"), b"half").unwrap();
        drop(keeper);
        let again = Keeper::open(folder.path(), &Plan::default(), start).unwrap();
        assert_eq!(again.profiles.len(), 1);
    }

    #[test]
    fn an_agent_that_ends_while_it_saves_leaves_the_last_file() {
        let folder = tempfile::tempdir().unwrap();
        let start = SystemClock.now().monotonic;
        let mut keeper = Keeper::open(folder.path(), &Plan::default(), start).unwrap();
        keeper.observe(0, &request());
        keeper.save_when_due(start + SAVED_EVERY);
        keeper.save_more();
        drop(keeper);

        let again = Keeper::open(folder.path(), &Plan::default(), start).unwrap();
        assert_eq!(again.profiles.len(), 1);
    }

    fn request() -> Request<'static> {
        Request {
            at: Timestamp::from_unix_seconds(1_700_000_000),
            id: enforcer_model::RequestId::from_bits(1),
            source: Source::new("192.0.2.1".parse().unwrap()),
            through: None,
            identity: Some("key:k7Qx2mP9aB3c"),
            role: None,
            credential: None,
            ja4: None,
            user_agent: None,
            region: None,
            method: "GET",
            host: None,
            path: Some("/v1/orders/17"),
            route: Some("orders"),
            object: Some("17"),
            status: 200,
            reason: None,
            permitted: true,
            upstream: None,
            bytes_in: 0,
            bytes_out: 100,
            exposed: enforcer_model::Exposed::default(),
            incident: 0,
            duration: Duration::from_millis(1),
        }
    }
}
