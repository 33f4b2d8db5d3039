//! Bad input and bad luck: a clear message, a defined state, nothing lost.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

use enforcer_tests::lab::{
    ATTACKER, DEADLINE, Family, HOST_FOR_ATTACKER, Http, PORT, Train, raw_exchange, wait_until,
};

use crate::stage::{Hook, LAYER_7, Stage, orders, policy};

#[test]
#[ignore = "needs root; run by `cargo xtask test`"]
fn an_occupied_port_is_named_with_who_holds_it() {
    let mut stage = Stage::without_agent(&policy(Hook::Native));
    let held =
        stage.lab.host.run(|| std::net::TcpListener::bind(("0.0.0.0", PORT)).unwrap()).unwrap();

    let mut agent = stage.site.launch().unwrap();
    let status = agent.wait(DEADLINE).unwrap();

    assert_eq!(status.code(), Some(1));
    assert!(agent.said().contains("8443"), "{}", agent.said());
    assert!(agent.said().contains(&std::process::id().to_string()), "{}", agent.said());
    assert!(agent.said().contains("[listen.public]"), "{}", agent.said());
    drop(held);
    stage.start();
}

#[test]
#[ignore = "needs root; run by `cargo xtask test`"]
fn a_second_agent_is_refused_and_the_first_goes_on() {
    let stage = Stage::new(Hook::Native);
    let reader = stage.key("client", "reader");

    let mut second = stage.site.launch().unwrap();
    let status = second.wait(DEADLINE).unwrap();

    assert_eq!(status.code(), Some(1));
    assert!(second.said().contains("another agent"), "{}", second.said());
    assert_eq!(stage.client(Family::V4).ask(&orders().key(&reader)).unwrap().status, 200);
    assert!(stage.enforcer(&["blocks", "--verify"]).is_success());
}

#[test]
#[ignore = "needs root; run by `cargo xtask test`"]
fn without_privileges_layer_7_is_served_and_says_that_the_kernel_part_is_off() {
    let mut stage = Stage::without_agent(&policy(Hook::Native));
    // Nobody's files, so that the agent may write its state.
    open_to_all(stage.site.folder());
    let mut command = stage.lab.host.command("setpriv");
    let program = stage.site.command(&[]).unwrap();
    command
        .args(["--reuid=65534", "--regid=65534", "--clear-groups", "--bounding-set=-all"])
        .arg("--inh-caps=-all")
        .arg("--")
        .arg(std::env::var_os("ENFORCER_BIN").unwrap_or_else(|| program_path(&program)))
        .args(["run", "--policy", stage.site.policy().to_str().unwrap()]);

    let mut agent = stage.site.launch_command(command).unwrap();
    stage.site.wait_until_ready(&mut agent).unwrap();
    stage.agent = Some(agent);

    let said = stage.agent.as_ref().unwrap().said();
    assert!(said.contains("KERNEL PART IS OFF"), "{said}");
    assert!(said.contains("CAP_"), "{said}");
    let status = stage.json(&["status"]);
    assert_eq!(status["kernel"]["mode"], "off");
    let reader = stage.key("client", "reader");
    assert_eq!(stage.client(Family::V6).ask(&orders().key(&reader)).unwrap().status, 200);
    let target = ATTACKER.of(Family::V4).to_string();
    let done = stage.enforcer(&["quarantine", &target, "--reason", "test"]);
    assert_eq!(done.code, Some(6), "{done}");
    assert!(done.stdout.contains("NOT applied"), "{done}");
    assert!(stage.attacker(Family::V4).ask(&orders()).is_err(), "layer 7 closes the connection");
}

