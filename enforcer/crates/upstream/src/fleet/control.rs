//! Which hosts of an upstream are asked, and why the others are not.
//!
//! One lock for each upstream, taken when a host fails a request, answers a question for its
//! health, resolves anew, or is ordered about; never for a request that goes well. Whatever changes
//! ends in a new [`Roster`].
//!
//! A tier is asked while at least half of its hosts are well; else the next one that is. Where no
//! tier is, the first with a host that is well is asked, and where no host is well, all are: a guess
//! that all are ill is worth less than a try.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use super::member::{Member, Place};
use super::roster::{Roster, Seat};
use super::upstream::{Upstream, millis};
use super::view::{Few, Happening, HostView, State, Why, Wish};
use super::window::{Budget, Window};
use crate::plan::{EjectPlan, HostPlan, Plan};

/// The rate of failures of one host is judged over so long…
const RATE_WINDOW_MS: u64 = 10_000;
/// …and over at least so many requests.
const RATE_REQUESTS_MIN: u64 = 10;
/// The longest a host is ejected is this many times the first.
const PERIOD_DOUBLINGS_MAX: u32 = 4;

pub(crate) struct Control {
    pub(super) plan: Arc<Plan>,
    hosts: Vec<Host>,
    tier: usize,
    /// By what the operator named: a host, or one of its addresses.
    orders: BTreeMap<Arc<str>, Order>,
    breaker: Window,
    pub(super) budget: Budget,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Order {
    Drain,
    Isolate,
}

/// A host as the policy names it.
struct Host {
    plan: HostPlan,
    tier: usize,
    /// One for each address.
    places: Vec<Entry>,
}

/// One address of a host, and what is held against it.
struct Entry {
    member: Arc<Member>,
    ejected: Option<(u64, Why)>,
    /// How often in a row, and when the last one ended.
    ejections: u32,
    returned_ms: u64,
    rate: Window,
    health: Health,
    /// Answers in a row that speak for another state of health.
    row: u32,
    check_due_ms: u64,
    is_asked: bool,
}

/// What the answers to the question for its health say.
#[derive(Clone, Debug)]
enum Health {
    Unknown,
    Well,
    Ill { why: Arc<str>, since_ms: u64 },
}

/// A question for the health of a host that is due.
pub(crate) struct Due {
    pub(crate) plan: Arc<Plan>,
    pub(crate) member: Arc<Member>,
}

impl Control {
    pub(super) fn new(plan: Arc<Plan>) -> Self {
        Self {
            plan,
            hosts: Vec::new(),
            tier: 0,
            orders: BTreeMap::new(),
            breaker: Window::default(),
            budget: Budget::new(),
        }
    }

    /// The hosts are those of `plan`; what is known of those that stay is kept.
    pub(super) fn apply(
        &mut self,
        plan: &Arc<Plan>,
        resolved: impl Fn(&str, u16) -> Vec<SocketAddr>,
        upstream: &Upstream,
        now_ms: u64,
    ) {
        // Who is there from the beginning starts as all others do.
        let is_first = self.hosts.is_empty();
        let mut known: Vec<Entry> = self.hosts.drain(..).flat_map(|host| host.places).collect();
        for (tier, hosts) in plan.tiers.iter().enumerate() {
            for host in hosts {
                let places = match (Member::fixed_place(&host.target), &host.target) {
                    (Some(place), _) => vec![place],
                    (None, crate::Target::Name { host, port }) => {
                        resolved(host, *port).into_iter().map(Place::Tcp).collect()
                    }
                    (None, _) => Vec::new(),
                };
                let places = places.into_iter().map(|place| {
                    let same = |entry: &Entry| {
                        entry.member.host == host.name && entry.member.place == place
                    };
                    match known.iter().position(same) {
                        Some(at) => known.swap_remove(at),
                        None => Entry { is_asked: is_first, ..Entry::new(host, place, now_ms) },
                    }
                });
                let places = places.collect();
                self.hosts.push(Host { plan: host.clone(), tier, places });
            }
        }
        if plan.breaker.is_none() {
            upstream.breaker.close();
        }
        if plan.health != self.plan.health {
            for entry in self.hosts.iter_mut().flat_map(|host| &mut host.places) {
                (entry.health, entry.row, entry.check_due_ms) = (Health::Unknown, 0, now_ms);
            }
        }
        self.plan = Arc::clone(plan);
        let hosts = &self.hosts;
        self.orders.retain(|name, _| hosts.iter().any(|host| host.is_called(name)));
        self.rebuild(upstream, now_ms);
    }

