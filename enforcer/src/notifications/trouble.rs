//! Says when the audit log is not as it should be: nothing can be written, records were refused,
//! what it held was damaged, or nobody outside has seen it for too long.
//!
//! Judges what `status` shows. Trouble is told when it begins, and its end once it has been over for
//! [`QUIET`], so that what comes and goes is told once. While nothing can be written, records that
//! are refused are counted and told with the end.

use std::collections::BTreeMap;
use std::time::Duration;

use enforcer_admin::call::AnchorStatus;
use enforcer_audit::Health;
use enforcer_model::Timestamp;
use enforcer_notify::{Kind, Notice, Severity};

/// What has not been seen for so long is over.
const QUIET: Duration = Duration::from_secs(30);
/// After a start, witnesses have so long to be asked before they count as silent.
const GRACE: Duration = Duration::from_secs(60);

/// What is known of the log's troubles.
pub(super) struct Watch {
    since: Timestamp,
    /// Records refused, as of the last look.
    refused: u64,
    held: BTreeMap<String, Held>,
}

/// A trouble that was told.
struct Held {
    words: String,
    /// When it was last seen.
    last: Timestamp,
    /// Records that had been refused when it began.
    refused: u64,
}

/// The log as it is.
pub(super) struct Seen {
    pub(super) health: Health,
    pub(super) refused: u64,
    pub(super) anchors: AnchorStatus,
}

/// A trouble that is there now.
struct Trouble {
    what: String,
    severity: Severity,
    words: String,
}

impl Watch {
    pub(super) const fn new(now: Timestamp, refused: u64) -> Self {
        Self { since: now, refused, held: BTreeMap::new() }
    }

    /// What the opening of the log had to say.
    pub(super) fn found(&self, words: &str) -> Notice {
        let title = format!("audit log: {words}");
        Notice::new(Kind::AuditTrouble, Severity::Warning, self.since, &title)
            .with_text("`enforcer audit verify` tells what of it can be proven.")
            .with_about("audit:opening")
    }

    /// What is to be told of the log as it is.
    pub(super) fn look(&mut self, seen: &Seen, now: Timestamp) -> Vec<Notice> {
        let mut notices = Vec::new();
        for Trouble { what, severity, words } in self.troubles(seen, now) {
            let refused = match self.held.get_mut(&what) {
                Some(held) if held.words == words => {
                    held.last = now;
                    continue;
                }
                Some(held) => held.refused,
                None => self.refused,
            };
            let told = Notice::new(Kind::AuditTrouble, severity, now, &words)
                .with_text("`enforcer status` and `enforcer doctor` tell more.")
                .with_about(format!("audit:{what}"));
            notices.push(told);
            self.held.insert(what, Held { words, last: now, refused });
        }
        self.refused = seen.refused;
        let is_over = |held: &Held| now.since(held.last) >= QUIET;
        let over: Vec<String> = self
            .held
            .iter()
            .filter(|(_, held)| is_over(held))
            .map(|(what, _)| what.clone())
            .collect();
        for what in over {
            let Some(held) = self.held.remove(&what) else { continue };
            let mut title = format!("over: {}", held.words);
            let refused = seen.refused.saturating_sub(held.refused);
            if refused > 0 {
                title.push_str(&format!("; {refused} records were refused meanwhile"));
            }
            // Whoever was told of its beginning is told of its end.
            let told = Notice::new(Kind::AuditTrouble, Severity::Warning, now, &title);
            notices.push(told.with_about(format!("audit:{what}")));
        }
        notices
    }

    fn troubles(&self, seen: &Seen, now: Timestamp) -> Vec<Trouble> {
        let trouble = |what: &str, severity, words: String| Trouble {
            what: what.to_owned(),
            severity,
            words,
        };
        let mut troubles = Vec::new();
        match &seen.health {
            Health::DiskFull => {
                let words = "the audit log takes no records: the disk is full".to_owned();
                troubles.push(trouble("writing", Severity::Critical, words));
            }
            Health::Failed(why) => {
                let words = format!("the audit log takes no records: {why}");
                troubles.push(trouble("writing", Severity::Critical, words));
            }
            // The agent ends, and says so itself.
            Health::Closed => return troubles,
            Health::Serving if seen.refused > self.refused => {
                let words = "records of the audit log were refused: it has a gap".to_owned();
                troubles.push(trouble("gap", Severity::Error, words));
            }
            Health::Serving => {}
        }
        let anchors = &seen.anchors;
        if let Some(bound) = anchors.age_bound_seconds
            && anchors.is_overdue
            && now.since(self.since) > GRACE.min(Duration::from_secs(bound))
        {
            let who = match anchors.witnesses.is_empty() {
                true => "timestamping authority has stamped",
                false => "quorum of witnesses has cosigned",
            };
            let words = format!("no {who} the audit log for more than {bound} s");
            troubles.push(trouble("witnesses", Severity::Error, words));
        }
        for witness in anchors.witnesses.iter().filter(|witness| witness.contradicts) {
            let words = format!(
                "witness {} knows another audit log: this one was cut, put back or forked",
                witness.name
            );
            troubles.push(trouble(&format!("witness/{}", witness.name), Severity::Critical, words));
        }
        troubles
    }
}

