//! What follows a finding, as a rule says it.

use std::time::Duration;

use super::MODES;
use super::fields::Reader;
use crate::rules::plan::KeyBy;
use crate::rules::yaml::Node;
use crate::{Action, Response};

const ACTIONS: &[(&str, Action)] = &[
    ("notify", Action::Notify),
    ("tighten", Action::Tighten(TIGHTEN_TO)),
    ("require_stronger", Action::RequireStronger),
    ("raise_level", Action::RaiseLevel(1)),
    ("deny_identity", Action::DenyIdentity),
    ("deny_credential", Action::DenyCredential),
    ("deny_fingerprint", Action::DenyFingerprint),
    ("disable_route", Action::DisableRoute),
    ("isolate_upstream", Action::IsolateUpstream),
    ("deny_source", Action::DenySource),
    ("drop", Action::Drop),
];

/// The share, in percent, to which `tighten` shrinks limits when it does not say.
const TIGHTEN_TO: u8 = 25;

/// The most rungs of one rule.
const RESPONSES_MAX: usize = 8;

/// The longest that anything lasts that nobody has ordered.
const TTL_MAX: Duration = Duration::from_secs(30 * 86_400);

impl Reader<'_> {
    /// The rungs of a rule that counts by `key`.
    pub(super) fn responses(&mut self, node: &Node, key: Option<KeyBy>) -> Vec<Response> {
        let nodes = self.list(node);
        if nodes.len() > RESPONSES_MAX {
            let message = format!("more than {RESPONSES_MAX} responses");
            self.tell(&node.span, message, "keep those that help");
        }
        nodes.iter().filter_map(|node| self.response(node, key)).collect()
    }

    fn response(&mut self, node: &Node, key: Option<KeyBy>) -> Option<Response> {
        let keys = &["action", "ttl", "mode", "to", "level"];
        let fields = self.table(node, "a response", keys)?;
        let at = self.needed(fields, "the response", "action", "tighten")?;
        let action = self.choice(at, "action", ACTIONS)?;
        let to = fields.get("to").map(|node| self.share(node, "to"));
        let level = fields.get("level").map(|node| self.number(node, "level", 1, 5));
        let action = match (action, to, level) {
            (Action::Tighten(usual), to, None) => {
                let to = to.map_or(Some(u16::from(usual) * 10), |to| to)?;
                Action::Tighten(u8::try_from((to / 10).clamp(1, 100)).ok()?)
            }
            (Action::RaiseLevel(usual), None, level) => {
                let level = level.map_or(Some(u64::from(usual)), |level| level)?;
                Action::RaiseLevel(u8::try_from(level).ok()?)
            }
            (action, None, None) => action,
            (_, Some(_), _) => {
                self.tell(&fields.key("to"), "only `tighten` has a `to`", "remove it");
                return None;
            }
            (_, None, Some(_)) => {
                self.tell(&fields.key("level"), "only `raise_level` has a `level`", "remove it");
                return None;
            }
        };
        let mode = fields.get("mode").map(|node| self.choice(node, "mode", MODES));
        let ttl = match fields.get("ttl") {
            Some(node) => self.span(node, "ttl", Duration::from_secs(1), TTL_MAX)?,
            // To be told has no end of its own.
            None if action == Action::Notify => Duration::from_secs(3_600),
            None => {
                let hint = "write `ttl: 30m`: what nobody has ordered ends by itself";
                self.tell(&fields.at.span, "the response has no `ttl`", hint);
                return None;
            }
        };
        // Of a key that is no key nothing more is said.
        if let Some((key, hint)) = key.and_then(|key| Some((key, misses(action, key)?))) {
            let message = format!("a rule that counts by {key} has nothing to {action}");
            self.tell(&at.span, message, hint);
            return None;
        }
        Some(Response { action, ttl, mode: mode.flatten() })
    }
}

/// Why `action` cannot hit what a rule counts by.
const fn misses(action: Action, key: KeyBy) -> Option<&'static str> {
    let fits = match action {
        Action::Notify | Action::Tighten(_) | Action::RaiseLevel(_) => true,
        Action::RequireStronger | Action::DisableRoute => matches!(key, KeyBy::Route),
        Action::DenyIdentity | Action::DenyCredential => {
            matches!(key, KeyBy::Identity | KeyBy::Credential)
        }
        Action::DenyFingerprint => matches!(key, KeyBy::Ja4),
        Action::IsolateUpstream => matches!(key, KeyBy::Upstream),
        Action::DenySource | Action::Drop => matches!(key, KeyBy::Source | KeyBy::Network),
    };
    if fits {
        return None;
    }
    Some(match action {
        Action::RequireStronger | Action::DisableRoute => "use `key: route`",
        Action::DenyIdentity | Action::DenyCredential => "use `key: identity` or `key: credential`",
        Action::DenyFingerprint => "use `key: ja4`",
        Action::IsolateUpstream => "use `key: upstream`",
        Action::DenySource | Action::Drop => "use `key: source` or `key: network`",
        Action::Notify | Action::Tighten(_) | Action::RaiseLevel(_) => "",
    })
}
