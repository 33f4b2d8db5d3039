//! The folder that keeps maps and links alive: what is in it and what the files are called.
//!
//! `<pins>/v<ABI>/` holds the programs, one file for each map, and for each interface its links:
//! `link-<interface>` for XDP, `in-` and `out-` for traffic control. A filter of a queueing
//! discipline has no file; `qdisc-<interface>` says that the discipline is ours. Two layouts never
//! share a folder. The bpf file system refuses dots in names, so a dot in the name of an interface
//! is written as `%2e`; what is about to take the place of another is `<name>-next`. Folders beside
//! ours that no version of ours made are not touched.

use std::fs;
use std::io;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use enforcer_ebpf::{ABI, map, program};

use crate::bpf::{self, Kind, Place, Way};
use crate::error::AttachError;
use crate::system::{Reached, reach};

const LINK: &str = "link-";
const IN: &str = "in-";
const OUT: &str = "out-";
const QDISC: &str = "qdisc-";
const NEXT: &str = "-next";

/// The tables of blocks in force, which come and go while the program runs.
const TABLES: [&str; 2] = ["TABLE4", "TABLE6"];

/// The folder of this version's layout.
#[derive(Clone, Debug)]
pub(crate) struct Pins {
    reached: Reached,
    folder: PathBuf,
    /// Maps whose successor waits until every link uses it.
    replaced: Vec<&'static str>,
}

/// A pinned link.
#[derive(Clone, Debug)]
pub(crate) struct PinnedLink {
    pub(crate) path: PathBuf,
    /// The interface as it was called then.
    pub(crate) interface: String,
    pub(crate) link: bpf::Link,
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

    // === maps ===

    /// Where a map is that the new program works with.
    pub(crate) fn map(&self, name: &str) -> PathBuf {
        if self.replaced.contains(&name) { self.next(name) } else { self.folder.join(name) }
    }

    /// Where something waits to take the place of `name`.
    pub(crate) fn next(&self, name: &str) -> PathBuf {
        self.folder.join(format!("{name}{NEXT}"))
    }

    /// From now on the map is a new one, which waits beside the old one.
    pub(crate) fn replace(&mut self, name: &'static str) {
        self.replaced.push(name);
    }

    /// The new maps take the names of the old ones, each in one step.
    pub(crate) fn settle(&mut self) -> io::Result<()> {
        while let Some(name) = self.replaced.last() {
            fs::rename(self.next(name), self.folder.join(name))?;
            self.replaced.pop();
        }
        Ok(())
    }

    // === programs and links ===

    pub(crate) fn program(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    pub(crate) fn link(&self, interface: &str, place: Place) -> PathBuf {
        let kind = match place {
            Place::Tcx(Way::In) => IN,
            Place::Tcx(Way::Out) => OUT,
            Place::Xdp | Place::Other => LINK,
        };
        self.folder.join(format!("{kind}{}", encoded(interface)))
    }

    /// Every link of this layout, in order of interface.
    pub(crate) fn links(&self) -> io::Result<Vec<PinnedLink>> {
        links_in(&self.folder)
    }

    /// Where it is noted that we made the queueing discipline of an interface.
    pub(crate) fn qdisc(&self, interface: &str) -> PathBuf {
        self.folder.join(format!("{QDISC}{}", encoded(interface)))
    }

    /// Notes that the queueing discipline of the interface with this number is ours.
    pub(crate) fn note_qdisc(&self, interface: &str, index: u32) -> io::Result<()> {
        let path = self.qdisc(interface);
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            Ok(()) | Err(_) => symlink(index.to_string(), path),
        }
    }

    /// What our filters are called: by this name an agent finds them again.
    ///
    /// The same for every layout and for every way to the folder.
    pub(crate) fn filter(&self, program: &str) -> String {
        format!("{program} {}", self.reached.shown.display())
    }

    // === layouts ===

    /// The folders of all other layouts.
    pub(crate) fn other_layouts(&self) -> io::Result<Vec<PathBuf>> {
        Ok(self.layouts()?.into_iter().filter(|folder| *folder != self.folder).collect())
    }

    /// The folders of all layouts, ours included.
    pub(crate) fn layouts(&self) -> io::Result<Vec<PathBuf>> {
        let is_layout = |name: &String| {
            name.strip_prefix('v').is_some_and(|number| number.parse::<u32>().is_ok())
        };
        let names = list(self.top())?.into_iter().filter(is_layout);
        Ok(names.map(|name| self.top().join(name)).collect())
    }

    /// Everything in our folder is something that we put there.
    pub(crate) fn check(&self) -> Result<(), AttachError> {
        for name in list(&self.folder).map_err(|source| self.unusable(source))? {
            let path = self.folder.join(&name);
            let Some(expected) = expected(&name) else {
                return Err(AttachError::Foreign { path });
            };
            let Expected::Pinned(expected) = expected else { continue };
            let found = bpf::kind(&path);
            match found {
                Ok(found) if found == Some(expected) => {}
                Ok(_) => return Err(AttachError::Foreign { path }),
                Err(source) => return Err(AttachError::Pins { path, source }),
            }
        }
        Ok(())
    }

    fn unusable(&self, source: io::Error) -> AttachError {
        AttachError::Pins { path: self.folder.clone(), source }
    }

    /// Removes what an agent left half way to taking the place of something else.
    ///
    /// Not the tables of blocks: one that waits may be the one in force.
    pub(crate) fn remove_unfinished(&self) -> io::Result<()> {
        let unfinished =
            |name: &&String| name.strip_suffix(NEXT).is_some_and(|name| !TABLES.contains(&name));
        let names = list(&self.folder)?;
        names.iter().filter(unfinished).try_for_each(|name| fs::remove_file(self.folder.join(name)))
    }
}

