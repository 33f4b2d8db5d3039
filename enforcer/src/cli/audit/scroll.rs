//! Records as they are printed, one after the other.

use enforcer_audit::Stored;

use crate::cli::record::told;
use crate::cli::{Context, Failure, Format, Printed, Printer, Table};

/// Records one after the other: lines for people, one document or canonical lines for programs.
pub(crate) struct Scroll {
    printer: Printer,
    extent: Extent,
    printed: u64,
}

/// Whether the last record is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Extent {
    /// It is: JSON is one array.
    Whole,
    /// More may come: JSON is one line each.
    Endless,
}

impl Scroll {
    pub(crate) fn new(context: &Context, extent: Extent) -> Self {
        Self { printer: context.printer, extent, printed: 0 }
    }

    pub(crate) fn print(&mut self, record: &Stored) -> Result<Printed, Failure> {
        let first = self.printed == 0;
        self.printed += 1;
        match (self.printer.format(), self.extent) {
            (Format::Json, Extent::Whole) => {
                let before = if first { '[' } else { ',' };
                self.printer.data(&format!("{before}{}", record.text))
            }
            (Format::Json, Extent::Endless) | (Format::Jsonl, _) => self.printer.data(&record.text),
            (Format::Yaml, _) => {
                let json = record.json().map_err(|error| Failure::because(&error))?;
                self.printer.list(&[json], &Table { header: &[], rows: Vec::new() })
            }
            (Format::Auto | Format::Table | Format::Plain, _) => self.printer.text(&[told(record)]),
        }
    }

    /// How many there were; the document is complete.
    pub(crate) fn end(self) -> Result<u64, Failure> {
        if self.printer.format() == Format::Json && self.extent == Extent::Whole {
            self.printer.data(if self.printed == 0 { "[]" } else { "]" })?;
        }
        Ok(self.printed)
    }
}
