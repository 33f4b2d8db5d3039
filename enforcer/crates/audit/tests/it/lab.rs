//! Logs in directories of their own, and records to put there.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use enforcer_audit::{
    AdminAction, Audit, BlockChange, BlockEvent, Config, Expected, Layer, OpenError, Opened,
    Outcome, Record, Report, Stored, VerifyError, verify,
};
use enforcer_model::{
    Author, Block, CredentialKind, Exchange, Expiry, Fingerprint, HttpVersion, Principal, Reason,
    RequestId, Role, SystemClock, Timestamp, TlsVersion, Who,
};
use tempfile::TempDir;

pub(crate) const ORIGIN: &str = "host.example/enforcer";

/// A directory for one log.
pub(crate) struct Lab {
    home: TempDir,
    segment_bytes: u64,
    queue: usize,
}

impl Lab {
    pub(crate) fn new() -> Self {
        Self {
            home: tempfile::tempdir().unwrap(),
            segment_bytes: Config::SEGMENT_BYTES,
            queue: Config::QUEUE,
        }
    }

    /// Short segments, so that there are many.
    pub(crate) fn with_segments(segment_bytes: u64) -> Self {
        Self { segment_bytes, ..Self::new() }
    }

    pub(crate) fn in_memory_with_segments(segment_bytes: u64) -> Self {
        Self { segment_bytes, ..Self::in_memory() }
    }

    /// Few slots, so that they run out.
    pub(crate) fn with_queue(queue: usize) -> Self {
        Self { queue, ..Self::new() }
    }

    /// On a file system where a sync costs nothing, for tests that open thousands of times.
    pub(crate) fn in_memory() -> Self {
        let memory = Path::new("/dev/shm");
        match tempfile::tempdir_in(memory) {
            Ok(home) => Self { home, ..Self::new() },
            Err(_) => Self::new(),
        }
    }

    pub(crate) fn directory(&self) -> PathBuf {
        self.home.path().join("audit")
    }

    /// Another place beside the log.
    pub(crate) fn beside(&self, name: &str) -> PathBuf {
        self.home.path().join(name)
    }

    pub(crate) fn open(&self) -> Result<(Audit, Opened), OpenError> {
        open_with(&self.directory(), self.segment_bytes, self.queue)
    }

    /// A log with `count` small records, closed.
    pub(crate) async fn with_records(self, count: u64) -> Self {
        let (audit, _) = self.open().unwrap();
        append_many(&audit, 0..count).await;
        audit.close().await.unwrap();
        self
    }

    pub(crate) fn verify(&self) -> Result<Report, VerifyError> {
        verify(&self.directory(), &Expected::default(), |_, _| ())
    }

    /// The files of the log, with their sizes.
    pub(crate) fn files(&self) -> Vec<PathBuf> {
        let mut files = Vec::new();
        list(&self.directory(), &mut files);
        files.sort();
        files
    }

    pub(crate) fn segment(&self) -> PathBuf {
        self.directory().join("segments/00000000000000000000.seg")
    }
}

pub(crate) fn open_with(
    directory: &Path,
    segment_bytes: u64,
    queue: usize,
) -> Result<(Audit, Opened), OpenError> {
    let config = Config { segment_bytes, queue, ..Config::new(directory, ORIGIN) };
    Audit::open(config, Arc::new(SystemClock))
}

/// Writes records as a server does: many in flight, each awaited.
pub(crate) async fn append_many(audit: &Audit, numbers: std::ops::Range<u64>) {
    let mut tickets = Vec::new();
    for number in numbers {
        tickets.push(audit.reserve().unwrap().write(note(number)));
        if tickets.len() == 1_000 {
            for ticket in tickets.drain(..) {
                committed(ticket).await;
            }
        }
    }
    for ticket in tickets {
        committed(ticket).await;
    }
}

/// Writes records one after the other: each has a block and a commit of its own.
pub(crate) async fn append_each(audit: &Audit, numbers: std::ops::Range<u64>) {
    for number in numbers {
        audit.append(note(number)).await.unwrap();
    }
}

/// The frames of a segment: their kinds, and where each ends.
pub(crate) fn frames(bytes: &[u8]) -> Vec<(u8, usize)> {
    let mut end = header_bytes(bytes);
    let mut frames = Vec::new();
    while end < bytes.len() {
        let kind = bytes[end];
        end += 5 + number_at(bytes, end + 1);
        frames.push((kind, end));
    }
    frames
}

