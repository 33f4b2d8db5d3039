//! Where a packet or a connection comes from.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// Whom a request comes from: a peer, or whom a trusted proxy named.
///
/// IPv4-mapped IPv6 addresses are folded to IPv4, so that one host has one name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Source(IpAddr);

/// A network in CIDR form, without host bits; a single address is a prefix of full length.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Prefix {
    address: IpAddr,
    length: u8,
}

/// The text or the pair is not a network.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PrefixError {
    /// Bits are set behind the prefix length: probably a typing error, so it is not repaired.
    #[error("`{given}` has host bits set; the network is `{network}`")]
    HostBits {
        /// As written.
        given: String,
        /// With the host bits cleared.
        network: Prefix,
    },
    /// Longer than the address.
    #[error("`/{length}` is too long: at most `/{longest}` for this family")]
    Length {
        /// As written.
        length: u8,
        /// 32 or 128.
        longest: u8,
    },
    /// Not an address and not `address/length`.
    #[error("`{0}` is not an address or network; write it as `192.0.2.1` or `192.0.2.0/24`")]
    Text(String),
}

impl Source {
    /// The peer `address`, with an IPv4-mapped one folded to IPv4.
    pub fn new(address: IpAddr) -> Self {
        Self(address.to_canonical())
    }

    /// The address.
    pub const fn address(self) -> IpAddr {
        self.0
    }

    /// The network inside which one host changes its address at will: an IPv6 `/64`, because of
    /// temporary addresses (RFC 8981); an IPv4 address alone.
    ///
    /// Whatever is counted by client is counted by this.
    pub fn neighbourhood(self) -> Prefix {
        match self.0 {
            IpAddr::V4(_) => self.into(),
            IpAddr::V6(_) => Prefix::around(self.0, 64),
        }
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl Prefix {
    /// The network `address/length`; refuses host bits and a length over the family's.
    ///
    /// An IPv4-mapped IPv6 network of at least `/96` becomes the IPv4 network that it names.
    pub fn new(address: IpAddr, length: u8) -> Result<Self, PrefixError> {
        let longest = longest(address);
        if length > longest {
            return Err(PrefixError::Length { length, longest });
        }
        let (address, length) = match (address, address.to_canonical()) {
            (IpAddr::V6(_), IpAddr::V4(v4)) if length >= 96 => (IpAddr::V4(v4), length - 96),
            (address, _) => (address, length),
        };
        let network = Self { address: mask(address, length), length };
        if network.address == address {
            Ok(network)
        } else {
            Err(PrefixError::HostBits { given: format!("{address}/{length}"), network })
        }
    }

    /// The network of `length` bits around `address`; a longer length than the family's is cut.
    pub fn around(address: IpAddr, length: u8) -> Self {
        let address = address.to_canonical();
        let length = length.min(longest(address));
        Self { address: mask(address, length), length }
    }

    /// The network's first address.
    pub const fn address(self) -> IpAddr {
        self.address
    }

    /// The number of leading bits that are fixed.
    pub const fn length(self) -> u8 {
        self.length
    }

    /// Whether this is one single address.
    pub fn is_single(self) -> bool {
        self.length == longest(self.address)
    }

    /// Whether `address` lies inside.
    pub fn contains(self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        address.is_ipv4() == self.address.is_ipv4() && mask(address, self.length) == self.address
    }

    /// Whether every address of `other` lies inside.
    pub fn covers(self, other: Self) -> bool {
        self.length <= other.length && self.contains(other.address)
    }

    /// Whether the two share at least one address.
    pub fn overlaps(self, other: Self) -> bool {
        self.covers(other) || other.covers(self)
    }
}

impl From<IpAddr> for Prefix {
    fn from(address: IpAddr) -> Self {
        Self::around(address, 128)
    }
}

impl From<Source> for Prefix {
    fn from(source: Source) -> Self {
        Self::from(source.0)
    }
}

impl FromStr for Prefix {
    type Err = PrefixError;

    fn from_str(text: &str) -> Result<Self, PrefixError> {
        let refused = || PrefixError::Text(text.to_owned());
        let Some((address, length)) = text.split_once('/') else {
            return text.parse::<IpAddr>().map(Self::from).or(Err(refused()));
        };
        let Ok(address) = address.parse() else { return Err(refused()) };
        // `+24` and `024` parse as numbers, yet no tool writes them so.
        if length.starts_with('+') || (length.len() > 1 && length.starts_with('0')) {
            return Err(refused());
        }
        let Ok(length) = length.parse() else { return Err(refused()) };
        Self::new(address, length)
    }
}

impl fmt::Display for Prefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_single() {
            self.address.fmt(f)
        } else {
            write!(f, "{}/{}", self.address, self.length)
        }
    }
}

