//! Lists on their way: read, sorted, judged and written to disk before the responder hears of them.
//!
//! One at a time, beside the desk and on a thread of its own, so that a million networks keep no
//! other call waiting. The responder then exchanges the list in one step.

use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use enforcer_admin::call::{Import, ListName, REFUSED_TOLD};
use enforcer_admin::{Answer, Call, Refusal, RefusalKind};
use enforcer_audit::Ticket;
use enforcer_detect::Clients;
use enforcer_model::{Author, BlockId, Expiry, Moment, Prefix};
use enforcer_policy::Policy;
use parking_lot::Mutex;

use super::{Clerk, checked};
use crate::policies::guards;
use crate::respond::{
    Draft, Guards, List, Objections, Order, Surroundings, discard, draft, sha256_of, sift,
};

/// What lists are prepared with.
#[derive(Clone)]
pub(crate) struct ListDesk {
    /// Where their files lie.
    pub(crate) folder: PathBuf,
    pub(crate) clients: Arc<Mutex<Clients>>,
    /// Held while a list is in work: two of them would use the memory and the file of one.
    pub(crate) one_at_a_time: Arc<tokio::sync::Mutex<()>>,
}

/// Who asks, and what holds at that moment.
pub(super) struct Asked {
    pub(super) by: Author,
    pub(super) ssh_peer: Option<IpAddr>,
    pub(super) policy: Arc<Policy>,
    pub(super) begun: Moment,
}

/// A call about a list.
pub(super) enum ListCall {
    Import(Import),
    Release { name: ListName, reason: Option<String> },
}

/// Everything that a list is made of.
struct Material {
    asked: Import,
    id: BlockId,
    by: Author,
    guards: Guards,
    clients: Vec<Prefix>,
    folder: PathBuf,
    begun: Moment,
}

impl ListCall {
    /// The call, if it is one about a list; else as it was.
    pub(super) fn among(call: Call) -> Result<Self, Call> {
        if let Call::Import(import) = call {
            return Ok(Self::Import(import));
        }
        if let Call::ReleaseList { name, reason } = call {
            return Ok(Self::Release { name, reason });
        }
        Err(call)
    }
}

impl ListDesk {
    /// Answers a call about a list.
    pub(super) async fn answer(
        self,
        call: ListCall,
        asked: Asked,
        clerk: Clerk,
    ) -> Result<Answer, Refusal> {
        let _alone = self.one_at_a_time.lock().await;
        let by = asked.by.clone();
        match call {
            ListCall::Import(import) => {
                let arguments = arguments(&import);
                let done = self.import(import, asked, &clerk).await;
                clerk.recorded("blocks import", arguments, &by, done).await
            }
            ListCall::Release { name, reason } => {
                reason.as_deref().map_or(Ok(()), checked)?;
                let arguments = vec![name.to_string(), reason.clone().unwrap_or_default()];
                let whom = by.clone();
                let done = clerk
                    .order(|reply| Order::ReleaseList { name, reason, by: whom, reply })
                    .await
                    .map(|(released, ticket)| (Answer::ListReleased(Box::new(released)), ticket));
                clerk.recorded("release list", arguments, &by, done).await
            }
        }
    }

    async fn import(
        &self,
        mut import: Import,
        asked: Asked,
        clerk: &Clerk,
    ) -> Result<(Answer, Option<Ticket>), Refusal> {
        checked(&import.reason)?;
        import.ssh_peer = import.ssh_peer.or(asked.ssh_peer);
        let name = import.list.clone();
        let id = clerk.order(|reply| Order::Enlist { name: name.clone(), reply }).await?;
        let material = Material {
            asked: import,
            id,
            by: asked.by,
            guards: guards(&asked.policy),
            clients: self.clients.lock().recent(asked.begun.monotonic).collect(),
            folder: self.folder.clone(),
            begun: asked.begun,
        };
        let prepared = tokio::task::spawn_blocking(move || prepare(material)).await;
        let draft = prepared.map_err(|error| {
            Refusal::new(RefusalKind::Failed, format!("the list cannot be prepared: {error}"))
        })??;
        let done = clerk.order(|reply| Order::Import { draft: Box::new(draft), reply }).await;
        if done.is_err() {
            self.forget(&name);
        }
        let (imported, ticket) = done?;
        Ok((Answer::Imported(Box::new(imported)), ticket))
    }

    fn forget(&self, name: &ListName) {
        discard(&self.folder, name);
    }
}

/// Sorts, judges and writes; takes as long as it takes.
fn prepare(material: Material) -> Result<Draft, Refusal> {
    let Material { asked, id, by, guards, clients, folder, begun } = material;
    if asked.networks.0.is_empty() {
        return Err(Refusal::new(RefusalKind::Usage, "the list is empty")
            .hint("to end a list, release it: an empty feed is more often a broken one"));
    }
    let mut around = Surroundings::read();
    around.ssh_peers.extend(asked.ssh_peer.map(|peer| peer.to_canonical()));
    around.ssh_peers.sort_unstable();
    around.ssh_peers.dedup();
    let objections =
        if asked.override_guard { Objections::AreOverridden } else { Objections::Count };
    let mut sifted = sift(asked.networks.0, &guards, &around, &clients, objections);
    if sifted.networks.is_empty() {
        let refused = sifted.refused.iter().take(REFUSED_TOLD);
        let refused = refused.map(|one| format!("{:<15} {}", one.prefix.to_string(), one.why));
        return Err(Refusal::new(
            RefusalKind::Guarded,
            format!("every network of the list {} is protected:", asked.list),
        )
        .details(refused.collect())
        .hint("take them off the list, or say --override-guard (recorded)"));
    }
    let networks = std::mem::take(&mut sifted.networks);
    let ttl = asked.ttl_seconds.map(Duration::from_secs);
    let list = List {
        name: asked.list,
        id,
        reason: asked.reason,
        author: by,
        since: begun.wall,
        until: ttl.map_or(Expiry::Never, |ttl| Expiry::At(begun.wall.saturating_add(ttl))),
        sha256: sha256_of(&networks),
        networks: Arc::new(networks),
    };
    let dry_run = asked.dry_run;
    let not_written = if dry_run { None } else { draft(&folder, &list).err() };
    let not_written = not_written.map(|error| error.to_string());
    Ok(Draft { list, sifted, guards, not_written, dry_run, begun: begun.monotonic })
}

/// What an import was asked to be, for the record: a rehearsal and an override are told.
fn arguments(asked: &Import) -> Vec<String> {
    let mut arguments = vec![
        asked.list.to_string(),
        asked.reason.clone(),
        format!("{} networks", asked.networks.0.len()),
        match asked.ttl_seconds {
            Some(seconds) => format!("for {seconds} s"),
            None => "forever".to_owned(),
        },
    ];
    arguments.extend(asked.dry_run.then(|| "dry-run".to_owned()));
    arguments.extend(asked.override_guard.then(|| "override-guard".to_owned()));
    arguments
}
