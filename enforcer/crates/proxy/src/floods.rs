//! Frames that cost us more than their sender: how many of each kind an HTTP/2 connection may send.
//!
//! Each kind has a bucket: a burst that honest clients do not reach, and a rate at which it drains.
//! Each attack has a name, and most have several. Whoever is over a limit is told so (GOAWAY,
//! `ENHANCE_YOUR_CALM`) and leaves. Streams themselves are not counted: how many are open is bounded
//! by `SETTINGS_MAX_CONCURRENT_STREAMS`, and a request that is answered is what a connection is for.

use std::time::Duration;

use enforcer_model::{Reason, Rejection};
use tokio::time::Instant;

use crate::frames::{FLAG_ACK, FLAG_END_HEADERS, FLAG_END_STREAM, Frame, Frames, Kind};

/// Counts what a client sends, and what it makes us send.
#[derive(Debug)]
pub(crate) struct Floods {
    from_client: Frames,
    to_client: Frames,
    buckets: [Bucket; Flood::COUNT],
    /// Frames of the head that is arriving.
    parts: u32,
    last_stream: u32,
    found: Option<Flood>,
}

/// What a client sends too much of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Flood {
    /// CONTINUATION flood: CVE-2024-27316, CVE-2024-27919, CVE-2024-28182.
    #[error("too many CONTINUATION frames")]
    Continuation,
    /// Empty frames: CVE-2019-9518.
    #[error("too many empty DATA frames")]
    EmptyData,
    #[error("too many GOAWAY frames")]
    GoAway,
    /// Made you reset: CVE-2025-8671.
    #[error("too many streams that we had to reset")]
    OwnReset,
    /// Ping flood: CVE-2019-9512.
    #[error("too many PING frames")]
    Ping,
    /// Resource loop: CVE-2019-9513.
    #[error("too many PRIORITY frames")]
    Priority,
    /// Rapid reset: CVE-2023-44487.
    #[error("too many RST_STREAM frames")]
    Reset,
    /// Settings flood: CVE-2019-9515.
    #[error("too many SETTINGS frames")]
    Settings,
    /// Data dribble: CVE-2019-9511, and internal data buffering: CVE-2019-9517.
    #[error("too many WINDOW_UPDATE frames that open next to nothing")]
    SmallWindow,
    #[error("too many frames of unknown types")]
    Unknown,
    #[error("too many WINDOW_UPDATE frames for what was sent")]
    WindowUpdate,
}

#[derive(Clone, Copy, Debug, Default)]
struct Bucket {
    held: u32,
    /// When it was last looked at how much has drained.
    since: Option<Instant>,
}

/// How much of a kind a connection may send.
struct Limit {
    burst: u32,
    per_second: u32,
}

/// Frames that one head may have; `h2` bounds its bytes.
const HEAD_PARTS_MAX: u32 = 16;
/// A `WINDOW_UPDATE` that opens less is not worth the frame.
const SMALL_WINDOW: u32 = 128;
/// `WINDOW_UPDATE` frames that one DATA frame of ours may be worth: one for the stream and one for the
/// connection are usual, and some acknowledge in pieces.
const UPDATES_PER_DATA: u32 = 8;
/// `WINDOW_UPDATE` frames that open little and that a frame of an answer may be worth: an RPC client opens a
/// little for each message that it expects, and gives each small one back by itself, to the stream and
/// to the connection. Who opens a byte at a time for a large answer is a slow taker.
const SMALL_UPDATES_PER_FRAME: u32 = 4;

impl Flood {
    const COUNT: usize = 11;

    const fn number(self) -> usize {
        match self {
            Self::Continuation => 0,
            Self::EmptyData => 1,
            Self::GoAway => 2,
            Self::OwnReset => 3,
            Self::Ping => 4,
            Self::Priority => 5,
            Self::Reset => 6,
            Self::Settings => 7,
            Self::SmallWindow => 8,
            Self::Unknown => 9,
            Self::WindowUpdate => 10,
        }
    }

    /// A browser that leaves a page resets all of its requests; a busy RPC client gives up on some of
    /// thousands each second. An attack does it with every one.
    const fn limit(self) -> Limit {
        match self {
            Self::Continuation => Limit { burst: 64, per_second: 8 },
            Self::EmptyData => Limit { burst: 128, per_second: 16 },
            Self::GoAway => Limit { burst: 4, per_second: 1 },
            Self::OwnReset => Limit { burst: 128, per_second: 16 },
            Self::Ping => Limit { burst: 128, per_second: 16 },
            Self::Priority => Limit { burst: 512, per_second: 64 },
            Self::Reset => Limit { burst: 512, per_second: 256 },
            Self::Settings => Limit { burst: 32, per_second: 2 },
            // Calls that begin together open their windows before there is an answer.
            Self::SmallWindow => Limit { burst: 1_024, per_second: 128 },
            Self::Unknown => Limit { burst: 128, per_second: 16 },
            Self::WindowUpdate => Limit { burst: 4_096, per_second: 512 },
        }
    }
}

