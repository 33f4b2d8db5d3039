//! A database of countries for the `[region]` of a policy, in the format `MaxMind` DB 2.0.
//!
//! A search tree of the bits of an address, whose leaves lead to a map with the code of a country; only
//! IPv4, records of 24 bits.

use std::net::Ipv4Addr;

use anyhow::{Context, Result, ensure};

/// What stands between the tree and the data.
const GAP: [u8; 16] = [0; 16];

/// What the data ends and the description begins with.
const MARK: &[u8] = b"\xab\xcd\xefMaxMind.com";

/// A side of a node: nothing, another node, or where the data of a network begins.
#[derive(Clone, Copy)]
enum Side {
    Nothing,
    Node(usize),
    Data(usize),
}

/// The file that knows these networks, such as `10.77.1.0/24`, none inside another, and their countries.
pub fn countries(networks: &[(&str, &str)]) -> Result<Vec<u8>> {
    let (mut nodes, mut data) = (vec![[Side::Nothing; 2]], Vec::new());
    for (network, country) in networks {
        let (address, length) = network.split_once('/').context("a network has a length")?;
        let (bits, length) = (u32::from(address.parse::<Ipv4Addr>()?), length.parse::<u32>()?);
        ensure!((1..=32).contains(&length), "{network}: its length is not that of a network");
        let mut node = 0;
        for depth in 0..length {
            let last = depth + 1 == length;
            let bit = usize::try_from(bits >> (31 - depth) & 1)?;
            let fresh = nodes.len();
            let side = nodes.get_mut(node).and_then(|sides| sides.get_mut(bit));
            let side = side.context("the tree has lost a node")?;
            node = match (*side, last) {
                (Side::Nothing, true) => {
                    *side = Side::Data(data.len());
                    break;
                }
                (Side::Nothing, false) => {
                    *side = Side::Node(fresh);
                    nodes.push([Side::Nothing; 2]);
                    fresh
                }
                (Side::Node(next), false) => next,
                (Side::Node(_), true) | (Side::Data(_), _) => {
                    anyhow::bail!("{network}: another network contains it, or is inside it")
                }
            };
        }
        data.extend(map(&[("country", map(&[("iso_code", text(country)?)])?)])?);
    }
    let count = nodes.len();
    let mut file = Vec::new();
    for side in nodes.into_iter().flatten() {
        let record = match side {
            Side::Nothing => count,
            Side::Node(node) => node,
            Side::Data(at) => count + GAP.len() + at,
        };
        let [_, bytes @ ..] = u32::try_from(record)?.to_be_bytes();
        file.extend(bytes);
    }
    file.extend(GAP);
    file.extend(data);
    file.extend(MARK);
    file.extend(map(&[
        ("binary_format_major_version", short(2)),
        ("binary_format_minor_version", short(0)),
        ("build_epoch", [&[4, 9 - 7][..], &1_700_000_000_u32.to_be_bytes()].concat()),
        ("database_type", text("Lab-Country")?),
        ("description", map(&[("en", text("a lab")?)])?),
        ("ip_version", short(4)),
        ("languages", vec![0, 11 - 7]),
        ("node_count", [&[6 << 5 | 4][..], &u32::try_from(count)?.to_be_bytes()].concat()),
        ("record_size", short(24)),
    ])?);
    Ok(file)
}

fn text(text: &str) -> Result<Vec<u8>> {
    ensure!(text.len() < 29, "`{text}` is too long for one byte of length");
    Ok([&[2 << 5 | u8::try_from(text.len())?][..], text.as_bytes()].concat())
}

fn map(pairs: &[(&str, Vec<u8>)]) -> Result<Vec<u8>> {
    let mut bytes = vec![7 << 5 | u8::try_from(pairs.len())?];
    for (name, value) in pairs {
        bytes.extend(text(name)?);
        bytes.extend(value);
    }
    Ok(bytes)
}

fn short(number: u16) -> Vec<u8> {
    [&[5 << 5 | 2][..], &number.to_be_bytes()].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn networks_that_overlap_are_refused_and_others_share_what_they_have_in_common() {
        let one = countries(&[("10.77.1.0/24", "DE")]).unwrap();
        let two = countries(&[("10.77.1.0/24", "DE"), ("10.77.2.0/24", "FR")]).unwrap();

        // 10.77.1.0 and 10.77.2.0 have 22 bits in common.
        assert!(two.len() - one.len() < 60, "{} and {}", one.len(), two.len());
        assert!(countries(&[("10.0.0.0/8", "DE"), ("10.1.0.0/16", "FR")]).is_err());
        assert!(countries(&[("10.0.0.0/0", "DE")]).is_err());
    }
}
