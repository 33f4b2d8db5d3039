//! `enforcer quarantine`: shut somebody out and say what holds, read back.

use std::net::IpAddr;
use std::time::Duration;

use clap::Args;
use enforcer_admin::call::{self, Blocked};
use enforcer_admin::{Answer, Call};
use enforcer_model::{Expiry, IncidentId, Target, Timestamp};

use super::confirm::confirm;
use super::{Context, Exit, Failure, counted, mismatched, recorded};

/// Shut out an address, a network, a key, a caller, a role, a credential or a TLS client
#[derive(Args, Debug)]
pub(crate) struct Quarantine {
    /// `203.0.113.7`, `2001:db8::/48`, `key:k7Qx2mP9aB3c`, `user:token:corp/alice`,
    /// `user:spiffe://…`, `role:NAME`, `token:FINGERPRINT` or `ja4:FINGERPRINT`
    target: Target,
    /// How long: `15m`, `1h30m`, `7d`, or `forever`
    #[arg(long = "for", value_name = "TIME", default_value = "1h", value_parser = parse_ttl)]
    ttl: Ttl,
    /// Why; goes on record
    #[arg(long, value_name = "TEXT")]
    reason: String,
    /// The incident that it belongs to; stands before the reason
    #[arg(long, value_name = "INCIDENT")]
    incident: Option<IncidentId>,
    /// Do it although a guard objects: asks for the target again; goes on record
    #[arg(long)]
    override_guard: bool,
    /// Only say what would happen
    #[arg(long)]
    dry_run: bool,
    /// Write to the pinned kernel maps where no agent runs; the reason is not kept
    #[arg(long, conflicts_with_all = ["override_guard", "dry_run"])]
    kernel_only: bool,
}

/// What spans are told in, with their seconds.
const UNITS: [(char, u64); 4] = [('d', 86_400), ('h', 3_600), ('m', 60), ('s', 1)];

/// A time to live; `forever` must be typed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ttl {
    For(Duration),
    Forever,
}

impl Ttl {
    /// As the agent is told; none is for ever.
    pub(crate) fn seconds(self) -> Option<u64> {
        match self {
            Self::For(ttl) => Some(ttl.as_secs().max(1)),
            Self::Forever => None,
        }
    }
}

impl Quarantine {
    pub(crate) fn execute(&self, context: &Context) -> Result<Exit, Failure> {
        if self.reason.trim().is_empty() {
            return Err(Failure::usage("the reason is empty")
                .hint("say in a few words why, such as `--reason 'credential stuffing'`"));
        }
        if self.kernel_only {
            return super::pinned::quarantine(context, &self.target, self.ttl);
        }
        let call = Call::Quarantine(call::Quarantine {
            target: self.target.clone(),
            ttl_seconds: self.ttl.seconds(),
            reason: match self.incident {
                Some(incident) => format!("{incident}: {}", self.reason),
                None => self.reason.clone(),
            },
            override_guard: self.override_guard.then(|| self.confirm(context)).transpose()?,
            dry_run: self.dry_run,
            ssh_peer: ssh_peer(),
        });
        let Answer::Blocked(blocked) = context.ask(&call)? else { return Err(mismatched()) };
        context.printer.item(&blocked, &told(&blocked))?;
        Ok(if is_whole(&blocked) { Exit::Done } else { Exit::PartlyApplied })
    }

    /// The target typed again, by somebody who was warned.
    fn confirm(&self, context: &Context) -> Result<Target, Failure> {
        let question = format!("type `{}` again to override the guards:", self.target);
        confirm(context, &question, |answer| answer.parse().as_ref() == Ok(&self.target))?;
        Ok(self.target.clone())
    }
}

/// Whether every layer that should hold the block does, and the disk and the record too.
fn is_whole(blocked: &Blocked) -> bool {
    let kernel_lacks = blocked.kernel_wanted && blocked.kernel_off.is_some();
    let layer7_lacks = !blocked.layer7 && !blocked.dry_run;
    let unrecorded = blocked.audit.is_none() && !blocked.dry_run;
    !kernel_lacks && !layer7_lacks && !unrecorded && blocked.not_stored.is_none()
}

