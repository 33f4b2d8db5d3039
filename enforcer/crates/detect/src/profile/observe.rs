//! A finished request is added to the day of its identity.

use std::net::IpAddr;

use enforcer_model::Prefix;

use super::group::{GROUPS_MAX, Group, News};
use super::hours::{self, oddness};
use super::identity::{
    Identity, NEW_CLIENT, NEW_NETWORK, NEW_ROUTE, STRANGE_CLIENT, STRANGE_NETWORK, Window,
};
use super::num::{low, measure, seconds, whole};
use super::places::left;
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

/// Others that begin to use the same thing at the same time, and their share, for it to be a rollout.
const ADOPTERS: u16 = 3;
const ADOPTERS_SHARE: f32 = 0.05;

impl Profiles {
    /// Takes note of `request` and tells what is found by it: at most one finding for an episode, as
    /// soon as the day so far is more surprising than the plan allows.
    pub fn observe(&mut self, request: &Request<'_>) -> Option<Finding> {
        self.last_score = 0.0;
        self.rose = None;
        let identity =
            request.identity.filter(|_| self.plan.enabled && !request.is_own_denial())?;
        let now = seconds(request.at.unix_seconds());
        self.began.get_or_insert(now);
        self.dawn(now / DAY);
        let name = self.key.name(IDENTITY, &[identity]);
        let place = self.place_of(name, identity, request.role, now);
        self.close_days(place, now);
        self.recall(name, request);
        let due = self.record(place, request, now)?;
        // While the host learns, a day is scored once, at its end.
        if due && !self.is_learning(now) {
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
    fn record(&mut self, place: usize, request: &Request<'_>, now: u32) -> Option<bool> {
        let key = self.key;
        let object = object_of(request).map(|(route, object)| key.name(OBJECT, &[route, object]));
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
            identity.window = window;
            identity.burst = Window::default();
        }
        let mut due = count(identity, request);
        if let Some(object) = object.filter(|_| request.status < 400 || request.status == 404) {
            due |= look(identity, object, !flagged);
        }
        let day = identity.short_day();
        let hour = hours::hour(now);
        let fresh_hour = identity.day.hours >> hour & 1 == 0 && identity.number == now / DAY;
        let fresh_route =
            route.filter(|route| !identity.routes.has(*route) && !identity.day.routes.has(*route));
        let mut sight = None;
        if let Some(network) = network {
            let (moved, seen) = identity.places.see(low(network).max(1), low(client), day);
            identity.day.moves = identity.day.moves.saturating_add(u16::from(moved));
            due |= moved;
            sight = seen;
        }
        if fresh_hour {
            self.note_hour(place, now, hour);
        }
        if let Some(route) = fresh_route {
            self.note_route(place, route);
        }
        if let (Some(network), Some(sight)) = (network, sight) {
            self.note_place(place, network, client, sight);
        }
        Some(due || fresh_hour || fresh_route.is_some() || sight.is_some())
    }

    fn note_hour(&mut self, place: usize, now: u32, hour: usize) {
        let Some(identity) = self.table.get_mut(place) else { return };
        let weekday = hours::weekday(now / HOUR / 24);
        identity.day.hours |= 1 << hour;
        let Some(all) = self.groups.first() else { return };
        let group = self.groups.get(usize::from(identity.group)).unwrap_or(all);
        let chance = identity.hours.chance(weekday, hour, &group.hours);
        identity.day.odd = (identity.day.odd + oddness(chance)).min(NEWS_MAX);
        let group = identity.group;
        for place in [0, usize::from(group)].into_iter().take(1 + usize::from(group != 0)) {
            if let Some(group) = self.groups.get_mut(place) {
                group.hours.add(weekday, hour);
            }
        }
    }

    fn note_route(&mut self, place: usize, route: u64) {
        let Some(identity) = self.table.get_mut(place) else { return };
        let Some(group) = self.groups.get(usize::from(identity.group)) else { return };
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
        identity.day.route = (identity.day.route + bits).min(NEWS_MAX);
        if identity.days > 0 {
            identity.day.news |= NEW_ROUTE;
        }
        identity.day.routes.add(route);
        self.common.add(own);
        self.fresh.add(adopted);
    }

    fn note_place(&mut self, place: usize, network: u64, client: u64, sight: super::places::Sight) {
        let Some(identity) = self.table.get_mut(place) else { return };
        let Some(group) = self.groups.get(usize::from(identity.group)) else { return };
        let active = self.groups.first().map_or(0, |all| all.active);
        let habits = identity.habits;
        let own = u64::from(identity.group);
        let day = &mut identity.day;
        if sight.network < 3 && identity.days > 0 {
            let strange = self.common.users(network) < 2;
            let bits = surprise(group.networks, habits.networks.get(), identity.days, strange);
            let bits = bits.min(adoption(self.fresh.users(network), active)).min(adoption(
                self.fresh.users(self.key.number(ADOPTED, &[network, own])),
                group.active,
            ));
            add(&mut day.network, left(sight.network) * bits);
            day.news |= flags(sight.network, strange, NEW_NETWORK, STRANGE_NETWORK);
        }
        if sight.client < 3 && identity.days > 0 && client != 0 {
            let strange = self.common.users(client) < 2;
            let bits = surprise(group.clients, habits.clients.get(), identity.days, strange);
            let bits = bits.min(adoption(self.fresh.users(client), active)).min(adoption(
                self.fresh.users(self.key.number(ADOPTED, &[client, own])),
                group.active,
            ));
            add(&mut day.client, left(sight.client) * bits);
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
    }

    pub(super) fn is_learning(&self, now: u32) -> bool {
        let learn = seconds(self.plan.learn.as_secs());
        self.began.is_none_or(|began| now.saturating_sub(began) < learn)
    }
}

/// The first counts whole, further ones of the day a quarter.
fn add(sum: &mut f32, bits: f32) {
    *sum = (sum.max(bits) + 0.25 * sum.min(bits)).min(NEWS_MAX);
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

/// Counts the request; whether a count has grown by an eighth, above the most of the day.
fn count(identity: &mut Identity, request: &Request<'_>) -> bool {
    let failed = request.status >= 400;
    let bytes = request.bytes_in.saturating_add(request.bytes_out);
    let (burst, day) = (&mut identity.burst, &mut identity.day);
    let before = (burst.bytes, day.bytes);
    burst.requests = burst.requests.saturating_add(1);
    burst.bytes = burst.bytes.saturating_add(bytes);
    day.requests = day.requests.saturating_add(1);
    day.bytes = day.bytes.saturating_add(bytes);
    if failed {
        burst.errors = burst.errors.saturating_add(1);
        day.errors = day.errors.saturating_add(1);
    }
    let [most_requests, most_bytes, most_errors, _, _] = day.bursts;
    let burst_requests = measure(u64::from(burst.requests)) > most_requests;
    let burst_bytes = measure(burst.bytes) > most_bytes;
    burst_requests && is_mark(burst.requests)
        || is_mark(day.requests)
        || failed && is_mark(day.errors)
        || failed && measure(u64::from(burst.errors)) > most_errors && is_mark(burst.errors)
        || burst_bytes && grown(before.0, burst.bytes)
        || grown(before.1, day.bytes)
}

/// Notes an object; whether the number of different ones may have grown.
fn look(identity: &mut Identity, object: u64, learn: bool) -> bool {
    let (burst, day) = (&mut identity.burst, &mut identity.day);
    let mut due = false;
    if burst.distinct.add(object) {
        burst.different = burst.distinct.count();
        due |= burst.different > 4.0
            && burst.different > day.bursts.get(3).copied().unwrap_or_default() * 1.2;
    }
    if day.distinct.add(object) {
        let before = whole(day.different);
        day.different = day.distinct.count();
        due |= grown(before.into(), whole(day.different).into());
    }
    if let Some(novelty) = identity.seen.novelty(object, learn) {
        burst.novel += novelty;
        let before = day.novel;
        day.novel += novelty;
        due |= grown(whole(before).into(), whole(day.novel).into());
    }
    due
}

/// Four for each doubling, from four on.
fn is_mark(count: u32) -> bool {
    let top = 31_u32.saturating_sub(count.leading_zeros());
    count >= 4 && count.trailing_zeros() >= top.saturating_sub(2)
}

/// Whether a quarter of a doubling lies between.
fn grown(before: u64, after: u64) -> bool {
    let quarter = |count: u64| {
        let top = 63_u32.saturating_sub((count | 4).leading_zeros());
        (top, count >> top.saturating_sub(2))
    };
    after >= 4 && quarter(before) != quarter(after)
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
