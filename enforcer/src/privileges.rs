//! What the agent may still do once it serves: next to nothing, and not all of it everywhere.
//!
//! Linux keeps capabilities for each thread, and a new thread has those of the one that made it. So
//! the process is sealed while it is one thread ([`seal`]), the log is opened by a thread that holds
//! nothing ([`without`]), and when everything privileged is done each thread gives up what its work
//! does not need ([`reduce_to`]). Each step is read back. A thread that was made to do something
//! else thus meets `EPERM`; one whose memory an attacker writes is not held back by this, for
//! threads share it. What a process does not hold it cannot give up, and that is no error.

use std::io;
use std::thread;

use rustix::io::Errno;
use rustix::thread::{
    CapabilitySet, capabilities, capability_is_in_ambient_set, capability_is_in_bounding_set,
    clear_ambient_capability_set, no_new_privs, remove_capability_from_bounding_set,
    set_capabilities, set_no_new_privs,
};
use tracing::{debug, info};

/// What the responder goes on doing in the kernel, each refused without the one that is named:
///
/// - `CAP_BPF`: making maps, for tables that grow and for programs that are loaded again;
/// - `CAP_PERFMON`: loading them, for the verifier lets nobody else handle pointers as they do;
/// - `CAP_NET_ADMIN`: loading them for packets, filters and questions at traffic control, and ending
///   the sockets of a blocked source.
///
/// Putting a loaded program on an interface, giving a link another one, and reading and writing maps
/// that are held or pinned take none. Looking up a map, link or program by its number takes
/// `CAP_SYS_ADMIN`: who holds these three finds his own by their pins, and of a stranger's program
/// says the number and not the name.
const KERNEL: CapabilitySet =
    CapabilitySet::BPF.union(CapabilitySet::NET_ADMIN).union(CapabilitySet::PERFMON);

/// What stands in for `CAP_BPF` and `CAP_PERFMON` where those were not granted.
const INSTEAD: CapabilitySet = CapabilitySet::SYS_ADMIN;

/// Whose work a thread does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Thread {
    /// The owner of the kernel half.
    Responder,
    /// Requests, calls, the log, signals.
    Other,
}

/// A privilege could not be given up.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Refused {
    /// The kernel said no.
    #[error("cannot {what}")]
    Call {
        /// What was tried.
        what: &'static str,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// The kernel said yes, and this is what it answers now.
    #[error("{what} was asked for and reads back otherwise")]
    ReadBack {
        /// What was asked for.
        what: String,
    },
}

/// Nothing that this process starts, and no thread of it, ever gains a privilege from here on.
///
/// Those that it has stay until they are given up. Call it while there is one thread: it holds for
/// this one and those that it makes.
pub(crate) fn seal() -> Result<(), Refused> {
    set_no_new_privs(true).map_err(refused("forbid new privileges"))?;
    clear_ambient_capability_set().map_err(refused("clear the ambient set"))?;
    let mut sets = capabilities(None).map_err(refused("read the capabilities"))?;
    let may_lower_bound = sets.effective.contains(CapabilitySet::SETPCAP);
    if may_lower_bound {
        for capability in known() {
            remove_capability_from_bounding_set(capability)
                .map_err(refused("empty the bounding set"))?;
        }
    } else {
        debug!("no CAP_SETPCAP: the bounding set stays, and new privileges are forbidden anyhow");
    }
    sets.inheritable = CapabilitySet::empty();
    set_capabilities(None, sets).map_err(refused("empty the inheritable set"))?;

    let is_sealed = no_new_privs().is_ok_and(|forbidden| forbidden)
        && known().all(|capability| {
            capability_is_in_ambient_set(capability) == Ok(false)
                && (!may_lower_bound || capability_is_in_bounding_set(capability) == Ok(false))
        });
    let sealed = "a process without new privileges";
    if is_sealed { Ok(()) } else { Err(Refused::ReadBack { what: sealed.to_owned() }) }
}

