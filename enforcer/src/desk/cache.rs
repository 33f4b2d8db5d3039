//! Answers that are kept: how many, and which operators want to be rid of.

use enforcer_admin::call::{CacheOrder, CachePurged, CacheRoute, CacheStats, CacheWhat};
use enforcer_admin::{Answer, Refusal, RefusalKind};
use enforcer_audit::{CacheChange, Record};
use enforcer_cache::{Cache, What};
use enforcer_inspect::{Host, Path};
use enforcer_model::Author;
use enforcer_policy::Policy;
use tracing::info;

use super::near::nearest;
use super::{Desk, checked};

/// Where an answer is kept.
struct Place<'a> {
    host: Box<str>,
    path: Box<str>,
    query: Option<&'a str>,
}

impl Desk {
    /// Tells how the cache does, or removes answers and puts it on record.
    pub(super) async fn order_cache(
        &self,
        order: CacheOrder,
        by: &Author,
    ) -> Result<Answer, Refusal> {
        let (what, reason) = match order {
            CacheOrder::Stats => return Ok(Answer::CacheStats(Box::new(stats(&self.cache)))),
            CacheOrder::Purge { what, reason } => (what, reason),
        };
        reason.as_deref().map_or(Ok(()), checked)?;
        let arguments = std::iter::once(what.to_string()).chain(reason.clone()).collect();
        let done = named(&what, &self.policies.current()).map(|named| {
            let entries = self.cache.purge(&named);
            let purged = what.to_string();
            info!(purged, entries, %by, "cache purged");
            let author = by.clone();
            let change = CacheChange { purged: purged.clone(), entries, author, reason };
            let slot = self.clerk.audit.reserve().ok();
            let ticket = slot.map(|slot| slot.write(Record::Cache(change)));
            let left = self.cache.stats().entries;
            (Answer::CachePurged(CachePurged { purged, entries, left, audit: None }), ticket)
        });
        self.clerk.recorded("cache purge", arguments, by, done).await
    }
}

/// How the cache does.
pub(super) fn stats(cache: &Cache) -> CacheStats {
    let stats = cache.stats();
    CacheStats {
        entries: stats.entries,
        bytes: stats.bytes,
        memory: stats.memory,
        arriving: stats.arriving,
        hits: stats.hits,
        stale: stats.stale,
        revalidated: stats.revalidated,
        misses: stats.misses,
        waited: stats.waited,
        stored: stats.stored,
        evicted: stats.evicted,
        purged: stats.purged,
        routes: stats
            .routes
            .into_iter()
            .map(|one| CacheRoute {
                route: one.route.to_string(),
                entries: one.entries,
                bytes: one.bytes,
            })
            .collect(),
    }
}

/// What is meant, in the spelling that answers are kept under.
fn named(what: &CacheWhat, policy: &Policy) -> Result<What, Refusal> {
    Ok(match what {
        CacheWhat::All => What::All,
        CacheWhat::Host(host) => What::Host(canonical_host(host)?),
        CacheWhat::Route(route) => {
            let mut names = policy.routes().iter().map(|route| &*route.name);
            if !names.clone().any(|name| name == route) {
                let hint = match nearest(route, names.by_ref()) {
                    Some(near) => format!("did you mean `{near}`?"),
                    None => "`enforcer cache stats` tells of which something is kept".to_owned(),
                };
                let message = format!("the policy has no route `{route}`");
                return Err(Refusal::new(RefusalKind::NotFound, message).hint(hint));
            }
            What::Route(route.as_str().into())
        }
        CacheWhat::Prefix(text) => {
            let Place { host, path, .. } = place(text)?;
            What::Under { host, path }
        }
        CacheWhat::Url(text) => {
            let Place { host, path, query } = place(text)?;
            let target = match query {
                Some(query) => format!("{path}?{query}").into(),
                None => path,
            };
            What::Target { host, target }
        }
    })
}

/// Canonical host and path, and the query as it is written.
fn place(text: &str) -> Result<Place<'_>, Refusal> {
    let bare = text.split_once("://").map_or(text, |(_, bare)| bare);
    let bare = bare.split_once('#').map_or(bare, |(bare, _)| bare);
    let (bare, query) = match bare.split_once('?') {
        Some((bare, query)) => (bare, Some(query)),
        None => (bare, None),
    };
    let (authority, path) = bare.find('/').map_or((bare, "/"), |at| bare.split_at(at));
    let host = canonical_host(authority)?;
    let path: Path = path.parse().map_err(|error: enforcer_inspect::PathError| {
        usage(format!("no answer is kept for such a path: {error}"))
    })?;
    Ok(Place { host, path: path.as_str().into(), query })
}

/// Without a port, which answers are not kept by.
fn canonical_host(authority: &str) -> Result<Box<str>, Refusal> {
    let name = match authority.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => name,
        Some(_) | None => authority,
    };
    let host: Host =
        name.parse().map_err(|error: enforcer_inspect::HostError| usage(error.to_string()))?;
    Ok(host.as_str().into())
}

fn usage(message: String) -> Refusal {
    Refusal::new(RefusalKind::Usage, message).hint("write it as `https://api.example.com/v1/items`")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_is_read_into_the_spelling_that_answers_are_kept_under() {
        let target =
            |host: &str, target: &str| What::Target { host: host.into(), target: target.into() };
        for (text, wanted) in [
            (
                "https://API.example.com/v1/items?page=2",
                target("api.example.com", "/v1/items?page=2"),
            ),
            ("api.example.com:8443/v1#part", target("api.example.com", "/v1")),
            ("http://[2001:db8::1]:80", target("[2001:db8::1]", "/")),
            ("[2001:db8::1]/a", target("[2001:db8::1]", "/a")),
        ] {
            assert_eq!(named(&CacheWhat::Url(text.to_owned()), &policy()).unwrap(), wanted);
        }
        let prefix = named(&CacheWhat::Prefix("api.test/v1".to_owned()), &policy()).unwrap();
        assert_eq!(prefix, What::Under { host: "api.test".into(), path: "/v1".into() });
    }

    #[test]
    fn what_nothing_can_be_kept_under_is_refused_with_what_to_do() {
        for (what, kind, hint) in [
            (CacheWhat::Url("https:///v1".to_owned()), RefusalKind::Usage, "https://"),
            (CacheWhat::Prefix("api.test/a/../b".to_owned()), RefusalKind::Usage, "https://"),
            (CacheWhat::Host("a b".to_owned()), RefusalKind::Usage, "https://"),
            (CacheWhat::Route("exprots".to_owned()), RefusalKind::NotFound, "mean `exports`?"),
            (CacheWhat::Route("billing".to_owned()), RefusalKind::NotFound, "cache stats"),
        ] {
            let refused = named(&what, &policy()).unwrap_err();
            assert_eq!(refused.kind, kind, "{what}");
            assert!(refused.hint.unwrap().contains(hint), "{what}");
        }
        assert!(named(&CacheWhat::Route("exports".to_owned()), &policy()).is_ok());
    }

    fn policy() -> Policy {
        let text = "version = 1\n[listen.public]\naddress = \"127.0.0.1:0\"\n[upstream.orders]\n\
                    hosts = [\"127.0.0.1:9\"]\n[[route]]\nname = \"exports\"\n\
                    match = \"api.test/v1/{**}\"\nupstream = \"orders\"\npublic = true\n";
        Policy::parse(text, std::path::Path::new("policy.toml")).unwrap()
    }
}
