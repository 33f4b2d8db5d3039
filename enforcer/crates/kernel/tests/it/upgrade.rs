//! One program takes the place of another: no blocked packet passes meanwhile, no other is lost,
//! and a program that cannot or must not run never gets there.

use std::fs;
use std::num::NonZeroU32;
use std::path::{Path, PathBuf};
use std::time::Duration;

use aya::maps::MapData;
use aya::programs::SchedClassifier;
use enforcer_kernel::{
    Attach, AttachError, Attachment, Budget, Budgets, Config, Egress, Hook, Kernel, Mode, Packets,
    Verdict,
};
use enforcer_model::{PerSecond, Prefix};

use crate::lab::{Lab, PEERS4, PEERS6, attached, entry, prefix};

const LADDER: [(Attach, Hook); 4] = [
    (Attach::Native, Hook::Native),
    (Attach::Generic, Hook::Generic),
    (Attach::Tcx, Hook::Tcx),
    (Attach::Clsact, Hook::Clsact),
];

#[test]
#[ignore = "needs root and the BPF object; run by `cargo xtask test`"]
fn an_upgrade_under_load_leaks_nothing_loses_nothing_and_says_what_it_did() {
    for (attach, hook) in LADDER {
        let lab = Lab::new();
        let config = Config { attach, egress: Egress::Contain, ..lab.config() };
        let mut kernel = Kernel::attach(&config, &[], &[]).unwrap();
        kernel.block(prefix(PEERS4[0]), entry(7, None)).unwrap();
        let traffic = lab.traffic(PEERS4[0], PEERS4[1]);

        for _ in 0..3 {
            let (_, before) = attached(&kernel);
            let upgraded = kernel.upgrade().unwrap();

            let (place, after) = attached(&kernel);
            assert_eq!(place, hook);
            assert_ne!(after, before, "another program runs");
            assert_eq!(upgraded.interfaces, ["guard"]);
            assert_eq!(upgraded.before, Some(upgraded.after), "of the same instructions");
            let egress = kernel.interfaces().unwrap()[0].egress;
            assert!(matches!(egress, Some(Attachment::Attached { program, .. })
                if program.tag.is_some()));
            traffic.flow();
        }
        // Without an agent: the maps that it left.
        drop(kernel);
        let mut pinned = Kernel::open_pinned(&lab.pins).unwrap();
        assert_eq!(pinned.upgrade().unwrap().interfaces, ["guard"]);
        traffic.flow();

        assert_eq!(traffic.end(), (0, 0), "{hook}: leaked and lost");
        assert!(!lab.reaches_peer(PEERS4[0]));
    }
}

#[test]
#[ignore = "needs root and the BPF object; run by `cargo xtask test`"]
fn what_another_layout_has_in_force_is_taken_over_under_load() {
    for (attach, hook) in LADDER {
        for layout in ["v1", "v3"] {
            let lab = Lab::new();
            let config = Config { attach, egress: Egress::Contain, ..lab.config() };
            let blocks = [(prefix(PEERS4[0]), entry(7, None)), (prefix(PEERS6[0]), entry(8, None))];
            let theirs = Kernel::attach(&config, &[], &blocks).unwrap();
            let (_, before) = attached(&theirs);
            drop(theirs);
            fs::rename(lab.pins.join("v2"), lab.pins.join(layout)).unwrap();
            let traffic = lab.traffic(PEERS4[0], PEERS4[1]);

            let kernel = Kernel::attach(&config, &[], &blocks).unwrap();
            traffic.flow();

            assert_eq!(traffic.end(), (0, 0), "{hook} of {layout}: leaked and lost");
            let (place, after) = attached(&kernel);
            assert_eq!(place, hook);
            assert_ne!(after, before);
            assert!(!lab.pins.join(layout).exists(), "nothing of the other layout is left");
            assert_eq!(kernel.blocks().unwrap().len(), 2);
            assert_eq!(lab.send(PEERS6[0], || kernel.counters().unwrap()), Verdict::Drop);
            assert!(!lab.reaches_peer(PEERS4[0]) && lab.reaches_peer(PEERS4[1]));
            kernel.detach().unwrap();
            assert!(lab.reaches_unguarded(PEERS4[0]) && lab.reaches_peer(PEERS4[0]));
        }
    }
}

