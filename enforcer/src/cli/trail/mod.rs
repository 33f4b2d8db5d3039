//! `enforcer trail`: everything one token, key, address, request or block did, and what was done
//! about it: first what it comes to, then the records.

mod links;
mod story;

use std::collections::VecDeque;
use std::path::PathBuf;

use clap::Args;
use enforcer_admin::call::LookVerb;
use enforcer_audit::{Choice, Condition, Log, Order, Query, Selector, Stored, Wanted};
use enforcer_model::{Clock, SystemClock, Timestamp};

use super::audit::{Credential, Extent, Gathered, Place, Scroll, Time, bundle, unreadable};
use super::escape::escaped_json;
use super::quarantine::parse_span;
use super::tally::Tally;
use super::{Context, Exit, Failure, Format, Printed, counted};
use links::Links;
use story::Story;

/// Everything one token, key, address, request or block did, from the audit log
///
/// First what it comes to: when it was seen, from which addresses, on which routes, how much went in
/// and out, what it was refused and why, and which findings, blocks and decisions followed, each with
/// the number of its record. Then the records.
#[derive(Args, Debug)]
pub(crate) struct Trail {
    /// An address or network, `key:ID`, `principal:NAME`, `token:JTI`, `fingerprint:DIGITS`,
    /// `request:ID`, `route:NAME`, `rule:NAME`, `incident:ID`, `level:N`, the id of a decision, finding or block, or the digits of a
    /// request id or credential fingerprint
    #[arg(required_unless_present = "credential", conflicts_with = "credential")]
    who: Option<Selector>,
    #[command(flatten)]
    credential: Credential,
    #[command(flatten)]
    time: Time,
    /// Only what it comes to, without the records
    #[arg(long)]
    summary: bool,
    /// Write it into a folder, as evidence that anybody can verify
    #[arg(long, requires = "out", conflicts_with = "summary")]
    prove: bool,
    /// The folder, which is made
    #[arg(long, value_name = "FOLDER", requires = "prove")]
    out: Option<PathBuf>,
    #[command(flatten)]
    place: Place,
}

impl Trail {
    pub(crate) fn execute(&self, context: &Context) -> Result<Exit, Failure> {
        let who = match &self.who {
            Some(who) => who.clone(),
            None => self
                .credential
                .selector(context)?
                .ok_or_else(|| Failure::usage("whose trail is not said"))?,
        };
        if let Some(out) = self.out.as_deref().filter(|_| self.prove) {
            let Time { since, until } = self.time;
            let wanted = Wanted { what: Choice::Trail(who), since, until };
            return bundle(context, &self.place, LookVerb::Trail, &wanted, out);
        }
        let log = self.place.open(context)?;
        let (mut tally, mut links) = (Tally::default(), Links::default());
        let found = Gathered::new(&log, self.query(&who), u64::MAX, |record| {
            tally.add(record);
            links.note(record);
        });
        let found = found.map_err(|error| unreadable(&error))?;
        let linked = links.follow(&log, &who).map_err(|error| unreadable(&error))?;
        let count = found.count() + u64::try_from(linked.len()).unwrap_or(u64::MAX);
        let arguments = std::iter::once(who.to_string()).chain(self.time.told()).collect();
        self.place.look(context, &log, LookVerb::Trail, arguments, count)?;
        if found.unindexed() > 0 {
            let segments = counted(found.unindexed(), "segment");
            context.printer.say(&format!("{segments} without an index had to be read"));
        }
        if tally.records == 0 {
            return Err(Failure::nothing("no record has to do with it").hint(
                "an earlier `--since` or another spelling may; `enforcer audit tail` shows the newest",
            ));
        }
        let story = Story { who: &who, tally: &tally, links: &linked };
        if self.summary {
            context.printer.item(&story, &story.lines())?;
            return Ok(Exit::Done);
        }
        print(context, &log, &story, found).map(|_| Exit::Done)
    }

    fn query(&self, who: &Selector) -> Query {
        let Time { since, until } = self.time;
        let conditions = vec![Condition::Who(who.clone())];
        Query { conditions, since, until, order: Order::OldestFirst, ..Query::default() }
    }
}

/// What it comes to, then every record, those that are linked in their places.
fn print(
    context: &Context,
    log: &Log,
    story: &Story<'_>,
    found: Gathered,
) -> Result<Printed, Failure> {
    if begin(context, story)? == Printed::ReaderGone {
        return Ok(Printed::ReaderGone);
    }
    let mut scroll = Scroll::new(context, Extent::Whole);
    let mut linked: VecDeque<&Stored> = story.links.iter().map(|link| &link.record).collect();
    for record in found.records(log).map_err(|error| unreadable(&error))? {
        let record = record.map_err(|error| unreadable(&error))?;
        while let Some(before) = linked.pop_front_if(|linked| linked.index < record.index) {
            if scroll.print(before)? == Printed::ReaderGone {
                return Ok(Printed::ReaderGone);
            }
        }
        if scroll.print(&record)? == Printed::ReaderGone {
            return Ok(Printed::ReaderGone);
        }
    }
    for record in linked {
        if scroll.print(record)? == Printed::ReaderGone {
            return Ok(Printed::ReaderGone);
        }
    }
    scroll.end()?;
    match context.printer.format() {
        Format::Json => context.printer.data("}"),
        Format::Auto | Format::Table | Format::Plain | Format::Jsonl | Format::Yaml => {
            Ok(Printed::Done)
        }
    }
}

fn begin(context: &Context, story: &Story<'_>) -> Result<Printed, Failure> {
    let summary = |story: &Story<'_>| {
        let json = serde_json::to_string(story).map_err(|error| Failure::because(&error))?;
        Ok::<_, Failure>(escaped_json(&json))
    };
    match context.printer.format() {
        Format::Json => {
            let text = format!("{{\"summary\":{},\"records\":", summary(story)?);
            context.printer.data(&text)
        }
        Format::Jsonl => {
            let text = format!("{{\"class\":\"summary\",\"body\":{}}}", summary(story)?);
            context.printer.data(&text)
        }
        Format::Yaml => context.printer.item(story, &[]),
        Format::Auto | Format::Table | Format::Plain => {
            let mut lines = story.lines();
            lines.push(String::new());
            context.printer.text(&lines)
        }
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
