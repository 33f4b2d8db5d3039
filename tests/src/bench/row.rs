//! One figure of a report.

use std::fmt;

use serde::{Serialize, Serializer};

/// A figure, what a peer does, and whether the target is met.
#[derive(Clone, Debug, Serialize)]
pub struct Row {
    figure: String,
    unit: &'static str,
    /// None when it was refused.
    ours: Option<f64>,
    /// The least and the most of the rounds.
    spread: Option<(f64, f64)>,
    peer: Option<f64>,
    peer_name: Option<String>,
    /// Ours divided by the peer's.
    ratio: Option<f64>,
    target: Option<Target>,
    met: Option<bool>,
    /// Why there is no figure.
    refused: Option<String>,
}

/// What a figure should reach.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Target {
    /// Ours is this or less.
    AtMost(f64),
    /// Ours is this or more.
    AtLeast(f64),
    /// Ours is this many times the peer's or less.
    RatioAtMost(f64),
    /// Ours is this many times the peer's or more.
    RatioAtLeast(f64),
}

impl Row {
    /// A figure of ours, alone.
    pub fn new(figure: impl Into<String>, unit: &'static str, ours: f64) -> Self {
        Self {
            figure: figure.into(),
            unit,
            ours: Some(ours),
            spread: None,
            peer: None,
            peer_name: None,
            ratio: None,
            target: None,
            met: None,
            refused: None,
        }
    }

    /// A figure that would not be worth its ink, and why. It meets no target.
    pub fn refused(figure: impl Into<String>, unit: &'static str, why: impl Into<String>) -> Self {
        Self { ours: None, refused: Some(why.into()), ..Self::new(figure, unit, 0.0) }
    }

    /// With the least and the most of its rounds.
    #[must_use]
    pub fn spread(mut self, least: f64, most: f64) -> Self {
        self.spread = Some((least, most));
        self
    }

    /// Beside the same figure of a peer.
    #[must_use]
    pub fn beside(mut self, peer_name: impl Into<String>, peer: f64) -> Self {
        self.peer_name = Some(peer_name.into());
        self.peer = Some(peer);
        self.ratio = self.ours.filter(|_| peer != 0.0).map(|ours| ours / peer);
        self.judge()
    }

    /// Beside a peer that was measured in turns: the ratio is the median of the rounds' own, which a
    /// machine that changes from round to round disturbs less.
    #[must_use]
    pub fn beside_in_turns(self, peer_name: impl Into<String>, peer: f64, ratio: f64) -> Self {
        let mut row = self.beside(peer_name, peer);
        row.ratio = Some(ratio);
        row.judge()
    }

    /// With what it should reach.
    #[must_use]
    pub fn target(mut self, target: Target) -> Self {
        self.target = Some(target);
        self.judge()
    }

    /// A target for a ratio is not met when there is none.
    fn judge(mut self) -> Self {
        self.met = self.target.map(|target| match target {
            Target::AtMost(most) => self.ours.is_some_and(|ours| ours <= most),
            Target::AtLeast(least) => self.ours.is_some_and(|ours| ours >= least),
            Target::RatioAtMost(most) => self.ratio.is_some_and(|ratio| ratio <= most),
            Target::RatioAtLeast(least) => self.ratio.is_some_and(|ratio| ratio >= least),
        });
        self
    }

    /// The figure and why there is none, if it was refused.
    pub(super) fn refusal(&self) -> Option<(&str, &str)> {
        self.refused.as_deref().map(|why| (&*self.figure, why))
    }

    /// What a table shows, column by column.
    pub(super) fn cells(&self) -> [String; 8] {
        let peer = match (&self.peer_name, self.peer) {
            (Some(name), Some(peer)) => format!("{} ({name})", number(peer)),
            (None, _) | (_, None) => String::new(),
        };
        [
            self.figure.clone(),
            self.unit.to_owned(),
            self.ours.map_or_else(|| "refused".to_owned(), number),
            self.spread
                .map(|(least, most)| format!("{} – {}", number(least), number(most)))
                .unwrap_or_default(),
            peer,
            self.ratio.map(number).unwrap_or_default(),
            self.target.map(|target| target.to_string()).unwrap_or_default(),
            match self.met {
                Some(true) => "yes".to_owned(),
                Some(false) => "NO".to_owned(),
                None => String::new(),
            },
        ]
    }
}

/// Three significant digits, more before the point where there are more.
fn number(value: f64) -> String {
    let size = value.abs();
    if size >= 100.0 {
        format!("{value:.0}")
    } else if size >= 10.0 {
        format!("{value:.1}")
    } else if size >= 1.0 {
        format!("{value:.2}")
    } else if size >= 0.1 {
        format!("{value:.3}")
    } else {
        format!("{value:.4}")
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::AtMost(most) => write!(f, "<= {most}"),
            Self::AtLeast(least) => write!(f, ">= {least}"),
            Self::RatioAtMost(most) => write!(f, "ratio <= {most}"),
            Self::RatioAtLeast(least) => write!(f, "ratio >= {least}"),
        }
    }
}

impl Serialize for Target {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_target_is_met_by_the_figure_or_by_its_ratio_to_the_peer() {
        let row = |target| Row::new("x", "ns", 40.0).beside("nft", 100.0).target(target).met;

        assert_eq!(row(Target::AtMost(40.0)), Some(true));
        assert_eq!(row(Target::AtMost(39.0)), Some(false));
        assert_eq!(row(Target::AtLeast(41.0)), Some(false));
        assert_eq!(row(Target::RatioAtMost(0.4)), Some(true));
        assert_eq!(row(Target::RatioAtMost(0.3)), Some(false));
        assert_eq!(row(Target::RatioAtLeast(0.5)), Some(false));
    }

    #[test]
    fn a_ratio_that_cannot_be_told_meets_no_target() {
        let alone = Row::new("x", "ns", 1.0).target(Target::RatioAtMost(2.0));
        let nothing = Row::new("x", "ns", 1.0).beside("idle", 0.0).target(Target::RatioAtMost(2.0));

        assert_eq!(alone.met, Some(false));
        assert_eq!(nothing.met, Some(false));
    }

    #[test]
    fn a_refused_figure_meets_no_target_and_says_why() {
        let row = Row::refused("x", "ns", "the peer is dead").target(Target::AtMost(1.0));

        assert_eq!((row.ours, row.met), (None, Some(false)));
        assert_eq!(row.refusal(), Some(("x", "the peer is dead")));
    }

    #[test]
    fn a_ratio_of_rounds_in_turns_is_the_one_that_is_judged() {
        let row = Row::new("x", "ns", 30.0)
            .target(Target::RatioAtMost(0.5))
            .beside_in_turns("nginx", 100.0, 0.6);

        assert_eq!((row.ratio, row.met), (Some(0.6), Some(false)));
    }

    #[test]
    fn the_json_has_every_field_of_the_format() {
        let row = Row::new("drop", "ns", 50.0)
            .spread(49.0, 52.0)
            .beside("nft", 100.0)
            .target(Target::RatioAtMost(0.4));

        assert_eq!(
            serde_json::to_value(row).unwrap(),
            json!({
                "figure": "drop", "unit": "ns", "ours": 50.0, "spread": [49.0, 52.0], "peer": 100.0,
                "peer_name": "nft", "ratio": 0.5, "target": "ratio <= 0.4", "met": false,
                "refused": null,
            })
        );
    }
}
