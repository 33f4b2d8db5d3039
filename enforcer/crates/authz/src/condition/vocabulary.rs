//! The names that a condition may use: what the other sections of a policy define.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::{Networks, Roles, Window};

/// The names of one policy.
#[derive(Clone, Copy, Debug)]
pub struct Vocabulary<'a> {
    /// `[role]`.
    pub roles: &'a Roles,
    /// `[net]`.
    pub networks: &'a BTreeMap<Arc<str>, Arc<Networks>>,
    /// `[time]`.
    pub windows: &'a BTreeMap<Arc<str>, Arc<Window>>,
    /// Names of `[issuer.NAME]`.
    pub issuers: &'a BTreeSet<Arc<str>>,
    /// Whether a region database was read; without one `region` is refused.
    pub has_regions: bool,
}