enum Expected {
    Pinned(Kind),
    Note,
}

/// What a file of this name keeps; `None`: no file of ours is called so.
fn expected(name: &str) -> Option<Expected> {
    let kept = name.strip_suffix(NEXT).unwrap_or(name);
    if map::ALL.contains(&kept) || TABLES.contains(&kept) {
        return Some(Expected::Pinned(Kind::Map));
    }
    if program::ALL.contains(&kept) {
        return Some(Expected::Pinned(Kind::Program));
    }
    if name.starts_with(QDISC) {
        return Some(Expected::Note);
    }
    interface_of(name).map(|_| Expected::Pinned(Kind::Link))
}

/// Every link in a folder of any layout, in order of interface.
pub(crate) fn links_in(folder: &Path) -> io::Result<Vec<PinnedLink>> {
    let mut links = Vec::new();
    for name in list(folder)? {
        let path = folder.join(&name);
        if let (Some(interface), Ok(link)) = (interface_of(&name), bpf::link(&path)) {
            links.push(PinnedLink { path, interface, link });
        }
    }
    links.sort_by(|a, b| a.interface.cmp(&b.interface).then(a.path.cmp(&b.path)));
    Ok(links)
}

/// The names of the files that say whose queueing discipline an agent of this folder made.
pub(crate) fn notes_in(folder: &Path) -> io::Result<Vec<String>> {
    Ok(list(folder)?.into_iter().filter(|name| name.starts_with(QDISC)).collect())
}

/// The numbers of the interfaces that they name.
pub(crate) fn qdiscs_in(folder: &Path) -> io::Result<Vec<u32>> {
    let index = |name| fs::read_link(folder.join(name)).ok()?.to_str()?.parse().ok();
    Ok(notes_in(folder)?.into_iter().filter_map(index).collect())
}

fn encoded(interface: &str) -> String {
    interface.replace('%', "%25").replace('.', "%2e")
}

fn interface_of(name: &str) -> Option<String> {
    let name = [LINK, IN, OUT].iter().find_map(|kind| name.strip_prefix(kind))?;
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
            fs::write(pins.link(interface, Place::Xdp), "").unwrap();
        }

        let mut names = list(pins.folder()).unwrap();
        assert!(names.iter().all(|name| !name.contains('.')));
        names.sort_unstable();
        let interfaces: Vec<_> = names.iter().filter_map(|name| interface_of(name)).collect();
        assert_eq!(interfaces, ["%2e", "eth0.100", "we%ird"]);
    }

    #[test]
    fn what_is_half_finished_is_cleared_away_unless_it_may_be_in_force() {
        let top = tempfile::tempdir().unwrap();
        let pins = Pins::new(top.path());
        fs::create_dir(pins.folder()).unwrap();
        let link = pins.link("eth0", Place::Xdp);
        for file in [pins.map("SOURCE4"), pins.next("SOURCE4"), pins.next("TABLE4"), link] {
            fs::write(file, "").unwrap();
        }

        pins.remove_unfinished().unwrap();

        let mut left = list(pins.folder()).unwrap();
        left.sort_unstable();
        assert_eq!(left, ["SOURCE4", "TABLE4-next", "link-eth0"]);
    }

    #[test]
    fn a_new_map_waits_beside_the_old_one_until_it_takes_the_name() {
        let top = tempfile::tempdir().unwrap();
        let mut pins = Pins::new(top.path());
        fs::create_dir(pins.folder()).unwrap();
        fs::write(pins.map("BLOCK4"), "old").unwrap();

        pins.replace("BLOCK4");
        fs::write(pins.map("BLOCK4"), "new").unwrap();
        let settled = pins.folder().join("BLOCK4");
        assert_eq!(fs::read_to_string(settled).unwrap(), "old");
        pins.settle().unwrap();

        assert_eq!(list(pins.folder()).unwrap(), ["BLOCK4"]);
        assert_eq!(fs::read_to_string(pins.map("BLOCK4")).unwrap(), "new");
    }

    #[test]
    fn a_queueing_discipline_of_ours_is_remembered_by_its_interface() {
        let top = tempfile::tempdir().unwrap();
        let pins = Pins::new(top.path());
        fs::create_dir(pins.folder()).unwrap();

        pins.note_qdisc("eth0.7", 3).unwrap();
        pins.note_qdisc("eth0.7", 4).unwrap();

        assert_eq!(qdiscs_in(pins.folder()).unwrap(), [4]);
        pins.check().unwrap();
    }

    #[test]
    fn a_file_that_is_not_ours_is_named() {
        let top = tempfile::tempdir().unwrap();
        let pins = Pins::new(top.path());
        fs::create_dir(pins.folder()).unwrap();
        fs::write(pins.folder().join("notes"), "").unwrap();

        let refused = pins.check().unwrap_err();

        assert!(refused.to_string().contains("notes"), "{refused}");
        assert!(refused.hint().is_some());
    }

    #[test]
    fn another_layout_is_noticed() {
        let top = tempfile::tempdir().unwrap();
        let pins = Pins::new(top.path());
        fs::create_dir(pins.folder()).unwrap();
        assert!(pins.other_layouts().unwrap().is_empty());

        fs::create_dir(top.path().join("v0")).unwrap();
        fs::create_dir(top.path().join("vendor")).unwrap();

        assert_eq!(pins.other_layouts().unwrap(), [top.path().join("v0")]);
    }
}
