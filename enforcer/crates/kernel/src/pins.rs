//! The folder that keeps maps and links alive: what is in it and what the files are called.
//!
//! `<pins>/v<ABI>/` holds the program, one file for each map and one for each link,
//! `link-<interface>`. Two layouts never share a folder. The bpf file system refuses dots in names,
//! so a dot in the name of an interface is written as `%2e`; what is about to take the place of
//! another is `<name>-next`. Folders beside ours that no version of ours made are not touched.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use enforcer_ebpf::{ABI, PROGRAM};

use crate::system::{Reached, reach};

const LINK: &str = "link-";
const NEXT: &str = "-next";

/// The folder of this version's layout.
#[derive(Clone, Debug)]
pub(crate) struct Pins {
    reached: Reached,
    folder: PathBuf,
    /// Maps whose successor waits until every link uses it.
    replaced: Vec<&'static str>,
}

/// One file of a layout.
pub(crate) struct Pin {
    pub(crate) path: PathBuf,
    /// Whose link it is, if it is one.
    pub(crate) interface: Option<String>,
}

impl Pins {
    pub(crate) fn new(top: &Path) -> Self {
        let reached = reach(top);
        let folder = reached.top.join(format!("v{ABI}"));
        Self { reached, folder, replaced: Vec::new() }
    }

    pub(crate) fn top(&self) -> &Path {
        &self.reached.top
    }

    pub(crate) fn folder(&self) -> &Path {
        &self.folder
    }

    /// Where a map is that the new program works with.
    pub(crate) fn map(&self, name: &str) -> PathBuf {
        if self.replaced.contains(&name) { self.next_map(name) } else { self.settled_map(name) }
    }

    /// Where a map is that the last agent worked with.
    pub(crate) fn settled_map(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    fn next_map(&self, name: &str) -> PathBuf {
        self.folder.join(format!("{name}{NEXT}"))
    }

    /// From now on the map is a new one, which waits beside the old one.
    pub(crate) fn replace(&mut self, name: &'static str) {
        self.replaced.push(name);
    }

    pub(crate) fn replaced(&self) -> &[&'static str] {
        &self.replaced
    }

    /// The new maps take the names of the old ones, each in one step.
    pub(crate) fn settle(&mut self) -> io::Result<()> {
        while let Some(name) = self.replaced.last() {
            fs::rename(self.next_map(name), self.settled_map(name))?;
            self.replaced.pop();
        }
        Ok(())
    }

    pub(crate) fn program(&self) -> PathBuf {
        self.folder.join(PROGRAM)
    }

    pub(crate) fn next_program(&self) -> PathBuf {
        self.folder.join(format!("{PROGRAM}{NEXT}"))
    }

    pub(crate) fn link(&self, interface: &str) -> PathBuf {
        let name = interface.replace('%', "%25").replace('.', "%2e");
        self.folder.join(format!("{LINK}{name}"))
    }

    /// Interfaces that have a pinned link, in order of name.
    pub(crate) fn interfaces(&self) -> io::Result<Vec<String>> {
        let mut interfaces: Vec<String> =
            list(&self.folder)?.iter().filter_map(|name| interface_of(name)).collect();
        interfaces.sort_unstable();
        Ok(interfaces)
    }

    /// A folder of another layout beside ours.
    pub(crate) fn other_layout(&self) -> io::Result<Option<PathBuf>> {
        Ok(self.layouts()?.into_iter().find(|folder| *folder != self.folder))
    }

    /// The folders of all layouts, ours included.
    fn layouts(&self) -> io::Result<Vec<PathBuf>> {
        let is_layout = |name: &String| {
            name.strip_prefix('v').is_some_and(|number| number.parse::<u32>().is_ok())
        };
        let names = list(self.top())?.into_iter().filter(is_layout);
        Ok(names.map(|name| self.top().join(name)).collect())
    }

    /// The pins of every layout: links before anything that they need.
    pub(crate) fn all(&self) -> io::Result<Vec<(PathBuf, Vec<Pin>)>> {
        let layouts = self.layouts()?.into_iter();
        layouts
            .map(|folder| {
                let mut pins: Vec<Pin> = list(&folder)?
                    .into_iter()
                    .map(|name| Pin { path: folder.join(&name), interface: interface_of(&name) })
                    .collect();
                pins.sort_by_key(|pin| pin.interface.is_none());
                Ok((folder, pins))
            })
            .collect()
    }

    /// Removes maps that an agent left half way to taking the place of others.
    pub(crate) fn remove_unfinished(&self) -> io::Result<()> {
        list(&self.folder)?
            .iter()
            .filter(|name| name.ends_with(NEXT))
            .try_for_each(|name| fs::remove_file(self.folder.join(name)))
    }
}

fn interface_of(name: &str) -> Option<String> {
    let name = name.strip_prefix(LINK)?;
    Some(name.replace("%2e", ".").replace("%25", "%"))
}

/// Names in a folder; none when there is no folder.
pub(crate) fn list(folder: &Path) -> io::Result<Vec<String>> {
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    entries.map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dot_in_the_name_of_an_interface_survives_a_file_system_without_dots() {
        let top = tempfile::tempdir().unwrap();
        let pins = Pins::new(top.path());
        fs::create_dir(pins.folder()).unwrap();

        for interface in ["eth0.100", "we%ird", "%2e"] {
            fs::write(pins.link(interface), "").unwrap();
        }

        assert!(list(pins.folder()).unwrap().iter().all(|name| !name.contains('.')));
        assert_eq!(pins.interfaces().unwrap(), ["%2e", "eth0.100", "we%ird"]);
    }

    #[test]
    fn only_half_finished_maps_are_cleared_away() {
        let top = tempfile::tempdir().unwrap();
        let pins = Pins::new(top.path());
        fs::create_dir(pins.folder()).unwrap();
        for file in [pins.map("BLOCK4"), pins.next_map("BLOCK4"), pins.link("eth0")] {
            fs::write(file, "").unwrap();
        }

        pins.remove_unfinished().unwrap();

        let mut left = list(pins.folder()).unwrap();
        left.sort_unstable();
        assert_eq!(left, ["BLOCK4", "link-eth0"]);
    }

    #[test]
    fn a_new_map_waits_beside_the_old_one_until_it_takes_the_name() {
        let top = tempfile::tempdir().unwrap();
        let mut pins = Pins::new(top.path());
        fs::create_dir(pins.folder()).unwrap();
        fs::write(pins.map("BLOCK4"), "old").unwrap();

        pins.replace("BLOCK4");
        fs::write(pins.map("BLOCK4"), "new").unwrap();
        assert_eq!(fs::read_to_string(pins.settled_map("BLOCK4")).unwrap(), "old");
        pins.settle().unwrap();

        assert_eq!(list(pins.folder()).unwrap(), ["BLOCK4"]);
        assert_eq!(fs::read_to_string(pins.map("BLOCK4")).unwrap(), "new");
    }

    #[test]
    fn another_layout_is_noticed() {
        let top = tempfile::tempdir().unwrap();
        let pins = Pins::new(top.path());
        fs::create_dir(pins.folder()).unwrap();
        assert_eq!(pins.other_layout().unwrap(), None);

        fs::create_dir(top.path().join("v0")).unwrap();
        fs::create_dir(top.path().join("vendor")).unwrap();

        assert_eq!(pins.other_layout().unwrap(), Some(top.path().join("v0")));
    }
}
