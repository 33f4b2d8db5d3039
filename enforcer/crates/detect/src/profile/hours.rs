//! At which hours of the week somebody is usually there.

use super::num::{byte, measure, place};

/// Hours of a week, from Monday 00:00 UTC.
pub(super) const HOURS: usize = 168;

/// What is left of a presence after a week of absence.
const KEPT: f32 = 0.75;

/// What is left after so many weeks; after more it is nothing.
const WEEKS: usize = 24;
#[expect(clippy::indexing_slicing, reason = "reckoned by the compiler, which looks itself")]
const LEFT: [f32; WEEKS] = {
    let mut left = [1.0; WEEKS];
    let mut week = 1;
    while week < WEEKS {
        left[week] = left[week - 1] * KEPT;
        week += 1;
    }
    left
};

/// How a neighbouring hour counts: somebody who is there at nine may be there at eight.
const NEAR: [(usize, f32); 5] = [(0, 1.0), (1, 0.5), (23, 0.5), (2, 0.2), (22, 0.2)];
const NEAR_SUM: f32 = 2.4;

/// Weeks that the group's habit is worth.
const PEERS: f32 = 1.5;

/// Presence by hour of the week, in 255ths, over the last weeks; and how many of each weekday were seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Hours {
    pub(super) presence: [u8; HOURS],
    pub(super) weeks: [u8; 7],
}

/// The same of a group, as sums.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct PeerHours {
    pub(super) present: [f32; HOURS],
    pub(super) members: [f32; 7],
}

/// The weekday of a day since 1970, Monday first.
pub(super) fn weekday(day: u32) -> usize {
    usize::try_from((day + 3) % 7).unwrap_or_default()
}

fn left(weeks: u8) -> f32 {
    LEFT.get(usize::from(weeks)).copied().unwrap_or(0.0)
}

impl Default for Hours {
    fn default() -> Self {
        Self { presence: [0; HOURS], weeks: [0; 7] }
    }
}

impl Hours {
    /// Learns a day: each bit of `active` is an hour with requests.
    pub(super) fn learn(&mut self, weekday: usize, active: u32) {
        for (hour, slot) in self.presence.iter_mut().skip(weekday * 24).take(24).enumerate() {
            let there = if active >> hour & 1 == 1 { 255.0 * (1.0 - KEPT) } else { 0.0 };
            *slot = byte(f32::from(*slot) * KEPT + there + 0.5);
        }
        if let Some(weeks) = self.weeks.get_mut(weekday) {
            *weeks = weeks.saturating_add(1);
        }
    }

    /// How likely somebody is there in `hour` of `weekday`.
    pub(super) fn chance(&self, weekday: usize, hour: usize, peers: &PeerHours) -> f32 {
        let (mut sum, mut weight, mut known) = (0.0_f32, 0.0_f32, 0.0_f32);
        for (day, hours) in self.presence.chunks(24).enumerate() {
            let weeks = self.weeks.get(day).copied().unwrap_or_default();
            if weeks == 0 {
                continue;
            }
            let alike = if day == weekday {
                1.0
            } else if (day >= 5) == (weekday >= 5) {
                0.6
            } else {
                0.1
            };
            let there: f32 = NEAR
                .iter()
                .map(|(off, near)| {
                    near * f32::from(hours.get((hour + off) % 24).copied().unwrap_or_default())
                })
                .sum();
            sum += alike * there / 255.0;
            weight += alike * NEAR_SUM * (1.0 - left(weeks));
            known += alike * f32::from(weeks.min(4));
        }
        let own = if weight > 0.0 { (sum / weight).min(1.0) } else { 0.0 };
        let theirs = peers.chance(weekday, hour);
        ((known * own + PEERS * theirs) / (known + PEERS)).clamp(0.002, 1.0)
    }

    /// The share of weeks with requests in each hour, as it is shown.
    pub(super) fn shares(&self) -> Vec<f32> {
        let share = |(place, presence): (usize, &u8)| {
            let weeks = self.weeks.get(place / 24).copied().unwrap_or_default();
            let known = 1.0 - left(weeks);
            if known > 0.0 { (f32::from(*presence) / 255.0 / known).min(1.0) } else { 0.0 }
        };
        self.presence.iter().enumerate().map(share).collect()
    }
}

impl PeerHours {
    pub(super) const fn new() -> Self {
        Self { present: [0.0; HOURS], members: [0.0; 7] }
    }

    /// One more member is there in this hour.
    pub(super) fn add(&mut self, weekday: usize, hour: usize) {
        if let Some(slot) = self.present.get_mut(weekday * 24 + hour) {
            *slot += 1.0;
        }
    }

    /// A day begins for `members`. Old weeks fade.
    pub(super) fn dawn(&mut self, weekday: usize, members: u32) {
        for slot in self.present.iter_mut().skip(weekday * 24).take(24) {
            *slot *= KEPT;
        }
        if let Some(slot) = self.members.get_mut(weekday) {
            *slot = *slot * KEPT + measure(u64::from(members));
        }
    }

    fn chance(&self, weekday: usize, hour: usize) -> f32 {
        let there = self.present.get(weekday * 24 + hour).copied().unwrap_or_default();
        let members = self.members.get(weekday).copied().unwrap_or_default();
        ((there + 0.25) / (members + 5.0)).clamp(0.005, 1.0)
    }
}

/// What the hours of a day tell beyond what anybody's do: bits over three of each hour.
pub(super) fn oddness(chance: f32) -> f32 {
    (-chance.log2() - 3.0).max(0.0)
}

/// The hour of the day.
pub(super) fn hour(seconds: u32) -> usize {
    place(measure(u64::from(seconds / 3_600 % 24)))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Nine to five.
    const OFFICE: u32 = 0b1_1111_1111 << 9;

    #[test]
    fn after_two_weeks_the_night_is_odd_and_the_office_is_not() {
        let (mut hours, peers) = (Hours::default(), PeerHours::new());
        for _ in 0..2 {
            (0..5).for_each(|day| hours.learn(day, OFFICE));
            (5..7).for_each(|day| hours.learn(day, 0));
        }

        assert!(oddness(hours.chance(2, 11, &peers)) < 0.1);
        assert!(oddness(hours.chance(2, 3, &peers)) > 2.0);
        assert!(hours.chance(6, 11, &peers) < hours.chance(2, 11, &peers) / 3.0);
        assert!(hours.chance(2, 18, &peers) > hours.chance(2, 23, &peers));
    }

    #[test]
    fn a_stranger_is_expected_when_its_peers_are_there() {
        let mut peers = PeerHours::new();
        for _ in 0..4 {
            peers.dawn(0, 100);
            (0..80).for_each(|_| peers.add(0, 10));
        }

        let stranger = Hours::default();
        assert!(stranger.chance(0, 10, &peers) > 0.6);
        assert!(stranger.chance(0, 3, &peers) < 0.02);
    }

    #[test]
    fn the_first_of_january_1970_was_a_thursday() {
        assert_eq!(weekday(0), 3);
        assert_eq!(weekday(4), 0);
        assert_eq!(hour(3_600 * 25 + 1), 1);
    }

    #[test]
    fn shares_are_those_of_the_weeks_that_were_seen() {
        let mut hours = Hours::default();
        for _ in 0..6 {
            hours.learn(1, 1 << 7);
        }

        let shares = hours.shares();
        assert_eq!(shares.len(), HOURS);
        assert!(shares[24 + 7] > 0.9 && shares[24 + 8] < 0.05 && shares[7] == 0.0);
    }
}
