//! What the responder is asked to do, and who gets the answer.

use std::net::IpAddr;

use enforcer_admin::Refusal;
use enforcer_admin::call::{
    self, Blocked, Blocks, Exported, Imported, KernelReport, KernelStatus, KernelVerb, ListName,
    ListReleased, ListRow, Place, Released, Talkers, Which, Why,
};
use enforcer_audit::Ticket;
use enforcer_model::{Author, BlockId, KeyId, Offence, PerSecond, Prefix, Target};
use enforcer_policy::WhenFull;
use tokio::sync::oneshot;
use tracing::debug;

use crate::handover::{Loan, Returned};

use super::{Draft, Guards, Responder, Shut, ShutOut, Step, ThrottledView};

/// Orders that may wait for the responder.
pub(crate) const ORDERS_MAX: usize = 1_024;

/// What the responder is asked to do.
#[derive(Debug)]
pub(crate) enum Order {
    Quarantine {
        asked: call::Quarantine,
        by: Author,
        reply: Reply<(Blocked, Option<Ticket>)>,
    },
    Answer {
        finding: Offence,
        reply: oneshot::Sender<Result<BlockId, String>>,
    },
    /// A rule wants somebody shut out.
    Shut {
        shut: Shut,
        reply: oneshot::Sender<Result<ShutOut, String>>,
    },
    Release {
        what: Which,
        reason: Option<String>,
        by: Author,
        reply: Reply<(Released, Option<Ticket>)>,
    },
    List {
        after: Option<Place>,
        reply: Reply<Blocks>,
    },
    Why {
        address: IpAddr,
        reply: Reply<Why>,
    },
    Verify {
        repair: Repair,
        reply: Reply<call::Verified>,
    },
    /// The id that a list of this name has or will have.
    Enlist {
        name: ListName,
        reply: Reply<BlockId>,
    },
    Import {
        draft: Box<Draft>,
        reply: Reply<(Imported, Option<Ticket>)>,
    },
    Lists {
        reply: Reply<Vec<ListRow>>,
    },
    ReleaseList {
        name: ListName,
        reason: Option<String>,
        by: Author,
        reply: Reply<(ListReleased, Option<Ticket>)>,
    },
    Export {
        list: Option<ListName>,
        after: Option<Prefix>,
        reply: Reply<Exported>,
    },
    Status {
        reply: Reply<KernelView>,
    },
    Kernel {
        verb: KernelVerb,
        by: Author,
        reply: Reply<(KernelReport, Option<Ticket>)>,
    },
    Talkers {
        most: u32,
        reply: Reply<Talkers>,
    },
    /// Cuts the requests in flight of a key that was revoked.
    Cut {
        key: KeyId,
        reply: Reply<()>,
    },
    /// Ends what somebody has open whom a rule has blocked; contains a source.
    Close {
        target: Target,
    },
    /// A source goes on though it is refused, or turned out to be shared.
    Throttle {
        step: Step,
        budget: PerSecond,
    },
    /// Who is throttled.
    Throttled {
        reply: Reply<ThrottledView>,
    },
    /// Leave what is owned here to a successor, until it is known what came of it.
    Lend(Loan),
    /// Compares a part of what is enforced with what is decided.
    Round,
    /// Ends what is over, looks after the interfaces.
    Tick,
    /// A new policy. The answer says what of it is not in force.
    Reguard {
        policed: Box<Policed>,
        reply: oneshot::Sender<Vec<String>>,
    },
}

/// What a policy says about blocks.
#[derive(Debug)]
pub(crate) struct Policed {
    pub(crate) guards: Guards,
    pub(crate) when_full: WhenFull,
    pub(crate) kernel: Option<enforcer_kernel::Config>,
}

/// Whether differences are only told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Repair {
    Tell,
    Mend,
}

type Reply<T> = oneshot::Sender<Result<T, Refusal>>;

/// The kernel half and what is decided, at one moment.
#[derive(Debug)]
pub(crate) struct KernelView {
    pub(crate) status: KernelStatus,
    pub(crate) blocks: u64,
    pub(crate) lists: u64,
    pub(crate) listed_networks: u64,
    /// Slots of the kernel map that differed from what is decided and were mended.
    pub(crate) mended: u64,
    /// Sources whose packet budget is shrunk.
    pub(crate) throttled: u64,
    /// What the responder's thread may still do.
    pub(crate) capabilities: Vec<String>,
}

impl Responder {
    /// Does what is asked; whether there is anything left to own.
    pub(super) fn obey(&mut self, order: Order) -> Returned {
        // Whoever asked may be gone by the time of the answer; the deed stands.
        match order {
            Order::Quarantine { asked, by, reply } => {
                drop(reply.send(self.quarantine(&asked, by)));
            }
            Order::Answer { finding, reply } => drop(reply.send(self.answer(&finding))),
            Order::Shut { shut, reply } => drop(reply.send(self.shut(shut))),
            Order::Release { what, reason, by, reply } => {
                drop(reply.send(self.release(&what, reason.as_deref(), &by)));
            }
            Order::List { after, reply } => drop(reply.send(self.list(after))),
            Order::Why { address, reply } => drop(reply.send(self.why(address))),
            Order::Verify { repair, reply } => drop(reply.send(self.verify(repair))),
            Order::Enlist { name, reply } => drop(reply.send(self.enlist(&name))),
            Order::Import { draft, reply } => drop(reply.send(self.import(*draft))),
            Order::Lists { reply } => drop(reply.send(Ok(self.list_rows()))),
            Order::ReleaseList { name, reason, by, reply } => {
                drop(reply.send(self.release_list(&name, reason.as_deref(), &by)));
            }
            Order::Export { list, after, reply } => {
                drop(reply.send(self.export(list.as_ref(), after)));
            }
            Order::Status { reply } => {
                self.parts.kernel.set_crowded(self.room.described());
                drop(reply.send(Ok(self.view())));
            }
            Order::Kernel { verb, by, reply } => {
                drop(reply.send(Ok(self.change_kernel(verb, by))));
            }
            Order::Talkers { most, reply } => {
                drop(reply.send(Ok(self.talkers(most))));
            }
            Order::Cut { key, reply } => {
                self.close_key(key);
                drop(reply.send(Ok(())));
            }
            Order::Close { target } => {
                let closed = match target.network() {
                    Some(prefix) => self.contain(prefix),
                    None => self.close(&target).connections,
                };
                debug!(%target, closed, "what was open is closed");
            }
            Order::Throttle { step, budget } => {
                let now = self.parts.clock.now().monotonic;
                self.throttling.take(step, budget, now);
            }
            Order::Throttled { reply } => drop(reply.send(Ok(self.throttling.view()))),
            Order::Lend(loan) => return self.lend(loan),
            Order::Round => self.go_round(),
            Order::Tick => self.tick(),
            Order::Reguard { policed, reply } => drop(reply.send(self.reguard(*policed))),
        }
        Returned::Back
    }
}
