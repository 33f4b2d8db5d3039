//! The pinned kernel maps, where no agent runs: what they hold, and blocks listed, added, taken out.
//!
//! Nothing but the maps is touched. An agent that starts later takes over what it finds there.

mod state;

use enforcer_admin::call::Which;
use enforcer_kernel::{Entry, Installed, Kernel, Mode};
use enforcer_model::{BlockId, Prefix, Target};
use serde::Serialize;

pub(super) use state::{status, upgrade};

use super::quarantine::{Ttl, span, ssh_peer};
use super::{Context, Exit, Failure, Table};
use crate::respond::{ClientShare, Guards, Surroundings, random_block_id};

/// One entry of the kernel's map, without a decision beside it.
#[derive(Debug, Serialize)]
struct Held {
    id: BlockId,
    target: Prefix,
    remaining_seconds: Option<u64>,
    packets: u64,
    bytes: u64,
    observe: bool,
    contain: bool,
}

impl From<Installed> for Held {
    fn from(entry: Installed) -> Self {
        Self {
            id: entry.id,
            target: entry.prefix,
            remaining_seconds: entry.remaining.map(|left| left.as_secs()),
            packets: entry.packets,
            bytes: entry.bytes,
            observe: entry.observe,
            contain: entry.contain,
        }
    }
}

/// `blocks --from-kernel`: what the pinned maps hold.
pub(super) fn list(context: &Context) -> Result<Exit, Failure> {
    let kernel = open(context)?;
    let entries = kernel.blocks().map_err(|error| Failure::advised(&error, error.hint()))?;
    let rows = entries
        .iter()
        .map(|entry| {
            let packets = entry.packets.to_string();
            vec![entry.id.to_string(), entry.prefix.to_string(), left(entry), packets]
        })
        .collect();
    let held: Vec<Held> = entries.into_iter().map(Held::from).collect();
    context
        .printer
        .list(&held, &Table { header: &["ID", "TARGET", "REMAINING", "DROPPED"], rows })?;
    Ok(Exit::Done)
}

/// `release --from-kernel`: takes the entry out of the pinned maps.
pub(super) fn release(context: &Context, what: &Which) -> Result<Exit, Failure> {
    context.without_agent("the same command without `--from-kernel` asks it")?;
    let mut kernel = open(context)?;
    let target = match what {
        Which::Target(Target::Network(prefix)) => *prefix,
        Which::Target(_) => {
            return Err(Failure::usage("only networks are blocked in the kernel")
                .hint("start the agent with `enforcer run`"));
        }
        Which::Id(id) => {
            let entries =
                kernel.blocks().map_err(|error| Failure::advised(&error, error.hint()))?;
            let found = entries.iter().find(|entry| entry.id == *id);
            found.ok_or_else(|| nothing(what))?.prefix
        }
    };
    let released =
        kernel.release(target).map_err(|error| Failure::advised(&error, error.hint()))?;
    let released = released.ok_or_else(|| nothing(what))?;
    let lines = [
        format!("released  {target}   {}", released.id),
        format!("  kernel  removed; it had dropped {} packets", released.packets),
    ];
    context.printer.item(&Held::from(released), &lines)?;
    context.printer.warning(&format!(
        "the agent's own decision stands: when it runs, `enforcer release {target}`"
    ));
    Ok(Exit::Done)
}

