//! Where somebody usually comes from: networks and TLS clients, as pairs.

/// Pairs remembered. When full, the one unseen for longest makes room; of those that are new today at
/// most two stay, so that who wanders through many networks never makes us forget the home.
pub(super) const PAIRS: usize = 6;

/// A network with the client that was used there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Pair {
    /// Name of the /24 or /48; zero: none.
    pub(super) network: u32,
    /// Name of the TLS client.
    pub(super) client: u32,
    /// Day on which it was last seen.
    pub(super) last: u16,
    /// Days on which it was seen and learned.
    pub(super) days: u8,
}

/// What is known of a pair at first sight on a day.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Sight {
    /// Days for which its network is known.
    pub(super) network: u8,
    /// Days for which its client is known.
    pub(super) client: u8,
}

/// The pairs of one identity.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub(super) struct Places {
    pub(super) networks: [u32; PAIRS],
    pub(super) clients: [u32; PAIRS],
    pub(super) last: [u16; PAIRS],
    pub(super) days: [u8; PAIRS],
    /// The one that was used last.
    pub(super) at: u8,
}

impl Places {
    /// Takes note of a request; what is known of its pair, when it is the first of the day from there.
    pub(super) fn see(&mut self, network: u32, client: u32, day: u16) -> (bool, Option<Sight>) {
        let same = |pair: &Pair| pair.network == network && pair.client == client;
        let pairs = self.pairs();
        let before = pairs.get(usize::from(self.at)).copied().unwrap_or_default();
        if same(&before) && before.last == day {
            return (false, None);
        }
        let moved = before.network != network && before.network != 0;
        let mut sight = Sight { network: 0, client: 0 };
        for pair in pairs.iter().filter(|pair| pair.network != 0) {
            if pair.network == network {
                sight.network = sight.network.max(pair.days);
            }
            if pair.client == client {
                sight.client = sight.client.max(pair.days);
            }
        }
        let known = pairs.iter().position(same);
        let place = known.unwrap_or_else(|| room(&pairs));
        self.at = u8::try_from(place).unwrap_or_default();
        let stranger = Pair { network, client, last: day.wrapping_sub(1), days: 0 };
        let mut pair = known.and_then(|place| pairs.get(place).copied()).unwrap_or(stranger);
        let first = pair.last != day;
        pair.last = day;
        self.put(place, pair);
        (moved, first.then_some(sight))
    }

    fn pairs(&self) -> [Pair; PAIRS] {
        let mut pairs = [Pair::default(); PAIRS];
        let names = self.networks.iter().zip(self.clients);
        let times = self.last.iter().zip(self.days);
        for (pair, ((network, client), (last, days))) in pairs.iter_mut().zip(names.zip(times)) {
            *pair = Pair { network: *network, client, last: *last, days };
        }
        pairs
    }

    fn put(&mut self, place: usize, pair: Pair) {
        if let (Some(network), Some(client), Some(last), Some(days)) = (
            self.networks.get_mut(place),
            self.clients.get_mut(place),
            self.last.get_mut(place),
            self.days.get_mut(place),
        ) {
            (*network, *client, *last, *days) = (pair.network, pair.client, pair.last, pair.days);
        }
    }

    /// Ends `day`: what was seen is known from now on, or, when nothing of it is to be learned, what
    /// was new is forgotten.
    pub(super) fn close(&mut self, day: u16, learn: bool) {
        for (place, pair) in self.pairs().into_iter().enumerate() {
            if learn && pair.last == day && pair.network != 0 {
                self.put(place, Pair { days: pair.days.saturating_add(1), ..pair });
            } else if !learn && pair.days == 0 {
                self.put(place, Pair::default());
            }
        }
    }

    /// Different networks and clients that are known.
    pub(super) fn known(&self) -> (usize, usize) {
        let different = |name: fn(&Pair) -> u32| {
            let mut names: Vec<u32> =
                self.pairs().iter().filter(|pair| pair.days > 0).map(name).collect();
            names.sort_unstable();
            names.dedup();
            names.len()
        };
        (different(|pair| pair.network), different(|pair| pair.client))
    }
}

fn room(pairs: &[Pair]) -> usize {
    if let Some(free) = pairs.iter().position(|pair| pair.network == 0) {
        return free;
    }
    let mut fresh = pairs.iter().enumerate().filter(|(_, pair)| pair.days == 0);
    if let (Some((place, _)), Some(_)) = (fresh.next(), fresh.next()) {
        return place;
    }
    let oldest = pairs.iter().enumerate().min_by_key(|(_, pair)| (pair.last, pair.days));
    oldest.map_or(0, |(place, _)| place)
}

/// How much of the surprise is left on the days after the first.
pub(super) const fn left(days: u8) -> f32 {
    match days {
        0 => 1.0,
        1 => 0.5,
        2 => 0.25,
        _ => 0.0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pair_is_new_on_its_first_day_and_known_the_day_after() {
        let mut places = Places::default();

        assert_eq!(places.see(7, 1, 10).1, Some(Sight { network: 0, client: 0 }));
        assert_eq!(places.see(7, 1, 10), (false, None));
        places.close(10, true);
        assert_eq!(places.see(7, 1, 11).1, Some(Sight { network: 1, client: 1 }));
        assert_eq!(places.see(8, 1, 11), (true, Some(Sight { network: 0, client: 1 })));
    }

    #[test]
    fn what_is_new_on_a_day_that_is_not_learned_stays_new() {
        let mut places = Places::default();
        places.see(7, 1, 10);
        places.close(10, true);
        places.see(9, 2, 11);

        places.close(11, false);

        assert_eq!(places.see(9, 2, 12).1, Some(Sight { network: 0, client: 0 }));
        assert_eq!(places.see(7, 1, 12).1, Some(Sight { network: 1, client: 1 }));
    }

    #[test]
    fn who_wanders_through_many_networks_does_not_make_the_home_forgotten() {
        let mut places = Places::default();
        for home in 1..=4 {
            places.see(home, 1, 10);
        }
        places.close(10, true);

        for network in 100..200 {
            places.see(network, 1, 11);
        }

        for home in 1..=4 {
            assert_eq!(places.see(home, 1, 11).1.map(|sight| sight.network), Some(1), "{home}");
        }
        assert_eq!(places.known(), (4, 1));
    }
}
