//! Data to stdout, talk to stderr; the same answer as text, table, JSON or YAML.

use std::io::{BufWriter, IsTerminal, Write};

use anstream::{AutoStream, ColorChoice};
use anstyle::{AnsiColor, Style};
use clap::ValueEnum;
use comfy_table::presets::NOTHING;
use serde::Serialize;

use super::escape::{escaped, escaped_json, escaped_lines};
use super::{Exit, Failure};

/// The forms an answer can take.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// Table on a terminal, plain otherwise
    Auto,
    /// Columns with a header
    Table,
    /// Tab-separated, no header
    Plain,
    /// One document
    Json,
    /// One line each
    Jsonl,
    /// One document
    Yaml,
}

/// Rows for people.
#[derive(Debug)]
pub(crate) struct Table {
    pub(crate) header: &'static [&'static str],
    pub(crate) rows: Vec<Vec<String>>,
}

/// Whether anybody reads on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Printed {
    /// All of it was taken.
    Done,
    /// The reader has what it wanted (`| head`).
    ReaderGone,
}

/// How JSON looks.
#[derive(Clone, Copy, Debug)]
enum Layout {
    Indented,
    OneLine,
}

/// What is written at once.
const BUFFER: usize = 64 * 1024;

/// The one way out for words and data.
///
/// Whatever may hold a stranger's words, every cell and every line, is escaped here and nowhere
/// else; YAML escapes by its own rules, a signed record is printed as it was signed.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Printer {
    format: Format,
    color: ColorChoice,
}

impl Printer {
    pub(crate) fn new(format: Format, color: ColorChoice) -> Self {
        Self { format, color }
    }

    /// Prints one thing: `lines` for people, `value` for programs.
    pub(crate) fn item(self, value: &impl Serialize, lines: &[String]) -> Result<Printed, Failure> {
        match self.format {
            Format::Auto | Format::Table | Format::Plain => self.text(lines),
            Format::Json => self.data(&json(value, Layout::Indented)?),
            Format::Jsonl => self.data(&json(value, Layout::OneLine)?),
            Format::Yaml => self.data(yaml(value)?.trim_end()),
        }
    }

    /// Prints many things: `table` for people, `values` for programs.
    pub(crate) fn list(self, values: &[impl Serialize], table: &Table) -> Result<Printed, Failure> {
        match self.format {
            Format::Auto if std::io::stdout().is_terminal() => self.data(&aligned(table)),
            Format::Table => self.data(&aligned(table)),
            Format::Auto | Format::Plain => {
                self.lines(escaped_rows(table).map(|row| row.join("\t")))
            }
            Format::Json => self.data(&json(&values, Layout::Indented)?),
            Format::Jsonl => {
                let lines: Result<Vec<_>, _> =
                    values.iter().map(|value| json(value, Layout::OneLine)).collect();
                self.lines(lines?)
            }
            Format::Yaml => self.data(yaml(&values)?.trim_end()),
        }
    }

    /// The form that was asked for.
    pub(crate) const fn format(self) -> Format {
        self.format
    }

    /// Whether answers go to a program.
    pub(crate) fn is_for_programs(self) -> bool {
        matches!(self.format, Format::Json | Format::Jsonl | Format::Yaml)
    }

    /// Lines for people.
    pub(crate) fn text(self, lines: &[String]) -> Result<Printed, Failure> {
        self.lines(lines.iter().map(|line| escaped(line.trim_end())))
    }

    /// Data as it is: a document of ours, or one that is signed.
    pub(crate) fn data(self, text: &str) -> Result<Printed, Failure> {
        self.lines([text])
    }

    /// Talk: what a person wants to know and a pipe does not.
    pub(crate) fn say(self, line: &str) {
        self.talk(&escaped(line));
    }

    fn talk(self, text: &str) {
        let mut stderr = AutoStream::new(std::io::stderr(), self.color).lock();
        // Nobody can be told that stderr is gone.
        drop(writeln!(stderr, "{text}"));
    }

    /// A hint on its own line.
    pub(crate) fn hint(self, text: &str) {
        let style = AnsiColor::Cyan.on_default();
        self.talk(&format!("{style}hint:{style:#} {}", escaped_lines(text)));
    }

    /// Something legal and odd.
    pub(crate) fn warning(self, text: &str) {
        let style = AnsiColor::Yellow.on_default().bold();
        // Those of a policy begin with the word already, and with their code.
        let word = if text.starts_with("warning[") { "" } else { "warning: " };
        self.talk(&format!("{style}{word}{style:#}{}", escaped_lines(text)));
    }

    /// The reason why a command failed.
    pub(crate) fn failure(self, failure: &Failure) {
        if self.is_for_programs() {
            let error = serde_json::json!({ "error": {
                "exit": exit_number(failure),
                "message": failure.message,
                "details": failure.details,
                "hint": failure.hint,
            } });
            self.talk(&escaped_json(&error.to_string()));
            return;
        }
        let style: Style = AnsiColor::Red.on_default().bold();
        // Problems of a policy begin with the word already, and with their code.
        let word = if failure.message.starts_with("error[") {
            ""
        } else if failure.exit == Exit::Guarded {
            "refused: "
        } else {
            "error: "
        };
        let mut text = format!("{style}{word}{style:#}{}", escaped_lines(&failure.message));
        for detail in &failure.details {
            text.push_str(&format!("\n  {}", escaped(detail)));
        }
        self.talk(&text);
        if let Some(hint) = &failure.hint {
            self.hint(hint);
        }
    }

    fn lines<T: AsRef<str>>(self, lines: impl IntoIterator<Item = T>) -> Result<Printed, Failure> {
        let stdout = AutoStream::new(std::io::stdout(), self.color).lock();
        // A million lines are not a million writes.
        let mut stdout = BufWriter::with_capacity(BUFFER, stdout);
        let mut written = Ok(());
        for line in lines {
            written = writeln!(stdout, "{}", line.as_ref());
            if written.is_err() {
                break;
            }
        }
        match written.and_then(|()| stdout.flush()) {
            Ok(()) => Ok(Printed::Done),
            Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Ok(Printed::ReaderGone),
            Err(error) => Err(Failure::failed(format!("cannot print: {error}"))),
        }
    }
}

fn exit_number(failure: &Failure) -> u8 {
    #[expect(clippy::as_conversions, reason = "the discriminants are the codes")]
    let number = failure.exit as u8;
    number
}

fn aligned(table: &Table) -> String {
    let mut drawn = comfy_table::Table::new();
    drawn.load_preset(NOTHING).set_header(table.header).add_rows(escaped_rows(table));
    let text = drawn.to_string();
    text.lines().map(str::trim_end).collect::<Vec<_>>().join("\n")
}

fn escaped_rows(table: &Table) -> impl Iterator<Item = Vec<String>> {
    table.rows.iter().map(|row| row.iter().map(|cell| escaped(cell)).collect())
}

fn json(value: &impl Serialize, layout: Layout) -> Result<String, Failure> {
    let text = match layout {
        Layout::Indented => serde_json::to_string_pretty(value),
        Layout::OneLine => serde_json::to_string(value),
    };
    text.map(|text| escaped_json(&text)).map_err(|error| Failure::because(&error))
}

fn yaml(value: &impl Serialize) -> Result<String, Failure> {
    // By way of JSON: the same document in both, and no tags that only Rust would read.
    let document = serde_json::to_value(value).map_err(|error| Failure::because(&error))?;
    serde_yaml_ng::to_string(&document).map_err(|error| Failure::because(&error))
}
