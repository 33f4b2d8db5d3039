//! The programs that the kernel runs: entry points, nothing else.
//!
//! The verdict is `enforcer_ebpf::judge_incoming` or `judge_outgoing`; here a context becomes a
//! packet and a verdict becomes an action. `XDP_ABORTED` means a bug of ours, never a decision. For
//! the host this is an empty program, so that one `cargo clippy --workspace` covers the package
//! without a BPF toolchain.

#![cfg_attr(target_arch = "bpf", no_std, no_main)]

#[cfg(target_arch = "bpf")]
mod frame;
#[cfg(target_arch = "bpf")]
mod maps;

#[cfg(target_arch = "bpf")]
mod entry {
    use aya_ebpf::bindings::{TC_ACT_SHOT, xdp_action};
    use aya_ebpf::macros::{classifier, xdp};
    use aya_ebpf::programs::{TcContext, XdpContext};
    use enforcer_ebpf::{Verdict, judge_incoming, judge_outgoing};

    use crate::frame::Frame;
    use crate::maps::Maps;

    /// What the next program of the chain says, if there is one.
    const TC_ACT_UNSPEC: i32 = -1;

    // `frags`: without it a driver refuses the program on an interface with large frames.
    #[xdp(frags)]
    fn enforcer_xdp(context: XdpContext) -> u32 {
        match judge_incoming(&Frame::new(&context), &Maps::new()) {
            Some(Verdict::Pass) => xdp_action::XDP_PASS,
            Some(Verdict::Drop) => xdp_action::XDP_DROP,
            None => xdp_action::XDP_ABORTED,
        }
    }

    #[classifier]
    fn enforcer_in(context: TcContext) -> i32 {
        action(judge_incoming(&Frame::of_buffer(&context), &Maps::new()))
    }

    #[classifier]
    fn enforcer_out(context: TcContext) -> i32 {
        action(judge_outgoing(&Frame::of_buffer(&context), &Maps::new()))
    }

    /// A bug of ours drops, as `XDP_ABORTED` does.
    #[inline(always)]
    fn action(verdict: Option<Verdict>) -> i32 {
        match verdict {
            Some(Verdict::Pass) => TC_ACT_UNSPEC,
            Some(Verdict::Drop) | None => TC_ACT_SHOT as i32,
        }
    }

    /// The kernel refuses a program that can reach an endless loop, so one that loads cannot panic.
    #[panic_handler]
    fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
        loop {}
    }
}

#[cfg(not(target_arch = "bpf"))]
const fn main() {}
