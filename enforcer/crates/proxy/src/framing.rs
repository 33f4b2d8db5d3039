//! What hyper repairs before anybody else sees it.
//!
//! Of a head with Transfer-Encoding and Content-Length hyper removes the latter, and of two equal
//! Content-Lengths it removes one; both are legal (RFC 9112, 6.3) and both are how requests are
//! smuggled past somebody who reads them the other way. A line that ends in a bare LF (RFC 9112,
//! 2.2) is a third. [`Framing`] reads along in the raw bytes of a connection and remembers which
//! head, if any, was of that kind. It decides nothing about where a request ends: that is hyper's
//! reading alone, and if the two ever disagree this one merely sees less.

use enforcer_inspect::FramingError;
use enforcer_model::{Reason, Rejection};

/// Reads along on one HTTP/1 connection.
#[derive(Debug, Default)]
pub(crate) struct Framing {
    at: At,
    /// The part of a line that has arrived.
    line: Vec<u8>,
    head: HeadSoFar,
    heads: u64,
    ambiguous: Option<(u64, Ambiguity)>,
}

/// In what way a head can be read twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ambiguity {
    BareLineFeed,
    /// Another transfer coding than one `chunked`.
    Codings,
    /// More than one Content-Length, or one that is not a number.
    Lengths,
    TwoFramings,
}

/// A line of the head ends in LF without CR.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a line of the head ends in a bare line feed")]
pub(crate) struct BareLineFeed;

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
    /// Nothing that follows is worth reading: hyper will close the connection.
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
    chunked: bool,
    length: Option<u64>,
    ambiguity: Option<Ambiguity>,
}

/// A longer line is over every limit of a head.
const LINE_BYTES_MAX: usize = 64 * 1024;

impl Framing {
    /// Reads `bytes`, which hyper is about to read.
    pub(crate) fn read(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            bytes = match self.at {
                At::Blind => return,
                At::Bytes { left, then } => self.skip(bytes, left, then),
                At::Between | At::Head | At::ChunkSize | At::Trailers => self.read_line(bytes),
            };
        }
    }

    /// Whether a head has begun to arrive and is not complete.
    pub(crate) const fn in_head(&self) -> bool {
        matches!(self.at, At::Head)
    }

    /// Refuses the `nth` request of the connection, counted from one, if its head was ambiguous.
    pub(crate) fn refuse(&self, nth: u64) -> Result<(), Rejection> {
        match self.ambiguous {
            Some((head, how)) if head == nth => Err(match how {
                Ambiguity::BareLineFeed => Reason::FramingAmbiguous.because(BareLineFeed),
                Ambiguity::Codings => FramingError::TransferEncoding.into(),
                Ambiguity::Lengths => FramingError::ContentLength.into(),
                Ambiguity::TwoFramings => FramingError::TwoFramings.into(),
            }),
            Some(_) | None => Ok(()),
        }
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
        let Some(end) = bytes.iter().position(|byte| *byte == b'\n') else {
            self.line.extend_from_slice(bytes);
            if self.line.len() > LINE_BYTES_MAX {
                self.go_blind();
            }
            return &[];
        };
        let (part, rest) = bytes.split_at(end);
        if self.line.is_empty() {
            self.take_line(part);
        } else {
            let mut line = std::mem::take(&mut self.line);
            line.extend_from_slice(part);
            self.take_line(&line);
        }
        rest.split_first().map_or(&[], |(_line_feed, rest)| rest)
    }

    /// Takes one line without its LF.
    fn take_line(&mut self, line: &[u8]) {
        let (line, bare) = match line.strip_suffix(b"\r") {
            Some(line) => (line, false),
            None => (line, true),
        };
        match self.at {
            At::Head => self.take_head_line(line, bare),
            At::ChunkSize => self.take_chunk_size(line),
            At::Trailers if line.is_empty() => self.at = At::Between,
            At::Trailers | At::Between | At::Bytes { .. } | At::Blind => {}
        }
    }

    fn take_head_line(&mut self, line: &[u8], bare: bool) {
        let head = &mut self.head;
        match (head.started, line.is_empty()) {
            // Empty lines before a request are skipped by everybody (RFC 9112, 2.2).
            (false, true) => {
                self.at = At::Between;
                return;
            }
            (false, false) => head.started = true,
            (true, false) => head.take_field(line),
            (true, true) => {}
        }
        if bare {
            head.ambiguity = Some(Ambiguity::BareLineFeed);
        }
        if line.is_empty() {
            self.end_head();
        }
    }

    fn end_head(&mut self) {
        let head = std::mem::take(&mut self.head);
        self.heads += 1;
        let two = (head.chunked && head.length.is_some()).then_some(Ambiguity::TwoFramings);
        if let Some(how) = two.or(head.ambiguity) {
            self.ambiguous = Some((self.heads, how));
            self.go_blind();
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
        let digits = line.iter().take_while(|byte| byte.is_ascii_hexdigit()).count();
        let size = line.get(..digits).and_then(|digits| std::str::from_utf8(digits).ok());
        match size.and_then(|digits| u64::from_str_radix(digits, 16).ok()) {
            Some(0) => self.at = At::Trailers,
            // The data, and the CR LF behind it.
            Some(size) => {
                self.at = At::Bytes { left: size.saturating_add(2), then: Then::ChunkSize };
            }
            None => self.go_blind(),
        }
    }

    fn go_blind(&mut self) {
        self.at = At::Blind;
        self.line = Vec::new();
    }
}

