//! Receivers of notices: how they are, trying them out, sending again.

use enforcer_admin::call::NotifyOrder;
use enforcer_admin::{Answer, Refusal};
use enforcer_model::Author;

use super::Clerk;
use crate::notifications::NotifyDesk;

/// Does what is ordered, and puts on record who changed something.
pub(super) async fn order(
    receivers: NotifyDesk,
    order: NotifyOrder,
    by: Author,
    clerk: Clerk,
) -> Result<Answer, Refusal> {
    let (verb, arguments) = match &order {
        NotifyOrder::List => return receivers.order(order).await,
        NotifyOrder::Test { name } => ("notify test", name.clone()),
        NotifyOrder::Enable { name } => ("notify enable", Some(name.clone())),
        NotifyOrder::Resend { name } => ("notify resend", name.clone()),
    };
    let done = receivers.order(order).await.map(|answer| (answer, None));
    clerk.recorded(verb, arguments.into_iter().collect(), &by, done).await
}