/// `quarantine --kernel-only`: puts an entry in the pinned maps.
pub(super) fn quarantine(context: &Context, target: &Target, ttl: Ttl) -> Result<Exit, Failure> {
    let Some(prefix) = target.network() else {
        return Err(Failure::usage(
            "only networks are blocked in the kernel; the rest needs the agent",
        )
        .hint("start it with `enforcer run`"));
    };
    context.without_agent("the same command without `--kernel-only` asks it")?;
    let mut kernel = open(context)?;
    let objections = objections(context, &kernel, prefix)?;
    if !objections.is_empty() {
        return Err(Failure {
            exit: Exit::Guarded,
            message: format!("{prefix} contains protected addresses:"),
            details: objections,
            hint: Some("narrow it; overriding a guard needs the agent".to_owned()),
        });
    }
    let entry = Entry {
        id: random_block_id().map_err(|error| Failure::because(&error))?,
        expires: match ttl {
            Ttl::For(ttl) => Some(ttl),
            Ttl::Forever => None,
        },
        observe: false,
        contain: true,
    };
    let held =
        kernel.block(prefix, entry).map_err(|error| Failure::advised(&error, error.hint()))?;
    let mode = kernel.mode().map_err(|error| Failure::advised(&error, error.hint()))?;

    let (effect, exit) = match mode {
        Mode::Enforce => ("applied, read back", Exit::Done),
        Mode::Observe => ("observe mode: counted, NOT dropped", Exit::PartlyApplied),
        Mode::Off => ("off: NOT dropped", Exit::PartlyApplied),
    };
    let lines = [
        format!("blocked  {prefix}  {}   {}", left(&held), held.id),
        format!("  kernel  {effect}"),
        "  layer 7 and audit need the agent; the reason is not kept, the maps have no room for it"
            .to_owned(),
        format!("undo: enforcer release --from-kernel {}", held.id),
    ];
    context.printer.item(&Held::from(held), &lines)?;
    if exit == Exit::PartlyApplied {
        context.printer.hint("set `mode = \"enforce\"` under [kernel] and start the agent");
    }
    Ok(exit)
}

/// Why `prefix` must not be blocked: the guards of the policy, where it loads, the host's own needs,
/// and what the kernel lets pass whatever is blocked.
fn objections(context: &Context, kernel: &Kernel, prefix: Prefix) -> Result<Vec<String>, Failure> {
    let guards = match context.policy()? {
        Some(policy) => crate::policies::guards(&policy),
        None => {
            context.printer.warning(
                "the policy does not load: its upstreams and never-block lists are not looked at, \
                 the kernel's own allow list is",
            );
            Guards::default()
        }
    };
    let mut around = Surroundings::read();
    around.ssh_peers.extend(ssh_peer());
    let allowed = kernel.allow().map_err(|error| Failure::advised(&error, error.hint()))?;
    Ok(protected(prefix, &guards, &around, &allowed))
}

fn protected(
    prefix: Prefix,
    guards: &Guards,
    around: &Surroundings,
    allowed: &[Prefix],
) -> Vec<String> {
    let mut objections = guards.objections(prefix, around, ClientShare::default());
    let listed = |network| guards.never_block.iter().any(|(_, list)| list.contains(network));
    objections.extend(
        allowed
            .iter()
            .filter(|network| network.overlaps(prefix) && !listed(network))
            .map(|network| format!("{:<15} the kernel's allow list", network.to_string())),
    );
    objections
}

fn open(context: &Context) -> Result<Kernel, Failure> {
    Kernel::open_pinned(&context.pins()?).map_err(|error| Failure::advised(&error, error.hint()))
}

fn nothing(what: &Which) -> Failure {
    Failure::nothing(format!("the kernel holds no block {what}"))
        .hint("`enforcer blocks --from-kernel` lists what it holds")
}

fn left(entry: &Installed) -> String {
    entry.remaining.map_or_else(|| "forever".to_owned(), span)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_kernel_lets_pass_cannot_be_blocked_with_or_without_a_policy() {
        let prefix = |text: &str| text.parse::<Prefix>().unwrap();
        let allowed = [prefix("10.0.5.0/24")];
        let guards = Guards {
            never_block: vec![("monitoring".into(), vec![prefix("10.0.5.0/24")])],
            ..Guards::default()
        };
        let judge = |target, guards: &Guards| {
            protected(prefix(target), guards, &Surroundings::default(), &allowed)
        };

        let inside = judge("10.0.5.7", &Guards::default());
        assert_eq!(inside, ["10.0.5.0/24     the kernel's allow list"]);
        let around = judge("10.0.0.0/16", &guards);
        assert_eq!(around, ["10.0.5.0/24     never-block list `monitoring`"], "told once");
        assert!(judge("203.0.113.7", &guards).is_empty());
    }
}
