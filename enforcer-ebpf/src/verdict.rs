//! The verdict on one packet, shared by every place that it can be asked for.
//!
//! Read [`judge`] from top to bottom: the order of its lines is the order of the decisions. It
//! reaches the maps only through [`Tables`] and [`Lists`], and the time only through
//! [`Tables::now_ns`].

use crate::packet::{self, Frame};
use crate::quarantine::{self, Hit};
use crate::{
    Address, Bucket, Config, Entry, Event, Mode, Packet, Reason, Shared, V4, V6, Verdict, budget,
    events,
};

/// Everything outside the packet that a verdict depends on or changes.
pub trait Tables {
    /// Lists about IPv4.
    type V4: Lists<V4>;
    /// Lists about IPv6.
    type V6: Lists<V6>;

    /// What is in force; `None` cannot happen and is answered as a bug of ours.
    fn config(&self) -> Option<&Config<Shared>>;
    /// `CLOCK_BOOTTIME`: runs on while the host sleeps, as expiry dates do.
    fn now_ns(&self) -> u64;
    /// Lists about IPv4.
    fn v4(&self) -> &Self::V4;
    /// Lists about IPv6.
    fn v6(&self) -> &Self::V6;
    /// Counts a packet of `bytes`.
    fn count(&self, verdict: Verdict, reason: Reason, bytes: u64);
    /// Tells the agent, or counts the loss.
    fn report(&self, event: &Event);
}

/// One family's lists.
pub trait Lists<A: Address> {
    /// The block of exactly this network, expired or not.
    fn block(&self, network: &A::Key) -> Option<&Entry<Shared>>;
    /// Whether the allow list covers the address.
    fn allows(&self, address: A) -> bool;
    /// What this payer has spent.
    fn bucket(&self, payer: &A::Payer) -> Option<&Bucket<Shared>>;
    /// Remembers a payer, in place of the one heard of longest ago when there is no room.
    fn open_bucket(&self, payer: &A::Payer, bucket: Bucket);
}

/// What speaks against a packet.
enum Charge<'t> {
    Blocked(Hit<'t>),
    Overspent(&'t Bucket<Shared>),
}

/// Decides about a packet, counts the decision, and returns it; `None` is a bug of ours.
#[inline(always)]
pub fn judge<P: Packet, T: Tables>(packet: &P, tables: &T) -> Option<Verdict> {
    let config = tables.config()?;
    let mode = config.mode();
    let (verdict, reason) = match mode {
        Mode::Off => (Verdict::Pass, Reason::Off),
        Mode::Observe | Mode::Enforce => match packet::parse(packet) {
            Ok(Frame::V4(source)) => weigh(packet, source, mode, config, tables.v4(), tables),
            Ok(Frame::V6(source)) => weigh(packet, source, mode, config, tables.v6(), tables),
            Ok(Frame::Other) => (Verdict::Pass, Reason::NotIp),
            Err(_) => (consequence(mode), Reason::Unreadable),
        },
    };
    tables.count(verdict, reason, packet.length());
    Some(verdict)
}

#[inline(always)]
fn weigh<P: Packet, T: Tables, A: Address, L: Lists<A>>(
    packet: &P,
    source: A,
    mode: Mode,
    config: &Config<Shared>,
    lists: &L,
    tables: &T,
) -> (Verdict, Reason) {
    let clock = || tables.now_ns();
    let charge = if let Some(hit) = quarantine::find(source, A::lengths(config), lists, clock) {
        Charge::Blocked(hit)
    } else if let Some(bucket) = budget::overspent(source, config, lists, clock) {
        Charge::Overspent(bucket)
    } else {
        return (Verdict::Pass, Reason::Clean);
    };
    // From here on the packet would be dropped. What can still save it costs a normal one nothing.
    if lists.allows(source) {
        return (Verdict::Pass, Reason::Allowed);
    }
    if A::is_essential(packet) {
        return (Verdict::Pass, Reason::Essential);
    }
    let now_ns = tables.now_ns();
    let (verdict, reason, reported_ns, id, length) = match charge {
        Charge::Blocked(hit) => {
            hit.count(packet.length(), now_ns);
            let verdict = if hit.entry.observes() { Verdict::Pass } else { consequence(mode) };
            (verdict, Reason::Blocked, &hit.entry.reported_ns, hit.id(), hit.length)
        }
        Charge::Overspent(bucket) => {
            (consequence(mode), Reason::Budget, &bucket.reported_ns, 0, A::BUDGET_BITS)
        }
    };
    if events::is_first(reported_ns, now_ns) {
        tables.report(&Event::new(source, verdict, reason, id, length, now_ns));
    }
    (verdict, reason)
}

/// What a charge leads to.
#[inline(always)]
const fn consequence(mode: Mode) -> Verdict {
    match mode {
        Mode::Off | Mode::Observe => Verdict::Pass,
        Mode::Enforce => Verdict::Drop,
    }
}
