//! One direction of a tunnel: bytes from here to there, no faster than there takes them.
//!
//! At most one buffer is read ahead, so a slow end slows the other one down. The bytes are not
//! looked at but for where a WebSocket frame ends (RFC 6455, 5.2): only there can a tunnel be closed
//! with a word, when the agent stops.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// What is read ahead in one direction.
const BUFFER_BYTES: usize = 16 * 1024;

/// The way from one end to the other.
#[derive(Debug)]
pub(crate) struct Flow {
    buffer: Vec<u8>,
    /// How much of the buffer has been written.
    written: usize,
    flushed: bool,
    at: At,
    frames: Frames,
    /// What is said instead of the next frame.
    goodbye: Option<&'static [u8]>,
    /// Bytes taken over since the last look.
    moved: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum At {
    Open,
    /// Nothing more will be written; whether what still comes is read, and thrown away.
    Ending {
        drain: bool,
    },
    /// The other end has been told that nothing more follows.
    Draining,
    Ended,
}

/// Where in a stream of frames the next byte stands.
#[derive(Debug, Default)]
struct Frames {
    /// The header so far.
    header: [u8; HEADER_MAX],
    length: usize,
    /// Bytes of the payload to come.
    left: u64,
}

/// Two bytes, a length of eight, a mask of four.
const HEADER_MAX: usize = 14;

impl Flow {
    /// Begins with `early`, which has arrived already.
    pub(crate) fn new(early: &Bytes) -> Self {
        let mut frames = Frames::default();
        frames.pass(early);
        let buffer = early.to_vec();
        let (written, flushed, moved) = (0, true, 0);
        Self { buffer, written, flushed, at: At::Open, frames, goodbye: None, moved }
    }

    /// Ends the flow with `frame` as soon as one that is under way is complete.
    pub(crate) fn end_with(&mut self, frame: &'static [u8]) {
        if self.at == At::Open {
            self.goodbye = Some(frame);
        }
    }

    /// Bytes taken over since the last call.
    pub(crate) fn take_moved(&mut self) -> u64 {
        std::mem::take(&mut self.moved)
    }

    /// Ready once `from` has ended and `to` knows it.
    pub(crate) fn poll<R, W>(
        &mut self,
        cx: &mut Context<'_>,
        from: &mut R,
        to: &mut W,
    ) -> Poll<io::Result<()>>
    where
        R: AsyncRead + Unpin,
        W: AsyncWrite + Unpin,
    {
        loop {
            while let Some(rest) = self.buffer.get(self.written..).filter(|rest| !rest.is_empty()) {
                let count = ready!(Pin::new(&mut *to).poll_write(cx, rest))?;
                if count == 0 {
                    return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
                }
                self.written += count;
                self.flushed = false;
                self.moved = self.moved.saturating_add(u64::try_from(count).unwrap_or(u64::MAX));
            }
            match self.at {
                At::Open => {
                    if let Some(frame) = self.goodbye.filter(|_| self.frames.is_between()) {
                        self.fill(frame);
                        self.at = At::Ending { drain: true };
                        continue;
                    }
                    let Poll::Ready(read) = self.poll_read(cx, from) else {
                        if !self.flushed {
                            ready!(Pin::new(&mut *to).poll_flush(cx))?;
                            self.flushed = true;
                        }
                        return Poll::Pending;
                    };
                    if read? == 0 {
                        self.at = At::Ending { drain: false };
                    } else if self.goodbye.is_some() {
                        let end = self.frames.pass_one(&self.buffer);
                        self.buffer.truncate(end);
                    } else {
                        self.frames.pass(&self.buffer);
                    }
                }
                At::Ending { drain } => {
                    ready!(Pin::new(&mut *to).poll_shutdown(cx))?;
                    self.at = if drain { At::Draining } else { At::Ended };
                }
                At::Draining => {
                    if ready!(self.poll_read(cx, from))? == 0 {
                        self.at = At::Ended;
                    }
                    self.buffer.clear();
                }
                At::Ended => return Poll::Ready(Ok(())),
            }
        }
    }

    fn fill(&mut self, bytes: &[u8]) {
        self.buffer.clear();
        self.buffer.extend_from_slice(bytes);
        self.written = 0;
    }

    /// Reads the next part into the buffer, which has been written.
    fn poll_read<R: AsyncRead + Unpin>(
        &mut self,
        cx: &mut Context<'_>,
        from: &mut R,
    ) -> Poll<io::Result<usize>> {
        self.buffer.resize(BUFFER_BYTES, 0);
        self.written = BUFFER_BYTES;
        let mut room = ReadBuf::new(&mut self.buffer);
        ready!(Pin::new(from).poll_read(cx, &mut room))?;
        let count = room.filled().len();
        self.buffer.truncate(count);
        self.written = 0;
        Poll::Ready(Ok(count))
    }
}

impl Frames {
    const fn is_between(&self) -> bool {
        self.length == 0 && self.left == 0
    }

    fn pass(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let passed = self.pass_one(bytes);
            bytes = bytes.get(passed..).unwrap_or_default();
        }
    }

