//! Certificates that listeners show: what they are, reading them again, and saying in time that one
//! ends.
//!
//! Whatever puts another one in force, an order or a policy, is noticed here and recorded. A file that
//! cannot be used, or holds what is over, leaves the listener as it is.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use enforcer_admin::call::{
    CertificateRow, CertificatesListed, CertificatesReloaded, CertsOrder, ExpiryWarning,
    ListenerReloaded, OcspRow,
};
use enforcer_admin::{Answer, Refusal};
use enforcer_audit::{Audit, CertificateChange, CertificateEvent, Record, Ticket};
use enforcer_model::{Author, Moment, Timestamp};
use enforcer_policy::Policy;
use enforcer_proxy::{Certificates, Held};
use tracing::{info, warn};

use super::Desk;

/// How often certificates are looked at.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// What is known of the certificates in force.
pub(crate) struct CertDesk {
    certificates: Arc<Certificates>,
    audit: Audit,
    known: Vec<Held>,
    /// What was last said of each, by its hash; no more than there are certificates.
    warned: HashMap<String, ExpiryWarning>,
    looked: Option<Instant>,
}

impl Desk {
    /// Tells what certificates are in force, or reads them again and puts that on record.
    pub(super) async fn order_certs(
        &mut self,
        order: CertsOrder,
        by: &Author,
    ) -> Result<Answer, Refusal> {
        let now = self.clock.now();
        match order {
            CertsOrder::List => Ok(Answer::Certificates(CertificatesListed {
                certificates: self.certs.rows(now.wall),
            })),
            CertsOrder::Reload => {
                let policy = self.policies.current();
                let (reloaded, ticket) = self.certs.reload(&policy, by, now);
                let refused = reloaded.listeners.iter().filter(|one| one.refused.is_some());
                let refused = refused.map(|one| format!("{} stays as it was", one.listener));
                let done = Ok((Answer::CertificatesReloaded(reloaded.clone()), ticket));
                self.clerk.recorded("certs reload", refused.collect(), by, done).await
            }
        }
    }
}

impl CertDesk {
    /// Begins with those in force.
    pub(crate) fn new(certificates: Arc<Certificates>, audit: Audit) -> Self {
        let known = certificates.list();
        Self { certificates, audit, known, warned: HashMap::new(), looked: None }
    }

    /// Every certificate in force.
    pub(super) fn rows(&self, now: Timestamp) -> Vec<CertificateRow> {
        self.certificates.list().iter().map(|held| row(held, now)).collect()
    }

    /// Those that somebody has to see to.
    pub(super) fn pressing(&self, now: Timestamp) -> Vec<CertificateRow> {
        let pressing = |row: &CertificateRow| {
            let stapled = row.ocsp.as_ref().is_none_or(|ocsp| ocsp.problem.is_none());
            row.warning.is_some() || !stapled
        };
        self.rows(now).into_iter().filter(pressing).collect()
    }

    fn reload(
        &mut self,
        policy: &Policy,
        by: &Author,
        now: Moment,
    ) -> (CertificatesReloaded, Option<Ticket>) {
        let outcome = self.certificates.reload_each(policy);
        let (before, after) = (self.known.clone(), self.certificates.list());
        let mut ticket = None;
        for (listener, refused) in &outcome {
            if let Some(why) = refused {
                warn!(%listener, why, "new certificates are not in force; the old ones stay");
                ticket = self.note(refusal(listener, why, &before, by)).or(ticket);
            }
        }
        ticket = self.notice(by).or(ticket);
        let listeners = outcome.into_iter().map(|(listener, refused)| {
            let of = |all: &[Held]| -> Vec<Held> {
                all.iter().filter(|held| held.listener == listener).cloned().collect()
            };
            let (before, after) = (of(&before), of(&after));
            let rows = |all: &[Held], others: &[Held]| -> Vec<CertificateRow> {
                all.iter()
                    .filter(|one| !is_among(one, others))
                    .map(|one| row(one, now.wall))
                    .collect()
            };
            let (added, removed) = (rows(&after, &before), rows(&before, &after));
            let unchanged = u64::try_from(after.len() - added.len()).unwrap_or(u64::MAX);
            ListenerReloaded { listener: listener.to_string(), refused, added, removed, unchanged }
        });
        (CertificatesReloaded { listeners: listeners.collect(), audit: None }, ticket)
    }

    /// Notices what a policy has put in force, and what ends.
    pub(crate) fn tick(&mut self, now: Moment) {
        let is_due =
            |looked: Instant| now.monotonic.saturating_duration_since(looked) >= LOOK_EVERY;
        if !self.looked.is_none_or(is_due) {
            return;
        }
        self.looked = Some(now.monotonic);
        drop(self.notice(&Author::Agent));
        self.warn(now.wall);
    }

