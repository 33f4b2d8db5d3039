//! Which other decisions concern the same addresses: told with every block and every release.

use enforcer_model::{Block, Prefix, Target, Timestamp};

use super::Responder;

/// Covering decisions that an answer names; there is at most one for each shorter length.
const COVERING_TOLD: usize = 8;

impl Responder {
    /// A line for each decision that covers `target`, for those inside it, and for lists.
    pub(super) fn overlaps(&self, target: &Target, now: Timestamp) -> Vec<String> {
        let Some(prefix) = target.network() else { return Vec::new() };
        let mut lines = self.covering(prefix, now);
        let narrower = self.parts.decisions.inside(prefix, now).count();
        if narrower > 0 {
            lines.push(format!("contains {narrower} narrower {}", plural(narrower, "block")));
        }
        for list in self.parts.lists.in_force(now) {
            let inside = list.networks.touching(prefix).filter(|one| !one.covers(prefix)).count();
            if inside > 0 {
                let (name, networks) = (&list.name, plural(inside, "network"));
                lines.push(format!("contains {inside} {networks} of list {name}"));
            }
        }
        lines
    }

    /// A line for each decision and list that covers the whole of `prefix`, its own decision aside.
    pub(super) fn covering(&self, prefix: Prefix, now: Timestamp) -> Vec<String> {
        let around = self.parts.decisions.around(prefix, now).take(COVERING_TOLD);
        let covered = |block: &Block| {
            format!("covered by {} {} until {}", block.id, block.target, block.until)
        };
        let mut lines: Vec<_> = around.map(covered).collect();
        for list in self.parts.lists.in_force(now) {
            let Some(network) = list.networks.touching(prefix).find(|one| one.covers(prefix))
            else {
                continue;
            };
            let (name, id, until) = (&list.name, list.id, list.until);
            lines.push(if network == prefix {
                format!("also in list {name} ({id}) until {until}")
            } else {
                format!("covered by {network} of list {name} ({id}) until {until}")
            });
        }
        lines
    }
}

fn plural(count: usize, word: &str) -> String {
    if count == 1 { word.to_owned() } else { format!("{word}s") }
}
