//! A finished request is added to the day of its identity.

use std::net::IpAddr;

use enforcer_model::Prefix;

use super::group::{GROUPS_MAX, Group, News};
use super::hours::{self, oddness};
use super::identity::{
    Identity, NEW_CLIENT, NEW_NETWORK, NEW_ROUTE, STRANGE_CLIENT, STRANGE_NETWORK,
};
use super::kind::Kind;
use super::num::{Small, low, measure, seconds};
use super::places::{Sight, left};
use super::sketch::Generations;
use super::{DAY, HOUR, NAME_MAX, Profiles, RECENT_MAX, WINDOW};
use crate::{Finding, Request};

/// Kinds of names.
const IDENTITY: u8 = 1;
const OBJECT: u8 = 2;
const ROUTE: u8 = 3;
const NETWORK: u8 = 4;
const CLIENT: u8 = 5;
const ADOPTED: u8 = 6;
const ROLE_ROUTE: u8 = 7;

/// Most bits that news of one kind add up to in a day.
const NEWS_MAX: f32 = 30.0;

/// Bits of news below which a day is not scored again.
const NEWS_LEAST: f32 = 0.25;

/// Others that begin to use the same thing at the same time, and their share, for it to be a rollout.
const ADOPTERS: u16 = 3;
const ADOPTERS_SHARE: f32 = 0.05;

/// Requests that are fetched together.
const AHEAD: usize = 32;

/// What is known of a request before it is observed: by which names it is looked up.
#[derive(Clone, Copy, Debug, Default)]
pub struct Ahead {
    name: Option<u64>,
    object: Option<u64>,
}

impl Profiles {
    /// Takes note of `request` and tells what is found by it: at most one finding for an episode, as
    /// soon as the day so far is more surprising than the plan allows.
    pub fn observe(&mut self, request: &Request<'_>) -> Option<Finding> {
        self.observe_ahead(self.ahead(request), request)
    }

    /// What is to be known of `request` before it is observed. Whoever has several at hand asks for
    /// all of them first, and [`Self::fetch`]es them: what is kept of whom is then on its way from
    /// memory while others are looked at.
    pub fn ahead(&self, request: &Request<'_>) -> Ahead {
        let identity = request.identity.filter(|_| self.plan.enabled && !request.is_own_denial());
        let object = object_of(request).filter(|_| request.status < 400 || request.status == 404);
        Ahead {
            name: identity.map(|identity| self.key.name(IDENTITY, &[identity])),
            object: object.map(|(route, object)| self.key.name(OBJECT, &[route, object])),
        }
    }

    /// Brings what is kept of the identities of `ahead` near; what it returns says nothing.
    pub fn fetch(&self, ahead: &[Ahead]) -> u64 {
        let mut places = [None; AHEAD];
        let mut sum = 0;
        for ahead in ahead.chunks(AHEAD) {
            // Each question of a loop is independent of the others, so that they wait together.
            for (place, ahead) in places.iter_mut().zip(ahead) {
                *place = ahead.name.and_then(|name| self.table.guess(name));
            }
            for (place, ahead) in places.iter().zip(ahead) {
                let identity = place.and_then(|place| self.table.get(place));
                sum ^= identity.map_or(0, |identity| identity.touch(ahead.object));
            }
        }
        std::hint::black_box(sum)
    }

    /// As [`Self::observe`], of a request that was looked at [ahead](Self::ahead).
    pub fn observe_ahead(&mut self, ahead: Ahead, request: &Request<'_>) -> Option<Finding> {
        self.last_score = 0.0;
        self.rose = None;
        let (name, identity) = ahead.name.zip(request.identity)?;
        let now = seconds(request.at.unix_seconds());
        self.began.get_or_insert(now);
        self.dawn(now / DAY);
        let place = self.place_of(name, identity, request.role, now);
        self.close_days(place, now);
        self.recall(name, request);
        let due = self.record(place, request, ahead.object, now)?;
        if due {
            return self.judge(place, request, now);
        }
        self.last_score = self.table.get(place).map_or(0.0, |identity| identity.day.score);
        None
    }

    pub(super) fn named(&self, identity: &str) -> Option<usize> {
        self.table.find(self.key.name(IDENTITY, &[identity]))
    }

    /// Begins another day for everybody when it has come.
    fn dawn(&mut self, day: u32) {
        if day <= self.today {
            return;
        }
        self.today = day;
        let weekday = hours::weekday(day);
        self.groups.iter_mut().for_each(|group| group.dawn(weekday));
        if day.is_multiple_of(2) {
            self.fresh.clear();
        }
    }

