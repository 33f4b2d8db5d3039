//! Agents that come and go, interfaces that vanish, programs of others.

use std::fs;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;

use enforcer_kernel::{
    Attach, AttachError, Attachment, Config, Hook, Kernel, Mode, Reason, Verdict,
};

use crate::lab::{Lab, PEERS4, PEERS6, entry, ip, prefix, wait_for};

#[test]
#[ignore = "needs root and the BPF object; run by `cargo xtask test`"]
fn what_is_blocked_stays_so_when_the_agent_is_gone_and_the_next_one_adopts_it() {
    for attach in [Attach::Native, Attach::Generic] {
        let lab = Lab::new();
        let config = Config { attach, ..lab.config() };
        let mut kernel = Kernel::attach(&config, &[], &[]).unwrap();
        kernel.block(prefix(PEERS4[0]), entry(7, None)).unwrap();
        kernel.block(prefix("2001:db8:77::2/127"), entry(8, None)).unwrap();
        let first = attached_program(&kernel);
        // All that the kernel sees of a kill -9 is that every descriptor is closed.
        drop(kernel);

        let pinned = Kernel::open_pinned(&lab.pins).unwrap();
        for source in [PEERS4[0], PEERS6[0]] {
            assert_eq!(lab.send(source, || pinned.counters().unwrap()), Verdict::Drop);
        }
        let kernel = Kernel::attach(&config, &[], &[]).unwrap();

        assert_ne!(attached_program(&kernel), first, "the program is this agent's");
        assert_eq!(kernel.blocks().unwrap().len(), 2);
        assert_eq!(kernel.counters().unwrap().packets(Verdict::Drop, Reason::Blocked), 2);
        for source in [PEERS4[0], PEERS6[0]] {
            assert_eq!(lab.send(source, || kernel.counters().unwrap()), Verdict::Drop);
        }
        assert_eq!(lab.send(PEERS4[1], || kernel.counters().unwrap()), Verdict::Pass);
    }
}

#[test]
#[ignore = "needs root and the BPF object; run by `cargo xtask test`"]
fn no_blocked_packet_passes_while_agents_replace_each_other_and_maps_change_size() {
    let lab = Arc::new(Lab::new());
    let mut kernel = Kernel::attach(&lab.config(), &[], &[]).unwrap();
    kernel.block(prefix(PEERS4[0]), entry(7, None)).unwrap();
    drop(kernel);
    let stop = Arc::new(AtomicBool::new(false));
    let sent = Arc::new(AtomicU64::new(0));
    let flood = {
        let (lab, stop, sent) = (Arc::clone(&lab), Arc::clone(&stop), Arc::clone(&sent));
        let mouth = lab.mouth(PEERS4[0]);
        thread::spawn(move || {
            while !stop.load(Ordering::Relaxed) {
                // The neighbour may be unknown for a moment; only what was sent counts.
                if mouth.send(b"knock").is_ok() {
                    sent.fetch_add(1, Ordering::Relaxed);
                }
            }
        })
    };

    for sources in [64, 64, 65_536, 16, 64] {
        let before = sent.load(Ordering::Relaxed);
        let kernel = Kernel::attach(&Config { sources, ..lab.config() }, &[], &[]).unwrap();
        wait_for("the flood", || sent.load(Ordering::Relaxed) > before + 200);
        drop(kernel);
    }
    stop.store(true, Ordering::Relaxed);
    flood.join().unwrap();

    assert!(!lab.heard_anything(), "a blocked datagram arrived");
    let pinned = Kernel::open_pinned(&lab.pins).unwrap();
    wait_for("every datagram to be counted", || {
        pinned.counters().unwrap().packets(Verdict::Drop, Reason::Blocked)
            >= sent.load(Ordering::Relaxed)
    });
}

