//! The connections of one thread, and which of them a request gets.
//!
//! Nothing here is shared with other threads. What all threads know of the hosts is read from the
//! roster of the [`Upstream`]; whenever another one is in force, connections to hosts that left are
//! closed, those in use when their request has ended, or at once when an operator isolated the host.
//! At most [`Plan::connections`] are open per upstream and thread; a request that finds all of them
//! in use fails at once, because a queue would only hide the overload from the client.

use std::cell::{Cell, RefCell};
use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher, Hasher};
use std::rc::{Rc, Weak};
use std::sync::atomic::Ordering::{Acquire, Relaxed};
use std::sync::{self, Arc};

use bytes::Bytes;
use tokio::sync::Notify;
use tokio::task::{AbortHandle, spawn_local};
use tokio::time::{Instant, timeout};

use crate::connection::{BoxError, Line, STREAMS_MAX, Sender};
use crate::failure::{Cause, Failure};
use crate::fleet::{Chance, Fleet, Member, Roster, Upstream};
use crate::plan::{Balance, Plan, Protocol};
use crate::stream::Gauge;

/// The connections of one thread to every upstream; needs a `LocalSet` around it.
pub struct Pools<B> {
    fleet: Arc<Fleet>,
    /// By [`Upstream::slot`].
    homes: RefCell<Vec<Option<Home<B>>>>,
}

/// What requests have in common that go to the same host, as a number.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Affinity(Option<u64>);

pub(crate) type Home<B> = Rc<Pool<B>>;

/// One thread's half of an upstream.
pub(crate) struct Pool<B> {
    pub(crate) upstream: Arc<Upstream>,
    /// Connections that exist, in use or not.
    open: Cell<usize>,
    known: RefCell<Known<B>>,
    watcher: Cell<Option<AbortHandle>>,
}

struct Known<B> {
    roster: Arc<Roster>,
    /// One for each seat of the roster.
    hosts: Vec<Rc<Host<B>>>,
    /// Hosts that left, and may still have requests.
    former: Vec<Weak<Host<B>>>,
    chance: Chance,
}

/// One thread's half of an address.
pub(crate) struct Host<B> {
    pub(crate) member: Arc<Member>,
    /// The last one used is the first one used again, so that surplus connections age and close.
    unused: RefCell<Vec<Line<B>>>,
    /// Connections of HTTP/2.
    shared: RefCell<Vec<Rc<Line<B>>>>,
    /// Of every connection, for the day when all are cut.
    gauges: RefCell<Vec<sync::Weak<Gauge>>>,
    /// One connection of HTTP/2 is being opened, and who wants it waits for it.
    opening: Cell<bool>,
    opened: Notify,
    /// It was asked for HTTP/2 and speaks HTTP/1.1.
    only_http1: Cell<bool>,
    /// Whether the roster in force has it.
    is_listed: Cell<bool>,
}

/// The right to one connection.
pub(crate) struct Slot<B> {
    home: Weak<Pool<B>>,
    member: Arc<Member>,
}

/// A connection for one request.
pub(crate) enum Leased<B> {
    Own(Line<B>),
    Shared(OnStream<B>),
}

/// A place on a connection that others use as well.
pub(crate) struct OnStream<B>(pub(crate) Rc<Line<B>>, std::time::Duration);

/// How a connection was come by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Origin {
    Fresh,
    /// It was open before, so the upstream may have closed it without our knowing.
    Reused,
}

/// Whom a request has met.
#[derive(Default)]
pub(crate) struct Tried {
    /// They accepted no connection.
    refused: Vec<Arc<Member>>,
    /// They failed it; asked again only when nobody else is there.
    pub(crate) failed: Vec<Arc<Member>>,
}

impl Affinity {
    /// Any host will do.
    pub const NONE: Self = Self(None);

    /// The host of `key`.
    pub fn of(key: &[u8]) -> Self {
        Self(Some(crate::fleet::hash(key)))
    }
}

