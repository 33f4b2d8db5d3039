//! What keys need without being asked: last uses go to disk, and who must be told is told.
//!
//! A notice is stored and put on record first, then posted, one at a time and beside the desk: a
//! webhook that is slow or dead delays nothing. It is tried again with longer and longer pauses;
//! what it has not taken when the agent stops is tried again after the next start, and what it has
//! refused too often is put on record as not delivered. So a notice may arrive twice, never not at
//! all and nobody knows.

use std::sync::Arc;
use std::time::{Duration, Instant};

use enforcer_audit::{AdminAction, Outcome, Record};
use enforcer_authn::{KeyPlan, Notice, NoticeMark};
use enforcer_model::Author;
use tokio::sync::mpsc;
use tracing::{info, warn};

use super::super::Desk;
use crate::notices::{Post, Posted};

/// How often last uses are written and notices looked for.
const EVERY: Duration = Duration::from_secs(30);

/// Where the work stands between two rounds.
pub(in crate::desk) struct Upkeep {
    next: Option<Instant>,
    post: Post,
    /// Told by the one who posts.
    posted: mpsc::Receiver<(NoticeMark, Posted)>,
    /// Notices that wait for an answer of the webhook.
    waiting: usize,
    /// Where they are posted.
    webhook: Option<Arc<str>>,
}

impl Upkeep {
    pub(in crate::desk) fn new() -> Self {
        let (post, posted) = Post::new();
        Self { next: None, post, posted, waiting: 0, webhook: None }
    }

    /// What waits for one webhook does not wait for another.
    fn turn_to(&mut self, webhook: Option<&Arc<str>>) {
        if self.webhook.as_ref() != webhook {
            let next = self.next;
            *self = Self { next, webhook: webhook.cloned(), ..Self::new() };
        }
    }
}

impl Desk {
    /// A round of upkeep, if it is time.
    pub(in crate::desk) fn look_after_keys(&mut self, upkeep: &mut Upkeep) {
        while let Ok((mark, outcome)) = upkeep.posted.try_recv() {
            upkeep.waiting = upkeep.waiting.saturating_sub(1);
            self.note_posted(&mark, outcome);
        }
        let now = self.clock.now().monotonic;
        if upkeep.next.is_some_and(|next| now < next) {
            return;
        }
        upkeep.next = now.checked_add(EVERY);
        self.flush_uses();
        let plan = self.key_plan();
        self.keys.set_prefix(plan.prefix);
        self.give_notices(&plan);
        upkeep.turn_to(plan.webhook.as_ref());
        if upkeep.waiting == 0 {
            upkeep.waiting = self.post_notices(&plan, &upkeep.post);
        }
    }

    /// Writes every last use that is not on disk.
    pub(in crate::desk) fn flush_uses(&mut self) {
        loop {
            match self.keys.flush_uses() {
                Ok(enforcer_authn::KeyStore::USES_AT_ONCE) => {}
                Ok(_) => return,
                Err(error) => {
                    let error = crate::cli::chain(&error);
                    return warn!(error, "last uses of keys are not on disk; tried again");
                }
            }
        }
    }

    fn give_notices(&mut self, plan: &KeyPlan) {
        let now = self.clock.now().wall;
        let notices = match self.keys.give_notices(plan, now) {
            Ok(notices) => notices,
            Err(error) => {
                let error = crate::cli::chain(&error);
                return warn!(error, "notices about keys wait: they cannot be stored");
            }
        };
        for notice in &notices {
            let (kind, key, due) = (notice.notice.as_str(), notice.key, notice.due);
            info!(%key, name = notice.name, kind, %due, "notice about a key");
            self.record_notice(&notice.mark, Outcome::Done, told(notice));
        }
    }

    /// Hands over what is not posted yet; says how much.
    fn post_notices(&mut self, plan: &KeyPlan, post: &Post) -> usize {
        let Some(webhook) = &plan.webhook else { return 0 };
        match self.keys.unposted_notices(self.clock.now().wall) {
            Ok(notices) => post.send(webhook, notices),
            Err(error) => {
                warn!(error = crate::cli::chain(&error), "notices about keys cannot be read");
                0
            }
        }
    }

    fn note_posted(&mut self, mark: &NoticeMark, outcome: Posted) {
        let now = self.clock.now().wall;
        if let Err(error) = self.keys.notice_posted(mark, now) {
            warn!(error = crate::cli::chain(&error), "a notice may be posted a second time");
        }
        if let Posted::GivenUp(why) = outcome {
            warn!(key = %mark.key, why, "the webhook did not take a notice about a key");
            self.record_notice(mark, Outcome::Failed, format!("not posted: {why}"));
        }
    }

    fn record_notice(&self, mark: &NoticeMark, outcome: Outcome, detail: String) {
        let action = AdminAction {
            operator: Author::Agent,
            verb: "keys notice".to_owned(),
            arguments: vec![format!("key:{}", mark.key), mark.kind.as_str().to_owned()],
            outcome,
            detail: Some(detail),
        };
        let ticket = self.clerk.audit.reserve().map(|slot| slot.write(Record::Admin(action)));
        if ticket.is_err() {
            warn!(key = %mark.key, "a notice about a key is not on record");
        }
    }
}

fn told(notice: &Notice) -> String {
    let (name, due) = (&notice.name, notice.due);
    match notice.notice {
        enforcer_authn::NoticeKind::Expiry => format!("`{name}` expires at {due}"),
        enforcer_authn::NoticeKind::Rotation => format!("`{name}` should be rotated since {due}"),
    }
}
