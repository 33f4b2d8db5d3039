//! `enforcer audit tail`: the newest records, and those that come.

use std::time::Duration;

use clap::Args;
use enforcer_admin::call::LookVerb;

use super::{Extent, Place, Scroll, unreadable};
use crate::cli::{Context, Exit, Failure, Printed};

/// How often `tail --follow` looks for new records.
const FOLLOW: Duration = Duration::from_millis(200);

/// The newest records
#[derive(Args, Debug)]
pub(crate) struct Tail {
    #[command(flatten)]
    place: Place,
    /// How many
    #[arg(short = 'n', long, value_name = "COUNT", default_value_t = 20)]
    lines: u64,
    /// Go on as new ones are committed, until Ctrl-C
    #[arg(short, long)]
    follow: bool,
}

impl Tail {
    pub(crate) fn execute(&self, context: &Context) -> Result<Exit, Failure> {
        let log = self.place.open(context)?;
        let mut next = log.size();
        let how = if self.follow { "and those that come" } else { "and no more" };
        let arguments = vec![format!("the newest {}", self.lines), how.to_owned()];
        self.place.look(context, &log, LookVerb::Tail, arguments, self.lines.min(next))?;
        let extent = if self.follow { Extent::Endless } else { Extent::Whole };
        let mut scroll = Scroll::new(context, extent);
        for record in log.tail(self.lines).map_err(|error| unreadable(&error))? {
            let record = record.map_err(|error| unreadable(&error))?;
            if scroll.print(&record)? == Printed::ReaderGone {
                return Ok(Exit::Done);
            }
        }
        if !self.follow {
            scroll.end()?;
            return Ok(Exit::Done);
        }
        loop {
            std::thread::sleep(FOLLOW);
            let log = self.place.open(context)?;
            for record in log.records(next..log.size()).map_err(|error| unreadable(&error))? {
                let record = record.map_err(|error| unreadable(&error))?;
                if scroll.print(&record)? == Printed::ReaderGone {
                    return Ok(Exit::Done);
                }
            }
            next = log.size();
        }
    }
}