impl<B> Pools<B>
where
    B: http_body::Body<Data = Bytes> + Unpin + 'static,
    B::Error: Into<BoxError>,
{
    /// No connections yet; what all threads know is in `fleet`.
    pub fn new(fleet: Arc<Fleet>) -> Self {
        Self { fleet, homes: RefCell::default() }
    }

    /// Connections of this thread to the upstream called `name`, in use or not.
    pub fn open_connections(&self, name: &str) -> usize {
        let homes = self.homes.borrow();
        homes
            .iter()
            .flatten()
            .filter(|home| *home.upstream.name == *name)
            .map(|home| home.open.get())
            .sum()
    }

    /// This thread's half of the upstream of `plan`.
    pub(crate) fn home(&self, plan: &Plan, now: Instant) -> Home<B> {
        let upstream = self.fleet.of(plan, now.into_std());
        let slot = upstream.slot.load(Relaxed);
        if let Some(Some(home)) = self.homes.borrow().get(slot)
            && Arc::ptr_eq(&home.upstream, upstream)
        {
            return Rc::clone(home);
        }
        let home = Pool::new(upstream);
        let mut homes = self.homes.borrow_mut();
        if homes.len() <= slot {
            homes.resize_with(slot.saturating_add(1), || None);
        }
        let old = homes.get_mut(slot).and_then(|place| place.replace(Rc::clone(&home)));
        drop(homes);
        drop(old);
        home
    }
}

