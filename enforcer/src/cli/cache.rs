//! `enforcer cache`: the answers that are kept, and getting rid of some.

use clap::{ArgGroup, Args, Subcommand};
use enforcer_admin::call::{CacheOrder, CachePurged, CacheStats, CacheWhat};
use enforcer_admin::{Answer, Call};

use super::{Context, Exit, Failure, bytes, counted, mismatched, recorded};

/// Answers that are kept
#[derive(Debug, Subcommand)]
pub(crate) enum Cache {
    /// How many there are, by route, and how often they were of use
    Stats(Stats),
    /// Remove answers, from the next request on
    Purge(Purge),
}

/// How many there are
#[derive(Args, Debug)]
pub(crate) struct Stats {}

/// Remove answers, from the next request on
#[derive(Args, Debug)]
#[command(group = ArgGroup::new("what").required(true).args(["route", "url", "prefix", "host", "all"]))]
pub(crate) struct Purge {
    /// Those of one route of the policy
    #[arg(long, value_name = "NAME")]
    route: Option<String>,
    /// Those to one URL, with its query: `https://api.example.com/v1/items?page=2`
    #[arg(long, value_name = "URL")]
    url: Option<String>,
    /// Those of a host whose path is this one or lies below it: `api.example.com/v1`
    #[arg(long, value_name = "HOST/PATH")]
    prefix: Option<String>,
    /// Those to one host
    #[arg(long, value_name = "HOST")]
    host: Option<String>,
    /// Everything
    #[arg(long)]
    all: bool,
    /// Why; goes on record
    #[arg(long, value_name = "TEXT")]
    reason: Option<String>,
}

impl Cache {
    pub(crate) fn execute(&self, context: &Context) -> Result<Exit, Failure> {
        match self {
            Self::Stats(Stats {}) => {
                let call = Call::Cache { order: CacheOrder::Stats };
                let Answer::CacheStats(stats) = context.ask(&call)? else {
                    return Err(mismatched());
                };
                context.printer.item(&stats, &told(&stats))?;
                Ok(Exit::Done)
            }
            Self::Purge(verb) => verb.execute(context),
        }
    }
}

impl Purge {
    fn execute(&self, context: &Context) -> Result<Exit, Failure> {
        let order = CacheOrder::Purge { what: self.what(), reason: self.reason.clone() };
        let Answer::CachePurged(purged) = context.ask(&Call::Cache { order })? else {
            return Err(mismatched());
        };
        context.printer.item(&purged, &told_purge(&purged))?;
        Ok(if purged.audit.is_none() { Exit::PartlyApplied } else { Exit::Done })
    }

    fn what(&self) -> CacheWhat {
        let named = [
            self.route.clone().map(CacheWhat::Route),
            self.url.clone().map(CacheWhat::Url),
            self.prefix.clone().map(CacheWhat::Prefix),
            self.host.clone().map(CacheWhat::Host),
        ];
        named.into_iter().flatten().next().unwrap_or(CacheWhat::All)
    }
}

fn told(stats: &CacheStats) -> Vec<String> {
    let mut lines = vec![summary(stats)];
    lines.push(format!(
        "answered {} fresh, {} stale, {} revalidated, {} by upstreams; {} waited for another",
        stats.hits, stats.stale, stats.revalidated, stats.misses, stats.waited
    ));
    lines.push(format!(
        "kept     {} since the start; {} gave way, {} purged; {} arriving",
        stats.stored,
        stats.evicted,
        stats.purged,
        bytes(stats.arriving)
    ));
    lines.extend(stats.routes.iter().map(|one| {
        format!(
            "route    {:<20} {}, {}",
            one.route,
            counted(one.entries, "answer"),
            bytes(one.bytes)
        )
    }));
    lines
}

/// What `status` says of the cache.
pub(super) fn summary(stats: &CacheStats) -> String {
    let answered = stats.hits + stats.stale + stats.revalidated;
    let asked = answered + stats.misses;
    let share = answered.saturating_mul(100).checked_div(asked);
    let share = share.map_or_else(String::new, |share| format!("  {share} % of requests answered"));
    format!(
        "cache    {}, {} of {}{share}",
        counted(stats.entries, "answer"),
        bytes(stats.bytes),
        bytes(stats.memory)
    )
}

fn told_purge(purged: &CachePurged) -> Vec<String> {
    vec![
        format!("purged   {}: {}", purged.purged, counted(purged.entries, "answer")),
        format!("  left    {}", counted(purged.left, "answer")),
        format!("  audit   {}", recorded(purged.audit)),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cache_tells_what_it_holds_and_what_it_was_good_for() {
        let stats = CacheStats {
            entries: 3,
            bytes: 70_000,
            memory: 64 << 20,
            hits: 60,
            stale: 10,
            revalidated: 5,
            misses: 25,
            stored: 12,
            evicted: 4,
            purged: 1,
            routes: vec![enforcer_admin::call::CacheRoute {
                route: "catalogue".to_owned(),
                entries: 3,
                bytes: 70_000,
            }],
            ..CacheStats::default()
        };

        assert_eq!(
            told(&stats).join("\n"),
            "cache    3 answers, 68.3 KiB of 64.0 MiB  75 % of requests answered\n\
             answered 60 fresh, 10 stale, 5 revalidated, 25 by upstreams; 0 waited for another\n\
             kept     12 since the start; 4 gave way, 1 purged; 0 B arriving\n\
             route    catalogue            3 answers, 68.3 KiB"
        );
    }

    #[test]
    fn a_purge_tells_how_many_went() {
        let purged =
            CachePurged { purged: "route orders".to_owned(), entries: 1, left: 0, audit: Some(9) };

        assert_eq!(
            told_purge(&purged).join("\n"),
            "purged   route orders: 1 answer\n  left    0 answers\n  audit   #9"
        );
    }
}