impl HeadSoFar {
    fn take_field(&mut self, line: &[u8]) {
        let Some(colon) = line.iter().position(|byte| *byte == b':') else { return };
        let (name, value) = line.split_at(colon);
        let value = value.strip_prefix(b":").unwrap_or_default().trim_ascii();
        if name.eq_ignore_ascii_case(b"transfer-encoding") {
            let again = std::mem::replace(&mut self.chunked, true);
            if again || !value.eq_ignore_ascii_case(b"chunked") {
                self.ambiguity = Some(Ambiguity::Codings);
            }
        } else if name.eq_ignore_ascii_case(b"content-length") {
            let length = number(value);
            let again = self.length.replace(length.unwrap_or(0)).is_some();
            if again || length.is_none() {
                self.ambiguity = Some(Ambiguity::Lengths);
            }
        }
    }
}

/// Digits alone: a sign that some parsers take is not one.
fn number(text: &[u8]) -> Option<u64> {
    let digits = text.iter().all(u8::is_ascii_digit).then_some(text)?;
    std::str::from_utf8(digits).ok()?.parse().ok()
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
            assert_eq!(ambiguity(head), Some((1, Ambiguity::TwoFramings)), "{head}");
        }
    }

    #[test]
    fn odd_codings_lengths_and_line_ends_are_seen() {
        for codings in ["gzip, chunked", "xchunked", "chunked\r\nTransfer-Encoding: chunked"] {
            let head = format!("POST / HTTP/1.1\r\nTransfer-Encoding: {codings}\r\n\r\n");
            assert_eq!(ambiguity(&head), Some((1, Ambiguity::Codings)), "{head}");
        }
        let twice = "POST / HTTP/1.1\r\nContent-Length: 0\r\nContent-Length: 0\r\n\r\n";
        for length in ["0, 0", "+1", "-1", "0x1", "1 1", "", "99999999999999999999"] {
            let head = format!("POST / HTTP/1.1\r\nContent-Length: {length}\r\n\r\n");
            assert_eq!(ambiguity(&head), Some((1, Ambiguity::Lengths)), "{head}");
        }
        let bare = "GET / HTTP/1.1\r\nHost: a\nX: b\r\n\r\n";
        let bare_end = "GET / HTTP/1.1\r\nHost: a\r\n\n";

        assert_eq!(ambiguity(twice), Some((1, Ambiguity::Lengths)));
        assert_eq!(ambiguity(bare), Some((1, Ambiguity::BareLineFeed)));
        assert_eq!(ambiguity(bare_end), Some((1, Ambiguity::BareLineFeed)));
    }

    #[test]
    fn the_head_behind_every_kind_of_body_is_found() {
        let two = "POST / HTTP/1.1\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n";
        for before in [
            "GET / HTTP/1.1\r\nHost: a\r\n\r\n",
            "\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n",
            "POST / HTTP/1.1\r\nContent-Length: 4\r\n\r\n\r\n\r\n",
            "POST / HTTP/1.1\r\nContent-Length: 0\r\n\r\n",
            "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
            "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n\
             20;x=y\r\n\r\nTransfer-Encoding: chunked\r\n\r\n\r\nA\r\n0123456789\r\n0\r\na: b\r\n\r\n",
        ] {
            assert_eq!(ambiguity(before), None, "{before}");
            let both = format!("{before}{two}");
            assert_eq!(ambiguity(&both), Some((2, Ambiguity::TwoFramings)), "{both}");
        }
    }

    #[test]
    fn only_the_head_in_question_is_refused() {
        let mut framing = Framing::default();
        framing.read(b"GET / HTTP/1.1\r\n\r\nGET / HTTP/1.1\n\r\n");

        assert!(framing.refuse(1).is_ok());
        assert_eq!(framing.refuse(2).unwrap_err().reason, Reason::FramingAmbiguous);
        assert!(framing.refuse(3).is_ok());
    }

    proptest! {
        #[test]
        fn how_the_bytes_are_cut_makes_no_difference(cuts in proptest::collection::vec(1..9usize, 1..99)) {
            let stream = "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n\
                          POST / HTTP/1.1\r\nContent-Length: 3\r\n\r\nabc\
                          POST / HTTP/1.1\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n";
            let mut framing = Framing::default();

            let mut rest = stream.as_bytes();
            for cut in cuts.iter().cycle() {
                if rest.is_empty() {
                    break;
                }
                let (part, behind) = rest.split_at((*cut).min(rest.len()));
                framing.read(part);
                rest = behind;
            }

            prop_assert_eq!(framing.ambiguous, Some((3, Ambiguity::TwoFramings)));
        }

        #[test]
        fn arbitrary_bytes_neither_panic_nor_grow(bytes: Vec<u8>) {
            let mut framing = Framing::default();
            framing.read(&bytes);
            prop_assert!(framing.line.len() <= LINE_BYTES_MAX);
        }
    }

    fn ambiguity(stream: &str) -> Option<(u64, Ambiguity)> {
        let mut framing = Framing::default();
        framing.read(stream.as_bytes());
        framing.ambiguous
    }
}