    fn place_of(&mut self, name: u64, text: &str, role: Option<&str>, now: u32) -> usize {
        if let Some(place) = self.table.find(name) {
            self.assign(place, role);
            return place;
        }
        let group = role.map_or(0, |role| self.group_of(role));
        let short = text.get(..text.floor_char_boundary(NAME_MAX)).unwrap_or_default();
        let (place, gone) = self.table.add(Identity::new(name, group, now), short);
        self.count_member(group, true);
        if let Some(gone) = gone {
            self.count_member(gone.group, false);
        }
        self.count_active(group);
        place
    }

    /// Who is known without a role gets its peers as soon as a role is seen.
    fn assign(&mut self, place: usize, role: Option<&str>) {
        let Some(role) = role else { return };
        if self.table.get(place).is_none_or(|identity| identity.group != 0) {
            return;
        }
        let group = self.group_of(role);
        if group == 0 {
            return;
        }
        if let Some(identity) = self.table.get_mut(place) {
            identity.group = group;
        }
        if let Some(group) = self.groups.get_mut(usize::from(group)) {
            group.members = group.members.saturating_add(1);
            group.active = group.active.saturating_add(1);
        }
    }

    fn group_of(&mut self, role: &str) -> u16 {
        let known = self.groups.iter().skip(1).position(|group| &*group.role == role);
        if let Some(place) = known {
            return u16::try_from(place + 1).unwrap_or_default();
        }
        if self.groups.len() >= GROUPS_MAX {
            return 0;
        }
        self.groups.push(Group::new(role));
        u16::try_from(self.groups.len() - 1).unwrap_or_default()
    }

    /// Members are counted in their group and in everybody's.
    fn count_member(&mut self, group: u16, more: bool) {
        let both = if group == 0 { vec![0] } else { vec![0, usize::from(group)] };
        for place in both {
            if let Some(group) = self.groups.get_mut(place) {
                group.members = if more {
                    group.members.saturating_add(1)
                } else {
                    group.members.saturating_sub(1)
                };
            }
        }
    }

    /// One more was there today.
    pub(super) fn count_active(&mut self, group: u16) {
        for place in [0, usize::from(group)].into_iter().take(1 + usize::from(group != 0)) {
            if let Some(group) = self.groups.get_mut(place) {
                group.active = group.active.saturating_add(1);
            }
        }
    }

    fn recall(&mut self, name: u64, request: &Request<'_>) {
        if self.recent.len() >= RECENT_MAX {
            self.recent.pop_front();
        }
        self.recent.push_back((name, request.id));
    }

    /// Adds the request; whether the score may have changed by more than a little.
    fn record(
        &mut self,
        place: usize,
        request: &Request<'_>,
        object: Option<u64>,
        now: u32,
    ) -> Option<bool> {
        let key = self.key;
        let route = request.route.map(|route| key.name(ROUTE, &[request.method, route]));
        let network = network_of(request).map(|[high, low]| key.number(NETWORK, &[high, low]));
        let client =
            request.ja4.or(request.user_agent).map_or(0, |client| key.name(CLIENT, &[client]));
        let learning = self.is_learning(now);
        let identity = self.table.get_mut(place)?;
        let flagged = identity.day.score >= self.plan.bits && !learning;
        identity.last = identity.last.max(now);
        let window = now / WINDOW;
        if window > identity.window {
            identity.turn(window);
        }
        let mut due = count(identity, request);
        if let Some(object) = object {
            due |= look(identity, object, !flagged);
        }
        let day = identity.short_day();
        let hour = hours::hour(now);
        let fresh_hour = identity.day.hours >> hour & 1 == 0 && identity.number == now / DAY;
        let fresh_route =
            route.filter(|route| !identity.routes.has(*route) && !identity.new_routes.has(*route));
        let mut sight = None;
        if let Some(network) = network {
            let here = [low(network).max(1), low(client)];
            if here != identity.here {
                identity.here = here;
                let [network, client] = here;
                let (moved, seen) = identity.places.see(network, client, day);
                identity.day.moves = identity.day.moves.saturating_add(u16::from(moved));
                due |= moved && identity.reaches(Kind::Moves, f32::from(identity.day.moves));
                sight = seen;
            }
        }
        if fresh_hour {
            due |= self.note_hour(place, now, hour);
        }
        if let Some(route) = fresh_route {
            due |= self.note_route(place, route);
        }
        if let (Some(network), Some(sight)) = (network, sight) {
            due |= self.note_place(place, network, client, sight);
        }
        Some(due)
    }

