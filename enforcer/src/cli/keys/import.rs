//! `enforcer keys import`.

use std::fs::File;
use std::io::{Read, stdin};
use std::path::{Path, PathBuf};

use clap::{Args, ValueEnum};
use enforcer_admin::call::{KeyImport, KeyImportFormat};
use enforcer_admin::{Answer, Call};

use super::super::{Context, Exit, Failure, Format, Table, counted, mismatched, recorded};

/// Longest file of keys.
const FILE_MAX: u64 = 16 << 20;

/// Make keys of secrets from elsewhere, known by their SHA-256
///
/// One key a line. JSON lines: {"hash": "…", "name": "ci", "roles": ["reader"]} with, where wanted,
/// owner, application, scopes, routes, networks, certificate, `not_before`, expires, limits, notes,
/// environment. CSV: the same words in a header line, lists with `;` between. All of the file is
/// imported, or nothing. Where the keys came from, `printf %s "$KEY" | sha256sum` made the hash.
#[derive(Args, Debug)]
#[command(verbatim_doc_comment)]
pub(crate) struct Import {
    /// The file; `-` for standard input
    file: PathBuf,
    /// How it is written; by default as its name says, or its first character
    #[arg(long, value_enum)]
    format: Option<Written>,
    /// Only check
    #[arg(long)]
    dry_run: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Written {
    /// A header line, then one key a line
    Csv,
    /// A JSON object on each line
    Jsonl,
}

impl Import {
    pub(super) fn execute(&self, context: &Context) -> Result<Exit, Failure> {
        let text = self.read()?;
        let format = match self.format.unwrap_or_else(|| guessed(&self.file, &text)) {
            Written::Csv => KeyImportFormat::Csv,
            Written::Jsonl => KeyImportFormat::JsonLines,
        };
        let call = Call::KeyImport(KeyImport { format, text, dry_run: self.dry_run });
        let Answer::KeysImported(imported) = context.ask(&call)? else { return Err(mismatched()) };
        let printer = context.printer;
        let count = counted(u64::try_from(imported.keys.len()).unwrap_or(u64::MAX), "key");
        if printer.is_for_programs() && printer.format() != Format::Jsonl {
            printer.item(&imported, &[])?;
            return Ok(Exit::Done);
        }
        if imported.dry_run {
            printer.say(&format!("dry run: {count} would be imported"));
        }
        let rows = imported.keys.iter().map(|key| {
            let id = key.id.map_or_else(|| "-".to_owned(), |id| id.to_string());
            vec![key.line.to_string(), id, key.name.clone()]
        });
        let table = Table { header: &["LINE", "ID", "NAME"], rows: rows.collect() };
        printer.list(&imported.keys, &table)?;
        if !imported.dry_run {
            printer.say(&format!("{count} imported; audit {}", recorded(imported.audit)));
            printer.say("undo: enforcer keys revoke ID --reason 'imported by mistake', for each");
        }
        Ok(Exit::Done)
    }

    fn read(&self) -> Result<String, Failure> {
        let mut text = String::new();
        let told = self.file.display();
        let read = if self.file == Path::new("-") {
            stdin().lock().take(FILE_MAX).read_to_string(&mut text)
        } else {
            File::open(&self.file).and_then(|file| file.take(FILE_MAX).read_to_string(&mut text))
        };
        match read {
            Err(error) => Err(Failure::failed(format!("cannot read {told}: {error}"))),
            Ok(length) if u64::try_from(length) == Ok(FILE_MAX) => {
                Err(Failure::usage(format!("{told} has more than 16 MiB")).hint("split it"))
            }
            Ok(_) => Ok(text),
        }
    }
}

fn guessed(file: &Path, text: &str) -> Written {
    match file.extension().and_then(|name| name.to_str()) {
        Some("csv") => Written::Csv,
        Some("jsonl" | "ndjson" | "json") => Written::Jsonl,
        Some(_) | None if text.trim_start().starts_with('{') => Written::Jsonl,
        Some(_) | None => Written::Csv,
    }
}
