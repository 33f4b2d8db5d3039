//! What can be measured, one file each; `cargo xtask bench` knows an area by its file.

use anyhow::Result;

use super::{Order, Row};

mod audit;
mod detect;
mod identity;
mod kernel;
mod r#loop;
mod proxy;

/// A part of the product with figures of its own.
#[derive(Clone, Copy, Debug)]
pub struct Area {
    /// What it is called on the command line; also the name of its file.
    pub name: &'static str,
    /// What its figures say.
    pub what: &'static str,
    /// Measures all of its figures.
    pub measure: fn(&Order) -> Result<Vec<Row>>,
}

/// All areas.
pub const AREAS: &[Area] =
    &[audit::AREA, detect::AREA, identity::AREA, kernel::AREA, r#loop::AREA, proxy::AREA];

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::fs;
    use std::path::Path;

    use super::*;

    #[test]
    fn every_area_is_a_file_and_every_file_an_area() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/bench/area");

        let files: BTreeSet<String> = fs::read_dir(folder)
            .unwrap()
            .map(|entry| entry.unwrap().path().file_stem().unwrap().to_str().unwrap().to_owned())
            .filter(|stem| stem != "mod")
            .collect();

        let areas: BTreeSet<String> = AREAS.iter().map(|area| area.name.to_owned()).collect();
        assert_eq!(files, areas);
    }
}
