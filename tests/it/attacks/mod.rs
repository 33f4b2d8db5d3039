//! What attackers do, who is found to do it, what follows, and that nobody else notices.
//!
//! Each attack drives real requests or packets at the agent with the rules that come along, beside a
//! client with every right to be served. Each test looks at the finding and its reason, at what was
//! decided and where it acts, at the records, and at the client.

#![expect(clippy::panic, reason = "a test that cannot go on tells what it saw")]

mod answers;
mod callers;
mod floods;
mod guesses;
mod insider;
mod limits;
mod probes;
mod surges;
mod upstreams;

use std::time::Duration;

use enforcer_tests::lab::{
    ATTACKER, Ask, Connection, DEADLINE, Family, Http, Steady, Tally, wait_for, wait_until,
};
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

/// Routes beyond those of every policy of the lab: one that anybody may ask, one whose host breaks off,
/// and so many others.
fn routes(others: usize) -> String {
    let mut text = r#"
[upstream.flaky]
hosts = ["127.0.0.1:9001"]

[[route]]
name     = "open"
match    = "api.test/open/{**}"
upstream = "orders"
public   = true

[[route]]
name     = "flaky"
match    = "api.test/flaky/{**}"
upstream = "flaky"

  [[route.allow]]
  method = ["GET"]
  role   = "reader"
"#
    .to_owned();
    for n in 0..others {
        text += &format!(
            "\n[[route]]\nname = \"part-{n}\"\nmatch = \"api.test/parts/{n}/{{**}}\"\n\
             upstream = \"orders\"\n\n  [[route.allow]]\n  method = [\"GET\"]\n  role = \"reader\"\n"
        );
    }
    text
}

/// The modes of some rules.
fn modes(rules: &[(&str, &str)]) -> String {
    let lines: String = rules.iter().map(|(rule, mode)| format!("{rule} = \"{mode}\"\n")).collect();
    format!("[detect.modes]\n{lines}")
}

/// What an attack of the pack must lead to.
struct Outcome<'a> {
    rule: &'a str,
    /// Whom the finding is about, or how that begins.
    about: &'a str,
    /// What the finding says, with its number.
    words: &'a str,
    /// What is decided, how it stands, and for how many minutes it is meant.
    decided: (&'a str, &'a str, u64),
}

impl Range {
    fn new(rules: &[(&str, &str)], more: &str) -> Self {
        Self::with_policy(&detecting(&modes(rules), more))
    }

    fn with_policy(policy: &str) -> Self {
        Self::on(Stage::with_policy(policy))
    }

    fn on(stage: Stage) -> Self {
        let key = stage.key("client", "reader");
        stage.crowd();
        // Answers find their way back to the crowd.
        let way = format!("route add {} via {}", CROWD[0].1, ATTACKER.v4);
        stage.lab.host.ip(&way).unwrap();
        Self { stage, key }
    }

    /// A connection of the attacker's from this address of its crowd.
    fn as_one_of_many(&self, address: &str, http: Http) -> Connection {
        let client = self.stage.attacker(Family::V4).at(address.parse().unwrap());
        client.connect(http).unwrap()
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
        found.unwrap_or_else(|error| {
            panic!("{}: {error}: {:#?}", finding["rule"], self.decisions(finding))
        })
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

    /// What is to come of an attack comes: the finding says why, at the desk as in the list; what is
    /// decided stands so, for its time; and all of it is on record.
    fn expect(&self, outcome: &Outcome<'_>) -> Value {
        let Outcome { rule, about, words, decided: (action, state, minutes) } = *outcome;
        let finding = self.finding(rule);
        self.expect_told(&finding, about, words);
        let decision = self.decision(&finding, action, state);
        let seconds = decision["ttl_seconds"].as_u64().unwrap();
        // A tenth more or less, which nobody foresees.
        let expected = minutes * 54..=minutes * 66;
        assert!(expected.contains(&seconds), "{rule}: {minutes} minutes: {decision}");
        self.expect_recorded(&finding, &decision);
        decision
    }

    /// A finding is about him and says this, in the list and when it is shown.
    fn expect_told(&self, finding: &Value, about: &str, words: &str) {
        assert!(finding["about"].as_str().unwrap().starts_with(about), "{about}: {finding}");
        let signals = finding["signals"].as_array().unwrap();
        let says = signals.iter().any(|signal| signal.as_str().unwrap().contains(words));
        assert!(says, "{words}: {finding}");
        let id = finding["id"].as_str().unwrap();
        let shown = self.stage.enforcer(&["findings", "show", id]);
        assert!(shown.is_success() && shown.stdout.contains(words), "{words}: {shown}");
        assert_eq!(self.stage.json(&["findings", "show", id])["about"], finding["about"]);
    }

    /// An operator says yes to what waits, and it is carried out.
    fn approve(&self, decision: &Value) {
        let id = decision["id"].as_str().unwrap();
        let approved = self.stage.enforcer(&["incident", "approve", id, "--reason", "test"]);
        assert!(approved.is_success(), "{approved}");
        let incident = decision["incident"].as_str().unwrap();
        let mut stands = Value::Null;
        let carried_out = wait_until("what was approved is carried out", DEADLINE, || {
            let shown = self.stage.json(&["incident", "show", incident]);
            let decisions = shown["decisions"].as_array().unwrap();
            stands = decisions.iter().find(|one| one["id"] == id).unwrap().clone();
            stands["state"] == "in-force"
        });
        carried_out.unwrap_or_else(|error| panic!("{error}: {stands:#}"));
    }

    /// The log is whole, and whoever asks it finds what was found and decided.
    fn expect_whole_log(&self) {
        let verified = self.stage.offline(&["audit", "verify"]);
        assert!(verified.is_success(), "{verified}");
        for class in ["finding", "incident", "decision"] {
            let found = self.stage.offline(&["audit", "search", "--class", class, "-o", "jsonl"]);
            assert!(found.is_success() && !found.stdout.is_empty(), "{class}: {found}");
        }
    }

    /// Takes a decision back by its name.
    fn take_back(&self, decision: &Value) {
        let id = decision["id"].as_str().unwrap();
        let released = self.stage.enforcer(&["release", id, "--reason", "test"]);
        assert!(released.is_success(), "{released}");
    }
}

/// Under which name the bearer of a key is known.
fn name_of(key: &str) -> String {
    let (_, rest) = key.split_once("live_").unwrap();
    format!("key:{}", rest.split_once('_').unwrap().0)
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

#[test]
fn every_rule_of_the_pack_that_finds_something_has_its_attack_here() {
    let programs = [
        include_str!("answers.rs"),
        include_str!("callers.rs"),
        include_str!("floods.rs"),
        include_str!("guesses.rs"),
        include_str!("insider.rs"),
        include_str!("probes.rs"),
        include_str!("surges.rs"),
        include_str!("upstreams.rs"),
    ];
    let rules = enforcer_detect::rules::pack().ok().unwrap();

    let without: Vec<_> = rules
        .iter()
        .filter(|rule| !rule.silent)
        .map(|rule| format!("\"{}\"", rule.id))
        .filter(|name| !programs.iter().any(|program| program.contains(name)))
        .collect();

    assert_eq!(without, Vec::<String>::new());
}
