//! `enforcer audit search`: the records that meet some conditions.

use clap::Args;
use enforcer_admin::call::LookVerb;
use enforcer_audit::Order;

use super::wanted::Filters;
use super::{Extent, Gathered, Place, Scroll, unreadable};
use crate::cli::{Context, Exit, Failure, Printed, counted};

/// The records that meet all of some conditions
///
/// Segments that are closed are asked by their index; others are read. `trail` tells a whole story.
#[derive(Args, Debug)]
pub(crate) struct Search {
    #[command(flatten)]
    filters: Filters,
    /// At most so many
    #[arg(long, value_name = "COUNT")]
    limit: Option<u64>,
    /// The newest first
    #[arg(long)]
    reverse: bool,
    #[command(flatten)]
    place: Place,
}

impl Search {
    pub(crate) fn execute(&self, context: &Context) -> Result<Exit, Failure> {
        let order = if self.reverse { Order::NewestFirst } else { Order::OldestFirst };
        let query = self.filters.query(context, order)?;
        let log = self.place.open(context)?;
        let arguments = self.filters.told(&query);
        let limit = self.limit.unwrap_or(u64::MAX);
        let found = Gathered::new(&log, query, limit, |_| ());
        let found = found.map_err(|error| unreadable(&error))?;
        let count = found.count();
        self.place.look(context, &log, LookVerb::Search, arguments, count)?;
        if found.unindexed() > 0 {
            let segments = counted(found.unindexed(), "segment");
            context.printer.say(&format!("{segments} without an index had to be read"));
        }
        let mut scroll = Scroll::new(context, Extent::Whole);
        for record in found.records(&log).map_err(|error| unreadable(&error))? {
            let record = record.map_err(|error| unreadable(&error))?;
            if scroll.print(&record)? == Printed::ReaderGone {
                return Ok(Exit::Done);
            }
        }
        scroll.end()?;
        if count > 0 || self.limit == Some(0) {
            return Ok(Exit::Done);
        }
        Err(Failure::nothing("no record meets all of these conditions")
            .hint("fewer conditions or another time may find some; `enforcer audit stats` counts"))
    }
}
