//! Every place that a program can be put in: it judges there for real, stays when the agent is
//! killed, is adopted, moves without a gap, and leaves what belongs to others alone.

use enforcer_kernel::{
    Attach, AttachError, Attachment, Config, Egress, Hook, Kernel, Mode, Verdict,
};

use rustix::thread::{CapabilitySet, CapabilitySets};

use crate::lab::{Lab, PEERS4, PEERS6, attached, entry, ip, prefix, tc};

const LADDER: [(Attach, Hook); 4] = [
    (Attach::Native, Hook::Native),
    (Attach::Generic, Hook::Generic),
    (Attach::Tcx, Hook::Tcx),
    (Attach::Clsact, Hook::Clsact),
];

#[test]
#[ignore = "needs root and the BPF object; run by `cargo xtask test`"]
fn in_every_place_what_is_blocked_drops_while_agents_die_and_follow_each_other() {
    for (attach, hook) in LADDER {
        let lab = Lab::new();
        let config = Config { attach, ..lab.config() };
        let mut kernel = Kernel::attach(&config, &[], &[]).unwrap();
        let (place, first) = attached(&kernel);
        assert_eq!(place, hook);
        for [blocked, free, _] in [PEERS4, PEERS6] {
            kernel.block(prefix(blocked), entry(7, None)).unwrap();
            assert_eq!(lab.send(blocked, || kernel.counters().unwrap()), Verdict::Drop);
            assert_eq!(lab.send(free, || kernel.counters().unwrap()), Verdict::Pass);
        }
        // All that the kernel sees of a kill -9 is that every descriptor is closed.
        drop(kernel);

        let pinned = Kernel::open_pinned(&lab.pins).unwrap();
        assert_eq!(attached(&pinned), (hook, first), "{hook}: it stays");
        for [blocked, free, _] in [PEERS4, PEERS6] {
            assert_eq!(lab.send(blocked, || pinned.counters().unwrap()), Verdict::Drop);
            assert_eq!(lab.send(free, || pinned.counters().unwrap()), Verdict::Pass);
        }
        drop(pinned);
        let traffic = lab.traffic(PEERS4[0], PEERS4[1]);
        for _ in 0..3 {
            let kernel = Kernel::attach(&config, &[], &[]).unwrap();
            let (place, next) = attached(&kernel);
            assert_eq!(place, hook);
            assert_ne!(next, first, "the program is this agent's");
            assert_eq!(kernel.interfaces().unwrap()[0].foreign, Vec::<String>::new());
            assert_eq!(kernel.blocks().unwrap().len(), 2);
            traffic.flow();
        }
        assert_eq!(traffic.end(), (0, 0), "{hook}: leaked and lost");

        assert_eq!(Kernel::detach_pinned(&lab.pins).unwrap(), ["guard"]);
        assert!(lab.reaches_unguarded(PEERS4[0]) && lab.reaches_unguarded(PEERS6[0]));
        let disciplines = tc(&["qdisc", "show", "dev", "guard"]);
        assert!(!disciplines.contains("clsact"), "{disciplines}");
    }
}

#[test]
#[ignore = "needs root and the BPF object; run by `cargo xtask test`"]
fn a_program_moves_from_any_place_to_any_other_and_no_blocked_packet_passes() {
    let lab = Lab::new();
    let mut kernel = Kernel::attach(&lab.config(), &[], &[]).unwrap();
    kernel.block(prefix(PEERS4[0]), entry(7, None)).unwrap();
    drop(kernel);
    let traffic = lab.traffic(PEERS4[0], PEERS4[1]);

    // Every place after every other.
    for place in [1, 0, 2, 0, 3, 1, 2, 1, 3, 2, 3, 0] {
        let (attach, hook): (Attach, Hook) = LADDER[place];
        let kernel = Kernel::attach(&Config { attach, ..lab.config() }, &[], &[]).unwrap();
        assert_eq!(attached(&kernel).0, hook);
        assert_eq!(kernel.interfaces().unwrap()[0].foreign, Vec::<String>::new());
        traffic.flow();
    }

    let (leaked, _) = traffic.end();
    assert_eq!(leaked, 0);
    Kernel::detach_pinned(&lab.pins).unwrap();
    assert!(lab.reaches_unguarded(PEERS4[0]), "nothing was left behind on the way");
}

