//! Which addresses may be talked to, so that a receiver's URL leads into nobody's own network.
//!
//! A name is looked up first, each address that it leads to is judged, and the connection goes to an
//! address that was judged: nobody can answer one thing when asked and another when connected to.
//! What is not on the public internet is refused, in every notation of IPv6 that leads to it, unless
//! the policy allows it by network or by the host's name.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use enforcer_model::Prefix;

/// Why an address may not be talked to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Forbidden {
    /// `100.64.0.0/10`: behind somebody's carrier.
    CarrierGrade,
    /// `169.254.0.0/16`, `fe80::/10`: this link, where clouds put their metadata.
    LinkLocal,
    /// This machine.
    Loopback,
    /// Many at once.
    Multicast,
    /// `10.0.0.0/8`, `172.16.0.0/12`, `192.168.0.0/16`, `fc00::/7`: a network of one's own.
    Private,
    /// Set aside for documents, tests, tunnels or the future.
    Reserved,
    /// No address at all.
    Unspecified,
}

/// What is allowed though it is not public.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Permits {
    networks: Vec<Prefix>,
    names: Vec<Box<str>>,
}

/// The text is neither a network nor the name of a host.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is neither a network such as `10.0.0.7/32` nor the name of a host")]
pub struct PermitError(String);

impl Permits {
    /// Allows one more network, or what the host of this name leads to.
    pub fn allow(&mut self, text: &str) -> Result<(), PermitError> {
        if let Ok(network) = text.parse() {
            self.networks.push(network);
            return Ok(());
        }
        let inside = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_');
        let is_name = !text.is_empty()
            && text.len() <= 253
            && text.bytes().all(inside)
            // What ends in a number would be read as an address.
            && !text.rsplit('.').next().is_some_and(|last| last.bytes().all(|b| b.is_ascii_digit()));
        if !is_name {
            return Err(PermitError(text.to_owned()));
        }
        self.names.push(folded(text));
        Ok(())
    }

    /// Whether nothing is allowed beyond the public internet.
    pub const fn is_empty(&self) -> bool {
        self.networks.is_empty() && self.names.is_empty()
    }

    /// Whether `address`, which `host` leads to, may be talked to.
    ///
    /// A name allows the networks of one's own and this machine; what is on the link, metadata
    /// services among it, has to be allowed by its network, and to many at once nobody talks.
    pub fn judge(&self, host: &str, address: IpAddr) -> Result<(), Forbidden> {
        let Some(why) = forbidden(address) else { return Ok(()) };
        match why {
            Forbidden::Multicast | Forbidden::Unspecified => Err(why),
            _ if self.networks.iter().any(|network| network.contains(address)) => Ok(()),
            Forbidden::Loopback | Forbidden::Private | Forbidden::CarrierGrade
                if self.names.contains(&folded(host)) =>
            {
                Ok(())
            }
            Forbidden::CarrierGrade
            | Forbidden::LinkLocal
            | Forbidden::Loopback
            | Forbidden::Private
            | Forbidden::Reserved => Err(why),
        }
    }

    /// Whether `address` may be talked to without TLS: only what is not public, and allowed.
    pub fn judge_clear(&self, host: &str, address: IpAddr) -> Result<(), Clear> {
        match forbidden(address) {
            Some(_) => self.judge(host, address).map_err(Clear::Forbidden),
            None => Err(Clear::Public),
        }
    }
}

/// Why an address may not be talked to without TLS.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Clear {
    /// It may not be talked to at all.
    Forbidden(Forbidden),
    /// Everybody on the way could read along.
    Public,
}

fn folded(host: &str) -> Box<str> {
    host.strip_suffix('.').unwrap_or(host).to_ascii_lowercase().into()
}

/// Why `address` is not one on the public internet; none where it is.
fn forbidden(address: IpAddr) -> Option<Forbidden> {
    match address.to_canonical() {
        IpAddr::V4(v4) => forbidden_v4(v4),
        IpAddr::V6(v6) => forbidden_v6(v6),
    }
}

