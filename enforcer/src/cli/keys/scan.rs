//! `enforcer keys scan`: leaked keys in files and directories.
//!
//! Files are read a piece at a time, whatever their size; links, sockets and devices that lie in a
//! directory are passed over. The checksum of what is found is right, so nothing but a key is found.
//! Secrets are neither kept nor shown. Findings are sorted by place, and so many are listed at most.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use clap::Args;
use enforcer_admin::call::Key;
use enforcer_admin::{Answer, Call};
use enforcer_authn::{FoundKey, KeyScanner};
use enforcer_model::KeyId;
use rustix::fs::OFlags;
use serde::Serialize;

use super::super::confirm::confirm;
use super::super::{Context, Exit, Failure, Table, counted, mismatched, recorded};
use super::told::or_none;

/// Read at once.
const PIECE: usize = 256 * 1024;

/// Findings that are listed; more are counted.
const LISTED_MAX: usize = 10_000;

/// Directories within directories that are looked into.
const DEPTH_MAX: usize = 256;

/// Find leaked keys in files; works without an agent
///
/// Exit code 7 when a key is found.
#[derive(Args, Debug)]
pub(crate) struct Scan {
    /// Files and directories; `-` for standard input
    #[arg(required = true)]
    paths: Vec<PathBuf>,
    /// Revoke what is found, after a question for each key
    #[arg(long)]
    revoke: bool,
    /// Why; goes on record
    #[arg(long, value_name = "TEXT", default_value = "found by `enforcer keys scan`")]
    reason: String,
    /// Ask nothing
    #[arg(short, long, requires = "revoke")]
    yes: bool,
}

/// A key in a file.
#[derive(Debug, Serialize)]
struct Finding {
    file: String,
    line: u64,
    column: u64,
    /// Without its secret.
    key: String,
    id: KeyId,
    /// What the agent calls it.
    name: Option<String>,
    owner: Option<String>,
    /// As the agent says; `unknown` when it has no such key, none when it was not asked.
    state: Option<String>,
}

/// What was found so far.
#[derive(Default)]
struct Findings {
    listed: Vec<(PathBuf, FoundKey)>,
    count: u64,
    files: u64,
    /// What could not be read.
    unread: u64,
}

impl Scan {
    pub(super) fn execute(&self, context: &Context) -> Result<Exit, Failure> {
        let reads_stdin = self.paths.iter().any(|path| path == Path::new("-"));
        if self.revoke && !self.yes && reads_stdin {
            return Err(Failure::usage("standard input cannot be scanned and answer questions")
                .hint("say -y to revoke what is found, or scan a file"));
        }
        let mut findings = Findings::default();
        for path in &self.paths {
            findings.look_at(context, path)?;
        }
        let keys = self.known(context, &findings)?;
        findings.print(context, &keys)?;
        if self.revoke {
            self.revoke_all(context, &keys)?;
        }
        Ok(match (findings.count, findings.unread) {
            (0, 0) => Exit::Done,
            (0, _) => Exit::PartlyApplied,
            (_, _) => Exit::VerificationFailed,
        })
    }

    /// What the agent says of each key; nothing of any when there is no agent.
    fn known(
        &self,
        context: &Context,
        findings: &Findings,
    ) -> Result<BTreeMap<KeyId, Option<Key>>, Failure> {
        let mut known = BTreeMap::new();
        for (_, found) in &findings.listed {
            if known.contains_key(&found.id) {
                continue;
            }
            let asked = context.ask_if_there(&Call::KeyShow { which: found.id.to_string() });
            match asked {
                Ok(Some(Ok(Answer::Key(key)))) => known.insert(found.id, Some(*key)),
                Ok(Some(Err(failure))) if failure.exit == Exit::NothingMatched => {
                    known.insert(found.id, None)
                }
                Ok(Some(Ok(_))) => return Err(mismatched()),
                Ok(Some(Err(failure))) | Err(failure) if self.revoke => return Err(failure),
                Ok(None) if self.revoke => {
                    return Err(Failure::failed("no agent runs, so nothing can be revoked")
                        .exit(Exit::AgentUnreachable)
                        .hint("start it with `enforcer run`, or leave --revoke out"));
                }
                Ok(None) => {
                    context.printer.say("no agent runs: nobody says whose keys these are");
                    return Ok(known);
                }
                Ok(Some(Err(failure))) | Err(failure) => {
                    let why = failure.message;
                    context.printer.warning(&format!("nobody says whose keys these are: {why}"));
                    return Ok(known);
                }
            };
        }
        Ok(known)
    }

    fn revoke_all(
        &self,
        context: &Context,
        keys: &BTreeMap<KeyId, Option<Key>>,
    ) -> Result<(), Failure> {
        for key in keys.values().flatten().filter(|key| key.revoked.is_none()) {
            let (id, name) = (key.id, &key.name);
            let question = format!("revoke key:{id} ({name})? [y/N]");
            let agrees = |answer: &str| matches!(answer, "y" | "yes");
            if !self.yes && confirm(context, &question, agrees).is_err() {
                context.printer.say(&format!("key:{id} is left as it is"));
                continue;
            }
            let (which, reason) = (id.to_string(), self.reason.clone());
            let answer = context.ask(&Call::KeyRevoke { which, reason, dry_run: false })?;
            let Answer::Key(revoked) = answer else { return Err(mismatched()) };
            context.printer.say(&format!("revoked key:{id}; audit {}", recorded(revoked.audit)));
        }
        Ok(())
    }
}

