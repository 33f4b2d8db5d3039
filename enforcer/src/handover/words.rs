//! What the two agents say to each other: frames of JSON, and the sockets.
//!
//! A frame is its length in four bytes and one [`Word`]. Nothing is read ahead, so that sockets,
//! which travel beside bytes, arrive with the bytes that they were sent with.

use std::io::{self, IoSlice, IoSliceMut, Read, Write};
use std::mem::MaybeUninit;
use std::net::IpAddr;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use enforcer_admin::call::HandingOver;
use enforcer_admin::{Answer, Call, Refusal};
use enforcer_model::{KeyId, Prefix, Target};
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, recvmsg, sendmsg,
};
use serde::{Deserialize, Serialize};

/// Longest frame.
const FRAME_MAX: usize = 16 << 20;

/// Longest first answer.
const ANSWER_MAX: usize = 1 << 20;

/// Sockets that travel at once; the kernel takes 253.
const SOCKETS_AT_ONCE: usize = 64;

/// Sockets in all: more than any policy makes.
pub(super) const SOCKETS_MAX: usize = 65_536;

/// One message.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(tag = "word", rename_all = "kebab-case", deny_unknown_fields)]
pub(crate) enum Word {
    /// The successor has everything prepared.
    Begin,
    /// The predecessor does not hand over after all.
    Refused { why: String },
    /// Everything on disk is the successor's; the log has so many records.
    Yours { records: u64 },
    /// The successor could serve.
    Ready,
    /// It serves from here on.
    Done,
    /// What the predecessor still spends of quotas.
    Spent { spent: Vec<Spent> },
    /// What the predecessor still finds.
    Found { finding: Found },
    /// Whoever this is about is shut out.
    Cut { cut: CutWord },
    /// The predecessor has ended.
    Bye,
}

/// So much of a quota.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Spent {
    pub(crate) limit: String,
    pub(crate) subject: String,
    pub(crate) period: String,
    pub(crate) ends: u64,
    pub(crate) units: i64,
}

/// A source that did too much.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Found {
    pub(crate) rule: String,
    pub(crate) target: Prefix,
    /// The proxy that the target came through.
    pub(crate) through: Option<IpAddr>,
    pub(crate) seen: u32,
    pub(crate) window_ms: u64,
    pub(crate) of: FoundOf,
    pub(crate) ttl_ms: u64,
    pub(crate) evidence: Vec<String>,
}

/// What was counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum FoundOf {
    Authentication,
    Limits,
}

/// Who is to be thrown out.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(tag = "who", rename_all = "kebab-case", deny_unknown_fields)]
pub(crate) enum CutWord {
    /// Everybody from here.
    From { prefix: Prefix },
    /// Whoever uses this key.
    Key { key: KeyId, reason: String },
    /// Whoever the revocations on disk hit.
    Revoked { reason: String },
    /// Whoever this names.
    Named { target: Target },
    /// Whoever waits for this host of an upstream.
    Host { upstream: String, host: String },
    /// Everybody: more was to be cut than could be told.
    Everybody,
}

/// One end of the conversation. Blocks.
#[derive(Debug)]
pub(super) struct Conversation(pub(super) UnixStream);

impl Conversation {
    /// The same conversation, for another thread.
    pub(super) fn again(&self) -> io::Result<Self> {
        self.0.try_clone().map(Self)
    }

    /// So long may the other end take for one word; none: for ever.
    pub(super) fn patience(&self, patience: Option<Duration>) -> io::Result<()> {
        self.0.set_read_timeout(patience)?;
        self.0.set_write_timeout(patience)
    }

    pub(super) fn say(&mut self, word: &Word) -> io::Result<()> {
        let text = serde_json::to_vec(word)?;
        let length = u32::try_from(text.len()).map_err(io::Error::other)?;
        let mut frame = length.to_be_bytes().to_vec();
        frame.extend_from_slice(&text);
        self.0.write_all(&frame)
    }

    pub(super) fn hear(&mut self) -> io::Result<Word> {
        let mut length = [0; 4];
        self.0.read_exact(&mut length)?;
        let length = usize::try_from(u32::from_be_bytes(length)).unwrap_or(usize::MAX);
        if length > FRAME_MAX {
            return Err(io::Error::other("a message that is longer than any"));
        }
        let mut text = vec![0; length];
        self.0.read_exact(&mut text)?;
        Ok(serde_json::from_slice(&text)?)
    }