/// The far end of the operator's own SSH session, so that nobody locks himself out.
///
/// The agent has given up the privilege to look into our ancestors; whoever calls it has not.
pub(crate) fn ssh_peer() -> Option<IpAddr> {
    crate::operators::ssh_peer(i32::try_from(std::process::id()).ok()?)
}

/// A span such as `90s`, `15m`, `1h30m`, `7d`, or `forever`.
pub(crate) fn parse_ttl(text: &str) -> Result<Ttl, String> {
    if text == "forever" {
        return Ok(Ttl::Forever);
    }
    match parse_span(text) {
        Some(span) if !span.is_zero() => Ok(Ttl::For(span)),
        Some(_) | None => {
            Err("write a time such as `90s`, `15m`, `1h30m`, `7d`, or `forever`".to_owned())
        }
    }
}

/// Digits and units, largest first: `7d`, `1h30m`.
pub(crate) fn parse_span(text: &str) -> Option<Duration> {
    let mut rest = text;
    let mut total = Duration::ZERO;
    let mut smaller_than = u64::MAX;
    while !rest.is_empty() {
        let digits = rest.len() - rest.trim_start_matches(|c: char| c.is_ascii_digit()).len();
        let (count, tail) = rest.split_at_checked(digits)?;
        let unit = tail.chars().next()?;
        let seconds = match unit {
            's' => 1,
            'm' => 60,
            'h' => 3_600,
            'd' => 86_400,
            'w' => 604_800,
            _ => return None,
        };
        if seconds >= smaller_than {
            return None;
        }
        smaller_than = seconds;
        let span = count.parse::<u64>().ok()?.checked_mul(seconds)?;
        total = total.checked_add(Duration::from_secs(span))?;
        rest = tail.get(unit.len_utf8()..)?;
    }
    (smaller_than < u64::MAX).then_some(total)
}

/// A span for people: its two largest units.
pub(crate) fn span(duration: Duration) -> String {
    let seconds = duration.as_secs();
    let mut rest = seconds;
    let mut parts = Vec::new();
    for (unit, size) in UNITS {
        if rest >= size {
            parts.push(format!("{}{unit}", rest / size));
            rest %= size;
        }
    }
    parts.truncate(2);
    if parts.is_empty() { format!("{} ms", duration.as_millis()) } else { parts.concat() }
}

/// A span as arguments take it, to the second, and at least one.
pub(crate) fn exact_span(duration: Duration) -> String {
    let mut rest = duration.as_secs().max(1);
    let mut text = String::new();
    for (unit, size) in UNITS {
        if rest >= size {
            text.push_str(&format!("{}{unit}", rest / size));
            rest %= size;
        }
    }
    text
}

/// When a block ends, for people.
pub(crate) fn until(until: Expiry, since: Timestamp) -> String {
    match until {
        Expiry::At(end) => {
            let time = end.to_string();
            let clock = time.split_once('.').map_or(time.as_str(), |(whole, _)| whole);
            format!("until {clock}Z ({})", span(end.since(since)))
        }
        Expiry::Never => "forever".to_owned(),
    }
}

fn told(blocked: &Blocked) -> Vec<String> {
    let block = &blocked.block;
    let word = if blocked.dry_run { "would block" } else { "blocked" };
    let mut lines = vec![format!(
        "{word}  {}  {}   {}",
        block.target,
        until(block.until, block.since),
        if blocked.dry_run { String::new() } else { block.id.to_string() },
    )];
    lines.extend(blocked.overridden.iter().map(|guard| format!("  guard   overridden: {guard}")));
    if let Some(kernel) = &blocked.kernel {
        let applied = micros(kernel.applied_us);
        let observe = if kernel.observe { "  (observe mode: counted, not dropped)" } else { "" };
        for interface in &kernel.interfaces {
            lines.push(format!("  kernel  {interface}   applied in {applied}{observe}"));
        }
    }
    if let Some(why) = &blocked.kernel_off {
        let word = if blocked.kernel_wanted { "NOT applied" } else { "off" };
        lines.push(format!("  kernel  {word}: {why}"));
    }
    if !blocked.dry_run {
        let closed = closed(blocked.connections_closed, "open connection");
        let layer7 = if blocked.layer7 { "applied" } else { "NOT applied: the table is full" };
        lines.push(format!("  layer 7                   {layer7}{closed}"));
    }
    if blocked.sockets_closed > 0 {
        lines.push(format!(
            "  sockets {}",
            closed(blocked.sockets_closed, "other open socket").trim()
        ));
    }
    lines.extend(blocked.overlaps.iter().map(|other| format!("  overlaps {other}")));
    if let Some(replaced) = blocked.replaced {
        lines.push(format!("  replaces {replaced}"));
    }
    if let Some(why) = &blocked.not_stored {
        lines.push(format!("  store   NOT written: {why}"));
    }
    if !blocked.dry_run {
        lines.push(format!("  audit   {}", recorded(blocked.audit)));
        lines.push(format!("undo: enforcer release {}", block.id));
    }
    lines
}