fn forbidden_v4(address: Ipv4Addr) -> Option<Forbidden> {
    let why = match address.octets() {
        [0, ..] => Forbidden::Unspecified,
        [10, ..] | [172, 16..=31, ..] | [192, 168, ..] => Forbidden::Private,
        [127, ..] => Forbidden::Loopback,
        [169, 254, ..] => Forbidden::LinkLocal,
        [100, 64..=127, ..] => Forbidden::CarrierGrade,
        [192, 0, 0 | 2, _] | [192, 88, 99, _] | [198, 18 | 19, ..] => Forbidden::Reserved,
        [198, 51, 100, _] | [203, 0, 113, _] => Forbidden::Reserved,
        [224..=239, ..] | [255, 255, 255, 255] => Forbidden::Multicast,
        [240..=255, ..] => Forbidden::Reserved,
        _ => return None,
    };
    Some(why)
}

fn forbidden_v6(address: Ipv6Addr) -> Option<Forbidden> {
    let [a, b, c, d, e, f, high, low] = address.segments();
    let embedded = |high: u16, low: u16| {
        let [[a, b], [c, d]] = [high.to_be_bytes(), low.to_be_bytes()];
        forbidden_v4(Ipv4Addr::new(a, b, c, d))
    };
    match [a, b, c, d, e, f] {
        [0, 0, 0, 0, 0, 0] if (high, low) == (0, 0) => Some(Forbidden::Unspecified),
        [0, 0, 0, 0, 0, 0] if (high, low) == (0, 1) => Some(Forbidden::Loopback),
        // IPv4-compatible, translated (SIIT): never on the wire, and some stacks follow them.
        [0, 0, 0, 0, 0, 0] | [0, 0, 0, 0, 0xffff, 0] => Some(Forbidden::Reserved),
        // NAT64 leads to the IPv4 address at its end (RFC 6052); the local prefix (RFC 8215) may
        // lead anywhere inside.
        [0x64, 0xff9b, 0, 0, 0, 0] => embedded(high, low),
        [0x64, 0xff9b, 1, ..] => Some(Forbidden::Private),
        // 6to4 leads to the IPv4 address in it.
        [0x2002, high, low, ..] => embedded(high, low),
        [0x100, 0, 0, 0, ..] | [0x2001, 0..=0x01ff, ..] | [0x2001, 0xdb8, ..] => {
            Some(Forbidden::Reserved)
        }
        [0x3fff, 0..=0x0fff, ..] => Some(Forbidden::Reserved),
        [0x5f00, ..] => Some(Forbidden::Reserved),
        [0xfc00..=0xfdff, ..] => Some(Forbidden::Private),
        [0xfe80..=0xfebf, ..] => Some(Forbidden::LinkLocal),
        [0xfec0..=0xfeff, ..] => Some(Forbidden::Private),
        [0xff00..=0xffff, ..] => Some(Forbidden::Multicast),
        // What is not given out (2000::/3) is nobody's.
        [0x2000..=0x3fff, ..] => None,
        _ => Some(Forbidden::Reserved),
    }
}

impl fmt::Display for Forbidden {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::CarrierGrade => "a carrier's own network",
            Self::LinkLocal => "on the local link, where metadata services are",
            Self::Loopback => "this machine",
            Self::Multicast => "not one host",
            Self::Private => "a private network",
            Self::Reserved => "not on the public internet",
            Self::Unspecified => "no address",
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn permits(allowed: &[&str]) -> Permits {
        let mut permits = Permits::default();
        allowed.iter().for_each(|one| permits.allow(one).unwrap());
        permits
    }

