//! What the benches load beside the product: a source of traffic, and programs that do nothing.
//!
//! Every packet bears the next of a list of keys as its source. The list is in random order, so a
//! packet never repeats the one before, and reading it costs the caches next to nothing. The list is
//! exact as well: whoever counts knows how often each source has sent. On the host this is an empty
//! program.

#![cfg_attr(target_arch = "bpf", no_std, no_main)]

#[cfg(target_arch = "bpf")]
mod entry {
    #![expect(unsafe_code, reason = "packet memory and map values are pairs of addresses")]

    use aya_ebpf::bindings::xdp_action;
    use aya_ebpf::helpers::{bpf_get_smp_processor_id, bpf_redirect};
    use aya_ebpf::macros::{map, xdp};
    use aya_ebpf::maps::{Array, ProgramArray};
    use aya_ebpf::programs::XdpContext;

    /// What one CPU sends; on cache lines of its own.
    #[repr(C)]
    struct Traffic {
        /// Where its keys begin in `KEYS`.
        first: u64,
        /// How many they are.
        count: u64,
        /// Which of them is next.
        next: u64,
        /// Where packets go to.
        interface: u64,
        /// Sum of the IPv4 header but for source and checksum; 0: the packet is of IPv6.
        sum: u64,
        _line: [u64; 11],
    }

    /// Offsets behind an Ethernet header.
    const IPV4_CHECKSUM: usize = 14 + 10;
    const IPV4_SOURCE: usize = 14 + 12;
    const IPV6_SOURCE: usize = 14 + 8;

    /// The network that every IPv6 source is in; its key makes it a /48 of its own.
    const IPV6_NETWORK: u64 = 0x2a00 << 48;

    #[map]
    static KEYS: Array<u32> = Array::with_max_entries(1, 0);
    #[map]
    static PROGRAM: ProgramArray = ProgramArray::with_max_entries(1, 0);
    #[map]
    static TRAFFIC: Array<Traffic> = Array::with_max_entries(256, 0);

    /// Makes a packet and has it judged by the program in `PROGRAM`, which never returns here.
    #[xdp(frags)]
    fn judged(context: XdpContext) -> u32 {
        if forge(&context).is_some() {
            // SAFETY: nothing of this program is needed any more.
            unsafe { PROGRAM.tail_call(&context, 0) };
        }
        xdp_action::XDP_ABORTED
    }

    /// Makes a packet and sends it.
    #[xdp(frags)]
    fn sent(context: XdpContext) -> u32 {
        match forge(&context) {
            // SAFETY: takes two numbers and keeps the first for the kernel.
            Some(interface) => unsafe { bpf_redirect(interface, 0) as u32 },
            None => xdp_action::XDP_ABORTED,
        }
    }

    #[xdp(frags)]
    fn drops(_: XdpContext) -> u32 {
        xdp_action::XDP_DROP
    }

    #[xdp(frags)]
    fn passes(_: XdpContext) -> u32 {
        xdp_action::XDP_PASS
    }

    /// Gives the packet the next source; returns where it goes to.
    #[inline(always)]
    fn forge(context: &XdpContext) -> Option<u32> {
        // SAFETY: takes nothing and returns a number.
        let cpu = unsafe { bpf_get_smp_processor_id() };
        // SAFETY: only this CPU uses this value while it sends.
        let traffic = unsafe { &mut *TRAFFIC.get_ptr_mut(cpu)? };
        let at = traffic.next;
        traffic.next = if at + 1 < traffic.count { at + 1 } else { 0 };
        let key = *KEYS.get((traffic.first + at) as u32)?;
        if traffic.sum == 0 {
            let high = IPV6_NETWORK | u64::from(key) << 16;
            write(context, IPV6_SOURCE, high.to_be())?;
            write(context, IPV6_SOURCE + 8, u64::from(key).to_be())?;
        } else {
            let sum = traffic.sum + u64::from(key >> 16) + u64::from(key & 0xffff);
            let sum = (sum & 0xffff) + (sum >> 16);
            let sum = (sum & 0xffff) + (sum >> 16);
            write(context, IPV4_CHECKSUM, (!(sum as u16)).to_be())?;
            write(context, IPV4_SOURCE, key.to_be())?;
        }
        Some(traffic.interface as u32)
    }

    #[inline(always)]
    fn write<T>(context: &XdpContext, offset: usize, value: T) -> Option<()> {
        let start = context.data() + offset;
        if start + size_of::<T>() > context.data_end() {
            return None;
        }
        // SAFETY: the bytes lie before the end of the frame, as the kernel checks again.
        unsafe { (start as *mut T).write_unaligned(value) };
        Some(())
    }

    /// The kernel refuses a program that can reach an endless loop, so one that loads cannot panic.
    #[panic_handler]
    fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
        loop {}
    }
}

#[cfg(not(target_arch = "bpf"))]
const fn main() {}
