//! A route, as requests meet it.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;

use enforcer_authz::Plan;
use enforcer_cache as cache;
use enforcer_inspect::{OptOuts, Pairs, Rewrite, query_values};
use enforcer_limits::GatePlan;
use enforcer_model::{Bytes, Rejection};

use super::limits::Charged;
use super::require::Requires;
use super::timeouts::Timeouts;
use super::upstreams::Errors;

/// What is served under one pattern, and to whom.
#[derive(Clone, Debug)]
pub struct Route {
    /// As the policy names it; a label of metrics and records.
    pub name: Arc<str>,
    /// Its place in [`crate::Policy::routes`].
    pub number: usize,
    /// Host and path as the policy writes them.
    pub pattern: Arc<str>,
    /// Who may use it.
    pub authz: Plan,
    /// What a caller must have shown, at all times; an incident may add to it.
    pub require: Requires,
    /// All of these are taken, or none.
    pub limits: Vec<Charged>,
    /// Where its requests go.
    pub upstream: Arc<enforcer_upstream::Plan>,
    /// How many requests that upstream takes, and who is turned away first.
    pub gate: Option<Arc<GatePlan>>,
    /// The longest body of a request.
    pub body_max: Bytes,
    /// So much of a request's body is read before a place at the upstream is taken.
    pub buffer: Bytes,
    /// How long a whole request may take instead of [`Timeouts::request`]; inner none: as long as it
    /// takes.
    pub total: Option<Option<Duration>>,
    /// Which of its answers are kept, and for whom; none when none is.
    pub cache: Option<Arc<cache::Plan>>,
    /// Whether a client may go on as a WebSocket.
    pub websocket: bool,
    /// What its path has against it, and is accepted all the same.
    pub opt_outs: OptOuts,
    /// What the upstream is asked for instead.
    pub rewrite: Option<Rewrite>,
    /// The upstream gets the credential that was accepted here.
    pub forward_credential: bool,
    /// What clients see of the upstream's own failures.
    pub errors: Errors,
    /// The upstream gets a signed statement about the caller.
    pub identity: bool,
    /// Whether something that decides on its requests reads the region of the address.
    pub reads_region: bool,
    /// Keys of the query that something that decides on its requests reads.
    pub(crate) queries: Box<[Arc<str>]>,
    /// The names in braces that its conditions read, each with the number of its segment.
    pub(crate) params: Box<[(usize, Arc<str>)]>,
}

/// The route of a request, and the path in the form in which it was compared.
#[derive(Clone, Debug)]
pub struct Matched<'p> {
    /// The route that decides.
    pub route: &'p Arc<Route>,
    /// The path as conditions see it: one spelling for all that mean the same.
    pub path: Cow<'p, str>,
}

impl Route {
    /// How long a whole request may take, until the end of its answer.
    pub fn total(&self, timeouts: &Timeouts) -> Option<Duration> {
        self.total.unwrap_or(timeouts.request)
    }

    /// What the query says for each key that is read, decoded; refused where it can be read in two
    /// ways.
    pub fn query<'a>(&'a self, query: Option<&'a str>) -> Result<Pairs<'a>, Rejection> {
        Ok(query_values(query, &self.queries)?)
    }

    /// Keys of the query that something that decides on its requests reads.
    pub fn queries(&self) -> &[Arc<str>] {
        &self.queries
    }
}

impl Matched<'_> {
    /// What each name in braces that a condition reads stands for, decoded.
    pub fn params(&self) -> Vec<(&str, Cow<'_, str>)> {
        let params = self.route.params.iter();
        params.filter_map(|(n, name)| Some((&**name, decoded(self.segment(*n)?)?))).collect()
    }

    fn segment(&self, n: usize) -> Option<&str> {
        self.path.split('/').nth(n.checked_add(1)?)
    }
}

/// A segment of a canonical path without its escapes.
fn decoded(segment: &str) -> Option<Cow<'_, str>> {
    if !segment.contains('%') {
        return Some(Cow::Borrowed(segment));
    }
    let mut bytes = Vec::with_capacity(segment.len());
    let mut rest = segment;
    while let Some((plain, behind)) = rest.split_once('%') {
        let (digits, behind) = behind.split_at_checked(2)?;
        bytes.extend_from_slice(plain.as_bytes());
        bytes.push(u8::from_str_radix(digits, 16).ok()?);
        rest = behind;
    }
    bytes.extend_from_slice(rest.as_bytes());
    String::from_utf8(bytes).ok().map(Cow::Owned)
}