#[test]
#[ignore = "needs root and the BPF object; run by `cargo xtask test`"]
fn an_agent_that_was_killed_half_way_to_larger_maps_leaves_a_folder_that_the_next_adopts() {
    let lab = Lab::new();
    let mut kernel = Kernel::attach(&lab.config(), &[], &[]).unwrap();
    kernel.block(prefix(PEERS4[0]), entry(7, None)).unwrap();
    drop(kernel);
    // The copy is pinned, the links use another program: what a kill leaves before the rename.
    let folder = lab.pins.join("v2");
    let unfinished = aya::maps::MapData::from_pin(folder.join("SOURCE6")).unwrap();
    unfinished.pin(folder.join("SOURCE4-next")).unwrap();

    let kernel = Kernel::attach(&Config { sources: 4096, ..lab.config() }, &[], &[]).unwrap();

    assert_eq!(kernel.blocks().unwrap().len(), 1);
    assert_eq!(lab.send(PEERS4[0], || kernel.counters().unwrap()), Verdict::Drop);
    let left: Vec<_> =
        fs::read_dir(&folder).unwrap().map(|file| file.unwrap().file_name()).collect();
    assert!(left.iter().all(|name| !name.to_string_lossy().ends_with("-next")), "{left:?}");
}

#[test]
#[ignore = "needs root and the BPF object; run by `cargo xtask test`"]
fn detaching_leaves_nothing_behind() {
    let lab = Lab::new();
    let mut kernel = Kernel::attach(&lab.config(), &[], &[]).unwrap();
    kernel.block(prefix(PEERS4[0]), entry(7, None)).unwrap();
    assert_eq!(lab.send(PEERS4[0], || kernel.counters().unwrap()), Verdict::Drop);

    kernel.detach().unwrap();

    assert!(lab.reaches_unguarded(PEERS4[0]));
    assert!(!lab.pins.exists());
    assert_eq!(Kernel::detach_pinned(&lab.pins).unwrap(), Vec::<String>::new());
    Kernel::attach(&lab.config(), &[], &[]).unwrap();
    assert_eq!(Kernel::detach_pinned(&lab.pins).unwrap(), ["guard"]);
    assert!(lab.reaches_unguarded(PEERS6[0]));
}

#[test]
#[ignore = "needs root and the BPF object; run by `cargo xtask test`"]
fn a_program_of_somebody_else_is_named_and_left_alone() {
    let (lab, other) = (Lab::new(), Lab::new_pins());
    let theirs = Kernel::attach(&Config { pins: other.clone(), ..lab.config() }, &[], &[]).unwrap();
    let number = attached_program(&theirs).to_string();

    let refused = Kernel::attach(&lab.config(), &[], &[]).err().unwrap();

    assert!(
        matches!(&refused, AttachError::Occupied { interface, program }
        if interface == "guard" && program.starts_with(&number)),
        "{refused}"
    );
    assert!(refused.hint().unwrap().contains("detach"));
    assert!(!lab.pins.join("v2").exists(), "a failed call leaves nothing behind");
    assert_eq!(attached_program(&theirs).to_string(), number);
    theirs.detach().unwrap();
    Kernel::attach(&lab.config(), &[], &[]).unwrap();
}

#[test]
#[ignore = "needs root and the BPF object; run by `cargo xtask test`"]
fn an_interface_that_vanishes_is_missing_then_detached_then_guarded_again() {
    let lab = Lab::new();
    let mut kernel = Kernel::attach(&lab.config(), &[], &[]).unwrap();
    kernel.block(prefix(PEERS4[0]), entry(7, None)).unwrap();
    let state = |kernel: &Kernel| kernel.interfaces().unwrap()[0].attachment;

    lab.unplug("guard");
    assert_eq!(state(&kernel), Attachment::Missing);
    assert_eq!(kernel.reattach().unwrap()[0].attachment, Attachment::Missing);
    lab.plug_in("guard");
    assert_eq!(state(&kernel), Attachment::Detached);
    let again = kernel.reattach().unwrap()[0].attachment;

    assert!(matches!(again, Attachment::Attached { hook: Hook::Native, .. }), "{again:?}");
    assert_eq!(lab.send(PEERS4[0], || kernel.counters().unwrap()), Verdict::Drop);
    // The same for an agent that starts while it was away.
    drop(kernel);
    lab.unplug("guard");
    lab.plug_in("guard");
    let kernel = Kernel::attach(&lab.config(), &[], &[]).unwrap();
    assert_eq!(lab.send(PEERS4[0], || kernel.counters().unwrap()), Verdict::Drop);
}

