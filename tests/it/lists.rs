//! Lists of networks: in force in one step, replaced without a gap, ended as one.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::fs;
use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

use enforcer_model::Prefix;
use enforcer_tests::lab::{ATTACKER, DEADLINE, Family, Output, wait_until};
use serde_json::Value;

use crate::stage::{Hook, Stage, orders, policy};

/// Who is on a list, and who is not, of the attacker's crowd.
const LISTED: [&str; 2] = ["10.88.7.7", "fd88::7:7"];
const FREE: [&str; 2] = ["10.88.7.8", "fd88::7:8"];

#[test]
#[ignore = "needs root; run by `cargo xtask test`"]
fn a_hundred_thousand_networks_are_in_force_in_one_step_and_what_is_left_out_is_told() {
    let stage = Stage::new(Hook::Native);
    stage.crowd();
    let networks = networks(60_000, 40_000);
    let mut text = String::from("; a feed\r\n# 2026-01-01\n\n");
    for network in &networks {
        writeln!(text, "{network} ; SBL1").unwrap();
    }
    // Given twice, inside another, and what no block may hit.
    text += "10.88.7.7\n10.88.7.7\nfd88::7:7\n198.18.0.0/16\n198.18.4.4\n198.18.5.0/24\n";
    text += "10.77.9.5\nfd77:9::5\n10.77.2.1\n127.0.0.1\n9.0.0.0/8\n";
    let file = stage.file("feed.txt", &text);
    let words = ["blocks", "import", &file, "--list", "feed", "--reason", "test"];

    let dry = stage.enforcer(&[&words[..], &["--dry-run"]].concat());
    assert!(dry.stdout.contains("would import"), "{dry}");
    assert_eq!(stage.json(&["blocks", "lists"]).as_array().unwrap().len(), 0);
    let told = stage.enforcer(&[&words[..], &["--json"]].concat());

    assert_eq!(told.code, Some(6), "some were refused: {told}");
    let told = parsed(&told);
    let counts = ["networks", "v4", "v6", "duplicates", "contained", "refused_total", "removed"];
    let counts = counts.map(|name| told[name].as_u64().unwrap());
    assert_eq!(counts, [100_003, 60_002, 40_001, 1, 2, 5, 0], "{told}");
    let refused = told["refused"].to_string();
    for why in ["monitoring", "address of this host", "loopback", "wider than /16"] {
        assert!(refused.contains(why), "{why}: {refused}");
    }
    assert_eq!(told["kernel"]["entries"], 100_003, "{told}");
    assert_eq!((&told["layer7"], &told["kernel_off"]), (&Value::Bool(true), &Value::Null));
    assert!(told["audit"].as_u64().is_some());
    assert!(!stage.reaches(&LISTED));
    assert!(stage.reaches(&FREE));

    // What comes out goes in again, and is the same.
    let exported = stage.enforcer(&["blocks", "export", "--list", "feed"]);
    let listed: BTreeSet<_> = exported.stdout.lines().map(str::to_owned).collect();
    let mut wanted: BTreeSet<_> = networks.into_iter().collect();
    wanted.extend([LISTED[0], LISTED[1], "198.18.0.0/16"].map(str::to_owned));
    assert_eq!(listed.len(), exported.stdout.lines().count());
    assert!(listed == wanted, "{} exported", listed.len());
    let copy = stage.file("copy.txt", &exported.stdout);
    let told = stage.json(&["blocks", "import", &copy, "--reason", "test"]);
    assert_eq!((&told["list"], &told["already_blocked"]), (&"copy".into(), &100_003.into()));
    let again = stage.enforcer(&["blocks", "export", "--list", "copy"]);
    assert!(again.stdout == exported.stdout, "the copy is another list");

    let rows = stage.json(&["blocks", "lists"]);
    let sum = |name: &str| rows.as_array().unwrap().iter().map(|r| r[name].as_u64().unwrap()).sum();
    let (in_kernel, held): (u64, u64) = (sum("in_kernel"), sum("networks"));
    assert_eq!((in_kernel, held), (100_003, 200_006), "one slot each: {rows}");
    stage.expect_verified();
    let why = stage.json(&["blocks", "--why", LISTED[0]]);
    assert_eq!((&why["verdict"], &why["kernel"]["verdict"]), (&"drop".into(), &"drop".into()));
    assert_eq!(why["lists"].as_array().unwrap().len(), 2, "{why}");

    let ended = stage.json(&["release", "list:copy"]);
    assert_eq!((&ended["still_blocked"], &ended["networks"]), (&100_003.into(), &100_003.into()));
    assert!(!stage.reaches(&LISTED), "the other list stands");
    assert!(stage.enforcer(&["release", "list:feed", "--reason", "test"]).is_success());
    assert!(stage.reaches(&LISTED));
    stage.expect_verified();
    let records = stage.records_of("list");
    let events: Vec<_> = records.iter().map(|record| record["body"]["what"].clone()).collect();
    assert_eq!(events, ["imported", "imported", "released", "released"]);
}

