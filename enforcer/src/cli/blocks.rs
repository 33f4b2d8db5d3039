//! `enforcer blocks`: every block, as it is enforced; with the pinned maps alone where no agent runs.

use std::net::IpAddr;

use clap::Args;
use enforcer_admin::call::{BlockRow, Which};
use enforcer_admin::{Answer, Call};
use enforcer_kernel::{Entry, Installed, Kernel};
use enforcer_model::{BlockId, Prefix, Target};
use serde::Serialize;

use super::quarantine::{Ttl, span, until};
use super::{Context, Exit, Failure, Table, mismatched};

/// Every block, as the kernel and layer 7 hold it
#[derive(Args, Debug)]
pub(crate) struct Blocks {
    /// What would happen to packets and requests from this address, and why
    #[arg(long, value_name = "ADDRESS", conflicts_with_all = ["verify", "from_kernel"])]
    why: Option<IpAddr>,
    /// Compare the decisions with the kernel maps and layer 7; exit code 7 on any difference
    #[arg(long, conflicts_with = "from_kernel")]
    verify: bool,
    /// With --verify: mend what differs
    #[arg(long, requires = "verify")]
    repair: bool,
    /// Read the pinned kernel maps without an agent
    #[arg(long)]
    from_kernel: bool,
}

impl Blocks {
    pub(crate) fn execute(&self, context: &Context) -> Result<Exit, Failure> {
        if let Some(address) = self.why {
            return why(context, address);
        }
        if self.verify {
            return verify(context, self.repair);
        }
        if self.from_kernel {
            return list_from_kernel(context);
        }
        list(context)
    }
}

fn list(context: &Context) -> Result<Exit, Failure> {
    let Answer::Blocks(answer) = context.ask(&Call::Blocks)? else { return Err(mismatched()) };
    let rows = answer.blocks.iter().map(row).collect();
    let header = &["ID", "TARGET", "UNTIL", "ENFORCED", "DROPPED", "BY", "REASON"];
    context.printer.list(&answer.blocks, &Table { header, rows })?;
    if answer.blocks.is_empty() && !context.printer.is_for_programs() {
        context.printer.say("nobody is blocked");
    }
    Ok(Exit::Done)
}

fn row(row: &BlockRow) -> Vec<String> {
    let block = &row.block;
    let layers = match (row.kernel.is_some(), row.layer7) {
        (true, true) => "kernel, layer 7",
        (true, false) => "kernel",
        (false, true) => "layer 7",
        (false, false) => "NOWHERE",
    };
    vec![
        block.id.to_string(),
        block.target.to_string(),
        until(block.until, block.since),
        layers.to_owned(),
        row.kernel.as_ref().map_or_else(|| "-".to_owned(), |kernel| kernel.packets.to_string()),
        block.author.to_string(),
        block.reason.clone(),
    ]
}

fn why(context: &Context, address: IpAddr) -> Result<Exit, Failure> {
    let Answer::Why(why) = context.ask(&Call::Why { address })? else { return Err(mismatched()) };
    let mut lines = vec![format!("{}  {}: {}", why.address, why.verdict, why.because)];
    lines.extend(why.protected_by.iter().map(|list| format!("  protected by {list}")));
    for block in &why.blocks {
        lines.push(format!("  {}", row(block).join("  ")));
    }
    context.printer.item(&why, &lines.join("\n"))?;
    Ok(Exit::Done)
}

fn verify(context: &Context, repair: bool) -> Result<Exit, Failure> {
    let Answer::Verified(found) = context.ask(&Call::VerifyBlocks { repair })? else {
        return Err(mismatched());
    };
    let kernel = match &found.kernel_off {
        None => format!("{} in the kernel", found.kernel_entries),
        Some(why) => format!("the kernel part is off ({why})"),
    };
    let mut lines = vec![format!(
        "{} decisions, {kernel}, {} at layer 7",
        found.decisions, found.layer7_entries
    )];
    lines.extend(found.differences.iter().map(|difference| format!("  {difference}")));
    let clean = found.differences.is_empty();
    lines.push(match (clean, found.repaired) {
        (true, _) => "no difference".to_owned(),
        (false, true) => format!("{} differences mended", found.differences.len()),
        (false, false) => format!("{} differences", found.differences.len()),
    });
    context.printer.item(&found, &lines.join("\n"))?;
    if clean || found.repaired {
        return Ok(Exit::Done);
    }
    context.printer.hint("`enforcer blocks --verify --repair` mends them");
    Ok(Exit::VerificationFailed)
}

