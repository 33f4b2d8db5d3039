//! Profiles at the desk: what is usual for whom.

use enforcer_admin::call::{ProfileOrder, ProfilesShown};
use enforcer_admin::{Answer, Refusal, RefusalKind};
use tokio::sync::oneshot;

use super::Desk;
use crate::profiles::ProfilesAsk;

/// Most identities that are listed at once.
const LISTED_MAX: u32 = 1_000;

impl Desk {
    /// Tells what is usual. To look changes nothing.
    pub(super) async fn show_profiles(&self, order: ProfileOrder) -> Result<Answer, Refusal> {
        let shown = match order {
            ProfileOrder::Show { identity } => {
                let (reply, answer) = oneshot::channel();
                let ask = ProfilesAsk::Show { identity: identity.clone(), reply };
                let found = self.ask_profiles(ask, answer).await?;
                let profile = found.ok_or_else(|| {
                    let message = format!("nothing is known of `{identity}`");
                    Refusal::new(RefusalKind::NotFound, message).hint(
                        "`enforcer profile list` shows who was there today; without `[detect]` in \
                         the policy no profiles are kept",
                    )
                })?;
                ProfilesShown { profiles: vec![profile], known: 1 }
            }
            ProfileOrder::List { most } => {
                let (reply, answer) = oneshot::channel();
                let most = usize::try_from(most.min(LISTED_MAX)).unwrap_or(0);
                self.ask_profiles(ProfilesAsk::List { most, reply }, answer).await?
            }
        };
        Ok(Answer::Profiles(Box::new(shown)))
    }

    async fn ask_profiles<T>(
        &self,
        ask: ProfilesAsk,
        answer: oneshot::Receiver<T>,
    ) -> Result<T, Refusal> {
        let gone = || Refusal::new(RefusalKind::Failed, "detection does not run");
        self.profiles.send(ask).await.map_err(|_closed| gone())?;
        answer.await.map_err(|_closed| gone())
    }
}
