//! Frames as a description and as bytes: what a sender can put on the wire.

use proptest::prelude::*;

/// What a frame is to look like.
#[derive(Clone, Debug)]
pub struct Shape {
    /// VLAN tags, each with its type.
    pub tags: Vec<u16>,
    pub network: Network,
}

#[derive(Clone, Debug)]
pub enum Network {
    V4(V4Shape),
    V6(V6Shape),
    /// Another `EtherType`, with some bytes.
    Other(u16, Vec<u8>),
}

#[derive(Clone, Debug)]
pub struct V4Shape {
    pub source: [u8; 4],
    /// 32-bit words of options, at most ten.
    pub options: u8,
    /// The flags and offset field.
    pub fragment: u16,
    pub transport: Transport,
}

#[derive(Clone, Debug)]
pub struct V6Shape {
    pub source: [u8; 16],
    pub hop_limit: u8,
    /// Type and length in units of eight bytes beyond the first.
    pub extensions: Vec<(u8, u8)>,
    pub transport: Transport,
}

#[derive(Clone, Debug)]
pub enum Transport {
    Icmp(u8, u8),
    Tcp(u16, u16),
    Udp(u16, u16),
}

pub const FRAGMENT_HEADER: u8 = 44;

impl Shape {
    pub fn v4(source: [u8; 4], transport: Transport) -> Self {
        let shape = V4Shape { source, options: 0, fragment: 0, transport };
        Self { tags: Vec::new(), network: Network::V4(shape) }
    }

    pub fn v6(source: [u8; 16], transport: Transport) -> Self {
        let shape = V6Shape { source, hop_limit: 64, extensions: Vec::new(), transport };
        Self { tags: Vec::new(), network: Network::V6(shape) }
    }

    /// Where the network header begins.
    pub fn network_at(&self) -> usize {
        14 + 4 * self.tags.len()
    }

    /// Where the transport header begins.
    pub fn transport_at(&self) -> usize {
        let header = match &self.network {
            Network::V4(v4) => 20 + 4 * usize::from(v4.options),
            Network::V6(v6) => {
                40 + v6
                    .extensions
                    .iter()
                    .map(|(_, eights)| 8 + 8 * usize::from(*eights))
                    .sum::<usize>()
            }
            Network::Other(..) => 0,
        };
        self.network_at() + header
    }

    pub fn bytes(&self) -> Vec<u8> {
        let mut frame = vec![0x02; 12];
        let kind = match &self.network {
            Network::V4(_) => 0x0800,
            Network::V6(_) => 0x86DD,
            Network::Other(kind, _) => *kind,
        };
        for tag in &self.tags {
            frame.extend(tag.to_be_bytes());
            frame.extend([0, 7]);
        }
        frame.extend(u16::to_be_bytes(kind));
        match &self.network {
            Network::V4(v4) => v4.write(&mut frame),
            Network::V6(v6) => v6.write(&mut frame),
            Network::Other(_, bytes) => frame.extend(bytes),
        }
        frame
    }
}

impl V4Shape {
    fn write(&self, frame: &mut Vec<u8>) {
        let payload = self.transport.bytes();
        let total = 20 + 4 * u16::from(self.options) + payload.len() as u16;
        frame.extend([0x45 + self.options, 0]);
        frame.extend(total.to_be_bytes());
        frame.extend([0, 1]);
        frame.extend(self.fragment.to_be_bytes());
        frame.extend([64, self.transport.protocol(1), 0, 0]);
        frame.extend(self.source);
        frame.extend([198, 51, 100, 1]);
        // No-operation options.
        frame.extend(std::iter::repeat_n(1, 4 * usize::from(self.options)));
        frame.extend(payload);
    }
}

impl V6Shape {
    fn write(&self, frame: &mut Vec<u8>) {
        let transport = self.transport.protocol(58);
        let following =
            |index: usize| self.extensions.get(index).map_or(transport, |(kind, _)| *kind);
        frame.extend([0x60, 0, 0, 0, 0, 64, following(0), self.hop_limit]);
        frame.extend(self.source);
        frame.extend([0x20; 16]);
        for (index, (_, eights)) in self.extensions.iter().enumerate() {
            frame.extend([following(index + 1), *eights]);
            frame.extend(std::iter::repeat_n(0, 6 + 8 * usize::from(*eights)));
        }
        frame.extend(self.transport.bytes());
    }
}

