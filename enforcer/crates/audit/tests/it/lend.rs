//! A log that another process writes for a while: nothing is lost, nothing is there twice.

use std::collections::BTreeSet;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use enforcer_audit::{Audit, Full, Lender, Log, Lost, Outlet, Record, Spilled, Unnumbered};

use crate::lab::{Lab, request};

/// The other process: it has the log open, or not yet, or dies.
#[derive(Debug)]
struct Other {
    audit: Audit,
    /// Deliveries that it lives through; the next one it writes and does not answer.
    lives: Arc<AtomicUsize>,
}

impl Outlet for Other {
    fn deliver(&mut self, records: &[Unnumbered]) -> io::Result<Vec<Result<u64, Lost>>> {
        let pass = |record: &Unnumbered| {
            let parsed = Unnumbered::parse(record.bytes()).unwrap();
            loop {
                match self.audit.reserve() {
                    Ok(slot) => return slot.pass(parsed),
                    Err(_full) => std::thread::yield_now(),
                }
            }
        };
        let tickets: Vec<_> = records.iter().map(pass).collect();
        let indices = tickets.into_iter().map(enforcer_audit::Ticket::wait).collect();
        match self.lives.load(Ordering::SeqCst) {
            0 => Err(io::ErrorKind::BrokenPipe.into()),
            left => {
                self.lives.store(left - 1, Ordering::SeqCst);
                Ok(indices)
            }
        }
    }
}

/// An outlet to nobody.
#[derive(Debug)]
struct Nobody;

impl Outlet for Nobody {
    fn deliver(&mut self, _records: &[Unnumbered]) -> io::Result<Vec<Result<u64, Lost>>> {
        Err(io::ErrorKind::BrokenPipe.into())
    }
}

/// An outlet that is there once the log has been opened elsewhere.
#[derive(Debug)]
struct Later(Arc<parking_lot::Mutex<Option<Other>>>);

impl Outlet for Later {
    fn deliver(&mut self, records: &[Unnumbered]) -> io::Result<Vec<Result<u64, Lost>>> {
        self.0.lock().as_mut().unwrap().deliver(records)
    }
}

#[tokio::test]
async fn while_another_writes_every_record_is_there_once_and_under_its_own_index() {
    let lab = Lab::new();
    let (ours, _) = lab.open().unwrap();
    append(&ours, 0..10).await;

    let (other, _lender) = lend(&lab, &ours, usize::MAX).await;
    append(&ours, 10..20).await;
    append(&other, 20..25).await;
    append(&ours, 25..30).await;
    ours.close().await.unwrap();
    append(&other, 30..31).await;
    other.close().await.unwrap();

    lab.verify().unwrap();
    assert_eq!(ids(&lab), (0..31).collect::<Vec<_>>());
}

