//! Who can be asked at the moment, and whom to ask.
//!
//! A roster never changes; whenever a host comes or goes another one takes its place. So a request
//! looks at hosts that are well, and at nothing else.

use std::sync::Arc;

#[cfg(test)]
use super::member::WHOLE;
use super::member::{Member, mixed};

/// Among hosts of one key no host has more than this many times its share, so that one key cannot
/// drown the host it belongs to…
const LOAD_MAX_TIMES: u64 = 2;
/// …once it has more than this many requests.
const LOAD_FREE: u64 = 8;

/// Who can be asked.
#[derive(Default)]
pub(crate) struct Roster {
    /// Goes up by one with every roster.
    pub(crate) version: u64,
    /// Those that are asked, and behind them those that stand in when none of the former accepts a
    /// connection.
    pub(crate) seats: Vec<Seat>,
    /// How many of them are asked.
    pub(crate) front: usize,
    /// For how long hosts start slowly.
    pub(crate) slow_start_ms: u64,
}

/// One of them.
#[derive(Clone)]
pub(crate) struct Seat {
    pub(crate) member: Arc<Member>,
    pub(crate) weight: u64,
}

/// What one thread remembers of its choices.
pub(crate) struct Chance {
    state: u64,
    /// Smooth weighted round robin, one for each seat in front.
    credit: Vec<i64>,
}

impl Chance {
    pub(crate) const fn new(seed: u64) -> Self {
        Self { state: seed, credit: Vec::new() }
    }

    fn next(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9E37_79B9_7F4A_7C15);
        mixed(self.state)
    }

    /// Evenly from 0 to `below` - 1.
    fn below(&mut self, below: usize) -> usize {
        let wide = u128::from(self.next()) * u128::try_from(below).unwrap_or(0);
        usize::try_from(wide >> 64).unwrap_or(0)
    }
}

impl Roster {
    /// Those that are asked.
    pub(crate) fn front(&self) -> &[Seat] {
        self.seats.get(..self.front).unwrap_or(&self.seats)
    }

    /// The one of two at random that has less to do; of those that `may` be asked.
    pub(crate) fn least_loaded(
        &self,
        chance: &mut Chance,
        now_ms: u64,
        may: impl Fn(usize) -> bool,
    ) -> Option<usize> {
        let count = self.front().len();
        let first = match count {
            0 => return None,
            1 => 0,
            count => chance.below(count),
        };
        let second = match count {
            1 => 0,
            // Any but the first.
            count => (first + 1 + chance.below(count - 1)) % count,
        };
        match (may(first), may(second)) {
            (true, true) if first == second => Some(first),
            (true, true) => Some(if self.has_less(second, first, now_ms) { second } else { first }),
            (true, false) => Some(first),
            (false, true) => Some(second),
            (false, false) => {
                let others = (0..count).filter(|seat| may(*seat));
                others.reduce(
                    |best, seat| if self.has_less(seat, best, now_ms) { seat } else { best },
                )
            }
        }
    }

    /// Everybody in turn, as often as the weights say and as evenly as it goes.
    pub(crate) fn in_turn(
        &self,
        chance: &mut Chance,
        now_ms: u64,
        may: impl Fn(usize) -> bool,
    ) -> Option<usize> {
        let front = self.front();
        if chance.credit.len() != front.len() {
            chance.credit.clear();
            chance.credit.resize(front.len(), 0);
        }
        let mut total = 0;
        let mut best: Option<(usize, i64)> = None;
        for (seat, (one, credit)) in front.iter().zip(&mut chance.credit).enumerate() {
            if !may(seat) {
                continue;
            }
            let share = i64::try_from(self.weight_of(one, now_ms)).unwrap_or(i64::MAX);
            *credit = credit.saturating_add(share);
            total += share;
            if best.is_none_or(|(_, most)| *credit > most) {
                best = Some((seat, *credit));
            }
        }
        let (seat, _) = best?;
        if let Some(credit) = chance.credit.get_mut(seat) {
            *credit = credit.saturating_sub(total);
        }
        Some(seat)
    }

