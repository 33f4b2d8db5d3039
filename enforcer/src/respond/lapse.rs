//! How a list ends: by hand, or because its time is over.
//!
//! What somebody else blocks as well stays blocked: the next strongest claim gets each slot. The
//! kernel comes first; when it refuses, nothing has changed.

use std::time::Duration;

use enforcer_admin::call::{ListName, ListReleased};
use enforcer_admin::{Refusal, RefusalKind};
use enforcer_audit::{Layer, ListChange, ListEvent, Ticket};
use enforcer_model::{Author, Expiry, Timestamp};
use tracing::{info, warn};

use super::claims::{self, Claims};
use super::enforce::CLOCKS_AGREE;
use super::lists::List;
use super::{Responder, as_micros, count, failed};

/// Entries of a list that are asked for the time that the kernel counts.
const ASKED_FOR_TIME: usize = 64;

impl Responder {
    /// Ends a list and all its blocks; what somebody else blocks as well stays blocked.
    pub(super) fn release_list(
        &mut self,
        name: &ListName,
        reason: Option<&str>,
        by: &Author,
    ) -> Result<(ListReleased, Option<Ticket>), Refusal> {
        let now = self.now();
        let list = self.parts.lists.get(name.as_str()).cloned().ok_or_else(|| {
            Refusal::new(RefusalKind::NotFound, format!("there is no list `{name}`"))
                .hint("`enforcer blocks` names every list")
        })?;
        let (in_kernel, packets) = self.held_by().remove(&list.id).unwrap_or_default();
        let off = self.parts.kernel.off_because().is_some();
        let still_blocked = self.drop_list(&list, now.wall).map_err(failed)?;
        let mut problems = Vec::new();
        let previous = self.parts.files.remove(name.as_str()).unwrap_or_else(|error| {
            self.parts.files.is_behind(name.as_str());
            problems.push(format!(
                "its file cannot be removed ({error}): until that works, a restart would bring \
                 the list back"
            ));
            None
        });
        let took = self.since(now);
        let detail = match reason {
            Some(reason) => format!("by {by}: {reason}"),
            None => format!("by {by}"),
        };
        let kernel = (!off && in_kernel > 0).then(|| self.parts.kernel.layers());
        let ticket = self.note_list(ListChange {
            layers: self.layers(kernel.as_deref(), Some(Layer::Proxy)),
            took: Some(took),
            detail: Some(detail),
            ..list.record(ListEvent::Released)
        });
        let released = ListReleased {
            name: list.name,
            id: list.id,
            networks: count(list.networks.len()),
            still_blocked: count(still_blocked),
            kernel: in_kernel,
            packets,
            until: list.until,
            previous,
            problems,
            took_us: as_micros(took),
            audit: None,
        };
        Ok((released, ticket))
    }

    /// Ends lists whose time is over. What the kernel still counts down is not over.
    pub(super) fn end_lists_that_are_over(&mut self) {
        let now = self.parts.clock.now().wall;
        let over: Vec<_> =
            self.parts.lists.all().filter(|list| !list.is_in_force(now)).cloned().collect();
        for list in over {
            if let Some(left) = self.left_in_kernel(&list) {
                let until = Expiry::At(now.saturating_add(left));
                let list = List { until, ..list };
                self.adopt_list(list, "the wall clock was set ahead; the kernel's time counts");
                continue;
            }
            // Its entries are over in the kernel as well; whoever else claims them gets them.
            if let Err(why) = self.drop_list(&list, now) {
                warn!(list = %list.name, why, "a list that is over is not cleared away");
                continue;
            }
            if self.parts.files.remove(list.name.as_str()).is_err() {
                self.parts.files.is_behind(list.name.as_str());
            }
            info!(list = %list.name, "the list is over");
            drop(self.note_list(list.record(ListEvent::Expired)));
        }
    }

    /// Takes a list out of every layer; how many of its networks stay blocked.
    fn drop_list(&mut self, list: &List, now: Timestamp) -> Result<usize, String> {
        let mut after = self.parts.lists.clone();
        after.remove(list.name.as_str());
        let singles = &*self.parts.decisions;
        let before = Claims { singles, lists: &self.parts.lists, now };
        let change = claims::change(list.name.as_str(), before, Claims { lists: &after, ..before });
        let still_blocked = change.shared;
        let held = std::mem::replace(&mut self.parts.lists, after);
        if self.parts.kernel.off_because().is_none()
            && let Err(why) = self.switch(change, now)
        {
            self.parts.lists = held;
            return Err(why);
        }
        self.parts.quarantine.set_lists(self.parts.lists.listed());
        // Whoever is let in by hand must not be dropped for the sake of neighbours.
        let touched: Vec<_> = self
            .room
            .aggregates()
            .filter(|network| list.networks.count_touching(*network) > 0)
            .collect();
        for network in touched {
            self.dissolve(network, now);
        }
        Ok(still_blocked)
    }

    /// The time that the kernel still counts for a list that is over by the wall clock.
    fn left_in_kernel(&self, list: &List) -> Option<Duration> {
        let step = list.networks.len().div_ceil(ASKED_FOR_TIME).max(1);
        let asked = (0..list.networks.len()).step_by(step);
        let held = asked.filter_map(|at| {
            let entry = self.parts.kernel.find(list.networks.get(at)?).ok()??;
            (entry.id == list.id).then_some(entry.remaining?)
        });
        held.max().filter(|left| *left > CLOCKS_AGREE)
    }
}
