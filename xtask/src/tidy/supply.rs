//! Rules about other people's code: which licences are accepted, which crates stay out, and which
//! have one home in the house.
//!
//! `deny.toml` is the one place where they are written; cargo-deny reads it too. They are checked
//! here as well, because not every machine has cargo-deny.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use anyhow::{Context, Result};
use serde_json::Value as Json;
use toml::{Table, Value};
use xshell::cmd;

use super::{Finding, licence};
use crate::workshop::Workshop;

const RULES: &str = "deny.toml";

/// What `deny.toml` says, as far as it is checked here.
struct Rules {
    licences: Vec<String>,
    /// Licences accepted for one crate only.
    exceptions: BTreeMap<String, Vec<String>>,
    /// Crate to the crates that may use it directly; none at all when empty.
    bans: BTreeMap<String, BTreeSet<String>>,
}

/// A package of the resolved graph.
struct Package {
    name: String,
    version: String,
    licence: Option<String>,
    /// Names of the packages that it uses directly.
    uses: BTreeSet<String>,
}

/// Everything in the graph of dependencies that breaks `deny.toml`.
pub(super) fn findings(workshop: &Workshop) -> Result<Vec<Finding>> {
    let text = workshop.shell.read_file(RULES).context("reading deny.toml")?;
    let rules = Rules::read(&text)?;
    let metadata = cmd!(
        workshop.shell,
        "cargo metadata --format-version 1 --locked --filter-platform x86_64-unknown-linux-gnu"
    )
    .quiet()
    .read()
    .context("cargo metadata")?;
    let packages = packages(&serde_json::from_str(&metadata)?)?;
    Ok(judge(&rules, &packages))
}

fn judge(rules: &Rules, packages: &[Package]) -> Vec<Finding> {
    let mut findings = Vec::new();
    for package in packages {
        if !rules.accept(package) {
            findings.push(Finding::new(
                Path::new(RULES),
                None,
                format!(
                    "{} {} is licensed as `{}`",
                    package.name,
                    package.version,
                    package.licence.as_deref().unwrap_or("nothing")
                ),
                "do without it, or accept the licence in deny.toml with a reason",
            ));
        }
        for used in &package.uses {
            let Some(homes) = rules.bans.get(used) else { continue };
            if !homes.contains(&package.name) {
                findings.push(Finding::new(
                    Path::new(RULES),
                    None,
                    format!("`{}` uses `{used}`, which deny.toml bans there", package.name),
                    "use what the house already has for it",
                ));
            }
        }
    }
    findings
}

impl Rules {
    fn read(text: &str) -> Result<Self> {
        let table: Table = text.parse().context("deny.toml")?;
        let licenses = table.get("licenses").context("deny.toml has no [licenses]")?;
        let bans = table.get("bans").context("deny.toml has no [bans]")?;
        Ok(Self {
            licences: words(licenses.get("allow")),
            exceptions: tables(licenses.get("exceptions"))
                .filter_map(|entry| Some((crate_name(entry)?, words(entry.get("allow")))))
                .collect(),
            bans: tables(bans.get("deny"))
                .filter_map(|entry| {
                    let homes = words(entry.get("wrappers")).into_iter().collect();
                    Some((crate_name(entry)?, homes))
                })
                .collect(),
        })
    }

    fn accept(&self, package: &Package) -> bool {
        let Some(expression) = package.licence.as_deref() else { return false };
        let mut accepted = self.licences.clone();
        accepted.extend(self.exceptions.get(&package.name).into_iter().flatten().cloned());
        licence::is_met(expression, &accepted)
    }
}

fn words(value: Option<&Value>) -> Vec<String> {
    let entries = value.and_then(Value::as_array).into_iter().flatten();
    entries.filter_map(Value::as_str).map(str::to_owned).collect()
}

fn tables(value: Option<&Value>) -> impl Iterator<Item = &Table> {
    value.and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_table)
}

fn crate_name(entry: &Table) -> Option<String> {
    entry.get("crate").and_then(Value::as_str).map(str::to_owned)
}

