//! What the kernel half needs of this host's kernel, and what makes it slower or weaker than it need
//! be.

use std::fs;

use enforcer_admin::call::HookStatus;
use enforcer_kernel::Config;
use enforcer_policy::Policy;

use super::{Finding, bad, good, interface, note};
use crate::cli::bytes;

/// Oldest kernel with everything that is used.
const OLDEST: (u32, u32) = (5, 18);

pub(super) fn look(policy: Option<&Policy>, hooks: &[HookStatus], findings: &mut Vec<Finding>) {
    let Some(config) = policy.and_then(Policy::kernel) else {
        findings.push(note(
            "the kernel half is off: requests are refused at layer 7 only",
            Some("add a [kernel] section with the interfaces to guard"),
        ));
        return;
    };
    findings.push(match enforcer_kernel::object_sha256() {
        Some(sha256) => good(format!("kernel program embedded, sha256 {sha256}")),
        None => bad("this build carries no kernel program", "cargo xtask build"),
    });
    let release = rustix::system::uname().release().to_string_lossy().into_owned();
    findings.push(version(&release));
    findings.push(capabilities(&read("/proc/self/status")));
    findings.push(match fs::metadata("/sys/kernel/btf/vmlinux") {
        Ok(_) => good("the kernel describes its types (BTF)"),
        Err(_) => note("the kernel has no BTF", Some("use a kernel with CONFIG_DEBUG_INFO_BTF=y")),
    });
    findings.push(if read("/proc/mounts").lines().any(|line| line.contains(" bpf ")) {
        good("a bpf file system is mounted")
    } else {
        note(
            "no bpf file system is mounted; the agent mounts one when it may",
            Some("mount -t bpf bpf /sys/fs/bpf"),
        )
    });
    findings.extend(jit(&read("/proc/sys/net/core/bpf_jit_enable")));
    findings.extend(unprivileged(&read("/proc/sys/kernel/unprivileged_bpf_disabled")));
    findings.push(memory(config, &read("/proc/meminfo")));
    for name in &config.interfaces {
        let ours = hooks.iter().find(|hook| hook.interface == *name);
        findings.extend(interface::look(name, config.attach, ours));
    }
}

fn read(file: &str) -> String {
    fs::read_to_string(file).unwrap_or_default()
}

fn version(release: &str) -> Finding {
    let mut numbers = release.split(|c: char| !c.is_ascii_digit()).map(str::parse);
    let (Some(Ok(major)), Some(Ok(minor))) = (numbers.next(), numbers.next()) else {
        return note(format!("kernel {release}: its version cannot be read"), None);
    };
    let (oldest, least) = OLDEST;
    if (major, minor) >= OLDEST {
        return good(format!("kernel {release}"));
    }
    bad(
        format!("kernel {release} is older than {oldest}.{least}: the kernel half stays off"),
        "use a newer kernel; layer 7 works with this one",
    )
}

/// `CAP_BPF` (39), `CAP_PERFMON` (38) and `CAP_NET_ADMIN` (12), from `/proc/self/status`.
fn capabilities(status: &str) -> Finding {
    const NEEDED: [(u32, &str); 3] = [(12, "CAP_NET_ADMIN"), (38, "CAP_PERFMON"), (39, "CAP_BPF")];
    let effective = status
        .lines()
        .find_map(|line| u64::from_str_radix(line.strip_prefix("CapEff:")?.trim(), 16).ok())
        .unwrap_or(0);
    let missing: Vec<_> =
        NEEDED.iter().filter(|(bit, _)| effective >> bit & 1 == 0).map(|(_, name)| *name).collect();
    if missing.is_empty() {
        return good("capabilities for the kernel half are there");
    }
    bad(
        format!("without {} the kernel half stays off", missing.join(", ")),
        "run the agent as root, or give its service these capabilities",
    )
}

/// Nothing where the setting is not shown, as in a network namespace of its own.
fn jit(setting: &str) -> Option<Finding> {
    match setting.trim() {
        "" => None,
        "0" => Some(note(
            "BPF programs are interpreted: each packet costs several times as much",
            Some("sysctl -w net.core.bpf_jit_enable=1"),
        )),
        _ => Some(good("BPF programs are compiled (JIT)")),
    }
}

