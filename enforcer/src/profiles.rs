//! Behaviour profiles at work: kept in a file over restarts, shown to operators.
//!
//! The file is replaced whole, every few minutes and at the end. One that is damaged is put aside and
//! said; profiles then begin anew, and find nothing until they have learned.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use enforcer_admin::call::ProfilesShown;
use enforcer_detect::profile::Plan;
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
}

impl Keeper {
    /// What is kept in the folder `state`.
    pub(crate) fn open(state: &Path, plan: &Plan, now: Instant) -> Result<Self> {
        let key = key(&state.join("profiles.key"))?;
        let file = state.join("profiles");
        let profiles = match read(&file)? {
            None => Profiles::new(plan.clone(), key),
            Some(bytes) => Profiles::restore(plan.clone(), key, &bytes).unwrap_or_else(|error| {
                let aside = file.with_extension("damaged");
                // The next file takes its place either way.
                let kept = std::fs::rename(&file, &aside).is_ok();
                warn!(%error, kept, "profiles begin anew: the file of the last run is of no use");
                Profiles::new(plan.clone(), key)
            }),
        };
        info!(identities = profiles.len(), "profiles");
        Ok(Self { profiles, file, saved: now, changed: false })
    }

    /// Puts another plan in force.
    pub(crate) fn replace(&mut self, plan: &Plan) {
        if self.profiles.plan() != plan {
            self.profiles.replace(plan.clone());
        }
    }

    /// Takes note of a request.
    pub(crate) fn observe(&mut self, request: &Request<'_>) -> Option<Finding> {
        self.changed = true;
        self.profiles.observe(request)
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

    /// Replaces the file now, if something has changed.
    pub(crate) fn save(&mut self) {
        if std::mem::take(&mut self.changed) {
            write(&self.file, &self.profiles.snapshot());
        }
    }

    /// Replaces the file when it is time, without waiting for the disk.
    pub(crate) fn save_when_due(&mut self, now: Instant) {
        if !self.changed || now.saturating_duration_since(self.saved) < SAVED_EVERY {
            return;
        }
        self.saved = now;
        self.changed = false;
        let (bytes, file) = (self.profiles.snapshot(), self.file.clone());
        drop(tokio::task::spawn_blocking(move || write(&file, &bytes)));
    }
}

impl Drop for Keeper {
    fn drop(&mut self) {
        self.save();
    }
}

fn write(file: &Path, bytes: &[u8]) {
    if let Err(error) = files::write_private(file, bytes) {
        warn!(%error, "profiles are not on disk; a restart forgets what was learned since");
    }
}

/// The file, if there is one. One that is too large is none of ours.
fn read(file: &Path) -> Result<Option<Vec<u8>>> {
    let told = || format!("cannot read {}", file.display());
    match std::fs::metadata(file) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error).with_context(told),
        Ok(found) if found.len() > FILE_MAX => Ok(Some(Vec::new())),
        Ok(_) => std::fs::read(file).map(Some).with_context(told),
    }
}

/// The secret that names are hashed with; made at the first start.
fn key(file: &Path) -> Result<[u8; 16]> {
    if let Some(bytes) = read(file)? {
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
        keeper.observe(&request());
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
            incident: 0,
            duration: Duration::from_millis(1),
        }
    }
}
