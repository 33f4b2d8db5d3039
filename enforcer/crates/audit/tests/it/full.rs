//! A full disk: nothing accepted is lost, nothing refused goes uncounted, service comes back.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use enforcer_audit::{Audit, Expected, Full, Health, Log, verify};

use crate::lab::{note, open_with};

/// A file system of its own, gone with the value.
struct Disk(tempfile::TempDir);

impl Disk {
    fn new(size: &str) -> Self {
        let disk = Self(tempfile::tempdir().unwrap());
        let options = format!("size={size}");
        let mount = Command::new("mount")
            .args(["-t", "tmpfs", "-o", &options, "tmpfs"])
            .arg(disk.0.path())
            .status()
            .unwrap();
        assert!(mount.success(), "needs root: run `cargo xtask test`");
        disk
    }

    fn log(&self) -> PathBuf {
        self.0.path().join("audit")
    }

    fn fill(&self) {
        let mut chunk = 1 << 20;
        let blob = self.0.path().join("blob");
        let mut blob = fs::File::options().append(true).create(true).open(blob).unwrap();
        while chunk > 0 {
            if std::io::Write::write_all(&mut blob, &vec![1; chunk]).is_err() {
                chunk /= 2;
            }
        }
    }

    fn empty(&self) {
        fs::remove_file(self.0.path().join("blob")).unwrap();
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let unmounted = Command::new("umount").arg(self.0.path()).status();
        assert!(unmounted.is_ok_and(|status| status.success()));
    }
}

#[derive(Debug, Default, PartialEq)]
struct Counts {
    accepted: u64,
    refused: u64,
}

impl Counts {
    /// Offers records until `enough`, as clients do who do not go away.
    async fn offer(&mut self, audit: &Audit, enough: impl Fn(&Health, u64) -> bool) {
        for offered in 0.. {
            match audit.reserve() {
                Ok(slot) => {
                    drop(slot.write(note(self.accepted)));
                    self.accepted += 1;
                }
                Err(Full::Disk | Full::Queue) => self.refused += 1,
                Err(other) => panic!("{other}"),
            }
            if enough(&audit.state().health, offered) {
                return;
            }
            if offered % 16 == 0 {
                tokio::time::sleep(Duration::from_micros(200)).await;
            }
        }
    }
}

/// What the log says: records stored and refusals counted.
fn told(log: &Path) -> Counts {
    let log = Log::open_read_only(log).unwrap();
    let mut counts = Counts::default();
    for record in log.records(0..u64::MAX).unwrap().map(Result::unwrap) {
        let json = record.json().unwrap();
        if json["class"] == "gap" {
            counts.refused += json["body"]["records"].as_u64().unwrap();
        } else {
            assert_eq!(json["body"]["verb"], format!("note {}", counts.accepted));
            counts.accepted += 1;
        }
    }
    counts
}

#[tokio::test]
#[ignore = "needs root; run by cargo xtask test"]
async fn a_full_disk_refuses_counts_and_serves_again_when_there_is_room() {
    let disk = Disk::new("6m");
    let (audit, _) = open_with(&disk.log(), 500_000, 256).unwrap();
    let mut counts = Counts::default();
    counts.offer(&audit, |_, offered| offered == 100).await;

    for _ in 0..3 {
        disk.fill();
        counts.offer(&audit, |health, _| *health == Health::DiskFull).await;
        assert!(audit.reserve().unwrap_err().to_string().contains("free some space"));
        counts.refused += 1;
        counts.offer(&audit, |_, offered| offered == 5_000).await;
        verify(&disk.log(), &Expected::default(), |_, _| ()).unwrap();
        disk.empty();
        counts.offer(&audit, |health, _| *health == Health::Serving).await;
        counts.offer(&audit, |_, offered| offered == 100).await;
    }
    audit.close().await.unwrap();

    assert!(counts.refused > 10_000);
    assert_eq!(told(&disk.log()), counts);
    verify(&disk.log(), &Expected::default(), |_, _| ()).unwrap();
}

#[tokio::test]
#[ignore = "needs root; run by cargo xtask test"]
async fn a_log_closed_on_a_full_disk_still_tells_how_many_were_refused() {
    let disk = Disk::new("6m");
    let (audit, _) = open_with(&disk.log(), 500_000, 256).unwrap();
    let mut counts = Counts::default();
    disk.fill();
    counts.offer(&audit, |health, _| *health == Health::DiskFull).await;
    counts.offer(&audit, |_, offered| offered == 1_000).await;

    audit.close().await.unwrap();

    assert_eq!(told(&disk.log()), counts);
    disk.fill();
    let (audit, opened) = open_with(&disk.log(), 500_000, 256).unwrap();
    assert_eq!((opened.recovered, opened.torn_bytes), (0, 0));
    assert!(matches!(audit.reserve(), Err(Full::Disk)), "still full, and says so");
    disk.empty();
    counts.refused += 1;
    counts.offer(&audit, |health, _| *health == Health::Serving).await;
    audit.close().await.unwrap();
    assert_eq!(told(&disk.log()), counts);
}

#[tokio::test]
#[ignore = "needs root; run by cargo xtask test"]
async fn more_records_than_the_reserve_holds_are_given_up_only_at_the_end_and_counted() {
    let disk = Disk::new("8m");
    let (audit, _) = open_with(&disk.log(), 100 << 20, 100_000).unwrap();
    disk.fill();
    let slots: Vec<_> = (0..90_000).map(|_| audit.reserve().unwrap()).collect();
    let mut accepted = 0;
    for slot in slots {
        drop(slot.write(note(accepted)));
        accepted += 1;
    }

    let closed = audit.close().await;

    let told = told(&disk.log());
    assert!(closed.is_err() && told.refused > 0, "the reserve was too large for this test");
    assert_eq!(told.accepted + told.refused, accepted);
    verify(&disk.log(), &Expected::default(), |_, _| ()).unwrap();
}