impl Findings {
    /// What was named must be there; a link that was named is followed.
    fn look_at(&mut self, context: &Context, path: &Path) -> Result<(), Failure> {
        if path == Path::new("-") {
            return self.read(context, path, &mut io::stdin().lock());
        }
        let on = |error| Failure::failed(format!("cannot read {}: {error}", path.display()));
        if fs::metadata(path).map_err(on)?.is_dir() {
            return self.walk(context, path);
        }
        let mut file = File::open(path).map_err(on)?;
        self.read(context, path, &mut file)
    }

    fn walk(&mut self, context: &Context, top: &Path) -> Result<(), Failure> {
        let entries = fs::read_dir(top);
        let on = |error| Failure::failed(format!("cannot read {}: {error}", top.display()));
        let mut open = vec![entries.map_err(on)?];
        while let Some(folder) = open.last_mut() {
            let Some(entry) = folder.next() else {
                drop(open.pop());
                continue;
            };
            let entry = match entry {
                Ok(entry) => entry,
                Err(error) => {
                    self.unread(context, top, &error);
                    continue;
                }
            };
            let path = entry.path();
            match entry.file_type() {
                Ok(kind) if kind.is_dir() && open.len() >= DEPTH_MAX => {
                    self.unread(context, &path, &io::Error::other("too deep"));
                }
                Ok(kind) if kind.is_dir() => match fs::read_dir(&path) {
                    Ok(entries) => open.push(entries),
                    Err(error) => self.unread(context, &path, &error),
                },
                Ok(kind) if kind.is_file() => match open_file(&path) {
                    Ok(Some(mut file)) => self.read(context, &path, &mut file)?,
                    Ok(None) => {}
                    Err(error) => self.unread(context, &path, &error),
                },
                Ok(_) => {}
                Err(error) => self.unread(context, &path, &error),
            }
        }
        Ok(())
    }

    fn read(&mut self, context: &Context, path: &Path, from: &mut dyn Read) -> Result<(), Failure> {
        self.files = self.files.saturating_add(1);
        let mut scanner = KeyScanner::new();
        let mut piece = vec![0; PIECE];
        let mut note = |found| {
            self.count = self.count.saturating_add(1);
            if self.listed.len() < LISTED_MAX {
                self.listed.push((path.to_owned(), found));
            }
        };
        let ended = loop {
            match from.read(&mut piece) {
                Ok(0) => break Ok(()),
                Ok(length) => {
                    scanner.feed(piece.get(..length).unwrap_or_default(), &mut note);
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => break Err(error),
            }
        };
        scanner.finish(&mut note);
        if let Err(error) = ended {
            self.unread(context, path, &error);
        }
        Ok(())
    }

    fn unread(&mut self, context: &Context, path: &Path, error: &io::Error) {
        self.unread = self.unread.saturating_add(1);
        context.printer.warning(&format!("not read: {}: {error}", path.display()));
    }

    fn print(
        &mut self,
        context: &Context,
        keys: &BTreeMap<KeyId, Option<Key>>,
    ) -> Result<(), Failure> {
        self.listed.sort_by(|(a, first), (b, second)| {
            (a, first.line, first.column).cmp(&(b, second.line, second.column))
        });
        let findings: Vec<_> = self
            .listed
            .iter()
            .map(|(path, found)| {
                let asked = keys.get(&found.id);
                let key = asked.and_then(Option::as_ref);
                Finding {
                    file: path.to_string_lossy().into_owned(),
                    line: found.line,
                    column: found.column,
                    key: found.masked(),
                    id: found.id,
                    name: key.map(|key| key.name.clone()),
                    owner: key.and_then(|key| key.owner.clone()),
                    state: asked
                        .map(|_| key.map_or_else(|| "unknown".to_owned(), |key| key.state.clone())),
                }
            })
            .collect();
        let rows = findings.iter().map(|finding| {
            vec![
                format!("{}:{}:{}", finding.file, finding.line, finding.column),
                finding.key.clone(),
                or_none(finding.state.as_deref()),
                or_none(finding.name.as_deref()),
                or_none(finding.owner.as_deref()),
            ]
        });
        let header = &["PLACE", "KEY", "STATE", "NAME", "OWNER"];
        context.printer.list(&findings, &Table { header, rows: rows.collect() })?;
        let files = counted(self.files, "file");
        context.printer.say(&format!("{} in {files}", counted(self.count, "key")));
        let listed = u64::try_from(findings.len()).unwrap_or(u64::MAX);
        if self.count > listed {
            context.printer.warning(&format!("only the first {listed} are listed"));
        }
        Ok(())
    }
}

/// A regular file, even if it has become something else since it was listed.
fn open_file(path: &Path) -> io::Result<Option<File>> {
    let flags = (OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY).bits().cast_signed();
    let file = OpenOptions::new().read(true).custom_flags(flags).open(path)?;
    Ok(file.metadata()?.is_file().then_some(file))
}
