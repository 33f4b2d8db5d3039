//! The incident level: set by an operator, kept over a restart, and over by itself when its time is.

use std::io::ErrorKind;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use enforcer_admin::call::{IncidentLevel as Asked, IncidentStatus};
use enforcer_admin::{Refusal, RefusalKind};
use enforcer_audit::{Audit, ConfigChange, ConfigEvent, Record, Ticket};
use enforcer_model::{Author, Timestamp};
use enforcer_proxy::IncidentLevel;
use serde::{Deserialize, Serialize};
use tracing::{error, info};

use crate::files;

/// The owner of the level; requests read the copy behind `level`.
pub(crate) struct Incident {
    file: PathBuf,
    level: Arc<IncidentLevel>,
    held: Option<Held>,
    audit: Audit,
}

/// A level above 0.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct Held {
    level: u8,
    since: Timestamp,
    until: Option<Timestamp>,
    reason: String,
}

impl Incident {
    /// Takes up the level that held when the last agent ended.
    ///
    /// A file that cannot be read counts as the highest level: whoever raised it must not lose it
    /// to a broken disk.
    pub(crate) fn open(
        file: PathBuf,
        level: Arc<IncidentLevel>,
        audit: Audit,
        now: Timestamp,
    ) -> Self {
        let held = match std::fs::read(&file) {
            Err(error) if error.kind() == ErrorKind::NotFound => None,
            read => Some(read.and_then(|bytes| Ok(serde_json::from_slice(&bytes)?)).unwrap_or_else(
                |error| {
                    error!(%error, file = %file.display(), "the incident level cannot be read; the highest holds");
                    let reason = "the file with the level cannot be read".to_owned();
                    Held { level: IncidentLevel::MAX, since: now, until: None, reason }
                },
            )),
        };
        let mut incident = Self { file, level, held, audit };
        incident.publish();
        incident.tick(now);
        incident
    }

    /// The level in force.
    pub(crate) fn status(&self) -> IncidentStatus {
        let held = self.held.as_ref();
        IncidentStatus {
            level: self.level.get(),
            before: None,
            since: held.map(|held| held.since),
            until: held.and_then(|held| held.until),
            reason: held.map(|held| held.reason.clone()),
            audit: None,
        }
    }

    /// Sets the level, from the next request on.
    pub(crate) fn set(
        &mut self,
        asked: &Asked,
        by: &Author,
        now: Timestamp,
    ) -> Result<(IncidentStatus, Option<Ticket>), Refusal> {
        if asked.level > IncidentLevel::MAX {
            let message = format!("there is no incident level {}", asked.level);
            return Err(Refusal::new(RefusalKind::Usage, message)
                .hint(format!("levels are 0 (none) to {}", IncidentLevel::MAX)));
        }
        let before = self.level.get();
        let until = asked.ttl_seconds.map(|ttl| now.saturating_add(Duration::from_secs(ttl)));
        self.held = (asked.level > 0).then(|| Held {
            level: asked.level,
            since: now,
            until,
            reason: asked.reason.clone(),
        });
        // In force first: a disk that refuses must not keep anybody from raising it.
        self.publish();
        let kept = self.keep();
        let ticket = self.note(before, by, &asked.reason);
        kept.map_err(|error| {
            let message = format!(
                "level {} is in force, but would be lost with the agent: {error}",
                asked.level
            );
            Refusal::new(RefusalKind::Failed, message)
        })?;
        Ok((IncidentStatus { before: Some(before), ..self.status() }, ticket))
    }

    /// Ends a level whose time is over.
    pub(crate) fn tick(&mut self, now: Timestamp) {
        let over = |held: &Held| held.until.is_some_and(|until| until <= now);
        if !self.held.as_ref().is_some_and(over) {
            return;
        }
        let before = self.level.get();
        self.held = None;
        self.publish();
        if let Err(error) = self.keep() {
            error!(%error, "the end of the incident level is not on disk");
        }
        drop(self.note(before, &Author::Agent, "its time is over"));
    }

    fn publish(&self) {
        self.level.set(self.held.as_ref().map_or(0, |held| held.level));
    }

    fn keep(&self) -> std::io::Result<()> {
        match &self.held {
            Some(held) => files::write_private(&self.file, &serde_json::to_vec(held)?),
            None => files::remove(&self.file),
        }
    }

    fn note(&self, before: u8, by: &Author, reason: &str) -> Option<Ticket> {
        let level = self.level.get();
        info!(level, before, %by, "incident level");
        let change = ConfigChange {
            what: ConfigEvent::IncidentLevel,
            by: Some(by.clone()),
            policy: None,
            program: None,
            kernel_program: None,
            detail: Some(format!("{before} to {level}: {reason}")),
        };
        self.audit.reserve().ok().map(|slot| slot.write(Record::Config(change)))
    }
}
