//! May they: rules of a route become a [`Permit`], or nothing does.
//!
//! [`decide`] is the only maker of a [`Permit`], so whoever holds one holds a decision. What no rule
//! allows is refused, what one rule denies is refused, and what is unknown never helps. Names,
//! inclusion of roles and conditions are resolved once, when a policy is read; a request compares
//! bits and bytes. [`Quarantine`] answers the earlier question: whom we do not serve at all. Nothing
//! here reads the clock, does I/O or knows how a caller was identified.

mod condition;
mod decision;
mod facts;
mod methods;
mod plan;
mod quarantine;
mod roles;
mod window;

pub use condition::{
    Attribute, CONDITION_BYTES_MAX, ClaimPath, Comparison, Condition, ConditionProblem, Expr, Flag,
    Held, Network, Number, Numbers, Numeric, Test, Text, Texts, Time, Tri, Vocabulary,
};
pub use decision::{Denied, Outcome, Permit, RuleTrace, Seen, Trace, decide, trace};
pub use facts::{Caller, Facts};
pub use methods::Methods;
pub use plan::{Part, Plan, Rule};
pub use quarantine::{Entry, Full, LeftOut, Listed, Networks, Quarantine, Shut};
pub use roles::{
    Grant, GrantError, ROLES_MAX, RoleDefinition, RoleIndex, RoleSet, Roles, RolesError,
    SpiffePattern, UnknownRole,
};
pub use window::{Days, Hours, Window, WindowError};