    /// Always the same for the same key, as long as that one has not far more to do than others:
    /// rendezvous hashing, so that a host that comes or goes moves nobody's keys but its own.
    pub(crate) fn belonging_to(
        &self,
        key: u64,
        now_ms: u64,
        may: impl Fn(usize) -> bool,
    ) -> Option<usize> {
        let front = self.front();
        let weights: u64 = front.iter().map(|seat| self.weight_of(seat, now_ms)).sum();
        let under_way: u64 = front.iter().map(|seat| seat.member.in_flight()).sum();
        let (mut best, mut any) = (None::<(usize, f64)>, None::<(usize, f64)>);
        for (n, seat) in front.iter().enumerate().filter(|(n, _)| may(*n)) {
            let weight = self.weight_of(seat, now_ms);
            let score = score(key, seat.member.seed, weight);
            let share = under_way.saturating_mul(weight) / weights.max(1);
            let bound = LOAD_FREE.max(share.saturating_mul(LOAD_MAX_TIMES));
            let higher = |than: Option<(usize, f64)>| than.is_none_or(|(_, most)| score > most);
            if higher(any) {
                any = Some((n, score));
            }
            if seat.member.in_flight() < bound && higher(best) {
                best = Some((n, score));
            }
        }
        best.or(any).map(|(seat, _)| seat)
    }

    fn weight_of(&self, seat: &Seat, now_ms: u64) -> u64 {
        seat.weight.saturating_mul(seat.member.share(self.slow_start_ms, now_ms))
    }

    /// Whether `one` has less to do than `other`: requests under way, by how long an answer takes
    /// where that is known of both, by weight.
    fn has_less(&self, one: usize, other: usize, now_ms: u64) -> bool {
        let (Some(one), Some(other)) = (self.seats.get(one), self.seats.get(other)) else {
            return false;
        };
        let times = [one, other].map(|seat| seat.member.latency_us(now_ms));
        let known = times.iter().all(|time| *time > 0);
        let load = |seat: &Seat, time: u64| {
            let under_way = u128::from(seat.member.in_flight()) + 1;
            under_way * u128::from(if known { time } else { 1 })
        };
        // Cross-multiplied, so that nothing is lost in a division.
        let [one_time, other_time] = times;
        load(one, one_time) * u128::from(self.weight_of(other, now_ms))
            < load(other, other_time) * u128::from(self.weight_of(one, now_ms))
    }
}

/// The weighted score of rendezvous hashing: -weight / ln(hash), with the hash between 0 and 1.
fn score(key: u64, seed: u64, weight: u64) -> f64 {
    /// 2^-53: as many bits as a float holds exactly.
    const STEP: f64 = 1.0 / 9_007_199_254_740_992.0;
    let bits = mixed(key ^ seed.rotate_left(32)) >> 11;
    let (high, low) = (u32::try_from(bits >> 32).unwrap_or(0), u32::try_from(bits & 0xFFFF_FFFF));
    let whole = f64::from(high) * 4_294_967_296.0 + f64::from(low.unwrap_or(0));
    let weight = f64::from(u32::try_from(weight.max(1)).unwrap_or(u32::MAX));
    -weight / ((whole + 0.5) * STEP).ln()
}

impl Seat {
    pub(crate) fn new(member: &Arc<Member>, weight: u16) -> Self {
        Self { member: Arc::clone(member), weight: weight.into() }
    }
}

