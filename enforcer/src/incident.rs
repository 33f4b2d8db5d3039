//! The incident level: set by an operator or raised by rules, kept over a restart, and over by itself
//! when its time is.
//!
//! What holds is the higher of the two. A rule only adds to what an operator has set, and what an
//! operator sets ends what rules have raised: whoever lowers it by hand is not overruled by what was
//! found before.

use std::io::ErrorKind;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use enforcer_admin::call::{IncidentLevel as Asked, IncidentStatus};
use enforcer_admin::{Refusal, RefusalKind};
use enforcer_audit::{Audit, ConfigChange, ConfigEvent, Record, Ticket};
use enforcer_model::{Author, Timestamp};
use enforcer_notify::{Kind, Notice, Notifier, Severity};
use enforcer_proxy::IncidentLevel;
use serde::{Deserialize, Serialize};
use tracing::{error, info};

use crate::files;

/// The owner of the level; requests read the copy behind `level`.
pub(crate) struct Incident {
    file: PathBuf,
    level: Arc<IncidentLevel>,
    held: Option<Held>,
    /// What rules have raised, one each.
    raised: Vec<Raised>,
    audit: Audit,
    notifier: Notifier,
}

/// Rules that can have raised the level at once; what one more wants is refused.
const RAISED_MAX: usize = 64;

/// A level that a rule asks for.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct Raised {
    rule: String,
    level: u8,
    since: Timestamp,
    until: Timestamp,
    reason: String,
}

/// What the file says: of old, what an operator has set and nothing else.
#[derive(Debug, Deserialize, Serialize)]
#[serde(untagged)]
enum Kept {
    ByHand(Held),
    All(All),
}

