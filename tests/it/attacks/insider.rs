//! Somebody with every right, at an hour and of an amount that are not his own: found by what is usual.
//!
//! The agent lives through weeks: it is started at one moment after the other, and what it has learned is
//! there each time.

use enforcer_tests::lab::{Ask, Family, Http};
use serde_json::Value;

use super::{Outcome, Range, detecting, modes, name_of};
use crate::stage::Stage;

/// Everybody of one role.
const PEOPLE: usize = 6;

/// Objects of each one's work.
const OWN: u32 = 40;

/// How many objects are read in the night.
const BULK: u32 = 300;

/// People who work, on an agent that is started anew each time.
struct Office {
    range: Range,
    keys: Vec<String>,
}

impl Office {
    /// Everybody has a key, at the first of all moments.
    fn at(time: &str) -> Self {
        let profile = "[detect.profile]\nmode = \"approve\"\n";
        let mut stage = Stage::without_agent(&(detecting(&modes(&[]), "") + profile));
        stage.agent = Some(stage.site.start_at(time).unwrap());
        let range = Range::on(stage);
        let keys = (0..PEOPLE).map(|n| range.stage.key(&format!("person-{n}"), "reader"));
        Self { keys: keys.collect(), range }
    }

    /// The agent ends as it should, and another one begins at this time.
    fn until(&mut self, time: &str) {
        let agent = self.range.stage.agent.take().unwrap();
        assert!(agent.terminate().unwrap().success());
        self.begin(time);
    }

    fn begin(&mut self, time: &str) {
        self.range.stage.agent = Some(self.range.stage.site.start_at(time).unwrap());
    }

    /// Everybody but these does a little of the own work, a little more or less each day.
    fn work(&self, day: u32, but: &[usize]) {
        for (person, key) in self.keys.iter().enumerate().filter(|(n, _)| !but.contains(n)) {
            let mut connection = self.range.stage.client(Family::V4).connect(Http::One).unwrap();
            let own = u32::try_from(person).unwrap() * 1_000;
            // Small orders on one day, large ones on another.
            let bytes = 400 << ((day + own / 1_000) % 5);
            for n in 0..8 + (day + own) % 5 {
                let order = own + (day * 7 + n) % OWN;
                let ask = Ask::get(&format!("/v1/bytes/{bytes}/orders/{order}"));
                assert_eq!(connection.ask(&ask.key(key)).unwrap().status, 200);
            }
        }
    }

    fn profile(&self, who: &str) -> Value {
        self.range.stage.json(&["profile", "show", who])
    }
}

