//! The program that the kernel runs: entry points, nothing else.
//!
//! The verdict is `enforcer_ebpf::judge`; here a context becomes a packet and a verdict becomes an
//! action. `XDP_ABORTED` means a bug of ours, never a decision. For the host this is an empty
//! program, so that one `cargo clippy --workspace` covers the package without a BPF toolchain.

#![cfg_attr(target_arch = "bpf", no_std, no_main)]

#[cfg(target_arch = "bpf")]
mod frame;
#[cfg(target_arch = "bpf")]
mod maps;

#[cfg(target_arch = "bpf")]
mod entry {
    use aya_ebpf::bindings::xdp_action;
    use aya_ebpf::macros::xdp;
    use aya_ebpf::programs::XdpContext;
    use enforcer_ebpf::{Verdict, judge};

    use crate::frame::Frame;
    use crate::maps::Maps;

    // `frags`: without it a driver refuses the program on an interface with large frames.
    #[xdp(frags)]
    fn enforcer_xdp(context: XdpContext) -> u32 {
        match judge(&Frame::new(&context), &Maps::new()) {
            Some(Verdict::Pass) => xdp_action::XDP_PASS,
            Some(Verdict::Drop) => xdp_action::XDP_DROP,
            None => xdp_action::XDP_ABORTED,
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
