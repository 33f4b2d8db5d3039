//! The PROXY protocol, versions 1 and 2: what a balancer says of the client that it speaks for.
//!
//! Asked of configured peers only, and of those always: a peer that may say who a client is must not
//! be able to leave it out. A header is read whole before anything else, is bounded, and is either
//! understood in the one way that the specification gives or ends the connection. What it says of
//! anything but the client's address (extensions, TLS, names) is skipped.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::socket::Socket;

/// Whom a connection is from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Announced {
    /// The peer itself: a health check of the balancer's own, or a client without an address.
    Peer,
    /// The client with this address.
    Client(IpAddr),
}

/// What is known of a header from its first bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Header {
    /// It goes on behind these bytes.
    Unfinished,
    /// It is so many bytes long.
    Complete(usize, Announced),
}

/// The bytes are no PROXY header.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HeaderError {
    /// An address that no client can have, or none at all.
    #[error("a PROXY header names no address of a client")]
    Address,
    /// A version, command or family that is not defined, or not for TCP.
    #[error("a PROXY header of a kind that is not served")]
    Kind,
    /// Over the bound.
    #[error("a PROXY header of more than {HEADER_MAX} bytes")]
    Length,
    /// Anything else than a header.
    #[error("the connection does not begin with a PROXY header")]
    Malformed,
}

