//! A list as an operator gave it, and what of it may be blocked.
//!
//! A million networks are judged from the other side: every protected address is looked up in the
//! list. What a guard objects to is left out and named, not the list refused; and whatever a wider
//! network had made superfluous is judged anew when that one is left out.

use std::collections::{BTreeMap, HashMap};

use enforcer_admin::call::Refused;
use enforcer_authz::{LeftOut, Networks};
use enforcer_model::Prefix;

use super::guards::{ClientShare, Guards, Surroundings, never_a_sender, too_wide};

/// What is to be blocked, and what not.
#[derive(Debug, Default)]
pub(crate) struct Sifted {
    pub(crate) networks: Networks,
    pub(crate) left_out: LeftOut,
    /// What guards stand against, in order.
    pub(crate) refused: Vec<Refused>,
    /// What they stand against and an operator wants all the same, in order.
    pub(crate) overridden: Vec<Refused>,
}

/// Whether guards have the last word.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Objections {
    Count,
    AreOverridden,
}

/// What of `given` may be blocked; `clients` are the recent ones.
pub(crate) fn sift(
    mut given: Vec<Prefix>,
    guards: &Guards,
    around: &Surroundings,
    clients: &[Prefix],
    objections: Objections,
) -> Sifted {
    let protected = guards.protected(around);
    let (networks, first) = Networks::collect(given.iter().copied());
    if objections == Objections::AreOverridden {
        return overridden(given, networks, first, guards, &protected, clients);
    }
    given.sort_unstable();
    given.dedup();
    let mut refused = BTreeMap::new();
    for network in &given {
        if let Some(widest) = too_wide(*network) {
            refused.insert(*network, format!("wider than /{widest}"));
        }
    }
    loop {
        given.retain(|network| !refused.contains_key(network));
        let (networks, left_out) = Networks::collect(given.iter().copied());
        let found = objected(&networks, guards, &protected, clients);
        if found.is_empty() {
            let left_out = LeftOut { duplicates: first.duplicates, ..left_out };
            return Sifted { networks, left_out, refused: told(refused), overridden: Vec::new() };
        }
        refused.extend(found);
    }
}

/// Takes in what guards stand against. Only what a never-block list covers stays out: no block of it
/// could ever act.
fn overridden(
    mut given: Vec<Prefix>,
    networks: Networks,
    left_out: LeftOut,
    guards: &Guards,
    protected: &[(Prefix, String)],
    clients: &[Prefix],
) -> Sifted {
    let mut objected = objected(&networks, guards, protected, clients);
    let wide = networks.iter().filter_map(|network| Some((network, too_wide(network)?)));
    objected.extend(wide.map(|(network, widest)| (network, format!("wider than /{widest}"))));
    let never: BTreeMap<_, _> = objected
        .keys()
        .filter_map(|network| {
            let list = guards.never_blocks(*network)?;
            Some((*network, format!("covered by the never-block list `{list}`")))
        })
        .collect();
    objected.retain(|network, _| !never.contains_key(network));
    let (networks, left_out) = if never.is_empty() {
        (networks, left_out)
    } else {
        given.retain(|network| guards.never_blocks(*network).is_none());
        let (networks, again) = Networks::collect(given);
        (networks, LeftOut { duplicates: left_out.duplicates, ..again })
    };
    Sifted { networks, left_out, refused: told(never), overridden: told(objected) }
}

/// The networks of a list that a guard stands against, and why.
fn objected(
    networks: &Networks,
    guards: &Guards,
    protected: &[(Prefix, String)],
    clients: &[Prefix],
) -> BTreeMap<Prefix, String> {
    let mut found = BTreeMap::new();
    for (prefix, what) in protected {
        for network in networks.touching(*prefix) {
            found.entry(network).or_insert_with(|| format!("{prefix} {what}"));
        }
    }
    for never in ["224.0.0.0/4", "ff00::/8", "255.255.255.255", "0.0.0.0", "::"] {
        let Ok(never) = never.parse() else { continue };
        for network in networks.touching(never) {
            if let Some(why) = never_a_sender(network) {
                found.entry(network).or_insert_with(|| why.to_owned());
            }
        }
    }
    let mut hits: HashMap<Prefix, usize> = HashMap::new();
    let mut hit = 0usize;
    for client in clients {
        let mut touched = networks.touching(*client).peekable();
        hit = hit.saturating_add(usize::from(touched.peek().is_some()));
        for network in touched {
            let count = hits.entry(network).or_default();
            *count = count.saturating_add(1);
        }
    }
    let all = clients.len();
    for (network, hit) in &hits {
        if let Some(why) = guards.too_many(ClientShare { hit: *hit, all }) {
            found.entry(*network).or_insert(why);
        }
    }
    // Each network may hit few, and all of them together everybody.
    if found.is_empty()
        && let Some(why) = guards.too_many(ClientShare { hit, all })
    {
        found.extend(hits.into_keys().map(|network| (network, format!("with the list, {why}"))));
    }
    found
}