#[test]
#[ignore = "needs root and the BPF object; run by `cargo xtask test`"]
fn beside_the_xdp_program_of_somebody_else_traffic_control_is_taken_and_the_owner_named() {
    let (lab, other) = (Lab::new(), Lab::new_pins());
    let quiet = Config { pins: other.clone(), mode: Mode::Off, ..lab.config() };
    let theirs = Kernel::attach(&quiet, &[], &[]).unwrap();
    let (_, number) = attached(&theirs);

    for attach in [Attach::Native, Attach::Generic] {
        let config = Config { attach, ..lab.config() };
        let refused = Kernel::attach(&config, &[], &[]).err().unwrap();
        assert!(
            matches!(&refused, AttachError::Occupied { interface, program }
            if interface == "guard" && program.starts_with(&number.to_string())),
            "{refused}"
        );
        assert!(refused.hint().unwrap().contains("auto"));
        assert!(!lab.pins.join("v2").exists(), "a failed call leaves nothing behind");
    }
    let auto = Config { attach: Attach::Auto, ..lab.config() };
    let mut kernel = Kernel::attach(&auto, &[], &[]).unwrap();

    assert_eq!(attached(&kernel).0, Hook::Tcx);
    let foreign = &kernel.interfaces().unwrap()[0].foreign;
    assert_eq!(*foreign, [format!("xdp {number} (enforcer_xdp)")]);
    kernel.block(prefix(PEERS4[0]), entry(7, None)).unwrap();
    assert_eq!(lab.send(PEERS4[0], || kernel.counters().unwrap()), Verdict::Drop);
    assert_eq!(lab.send(PEERS4[1], || kernel.counters().unwrap()), Verdict::Pass);
    assert_eq!(attached(&theirs), (Hook::Native, number), "theirs was left alone");
    kernel.detach().unwrap();
    assert_eq!(attached(&theirs), (Hook::Native, number));
    theirs.detach().unwrap();
}

#[test]
#[ignore = "needs root and the BPF object; run by `cargo xtask test`"]
fn beside_programs_of_others_at_traffic_control_ours_comes_first() {
    for attach in [Attach::Tcx, Attach::Clsact] {
        let (lab, other) = (Lab::new(), Lab::new_pins());
        let quiet = Config { pins: other.clone(), mode: Mode::Observe, attach, ..lab.config() };
        let theirs = Kernel::attach(&quiet, &[], &[]).unwrap();
        let (place, number) = attached(&theirs);

        let mut kernel = Kernel::attach(&Config { attach, ..lab.config() }, &[], &[]).unwrap();
        kernel.block(prefix(PEERS4[0]), entry(7, None)).unwrap();

        let seen = || theirs.counters().unwrap().total(Verdict::Pass);
        let before = seen();
        assert_eq!(lab.send(PEERS4[1], || kernel.counters().unwrap()), Verdict::Pass);
        let passed = seen();
        assert!(passed > before, "{place}: theirs judges what ours lets pass");
        let foreign = kernel.interfaces().unwrap()[0].foreign.clone();
        let [foreign] = foreign.as_slice() else { panic!("{foreign:?}") };
        assert!(foreign.starts_with(&format!("{place}-ingress {number} ")), "{foreign}");
        assert_eq!(lab.send(PEERS4[0], || kernel.counters().unwrap()), Verdict::Drop);
        if attach == Attach::Tcx {
            assert_eq!(theirs.blocks().unwrap(), []);
            let theirs_saw = theirs.counters().unwrap();
            assert_eq!(theirs_saw.total(Verdict::Drop), 0);
        }
        kernel.detach().unwrap();
        assert_eq!(attached(&theirs), (place, number), "theirs was left alone");
        theirs.detach().unwrap();
    }
}