impl Serialize for Prefix {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Prefix {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

const fn longest(address: IpAddr) -> u8 {
    match address {
        IpAddr::V4(_) => 32,
        IpAddr::V6(_) => 128,
    }
}

fn mask(address: IpAddr, length: u8) -> IpAddr {
    match address {
        IpAddr::V4(v4) => {
            let host = u32::MAX.checked_shr(u32::from(length)).unwrap_or(0);
            Ipv4Addr::from(u32::from(v4) & !host).into()
        }
        IpAddr::V6(v6) => {
            let host = u128::MAX.checked_shr(u32::from(length)).unwrap_or(0);
            Ipv6Addr::from(u128::from(v6) & !host).into()
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn host_bits_are_refused_and_the_network_is_named() {
        let refused = "10.1.2.3/8".parse::<Prefix>().unwrap_err();

        assert_eq!(
            refused.to_string(),
            "`10.1.2.3/8` has host bits set; the network is `10.0.0.0/8`"
        );
    }

    #[test]
    fn odd_spellings_of_a_network_are_refused() {
        for text in ["", "10.0.0.0/", "10.0.0.0/+8", "10.0.0.0/08", "10.0.0.0/33", "::/129", "x/8"]
        {
            assert!(text.parse::<Prefix>().is_err(), "{text}");
        }
    }

    #[test]
    fn a_mapped_address_and_its_ipv4_form_are_one_source() {
        let mapped: IpAddr = "::ffff:192.0.2.1".parse().unwrap();

        assert_eq!(Source::new(mapped).to_string(), "192.0.2.1");
        assert_eq!("::ffff:192.0.2.0/120".parse(), "192.0.2.0/24".parse::<Prefix>());
    }

    #[test]
    fn a_host_has_one_neighbourhood_whatever_address_it_takes() {
        let around = |text: &str| Source::new(text.parse().unwrap()).neighbourhood().to_string();

        assert_eq!(around("2001:db8::1"), "2001:db8::/64");
        assert_eq!(around("2001:db8::ffff:0:0:1"), "2001:db8::/64");
        assert_eq!(around("2001:db8:0:1::1"), "2001:db8:0:1::/64");
        assert_eq!(around("192.0.2.1"), "192.0.2.1");
        assert_eq!(around("::ffff:192.0.2.1"), "192.0.2.1");
    }

    proptest! {
        #[test]
        fn every_prefix_survives_printing_and_parsing(bits: u128, length in 0..=128u8, v4: bool) {
            let address: IpAddr = if v4 {
                Ipv4Addr::from(bits.to_be_bytes()[..4].try_into().map(u32::from_be_bytes).unwrap()).into()
            } else {
                Ipv6Addr::from(bits).into()
            };
            let prefix = Prefix::around(address, length);

            prop_assert_eq!(prefix.to_string().parse(), Ok(prefix));
            prop_assert!(prefix.contains(address));
        }

        #[test]
        fn covering_is_containing_every_address(a: u32, b: u32, l in 0..=32u8, m in 0..=32u8) {
            let outer = Prefix::around(Ipv4Addr::from(a).into(), l);
            let inner = Prefix::around(Ipv4Addr::from(b).into(), m);
            let last = u32::from(Ipv4Addr::from(b)) | u32::MAX.checked_shr(u32::from(m)).unwrap_or(0);

            let both_ends = outer.contains(inner.address()) && outer.contains(Ipv4Addr::from(last).into());

            prop_assert_eq!(outer.covers(inner), both_ends && l <= m);
        }
    }
}
