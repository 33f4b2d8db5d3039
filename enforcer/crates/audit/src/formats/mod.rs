//! Records in the forms of others: lines for a SIEM, a table for a spreadsheet.
//!
//! What a form has no place for is not lost: each line carries the whole record too. None of these is
//! evidence; that is what a bundle is for.

mod csv;
mod ecs;
mod fields;
mod ocsf;

use crate::stored::Stored;
use fields::Fields;

pub use csv::COLUMNS as CSV_COLUMNS;
pub use ecs::VERSION as ECS_VERSION;
pub use ocsf::VERSION as OCSF_VERSION;

/// A form for records.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// RFC 4180, one record a row, safe to be opened in a spreadsheet.
    Csv,
    /// Elastic Common Schema, one JSON object a line.
    Ecs,
    /// The records as they are, one a line.
    Jsonl,
    /// Open Cybersecurity Schema Framework, one JSON object a line.
    Ocsf,
}

/// Makes lines of records.
#[derive(Clone, Debug)]
pub struct Formatter {
    form: Form,
    origin: String,
    version: String,
}

impl Formatter {
    /// For records of the log `origin`, read by this `version` of the program.
    pub fn new(form: Form, origin: &str, version: &str) -> Self {
        Self { form, origin: origin.to_owned(), version: version.to_owned() }
    }

    /// What stands before the first record, with its line end.
    pub fn header(&self) -> Option<String> {
        match self.form {
            Form::Csv => Some(csv::row(CSV_COLUMNS)),
            Form::Ecs | Form::Jsonl | Form::Ocsf => None,
        }
    }

    /// The line of `record`, with its end.
    pub fn line(&self, record: &Stored) -> Result<String, serde_json::Error> {
        let json = || record.json();
        Ok(match self.form {
            Form::Jsonl => format!("{}\n", record.text),
            Form::Csv => csv::line(&Fields::new(record, &json()?)),
            Form::Ecs => {
                format!(
                    "{}\n",
                    ecs::event(&Fields::new(record, &json()?), &self.origin, &self.version)
                )
            }
            Form::Ocsf => {
                format!(
                    "{}\n",
                    ocsf::event(&Fields::new(record, &json()?), &self.origin, &self.version)
                )
            }
        })
    }
}
