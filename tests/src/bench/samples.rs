//! Repeated measurements of one figure.

use anyhow::{Context, Result, ensure};

/// The figures of several rounds, sorted. Never empty.
#[derive(Clone, Debug)]
pub struct Samples {
    sorted: Vec<f64>,
}

impl Samples {
    /// From the figures of at least one round; a figure that is no number is an error.
    pub fn new(mut figures: Vec<f64>) -> Result<Self> {
        ensure!(!figures.is_empty(), "nothing was measured");
        ensure!(figures.iter().all(|figure| figure.is_finite()), "a figure is no number");
        figures.sort_by(f64::total_cmp);
        Ok(Self { sorted: figures })
    }

    /// The middle one; of an even number the mean of the middle two.
    pub fn median(&self) -> Result<f64> {
        let middle = self.sorted.len() / 2;
        let upper = *self.sorted.get(middle).context("no samples")?;
        if self.sorted.len() % 2 == 1 {
            return Ok(upper);
        }
        let lower =
            *middle.checked_sub(1).and_then(|i| self.sorted.get(i)).context("no samples")?;
        Ok(f64::midpoint(lower, upper))
    }

    /// The smallest figure that at least `percent` of 100 do not exceed (nearest rank).
    pub fn percentile(&self, percent: usize) -> Result<f64> {
        ensure!(percent <= 100, "there is no percentile above 100");
        let rank = self.sorted.len().saturating_mul(percent).div_ceil(100).max(1);
        rank.checked_sub(1).and_then(|i| self.sorted.get(i)).copied().context("no samples")
    }

    /// How many rounds there were.
    pub fn rounds(&self) -> usize {
        self.sorted.len()
    }
}

/// Measures ours and the peer's in turns. The first of a round changes from round to round, so that
/// neither always finds the caches that the other left.
pub fn alternate(
    rounds: usize,
    mut ours: impl FnMut() -> Result<f64>,
    mut peer: impl FnMut() -> Result<f64>,
) -> Result<(Samples, Samples)> {
    let mut of_ours = Vec::with_capacity(rounds);
    let mut of_peer = Vec::with_capacity(rounds);
    for round in 0..rounds {
        if round % 2 == 0 {
            of_ours.push(ours()?);
            of_peer.push(peer()?);
        } else {
            of_peer.push(peer()?);
            of_ours.push(ours()?);
        }
    }
    Ok((Samples::new(of_ours)?, Samples::new(of_peer)?))
}

#[cfg(test)]
#[expect(clippy::float_cmp, reason = "the figures are chosen to be exact")]
mod tests {
    use std::cell::RefCell;

    use super::*;

    #[test]
    fn medians_and_percentiles_are_those_of_the_textbook() {
        let odd = Samples::new(vec![9.0, 1.0, 5.0]).unwrap();
        let even = Samples::new(vec![4.0, 1.0, 3.0, 2.0]).unwrap();
        let hundred = Samples::new((1..=100).map(f64::from).collect()).unwrap();

        assert_eq!(odd.median().unwrap(), 5.0);
        assert_eq!(even.median().unwrap(), 2.5);
        assert_eq!(hundred.percentile(99).unwrap(), 99.0);
        assert_eq!(hundred.percentile(0).unwrap(), 1.0);
        assert_eq!(hundred.percentile(100).unwrap(), 100.0);
        assert!(hundred.percentile(101).is_err());
        assert_eq!(odd.rounds(), 3);
    }

    #[test]
    fn nothing_measured_and_no_number_are_errors() {
        assert!(Samples::new(Vec::new()).is_err());
        assert!(Samples::new(vec![1.0, f64::NAN]).is_err());
    }

    #[test]
    fn ours_and_the_peer_take_turns_at_being_first() {
        let order = RefCell::new(String::new());
        let step = |name, figure| {
            order.borrow_mut().push(name);
            Ok(figure)
        };

        let (ours, peer) = alternate(3, || step('o', 1.0), || step('p', 2.0)).unwrap();

        assert_eq!(order.into_inner(), "oppoop");
        assert_eq!((ours.median().unwrap(), peer.median().unwrap()), (1.0, 2.0));
    }
}
