//! `enforcer upstream`: how the hosts behind the routes do, and taking them out and back.

use std::time::Duration;

use clap::{Args, Subcommand};
use enforcer_admin::call::{
    HostRow, HostState, HostWish, UpstreamChanged, UpstreamOrder, UpstreamRow, Upstreams,
};
use enforcer_admin::{Answer, Call};
use enforcer_model::{Clock, SystemClock};

use super::progress::Left;
use super::quarantine::{Ttl, micros, parse_span, parse_ttl, span, until};
use super::{Context, Exit, Failure, Table, counted, mismatched, recorded};

/// Upstreams and their hosts
#[derive(Debug, Subcommand)]
pub(crate) enum Upstream {
    /// Every host: whether it is asked, why not, and how it does
    List(List),
    /// Give hosts no new requests; those under way finish
    Drain(Drain),
    /// End a drain
    Undrain(Back),
    /// Give hosts no new requests, and cut those under way
    Isolate(Isolate),
    /// End a drain or an isolation
    Restore(Back),
    /// What is not well, and why; exit code 7 when an upstream has no host that is
    Health(List),
}

/// Every host
#[derive(Args, Debug)]
pub(crate) struct List {
    /// Of one upstream
    upstream: Option<String>,
}

/// Give hosts no new requests; those under way finish
///
/// Holds over reloads of the policy and restarts of the agent.
#[derive(Args, Debug)]
pub(crate) struct Drain {
    /// `orders/10.0.4.2:8443`, or `orders` for all of its hosts
    target: String,
    /// Wait until nothing is under way, at most this long; exit code 8 when something still is
    #[arg(long, value_name = "TIME", value_parser = parse_wait)]
    wait: Option<Duration>,
    /// How long: `15m`, `1h30m`, `7d`, or `forever`
    #[arg(long = "for", value_name = "TIME", default_value = "forever", value_parser = parse_ttl)]
    ttl: Ttl,
    /// Also where no host would be left that is well
    #[arg(long)]
    force: bool,
    /// Why; goes on record
    #[arg(long, value_name = "TEXT")]
    reason: Option<String>,
}

/// Give hosts no new requests, and cut those under way
///
/// Holds over reloads of the policy and restarts of the agent.
#[derive(Args, Debug)]
pub(crate) struct Isolate {
    /// `orders/10.0.4.2:8443`, or `orders` for all of its hosts
    target: String,
    /// How long: `15m`, `1h30m`, `7d`, or `forever`
    #[arg(long = "for", value_name = "TIME", default_value = "forever", value_parser = parse_ttl)]
    ttl: Ttl,
    /// Also where no host would be left that is well
    #[arg(long)]
    force: bool,
    /// Why; goes on record
    #[arg(long, value_name = "TEXT")]
    reason: String,
}

/// Put hosts back
#[derive(Args, Debug)]
pub(crate) struct Back {
    /// `orders/10.0.4.2:8443`, or `orders` for all of its hosts
    target: String,
    /// Why; goes on record
    #[arg(long, value_name = "TEXT")]
    reason: Option<String>,
}

const HEADER: &[&str] = &[
    "UPSTREAM",
    "HOST",
    "TIER",
    "STATE",
    "IN FLIGHT",
    "REQUESTS",
    "FAILED",
    "LATENCY",
    "CONNECTIONS",
    "CAUSE",
];

/// Between two looks at what is left.
const BEAT: Duration = Duration::from_millis(100);

impl Upstream {
    pub(crate) fn execute(&self, context: &Context) -> Result<Exit, Failure> {
        match self {
            Self::List(List { upstream }) => list(context, upstream.as_deref()),
            Self::Health(List { upstream }) => health(context, upstream.as_deref()),
            Self::Drain(verb) => {
                let reason = verb.reason.clone();
                let exit =
                    change(context, &verb.target, HostWish::Drain, verb.ttl, reason, verb.force)?;
                match verb.wait {
                    Some(patience) => wait(context, &verb.target, patience)
                        .map(|waited| if waited == Exit::Done { exit } else { waited }),
                    None => Ok(exit),
                }
            }
            Self::Isolate(verb) => {
                let reason = Some(verb.reason.clone());
                change(context, &verb.target, HostWish::Isolate, verb.ttl, reason, verb.force)
            }
            Self::Undrain(Back { target, reason }) => {
                change(context, target, HostWish::Undrain, Ttl::Forever, reason.clone(), false)
            }
            Self::Restore(Back { target, reason }) => {
                change(context, target, HostWish::Restore, Ttl::Forever, reason.clone(), false)
            }
        }
    }
}