#[test]
#[ignore = "needs root; run by `cargo xtask test`"]
fn a_night_of_bulk_reads_is_found_by_weeks_of_office_hours_and_told_with_its_numbers() {
    let mut office = Office::at("2026-03-02 09:05:00");
    // Three weeks of Mondays, Wednesdays and Fridays, each at another hour; the first week is only
    // learned from.
    let days = (2..=20).filter(|day| [0, 2, 4].contains(&((day - 2) % 7)));
    for (n, day) in days.enumerate() {
        if n > 0 {
            office.until(&format!("2026-03-{day:02} {:02}:05:00", 9 + n * 3 % 8));
        }
        office.work(day, &[]);
    }
    assert!(office.range.findings("behaviour").is_empty(), "nobody was unlike himself");
    let insider = name_of(&office.keys[0]);
    office.until("2026-03-23 10:05:00");
    office.work(23, &[]);
    let learned = office.profile(&insider);

    // Tuesday, ten past three: a colleague on call, and the insider.
    office.until("2026-03-24 03:10:00");
    office.work(24, &[0, 2, 3, 4, 5]);
    let key = office.keys[0].clone();
    let mut connection = office.range.stage.client(Family::V4).connect(Http::One).unwrap();
    for object in 100_000..100_000 + BULK {
        let ask = Ask::get(&format!("/v1/bytes/400/orders/{object}")).key(&key);
        assert_eq!(connection.ask(&ask).unwrap().status, 200, "nothing is done unasked");
    }

    let range = &office.range;
    let asked = range.expect(&Outcome {
        rule: "behaviour",
        about: &format!("identity:{insider}"),
        words: "usual",
        decided: ("deny the identity", "waiting", 15),
    });
    range.expect(&Outcome {
        rule: "odd-hours",
        about: &format!("identity:{insider}"),
        words: "different objects",
        decided: ("notify", "observed", 60),
    });
    let findings = range.findings("behaviour");
    assert!(
        findings.iter().all(|one| one["about"] == format!("identity:{insider}")),
        "the colleague on call is nobody to be found: {findings:#?}"
    );
    let said: Vec<&str> = findings
        .iter()
        .flat_map(|one| one["signals"].as_array().unwrap())
        .filter_map(Value::as_str)
        .collect();
    assert!(said.iter().any(|text| text.contains("03:00 UTC")), "{said:#?}");
    // One behaviour is told by its most surprising count.
    let counted = |text: &&str| {
        (text.contains("objects") || text.contains("requests")) && text.contains("; usual")
    };
    assert!(said.iter().any(counted), "{said:#?}");

    // The profile tells the same: what is usual, what is now, and why that is not the same.
    let now = office.profile(&insider);
    let number = |value: &Value| value.as_f64().unwrap();
    assert!((5.0..20.0).contains(&number(&now["objects"]["usual"])), "{now}");
    assert!(number(&now["objects"]["now"]) > f64::from(BULK) * 0.8, "{now}");
    assert!(number(&now["score"]) >= number(&now["threshold"]), "{now}");
    let calm = office.profile(&name_of(&office.keys[1]));
    assert!(number(&calm["score"]) < number(&calm["threshold"]), "{calm}");
    assert_eq!(now["days"].as_u64().unwrap(), learned["days"].as_u64().unwrap() + 1);
    let shown = range.stage.enforcer(&["profile", "show", &insider]);
    assert!(shown.stdout.contains("never read before") && shown.stdout.contains("^"), "{shown}");
    assert!(shown.stdout.contains("03:00 UTC"), "{shown}");

    range.approve(&asked);
    let ask = Ask::get("/v1/orders/1").key(&key);
    let mut again = range.stage.client(Family::V4).connect(Http::One).unwrap();
    assert_eq!(again.ask(&ask).unwrap().status, 403);
    office.work(24, &[0, 2, 3, 4, 5]);
    range.take_back(&asked);
    let mut again = range.stage.client(Family::V4).connect(Http::One).unwrap();
    assert_eq!(again.ask(&ask).unwrap().status, 200);
    range.expect_whole_log();
}

#[test]
#[ignore = "needs root; run by `cargo xtask test`"]
fn what_is_usual_survives_a_restart_and_a_kill_and_a_damaged_file_is_put_aside_and_said() {
    let mut office = Office::at("2026-03-02 09:05:00");
    office.work(2, &[]);
    office.until("2026-03-03 10:05:00");
    office.work(3, &[]);
    let who = name_of(&office.keys[1]);
    let known = |office: &Office| {
        let profile = office.profile(&who);
        (profile["days"].as_u64(), profile["requests"]["now"].as_f64())
    };
    let before = known(&office);
    assert_eq!(before.0, Some(1));

    office.until("2026-03-03 10:10:00");
    assert_eq!(known(&office), before, "a restart forgets nothing");
    office.work(3, &[]);
    let more = known(&office);
    assert!(more.1 > before.1);

    // As a power cut ends it: what it had learned since it last saved is gone, and nothing else.
    office.range.stage.kill();
    office.begin("2026-03-03 10:15:00");
    assert_eq!(known(&office), before);
    let said = office.range.stage.agent.as_ref().unwrap().said();
    assert!(!said.contains("begin anew"), "{said}");

    office.range.stage.kill();
    let file = office.range.stage.site.state().join("profiles");
    let mut bytes = std::fs::read(&file).unwrap();
    bytes[100] ^= 1;
    std::fs::write(&file, bytes).unwrap();
    office.begin("2026-03-03 10:20:00");
    let said = office.range.stage.agent.as_ref().unwrap().said();
    assert!(said.contains("profiles begin anew"), "{said}");
    assert!(file.with_extension("damaged").exists());
    let unknown = office.range.stage.enforcer(&["profile", "show", &who]);
    assert!(!unknown.is_success(), "{unknown}");
    office.work(3, &[]);
}
