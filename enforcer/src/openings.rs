//! What the agent opens once, before it serves: its log, its keys, its socket; and what it is.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context as _, Result, anyhow};
use enforcer_admin::Server;
use enforcer_audit::Audit;
use enforcer_authn::Assertions;
use enforcer_model::Clock;
use enforcer_policy::Policy;
use ring::rand::{SecureRandom, SystemRandom};
use tracing::{info, warn};

use crate::{files, operators};

/// The audit log in the `state` folder, and its own folder.
pub(crate) fn open_audit(
    policy: &Policy,
    state: &Path,
    clock: &Arc<dyn Clock>,
) -> Result<(Audit, PathBuf, Vec<String>)> {
    let folder = state.join("audit");
    let plan = policy.audit();
    let mut config = enforcer_audit::Config::new(&folder, audit_origin(policy));
    config.queue = plan.queue.get();
    config.recipients = plan.recipients.clone();
    config.hot = plan.hot;
    let (audit, opened) = Audit::open(config, Arc::clone(clock)).map_err(|error| {
        let hint = error.hint();
        anyhow!("the audit log cannot be opened: {}\nhint: {hint}", crate::cli::chain(&error))
    })?;
    info!(records = opened.size, folder = %folder.display(), "audit log is open");
    for warning in &opened.warnings {
        warn!(%warning, "audit log");
    }
    let mut found = opened.warnings;
    if opened.torn_bytes > 0 {
        let bytes = opened.torn_bytes;
        found.push(format!(
            "{bytes} bytes of an unfinished write were dropped; a gap record says so"
        ));
    }
    Ok((audit, folder, found))
}

/// The key that upstreams know us by; its public half lies beside it, for them.
pub(crate) fn open_assertions(policy: &Policy, state: &Path) -> Result<Assertions> {
    let plan = policy.identity();
    let issuer = plan.issuer.as_deref().map_or_else(|| audit_origin(policy), str::to_owned);
    let assertions = Assertions::load_or_create(&state.join("identity.key"), &issuer, plan.ttl)?;
    files::write_private(&state.join("identity.jwks.json"), assertions.jwks().as_bytes())
        .context("cannot write the public half of the identity key")?;
    Ok(assertions)
}

/// The socket that operators' commands come over.
pub(crate) fn bind_admin(policy: &Policy) -> Result<Server> {
    Server::bind(&policy.agent().socket, operators::admin_group()).map_err(|error| {
        let hint = error.hint();
        anyhow!("cannot open the admin socket: {}\nhint: {hint}", crate::cli::chain(&error))
    })
}

/// The hash of the running program, so that evidence says what enforced.
pub(crate) fn own_sha256() -> Option<String> {
    let program = std::fs::read("/proc/self/exe").ok()?;
    let digest = ring::digest::digest(&ring::digest::SHA256, &program);
    Some(digest.as_ref().iter().map(|byte| format!("{byte:02x}")).collect())
}

/// What nobody can foresee of the limiter's table.
pub(crate) fn limit_seed() -> Result<[u64; 2]> {
    let mut bytes = [0; 16];
    let filled = SystemRandom::new().fill(&mut bytes);
    filled.map_err(|_unspecified| anyhow!("the system gave no random bits for the limiter"))?;
    let bits = u128::from_le_bytes(bytes);
    let low = u64::try_from(bits & u128::from(u64::MAX)).unwrap_or_default();
    Ok([low, u64::try_from(bits >> 64).unwrap_or_default()])
}

/// The name of the audit log.
pub(crate) fn audit_origin(policy: &Policy) -> String {
    match &policy.audit().origin {
        Some(origin) => origin.to_string(),
        None => format!("{}/enforcer", host_name()),
    }
}

/// What this host calls itself.
pub(crate) fn host_name() -> String {
    let name = rustix::system::uname().nodename().to_string_lossy().into_owned();
    if name.is_empty() { "localhost".to_owned() } else { name }
}
