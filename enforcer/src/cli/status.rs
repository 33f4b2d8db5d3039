//! `enforcer status` and `top`: how the agent is, and who sends most, once or again each second.

use std::io::IsTerminal;
use std::time::Duration;

use clap::Args;
use enforcer_admin::call::{self, Counter, SourceRow, Talkers};
use enforcer_admin::{Answer, Call};
use enforcer_model::{Clock, SystemClock};
use serde::Serialize;

use super::quarantine::span;
use super::talkers::{self, Before};
use super::tokens::issuer_told;
use super::{
    Context, Exit, Failure, Format, Printed, cache, certs, counted, endpoint, kernel, mismatched,
    upstream,
};

/// How the agent is, read back from where it acts
#[derive(Args, Debug)]
pub(crate) struct Status {
    /// The sources and destinations with most traffic, so many of each
    #[arg(long, value_name = "COUNT", default_value_t = 5)]
    talkers: u32,
    /// The sources with most connections, so many
    #[arg(long, value_name = "COUNT", default_value_t = 0)]
    sources: u32,
    /// Again each second, until Ctrl-C
    #[arg(long)]
    watch: bool,
}

/// Who sends most, from the kernel's table, again each second
#[derive(Args, Debug)]
pub(crate) struct Top {
    /// So many sources and destinations
    #[arg(default_value_t = 20)]
    most: u32,
    /// Look once
    #[arg(long)]
    once: bool,
}

/// Everything for programs.
#[derive(Debug, Serialize)]
struct Seen<'a> {
    #[serde(flatten)]
    status: &'a call::Status,
    talkers: Option<&'a Talkers>,
    #[serde(skip_serializing_if = "Option::is_none")]
    sources: Option<&'a [SourceRow]>,
}

/// Between two looks.
const BEAT: Duration = Duration::from_secs(1);
/// Cursor home, and clear what is below: no flicker, as a clear screen would have.
const REDRAW: &str = "\u{1b}[H\u{1b}[J";

impl Status {
    pub(crate) fn execute(&self, context: &Context) -> Result<Exit, Failure> {
        let mut before = Before::default();
        repeat(context, self.watch, || {
            let Answer::Status(status) = context.ask(&Call::Status)? else {
                return Err(mismatched());
            };
            let mut lines = told(&status);
            let talkers = (self.talkers > 0).then(|| talkers::ask(context, self.talkers));
            let now = SystemClock.now().monotonic;
            let talkers = match talkers {
                Some(Ok(talkers)) => {
                    lines.extend(talkers::told(&talkers, &before, now));
                    before = Before::of(&talkers, now);
                    Some(talkers)
                }
                // How the agent is must be seen all the same.
                Some(Err(failure)) => {
                    lines.push(format!("talkers  not told: {}", failure.message));
                    None
                }
                None => None,
            };
            let sources = (self.sources > 0).then(|| sources(context, self.sources)).transpose()?;
            lines.extend(sources.iter().flatten().map(told_source));
            let (talkers, sources) = (talkers.as_ref(), sources.as_deref());
            let seen = Seen { status: &status, talkers, sources };
            show(context, self.watch, &seen, &lines)
        })
    }
}

impl Top {
    pub(crate) fn execute(&self, context: &Context) -> Result<Exit, Failure> {
        let watch = !self.once && (std::io::stdout().is_terminal() || is_by_the_line(context));
        let mut before = Before::default();
        repeat(context, watch, || {
            let talkers = talkers::ask(context, self.most)?;
            let now = SystemClock.now().monotonic;
            let lines = talkers::told(&talkers, &before, now);
            before = Before::of(&talkers, now);
            show(context, watch, &talkers, &lines)
        })
    }
}

/// Looks once, or each second as long as somebody reads.
fn repeat(
    context: &Context,
    watch: bool,
    mut look: impl FnMut() -> Result<Printed, Failure>,
) -> Result<Exit, Failure> {
    if watch && !std::io::stdout().is_terminal() && !is_by_the_line(context) {
        return Err(Failure::usage("--watch draws on a terminal, and this is none")
            .hint("with `-o jsonl` it prints one line each second"));
    }
    while look()? == Printed::Done && watch {
        std::thread::sleep(BEAT);
    }
    Ok(Exit::Done)
}

fn show(
    context: &Context,
    watch: bool,
    value: &impl Serialize,
    lines: &[String],
) -> Result<Printed, Failure> {
    if watch && !context.printer.is_for_programs() {
        context.printer.data(REDRAW)?;
    }
    context.printer.item(value, lines)
}

fn is_by_the_line(context: &Context) -> bool {
    context.printer.format() == Format::Jsonl
}

