//! Rules about packages: who may use whom, and what every manifest inherits.
//!
//! The floors stand in the workspace's metadata, lowest first. A package uses floors below its
//! own; an edge to its own floor or up is a finding, for tests as well as for the program.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context, Result};
use toml::{Table, Value};

use super::{Finding, TextFile};

const INHERITED: &[&str] = &["edition", "license", "publish", "rust-version", "version"];
const SECTIONS: &[&str] = &["dependencies", "dev-dependencies", "build-dependencies"];

struct Manifest<'a> {
    file: &'a TextFile,
    table: Table,
    name: String,
}

/// Everything that the manifests break.
pub(super) fn findings(files: &[TextFile]) -> Result<Vec<Finding>> {
    let top = files.iter().find(|file| file.is_named("Cargo.toml")).context("no Cargo.toml")?;
    let floors = floors(&top.text)?;
    let manifests: Vec<Manifest<'_>> = files
        .iter()
        .filter(|file| file.path.ends_with("Cargo.toml") && !file.is_named("Cargo.toml"))
        .map(Manifest::read)
        .filter(|read| read.as_ref().map_or(true, |manifest| !manifest.stands_alone()))
        .collect::<Result<_>>()?;

    let mut findings = Vec::new();
    for manifest in &manifests {
        findings.extend(manifest.inherits());
        findings.extend(manifest.shares_versions());
        findings.extend(manifest.keeps_floors(&floors));
    }
    for name in floors.keys().filter(|name| !manifests.iter().any(|other| other.name == **name)) {
        findings.push(Finding::new(
            &top.path,
            None,
            format!("`{name}` has a floor and does not exist"),
            "take it out of [workspace.metadata.floors]",
        ));
    }
    Ok(findings)
}

/// The height of every package, 0 for the lowest floor. `toml` keeps tables sorted by name, so the
/// order is read from where each floor stands in the text.
fn floors(text: &str) -> Result<BTreeMap<String, usize>> {
    let table: Table = text.parse()?;
    let floors = table
        .get("workspace")
        .and_then(|workspace| workspace.get("metadata"))
        .and_then(|metadata| metadata.get("floors"))
        .and_then(Value::as_table)
        .context("Cargo.toml has no [workspace.metadata.floors]")?;
    let section = text.split_once("[workspace.metadata.floors]").map_or("", |(_, rest)| rest);
    let mut names: Vec<&String> = floors.keys().collect();
    names.sort_by_key(|name| section.find(&format!("\n{name} =")));
    let mut heights = BTreeMap::new();
    for (height, floor) in names.into_iter().enumerate() {
        let packages = floors.get(floor).and_then(Value::as_array).into_iter().flatten();
        for package in packages.filter_map(Value::as_str) {
            heights.insert(package.to_owned(), height);
        }
    }
    Ok(heights)
}

impl<'a> Manifest<'a> {
    fn read(file: &'a TextFile) -> Result<Self> {
        let table: Table = file.text.parse().with_context(|| file.path.display().to_string())?;
        let name = table
            .get("package")
            .and_then(|package| package.get("name"))
            .and_then(Value::as_str)
            .with_context(|| format!("{}: no package name", file.path.display()))?
            .to_owned();
        Ok(Self { file, table, name })
    }

    /// Whether it is a workspace of its own: fuzz targets, and peers that are only measured.
    fn stands_alone(&self) -> bool {
        self.table.contains_key("workspace")
    }

    fn inherits(&self) -> Vec<Finding> {
        let mut findings = Vec::new();
        let package = self.table.get("package");
        for key in INHERITED {
            if !is_workspace(package.and_then(|package| package.get(key))) {
                findings.push(self.finding(
                    "package",
                    format!("`{key}` is not the workspace's"),
                    &format!("write `{key}.workspace = true` under [package]"),
                ));
            }
        }
        if !is_workspace(self.table.get("lints")) {
            findings.push(self.finding(
                "lints",
                "the lints are not the workspace's".to_owned(),
                "write `workspace = true` under [lints]",
            ));
        }
        findings
    }

    fn shares_versions(&self) -> Vec<Finding> {
        self.dependencies()
            .filter(|(_, value)| !is_workspace(Some(value)))
            .map(|(name, _)| {
                self.finding(
                    name,
                    format!("`{name}` has a version of its own"),
                    "put the version into [workspace.dependencies] and inherit it",
                )
            })
            .collect()
    }

