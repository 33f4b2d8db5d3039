//! What hyper repairs, or takes for one thing where others take it for another.
//!
//! Of a head with Transfer-Encoding and Content-Length hyper removes the latter, and of two equal
//! Content-Lengths it removes one; both are legal (RFC 9112, 6.3) and both are how requests are
//! smuggled past somebody who reads them the other way. It also takes lines that end in a bare LF,
//! empty lines before a request, a fragment behind the target, spaces behind the size of a chunk, and
//! anything for a chunk's extension. [`Framing`] reads along in the raw bytes of a connection and says
//! how many of them are sound: the rest never gets to hyper ([`crate::wire`]).

use enforcer_inspect::{FIELDS_MAX, FramingError, HeaderError, Path, PathError};
use enforcer_model::{Reason, Rejection};
use memchr::memchr;

use crate::chunk;

/// Reads along on one HTTP/1 connection.
#[derive(Debug, Default)]
pub(crate) struct Framing {
    at: At,
    /// The part of a line that has arrived.
    line: Vec<u8>,
    head: HeadSoFar,
    trailers: TrailersSoFar,
    fault: Option<Fault>,
    /// Whether the fault is in a body, whose request hears of it.
    in_body: bool,
}

/// Why the bytes of a client are not read any further.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// A line ends in LF without CR.
    BareLineFeed,
    /// What stands where a chunk begins or ends is not plainly one.
    Chunk,
    /// Another transfer coding than one `chunked`.
    Codings,
    /// More than one empty line before a request.
    EmptyLines,
    /// The target has a fragment, which some cut off and others forward.
    Fragment,
    /// More fields than a request may have.
    Fields,
    /// The head is longer than it may be.
    Head,
    /// More than one Content-Length, or one that is not a number.
    Lengths,
    /// The preface of HTTP/2, which is spoken over TLS alone.
    Preface,
    /// The first line is longer than a target may be.
    Target,
    /// A line behind the last chunk is not a field, or there are too many.
    Trailers,
    TwoFramings,
}

/// Bytes of a head that can be read in two ways, in words.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
enum Ambiguous {
    #[error("a line of the head ends in a bare line feed")]
    BareLineFeed,
    #[error("a chunk of the body is not plainly framed")]
    Chunk,
    #[error("more than one empty line stands before the request")]
    EmptyLines,
    #[error("the target has a fragment")]
    Fragment,
    #[error("HTTP/2 in clear text is not spoken here")]
    Preface,
    #[error("what stands behind the last chunk is not a plain list of fields")]
    Trailers,
}

/// Where in the stream of requests the next byte stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum At {
    /// Before the first byte of a head.
    #[default]
    Between,
    Head,
    /// In a body, or the data and line end of a chunk, with this many bytes to go.
    Bytes {
        left: u64,
        then: Then,
    },
    ChunkSize,
    Trailers,
    /// A fault was found: nobody will read what follows.
    Blind,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Then {
    ChunkSize,
    Head,
}

#[derive(Debug, Default)]
struct HeadSoFar {
    started: bool,
    empty_lines: bool,
    bytes: usize,
    fields: usize,
    chunked: bool,
    length: Option<u64>,
}

#[derive(Debug, Default)]
struct TrailersSoFar {
    bytes: usize,
    fields: usize,
}

/// The longest line of a request: a path and a query of the greatest length, and the words around.
const TARGET_LINE_MAX: usize = 2 * Path::MAX + 512;
/// The longest head, with some room above what is refused once it was understood.
pub(crate) const HEAD_BYTES_MAX: usize = 48 * 1024;
/// The longest line with the size of a chunk.
const CHUNK_LINE_MAX: usize = 4 * 1024;
/// What may stand behind the last chunk.
const TRAILER_BYTES_MAX: usize = 8 * 1024;

impl Framing {
    /// Reads `bytes`, which hyper is about to read; how many of them it may. Where it is not all, a
    /// fault was found.
    pub(crate) fn read(&mut self, bytes: &[u8]) -> usize {
        let mut rest = bytes;
        while !rest.is_empty() {
            let left = rest.len();
            rest = match self.at {
                At::Blind => return bytes.len() - left,
                At::Bytes { left, then } => self.skip(rest, left, then),
                At::Between | At::Head | At::ChunkSize | At::Trailers => self.read_line(rest),
            };
            if self.fault.is_some() {
                return bytes.len() - left;
            }
        }
        bytes.len()
    }

    /// Whether a head has begun to arrive and is not complete.
    pub(crate) const fn in_head(&self) -> bool {
        matches!(self.at, At::Head)
    }

    /// What was wrong.
    pub(crate) const fn fault(&self) -> Option<Fault> {
        self.fault
    }