fn packages(metadata: &Json) -> Result<Vec<Package>> {
    let list = metadata.get("packages").and_then(Json::as_array).context("no packages")?;
    let names: BTreeMap<&str, &str> = list
        .iter()
        .filter_map(|package| Some((text(package, "id")?, text(package, "name")?)))
        .collect();
    let nodes = metadata
        .get("resolve")
        .and_then(|resolve| resolve.get("nodes"))
        .and_then(Json::as_array)
        .context("no resolved graph")?;
    let mut uses: BTreeMap<&str, BTreeSet<String>> = BTreeMap::new();
    for node in nodes {
        let direct = node.get("dependencies").and_then(Json::as_array).into_iter().flatten();
        let direct = direct.filter_map(Json::as_str).filter_map(|id| names.get(id));
        uses.insert(
            text(node, "id").context("a node without an id")?,
            direct.map(|name| (*name).to_owned()).collect(),
        );
    }
    // The list also has packages of other platforms; only those in the graph are used.
    Ok(list
        .iter()
        .filter_map(|package| {
            Some(Package {
                name: text(package, "name")?.to_owned(),
                version: text(package, "version")?.to_owned(),
                licence: text(package, "license").map(str::to_owned),
                uses: uses.remove(text(package, "id")?)?,
            })
        })
        .collect())
}

fn text<'a>(value: &'a Json, key: &str) -> Option<&'a str> {
    value.get(key).and_then(Json::as_str)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const TEXT: &str = "\
[licenses]
allow = [\"MIT\"]
exceptions = [{ crate = \"data\", allow = [\"Zlib\"] }]
[bans]
deny = [{ crate = \"secret\", wrappers = [\"home\"] }, { crate = \"gone\" }]
";

    #[test]
    fn licences_are_accepted_for_all_or_for_one_crate() {
        let rules = Rules::read(TEXT).unwrap();

        assert!(rules.accept(&package("any", Some("MIT"), &[])));
        assert!(rules.accept(&package("data", Some("Zlib"), &[])));
        assert!(!rules.accept(&package("any", Some("Zlib"), &[])));
        assert!(!rules.accept(&package("any", None, &[])));
    }

    #[test]
    fn a_banned_crate_is_found_outside_its_home() {
        let rules = Rules::read(TEXT).unwrap();

        let findings = judge(
            &rules,
            &[
                package("home", Some("MIT"), &["secret"]),
                package("other", Some("MIT"), &["secret"]),
                package("third", Some("MIT"), &["gone"]),
            ],
        );

        let told: Vec<_> = findings.iter().map(|finding| finding.what.as_str()).collect();
        assert_eq!(
            told,
            [
                "`other` uses `secret`, which deny.toml bans there",
                "`third` uses `gone`, which deny.toml bans there",
            ]
        );
    }

    #[test]
    fn only_packages_of_the_resolved_graph_count() {
        let metadata = json!({
            "packages": [
                { "id": "1", "name": "a", "version": "1.0.0", "license": "MIT" },
                { "id": "2", "name": "b", "version": "1.0.0", "license": null },
                { "id": "3", "name": "windows", "version": "1.0.0", "license": "Odd" },
            ],
            "resolve": { "nodes": [
                { "id": "1", "dependencies": ["2"] },
                { "id": "2", "dependencies": [] },
            ] },
        });

        let packages = packages(&metadata).unwrap();

        let names: Vec<_> = packages.iter().map(|package| package.name.as_str()).collect();
        assert_eq!(names, ["a", "b"]);
        assert_eq!(packages[0].uses, BTreeSet::from(["b".to_owned()]));
        assert_eq!(packages[1].licence, None);
    }

    fn package(name: &str, licence: Option<&str>, uses: &[&str]) -> Package {
        Package {
            name: name.to_owned(),
            version: "1.0.0".to_owned(),
            licence: licence.map(str::to_owned),
            uses: uses.iter().map(|name| (*name).to_owned()).collect(),
        }
    }
}
