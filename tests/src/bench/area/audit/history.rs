//! The history of one token among very many records: found by the index, decrypted, and proven.

use std::fs::{self, File};
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use enforcer_audit::{Log, Selector, index};
use enforcer_model::{Exchange, Fingerprint};
use rustix::fs::{Advice, fadvise};

use super::{World, figure, ours};

/// A token that was used so many times.
#[derive(Clone, Copy, Debug)]
pub(super) struct Rare {
    /// Its uses.
    pub(super) uses: u64,
    credential: Fingerprint,
}

/// Tokens that are looked for: the uses of each lie evenly over the whole log.
pub(super) const RARE: [Rare; 2] = [
    Rare { uses: 10, credential: Fingerprint([0xA1; 16]) },
    Rare { uses: 1_000, credential: Fingerprint([0xA2; 16]) },
];

/// Whether files are in memory already.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Cache {
    /// What the kernel had of them was given up.
    Cold,
    /// They were just read.
    Warm,
}

/// Writes a log of `count` records with the rare tokens among them, and its indexes.
pub(super) fn build(world: &World, folder: &Path, count: u64) -> Result<()> {
    ours::write_each(folder, count, |number| {
        let request = world.request(number)?;
        let place = |rare: &&Rare| {
            let apart = count / rare.uses;
            number % apart == apart / 2
        };
        Ok(match RARE.iter().find(place) {
            Some(rare) => {
                let credential = Some(rare.credential);
                Arc::new(Exchange { credential, ..Exchange::clone(&request) })
            }
            None => request,
        })
    })?;
    let report = index::catch_up(folder, |_, _| ())?;
    ensure!(report.impossible == 0, "some segments have no index: {report:?}");
    Ok(())
}

/// Milliseconds until all records of a token are decrypted and each has its proof.
pub(super) fn find(folder: &Path, rare: Rare, cache: Cache) -> Result<f64> {
    if cache == Cache::Cold {
        forget(folder)?;
    }
    let digits: String = rare.credential.0.iter().map(|byte| format!("{byte:02x}")).collect();
    let selector: Selector = format!("fingerprint:{digits}").parse()?;
    let begun = Instant::now();
    let log = Log::open_read_only(folder)?;
    let mut prover = log.prover();
    let mut found = 0;
    for record in log.trail(selector, None)? {
        let proof = prover.prove(&record?)?;
        ensure!(!proof.is_empty(), "a record without a proof");
        found += 1;
    }
    let spent = begun.elapsed().as_secs_f64() * 1e3;
    ensure!(found == rare.uses, "{found} of {} uses were found", rare.uses);
    Ok(spent)
}

/// Gives up what the kernel has in memory of the files of a log.
fn forget(folder: &Path) -> Result<()> {
    for entry in fs::read_dir(folder).with_context(|| folder.display().to_string())? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            forget(&entry.path())?;
        } else {
            let file = File::open(entry.path())?;
            file.sync_all()?;
            fadvise(&file, 0, None, Advice::DontNeed)?;
        }
    }
    Ok(())
}

/// As many records, at most `most`, as fit a third of the disk at what a record takes there.
pub(super) fn that_fit(folder: &Path, most: u64, bytes_each: u64) -> Result<u64> {
    let disk = rustix::fs::statvfs(folder)?;
    let room = disk.f_bavail.saturating_mul(disk.f_frsize) / 3;
    let mut count = most;
    while count > 10_000 && count.saturating_mul(bytes_each) > room {
        count /= 10;
    }
    Ok(count)
}

/// A count in words.
pub(super) fn millions(count: u64) -> Result<String> {
    Ok(format!("{} M", figure(count)? / 1e6))
}
