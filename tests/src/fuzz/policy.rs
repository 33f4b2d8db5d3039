//! A policy file: problems with a place, or a policy that means what it says.

use std::cmp::Ordering;
use std::net::Ipv4Addr;
use std::path::Path;
use std::sync::Arc;

use enforcer_authz::{Caller, Facts, RoleSet, decide};
use enforcer_inspect::{Host, fold};
use enforcer_kernel::{Budget, Budgets};
use enforcer_limits::By;
use enforcer_model::{CredentialKind, Timestamp};
use enforcer_policy::{
    Address, Policy, Problem, Problems, Route, Serves, Severity, TrailingSlash, explain,
};
use http::HeaderMap;

use super::methods;

const FILE: &str = "policy.toml";

/// What a policy needs besides its routes.
const WITHOUT_ROUTES: &str =
    "version=1\n[listen.a]\naddress='127.0.0.1:0'\n[upstream.u]\nhosts=['127.0.0.1:9']\n";

/// Policies with more routes than this are not asked about each pair of them.
const ROUTES_ASKED: usize = 12;

/// A policy of this size has room for a comment.
const COMMENTED_MAX: usize = 1 << 19;

/// The text of a policy.
///
/// It is accepted, or each problem has a known code and a place inside the text, and nothing that is
/// printed moves the cursor of a terminal. What is accepted listens somewhere, in clear text on
/// loopback only; a route that is not public admits nobody without a role; every request goes to
/// the narrowest route; and a comment at the end changes nothing.
pub fn policy_file(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    match Policy::parse(text, Path::new(FILE)) {
        Err(problems) => refused(&problems, text),
        Ok(policy) => {
            policy.warnings().iter().for_each(|warning| {
                assert_eq!(warning.severity, Severity::Warning);
                placed(warning, text);
            });
            accepted(&policy);
            policy.routes().iter().for_each(|route| admits(&policy, route));
            routed(&policy);
            if text.len() < COMMENTED_MAX {
                commented(&policy, text);
            }
        }
    }
}

/// The patterns of routes, one a line, in an otherwise plain policy.
///
/// What [`policy_file`] promises, where most inputs get as far as the table of routes.
pub fn route_table(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let mut file = WITHOUT_ROUTES.to_owned();
    for (number, pattern) in text.lines().take(ROUTES_ASKED).enumerate() {
        // A string of JSON is one of TOML, DEL excepted.
        let pattern = serde_json::to_string(pattern).expect("every text is JSON");
        file +=
            &format!("[[route]]\nname='{number}'\nmatch={pattern}\nupstream='u'\npublic=true\n");
    }
    policy_file(file.as_bytes());
}

fn refused(problems: &Problems, text: &str) {
    assert!(!problems.is_empty(), "refused without a word");
    assert!(problems.iter().any(|problem| problem.severity == Severity::Error));
    problems.iter().for_each(|problem| placed(problem, text));
    assert!(problems.iter().map(|problem| problem.line).is_sorted(), "told out of order");
    printable(&problems.to_string());
}

fn placed(problem: &Problem, text: &str) {
    let lines = text.split('\n').count();
    assert!((1..=lines).contains(&problem.line), "line {} of {lines}", problem.line);
    let line = text.split('\n').nth(problem.line - 1).unwrap_or_default();
    let columns = line.chars().count() + 1;
    assert!((1..=columns).contains(&problem.column), "column {} of {columns}", problem.column);
    assert!(explain(problem.code).is_some(), "{} means nothing", problem.code);
    assert_eq!(&*problem.file, FILE);
    assert!(!problem.message.is_empty() && problem.hint.as_deref() != Some(""));
    printable(&problem.to_string());
}

/// A file that somebody else wrote says nothing to the operator's terminal.
fn printable(text: &str) {
    let odd = text.chars().find(|c| c.is_control() && !matches!(c, '\n' | '\t'));
    assert_eq!(odd, None, "{text:?}");
}