impl<B> Pool<B>
where
    B: http_body::Body<Data = Bytes> + Unpin + 'static,
    B::Error: Into<BoxError>,
{
    fn new(upstream: &Arc<Upstream>) -> Home<B> {
        // Threads must not choose alike; nothing depends on nobody's guessing it.
        let seed = RandomState::new().build_hasher().finish();
        let home = Rc::new(Self {
            upstream: Arc::clone(upstream),
            open: Cell::new(0),
            known: RefCell::new(Known {
                roster: Arc::default(),
                hosts: Vec::new(),
                former: Vec::new(),
                chance: Chance::new(seed),
            }),
            watcher: Cell::new(None),
        });
        let mut changed = upstream.changed.subscribe();
        let weak = Rc::downgrade(&home);
        let watcher = spawn_local(async move {
            while changed.changed().await.is_ok() {
                let Some(home) = weak.upgrade() else { return };
                home.sync();
            }
        });
        home.watcher.set(Some(watcher.abort_handle()));
        home
    }

    /// Follows the roster in force.
    pub(crate) fn sync(&self) {
        let version = self.upstream.version.load(Acquire);
        if self.known.borrow().roster.version == version {
            return;
        }
        let roster = self.upstream.roster.load_full();
        let mut known = self.known.borrow_mut();
        let mut before = std::mem::take(&mut known.hosts);
        for seat in &roster.seats {
            let same = |host: &Rc<Host<B>>| Arc::ptr_eq(&host.member, &seat.member);
            let old = before.iter().position(same).map(|at| before.swap_remove(at));
            let old = old.or_else(|| {
                let mut former = known.former.iter().rev().filter_map(Weak::upgrade);
                former.find(|host| same(host))
            });
            let host = old.unwrap_or_else(|| Rc::new(Host::new(&seat.member)));
            host.is_listed.set(true);
            known.hosts.push(host);
        }
        known.former.extend(before.iter().map(Rc::downgrade));
        known.former.retain(|host| host.upgrade().is_some_and(|host| host.is_in_use()));
        let former: Vec<_> = known.former.iter().filter_map(Weak::upgrade).collect();
        known.roster = roster;
        drop(known);
        for host in before.into_iter().chain(former) {
            let is_back = self.known.borrow().hosts.iter().any(|one| Rc::ptr_eq(one, &host));
            if !is_back {
                host.leave();
            }
        }
    }

    /// The host that is asked next.
    fn choose(
        &self,
        plan: &Plan,
        affinity: Affinity,
        tried: &Tried,
        now_ms: u64,
    ) -> Option<Rc<Host<B>>> {
        self.sync();
        let mut known = self.known.borrow_mut();
        let Known { roster, hosts, chance, .. } = &mut *known;
        let member = |seat: usize| roster.seats.get(seat).map(|seat| &*seat.member);
        let refused = |seat| member(seat).is_none_or(|member| has(&tried.refused, member));
        let failed = |seat| member(seat).is_none_or(|member| has(&tried.failed, member));
        let cools = |seat| member(seat).is_none_or(|member| member.is_cooling(now_ms));
        let mut pick = |may: &dyn Fn(usize) -> bool| match (&plan.balance, affinity.0) {
            (Balance::RoundRobin, _) => roster.in_turn(chance, now_ms, may),
            (Balance::Hash(_), Some(key)) => roster.belonging_to(key, now_ms, may),
            (Balance::Hash(_), None) | (Balance::LeastLoaded, _) => {
                roster.least_loaded(chance, now_ms, may)
            }
        };
        let new = |seat| !refused(seat) && !failed(seat);
        let seat = pick(&|seat| new(seat) && !cools(seat))
            .or_else(|| (roster.front..roster.seats.len()).find(|seat| new(*seat) && !cools(*seat)))
            .or_else(|| pick(&new))
            .or_else(|| (roster.front..roster.seats.len()).find(|seat| new(*seat)))
            .or_else(|| pick(&|seat| !refused(seat)));
        seat.and_then(|seat| hosts.get(seat)).map(Rc::clone)
    }

    /// A connection to the host whose turn it is, or to the next one that accepts one.
    pub(crate) async fn checkout(
        self: &Rc<Self>,
        wanted: Wanted,
        affinity: Affinity,
        tried: &mut Tried,
        plan: &Plan,
    ) -> Result<(Leased<B>, Rc<Host<B>>, Origin), Failure> {
        let started = Instant::now();
        let mut failure = None;
        loop {
            let now_ms = self.upstream.ms(Instant::now().into_std());
            let Some(host) = self.choose(plan, affinity, tried, now_ms) else {
                return Err(failure.unwrap_or_else(|| Failure::new(None, Cause::NoHost)));
            };
            let label = Arc::clone(&host.member.label);
            let cause = match self.connection_to(&host, wanted, plan).await {
                Ok((leased, origin)) => return Ok((leased, host, origin)),
                Err(cause @ Cause::Busy { .. }) => return Err(Failure::new(Some(label), cause)),
                Err(cause) => cause,
            };
            let now_ms = self.upstream.ms(Instant::now().into_std());
            self.upstream.unreachable(&host.member, now_ms);
            tried.refused.push(Arc::clone(&host.member));
            failure = Some(Failure::new(Some(label), cause));
            // A pool of hosts that swallow packets must not cost a time-out for each.
            if started.elapsed() >= 2 * plan.connect_timeout {
                return Err(failure.unwrap_or_else(|| Failure::new(None, Cause::NoHost)));
            }
        }
    }

    async fn connection_to(
        self: &Rc<Self>,
        host: &Rc<Host<B>>,
        wanted: Wanted,
        plan: &Plan,
    ) -> Result<(Leased<B>, Origin), Cause> {
        let protocol = match wanted {
            Wanted::Alone => Protocol::Http1,
            Wanted::Any | Wanted::Fresh => plan.protocol,
        };
        if wanted == Wanted::Any
            && let Some(line) = host.reuse()
        {
            return Ok((Leased::Own(line), Origin::Reused));
        }
        if protocol == Protocol::Http1 || host.only_http1.get() {
            let line = Line::open(host, self.slot(host, plan)?, protocol, plan).await?;
            return Ok((Leased::Own(line), Origin::Fresh));
        }
        let mut origin = Origin::Reused;
        loop {
            if (wanted == Wanted::Any || origin == Origin::Fresh)
                && let Some(line) = host.share()
            {
                return Ok((Leased::Shared(OnStream::on(line, plan.idle)), origin));
            }
            if !host.opening.get() {
                break;
            }
            // Whoever waits shares the one that is being opened, if there is room on it.
            if timeout(plan.connect_timeout, host.opened.notified()).await.is_err() {
                return Err(Cause::ConnectTimeout(plan.connect_timeout));
            }
            origin = Origin::Fresh;
        }
        let slot = self.slot(host, plan)?;
        let _opening = Opening::begin(host);
        let line = Line::open(host, slot, protocol, plan).await?;
        match &line.sender {
            Sender::Http1(_) => {
                host.only_http1.set(true);
                Ok((Leased::Own(line), Origin::Fresh))
            }
            Sender::Http2(_) => {
                let line = Rc::new(line);
                host.shared.borrow_mut().push(Rc::clone(&line));
                Ok((Leased::Shared(OnStream::on(line, plan.idle)), Origin::Fresh))
            }
        }
    }

    /// The right to one more connection. An unused one to any host makes room.
    fn slot(self: &Rc<Self>, host: &Host<B>, plan: &Plan) -> Result<Slot<B>, Cause> {
        if self.open.get() >= plan.connections {
            let known = self.known.borrow();
            let surplus = known.hosts.iter().find_map(|host| host.oldest_unused());
            drop(known);
            drop(surplus);
        }
        if self.open.get() >= plan.connections {
            return Err(Cause::Busy { limit: plan.connections });
        }
        self.open.set(self.open.get().saturating_add(1));
        host.member.connected();
        Ok(Slot { home: Rc::downgrade(self), member: Arc::clone(&host.member) })
    }
}

