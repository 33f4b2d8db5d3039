//! The report on a terminal.

#![expect(clippy::print_stdout, reason = "the table is what was asked for")]

use super::{Area, Effort, Machine, Row};

const HEADINGS: [&str; 8] = ["figure", "unit", "ours", "spread", "peer", "ratio", "target", "met"];

const SPREAD: usize = 3;
/// Figures: `ours` and `ratio`.
const RIGHT: [usize; 2] = [2, 5];

pub(super) fn print(area: &Area, effort: Effort, machine: &Machine, rows: &[Row]) {
    println!("{}: {}", area.name, area.what);
    println!("on {machine}");
    if effort == Effort::Quick {
        println!("quick: few rounds, not figures to quote");
    }
    println!();
    print!("{}", render(rows));
    for (figure, why) in rows.iter().filter_map(Row::refusal) {
        println!("refused: {figure}: {why}");
    }
}

/// Columns as wide as their widest cell, figures to the right; without spreads no column for them.
fn render(rows: &[Row]) -> String {
    let mut lines = vec![HEADINGS.map(str::to_owned)];
    lines.extend(rows.iter().map(Row::cells));
    let spreads = lines.iter().skip(1).any(|line| line.get(SPREAD).is_some_and(|c| !c.is_empty()));
    let mut widths = [0_usize; 8];
    for line in &lines {
        for (width, cell) in widths.iter_mut().zip(line) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let mut text = String::new();
    for line in &lines {
        let mut row = String::new();
        for (at, (cell, width)) in line.iter().zip(widths).enumerate() {
            if at == SPREAD && !spreads {
                continue;
            }
            if RIGHT.contains(&at) {
                row.push_str(&format!("{cell:>width$}  "));
            } else {
                row.push_str(&format!("{cell:<width$}  "));
            }
        }
        text.push_str(row.trim_end());
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::super::Target;
    use super::*;

    #[test]
    fn columns_line_up_and_an_unmet_target_is_said_in_words() {
        let rows = [
            Row::new("drop", "ns", 265.0)
                .beside("nftables", 640.0)
                .target(Target::RatioAtMost(0.4)),
            Row::new("a longer figure", "ms", 0.5),
        ];

        assert_eq!(
            render(&rows),
            "figure           unit   ours  peer            ratio  target        met\n\
             drop             ns      265  640 (nftables)  0.414  ratio <= 0.4  NO\n\
             a longer figure  ms    0.500\n"
        );
    }

    #[test]
    fn a_spread_has_a_column_once_there_is_one() {
        let rows = [Row::new("a", "ns", 2.0).spread(1.0, 3.0), Row::new("b", "ns", 4.0)];

        assert_eq!(
            render(&rows),
            "figure  unit  ours  spread       peer  ratio  target  met\n\
             a       ns    2.00  1.00 – 3.00\n\
             b       ns    4.00\n"
        );
    }
}