fn unprivileged(setting: &str) -> Option<Finding> {
    match setting.trim() {
        "" => None,
        "0" => Some(note(
            "every user of this host may load BPF programs",
            Some("sysctl -w kernel.unprivileged_bpf_disabled=2"),
        )),
        _ => Some(good("only privileged users may load BPF programs")),
    }
}

/// What the maps take, empty and full, against what the host has left.
fn memory(config: &Config, meminfo: &str) -> Finding {
    // Prefilters, destinations and counters of fixed size; 32 bytes for a source of each family.
    const FIXED: u64 = 13 << 20;
    // A slot of 48 or 56 bytes in tables that are at least a third full.
    const BLOCK: u64 = (48 + 56) * 3;
    let empty = FIXED + u64::from(config.sources) * 2 * 32;
    let full = empty + u64::from(config.blocks) * BLOCK;
    let available = meminfo.lines().find_map(|line| {
        let kib = line.strip_prefix("MemAvailable:")?.trim().strip_suffix("kB")?;
        kib.trim().parse::<u64>().ok()
    });
    let what = format!(
        "the maps take about {} empty and at most {} with {} blocks of each family",
        bytes(empty),
        bytes(full),
        config.blocks
    );
    match available.map(|kib| kib << 10) {
        Some(left) if left < empty => {
            bad(format!("{what}; {} are available", bytes(left)), "lower `sources` under [kernel]")
        }
        Some(left) if left < full => note(
            format!("{what}; {} are available", bytes(left)),
            Some("lower `blocks` under [kernel], or add memory before importing so many"),
        ),
        Some(_) | None => good(what),
    }
}

#[cfg(test)]
mod tests {
    use super::super::Grade;
    use super::*;

    #[test]
    fn kernels_are_compared_by_number() {
        for (release, grade) in [
            ("6.18.0-rc1", Grade::Good),
            ("5.18.0", Grade::Good),
            ("5.4.0-150-generic", Grade::Bad),
            ("4.19", Grade::Bad),
            ("odd", Grade::Note),
        ] {
            assert_eq!(version(release).grade, grade, "{release}");
        }
    }

    #[test]
    fn settings_that_cost_speed_or_safety_come_with_their_fix() {
        assert_eq!(jit("0\n").unwrap().fix.unwrap(), "sysctl -w net.core.bpf_jit_enable=1");
        assert_eq!(jit("1\n").unwrap().grade, Grade::Good);
        assert_eq!(jit(""), None);
        let open = unprivileged("0\n").unwrap();
        assert!(open.fix.unwrap().contains("unprivileged_bpf_disabled=2"));
        assert_eq!(unprivileged("2\n").unwrap().grade, Grade::Good);
    }

    #[test]
    fn missing_capabilities_are_named() {
        let all = capabilities("Name:\tx\nCapEff:\t000001ffffffffff\n");
        let some = capabilities("CapEff:\t0000000000001000\n");

        assert_eq!(all.grade, Grade::Good);
        assert_eq!(some.grade, Grade::Bad);
        assert_eq!(some.what, "without CAP_PERFMON, CAP_BPF the kernel half stays off");
    }

    #[test]
    fn maps_that_do_not_fit_into_memory_are_told_before_they_are_made() {
        let policy = "version = 1\n[listen.l]\naddress = '127.0.0.1:1'\n\
                      [kernel]\ninterfaces = ['x']\nblocks = 1000000\nsources = 1048576\n";
        let policy = Policy::parse(policy, std::path::Path::new("p")).unwrap();
        let judge = |kib: u64| {
            memory(policy.kernel().unwrap(), &format!("MemTotal: 1 kB\nMemAvailable: {kib} kB\n"))
        };

        assert_eq!(judge(4 << 20).grade, Grade::Good);
        assert_eq!(judge(200 << 10).grade, Grade::Note);
        assert_eq!(judge(16 << 10).grade, Grade::Bad);
        assert!(judge(4 << 20).what.contains("77.0 MiB empty"), "{}", judge(4 << 20).what);
    }
}
