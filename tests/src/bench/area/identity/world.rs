//! A policy as an operator of 200 routes might write it: what routing, checking and the stages are
//! measured with.

use std::fmt::Write;
use std::path::Path;

use anyhow::{Result, anyhow};
use enforcer_policy::Policy;

use crate::oracle::{Effect, NETWORKS, Rule, World};

pub(super) const ROLES: usize = 50;
pub(super) const ROUTES: usize = 200;
pub(super) const HOST: &str = "api.example.com";

/// The policy in which route N is for role N modulo [`ROLES`], with conditions at every route and
/// three limits for every caller.
pub(super) fn ordinary() -> Result<String> {
    let mut text = head();
    text.push_str(
        "[limit]\n\
         per_ip = { by = 'ip', rate = '1000000/s', burst = 1000000 }\n\
         per_key = { by = 'key', rate = '1000000/s', burst = 1000000 }\n\
         per_app = { by = 'application', rate = '4000000/s', burst = 4000000 }\n\
         [role]\n",
    );
    for n in 0..ROLES {
        let from = format!("['key', 'issuer:corp/role{n:02}']");
        // Chains of five: each role includes the one before.
        let includes = match n % 5 {
            0 => String::new(),
            _ => format!(", includes = ['role{:02}']", n - 1),
        };
        writeln!(text, "role{n:02} = {{ from = {from}{includes} }}")?;
    }
    for n in 0..ROUTES {
        let role = n % ROLES;
        write!(
            text,
            "[[route]]\nname = 'r{n}'\nmatch = '{}'\nupstream = 'service'\n\
             limits = ['per_ip', 'per_key', 'per_app']\n\
             [[route.allow]]\nmethod = ['GET', 'HEAD']\nrole = 'role{role:02}'\n\
             when = 'ip in net.office || (mtls && ip in net.mesh) || time.work'\n\
             [[route.allow]]\nmethod = ['POST', 'PATCH', 'DELETE']\nrole = 'role{role:02}'\n\
             when = 'ip in net.office && has(claims.tenant) && claims.tenant == param.tenant'\n\
             [[route.deny]]\nname = 'freeze'\nmethod = ['POST', 'PATCH', 'DELETE']\n\
             when = 'incident >= {} && !(\"role{:02}\" in roles)'\n",
            pattern(n),
            1 + n % 4,
            (role + 1) % ROLES,
        )?;
    }
    Ok(text)
}

/// A policy with the rules of `world`, whatever they make of each other.
pub(super) fn drawn(world: &World) -> Result<String> {
    let mut text = head();
    text.push_str("[region]\ndatabase = 'regions.mmdb'\n[role]\n");
    for (name, includes) in &world.roles {
        let includes: Vec<String> = includes.iter().map(|name| format!("'{name}'")).collect();
        write!(text, "{name} = {{ from = ['key', 'issuer:corp/{name}']")?;
        if !includes.is_empty() {
            write!(text, ", includes = [{}]", includes.join(", "))?;
        }
        writeln!(text, " }}")?;
    }
    for (n, rules) in world.routes.iter().enumerate() {
        write!(
            text,
            "[[route]]\nname = 'r{n}'\nmatch = '{HOST}/v1/service{n}/{{id}}/{{**}}'\n\
             upstream = 'service'\n"
        )?;
        if rules.iter().all(|rule| rule.effect == Effect::Deny) {
            writeln!(text, "public = true")?;
        }
        rules.iter().try_for_each(|rule| written(&mut text, rule))?;
    }
    Ok(text)
}

fn written(text: &mut String, rule: &Rule) -> Result<()> {
    let effect = match rule.effect {
        Effect::Allow => "allow",
        Effect::Deny => "deny",
    };
    let methods = if rule.methods.is_empty() { &["GET"][..] } else { &rule.methods };
    writeln!(text, "[[route.{effect}]]\nmethod = {methods:?}")?;
    if let Some(role) = &rule.role {
        writeln!(text, "role = '{role}'")?;
    }
    match (&rule.when, &rule.role, rule.effect) {
        (Some(when), _, _) => writeln!(text, "when = '{}'", when.ours())?,
        (None, None, Effect::Allow) => writeln!(text, "when = '!anonymous'")?,
        (None, _, _) => {}
    }
    Ok(())
}

fn head() -> String {
    let mut text = String::from(
        "version = 1\n\
         [listen.local]\naddress = '127.0.0.1:8080'\n\
         [issuer.corp]\nurl = 'https://idp.example.com'\n\
         audience = ['https://api.example.com']\nalgs = ['ES256']\n\
         [time]\nwork = { days = 'mon-fri', hours = '08:00-18:00', zone = 'Europe/Berlin' }\n\
         [upstream.service]\nhosts = ['127.0.0.1:9000']\n[net]\n",
    );
    for (name, prefixes) in NETWORKS {
        text.push_str(&format!("{name} = {prefixes:?}\n"));
    }
    text
}

/// Each fourth route of another form.
fn pattern(n: usize) -> String {
    match n % 4 {
        0 => format!("{HOST}/v1/{{tenant}}/service{n}/{{**}}"),
        1 => format!("{HOST}/v1/{{tenant}}/service{n}/items/{{id}}"),
        2 => format!("{HOST}/v2/{{tenant}}/service{n}"),
        _ => format!("{HOST}/v2/{{tenant}}/service{n}/reports/{{year}}/{{**}}"),
    }
}

/// A path of route `n` that differs with `salt`.
pub(super) fn path(n: usize, salt: usize) -> String {
    let tenant = ["acme", "bolt", "core-eu", "a-longer-name"][salt % 4];
    match n % 4 {
        0 => format!("/v1/{tenant}/service{n}/orders/{salt}/lines"),
        1 => format!("/v1/{tenant}/service{n}/items/{salt}"),
        2 => format!("/v2/{tenant}/service{n}"),
        _ => format!("/v2/{tenant}/service{n}/reports/2026/11/{salt}"),
    }
}

pub(super) fn read(text: &str) -> Result<Policy> {
    Policy::parse(text, Path::new("bench.toml")).map_err(|problems| anyhow!("{problems}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::oracle::Random;

    #[test]
    fn every_path_leads_to_its_route_and_no_rule_is_in_vain() {
        let policy = read(&ordinary().unwrap()).unwrap();

        for n in 0..ROUTES {
            for salt in 0..8 {
                let path = path(n, salt);
                assert_eq!(&*policy.route_for(HOST, &path).unwrap().route.name, format!("r{n}"));
            }
        }
        assert_eq!(policy.routes().len(), ROUTES);
        let warned: Vec<&str> = policy.warnings().iter().map(|found| &*found.message).collect();
        assert_eq!(warned, ["no condition uses net `lab`"]);
    }

    #[test]
    fn any_world_is_a_policy() {
        let world = World::random(&mut Random::new(9), ROLES, 20, 5);

        assert_eq!(read(&drawn(&world).unwrap()).unwrap().routes().len(), 20);
    }
}