impl Transport {
    fn protocol(&self, icmp: u8) -> u8 {
        match self {
            Self::Icmp(..) => icmp,
            Self::Tcp(..) => 6,
            Self::Udp(..) => 17,
        }
    }

    fn bytes(&self) -> Vec<u8> {
        match self {
            Self::Icmp(kind, code) => vec![*kind, *code, 0, 0, 0, 0, 0, 0],
            Self::Tcp(from, to) => {
                let mut header = [from.to_be_bytes(), to.to_be_bytes()].concat();
                header.extend([0; 8]);
                header.extend([0x50, 2, 0, 0, 0, 0, 0, 0]);
                header
            }
            Self::Udp(from, to) => {
                let mut header = [from.to_be_bytes(), to.to_be_bytes()].concat();
                header.extend([0, 8, 0, 0]);
                header
            }
        }
    }
}

/// One of each shape that the verdict treats in its own way.
pub fn every_shape(source4: [u8; 4], source6: [u8; 16]) -> Vec<(&'static str, Shape)> {
    let tcp = || Transport::Tcp(40_000, 443);
    let v4 = |transport| Shape::v4(source4, transport);
    let v6 = |transport| Shape::v6(source6, transport);
    let with4 = |change: &dyn Fn(&mut V4Shape)| {
        let mut shape = V4Shape { source: source4, options: 0, fragment: 0, transport: tcp() };
        change(&mut shape);
        Shape { tags: Vec::new(), network: Network::V4(shape) }
    };
    let with6 = |change: &dyn Fn(&mut V6Shape)| {
        let extensions = Vec::new();
        let mut shape = V6Shape { source: source6, hop_limit: 255, extensions, transport: tcp() };
        change(&mut shape);
        Shape { tags: Vec::new(), network: Network::V6(shape) }
    };
    let tagged = |tags: &[u16], shape: Shape| Shape { tags: tags.to_vec(), ..shape };
    vec![
        ("arp", Shape { tags: Vec::new(), network: Network::Other(0x0806, vec![0; 28]) }),
        ("lldp", Shape { tags: Vec::new(), network: Network::Other(0x88CC, vec![2; 20]) }),
        ("802.3 length", Shape { tags: Vec::new(), network: Network::Other(46, vec![0; 46]) }),
        ("tcp over ipv4", v4(tcp())),
        ("udp over ipv4", v4(Transport::Udp(53, 40_000))),
        ("ping over ipv4", v4(Transport::Icmp(8, 0))),
        ("path mtu over ipv4", v4(Transport::Icmp(3, 4))),
        ("unreachable port over ipv4", v4(Transport::Icmp(3, 3))),
        ("dhcp offer", v4(Transport::Udp(67, 68))),
        ("dhcp request", v4(Transport::Udp(68, 67))),
        ("dhcp port to another", v4(Transport::Udp(67, 53))),
        ("ipv4 options", with4(&|shape| shape.options = 10)),
        ("ipv4 first fragment", with4(&|shape| shape.fragment = 0x2000)),
        ("ipv4 later fragment", with4(&|shape| shape.fragment = 0x00b9)),
        (
            "fragment that looks like dhcp",
            with4(&|shape| {
                shape.fragment = 0x2000;
                shape.transport = Transport::Udp(67, 68);
            }),
        ),
        (
            "dhcp behind options",
            with4(&|shape| {
                shape.options = 3;
                shape.transport = Transport::Udp(68, 67);
            }),
        ),
        ("tcp over ipv6", v6(tcp())),
        ("ping over ipv6", v6(Transport::Icmp(128, 0))),
        ("packet too big", v6(Transport::Icmp(2, 0))),
        ("neighbour solicitation", with6(&|shape| shape.transport = Transport::Icmp(135, 0))),
        ("redirect", with6(&|shape| shape.transport = Transport::Icmp(137, 0))),
        ("router solicitation", with6(&|shape| shape.transport = Transport::Icmp(133, 0))),
        ("neighbour discovery from afar", v6(Transport::Icmp(136, 0))),
        ("dhcpv6", v6(Transport::Udp(547, 546))),
        (
            "six extensions",
            with6(&|shape| {
                shape.extensions = vec![(0, 0), (60, 1), (43, 2), (60, 0), (43, 0), (60, 3)];
            }),
        ),
        (
            "discovery behind six extensions",
            with6(&|shape| {
                shape.extensions = vec![(0, 0), (60, 1), (43, 2), (60, 0), (43, 0), (60, 3)];
                shape.transport = Transport::Icmp(135, 0);
            }),
        ),
        (
            "discovery behind seven extensions",
            with6(&|shape| {
                shape.extensions = vec![(60, 0); 7];
                shape.transport = Transport::Icmp(135, 0);
            }),
        ),
        (
            "discovery in a fragment",
            with6(&|shape| {
                shape.extensions = vec![(FRAGMENT_HEADER, 0)];
                shape.transport = Transport::Icmp(135, 0);
            }),
        ),
        ("one tag", tagged(&[0x8100], v4(tcp()))),
        ("two tags", tagged(&[0x88A8, 0x8100], v6(tcp()))),
        ("three tags", tagged(&[0x88A8, 0x8100, 0x8100], v4(tcp()))),
        ("old service tag", tagged(&[0x9100, 0x8100], v4(tcp()))),
        (
            "arp in a tag",
            tagged(&[0x8100], Shape { tags: vec![], network: Network::Other(0x0806, vec![0; 28]) }),
        ),
    ]
}

