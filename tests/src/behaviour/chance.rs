//! Chance with a seed: the same seed gives the same world on every machine.

/// A generator of random numbers (`SplitMix64`).
#[derive(Clone, Debug)]
pub struct Chance(u64);

impl Chance {
    /// One that gives what `seed` gives.
    pub const fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// Another that does not depend on how often this one was asked.
    pub const fn branch(&self, name: u64) -> Self {
        Self(self.0 ^ name.wrapping_mul(0xD6E8_FEB8_6659_FD93).rotate_left(29))
    }

    /// Any number.
    pub const fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    /// From 0 to 1.
    #[expect(clippy::as_conversions, reason = "53 bits fit")]
    pub const fn unit(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1_u64 << 53) as f64
    }

    /// Below `bound`, or zero.
    pub const fn below(&mut self, bound: u64) -> u64 {
        if bound == 0 { 0 } else { self.next() % bound }
    }

    /// From `low` to `high`.
    pub fn between(&mut self, low: f64, high: f64) -> f64 {
        low + (high - low) * self.unit()
    }

    /// Whether something of this probability happens.
    pub fn happens(&mut self, probability: f64) -> bool {
        self.unit() < probability
    }

    /// Of the normal distribution.
    pub fn normal(&mut self) -> f64 {
        let radius = (-2.0 * self.unit().max(1e-12).ln()).sqrt();
        radius * (std::f64::consts::TAU * self.unit()).cos()
    }

    /// Around `median`, a factor e^`spread` to either side.
    pub fn lognormal(&mut self, median: f64, spread: f64) -> f64 {
        median * (spread * self.normal()).exp()
    }

    /// A whole number of such a size; chance decides about the rest.
    pub fn count(&mut self, size: f64) -> u64 {
        let whole = size.max(0.0).floor();
        let rest = size.max(0.0) - whole;
        truncated(whole) + u64::from(self.happens(rest))
    }
}

/// The whole part.
#[expect(
    clippy::as_conversions,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a float saturates when it becomes an integer"
)]
pub(super) const fn truncated(size: f64) -> u64 {
    size as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_seed_gives_the_same_and_another_something_else() {
        let draw = |seed| (0..5).map(|_| Chance::new(seed).next()).collect::<Vec<_>>();

        assert_eq!(draw(1), draw(1));
        assert_ne!(draw(1), draw(2));
    }

    #[test]
    fn numbers_are_spread_as_they_should_be() {
        let mut chance = Chance::new(7);
        let mean = (0..20_000).map(|_| chance.unit()).sum::<f64>() / 20_000.0;
        let normal = (0..20_000).map(|_| chance.normal().powi(2)).sum::<f64>() / 20_000.0;

        assert!((mean - 0.5).abs() < 0.02, "{mean}");
        assert!((normal - 1.0).abs() < 0.05, "{normal}");
    }
}
