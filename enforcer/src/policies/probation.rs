//! A policy that is in force until it is confirmed, or the one before comes back.
//!
//! The mark on disk is written before the policy is in force and removed when it is confirmed. An
//! agent that finds one when it starts was not told that all is well, and goes back.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use enforcer_model::Timestamp;
use serde::{Deserialize, Serialize};
use tracing::warn;

use crate::files;

/// Where the policy before is kept, and the mark that the one in force is on probation.
#[derive(Clone, Debug)]
pub(crate) struct Probation {
    previous: PathBuf,
    mark: PathBuf,
}

#[derive(Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct Mark {
    until: Timestamp,
}

impl Probation {
    pub(crate) fn of(state: &Path) -> Self {
        Self {
            previous: state.join("policy.previous.toml"),
            mark: state.join("policy.probation.json"),
        }
    }

    /// The file with the policy before.
    pub(crate) fn previous(&self) -> &Path {
        &self.previous
    }

    /// The policy before, if one is kept.
    pub(crate) fn previous_text(&self) -> std::io::Result<Option<String>> {
        match std::fs::read_to_string(&self.previous) {
            Ok(text) => Ok(Some(text)),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Keeps `text` as the policy before.
    pub(crate) fn keep(&self, text: &str) -> std::io::Result<()> {
        files::write_private(&self.previous, text.as_bytes())
    }

    /// From here on a start goes back to the policy before.
    pub(crate) fn begin(&self, until: Timestamp) -> std::io::Result<()> {
        let mark = serde_json::to_vec(&Mark { until })?;
        files::write_private(&self.mark, &mark)
    }

    /// Whether the policy in force is not confirmed yet.
    pub(crate) fn is_on(&self) -> bool {
        self.mark.exists()
    }

    /// The policy in force stays.
    pub(crate) fn end(&self) -> std::io::Result<()> {
        files::remove(&self.mark)
    }

    /// Puts the policy before into `file` when the last agent ended before its policy was confirmed;
    /// whether it did.
    pub(crate) fn recover(&self, file: &Path) -> Result<bool> {
        if !self.mark.exists() {
            return Ok(false);
        }
        let text = self
            .previous_text()
            .and_then(|text| text.ok_or_else(|| ErrorKind::NotFound.into()))
            .with_context(|| {
                format!(
                    "the policy was never confirmed, and the one before cannot be read from {}; \
                     look at both, then remove {}",
                    self.previous.display(),
                    self.mark.display()
                )
            })?;
        files::replace(file, &text).with_context(|| {
            format!("cannot bring the policy before back to {}", file.display())
        })?;
        self.end().with_context(|| format!("cannot remove {}", self.mark.display()))?;
        warn!(file = %file.display(), "the policy was never confirmed; the one before is back");
        Ok(true)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_start_goes_back_exactly_when_the_policy_was_not_confirmed() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("policy.toml");
        let probation = Probation::of(folder.path());
        std::fs::write(&file, "new").unwrap();
        probation.keep("old").unwrap();

        assert!(!probation.recover(&file).unwrap());
        assert_eq!(std::fs::read_to_string(&file).unwrap(), "new");

        probation.begin(Timestamp::from_unix_seconds(1)).unwrap();
        assert!(probation.recover(&file).unwrap());
        assert_eq!(std::fs::read_to_string(&file).unwrap(), "old");
        assert!(!probation.recover(&file).unwrap());
    }

    #[test]
    fn without_the_policy_before_a_start_says_what_to_do() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("policy.toml");
        std::fs::write(&file, "new").unwrap();
        let probation = Probation::of(folder.path());
        probation.begin(Timestamp::from_unix_seconds(1)).unwrap();

        let refused = probation.recover(&file).unwrap_err().to_string();

        assert!(refused.contains("policy.previous.toml") && refused.contains("probation.json"));
        assert_eq!(std::fs::read_to_string(&file).unwrap(), "new");
    }
}
