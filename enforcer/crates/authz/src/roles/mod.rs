//! Which roles a policy knows, which of them include which, and who has them.
//!
//! `writer = { includes = ["reader"] }` means: whoever has `writer` may do what `reader` may. The
//! relation is transitive and resolved once, here, so that a decision tests one bit. A role that is
//! not defined and a circle are refused. A credential gives the roles whose `from` names it, and no
//! others: not even a key that was issued with a role has it once `from` no longer says `key`.

mod grant;
mod set;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use enforcer_model::Role;

pub use grant::{Grant, GrantError, SpiffePattern};
pub use set::{ROLES_MAX, RoleIndex, RoleSet};

/// One `[role]` entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RoleDefinition {
    /// Its name.
    pub role: Role,
    /// Roles whose rights it has as well.
    pub includes: Vec<Role>,
    /// Which credentials can carry it.
    pub from: Vec<Grant>,
}

/// Every role of a policy, closed over inclusion.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Roles {
    /// In the order of their names, which is that of their places.
    entries: Box<[Entry]>,
    by_token: BTreeMap<Arc<str>, BTreeMap<Arc<str>, RoleSet>>,
    by_id: BTreeMap<Arc<str>, RoleSet>,
    /// Keys end in `/`.
    below_id: BTreeMap<Arc<str>, RoleSet>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Entry {
    role: Role,
    from: Box<[Grant]>,
    /// This role and all that it includes.
    closed: RoleSet,
    /// This role and all that include it.
    satisfying: BTreeSet<Role>,
}

/// Nobody defined this role.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("role `{0}` is not defined")]
pub struct UnknownRole(pub Role);

/// The definitions contradict themselves.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RolesError {
    /// Two definitions of one name.
    #[error("role `{0}` is defined twice")]
    Twice(Role),
    /// `includes` names a role that is not defined.
    #[error("role `{role}` includes `{included}`, which is not defined")]
    Unknown {
        /// Whose `includes` it is.
        role: Role,
        /// The name without a definition.
        included: Role,
    },
    /// A role includes itself, directly or through others.
    #[error("role `{0}` includes itself")]
    Circle(Role),
    /// More roles than a [`RoleSet`] has room for.
    #[error("{0} roles are more than {ROLES_MAX}")]
    TooMany(usize),
}

impl Roles {
    /// The roles, what each of them includes and who has them; every problem at once.
    pub fn new(
        definitions: impl IntoIterator<Item = RoleDefinition>,
    ) -> Result<Self, Vec<RolesError>> {
        let mut problems = Vec::new();
        let mut includes: BTreeMap<Role, Vec<Role>> = BTreeMap::new();
        let mut grants: BTreeMap<Role, Vec<Grant>> = BTreeMap::new();
        for RoleDefinition { role, includes: included, from } in definitions {
            if includes.insert(role.clone(), included).is_some() {
                problems.push(RolesError::Twice(role.clone()));
            }
            grants.insert(role, from);
        }
        if includes.len() > ROLES_MAX {
            problems.push(RolesError::TooMany(includes.len()));
            return Err(problems);
        }

        let place: BTreeMap<&Role, RoleIndex> = includes
            .keys()
            .enumerate()
            .filter_map(|(n, role)| Some((role, RoleIndex::new(n)?)))
            .collect();
        let mut satisfying: BTreeMap<&Role, BTreeSet<Role>> =
            includes.keys().map(|role| (role, BTreeSet::from([role.clone()]))).collect();
        let mut closed: BTreeMap<&Role, RoleSet> = BTreeMap::new();
        for (role, direct) in &includes {
            for included in direct.iter().filter(|included| !includes.contains_key(included)) {
                let (role, included) = (role.clone(), included.clone());
                problems.push(RolesError::Unknown { role, included });
            }
            let set = closed.entry(role).or_default();
            place.get(role).into_iter().for_each(|index| set.insert(*index));
            for reached in reachable(role, &includes) {
                if reached == role {
                    problems.push(RolesError::Circle(role.clone()));
                }
                place.get(reached).into_iter().for_each(|index| set.insert(*index));
                if let Some(set) = satisfying.get_mut(reached) {
                    set.insert(role.clone());
                }
            }
        }
        if !problems.is_empty() {
            return Err(problems);
        }

        let entries = includes.keys().map(|role| Entry {
            role: role.clone(),
            from: grants.remove(role).unwrap_or_default().into(),
            closed: closed.get(role).copied().unwrap_or_default(),
            satisfying: satisfying.remove(role).unwrap_or_default(),
        });
        Ok(Self { entries: entries.collect(), ..Self::default() }.granting())
    }

