//! Why, in plain words with the numbers.

use std::net::IpAddr;

use super::Profiles;
use super::identity::{Identity, STRANGE_CLIENT, STRANGE_NETWORK};
use super::kind::{Aspect, FAMILIES, Kind, PerKind};
use super::level;
use super::num::{measure, whole};
use super::observe::network_text;
use super::score::{Judged, expected, largest};
use crate::Signal;

/// What is below this many bits is no reason.
const TELLING: f32 = 3.0;

impl Profiles {
    /// The signals of a day, the most telling first, one for each behaviour. `from`: where the request
    /// came from that they are told of.
    pub(super) fn signals_of(
        &self,
        identity: &Identity,
        judged: &Judged,
        from: Option<IpAddr>,
    ) -> Vec<Signal> {
        let mut told: Vec<(f32, String)> = FAMILIES
            .iter()
            .filter_map(|family| {
                let bits = largest(&judged.bits, family);
                let kinds = family.iter().flat_map(|aspect| aspect.kinds()).copied();
                let kind =
                    kinds.max_by(|a, b| judged.bits.of(*a).total_cmp(&judged.bits.of(*b)))?;
                Some((bits, self.say(identity, kind, from)))
            })
            .filter(|(bits, _)| *bits >= TELLING)
            .collect();
        told.sort_by(|a, b| b.0.total_cmp(&a.0));
        told.into_iter().map(|(bits, text)| Signal { text, bits: Some(bits) }).collect()
    }

    /// The signal of one aspect, if it tells anything.
    pub(super) fn signal_of(
        &self,
        identity: &Identity,
        judged: &Judged,
        aspect: Aspect,
    ) -> Option<Signal> {
        let bits = largest(&judged.bits, &[aspect]);
        let kinds = aspect.kinds().iter().copied();
        let kind = kinds.max_by(|a, b| judged.bits.of(*a).total_cmp(&judged.bits.of(*b)))?;
        (bits >= TELLING).then(|| Signal { text: self.say(identity, kind, None), bits: Some(bits) })
    }

    fn say(&self, identity: &Identity, kind: Kind, from: Option<IpAddr>) -> String {
        let day = &identity.day;
        let usual = level::count(self.usual(identity, kind));
        let [requests, bytes, errors, different, novel] = identity.bursts();
        let [day_requests, day_bytes, day_errors, day_different, day_novel] = day.counts();
        let busiest = |what: &str, now: f32| {
            format!("{} {what} in 10 min; usual at most {}", number(now), number(usual))
        };
        let today =
            |what: &str, now: f32| format!("{} {what} today; usual {}", number(now), number(usual));
        match kind {
            Kind::BurstRequests => busiest("requests", requests),
            Kind::BurstErrors => busiest("failed requests", errors),
            Kind::BurstDistinct => busiest("different objects", different),
            Kind::BurstNovel => busiest("objects never read before", novel),
            Kind::BurstBytes => {
                format!("{} in 10 min; usual at most {}", size(bytes), size(usual))
            }
            Kind::DayRequests => today("requests", day_requests),
            Kind::DayErrors => format!(
                "{} failed requests today, {} of all; usual {}",
                number(day_errors),
                percent(day_errors / day_requests.max(1.0)),
                percent(level::part(self.usual(identity, kind))),
            ),
            Kind::NovelShare => format!(
                "{} of its requests today are for objects never read before; usual {}",
                percent((day_novel / day_requests.max(1.0)).min(1.0)),
                percent(level::part(self.usual(identity, kind))),
            ),
            Kind::BytesEach => format!(
                "{} for each request today; usual {}",
                size(day_bytes / day_requests.max(1.0)),
                size(usual)
            ),
            Kind::DayDistinct => today("different objects", day_different),
            Kind::DayNovel => today("objects never read before", day_novel),
            Kind::DayBytes => format!("{} today; usual {}", size(day_bytes), size(usual)),
            Kind::DayHours => format!(
                "there in {} different hours of the day; usual {}",
                day.hours.count_ones(),
                number(self.usual(identity, kind) * 2.0)
            ),
            Kind::Moves => today("changes between networks", measure(u64::from(day.moves))),
            Kind::OddHours => format!("there at {}, when it usually is not", self.odd(identity)),
            Kind::Network => {
                let whose =
                    if day.news & STRANGE_NETWORK != 0 { "everybody" } else { "this identity" };
                match from {
                    Some(from) => {
                        format!(
                            "from a network new for {whose}, lately from {}",
                            network_text(from)
                        )
                    }
                    None => format!("from a network new for {whose}"),
                }
            }
            Kind::Client => {
                let whose =
                    if day.news & STRANGE_CLIENT != 0 { "everybody" } else { "this identity" };
                format!("with a TLS client new for {whose}")
            }
            Kind::Routes => format!(
                "{} kinds of request that it never made before; usual {}",
                number(identity.new_routes.count().max(1.0)),
                number(identity.habits.routes.get() / f32::from(identity.days.max(1)))
            ),
            Kind::Drift => format!(
                "more each day for long: {} requests and {} different objects today; {} and {} in the long run",
                number(day_requests),
                number(day_different),
                number(level::count(identity.long.first().copied().unwrap_or_default().get())),
                number(level::count(identity.long.get(2).copied().unwrap_or_default().get())),
            ),
        }
    }

    /// What is expected of a count, as it is compared.
    pub(super) fn usual(&self, identity: &Identity, kind: Kind) -> f32 {
        let all = self.groups.first();
        let peers = self.groups.get(usize::from(identity.group)).or(all);
        peers.zip(all).map_or(0.0, |(peers, all)| expected(identity, kind, peers, all).mean)
    }

    /// The hours of today that are the least likely.
    fn odd(&self, identity: &Identity) -> String {
        let Some(all) = self.groups.first() else { return String::new() };
        let group = self.groups.get(usize::from(identity.group)).unwrap_or(all);
        let weekday = super::hours::weekday(identity.number);
        let mut hours: Vec<(f32, usize)> = (0..24)
            .filter(|hour| identity.day.hours >> hour & 1 == 1)
            .map(|hour| (identity.hours.chance(weekday, hour, &group.hours), hour))
            .collect();
        hours.sort_by(|a, b| a.0.total_cmp(&b.0));
        let mut odd: Vec<usize> = hours.into_iter().take(4).map(|(_, hour)| hour).collect();
        odd.sort_unstable();
        let odd: Vec<String> = odd.into_iter().map(|hour| format!("{hour:02}:00")).collect();
        format!("{} UTC", odd.join(", "))
    }
}

/// A count as people read it.
fn number(count: f32) -> String {
    if count > 0.0 && count < 9.5 && (count - count.round()).abs() > 0.05 {
        format!("{count:.1}")
    } else {
        whole(count + 0.5).to_string()
    }
}

/// A share as people read it.
fn percent(share: f32) -> String {
    format!("{} %", number(share * 100.0))
}

/// Bytes as people read them.
fn size(bytes: f32) -> String {
    const STEPS: [&str; 5] = ["B", "KiB", "MiB", "GiB", "TiB"];
    let mut left = bytes;
    let mut unit = "B";
    for step in STEPS {
        unit = step;
        if left < 1_024.0 {
            break;
        }
        left /= 1_024.0;
    }
    format!("{} {unit}", number(left))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_written_as_people_read_them() {
        assert_eq!(number(412.2), "412");
        assert_eq!(number(2.5), "2.5");
        assert_eq!(number(3.0), "3");
        assert_eq!(number(0.0), "0");
        assert_eq!(size(512.0), "512 B");
        assert_eq!(size(3.0 * 1_048_576.0), "3 MiB");
    }
}