#[test]
#[ignore = "needs root; run by `cargo xtask test`"]
fn one_bad_line_imports_nothing_and_is_named_with_what_to_write() {
    let stage = Stage::new(Hook::Native);
    let file = stage.file("bad.txt", "192.0.2.1\n# a comment\n10.1.2.3/8\nexample.com\n");

    let refused = stage.enforcer(&["blocks", "import", &file, "--reason", "test"]);

    assert_eq!(refused.code, Some(2), "{refused}");
    assert!(refused.stdout.is_empty(), "{refused}");
    for told in [":3: ", "10.0.0.0/8", ":4: ", "nothing was imported"] {
        assert!(refused.stderr.contains(told), "{told}: {refused}");
    }
    for (name, text) in [("empty.txt", "# nothing\n"), ("all.txt", "127.0.0.1\n10.77.9.1\n")] {
        let file = stage.file(name, text);
        let refused = stage.enforcer(&["blocks", "import", &file, "--reason", "test"]);
        assert!(matches!(refused.code, Some(2 | 4)), "{name}: {refused}");
    }
    assert_eq!(stage.json(&["blocks", "lists"]).as_array().unwrap().len(), 0);
    assert_eq!(stage.enforcer(&["release", "list:bad"]).code, Some(3));
    let masked = stage.file("masked.txt", "192.0.2.7/24\n");
    let words = ["blocks", "import", &masked, "--mask", "--reason", "test"];
    assert_eq!(stage.json(&words)["networks"], 1);
    assert_eq!(stage.enforcer(&["blocks", "export"]).stdout, "192.0.2.0/24\n");
}

#[test]
#[ignore = "needs root; run by `cargo xtask test`"]
fn a_list_ends_in_the_kernel_when_its_time_is_over_with_no_agent_about() {
    let mut stage = Stage::new(Hook::Native);
    stage.crowd();
    let streams = LISTED.map(|source| stage.stream(&[source]));
    let file = stage.file("short.txt", &LISTED.join("\n"));
    let begun = Instant::now();
    let words = ["blocks", "import", &file, "--for", "4s", "--reason", "test"];
    assert!(stage.enforcer(&words).is_success());
    let imported = begun.elapsed();

    stage.kill();

    assert!(!stage.reaches(&LISTED));
    std::thread::sleep(Duration::from_secs(4).saturating_sub(begun.elapsed()) + imported);
    assert!(stage.reaches(&LISTED));
    for stream in streams {
        let passage = stream.stop().unwrap().remove(0);
        let (lost, passed) = (passage.sent - passage.arrived, passage.arrived);
        assert!((2_000..4_500).contains(&lost) && passed > 0, "of some 4,000: {passage:?}");
    }
    stage.start();
    wait_until("the list is cleared away", DEADLINE, || {
        stage.json(&["blocks", "lists"]).as_array().unwrap().is_empty()
    })
    .unwrap();
    stage.expect_verified();
    assert_eq!(stage.records_of("list").pop().unwrap()["body"]["what"], "expired");
}