#[tokio::test]
async fn a_log_that_is_taken_back_has_what_the_other_wrote_and_did_not_answer_once() {
    let lab = Lab::new();
    let (ours, _) = lab.open().unwrap();
    append(&ours, 0..3).await;
    let (other, lender) = lend(&lab, &ours, 1).await;
    append(&ours, 3..4).await;
    let size = Log::open_read_only(&lab.directory()).unwrap().size();

    let unanswered = ours.reserve().unwrap().write(record(4));
    while Log::open_read_only(&lab.directory()).unwrap().size() == size {
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
    let waiting = ours.reserve().unwrap().write(record(5));
    other.close().await.unwrap();
    lender.take_back().await.unwrap();

    let (unanswered, waiting) = (unanswered.committed().await, waiting.committed().await);
    assert!(unanswered.unwrap() < waiting.unwrap());
    append(&ours, 6..9).await;
    assert_eq!(ours.state().waiting, 0);
    ours.close().await.unwrap();
    lab.verify().unwrap();
    assert_eq!(ids(&lab), (0..9).collect::<Vec<_>>());
}

#[tokio::test]
async fn what_no_successor_takes_is_kept_aside_and_appended_by_the_next_start_once() {
    let lab = Lab::new();
    let (ours, _) = lab.open().unwrap();
    append(&ours, 0..3).await;
    let (other, lender) = lend(&lab, &ours, 1).await;
    append(&ours, 3..4).await;

    drop(lender);
    append(&ours, 4..8).await;
    other.close().await.unwrap();
    let (next, _) = lab.open().unwrap();
    assert_eq!(Spilled::find(&spills(&lab)).unwrap().len(), 0, "its writer still lives");
    ours.close().await.unwrap();
    while Spilled::find(&spills(&lab)).unwrap().is_empty() {
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }

    let copy = std::fs::read(spills(&lab).join("1.spill")).unwrap();
    for appended in [3, 0] {
        std::fs::write(spills(&lab).join("1.spill"), &copy).unwrap();
        let mut found = Spilled::find(&spills(&lab)).unwrap();
        assert_eq!(found.len(), 1);
        let done = found.remove(0).append(&next, &lab.directory()).await.unwrap();
        assert_eq!(done, appended, "the first of the four was written before the other died");
    }

    next.close().await.unwrap();
    lab.verify().unwrap();
    let mut once = ids(&lab);
    once.sort_unstable();
    assert_eq!(once, (0..8).collect::<Vec<_>>());
    assert_eq!(std::fs::read_dir(spills(&lab)).unwrap().count(), 0);
}

#[tokio::test]
async fn a_line_of_a_spill_that_a_crash_cut_short_is_no_record() {
    let lab = Lab::new();
    let (ours, _) = lab.open().unwrap();
    let (_size, lender) = ours.lend(Box::new(Nobody), spills(&lab).join("1.spill")).await.unwrap();
    drop(lender);
    append(&ours, 0..3).await;
    ours.close().await.unwrap();
    let (next, _) = lab.open().unwrap();
    let path = spills(&lab).join("1.spill");
    let whole = std::fs::read(&path).unwrap();
    std::fs::write(&path, &whole[..whole.len() - 10]).unwrap();

    let spilled = Spilled::find(&spills(&lab)).unwrap().remove(0);
    assert_eq!(spilled.append(&next, &lab.directory()).await.unwrap(), 2);

    next.close().await.unwrap();
    assert_eq!(ids(&lab), [0, 1]);
}

#[tokio::test]
async fn a_lent_log_takes_no_more_than_it_has_slots_for() {
    let lab = Lab::with_queue(4);
    let (ours, _) = lab.open().unwrap();
    let slot = Arc::new(parking_lot::Mutex::new(None));
    let outlet = Box::new(Later(Arc::clone(&slot)));
    let (_size, lender) = ours.lend(outlet, spills(&lab).join("1.spill")).await.unwrap();

    // The other process is still busy with something else.
    let (tickets, other) = {
        let mut busy = slot.lock();
        let tickets: Vec<_> =
            (0..4).map(|number| ours.reserve().unwrap().write(record(number))).collect();
        assert_eq!(ours.reserve().unwrap_err(), Full::Queue);
        let (other, _) = lab.open().unwrap();
        *busy = Some(Other { audit: other.clone(), lives: Arc::new(usize::MAX.into()) });
        (tickets, other)
    };

    for ticket in tickets {
        ticket.committed().await.unwrap();
    }
    assert!(ours.reserve().is_ok());
    drop(lender);
    ours.close().await.unwrap();
    other.close().await.unwrap();
    assert_eq!(ids(&lab), [0, 1, 2, 3]);
    assert!(lab.verify().unwrap().checkpoint.size > 4, "a gap tells of the refusal");
}

async fn lend(lab: &Lab, ours: &Audit, lives: usize) -> (Audit, Lender) {
    let slot = Arc::new(parking_lot::Mutex::new(None));
    let outlet = Box::new(Later(Arc::clone(&slot)));
    let (_size, lender) = ours.lend(outlet, spills(lab).join("1.spill")).await.unwrap();
    let (other, _) = lab.open().unwrap();
    *slot.lock() = Some(Other { audit: other.clone(), lives: Arc::new(lives.into()) });
    (other, lender)
}

fn spills(lab: &Lab) -> PathBuf {
    lab.beside("spills")
}

async fn append(audit: &Audit, numbers: std::ops::Range<u128>) {
    for number in numbers {
        audit.append(record(number)).await.unwrap();
    }
}

fn record(number: u128) -> Record {
    Record::Http(Arc::new(request(number, "192.0.2.4:1")))
}

/// The numbers of the requests on record, in their order; none of them twice.
fn ids(lab: &Lab) -> Vec<u128> {
    let log = Log::open_read_only(&lab.directory()).unwrap();
    let records = log.records(0..log.size()).unwrap().map(|stored| stored.unwrap().json().unwrap());
    let requests = records.filter(|record| record["class"] == "http");
    let ids: Vec<u128> = requests
        .map(|record| u128::from_str_radix(record["body"]["id"].as_str().unwrap(), 16).unwrap())
        .collect();
    assert_eq!(ids.iter().collect::<BTreeSet<_>>().len(), ids.len(), "{ids:?}");
    ids
}
