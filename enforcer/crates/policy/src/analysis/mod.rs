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

use enforcer_authn::RoleValues;

pub(crate) use formula::Formula;
pub(crate) use lint::lint;
pub(crate) use questions::{admitted, allowed, answered};
pub(crate) use world::moments;

use self::search::{Found, STEPS_MAX};
use self::world::{DEPTH_MAX, Issuer, Place, Values, World, decoded};
use crate::Policy;
use crate::parse::Route;
use crate::routing::{Pattern, Segment};
use crate::trial::Request;

/// A policy, ready to be asked about.
#[derive(Debug)]
pub(crate) struct Analysis<'p> {
    policy: &'p Policy,
    world: World<'p>,
    depth: usize,
    literals: Rc<BTreeSet<String>>,
    /// Work that is left for all questions together.
    steps: Cell<usize>,
}

/// What came of a question.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    /// It is so for this request.
    Sample(Box<Request>),
    /// It is so for no request.
    Never,
    /// It was not decided.
    Open,
}

/// Steps for all questions about one policy.
const ALL_STEPS_MAX: usize = 1_000_000;

impl<'p> Analysis<'p> {
    pub(crate) fn new(policy: &'p Policy) -> Self {
        let issuers = policy.issuers().iter().map(|issuer| Issuer {
            name: issuer.name.clone(),
            values: match &issuer.roles {
                RoleValues::Scopes => Values::Scopes,
                RoleValues::Claim(path) => Values::Claim(path.to_vec()),
            },
        });
        let patterns = policy.routes().iter().map(|route| &*route.pattern);
        let depth = patterns.clone().map(|pattern| pattern.matches('/').count()).max();
        let mut literals = BTreeSet::new();
        for pattern in patterns.filter_map(|pattern| pattern.parse::<Pattern>().ok()) {
            literals.extend(pattern.host().map(str::to_owned));
            literals.extend(pattern.segments().iter().filter_map(|segment| match segment {
                Segment::Literal(text) => decoded(text),
                Segment::One(_) | Segment::Rest => None,
            }));
        }
        Self {
            policy,
            world: World { roles: policy.roles(), issuers: issuers.collect() },
            depth: depth.unwrap_or_default().min(DEPTH_MAX),
            literals: Rc::new(literals),
            steps: Cell::new(ALL_STEPS_MAX),
        }
    }

    pub(crate) const fn policy(&self) -> &'p Policy {
        self.policy
    }

    /// A request to `route` of which `formula` is true.
    pub(crate) fn find(&self, route: &Route, formula: Formula<'_>) -> Answer {
        let leads_here =
            |host: &str, path: &str| leads_to(self.policy, host, path) == Some(route.number);
        self.find_where(route, formula, &leads_here)
    }

    /// The same, where `leads_here` says which host and path are meant.
    pub(crate) fn find_where(
        &self,
        route: &Route,
        formula: Formula<'_>,
        leads_here: &dyn Fn(&str, &str) -> bool,
    ) -> Answer {
        let Ok(pattern) = route.pattern.parse::<Pattern>() else { return Answer::Open };
        let place = Place { pattern, depth: self.depth, literals: Rc::clone(&self.literals) };
        let formula = Formula::All(vec![formula, Formula::Routed]);
        let budget = self.steps.get().min(STEPS_MAX);
        let (found, steps) = search::find(&formula, &self.world, &place, leads_here, budget);
        self.steps.set(self.steps.get().saturating_sub(steps));
        match found {
            Found::Sample(model) => {
                Answer::Sample(Box::new(sample::request(&model, &self.world, &place)))
            }
            Found::Nothing => Answer::Never,
            Found::Open => Answer::Open,
        }
    }
}

/// The number of the route that a host and a path, as they would be sent, lead to.
pub(crate) fn leads_to(policy: &Policy, host: &str, path: &str) -> Option<usize> {
    match path.parse::<enforcer_inspect::Path>() {
        Ok(path) => policy.route_for(host, path.as_str()).map(|found| found.route.number),
        Err(_) => policy.exact_route(host, path).map(|route| route.number),
    }
}
