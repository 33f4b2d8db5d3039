//! Incidents, decisions and findings: asked of the watcher, who owns them.

use enforcer_admin::call::{CaseAnswer, CaseName, CaseOrder};
use enforcer_admin::{Answer, Refusal, RefusalKind};
use enforcer_model::{Author, IncidentId};
use enforcer_notify::{Kind, Notice, Severity};
use tokio::sync::oneshot;

use super::{Desk, checked};
use crate::incidents::Asked;

impl Desk {
    /// Hands `order` to the watcher; what changes something goes on record with who asked.
    pub(super) async fn order_case(
        &self,
        order: CaseOrder,
        by: &Author,
    ) -> Result<Answer, Refusal> {
        let (verb, arguments) = match &order {
            CaseOrder::List { .. }
            | CaseOrder::Show { .. }
            | CaseOrder::Findings { .. }
            | CaseOrder::Finding { .. }
            | CaseOrder::Mutes => {
                let answered = self.ask_watcher(order, by).await?;
                return Ok(Answer::Case(Box::new(answered.answer)));
            }
            CaseOrder::Open { reason } => {
                checked(reason)?;
                ("incident open", vec![reason.clone()])
            }
            CaseOrder::Close { incident, reason } => {
                checked(reason)?;
                ("incident close", vec![incident.to_string(), reason.clone()])
            }
            CaseOrder::Approve { decision, reason } => {
                ("incident approve", with(decision.to_string(), reason.as_deref())?)
            }
            CaseOrder::Reject { decision, reason } => {
                ("incident reject", with(decision.to_string(), reason.as_deref())?)
            }
            CaseOrder::TakeBack { what, reason } => {
                let what = match what {
                    CaseName::Decision(id) => id.to_string(),
                    CaseName::Incident(id) => id.to_string(),
                };
                ("release", with(what, reason.as_deref())?)
            }
            CaseOrder::Mute { what, ttl_seconds, reason } => {
                checked(reason)?;
                let ttl = format!("for {ttl_seconds} s");
                ("findings mute", vec![what.clone(), ttl, reason.clone()])
            }
            CaseOrder::Unmute { what, reason } => {
                ("findings unmute", with(what.clone(), reason.as_deref())?)
            }
        };
        let done = self.ask_watcher(order, by).await;
        let done = done.map(|answered| (Answer::Case(Box::new(answered.answer)), answered.ticket));
        self.clerk.recorded(verb, arguments, by, done).await
    }

    /// Tells those who were called about an incident that an operator does something about it: its
    /// id stands before the reason.
    pub(super) async fn tell_of_incident(&self, verb: &str, reason: &str, by: &Author) {
        let Author::Operator { name, .. } = by else { return };
        let Some((Ok(incident), why)) =
            reason.split_once(": ").map(|(id, why)| (id.parse::<IncidentId>(), why))
        else {
            return;
        };
        let Ok(answered) = self.ask_watcher(CaseOrder::Show { incident }, by).await else { return };
        if matches!(&answered.answer, CaseAnswer::Incident(shown) if shown.incident.closed.is_none())
        {
            let title = format!("{verb} by {by}: {why}");
            let now = self.clock.now().wall;
            let told = Notice::new(Kind::DecisionMade, Severity::Warning, now, &title);
            self.notifier.tell(told.with_incident(incident).by_operator(name));
        }
    }

    async fn ask_watcher(
        &self,
        order: CaseOrder,
        by: &Author,
    ) -> Result<crate::incidents::Answered, Refusal> {
        let stopping = || Refusal::new(RefusalKind::Failed, "the agent is stopping");
        let (reply, answer) = oneshot::channel();
        let asked = Asked { order, by: by.clone(), reply };
        self.cases.send(asked).await.map_err(|_gone| stopping())?;
        answer.await.map_err(|_gone| stopping())?
    }
}

/// What it is about, and the operator's words where there are any.
fn with(what: String, reason: Option<&str>) -> Result<Vec<String>, Refusal> {
    reason.map_or(Ok(()), checked)?;
    Ok([what].into_iter().chain(reason.map(str::to_owned)).collect())
}