/// Any frame, from few enough sources that blocks and budgets meet them.
pub fn any_shape() -> impl Strategy<Value = Shape> {
    let tag = prop::sample::select(vec![0x8100, 0x88A8, 0x9100]);
    let network = prop_oneof![
        4 => any_v4().prop_map(Network::V4),
        4 => any_v6().prop_map(Network::V6),
        1 => (prop::sample::select(vec![0x0806, 0x88CC, 46, 0x0842]), prop::collection::vec(any::<u8>(), 0..40))
            .prop_map(|(kind, bytes)| Network::Other(kind, bytes)),
    ];
    (prop::collection::vec(tag, 0..4), network).prop_map(|(tags, network)| Shape { tags, network })
}

/// An IPv4 source from a small world.
pub fn any_source4() -> impl Strategy<Value = [u8; 4]> {
    (0..2u8, 0..2u8, 0..4u8).prop_map(|(b, c, d)| [10, b, c, d])
}

/// An IPv6 source from a small world.
pub fn any_source6() -> impl Strategy<Value = [u8; 16]> {
    (0..2u8, 0..2u8, 0..4u8).prop_map(|(net, subnet, host)| {
        [0x20, 1, 0x0d, 0xb8, 0, net, 0, subnet, 0, 0, 0, 0, 0, 0, 0, host]
    })
}

fn any_v4() -> impl Strategy<Value = V4Shape> {
    let fragment =
        prop_oneof![3 => Just(0), 1 => Just(0x4000), 1 => Just(0x2000), 1 => 1..0x2000u16];
    (any_source4(), 0..=10u8, fragment, any_transport()).prop_map(
        |(source, options, fragment, transport)| V4Shape { source, options, fragment, transport },
    )
}

fn any_v6() -> impl Strategy<Value = V6Shape> {
    let extension = (prop::sample::select(vec![0, 43, FRAGMENT_HEADER, 60]), 0..4u8);
    let extensions = prop::collection::vec(extension, 0..9);
    let hop_limit = prop_oneof![Just(255), Just(64), any::<u8>()];
    (any_source6(), hop_limit, extensions, any_transport()).prop_map(
        |(source, hop_limit, extensions, transport)| V6Shape {
            source,
            hop_limit,
            extensions,
            transport,
        },
    )
}

fn any_transport() -> impl Strategy<Value = Transport> {
    let port = || prop::sample::select(vec![53, 66, 67, 68, 69, 443, 545, 546, 547, 548]);
    let kind = prop::sample::select(vec![0, 1, 2, 3, 8, 128, 132, 133, 134, 135, 136, 137, 138]);
    prop_oneof![
        (kind, prop::sample::select(vec![0, 3, 4]))
            .prop_map(|(kind, code)| Transport::Icmp(kind, code)),
        (port(), port()).prop_map(|(from, to)| Transport::Tcp(from, to)),
        (port(), port()).prop_map(|(from, to)| Transport::Udp(from, to)),
    ]
}