#[cfg(test)]
mod tests {
    use enforcer_admin::call::WitnessRow;

    use super::*;

    fn at(seconds: u64) -> Timestamp {
        Timestamp::from_unix_seconds(1_795_000_000 + seconds)
    }

    fn seen(health: Health, refused: u64) -> Seen {
        Seen { health, refused, anchors: AnchorStatus::default() }
    }

    fn told(watch: &mut Watch, seen: &Seen, seconds: u64) -> Vec<(Severity, String)> {
        let notices = watch.look(seen, at(seconds));
        assert!(notices.iter().all(|notice| notice.kind() == Kind::AuditTrouble));
        notices.iter().map(|one| (one.severity(), one.title().to_owned())).collect()
    }

    #[test]
    fn a_log_that_takes_nothing_is_told_at_once_and_its_end_with_what_was_refused() {
        let mut watch = Watch::new(at(0), 5);
        assert_eq!(told(&mut watch, &seen(Health::Serving, 5), 1), []);

        let [(severity, words)] = &*told(&mut watch, &seen(Health::DiskFull, 8), 2) else {
            panic!()
        };
        assert_eq!(*severity, Severity::Critical);
        assert_eq!(words, "the audit log takes no records: the disk is full");
        assert_eq!(told(&mut watch, &seen(Health::DiskFull, 12), 3), []);
        assert_eq!(told(&mut watch, &seen(Health::Serving, 12), 4), [], "it may come again");
        assert_eq!(told(&mut watch, &seen(Health::DiskFull, 15), 5), [], "and is the same then");

        assert_eq!(told(&mut watch, &seen(Health::Serving, 15), 34), []);
        let [(severity, words)] = &*told(&mut watch, &seen(Health::Serving, 15), 35) else {
            panic!()
        };
        assert_eq!(*severity, Severity::Warning);
        assert!(words.ends_with("the disk is full; 10 records were refused meanwhile"), "{words}");
        assert_eq!(told(&mut watch, &seen(Health::Serving, 15), 99), []);
    }

    #[test]
    fn another_reason_is_told_as_well() {
        let mut watch = Watch::new(at(0), 0);
        told(&mut watch, &seen(Health::DiskFull, 0), 1);

        let failed = seen(Health::Failed("it was moved away".into()), 0);
        let [(_, words)] = &*told(&mut watch, &failed, 2) else { panic!() };

        assert!(words.ends_with("it was moved away"));
        assert_eq!(told(&mut watch, &failed, 3), []);
    }

    #[test]
    fn refused_records_are_a_gap_told_once_and_a_log_that_is_closed_is_none() {
        let mut watch = Watch::new(at(0), 0);

        let [(severity, words)] = &*told(&mut watch, &seen(Health::Serving, 3), 1) else {
            panic!()
        };
        assert_eq!(*severity, Severity::Error);
        assert!(words.contains("gap"));
        for second in 2..20 {
            assert_eq!(told(&mut watch, &seen(Health::Serving, 3 + second), second), []);
        }
        assert_eq!(told(&mut watch, &seen(Health::Closed, 30), 21), []);
        let [(_, words)] = &*told(&mut watch, &seen(Health::Serving, 30), 60) else { panic!() };
        assert!(words.contains("30 records were refused"), "{words}");
    }

    #[test]
    fn silent_witnesses_are_told_after_their_time_and_one_that_contradicts_at_once() {
        let mut watch = Watch::new(at(0), 0);
        let row = |contradicts| WitnessRow {
            name: "north".to_owned(),
            url: "https://north.example/add-checkpoint".to_owned(),
            cosigned: None,
            trouble: None,
            contradicts,
        };
        let overdue = |contradicts| Seen {
            anchors: AnchorStatus {
                quorum: 1,
                witnesses: vec![row(contradicts)],
                age_bound_seconds: Some(600),
                is_overdue: true,
                ..AnchorStatus::default()
            },
            ..seen(Health::Serving, 0)
        };

        assert_eq!(told(&mut watch, &overdue(false), 60), [], "they are asked first");
        let [(severity, words)] = &*told(&mut watch, &overdue(false), 61) else { panic!() };
        assert_eq!(*severity, Severity::Error);
        assert_eq!(words, "no quorum of witnesses has cosigned the audit log for more than 600 s");
        let [(severity, words)] = &*told(&mut watch, &overdue(true), 62) else { panic!() };
        assert_eq!(*severity, Severity::Critical);
        assert!(words.starts_with("witness north knows another audit log"), "{words}");
    }
}
