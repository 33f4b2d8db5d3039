//! What the kernel says of the wall clock: whether something disciplines it, and how well.

#![expect(unsafe_code, reason = "a system call that no crate wraps")]

/// The state of the wall clock, by `adjtimex(2)`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClockSync {
    /// Whether an NTP or PTP daemon keeps it right; a clock that is not is known to be wrong by
    /// nobody knows how much.
    pub synchronised: bool,
    /// How far it was off when it was last corrected.
    pub offset_ns: i64,
    /// By how much it may be off at most, as the daemon reckons.
    pub error_max_us: u64,
}

/// Reads it; none where the system does not tell.
pub fn clock_sync() -> Option<ClockSync> {
    // SAFETY: a structure of plain numbers, for which zero is a value.
    let mut state: libc::timex = unsafe { std::mem::zeroed() };
    // SAFETY: the structure is ours, and `modes` is 0: nothing is set.
    let code = unsafe { libc::adjtimex(&raw mut state) };
    (code >= 0).then(|| read(&state, code))
}

fn read(state: &libc::timex, code: i32) -> ClockSync {
    let unit_ns = if state.status & libc::STA_NANO == 0 { 1_000 } else { 1 };
    ClockSync {
        synchronised: code != libc::TIME_ERROR && state.status & libc::STA_UNSYNC == 0,
        offset_ns: state.offset.saturating_mul(unit_ns),
        error_max_us: u64::try_from(state.maxerror).unwrap_or_default(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernel_tells_of_its_clock() {
        let sync = clock_sync().unwrap();
        // Half a second is where the kernel itself gives up; unsynchronised it is above that.
        assert!(sync.offset_ns.unsigned_abs() <= 500_000_000, "{sync:?}");
    }

    #[test]
    fn microseconds_and_nanoseconds_are_told_apart() {
        // SAFETY: a structure of plain numbers, for which zero is a value.
        let mut state: libc::timex = unsafe { std::mem::zeroed() };
        state.offset = -7;
        state.maxerror = 1_200;

        let coarse = read(&state, libc::TIME_OK);
        state.status = libc::STA_NANO | libc::STA_UNSYNC;
        let fine = read(&state, libc::TIME_OK);

        assert_eq!(
            coarse,
            ClockSync { synchronised: true, offset_ns: -7_000, error_max_us: 1_200 }
        );
        assert_eq!((fine.offset_ns, fine.synchronised), (-7, false));
        state.status = 0;
        assert!(!read(&state, libc::TIME_ERROR).synchronised);
    }
}
