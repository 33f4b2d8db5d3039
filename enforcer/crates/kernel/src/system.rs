//! What the host lets us do: capabilities, the boot clock, a bpf file system.

use std::fs;
use std::io;
use std::iter::successors;
use std::os::fd::AsRawFd;
use std::os::unix::fs::DirBuilderExt;
use std::os::unix::process::parent_id;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use rustix::fs::{FlockOperation, flock};
use rustix::mount::{MountFlags, mount};
use rustix::thread::{CapabilitySet, capabilities};
use rustix::time::{ClockId, clock_gettime};

use crate::error::AttachError;

const BPF_FS: &str = "/sys/fs/bpf";
const BPF_FS_MAGIC: i64 = 0xcafe_4a11;

/// `CLOCK_BOOTTIME`, by which the kernel half judges expiry.
pub(crate) fn boot_ns() -> u64 {
    let time = clock_gettime(ClockId::Boottime);
    let seconds = u64::try_from(time.tv_sec).unwrap_or_default();
    let ns = u64::try_from(time.tv_nsec).unwrap_or_default();
    seconds.saturating_mul(1_000_000_000).saturating_add(ns)
}

/// What this process lacks for `bpf(2)` and XDP.
pub(crate) fn missing_capabilities() -> Vec<&'static str> {
    let Ok(sets) = capabilities(None) else { return Vec::new() };
    let has = |needed| sets.effective.intersects(needed);
    let administers = has(CapabilitySet::SYS_ADMIN);
    [
        ("CAP_BPF", administers || has(CapabilitySet::BPF)),
        ("CAP_NET_ADMIN", has(CapabilitySet::NET_ADMIN)),
        ("CAP_PERFMON", administers || has(CapabilitySet::PERFMON)),
    ]
    .into_iter()
    .filter_map(|(name, held)| (!held).then_some(name))
    .collect()
}

/// Makes sure that `pins` is a folder on a bpf file system, which we mount in its usual place when
/// nobody has.
pub(crate) fn make_pin_folder(pins: &Path) -> Result<(), AttachError> {
    let refused = |source: io::Error| AttachError::Pins { path: pins.to_owned(), source };
    if !is_on_bpf_fs(pins) {
        if !pins.starts_with(BPF_FS) || is_bpf_fs(Path::new(BPF_FS)) {
            return Err(AttachError::NotBpfFs { path: pins.to_owned() });
        }
        if has_private_mounts() {
            return Err(AttachError::PrivateMounts);
        }
        mount_bpf_fs().map_err(refused)?;
    }
    fs::DirBuilder::new().recursive(true).mode(0o700).create(pins).map_err(refused)
}

/// Where pins are, and what keeps the way there open.
#[derive(Clone, Debug)]
pub(crate) struct Reached {
    pub(crate) top: PathBuf,
    /// The same folder as the owner of the bpf file system calls it.
    pub(crate) shown: PathBuf,
    /// The bpf file system of another process, which may end before us.
    _held: Option<Arc<fs::File>>,
}

/// Finds `pins` on a bpf file system that outlives this process.
///
/// Who starts us with mounts of our own and nothing mounted there, as `ip netns exec` does, has one
/// that stays: one that we mount would end with us, and everything in force with it. Several network
/// namespaces may share it, so each has a folder there.
pub(crate) fn reach(pins: &Path) -> Reached {
    let here = Reached { top: pins.to_owned(), shown: pins.to_owned(), _held: None };
    let Ok(below) = pins.strip_prefix(BPF_FS) else { return here };
    if is_bpf_fs(Path::new(BPF_FS)) {
        return here;
    }
    // Found once: who gave up privileges since then may no longer look at another's mounts.
    static HOST: OnceLock<Arc<fs::File>> = OnceLock::new();
    let found = HOST.get().cloned().or_else(|| host_bpf_fs().map(Arc::new));
    let Some((held, network)) = found.zip(own_network()) else { return here };
    let held = Arc::clone(HOST.get_or_init(|| held));
    let opened = Path::new("/proc/self/fd").join(held.as_raw_fd().to_string());
    let folder = below.join(format!("net-{network}"));
    let shown = Path::new(BPF_FS).join(&folder);
    Reached { top: opened.join(folder), shown, _held: Some(held) }
}

