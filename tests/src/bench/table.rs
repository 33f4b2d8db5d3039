//! The report on a terminal.

#![expect(clippy::print_stdout, reason = "the table is what was asked for")]

use super::{Area, Effort, Machine, Row};

const HEADINGS: [&str; 7] = ["figure", "unit", "ours", "peer", "ratio", "target", "met"];

pub(super) fn print(area: &Area, effort: Effort, machine: &Machine, rows: &[Row]) {
    println!("{}: {}", area.name, area.what);
    println!("on {machine}");
    if effort == Effort::Quick {
        println!("quick: few rounds, not figures to quote");
    }
    println!();
    print!("{}", render(rows));
}

/// Columns as wide as their widest cell; figures to the right.
fn render(rows: &[Row]) -> String {
    let mut lines = vec![HEADINGS.map(str::to_owned)];
    lines.extend(rows.iter().map(Row::cells));
    let mut widths = [0_usize; 7];
    for line in &lines {
        for (width, cell) in widths.iter_mut().zip(line) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let mut text = String::new();
    for line in &lines {
        let mut row = String::new();
        for ((heading, cell), width) in HEADINGS.iter().zip(line).zip(widths) {
            if matches!(*heading, "ours" | "ratio") {
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
}
