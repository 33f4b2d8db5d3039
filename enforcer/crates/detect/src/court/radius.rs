//! How many an automatic decision may hit: what all of them together have hit lately.
//!
//! One client or caller is what a decision is for; a share is judged from two on. What nobody who
//! was served would notice is held back by nothing but the count of decisions inside a minute. A
//! breach is an episode: told once when it begins, over when half of the limit is free again.

use std::collections::VecDeque;
use std::time::Duration;

use enforcer_model::Timestamp;

use super::limits::{Limits, Share, Surroundings};
use crate::{Action, Entity};

/// Who counts as recent, as [`crate::Clients`] knows them.
const RECENT: Duration = Duration::from_secs(600);
const MINUTE: Duration = Duration::from_secs(60);
/// Automatic decisions that are remembered: more than any limit admits inside [`RECENT`].
const REMEMBERED_MAX: usize = 16_384;

/// What automatic decisions have hit lately.
#[derive(Debug, Default)]
pub(super) struct Radius {
    lately: VecDeque<Hit>,
    episodes: [bool; 4],
}

#[derive(Clone, Copy, Debug)]
struct Hit {
    at: Timestamp,
    clients: u64,
    identities: u64,
}

/// A limit that a decision would go beyond.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Breach {
    pub(super) why: String,
    /// It begins an episode: somebody is to be told.
    pub(super) is_first: bool,
}

#[derive(Clone, Copy, Debug)]
enum Kind {
    Clients,
    Identities,
    PerMinute,
    Prefix,
}

impl Radius {
    /// Whether `action` may be done to `target` unasked; it counts from here on if so.
    pub(super) fn admit(
        &mut self,
        action: Action,
        target: &Entity,
        limits: &Limits,
        around: &dyn Surroundings,
        now: Timestamp,
    ) -> Result<(), Breach> {
        while self.lately.len() >= REMEMBERED_MAX
            || self.lately.front().is_some_and(|hit| now.since(hit.at) > RECENT)
        {
            self.lately.pop_front();
        }
        let (clients, identities) = hit(action, target, around);
        let before = self.lately.iter().fold((0, 0), |(clients, identities), hit| {
            (clients + hit.clients, identities + hit.identities)
        });
        let last_minute = self.lately.iter().rev().take_while(|hit| now.since(hit.at) < MINUTE);
        let count = last_minute.count();

        if let Some(why) = too_wide(target, limits) {
            return Err(self.breach(Kind::Prefix, why));
        }
        self.end(Kind::Prefix, true);
        let most = usize::try_from(limits.decisions_per_minute_max).unwrap_or(usize::MAX);
        if count >= most {
            let why =
                format!("{count} automatic decisions in the last minute; the limit is {most}");
            return Err(self.breach(Kind::PerMinute, why));
        }
        self.end(Kind::PerMinute, count.saturating_mul(2) <= most);
        for (kind, what, share, before, percent) in [
            (Kind::Clients, "clients", clients, before.0, limits.clients_percent_max),
            (Kind::Identities, "callers", identities, before.1, limits.identities_percent_max),
        ] {
            let together = before.saturating_add(share.hit);
            if share.hit > 0 && together > 1 && exceeds(together, share.all, percent) {
                let why = format!(
                    "with it automatic decisions would hit {together} of {} recent {what}, over \
                     {percent} %",
                    share.all.max(together)
                );
                return Err(self.breach(kind, why));
            }
            self.end(kind, share.all > 0 && !exceeds(before.saturating_mul(2), share.all, percent));
        }
        self.lately.push_back(Hit { at: now, clients: clients.hit, identities: identities.hit });
        Ok(())
    }

    fn breach(&mut self, kind: Kind, why: String) -> Breach {
        let is_first = match self.episode(kind) {
            Some(episode) => !std::mem::replace(episode, true),
            None => false,
        };
        Breach { why, is_first }
    }

    fn end(&mut self, kind: Kind, is_over: bool) {
        if is_over && let Some(episode) = self.episode(kind) {
            *episode = false;
        }
    }

    fn episode(&mut self, kind: Kind) -> Option<&mut bool> {
        self.episodes.get_mut(match kind {
            Kind::Clients => 0,
            Kind::Identities => 1,
            Kind::PerMinute => 2,
            Kind::Prefix => 3,
        })
    }
}

/// Clients and callers that it hits.
fn hit(action: Action, target: &Entity, around: &dyn Surroundings) -> (Share, Share) {
    match (action, target) {
        (Action::Drop | Action::DenySource, Entity::Source(network)) => {
            (around.clients(*network), Share::default())
        }
        (Action::DenyIdentity | Action::DenyCredential | Action::DenyFingerprint, target) => {
            (Share::default(), around.identities(target))
        }
        (
            Action::Drop
            | Action::DenySource
            | Action::Notify
            | Action::Tighten(_)
            | Action::RequireStronger
            | Action::RaiseLevel(_)
            | Action::DisableRoute
            | Action::IsolateUpstream,
            _,
        ) => (Share::default(), Share::default()),
    }
}

fn exceeds(hit: u64, all: u64, percent: u8) -> bool {
    hit.saturating_mul(100) > all.saturating_mul(percent.into())
}

/// Why a network is too wide to be hit unasked.
fn too_wide(target: &Entity, limits: &Limits) -> Option<String> {
    let Entity::Source(network) = target else { return None };
    let shortest = match network.address().is_ipv4() {
        true => limits.prefix_v4_min,
        false => limits.prefix_v6_min,
    };
    (network.length() < shortest)
        .then(|| format!("{network} is wider than /{shortest}, the widest that is hit unasked"))
}
