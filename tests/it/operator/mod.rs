//! What operators change while the service runs: it holds from the next request on, outlives the
//! agent, harms nobody else, and is on record with who, why, before and after.

mod cache;
mod certificates;
mod endpoints;
mod status;
mod upstreams;

use std::thread::JoinHandle;

use enforcer_tests::lab::{Answer, Ask, Client};
use serde_json::Value;

use crate::stage::Stage;

/// The bodies of every record of this class, oldest first.
fn bodies(stage: &Stage, class: &str) -> Vec<Value> {
    stage.records_of(class).into_iter().map(|record| record["body"].clone()).collect()
}

/// What becomes of a request while something else is done.
fn aside(client: &Client, ask: Ask) -> JoinHandle<anyhow::Result<Answer>> {
    let client = client.clone();
    std::thread::spawn(move || client.ask(&ask))
}
