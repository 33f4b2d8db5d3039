//! What operators change while the service runs: it holds from the next request on, outlives the
//! agent, harms nobody else, and is on record with who, why, before and after.

mod cache;
mod certificates;
mod endpoints;
mod status;
mod upstreams;

use serde_json::Value;

use crate::stage::Stage;

/// The bodies of every record of this class, oldest first.
fn bodies(stage: &Stage, class: &str) -> Vec<Value> {
    stage.records_of(class).into_iter().map(|record| record["body"].clone()).collect()
}