    fn note_hour(&mut self, place: usize, now: u32, hour: usize) -> bool {
        let Some(identity) = self.table.get_mut(place) else { return false };
        let weekday = hours::weekday(now / HOUR / 24);
        identity.day.hours |= 1 << hour;
        let Some(all) = self.groups.first() else { return false };
        let group = self.groups.get(usize::from(identity.group)).unwrap_or(all);
        let chance = identity.hours.chance(weekday, hour, &group.hours);
        let odd = identity.tally.odd.get() + oddness(chance);
        let hours = measure(u64::from(identity.day.hours.count_ones()));
        let due = rises(&mut identity.tally.odd, odd) || identity.reaches(Kind::DayHours, hours);
        let group = identity.group;
        for place in [0, usize::from(group)].into_iter().take(1 + usize::from(group != 0)) {
            if let Some(group) = self.groups.get_mut(place) {
                group.hours.add(weekday, hour);
            }
        }
        due
    }

    fn note_route(&mut self, place: usize, route: u64) -> bool {
        let Some(identity) = self.table.get_mut(place) else { return false };
        let Some(group) = self.groups.get(usize::from(identity.group)) else { return false };
        let own = self.key.number(ROLE_ROUTE, &[route, u64::from(identity.group)]);
        let share = share(self.common.users(own), group.members);
        let mut bits = -share.log2();
        if identity.day.news & NEW_ROUTE == 0 && identity.days > 0 {
            let chance = group.routes.chance(identity.habits.routes.get(), identity.days);
            bits -= chance.log2() * trust(identity.days);
        } else {
            bits *= 0.5;
        }
        let adopted = self.key.number(ADOPTED, &[own]);
        bits = bits.min(adoption(self.fresh.users(adopted), group.active));
        let bits = identity.tally.route.get() + bits;
        let due = rises(&mut identity.tally.route, bits);
        if identity.days > 0 {
            identity.day.news |= NEW_ROUTE;
        }
        identity.new_routes.add(route);
        self.common.add(own);
        self.fresh.add(adopted);
        due
    }

    fn note_place(&mut self, place: usize, network: u64, client: u64, sight: Sight) -> bool {
        let Some(identity) = self.table.get_mut(place) else { return false };
        let Some(group) = self.groups.get(usize::from(identity.group)) else { return false };
        let mut due = false;
        let active = self.groups.first().map_or(0, |all| all.active);
        let habits = identity.habits;
        let own = u64::from(identity.group);
        let known = identity.days;
        let (day, tally) = (&mut identity.day, &mut identity.tally);
        // What was there on all of its days is no news, though they are few.
        let is_young = |days: u8| days < 3 && u16::from(days) < known;
        if is_young(sight.network) {
            let strange = self.common.users(network) < 2;
            let bits = surprise(group.networks, habits.networks.get(), identity.days, strange);
            let bits = bits.min(adoption(self.fresh.users(network), active)).min(adoption(
                self.fresh.users(self.key.number(ADOPTED, &[network, own])),
                group.active,
            ));
            due |= add(&mut tally.network, left(sight.network) * bits);
            day.news |= flags(sight.network, strange, NEW_NETWORK, STRANGE_NETWORK);
        }
        if is_young(sight.client) && client != 0 {
            let strange = self.common.users(client) < 2;
            let bits = surprise(group.clients, habits.clients.get(), identity.days, strange);
            let bits = bits.min(adoption(self.fresh.users(client), active)).min(adoption(
                self.fresh.users(self.key.number(ADOPTED, &[client, own])),
                group.active,
            ));
            due |= add(&mut tally.client, left(sight.client) * bits);
            day.news |= flags(sight.client, strange, NEW_CLIENT, STRANGE_CLIENT);
        }
        if sight.network == 0 {
            self.fresh.add(network);
            self.fresh.add(self.key.number(ADOPTED, &[network, own]));
        }
        if sight.client == 0 {
            self.fresh.add(client);
            self.fresh.add(self.key.number(ADOPTED, &[client, own]));
        }
        // Common is what was used on a second day: a day that was not learned from does not count.
        if sight.network == 1 {
            self.common.add(network);
        }
        if sight.client == 1 {
            self.common.add(client);
        }
        due
    }

    pub(super) fn is_learning(&self, now: u32) -> bool {
        let learn = seconds(self.plan.learn.as_secs());
        self.began.is_none_or(|began| now.saturating_sub(began) < learn)
    }
}

/// The first counts whole, further ones of the day a quarter.
fn add(sum: &mut Small, bits: f32) -> bool {
    let before = sum.get();
    rises(sum, before.max(bits) + 0.25 * before.min(bits))
}

/// Makes bits of news of it; whether that is more by what matters.
fn rises(sum: &mut Small, bits: f32) -> bool {
    let before = sum.get();
    *sum = Small::new(bits.clamp(0.0, NEWS_MAX));
    sum.get() - before >= NEWS_LEAST
}