#[test]
#[ignore = "needs root; run by `cargo xtask test`"]
fn an_interface_that_vanishes_is_told_and_put_back_when_it_returns() {
    let stage = Stage::new(Hook::Native);
    let target = ATTACKER.of(Family::V4).to_string();
    assert!(stage.enforcer(&["quarantine", &target, "--reason", "test"]).is_success());

    stage.lab.attacker_cable.remove().unwrap();

    wait_until("status tells of it", DEADLINE, || {
        let problem = stage.json(&["status"])["kernel"]["problem"].to_string();
        problem.contains("enf-attacker")
    })
    .unwrap();
    let echo = stage.client_ping(Family::V4).once(Duration::from_secs(1)).unwrap();
    assert!(echo.is_some(), "the other interface works on");
    assert!(stage.block_of(&target).is_some());

    let (host, attacker) = (&stage.lab.host, &stage.lab.attacker);
    let peer = attacker.keeper();
    host.ip(&format!("link add enf-attacker type veth peer name eth0 netns {peer}")).unwrap();
    host.ip("address add 10.77.2.1/24 dev enf-attacker").unwrap();
    attacker.ip("address add 10.77.2.2/24 dev eth0").unwrap();
    wait_until("the program is back on it", DEADLINE, || {
        stage.json(&["status"])["kernel"]["problem"].is_null()
    })
    .unwrap();
    host.ip("link set enf-attacker up").unwrap();
    attacker.ip("link set eth0 up").unwrap();
    stage.expect_dropped(&stage.attacker_ping(Family::V4), &target);
    assert!(stage.enforcer(&["release", &target]).is_success());
    stage.attacker_ping(Family::V4).until_answered().unwrap();
}

#[test]
#[ignore = "needs root; run by `cargo xtask test`"]
fn an_interface_that_goes_down_and_comes_up_is_guarded_all_along() {
    let stage = Stage::new(Hook::Native);
    let target = ATTACKER.of(Family::V4).to_string();
    assert!(stage.enforcer(&["quarantine", &target, "--reason", "test"]).is_success());
    let host = HOST_FOR_ATTACKER.of(Family::V4);
    let train = Train::start(&stage.lab.attacker, host, Duration::from_millis(1)).unwrap();

    stage.lab.attacker_cable.unplug().unwrap();
    stage.lab.attacker_cable.plug().unwrap();

    stage.expect_dropped(&stage.attacker_ping(Family::V4), &target);
    assert!(train.stop().iter().all(|echo| echo.answered.is_none()), "a packet passed");
    assert!(stage.json(&["status"])["kernel"]["problem"].is_null());
    assert!(stage.enforcer(&["release", &target]).is_success());
    stage.attacker_ping(Family::V4).until_answered().unwrap();
}

#[test]
#[ignore = "needs root; run by `cargo xtask test`"]
fn an_interface_that_is_renamed_keeps_its_blocks_and_status_tells_of_it() {
    let stage = Stage::new(Hook::Native);
    let target = ATTACKER.of(Family::V4).to_string();
    assert!(stage.enforcer(&["quarantine", &target, "--reason", "test"]).is_success());
    let rename = |from: &str, to: &str| {
        for words in [
            format!("link set {from} down"),
            format!("link set {from} name {to}"),
            format!("link set {to} up"),
        ] {
            stage.lab.host.ip(&words).unwrap();
        }
    };

    rename("enf-attacker", "enf-renamed");
    wait_until("status tells of it", DEADLINE, || {
        let problem = stage.json(&["status"])["kernel"]["problem"].to_string();
        problem.contains("enf-attacker")
    })
    .unwrap();
    stage.expect_dropped(&stage.attacker_ping(Family::V4), &target);

    rename("enf-renamed", "enf-attacker");
    wait_until("all is well again", DEADLINE, || {
        stage.json(&["status"])["kernel"]["problem"].is_null()
    })
    .unwrap();
    stage.expect_dropped(&stage.attacker_ping(Family::V4), &target);
    assert!(stage.enforcer(&["release", &target]).is_success());
    stage.attacker_ping(Family::V4).until_answered().unwrap();
}