/// Which connection will do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wanted {
    /// A new one that carries nothing else, and speaks HTTP/1.1.
    Alone,
    /// Any.
    Any,
    /// A new one.
    Fresh,
}

fn has(members: &[Arc<Member>], member: &Member) -> bool {
    members.iter().any(|one| std::ptr::eq(&raw const **one, member))
}

impl<B> Host<B> {
    fn new(member: &Arc<Member>) -> Self {
        Self {
            member: Arc::clone(member),
            unused: RefCell::default(),
            shared: RefCell::default(),
            gauges: RefCell::default(),
            opening: Cell::new(false),
            opened: Notify::new(),
            only_http1: Cell::new(false),
            is_listed: Cell::new(true),
        }
    }

    /// One more connection that is to end when all end.
    pub(crate) fn remember(&self, gauge: &Arc<Gauge>) {
        let mut gauges = self.gauges.borrow_mut();
        if gauges.len() == gauges.capacity() {
            gauges.retain(|gauge| gauge.strong_count() > 0);
        }
        gauges.push(Arc::downgrade(gauge));
    }

    fn is_in_use(&self) -> bool {
        self.gauges.borrow().iter().any(|gauge| gauge.strong_count() > 0)
    }

    fn reuse(&self) -> Option<Line<B>> {
        loop {
            let line = self.unused.borrow_mut().pop()?;
            if line.is_ready() {
                line.unused_until.set(None);
                return Some(line);
            }
        }
    }

    fn share(&self) -> Option<Rc<Line<B>>> {
        let shared = self.shared.borrow();
        let room = |line: &&Rc<Line<B>>| {
            line.streams.get() < line.streams_max.get().min(STREAMS_MAX) && !line.is_closed()
        };
        shared.iter().find(room).map(Rc::clone)
    }

    fn oldest_unused(&self) -> Option<Line<B>> {
        let mut unused = self.unused.borrow_mut();
        if unused.is_empty() { None } else { Some(unused.remove(0)) }
    }

    /// An answer was read to its end: the connection may carry the next request.
    pub(crate) fn keep(&self, line: Line<B>) {
        if self.is_listed.get() {
            self.unused.borrow_mut().push(line);
        }
    }

    /// Forgets connections that have ended.
    pub(crate) fn sweep(&self) {
        let mut ended = Vec::new();
        let mut unused = self.unused.borrow_mut();
        while let Some(at) = unused.iter().position(Line::is_closed) {
            ended.push(unused.swap_remove(at));
        }
        drop(unused);
        self.shared.borrow_mut().retain(|line| !line.is_closed());
        drop(ended);
    }

    /// It is not asked any more.
    fn leave(&self) {
        self.is_listed.set(false);
        let unused = self.unused.take();
        let shared = self.shared.take();
        drop((unused, shared));
        if self.member.is_isolated() {
            for gauge in self.gauges.borrow().iter().filter_map(sync::Weak::upgrade) {
                gauge.cut();
            }
        }
    }
}

impl<B> OnStream<B> {
    fn on(line: Rc<Line<B>>, idle: std::time::Duration) -> Self {
        line.streams.set(line.streams.get().saturating_add(1));
        line.unused_until.set(None);
        Self(line, idle)
    }
}

impl<B> Drop for OnStream<B> {
    fn drop(&mut self) {
        let left = self.0.streams.get().saturating_sub(1);
        self.0.streams.set(left);
        if left == 0 {
            self.0.unused_until.set(Some(Instant::now() + self.1));
        }
    }
}

/// Lets others wait while a connection of HTTP/2 is being opened.
struct Opening<'h, B>(&'h Host<B>);

impl<'h, B> Opening<'h, B> {
    fn begin(host: &'h Host<B>) -> Self {
        host.opening.set(true);
        Self(host)
    }
}

impl<B> Drop for Opening<'_, B> {
    fn drop(&mut self) {
        self.0.opening.set(false);
        self.0.opened.notify_waiters();
    }
}

impl<B> Drop for Slot<B> {
    fn drop(&mut self) {
        self.member.disconnected();
        if let Some(home) = self.home.upgrade() {
            home.open.set(home.open.get().saturating_sub(1));
        }
    }
}

impl<B> Drop for Pool<B> {
    fn drop(&mut self) {
        if let Some(watcher) = self.watcher.take() {
            watcher.abort();
        }
    }
}