fn told(found: BTreeMap<Prefix, String>) -> Vec<Refused> {
    found.into_iter().map(|(prefix, why)| Refused { prefix, why }).collect()
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;
    use crate::respond::testing::prefix;

    fn guards() -> Guards {
        Guards {
            proxies: Vec::new(),
            never_block: vec![("monitoring".into(), vec![prefix("10.0.5.0/24")])],
            upstreams: vec!["10.9.9.9".parse().unwrap()],
            clients_percent_max: 20,
        }
    }

    fn around() -> Surroundings {
        Surroundings { gateways: vec!["10.0.0.1".parse().unwrap()], ..Surroundings::default() }
    }

    fn sifted(given: &[&str], clients: &[&str], objections: Objections) -> Sifted {
        let [given, clients] =
            [given, clients].map(|texts| texts.iter().map(|text| prefix(text)).collect::<Vec<_>>());
        sift(given, &guards(), &around(), &clients, objections)
    }

    fn texts(networks: &Networks) -> Vec<String> {
        networks.iter().map(|network| network.to_string()).collect()
    }

    #[test]
    fn what_is_protected_is_left_out_and_named_and_the_rest_is_taken() {
        let sifted = sifted(
            &[
                "192.0.2.1",
                "192.0.2.1",
                "10.0.5.7",
                "10.0.0.0/24",
                "10.9.9.9",
                "127.0.0.1",
                "11.0.0.0/8",
                "224.0.0.1",
                "255.255.255.255",
                "::",
                "2001:db8::/31",
            ],
            &[],
            Objections::Count,
        );

        assert_eq!(texts(&sifted.networks), ["192.0.2.1"]);
        let why: Vec<_> =
            sifted.refused.iter().map(|one| format!("{}: {}", one.prefix, one.why)).collect();
        assert_eq!(
            why,
            [
                "10.0.0.0/24: 10.0.0.1 default gateway",
                "10.0.5.7: 10.0.5.0/24 never-block list `monitoring`",
                "10.9.9.9: 10.9.9.9 upstream",
                "11.0.0.0/8: wider than /16",
                "127.0.0.1: 127.0.0.0/8 loopback",
                "224.0.0.1: multicast: nobody sends from there",
                "255.255.255.255: broadcast: nobody sends from there",
                "::: no address at all",
                "2001:db8::/31: wider than /32",
            ]
        );
        assert_eq!(sifted.left_out, LeftOut { duplicates: 1, contained: 0 });
    }

    #[test]
    fn what_a_refused_network_contains_is_judged_by_itself() {
        let sifted = sifted(&["10.0.0.0/24", "10.0.0.1", "10.0.0.7"], &[], Objections::Count);

        assert_eq!(texts(&sifted.networks), ["10.0.0.7"]);
        assert_eq!(sifted.refused.len(), 2);
        assert_eq!(sifted.left_out, LeftOut::default());
    }

    #[test]
    fn networks_that_hit_too_many_clients_alone_or_together_are_left_out() {
        let clients: Vec<_> = (1..=10).map(|host| format!("192.0.2.{host}")).collect();
        let clients: Vec<_> = clients.iter().map(String::as_str).collect();

        let alone = sifted(&["192.0.2.0/28", "198.51.100.1"], &clients, Objections::Count);
        assert_eq!(texts(&alone.networks), ["198.51.100.1"]);
        assert!(alone.refused[0].why.starts_with("it would hit 10 of 10 clients"));

        let mut singles = clients.clone();
        singles.push("198.51.100.1");
        let together = sifted(&singles, &clients, Objections::Count);
        assert_eq!(texts(&together.networks), ["198.51.100.1"]);
        assert_eq!(together.refused.len(), 10);

        let few = sifted(&["192.0.2.1", "192.0.2.2"], &clients, Objections::Count);
        assert_eq!(few.networks.len(), 2, "{:?}", few.refused);
    }

    #[test]
    fn an_override_takes_in_all_but_what_could_never_act() {
        let wide = sifted(
            &["10.0.0.0/16", "10.0.5.7", "11.0.0.0/8", "10.0.5.0/24", "192.0.2.1"],
            &[],
            Objections::AreOverridden,
        );

        assert_eq!(texts(&wide.networks), ["10.0.0.0/16", "11.0.0.0/8", "192.0.2.1"]);
        let overridden: Vec<_> = wide.overridden.iter().map(|one| one.prefix).collect();
        assert_eq!(overridden, ["10.0.0.0/16", "11.0.0.0/8"].map(prefix));

        let covered = sifted(&["10.0.5.7", "192.0.2.1"], &[], Objections::AreOverridden);
        assert_eq!(texts(&covered.networks), ["192.0.2.1"]);
        assert_eq!(covered.refused[0].why, "covered by the never-block list `monitoring`");
    }

    proptest! {
        #[test]
        fn nothing_that_a_guard_objects_to_is_taken_and_nothing_else_is_left_out(
            hosts in vec((0..4u8, 0..12u8, 24..=32u8), 0..20),
        ) {
            let given: Vec<_> = hosts
                .iter()
                .map(|(third, host, length)| {
                    Prefix::around(std::net::Ipv4Addr::new(10, 0, third + 2, *host).into(), *length)
                })
                .collect();
            let sifted = sift(given.clone(), &guards(), &around(), &[], Objections::Count);

            for network in &given {
                let objections =
                    guards().objections(*network, &around(), ClientShare::default());
                let is_refused = sifted.refused.iter().any(|one| one.prefix == *network);
                prop_assert!(!objections.is_empty() || !is_refused, "{}", network);
                if objections.is_empty() {
                    prop_assert!(sifted.networks.covering(network.address()).is_some());
                }
            }
            for network in sifted.networks.iter() {
                prop_assert!(given.contains(&network));
                let objections = guards().objections(network, &around(), ClientShare::default());
                prop_assert!(objections.is_empty(), "{} {:?}", network, objections);
            }
        }
    }
}
