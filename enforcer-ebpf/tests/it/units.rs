//! Words that hold more than one number, and what their units are.

use enforcer_ebpf::config::{Left, Span};
use enforcer_ebpf::escalation::{network_key, network_of};
use enforcer_ebpf::quarantine::Position;
use enforcer_ebpf::source::{MAX_SYNS, SPENT_NS, SYN_NS, Spent, Tally, V4_MARK};
use enforcer_ebpf::table::{MOMENT_NS, Meta, Seen, TICK_NS, see};
use enforcer_ebpf::{Address, Class, Lengths, NEVER_NS, Ports, Shared, TableWord, V4, V6};
use proptest::prelude::*;

proptest! {
    #[test]
    fn lengths_come_out_longest_first_and_once(
        host_bits in prop::collection::vec(0..=140u32, 0..40),
        span in prop_oneof![Just([u64::MAX; 3]), any::<[u64; 3]>()],
    ) {
        let lengths =
            host_bits.iter().fold(Lengths::default(), |set, bits| set.union(Lengths::of(*bits)));
        let mut expected: Vec<u32> = host_bits.into_iter().filter(|bits| *bits <= 128).collect();
        expected.sort_unstable();
        expected.dedup();
        prop_assert_eq!(lengths.count() as usize, expected.len());
        let is_in_span = |bits: &u32| span[*bits as usize / 64] >> (bits % 64) & 1 == 1;

        let shared = Lengths(lengths.0.map(Shared::new));
        for width in [32, 128] {
            let mut from = 0;
            let taken: Vec<u32> = std::iter::from_fn(|| {
                let found = shared.next(from, Span(span), width)?;
                from = u64::from(found) + 1;
                Some(found)
            })
            .collect();
            let is_readable = |bits: &u32| (width == 128 || *bits < 64) && is_in_span(bits);
            let readable: Vec<u32> = expected.iter().copied().filter(is_readable).collect();
            prop_assert_eq!(Span(span).misses(&shared, width), readable.is_empty());
            let is_told = match shared.left(Span(span), width) {
                Left::None => readable.is_empty(),
                Left::One(only) => readable == [only],
                // Never fewer than there are.
                Left::More => !readable.is_empty(),
            };
            prop_assert!(is_told, "{:?}", readable);
            prop_assert_eq!(taken, readable);
        }
    }

    #[test]
    fn cutting_host_bits_is_what_arithmetic_says(bits: u128, host_bits in 0..=128u32) {
        let cut = |bits: u128, by: u32| bits.checked_shr(by).and_then(|it| it.checked_shl(by)).unwrap_or(0);

        let whole = cut(bits, host_bits);
        let address = V6 { high: (bits >> 64) as u64, low: bits as u64 };
        prop_assert_eq!(address.network(host_bits), [(whole >> 64) as u64, whole as u64]);

        let host_bits = host_bits.min(32);
        let whole = cut((bits as u32).into(), host_bits);
        prop_assert_eq!(V4(bits as u32).network(host_bits), [whole as u64]);
    }

    #[test]
    fn a_slot_says_what_was_written(length: u8, expires_ns: u64, flags in 0..8u64) {
        let meta = Meta::new(length, expires_ns, flags);

        prop_assert!(meta.is_used() && meta.has(flags) && meta.length() == length);
        prop_assert!(!meta.has(Meta::OVERFLOW));
        // Never early, and late by about a millisecond at most.
        prop_assert!(meta.expires_ns() >= expires_ns);
        prop_assert!(meta.expires_ns() == NEVER_NS || meta.expires_ns() - expires_ns < MOMENT_NS);
        prop_assert!(expires_ns == 0 || meta.in_force(expires_ns - 1));
        prop_assert!(!Meta(meta.0 & Meta::OVERFLOW).in_force(0), "a free slot holds nothing");
    }

    #[test]
    fn every_word_with_parts_gives_them_back(
        index in 0..2u32, rows: u32, until in 0..1u64 << 56, class in 0..256u64, counts: [u32; 2],
    ) {
        let word = TableWord { index, rows };
        prop_assert_eq!(TableWord::from_word(word.word()), word);
        let spent = Spent::new(until, class);
        prop_assert_eq!((spent.until(), spent.class()), (until, class));
        let [packets, syn_until] = counts.map(u64::from);
        let tally = Tally::new(packets, syn_until);
        prop_assert_eq!((tally.packets(), tally.syn_until()), (packets, syn_until));
        let wrapped = Tally::new(packets + (1 << 32), syn_until + (5 << 32));
        prop_assert_eq!(wrapped, tally);
    }

    #[test]
    fn ports_are_a_set_of_eight(ports in prop::collection::vec(1..=u16::MAX, 0..10), other: u16) {
        let Ports(words) = Ports::of(&ports);
        let shared = Ports(words.map(Shared::new));
        let kept: Vec<u16> = ports.iter().copied().take(8).collect();

        prop_assert_eq!(shared.are_all(), kept.is_empty());
        for port in &kept {
            prop_assert!(shared.contain(*port));
        }
        prop_assert_eq!(shared.contain(other), kept.contains(&other));
        prop_assert!(!shared.contain(0), "no port is no protected port");
    }

    #[test]
    fn a_network_that_answers_for_its_parts_has_a_name_that_no_address_has(
        high in prop_oneof![0x2000_0000_0000_0000..0x4000_0000_0000_0000u64, 0xfc00_0000_0000_0000..0xfe00_0000_0000_0000u64],
    ) {
        for length in [48, 56] {
            let key = network_key(high, length);
            let network = high >> (64 - length) << (64 - length);

            prop_assert_eq!(network_of(key), Some((network, length as u8)));
            prop_assert_eq!(network_of(high), None, "an address in use is no network");
            prop_assert!(key != 0 && key >> 32 != V4_MARK >> 32);
        }
        prop_assert_ne!(network_key(high, 48), network_key(high, 56));
    }

    #[test]
    fn a_rate_of_packets_is_never_stricter_than_it_says(rate in 1..=u32::MAX, burst in 1..=u32::MAX) {
        let class = Class::NONE.packets(rate, burst);
        let rate = u64::from(rate);

        let cost_ns = class.packet_cost * SPENT_NS;
        // The clock's unit is a rate of its own: one packet costs no less.
        prop_assert!(cost_ns * rate <= 1_000_000_000 || class.packet_cost == 1);
        prop_assert!((cost_ns + SPENT_NS) * rate > 1_000_000_000);
        prop_assert_eq!(class.packet_tolerance, class.packet_cost * u64::from(burst - 1));
    }

    #[test]
    fn a_rate_of_bytes_is_never_stricter_than_it_says(
        rate in 65_536..100_000_000_000u64,
        burst in 65_536..100_000_000_000u64,
    ) {
        let class = Class::NONE.bytes(rate, burst);

        let cost = u128::from(class.byte_cost);
        prop_assert!(cost * u128::from(rate) <= 65_536_000_000_000);
        prop_assert!((cost + 1) * u128::from(rate) > 65_536_000_000_000);
        // The burst to the byte: what it costs, rounded down to a nanosecond.
        let (tolerance, whole) = (u128::from(class.byte_tolerance), (cost * u128::from(burst)) >> 16);
        prop_assert!(tolerance <= whole && whole < tolerance + 2, "{tolerance} for {whole}");
    }

    #[test]
    fn a_rate_of_connections_is_never_stricter_than_it_says(rate in 1..=MAX_SYNS, burst in 1..5_000u32) {
        let class = Class::NONE.syns(rate, burst);

        prop_assert!(class.syn_cost * SYN_NS * u64::from(rate) <= 1_000_000_000);
        prop_assert!((class.syn_cost + 1) * SYN_NS * u64::from(rate) > 1_000_000_000);
        let whole = class.syn_cost * u64::from(burst - 1);
        prop_assert_eq!(class.syn_tolerance, whole.min(1 << 30));
    }
}

