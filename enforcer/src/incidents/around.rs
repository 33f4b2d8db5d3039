//! What a decision would hit, as this host and its policy know it.

use enforcer_detect::court::{Behind, People, Share, Surroundings};
use enforcer_detect::{Entity, Request};
use enforcer_model::{Prefix, Timestamp};

use crate::respond::{self, ClientShare, Guards};

/// Who was served lately, whom the policy protects, and what this host needs to live.
#[derive(Debug, Default)]
pub(crate) struct Around {
    people: People,
    guards: Guards,
    host: respond::Surroundings,
}

/// The same at one moment.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Now<'a> {
    around: &'a Around,
    now: Timestamp,
}

impl Around {
    /// What `guards` of a policy protect.
    pub(crate) fn new(guards: Guards) -> Self {
        Self { guards, ..Self::default() }
    }

    /// What another policy protects.
    pub(crate) fn set_guards(&mut self, guards: Guards) {
        self.guards = guards;
    }

    /// Takes note of who was served.
    pub(crate) fn observe(&mut self, request: &Request<'_>) {
        self.people.observe(request);
    }

    /// Forgets who was not served lately, and looks at this host again. Call it every few seconds.
    pub(crate) fn refresh(&mut self, now: Timestamp) {
        self.people.forget_old(now);
        self.host = respond::Surroundings::read();
    }

    /// What a decision would hit now.
    pub(crate) const fn at(&self, now: Timestamp) -> Now<'_> {
        Now { around: self, now }
    }
}

impl Surroundings for Now<'_> {
    fn clients(&self, network: Prefix) -> Share {
        self.around.people.clients(network, self.now)
    }

    fn identities(&self, target: &Entity) -> Share {
        self.around.people.identities(target, self.now)
    }

    fn behind(&self, network: Prefix) -> Behind {
        self.around.people.behind(network, self.now)
    }

    fn protected(&self, target: &Entity) -> Option<String> {
        let Entity::Source(network) = target else { return None };
        // The share of clients is a limit of its own, with its own answer.
        let nobody = ClientShare::default();
        let objections = self.around.guards.objections(*network, &self.around.host, nobody);
        (!objections.is_empty()).then(|| objections.join("; "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn never_block_lists_and_this_host_are_protected_and_named() {
        let network: Prefix = "10.0.5.0/24".parse().unwrap();
        let guards = Guards {
            never_block: vec![("monitoring".to_owned(), vec![network])],
            clients_percent_max: 100,
            ..Guards::default()
        };
        let around = Around::new(guards);
        let around = around.at(Timestamp::from_unix_seconds(9));
        let protected = |target: &str| around.protected(&target.parse().unwrap());

        assert!(protected("source:10.0.5.7").unwrap().contains("never-block list `monitoring`"));
        assert!(protected("source:127.0.0.1").unwrap().contains("loopback"));
        assert_eq!(protected("source:203.0.113.7"), None);
        assert_eq!(protected("route:orders"), None);
    }
}