#[test]
#[ignore = "needs root; run by `cargo xtask test`"]
fn while_a_list_is_replaced_who_stays_on_it_never_gets_through_and_who_never_was_loses_nothing() {
    const ON_BOTH: usize = 0;
    const ON_NEITHER: usize = 3;
    let stage = Stage::new(Hook::Native);
    stage.crowd();
    let [v4, v6] = [
        ["10.88.0.1", "10.88.0.2", "10.88.0.3", "10.88.0.4"],
        ["fd88::1", "fd88::2", "fd88::3", "fd88::4"],
    ];
    // A different twenty thousand each time, so that everything else changes.
    let version = |fillers: Vec<String>, second: usize| {
        let members = [v4[ON_BOTH], v6[ON_BOTH], v4[second], v6[second]];
        fillers.join("\n") + "\n" + &members.join("\n") + "\n"
    };
    let all = networks(20_000, 20_000);
    let (odd, even): (Vec<_>, Vec<_>) =
        all.into_iter().enumerate().partition(|(number, _)| number % 2 == 1);
    let lines = |half: Vec<(usize, String)>| half.into_iter().map(|(_, line)| line).collect();
    let files =
        [stage.file("a", &version(lines(odd), 1)), stage.file("b", &version(lines(even), 2))];
    let import = |file: &str| {
        let done = stage.json(&["blocks", "import", file, "--list", "feed", "--reason", "test"]);
        assert_eq!(done["kernel"]["entries"], 20_004, "{done}");
        done["removed"].as_u64().unwrap()
    };
    assert_eq!(import(&files[0]), 0);
    let streams = [stage.stream(&v4), stage.stream(&v6)];

    for round in 1..=6 {
        assert_eq!(import(&files[round % 2]), 20_002);
        streams.iter().for_each(|stream| stream.flow(20).unwrap());
    }
    // The same again changes only when it ends.
    assert_eq!(import(&files[0]), 0);

    for stream in streams {
        let passages = stream.stop().unwrap();
        assert!(passages[ON_BOTH].is_shut_out(), "{:?}", passages[ON_BOTH]);
        assert!(passages[ON_NEITHER].is_served(), "{:?}", passages[ON_NEITHER]);
        for by_turns in &passages[1..3] {
            assert!((1..by_turns.sent).contains(&by_turns.arrived), "{by_turns:?}");
        }
    }
    assert!(!stage.reaches(&[v4[1], v6[1]]));
    assert!(stage.reaches(&[v4[2], v6[2]]));
    stage.expect_verified();
}

#[test]
#[ignore = "needs root; run by `cargo xtask test`"]
fn lists_come_back_after_a_reboot_and_a_damaged_one_is_told_while_the_kernel_keeps_it() {
    let mut stage = Stage::new(Hook::Native);
    stage.crowd();
    let file = stage.file("feed.txt", &(LISTED.join("\n") + "\n198.51.100.0/24\n"));
    let words = ["blocks", "import", &file, "--for", "1h", "--reason", "test"];
    assert!(stage.enforcer(&words).is_success());
    let before = stage.json(&["blocks", "lists"])[0].clone();
    stage.agent.take().unwrap().terminate().unwrap();
    // What a reboot does: the kernel forgets everything, the disk nothing.
    assert!(stage.offline(&["detach", "--yes"]).is_success());
    assert!(stage.reaches(&LISTED));

    stage.start();

    let row = stage.json(&["blocks", "lists"])[0].clone();
    for same in ["name", "id", "networks", "since", "until", "reason", "author", "in_kernel"] {
        assert_eq!(row[same], before[same], "{same}");
    }
    assert_eq!((&row["layer7"], &row["in_kernel"]), (&Value::Bool(true), &3.into()));
    assert!(!stage.reaches(&LISTED));
    stage.expect_verified();

    stage.kill();
    let path = stage.site.state().join("lists/feed.list");
    let mut bytes = fs::read(&path).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(&path, &bytes).unwrap();
    stage.start();

    let said = stage.agent.as_ref().unwrap().said();
    assert!(said.contains("A LIST IS DAMAGED") && said.contains("feed.damaged-0"), "{said}");
    assert!(!stage.reaches(&LISTED), "the kernel holds it on");
    wait_until("what the kernel holds is a decision", DEADLINE, || {
        let rows = stage.json(&["blocks", "lists"]);
        rows.as_array().unwrap().iter().any(|row| row["in_kernel"] == 3)
    })
    .unwrap();
    stage.expect_verified();
    assert!(stage.enforcer(&words).is_success(), "the remedy");
    assert!(!stage.reaches(&LISTED));
    stage.expect_verified();
}

