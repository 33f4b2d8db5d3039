//! Where things lie when nobody says otherwise: the system's folders for root, the user's for others.

use std::path::{Path, PathBuf};

/// The places of one installation.
#[derive(Clone, Debug)]
pub(crate) struct Places {
    pub(crate) policy: PathBuf,
    pub(crate) state: PathBuf,
    pub(crate) socket: PathBuf,
}

impl Places {
    /// The defaults for whoever runs this program.
    pub(crate) fn of_this_user() -> Self {
        if rustix::process::geteuid().is_root() {
            return Self {
                policy: "/etc/enforcer/policy.toml".into(),
                state: "/var/lib/enforcer".into(),
                socket: "/run/enforcer/admin.sock".into(),
            };
        }
        let home = variable("HOME").unwrap_or_else(|| "/nonexistent".into());
        let base = |name, default: &str| variable(name).unwrap_or_else(|| home.join(default));
        let state = base("XDG_STATE_HOME", ".local/state").join("enforcer");
        let runtime = variable("XDG_RUNTIME_DIR").map(|base| base.join("enforcer"));
        Self {
            policy: base("XDG_CONFIG_HOME", ".config").join("enforcer/policy.toml"),
            socket: runtime.unwrap_or_else(|| state.clone()).join("admin.sock"),
            state,
        }
    }

    /// Whether `path` is where this user's policy lies by default.
    pub(crate) fn is_default_policy(&self, path: &Path) -> bool {
        self.policy == path
    }
}

fn variable(name: &str) -> Option<PathBuf> {
    #[expect(clippy::disallowed_methods, reason = "read once, before anything else runs")]
    std::env::var(name).ok().filter(|value| value.starts_with('/')).map(PathBuf::from)
}