/// Why a connection is not served.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Refused {
    #[error(transparent)]
    Header(#[from] HeaderError),
    #[error("the peer left in its PROXY header")]
    Left,
    #[error("the peer cannot be read")]
    Socket(#[from] io::Error),
}

/// The longest header, in bytes. Balancers that pass a client certificate on need about 2,000.
pub const HEADER_MAX: usize = 4_096;

/// The longest header of version 1, with its line end.
const LINE_MAX: usize = 107;

const SIGNATURE: &[u8; 12] = b"\r\n\r\n\0\r\nQUIT\n";
const FIXED: usize = 16;

/// Reads the header of a connection, and not a byte more.
pub(crate) async fn read(socket: &mut Socket) -> Result<Announced, Refused> {
    let mut bytes = [0; HEADER_MAX];
    let mut taken = 0;
    loop {
        let Some(room) = bytes.get_mut(taken..).filter(|room| !room.is_empty()) else {
            return Err(HeaderError::Length.into());
        };
        let seen = socket.peek(room).await?;
        if seen == 0 {
            return Err(Refused::Left);
        }
        let all = taken.saturating_add(seen);
        let (end, announced) = match parse(bytes.get(..all).unwrap_or_default())? {
            Header::Complete(length, announced) => (length, Some(announced)),
            // All of it belongs to the header.
            Header::Unfinished => (all, None),
        };
        socket.take(bytes.get_mut(taken..end).unwrap_or_default()).await?;
        taken = end;
        if let Some(announced) = announced {
            return Ok(announced);
        }
    }
}

/// What the header at the beginning of `bytes` says.
pub fn parse(bytes: &[u8]) -> Result<Header, HeaderError> {
    match bytes.first() {
        None => Ok(Header::Unfinished),
        Some(b'P') => line(bytes),
        Some(_) => binary(bytes),
    }
}

// === version 1 ===

fn line(bytes: &[u8]) -> Result<Header, HeaderError> {
    let begin = b"PROXY ";
    let known = begin.len().min(bytes.len());
    if bytes.get(..known) != begin.get(..known) {
        return Err(HeaderError::Malformed);
    }
    let head = bytes.get(..bytes.len().min(LINE_MAX)).unwrap_or_default();
    let Some(end) = head.iter().position(|byte| *byte == b'\n') else {
        return match bytes.len() < LINE_MAX {
            true => Ok(Header::Unfinished),
            false => Err(HeaderError::Length),
        };
    };
    let line = head.get(begin.len()..end).and_then(|line| line.strip_suffix(b"\r"));
    let line = line.ok_or(HeaderError::Malformed)?;
    // A carriage return that ends nothing would be the end of the line for another reader.
    if line.contains(&b'\r') {
        return Err(HeaderError::Malformed);
    }
    let announced = announced(line)?;
    Ok(Header::Complete(end.saturating_add(1), announced))
}

/// What stands behind `PROXY `.
fn announced(line: &[u8]) -> Result<Announced, HeaderError> {
    if line == b"UNKNOWN" || line.starts_with(b"UNKNOWN ") {
        return Ok(Announced::Peer);
    }
    let text = std::str::from_utf8(line).or(Err(HeaderError::Malformed))?;
    let mut words = text.split(' ');
    let mut word = || words.next().ok_or(HeaderError::Malformed);
    let family = word()?;
    let (source, destination) = (word()?, word()?);
    let ports = [word()?, word()?];
    if word().is_ok() || !ports.into_iter().all(is_port) {
        return Err(HeaderError::Malformed);
    }
    let malformed = Err(HeaderError::Malformed);
    let address = match family {
        "TCP4" => {
            destination.parse::<Ipv4Addr>().map(drop).or(malformed)?;
            source.parse::<Ipv4Addr>().map(IpAddr::V4).or(Err(HeaderError::Malformed))?
        }
        "TCP6" => {
            destination.parse::<Ipv6Addr>().map(drop).or(malformed)?;
            source.parse::<Ipv6Addr>().map(IpAddr::V6).or(Err(HeaderError::Malformed))?
        }
        _ => return Err(HeaderError::Kind),
    };
    client(address)
}

/// Decimal without sign or leading zero.
fn is_port(text: &str) -> bool {
    let plain = text.bytes().all(|byte| byte.is_ascii_digit());
    plain && (text == "0" || !text.starts_with('0')) && text.parse::<u16>().is_ok()
}

// === version 2 ===

fn binary(bytes: &[u8]) -> Result<Header, HeaderError> {
    let known = SIGNATURE.len().min(bytes.len());
    if bytes.get(..known) != SIGNATURE.get(..known) {
        return Err(HeaderError::Malformed);
    }
    let Some((fixed, rest)) = bytes.split_first_chunk::<FIXED>() else {
        return Ok(Header::Unfinished);
    };
    let &[.., version_command, family, high, low] = fixed;
    let length = usize::from(u16::from_be_bytes([high, low]));
    let whole = FIXED.saturating_add(length);
    if whole > HEADER_MAX {
        return Err(HeaderError::Length);
    }
    let is_local = match version_command {
        0x20 => true,
        0x21 => false,
        _ => return Err(HeaderError::Kind),
    };
    let Some(said) = rest.get(..length) else { return Ok(Header::Unfinished) };
    if is_local {
        return Ok(Header::Complete(whole, Announced::Peer));
    }
    // Addresses of source and destination, then their ports; extensions behind them are skipped.
    let announced = match family {
        0x00 => Announced::Peer,
        0x11 => {
            let (source, _) = said.split_first_chunk::<4>().ok_or(HeaderError::Address)?;
            has(said, 12)?;
            client(Ipv4Addr::from(*source).into())?
        }
        0x21 => {
            let (source, _) = said.split_first_chunk::<16>().ok_or(HeaderError::Address)?;
            has(said, 36)?;
            client(Ipv6Addr::from(*source).into())?
        }
        0x31 => {
            has(said, 216)?;
            Announced::Peer
        }
        _ => return Err(HeaderError::Kind),
    };
    Ok(Header::Complete(whole, announced))
}

const fn has(said: &[u8], length: usize) -> Result<(), HeaderError> {
    if said.len() < length { Err(HeaderError::Address) } else { Ok(()) }
}

/// The client, in the one spelling of its address.
fn client(address: IpAddr) -> Result<Announced, HeaderError> {
    let address = address.to_canonical();
    let is_broadcast = matches!(address, IpAddr::V4(v4) if v4.is_broadcast());
    if address.is_unspecified() || address.is_multicast() || is_broadcast {
        return Err(HeaderError::Address);
    }
    Ok(Announced::Client(address))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_line_names_the_client_and_ends_where_it_ends() {
        for (line, announced) in [
            ("PROXY TCP4 203.0.113.7 10.0.0.1 4711 443\r\n", client_at("203.0.113.7")),
            ("PROXY TCP6 2001:db8::7 2001:db8::1 0 65535\r\n", client_at("2001:db8::7")),
            ("PROXY TCP6 ::ffff:203.0.113.7 ::1 1 2\r\n", client_at("203.0.113.7")),
            ("PROXY UNKNOWN\r\n", Announced::Peer),
            ("PROXY UNKNOWN ffff::1 whatever 1 2 3\r\n", Announced::Peer),
        ] {
            let bytes = format!("{line}GET / HTTP/1.1\r\n");

            assert_eq!(parse(bytes.as_bytes()), Ok(Header::Complete(line.len(), announced)));
            for cut in 0..line.len() {
                assert_eq!(parse(&line.as_bytes()[..cut]), Ok(Header::Unfinished), "{line} {cut}");
            }
        }
    }

    #[test]
    fn a_line_that_can_be_read_two_ways_is_refused() {
        for line in [
            "PROXY TCP4 203.0.113.7 10.0.0.1 4711 443\n",
            "PROXY  TCP4 203.0.113.7 10.0.0.1 4711 443\r\n",
            "PROXY TCP4 203.0.113.7  10.0.0.1 4711 443\r\n",
            "PROXY TCP4 203.0.113.7 10.0.0.1 4711 443 \r\n",
            "PROXY TCP4 203.0.113.7 10.0.0.1 4711\r\n",
            "PROXY TCP4 203.0.113.7 10.0.0.1 4711 443 8443\r\n",
            "PROXY TCP4 203.0.113.07 10.0.0.1 4711 443\r\n",
            "PROXY TCP4 0xCB007107 10.0.0.1 4711 443\r\n",
            "PROXY TCP4 203.0.113.7 10.0.0.1 04711 443\r\n",
            "PROXY TCP4 203.0.113.7 10.0.0.1 +4711 443\r\n",
            "PROXY TCP4 203.0.113.7 10.0.0.1 65536 443\r\n",
            "PROXY TCP4 203.0.113.7 10.0.0.1 4711 443\r\r\n",
            "PROXY TCP4 2001:db8::7 2001:db8::1 1 2\r\n",
            "PROXY TCP6 203.0.113.7 10.0.0.1 1 2\r\n",
            "PROXY TCP4 0.0.0.0 10.0.0.1 1 2\r\n",
            "PROXY TCP4 224.0.0.1 10.0.0.1 1 2\r\n",
            "PROXY TCP4 255.255.255.255 10.0.0.1 1 2\r\n",
            "PROXY TCP6 :: ::1 1 2\r\n",
            "PROXY UDP4 203.0.113.7 10.0.0.1 1 2\r\n",
            "PROXY tcp4 203.0.113.7 10.0.0.1 1 2\r\n",
            "PROXY UNKNOWNS\r\n",
            "proxy TCP4 203.0.113.7 10.0.0.1 1 2\r\n",
            "PROXY\r\n",
            "PROXY UNKNOWN\r x\r\n",
            "GET / HTTP/1.1\r\n",
        ] {
            assert!(parse(line.as_bytes()).is_err(), "{line:?}");
        }
        let endless = format!("PROXY UNKNOWN {}", "x".repeat(LINE_MAX));
        assert_eq!(parse(endless.as_bytes()), Err(HeaderError::Length));
    }

    #[test]
    fn a_header_of_version_2_names_the_client_whatever_follows() {
        let v4 = [&[203, 0, 113, 7, 10, 0, 0, 1][..], &[0x12, 0x67, 1, 187]].concat();
        let mapped: Vec<u8> = "::ffff:203.0.113.7".parse::<Ipv6Addr>().unwrap().octets().to_vec();
        let v6 = [&mapped[..], &[1; 20]].concat();
        let extended = [&v4[..], &[0x04, 0, 2, 9, 9]].concat();
        for (command, family, said, announced) in [
            (0x21, 0x11, &v4[..], client_at("203.0.113.7")),
            (0x21, 0x11, &extended, client_at("203.0.113.7")),
            (0x21, 0x21, &v6, client_at("203.0.113.7")),
            (0x21, 0x00, &[], Announced::Peer),
            (0x21, 0x31, &[7; 216], Announced::Peer),
            (0x20, 0x11, &v4, Announced::Peer),
            (0x20, 0x00, &[1, 2, 3], Announced::Peer),
        ] {
            let header = header(command, family, said);
            let bytes = [&header[..], b"\x16\x03\x01"].concat();

            assert_eq!(parse(&bytes), Ok(Header::Complete(header.len(), announced)));
            for cut in 0..header.len() {
                assert_eq!(parse(&header[..cut]), Ok(Header::Unfinished), "{cut}");
            }
        }
    }

    #[test]
    fn what_version_2_does_not_define_is_refused_and_lengths_are_bounded() {
        let v4 = [203, 0, 113, 7, 10, 0, 0, 1, 1, 2, 3, 4];
        for (command, family) in
            [(0x11, 0x11), (0x22, 0x11), (0x31, 0x11), (0x21, 0x12), (0x21, 0x22), (0x21, 0x41)]
        {
            assert_eq!(parse(&header(command, family, &v4)), Err(HeaderError::Kind));
        }
        for family in [0x11, 0x21, 0x31] {
            let cut = header(0x21, family, &v4[..11]);
            assert_eq!(parse(&cut), Err(HeaderError::Address));
        }
        assert_eq!(parse(&header(0x21, 0x11, &[0; 12])), Err(HeaderError::Address));
        // Before a byte of it is waited for.
        let long = header(0x21, 0x11, &[0; HEADER_MAX]);
        assert_eq!(parse(&long[..FIXED]), Err(HeaderError::Length));
    }

    proptest! {
        #[test]
        fn no_bytes_are_read_past_their_end_and_more_of_them_change_no_answer(
            bytes in proptest::collection::vec(any::<u8>(), 0..300),
            signed: bool,
        ) {
            let bytes = if signed { [&SIGNATURE[..], &bytes].concat() } else { bytes };
            for cut in 0..=bytes.len() {
                match parse(&bytes[..cut]) {
                    Ok(Header::Unfinished) => {}
                    other => {
                        prop_assert_eq!(parse(&bytes), other);
                        if let Ok(Header::Complete(length, _)) = other {
                            prop_assert!(length <= cut);
                        }
                        break;
                    }
                }
            }
        }
    }

    fn client_at(address: &str) -> Announced {
        Announced::Client(address.parse().unwrap())
    }

    fn header(command: u8, family: u8, said: &[u8]) -> Vec<u8> {
        let length = u16::try_from(said.len()).unwrap().to_be_bytes();
        [&SIGNATURE[..], &[command, family], &length, said].concat()
    }
}