/// What was closed, behind what else stands on the line; nothing when nothing was.
pub(crate) fn closed(count: u64, what: &str) -> String {
    if count == 0 { String::new() } else { format!("   {} closed", counted(count, what)) }
}

/// `0.4 ms`, `1.9 s`, for people.
pub(crate) fn micros(us: u64) -> String {
    if us < 1_000_000 {
        format!("{}.{} ms", us / 1_000, us % 1_000 / 100)
    } else {
        format!("{}.{} s", us / 1_000_000, us % 1_000_000 / 100_000)
    }
}

#[cfg(test)]
mod tests {
    use enforcer_model::{Author, Block, BlockId};

    use super::*;

    #[test]
    fn times_to_live_are_read_strictly() {
        assert_eq!(parse_ttl("1h30m"), Ok(Ttl::For(Duration::from_secs(5_400))));
        assert_eq!(parse_ttl("7d"), Ok(Ttl::For(Duration::from_secs(604_800))));
        assert_eq!(parse_ttl("forever"), Ok(Ttl::Forever));
        for wrong in ["", "0s", "15", "m15", "1m1h", "-1h", "1h 30m", "99999999999999999w", "1.5h"]
        {
            assert!(parse_ttl(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn spans_are_told_in_their_two_largest_units() {
        assert_eq!(span(Duration::from_secs(3_600)), "1h");
        assert_eq!(span(Duration::from_secs(90_061)), "1d1h");
        assert_eq!(span(Duration::from_secs(59)), "59s");
    }

    #[test]
    fn an_exact_span_is_read_back_as_it_was() {
        assert_eq!(exact_span(Duration::from_millis(898_900)), "14m58s");
        assert_eq!(exact_span(Duration::ZERO), "1s");
        for seconds in [1, 59, 60, 3_599, 3_601, 86_399, 90_061, 10_000_000] {
            let text = exact_span(Duration::from_secs(seconds));
            assert_eq!(parse_span(&text), Some(Duration::from_secs(seconds)), "{text}");
        }
    }

    #[test]
    fn a_decision_that_is_not_on_disk_is_a_partial_one_and_said() {
        let mut blocked = blocked();
        assert!(is_whole(&blocked));

        blocked.not_stored = Some("no space left".to_owned());

        assert!(!is_whole(&blocked));
        assert!(told(&blocked).contains(&"  store   NOT written: no space left".to_owned()));
    }

    #[test]
    fn overlaps_and_closed_sockets_are_shown() {
        let mut blocked = blocked();
        blocked.sockets_closed = 2;
        blocked.overlaps = vec!["203.0.113.0/24 in list:drop covers it".to_owned()];

        let lines = told(&blocked);

        assert!(lines.contains(&"  sockets 2 other open sockets closed".to_owned()), "{lines:#?}");
        let overlap = "  overlaps 203.0.113.0/24 in list:drop covers it".to_owned();
        assert!(lines.contains(&overlap), "{lines:#?}");
    }

    fn blocked() -> Blocked {
        Blocked {
            block: Block {
                id: BlockId::from_bits(1),
                target: "203.0.113.7".parse().unwrap(),
                since: Timestamp::from_unix_seconds(0),
                until: Expiry::Never,
                author: Author::Agent,
                reason: "test".to_owned(),
                through: None,
            },
            replaced: None,
            kernel: None,
            kernel_off: None,
            kernel_wanted: false,
            layer7: true,
            not_stored: None,
            connections_closed: 0,
            sockets_closed: 0,
            overlaps: Vec::new(),
            audit: Some(1),
            dry_run: false,
            overridden: Vec::new(),
        }
    }
}
