//! What somebody else did to the kernel half is undone, and on record.
//!
//! Whoever may write to BPF maps can write to ours, and can take programs and pins away. Entries are
//! compared by the responder's rounds; here is what concerns every packet.

use std::collections::BTreeSet;

use enforcer_audit::{Audit, ConfigEvent};
use enforcer_kernel::{Kernel, OpenError};
use enforcer_model::Prefix;
use tracing::{debug, error};

use super::{Blocks, KernelPart};
use crate::cli::chain;

/// Ticks between two looks at the lists of networks that are never dropped.
const TICKS_TO_COMPARE: u32 = 5;

impl KernelPart {
    /// Mode, egress and never-block lists are the policy's again.
    pub(super) fn hold_to_policy(&mut self, audit: &Audit) {
        let (Some(kernel), Some(wanted)) = (&mut self.kernel, &self.wanted) else { return };
        let mut mended: Vec<(&str, Result<(), String>)> = Vec::new();
        if kernel.mode().is_ok_and(|mode| mode != wanted.config.mode) {
            let written = kernel.set_mode(wanted.config.mode);
            mended.push(("the mode", written.map_err(|error| chain(&error))));
        }
        if let Err(error) = kernel.set_egress(wanted.config.egress) {
            debug!(error = chain(&error), "what outgoing packets meet cannot be written");
        }
        if self.ticks.is_multiple_of(TICKS_TO_COMPARE)
            && let Ok(allowed) = kernel.allow()
        {
            let set = |networks: &[Prefix]| networks.iter().copied().collect::<BTreeSet<_>>();
            if set(&allowed) != set(&wanted.allow) {
                let written = kernel.set_allow(&wanted.allow);
                mended.push(("the never-block lists", written.map_err(|error| chain(&error))));
            }
        }
        for (what, written) in mended {
            let detail = match written {
                Ok(()) => format!("{what} changed behind the agent's back; mended"),
                Err(why) => format!("{what} changed behind the agent's back, and stays so: {why}"),
            };
            error!(detail, "somebody else writes to the kernel maps");
            drop(self.note(audit, ConfigEvent::KernelLost, None, Some(detail)));
        }
    }

    /// Attaches again where an interface lost its program; anew, with every block, where the pins are
    /// gone as well. Whether it was anew.
    pub(super) fn put_back(&mut self, blocks: Blocks<'_>) -> bool {
        let (Some(kernel), Some(wanted)) = (&mut self.kernel, &self.wanted) else { return false };
        let mut is_anew = false;
        if let Err(error) = kernel.reattach() {
            debug!(error = chain(&error), "the kernel part cannot be put back");
            let opened = Kernel::open_pinned(&wanted.config.pins);
            is_anew = matches!(opened, Err(OpenError::NothingPinned { .. }));
        }
        if is_anew {
            // What was locked is gone with the rest.
            self.lock = None;
            self.try_attach(blocks);
        }
        self.check();
        is_anew
    }
}
