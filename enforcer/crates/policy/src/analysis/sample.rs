//! From the values that a search found to a request that people can read and run.

use std::collections::BTreeMap;
use std::sync::Arc;

use enforcer_authz::{Attribute, ClaimPath, Grant};
use enforcer_model::Value as Claim;

use super::model::{Model, Value, Variable};
use super::world::{Place, World, encoded};
use crate::routing::Segment;
use crate::trial::Request;

/// The request of `model`, to `place`; what it leaves open is left out.
pub(crate) fn request(model: &Model, worlds: &[World<'_>], place: &Place) -> Request {
    let mut request = Request { method: "GET".to_owned(), ..Request::default() };
    caller(&mut request, model, worlds);
    for (variable, value) in &model.values {
        match (variable, value) {
            (Variable::Address, Value::Address(address)) => request.address = Some(*address),
            (Variable::Dpop, Value::Flag(true)) => request.proofs.dpop = true,
            (Variable::Mtls, Value::Flag(true)) => request.proofs.mtls = true,
            (Variable::Host, Value::Text(host)) => request.host = host.to_string(),
            (Variable::Incident, Value::Number(level)) => {
                request.incident = u8::try_from(*level).unwrap_or_default();
            }
            (Variable::Method, Value::Text(method)) => request.method = method.to_string(),
            (Variable::Moment, Value::Moment(moment)) => request.at = Some(*moment),
            (Variable::Text(attribute), Value::Text(text)) => take(&mut request, attribute, text),
            (Variable::Text(Attribute::Header(name)), Value::Foreign) => {
                // Two of a kind are there and cannot be read.
                let twice = ["one", "two"].map(|text| (name.to_string(), text.to_owned()));
                request.headers.extend(twice);
            }
            (_, _) => {}
        }
    }
    request.claims = claims(model);
    target(&mut request, model, place);
    request
}

/// Who asks, by what, and with which roles.
fn caller(request: &mut Request, model: &Model, worlds: &[World<'_>]) {
    let kind = model.get(&Variable::Caller);
    let spiffe = match model.get(&Variable::Text(Attribute::Spiffe)) {
        Some(Value::Text(id)) => Some(id.to_string()),
        Some(_) | None => None,
    };
    let granted = |variable: &Variable| model.get(variable) == Some(&Value::Flag(true));
    if kind == Some(&Value::Key) {
        request.proofs.key = true;
        for role in worlds.iter().flat_map(|world| world.roles.iter()) {
            if granted(&Variable::Granted(role.clone())) {
                add(&mut request.who, role.to_string());
            }
        }
    } else if kind == Some(&Value::Certificate) {
        request.proofs.certificate = true;
        request.who.extend(spiffe);
        return;
    } else if let Some(Value::Token(name)) = kind {
        request.proofs.token = true;
        request.issuer = Some(name.to_string());
        // Where no condition reads what gives the roles, the roles themselves say it shorter.
        for world in worlds {
            for role in world.roles.iter() {
                let has = world.roles.grants(role).iter().any(|grant| match grant {
                    Grant::Issuer { issuer, value } if issuer == name => {
                        granted(&Variable::RoleValue(Arc::clone(value)))
                            || (!model.reads_scopes && granted(&Variable::Scope(Arc::clone(value))))
                    }
                    Grant::Issuer { .. } | Grant::Key | Grant::Spiffe(_) => false,
                });
                if has {
                    add(&mut request.who, role.to_string());
                }
            }
        }
    }
    request.spiffe = spiffe;
    if model.reads_scopes {
        request.scopes = model
            .values
            .iter()
            .filter_map(|(variable, value)| match (variable, value) {
                (Variable::Scope(scope), Value::Flag(true)) => Some(scope.to_string()),
                (_, _) => None,
            })
            .collect();
    }
}

fn add(list: &mut Vec<String>, text: String) {
    if !list.contains(&text) {
        list.push(text);
    }
}

/// A text that has its own place in a request.
fn take(request: &mut Request, attribute: &Attribute, text: &str) {
    let text = text.to_owned();
    match attribute {
        Attribute::Principal if !request.who.contains(&text) => request.who.push(text),
        Attribute::Application => request.application = Some(text),
        Attribute::Owner => request.owner = Some(text),
        Attribute::Region => request.region = Some(text),
        Attribute::Header(name) => request.headers.push((name.to_string(), text)),
        Attribute::Query(name) => {
            let pair = format!("{}={}", escaped(name), escaped(&text));
            request.query = Some(match request.query.take() {
                Some(query) => format!("{query}&{pair}"),
                None => pair,
            });
        }
        Attribute::Principal
        | Attribute::Kind
        | Attribute::Issuer
        | Attribute::Spiffe
        | Attribute::Method
        | Attribute::Host
        | Attribute::Path
        | Attribute::Param(_)
        | Attribute::Claim(_) => {}
    }
}

/// What the token says.
fn claims(model: &Model) -> Vec<(Vec<String>, Claim)> {
    let mut claims: BTreeMap<&ClaimPath, Claim> = BTreeMap::new();
    for (variable, value) in &model.values {
        let Variable::Claim(path) = variable else { continue };
        let claim = match value {
            Value::Flag(flag) => Claim::Flag(*flag),
            Value::Foreign => Claim::Other,
            Value::List | Value::Numbers => Claim::List(elements(model, path).into()),
            Value::Number(number) => Claim::Number(*number),
            Value::Text(text) => Claim::Text(Arc::clone(text)),
            Value::Absent
            | Value::Address(_)
            | Value::Anonymous
            | Value::Certificate
            | Value::Key
            | Value::Moment(_)
            | Value::Token(_) => continue,
        };
        claims.insert(path, claim);
    }
    let names = |path: &ClaimPath| path.names().iter().map(ToString::to_string).collect();
    claims.into_iter().map(|(path, claim)| (names(path), claim)).collect()
}

fn elements(model: &Model, of: &ClaimPath) -> Vec<Claim> {
    let held = model.values.iter().filter(|(_, value)| *value == Value::Flag(true));
    held.filter_map(|(variable, _)| match (variable, of) {
        (Variable::Element(path, text), of) if path == of => Some(Claim::Text(Arc::clone(text))),
        (Variable::NumberElement(path, number), of) if path == of => Some(Claim::Number(*number)),
        (_, _) => None,
    })
    .collect()
}

/// Host and path, as the pattern takes them.
fn target(request: &mut Request, model: &Model, place: &Place) {
    if let Some(host) = place.pattern.host() {
        request.host = host.to_owned();
    } else if request.host.is_empty() {
        request.host = "host.example".to_owned();
    }
    let mut path = String::new();
    for (n, segment) in place.pattern.segments().iter().enumerate() {
        let text = match (segment, model.get(&Variable::Segment(n))) {
            (Segment::Literal(text), _) => text.clone(),
            (Segment::One(_) | Segment::Rest, Some(Value::Text(text))) => encoded(text),
            (Segment::One(_) | Segment::Rest, _) => "7".to_owned(),
        };
        if *segment != Segment::Rest || !text.is_empty() {
            path.push('/');
            path.push_str(&text);
        }
    }
    if path.is_empty() || place.pattern.has_slash() {
        path.push('/');
    }
    request.path = path;
}

/// As part of a query.
fn escaped(text: &str) -> String {
    let mut query = String::with_capacity(text.len());
    for byte in text.bytes() {
        let plain = byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~');
        if plain { query.push(byte.into()) } else { query.push_str(&format!("%{byte:02X}")) }
    }
    query
}