    /// With the tables by which credentials find their roles.
    fn granting(mut self) -> Self {
        for entry in &self.entries {
            for grant in &entry.from {
                let set = match grant {
                    Grant::Key => continue,
                    Grant::Issuer { issuer, value } => {
                        let values = self.by_token.entry(Arc::clone(issuer)).or_default();
                        values.entry(Arc::clone(value)).or_default()
                    }
                    Grant::Spiffe(SpiffePattern::Exact(id)) => {
                        self.by_id.entry(Arc::clone(id)).or_default()
                    }
                    Grant::Spiffe(SpiffePattern::Below(above)) => {
                        self.below_id.entry(Arc::clone(above)).or_default()
                    }
                };
                *set = set.union(entry.closed);
            }
        }
        self
    }

    /// The roles of an API key that was issued with `roles`: those whose `from` says `key`.
    pub fn of_key(&self, roles: &[Role]) -> RoleSet {
        let entries = roles.iter().filter_map(|role| self.entry(role.as_str()));
        let carried = entries.filter(|entry| entry.from.contains(&Grant::Key));
        carried.fold(RoleSet::NONE, |set, entry| set.union(entry.closed))
    }

    /// The roles of a token of `issuer`, as the policy names it, that has these role values.
    pub fn of_token<'v>(&self, issuer: &str, values: impl IntoIterator<Item = &'v str>) -> RoleSet {
        let Some(known) = self.by_token.get(issuer) else { return RoleSet::NONE };
        let sets = values.into_iter().filter_map(|value| known.get(value));
        sets.fold(RoleSet::NONE, |set, more| set.union(*more))
    }

    /// The roles of a workload with this SPIFFE id. What is not a SPIFFE id has none.
    pub fn of_spiffe(&self, id: &str) -> RoleSet {
        if !grant::is_id(id) {
            return RoleSet::NONE;
        }
        let exact = self.by_id.get(id).copied().unwrap_or_default();
        let above = id.match_indices('/').filter_map(|(at, _)| id.get(..=at));
        let sets = above.filter_map(|above| self.below_id.get(above));
        sets.fold(exact, |set, more| set.union(*more))
    }

    /// The roles called `names` and all that they include, whoever has them: for tests, explanations
    /// and analysis. An unknown name is an error, for whoever asks meant something by it.
    pub fn closure<'n>(
        &self,
        names: impl IntoIterator<Item = &'n str>,
    ) -> Result<RoleSet, UnknownRole> {
        names.into_iter().try_fold(RoleSet::NONE, |set, name| {
            let entry = self.entry(name).ok_or_else(|| UnknownRole(Role::new(name)))?;
            Ok(set.union(entry.closed))
        })
    }

    /// The place of the role called `name` in every set of this policy.
    pub fn index(&self, name: &str) -> Option<RoleIndex> {
        RoleIndex::new(self.place(name)?)
    }

    /// The role at `index`.
    pub fn role(&self, index: RoleIndex) -> Option<&Role> {
        self.entries.get(index.get()).map(|entry| &entry.role)
    }

    /// What the roles of `set` are called, in the order of their names.
    pub fn named(&self, set: RoleSet) -> impl Iterator<Item = &Role> {
        let entries = self.entries.iter().enumerate();
        entries
            .filter(move |(n, _)| RoleIndex::new(*n).is_some_and(|index| set.contains(index)))
            .map(|(_, entry)| &entry.role)
    }

    /// Which credentials can carry `role`; none for an unknown one.
    pub fn grants(&self, role: &Role) -> &[Grant] {
        self.entry(role.as_str()).map_or(&[], |entry| &entry.from)
    }

    /// The roles that satisfy `role`: itself and all that include it.
    pub fn satisfying(&self, role: &Role) -> Result<&BTreeSet<Role>, UnknownRole> {
        let entry = self.entry(role.as_str()).ok_or_else(|| UnknownRole(role.clone()))?;
        Ok(&entry.satisfying)
    }

    /// All defined roles, in the order of their names.
    pub fn iter(&self) -> impl Iterator<Item = &Role> + Clone {
        self.entries.iter().map(|entry| &entry.role)
    }

    /// How many roles are defined.
    pub const fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether no role is defined.
    pub const fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    fn entry(&self, name: &str) -> Option<&Entry> {
        self.entries.get(self.place(name)?)
    }

    fn place(&self, name: &str) -> Option<usize> {
        self.entries.binary_search_by(|entry| entry.role.as_str().cmp(name)).ok()
    }
}

/// What `role` includes over any number of steps; `role` itself only through a circle.
fn reachable<'a>(role: &'a Role, includes: &'a BTreeMap<Role, Vec<Role>>) -> BTreeSet<&'a Role> {
    let direct = |role| includes.get(role).into_iter().flatten();
    let mut reached = BTreeSet::new();
    let mut ahead: Vec<&Role> = direct(role).collect();
    while let Some(next) = ahead.pop() {
        if reached.insert(next) {
            ahead.extend(direct(next));
        }
    }
    reached
}