fn change(
    context: &Context,
    target: &str,
    wish: HostWish,
    ttl: Ttl,
    reason: Option<String>,
    force: bool,
) -> Result<Exit, Failure> {
    let (target, ttl_seconds) = (target.to_owned(), ttl.seconds());
    let order = UpstreamOrder::Change { target, wish, ttl_seconds, reason, force, decision: None };
    let Answer::UpstreamChanged(changed) = context.ask(&Call::Upstream { order })? else {
        return Err(mismatched());
    };
    context.printer.item(&changed, &told(&changed))?;
    Ok(if is_whole(&changed) { Exit::Done } else { Exit::PartlyApplied })
}

/// Whether every host is as it was wished, will be after a restart, and is on record.
fn is_whole(changed: &UpstreamChanged) -> bool {
    changed.hosts.iter().all(|host| is_as_wished(changed.wish, host.state))
        && changed.not_stored.is_none()
        && changed.audit.is_some()
}

const fn is_as_wished(wish: HostWish, state: HostState) -> bool {
    match wish {
        HostWish::Drain => matches!(state, HostState::Draining),
        HostWish::Isolate => matches!(state, HostState::Isolated),
        HostWish::Undrain | HostWish::Restore => {
            !matches!(state, HostState::Draining | HostState::Isolated)
        }
    }
}

/// Looks until nothing is under way at what `target` names.
fn wait(context: &Context, target: &str, patience: Duration) -> Result<Exit, Failure> {
    let deadline = SystemClock.now().monotonic + patience;
    let mut left = Left::new(target);
    loop {
        let in_flight = in_flight(context, target)?;
        let now = SystemClock.now().monotonic;
        left.tell(context, in_flight, now);
        if in_flight == 0 {
            return Ok(Exit::Done);
        }
        if now >= deadline {
            drop(left);
            let still = counted(in_flight, "request");
            return Err(Failure::failed(format!(
                "{still} still under way after {}",
                span(patience)
            ))
            .exit(Exit::TimedOut)
            .hint(format!(
                "the drain goes on; `enforcer upstream isolate {target} --reason …` cuts them"
            )));
        }
        std::thread::sleep(BEAT.min(deadline.saturating_duration_since(now)));
    }
}

fn in_flight(context: &Context, target: &str) -> Result<u64, Failure> {
    let (upstream, host) = match target.split_once('/') {
        Some((upstream, host)) => (upstream, Some(host)),
        None => (target, None),
    };
    let all = ask(context, Some(upstream))?;
    let hosts = all.upstreams.iter().flat_map(|upstream| &upstream.hosts);
    let meant = hosts.filter(|row| {
        host.is_none_or(|host| row.name == host || row.address.as_deref() == Some(host))
    });
    Ok(meant.map(|row| row.in_flight).sum())
}

fn list(context: &Context, upstream: Option<&str>) -> Result<Exit, Failure> {
    let all = ask(context, upstream)?;
    let rows = all.upstreams.iter().flat_map(cells).collect();
    context.printer.list(&all.upstreams, &Table { header: HEADER, rows })?;
    waiting(context, &all);
    if all.upstreams.is_empty() && !context.printer.is_for_programs() {
        context.printer.say("the policy names no upstream");
    }
    Ok(Exit::Done)
}

/// Decisions that nothing carries out at the moment must not be forgotten.
fn waiting(context: &Context, all: &Upstreams) {
    if context.printer.is_for_programs() {
        return;
    }
    for order in &all.waiting {
        context.printer.say(&format!(
            "{}/{} is to be {}, and the policy names no such host",
            order.upstream,
            order.host,
            if order.wish == HostWish::Isolate { "isolated" } else { "drained" },
        ));
    }
}

fn health(context: &Context, upstream: Option<&str>) -> Result<Exit, Failure> {
    let all = ask(context, upstream)?;
    let lines: Vec<_> = all.upstreams.iter().flat_map(told_health).collect();
    context.printer.item(&all.upstreams, &lines)?;
    let serves =
        |row: &UpstreamRow| !row.breaker_open && row.hosts.iter().any(|host| host.state.is_well());
    Ok(if all.upstreams.iter().all(serves) { Exit::Done } else { Exit::VerificationFailed })
}

fn ask(context: &Context, upstream: Option<&str>) -> Result<Upstreams, Failure> {
    let order = UpstreamOrder::List { upstream: upstream.map(str::to_owned) };
    let Answer::Upstreams(all) = context.ask(&Call::Upstream { order })? else {
        return Err(mismatched());
    };
    Ok(*all)
}

