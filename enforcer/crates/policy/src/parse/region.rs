//! `[region]`: the database that knows the country of an address.

use std::path::PathBuf;
use std::sync::Arc;

use crate::codes::{FILE_UNREADABLE, FILE_WRONG};
use crate::files;
use crate::grammar::{Fields, Key, PATH, Shape};
use crate::parse::Base;
use crate::problem::Report;
use crate::regions::{FILE_MAX, Regions};

pub(super) static KEYS: &[Key] = &[Key::required(
    "database",
    Shape::Text(&PATH),
    "A country database in MaxMind's format, such as GeoLite2-Country.mmdb; relative to the policy \
     file.",
)];

/// The database as the policy names it, and what is in it when files are read.
#[derive(Clone, Debug, Default)]
pub(crate) struct Region {
    pub(crate) file: Option<PathBuf>,
    pub(crate) database: Option<Arc<Regions>>,
}

pub(super) fn read(root: Fields<'_>, base: Base<'_>, report: &mut Report) -> Region {
    let fields = root.table("region");
    let Some(path) = fields.text("database") else { return Region::default() };
    let file = base.resolve(path);
    let span = fields.span_of("database");
    let mut database = None;
    if base.reads_files
        && let Some(bytes) = files::contents(&file, FILE_MAX, &FILE_UNREADABLE, span, report)
    {
        match Regions::new(bytes) {
            Ok(regions) => database = Some(Arc::new(regions)),
            Err(error) => report.add(
                &FILE_WRONG,
                span,
                format!("{} cannot be used: {error}", file.display()),
                "such as GeoLite2-Country.mmdb, which MaxMind gives out".to_owned(),
            ),
        }
    }
    Region { file: Some(file), database }
}
