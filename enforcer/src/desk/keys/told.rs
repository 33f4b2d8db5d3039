//! Keys in an operator's words, and what is wrong with them.

use enforcer_admin::call::{Key, KeySecret};
use enforcer_admin::{Refusal, RefusalKind};
use enforcer_authn::{KeyPlan, KeyRecord, KeyState, NewKey, SecretRecord, StoreError};
use enforcer_model::{Role, Timestamp};
use enforcer_policy::Policy;

use super::{limit_names, role_names, route_names};

/// A name that the policy does not know.
pub(super) struct UnknownName {
    pub(super) what: String,
    pub(super) hint: String,
}

/// Every role, route and limit of `new` that the policy does not know.
pub(super) fn unknown_names(policy: &Policy, new: &NewKey) -> Vec<UnknownName> {
    let roles: Vec<_> = new.roles.iter().map(Role::as_str).collect();
    let kinds = [
        ("role", roles, role_names(policy)),
        ("route", new.routes.iter().map(String::as_str).collect(), route_names(policy)),
        ("limit", new.limits.iter().map(String::as_str).collect(), limit_names(policy)),
    ];
    let unknown = |(kind, names, known): (&str, Vec<&str>, Vec<&str>)| {
        let names: Vec<_> = names.into_iter().filter(|name| !known.contains(name)).collect();
        let told = names.into_iter().map(|name| UnknownName {
            what: format!("the policy in force knows no {kind} `{name}`"),
            hint: meant(name, &known),
        });
        told.collect::<Vec<_>>()
    };
    kinds.into_iter().flat_map(unknown).collect()
}

/// The name that comes near, and all there are.
fn meant(name: &str, known: &[&str]) -> String {
    const TOLD: usize = 20;
    let lower = name.to_ascii_lowercase();
    let distance = |known: &str| strsim::damerau_levenshtein(&lower, &known.to_ascii_lowercase());
    let near = known.iter().min_by_key(|known| distance(known));
    let near = near.filter(|known| distance(known) <= 1 + name.len() / 4);
    let all = match known {
        [] => "it knows none".to_owned(),
        _ => {
            let some: Vec<_> = known.iter().take(TOLD).copied().collect();
            let more = if known.len() > TOLD { ", …" } else { "" };
            format!("it knows: {}{more}", some.join(", "))
        }
    };
    match near {
        Some(near) => format!("did you mean `{near}`? {all}"),
        None => all,
    }
}

/// The key as an operator sees it.
pub(super) fn key(record: &KeyRecord, policy: &Policy, plan: &KeyPlan, now: Timestamp) -> Key {
    let roles = role_names(policy);
    let unknown = |names: &[String], known: Vec<&str>| -> Vec<String> {
        names.iter().filter(|name| !known.contains(&name.as_str())).cloned().collect()
    };
    let state = record.state(now);
    let is_alive = matches!(state, KeyState::Active | KeyState::NotYetValid);
    Key {
        id: record.id,
        name: record.name.clone(),
        owner: record.owner.clone(),
        application: record.application.clone(),
        environment: record.environment.to_string(),
        unknown_roles: record
            .roles
            .iter()
            .filter(|role| !roles.contains(&role.as_str()))
            .cloned()
            .collect(),
        roles: record.roles.clone(),
        scopes: record.scopes.clone(),
        unknown_routes: unknown(&record.routes, route_names(policy)),
        routes: record.routes.clone(),
        networks: record.networks.clone(),
        certificate: record.certificate,
        unknown_limits: unknown(&record.limits, limit_names(policy)),
        limits: record.limits.clone(),
        notes: record.notes.clone(),
        state: match state {
            KeyState::Active => "active",
            KeyState::Expired => "expired",
            KeyState::NotYetValid => "not yet valid",
            KeyState::Revoked => "revoked",
        }
        .to_owned(),
        created: record.created,
        not_before: record.not_before,
        expires: record.expires,
        revoked: record.revoked.as_ref().map(|revocation| revocation.at),
        revoked_because: record.revoked.as_ref().map(|revocation| revocation.reason.clone()),
        secrets: record.secrets.iter().map(|known| secret(known, now)).collect(),
        rotation_due: record.rotation_due(plan.every, now).filter(|_| is_alive),
        audit: None,
    }
}

fn secret(secret: &SecretRecord, now: Timestamp) -> KeySecret {
    let state = match secret.ends {
        None => "current",
        Some(end) if now < end => "retiring",
        Some(_) => "ended",
    };
    KeySecret {
        number: secret.number,
        state: state.to_owned(),
        form: secret.form.as_str().to_owned(),
        created: secret.created,
        ends: secret.ends,
        last_used: secret.used.map(|last| last.at),
        last_address: secret.used.map(|last| last.from),
    }
}

pub(super) fn key_refusal(error: &StoreError) -> Refusal {
    let kind = match error {
        StoreError::NoSuchKey(_) | StoreError::NothingToFinish { .. } => RefusalKind::NotFound,
        StoreError::RotationUnderWay { .. } => RefusalKind::Guarded,
        StoreError::Ended { .. } | StoreError::New(_) | StoreError::NameTaken(_) => {
            RefusalKind::Usage
        }
        StoreError::Damaged { .. }
        | StoreError::DiskFull { .. }
        | StoreError::Foreign { .. }
        | StoreError::Full { .. }
        | StoreError::InUse { .. }
        | StoreError::Newer { .. }
        | StoreError::NoWal { .. }
        | StoreError::Random
        | StoreError::File(_)
        | StoreError::RevokedInMemoryOnly { .. }
        | StoreError::Sqlite { .. }
        | StoreError::WrongPepper { .. } => RefusalKind::Failed,
    };
    let refusal = Refusal::new(kind, crate::cli::chain(error));
    if let StoreError::RotationUnderWay { id, .. } = error {
        return refusal.hint(format!("`enforcer keys show {id}` tells who still uses the old one"));
    }
    refusal
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_that_comes_near_is_told_before_all_there_are() {
        assert_eq!(
            meant("raeder", &["reader", "writer"]),
            "did you mean `reader`? it knows: reader, writer"
        );
        assert_eq!(meant("emperor", &["reader"]), "it knows: reader");
        assert_eq!(meant("x", &[]), "it knows none");
    }
}