/// A row for the upstream where something is to be told of all of it, and one for each host.
fn cells(upstream: &UpstreamRow) -> Vec<Vec<String>> {
    let whole = whole(upstream).map(|state| {
        vec![
            upstream.name.clone(),
            "*".to_owned(),
            upstream.tier.to_string(),
            state,
            upstream.hosts.iter().map(|host| host.in_flight).sum::<u64>().to_string(),
            upstream.requests.to_string(),
            upstream.failures.to_string(),
            "-".to_owned(),
            upstream.hosts.iter().map(|host| host.connections).sum::<u64>().to_string(),
            upstream.cause.clone().unwrap_or_default(),
        ]
    });
    let hosts = upstream.hosts.iter().map(|host| {
        vec![
            upstream.name.clone(),
            named(host),
            host.tier.to_string(),
            state(host),
            host.in_flight.to_string(),
            host.requests.to_string(),
            host.failures.to_string(),
            host.latency_us.map_or_else(|| "-".to_owned(), micros),
            host.connections.to_string(),
            host.cause.clone().unwrap_or_default(),
        ]
    });
    whole.into_iter().chain(hosts).collect()
}

/// How all of an upstream is, if that is not as it should be.
fn whole(upstream: &UpstreamRow) -> Option<String> {
    if upstream.breaker_open {
        let left = upstream.breaker_left_ms.map(Duration::from_millis).unwrap_or_default();
        return Some(format!("breaker open, {} left", span(left)));
    }
    (upstream.tier > 0).then(|| "failed over".to_owned())
}

/// As the policy writes it, with the address where that says more.
fn named(host: &HostRow) -> String {
    match &host.address {
        Some(address) if *address != host.name => format!("{} ({address})", host.name),
        Some(_) | None => host.name.clone(),
    }
}

fn state(host: &HostRow) -> String {
    match (host.state, host.left_ms) {
        (state, Some(left)) => {
            format!("{}, {} left", state.as_str(), span(Duration::from_millis(left)))
        }
        (HostState::Draining, None) => format!("draining, {} left", host.in_flight),
        (state, None) => state.as_str().to_owned(),
    }
}

fn told_health(upstream: &UpstreamRow) -> Vec<String> {
    let well = upstream.hosts.iter().filter(|host| host.state.is_well()).count();
    let because = |cause: Option<&String>| cause.map_or_else(String::new, |why| format!(": {why}"));
    let mut lines =
        vec![format!("{}  {well} of {} well", upstream.name, counted_hosts(upstream.hosts.len()))];
    lines.extend(
        whole(upstream).map(|state| format!("  {state}{}", because(upstream.cause.as_ref()))),
    );
    let sick = upstream.hosts.iter().filter(|host| !host.state.is_well());
    lines.extend(
        sick.map(|host| {
            format!("  {}  {}{}", named(host), state(host), because(host.cause.as_ref()))
        }),
    );
    lines
}

/// What `status` says of an upstream, on one line.
pub(super) fn summary(upstream: &UpstreamRow) -> String {
    let well = upstream.hosts.iter().filter(|host| host.state.is_well()).count();
    let in_flight: u64 = upstream.hosts.iter().map(|host| host.in_flight).sum();
    let state = whole(upstream).map_or_else(String::new, |state| format!("  {state}"));
    let cause = upstream.cause.as_ref().map_or_else(String::new, |cause| format!(": {cause}"));
    let sick = upstream.hosts.iter().filter(|host| !host.state.is_well());
    let sick: Vec<_> = sick.map(|host| format!("{} {}", host.name, state_word(host))).collect();
    let sick = if sick.is_empty() { String::new() } else { format!("  ({})", sick.join(", ")) };
    format!(
        "upstream {:<20} {well} of {} well  {in_flight} in flight  {} failed of {}{state}{cause}{sick}",
        upstream.name,
        counted_hosts(upstream.hosts.len()),
        upstream.failures,
        upstream.requests,
    )
}

fn state_word(host: &HostRow) -> String {
    let cause = host.cause.as_ref().map_or_else(String::new, |cause| format!(": {cause}"));
    format!("{}{cause}", host.state.as_str())
}

fn counted_hosts(count: usize) -> String {
    counted(u64::try_from(count).unwrap_or(u64::MAX), "host")
}