impl From<Flood> for Rejection {
    fn from(flood: Flood) -> Self {
        Reason::Http2Flood.because(flood)
    }
}

impl Floods {
    pub(crate) const fn new() -> Self {
        Self {
            from_client: Frames::of_client(),
            to_client: Frames::of_server(),
            buckets: [Bucket { held: 0, since: None }; Flood::COUNT],
            parts: 0,
            last_stream: 0,
            found: None,
        }
    }

    /// Counts what the client sent.
    pub(crate) fn received(&mut self, bytes: &[u8]) -> Result<(), Flood> {
        let mut frames = std::mem::replace(&mut self.from_client, Frames::of_server());
        frames.read(bytes, |frame| self.take(frame));
        self.from_client = frames;
        self.found.map_or(Ok(()), Err)
    }

    /// Counts what was sent to the client.
    pub(crate) fn sent(&mut self, bytes: &[u8]) {
        let mut frames = std::mem::replace(&mut self.to_client, Frames::of_server());
        frames.read(bytes, |frame| match frame.kind {
            Kind::Data => {
                self.pay(Flood::SmallWindow, SMALL_UPDATES_PER_FRAME);
                self.pay(Flood::WindowUpdate, UPDATES_PER_DATA);
            }
            Kind::Headers => self.pay(Flood::SmallWindow, SMALL_UPDATES_PER_FRAME),
            Kind::Reset => self.spend(Flood::OwnReset),
            Kind::Priority
            | Kind::Settings
            | Kind::Push
            | Kind::Ping
            | Kind::GoAway
            | Kind::WindowUpdate
            | Kind::Continuation
            | Kind::Other => {}
        });
        self.to_client = frames;
    }

    /// What was too much.
    pub(crate) const fn found(&self) -> Option<Flood> {
        self.found
    }

    /// Whether a head has begun to arrive and is not complete.
    pub(crate) fn in_head(&self) -> bool {
        self.parts > 0 || self.from_client.is_in_head()
    }

    /// The last word, if one can be put in here: between two frames of ours.
    pub(crate) fn goodbye(&self) -> Option<[u8; 17]> {
        const ENHANCE_YOUR_CALM: u8 = 0xB;
        let [a, b, c, d] = self.last_stream.to_be_bytes();
        let frame = [0, 0, 8, 7, 0, 0, 0, 0, 0, a, b, c, d, 0, 0, 0, ENHANCE_YOUR_CALM];
        self.to_client.is_between().then_some(frame)
    }

    fn take(&mut self, frame: Frame) {
        match frame.kind {
            Kind::Headers => {
                self.last_stream = self.last_stream.max(frame.stream);
                self.parts = u32::from(!frame.has(FLAG_END_HEADERS));
            }
            Kind::Continuation => {
                self.parts = if frame.has(FLAG_END_HEADERS) { 0 } else { self.parts + 1 };
                self.spend(Flood::Continuation);
                if self.parts > HEAD_PARTS_MAX {
                    self.found.get_or_insert(Flood::Continuation);
                }
            }
            Kind::Data if frame.length == 0 && !frame.has(FLAG_END_STREAM) => {
                self.spend(Flood::EmptyData);
            }
            Kind::Priority => self.spend(Flood::Priority),
            Kind::Reset => self.spend(Flood::Reset),
            // hyper asks now and then whether the client lives; nobody else gets an ACK.
            Kind::Settings | Kind::Ping if frame.has(FLAG_ACK) => self.spend(Flood::Unknown),
            Kind::Settings => self.spend(Flood::Settings),
            Kind::Ping => self.spend(Flood::Ping),
            Kind::GoAway => self.spend(Flood::GoAway),
            Kind::WindowUpdate => {
                self.spend(Flood::WindowUpdate);
                if frame.increment < SMALL_WINDOW {
                    self.spend(Flood::SmallWindow);
                }
            }
            Kind::Other => self.spend(Flood::Unknown),
            Kind::Data | Kind::Push => {}
        }
    }

    fn pay(&mut self, flood: Flood, count: u32) {
        if let Some(bucket) = self.buckets.get_mut(flood.number()) {
            bucket.held = bucket.held.saturating_sub(count);
        }
    }

    fn spend(&mut self, flood: Flood) {
        let Some(bucket) = self.buckets.get_mut(flood.number()) else { return };
        if !bucket.take(&flood.limit(), Instant::now) {
            self.found.get_or_insert(flood);
        }
    }
}

impl Bucket {
    /// Puts one in; whether there was room.
    fn take(&mut self, limit: &Limit, now: impl FnOnce() -> Instant) -> bool {
        self.held += 1;
        // Most never come so far, and need no clock.
        if self.held <= limit.burst / 2 {
            return true;
        }
        let now = now();
        let drained = drained(now - *self.since.get_or_insert(now), limit.per_second);
        if drained > 0 {
            self.held = self.held.saturating_sub(drained).max(1);
            self.since = Some(now);
        }
        self.held <= limit.burst
    }
}