    /// The name `host` leads to `addresses`.
    pub(super) fn resolved(
        &mut self,
        name: &str,
        port: u16,
        addresses: &[SocketAddr],
        upstream: &Upstream,
        now_ms: u64,
    ) {
        let mut is_new = false;
        for host in &mut self.hosts {
            let crate::Target::Name { host: own, port: own_port } = &host.plan.target else {
                continue;
            };
            if **own != *name || *own_port != port {
                continue;
            }
            let before: Vec<_> = host.addresses().collect();
            let added: Vec<_> =
                addresses.iter().copied().filter(|one| !before.contains(one)).collect();
            let removed: Vec<_> =
                before.iter().copied().filter(|one| !addresses.contains(one)).collect();
            if added.is_empty() && removed.is_empty() {
                continue;
            }
            is_new = true;
            host.places.retain(
                |entry| matches!(entry.member.place, Place::Tcp(one) if addresses.contains(&one)),
            );
            for address in &added {
                let mut entry = Entry::new(&host.plan, Place::Tcp(*address), now_ms);
                entry.is_asked = before.is_empty();
                host.places.push(entry);
            }
            let name = Some(Arc::clone(&host.plan.name));
            upstream.tell(name, Happening::Resolved { added, removed });
        }
        if is_new {
            self.rebuild(upstream, now_ms);
        }
    }

    /// `member` failed a request; it is the `requests`-th of the upstream.
    pub(super) fn failed(
        &mut self,
        member: &Member,
        in_a_row: u32,
        requests: u64,
        upstream: &Upstream,
        now_ms: u64,
    ) {
        if let Some(breaker) = self.plan.breaker
            && upstream.breaker.is_closed()
        {
            let counted = self.breaker.fail(requests, millis(breaker.within), now_ms);
            if counted.reaches(breaker.errors_percent, breaker.requests.into()) {
                self.breaker.clear();
                upstream.breaker.open_until(now_ms.saturating_add(millis(breaker.open)));
                let (failures, requests) = (counted.failures, counted.requests);
                upstream.tell(None, Happening::BreakerOpened { failures, requests });
            }
        }
        let Some(eject) = self.plan.eject else { return };
        let floor_allows = self.may_eject(member, eject);
        let Some(entry) = self.entry(member) else { return };
        let counted = entry.rate.fail(member.requests(), RATE_WINDOW_MS, now_ms);
        let why = if in_a_row >= eject.failures {
            Why::InARow(in_a_row)
        } else if counted.reaches(eject.rate_percent, RATE_REQUESTS_MIN) {
            Why::Rate { failures: counted.failures, requests: counted.requests }
        } else {
            return;
        };
        if entry.ejected.is_some() || !floor_allows {
            return;
        }
        let first = millis(eject.period);
        // Whoever was well for longer than it would be ejected begins anew.
        let longest = first.saturating_mul(1 << PERIOD_DOUBLINGS_MAX);
        if now_ms.saturating_sub(entry.returned_ms) > longest {
            entry.ejections = 0;
        }
        let period = first.saturating_mul(1 << entry.ejections.min(PERIOD_DOUBLINGS_MAX));
        entry.ejections = entry.ejections.saturating_add(1);
        entry.ejected = Some((now_ms.saturating_add(period), why));
        let name = entry.member.name();
        let period = Duration::from_millis(period);
        upstream.tell(Some(name), Happening::Ejected { why, period });
        self.rebuild(upstream, now_ms);
    }

    /// Whether one more host of its tier may be left out: there is a floor, unless others stand in.
    fn may_eject(&self, member: &Member, eject: EjectPlan) -> bool {
        let holds = |host: &&Host| host.places.iter().any(|entry| is(&entry.member, member));
        let Some(tier) = self.hosts.iter().find(holds).map(|host| host.tier) else { return false };
        if (tier + 1..self.plan.tiers.len()).any(|behind| self.well(behind).well > 0) {
            return true;
        }
        let all = || self.open(tier);
        let out = all().filter(|entry| entry.ejected.is_some()).count();
        (out + 1) * 100 <= all().count() * usize::from(eject.most_percent)
    }