#[test]
#[ignore = "needs root and the BPF object; run by `cargo xtask test`"]
fn an_agent_that_was_killed_while_it_took_over_another_layout_is_followed_by_one_that_does_it() {
    let lab = Lab::new();
    let blocks = [(prefix(PEERS4[0]), entry(7, None))];
    drop(Kernel::attach(&lab.config(), &[], &blocks).unwrap());
    fs::rename(lab.pins.join("v2"), lab.pins.join("v1")).unwrap();
    // Killed when its maps were made and no block was in them: another interface's agent makes
    // such a folder.
    let nothing = Config { interfaces: Vec::new(), ..lab.config() };
    let started = Lab::new_pins();
    drop(Kernel::attach(&Config { pins: started.clone(), ..nothing }, &[], &[]).unwrap());
    fs::rename(started.join("v2"), lab.pins.join("v2")).unwrap();
    fs::remove_dir(&started).unwrap();
    let traffic = lab.traffic(PEERS4[0], PEERS4[1]);

    let kernel = Kernel::attach(&lab.config(), &[], &blocks).unwrap();

    traffic.flow();
    assert_eq!(traffic.end(), (0, 0), "leaked and lost");
    assert_eq!(kernel.blocks().unwrap().len(), 1);
    assert!(!lab.pins.join("v1").exists());
}

#[test]
#[ignore = "needs root and the BPF object; run by `cargo xtask test`"]
fn blocks_are_in_force_before_the_first_packet_meets_a_program() {
    let lab = Lab::new();
    assert!(lab.reaches_unguarded(PEERS4[0]));
    let blocks: Vec<(Prefix, _)> =
        PEERS4.iter().chain(&PEERS6).map(|peer| (prefix(peer), entry(7, None))).collect();

    let kernel = Kernel::attach(&lab.config(), &[prefix(PEERS4[1])], &blocks).unwrap();

    assert_eq!(kernel.blocks().unwrap().len(), 6);
    assert_eq!(lab.send(PEERS4[0], || kernel.counters().unwrap()), Verdict::Drop);
    assert_eq!(lab.send(PEERS6[2], || kernel.counters().unwrap()), Verdict::Drop);
    assert_eq!(lab.send(PEERS4[1], || kernel.counters().unwrap()), Verdict::Pass, "allowed");
}

#[test]
#[ignore = "needs root and the BPF object; run by `cargo xtask test`"]
fn a_program_that_does_not_verify_or_judges_wrongly_never_replaces_one_that_runs() {
    type Expected = fn(&AttachError) -> bool;
    let cases: [(&str, Vec<u8>, Expected); 4] = [
        // Reads a register that there is not.
        ("unsafe", patched([0xbf, 0xb0, 0, 0, 0, 0, 0, 0]), |error| {
            matches!(error, AttachError::Verifier { program: "enforcer_xdp", log, .. }
                if log.ends_with("R11 is invalid"))
        }),
        // Passes everything.
        ("open", patched([0xb4, 0, 0, 0, 2, 0, 0, 0]), |error| {
            matches!(error, AttachError::SelfTest { program: "enforcer_xdp", what }
                if what.contains("blocked"))
        }),
        // Drops everything.
        ("closed", patched([0xb4, 0, 0, 0, 1, 0, 0, 0]), |error| {
            matches!(error, AttachError::SelfTest { program: "enforcer_xdp", what }
                if what.contains("free"))
        }),
        ("garbage", vec![0; 4096], |error| matches!(error, AttachError::Object(_))),
    ];
    let lab = Lab::new();
    for (name, object, _) in &cases {
        let refused = Kernel::attach_object(object, &lab.config(), &[], &[]).err().unwrap();
        assert!(!lab.pins.join("v2").exists(), "{name}: {refused} leaves nothing behind");
        assert!(lab.reaches_unguarded(PEERS4[0]));
    }
    let mut kernel = Kernel::attach(&lab.config(), &[], &[]).unwrap();
    kernel.block(prefix(PEERS4[0]), entry(7, None)).unwrap();
    let runs = attached(&kernel);

    for (name, object, expected) in cases {
        for refused in [
            Kernel::attach_object(&object, &lab.config(), &[], &[]).err().unwrap(),
            kernel.upgrade_to(&object).unwrap_err(),
        ] {
            assert!(expected(&refused), "{name}: {refused:?}");
            assert!(refused.hint().is_some());
            assert_eq!(attached(&kernel), runs, "{name}: the old program stays");
            assert_eq!(lab.send(PEERS4[0], || kernel.counters().unwrap()), Verdict::Drop);
            assert_eq!(lab.send(PEERS4[1], || kernel.counters().unwrap()), Verdict::Pass);
            assert_eq!(kernel.blocks().unwrap().len(), 1);
        }
    }
    assert_eq!(kernel.upgrade().unwrap().interfaces, ["guard"], "the true one does");
}

