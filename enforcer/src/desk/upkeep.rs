//! The audit log's own upkeep: personal values erased, old segments removed.
//!
//! An erasure has its place in the log reserved before any key is destroyed, and its receipt is on
//! disk before the answer is given. No answer, refusal, record or line of our own log repeats the
//! value.

use std::time::Instant;

use enforcer_admin::call::{Erase, ErasedAnswer, Prune, PrunedAnswer};
use enforcer_admin::{Answer, Refusal, RefusalKind};
use enforcer_audit::{Erasing, Erasure, Record, Vault, VaultError};
use enforcer_model::{Author, Moment};
use tracing::{error, info};

use super::{Desk, checked};
use crate::cli::chain;
use crate::retention::{self, Wish};

impl Desk {
    /// Erases a personal value, and puts on record that it was done and how much it was.
    pub(super) async fn erase(&self, asked: Erase, by: &Author) -> Result<Answer, Refusal> {
        checked(&asked.reason)?;
        let mut arguments = vec![asked.kind.to_string(), asked.reason.clone()];
        arguments.extend(asked.dry_run.then(|| "dry-run".to_owned()));
        let done = self.erased(asked, by).await;
        let done = done.map(|answer| (Answer::Erased(answer), None));
        self.clerk.recorded("audit erase", arguments, by, done).await
    }

    async fn erased(&self, asked: Erase, by: &Author) -> Result<ErasedAnswer, Refusal> {
        let Erase { kind, value, reason, dry_run } = asked;
        let audit = &self.clerk.audit;
        // Without a place for the receipt nothing is erased.
        let slot = audit.reserve().map_err(|full| untouched(&full))?;
        // What is in the segment that grows is found once it is closed.
        audit.roll().await.map_err(|lost| untouched(&lost))?;
        let vault = Vault::of(&self.audit_folder);
        let erasing = if dry_run { Erasing::Rehearsed } else { Erasing::ForGood };
        let work = move || vault.erase(kind, &value.0, erasing);
        let erased = tokio::task::spawn_blocking(work).await;
        let erased = erased.map_err(|error| untouched(&error))?.map_err(|error| match error {
            VaultError::Value(_) => Refusal::new(RefusalKind::Usage, chain(&error))
                .hint("name one address, or say what it is with `--kind`"),
            VaultError::Altered { .. } | VaultError::File(_) | VaultError::Random => {
                Refusal::new(RefusalKind::Failed, chain(&error))
                    .hint("some of it may be erased: ask again when the cause is gone")
            }
        })?;
        let (handles, segments) = (erased.handles, erased.segments);
        if handles == 0 {
            let message = format!("the log has no such {kind}, or it was erased before");
            return Err(Refusal::new(RefusalKind::NotFound, message)
                .hint("`--kind` says what it is; names are written as records have them"));
        }
        let mut answer = ErasedAnswer { kind, handles, segments, dry_run, audit: None };
        if !dry_run {
            info!(%kind, handles, segments, %by, "personal data erased from the audit log");
            let receipt = Erasure { kind, handles, segments, author: by.clone(), reason };
            let written = slot.write(Record::Erasure(receipt)).committed().await;
            answer.audit = written.ok();
        }
        Ok(answer)
    }

    /// Removes old segments, and puts on record which.
    pub(super) async fn prune(&self, asked: Prune, by: &Author) -> Result<Answer, Refusal> {
        let Prune { before, force, dry_run } = asked;
        let mut arguments = vec![format!("before {before}")];
        arguments.extend(force.then(|| "force".to_owned()));
        arguments.extend(dry_run.then(|| "dry-run".to_owned()));
        let done = self.pruned(asked, by).await;
        let done = done.map(|answer| (Answer::Pruned(answer), None));
        self.clerk.recorded("audit prune", arguments, by, done).await
    }

    async fn pruned(&self, asked: Prune, by: &Author) -> Result<PrunedAnswer, Refusal> {
        let Prune { before, force, dry_run } = asked;
        let known = if force { u64::MAX } else { self.known_elsewhere() };
        let failed = |why| Refusal::new(RefusalKind::Failed, why);
        let wish = |below, is_rehearsed| Wish {
            before,
            below,
            by: by.clone(),
            is_forced: force,
            is_rehearsed,
        };
        let (audit, folder) = (&self.clerk.audit, &self.audit_folder);
        let all = retention::prune(audit, folder, wish(u64::MAX, true)).await.map_err(failed)?;
        let Some(all) = all else {
            let message = format!("no closed segment has only records from before {before}");
            return Err(Refusal::new(RefusalKind::NotFound, message)
                .hint("the segment that grows stays; `enforcer audit stats` tells of the others"));
        };
        if all.pruned.until > known {
            let message = format!(
                "records up to {} would go, and witnesses know the log only up to {known}",
                all.pruned.until
            );
            return Err(Refusal::new(RefusalKind::Guarded, message)
                .hint("`enforcer audit anchor` shows it to them; `--force` goes without"));
        }
        let removed = retention::prune(audit, folder, wish(known, dry_run)).await;
        let removed = removed.map_err(failed)?.unwrap_or(all);
        Ok(removed.answer(before, dry_run))
    }

    /// Removes what the policy in force does not keep; `last` is when that was done.
    pub(super) async fn keep(&self, last: &mut Option<Instant>, now: Moment) {
        let since = last.map(|last| now.monotonic.saturating_duration_since(last));
        if since.is_some_and(|since| since < retention::EVERY) {
            return;
        }
        *last = Some(now.monotonic);
        let Some(keep) = self.policies.current().audit().keep else { return };
        let before = retention::before(now.wall, keep);
        let wish = Wish {
            before,
            below: self.known_elsewhere(),
            by: Author::Agent,
            is_forced: false,
            is_rehearsed: false,
        };
        match retention::prune(&self.clerk.audit, &self.audit_folder, wish).await {
            Ok(None) => {}
            Ok(Some(removed)) => {
                let (records, segments) = (removed.pruned.until, removed.pruned.segments);
                info!(records, segments, "old segments of the audit log removed");
            }
            Err(error) => error!(error, "old segments of the audit log could not be removed"),
        }
    }

    /// Up to which record witnesses know the log; all of it, where there are none.
    fn known_elsewhere(&self) -> u64 {
        let anchors = self.anchors.status(self.clock.now().wall);
        if anchors.quorum == 0 {
            return u64::MAX;
        }
        anchors.witnessed.map_or(0, |known| known.size)
    }
}

fn untouched(error: &dyn std::error::Error) -> Refusal {
    Refusal::new(RefusalKind::Failed, format!("nothing was erased: {}", chain(error)))
        .hint("`enforcer status` tells how the audit log is")
}