    /// Goes to the end of the frame or of `bytes`, whichever comes first; how far that is.
    fn pass_one(&mut self, bytes: &[u8]) -> usize {
        let mut passed = 0;
        for byte in bytes {
            if self.left > 0 {
                break;
            }
            if let Some(place) = self.header.get_mut(self.length) {
                *place = *byte;
            }
            self.length += 1;
            passed += 1;
            if let Some(payload) = self.payload() {
                self.length = 0;
                self.left = payload;
                if payload == 0 {
                    return passed;
                }
            }
        }
        let here = u64::try_from(bytes.len() - passed).unwrap_or(u64::MAX).min(self.left);
        self.left -= here;
        passed + usize::try_from(here).unwrap_or(usize::MAX)
    }

    /// The length of the payload, once the header is complete.
    fn payload(&self) -> Option<u64> {
        let [_, second, long @ ..] = self.header;
        let extended = match second & 0x7F {
            126 => 2,
            127 => 8,
            _ => 0,
        };
        let mask = if second & 0x80 == 0 { 0 } else { 4 };
        if self.length < 2 + extended + mask {
            return None;
        }
        let number = long.iter().take(extended).fold(0, |sum, byte| sum << 8 | u64::from(*byte));
        Some(if extended == 0 { u64::from(second & 0x7F) } else { number })
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use proptest::prelude::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};

    use super::*;

    const CLOSE: &[u8] = &[0x88, 2, 0x03, 0xE9];

    #[tokio::test]
    async fn what_has_arrived_comes_first_and_the_end_is_passed_on() {
        let (mut source, mut from) = duplex(64);
        let (mut to, mut sink) = duplex(64);
        let mut flow = Flow::new(&Bytes::from_static(b"early "));
        source.write_all(b"later").await.unwrap();
        drop(source);

        poll_fn(|cx| flow.poll(cx, &mut from, &mut to)).await.unwrap();

        let mut text = String::new();
        sink.read_to_string(&mut text).await.unwrap();
        assert_eq!(text, "early later");
        assert_eq!((flow.take_moved(), flow.take_moved()), (11, 0));
    }

    #[tokio::test]
    async fn an_end_that_takes_nothing_holds_the_other_one_back() {
        let (mut source, mut from) = duplex(1024);
        let (mut to, _sink) = duplex(8);
        let mut flow = Flow::new(&Bytes::new());
        let mut offered = 0;

        for _ in 0..1000 {
            let polled = poll_fn(|cx| Poll::Ready(flow.poll(cx, &mut from, &mut to).is_pending()));
            assert!(polled.await);
            let mut written = 0;
            poll_fn(|cx| {
                if let Poll::Ready(Ok(count)) = Pin::new(&mut source).poll_write(cx, &[0; 512]) {
                    written = count;
                }
                Poll::Ready(())
            })
            .await;
            offered += written;
        }

        assert_eq!(flow.take_moved(), 8);
        assert!(offered <= BUFFER_BYTES + 1024 + 8, "{offered}");
    }

    #[tokio::test]
    async fn a_goodbye_waits_for_the_frame_under_way_and_nothing_follows_it() {
        let (mut source, mut from) = duplex(1024);
        let (mut to, mut sink) = duplex(1024);
        let mut flow = Flow::new(&Bytes::from_static(&[0x82, 4, 1, 2]));
        let poll = async |flow: &mut Flow, from: &mut _, to: &mut _| {
            poll_fn(|cx| Poll::Ready(flow.poll(cx, from, to).is_ready())).await
        };

        flow.end_with(CLOSE);
        assert!(!poll(&mut flow, &mut from, &mut to).await);
        source.write_all(&[3, 4, 0x82, 1, 9, 0x82]).await.unwrap();
        assert!(!poll(&mut flow, &mut from, &mut to).await, "what still comes is read");
        source.write_all(&[1, 9]).await.unwrap();
        drop(source);
        assert!(poll(&mut flow, &mut from, &mut to).await);

        let mut seen = Vec::new();
        sink.read_to_end(&mut seen).await.unwrap();
        assert_eq!(seen, [&[0x82, 4, 1, 2, 3, 4][..], CLOSE].concat());
    }

    proptest! {
        #[test]
        fn every_frame_ends_where_it_ends_however_the_bytes_are_cut(
            frames in proptest::collection::vec((0..70_000_usize, any::<bool>()), 1..6),
            cuts in proptest::collection::vec(1..5_000_usize, 1..20),
        ) {
            let stream: Vec<u8> = frames.iter().flat_map(|(size, masked)| frame(*size, *masked)).collect();
            let mut place = Frames::default();

            let mut rest = &stream[..];
            for cut in cuts.iter().cycle() {
                let (part, behind) = rest.split_at((*cut).min(rest.len()));
                place.pass(part);
                rest = behind;
                if rest.is_empty() {
                    break;
                }
            }

            prop_assert!(place.is_between());
            let mut first = Frames::default();
            prop_assert_eq!(first.pass_one(&stream), frame(frames[0].0, frames[0].1).len());
        }
    }

    fn frame(size: usize, masked: bool) -> Vec<u8> {
        let mask = if masked { 0x80 } else { 0 };
        let mut frame = vec![0x82];
        match size {
            0..126 => frame.push(mask | u8::try_from(size).unwrap()),
            126..65_536 => {
                frame.push(mask | 126);
                frame.extend(u16::try_from(size).unwrap().to_be_bytes());
            }
            _ => {
                frame.push(mask | 127);
                frame.extend(u64::try_from(size).unwrap().to_be_bytes());
            }
        }
        frame.extend(std::iter::repeat_n(7, if masked { 4 } else { 0 } + size));
        frame
    }
}
