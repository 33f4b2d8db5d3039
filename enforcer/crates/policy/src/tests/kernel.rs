//! `[kernel]`: what it becomes, and what is refused because the kernel could not keep it.

use std::time::Duration;

use enforcer_kernel::{Attach, Bytes, Egress, OnAgentLoss};
use expect_test::expect;

use super::{SMALL, code_of, read, shipped_text};
use crate::{Policy, WhenFull};

#[test]
fn the_edge_policy_becomes_what_it_says() {
    let policy = read(&shipped_text("edge.toml")).unwrap();

    let kernel = policy.kernel().unwrap();
    assert_eq!((kernel.attach, kernel.egress), (Attach::Auto, Egress::Contain));
    assert_eq!((kernel.blocks, kernel.sources), (1 << 20, 1 << 20));
    assert_eq!(kernel.on_agent_loss, OnAgentLoss::Observe { lease: Duration::from_secs(30) });
    assert_eq!(policy.when_full(), WhenFull::Aggregate);
    let budgets = &kernel.budgets;
    assert_eq!(budgets.ports, [80, 443, 8443]);
    assert_eq!(budgets.flood.unwrap().count(), 20_000);
    let escalate = budgets.escalate.unwrap();
    assert_eq!((escalate.sources.get(), escalate.within.as_secs()), (8, 10));
    assert_eq!(escalate.for_, Duration::from_secs(600));
    let default = budgets.default.unwrap();
    assert_eq!(default.bytes, Some(Bytes { rate: 100 << 20, burst: 200 << 20 }));
    let syns = default.syns.unwrap();
    assert_eq!((syns.rate.count(), syns.burst.get()), (200, 400));
    assert_eq!((default.penalty, default.observe), (Duration::from_secs(5), false));
    let [partners, office, crawlers] = &*budgets.classes else { panic!() };
    assert_eq!((&*partners.name, partners.networks.len()), ("partners", 2));
    assert_eq!(partners.budget.unwrap().bytes, None);
    assert_eq!(office.budget, None, "unlimited");
    assert!(crawlers.budget.unwrap().observe);
}

#[test]
fn a_kernel_section_with_interfaces_alone_has_the_documented_defaults() {
    let policy = with("").unwrap();

    let kernel = policy.kernel().unwrap();
    assert_eq!((kernel.attach, kernel.egress), (Attach::Auto, Egress::Contain));
    assert_eq!(kernel.on_agent_loss, OnAgentLoss::Keep);
    assert_eq!((kernel.blocks, kernel.sources), (1 << 20, 1 << 16));
    assert_eq!(kernel.budgets, enforcer_kernel::Budgets::default());
    assert_eq!(policy.when_full(), WhenFull::Aggregate);
    let lease = with("on_agent_loss = 'observe'").unwrap();
    let loss = lease.kernel().unwrap().on_agent_loss;
    assert_eq!(loss, OnAgentLoss::Observe { lease: Duration::from_secs(30) });
}

