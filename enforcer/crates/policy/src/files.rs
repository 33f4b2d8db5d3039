//! Files that a policy names: read while it is loaded, and told in their place when they are wrong.

use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use crate::codes::{Code, KEY_EXPOSED};
use crate::problem::Report;
use crate::text::Span;

/// The contents of `file`, a regular one of at most `most` bytes; `code` for those that cannot be
/// read.
pub(crate) fn contents(
    file: &Path,
    most: u64,
    code: &'static Code,
    span: Span,
    report: &mut Report,
) -> Option<Vec<u8>> {
    let read = fs::metadata(file).and_then(|facts| {
        if !facts.is_file() {
            Err(io::Error::other("it is not a regular file"))
        } else if facts.len() > most {
            Err(io::Error::other(format!("it is larger than {}", enforcer_model::Bytes(most))))
        } else {
            fs::read(file)
        }
    });
    match read {
        Ok(contents) => Some(contents),
        Err(error) => {
            let hint = "relative paths are relative to the policy file; the agent's user must be \
                        able to read it";
            let message = format!("cannot read {}: {error}", file.display());
            report.add(code, span, message, hint.to_owned());
            None
        }
    }
}

/// Warns when every user of the host may use what only the agent should.
pub(crate) fn private(file: &Path, span: Span, report: &mut Report) {
    if let Ok(facts) = fs::metadata(file)
        && facts.permissions().mode() & 0o007 != 0
    {
        let message = format!("every user of this host may use {}", file.display());
        report.add(&KEY_EXPOSED, span, message, format!("chmod o-rwx {}", file.display()));
    }
}
