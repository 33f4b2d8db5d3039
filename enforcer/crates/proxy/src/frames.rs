//! Where the frames of an HTTP/2 connection begin and end, read along in its raw bytes.
//!
//! Only the nine bytes in front of each frame are looked at (RFC 9113, 4.1), and the four of a
//! `WINDOW_UPDATE`; what they mean is the business of `h2`. If this reading and that one ever disagreed,
//! `h2` would have refused the connection first.

/// Reads along on one direction of one connection.
#[derive(Debug)]
pub(crate) struct Frames {
    /// Of the client's preface, still to come.
    preface: u8,
    header: [u8; HEADER],
    length: usize,
    /// Bytes of the payload to come.
    left: usize,
    current: Option<Frame>,
}

/// What stands in front of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Frame {
    pub(crate) kind: Kind,
    pub(crate) flags: u8,
    pub(crate) length: usize,
    pub(crate) stream: u32,
    /// Of a `WINDOW_UPDATE`.
    pub(crate) increment: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Data,
    Headers,
    Priority,
    Reset,
    Settings,
    Push,
    Ping,
    GoAway,
    WindowUpdate,
    Continuation,
    Other,
}

/// `END_STREAM`, and ACK of SETTINGS and PING.
pub(crate) const FLAG_END_STREAM: u8 = 0x1;
pub(crate) const FLAG_ACK: u8 = 0x1;
pub(crate) const FLAG_END_HEADERS: u8 = 0x4;

const PREFACE: u8 = 24;
const HEADER: usize = 9;

impl Frames {
    /// What a client sends, from the first byte on.
    pub(crate) const fn of_client() -> Self {
        Self { preface: PREFACE, ..Self::of_server() }
    }

    /// What we send.
    pub(crate) const fn of_server() -> Self {
        Self { preface: 0, header: [0; HEADER], length: 0, left: 0, current: None }
    }

    /// Whether nothing of a frame is still to come.
    pub(crate) const fn is_between(&self) -> bool {
        self.preface == 0 && self.length == 0 && self.current.is_none()
    }

    /// Whether a client's head has begun and its last frame is not complete.
    pub(crate) fn is_in_head(&self) -> bool {
        let head = |frame: &Frame| matches!(frame.kind, Kind::Headers | Kind::Continuation);
        self.current.as_ref().is_some_and(head)
    }

    /// Reads `bytes` and shows each frame as soon as its header is there, or with its increment.
    pub(crate) fn read(&mut self, mut bytes: &[u8], mut show: impl FnMut(Frame)) {
        let preface = bytes.len().min(usize::from(self.preface));
        self.preface -= u8::try_from(preface).unwrap_or(self.preface);
        bytes = bytes.get(preface..).unwrap_or_default();
        while !bytes.is_empty() {
            match &mut self.current {
                None => {
                    bytes = self.read_header(bytes);
                    if let Some(frame) = self.current
                        && (frame.kind != Kind::WindowUpdate || frame.length != 4)
                    {
                        show(frame);
                        self.end_if_complete();
                    }
                }
                Some(frame) => {
                    let here = bytes.len().min(self.left);
                    let (payload, rest) = bytes.split_at(here);
                    if frame.kind == Kind::WindowUpdate && frame.length == 4 {
                        for byte in payload {
                            frame.increment = frame.increment << 8 | u32::from(*byte);
                        }
                        if here == self.left {
                            frame.increment &= STREAM_MASK;
                            show(*frame);
                        }
                    }
                    self.left -= here;
                    self.end_if_complete();
                    bytes = rest;
                }
            }
        }
    }

    fn end_if_complete(&mut self) {
        if self.left == 0 {
            self.current = None;
        }
    }

    fn read_header<'a>(&mut self, bytes: &'a [u8]) -> &'a [u8] {
        let missing = HEADER - self.length;
        let here = bytes.len().min(missing);
        let (part, rest) = bytes.split_at(here);
        for (place, byte) in self.header.iter_mut().skip(self.length).zip(part) {
            *place = *byte;
        }
        self.length += here;
        if self.length == HEADER {
            let frame = Frame::of(self.header);
            self.length = 0;
            self.left = frame.length;
            self.current = Some(frame);
        }
        rest
    }
}

const STREAM_MASK: u32 = 0x7FFF_FFFF;

impl Frame {
    fn of([a, b, c, kind, flags, d, e, f, g]: [u8; HEADER]) -> Self {
        let length = u32::from_be_bytes([0, a, b, c]);
        Self {
            kind: Kind::of(kind),
            flags,
            length: usize::try_from(length).unwrap_or(usize::MAX),
            stream: u32::from_be_bytes([d, e, f, g]) & STREAM_MASK,
            increment: 0,
        }
    }

    pub(crate) const fn has(&self, flag: u8) -> bool {
        self.flags & flag != 0
    }
}

impl Kind {
    const fn of(number: u8) -> Self {
        match number {
            0 => Self::Data,
            1 => Self::Headers,
            2 => Self::Priority,
            3 => Self::Reset,
            4 => Self::Settings,
            5 => Self::Push,
            6 => Self::Ping,
            7 => Self::GoAway,
            8 => Self::WindowUpdate,
            9 => Self::Continuation,
            _ => Self::Other,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_preface_is_passed_over_and_a_window_update_shows_what_it_adds() {
        let mut bytes = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
        bytes.extend(frame(4, 0, 0, b""));
        bytes.extend(frame(8, 0, 3, &[0x80, 0, 1, 2]));
        let mut seen = Vec::new();
        let mut frames = Frames::of_client();

        for byte in bytes {
            frames.read(&[byte], |frame| seen.push((frame.kind, frame.stream, frame.increment)));
        }

        assert_eq!(seen, [(Kind::Settings, 0, 0), (Kind::WindowUpdate, 3, 258)]);
        assert!(frames.is_between());
    }

    #[test]
    fn a_head_is_under_way_until_its_frame_is_complete() {
        let mut frames = Frames::of_server();
        let head = frame(1, FLAG_END_HEADERS, 1, b"abc");

        frames.read(&head[..10], |_| {});
        assert!(frames.is_in_head());
        frames.read(&head[10..], |_| {});
        assert!(!frames.is_in_head());
    }

    proptest! {
        #[test]
        fn every_frame_is_shown_once_however_the_bytes_are_cut(
            lengths in proptest::collection::vec((0..12u8, 0..300usize), 1..20),
            cuts in proptest::collection::vec(1..40usize, 1..20),
        ) {
            let stream: Vec<u8> =
                lengths.iter().flat_map(|(kind, length)| frame(*kind, 0, 1, &vec![7; *length])).collect();
            let mut seen = Vec::new();
            let mut frames = Frames::of_server();

            let mut rest = &stream[..];
            for cut in cuts.iter().cycle() {
                let (part, behind) = rest.split_at((*cut).min(rest.len()));
                frames.read(part, |frame| seen.push((frame.kind, frame.length)));
                rest = behind;
                if rest.is_empty() {
                    break;
                }
            }

            let sent: Vec<_> = lengths.iter().map(|(kind, length)| (Kind::of(*kind), *length)).collect();
            prop_assert_eq!(seen, sent);
            prop_assert!(frames.is_between());
        }
    }

    fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
        let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
        let mut frame = length[1..].to_vec();
        frame.extend([kind, flags]);
        frame.extend(stream.to_be_bytes());
        frame.extend(payload);
        frame
    }
}