#[test]
fn every_problem_of_the_section_is_told_at_once_with_the_way_out() {
    let text = r#"
interfaces = ["eth0", "eth0"]
attach = "drver"
ports = [443, 0, 443, 1, 2, 3, 4, 5, 6, 7]
flood = "1000/s"
lease = "10s"
budget = { packets = "5000/s", bytes = "100MiB", syns = "200000/s", syn_burst = 1 }
[kernel.class.a]
networks = ["192.0.2.0/24", "192.0.2.1/24"]
budget = "unlimitd"
[kernel.class.b]
networks = ["192.0.2.0/24"]
budget = { penalty = "1s", brust = 3 }
"#;

    let problems = with(text).unwrap_err();

    expect![[r#"
        error[E-POL-011]: interface `eth0` is named twice
          --> policy.toml:18:23
           |
        18 | interfaces = ["eth0", "eth0"]
           |                       ^^^^^^
           = hint: remove one of the two

        error[E-POL-005]: `kernel.attach`: `drver` is not one of the choices
          --> policy.toml:19:10
           |
        19 | attach = "drver"
           |          ^^^^^^^
           = hint: one of "auto", "native", "generic", "tcx", "clsact"

        error[E-POL-005]: `kernel.ports` names 9 ports; the kernel compares 8
          --> policy.toml:20:9
           |
        20 | ports = [443, 0, 443, 1, 2, 3, 4, 5, 6, 7]
           |         ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^
           = hint: leave the key out to keep budgets for all traffic

        error[E-POL-005]: `kernel.ports[1]`: 0 is out of range
          --> policy.toml:20:15
           |
        20 | ports = [443, 0, 443, 1, 2, 3, 4, 5, 6, 7]
           |               ^
           = hint: a whole number from 1 to 65535

        error[E-POL-011]: port 443 is named twice
          --> policy.toml:20:18
           |
        20 | ports = [443, 0, 443, 1, 2, 3, 4, 5, 6, 7]
           |                  ^^^
           = hint: remove one of the two

        error[E-POL-022]: `kernel.lease` has no meaning while `on_agent_loss` is "keep"
          --> policy.toml:22:9
           |
        22 | lease = "10s"
           |         ^^^^^
           = hint: add `on_agent_loss = "observe"`, or remove the lease

        error[E-POL-022]: `kernel.budget.packets` has no meaning without `burst`
          --> policy.toml:23:22
           |
        23 | budget = { packets = "5000/s", bytes = "100MiB", syns = "200000/s", syn_burst = 1 }
           |                      ^^^^^^^^
           = hint: add `burst = 100000`

        error[E-POL-005]: `kernel.budget.bytes`: `100MiB` is not a rate of bytes
          --> policy.toml:23:40
           |
        23 | budget = { packets = "5000/s", bytes = "100MiB", syns = "200000/s", syn_burst = 1 }
           |                                        ^^^^^^^^
           = hint: write it as `100MiB/s`, with `KiB`, `MiB` or `GiB`

        error[E-POL-022]: `kernel.budget.bytes` has no meaning without `bytes_burst`
          --> policy.toml:23:40
           |
        23 | budget = { packets = "5000/s", bytes = "100MiB", syns = "200000/s", syn_burst = 1 }
           |                                        ^^^^^^^^
           = hint: add `bytes_burst = "200MiB"`

        error[E-POL-005]: `kernel.budget.syns`: 200000/s cannot be told from more
          --> policy.toml:23:57
           |
        23 | budget = { packets = "5000/s", bytes = "100MiB", syns = "200000/s", syn_burst = 1 }
           |                                                         ^^^^^^^^^^
           = hint: at most 100000/s; leave it out to keep none

        error[E-POL-005]: `kernel.class.a.networks[1]`: `192.0.2.1/24` has host bits set
          --> policy.toml:25:29
           |
        25 | networks = ["192.0.2.0/24", "192.0.2.1/24"]
           |                             ^^^^^^^^^^^^^^
           = hint: the network is `192.0.2.0/24`

        error[E-POL-005]: `kernel.class.a.budget`: `unlimitd` is not `unlimited`
          --> policy.toml:26:10
           |
        26 | budget = "unlimitd"
           |          ^^^^^^^^^^
           = hint: write "unlimited", or a table with its keys

        error[E-POL-011]: `192.0.2.0/24` is in class `a` already
          --> policy.toml:28:13
           |
        28 | networks = ["192.0.2.0/24"]
           |             ^^^^^^^^^^^^^^
           = hint: remove one of the two

        error[E-POL-022]: `kernel.class.b.budget` limits nothing
          --> policy.toml:29:10
           |
        29 | budget = { penalty = "1s", brust = 3 }
           |          ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^
           = hint: give it `packets` and `burst`, `bytes` and `bytes_burst`, or `syns` and `syn_burst`

        error[E-POL-002]: unknown key `brust` in `kernel.class.b.budget`
          --> policy.toml:29:28
           |
        29 | budget = { penalty = "1s", brust = 3 }
           |                            ^^^^^
           = hint: did you mean `burst`?"#]]
    .assert_eq(&problems);
}

#[test]
fn halves_of_settings_are_refused() {
    for half in [
        "budget = { packets = '5/s' }",
        "budget = { burst = 5 }",
        "budget = { bytes = '1MiB/s' }",
        "budget = { bytes_burst = '1MiB' }",
        "budget = { syns = '5/s' }",
        "budget = { syn_burst = 5 }",
        "budget = { penalty = '5s' }",
        "budget = {}",
        "flood = '5/s'",
        "flood = '5/s'\nbudget = { syns = '5/s', syn_burst = 5 }",
        "ports = [443]",
        "ports = [443]\n[kernel.class.a]\nnetworks = ['::/0']\nbudget = 'unlimited'",
        "escalate = { sources = 8, within = '10s', for = '10m' }",
        "lease = '10s'",
        "lease = '10s'\non_agent_loss = 'keep'",
    ] {
        assert_eq!(code_of(&text(half)), ["E-POL-022"], "{half}");
    }
}

#[test]
fn what_the_kernel_cannot_keep_is_refused() {
    let classes = |count| -> String {
        let class = |n| {
            format!("[kernel.class.c{n}]\nnetworks = ['10.0.{n}.0/24']\nbudget = 'unlimited'\n")
        };
        (0..count).map(class).collect()
    };
    assert!(with(&classes(62)).is_ok());
    let networks: Vec<_> =
        (0..4_097u32).map(|n| format!("'10.{}.{}.0/24'", n >> 8, n & 255)).collect();
    let list = networks.join(",");
    for (code, lines) in [
        ("E-POL-005", classes(63)),
        ("E-POL-005", "ports = [1,2,3,4,5,6,7,8,9]\nbudget = {packets='1/s',burst=1}".to_owned()),
        ("E-POL-005", "budget = { syns = '100001/s', syn_burst = 1 }".to_owned()),
        ("E-POL-005", "budget = { syns = '1/s', syn_burst = 5000 }".to_owned()),
        ("E-POL-005", "budget = { packets = '1/s', burst = 86400 }".to_owned()),
        ("E-POL-005", "budget = { bytes = '63KiB/s', bytes_burst = '1MiB' }".to_owned()),
        ("E-POL-005", "budget = { bytes = '1MiB/s', bytes_burst = '63KiB' }".to_owned()),
        ("E-POL-005", "on_agent_loss = 'observe'\nlease = '4s'".to_owned()),
        ("E-POL-005", "on_agent_loss = 'observe'\nlease = '2h'".to_owned()),
        ("E-POL-023", format!("[kernel.class.a]\nnetworks = [{list}]\nbudget = 'unlimited'")),
        ("E-POL-023", format!("[guard]\nnever_block = {{ all = [{list}] }}")),
    ] {
        let brief: String = lines.chars().take(80).collect();
        assert_eq!(code_of(&text(&lines)), [code], "{brief}");
    }
}

#[test]
fn a_rate_between_two_steps_is_told_with_those_that_are_kept() {
    let policy = with("budget = { syns = '100000/s', syn_burst = 1 }").unwrap();

    let [warning] = policy.warnings() else { panic!("{:?}", policy.warnings()) };
    assert_eq!(warning.code, "E-POL-108");
    assert!(warning.message.contains("`kernel.budget.syns`: 100000/s"), "{warning}");
    let hint = warning.hint.as_deref().unwrap();
    assert_eq!(hint, "it is kept as 122070/s; 81380/s is the next below");
    for exact in [
        "packets = '1/s', burst = 1",
        "packets = '50000/s', burst = 100000",
        "bytes = '1GiB/s', bytes_burst = '64KiB'",
        "syns = '200/s', syn_burst = 400",
    ] {
        let policy = with(&format!("budget = {{ {exact} }}")).unwrap();
        assert_eq!(policy.warnings(), [], "{exact}");
    }
    for inexact in
        ["packets = '100000000/s', burst = 1", "bytes = '1GiB/s', bytes_burst = '127KiB'"]
    {
        let policy = with(&format!("budget = {{ {inexact} }}")).unwrap();
        assert_eq!(policy.warnings().len(), 1, "{inexact}");
    }
}

#[test]
fn budgets_egress_mode_lease_and_room_are_changed_without_a_restart() {
    let before = with("").unwrap();
    for live in [
        "budget = { packets = '5/s', burst = 5 }\nports = [443]\nflood = '9/s'",
        "[kernel.class.a]\nnetworks = ['::/0']\nbudget = 'unlimited'",
        "egress = 'off'",
        "mode = 'observe'",
        "on_agent_loss = 'observe'\nlease = '10s'",
        "when_full = 'refuse'",
    ] {
        assert_eq!(before.needs_restart(&with(live).unwrap()), [""; 0], "{live}");
    }
    for fixed in ["attach = 'tcx'", "blocks = 64", "sources = 64", "pins = '/sys/fs/bpf/x'"] {
        assert_eq!(before.needs_restart(&with(fixed).unwrap()), ["kernel"], "{fixed}");
    }
}

/// A policy with these lines in its `[kernel]` section.
fn with(lines: &str) -> Result<Policy, String> {
    read(&text(lines)).map_err(|problems| problems.to_string())
}

fn text(lines: &str) -> String {
    let interfaces = if lines.contains("interfaces") { "" } else { "interfaces = ['eth0']\n" };
    format!("{SMALL}[kernel]\n{interfaces}{lines}")
}
