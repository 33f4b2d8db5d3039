//! What attackers do, who is found to do it, what follows, and that nobody else notices.
//!
//! Each attack drives real requests or packets at the agent with the rules that come along, beside a
//! client with every right to be served. Each test looks at the finding and its reason, at what was
//! decided and where it acts, at the records, and at the client.

#![expect(clippy::panic, reason = "a test that cannot go on tells what it saw")]

mod callers;
mod floods;
mod guesses;
mod limits;
mod upstreams;

use std::time::Duration;

use enforcer_tests::lab::{ATTACKER, Ask, Connection, DEADLINE, Family, Steady, Tally, wait_for};
use serde_json::Value;

use crate::stage::{CROWD, Hook, LAYER_7, Stage, orders, policy};

/// A stage whose agent detects by the rules of the pack.
struct Range {
    stage: Stage,
    /// Of the client, who may be served whatever happens.
    key: String,
}

/// The policy of the lab with the pack, and these modes and other sections; the one rule that every
/// other policy of the lab has is left out.
fn detecting(modes: &str, more: &str) -> String {
    let (before, _) = LAYER_7.split_once("[[rule]]").unwrap();
    let whole = policy(Hook::Native);
    let (_, kernel) = whole.split_once("[kernel]").unwrap();
    // Limits that nobody reaches, so that there is something to shrink.
    let before = before
        .replace("name     = \"orders\"\n", "name     = \"orders\"\nlimits   = [\"callers\"]\n");
    let limit = "[limit.callers]\nby   = \"key\"\nrate = \"1000/s\"\n";
    format!("{before}\n{limit}\n[kernel]{kernel}\n{more}\n[detect]\npack = \"default\"\n{modes}\n")
}

/// The modes of some rules.
fn modes(rules: &[(&str, &str)]) -> String {
    let lines: String = rules.iter().map(|(rule, mode)| format!("{rule} = \"{mode}\"\n")).collect();
    format!("[detect.modes]\n{lines}")
}

impl Range {
    fn new(rules: &[(&str, &str)], more: &str) -> Self {
        let stage = Stage::with_policy(&detecting(&modes(rules), more));
        let key = stage.key("client", "reader");
        stage.crowd();
        // Answers find their way back to the crowd.
        let way = format!("route add {} via {}", CROWD[0].1, ATTACKER.v4);
        stage.lab.host.ip(&way).unwrap();
        Self { stage, key }
    }

    /// The client asks all the time.
    fn steady(&self) -> Steady {
        let client = self.stage.client(Family::V4);
        client.steadily(orders().key(&self.key), Duration::from_millis(5))
    }

    /// What the rule has found, once it has found something.
    fn finding(&self, rule: &str) -> Value {
        let found = wait_for(&format!("{rule} finds something"), DEADLINE, || {
            self.findings(rule).into_iter().next()
        });
        found.unwrap_or_else(|error| {
            panic!("{error}: {:?}", self.stage.agent.as_ref().map(|it| it.said()))
        })
    }

    fn findings(&self, rule: &str) -> Vec<Value> {
        let rows = self.stage.json(&["findings", "list", "--rule", rule]);
        rows.as_array().unwrap().clone()
    }

    /// What was decided because of a finding like this one.
    fn decisions(&self, finding: &Value) -> Vec<Value> {
        let incident = finding["incident"].as_str().unwrap();
        let shown = self.stage.json(&["incident", "show", incident]);
        let decisions = shown["decisions"].as_array().unwrap().iter();
        decisions.filter(|decision| decision["rule"] == finding["rule"]).cloned().collect()
    }

    /// Every decision that waits for an operator.
    fn waiting(&self) -> Vec<Value> {
        let incidents = self.stage.json(&["incident", "list"]);
        let shown = incidents.as_array().unwrap().iter().map(|incident| {
            let shown = self.stage.json(&["incident", "show", incident["id"].as_str().unwrap()]);
            shown["decisions"].as_array().unwrap().clone()
        });
        shown.flatten().filter(|one| one["state"] == "waiting").collect()
    }

    /// The decision that does this, once it stands so.
    fn decision(&self, finding: &Value, action: &str, state: &str) -> Value {
        let found = wait_for(&format!("`{action}` is {state}"), DEADLINE, || {
            let decisions = self.decisions(finding);
            decisions.into_iter().find(|one| one["action"] == action && one["state"] == state)
        });
        found.unwrap_or_else(|error| panic!("{error}: {:#?}", self.decisions(finding)))
    }

    /// What led to a decision, and it itself, are on record and belong together.
    fn expect_recorded(&self, finding: &Value, decision: &Value) {
        let incident = finding["incident"].as_str().unwrap();
        for (class, name) in [
            ("finding", &finding["rule"]),
            ("incident", &finding["incident"]),
            ("decision", &decision["id"]),
        ] {
            let records = self.stage.records_of(class);
            let told = |record: &&Value| {
                let text = record.to_string();
                text.contains(name.as_str().unwrap()) && text.contains(incident)
            };
            assert!(records.iter().any(|record| told(&record)), "{class} {name}: {records:#?}");
        }
    }

    /// Takes a decision back by its name.
    fn take_back(&self, decision: &Value) {
        let id = decision["id"].as_str().unwrap();
        let released = self.stage.enforcer(&["release", id, "--reason", "test"]);
        assert!(released.is_success(), "{released}");
    }
}

/// Nobody refused the client anything.
fn expect_spotless(steady: Steady) -> Tally {
    let tally = steady.finish().unwrap();
    assert!(tally.is_spotless(), "{tally:?}");
    tally
}

/// Reads objects one after the other, and gives the last status.
fn read_objects(connection: &mut Connection, key: &str, objects: std::ops::Range<u32>) -> u16 {
    let mut status = 0;
    for object in objects {
        let ask = Ask::get(&format!("/v1/orders/{object}")).key(key);
        status = connection.ask(&ask).unwrap().status.as_u16();
    }
    status
}