/// Bytes of a segment's header.
pub(crate) fn header_bytes(bytes: &[u8]) -> usize {
    16 + 4 + number_at(bytes, 16) + 32
}

fn number_at(bytes: &[u8], at: usize) -> usize {
    u32::from_be_bytes(bytes[at..at + 4].try_into().unwrap()) as usize
}

async fn committed(ticket: enforcer_audit::Ticket) {
    ticket.committed().await.unwrap();
}

/// A small record that carries `number`.
pub(crate) fn note(number: u64) -> Record {
    Record::Admin(AdminAction {
        operator: Author::Operator { uid: 0, name: "root".to_owned() },
        // No argument: what an operator wrote is personal, and stands in a record of its own.
        verb: format!("note {number}"),
        arguments: Vec::new(),
        outcome: Outcome::Done,
        detail: None,
    })
}

/// The number in a [`note`].
pub(crate) fn number_of(stored: &Stored) -> u64 {
    let json = stored.json().unwrap();
    let verb = json.pointer("/body/verb").unwrap().as_str().unwrap();
    verb.strip_prefix("note ").unwrap().parse().unwrap()
}

/// A request by a key, from `peer`.
pub(crate) fn request(id: u128, peer: &str) -> Exchange {
    Exchange {
        id: RequestId::from_bits(id),
        at: Timestamp::from_unix_seconds(1_800_000_000),
        peer: peer.parse().unwrap(),
        source: None,
        source_by: None,
        source_doubt: None,
        listener: "public".into(),
        tls: Some(TlsVersion::V1_3),
        ja4: None,
        user_agent: None,
        trace: None,
        http: HttpVersion::H2,
        method: "GET".to_owned(),
        host: Some("api.example.com".to_owned()),
        path: Some("/v1/orders/7".to_owned()),
        route: Some("orders".into()),
        who: Some(Who {
            key: Some("k7Qx2mP9aB3c".parse().unwrap()),
            role: Some(Role::new("reader")),
            ..Who::new(Principal::from_key("k7Qx2mP9aB3c".parse().unwrap()), CredentialKind::ApiKey)
        }),
        incident: 0,
        region: None,
        credential: Some(Fingerprint([0xab; 16])),
        status: 200,
        reason: None,
        cause: None,
        rule: Some("orders.allow[1]".to_owned()),
        upstream: Some("127.0.0.1:9000".into()),
        cache: None,
        bytes_in: 0,
        bytes_out: 512,
        exposed: None,
        duration: Duration::from_micros(1_500),
        upstream_wait: Duration::from_micros(1_200),
        policy: "5f".repeat(32).into(),
    }
}

/// The same request, refused for `reason` before anyone was known.
pub(crate) fn refused(id: u128, peer: &str, reason: Reason) -> Exchange {
    let status = reason.status();
    Exchange { who: None, upstream: None, status, reason: Some(reason), ..request(id, peer) }
}

/// A block of a network that took effect.
pub(crate) fn block(id: &str, target: &str) -> BlockChange {
    BlockChange {
        what: BlockEvent::Applied,
        block: Block {
            id: id.parse().unwrap(),
            target: target.parse().unwrap(),
            reason: "10 failures of authentication in 10s".to_owned(),
            author: Author::Rule("key-guessing".to_owned()),
            since: Timestamp::from_unix_seconds(1_800_000_000),
            until: Expiry::At(Timestamp::from_unix_seconds(1_800_000_900)),
            through: None,
        },
        layers: vec![
            Layer::Proxy,
            Layer::Kernel { interface: "eth1".to_owned(), mode: "native".to_owned() },
        ],
        took: Some(Duration::from_micros(420)),
        detail: None,
    }
}

pub(crate) fn copy_tree(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy_tree(&entry.path(), &target);
        } else if entry.file_name() == "reserve" {
            // Room that nothing was written to, as in the original.
            File::create(target).unwrap().set_len(entry.metadata().unwrap().len()).unwrap();
        } else {
            fs::copy(entry.path(), target).unwrap();
        }
    }
}

fn list(directory: &Path, files: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            list(&path, files);
        } else {
            files.push(path);
        }
    }
}
