//! What is behind the IP header, and what an attacker tries to hide there.

use enforcer_ebpf::{Reason, Verdict, transport};
use proptest::prelude::*;

use crate::any::any_shape;
use crate::frames::{
    ACK, Extension, MORE_FRAGMENTS, Network, SYN, Shape, Transport, V4Shape, V6Shape,
};
use crate::memory::Bytes;
use crate::reference::{Budget, Rate, World, facts};
use crate::verdict::{SOURCE4, SOURCE6};

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4_000))]

    #[test]
    fn every_header_is_read_as_the_description_says(
        shape in any_shape().prop_filter("nobody reads more", |shape| shape.tags.len() < 3),
        cut: prop::sample::Index,
        is_cut: bool,
    ) {
        let frame = shape.bytes();
        let header = match shape.network {
            Network::V4(_) => 20,
            Network::V6(_) => 40,
            Network::Other(..) => 0,
        };
        // Nobody asks before the fixed header was found to be there.
        let least = shape.network_at() + header;
        let length = if is_cut { least + cut.index(frame.len() + 1 - least) } else { frame.len() };

        let read = transport::read(&Bytes(&frame[..length]));

        let facts = facts(&shape, length);
        prop_assert_eq!(read.is_known(), facts.known);
        prop_assert_eq!(read.opens(), facts.opens);
        prop_assert_eq!(read.resets(), facts.resets);
        prop_assert_eq!(read.is_essential(), facts.essential);
        if facts.known {
            prop_assert_eq!(read.port(), facts.port);
        }
    }
}

fn seven_extensions() -> Shape {
    let tcp = Transport::Tcp(40_000, 443, SYN);
    let extensions = vec![Extension::new(60, 0); 7];
    Shape::of6(V6Shape { extensions, ..V6Shape::new(SOURCE6, tcp) })
}

/// Eight bytes of a TCP header, and padding that looks like the rest.
fn short_fragments() -> [Shape; 2] {
    let tcp = || Transport::Tcp(40_000, 443, ACK);
    let v4 = V4Shape {
        fragment: MORE_FRAGMENTS,
        kept: Some(8),
        options: 3,
        ..V4Shape::new(SOURCE4, tcp())
    };
    let extensions = vec![Extension::new(60, 1), Extension::fragment(0, true)];
    let v6 = V6Shape { extensions, kept: Some(8), ..V6Shape::new(SOURCE6, tcp()) };
    [Shape::of4(v4), Shape::of6(v6)]
}

#[test]
fn nobody_opens_connections_for_nothing_by_hiding_that_he_does() {
    let syns = Some(Rate { rate: 1, burst: 1 });
    let [short4, short6] = short_fragments();
    for shape in [seven_extensions(), short4, short6] {
        let tables = World::with_budget(Budget { syns, ..Budget::default() }).tables();

        assert_eq!(tables.incoming(&shape.bytes()), (Verdict::Pass, Reason::Clean));
        let second = tables.incoming(&shape.bytes());
        assert_eq!(second, (Verdict::Drop, Reason::SynBudget), "{shape:?}");
    }
}

#[test]
fn the_fragments_of_a_large_packet_open_nothing() {
    let syns = Some(Rate { rate: 1, burst: 1 });
    let world = World::with_budget(Budget { syns, ..Budget::default() });
    let tcp = || Transport::Tcp(40_000, 443, ACK);
    let first4 = V4Shape { fragment: MORE_FRAGMENTS, ..V4Shape::new(SOURCE4, tcp()) };
    let later4 = V4Shape { fragment: 0x2002, kept: Some(8), ..V4Shape::new(SOURCE4, tcp()) };
    let first6 =
        V6Shape { extensions: vec![Extension::fragment(0, true)], ..V6Shape::new(SOURCE6, tcp()) };
    let later6 = V6Shape { extensions: vec![Extension::fragment(2, false)], ..first6.clone() };
    let shapes = [Shape::of4(first4), Shape::of4(later4), Shape::of6(first6), Shape::of6(later6)];
    let tables = world.tables();
    for shape in shapes.iter().cycle().take(40) {
        assert_eq!(tables.incoming(&shape.bytes()), (Verdict::Pass, Reason::Clean), "{shape:?}");
    }
}

#[test]
fn what_cannot_be_told_to_go_elsewhere_goes_to_a_protected_port() {
    let budget = Budget::packets(1, 1);
    let world = World { ports: vec![443, 8443], ..World::with_budget(budget) };
    let to = |port| Shape::v4(SOURCE4, Transport::Udp(9, port, Vec::new()));
    let fragment = |fragment| {
        let udp = Transport::Udp(9, 53, Vec::new());
        Shape::of4(V4Shape { fragment, ..V4Shape::new(SOURCE4, udp) })
    };
    let ping = Shape::v4(SOURCE4, Transport::Icmp(8, 0));
    let elsewhere = [to(53), to(9), to(0), ping, fragment(MORE_FRAGMENTS)];
    let protected = [to(443), to(8443), fragment(0x2001), fragment(1), seven_extensions()];

    for shape in elsewhere {
        let tables = world.tables();
        for _ in 0..3 {
            let judged = tables.incoming(&shape.bytes());
            assert_eq!(judged, (Verdict::Pass, Reason::Clean), "{shape:?}");
        }
    }
    for shape in protected {
        let tables = world.tables();
        assert_eq!(tables.incoming(&shape.bytes()), (Verdict::Pass, Reason::Clean));
        let second = tables.incoming(&shape.bytes());
        assert_eq!(second, (Verdict::Drop, Reason::Budget), "{shape:?}");
    }
}