#[test]
fn a_block_that_never_ends_never_ends() {
    let last = NEVER_NS / MOMENT_NS * MOMENT_NS;
    for expires_ns in [NEVER_NS, NEVER_NS - 1, last + 1] {
        let meta = Meta::new(32, expires_ns, 0);

        assert_eq!(meta.expires_ns(), NEVER_NS, "{expires_ns}");
        assert!(meta.in_force(0) && meta.in_force(NEVER_NS - 1));
    }
    assert_eq!(Meta::new(32, last, 0).expires_ns(), last);
}

#[test]
fn a_position_of_zero_is_nowhere() {
    assert!(!Position::NONE.is_some());
    let somewhere = Position(1 << 63 | 24 << 40 | 1 << 39 | 1 << 34 | 3 << 32 | 77);
    assert!(somewhere.is_some() && somewhere.observes());
    assert_eq!((somewhere.length(), somewhere.row(), somewhere.slot()), (24, (1, 77), 3));
}

#[test]
fn a_packet_is_the_first_of_its_tick_once() {
    let seen = Shared::new(0);
    let start_ns = 77 * TICK_NS;
    assert_eq!(Seen(seen.get()).last_hit_ns(), None);
    for (after_ns, is_first) in
        [(0, true), (1, false), (TICK_NS - 1, false), (TICK_NS, true), (TICK_NS, false)]
    {
        let now_ns = start_ns + after_ns;
        assert_eq!(see(&seen, now_ns), is_first, "{after_ns}");
        let hit_ns = Seen(seen.get()).last_hit_ns().unwrap();
        assert!(hit_ns <= now_ns && now_ns - hit_ns < TICK_NS);
    }
}