    /// What was wrong with a head, of which nobody else has heard.
    pub(crate) fn fault_in_head(&self) -> Option<Fault> {
        self.fault.filter(|_| !self.in_body)
    }

    fn skip<'a>(&mut self, bytes: &'a [u8], left: u64, then: Then) -> &'a [u8] {
        let here = u64::try_from(bytes.len()).unwrap_or(u64::MAX).min(left);
        self.at = match (left - here, then) {
            (0, Then::ChunkSize) => At::ChunkSize,
            (0, Then::Head) => At::Between,
            (left, then) => At::Bytes { left, then },
        };
        usize::try_from(here).ok().and_then(|here| bytes.get(here..)).unwrap_or_default()
    }

    fn read_line<'a>(&mut self, bytes: &'a [u8]) -> &'a [u8] {
        if self.at == At::Between {
            self.at = At::Head;
        }
        let Some(end) = memchr(b'\n', bytes) else {
            self.line.extend_from_slice(bytes);
            self.bound(self.line.len());
            return &[];
        };
        let (part, rest) = bytes.split_at(end);
        let rest = rest.split_first().map_or(&[][..], |(_line_feed, rest)| rest);
        if self.line.is_empty() {
            self.take_line(part);
        } else {
            let mut line = std::mem::take(&mut self.line);
            line.extend_from_slice(part);
            self.take_line(&line);
            // Its room is used for the next line that comes in parts, while this head lasts.
            if self.at == At::Head {
                line.clear();
                self.line = line;
            }
        }
        rest
    }

    /// Takes one line without its LF.
    fn take_line(&mut self, line: &[u8]) {
        self.bound(line.len());
        if self.fault.is_some() {
            return;
        }
        let Some(line) = line.strip_suffix(b"\r") else {
            return self.fail(Fault::BareLineFeed);
        };
        match self.at {
            At::Head => self.take_head_line(line),
            At::ChunkSize => self.take_chunk_size(line),
            At::Trailers => self.take_trailer(line),
            At::Between | At::Bytes { .. } | At::Blind => {}
        }
    }

    /// Refuses what is longer than it may be, before the rest of it has come.
    fn bound(&mut self, line: usize) {
        match self.at {
            At::Head if !self.head.started && line > TARGET_LINE_MAX => self.fail(Fault::Target),
            At::Head if self.head.bytes + line > HEAD_BYTES_MAX => self.fail(Fault::Head),
            At::ChunkSize if line > CHUNK_LINE_MAX => self.fail(Fault::Chunk),
            At::Trailers if self.trailers.bytes + line > TRAILER_BYTES_MAX => {
                self.fail(Fault::Trailers);
            }
            At::Head
            | At::ChunkSize
            | At::Trailers
            | At::Between
            | At::Bytes { .. }
            | At::Blind => {}
        }
    }

    fn take_head_line(&mut self, line: &[u8]) {
        let head = &mut self.head;
        head.bytes += line.len() + 2;
        match (head.started, line.is_empty()) {
            // One is skipped by everybody (RFC 9112, 2.2); a client that sends them for ever would
            // never begin.
            (false, true) if !head.empty_lines => {
                head.empty_lines = true;
                self.at = At::Between;
            }
            (false, true) => self.fail(Fault::EmptyLines),
            (false, false) => {
                head.started = true;
                if line.starts_with(b"PRI * HTTP/2") {
                    self.fail(Fault::Preface);
                } else if memchr(b'#', line).is_some() {
                    self.fail(Fault::Fragment);
                }
            }
            (true, false) => {
                head.fields += 1;
                if head.fields > FIELDS_MAX {
                    self.fail(Fault::Fields);
                } else if let Some(fault) = head.take_field(line) {
                    self.fail(fault);
                }
            }
            (true, true) => self.end_head(),
        }
    }

    fn end_head(&mut self) {
        let head = std::mem::take(&mut self.head);
        if head.chunked && head.length.is_some() {
            self.fail(Fault::TwoFramings);
        } else if head.chunked {
            self.at = At::ChunkSize;
        } else {
            self.at = match head.length {
                Some(left @ 1..) => At::Bytes { left, then: Then::Head },
                Some(0) | None => At::Between,
            };
        }
    }

    fn take_chunk_size(&mut self, line: &[u8]) {
        match chunk::size(line) {
            Some(0) => {
                self.trailers = TrailersSoFar::default();
                self.at = At::Trailers;
            }
            // The data, and the CR LF behind it.
            Some(size) => {
                self.at = At::Bytes { left: size.saturating_add(2), then: Then::ChunkSize };
            }
            None => self.fail(Fault::Chunk),
        }
    }

    fn take_trailer(&mut self, line: &[u8]) {
        if line.is_empty() {
            self.at = At::Between;
            return;
        }
        self.trailers.bytes += line.len() + 2;
        self.trailers.fields += 1;
        if self.trailers.fields > FIELDS_MAX || !chunk::is_field(line) {
            self.fail(Fault::Trailers);
        }
    }

    fn fail(&mut self, fault: Fault) {
        self.fault = Some(fault);
        self.in_body = matches!(self.at, At::ChunkSize | At::Trailers);
        self.at = At::Blind;
        self.line = Vec::new();
    }
}

