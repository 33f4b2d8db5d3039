//! `enforcer audit export`: one record that convinces somebody far away.

use std::path::PathBuf;

use clap::Args;

use super::{Place, unreadable};
use crate::cli::{Context, Exit, Failure};

/// One record with the proof that it is in the log, and a script that checks it anywhere
#[derive(Args, Debug)]
pub(crate) struct Export {
    #[command(flatten)]
    place: Place,
    /// The number of the record
    index: u64,
    /// Into this folder, which is made
    #[arg(long, value_name = "FOLDER")]
    out: PathBuf,
}

impl Export {
    pub(crate) fn execute(&self, context: &Context) -> Result<Exit, Failure> {
        let evidence =
            self.place.open(context)?.export(self.index).map_err(|error| unreadable(&error))?;
        if self.out.exists() {
            return Err(Failure::failed(format!(
                "{} exists and is left alone",
                self.out.display()
            ))
            .hint("name a folder that does not exist yet"));
        }
        evidence.write_to(&self.out).map_err(|error| Failure::because(&error))?;
        let out = self.out.display();
        let lines = [
            format!("record #{} with its proof is in {out}", self.index),
            "check it anywhere, with openssl and xxd alone:".to_owned(),
            format!(
                "  sh {out}/verify.sh {out}/record.json {out}/record.tlog-proof '{}'",
                evidence.key
            ),
        ];
        let answer = serde_json::json!({
            "index": self.index, "folder": self.out, "key": evidence.key.to_string(),
        });
        context.printer.item(&answer, &lines)?;
        Ok(Exit::Done)
    }
}
