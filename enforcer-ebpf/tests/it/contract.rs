//! What the kernel and the agent have agreed on.

use std::collections::HashSet;

use enforcer_ebpf::{
    Config, Entry, Event, Key4, Key6, LOST_EVENTS, Lengths, Mode, Reason, Shared, V4, Verdict,
    counter_index,
};
use proptest::prelude::*;

#[test]
fn every_verdict_and_reason_has_a_counter_of_its_own() {
    let mut seen = HashSet::from([LOST_EVENTS]);
    for verdict in Verdict::ALL {
        for reason in Reason::ALL {
            assert!(seen.insert(counter_index(verdict, reason)), "{verdict} {reason}");
        }
    }
    assert!(seen.iter().all(|index| *index <= LOST_EVENTS));
}

#[test]
fn an_unknown_mode_drops_rather_than_passes() {
    assert_eq!(Mode::from_word(Mode::Off.word()), Mode::Off);
    assert_eq!(Mode::from_word(Mode::Observe.word()), Mode::Observe);
    assert_eq!(Mode::from_word(3), Mode::Enforce);
    assert_eq!(Mode::from_word(u64::MAX), Mode::Enforce);
}

#[test]
fn an_event_of_another_length_is_not_read() {
    let event = Event::new(V4(0x0102_0304), Verdict::Drop, Reason::Budget, 9, 32, 5);
    let mut bytes = Vec::new();
    bytes.extend(event.at_ns.to_ne_bytes());
    bytes.extend(event.id.to_ne_bytes());
    for word in [event.reason, event.verdict, event.bits, event.length] {
        bytes.extend(word.to_ne_bytes());
    }
    bytes.extend(event.source);

    assert_eq!(Event::from_bytes(&bytes), Some(event));
    assert_eq!(Event::from_bytes(&bytes[1..]), None);
    bytes.push(0);
    assert_eq!(Event::from_bytes(&bytes), None);
}

proptest! {
    #[test]
    fn every_value_survives_the_map(config: [u64; 9], row: [u64; 7], v4: [u32; 2], v6: [u64; 3]) {
        prop_assert_eq!(Config::from_words(config).to_words(), config);
        prop_assert_eq!(Entry::from_words(row).to_words(), row);
        prop_assert_eq!(Key4::from_words(v4).to_words(), v4);
        prop_assert_eq!(Key6::from_words(v6).to_words(), v6);
    }

    #[test]
    fn lengths_come_out_longest_first_and_once(host_bits in prop::collection::vec(0..=140u32, 0..40)) {
        let lengths = host_bits.iter().fold(Lengths::default(), |set, bits| set.union(Lengths::of(*bits)));
        let mut expected: Vec<u32> = host_bits.into_iter().filter(|bits| *bits <= 128).collect();
        expected.sort_unstable();
        expected.dedup();

        prop_assert_eq!(lengths.count() as usize, expected.len());
        let shared = Lengths(lengths.0.map(Shared::new));
        for bits in [32, 128] {
            let mut from = 0;
            let taken: Vec<u32> = std::iter::from_fn(|| {
                let found = shared.next(from, bits)?;
                from = u64::from(found) + 1;
                Some(found)
            })
            .collect();
            let readable = expected.iter().copied().filter(|found| bits == 128 || *found < 64);
            prop_assert_eq!(taken, readable.collect::<Vec<u32>>());
        }
    }
}