impl HeadSoFar {
    fn take_field(&mut self, line: &[u8]) -> Option<Fault> {
        // Two names matter, and few fields begin like them.
        if !matches!(line.first(), Some(b'T' | b't' | b'C' | b'c')) {
            return None;
        }
        let (name, value) = line.split_at(memchr(b':', line)?);
        let value = value.strip_prefix(b":").unwrap_or_default().trim_ascii();
        if name.eq_ignore_ascii_case(b"transfer-encoding") {
            let again = std::mem::replace(&mut self.chunked, true);
            if again || !value.eq_ignore_ascii_case(b"chunked") {
                return Some(Fault::Codings);
            }
        } else if name.eq_ignore_ascii_case(b"content-length") {
            let Some(length) = number(value) else { return Some(Fault::Lengths) };
            if self.length.replace(length).is_some() {
                return Some(Fault::Lengths);
            }
        }
        None
    }
}

/// Digits alone: a sign that some parsers take is not one.
fn number(text: &[u8]) -> Option<u64> {
    let digits = text.iter().all(u8::is_ascii_digit).then_some(text)?;
    std::str::from_utf8(digits).ok()?.parse().ok()
}

impl From<Fault> for Rejection {
    fn from(fault: Fault) -> Self {
        match fault {
            Fault::BareLineFeed => Reason::FramingAmbiguous.because(Ambiguous::BareLineFeed),
            Fault::Chunk => Reason::BodyBroken.because(Ambiguous::Chunk),
            Fault::Codings => FramingError::TransferEncoding.into(),
            Fault::EmptyLines => Reason::FramingAmbiguous.because(Ambiguous::EmptyLines),
            Fault::Fields => HeaderError::TooMany(FIELDS_MAX + 1).into(),
            Fault::Fragment => Reason::PathMalformed.because(Ambiguous::Fragment),
            Fault::Head => HeaderError::TooLarge.into(),
            Fault::Lengths => FramingError::ContentLength.into(),
            Fault::Preface => Reason::HeaderMalformed.because(Ambiguous::Preface),
            Fault::Target => PathError::TooLong(TARGET_LINE_MAX + 1).into(),
            Fault::Trailers => Reason::BodyBroken.because(Ambiguous::Trailers),
            Fault::TwoFramings => FramingError::TwoFramings.into(),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn both_framings_are_seen_in_either_order() {
        for head in [
            "POST / HTTP/1.1\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n",
            "POST / HTTP/1.1\r\ntransfer-encoding: chunked\r\ncontent-length: 5\r\n\r\n",
        ] {
            assert_eq!(fault(head), Some(Fault::TwoFramings), "{head}");
        }
    }

    #[test]
    fn odd_codings_lengths_and_line_ends_are_seen() {
        for codings in ["gzip, chunked", "xchunked", "chunked\r\nTransfer-Encoding: chunked"] {
            let head = format!("POST / HTTP/1.1\r\nTransfer-Encoding: {codings}\r\n\r\n");
            assert_eq!(fault(&head), Some(Fault::Codings), "{head}");
        }
        let twice = "POST / HTTP/1.1\r\nContent-Length: 0\r\nContent-Length: 0\r\n\r\n";
        for length in ["0, 0", "+1", "-1", "0x1", "1 1", "", "99999999999999999999"] {
            let head = format!("POST / HTTP/1.1\r\nContent-Length: {length}\r\n\r\n");
            assert_eq!(fault(&head), Some(Fault::Lengths), "{head}");
        }
        let bare = "GET / HTTP/1.1\r\nHost: a\nX: b\r\n\r\n";
        let bare_end = "GET / HTTP/1.1\r\nHost: a\r\n\n";

        assert_eq!(fault(twice), Some(Fault::Lengths));
        assert_eq!(fault(bare), Some(Fault::BareLineFeed));
        assert_eq!(fault(bare_end), Some(Fault::BareLineFeed));
    }

    #[test]
    fn one_empty_line_may_stand_before_a_request_and_a_fragment_nowhere() {
        assert_eq!(fault("\r\nGET / HTTP/1.1\r\n\r\n\r\nGET / HTTP/1.1\r\n\r\n"), None);
        assert_eq!(fault("\r\n\r\nGET / HTTP/1.1\r\n\r\n"), Some(Fault::EmptyLines));
        assert_eq!(fault("\nGET / HTTP/1.1\r\n\r\n"), Some(Fault::BareLineFeed));
        assert_eq!(fault("GET /a#b HTTP/1.1\r\n\r\n"), Some(Fault::Fragment));
    }

    #[test]
    fn what_grows_without_end_is_refused_while_it_grows() {
        let long = "x".repeat(HEAD_BYTES_MAX + 1);
        let fields = "x: y\r\n".repeat(FIELDS_MAX + 1);
        let chunked = "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n";
        for (stream, expected) in [
            (format!("GET /{long}"), Fault::Target),
            (format!("GET / HTTP/1.1\r\nx: {long}"), Fault::Head),
            (format!("GET / HTTP/1.1\r\n{fields}"), Fault::Fields),
            (format!("{chunked}1;{long}"), Fault::Chunk),
            (format!("{chunked}0\r\nx: {long}"), Fault::Trailers),
            (format!("{chunked}0\r\n{fields}"), Fault::Trailers),
        ] {
            assert_eq!(fault(&stream), Some(expected));
        }
    }

    #[test]
    fn the_head_behind_every_kind_of_body_is_found() {
        let two = "POST / HTTP/1.1\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n";
        for before in [
            "GET / HTTP/1.1\r\nHost: a\r\n\r\n",
            "\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n",
            "POST / HTTP/1.1\r\nContent-Length: 4\r\n\r\n\r\n\r\n",
            "POST / HTTP/1.1\r\nContent-Length: 0\r\n\r\n",
            "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
            "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n\
             20;x=y\r\n\r\nTransfer-Encoding: chunked\r\n\r\n\r\nA\r\n0123456789\r\n0\r\na: b\r\n\r\n",
        ] {
            assert_eq!(fault(before), None, "{before}");
            let both = format!("{before}{two}");
            let mut framing = Framing::default();

            let sound = framing.read(both.as_bytes());

            assert_eq!(framing.fault(), Some(Fault::TwoFramings), "{both}");
            // All but the empty line that would complete the head.
            assert_eq!(sound, both.len() - 2, "{both}");
        }
    }

    #[test]
    fn nothing_that_would_complete_a_faulty_part_is_sound() {
        let chunked = "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n";
        for (sound, faulty) in [
            ("GET / HTTP/1.1\r\n\r\n", "GET / HTTP/1.1\n\r\n"),
            (chunked, "5 \r\nhello\r\n0\r\n\r\n"),
            (&format!("{chunked}0\r\n"), "a : b\r\n\r\n"),
        ] {
            let mut framing = Framing::default();
            assert_eq!(framing.read(format!("{sound}{faulty}").as_bytes()), sound.len());
            assert!(framing.fault().is_some());
            assert_eq!(framing.read(b"GET / HTTP/1.1\r\n\r\n"), 0, "nor anything later");
        }
    }

    #[test]
    fn what_follows_an_upgrade_is_read_as_a_request_for_it_may_be_one() {
        let asked = "GET / HTTP/1.1\r\nUpgrade: websocket\r\n\r\n";
        assert_eq!(fault(&format!("{asked}GET / HTTP/1.1\n\r\n")), Some(Fault::BareLineFeed));
    }

    proptest! {
        #[test]
        fn how_the_bytes_are_cut_makes_no_difference(cuts in proptest::collection::vec(1..9usize, 1..99)) {
            let stream = "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n\
                          POST / HTTP/1.1\r\nContent-Length: 3\r\n\r\nabc\
                          POST / HTTP/1.1\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n";
            let mut framing = Framing::default();
            let mut sound = 0;

            let mut rest = stream.as_bytes();
            for cut in cuts.iter().cycle() {
                if rest.is_empty() {
                    break;
                }
                let (part, behind) = rest.split_at((*cut).min(rest.len()));
                sound += framing.read(part);
                rest = behind;
            }

            prop_assert_eq!(framing.fault(), Some(Fault::TwoFramings));
            // A part of the last line may have passed; never its end.
            prop_assert!((stream.len() - 2..stream.len()).contains(&sound), "{}", sound);
        }

        #[test]
        fn arbitrary_bytes_neither_panic_nor_grow(bytes: Vec<u8>) {
            let mut framing = Framing::default();
            let sound = framing.read(&bytes);
            prop_assert!(framing.line.len() <= HEAD_BYTES_MAX);
            prop_assert_eq!(sound < bytes.len(), framing.fault().is_some());
        }
    }

    fn fault(stream: &str) -> Option<Fault> {
        let mut framing = Framing::default();
        framing.read(stream.as_bytes());
        framing.fault()
    }
}
