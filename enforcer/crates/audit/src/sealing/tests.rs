//! Who can read a segment, and for how long.

use std::sync::Arc;
use std::time::Duration;

use enforcer_model::{Author, SystemClock};
use tempfile::TempDir;

use super::age::{Identity, Recipient};
use crate::audit::{Audit, Config};
use crate::merkle::leaf_hash;
use crate::read::{Log, ReadError};
use crate::record::{AdminAction, Outcome, Record};
use crate::verify::{Expected, verify};

#[tokio::test]
async fn a_segment_that_has_cooled_down_is_read_by_its_recipients_alone() {
    let home = log(vec![Identity::of(1).recipient(), Identity::of(2).recipient()]).await;

    let log = || Log::open_read_only(home.path()).unwrap();
    let sealed = log().records(0..1).unwrap().next().unwrap().unwrap_err();
    assert!(matches!(sealed, ReadError::Sealed { first: 0 }), "{sealed}");
    let strange: Arc<[Identity]> = [Identity::of(3)].into();
    assert!(log().with_identities(strange).records(0..1).unwrap().next().unwrap().is_err());
    for reader in [1, 2] {
        let identities: Arc<[Identity]> = [Identity::of(reader)].into();
        let log = log().with_identities(Arc::clone(&identities));
        assert_eq!(log.records(0..log.size()).unwrap().filter(Result::is_ok).count(), 25);
        assert!(log.export(3).is_ok());
        let expected = Expected { identities, ..Expected::default() };
        assert_eq!(verify(home.path(), &expected, |_, _| ()).unwrap().sealed, 0);
    }
    // Everything but the records themselves can be audited by anybody.
    let report = verify(home.path(), &Expected::default(), |_, _| ()).unwrap();
    assert_eq!((report.sealed, report.checkpoint.size), (2, 25));
}

#[tokio::test]
async fn without_recipients_the_keys_stay_and_everything_can_be_read() {
    let home = log(Vec::new()).await;

    let log = Log::open_read_only(home.path()).unwrap();
    assert_eq!(log.records(0..log.size()).unwrap().filter(Result::is_ok).count(), 25);
}

#[tokio::test]
async fn the_same_record_has_another_leaf_in_every_segment() {
    let (one, other) = (log(Vec::new()).await, log(Vec::new()).await);

    let leaf = |home: &TempDir| {
        let record = Log::open_read_only(home.path()).unwrap().record(7).unwrap();
        let (salt, json) = record.leaf().split_at(super::SALT_BYTES);
        assert_eq!(json, record.text.as_bytes());
        assert_ne!(leaf_hash(json), leaf_hash(record.leaf()));
        salt.to_vec()
    };
    assert_ne!(leaf(&one), leaf(&other));
}

/// A log of three segments, two of them closed and no longer hot.
async fn log(recipients: Vec<Recipient>) -> TempDir {
    let home = tempfile::tempdir().unwrap();
    let config = Config {
        recipients,
        hot: Duration::ZERO,
        segment_records: 10,
        ..Config::new(home.path(), "host.example/enforcer")
    };
    let (audit, _) = Audit::open(config, Arc::new(SystemClock)).unwrap();
    for number in 0..25 {
        let note = AdminAction {
            operator: Author::Agent,
            verb: format!("note {number}"),
            arguments: Vec::new(),
            outcome: Outcome::Done,
            detail: None,
        };
        audit.append(Record::Admin(note)).await.unwrap();
    }
    audit.close().await.unwrap();
    home
}