#[test]
#[ignore = "needs root and the BPF object; run by `cargo xtask test`"]
fn a_queueing_discipline_and_filters_of_others_stay_when_ours_go() {
    let (lab, other) = (Lab::new(), Lab::new_pins());
    // A filter made with tc(8), of a program that does nothing.
    let nowhere = Config { interfaces: Vec::new(), pins: other.clone(), ..lab.config() };
    let theirs = Kernel::attach(&Config { mode: Mode::Off, ..nowhere }, &[], &[]).unwrap();
    let program = other.join("v2/enforcer_in");
    let program = ["bpf", "direct-action", "object-pinned", program.to_str().unwrap()];
    tc(&["qdisc", "add", "dev", "guard", "clsact"]);
    let filter = ["filter", "add", "dev", "guard", "ingress", "pref", "1"];
    tc(&[&filter[..], &program].concat());

    let clsact = Config { attach: Attach::Clsact, ..lab.config() };
    let mut kernel = Kernel::attach(&clsact, &[], &[]).unwrap();
    kernel.block(prefix(PEERS4[0]), entry(7, None)).unwrap();

    assert_eq!(lab.send(PEERS4[0], || kernel.counters().unwrap()), Verdict::Drop);
    let foreign = kernel.interfaces().unwrap()[0].foreign.clone();
    assert!(foreign.len() == 1 && foreign[0].starts_with("clsact-ingress "), "{foreign:?}");
    let ours = format!("enforcer_in {}", lab.pins.display());
    let filters = || tc(&["filter", "show", "dev", "guard", "ingress"]);
    let count = |text: &str| text.matches("direct-action").count();
    assert!(filters().contains(&ours) && count(&filters()) == 2, "{}", filters());
    kernel.detach().unwrap();
    assert!(!filters().contains(&ours) && count(&filters()) == 1, "{}", filters());
    theirs.detach().unwrap();
    assert!(tc(&["qdisc", "show", "dev", "guard"]).contains("clsact"));
}

#[test]
#[ignore = "needs root and the BPF object; run by `cargo xtask test`"]
fn nothing_is_sent_to_a_contained_peer_and_everything_to_the_others() {
    for (attach, hook) in [(Attach::Native, Hook::Tcx), (Attach::Clsact, Hook::Clsact)] {
        let lab = Lab::new();
        let config = Config { attach, egress: Egress::Contain, ..lab.config() };
        let mut kernel = Kernel::attach(&config, &[], &[]).unwrap();
        let egress = |kernel: &Kernel| kernel.interfaces().unwrap()[0].egress;
        let is_there =
            |state| matches!(state, Some(Attachment::Attached { hook: at, .. }) if at == hook);
        assert!(is_there(egress(&kernel)), "{:?}", egress(&kernel));
        for [blocked, free, watched] in [PEERS4, PEERS6] {
            assert!(lab.reaches_peer(blocked));
            kernel.block(prefix(blocked), entry(7, None)).unwrap();
            let only_in = enforcer_kernel::Entry { contain: false, ..entry(8, None) };
            kernel.block(prefix(watched), only_in).unwrap();

            assert!(!lab.reaches_peer(blocked), "{hook}: {blocked}");
            assert!(lab.reaches_peer(free) && lab.reaches_peer(watched));
        }
        drop(kernel);
        assert!(!lab.reaches_peer(PEERS4[0]), "{hook}: also without an agent");

        let mut kernel = Kernel::attach(&config, &[], &[]).unwrap();
        assert!(is_there(egress(&kernel)));
        assert!(!lab.reaches_peer(PEERS4[0]));
        kernel.set_egress(Egress::Count).unwrap();
        assert!(lab.reaches_peer(PEERS4[0]), "only counted");
        kernel.set_egress(Egress::Off).unwrap();
        let after = kernel.reattach().unwrap();
        assert_eq!(after[0].egress, None);
        assert_eq!(lab.send(PEERS4[0], || kernel.counters().unwrap()), Verdict::Drop);
        kernel.set_egress(Egress::Contain).unwrap();
        assert_eq!(kernel.interfaces().unwrap()[0].egress, Some(Attachment::Detached));
        assert!(is_there(kernel.reattach().unwrap()[0].egress));
        assert!(!lab.reaches_peer(PEERS4[0]));
        kernel.detach().unwrap();
        assert!(lab.reaches_peer(PEERS4[0]));
    }
}

#[test]
#[ignore = "needs root and the BPF object; run by `cargo xtask test`"]
fn an_interface_that_is_made_anew_is_guarded_again_in_every_place_and_both_ways() {
    for (attach, hook) in LADDER {
        let lab = Lab::new();
        let config = Config { attach, egress: Egress::Contain, ..lab.config() };
        let mut kernel = Kernel::attach(&config, &[], &[]).unwrap();
        kernel.block(prefix(PEERS4[0]), entry(7, None)).unwrap();

        lab.unplug("guard");
        let gone = kernel.reattach().unwrap();
        assert_eq!(gone[0].attachment, Attachment::Missing);
        assert_eq!((gone[0].egress, gone[0].mtu), (Some(Attachment::Missing), 0));
        lab.plug_in("guard");
        let anew = kernel.interfaces().unwrap();
        assert_eq!(anew[0].attachment, Attachment::Detached);
        assert_eq!(anew[0].egress, Some(Attachment::Detached));
        let again = kernel.reattach().unwrap();

        assert_eq!(again.len(), 1);
        assert_eq!(attached(&kernel).0, hook);
        assert!(matches!(again[0].egress, Some(Attachment::Attached { .. })));
        assert_eq!(lab.send(PEERS4[0], || kernel.counters().unwrap()), Verdict::Drop);
        assert!(!lab.reaches_peer(PEERS4[0]));
    }
}