    /// Records what is another one than it was; the last record's ticket.
    fn notice(&mut self, by: &Author) -> Option<Ticket> {
        let fresh = self.certificates.list();
        let before = std::mem::replace(&mut self.known, fresh);
        let mut ticket = None;
        for held in self.known.iter().filter(|held| !is_among(held, &before)) {
            let was =
                before.iter().find(|was| was.listener == held.listener && was.file == held.file);
            info!(
                listener = %held.listener,
                sha256 = held.sha256,
                not_after = %held.not_after,
                "another certificate is in force"
            );
            let change = CertificateChange {
                what: CertificateEvent::Replaced,
                before: was.map(|was| was.sha256.clone()),
                author: by.clone(),
                ..change(held)
            };
            ticket = self.note(change).or(ticket);
        }
        ticket
    }

    /// Says once of each certificate that it ends soon, that it ends very soon, and that it is over.
    fn warn(&mut self, now: Timestamp) {
        let all = std::mem::take(&mut self.known);
        self.warned.retain(|sha256, _| all.iter().any(|held| held.sha256 == *sha256));
        for held in &all {
            let days = days_left(held.not_after, now);
            let Some(warning) = warning(held, now) else { continue };
            let said = self.warned.insert(held.sha256.clone(), warning);
            if said.is_some_and(|said| said >= warning) {
                continue;
            }
            let (listener, file) = (&held.listener, held.file.display());
            warn!(%listener, %file, days, "a certificate has to be replaced");
            let (what, cause) = match warning {
                ExpiryWarning::Invalid => {
                    (CertificateEvent::Expired, "it is not valid at this time".to_owned())
                }
                ExpiryWarning::Soon | ExpiryWarning::VerySoon => {
                    (CertificateEvent::Expiring, format!("{days} days are left"))
                }
            };
            drop(self.note(CertificateChange { what, cause: Some(cause), ..change(held) }));
        }
        self.known = all;
    }

    fn note(&self, change: CertificateChange) -> Option<Ticket> {
        self.audit.reserve().ok().map(|slot| slot.write(Record::Certificate(Box::new(change))))
    }
}

fn is_among(held: &Held, others: &[Held]) -> bool {
    others.iter().any(|one| one.listener == held.listener && one.sha256 == held.sha256)
}

/// A record of a certificate in force, in which only what happened is missing.
fn change(held: &Held) -> CertificateChange {
    CertificateChange {
        what: CertificateEvent::Replaced,
        listener: held.listener.to_string(),
        names: held.names.clone(),
        before: None,
        after: Some(held.sha256.clone()),
        not_after: Some(held.not_after),
        author: Author::Agent,
        cause: None,
    }
}

fn refusal(listener: &str, why: &str, before: &[Held], by: &Author) -> CertificateChange {
    let stays = before.iter().find(|held| &*held.listener == listener);
    CertificateChange {
        what: CertificateEvent::Refused,
        listener: listener.to_owned(),
        names: stays.map(|held| held.names.clone()).unwrap_or_default(),
        before: stays.map(|held| held.sha256.clone()),
        after: stays.map(|held| held.sha256.clone()),
        not_after: stays.map(|held| held.not_after),
        author: by.clone(),
        cause: Some(why.to_owned()),
    }
}

fn row(held: &Held, now: Timestamp) -> CertificateRow {
    CertificateRow {
        listener: held.listener.to_string(),
        default: held.default,
        names: held.names.clone(),
        subject: held.subject.clone(),
        issuer: held.issuer.clone(),
        not_before: held.not_before,
        not_after: held.not_after,
        days_left: days_left(held.not_after, now),
        warning: warning(held, now),
        sha256: held.sha256.clone(),
        file: held.file.clone(),
        ocsp: held.staple.as_ref().map(|staple| OcspRow {
            file: staple.file.clone(),
            age_seconds: staple.this_update.map(|said| now.since(said).as_secs()),
            next_update: staple.next_update,
            problem: staple.problem.clone(),
        }),
    }
}

fn warning(held: &Held, now: Timestamp) -> Option<ExpiryWarning> {
    if held.not_before > now {
        return Some(ExpiryWarning::Invalid);
    }
    ExpiryWarning::of(seconds_left(held.not_after, now))
}

fn seconds_left(end: Timestamp, now: Timestamp) -> i64 {
    let (end, now) = (end.unix_seconds(), now.unix_seconds());
    let apart = |more: u64, less: u64| i64::try_from(more - less).unwrap_or(i64::MAX);
    if end >= now { apart(end, now) } else { -apart(now, end) }
}

fn days_left(end: Timestamp, now: Timestamp) -> i64 {
    seconds_left(end, now).div_euclid(86_400)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn days_are_whole_ones_and_below_zero_behind_the_end() {
        let at = Timestamp::from_unix_seconds;
        assert_eq!(days_left(at(10 * 86_400), at(1)), 9);
        assert_eq!(days_left(at(86_400), at(0)), 1);
        assert_eq!(days_left(at(0), at(1)), -1);
    }

    #[test]
    fn the_nearer_the_end_the_louder_the_warning() {
        let days = |days: i64| ExpiryWarning::of(days * 86_400);
        assert_eq!([days(31), days(30)], [None, None]);
        assert_eq!(days(29), Some(ExpiryWarning::Soon));
        assert_eq!(days(6), Some(ExpiryWarning::VerySoon));
        assert_eq!(days(0), Some(ExpiryWarning::Invalid));
        assert!(ExpiryWarning::Invalid > ExpiryWarning::VerySoon);
    }
}
