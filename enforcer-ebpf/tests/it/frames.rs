//! Frames as a description and as bytes: what a sender can put on the wire.

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
    pub destination: [u8; 4],
    /// 32-bit words of options, at most ten.
    pub options: u8,
    /// The flags and offset field.
    pub fragment: u16,
    pub transport: Transport,
    /// Bytes behind the header that the header says there are; what follows is padding.
    pub kept: Option<u16>,
}

#[derive(Clone, Debug)]
pub struct V6Shape {
    pub source: [u8; 16],
    pub destination: [u8; 16],
    pub hop_limit: u8,
    pub extensions: Vec<Extension>,
    pub transport: Transport,
    /// Bytes behind the extensions that the header says there are; what follows is padding.
    pub kept: Option<u16>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Extension {
    pub kind: u8,
    /// Length in units of eight bytes beyond the first.
    pub eights: u8,
    /// Of a fragment header: offset in eights, three bits of flags.
    pub fragment: u16,
}

#[derive(Clone, Debug)]
pub enum Transport {
    Icmp(u8, u8),
    /// From, to, flags.
    Tcp(u16, u16, u8),
    /// From, to, and what is inside.
    Udp(u16, u16, Vec<u8>),
    /// Another protocol, with what is inside.
    Other(u8, Vec<u8>),
}

pub const SYN: u8 = 0x02;
pub const RST: u8 = 0x04;
pub const ACK: u8 = 0x10;
pub const FRAGMENT_HEADER: u8 = 44;
pub const MORE_FRAGMENTS: u16 = 0x2000;

pub const HERE4: [u8; 4] = [198, 51, 100, 1];
pub const HERE6: [u8; 16] = [0x20; 16];

impl Extension {
    pub const fn new(kind: u8, eights: u8) -> Self {
        Self { kind, eights, fragment: 0 }
    }

    pub const fn fragment(offset_eights: u16, more: bool) -> Self {
        Self { kind: FRAGMENT_HEADER, eights: 0, fragment: offset_eights << 3 | more as u16 }
    }

    /// A fragment header has a fixed length, whatever its second byte says.
    pub fn bytes(self) -> usize {
        if self.kind == FRAGMENT_HEADER { 8 } else { 8 + 8 * usize::from(self.eights) }
    }
}

impl Shape {
    pub fn v4(source: [u8; 4], transport: Transport) -> Self {
        Self::of4(V4Shape::new(source, transport))
    }

    pub fn v6(source: [u8; 16], transport: Transport) -> Self {
        Self::of6(V6Shape::new(source, transport))
    }

    pub fn of4(shape: V4Shape) -> Self {
        Self { tags: Vec::new(), network: Network::V4(shape) }
    }

    pub fn of6(shape: V6Shape) -> Self {
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
            Network::V6(v6) => 40 + v6.extensions.iter().map(|it| it.bytes()).sum::<usize>(),
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
    pub fn new(source: [u8; 4], transport: Transport) -> Self {
        Self { source, destination: HERE4, options: 0, fragment: 0, transport, kept: None }
    }

    fn write(&self, frame: &mut Vec<u8>) {
        let payload = self.transport.bytes();
        let kept = self.kept.unwrap_or(payload.len() as u16);
        let total = 20 + 4 * u16::from(self.options) + kept;
        frame.extend([0x45 + self.options, 0]);
        frame.extend(total.to_be_bytes());
        frame.extend([0, 1]);
        frame.extend(self.fragment.to_be_bytes());
        frame.extend([64, self.transport.protocol(1), 0, 0]);
        frame.extend(self.source);
        frame.extend(self.destination);
        // No-operation options.
        frame.extend(std::iter::repeat_n(1, 4 * usize::from(self.options)));
        frame.extend(payload);
    }
}

impl V6Shape {
    pub fn new(source: [u8; 16], transport: Transport) -> Self {
        let extensions = Vec::new();
        Self { source, destination: HERE6, hop_limit: 64, extensions, transport, kept: None }
    }

