//! Rules of detection at the desk.

use enforcer_admin::call::{RulesOrder, RulesShown};
use enforcer_admin::{Answer, Refusal, RefusalKind};
use enforcer_model::Author;
use tokio::sync::oneshot;

use super::{Desk, checked};
use crate::rules::{RulesAsk, mode};

impl Desk {
    /// Answers an order about rules.
    pub(super) async fn order_rules(
        &self,
        order: RulesOrder,
        by: &Author,
    ) -> Result<Answer, Refusal> {
        match order {
            RulesOrder::List => {
                let (reply, answer) = oneshot::channel();
                let rules = self.ask_rules(RulesAsk::List { reply }, answer).await?;
                Ok(Answer::Rules(Box::new(RulesShown { rules, audit: None })))
            }
            RulesOrder::Mode { rule, mode: wanted, reason } => {
                reason.as_deref().map_or(Ok(()), checked)?;
                let word = wanted.clone().unwrap_or_else(|| "reset".to_owned());
                let mut arguments = vec![rule.clone(), word];
                arguments.extend(reason);
                let done = self.set_mode(rule, wanted.as_deref()).await;
                self.clerk.recorded("rules mode", arguments, by, done).await
            }
        }
    }

    async fn set_mode(
        &self,
        rule: String,
        wanted: Option<&str>,
    ) -> Result<(Answer, Option<enforcer_audit::Ticket>), Refusal> {
        let wanted = match wanted {
            None => None,
            Some(word) => Some(mode(word).ok_or_else(|| {
                let message = format!("`{word}` is no mode; there are observe, approve and auto");
                Refusal::new(RefusalKind::Usage, message)
            })?),
        };
        let (reply, answer) = oneshot::channel();
        let ask = RulesAsk::Mode { rule: rule.clone(), mode: wanted, reply };
        let row = self.ask_rules(ask, answer).await?.ok_or_else(|| {
            let message = format!("no rule is called `{rule}`; `enforcer rules list` shows them");
            Refusal::new(RefusalKind::NotFound, message)
        })?;
        Ok((Answer::Rules(Box::new(RulesShown { rules: vec![row], audit: None })), None))
    }

    async fn ask_rules<T>(
        &self,
        ask: RulesAsk,
        answer: oneshot::Receiver<T>,
    ) -> Result<T, Refusal> {
        let gone = || Refusal::new(RefusalKind::Failed, "detection does not run");
        self.rules.send(ask).await.map_err(|_closed| gone())?;
        answer.await.map_err(|_closed| gone())
    }
}