#[test]
#[ignore = "needs root; run by `cargo xtask test`"]
fn rubbish_at_every_door_harms_nobody() {
    let stage = Stage::new(Hook::Native);
    let reader = stage.key("client", "reader");
    let door = HOST_FOR_ATTACKER.at(Family::V4, PORT);
    let rubbish: [&[u8]; 6] = [
        b"GET / HTTP/1.1\r\nHost: api.test\r\n\r\n",
        b"\x16\x03\x01\xff\xff\x01\x00\xff\xfb\x03\x03",
        b"\x16\x03\x01\x00\x05\x01\x00\x00\x01\x00",
        b"\x80\x2e\x01\x03\x01",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        &[0; 4096],
    ];

    for bytes in rubbish {
        // Whatever comes back, it is no answer of the service.
        drop(raw_exchange(&stage.lab.attacker, door, bytes));
    }

    assert_eq!(stage.upstream.requests(), 0);
    let mut connection = stage.client(Family::V4).connect(Http::Two).unwrap();
    assert_eq!(connection.ask(&orders().key(&reader)).unwrap().status, 200);
    wait_until("the failed handshakes are counted", DEADLINE, || {
        let status = stage.json(&["status"]);
        let mut counters = status["requests"].as_array().unwrap().iter();
        let failed = counters.find(|counter| counter["name"] == "handshakes failed").unwrap();
        failed["count"].as_u64().unwrap() >= 3
    })
    .unwrap();
}

#[test]
#[ignore = "needs root; run by `cargo xtask test`"]
fn a_damaged_database_stops_the_start_and_is_left_as_it_was() {
    for name in ["keys.db", "blocks.db"] {
        let mut stage = Stage::new(Hook::Native);
        stage.agent.take().unwrap().terminate().unwrap();
        let file = stage.site.state().join(name);
        for side in ["-wal", "-shm"] {
            let beside = stage.site.state().join(format!("{name}{side}"));
            if beside.exists() {
                fs::remove_file(beside).unwrap();
            }
        }
        fs::write(&file, [0x5a; 8192]).unwrap();

        let mut agent = stage.site.launch().unwrap();
        let status = agent.wait(DEADLINE).unwrap();

        assert_eq!(status.code(), Some(1));
        assert!(agent.said().contains(name), "{}", agent.said());
        assert!(agent.said().contains("aside"), "{}", agent.said());
        assert_eq!(fs::read(&file).unwrap(), [0x5a; 8192]);
    }
}

#[test]
#[ignore = "needs root; run by `cargo xtask test`"]
fn a_secret_that_others_can_read_stops_the_start() {
    let mut stage = Stage::new(Hook::Native);
    stage.agent.take().unwrap().terminate().unwrap();
    for name in ["pepper", "fingerprint.key", "audit/key"] {
        let file = stage.site.state().join(name);
        fs::set_permissions(&file, fs::Permissions::from_mode(0o644)).unwrap();

        let mut agent = stage.site.launch().unwrap();
        let status = agent.wait(DEADLINE).unwrap();

        assert_eq!(status.code(), Some(1), "{name}");
        assert!(agent.said().contains("chmod"), "{name}: {}", agent.said());
        fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
    }
    stage.start();
}

#[test]
#[ignore = "needs root; run by `cargo xtask test`"]
fn a_full_disk_refuses_requests_keeps_blocks_and_counts_what_it_refused() {
    let mut stage = Stage::without_agent(&policy(Hook::Native));
    stage.small_disk();
    stage.start();
    let reader = stage.key("client", "reader");
    let target = ATTACKER.of(Family::V4).to_string();
    assert!(stage.enforcer(&["quarantine", &target, "--reason", "test"]).is_success());
    let mut connection = stage.client(Family::V4).connect(Http::One).unwrap();
    assert_eq!(connection.ask(&orders().key(&reader)).unwrap().status, 200);

    let ballast = stage.fill_disk();
    wait_until("requests are refused", DEADLINE, || {
        connection.ask(&orders().key(&reader)).unwrap().status == 503
    })
    .unwrap();
    stage.expect_dropped(&stage.attacker_ping(Family::V4), &target);

    drop(ballast);
    wait_until("requests are served again", DEADLINE, || {
        connection.ask(&orders().key(&reader)).unwrap().status == 200
    })
    .unwrap();
    let tail = stage.offline(&["audit", "tail", "-n", "1000"]);
    assert!(tail.stdout.contains("disk-full"), "{tail}");
    assert!(stage.offline(&["audit", "verify"]).is_success());
}

