//! What can go wrong, in the words of the person who has to mend it.
//!
//! The message says what happened, `hint` what to do, and the cause hangs behind as `source`.

use std::io;
use std::path::PathBuf;

use aya::programs::ProgramError;
use enforcer_model::Prefix;

use crate::interface::Hook;
use crate::program::{E2BIG, ENOMEM, EPERM};

/// A map cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum MapError {
    /// The map does not answer what was just written.
    #[error("the kernel map `{map}` was written and reads back differently")]
    Lost {
        /// Its name.
        map: &'static str,
    },
    /// The kernel refused to make a larger or smaller one.
    #[error("the kernel refuses to make a new table of `{map}`")]
    Make {
        /// Its name.
        map: &'static str,
        /// Why.
        #[source]
        source: aya::maps::MapError,
    },
    /// Neither by us nor by anybody, or it is not there.
    #[error("the kernel map `{map}` cannot be opened")]
    Open {
        /// Its name.
        map: &'static str,
        /// Why.
        #[source]
        source: aya::maps::MapError,
    },
    /// The kernel refused to read.
    #[error("the kernel map `{map}` cannot be read")]
    Read {
        /// Its name.
        map: &'static str,
        /// Why.
        #[source]
        source: aya::maps::MapError,
    },
    /// A pinned map has another shape than this version's.
    #[error("the kernel map `{map}` has another layout than this version's")]
    Shape {
        /// Its name.
        map: &'static str,
    },
    /// The kernel refused to write.
    #[error("the kernel map `{map}` cannot be written")]
    Write {
        /// Its name.
        map: &'static str,
        /// Why.
        #[source]
        source: aya::maps::MapError,
    },
}