#[test]
#[ignore = "needs root and the BPF object; run by `cargo xtask test`"]
fn an_interface_that_is_not_there_is_answered_with_those_that_are() {
    let lab = Lab::new();
    let config = Config { interfaces: vec!["guard".into(), "eth7".into()], ..lab.config() };

    let refused = Kernel::attach(&config, &[], &[]).err().unwrap();

    assert!(refused.to_string().contains("`eth7`"), "{refused}");
    assert!(refused.hint().unwrap().contains("guard"));
    assert!(!lab.pins.exists());
    assert!(lab.reaches_unguarded(PEERS4[0]));
}

#[test]
#[ignore = "needs root and the BPF object; run by `cargo xtask test`"]
fn a_policy_that_names_other_interfaces_or_another_hook_is_followed() {
    let lab = Lab::new();
    let mut kernel = Kernel::attach(&lab.config(), &[], &[]).unwrap();
    kernel.block(prefix(PEERS4[0]), entry(7, None)).unwrap();
    drop(kernel);

    let generic = Config { attach: Attach::Generic, ..lab.config() };
    let kernel = Kernel::attach(&generic, &[], &[]).unwrap();
    let attachment = kernel.interfaces().unwrap()[0].attachment;
    assert!(matches!(attachment, Attachment::Attached { hook: Hook::Generic, .. }));
    assert_eq!(lab.send(PEERS4[0], || kernel.counters().unwrap()), Verdict::Drop);
    drop(kernel);

    let auto = Config { attach: Attach::Auto, mode: Mode::Observe, ..lab.config() };
    let kernel = Kernel::attach(&auto, &[], &[]).unwrap();
    let attachment = kernel.interfaces().unwrap()[0].attachment;
    assert!(matches!(attachment, Attachment::Attached { hook: Hook::Generic, .. }), "it stays");
    assert_eq!(lab.send(PEERS4[0], || kernel.counters().unwrap()), Verdict::Pass);
    drop(kernel);

    let none = Config { interfaces: Vec::new(), ..lab.config() };
    let kernel = Kernel::attach(&none, &[], &[]).unwrap();
    assert_eq!(kernel.interfaces().unwrap(), []);
    assert!(lab.reaches_unguarded(PEERS4[0]));
}

#[test]
#[ignore = "needs root and the BPF object; run by `cargo xtask test`"]
fn a_wire_with_large_frames_is_guarded_in_the_driver() {
    let lab = Lab::new();
    lab.set_mtu("9000");

    let kernel = Kernel::attach(&lab.config(), &[], &[]).unwrap();

    let attachment = kernel.interfaces().unwrap()[0].attachment;
    assert!(matches!(attachment, Attachment::Attached { hook: Hook::Native, .. }));
    assert_eq!(lab.send(PEERS4[0], || kernel.counters().unwrap()), Verdict::Pass);
}

