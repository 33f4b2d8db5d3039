//! How many files and connections the system lets this process have open.
//!
//! The soft limit is for programs that use `select`; this one uses what it may. Each client needs one
//! descriptor, and one more while an upstream works for it.

use enforcer_policy::ConnectionsPlan;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tracing::{info, warn};

/// For everything that is not a connection: sockets, files, maps, pipes.
const OWN: u64 = 1_024;

/// Raises the soft limit to the hard one, and says when that is too little for `plan`.
pub(crate) fn raise(plan: &ConnectionsPlan) {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    if current != maximum {
        let raised = setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum });
        match raised {
            Ok(()) => info!(from = ?current, to = ?maximum, "may have more descriptors open"),
            Err(error) => warn!(%error, "cannot have more descriptors open"),
        }
    }
    let limit = getrlimit(Resource::Nofile).current;
    let needed = u64::try_from(plan.total).unwrap_or(u64::MAX).saturating_add(OWN);
    if let Some(limit) = limit.filter(|limit| *limit < needed) {
        warn!(
            limit,
            connections = plan.total,
            "fewer descriptors than connections; raise LimitNOFILE, or lower `connections.total`"
        );
    }
}