    /// Opens the conversation, as a call like any other.
    pub(super) fn call(&mut self, call: &Call) -> io::Result<()> {
        let mut line = serde_json::to_vec(call)?;
        line.push(b'\n');
        self.0.write_all(&line)
    }

    /// Answers it.
    pub(super) fn answer(&mut self, answer: Result<HandingOver, Refusal>) -> io::Result<()> {
        let mut line = serde_json::to_vec(&answer.map(Answer::HandingOver))?;
        line.push(b'\n');
        self.0.write_all(&line)
    }

    /// The line with the answer, and not a byte more.
    pub(super) fn answered(&mut self) -> io::Result<Result<Answer, Refusal>> {
        let mut line = Vec::new();
        let mut byte = [0];
        loop {
            self.0.read_exact(&mut byte)?;
            let [byte] = byte;
            if byte == b'\n' {
                return Ok(serde_json::from_slice(&line)?);
            }
            if line.len() >= ANSWER_MAX {
                return Err(io::Error::other("an answer that is longer than any"));
            }
            line.push(byte);
        }
    }

    /// Sends these sockets; the other end knows how many.
    pub(super) fn give(&mut self, sockets: &[BorrowedFd<'_>]) -> io::Result<()> {
        for some in sockets.chunks(SOCKETS_AT_ONCE) {
            let mut space =
                [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(SOCKETS_AT_ONCE))];
            let mut beside = SendAncillaryBuffer::new(&mut space);
            if !beside.push(SendAncillaryMessage::ScmRights(some)) {
                return Err(io::Error::other("too many sockets at once"));
            }
            sendmsg(&self.0, &[IoSlice::new(b"+")], &mut beside, SendFlags::NOSIGNAL)?;
        }
        Ok(())
    }

    /// Takes so many sockets.
    pub(super) fn take(&mut self, count: usize) -> io::Result<Vec<OwnedFd>> {
        let mut taken = Vec::new();
        while taken.len() < count {
            let before = taken.len();
            let mut space =
                [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(SOCKETS_AT_ONCE))];
            let mut beside = RecvAncillaryBuffer::new(&mut space);
            let mut byte = [0];
            let mut bytes = [IoSliceMut::new(&mut byte)];
            recvmsg(&self.0, &mut bytes, &mut beside, RecvFlags::CMSG_CLOEXEC)?;
            for message in beside.drain() {
                if let RecvAncillaryMessage::ScmRights(some) = message {
                    taken.extend(some);
                }
            }
            if taken.len() == before {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
        if taken.len() > count {
            return Err(io::Error::other("more sockets than were announced"));
        }
        Ok(taken)
    }
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd;

    use super::*;

    #[test]
    fn words_and_sockets_arrive_in_their_order() {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let (mut ours, mut theirs) = (Conversation(ours), Conversation(theirs));
        let files: Vec<_> = (0..150).map(|_| tempfile::tempfile().unwrap()).collect();
        let sockets: Vec<_> = files.iter().map(AsFd::as_fd).collect();
        let welcome =
            HandingOver { protocol: PROTOCOL, version: "1".into(), listeners: Vec::new() };

        ours.answer(Ok(welcome.clone())).unwrap();
        ours.give(&sockets).unwrap();
        ours.say(&Word::Yours { records: 7 }).unwrap();

        let Ok(Answer::HandingOver(heard)) = theirs.answered().unwrap() else { panic!() };
        assert_eq!(heard, welcome);
        assert_eq!(theirs.take(150).unwrap().len(), 150);
        assert_eq!(theirs.hear().unwrap(), Word::Yours { records: 7 });
        drop(ours);
        assert_eq!(theirs.hear().unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
    }

    #[test]
    fn what_is_no_word_or_too_long_is_an_error() {
        for bytes in [&[0, 0, 0, 2, b'{', b'}'][..], &[0xff; 8]] {
            let (mut ours, theirs) = UnixStream::pair().unwrap();
            ours.write_all(bytes).unwrap();
            assert!(Conversation(theirs).hear().is_err());
        }
    }

    const PROTOCOL: u32 = super::super::PROTOCOL;
}