fn accepted(policy: &Policy) {
    assert!(!policy.listeners().is_empty(), "it listens nowhere");
    for listener in policy.listeners() {
        assert!(!listener.addresses.is_empty(), "{} listens nowhere", listener.name);
        let inside = listener.addresses.iter().all(|address| match address {
            Address::Tcp(address) => address.ip().is_loopback(),
            Address::Unix(_) => true,
        });
        assert!(listener.serves != Serves::Plain || inside, "{} is in the clear", listener.name);
    }
    if let Some(kernel) = policy.kernel() {
        assert!(!kernel.interfaces.is_empty() && kernel.blocks > 0 && kernel.sources > 0);
        budgeted(&kernel.budgets);
    }
    let lists = &policy.guard().never_block;
    assert!(lists.iter().all(|list| !list.networks.is_empty()), "a list protects nobody");
    let timeouts = policy.timeouts();
    let each = [timeouts.handshake, timeouts.head, timeouts.idle, timeouts.shutdown];
    assert!(each.iter().all(|timeout| !timeout.is_zero()) && timeouts.body_rate.0 > 0);
    let digits = policy.sha256().bytes().filter(u8::is_ascii_hexdigit).count();
    assert_eq!((digits, policy.sha256().len()), (64, 64));
}

/// What the kernel is asked to keep, it can keep, and every budget limits something.
fn budgeted(budgets: &Budgets) {
    assert!(budgets.ports.len() <= 8 && !budgets.ports.contains(&0));
    assert!(budgets.classes.len() <= 62);
    let classes = budgets.classes.iter().filter_map(|class| class.budget.as_ref());
    for budget in budgets.default.iter().chain(classes) {
        let Budget { packets, bytes, syns, .. } = budget;
        assert!(packets.is_some() || bytes.is_some() || syns.is_some(), "it limits nothing");
        assert!(bytes.is_none_or(|bytes| bytes.rate.min(bytes.burst) >= 1 << 16));
        assert!(syns.is_none_or(|syns| syns.rate.count() <= 100_000));
    }
    let shared = budgets.default.is_some_and(|budget| budget.packets.is_some());
    assert!(budgets.flood.is_none() || shared, "newcomers would share nothing");
}

fn admits(policy: &Policy, route: &Route) {
    let allow = route.authz.allow();
    assert_eq!(route.authz.is_public(), allow.is_empty(), "{} is for nobody", route.name);
    let stranger = Caller {
        principal: "key:stranger0000",
        kind: CredentialKind::ApiKey,
        roles: RoleSet::NONE,
        scopes: &[],
        issuer: None,
        application: None,
        owner: None,
        claims: None,
        dpop: false,
    };
    // What a condition alone allows, it may allow anybody.
    let by_role = allow.iter().all(|rule| rule.role().is_some());
    let headers = HeaderMap::new();
    for method in methods() {
        for caller in [None, Some(stranger)] {
            let facts = Facts {
                ip: Ipv4Addr::LOCALHOST.into(),
                method: &method,
                host: "elsewhere.example",
                path: "/",
                params: &[],
                query: &[],
                headers: &headers,
                region: None,
                incident: 0,
                now: Timestamp::from_unix_seconds(0),
                mtls: false,
                spiffe: None,
                caller,
            };
            let admitted = decide(&route.authz, &facts).is_ok();
            let open = route.authz.is_public() && route.authz.deny().is_empty();
            assert!(admitted || !open, "{} {method}: nobody denies it", route.name);
            let closed = by_role && !route.authz.is_public();
            assert!(!admitted || !closed, "{} {method}: nobody has the role", route.name);
        }
    }
    for charged in &route.limits {
        let limit = &charged.limit;
        let mut known = policy.limits().iter().map(|charged| &charged.limit);
        assert!(known.any(|known| Arc::ptr_eq(known, limit)), "{}", limit.name());
        let by_key = *limit.by() == By::Key;
        assert!(!by_key || !route.authz.is_public(), "whose key, on {}?", route.name);
    }
    let upstream = policy.upstreams().any(|known| Arc::ptr_eq(known, &route.upstream));
    assert!(upstream && route.upstream.hosts().next().is_some(), "{} goes nowhere", route.name);
}

/// A pattern, read the plain way.
struct Pattern<'a> {
    /// `*`, or as requests name it.
    host: String,
    segments: Vec<&'a str>,
}

fn routed(policy: &Policy) {
    if policy.routes().len() > ROUTES_ASKED {
        return;
    }
    let (exact, routes): (Vec<_>, Vec<_>) =
        policy.routes().iter().partition(|route| !route.opt_outs.is_empty());
    exact.into_iter().for_each(|route| alone(policy, route));
    let patterns: Vec<Pattern<'_>> =
        routes.iter().filter_map(|route| Pattern::read(&route.pattern)).collect();
    assert_eq!(patterns.len(), routes.len(), "a pattern without a host or a path");
    for one in &patterns {
        for other in &patterns {
            let host = if one.host == "*" { "elsewhere.example" } else { &*one.host };
            if policy.host_rules(host).trailing_slash == TrailingSlash::Strict {
                continue;
            }
            for rest in ["", "/r", "/r/s"] {
                let path = one.filled_like(other, rest);
                let found = policy.route_for(host, &path).map(|matched| &*matched.route.name);
                let narrowest = (0..)
                    .zip(&patterns)
                    .filter(|(_, pattern)| pattern.matches(host, &path))
                    .min_by(|(_, a), (_, b)| a.compared_to(b))
                    .and_then(|(place, _)| routes.get::<usize>(place));
                let narrowest = narrowest.map(|route| &*route.name);
                assert_eq!(found, narrowest, "{host}{path}");
            }
        }
    }
}

