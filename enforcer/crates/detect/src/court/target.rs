//! Whom a rung hits: taken from what the finding is about, or from who was there.

use enforcer_model::Prefix;

use crate::{Action, Entity, Finding};

/// The target of `action` after `finding`; none when nobody of that kind is known.
pub(super) fn target(action: Action, finding: &Finding) -> Option<Entity> {
    let (about, scene) = (&finding.about, &finding.scene);
    // What the finding is about, if it is of the kind, else what was there.
    let either = |is_of_kind: bool, there: Option<Entity>| {
        if is_of_kind { Some(about.clone()) } else { there }
    };
    let route = || {
        let there = scene.route.clone().map(Entity::Route);
        either(matches!(about, Entity::Route(_)), there)
    };
    let identity = || {
        let there = scene.identity.clone().map(Entity::Identity);
        either(matches!(about, Entity::Identity(_)), there)
    };
    let credential = || {
        let there = scene.credential.map(Entity::Credential);
        either(matches!(about, Entity::Credential(_)), there)
    };
    match action {
        Action::Notify => Some(about.clone()),
        // The caller or the source where the finding is about one, else the route.
        Action::Tighten(_) => match about {
            Entity::Identity(_) => identity(),
            Entity::Credential(_) => identity().or_else(route),
            Entity::Source(network) => Some(Entity::Source(*network)),
            Entity::Ja4(_) | Entity::Route(_) | Entity::Upstream(_) | Entity::Everyone => route(),
        },
        Action::RequireStronger | Action::DisableRoute => route(),
        Action::RaiseLevel(_) => Some(Entity::Everyone),
        Action::DenyIdentity => identity(),
        Action::DenyCredential => credential(),
        Action::DenyFingerprint => {
            let there = scene.ja4.clone().map(Entity::Ja4);
            either(matches!(about, Entity::Ja4(_)), there)
        }
        Action::IsolateUpstream => {
            let there = scene.upstream.clone().map(Entity::Upstream);
            either(matches!(about, Entity::Upstream(_)), there)
        }
        Action::DenySource | Action::Drop => {
            let there = scene.source.map(|source| Entity::Source(Prefix::from(source)));
            either(matches!(about, Entity::Source(_)), there)
        }
    }
}

/// What rules that see the same kind of behaviour have in common: the first word of their names.
///
/// `credential-stuffing` and `credential-sharing` are one family.
pub(super) fn family(rule: &str) -> &str {
    rule.split(['-', '_', '.', '/', ':']).next().unwrap_or(rule)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::court::tests::finding;

    #[test]
    fn a_rung_hits_what_the_finding_is_about_or_who_was_there() {
        let mut found = finding("surge", "source:203.0.113.0/24");
        found.scene.identity = Some(serde_json::from_value("token:corp/alice".into()).unwrap());
        found.scene.route = Some("orders".into());
        let text = |action| target(action, &found).map(|target| target.to_string());

        assert_eq!(text(Action::Drop).unwrap(), "source:203.0.113.0/24");
        assert_eq!(text(Action::DenyIdentity).unwrap(), "identity:token:corp/alice");
        assert_eq!(text(Action::Tighten(50)).unwrap(), "source:203.0.113.0/24");
        assert_eq!(text(Action::DisableRoute).unwrap(), "route:orders");
        assert_eq!(text(Action::RaiseLevel(2)).unwrap(), "everyone");
        assert_eq!(text(Action::DenyCredential), None);
        assert_eq!(text(Action::IsolateUpstream), None);
    }

    #[test]
    fn rules_of_one_first_word_are_a_family() {
        assert_eq!(family("credential-stuffing"), "credential");
        assert_eq!(family("api1/bola"), "api1");
        assert_eq!(family("surge"), "surge");
    }
}