    pub(super) fn breaker_closed(&mut self) {
        self.breaker.clear();
    }

    /// The health of `member` was asked for: what it answered, where that was not as it should be.
    pub(super) fn checked(
        &mut self,
        member: &Member,
        answer: Result<(), Arc<str>>,
        upstream: &Upstream,
        now_ms: u64,
    ) {
        let Some(health) = self.plan.health.clone() else { return };
        let Some(entry) = self.entry(member) else { return };
        entry.check_due_ms = now_ms.saturating_add(millis(health.every));
        let (turns, needed) = match (&entry.health, &answer) {
            // The first answer counts at once: nothing speaks against it.
            (Health::Unknown, _) => (true, 1),
            (Health::Well, Err(_)) => (true, health.unhealthy),
            (Health::Ill { .. }, Ok(())) => (true, health.healthy),
            (Health::Well, Ok(())) | (Health::Ill { .. }, Err(_)) => (false, 1),
        };
        entry.row = if turns { entry.row.saturating_add(1) } else { 0 };
        if let (Health::Ill { why, .. }, Err(new)) = (&mut entry.health, &answer) {
            *why = Arc::clone(new);
        }
        if !turns || entry.row < needed {
            return;
        }
        entry.row = 0;
        let was_unknown = matches!(entry.health, Health::Unknown);
        let name = Some(entry.member.name());
        match answer {
            Ok(()) => {
                entry.health = Health::Well;
                if was_unknown {
                    return;
                }
                entry.member.forgive();
                upstream.tell(name, Happening::Healthy);
            }
            Err(why) => {
                entry.health = Health::Ill { why: Arc::clone(&why), since_ms: now_ms };
                upstream.tell(name, Happening::Unhealthy { why });
            }
        }
        self.rebuild(upstream, now_ms);
    }

    /// The questions that are due, each of them taken once; and when the next one is.
    pub(super) fn take_due(&mut self, now_ms: u64) -> (Vec<Due>, u64) {
        let Some(health) = &self.plan.health else { return (Vec::new(), u64::MAX) };
        // Taken away until it is answered; one that never is comes up again.
        let again =
            now_ms.saturating_add(millis(health.timeout)).saturating_add(millis(health.every));
        let mut next = u64::MAX;
        let mut due = Vec::new();
        for entry in self.hosts.iter_mut().flat_map(|host| &mut host.places) {
            if entry.check_due_ms <= now_ms {
                entry.check_due_ms = again;
                due.push(Due { plan: Arc::clone(&self.plan), member: Arc::clone(&entry.member) });
            }
            next = next.min(entry.check_due_ms);
        }
        (due, next)
    }

    /// Carries out `wish` for the host called `name`, or for all; whether there is one.
    pub(super) fn order(
        &mut self,
        name: Option<&str>,
        wish: Wish,
        upstream: &Upstream,
        now_ms: u64,
    ) -> bool {
        let names: Vec<Arc<str>> = match name {
            Some(name) if self.hosts.iter().any(|host| host.is_called(name)) => vec![name.into()],
            Some(_) => return false,
            None => self.hosts.iter().map(|host| Arc::clone(&host.plan.name)).collect(),
        };
        for name in names {
            let before = self.orders.get(&name).copied();
            let after = match wish {
                Wish::Drain => Some(Order::Drain),
                Wish::Isolate => Some(Order::Isolate),
                Wish::Undrain if before == Some(Order::Isolate) => before,
                Wish::Undrain | Wish::Restore => None,
            };
            match after {
                Some(order) => drop(self.orders.insert(Arc::clone(&name), order)),
                None => drop(self.orders.remove(&name)),
            }
            if before != after {
                upstream.tell(Some(name), Happening::Ordered(wish));
            }
            if wish == Wish::Restore {
                let named = self.hosts.iter_mut().flat_map(|host| &mut host.places);
                for entry in named {
                    entry.ejected = None;
                    entry.member.forgive();
                }
            }
        }
        self.rebuild(upstream, now_ms);
        true
    }