/// A full share of a host with weight one.
#[cfg(test)]
pub(crate) const FULL: u64 = WHOLE;

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    use crate::fleet::member::Place;
    use crate::plan::HostPlan;

    fn roster(weights: &[u16]) -> Roster {
        let seats: Vec<_> = (1..)
            .zip(weights)
            .map(|(n, weight)| {
                let name = format!("10.0.0.{n}:80");
                let host = HostPlan {
                    name: name.as_str().into(),
                    target: name.parse().unwrap(),
                    weight: (*weight).try_into().unwrap(),
                };
                let place = Place::Tcp(name.parse().unwrap());
                Seat::new(&Arc::new(Member::new(&host, place)), *weight)
            })
            .collect();
        let front = seats.len();
        Roster { version: 1, seats, front, slow_start_ms: 10_000 }
    }

    fn counted(
        count: usize,
        seats: usize,
        mut choose: impl FnMut() -> Option<usize>,
    ) -> Vec<usize> {
        let mut chosen = vec![0; seats];
        for _ in 0..count {
            chosen[choose().unwrap()] += 1;
        }
        chosen
    }

    #[test]
    fn turns_follow_the_weights_and_are_spread_evenly() {
        let (roster, mut chance) = (roster(&[3, 1]), Chance::new(1));

        let turns: Vec<_> =
            (0..8).map(|_| roster.in_turn(&mut chance, 0, |_| true).unwrap()).collect();

        assert_eq!(turns, [0, 0, 1, 0, 0, 0, 1, 0]);
    }

    #[test]
    fn of_two_the_one_with_less_to_do_is_asked() {
        let (roster, mut chance) = (roster(&[1, 1]), Chance::new(1));
        roster.seats[0].member.begin();
        assert_eq!(counted(100, 2, || roster.least_loaded(&mut chance, 0, |_| true)), [0, 100]);

        // The busy one answers in a tenth of the time.
        roster.seats[0].member.heard(Duration::from_millis(1), 0);
        roster.seats[1].member.heard(Duration::from_millis(10), 0);
        assert_eq!(counted(100, 2, || roster.least_loaded(&mut chance, 0, |_| true)), [100, 0]);
    }

    #[test]
    fn a_host_that_was_slow_once_is_asked_again() {
        let (roster, mut chance) = (roster(&[1, 1]), Chance::new(1));
        roster.seats[0].member.heard(Duration::from_secs(10), 1);
        let mut chosen = move |now_ms: u64| {
            roster.seats[1].member.heard(Duration::from_millis(10), now_ms);
            counted(100, 2, || roster.least_loaded(&mut chance, now_ms, |_| true))
        };

        assert_eq!(chosen(2)[0], 0);
        assert!(chosen(60_000)[0] > 0);
    }

    #[test]
    fn equal_hosts_are_asked_equally() {
        let (roster, mut chance) = (roster(&[1; 5]), Chance::new(7));

        let chosen = counted(10_000, 5, || roster.least_loaded(&mut chance, 0, |_| true));

        assert!(chosen.iter().all(|count| (1_700..2_300).contains(count)), "{chosen:?}");
    }

    #[test]
    fn a_key_stays_with_its_host_and_moves_only_when_that_one_goes() {
        let all = roster(&[1; 4]);
        let home = |roster: &Roster, key: u64| {
            let seat = roster.belonging_to(mixed(key), 0, |_| true).unwrap();
            Arc::clone(&roster.seats[seat].member.label)
        };
        let before: Vec<_> = (0..1_000).map(|key| home(&all, key)).collect();
        let mut fewer = roster(&[1; 4]);
        let gone = Arc::clone(&fewer.seats.remove(2).member.label);
        fewer.front = 3;

        let moved =
            (0..1_000).filter(|key| home(&fewer, *key) != before[usize::try_from(*key).unwrap()]);
        let mut count = 0;
        for key in moved {
            assert_eq!(before[usize::try_from(key).unwrap()], gone);
            count += 1;
        }
        assert!((150..350).contains(&count), "{count}");
    }

    #[test]
    fn keys_follow_the_weights() {
        let roster = roster(&[3, 1]);

        let mut key = 0;
        let chosen = counted(10_000, 2, || {
            key += 1;
            roster.belonging_to(mixed(key), 0, |_| true)
        });

        assert!((7_200..7_800).contains(&chosen[0]), "{chosen:?}");
    }

    #[test]
    fn one_key_cannot_drown_its_host() {
        let roster = roster(&[1; 4]);
        let key = mixed(42);

        let chosen = counted(100, 4, || {
            let seat = roster.belonging_to(key, 0, |_| true)?;
            roster.seats[seat].member.begin();
            Some(seat)
        });

        assert!(chosen.iter().all(|count| *count < 60), "{chosen:?}");
        assert!(chosen.iter().max().unwrap() > &20);
    }

    #[test]
    fn a_host_that_starts_slowly_gets_a_growing_share() {
        let (roster, mut chance) = (roster(&[1, 1]), Chance::new(1));
        roster.seats[1].member.starts_at(1_000);
        let mut share =
            |now_ms| counted(1_100, 2, || roster.in_turn(&mut chance, now_ms, |_| true))[1];

        assert_eq!(share(1_000), 100);
        assert!((360..370).contains(&share(6_000)));
        assert_eq!(share(11_000), 550);
        assert_eq!(roster.weight_of(&roster.seats[1], 11_000), FULL);
    }

    #[test]
    fn whoever_may_not_be_asked_is_not() {
        let (roster, mut chance) = (roster(&[1; 3]), Chance::new(3));
        let only = |seat| seat == 2;

        for _ in 0..50 {
            assert_eq!(roster.least_loaded(&mut chance, 0, only), Some(2));
            assert_eq!(roster.in_turn(&mut chance, 0, only), Some(2));
            assert_eq!(roster.belonging_to(mixed(9), 0, only), Some(2));
        }
        assert_eq!(roster.least_loaded(&mut chance, 0, |_| false), None);
        assert_eq!(roster.in_turn(&mut chance, 0, |_| false), None);
        assert_eq!(roster.belonging_to(1, 0, |_| false), None);
    }
}
