//! Promises of rules: what is found, what is not, and how mistakes in files are told.

mod engine;
mod files;
mod pack;
mod when;

use std::sync::Arc;

use super::*;
use crate::Finding;

/// The rules of a file that is right.
fn rules(text: &str) -> Vec<Arc<RulePlan>> {
    match read(text, &[]) {
        Ok(plans) => plans,
        Err(problems) => {
            let told: Vec<String> = problems.iter().map(|it| it.shown("rules.yaml")).collect();
            panic!("{}", told.join("\n"));
        }
    }
}

/// What the rules of the file `text` find in `lines`.
fn found(text: &str, lines: &str) -> Vec<Finding> {
    let mut rules = Rules::new(&rules(text));
    let mut found = Vec::new();
    events(lines, |past| {
        rules.observe(&past.event(), &mut found);
        std::ops::ControlFlow::Continue(())
    })
    .unwrap();
    found
}