    fn keeps_floors(&self, floors: &BTreeMap<String, usize>) -> Vec<Finding> {
        let Some(own) = floors.get(&self.name) else {
            return vec![self.finding(
                "package",
                format!("`{}` stands on no floor", self.name),
                "add it to [workspace.metadata.floors] in the top Cargo.toml",
            )];
        };
        self.dependencies()
            .filter_map(|(name, _)| floors.get(name).map(|height| (name, height)))
            .filter(|(name, height)| *height >= own && *name != self.name)
            .map(|(name, _)| {
                self.finding(
                    name,
                    format!("`{}` may not use `{name}`: it is not on a floor below", self.name),
                    "let the program wire the two, or move the shared word to enforcer-model",
                )
            })
            .collect()
    }

    /// Every dependency of every kind, those of single targets included.
    fn dependencies(&self) -> impl Iterator<Item = (&str, &Value)> {
        let targets = self.table.get("target").and_then(Value::as_table).into_iter().flatten();
        let tables = targets.filter_map(|(_, target)| target.as_table());
        std::iter::once(&self.table)
            .chain(tables)
            .flat_map(|table| SECTIONS.iter().filter_map(|section| table.get(*section)))
            .filter_map(Value::as_table)
            .flat_map(|section| section.iter().map(|(name, value)| (name.as_str(), value)))
    }

    fn finding(&self, word: &str, what: String, remedy: &str) -> Finding {
        let path: &Path = &self.file.path;
        let line = self
            .file
            .lines()
            .find(|(_, line)| line.trim_start_matches('[').starts_with(word))
            .map(|(number, _)| number);
        Finding::new(path, line, what, remedy)
    }
}

fn is_workspace(value: Option<&Value>) -> bool {
    value.and_then(|value| value.get("workspace")).and_then(Value::as_bool) == Some(true)
}

#[cfg(test)]
mod tests {
    use super::super::file;
    use super::*;

    const TOP: &str = "\
[workspace.metadata.floors]
words = [\"low\"]
organs = [\"left\", \"right\"]
program = [\"high\"]
";

    const PACKAGE: &str = "\
version.workspace = true
edition.workspace = true
rust-version.workspace = true
license.workspace = true
publish.workspace = true
[lints]
workspace = true
";

    #[test]
    fn an_edge_down_is_fine_and_edges_sideways_and_up_are_found() {
        let tree = house("low.workspace = true", "left.workspace = true", "left.workspace = true");

        let findings = findings(&tree).unwrap();

        assert_eq!(findings.len(), 1, "{findings:?}");
        assert_eq!(findings[0].file, Path::new("right/Cargo.toml"));
        assert!(findings[0].what.contains("`right` may not use `left`"));
    }

    #[test]
    fn a_dependency_for_tests_or_one_target_may_not_go_up_either() {
        let tree = house(
            "[dev-dependencies]\nhigh.workspace = true",
            "[target.'cfg(unix)'.dependencies]\nhigh.workspace = true",
            "",
        );

        let findings = findings(&tree).unwrap();

        assert_eq!(findings.len(), 2, "{findings:?}");
    }

    #[test]
    fn a_package_without_floor_lints_or_shared_versions_is_found() {
        let mut tree = house("", "", "");
        tree.push(file(
            "odd/Cargo.toml",
            "[package]\nname = \"odd\"\n[dependencies]\nserde = \"1\"\n",
        ));

        let findings = findings(&tree).unwrap();

        let told: Vec<_> = findings.iter().map(|finding| finding.what.as_str()).collect();
        assert!(told.contains(&"`odd` stands on no floor"), "{told:?}");
        assert!(told.contains(&"the lints are not the workspace's"), "{told:?}");
        assert!(told.contains(&"`serde` has a version of its own"), "{told:?}");
        assert!(told.contains(&"`edition` is not the workspace's"), "{told:?}");
        assert_eq!(findings.len(), 8, "{told:?}");
    }

    #[test]
    fn a_floor_for_a_package_that_is_gone_is_found() {
        let mut tree = house("", "", "");
        tree.pop();

        let findings = findings(&tree).unwrap();

        assert_eq!(findings.len(), 1);
        assert_eq!(findings[0].what, "`high` has a floor and does not exist");
    }

    fn house(left: &str, right: &str, high: &str) -> Vec<TextFile> {
        let mut tree = vec![file("Cargo.toml", TOP)];
        for (name, dependencies) in [("low", ""), ("left", left), ("right", right), ("high", high)]
        {
            tree.push(file(
                &format!("{name}/Cargo.toml"),
                &format!("[package]\nname = \"{name}\"\n{PACKAGE}[dependencies]\n{dependencies}\n"),
            ));
        }
        tree
    }
}
