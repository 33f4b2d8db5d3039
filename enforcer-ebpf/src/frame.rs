//! A frame in a driver's memory or in a socket buffer: the only place that reads it.

#![expect(unsafe_code, reason = "packet memory is a pair of addresses")]

use aya_ebpf::bindings::{__sk_buff, xdp_md};
use aya_ebpf::helpers::bpf_xdp_get_buff_len;
use aya_ebpf::programs::{TcContext, XdpContext};
use enforcer_ebpf::{Packet, Transport, transport};

/// Offsets stay below this, so that the kernel can follow them; no header ends that far out.
const MAX_OFFSET: usize = 0x3fff;

/// Bytes that are made readable in place before a socket buffer is judged: two tags, an IPv6 header
/// and two extension headers, a TCP header.
const HEADERS: u32 = 128;

/// Where a frame's bytes are.
pub(crate) trait Buffer {
    fn start(&self) -> usize;
    fn end(&self) -> usize;
    fn length(&self) -> u64;
    fn transport(&self) -> u64;
}

pub(crate) struct Frame<'c, B>(&'c B);

/// Bytes at an even address, which the machine reads two at a time.
#[repr(C, align(2))]
struct Even<const N: usize>([u8; N]);

impl<'c> Frame<'c, XdpContext> {
    #[inline(always)]
    pub(crate) const fn new(context: &'c XdpContext) -> Self {
        Self(context)
    }
}

impl<'c> Frame<'c, TcContext> {
    /// Headers that lie in pages behind the buffer are fetched; where that fails, they are missing.
    #[inline(always)]
    pub(crate) fn of_buffer(context: &'c TcContext) -> Self {
        let length = context.len();
        let wanted = if length < HEADERS { length } else { HEADERS };
        if context.data() + wanted as usize > context.data_end() {
            let _short = context.pull_data(wanted);
        }
        Self(context)
    }
}

impl Buffer for XdpContext {
    #[inline(always)]
    fn start(&self) -> usize {
        self.data()
    }

    #[inline(always)]
    fn end(&self) -> usize {
        self.data_end()
    }

    #[inline(always)]
    fn length(&self) -> u64 {
        // SAFETY: the context is the one that the kernel called the program with.
        unsafe { bpf_xdp_get_buff_len(self.ctx) }
    }

    #[inline(always)]
    fn transport(&self) -> u64 {
        transport_xdp(self.ctx)
    }
}

impl Buffer for TcContext {
    #[inline(always)]
    fn start(&self) -> usize {
        self.data()
    }

    #[inline(always)]
    fn end(&self) -> usize {
        self.data_end()
    }

    #[inline(always)]
    fn length(&self) -> u64 {
        u64::from(self.len())
    }

    #[inline(always)]
    fn transport(&self) -> u64 {
        transport_tc(self.skb.skb)
    }
}

impl<B: Buffer> Packet for Frame<'_, B> {
    #[inline(always)]
    fn load<const N: usize>(&self, offset: usize) -> Option<[u8; N]> {
        const { assert!(N.is_multiple_of(2)) }
        if offset > MAX_OFFSET {
            return None;
        }
        let start = self.0.start() + offset;
        if start + N > self.0.end() {
            return None;
        }
        // SAFETY: the `N` bytes from `start` lie before the end of the frame, as the line above
        // has checked and the kernel checks again when it loads the program. `N` is even, so there
        // is no padding behind them; frames begin at an even address.
        Some(unsafe { (start as *const Even<N>).read() }.0)
    }

    #[inline(always)]
    fn length(&self) -> u64 {
        self.0.length()
    }

    #[inline(always)]
    fn transport(&self) -> Transport {
        Transport(self.0.transport())
    }
}

/// A function with a name of its own is verified once, whoever calls it.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn transport_xdp(context: *mut xdp_md) -> u64 {
    transport::read(&Frame(&XdpContext::new(context))).0
}

/// The same for a socket buffer.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn transport_tc(context: *mut __sk_buff) -> u64 {
    transport::read(&Frame(&TcContext::new(context))).0
}
