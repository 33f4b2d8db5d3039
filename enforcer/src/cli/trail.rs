//! `enforcer trail`: everything one key, address, request or block did, and what was done about it.

use std::path::PathBuf;

use clap::Args;
use enforcer_admin::call::LookVerb;
use enforcer_audit::{Choice, Selector, Wanted};
use enforcer_model::{Clock, SystemClock, Timestamp};

use super::audit::{Extent, Place, Scroll, bundle, unreadable};
use super::quarantine::parse_span;
use super::{Context, Exit, Failure, Printed};

/// Everything one key, address, request or block did, from the audit log
#[derive(Args, Debug)]
pub(crate) struct Trail {
    /// An address or network, `key:ID`, `principal:NAME`, `route:NAME`, a block id, or the digits of
    /// a request id or credential fingerprint
    who: Selector,
    /// From then on: `24h`, or a time such as `2026-01-31T12:00:00Z`
    #[arg(long, value_name = "TIME", value_parser = parse_begin)]
    since: Option<Timestamp>,
    /// Write it into a folder, as evidence that anybody can verify
    #[arg(long, requires = "out")]
    prove: bool,
    /// The folder, which is made
    #[arg(long, value_name = "FOLDER", requires = "prove")]
    out: Option<PathBuf>,
    #[command(flatten)]
    place: Place,
}

impl Trail {
    pub(crate) fn execute(&self, context: &Context) -> Result<Exit, Failure> {
        if let Some(out) = self.out.as_deref().filter(|_| self.prove) {
            let what = Choice::Trail(self.who.clone());
            let wanted = Wanted { what, since: self.since, until: None };
            return bundle(context, &self.place, LookVerb::Trail, &wanted, out);
        }
        let log = self.place.open(context)?;
        let trail = || log.trail(self.who.clone(), self.since).map_err(|error| unreadable(&error));
        let mut count = 0_u64;
        for record in trail()? {
            record.map_err(|error| unreadable(&error))?;
            count += 1;
        }
        let since = self.since.map(|since| format!("since {since}"));
        let arguments = std::iter::once(self.who.to_string()).chain(since).collect();
        self.place.look(context, &log, LookVerb::Trail, arguments, count)?;
        let mut scroll = Scroll::new(context, Extent::Whole);
        for record in trail()? {
            let record = record.map_err(|error| unreadable(&error))?;
            if scroll.print(&record)? == Printed::ReaderGone {
                return Ok(Exit::Done);
            }
        }
        if scroll.end()? > 0 {
            return Ok(Exit::Done);
        }
        Err(Failure::nothing("no record has to do with it").hint(
            "an earlier `--since` or another spelling may; `enforcer audit tail` shows the newest",
        ))
    }
}

pub(crate) fn parse_begin(text: &str) -> Result<Timestamp, String> {
    match parse_span(text) {
        Some(span) => {
            let now = SystemClock.now().wall.unix_ns();
            let ns = u64::try_from(span.as_nanos()).unwrap_or(u64::MAX);
            Ok(Timestamp::from_unix_ns(now.saturating_sub(ns)))
        }
        None => text.parse::<Timestamp>().map_err(|error| format!("{error}, or as `24h`")),
    }
}