fn flags(known: u8, strange: bool, new: u16, strange_flag: u16) -> u16 {
    match (known, strange) {
        (0, true) => new | strange_flag,
        (0, false) => new,
        (_, _) => 0,
    }
}

/// The bits of something new.
fn surprise(news: News, own: f32, days: u16, strange: bool) -> f32 {
    let share = news.strange_share();
    let kind = if strange { share } else { 1.0 - share };
    -(news.chance(own, days) * kind).log2() * trust(days)
}

/// Of who is known for a day, much is new that will be usual.
fn trust(days: u16) -> f32 {
    f32::from(days) / (f32::from(days) + 2.0)
}

/// The bits of what so many others began today.
fn adoption(adopters: u16, active: u32) -> f32 {
    let share = f32::from(adopters) / measure(u64::from(active.max(1)));
    if adopters >= ADOPTERS && share >= ADOPTERS_SHARE {
        return -share.min(1.0).log2();
    }
    f32::INFINITY
}

/// The share of `members` that use something.
fn share(users: u16, members: u32) -> f32 {
    ((f32::from(users) + 0.25) / (measure(u64::from(members)) + 1.0)).clamp(1e-4, 1.0)
}

/// Counts the request; whether a count has reached its mark.
fn count(identity: &mut Identity, request: &Request<'_>) -> bool {
    let failed = request.status >= 400;
    let bytes = request.bytes_in.saturating_add(request.bytes_out);
    let (burst, day) = (&mut identity.burst, &mut identity.day);
    burst.requests = burst.requests.saturating_add(1);
    burst.bytes = burst.bytes.saturating_add(bytes);
    day.requests = day.requests.saturating_add(1);
    day.bytes = day.bytes.saturating_add(bytes);
    if failed {
        burst.errors = burst.errors.saturating_add(1);
        day.errors = day.errors.saturating_add(1);
    }
    let (burst, day) = (&identity.burst, &identity.day);
    let count = |number: u32| measure(number.into());
    let (requests, all) = (count(day.requests), measure(day.bytes));
    identity.reaches(Kind::BurstRequests, count(burst.requests))
        || identity.reaches(Kind::DayRequests, requests)
        || identity.reaches(Kind::BurstBytes, measure(burst.bytes))
        || identity.reaches(Kind::DayBytes, all)
        || identity.reaches(Kind::BytesEach, all / requests)
        || failed && identity.reaches(Kind::BurstErrors, count(burst.errors))
        || failed && identity.reaches_share(Kind::DayErrors, count(day.errors))
}

/// Notes an object; whether the number of different ones, or of new ones, has reached its mark.
fn look(identity: &mut Identity, object: u64, learn: bool) -> bool {
    let mut due = false;
    if identity.burst_distinct.add(object, &mut identity.burst.different) {
        due |= identity.reaches(Kind::BurstDistinct, identity.burst.different.count());
    }
    if identity.day_distinct.add(object, &mut identity.day.different) {
        due |= identity.reaches(Kind::DayDistinct, identity.day.different.count());
    }
    let mut names = Generations { young: &mut identity.seen_young, old: &mut identity.seen_old };
    if let Some(novelty) = identity.seen.novelty(&mut names, object, learn) {
        identity.burst.novel += novelty;
        identity.day.novel += novelty;
        due |= identity.reaches(Kind::BurstNovel, identity.burst.novel)
            || identity.reaches(Kind::DayNovel, identity.day.novel)
            || identity.reaches_share(Kind::NovelShare, identity.day.novel);
    }
    due
}

impl Identity {
    /// Something of each line of the cache that a request for `object` needs.
    fn touch(&self, object: Option<u64>) -> u64 {
        self.name
            ^ u64::from(self.days)
            ^ self.burst_distinct.touch()
            ^ self.routes.touch()
            ^ u64::from(self.tally.told_in)
            ^ object.map_or(0, |object| self.seen.touch(object))
    }
}

/// What names an object: the identifier with its route, or the whole path of what has none.
fn object_of<'a>(request: &Request<'a>) -> Option<(&'a str, &'a str)> {
    let within = request.route.unwrap_or("");
    request.object.or(request.path).map(|object| (within, object))
}

/// The /24 or /48 around the source.
fn network_of(request: &Request<'_>) -> Option<[u64; 2]> {
    match request.source.address() {
        IpAddr::V4(address) => Some([4, u64::from(u32::from(address) >> 8)]),
        IpAddr::V6(address) => {
            let high = u64::try_from(u128::from(address) >> 80).ok()?;
            Some([6, high])
        }
    }
}

/// The same as people write it.
pub(super) fn network_text(address: IpAddr) -> String {
    let length = if address.is_ipv4() { 24 } else { 48 };
    Prefix::around(address, length).to_string()
}
