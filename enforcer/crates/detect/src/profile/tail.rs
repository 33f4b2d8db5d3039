//! How rare a measure is: bits from the days of all peers, beyond the largest of them by the
//! law that the excesses over a high threshold follow (peaks over threshold, generalised Pareto).

use super::num::{measure, place};

/// Steps of a histogram.
pub(super) const STEPS: usize = 64;

/// Most bits of one signal: what was never seen is not infinitely rare.
pub(crate) const CAP: f32 = 18.0;

/// How heavy the tail beyond the largest days may be: from nearly exponential to that of a mean
/// that hardly exists.
const SHAPES: (f32, f32) = (0.1, 0.5);

/// Days that the prior is worth.
const PRIOR: f32 = 20.0;

/// Days after which the old ones begin to count half.
const FULL: f32 = 200_000.0;

/// The distribution of one measure over identity-days, and over those of today.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Tail {
    /// Days by step.
    pub(super) days: [f32; STEPS],
    /// Of all days.
    pub(super) total: f32,
    /// Who reached a step today, or more.
    pub(super) today: [u32; STEPS],
    /// Bits by step; follows from the days.
    pub(super) bits: [f32; STEPS],
    /// Days added since the bits were made.
    pub(super) stale: f32,
    /// Of one step.
    width: f32,
}

impl Tail {
    /// Of a measure whose steps are `width` wide.
    pub(super) fn new(width: f32) -> Self {
        let mut tail = Self {
            days: [0.0; STEPS],
            total: 0.0,
            today: [0; STEPS],
            bits: [0.0; STEPS],
            stale: 0.0,
            width,
        };
        tail.refresh();
        tail
    }

    /// Adds a day on which the most was `raw`.
    pub(super) fn add(&mut self, raw: f32) {
        let step = self.step(raw);
        if let Some(days) = self.days.get_mut(step) {
            *days += 1.0;
        }
        self.total += 1.0;
        self.stale += 1.0;
        if self.total > FULL {
            self.days.iter_mut().for_each(|days| *days /= 2.0);
            self.total /= 2.0;
        }
        if self.stale > 8.0 + self.total / 50.0 {
            self.refresh();
        }
    }

    /// Takes note that somebody's measure of today rose.
    pub(super) fn rise(&mut self, from: f32, to: f32) {
        let (from, to) = (self.step(from), self.step(to));
        for count in self.today.iter_mut().take(to + 1).skip(from + 1) {
            *count = count.saturating_add(1);
        }
    }

    /// How many others reached as much today.
    pub(super) fn others(&self, raw: f32) -> u32 {
        self.today.get(self.step(raw)).copied().unwrap_or_default().saturating_sub(1)
    }

    /// Begins another day.
    pub(super) const fn dawn(&mut self) {
        self.today = [0; STEPS];
    }

    /// How rare `raw` or more is, in bits.
    pub(super) fn bits(&self, raw: f32) -> f32 {
        let at = (raw / self.width).clamp(0.0, 63.0);
        let below = place(at);
        let part = at - at.floor();
        let here = self.bits.get(below).copied().unwrap_or(CAP);
        let next = self.bits.get(below + 1).copied().unwrap_or(here);
        here + part * (next - here)
    }

    fn step(&self, raw: f32) -> usize {
        place(raw / self.width).min(STEPS - 1)
    }

    /// Makes the bits of what was counted.
    fn refresh(&mut self) {
        self.stale = 0.0;
        // What nothing is known of falls by the half with each three quarters of a deviation.
        let prior = |step: usize| (-0.25 * measure(u64::try_from(step).unwrap_or(0))).exp();
        let all = self.total + PRIOR;
        let mut above = [0.0_f32; STEPS];
        let mut sum = 0.0;
        for (step, (slot, days)) in above.iter_mut().zip(self.days).enumerate().rev() {
            sum += days;
            *slot = sum + PRIOR * prior(step);
        }
        // The threshold: the highest step that enough days have reached.
        let enough = (self.total * 0.02).clamp(12.0, 40.0);
        let threshold = above.iter().rposition(|days| *days >= enough).unwrap_or(0);
        let reached = above.get(threshold).copied().unwrap_or(all);
        // Of a generalised Pareto law, by its moments: mean and spread of the excesses, in steps.
        let (mut mean, mut square) = (0.0_f32, 0.0_f32);
        let weights = above.iter().zip(above.iter().skip(1).chain([&0.0])).skip(threshold);
        for (excess, (days, fewer)) in weights.enumerate() {
            let excess = measure(u64::try_from(excess).unwrap_or(0)) + 0.5;
            let share = (days - fewer) / reached;
            mean += share * excess;
            square += share * excess * excess;
        }
        let spread = (square - mean * mean).max(mean * mean);
        let shape = (0.5 - 0.5 * mean * mean / spread).clamp(SHAPES.0, SHAPES.1);
        let scale = (mean * (1.0 - shape)).max(1.0);
        for (step, (bits, days)) in self.bits.iter_mut().zip(above).enumerate() {
            let rarity = if step <= threshold {
                -(days / all).log2()
            } else {
                let beyond = measure(u64::try_from(step - threshold).unwrap_or(0));
                -(reached / all).log2() + (1.0 + shape * beyond / scale).log2() / shape
            };
            *bits = rarity.clamp(0.0, CAP);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bits_are_the_share_of_days_that_reached_as_much() {
        let mut tail = Tail::new(0.25);
        for day in 0..10_000_u16 {
            // One day of four reaches 2, one of 64 reaches 4.
            tail.add(if day % 64 == 0 {
                4.1
            } else if day % 4 == 0 {
                2.1
            } else {
                0.1
            });
        }
        tail.refresh();

        assert!((tail.bits(2.0) - 2.0).abs() < 0.3, "{}", tail.bits(2.0));
        assert!((tail.bits(4.0) - 6.0).abs() < 0.6, "{}", tail.bits(4.0));
        assert!(tail.bits(9.0) > tail.bits(6.0));
        assert!(tail.bits(15.9) <= CAP);
    }

    #[test]
    fn bits_never_fall_as_the_measure_rises() {
        let mut tail = Tail::new(0.25);
        for day in 0..2_000_u16 {
            tail.add(f32::from(day % 97) * f32::from(day % 31) / 400.0);
        }
        tail.refresh();

        let steps: Vec<f32> = (0..160_u8).map(|tenth| tail.bits(f32::from(tenth) / 10.0)).collect();
        assert!(steps.windows(2).all(|pair| pair[0] <= pair[1] + 1e-4));
    }

    #[test]
    fn who_rises_today_is_counted_once_a_step() {
        let mut tail = Tail::new(0.25);
        for _ in 0..5 {
            tail.rise(0.0, 1.0);
            tail.rise(1.0, 2.0);
        }

        assert_eq!(tail.others(1.5), 4);
        assert_eq!(tail.others(2.6), 0);
        tail.dawn();
        assert_eq!(tail.others(1.5), 0);
    }
}