#[test]
#[ignore = "needs root; run by `cargo xtask test`"]
fn who_is_released_and_still_on_a_list_stays_blocked_and_is_told_so() {
    let stage = Stage::new(Hook::Native);
    stage.crowd();
    let file = stage.file("feed.txt", "10.88.7.0/24\nfd88::7:7\n10.88.9.9\n");
    let words = ["blocks", "import", &file, "--for", "forever", "--reason", "the feed"];
    assert!(stage.enforcer(&words).is_success());

    // Inside a network of the list, and one of its networks itself.
    for source in ["10.88.7.7", "fd88::7:7", "10.88.9.9"] {
        let told = stage.json(&["quarantine", source, "--reason", "test"]);
        assert!(told["overlaps"].to_string().contains("list feed"), "{told}");
        assert!(!stage.reaches(&[source]));

        let released = stage.enforcer(&["release", source]);

        assert!(released.stdout.contains("stays blocked"), "{released}");
        assert!(released.stdout.contains("list feed"), "{released}");
        assert!(!stage.reaches(&[source]), "{source}");
        let why = stage.json(&["blocks", "--why", source]);
        assert_eq!(why["verdict"], "drop", "{why}");
        assert!(why["because"].as_str().unwrap().contains("list feed"), "{why}");
        assert_eq!(why["blocks"].as_array().unwrap().len(), 0, "{why}");
    }
    stage.expect_verified();
    let row = stage.json(&["blocks", "lists"])[0].clone();
    assert_eq!(row["in_kernel"], 3, "{row}");
    assert!(row["packets"].as_u64().unwrap() > 0, "{row}");
    assert!(stage.enforcer(&["release", "list:feed"]).is_success());
    assert!(stage.reaches(&["10.88.7.7", "fd88::7:7", "10.88.9.9"]));
}

#[test]
#[ignore = "needs root; run by `cargo xtask test`"]
fn a_list_holds_at_layer_7_where_the_kernel_half_is_off() {
    let off = policy(Hook::Native).replace("mode = \"enforce\"", "mode = \"off\"");
    let stage = Stage::with_policy(&off);
    let own = ATTACKER.of(Family::V4).to_string();
    let file = stage.file("feed.txt", &own);

    let told = stage.enforcer(&["blocks", "import", &file, "--reason", "test"]);

    assert!(told.stdout.contains("layer 7 applied"), "{told}");
    stage.attacker_ping(Family::V4).until_answered().unwrap();
    assert!(stage.attacker(Family::V4).ask(&orders()).is_err());
    let why = stage.json(&["blocks", "--why", &own]);
    assert_eq!(why["verdict"], "refuse", "{why}");
}

fn parsed(output: &Output) -> Value {
    serde_json::from_str(&output.stdout).unwrap()
}

/// So many networks of each family, none of which the lab has.
fn networks(v4: u32, v6: u32) -> Vec<String> {
    let spread = |number: u32| Ipv4Addr::from_bits(0x6440_0000 + number * 7);
    let v4 = (0..v4).map(|number| spread(number).to_string());
    let v6 = (0..v6).map(|number| format!("2001:db8:{:x}:{:x}::/64", number >> 8, number & 0xff));
    let text = |network: String| network.parse::<Prefix>().unwrap().to_string();
    v4.chain(v6).map(text).collect()
}