/// The bpf file system of init's mounts, else of the nearest ancestor whose mounts are not ours.
fn host_bpf_fs() -> Option<fs::File> {
    let own = namespace_of("self", "mnt")?;
    let ancestors = successors(Some(parent_id()), |&process| parent_of(process));
    let elsewhere = |process: &String| namespace_of(process, "mnt").is_some_and(|it| it != own);
    [1].into_iter().chain(ancestors).map(|process| process.to_string()).filter(elsewhere).find_map(
        |process| {
            let root = Path::new("/proc").join(process).join("root");
            let folder = fs::File::open(root.join(BPF_FS.trim_start_matches('/'))).ok()?;
            let stat = rustix::fs::fstatfs(&folder).ok()?;
            (stat.f_type == BPF_FS_MAGIC).then_some(folder)
        },
    )
}

fn parent_of(process: u32) -> Option<u32> {
    let status = fs::read_to_string(format!("/proc/{process}/status")).ok()?;
    let parent = status.lines().find_map(|line| line.strip_prefix("PPid:"))?;
    parent.trim().parse().ok().filter(|&parent| parent != 0)
}

/// The number of the calling thread's network namespace.
fn own_network() -> Option<String> {
    let name = namespace_of("thread-self", "net")?;
    let number = name.to_str()?.strip_prefix("net:[")?.strip_suffix(']')?;
    Some(number.to_owned())
}

fn namespace_of(process: &str, kind: &str) -> Option<PathBuf> {
    fs::read_link(format!("/proc/{process}/ns/{kind}")).ok()
}

/// Once, whoever else wants to: a second file system on top would hide what is pinned in the first.
fn mount_bpf_fs() -> io::Result<()> {
    let below = fs::File::open(BPF_FS)?;
    flock(&below, FlockOperation::LockExclusive)?;
    if is_bpf_fs(Path::new(BPF_FS)) {
        return Ok(());
    }
    let flags = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
    mount("bpf", BPF_FS, "bpf", flags, None)?;
    tracing::info!(path = BPF_FS, "bpf file system mounted");
    Ok(())
}

/// Whether the nearest folder that exists is on one.
fn is_on_bpf_fs(path: &Path) -> bool {
    path.ancestors().find(|folder| folder.exists()).is_some_and(is_bpf_fs)
}

fn is_bpf_fs(path: &Path) -> bool {
    rustix::fs::statfs(path).is_ok_and(|file_system| file_system.f_type == BPF_FS_MAGIC)
}

/// Whether a mount made here is invisible to the host and ends with this process.
fn has_private_mounts() -> bool {
    let namespaces = namespace_of("self", "mnt").zip(namespace_of("1", "mnt"));
    namespaces.is_some_and(|(own, host)| own != host)
}

#[cfg(test)]
mod tests {
    use rustix::thread::CapabilitySets;

    use super::*;

    #[test]
    fn what_the_process_lacks_is_named_before_anything_is_touched() {
        let without = || {
            // Of this thread only.
            let none = CapabilitySets {
                effective: CapabilitySet::empty(),
                permitted: CapabilitySet::empty(),
                inheritable: CapabilitySet::empty(),
            };
            rustix::thread::set_capabilities(None, none).unwrap();
            let config = crate::Config {
                interfaces: Vec::new(),
                attach: crate::Attach::Auto,
                egress: crate::Egress::Off,
                mode: crate::Mode::Enforce,
                budgets: crate::Budgets::default(),
                blocks: 1,
                sources: 1,
                on_agent_loss: crate::OnAgentLoss::Keep,
                pins: "/sys/fs/bpf/enforcer-test-without".into(),
            };
            crate::Kernel::attach(&config, &[], &[]).err().unwrap()
        };

        let refused = std::thread::spawn(without).join().unwrap();

        assert_eq!(refused.to_string(), "missing CAP_BPF, CAP_NET_ADMIN, CAP_PERFMON");
        assert!(refused.hint().unwrap().contains("root"));
    }

    #[test]
    fn a_folder_on_another_file_system_is_refused_with_the_remedy() {
        let refused = make_pin_folder(Path::new("/proc/enforcer")).unwrap_err();

        assert!(matches!(refused, AttachError::NotBpfFs { .. }));
        assert!(refused.hint().unwrap().contains("/sys/fs/bpf"));
    }
}