fn drained(time: Duration, per_second: u32) -> u32 {
    let drained = time.as_millis().saturating_mul(u128::from(per_second)) / 1_000;
    u32::try_from(drained).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

    #[test]
    fn each_kind_has_a_burst_and_much_more_is_a_flood() {
        for (flood, frame) in [
            (Flood::Continuation, frame(9, 4, 1, b"")),
            (Flood::EmptyData, frame(0, 0, 1, b"")),
            (Flood::GoAway, frame(7, 0, 0, &[0; 8])),
            (Flood::Ping, frame(6, 0, 0, &[0; 8])),
            (Flood::Priority, frame(2, 0, 1, &[0; 5])),
            (Flood::Reset, frame(3, 0, 1, &[0; 4])),
            (Flood::Settings, frame(4, 0, 0, b"")),
            (Flood::SmallWindow, frame(8, 0, 1, &[0, 0, 0, 1])),
            (Flood::Unknown, frame(42, 0, 0, b"x")),
            (Flood::Unknown, frame(6, 1, 0, &[0; 8])),
            (Flood::WindowUpdate, frame(8, 0, 1, &[0, 1, 0, 0])),
        ] {
            let mut floods = opened();
            for _ in 0..flood.limit().burst {
                assert_eq!(floods.received(&frame), Ok(()), "{flood}");
            }

            // What drains meanwhile may come as well.
            let more = (0..1_000_000).find_map(|_| floods.received(&frame).err());
            assert_eq!(more, Some(flood));
            assert_eq!(floods.found(), Some(flood));
        }
    }

    #[test]
    fn who_gives_back_many_small_messages_one_by_one_is_no_flood() {
        let (message, given_back) = (frame(0, 0, 1, &[0; 20]), frame(8, 0, 1, &[0, 0, 0, 20]));
        let to_connection = frame(8, 0, 0, &[0, 0, 0, 20]);
        let mut floods = opened();

        for _ in 0..10_000 {
            floods.sent(&message);
            assert_eq!(floods.received(&given_back), Ok(()));
            assert_eq!(floods.received(&to_connection), Ok(()));
        }
    }

    #[test]
    fn what_comes_at_the_rate_may_come_for_ever_and_what_comes_faster_may_not() {
        let limit = Limit { burst: 100, per_second: 10 };
        let start = Instant::now();
        let at = |every: Duration, count: u32| {
            let mut bucket = Bucket::default();
            (0..count).all(|nth| bucket.take(&limit, || start + every * nth))
        };

        assert!(at(Duration::from_millis(100), 10_000));
        assert!(at(Duration::ZERO, 100));
        assert!(!at(Duration::ZERO, 101));
        assert!(!at(Duration::from_millis(50), 1_000));
    }

    #[test]
    fn answers_pay_for_the_windows_that_they_need() {
        let mut floods = opened();
        let (data, update) = (frame(0, 0, 1, b"answer"), frame(8, 0, 1, &[0, 1, 0, 0]));

        for _ in 0..20_000 {
            floods.sent(&data);
            for _ in 0..UPDATES_PER_DATA {
                assert_eq!(floods.received(&update), Ok(()));
            }
        }
    }

    #[test]
    fn streams_that_a_client_makes_us_reset_are_counted_too() {
        let mut floods = opened();
        let reset = frame(3, 0, 1, &[0, 0, 0, 1]);

        for _ in 0..=Flood::OwnReset.limit().burst {
            floods.sent(&reset);
        }

        assert_eq!(floods.received(&frame(6, 0, 0, &[0; 8])), Err(Flood::OwnReset));
    }

    #[test]
    fn a_head_in_endless_parts_ends_after_a_few() {
        let mut floods = opened();
        floods.received(&frame(1, 0, 1, b"\x82")).unwrap();
        assert!(floods.in_head());

        let part = frame(9, 0, 1, b"");
        let taken = (0..100).take_while(|_| floods.received(&part).is_ok()).count();

        assert_eq!(u32::try_from(taken).unwrap(), HEAD_PARTS_MAX - 1);
    }

    #[test]
    fn the_last_word_names_the_last_stream_and_cuts_no_frame_of_ours() {
        let mut floods = opened();
        floods.received(&frame(1, 5, 7, b"\x82")).unwrap();

        floods.sent(&frame(0, 0, 7, b"answer")[..12]);
        assert_eq!(floods.goodbye(), None);
        floods.sent(&frame(0, 0, 7, b"answer")[12..]);
        let goodbye = floods.goodbye().unwrap();

        assert_eq!(goodbye.as_slice(), frame(7, 0, 0, &[0, 0, 0, 7, 0, 0, 0, 0xB]));
    }

    fn opened() -> Floods {
        let mut floods = Floods::new();
        floods.received(PREFACE).unwrap();
        floods
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