    /// Everything that an operator can name.
    pub(super) fn names(&self) -> Vec<Arc<str>> {
        let hosts = self.hosts.iter();
        let names = hosts.clone().map(|host| Arc::clone(&host.plan.name));
        let labels = hosts.flat_map(|host| &host.places).map(|one| Arc::clone(&one.member.label));
        names.chain(labels).collect()
    }

    /// Lets those return whose time has come, and makes the roster of those that can be asked.
    pub(super) fn rebuild(&mut self, upstream: &Upstream, now_ms: u64) {
        let mut due_ms = u64::MAX;
        let orders = &self.orders;
        for host in &mut self.hosts {
            let name = &host.plan.name;
            for entry in &mut host.places {
                let order = order_of(orders, name, &entry.member);
                entry.member.isolate(order == Some(Order::Isolate));
                match entry.ejected {
                    Some((until, _)) if until <= now_ms => {
                        entry.ejected = None;
                        entry.returned_ms = now_ms;
                        entry.rate.clear();
                        entry.member.forgive();
                        upstream.tell(Some(entry.member.name()), Happening::Returned);
                    }
                    Some((until, _)) => due_ms = due_ms.min(until),
                    None => {}
                }
                let is_asked = order.is_none() && entry.is_well();
                if is_asked && !entry.is_asked {
                    entry.member.starts_at(now_ms);
                }
                entry.is_asked = is_asked;
            }
        }
        let tier = self.choose_tier();
        if tier != self.tier {
            // Back to the front, the tier that stood in says nothing: why not the front any more.
            let why = self.well(self.tier);
            upstream.tell(None, Happening::FailedOver { from: self.tier, to: tier, why });
            self.tier = tier;
        }
        let version = upstream.version.load(Relaxed).saturating_add(1);
        upstream.roster.store(Arc::new(self.roster(version)));
        upstream.due_ms.store(due_ms, Relaxed);
        upstream.version.store(version, std::sync::atomic::Ordering::Release);
        upstream.changed.send_replace(version);
        upstream.teller.wake.notify_one();
    }

    fn choose_tier(&self) -> usize {
        let tiers = 0..self.plan.tiers.len();
        let enough = |tier: &usize| {
            let few = self.well(*tier);
            few.well > 0 && few.well * 2 >= few.of
        };
        let some = |tier: &usize| self.well(*tier).well > 0;
        let open = |tier: &usize| self.well(*tier).of > 0;
        let chosen = tiers.clone().find(enough).or_else(|| tiers.clone().find(some));
        chosen.or_else(|| tiers.clone().find(open)).unwrap_or(0)
    }

    fn roster(&self, version: u64) -> Roster {
        let asked = |tier: usize| {
            let in_tier = self.hosts.iter().filter(move |host| host.tier == tier);
            in_tier.flat_map(|host| host.places.iter().map(move |entry| (host, entry)))
        };
        let seat =
            |(host, entry): (&Host, &Entry)| Seat::new(&entry.member, host.plan.weight.get());
        let mut seats: Vec<Seat> =
            asked(self.tier).filter(|(_, entry)| entry.is_asked).map(seat).collect();
        if seats.is_empty() {
            let orders = &self.orders;
            let open = |(host, entry): &(&Host, &Entry)| {
                order_of(orders, &host.plan.name, &entry.member).is_none()
            };
            seats = asked(self.tier).filter(open).map(seat).collect();
        }
        let front = seats.len();
        for tier in (0..self.plan.tiers.len()).filter(|tier| *tier != self.tier) {
            seats.extend(asked(tier).filter(|(_, entry)| entry.is_asked).map(seat));
        }
        let slow_start_ms = millis(self.plan.slow_start);
        Roster { version, seats, front, slow_start_ms }
    }

    /// The addresses of a tier that the operator lets be asked.
    fn open(&self, tier: usize) -> impl Iterator<Item = &Entry> {
        let hosts = self.hosts.iter().filter(move |host| host.tier == tier);
        hosts.flat_map(|host| {
            let open =
                |entry: &&Entry| order_of(&self.orders, &host.plan.name, &entry.member).is_none();
            host.places.iter().filter(open)
        })
    }