fn told(changed: &UpstreamChanged) -> Vec<String> {
    let target = &changed.target;
    let word = match changed.wish {
        HostWish::Drain => "draining",
        HostWish::Undrain => "undrained",
        HostWish::Isolate => "isolated",
        HostWish::Restore => "restored",
    };
    let ends = changed.until.map(|end| until(end, SystemClock.now().wall)).unwrap_or_default();
    let mut lines = vec![format!("{word}  {target}  {ends}").trim_end().to_owned()];
    for (host, before) in changed.hosts.iter().zip(&changed.before) {
        let holds = if is_as_wished(changed.wish, host.state) { "" } else { "NOT applied: " };
        lines.push(format!(
            "  host    {}  {holds}{} (was {}), {} under way",
            named(host),
            host.state.as_str(),
            before.as_str(),
            counted(host.in_flight, "request"),
        ));
    }
    if changed.cut > 0 {
        lines.push(format!("  cut     {}", counted(changed.cut, "request")));
    }
    if let Some(why) = &changed.not_stored {
        lines.push(format!("  store   NOT written: {why}"));
    }
    lines.push(format!("  audit   {}", recorded(changed.audit)));
    let was = |state: HostState| changed.before.contains(&state);
    lines.push(format!(
        "undo: enforcer upstream {}",
        match changed.wish {
            HostWish::Drain if was(HostState::Isolated) => format!("isolate {target} --reason …"),
            HostWish::Drain => format!("undrain {target}"),
            HostWish::Isolate if was(HostState::Draining) => format!("drain {target} --reason …"),
            HostWish::Isolate => format!("restore {target}"),
            HostWish::Restore if was(HostState::Isolated) => format!("isolate {target} --reason …"),
            HostWish::Undrain | HostWish::Restore => format!("drain {target} --reason …"),
        }
    ));
    lines
}

fn parse_wait(text: &str) -> Result<Duration, String> {
    parse_span(text).ok_or_else(|| format!("`{text}` is not a time; write it as `30s` or `5m`"))
}

#[cfg(test)]
mod tests {
    use enforcer_model::Expiry;

    use super::*;

    #[test]
    fn a_change_tells_each_host_as_it_is_what_is_left_and_the_way_back() {
        let changed = changed(HostWish::Drain, HostState::Draining, HostState::Up);

        assert_eq!(
            told(&changed).join("\n"),
            "draining  orders/10.0.4.2:8443  forever\n  \
             host    10.0.4.2:8443  draining (was up), 3 requests under way\n  \
             audit   #7\n\
             undo: enforcer upstream undrain orders/10.0.4.2:8443"
        );
        assert!(is_whole(&changed));
    }

    #[test]
    fn what_a_fleet_did_not_do_is_told_and_partly_applied() {
        let changed = changed(HostWish::Isolate, HostState::Up, HostState::Draining);

        let lines = told(&changed);

        assert!(lines[1].contains("NOT applied: up"), "{lines:#?}");
        assert_eq!(
            lines.last().unwrap(),
            "undo: enforcer upstream drain orders/10.0.4.2:8443 --reason …"
        );
        assert!(!is_whole(&changed));
    }

    #[test]
    fn the_list_tells_of_the_upstream_only_what_concerns_all_of_it() {
        let mut upstream = upstream();
        assert_eq!(cells(&upstream).len(), 1);
        assert_eq!(
            cells(&upstream)[0].join("|"),
            "orders|db.internal:80 (10.0.4.2:80)|0|ejected, 12s left|3|100|7|1.5 ms|4|5 failures in a row"
        );

        upstream.tier = 1;
        upstream.cause = Some("0 of 2 hosts are well".to_owned());

        let rows = cells(&upstream);
        assert_eq!(rows[0].join("|"), "orders|*|1|failed over|3|900|20|-|4|0 of 2 hosts are well");
        assert_eq!(rows[0].len(), HEADER.len());
        assert_eq!(
            told_health(&upstream).join("\n"),
            "orders  0 of 1 host well\n  failed over: 0 of 2 hosts are well\n  \
             db.internal:80 (10.0.4.2:80)  ejected, 12s left: 5 failures in a row"
        );
    }

    fn changed(wish: HostWish, state: HostState, before: HostState) -> UpstreamChanged {
        let name = "10.0.4.2:8443".to_owned();
        let host = HostRow { name, address: None, state, left_ms: None, cause: None, ..host() };
        UpstreamChanged {
            target: "orders/10.0.4.2:8443".to_owned(),
            wish,
            hosts: vec![host],
            before: vec![before],
            cut: 0,
            until: Some(Expiry::Never),
            stood: false,
            not_stored: None,
            audit: Some(7),
        }
    }

    fn upstream() -> UpstreamRow {
        UpstreamRow {
            name: "orders".to_owned(),
            tier: 0,
            breaker_open: false,
            breaker_left_ms: None,
            cause: None,
            requests: 900,
            failures: 20,
            retries: 1,
            retries_refused: 0,
            hosts: vec![host()],
        }
    }

    fn host() -> HostRow {
        HostRow {
            name: "db.internal:80".to_owned(),
            address: Some("10.0.4.2:80".to_owned()),
            tier: 0,
            weight: 1,
            state: HostState::Ejected,
            cause: Some("5 failures in a row".to_owned()),
            left_ms: Some(12_000),
            in_flight: 3,
            requests: 100,
            failures: 7,
            latency_us: Some(1_500),
            connections: 4,
            order: None,
        }
    }
}