#[test]
#[ignore = "needs root and the BPF object; run by `cargo xtask test`"]
fn an_interface_that_gets_another_name_or_larger_frames_stays_guarded() {
    for (attach, hook) in LADDER {
        let lab = Lab::new();
        let namespace = lab.host_namespace();
        let mut kernel = Kernel::attach(&Config { attach, ..lab.config() }, &[], &[]).unwrap();
        kernel.block(prefix(PEERS4[0]), entry(7, None)).unwrap();
        assert_eq!(kernel.interfaces().unwrap()[0].mtu, 1500);

        lab.set_mtu("9000");
        assert_eq!(kernel.interfaces().unwrap()[0].mtu, 9000);
        assert_eq!(attached(&kernel).0, hook);
        assert_eq!(lab.send(PEERS4[0], || kernel.counters().unwrap()), Verdict::Drop);
        ip(&["-n", namespace, "link", "set", "guard", "name", "other"]);

        let states = kernel.interfaces().unwrap();
        let [missing, renamed] = states.as_slice() else { panic!("{states:?}") };
        assert_eq!((missing.name.as_str(), missing.attachment), ("guard", Attachment::Missing));
        assert_eq!(renamed.name, "other");
        assert!(matches!(renamed.attachment, Attachment::Attached { hook: at, .. } if at == hook));
        assert_eq!(lab.send(PEERS4[0], || kernel.counters().unwrap()), Verdict::Drop);
        drop(kernel);
        let renamed = Config { interfaces: vec!["other".into()], attach, ..lab.config() };
        let kernel = Kernel::attach(&renamed, &[], &[]).unwrap();
        assert_eq!(kernel.interfaces().unwrap().len(), 1);
        assert_eq!(attached(&kernel).0, hook);
        assert_eq!(lab.send(PEERS4[0], || kernel.counters().unwrap()), Verdict::Drop);
    }
}

#[test]
#[ignore = "needs root and the BPF object; run by `cargo xtask test`"]
fn a_link_that_somebody_took_away_is_seen_and_made_again() {
    let lab = Lab::new();
    let mut kernel = Kernel::attach(&lab.config(), &[], &[]).unwrap();
    kernel.block(prefix(PEERS4[0]), entry(7, None)).unwrap();

    std::fs::remove_file(lab.pins.join("v2/link-guard")).unwrap();
    crate::lab::wait_for("the link to end", || {
        kernel.interfaces().unwrap()[0].attachment == Attachment::Detached
    });
    let again = kernel.reattach().unwrap();

    assert!(matches!(again[0].attachment, Attachment::Attached { hook: Hook::Native, .. }));
    assert_eq!(lab.send(PEERS4[0], || kernel.counters().unwrap()), Verdict::Drop);
}

#[test]
#[ignore = "needs root and the BPF object; run by `cargo xtask test`"]
fn an_agent_that_gave_up_its_privileges_still_tells_where_the_program_is() {
    for (attach, _) in LADDER {
        let lab = Lab::new();
        let config = Config { attach, egress: Egress::Contain, ..lab.config() };
        let kernel = Kernel::attach(&config, &[], &[]).unwrap();
        let [told] = <[_; 1]>::try_from(kernel.interfaces().unwrap()).unwrap();

        let unprivileged = move || {
            let none = CapabilitySets {
                effective: CapabilitySet::empty(),
                permitted: CapabilitySet::empty(),
                inheritable: CapabilitySet::empty(),
            };
            rustix::thread::set_capabilities(None, none).unwrap();
            kernel.interfaces().unwrap().remove(0)
        };
        let still = std::thread::spawn(unprivileged).join().unwrap();

        assert_eq!((still.attachment, still.egress), (told.attachment, told.egress));
        assert!(still.foreign.iter().all(|what| what.contains("CAP_NET_ADMIN")), "{still:?}");
    }
}