    #[test]
    fn nothing_but_the_public_internet_is_talked_to_in_any_notation() {
        for address in [
            "0.0.0.0",
            "0.1.2.3",
            "10.0.0.7",
            "100.64.0.1",
            "100.100.100.200",
            "127.0.0.1",
            "127.8.8.8",
            "169.254.169.254",
            "172.16.0.1",
            "172.31.255.255",
            "192.0.0.192",
            "192.0.2.1",
            "192.168.1.1",
            "198.18.0.1",
            "224.0.0.1",
            "239.255.255.255",
            "240.0.0.1",
            "255.255.255.255",
            "::",
            "::1",
            "::127.0.0.1",
            "::ffff:127.0.0.1",
            "::ffff:10.0.0.7",
            "::ffff:169.254.169.254",
            "::ffff:0:7f00:1",
            "64:ff9b::7f00:1",
            "64:ff9b::a9fe:a9fe",
            "64:ff9b::a00:7",
            "64:ff9b:1::a00:7",
            "2002:7f00:1::",
            "2002:a9fe:a9fe::1",
            "2001::1",
            "2001:db8::1",
            "3fff::1",
            "5f00::1",
            "fc00::1",
            "fd00:ec2::254",
            "fe80::1",
            "febf::1",
            "fec0::1",
            "ff02::1",
            "100::1",
            "4000::1",
        ] {
            let address: IpAddr = address.parse().unwrap();
            assert!(permits(&[]).judge("host.example", address).is_err(), "{address}");
        }
        for address in [
            "1.1.1.1",
            "100.63.0.1",
            "100.128.0.1",
            "172.32.0.1",
            "193.0.0.1",
            "2606:4700::1111",
            "2a00:1450:4001::1",
            "64:ff9b::101:101",
            "2002:101:101::1",
            "3ffe::1",
        ] {
            let address: IpAddr = address.parse().unwrap();
            assert_eq!(permits(&[]).judge("host.example", address), Ok(()), "{address}");
        }
    }

    #[test]
    fn a_network_or_a_name_allows_what_it_names_and_no_more() {
        let by_network = permits(&["10.0.0.7/32", "169.254.10.0/24"]);
        let judge = |permits: &Permits, host: &str, address: &str| {
            permits.judge(host, address.parse().unwrap()).is_ok()
        };
        assert!(judge(&by_network, "any", "10.0.0.7"));
        assert!(judge(&by_network, "any", "::ffff:10.0.0.7"));
        assert!(judge(&by_network, "any", "169.254.10.3"));
        assert!(!judge(&by_network, "any", "10.0.0.8"));
        assert!(!judge(&by_network, "any", "64:ff9b::a00:7"));
        let by_name = permits(&["Alerts.internal"]);
        assert!(judge(&by_name, "alerts.internal", "10.0.0.7"));
        assert!(judge(&by_name, "ALERTS.internal.", "127.0.0.1"));
        assert!(!judge(&by_name, "alerts.internal", "169.254.169.254"));
        assert!(!judge(&by_name, "alerts.internal", "224.0.0.1"));
        assert!(!judge(&by_name, "other.internal", "10.0.0.7"));
        assert!(!judge(&permits(&["224.0.0.0/4"]), "any", "224.0.0.1"));
        for wrong in ["", "10.0.0.7/8", "10.0.0.300", "a b", "https://x", "*.internal"] {
            assert!(Permits::default().allow(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn in_the_clear_only_what_is_allowed_and_not_public_is_talked_to() {
        let permits = permits(&["10.0.0.0/8", "name.internal"]);
        let judge = |address: &str| permits.judge_clear("name.internal", address.parse().unwrap());
        assert_eq!(judge("10.0.0.7"), Ok(()));
        assert_eq!(judge("127.0.0.1"), Ok(()));
        assert_eq!(judge("1.1.1.1"), Err(Clear::Public));
        assert_eq!(judge("169.254.169.254"), Err(Clear::Forbidden(Forbidden::LinkLocal)));
    }

    proptest! {
        #[test]
        fn an_ipv4_address_is_judged_alike_however_it_is_wrapped(bits: u32) {
            let v4 = Ipv4Addr::from_bits(bits);
            let [a, b, c, d] = v4.octets();
            let pair = |a, b| u16::from_be_bytes([a, b]);
            let nat64 = Ipv6Addr::new(0x64, 0xff9b, 0, 0, 0, 0, pair(a, b), pair(c, d));
            let plain = Permits::default().judge("h", v4.into());

            prop_assert_eq!(Permits::default().judge("h", v4.to_ipv6_mapped().into()), plain);
            prop_assert_eq!(Permits::default().judge("h", nat64.into()), plain);
            if v4.is_private() || v4.is_loopback() || v4.is_link_local() {
                prop_assert!(plain.is_err());
            }
        }
    }
}
