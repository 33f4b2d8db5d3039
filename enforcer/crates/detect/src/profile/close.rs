//! A day ends: it is learned from, unless there was a finding.

use super::group::Group;
use super::hours::weekday;
use super::identity::{
    Identity, NEW_CLIENT, NEW_NETWORK, NEW_ROUTE, STRANGE_CLIENT, STRANGE_NETWORK,
};
use super::kind::PerKind;
use super::level;
use super::marks::marks;
use super::num::Small;
use super::score::{DRIFT_FREE, DRIFT_KEPT, LONG, above_long, all_expected, values};
use super::{DAY, Profiles};

/// Days with a finding in a row that are not learned from. Whatever lasts longer and was not
/// stopped by anybody becomes usual, a clipped day at a time.
const HELD_MAX: u8 = 3;

/// Days of absence that are learned one by one; after more, the hours are as they were.
const ABSENT_MAX: u32 = 28;

/// What is left after a day of the days on which something was new.
const FADE: f32 = 0.98;

impl Profiles {
    /// Ends the day of the identity at `place` when another has begun.
    pub(super) fn close_days(&mut self, place: usize, now: u32) {
        let today = now / DAY;
        let learning = self.is_learning(now);
        let bits = self.plan.bits;
        if self.table.get(place).is_none_or(|identity| identity.number >= today) {
            return;
        }
        let score = self.score(place, false).map_or(0.0, |judged| judged.score);
        let Some(identity) = self.table.get_mut(place) else { return };
        identity.day.score = identity.day.score.max(score);
        let flagged = !learning && identity.day.score >= bits;
        identity.held = if flagged { identity.held.saturating_add(1) } else { 0 };
        let learn = !flagged || identity.held > HELD_MAX;
        let own = usize::from(identity.group);
        let Some((all, peers)) = self.groups.first().zip(self.groups.get(own)) else { return };
        let expected = all_expected(identity, peers, all);
        let values = values(identity);
        if learn {
            let above = above_long(identity, &values, &expected);
            for (place, group) in self.groups.iter_mut().enumerate() {
                if place == 0 || place == own {
                    learn_peers(group, identity, &values, !flagged);
                }
            }
            for ((level, value), expected) in identity.levels.iter_mut().zip(values).zip(expected) {
                level.learn(value, identity.days, expected);
            }
            learn_long(identity, &values, above);
            learn_habits(identity);
            identity.days = identity.days.saturating_add(1);
        }
        identity.places.close(identity.short_day(), learn);
        if learn {
            identity.hours.learn(weekday(identity.number), identity.day.hours);
        }
        let absent = (identity.number + 1..today).take(usize::try_from(ABSENT_MAX).unwrap_or(0));
        absent.for_each(|day| identity.hours.learn(weekday(day), 0));
        identity.dawn(today, now / super::WINDOW);
        identity.marks = marks(identity, &expected, bits);
        let group = identity.group;
        self.count_active(group);
    }
}

fn learn_peers(group: &mut Group, identity: &Identity, values: &[f32], calm: bool) {
    let (days, news) = (identity.days, identity.day.news);
    for ((peers, value), level) in group.levels.iter_mut().zip(values).zip(identity.levels) {
        peers.learn(*value, level, days);
    }
    if calm {
        group.learn(&identity.tally.top);
    }
    if days > 0 {
        let has = |flag| news & flag != 0;
        group.networks.learn(has(NEW_NETWORK), has(STRANGE_NETWORK));
        group.clients.learn(has(NEW_CLIENT), has(STRANGE_CLIENT));
        group.routes.learn(has(NEW_ROUTE), false);
    }
}

fn learn_long(identity: &mut Identity, values: &[f32], above: f32) {
    if identity.days > 0 {
        identity.drift = (identity.drift * DRIFT_KEPT + above - DRIFT_FREE).max(0.0);
    }
    let pace = level::long_pace(identity.days);
    for (long, kind) in identity.long.iter_mut().zip(LONG) {
        *long = Small::new(long.get() + pace * (values.of(kind) - long.get()));
    }
}

fn learn_habits(identity: &mut Identity) {
    let news = identity.day.news;
    let habits = &mut identity.habits;
    for (count, flag) in [
        (&mut habits.networks, NEW_NETWORK),
        (&mut habits.clients, NEW_CLIENT),
        (&mut habits.routes, NEW_ROUTE),
    ] {
        *count = Small::new(count.get() * FADE + f32::from(u8::from(news & flag != 0)));
    }
    let today = identity.new_routes;
    identity.routes.join(&today);
}
