//! Keys from elsewhere: all of a file, or none and every reason why not.

use enforcer_admin::call::{KeyImport, KeyImportFormat, KeyImported, KeysImported};
use enforcer_admin::{Answer, Refusal, RefusalKind};
use enforcer_authn::{ImportFile, ImportFormat, ImportProblem, ImportedKey, read_import};
use enforcer_model::Author;
use tracing::info;

use super::super::Desk;
use super::told::{key_refusal, unknown_names};

/// Problems that are told one by one; of the others their number.
const PROBLEMS_TOLD: usize = 100;

impl Desk {
    pub(in crate::desk) async fn import_keys(
        &mut self,
        asked: KeyImport,
        by: &Author,
    ) -> Result<Answer, Refusal> {
        let rehearsal = asked.dry_run;
        let done = self.import(&asked);
        if rehearsal {
            return done.map(Answer::KeysImported);
        }
        let count = done.as_ref().map_or(0, |imported| imported.keys.len());
        let arguments = vec![format!("{count} keys")];
        let done = done.map(|imported| (Answer::KeysImported(imported), None));
        self.clerk.recorded("keys import", arguments, by, done).await
    }

    fn import(&mut self, asked: &KeyImport) -> Result<KeysImported, Refusal> {
        let now = self.clock.now().wall;
        let format = match asked.format {
            KeyImportFormat::Csv => ImportFormat::Csv,
            KeyImportFormat::JsonLines => ImportFormat::JsonLines,
        };
        let ImportFile { keys, mut problems } = read_import(&asked.text, format, now);
        let policy = self.policies.current();
        problems.extend(self.keys.check_import(&keys).map_err(|error| key_refusal(&error))?);
        for ImportedKey { line, new, .. } in &keys {
            problems.extend(unknown_names(&policy, new).into_iter().map(|unknown| ImportProblem {
                line: *line,
                what: format!("{}; {}", unknown.what, unknown.hint),
            }));
        }
        if !problems.is_empty() {
            problems.sort_by_key(|problem| problem.line);
            return Err(refused(&problems));
        }
        let mut told: Vec<_> = keys
            .iter()
            .map(|key| KeyImported { line: key.line, name: key.new.name.clone(), id: None })
            .collect();
        if !asked.dry_run {
            let records = self.keys.import(keys, now).map_err(|error| key_refusal(&error))?;
            told.iter_mut().zip(&records).for_each(|(told, record)| told.id = Some(record.id));
            info!(keys = records.len(), "keys imported");
        }
        Ok(KeysImported { keys: told, dry_run: asked.dry_run, audit: None })
    }
}

fn refused(problems: &[ImportProblem]) -> Refusal {
    let count = crate::cli::counted(u64::try_from(problems.len()).unwrap_or(u64::MAX), "problem");
    let mut details: Vec<_> =
        problems.iter().take(PROBLEMS_TOLD).map(ToString::to_string).collect();
    let more = problems.len().saturating_sub(PROBLEMS_TOLD);
    details.extend((more > 0).then(|| format!("and {more} more")));
    Refusal::new(RefusalKind::Usage, format!("nothing was imported: {count}"))
        .details(details)
        .hint("mend the lines and import the file again; `--dry-run` only checks")
}