#[derive(Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct All {
    held: Option<Held>,
    raised: Vec<Raised>,
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
        notifier: Notifier,
        now: Timestamp,
    ) -> Self {
        let broken = "the file with the level cannot be read";
        let kept = match std::fs::read(&file) {
            Err(error) if error.kind() == ErrorKind::NotFound => {
                Kept::All(All { held: None, raised: Vec::new() })
            }
            read => read.and_then(|bytes| Ok(serde_json::from_slice(&bytes)?)).unwrap_or_else(
                |error| {
                    error!(%error, file = %file.display(), "the incident level cannot be read; the highest holds");
                    let title = format!("the incident level is {}: {broken}", IncidentLevel::MAX);
                    notifier.tell(Notice::new(Kind::LevelChanged, Severity::Critical, now, &title));
                    let reason = broken.to_owned();
                    Kept::ByHand(Held { level: IncidentLevel::MAX, since: now, until: None, reason })
                },
            ),
        };
        let All { held, raised } = match kept {
            Kept::ByHand(held) => All { held: Some(held), raised: Vec::new() },
            Kept::All(all) => all,
        };
        let mut incident = Self { file, level, held, raised, audit, notifier };
        incident.publish();
        incident.tick(now);
        incident
    }

    /// The level in force, and who has it so.
    pub(crate) fn status(&self) -> IncidentStatus {
        let mut status = IncidentStatus {
            level: self.level.get(),
            before: None,
            since: None,
            until: None,
            reason: None,
            audit: None,
        };
        let held = self.held.as_ref().filter(|held| held.level == status.level);
        if let Some(held) = held {
            status.since = Some(held.since);
            status.until = held.until;
            status.reason = Some(held.reason.clone());
        } else if let Some(raised) = self.highest() {
            status.since = Some(raised.since);
            status.until = Some(raised.until);
            status.reason = Some(format!("rule {}: {}", raised.rule, raised.reason));
        }
        status
    }

    /// Of what rules have raised, the highest, and of these the one that lasts longest.
    fn highest(&self) -> Option<&Raised> {
        self.raised.iter().max_by_key(|raised| (raised.level, raised.until))
    }

    /// What a rule asks for: that level while it lasts, none with level 0.
    fn raise(&mut self, rule: &str, asked: &Asked, now: Timestamp) -> Result<(), Refusal> {
        self.raised.retain(|raised| raised.rule != rule);
        if asked.level == 0 {
            return Ok(());
        }
        if self.raised.len() >= RAISED_MAX {
            let message = format!("{RAISED_MAX} rules have raised the level already");
            return Err(Refusal::new(RefusalKind::Guarded, message));
        }
        let ttl = asked.ttl_seconds.ok_or_else(|| {
            Refusal::new(RefusalKind::Usage, "what a rule raises ends by itself: it needs a time")
        })?;
        self.raised.push(Raised {
            rule: rule.to_owned(),
            level: asked.level,
            since: now,
            until: now.saturating_add(Duration::from_secs(ttl)),
            reason: asked.reason.clone(),
        });
        Ok(())
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
        if let Author::Rule(rule) = by {
            self.raise(rule, asked, now)?;
        } else {
            let until = asked.ttl_seconds.map(|ttl| now.saturating_add(Duration::from_secs(ttl)));
            self.held = (asked.level > 0).then(|| Held {
                level: asked.level,
                since: now,
                until,
                reason: asked.reason.clone(),
            });
            self.raised.clear();
        }
        // In force first: a disk that refuses must not keep anybody from raising it.
        self.publish();
        let kept = self.keep();
        let ticket = self.note(before, by, &asked.reason);
        self.tell(before, by, &asked.reason, now);
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
        let by_hand = self.held.as_ref().is_some_and(over);
        if !by_hand && self.raised.iter().all(|raised| raised.until > now) {
            return;
        }
        let before = self.level.get();
        if by_hand {
            self.held = None;
        }
        self.raised.retain(|raised| raised.until > now);
        self.publish();
        if let Err(error) = self.keep() {
            error!(%error, "the end of the incident level is not on disk");
        }
        let why = "its time is over";
        drop(self.note(before, &Author::Agent, why));
        if by_hand {
            self.tell(before, &Author::Agent, why, now);
        }
    }

    /// Receivers hear of it; of what rules raise and lower, their decisions and triggers tell.
    fn tell(&self, before: u8, by: &Author, reason: &str, now: Timestamp) {
        let level = self.level.get();
        if level == before || matches!(by, Author::Rule(_)) {
            return;
        }
        let title = format!("the incident level is {level}, before {before}: {reason}");
        let mut notice = Notice::new(Kind::LevelChanged, Severity::Warning, now, &title)
            .with_text(&format!("set by {by}; `enforcer incident level` shows it"))
            .with_fact("level", level)
            .with_fact("before", before);
        if let Author::Operator { name, .. } = by {
            notice = notice.by_operator(name);
        }
        self.notifier.tell(notice);
    }

    fn publish(&self) {
        let by_hand = self.held.as_ref().map_or(0, |held| held.level);
        self.level.set(self.highest().map_or(0, |raised| raised.level).max(by_hand));
    }

    fn keep(&self) -> std::io::Result<()> {
        let all = match (&self.held, &*self.raised) {
            (None, []) => return files::remove(&self.file),
            // As it was before there were rules.
            (Some(held), []) => Kept::ByHand(held.clone()),
            (held, raised) => Kept::All(All { held: held.clone(), raised: raised.to_vec() }),
        };
        files::write_private(&self.file, &serde_json::to_vec(&all)?)
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

#[cfg(test)]
mod tests {
    use enforcer_audit::Config;
    use enforcer_model::SystemClock;
    use enforcer_notify::Told;
    use tempfile::TempDir;

    use super::*;

    struct House {
        folder: TempDir,
        level: Arc<IncidentLevel>,
        audit: Audit,
        notifier: Notifier,
        told: Told,
    }

    impl House {
        fn new() -> Self {
            let folder = tempfile::tempdir().unwrap();
            let config = Config::new(folder.path().join("audit"), "test.example/enforcer");
            let (audit, _) = Audit::open(config, Arc::new(SystemClock)).unwrap();
            let (notifier, told) = Notifier::new();
            Self { folder, level: Arc::default(), audit, notifier, told }
        }

        fn open(&self, now: Timestamp) -> Incident {
            let file = self.folder.path().join("incident.json");
            let (audit, notifier) = (self.audit.clone(), self.notifier.clone());
            Incident::open(file, Arc::clone(&self.level), audit, notifier, now)
        }
    }

    fn at(second: u64) -> Timestamp {
        Timestamp::from_unix_seconds(second)
    }

    fn ask(incident: &mut Incident, by: &Author, level: u8, ttl: u64, now: u64) {
        let asked = Asked { level, ttl_seconds: Some(ttl), reason: "test".to_owned() };
        incident.set(&asked, by, at(now)).unwrap();
    }

    fn person() -> Author {
        Author::Operator { uid: 0, name: "root".into() }
    }

    fn rule(name: &str) -> Author {
        Author::Rule(name.to_owned())
    }

    #[test]
    fn rules_raise_what_people_have_set_and_never_lower_it() {
        let house = House::new();
        let mut incident = house.open(at(0));

        ask(&mut incident, &person(), 2, 100, 0);
        ask(&mut incident, &rule("a"), 1, 50, 0);
        assert_eq!(house.level.get(), 2);
        ask(&mut incident, &rule("b"), 3, 20, 0);
        assert_eq!(house.level.get(), 3);
        assert!(incident.status().reason.unwrap().starts_with("rule b:"));
        ask(&mut incident, &rule("b"), 0, 0, 5);
        assert_eq!(house.level.get(), 2, "taken back");

        ask(&mut incident, &rule("b"), 3, 20, 5);
        incident.tick(at(25));
        assert_eq!(house.level.get(), 2, "over");
        ask(&mut incident, &rule("b"), 3, 20, 30);
        ask(&mut incident, &person(), 0, 0, 31);
        assert_eq!(house.level.get(), 0, "people have the last word");
    }

    #[test]
    fn a_level_that_people_set_is_told_with_its_end_and_one_that_rules_raise_is_theirs_to_tell() {
        let mut house = House::new();
        let mut incident = house.open(at(0));

        ask(&mut incident, &person(), 2, 100, 0);
        ask(&mut incident, &person(), 2, 100, 1);
        ask(&mut incident, &rule("a"), 3, 5, 2);
        incident.tick(at(50));
        incident.tick(at(101));

        let told: Vec<_> = std::iter::from_fn(|| house.told.waiting()).collect();
        let [set, over] = &*told else { panic!("{told:#?}") };
        assert!(told.iter().all(|notice| notice.kind() == Kind::LevelChanged));
        assert_eq!(set.title(), "the incident level is 2, before 0: test");
        assert!(set.facts().contains(&("operator".to_owned(), "root".to_owned())));
        assert_eq!(over.title(), "the incident level is 0, before 2: its time is over");
    }

    #[test]
    fn what_a_rule_has_raised_holds_over_a_restart_and_ends_at_its_time() {
        let house = House::new();
        let mut incident = house.open(at(0));
        ask(&mut incident, &rule("a"), 2, 50, 0);
        drop(incident);
        house.level.set(0);

        let mut incident = house.open(at(49));
        assert_eq!(house.level.get(), 2);
        incident.tick(at(50));

        assert_eq!(house.level.get(), 0);
        assert!(!house.folder.path().join("incident.json").exists());
    }

    #[test]
    fn a_file_from_before_rules_raised_levels_is_read() {
        let house = House::new();
        let old = br#"{"level":2,"since":"1970-01-01T00:00:00.000000Z","until":null,"reason":"x"}"#;
        std::fs::write(house.folder.path().join("incident.json"), old).unwrap();

        let mut incident = house.open(at(9));
        assert_eq!(house.level.get(), 2);
        ask(&mut incident, &person(), 3, 9, 9);
        drop(incident);

        let kept = std::fs::read(house.folder.path().join("incident.json")).unwrap();
        assert!(serde_json::from_slice::<Held>(&kept).is_ok(), "and written so");
        std::fs::write(house.folder.path().join("incident.json"), b"{").unwrap();
        drop(house.open(at(9)));
        assert_eq!(house.level.get(), IncidentLevel::MAX);
    }
}
