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