    fn well(&self, tier: usize) -> Few {
        let well = self.open(tier).filter(|entry| entry.is_well()).count();
        Few { well, of: self.open(tier).count() }
    }

    fn entry(&mut self, member: &Member) -> Option<&mut Entry> {
        let mut entries = self.hosts.iter_mut().flat_map(|host| &mut host.places);
        entries.find(|entry| is(&entry.member, member))
    }

    pub(super) fn view(&self, now_ms: u64) -> (usize, Vec<HostView>) {
        let slow_start_ms = millis(self.plan.slow_start);
        let mut views = Vec::new();
        for host in &self.hosts {
            let named = |address: Option<Arc<str>>, state: State| HostView {
                name: Arc::clone(&host.plan.name),
                address,
                tier: host.tier,
                weight: host.plan.weight.get(),
                state,
                in_flight: 0,
                requests: 0,
                failures: 0,
                latency: None,
                connections: 0,
            };
            if host.places.is_empty() {
                views.push(named(None, State::Unresolved));
            }
            for entry in &host.places {
                let member = &entry.member;
                let order = order_of(&self.orders, &host.plan.name, member);
                let latency = Some(member.latency_us(now_ms)).filter(|time| *time > 0);
                views.push(HostView {
                    in_flight: member.in_flight(),
                    requests: member.requests(),
                    failures: member.failures(),
                    latency: latency.map(Duration::from_micros),
                    connections: member.connections(),
                    ..named(
                        Some(Arc::clone(&member.label)),
                        entry.state(order, slow_start_ms, now_ms),
                    )
                });
            }
        }
        (self.tier, views)
    }
}

/// What the operator wants of an address: what was said of it, or of its host.
fn order_of(orders: &BTreeMap<Arc<str>, Order>, host: &str, member: &Member) -> Option<Order> {
    let of_host = orders.get(host).copied();
    let of_address = orders.get(&member.label).copied();
    match (of_host, of_address) {
        (Some(Order::Isolate), _) | (_, Some(Order::Isolate)) => Some(Order::Isolate),
        (order, None) | (None, order) => order,
        (Some(Order::Drain), Some(Order::Drain)) => Some(Order::Drain),
    }
}

fn is(one: &Arc<Member>, other: &Member) -> bool {
    std::ptr::eq(&raw const **one, other)
}

impl Host {
    fn is_called(&self, name: &str) -> bool {
        *self.plan.name == *name || self.places.iter().any(|entry| *entry.member.label == *name)
    }

    fn addresses(&self) -> impl Iterator<Item = SocketAddr> {
        self.places.iter().filter_map(|entry| match entry.member.place {
            Place::Tcp(address) => Some(address),
            Place::Unix(_) => None,
        })
    }
}

impl Entry {
    fn new(host: &HostPlan, place: Place, now_ms: u64) -> Self {
        Self {
            member: Arc::new(Member::new(host, place)),
            ejected: None,
            ejections: 0,
            returned_ms: 0,
            rate: Window::default(),
            health: Health::Unknown,
            row: 0,
            check_due_ms: now_ms,
            is_asked: true,
        }
    }

    const fn is_well(&self) -> bool {
        self.ejected.is_none() && !matches!(self.health, Health::Ill { .. })
    }

    fn state(&self, order: Option<Order>, slow_start_ms: u64, now_ms: u64) -> State {
        match (order, &self.health, self.ejected) {
            (Some(Order::Isolate), ..) => State::Isolated,
            (Some(Order::Drain), ..) => State::Draining { left: self.member.in_flight() },
            (None, Health::Ill { why, since_ms }, _) => State::Unhealthy {
                why: Arc::clone(why),
                lasting: Duration::from_millis(now_ms.saturating_sub(*since_ms)),
            },
            (None, _, Some((until, why))) => {
                State::Ejected { why, left: Duration::from_millis(until.saturating_sub(now_ms)) }
            }
            (None, _, None) if self.member.is_starting(slow_start_ms, now_ms) => State::Starting,
            (None, _, None) => State::Up,
        }
    }
}
