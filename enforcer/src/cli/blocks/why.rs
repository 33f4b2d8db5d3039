//! `enforcer blocks --why`: the verdict on one address, step by step.

use std::net::IpAddr;

use enforcer_admin::call::Why;
use enforcer_admin::{Answer, Call};

use super::list::cells;
use crate::cli::{Context, Exit, Failure, mismatched};

pub(super) fn execute(context: &Context, address: IpAddr) -> Result<Exit, Failure> {
    let Answer::Why(why) = context.ask(&Call::Why { address })? else { return Err(mismatched()) };
    context.printer.item(&why, &told(&why))?;
    Ok(Exit::Done)
}

fn told(why: &Why) -> Vec<String> {
    let mut lines = vec![format!("{}  {}: {}", why.address, why.verdict, why.because)];
    lines.extend(why.protected_by.iter().map(|list| format!("  protected by {list}")));
    lines.extend(why.blocks.iter().map(|block| format!("  {}", cells(block).join("  "))));
    lines.extend(why.lists.iter().map(|list| format!("  {list}")));
    match &why.kernel {
        Some(kernel) => {
            lines.push(format!("  kernel  {} ({})", kernel.verdict, kernel.reason));
            lines.extend(kernel.steps.iter().map(|step| format!("    {step}")));
        }
        None => lines.push("  kernel  off: it judges nothing".to_owned()),
    }
    lines
}

#[cfg(test)]
mod tests {
    use enforcer_admin::call::KernelVerdict;

    use super::*;

    #[test]
    fn the_kernels_steps_stand_under_its_verdict() {
        let mut why = Why {
            address: "203.0.113.7".parse().unwrap(),
            verdict: "drop".to_owned(),
            because: "block B-0000001 of list:drop, in the kernel".to_owned(),
            protected_by: Vec::new(),
            blocks: Vec::new(),
            lists: vec!["list:drop by 203.0.113.0/24".to_owned()],
            kernel: Some(KernelVerdict {
                verdict: "drop".to_owned(),
                reason: "blocked".to_owned(),
                steps: vec!["BLOCK4 203.0.113.0/24: 12 packets".to_owned()],
            }),
        };

        let lines = told(&why);
        assert_eq!(
            lines,
            [
                "203.0.113.7  drop: block B-0000001 of list:drop, in the kernel",
                "  list:drop by 203.0.113.0/24",
                "  kernel  drop (blocked)",
                "    BLOCK4 203.0.113.0/24: 12 packets",
            ]
        );
        why.kernel = None;
        assert!(told(&why).last().unwrap().contains("off"));
    }
}