fn told(status: &call::Status) -> Vec<String> {
    let up = span(Duration::from_secs(status.uptime_seconds));
    let short = status.policy.sha256.get(..12).unwrap_or_default();
    let mut lines = vec![
        format!("enforcer {}  pid {}  up {up}", status.version, status.pid),
        format!("policy   {} ({short})  {}", status.policy.file.display(), status.policy.summary),
    ];
    lines.extend(status.listeners.iter().map(|listener| format!("listen   {listener}")));
    lines.extend(told_connections(&status.connections));
    lines.extend(status.upstreams.iter().map(upstream::summary));
    lines.push(cache::summary(&status.cache));
    lines.extend(status.certificates.iter().map(certs::summary));
    lines.extend(endpoint::summary(status.endpoints_disabled, status.endpoints_tightened));
    if !status.capabilities.is_empty() {
        lines.push(format!("rights   {}", status.capabilities.join(", ")));
    }
    if status.incident > 0 {
        lines.push(format!(
            "incident level {}; `enforcer incident show` tells why",
            status.incident
        ));
    }
    lines.extend(status.issuers.iter().map(issuer_told));
    lines.extend(kernel::lines(&status.kernel));
    lines.push(format!("blocks   {} in force", status.blocks));
    if status.lists > 0 {
        let (lists, networks) = (status.lists, status.listed_networks);
        let (lists, networks) = (counted(lists, "list"), counted(networks, "network"));
        lines.push(format!("lists    {lists} with {networks}"));
    }
    lines.push(match &status.audit.failed {
        None => format!(
            "audit    {} records under a signed checkpoint, {}",
            status.audit.records,
            status.audit.directory.display()
        ),
        Some(failed) => format!("audit    FAILED: {failed}"),
    });
    lines.extend(told_anchors(&status.audit.anchors));
    lines.extend(counters("requests", &status.requests));
    lines
}

/// Whom the log is shown to, and how far they know it.
fn told_anchors(status: &call::AnchorStatus) -> Vec<String> {
    let Some(bound) = status.age_bound_seconds else { return Vec::new() };
    let now = SystemClock.now().wall;
    let told = |what: &str, newest: &Option<call::Anchored>| match newest {
        Some(call::Anchored { size, at }) => {
            format!("anchors  {what} {size} records, {} ago", span(now.since(*at)))
        }
        None => format!("anchors  {what} nothing yet"),
    };
    let mut lines = Vec::new();
    if !status.witnesses.is_empty() {
        let of = format!("{} of {} witnesses know", status.quorum, status.witnesses.len());
        lines.push(told(&of, &status.witnessed));
    }
    lines.extend(status.stamped.is_some().then(|| told("a timestamp is over", &status.stamped)));
    if status.is_overdue {
        let bound = span(Duration::from_secs(bound));
        lines.push(format!("anchors  OVERDUE: the newest should be no older than {bound}"));
    }
    for row in &status.witnesses {
        if let Some(why) = &row.trouble {
            let word = if row.contradicts { "CONTRADICTS the log" } else { "does not cosign" };
            lines.push(format!("anchors  witness {} {word}: {why}", row.name));
        }
    }
    lines.extend(status.stamp_trouble.iter().map(|why| format!("anchors  no timestamp: {why}")));
    lines
}

fn told_connections(all: &call::ConnectionsStatus) -> Vec<String> {
    let silent = match all.threads_silent {
        0 => String::new(),
        count => format!("  ({} did not tell)", counted(count, "thread")),
    };
    let mut lines = vec![format!(
        "clients  {} of {} connections: {} active with {}, {} idle, {} shaking hands{silent}",
        all.open,
        all.total,
        all.active,
        counted(all.requests, "request"),
        all.idle,
        all.handshakes,
    )];
    lines.extend(all.by_listener.iter().map(|one| {
        format!(
            "clients  {:<20} {:<7} {} active with {}, {} idle",
            one.listener,
            one.protocol.as_str(),
            one.active,
            counted(one.requests, "request"),
            one.idle,
        )
    }));
    lines
}

fn sources(context: &Context, most: u32) -> Result<Vec<SourceRow>, Failure> {
    let Answer::Sources(sources) = context.ask(&Call::Sources { most })? else {
        return Err(mismatched());
    };
    Ok(sources.sources)
}

fn told_source(row: &SourceRow) -> String {
    format!(
        "source   {}  {}, {} shaking hands",
        row.source,
        counted(row.connections, "connection"),
        row.handshakes,
    )
}

/// Those that have counted anything, one line each.
pub(super) fn counters(what: &str, counters: &[Counter]) -> Vec<String> {
    let seen = counters.iter().filter(|counter| counter.count > 0);
    seen.map(|Counter { name, count }| format!("{what} {name:<28} {count}")).collect()
}