/// The calling thread, and those that it makes, keep what `thread` needs of what it holds. Returns
/// what that is.
pub(crate) fn reduce_to(thread: Thread) -> Result<CapabilitySet, Refused> {
    let read = || capabilities(None).map_err(refused("read the capabilities"));
    let held = read()?;
    let kept = match thread {
        Thread::Responder if held.permitted.contains(KERNEL) => KERNEL,
        Thread::Responder => held.permitted & (KERNEL | INSTEAD),
        Thread::Other => CapabilitySet::empty(),
    };
    let mut wanted = held;
    (wanted.effective, wanted.permitted) = (held.effective & kept, kept);
    wanted.inheritable = CapabilitySet::empty();
    set_capabilities(None, wanted).map_err(refused("give up capabilities"))?;
    if read()? != wanted {
        return Err(Refused::ReadBack { what: format!("a thread with {}", names(kept)) });
    }
    match thread {
        Thread::Responder => info!(kept = names(kept), "privileges of the responder's thread"),
        Thread::Other => debug!("this thread has no privileges"),
    }
    Ok(kept)
}

/// Has `work` done by a thread that holds no capability, and so do the threads that it starts.
pub(crate) fn without<T: Send>(work: impl FnOnce() -> T + Send) -> Result<T, Refused> {
    let reduced = move || reduce_to(Thread::Other).map(|_none| work());
    let done = thread::scope(|scope| {
        let spawned =
            thread::Builder::new().name("without".to_owned()).spawn_scoped(scope, reduced);
        spawned.map(thread::ScopedJoinHandle::join)
    });
    let done = done.map_err(|source| Refused::Call { what: "start a thread", source })?;
    // A panic goes on as if it had happened here.
    done.unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}

/// Every capability that the running kernel has, those included that have no name here.
fn known() -> impl Iterator<Item = CapabilitySet> {
    (0..u64::BITS)
        .map(|number| CapabilitySet::from_bits_retain(1 << number))
        .take_while(|&capability| capability_is_in_bounding_set(capability).is_ok())
}

/// `CAP_BPF, CAP_NET_ADMIN`, for people.
fn names(set: CapabilitySet) -> String {
    let names: Vec<_> = set.iter_names().map(|(name, _)| format!("CAP_{name}")).collect();
    if names.is_empty() { "none".to_owned() } else { names.join(", ") }
}

fn refused(what: &'static str) -> impl FnOnce(Errno) -> Refused {
    move |source| Refused::Call { what, source: source.into() }
}

#[cfg(test)]
mod tests {
    use std::io::ErrorKind;
    use std::net::UdpSocket;
    use std::process::Command;

    use enforcer_kernel::{Closed, close_sockets};

    use super::*;

    /// `CapEff` and the like, as the kernel tells them.
    #[derive(Debug, PartialEq, Eq)]
    struct Sets {
        inheritable: u64,
        permitted: u64,
        effective: u64,
        bounding: u64,
        ambient: u64,
        no_new_privs: u64,
    }

    const NONE: Sets = Sets {
        inheritable: 0,
        permitted: 0,
        effective: 0,
        bounding: 0,
        ambient: 0,
        no_new_privs: 1,
    };

    #[test]
    fn a_thread_keeps_what_its_work_needs_and_those_that_it_makes_have_no_more() {
        for (kind, most) in [(Thread::Responder, KERNEL.bits()), (Thread::Other, 0)] {
            let (before, after, child) = on_a_thread(move || {
                let before = sets();
                reduce_to(kind).unwrap();
                (before, sets(), on_a_thread(sets))
            });

            assert_eq!(after.permitted, before.permitted & most);
            assert_eq!(after.effective, before.effective & most);
            assert_eq!((after.inheritable, after.ambient), (0, 0));
            assert_eq!(child, after);
        }
    }