/// One entry of the kernel's map, without a decision beside it.
#[derive(Debug, Serialize)]
struct Held {
    id: BlockId,
    target: Prefix,
    remaining_seconds: Option<u64>,
    packets: u64,
    bytes: u64,
    observe: bool,
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
        }
    }
}

fn list_from_kernel(context: &Context) -> Result<Exit, Failure> {
    let kernel = pinned(context)?;
    let entries = kernel.blocks().map_err(|error| Failure::because(&error))?;
    let rows = entries
        .iter()
        .map(|entry| {
            let left = entry.remaining.map_or_else(|| "forever".to_owned(), span);
            vec![entry.id.to_string(), entry.prefix.to_string(), left, entry.packets.to_string()]
        })
        .collect();
    let held: Vec<Held> = entries.into_iter().map(Held::from).collect();
    context
        .printer
        .list(&held, &Table { header: &["ID", "TARGET", "REMAINING", "DROPPED"], rows })?;
    Ok(Exit::Done)
}

/// `release --from-kernel`: takes the entry out of the pinned maps.
pub(super) fn release_from_kernel(context: &Context, what: Which) -> Result<Exit, Failure> {
    let mut kernel = pinned(context)?;
    let prefix = match what {
        Which::Target(Target::Network(prefix)) => prefix,
        Which::Target(Target::Key(_)) => {
            return Err(Failure::usage("keys are blocked at layer 7, not in the kernel"));
        }
        Which::Id(id) => {
            let entries = kernel.blocks().map_err(|error| Failure::because(&error))?;
            let found = entries.iter().find(|entry| entry.id == id);
            found.ok_or_else(|| nothing(&id))?.prefix
        }
    };
    let released = kernel.release(prefix).map_err(|error| Failure::because(&error))?;
    let released = released.ok_or_else(|| nothing(&prefix))?;
    let text = format!(
        "released  {}   {}\n  kernel  removed; it had dropped {} packets",
        released.prefix, released.id, released.packets
    );
    context.printer.item(&Held::from(released), &text)?;
    let target = prefix;
    context.printer.warning(&format!(
        "the agent's own decision stands: when it runs, `enforcer release {target}`"
    ));
    Ok(Exit::Done)
}

/// `quarantine --kernel-only`: puts an entry in the pinned maps.
pub(super) fn quarantine_in_kernel(
    context: &Context,
    target: Target,
    ttl: Ttl,
) -> Result<Exit, Failure> {
    let Target::Network(prefix) = target else {
        return Err(Failure::usage("keys are blocked at layer 7, which needs the agent"));
    };
    let around = crate::respond::Surroundings::read();
    let objections =
        crate::respond::Guards::default().objections(prefix, &around, Default::default());
    if !objections.is_empty() {
        return Err(Failure {
            exit: Exit::Guarded,
            message: format!("{prefix} contains protected addresses:"),
            details: objections,
            hint: Some("narrow it; overriding a guard needs the agent".to_owned()),
        });
    }
    let mut kernel = pinned(context)?;
    let entry = Entry {
        id: crate::respond::random_block_id().map_err(|error| Failure::because(&error))?,
        expires: match ttl {
            Ttl::For(ttl) => Some(ttl),
            Ttl::Forever => None,
        },
        observe: false,
    };
    let held = kernel.block(prefix, entry).map_err(|error| Failure::because(&error))?;
    let left = held.remaining.map_or_else(|| "forever".to_owned(), span);
    let text = format!(
        "blocked  {prefix}  {left}   {}\n  kernel  applied, read back; layer 7 and audit need the agent\n\
         undo: enforcer release --from-kernel {}",
        held.id, held.id
    );
    context.printer.item(&Held::from(held), &text)?;
    Ok(Exit::Done)
}

fn nothing(what: &dyn std::fmt::Display) -> Failure {
    Failure::nothing(format!("the kernel holds no block {what}"))
        .hint("`enforcer blocks --from-kernel` lists what it holds")
}

fn pinned(context: &Context) -> Result<Kernel, Failure> {
    Kernel::open_pinned(&context.pins()).map_err(|error| {
        let failure = Failure::because(&error);
        match error.hint() {
            Some(hint) => failure.hint(hint),
            None => failure,
        }
    })
}
