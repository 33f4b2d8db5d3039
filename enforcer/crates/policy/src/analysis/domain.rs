//! The values that a search tries for each part of a request.

use std::sync::Arc;

use enforcer_authz::{Attribute, ClaimPath, Grant, SpiffePattern};

use super::model::{Value, Variable};
use super::search::Search;
use super::uses::REST;
use super::world::Values;
use crate::routing::Segment;

impl Search<'_> {
    /// The values that stand for all values of `variable`, those that make the plainest sample first.
    pub(super) fn domain(&self, variable: &Variable) -> Vec<Value> {
        let texts = |attribute: &Attribute| {
            self.uses.texts(attribute).iter().map(|text| Value::Text(Arc::clone(text)))
        };
        let absent = std::iter::once(Value::Absent);
        match variable {
            Variable::Caller => {
                let issuers = self.worlds.iter().flat_map(|world| &world.issuers);
                let mut callers = vec![Value::Key];
                for issuer in issuers {
                    let token = Value::Token(Arc::clone(&issuer.name));
                    if !callers.contains(&token) {
                        callers.push(token);
                    }
                }
                callers.extend([Value::Certificate, Value::Anonymous]);
                callers
            }
            Variable::Method => texts(&Attribute::Method).collect(),
            Variable::Host => texts(&Attribute::Host).collect(),
            Variable::Segment(n) => self.segment_domain(*n),
            Variable::Address => {
                self.uses.addresses.iter().map(|(address, _)| Value::Address(*address)).collect()
            }
            Variable::Moment => {
                self.uses.moments.iter().map(|(moment, _)| Value::Moment(*moment)).collect()
            }
            Variable::Incident => (0..=5).map(Value::Number).collect(),
            Variable::Mtls | Variable::Dpop => vec![Value::Flag(false), Value::Flag(true)],
            Variable::Granted(_)
            | Variable::RoleValue(_)
            | Variable::Scope(_)
            | Variable::Element(..)
            | Variable::NumberElement(..) => vec![Value::Flag(true), Value::Flag(false)],
            Variable::Claim(path) => self.claim_domain(path),
            Variable::Text(Attribute::Spiffe) => self.spiffe_domain(),
            Variable::Text(Attribute::Principal) => {
                texts(&Attribute::Principal).filter(|text| self.can_be_called(text)).collect()
            }
            Variable::Text(attribute @ Attribute::Header(_)) => {
                let twice = self.uses.is_asked_for(attribute).then_some(Value::Foreign);
                texts(attribute).chain(absent).chain(twice).collect()
            }
            Variable::Text(attribute) => texts(attribute).chain(absent).collect(),
        }
    }

    fn segment_domain(&self, n: usize) -> Vec<Value> {
        let name = match self.place.pattern.segments().get(n) {
            Some(Segment::One(name)) => Arc::clone(name),
            Some(Segment::Rest) => REST.into(),
            Some(Segment::Literal(_)) | None => return Vec::new(),
        };
        let texts = self.uses.texts(&Attribute::Param(Arc::clone(&name)));
        let mut list: Vec<Arc<str>> = texts.iter().map(Arc::clone).collect();
        if &*name == REST {
            // Nothing at all, and as deep as other routes reach into it.
            let fresh = texts.first().map_or("7", AsRef::as_ref).to_owned();
            let deeper = (2..=(self.place.depth + 1).saturating_sub(n).max(2))
                .map(|levels| vec![fresh.as_str(); levels].join("/").into());
            list.extend(deeper);
            list.push("".into());
        }
        list.into_iter().map(Value::Text).collect()
    }

    fn claim_domain(&self, path: &ClaimPath) -> Vec<Value> {
        let attribute = Attribute::Claim(path.clone());
        let texts = self.uses.texts(&attribute);
        let mut list: Vec<Value> = texts.iter().map(|text| Value::Text(Arc::clone(text))).collect();
        list.extend(self.uses.numbers(path).iter().map(|number| Value::Number(*number)));
        if self.uses.is_flag(path) {
            list.extend([Value::Flag(true), Value::Flag(false)]);
        }
        list.extend(self.uses.is_list(path).then_some(Value::List));
        list.extend(self.uses.is_number_list(path).then_some(Value::Numbers));
        // Role values may stand there whatever conditions read it as.
        let is_source = self.worlds.iter().flat_map(|world| &world.issuers).any(|issuer| {
            match &issuer.values {
                Values::Claim(names) => path.names() == &**names,
                Values::Scopes => false,
            }
        });
        if is_source && !self.uses.is_list(path) {
            list.push(Value::List);
        }
        list.push(Value::Absent);
        list.extend(self.uses.is_asked_for(&attribute).then_some(Value::Foreign));
        list
    }

    /// SPIFFE ids that conditions name, and for every pattern of a role one that it matches.
    fn spiffe_domain(&self) -> Vec<Value> {
        let grants = self
            .worlds
            .iter()
            .flat_map(|world| world.roles.iter().flat_map(|role| world.roles.grants(role)));
        let mut ids: Vec<Arc<str>> = grants
            .filter_map(|grant| match grant {
                Grant::Spiffe(SpiffePattern::Exact(id)) => Some(Arc::clone(id)),
                Grant::Spiffe(SpiffePattern::Below(above)) => Some(format!("{above}some").into()),
                Grant::Issuer { .. } | Grant::Key => None,
            })
            .collect();
        ids.extend(self.uses.texts(&Attribute::Spiffe).iter().map(Arc::clone));
        ids.push("spiffe://other.example/some".into());
        ids.into_iter().map(Value::Text).chain([Value::Absent]).collect()
    }

    /// Whether the caller, whose kind is known, can have this name.
    fn can_be_called(&self, name: &Value) -> bool {
        let Value::Text(name) = name else { return false };
        let kind = match name.split_once(':') {
            Some(("key", _)) => Value::Key,
            Some(("token", rest)) => {
                Value::Token(rest.split('/').next().unwrap_or_default().into())
            }
            Some(("spiffe" | "cert", _)) => Value::Certificate,
            Some(_) | None => return true,
        };
        self.value(&Variable::Caller) == Some(&kind)
    }
}
