//! One number that the kernel's CPUs and the agent read and write at the same time.
//!
//! Whole or not at all, in no order with respect to other numbers. On the host these are atomic
//! operations. The compiler has none for the oldest BPF machine, whose plain loads and stores of an
//! aligned word are atomic anyway and whose one atomic addition does not say what was there before.

#![cfg_attr(
    target_arch = "bpf",
    expect(unsafe_code, reason = "one machine instruction for each operation")
)]

use core::sync::atomic::AtomicU64;
#[cfg(not(target_arch = "bpf"))]
use core::sync::atomic::Ordering::Relaxed;

/// A 64-bit number in a map value.
#[derive(Debug, Default)]
#[repr(transparent)]
pub struct Shared(AtomicU64);

impl Shared {
    /// Starts at `number`.
    #[inline(always)]
    pub const fn new(number: u64) -> Self {
        Self(AtomicU64::new(number))
    }
}

#[cfg(not(target_arch = "bpf"))]
impl Shared {
    /// What it is.
    pub fn get(&self) -> u64 {
        self.0.load(Relaxed)
    }

    /// Makes it `number`.
    pub fn set(&self, number: u64) {
        self.0.store(number, Relaxed);
    }

    /// Adds `number`, wrapping; no addition is lost to another CPU.
    pub fn add(&self, number: u64) {
        self.0.fetch_add(number, Relaxed);
    }
}

#[cfg(target_arch = "bpf")]
impl Shared {
    /// What it is.
    #[inline(always)]
    pub fn get(&self) -> u64 {
        // SAFETY: an aligned number that lives as long as `self`.
        unsafe { self.0.as_ptr().read_volatile() }
    }

    /// Makes it `number`.
    #[inline(always)]
    pub fn set(&self, number: u64) {
        // SAFETY: an aligned number that lives as long as `self`, in memory that may be written.
        unsafe { self.0.as_ptr().write_volatile(number) }
    }

    /// Adds `number`, wrapping; no addition is lost to another CPU.
    #[inline(always)]
    pub fn add(&self, number: u64) {
        // SAFETY: an aligned number that lives as long as `self`, in memory that may be written.
        unsafe {
            core::arch::asm!(
                "lock *(u64 *)({address} + 0) += {number}",
                address = in(reg) self.0.as_ptr(),
                number = in(reg) number,
                options(nostack),
            );
        }
    }
}

/// The same number, of which the compiler knows nothing any more.
#[cfg(not(target_arch = "bpf"))]
pub(crate) const fn opaque(number: u64) -> u64 {
    number
}

/// The same number, of which the kernel's verifier knows nothing any more: rounds of a loop that
/// look alike are checked once. `noise` is any number that it does not know.
#[cfg(not(target_arch = "bpf"))]
pub(crate) const fn forget(number: u64, _noise: u64) -> u64 {
    number
}

/// The same number, of which the compiler knows nothing any more.
#[cfg(target_arch = "bpf")]
#[inline(always)]
pub(crate) fn opaque(mut number: u64) -> u64 {
    // SAFETY: a register moved to itself.
    unsafe {
        core::arch::asm!(
            "{number} = {number}",
            number = inout(reg) number,
            options(nomem, nostack, pure),
        );
    }
    number
}

/// The same number, of which the kernel's verifier knows nothing any more: rounds of a loop that
/// look alike are checked once. `noise` is any number that it does not know.
#[cfg(target_arch = "bpf")]
#[inline(always)]
pub(crate) fn forget(mut number: u64, noise: u64) -> u64 {
    // SAFETY: two changes of a register that undo each other.
    unsafe {
        core::arch::asm!(
            "{number} ^= {noise}",
            "{number} ^= {noise}",
            number = inout(reg) number,
            noise = in(reg) noise,
            options(nomem, nostack, pure),
        );
    }
    number
}

/// The number of the lowest bit that is set.
///
/// As the number of bits below it: what the compiler has instead for a BPF machine is a table, and
/// an index into a table makes the kernel follow the exact value of everything that it came from.
#[inline(always)]
pub(crate) fn lowest_bit(word: u64) -> u32 {
    let below = (word & word.wrapping_neg()).wrapping_sub(1);
    opaque(below).count_ones()
}

/// The lower half of a word.
#[inline(always)]
#[expect(clippy::as_conversions, clippy::cast_possible_truncation, reason = "half of a word")]
pub(crate) const fn low(word: u64) -> u32 {
    word as u32
}

/// A number as a word; `u64::from` is not const.
#[inline(always)]
#[expect(clippy::as_conversions, reason = "the same number in a wider type")]
pub(crate) const fn wide(number: u32) -> u64 {
    number as u64
}

/// One of four, by the last two bits of its number.
#[inline(always)]
pub(crate) fn pick<T>(four: &[T; 4], index: u64) -> &T {
    let [a, b, c, d] = four;
    match index & 3 {
        0 => a,
        1 => b,
        2 => c,
        _ => d,
    }
}
