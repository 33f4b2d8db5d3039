//! Policies and requests that several engines can be asked about.
//!
//! A condition is made here, of parts that each language has, and written in each of them: ours,
//! Cedar's, CEL's. None of the writers knows the other engines, so that equal answers mean
//! something. Three-valued logic, which Cedar does not have, is spelled out for it: a condition is
//! written once as "certainly true" and once as "certainly false".

#![expect(clippy::indexing_slicing, reason = "places in a world that was made here")]

mod ask;
mod cedar;
mod cel;
mod condition;
mod ours;
mod random;

pub use ask::{Claim, Request};
pub use cedar::{CedarPolicies, CedarRequest};
pub use cel::{CelPolicies, CelRequest};
pub use condition::{Atom, Condition};
pub use ours::Ours;
pub use random::Random;

/// Networks that conditions name.
pub const NETWORKS: [(&str, &[&str]); 3] = [
    ("office", &["198.51.100.0/24", "2001:db8:10::/48"]),
    ("mesh", &["10.0.0.0/8"]),
    ("lab", &["10.1.0.0/16", "192.0.2.0/25", "2001:db8:10:1::/64"]),
];

/// Methods that rules and requests have.
pub const METHODS: [&str; 4] = ["DELETE", "GET", "PATCH", "POST"];

/// A policy as every engine can read it.
#[derive(Clone, Debug)]
pub struct World {
    /// Each role with those that it includes, which all stand behind it.
    pub roles: Vec<(String, Vec<String>)>,
    /// What each route demands.
    pub routes: Vec<Vec<Rule>>,
}

/// One rule of a route.
#[derive(Clone, Debug)]
pub struct Rule {
    /// What it does.
    pub effect: Effect,
    /// For these methods; none: for all.
    pub methods: Vec<&'static str>,
    /// For callers with this role; none: for all.
    pub role: Option<String>,
    /// If this holds; none: always.
    pub when: Option<Condition>,
}

/// What a rule does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    /// It serves.
    Allow,
    /// It refuses, whatever else serves.
    Deny,
}

impl World {
    /// A policy of `routes` routes with up to `rules` rules each, over `roles` roles.
    pub fn random(random: &mut Random, roles: usize, routes: usize, rules: usize) -> Self {
        let names: Vec<String> = (0..roles).map(|n| format!("role{n}")).collect();
        let included = |random: &mut Random, n: usize| {
            let behind = names.get(n + 1..).unwrap_or_default();
            behind.iter().filter(|_| random.one_in(6)).take(2).cloned().collect()
        };
        let listed =
            (0..roles).map(|n| (names[n].clone(), included(random, n))).collect::<Vec<_>>();
        let rule = |random: &mut Random| Rule {
            effect: if random.one_in(4) { Effect::Deny } else { Effect::Allow },
            methods: METHODS.into_iter().filter(|_| !random.one_in(3)).collect(),
            role: (!random.one_in(3)).then(|| random.pick(&names).clone()),
            when: (!random.one_in(3)).then(|| Condition::random(random, &names, 3)),
        };
        let routes = (0..routes)
            .map(|_| (0..1 + random.below(rules)).map(|_| rule(random)).collect())
            .collect();
        Self { roles: listed, routes }
    }
}
