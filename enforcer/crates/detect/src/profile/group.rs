//! Peers: those of one role, and all together. They say what is usual for who is not yet known, and
//! how rare a surprise is.

use super::hours::PeerHours;
use super::kind::{COUNTED, KINDS, Kind};
use super::level::Peers;
use super::num::{Small, measure};
use super::tail::Tail;

/// Groups told apart; those of further roles are all together in the first.
pub(super) const GROUPS_MAX: usize = 64;

/// Days of all groups that one group's own days weigh up.
const OWN: f32 = 200.0;

/// Others that must do the same on one day, and their share, for it to be a change of the fleet.
const OTHERS: u32 = 5;
const OTHERS_SHARE: f32 = 0.10;

/// How often something is new for a member.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct News {
    pub(super) days: f32,
    pub(super) new: f32,
    pub(super) strange: f32,
}

/// One group.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Group {
    pub(super) role: Box<str>,
    pub(super) levels: [Peers; COUNTED],
    pub(super) hours: PeerHours,
    pub(super) tails: Vec<Tail>,
    pub(super) networks: News,
    pub(super) clients: News,
    pub(super) routes: News,
    /// Identities in it.
    pub(super) members: u32,
    /// Of them, those that were there today.
    pub(super) active: u32,
}

impl Group {
    pub(super) fn new(role: &str) -> Self {
        Self {
            role: role.into(),
            levels: [Peers::unknown(); COUNTED],
            hours: PeerHours::new(),
            tails: Kind::ALL.iter().map(|kind| Tail::new(kind.width())).collect(),
            networks: News::default(),
            clients: News::default(),
            routes: News::default(),
            members: 0,
            active: 0,
        }
    }

    /// Another day begins.
    pub(super) fn dawn(&mut self, weekday: usize) {
        self.hours.dawn(weekday, self.members);
        self.tails.iter_mut().for_each(Tail::dawn);
        self.active = 0;
    }

    /// Adds the day of a member.
    pub(super) fn learn(&mut self, top: &[Small; KINDS]) {
        self.tails.iter_mut().zip(top).for_each(|(tail, raw)| tail.add(raw.get()));
    }

    /// Takes note of what a member reached today.
    pub(super) fn rise(&mut self, place: usize, from: f32, to: f32) {
        if let Some(tail) = self.tails.get_mut(place) {
            tail.rise(from, to);
        }
    }

    /// How rare `raw` is for a member, in bits: over all days, and not more than today, when many
    /// do the same.
    pub(super) fn bits(&self, all: &Self, place: usize, raw: f32) -> f32 {
        // Everybody is above nothing.
        if raw <= 0.0 {
            return 0.0;
        }
        let (Some(own), Some(theirs)) = (self.tails.get(place), all.tails.get(place)) else {
            return 0.0;
        };
        let share = own.total / (own.total + OWN);
        let bits = share * own.bits(raw) + (1.0 - share) * theirs.bits(raw);
        bits.min(self.fleet(own.others(raw))).min(all.fleet(theirs.others(raw)))
    }

    /// The surprise of what `others` do on the same day.
    pub(super) fn fleet(&self, others: u32) -> f32 {
        let share = measure(u64::from(others)) / measure(u64::from(self.active.max(1)));
        if others >= OTHERS && share >= OTHERS_SHARE {
            return -share.min(1.0).log2();
        }
        f32::INFINITY
    }
}

impl News {
    /// How likely something is new for who had something new on `own` of `days` days.
    pub(super) fn chance(self, own: f32, days: u16) -> f32 {
        let peers = (self.new + 0.5) / (self.days + 5.0);
        ((own + 2.0 * peers) / (f32::from(days) + 2.0)).clamp(1e-4, 1.0)
    }

    /// The share of what is new that is new for everybody.
    pub(super) fn strange_share(self) -> f32 {
        ((self.strange + 0.5) / (self.new + 1.0)).clamp(0.002, 0.998)
    }

    /// Learns a day.
    pub(super) fn learn(&mut self, new: bool, strange: bool) {
        self.days += 1.0;
        self.new += f32::from(u8::from(new));
        self.strange += f32::from(u8::from(strange));
        if self.days > 20_000.0 {
            self.days /= 2.0;
            self.new /= 2.0;
            self.strange /= 2.0;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_tenth_of_the_peers_do_today_surprises_little() {
        let mut group = Group::new("clerk");
        let all = Group::new("");
        group.active = 100;
        let alone = group.bits(&all, 0, 12.0);

        for _ in 0..20 {
            group.rise(0, 0.0, 12.0);
        }

        assert!(alone > 6.0, "{alone}");
        assert!(group.bits(&all, 0, 12.0) < 2.5);
    }

    #[test]
    fn something_new_is_rare_for_who_never_has_something_new() {
        let news = News { days: 1_000.0, new: 20.0, strange: 5.0 };

        assert!(-news.chance(0.0, 20).log2() > 8.0);
        assert!(-news.chance(10.0, 20).log2() < 1.5);
        assert!(news.strange_share() < 0.5);
    }
}
