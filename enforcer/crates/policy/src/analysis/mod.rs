//! What a policy means for all requests: found by looking for one request, or for none.
//!
//! Every question is put as a [`formula::Formula`] over the parts of a request, and [`search::find`]
//! answers it with a sample, with "nothing", or not at all. A sample is decided once more by the
//! code that decides requests before anybody sees it; what is not decided is never claimed. Work is
//! bounded for each question and for all questions about a policy together.

mod addresses;
mod domain;
mod formula;
mod lint;
mod model;
mod overlap;
mod questions;
mod sample;
mod search;
mod texts;
mod uses;
mod world;

use std::cell::Cell;
use std::collections::BTreeSet;
use std::rc::Rc;
use std::sync::Arc;

use enforcer_authn::RoleValues;

pub(crate) use formula::Formula;
pub(crate) use lint::lint;
pub(crate) use questions::{allowed, answered};
pub(crate) use world::moments;

use self::model::Model;
use self::search::{Found, STEPS_MAX};
use self::world::{DEPTH_MAX, HoursSeen, Issuer, Place, Values, World, decoded};
use crate::Policy;
use crate::parse::Route;
use crate::routing::{Pattern, Segment};
use crate::trial::Request;

/// A policy, ready to be asked about.
#[derive(Debug)]
pub(crate) struct Analysis<'p> {
    policy: &'p Policy,
    /// One for each policy that is asked about.
    worlds: Vec<World<'p>>,
    depth: usize,
    literals: Rc<BTreeSet<String>>,
    hours: Rc<HoursSeen>,
    /// Work that is left for all questions together.
    steps: Cell<usize>,
}

/// What came of a question.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Answer<S = Box<Request>> {
    /// It is so for this request.
    Sample(S),
    /// It is so for no request.
    Never,
    /// It was not decided.
    Open,
}

/// Steps for all questions about one policy.
const ALL_STEPS_MAX: usize = 1_000_000;

impl<'p> Analysis<'p> {
    pub(crate) fn new(policy: &'p Policy) -> Self {
        Self::of(policy, &[policy])
    }

    /// Two policies: the first is world 0, the second world 1.
    pub(crate) fn between(first: &'p Policy, second: &'p Policy) -> Self {
        Self::of(first, &[first, second])
    }

    fn of(policy: &'p Policy, all: &[&'p Policy]) -> Self {
        let routes = || all.iter().flat_map(|policy| policy.routes());
        let depth = routes().map(|route| route.pattern.matches('/').count()).max();
        let mut literals = BTreeSet::new();
        for pattern in routes().filter_map(|route| route.pattern.parse::<Pattern>().ok()) {
            literals.extend(pattern.host().map(str::to_owned));
            literals.extend(pattern.segments().iter().filter_map(|segment| match segment {
                Segment::Literal(text) => decoded(text),
                Segment::One(_) | Segment::Rest => None,
            }));
        }
        Self {
            policy,
            worlds: all.iter().map(|policy| world(policy)).collect(),
            depth: depth.unwrap_or_default().min(DEPTH_MAX),
            literals: Rc::new(literals),
            hours: Rc::default(),
            steps: Cell::new(ALL_STEPS_MAX),
        }
    }

    pub(crate) const fn policy(&self) -> &'p Policy {
        self.policy
    }

    /// A request to `route` of which `formula` is true.
    pub(crate) fn find(&self, route: &Route, formula: Formula<'_>) -> Answer {
        self.search(route, formula, |model, place| self.sample(model, place))
    }

    /// Whether there is one; which, is not told.
    pub(crate) fn has(&self, route: &Route, formula: Formula<'_>) -> Answer<()> {
        self.search(route, formula, |_, _| ())
    }

    fn search<S>(
        &self,
        route: &Route,
        formula: Formula<'_>,
        tell: impl FnOnce(&Model, &Place) -> S,
    ) -> Answer<S> {
        let leads_here =
            |host: &str, path: &str| leads_to(self.policy, host, path) == Some(route.number);
        match route.pattern.parse() {
            Ok(pattern) => self.search_in(pattern, formula, &leads_here, tell),
            Err(_) => Answer::Open,
        }
    }

    /// The same for requests that `pattern` takes, where `leads_here` says which of them are meant.
    pub(crate) fn find_in(
        &self,
        pattern: Pattern,
        formula: Formula<'_>,
        leads_here: &dyn Fn(&str, &str) -> bool,
    ) -> Answer {
        self.search_in(pattern, formula, leads_here, |model, place| self.sample(model, place))
    }

    fn search_in<S>(
        &self,
        pattern: Pattern,
        formula: Formula<'_>,
        leads_here: &dyn Fn(&str, &str) -> bool,
        tell: impl FnOnce(&Model, &Place) -> S,
    ) -> Answer<S> {
        let place = Place {
            pattern,
            depth: self.depth,
            literals: Rc::clone(&self.literals),
            hours: Rc::clone(&self.hours),
        };
        let formula = Formula::All(vec![formula, Formula::Routed]);
        let budget = self.steps.get().min(STEPS_MAX);
        let (found, steps) = search::find(&formula, &self.worlds, &place, leads_here, budget);
        self.steps.set(self.steps.get().saturating_sub(steps));
        match found {
            Found::Sample(model) => Answer::Sample(tell(&model, &place)),
            Found::Nothing => Answer::Never,
            Found::Open => Answer::Open,
        }
    }

    fn sample(&self, model: &Model, place: &Place) -> Box<Request> {
        Box::new(sample::request(model, &self.worlds, place))
    }
}

/// The callers that `policy` knows.
fn world(policy: &Policy) -> World<'_> {
    let issuers = policy.issuers().iter().map(|issuer| Issuer {
        name: Arc::clone(&issuer.name),
        values: match &issuer.roles {
            RoleValues::Scopes => Values::Scopes,
            RoleValues::Claim(path) => Values::Claim(path.to_vec()),
        },
    });
    World::new(policy.roles(), issuers.collect())
}

/// The number of the route that a host and a path, as they would be sent, lead to.
pub(crate) fn leads_to(policy: &Policy, host: &str, path: &str) -> Option<usize> {
    match path.parse::<enforcer_inspect::Path>() {
        Ok(path) => policy.route_for(host, path.as_str()).map(|found| found.route.number),
        Err(_) => policy.exact_route(host, path).map(|route| route.number),
    }
}
