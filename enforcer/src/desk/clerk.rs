//! Hands orders to the responder, and puts on record who asked for what.

use enforcer_admin::call::CaseAnswer;
use enforcer_admin::{Answer, Refusal, RefusalKind};
use enforcer_audit::{AdminAction, Audit, Outcome, Record, Ticket};
use enforcer_model::Author;
use tokio::sync::{mpsc, oneshot};

use crate::respond::Order;

/// What every call needs that changes something; one for the desk, one for each list in work.
#[derive(Clone)]
pub(crate) struct Clerk {
    pub(crate) orders: mpsc::Sender<Order>,
    pub(crate) audit: Audit,
}

impl Clerk {
    pub(super) async fn order<T>(
        &self,
        order: impl FnOnce(oneshot::Sender<Result<T, Refusal>>) -> Order,
    ) -> Result<T, Refusal> {
        let stopping = || Refusal::new(RefusalKind::Failed, "the agent is stopping");
        let (reply, answer) = oneshot::channel();
        self.orders.send(order(reply)).await.map_err(|_gone| stopping())?;
        answer.await.map_err(|_gone| stopping())?
    }

    /// Records what was asked and what came of it, and puts the record's number in the answer.
    pub(super) async fn recorded(
        &self,
        verb: &str,
        arguments: Vec<String>,
        by: &Author,
        done: Result<(Answer, Option<Ticket>), Refusal>,
    ) -> Result<Answer, Refusal> {
        let (outcome, detail) = match &done {
            Ok(_) => (Outcome::Done, None),
            Err(refusal) => match refusal.kind {
                RefusalKind::Failed => (Outcome::Failed, Some(refusal.message.clone())),
                RefusalKind::Guarded | RefusalKind::NotFound | RefusalKind::Usage => {
                    (Outcome::Refused, Some(refusal.message.clone()))
                }
            },
        };
        let action =
            AdminAction { operator: by.clone(), verb: verb.to_owned(), arguments, outcome, detail };
        let ticket = self.audit.reserve().ok().map(|slot| slot.write(Record::Admin(action)));
        let own = committed(ticket).await;
        let (mut answer, effect) = done?;
        let effect = match effect {
            Some(ticket) => committed(Some(ticket)).await,
            None => own,
        };
        match &mut answer {
            Answer::Anchored(round) => round.audit = own,
            Answer::NotifyTested(tested) => tested.audit = own,
            Answer::Receivers(listed) => listed.audit = own,
            Answer::Blocked(blocked) => blocked.audit = effect.filter(|_| !blocked.dry_run),
            Answer::Released(released) => released.audit = effect,
            Answer::KeyIssued(issued) => issued.audit = own,
            Answer::Key(key) => key.audit = own,
            Answer::KeysImported(imported) => imported.audit = own,
            Answer::TokensRevoked(revoked) => revoked.audit = own,
            Answer::Verified(verified) => verified.audit = own,
            Answer::Imported(imported) => imported.audit = effect.filter(|_| !imported.dry_run),
            Answer::ListReleased(released) => released.audit = effect,
            Answer::Kernel(report) => report.audit = effect,
            Answer::LimitChanged(changed) => changed.audit = own,
            Answer::Rules(shown) => shown.audit = own,
            Answer::EndpointChanged(changed) => changed.audit = effect,
            Answer::UpstreamChanged(changed) => changed.audit = effect,
            Answer::CertificatesReloaded(reloaded) => reloaded.audit = own,
            Answer::CachePurged(purged) => purged.audit = effect,
            Answer::Looked(looked) => looked.audit = own,
            Answer::Incident(status) => status.audit = effect,
            Answer::Case(answer) => match &mut **answer {
                CaseAnswer::Incident(shown) => shown.audit = effect,
                CaseAnswer::Decisions(changed) => changed.audit = effect,
                CaseAnswer::Mutes(mutes) => mutes.audit = own,
                CaseAnswer::Incidents(_) | CaseAnswer::Findings(_) | CaseAnswer::Finding(_) => {}
            },
            Answer::Erased(_)
            | Answer::Pruned(_)
            | Answer::Status(_)
            | Answer::Blocks(_)
            | Answer::CacheStats(_)
            | Answer::Sources(_)
            | Answer::Certificates(_)
            | Answer::Endpoints(_)
            | Answer::HandingOver(_)
            | Answer::Upstreams(_)
            | Answer::Why(_)
            | Answer::Lists(_)
            | Answer::Exported(_)
            | Answer::Limits(_)
            | Answer::Talkers(_)
            | Answer::KeyRehearsed(_)
            | Answer::Keys(_)
            | Answer::PolicyApplied(_)
            | Answer::PolicyState(_)
            | Answer::Profiles(_)
            | Answer::TokenInspected(_)
            | Answer::Tokens(_) => {}
        }
        Ok(answer)
    }
}

/// The number of a record once it is on disk; none when the log does not say so.
pub(crate) async fn committed(ticket: Option<Ticket>) -> Option<u64> {
    ticket?.committed().await.ok()
}
