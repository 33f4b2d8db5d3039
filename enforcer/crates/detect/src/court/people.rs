//! Who was served lately, and behind which address or kind of client: what a denial would hit.
//!
//! Only those who were served as somebody count, so that an attacker makes nobody look shared and
//! no share look small. Constant work for each request.

use std::collections::HashMap;
use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;
use std::sync::Arc;
use std::time::Duration;

use enforcer_model::{Prefix, Principal, Timestamp};

use super::limits::{Behind, Share};
use crate::{Entity, Request};

/// Callers, networks and kinds of clients that are remembered, each. When full, new ones are not
/// added until old ones lapse; shares are then judged on those that are known.
pub const PEOPLE_MAX: usize = 65_536;

/// Callers that are told apart behind one address or kind of client.
const APART_MAX: usize = 64;

/// How long one counts as recent.
const RECENT: Duration = Duration::from_secs(600);

/// Who was served in the last ten minutes.
#[derive(Debug, Default)]
pub struct People {
    hasher: RandomState,
    seen: HashMap<u64, Timestamp>,
    networks: HashMap<Prefix, Group>,
    clients: HashMap<Arc<str>, Group>,
    credentials: HashMap<enforcer_model::Fingerprint, Timestamp>,
}

/// Callers that have something in common.
#[derive(Debug, Default)]
struct Group {
    members: Vec<Member>,
    last: Option<Timestamp>,
}

#[derive(Debug)]
struct Member {
    name: u64,
    who: Principal,
    requests: u64,
    last: Timestamp,
}

impl People {
    /// Takes note of who was served; a refused or anonymous request shows nobody.
    pub fn observe(&mut self, request: &Request<'_>) {
        let (Some(who), None) = (request.identity, request.reason) else { return };
        let now = request.at;
        let name = self.hasher.hash_one(who);
        if self.seen.len() < PEOPLE_MAX || self.seen.contains_key(&name) {
            self.seen.insert(name, now);
        }
        let network = request.source.neighbourhood();
        if self.networks.len() < PEOPLE_MAX || self.networks.contains_key(&network) {
            self.networks.entry(network).or_default().note(name, who, now);
        }
        if let Some(ja4) = request.ja4 {
            let has_room = self.clients.len() < PEOPLE_MAX;
            match self.clients.get_mut(ja4) {
                Some(group) => group.note(name, who, now),
                None if has_room => {
                    self.clients.entry(ja4.into()).or_default().note(name, who, now);
                }
                None => {}
            }
        }
        if let Some(print) = request.credential
            && (self.credentials.len() < PEOPLE_MAX || self.credentials.contains_key(&print))
        {
            self.credentials.insert(print, now);
        }
    }

    /// Recent clients, by neighbourhood, that `network` has inside or lies in.
    pub fn clients(&self, network: Prefix, now: Timestamp) -> Share {
        let recent = self.networks.iter().filter(|(_, group)| group.is_recent(now));
        recent.fold(Share::default(), |share, (other, _)| Share {
            hit: share.hit + u64::from(network.overlaps(*other)),
            all: share.all + 1,
        })
    }

    /// Recent callers that a denial of `target` would hit.
    pub fn identities(&self, target: &Entity, now: Timestamp) -> Share {
        let recent = |at: &Timestamp| now.since(*at) <= RECENT;
        let all = self.seen.values().filter(|at| recent(at)).count();
        let hit = match target {
            Entity::Identity(who) => {
                usize::from(self.seen.get(&self.hasher.hash_one(who.as_str())).is_some_and(recent))
            }
            Entity::Credential(print) => {
                usize::from(self.credentials.get(print).is_some_and(recent))
            }
            Entity::Ja4(ja4) => self.clients.get(ja4).map_or(0, |group| group.count(now)),
            Entity::Source(network) => {
                let inside = self.networks.iter().filter(|(other, _)| network.overlaps(**other));
                inside.map(|(_, group)| group.count(now)).sum()
            }
            Entity::Everyone | Entity::Route(_) | Entity::Upstream(_) => all,
        };
        let number = |count| u64::try_from(count).unwrap_or(u64::MAX);
        Share { hit: number(hit), all: number(all) }
    }

    /// Who was served behind `network` lately.
    pub fn behind(&self, network: Prefix, now: Timestamp) -> Behind {
        let own =
            self.networks.get(&enforcer_model::Source::new(network.address()).neighbourhood());
        let groups: Vec<&Group> = match own {
            Some(group) if network.is_single() => vec![group],
            _ if network.is_single() => Vec::new(),
            _ => {
                let inside = self.networks.iter().filter(|(other, _)| network.overlaps(**other));
                inside.map(|(_, group)| group).collect()
            }
        };
        let mut requests: HashMap<u64, (u64, &Principal)> = HashMap::new();
        for member in groups.iter().flat_map(|group| group.recent(now)) {
            requests.entry(member.name).or_insert((0, &member.who)).0 += member.requests;
        }
        let all: u64 = requests.values().map(|(count, _)| count).sum();
        let most = requests.values().find(|(count, _)| count.saturating_mul(2) > all);
        Behind {
            identities: u32::try_from(requests.len()).unwrap_or(u32::MAX),
            most: most.map(|(_, who)| (*who).clone()),
        }
    }

    /// Forgets who was not served lately; call it now and then.
    pub fn forget_old(&mut self, now: Timestamp) {
        self.seen.retain(|_, at| now.since(*at) <= RECENT);
        self.credentials.retain(|_, at| now.since(*at) <= RECENT);
        for group in self.networks.values_mut().chain(self.clients.values_mut()) {
            group.members.retain(|member| now.since(member.last) <= RECENT);
        }
        self.networks.retain(|_, group| group.is_recent(now));
        self.clients.retain(|_, group| group.is_recent(now));
    }
}

impl Group {
    fn note(&mut self, name: u64, who: &str, now: Timestamp) {
        self.last = Some(now);
        if let Some(member) = self.members.iter_mut().find(|member| member.name == name) {
            (member.requests, member.last) = (member.requests.saturating_add(1), now);
            return;
        }
        if self.members.len() >= APART_MAX {
            self.members.retain(|member| now.since(member.last) <= RECENT);
        }
        // The one constructor that takes any text, as records hold it.
        if self.members.len() < APART_MAX
            && let Ok(who) = serde_json::from_value(who.into())
        {
            self.members.push(Member { name, who, requests: 1, last: now });
        }
    }

    fn recent(&self, now: Timestamp) -> impl Iterator<Item = &Member> {
        self.members.iter().filter(move |member| now.since(member.last) <= RECENT)
    }

    fn count(&self, now: Timestamp) -> usize {
        self.recent(now).count()
    }

    fn is_recent(&self, now: Timestamp) -> bool {
        self.last.is_some_and(|last| now.since(last) <= RECENT)
    }
}
