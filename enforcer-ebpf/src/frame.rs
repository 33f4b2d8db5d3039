//! A frame in a driver's memory: the only place that reads it.

#![expect(unsafe_code, reason = "packet memory is a pair of addresses")]

use aya_ebpf::helpers::bpf_xdp_get_buff_len;
use aya_ebpf::programs::XdpContext;
use enforcer_ebpf::Packet;

/// Offsets stay below this, so that the kernel can follow them; no header ends that far out.
const MAX_OFFSET: usize = 0x3fff;

pub(crate) struct Frame<'c> {
    context: &'c XdpContext,
}

impl<'c> Frame<'c> {
    #[inline(always)]
    pub(crate) fn new(context: &'c XdpContext) -> Self {
        Self { context }
    }
}

impl Packet for Frame<'_> {
    #[inline(always)]
    fn load<const N: usize>(&self, offset: usize) -> Option<[u8; N]> {
        if offset > MAX_OFFSET {
            return None;
        }
        let start = self.context.data() + offset;
        if start + N > self.context.data_end() {
            return None;
        }
        // SAFETY: the `N` bytes from `start` lie before the end of the frame, as the line above
        // has checked and the kernel checks again when it loads the program.
        Some(unsafe { (start as *const [u8; N]).read_unaligned() })
    }

    #[inline(always)]
    fn length(&self) -> u64 {
        // SAFETY: the context is the one that the kernel called the program with.
        unsafe { bpf_xdp_get_buff_len(self.context.ctx) }
    }
}