/// A network was not blocked, released or allowed.
#[derive(Debug, thiserror::Error)]
pub enum BlockError {
    /// No room, even after everything that had expired was removed.
    #[error("the kernel map `{map}` is full: {capacity} entries")]
    Full {
        /// Its name.
        map: &'static str,
        /// What fits.
        capacity: u32,
    },
    /// The family's blocks have as many different lengths as a packet is compared with.
    #[error("{prefix} would be one prefix length too many: blocks of a family have at most 32")]
    Lengths {
        /// What was to be blocked.
        prefix: Prefix,
    },
    /// The map does not answer what was just written.
    #[error("{prefix} was written and reads back differently")]
    Lost {
        /// What was to be changed.
        prefix: Prefix,
    },
    /// The map cannot be used.
    #[error(transparent)]
    Map(#[from] MapError),
    /// The allow list is longer than its map.
    #[error("the allow list has {networks} networks of one family, at most 4096 fit")]
    TooManyAllowed {
        /// How many there are.
        networks: usize,
    },
    /// More budget classes than have a number.
    #[error("there are {classes} budget classes, at most 62 fit")]
    TooManyClasses {
        /// How many there are.
        classes: usize,
    },
    /// The networks of all budget classes are more than their map holds.
    #[error("the budget classes have {networks} networks of one family, at most 4096 fit")]
    TooManyInClasses {
        /// How many there are.
        networks: usize,
    },
    /// More ports than fit.
    #[error("budgets are to be kept for {ports} ports, at most 8 fit")]
    TooManyPorts {
        /// How many there are.
        ports: usize,
    },
}

/// The program is not in force as configured. Whatever was in force before stays.
#[derive(Debug, thiserror::Error)]
pub enum AttachError {
    /// The allow list, the classes or the blocks do not fit.
    #[error(transparent)]
    Block(#[from] BlockError),
    /// The process may not.
    #[error("missing {}", .missing.join(", "))]
    Capabilities {
        /// Their names.
        missing: Vec<&'static str>,
    },
    /// Something lies among our pins that we did not put there, or that is not what its name says.
    #[error("{} is not a pin of this program", .path.display())]
    Foreign {
        /// Which file.
        path: PathBuf,
    },
    /// The interfaces of the host cannot be listed.
    #[error("the network interfaces cannot be listed")]
    Interfaces(#[source] io::Error),
    /// The kernel refused to attach.
    #[error("the kernel refuses the program on `{interface}` ({hook})")]
    Link {
        /// Its name.
        interface: String,
        /// The place that was tried last.
        hook: Hook,
        /// Why.
        #[source]
        source: Box<ProgramError>,
    },
    /// The kernel refused to load.
    #[error("the kernel refuses to load the program")]
    Load(#[source] Box<aya::EbpfError>),
    /// A map cannot be used.
    #[error(transparent)]
    Map(#[from] MapError),
    /// The kernel refused to make a map.
    #[error("the kernel refuses to make the map `{map}`")]
    MapCreate {
        /// Its name.
        map: String,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The driver cannot run it, and the policy asks for the driver.
    #[error("the driver of `{interface}` cannot run the program")]
    Native {
        /// Its name.
        interface: String,
        /// Why.
        #[source]
        source: Box<ProgramError>,
    },
    /// Built without the BPF object.
    #[error("this build has no kernel half")]
    NoObject,
    /// Opened from pins, without a program.
    #[error("the pinned maps were opened without a program to attach")]
    NoProgram,
    /// Not a device that carries Ethernet frames.
    #[error("`{interface}` does not carry Ethernet frames")]
    NotEthernet {
        /// Its name.
        interface: String,
    },
    /// The bytes of the BPF object, or the type information in it, make no sense.
    #[error("the BPF object of this build cannot be read")]
    Object(#[source] Box<aya::EbpfError>),
    /// Another program sits there.
    #[error("`{interface}` already runs the XDP program {program}")]
    Occupied {
        /// Its name.
        interface: String,
        /// Number and name of what sits there.
        program: String,
    },
    /// A link of another version does not take this version's program.
    #[error("`{interface}` stays with the program of another version in {}", .folder.display())]
    OtherLayout {
        /// Its name.
        interface: String,
        /// The pins of the other version.
        folder: PathBuf,
        /// Why.
        #[source]
        source: Box<ProgramError>,
    },
    /// The folder of pins cannot be used.
    #[error("the folder of pins {} cannot be used", .path.display())]
    Pins {
        /// What was touched.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// No bpf file system where the pins are to be.
    #[error("{} is not on a bpf file system", .path.display())]
    NotBpfFs {
        /// The folder of pins.
        path: PathBuf,
    },
    /// A bpf file system that we mount here would vanish with this process.
    #[error("no bpf file system is mounted, and this process has a mount namespace of its own")]
    PrivateMounts,
    /// Loaded, it did not judge as it should; no link was changed.
    #[error("the program `{program}` fails its self-test: {what}")]
    SelfTest {
        /// Which.
        program: &'static str,
        /// What it did.
        what: String,
    },
    /// No such interface.
    #[error("there is no interface `{interface}`")]
    Unknown {
        /// As configured.
        interface: String,
        /// What there is.
        present: Vec<String>,
    },
    /// The kernel cannot prove that the program is harmless.
    #[error("the kernel refuses the program `{program}`: {log}")]
    Verifier {
        /// Which.
        program: &'static str,
        /// The last lines of the verifier's log.
        log: String,
        /// Its answer.
        #[source]
        source: io::Error,
    },
}

/// There is nothing pinned, or it cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The process may not.
    #[error("missing {}", .missing.join(", "))]
    Capabilities {
        /// Their names.
        missing: Vec<&'static str>,
    },
    /// The interfaces of the host cannot be listed.
    #[error("the network interfaces cannot be listed")]
    Interfaces(#[source] io::Error),
    /// A map cannot be used.
    #[error(transparent)]
    Map(#[from] MapError),
    /// No program and no maps.
    #[error("nothing is pinned in {}", .folder.display())]
    NothingPinned {
        /// Where it would be.
        folder: PathBuf,
    },
    /// A link or map of another version is pinned.
    #[error("{} holds the program of another version", .folder.display())]
    OtherLayout {
        /// Its pins.
        folder: PathBuf,
    },
}

/// Something of the program is still there.
#[derive(Debug, thiserror::Error)]
pub enum DetachError {
    /// The process may not.
    #[error("missing {}", .missing.join(", "))]
    Capabilities {
        /// Their names.
        missing: Vec<&'static str>,
    },
    /// A pin cannot be removed.
    #[error("the pin {} cannot be removed", .path.display())]
    Pin {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The pin is gone and the program still runs: somebody else holds its link.
    #[error("`{interface}` still runs the program {program}")]
    StillAttached {
        /// Its name.
        interface: String,
        /// Its number in the kernel.
        program: u32,
    },
}

const CAPABILITIES_HINT: &str = "run as root, or grant CAP_BPF, CAP_NET_ADMIN and CAP_PERFMON in \
    the initial user namespace (systemd: AmbientCapabilities=)";
const SHARED_HINT: &str = "is another agent using the same folder of pins?";
const DETACH_HINT: &str = "run `enforcer detach` and start again; the agent puts its blocks back";
const OTHER_VERSION_HINT: &str = "use the `enforcer` that started the agent, or start this one: it \
    takes over what is in force";

impl MapError {
    /// What to do about it.
    pub const fn hint(&self) -> Option<&'static str> {
        match self {
            Self::Shape { .. } => Some(DETACH_HINT),
            Self::Lost { .. } => Some(SHARED_HINT),
            Self::Make { .. } => Some(
                "free some memory, or lower `blocks` in [kernel]; the old table stays in force",
            ),
            Self::Open { .. } | Self::Read { .. } | Self::Write { .. } => {
                Some("the process needs CAP_BPF, and the folder of pins must be complete")
            }
        }
    }
}

impl BlockError {
    /// What to do about it.
    pub const fn hint(&self) -> Option<&'static str> {
        match self {
            Self::Full { .. } => Some(
                "raise `blocks` in [kernel], release what is not needed, or block wider networks",
            ),
            Self::Lengths { .. } => {
                Some("block a network of a length that is in use, such as /24, /48 or /64")
            }
            Self::Lost { .. } => Some(SHARED_HINT),
            Self::Map(error) => error.hint(),
            Self::TooManyAllowed { .. } | Self::TooManyInClasses { .. } => {
                Some("join neighbouring networks into wider ones")
            }
            Self::TooManyClasses { .. } => Some("give networks with the same budget one class"),
            Self::TooManyPorts { .. } => {
                Some("leave `ports` out: budgets are then for all traffic")
            }
        }
    }
}

impl AttachError {
    /// What to do about it.
    pub fn hint(&self) -> Option<String> {
        let hint = match self {
            Self::Block(error) => return error.hint().map(str::to_owned),
            Self::Map(error) => return error.hint().map(str::to_owned),
            Self::Capabilities { .. } => CAPABILITIES_HINT,
            Self::Foreign { path } => {
                return Some(format!(
                    "nothing was changed; remove {} or name another folder as `pins` in [kernel]",
                    path.display()
                ));
            }
            Self::Interfaces(_) => "is this process allowed to open netlink sockets?",
            Self::Link { hook: Hook::Tcx, .. } => {
                "kernel 6.6 or newer is needed; before that set `attach = \"auto\"` in [kernel]"
            }
            Self::Link { hook: Hook::Clsact, .. } => {
                "the kernel needs CONFIG_NET_CLS_BPF and CONFIG_NET_SCH_INGRESS"
            }
            Self::Link { .. } => "is the interface up, and the kernel 5.18 or newer?",
            Self::Load(_) => "the kernel must be 5.18 or newer; its words are in the cause",
            Self::MapCreate { source, .. } => match source.raw_os_error() {
                Some(E2BIG) => "it is larger than this kernel allows: lower `sources` in [kernel]",
                Some(ENOMEM) => {
                    "not enough memory: lower `sources` or `blocks` in [kernel], or raise the \
                     memory limit of the service"
                }
                Some(EPERM) => {
                    "grant CAP_BPF; a kernel before 5.11 also wants LimitMEMLOCK=infinity"
                }
                Some(_) | None => "the kernel must be 5.18 or newer; its words are in the cause",
            },
            Self::Native { .. } => "set `attach = \"auto\"` or `\"generic\"` in [kernel]",
            Self::NoObject => "build with `cargo xtask build`",
            Self::NoProgram => "start the agent",
            Self::NotEthernet { .. } => "name the Ethernet device below it in [kernel] interfaces",
            Self::Object(_) => "this build is damaged: install it again, or `cargo xtask build`",
            Self::Occupied { interface, .. } => {
                return Some(format!(
                    "`attach = \"auto\"` or `\"tcx\"` in [kernel] leaves it alone; look with \
                     `bpftool net show dev {interface}`; its owner must detach it, or `ip link set \
                     dev {interface} xdp off` when it has none; another agent's is removed by \
                     `enforcer detach`"
                ));
            }
            Self::OtherLayout { .. } => {
                "its blocks stay in force; `enforcer detach` removes them, then start again"
            }
            Self::Pins { .. } => "the folder of pins must be writable and hold nothing else",
            Self::NotBpfFs { .. } => {
                "set `pins` in [kernel] to a folder below /sys/fs/bpf, or mount a bpf file system"
            }
            Self::PrivateMounts => {
                "mount it where the host sees it: `mount -t bpf bpf /sys/fs/bpf`; to enter a \
                 network namespace only, use `nsenter --net=` instead of `ip netns exec`"
            }
            Self::SelfTest { .. } => {
                "what was in force stays so; report it with `uname -r` and `enforcer --version`"
            }
            Self::Unknown { present, .. } => {
                return Some(format!("this host has {}", present.join(", ")));
            }
            Self::Verifier { source, .. } if source.raw_os_error() == Some(EPERM) => {
                CAPABILITIES_HINT
            }
            Self::Verifier { .. } => {
                "what was in force stays so; report it with `uname -r` and `enforcer --version`"
            }
        };
        Some(hint.to_owned())
    }
}

impl OpenError {
    /// What to do about it.
    pub const fn hint(&self) -> Option<&'static str> {
        match self {
            Self::Capabilities { .. } => Some(CAPABILITIES_HINT),
            Self::Interfaces(_) => Some("is this process allowed to open netlink sockets?"),
            Self::Map(error) => error.hint(),
            Self::NothingPinned { .. } => Some("the agent has not attached here; `enforcer run`"),
            Self::OtherLayout { .. } => Some(OTHER_VERSION_HINT),
        }
    }
}

impl DetachError {
    /// What to do about it.
    pub const fn hint(&self) -> Option<&'static str> {
        match self {
            Self::Capabilities { .. } => Some(CAPABILITIES_HINT),
            Self::Pin { .. } => Some("remove it by hand, as root"),
            Self::StillAttached { .. } => {
                Some("stop the agent first; `bpftool link` names who holds it")
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_map_that_cannot_be_made_says_which_setting_to_change() {
        let hint = |errno| {
            let source = io::Error::from_raw_os_error(errno);
            AttachError::MapCreate { map: "SOURCE4".to_owned(), source }.hint().unwrap()
        };

        assert!(hint(E2BIG).contains("`sources`"));
        assert!(hint(ENOMEM).contains("memory"));
        assert!(hint(EPERM).contains("CAP_BPF"));
        assert!(hint(22).contains("5.18"));
    }
}