/// A route that has opted out of refusals answers for its own text and for nothing else.
fn alone(policy: &Policy, route: &Route) {
    let (host, path) = route.pattern.split_at(route.pattern.find('/').unwrap_or_default());
    assert!(!path.contains(['{', '}', '*']), "{} hides other paths", route.name);
    let host = if host == "*" { "elsewhere.example" } else { host };
    let found = policy.exact_route(host, path).map(|found| &*found.name);
    assert_eq!(found, Some(&*route.name), "{host}{path}");
    for other in [format!("{path}/"), format!("{path}x"), path.replace("%2F", "%2f")] {
        let same = other == path;
        let found = policy.exact_route(host, &other).map(|found| &*found.name);
        assert!(same || found != Some(&*route.name), "{other} is taken for {path}");
    }
}

impl<'a> Pattern<'a> {
    fn read(text: &'a str) -> Option<Self> {
        let (host, path) = text.split_once('/')?;
        let segments = if path.is_empty() { Vec::new() } else { path.split('/').collect() };
        let host = host.parse::<Host>().map_or_else(|_| host.to_owned(), |host| host.to_string());
        Some(Self { host, segments })
    }

    /// A path of this pattern that comes as near to `other` as it can.
    fn filled_like(&self, other: &Pattern<'_>, rest: &str) -> String {
        let mut path = String::new();
        for (place, segment) in self.segments.iter().enumerate() {
            match kind(segment) {
                Kind::Literal => path += &format!("/{segment}"),
                Kind::Rest => path += rest,
                Kind::One => {
                    let wanted = other.segments.get(place).copied().unwrap_or("x");
                    let literal = if kind(wanted) == Kind::Literal { wanted } else { "x" };
                    path += &format!("/{literal}");
                }
            }
        }
        if path.is_empty() { "/".to_owned() } else { path }
    }

    fn matches(&self, host: &str, path: &str) -> bool {
        let path = fold(path);
        let path = path.strip_prefix('/').unwrap_or_default();
        let asked: Vec<&str> = if path.is_empty() { Vec::new() } else { path.split('/').collect() };
        let rest = self.segments.last().is_some_and(|last| kind(last) == Kind::Rest);
        let fixed = self.segments.len() - usize::from(rest);
        let long_enough = if rest { asked.len() >= fixed } else { asked.len() == fixed };
        let fits = |(segment, asked): (&&str, &&str)| match kind(segment) {
            Kind::Literal => fold(&format!("/{segment}")) == fold(&format!("/{asked}")),
            Kind::One | Kind::Rest => true,
        };
        (self.host == "*" || self.host == host)
            && long_enough
            && self.segments.iter().zip(&asked).all(fits)
    }

    /// An exact host first; then, from the left, a literal, one segment, the rest.
    fn compared_to(&self, other: &Self) -> Ordering {
        let kinds = |pattern: &Self| -> Vec<Kind> {
            pattern.segments.iter().map(|segment| kind(segment)).collect()
        };
        let any = |pattern: &Self| pattern.host == "*";
        any(self).cmp(&any(other)).then_with(|| kinds(self).cmp(&kinds(other)))
    }
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Kind {
    Literal,
    One,
    Rest,
}

fn kind(segment: &str) -> Kind {
    match segment {
        "{**}" => Kind::Rest,
        _ if segment.starts_with('{') => Kind::One,
        _ => Kind::Literal,
    }
}

fn commented(policy: &Policy, text: &str) {
    let longer = format!("{text}\n# The end.\n");
    let again = match Policy::parse(&longer, Path::new(FILE)) {
        Ok(again) => again,
        Err(problems) => panic!("a comment was refused:\n{problems}"),
    };
    assert_eq!(policy.needs_restart(&again), [""; 0]);
    assert_eq!(policy.listeners(), again.listeners());
    assert_eq!(policy.routes().len(), again.routes().len());
    assert_ne!(policy.sha256(), again.sha256(), "two files, one digest");
}