#[test]
#[ignore = "needs root; run by `cargo xtask test`"]
fn a_full_disk_lets_an_operator_act_and_says_what_is_not_on_it() {
    let mut stage = Stage::without_agent(&policy(Hook::Native));
    stage.small_disk();
    stage.start();
    let target = ATTACKER.of(Family::V4).to_string();
    let ping = stage.attacker_ping(Family::V4);
    ping.until_answered().unwrap();
    let earlier = "203.0.113.7";
    assert!(stage.enforcer(&["quarantine", earlier, "--reason", "test"]).is_success());
    let ballast = stage.fill_disk();
    // The log's last page may have room for a record or two; what it then gives back is taken too.
    let mut connection = stage.client(Family::V4).connect(Http::One).unwrap();
    wait_until("the log takes no more", DEADLINE, || {
        connection.ask(&orders()).unwrap().status == 503
    })
    .unwrap();
    ballast.fill();

    let shut_out = stage.enforcer(&["quarantine", &target, "--reason", "test"]);
    assert_eq!(shut_out.code, Some(6), "{shut_out}");
    assert!(shut_out.stdout.contains("NOT recorded"), "{shut_out}");
    assert!(shut_out.stdout.contains("NOT written"), "{shut_out}");
    stage.expect_dropped(&ping, &target);

    let let_in = stage.enforcer(&["release", &target]);
    assert_eq!(let_in.code, Some(6), "{let_in}");
    assert!(let_in.stdout.contains("NOT recorded"), "{let_in}");
    ping.until_answered().unwrap();
    // This one is on the disk, from which it cannot be taken.
    let let_in = stage.enforcer(&["release", earlier]);
    assert_eq!(let_in.code, Some(6), "{let_in}");
    assert!(let_in.stdout.contains("NOT recorded"), "{let_in}");
    assert!(let_in.stdout.contains("a restart would bring the block back"), "{let_in}");

    drop(ballast);
    wait_until("an operator's act is on record again", DEADLINE, || {
        stage.enforcer(&["quarantine", &target, "--reason", "test"]).is_success()
    })
    .unwrap();
    stage.expect_dropped(&ping, &target);
    wait_until("store, kernel and layer 7 agree again", DEADLINE, || {
        stage.enforcer(&["blocks", "--verify"]).is_success()
    })
    .unwrap_or_else(|error| panic!("{error}: {}", stage.enforcer(&["blocks", "--verify"])));
    assert!(stage.block_of(earlier).is_none(), "it stays released");
    assert!(stage.offline(&["audit", "verify"]).is_success());
}

#[test]
#[ignore = "needs root; run by `cargo xtask test`"]
fn init_writes_a_policy_that_runs_and_never_writes_over_one() {
    let stage = Stage::without_agent(LAYER_7);
    let file = stage.site.folder().join("fresh/policy.toml");
    let path = file.to_str().unwrap();
    let words = ["--policy", path, "init", "--upstream", "http://127.0.0.1:9000"];

    let first = stage.site.program(&words).unwrap();
    assert!(first.is_success(), "{first}");
    assert!(first.stdout.contains("next:"), "{first}");
    let again = stage.site.program(&words).unwrap();
    assert_eq!(again.code, Some(1), "{again}");
    assert!(again.stderr.contains("left alone"), "{again}");
    assert!(stage.site.program(&["--policy", path, "policy", "check"]).unwrap().is_success());
}

fn open_to_all(folder: &std::path::Path) {
    fs::set_permissions(folder, fs::Permissions::from_mode(0o777)).unwrap();
    for entry in fs::read_dir(folder).unwrap() {
        let entry = entry.unwrap();
        let mode = if entry.file_type().unwrap().is_dir() { 0o777 } else { 0o666 };
        fs::set_permissions(entry.path(), fs::Permissions::from_mode(mode)).unwrap();
        if mode == 0o777 {
            open_to_all(&entry.path());
        }
    }
}

fn program_path(command: &std::process::Command) -> std::ffi::OsString {
    command.get_args().last().unwrap().to_owned()
}