    fn write(&self, frame: &mut Vec<u8>) {
        let protocol = self.transport.protocol(58);
        let payload = self.transport.bytes();
        let kept = self.kept.unwrap_or(payload.len() as u16);
        let before: usize = self.extensions.iter().map(|it| it.bytes()).sum();
        let following =
            |index: usize| self.extensions.get(index).map_or(protocol, |extension| extension.kind);
        frame.extend([0x60, 0, 0, 0]);
        frame.extend((before as u16 + kept).to_be_bytes());
        frame.extend([following(0), self.hop_limit]);
        frame.extend(self.source);
        frame.extend(self.destination);
        for (index, extension) in self.extensions.iter().enumerate() {
            frame.extend([following(index + 1), extension.eights]);
            frame.extend(extension.fragment.to_be_bytes());
            frame.extend(std::iter::repeat_n(0, extension.bytes() - 4));
        }
        frame.extend(payload);
    }
}

impl Transport {
    pub fn protocol(&self, icmp: u8) -> u8 {
        match self {
            Self::Icmp(..) => icmp,
            Self::Tcp(..) => 6,
            Self::Udp(..) => 17,
            Self::Other(protocol, _) => *protocol,
        }
    }

    fn bytes(&self) -> Vec<u8> {
        match self {
            Self::Icmp(kind, code) => vec![*kind, *code, 0, 0, 0, 0, 0, 0],
            Self::Tcp(from, to, flags) => {
                let mut header = [from.to_be_bytes(), to.to_be_bytes()].concat();
                header.extend([0; 8]);
                header.extend([0x50, *flags, 0, 0, 0, 0, 0, 0]);
                header
            }
            Self::Udp(from, to, inside) => {
                let mut header = [from.to_be_bytes(), to.to_be_bytes()].concat();
                header.extend((8 + inside.len() as u16).to_be_bytes());
                header.extend([0, 0]);
                header.extend(inside);
                header
            }
            Self::Other(_, inside) => inside.clone(),
        }
    }
}

/// One of each shape that the verdict treats in its own way.
pub fn every_shape(source4: [u8; 4], source6: [u8; 16]) -> Vec<(&'static str, Shape)> {
    let tcp = || Transport::Tcp(40_000, 443, SYN);
    let udp = |from, to| Transport::Udp(from, to, Vec::new());
    let v4 = |transport| Shape::v4(source4, transport);
    let v6 = |transport| Shape::v6(source6, transport);
    let with4 = |change: &dyn Fn(&mut V4Shape)| {
        let mut shape = V4Shape::new(source4, tcp());
        change(&mut shape);
        Shape::of4(shape)
    };
    let with6 = |change: &dyn Fn(&mut V6Shape)| {
        let mut shape = V6Shape { hop_limit: 255, ..V6Shape::new(source6, tcp()) };
        change(&mut shape);
        Shape::of6(shape)
    };
    let tagged = |tags: &[u16], shape: Shape| Shape { tags: tags.to_vec(), ..shape };
    let other = |kind, bytes| Shape { tags: Vec::new(), network: Network::Other(kind, bytes) };
    let six = [(0, 0), (60, 1), (43, 2), (60, 0), (43, 0), (60, 3)];
    let six = six.map(|(kind, eights)| Extension::new(kind, eights));
    // From somebody else, to be judged by nobody.
    let inner4 = || Shape::v4([8, 8, 8, 8], tcp()).bytes();
    let inner6 = || Shape::v6([0x26; 16], tcp()).bytes();
    let packet = |frame: Vec<u8>| frame[14..].to_vec();
    let behind = |header: &[u8], rest: Vec<u8>| [header, &rest].concat();
    vec![
        ("arp", other(0x0806, vec![0; 28])),
        ("lldp", other(0x88CC, vec![2; 20])),
        ("802.3 length", other(46, vec![0; 46])),
        ("tcp over ipv4", v4(tcp())),
        ("udp over ipv4", v4(udp(53, 40_000))),
        ("ping over ipv4", v4(Transport::Icmp(8, 0))),
        ("path mtu over ipv4", v4(Transport::Icmp(3, 4))),
        ("unreachable port over ipv4", v4(Transport::Icmp(3, 3))),
        ("expired on the way over ipv4", v4(Transport::Icmp(11, 0))),
        ("dhcp offer", v4(udp(67, 68))),
        ("dhcp request", v4(udp(68, 67))),
        ("dhcp port to another", v4(udp(67, 53))),
        ("reset over ipv4", v4(Transport::Tcp(443, 40_000, RST | ACK))),
        ("ipv4 options", with4(&|shape| shape.options = 10)),
        ("ipv4 first fragment", with4(&|shape| shape.fragment = MORE_FRAGMENTS)),
        ("ipv4 later fragment", with4(&|shape| shape.fragment = 0x20b9)),
        ("ipv4 last fragment", with4(&|shape| shape.fragment = 0x00b9)),
        (
            "ipv4 first fragment without flags",
            with4(&|shape| {
                shape.fragment = MORE_FRAGMENTS;
                shape.kept = Some(8);
                shape.transport = Transport::Tcp(40_000, 443, ACK);
            }),
        ),
        (
            "fragment that looks like dhcp",
            with4(&|shape| {
                shape.fragment = MORE_FRAGMENTS;
                shape.transport = udp(67, 68);
            }),
        ),
        (
            "dhcp behind options",
            with4(&|shape| {
                shape.options = 3;
                shape.transport = udp(68, 67);
            }),
        ),
        ("ipv4 in ipv4", v4(Transport::Other(4, packet(inner4())))),
        ("ipv6 in ipv4", v4(Transport::Other(41, packet(inner6())))),
        ("gre over ipv4", v4(Transport::Other(47, behind(&[0, 0, 8, 0], packet(inner4()))))),
        (
            "vxlan over ipv4",
            v4(Transport::Udp(50_000, 4789, behind(&[8, 0, 0, 0, 0, 0, 7, 0], inner4()))),
        ),
        ("esp over ipv4", v4(Transport::Other(50, vec![0xaa; 40]))),
        ("ah over ipv4", v4(Transport::Other(51, vec![6; 24]))),
        ("sctp over ipv4", v4(Transport::Other(132, vec![1; 12]))),
        ("unknown protocol over ipv4", v4(Transport::Other(253, vec![1; 12]))),
        ("nothing behind the ipv4 header", v4(Transport::Other(6, Vec::new()))),
        ("tcp over ipv6", v6(tcp())),
        ("ping over ipv6", v6(Transport::Icmp(128, 0))),
        ("packet too big", v6(Transport::Icmp(2, 0))),
        ("expired on the way over ipv6", v6(Transport::Icmp(3, 0))),
        ("neighbour solicitation", with6(&|shape| shape.transport = Transport::Icmp(135, 0))),
        ("redirect", with6(&|shape| shape.transport = Transport::Icmp(137, 0))),
        ("router solicitation", with6(&|shape| shape.transport = Transport::Icmp(133, 0))),
        ("neighbour discovery from afar", v6(Transport::Icmp(136, 0))),
        ("dhcpv6", v6(udp(547, 546))),
        ("reset over ipv6", v6(Transport::Tcp(443, 40_000, RST))),
        ("six extensions", with6(&|shape| shape.extensions = six.to_vec())),
        (
            "discovery behind six extensions",
            with6(&|shape| {
                shape.extensions = six.to_vec();
                shape.transport = Transport::Icmp(135, 0);
            }),
        ),
        (
            "discovery behind seven extensions",
            with6(&|shape| {
                shape.extensions = vec![Extension::new(60, 0); 7];
                shape.transport = Transport::Icmp(135, 0);
            }),
        ),
        (
            "tcp behind seven extensions",
            with6(&|shape| shape.extensions = vec![Extension::new(60, 0); 7]),
        ),
        (
            "discovery in a fragment",
            with6(&|shape| {
                shape.extensions = vec![Extension::fragment(0, true)];
                shape.transport = Transport::Icmp(135, 0);
            }),
        ),
        (
            "ipv6 first fragment",
            with6(&|shape| shape.extensions = vec![Extension::fragment(0, true)]),
        ),
        (
            "ipv6 first fragment without flags",
            with6(&|shape| {
                shape.extensions = vec![Extension::fragment(0, true)];
                shape.kept = Some(8);
                shape.transport = Transport::Tcp(40_000, 443, ACK);
            }),
        ),
        (
            "ipv6 later fragment",
            with6(&|shape| shape.extensions = vec![Extension::fragment(185, false)]),
        ),
        ("ah over ipv6", v6(Transport::Other(51, vec![6; 24]))),
        ("esp over ipv6", v6(Transport::Other(50, vec![0xaa; 40]))),
        ("nothing over ipv6", v6(Transport::Other(59, Vec::new()))),
        ("ipv4 in ipv6", v6(Transport::Other(4, packet(inner4())))),
        ("gre over ipv6", v6(Transport::Other(47, behind(&[0, 0, 8, 0], packet(inner4()))))),
        ("one tag", tagged(&[0x8100], v4(tcp()))),
        ("two tags", tagged(&[0x88A8, 0x8100], v6(tcp()))),
        ("three tags", tagged(&[0x88A8, 0x8100, 0x8100], v4(tcp()))),
        ("old service tag", tagged(&[0x9100, 0x8100], v4(tcp()))),
        ("arp in a tag", tagged(&[0x8100], other(0x0806, vec![0; 28]))),
    ]
}
