//! The few conversions between counts and measures, each saturating; nowhere else are numbers cast.

/// A count as a measure.
#[expect(clippy::as_conversions, reason = "a measure has no need of the last digits")]
pub(super) const fn measure(count: u64) -> f32 {
    count as f32
}

/// The whole part of a measure, zero when it is negative or none.
#[expect(
    clippy::as_conversions,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a float saturates when it becomes an integer, and what is no number is zero"
)]
pub(super) const fn whole(measure: f32) -> u32 {
    measure as u32
}

/// The same as a place in a table.
pub(super) fn place(measure: f32) -> usize {
    usize::try_from(whole(measure)).unwrap_or(usize::MAX)
}

/// The same as a byte.
pub(super) fn byte(measure: f32) -> u8 {
    u8::try_from(whole(measure)).unwrap_or(u8::MAX)
}

/// The lower half of a hash.
#[expect(clippy::as_conversions, clippy::cast_possible_truncation, reason = "the lower bits")]
pub(super) const fn low(hash: u64) -> u32 {
    hash as u32
}

/// The place that `hash` has in a table of `length`.
pub(super) fn slot(hash: u64, length: usize) -> usize {
    let length = u64::try_from(length).unwrap_or(u64::MAX).max(1);
    usize::try_from(hash % length).unwrap_or_default()
}

/// A measure below 32 in two bytes, exact to a two-thousandth.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Small(pub(super) u16);

impl Small {
    pub(super) fn new(measure: f32) -> Self {
        Self(u16::try_from(whole(measure * 2_048.0 + 0.5)).unwrap_or(u16::MAX))
    }

    pub(super) fn get(self) -> f32 {
        f32::from(self.0) / 2_048.0
    }
}

/// A measure in two bytes, exact to a hundredth of itself and never more than it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Coarse(pub(super) u16);

impl Coarse {
    pub(super) fn new(measure: f32) -> Self {
        Self(u16::try_from(measure.max(0.0).to_bits() >> 16).unwrap_or(u16::MAX))
    }

    pub(super) fn get(self) -> f32 {
        f32::from_bits(u32::from(self.0) << 16)
    }
}

/// Seconds that fit.
pub(super) fn seconds(time: u64) -> u32 {
    u32::try_from(time).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_coarse_measure_is_near_below_and_never_none() {
        for count in [0_u64, 1, 3, 200, 255, 1_000, 123_456, u64::MAX] {
            let (exact, coarse) = (measure(count), Coarse::new(measure(count)).get());
            assert!(coarse <= exact && coarse >= exact * 0.992, "{count}: {coarse}");
        }
        assert!(Coarse::new(-1.0).get().abs() < f32::EPSILON);
        assert!(Coarse::new(f32::NAN).get().abs() < f32::EPSILON);
    }
}