#[test]
#[ignore = "needs root and the BPF object; run by `cargo xtask test`"]
fn a_self_test_leaves_no_trace() {
    let lab = Lab::new();
    let blocks = [(prefix(PEERS4[0]), entry(7, None))];
    let mut kernel = Kernel::attach(&lab.config(), &[], &blocks).unwrap();
    kernel.upgrade().unwrap();
    let mut events = kernel.take_events().unwrap();

    let listed: Vec<_> = kernel.blocks().unwrap().iter().map(|block| block.prefix).collect();
    assert_eq!(listed, [prefix(PEERS4[0])]);
    let counters = kernel.counters().unwrap();
    assert_eq!(counters.total(Verdict::Drop), 0);
    assert!(events.try_next().is_none());
    assert!(kernel.talkers(16).iter().all(|talker| {
        !prefix("240.0.0.0/4").contains(talker.source.address())
            && !prefix("100::/64").contains(talker.source.address())
    }));
}

#[test]
#[ignore = "needs root and the BPF object; run by `cargo xtask test`"]
fn a_self_test_knows_modes_allow_lists_and_blocks_of_everything() {
    let lab = Lab::new();
    let reserved = [prefix("240.0.0.0/4"), prefix("100::/64")];
    let everything = ["0.0.0.0/0", "::/0"];
    let cases: [(Mode, Egress, &[Prefix], &[&str]); 7] = [
        (Mode::Off, Egress::Contain, &[], &[]),
        (Mode::Observe, Egress::Contain, &[], &everything),
        (Mode::Enforce, Egress::Off, &[], &[]),
        (Mode::Enforce, Egress::Count, &[], &["240.0.0.0/4", "100::/32"]),
        (Mode::Enforce, Egress::Contain, &[], &everything),
        (Mode::Enforce, Egress::Contain, &reserved, &[]),
        (Mode::Enforce, Egress::Contain, &reserved, &everything),
    ];
    // Of a source, a packet in a second.
    let packets = Packets { rate: PerSecond::new(NonZeroU32::MIN), burst: NonZeroU32::MIN };
    let stingy = Budget {
        packets: Some(packets),
        bytes: None,
        syns: None,
        penalty: Duration::from_secs(60),
        observe: false,
    };
    for (mode, egress, allow, blocked) in cases {
        let budgets = Budgets { default: Some(stingy), ..Budgets::default() };
        let config = Config { mode, egress, budgets, ..lab.config() };
        let blocks: Vec<_> =
            blocked.iter().map(|network| (prefix(network), entry(7, None))).collect();

        let mut kernel = Kernel::attach(&config, allow, &blocks).unwrap();

        kernel.upgrade().unwrap();
        assert_eq!(kernel.blocks().unwrap().len(), blocks.len());
        kernel.detach().unwrap();
    }
}

