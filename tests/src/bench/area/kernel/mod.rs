//! What a verdict costs at a million blocks and a million sources, alone and beside others.
//!
//! Every packet bears another key than the one before, in random order: a figure that repeats one
//! packet is meaningless for block lists. What is compared takes turns round by round, and what was
//! sent is counted again where it must have arrived, been dropped or passed: a round that lost a
//! packet on the way is an error, not a figure. `enforcer/docs/benchmarks.md` has the method and its
//! limits.

use anyhow::Result;

use super::super::{Effort, Order, Row};
use super::Area;
use crate::lab::Lab;

mod cores;

mod flood;
mod load;
mod memory;
mod ours;
mod peers;
mod traffic;
mod verdict;
mod veth;

use traffic::Generator;

/// The area.
pub(super) const AREA: Area = Area {
    name: "kernel",
    what: "what a verdict costs at a million blocks and a million sources",
    measure,
};

/// Blocks, and as many sources.
const SIZES: [u32; 3] = [10, 10_000, MILLION];

const MILLION: u32 = 1_000_000;

fn measure(order: &Order) -> Result<Vec<Row>> {
    let effort = order.effort;
    let lab = Lab::new()?;
    // Before the generator, whose own memory is not to be counted.
    let mut rows = memory::measure(&lab)?;
    let mut generator = Generator::load()?;
    rows.extend(verdict::measure(&lab, &generator, effort)?);
    rows.extend(veth::measure(&lab, &mut generator, effort)?);
    rows.extend(cores::measure(&lab, &mut generator, effort)?);
    rows.extend(flood::measure(&lab, &generator, effort)?);
    rows.extend(load::measure(&lab, &mut generator, effort)?);
    Ok(rows)
}

/// Rounds that take turns.
fn rounds(effort: Effort) -> usize {
    match effort {
        Effort::Quick => 3,
        Effort::Full => 5,
    }
}

/// A tenth for a quick look.
fn packets(effort: Effort, full: u32) -> u32 {
    match effort {
        Effort::Quick => full / 10,
        Effort::Full => full,
    }
}

/// As a person writes it.
fn thousands(number: u32) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_large_number_has_a_comma_before_every_third_digit() {
        let written = [10, 999, 10_000, MILLION].map(thousands);

        assert_eq!(written, ["10", "999", "10,000", "1,000,000"]);
    }
}