#[test]
#[ignore = "needs root and the BPF object; run by `cargo xtask test`"]
fn a_driver_that_cannot_is_an_error_or_the_generic_path_as_the_policy_says() {
    let lab = Lab::new();
    // The loopback of a namespace has no driver; the other has one, and a name with a dot.
    let pair = ["link", "add", "dot.7", "type", "veth", "peer", "name", "end.7"];
    ip(&[&["-n", lab.host_namespace()], &pair[..]].concat());
    let interfaces = vec!["dot.7".to_owned(), "lo".to_owned()];
    let config = |attach| Config { interfaces: interfaces.clone(), attach, ..lab.config() };

    let refused = Kernel::attach(&config(Attach::Native), &[], &[]).err().unwrap();
    assert!(matches!(&refused, AttachError::Native { interface, .. } if interface == "lo"));
    assert!(refused.hint().unwrap().contains("generic"));
    assert!(!lab.pins.join("v2").exists(), "what was attached before it is taken back");
    let kernel = Kernel::attach(&config(Attach::Auto), &[], &[]).unwrap();

    let hooks: Vec<_> = kernel
        .interfaces()
        .unwrap()
        .into_iter()
        .map(|interface| match interface.attachment {
            Attachment::Attached { hook, .. } => (interface.name, hook),
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(hooks, [("dot.7".to_owned(), Hook::Native), ("lo".to_owned(), Hook::Generic)]);
}

#[test]
#[ignore = "needs root and the BPF object; run by `cargo xtask test`"]
fn a_map_of_another_shape_is_not_touched() {
    let lab = Lab::new();
    drop(Kernel::attach(&lab.config(), &[], &[]).unwrap());

    fs::remove_file(lab.pins.join("v2/ALLOW4")).unwrap();
    fs::rename(lab.pins.join("v2/ALLOW6"), lab.pins.join("v2/ALLOW4")).unwrap();
    let refused = Kernel::attach(&lab.config(), &[], &[]).err().unwrap();

    assert!(refused.to_string().contains("ALLOW4"), "{refused}");
    assert!(refused.hint().unwrap().contains("detach"));
}

fn attached_program(kernel: &Kernel) -> u32 {
    match kernel.interfaces().unwrap()[0].attachment {
        Attachment::Attached { program, .. } => {
            assert!(program.tag.is_some());
            program.id
        }
        other => panic!("{other:?}"),
    }
}

/// `ip netns exec` gives a process mounts of its own, in which no bpf file system is mounted.
#[test]
#[ignore = "needs root and the BPF object; run by `cargo xtask test`"]
fn what_an_agent_with_mounts_of_its_own_has_blocked_stays_so_when_it_is_gone() {
    const AGENT: &str = "ENFORCER_TEST_PINS";
    const NAME: &str =
        "life::what_an_agent_with_mounts_of_its_own_has_blocked_stays_so_when_it_is_gone";
    if let Some(pins) = std::env::var_os(AGENT) {
        let config = Config { pins: pins.into(), ..Lab::agents() };
        let mut kernel = match Kernel::open_pinned(&config.pins) {
            Ok(left) => {
                assert_eq!(left.blocks().unwrap().len(), 1, "the second agent finds the block");
                return left.detach().unwrap();
            }
            Err(_) => Kernel::attach(&config, &[], &[]).unwrap(),
        };
        kernel.block(prefix(PEERS4[0]), entry(7, None)).unwrap();
        return;
    }
    let lab = Lab::new();
    let agent = || {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", lab.host_namespace()]);
        command.arg(std::env::current_exe().unwrap());
        command.args(["--exact", NAME, "--ignored"]).env(AGENT, &lab.pins);
        assert!(command.status().unwrap().success());
    };

    agent();
    let pins = fs::read_dir(&lab.pins).unwrap().next().unwrap().unwrap().path();
    let left = Kernel::open_pinned(&pins).unwrap();
    assert_eq!(lab.send(PEERS4[0], || left.counters().unwrap()), Verdict::Drop);
    assert_eq!(lab.send(PEERS4[1], || left.counters().unwrap()), Verdict::Pass);
    drop(left);
    agent();

    let mouth = lab.mouth(PEERS4[0]);
    mouth.send(b"knock").unwrap();
    wait_for("the program to be gone", || lab.heard_anything());
    fs::remove_dir(&lab.pins).unwrap();
}