#[test]
#[ignore = "needs root and the BPF object; run by `cargo xtask test`"]
fn a_full_table_does_not_keep_a_self_test_from_finding_out() {
    let lab = Lab::new();
    let networks = (0..64u8).map(|at| Prefix::around([198, 51, 100, at].into(), 32));
    let blocks: Vec<_> = networks.map(|network| (network, entry(7, None))).collect();
    let mut kernel = Kernel::attach(&lab.config(), &[], &blocks).unwrap();
    assert_eq!(kernel.occupancy().v4, 64);

    kernel.upgrade().unwrap();
    let refused = kernel.upgrade_to(&patched([0xb4, 0, 0, 0, 2, 0, 0, 0])).unwrap_err();

    assert!(matches!(refused, AttachError::SelfTest { .. }), "{refused}");
    assert_eq!(kernel.blocks().unwrap().len(), 64);
}

#[test]
#[ignore = "needs root and the BPF object; run by `cargo xtask test`"]
fn among_pins_what_is_not_ours_is_named_and_what_is_in_force_stays() {
    let lab = Lab::new();
    let mut kernel = Kernel::attach(&lab.config(), &[], &[]).unwrap();
    kernel.block(prefix(PEERS4[0]), entry(7, None)).unwrap();
    let folder = lab.pins.join("v2");
    let runs = attached(&kernel);
    drop(kernel);
    let pin_program = |at: &Path| {
        let program = SchedClassifier::from_pin(folder.join("enforcer_in"));
        program.unwrap().pin(at).unwrap();
    };
    let pin_map = |from: &str, at: &Path| {
        MapData::from_pin(folder.join(from)).unwrap().pin(at).unwrap();
    };
    let moved = |name: &str| folder.join(name);
    type Spoil<'a> = &'a dyn Fn(&Path);
    let spoil: [(&str, Spoil<'_>); 4] = [
        ("notes", &|at| pin_map("STATE", at)),
        ("STATE", &|at| pin_program(at)),
        ("FLOOD", &|at| pin_map("CONFIG", at)),
        ("link-other", &|at| pin_program(at)),
    ];

    for (name, spoil) in spoil {
        let (at, aside) = (moved(name), lab.pins.join("aside"));
        let was_there = at.exists();
        if was_there {
            fs::rename(&at, &aside).unwrap();
        }
        spoil(&at);

        let refused = Kernel::attach(&lab.config(), &[], &[]).err().unwrap();

        assert!(refused.to_string().contains(name), "{name}: {refused}");
        assert!(refused.hint().is_some());
        fs::remove_file(&at).unwrap();
        if was_there {
            fs::rename(&aside, &at).unwrap();
        }
        let kernel = Kernel::open_pinned(&lab.pins).unwrap();
        assert_eq!(attached(&kernel), runs, "{name}: the old program stays");
        assert_eq!(lab.send(PEERS4[0], || kernel.counters().unwrap()), Verdict::Drop);
    }
    Kernel::attach(&lab.config(), &[], &[]).unwrap();
}

#[test]
#[ignore = "needs root and the BPF object; run by `cargo xtask test`"]
fn a_map_that_the_kernel_refuses_to_make_is_named_with_what_to_do() {
    let lab = Lab::new();
    // Arrays of two thousand million entries: more than a map may have.
    let mut object = fs::read(object_file()).unwrap();
    let (start, length) = section(&object, b".BTF\0");
    let (entries, many) = (16_384u32.to_le_bytes(), (i32::MAX as u32).to_le_bytes());
    let found = object[start..start + length].chunks_exact_mut(4).filter(|word| **word == entries);
    found.for_each(|word| word.copy_from_slice(&many));

    let refused = Kernel::attach_object(&object, &lab.config(), &[], &[]).err().unwrap();

    let AttachError::MapCreate { map, .. } = &refused else { panic!("{refused:?}") };
    assert!(refused.to_string().contains(map.as_str()) && refused.hint().is_some());
    assert!(!lab.pins.join("v2").exists());
}

#[test]
#[ignore = "needs root and the BPF object; run by `cargo xtask test`"]
fn a_link_that_cannot_take_the_new_program_keeps_the_old_one_and_says_so() {
    let lab = Lab::new();
    let blocks = [(prefix(PEERS4[0]), entry(7, None))];
    lab.set_mtu("9000");
    let mut kernel = Kernel::attach(&lab.config(), &[], &blocks).unwrap();
    let runs = attached(&kernel);
    // A driver runs no program on large frames that does not declare itself able to.
    let mut unable = fs::read(object_file()).unwrap();
    let (able, name) = (b"xdp.frags\0", b"xdp\0frags\0");
    for at in 0..unable.len() - able.len() {
        if unable[at..].starts_with(able) {
            unable[at..at + able.len()].copy_from_slice(name);
        }
    }
    let drops = || {
        let counters = || Kernel::open_pinned(&lab.pins).unwrap().counters().unwrap();
        assert_eq!(lab.send(PEERS4[0], counters), Verdict::Drop);
        assert_eq!(lab.send(PEERS4[1], counters), Verdict::Pass);
    };

    let refused = kernel.upgrade_to(&unable).unwrap_err();
    assert!(matches!(refused, AttachError::Native { .. }), "{refused:?}");
    assert_eq!(attached(&kernel), runs);
    drops();
    drop(kernel);
    fs::rename(lab.pins.join("v2"), lab.pins.join("v1")).unwrap();
    let refused = Kernel::attach_object(&unable, &lab.config(), &[], &blocks).err().unwrap();

    let AttachError::OtherLayout { interface, folder, .. } = &refused else {
        panic!("{refused:?}")
    };
    assert_eq!((interface.as_str(), folder), ("guard", &lab.pins.join("v1")));
    assert!(refused.hint().unwrap().contains("stay"));
    assert!(!lab.pins.join("v2").exists());
    fs::rename(lab.pins.join("v1"), lab.pins.join("v2")).unwrap();
    assert_eq!(attached(&Kernel::open_pinned(&lab.pins).unwrap()), runs);
    drops();
}

/// The object that `cargo xtask ebpf` built, whose XDP program is this instruction and an exit
/// instead of a call of the verdict and an exit.
fn patched(instruction: [u8; 8]) -> Vec<u8> {
    let mut object = fs::read(object_file()).unwrap();
    let (start, length) = section(&object, b"xdp.frags\0");
    assert_eq!(length, 16, "a call and an exit");
    object[start..start + 8].copy_from_slice(&instruction);
    // There is no call any more that needs an address.
    let relocations = header(&object, b".relxdp.frags\0");
    object[relocations + 0x20..relocations + 0x28].fill(0);
    object
}

fn object_file() -> PathBuf {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(3).unwrap();
    root.join("target/ebpf/enforcer-ebpf.o")
}

/// Where a section of a 64-bit ELF file begins, and its length.
fn section(elf: &[u8], name: &[u8]) -> (usize, usize) {
    let header = header(elf, name);
    (word(elf, header + 0x18), word(elf, header + 0x20))
}

/// Where the header of a section is.
fn header(elf: &[u8], name: &[u8]) -> usize {
    let half = |at: usize| usize::from(u16::from_le_bytes(elf[at..at + 2].try_into().unwrap()));
    let short = |at: usize| u32::from_le_bytes(elf[at..at + 4].try_into().unwrap()) as usize;
    let (headers, size, count, names) = (word(elf, 0x28), half(0x3a), half(0x3c), half(0x3e));
    let header = |number: usize| headers + number * size;
    let strings = word(elf, header(names) + 0x18);
    let found = (0..count).map(header).find(|&at| elf[strings + short(at)..].starts_with(name));
    found.expect("the section is there")
}

fn word(elf: &[u8], at: usize) -> usize {
    u64::from_le_bytes(elf[at..at + 8].try_into().unwrap()) as usize
}