    #[test]
    fn who_was_granted_everything_instead_of_the_three_keeps_that() {
        let sys_admin = CapabilitySet::SYS_ADMIN | CapabilitySet::NET_ADMIN;
        let (held, kept) = on_a_thread(move || {
            let mut sets = capabilities(None).unwrap();
            let granted = sets.permitted & (sys_admin | CapabilitySet::CHOWN);
            (sets.effective, sets.permitted) = (granted, granted);
            set_capabilities(None, sets).unwrap();
            (granted, reduce_to(Thread::Responder).unwrap())
        });

        assert_eq!(kept, held & sys_admin);
    }

    #[test]
    fn a_sealed_process_starts_nothing_that_has_more_than_it_gave_on() {
        let (before, sealed, started) = on_a_thread(|| {
            let before = sets();
            seal().unwrap();
            let started = Command::new("cat").arg("/proc/self/status").output().unwrap();
            (before, sets(), read(&String::from_utf8(started.stdout).unwrap()))
        });

        assert_eq!((sealed.no_new_privs, sealed.ambient, sealed.inheritable), (1, 0, 0));
        // What is needed until the agent serves is still there.
        assert_eq!(sealed.effective, before.effective);
        if before.effective & CapabilitySet::SETPCAP.bits() == 0 {
            assert_eq!(started.effective & !before.effective, 0);
        } else {
            assert_eq!(started, NONE);
        }
    }

    #[test]
    fn work_done_without_privileges_leaves_them_to_who_asked_for_it() {
        let (before, during, after) = on_a_thread(|| {
            let before = sets();
            let during = without(|| (sets(), on_a_thread(sets))).unwrap();
            (before, during, sets())
        });

        for sets in [during.0, during.1] {
            assert_eq!((sets.effective, sets.permitted), (0, 0));
        }
        assert_eq!(after, before);
    }

    #[test]
    fn a_panic_in_such_work_is_not_swallowed() {
        let panicked = std::panic::catch_unwind(|| without(|| std::panic::panic_any(7_u8)));

        assert_eq!(panicked.unwrap_err().downcast_ref(), Some(&7_u8));
    }

    #[test]
    fn a_privilege_is_refused_by_the_kernel_and_not_only_absent_from_a_list() {
        // Of this test alone: nobody else has a socket that goes there.
        const FAR: &str = "127.61.89.7";
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        socket.connect((FAR, 9)).unwrap();
        let close = || close_sockets(FAR.parse().unwrap(), &|_| false);

        let refused = without(close).unwrap().unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::PermissionDenied);
        assert!(socket.peer_addr().is_ok());

        let (may, allowed) = on_a_thread(|| {
            let kept = reduce_to(Thread::Responder).unwrap();
            (kept.contains(CapabilitySet::NET_ADMIN), close())
        });
        assert_eq!(allowed.is_ok(), may);
        assert_eq!(allowed.unwrap_or_default(), Closed { tcp: 0, udp: may.into() });
    }

    #[test]
    fn sets_are_told_by_their_names() {
        assert_eq!(names(KERNEL), "CAP_NET_ADMIN, CAP_PERFMON, CAP_BPF");
        assert_eq!(names(CapabilitySet::empty()), "none");
    }

    /// Capabilities that a thread gives up are gone for good, so each trial has one of its own.
    fn on_a_thread<T: Send>(work: impl FnOnce() -> T + Send) -> T {
        thread::scope(|scope| scope.spawn(work).join().unwrap())
    }

    fn sets() -> Sets {
        read(&std::fs::read_to_string("/proc/thread-self/status").unwrap())
    }

    fn read(status: &str) -> Sets {
        let field = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap();
            u64::from_str_radix(line.trim_start_matches(':').trim(), 16).unwrap()
        };
        Sets {
            inheritable: field("CapInh"),
            permitted: field("CapPrm"),
            effective: field("CapEff"),
            bounding: field("CapBnd"),
            ambient: field("CapAmb"),
            no_new_privs: field("NoNewPrivs"),
        }
    }
}
