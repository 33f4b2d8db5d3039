//! `upstreams.json`: every decision about a host that holds, for the next start.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use enforcer_admin::call::HostOrder;
use serde::{Deserialize, Serialize};

use super::ORDERS_MAX;
use crate::files;

/// What an agent that starts would not know to leave alone.
#[derive(Debug, thiserror::Error)]
#[error(
    "what operators have decided about hosts cannot be read from {}: {why}\nhint: bring the file \
     back, or move it away and decide anew with `enforcer upstream`", .file.display()
)]
pub(crate) struct OpenError {
    file: PathBuf,
    why: String,
}

#[derive(Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct Kept {
    orders: Vec<HostOrder>,
}

/// The decisions that hold.
pub(super) fn read(file: &Path) -> Result<Vec<HostOrder>, OpenError> {
    let broken = |why: String| OpenError { file: file.to_owned(), why };
    let bytes = match std::fs::read(file) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        read => read.map_err(|error| broken(error.to_string()))?,
    };
    let kept: Kept = serde_json::from_slice(&bytes).map_err(|error| broken(error.to_string()))?;
    if kept.orders.len() > ORDERS_MAX || !kept.orders.iter().all(|one| one.wish.takes_out()) {
        return Err(broken("no agent has written this".to_owned()));
    }
    Ok(kept.orders)
}

/// Replaces the file; without decisions there is none.
pub(super) fn write(file: &Path, orders: Vec<HostOrder>) -> std::io::Result<()> {
    if orders.is_empty() {
        return files::remove(file);
    }
    files::write_private(file, &serde_json::to_vec(&Kept { orders })?)
}
