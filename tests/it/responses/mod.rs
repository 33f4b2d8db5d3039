//! What follows a finding, whoever decides: it takes effect, ends by itself, and is taken back by its
//! name; an operator is asked, answers and reads what happened; nothing of it is lost with an agent.
//!
//! The rules are the lab's own: a rule `x` finds whoever asks for `/v1/x` three times in a second, so
//! that each test says which response follows, and nothing else does.

#![expect(clippy::panic, reason = "a test that cannot go on tells what it saw")]

mod ladders;
mod levels;
mod modes;
mod radius;
mod replay;
mod reports;
mod restarts;
mod shrinking;
mod undo;
mod upstreams;
mod words;

use std::net::IpAddr;

use enforcer_tests::lab::{
    ATTACKER, Answer, Ask, Client, DEADLINE, Family, Http, wait_for, wait_until,
};
use serde_json::Value;

use crate::stage::{CROWD, Hook, LAYER_7, Stage, orders, policy};

/// Requests after which a rule of the lab finds somebody.
const ENOUGH: usize = 3;

/// A second route, beside `orders`, of the same upstream.
const OTHERS: &str = r#"
[[route]]
name     = "others"
match    = "api.test/others/{**}"
upstream = "orders"
limits   = ["callers"]

  [[route.allow]]
  method = ["GET"]
  role   = "reader"
"#;

/// A limit that is reached by forty requests at once.
const LIMIT: &str = "[limit.callers]\nby = \"key\"\nrate = \"1/s\"\nburst = 40\n";

/// A stage with rules of its own.
struct Scene {
    stage: Stage,
    /// Of somebody who is served whatever happens.
    key: String,
}

/// A rule of the lab: what it counts by, what it may do, and what follows.
fn rule(id: &str, key: &str, mode: &str, respond: &[&str]) -> String {
    let respond: String = respond.iter().map(|one| format!("    - {{{one}}}\n")).collect();
    format!(
        "- id: {id}\n  title: somebody asked for {id}\n  when: 'path.startsWith(\"/v1/{id}\")'\n  \
         key: {key}\n  event_count: {{gte: {ENOUGH}, within: 1s}}\n  respond:\n{respond}  \
         mode: {mode}\n"
    )
}

/// The policy of the lab with limits, two routes and the rules of the lab, and `more`.
fn limited(more: &str) -> String {
    let routes = unlimited(more)
        .replace("name     = \"orders\"\n", "name     = \"orders\"\nlimits   = [\"callers\"]\n");
    format!("{routes}\n{OTHERS}\n{LIMIT}")
}

/// The same without limits.
fn unlimited(more: &str) -> String {
    let (before, _) = LAYER_7.split_once("[[rule]]").unwrap();
    let whole = policy(Hook::Native);
    let (_, kernel) = whole.split_once("[kernel]").unwrap();
    let limits = match more.contains("[detect.limits]") {
        true => "",
        false => {
            "[detect.limits]\nmax_share_of_clients = \"100%\"\nmax_share_of_identities = \"100%\"\n"
        }
    };
    format!(
        "{before}\n[kernel]{kernel}\n[detect]\npack = \"none\"\nrules = [\"lab.yaml\"]\n{limits}\
         {more}\n"
    )
}

impl Scene {
    /// With the lab's limits.
    fn new(rules: &[String], more: &str) -> Self {
        Self::with(&limited(more), rules)
    }

    fn with(policy: &str, rules: &[String]) -> Self {
        let mut stage = Stage::without_agent(policy);
        // A file without a rule is a mistake.
        let nothing = rule("nothing", "identity", "observe", &["action: notify"]);
        let rules = if rules.is_empty() { nothing } else { rules.concat() };
        stage.file("lab.yaml", &rules);
        stage.start();
        let key = stage.key("client", "reader");
        Self { stage, key }
    }

    /// Lets the attacker send from the addresses of the crowd, and get answers there.
    fn crowd(&self) {
        self.stage.crowd();
        let way = format!("route add {} via {}", CROWD[0].1, ATTACKER.v4);
        self.stage.lab.host.ip(&way).unwrap();
    }

    /// The attacker at its own address.
    fn attacker(&self) -> Client {
        self.stage.attacker(Family::V4)
    }

    /// The attacker at this address of its crowd.
    fn member(&self, address: &str) -> Client {
        let address: IpAddr = address.parse().unwrap();
        self.attacker().at(address)
    }

    /// Does what the rule finds, once more than it takes to be answered; gives the last status.
    fn trip(&self, rule: &str, from: &Client, key: &str) -> u16 {
        self.trip_by(Http::One, rule, from, key)
    }

    fn trip_by(&self, http: Http, rule: &str, from: &Client, key: &str) -> u16 {
        let mut connection = from.connect(http).unwrap();
        let ask = Ask::get(&format!("/v1/{rule}")).key(key);
        let mut status = 0;
        for _ in 0..ENOUGH {
            status = connection.ask(&ask).unwrap().status.as_u16();
        }
        status
    }

    /// What the client gets for a read with this key, on a connection of its own.
    fn status(&self, key: &str) -> u16 {
        self.answer(key).status.as_u16()
    }

    fn answer(&self, key: &str) -> Answer {
        self.stage.client(Family::V4).ask(&orders().key(key)).unwrap()
    }

    /// Every decision of every incident.
    fn decisions(&self) -> Vec<Value> {
        let incidents = self.stage.json(&["incident", "list", "--all"]);
        let shown = incidents.as_array().unwrap().iter().map(|incident| {
            let shown = self.stage.json(&["incident", "show", incident["id"].as_str().unwrap()]);
            shown["decisions"].as_array().unwrap().clone()
        });
        let mut all: Vec<Value> = shown.flatten().collect();
        all.sort_by_key(|one| one["decided"].to_string());
        all.dedup_by_key(|one| one["id"].to_string());
        all
    }

    fn of(&self, rule: &str) -> Vec<Value> {
        self.decisions().into_iter().filter(|one| one["rule"] == rule).collect()
    }

    /// The rule's decision that does this, once it stands so.
    fn decision(&self, rule: &str, action: &str, state: &str) -> Value {
        let found = wait_for(&format!("{rule}: `{action}` is {state}"), DEADLINE, || {
            let own = self.of(rule);
            own.into_iter().find(|one| one["action"] == action && one["state"] == state)
        });
        found.unwrap_or_else(|error| panic!("{error}: {:#?}", self.decisions()))
    }

    /// How the decision of this name stands.
    fn state(&self, id: &str) -> String {
        let all = self.decisions();
        let own = all.iter().find(|one| one["id"] == id).unwrap();
        own["state"].as_str().unwrap().to_owned()
    }

    fn until_state(&self, id: &str, state: &str) {
        wait_until(&format!("{id} is {state}"), DEADLINE, || self.state(id) == state).unwrap();
    }

    /// A verb of an operator's that works.
    fn does(&self, words: &[&str]) -> String {
        let done = self.stage.enforcer(words);
        assert!(done.is_success(), "{words:?}: {done}");
        done.stdout
    }

    /// What is on record of a decision, in order: what happened to it, by whom, and why.
    fn told_of(&self, id: &str) -> Vec<(String, Value, Value)> {
        let records = self.stage.records_of("decision").into_iter();
        let own = records.filter(|record| record["body"]["decision"] == id);
        own.map(|record| {
            let body = &record["body"];
            (
                body["what"].as_str().unwrap().to_owned(),
                body["author"].clone(),
                body["detail"].clone(),
            )
        })
        .collect()
    }
}

/// The name of a row.
fn id(row: &Value) -> &str {
    row["id"].as_str().unwrap()
}
