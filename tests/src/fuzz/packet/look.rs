//! A frame seen by a reader in a hurry, who shares no line with the one that he checks.

/// What is there to be seen in a frame, by a reader in a hurry: both ends, and what is behind them.
pub(super) enum Seen {
    V4([[u8; 4]; 2], Facts),
    V6([[u8; 16]; 2], Facts),
    Other,
    Unreadable,
}

#[derive(Clone, Copy)]
pub(super) struct Facts {
    pub(super) essential: bool,
    pub(super) resets: bool,
}

pub(super) fn look(frame: &[u8]) -> Seen {
    let (Some(mut rest), mut tags) = (frame.get(12..), 0) else { return Seen::Unreadable };
    loop {
        let Some((kind, behind)) = rest.split_first_chunk() else { return Seen::Unreadable };
        match u16::from_be_bytes(*kind) {
            0x8100 | 0x88A8 | 0x9100 if tags < 2 => {
                tags += 1;
                rest = behind.get(2..).unwrap_or_default();
            }
            0x8100 | 0x88A8 | 0x9100 => return Seen::Unreadable,
            0x0800 => return look_v4(behind).unwrap_or(Seen::Unreadable),
            0x86DD => return look_v6(behind).unwrap_or(Seen::Unreadable),
            _ => return Seen::Other,
        }
    }
}

fn look_v4(packet: &[u8]) -> Option<Seen> {
    let header: &[u8; 20] = packet.first_chunk()?;
    let [first, _, long, short, _, _, high, low, _, protocol, ..] = *header;
    let [.., a, b, c, d, e, f, g, h] = *header;
    if !(0x45..=0x4F).contains(&first) {
        return None;
    }
    let fragment = u16::from_be_bytes([high, low]) & 0x3FFF;
    let bytes = usize::from(first & 0x0F) * 4;
    let payload = packet.get(bytes..).unwrap_or_default();
    let essential = match (protocol, payload) {
        (1, [3, 4, _, _, ..]) => true,
        (17, [0, from, 0, to, ..]) => [*from, *to].iter().all(|port| matches!(port, 67 | 68)),
        _ => false,
    };
    // Of a first fragment the flags may be in the second.
    let end = usize::from(u16::from_be_bytes([long, short]));
    let is_there = fragment == 0 || fragment == 0x2000 && end >= bytes + 14;
    let resets = protocol == 6 && is_there && payload.get(13).is_some_and(|it| it & 4 != 0);
    let facts = Facts { essential: fragment == 0 && essential, resets };
    Some(Seen::V4([[a, b, c, d], [e, f, g, h]], facts))
}

fn look_v6(packet: &[u8]) -> Option<Seen> {
    let (header, mut rest) = packet.split_at_checked(40)?;
    let from_here = header.get(7) == Some(&255);
    let ends = [header.get(8..24)?.try_into().ok()?, header.get(24..40)?.try_into().ok()?];
    if header.first()? >> 4 != 6 {
        return None;
    }
    let mut end = usize::from(u16::from_be_bytes(header.get(4..6)?.try_into().ok()?));
    let mut protocol = *header.get(6)?;
    let (mut is_fragment, mut is_first) = (false, true);
    for _ in 0..6 {
        let bytes = match (protocol, rest) {
            (0 | 43 | 60, [_, eights, _, _, ..]) => 8 * (usize::from(*eights) + 1),
            (44, [_, _, high, low, ..]) => {
                is_first &= !is_fragment && u16::from_be_bytes([*high, *low]) < 8;
                is_fragment = true;
                8
            }
            _ => break,
        };
        protocol = *rest.first()?;
        rest = rest.get(bytes..).unwrap_or_default();
        end = end.saturating_sub(bytes);
    }
    let essential = match (protocol, rest) {
        (58, [2, _, _, _, ..]) => true,
        (58, [133..=137, _, _, _, ..]) => from_here,
        (17, [2, from, 2, to, ..]) => [*from, *to].iter().all(|port| matches!(port, 34 | 35)),
        _ => false,
    };
    let is_there = !is_fragment || is_first && end >= 14;
    let resets = protocol == 6 && is_there && rest.get(13).is_some_and(|it| it & 4 != 0);
    Some(Seen::V6(ends, Facts { essential: essential && !is_fragment, resets }))
}
