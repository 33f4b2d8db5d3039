//! What is taken back stays taken back: in memory, on disk, after a restart, when the disk fails.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use enforcer_model::{Author, Claims, Expiry, Principal, Reason, Thumbprint, Timestamp};
use proptest::prelude::*;

use super::*;
use crate::identity::{Certificate, Identity, Proof, TokenFacts};

const NOW: Timestamp = Timestamp::from_unix_seconds(1_795_000_000);

#[test]
fn a_revocation_survives_a_restart_and_so_does_its_end() {
    let (_folder, path) = place();
    let mut store = RevocationStore::open(&path).unwrap();
    let kept = store.revoke(new("sub:alice", Expiry::Never), NOW).unwrap();
    let ended = store.revoke(new("sub:bob", Expiry::Never), NOW).unwrap();
    store.restore(ended.id, NOW).unwrap();
    drop(store);

    let mut store = RevocationStore::open(&path).unwrap();

    assert_eq!(store.list(NOW), [Arc::clone(&kept)]);
    assert_eq!(refused(&store, &caller("alice")), Some(Reason::TokenRevoked));
    assert_eq!(refused(&store, &caller("bob")), None);
    let next = store.revoke(new("sub:carol", Expiry::Never), NOW).unwrap();
    assert!(next.id > ended.id, "no name is used twice");
}

#[test]
fn a_revocation_ends_when_it_says_and_is_then_forgotten() {
    let (_folder, path) = place();
    let mut store = RevocationStore::open(&path).unwrap();
    let end = Timestamp::from_unix_seconds(1_795_000_060);
    store.revoke(new("sub:alice", Expiry::At(end)), NOW).unwrap();
    let check = |now| store.index().check(&caller("alice"), now).is_err();

    assert!(check(NOW) && check(Timestamp::from_unix_seconds(1_795_000_059)));
    assert!(!check(end));
    assert!(store.list(end).is_empty());
    store.revoke(new("sub:bob", Expiry::Never), end).unwrap();
    let rows: i64 = store
        .connection()
        .query_row("SELECT count(*) FROM revocations", [], |row| row.get(0))
        .unwrap();
    assert_eq!(rows, 1, "what is over is cleared away");
}

#[test]
fn a_revocation_of_one_issuer_leaves_the_others_alone() {
    let (_folder, path) = place();
    let mut store = RevocationStore::open(&path).unwrap();
    for target in ["sub:alice", "jti:t-1", "kid:k1", "client:app", "before:2026-12-01T00:00:00Z"] {
        let ours = NewRevocation { issuer: Some("corp".into()), ..new(target, Expiry::Never) };
        let theirs = NewRevocation { issuer: Some("partner".into()), ..ours.clone() };

        let one = store.revoke(theirs, NOW).unwrap();
        assert_eq!(refused(&store, &caller("alice")), None, "{target}");
        let two = store.revoke(ours, NOW).unwrap();
        assert_eq!(refused(&store, &caller("alice")), Some(Reason::TokenRevoked), "{target}");
        assert!(two.hits(&caller("alice")) && !one.hits(&caller("alice")), "{target}");

        store.restore(one.id, NOW).unwrap();
        store.restore(two.id, NOW).unwrap();
    }
}

#[test]
fn a_token_that_does_not_say_when_it_was_issued_counts_as_older() {
    let (_folder, path) = place();
    let mut store = RevocationStore::open(&path).unwrap();
    store.revoke(new("before:2026-11-18T11:06:40Z", Expiry::Never), NOW).unwrap();
    let issued = |seconds: Option<u64>| {
        let issued = seconds.map(Timestamp::from_unix_seconds);
        caller_with(TokenFacts { issued, ..facts("alice") })
    };

    assert_eq!(refused(&store, &issued(Some(1_795_000_000))), None, "issued at that moment");
    assert_eq!(refused(&store, &issued(Some(1_794_999_999))), Some(Reason::TokenRevoked));
    assert_eq!(refused(&store, &issued(None)), Some(Reason::TokenRevoked));
}

#[test]
fn a_certificate_is_refused_whatever_comes_with_it_and_belongs_to_no_issuer() {
    let (_folder, path) = place();
    let mut store = RevocationStore::open(&path).unwrap();
    let target = format!("cert:{}", Thumbprint([7; 32]));
    let of_issuer = NewRevocation { issuer: Some("corp".into()), ..new(&target, Expiry::Never) };
    assert!(matches!(store.revoke(of_issuer, NOW), Err(RevocationError::IssuerOfCertificate)));

    let revocation = store.revoke(new(&target, Expiry::Never), NOW).unwrap();

    let with = |byte, proof| {
        let thumbprint = Thumbprint([byte; 32]);
        let certificate = Certificate { thumbprint, spiffe: None, names: Box::default() };
        let principal = Principal::from_certificate(thumbprint);
        Identity { principal, proof, certificate: Some(Arc::new(certificate)), bound: None }
    };
    let token = || Proof::Token(Arc::new(facts("alice")));
    for proof in [Proof::Certificate, token()] {
        let caller = with(7, proof);
        assert_eq!(refused(&store, &caller), Some(Reason::CertificateRevoked));
        assert!(revocation.hits(&caller));
    }
    assert_eq!(refused(&store, &with(8, token())), None);
    assert_eq!(refused(&store, &caller("alice")), None);
}

#[test]
fn to_revoke_twice_is_once_and_for_longer_is_another() {
    let (_folder, path) = place();
    let mut store = RevocationStore::open(&path).unwrap();
    let at = |seconds| Expiry::At(Timestamp::from_unix_seconds(seconds));

    let first = store.revoke(new("sub:alice", at(1_795_000_100)), NOW).unwrap();
    let same = store.revoke(new("sub:alice", at(1_795_000_050)), NOW).unwrap();
    let longer = store.revoke(new("sub:alice", Expiry::Never), NOW).unwrap();
    let within = store.revoke(new("sub:alice", at(1_795_000_100)), NOW).unwrap();

    assert!(first.id == same.id && first.id != longer.id);
    assert_eq!(store.list(NOW).len(), 2);
    assert!(within.id == first.id || within.id == longer.id);
}

#[test]
fn what_the_disk_refuses_is_in_force_all_the_same() {
    let (_folder, path) = place();
    let mut store = RevocationStore::open(&path).unwrap();
    store.connection().pragma_update(None, "query_only", true).unwrap();

    let error = store.revoke(new("sub:alice", Expiry::Never), NOW).unwrap_err();

    let RevocationError::OnlyInMemory { id, .. } = error else { panic!("{error}") };
    assert_eq!(refused(&store, &caller("alice")), Some(Reason::TokenRevoked));
    assert!(store.restore(id, NOW).is_err(), "and is not let go while the disk cannot say so");
    assert_eq!(refused(&store, &caller("alice")), Some(Reason::TokenRevoked));
    store.connection().pragma_update(None, "query_only", false).unwrap();
    store.restore(id, NOW).unwrap();
    assert_eq!(refused(&store, &caller("alice")), None);
}

#[test]
fn there_are_only_so_many_times_before_which_tokens_are_refused() {
    let (_folder, path) = place();
    let mut store = RevocationStore::open(&path).unwrap();
    let before = |hour| new(&format!("before:2026-01-01T{hour:02}:00:00Z"), Expiry::Never);
    for hour in 0..RevocationStore::BEFORE_MOST {
        store.revoke(before(hour), NOW).unwrap();
    }

    let refused = store.revoke(before(20), NOW).unwrap_err();

    assert!(matches!(refused, RevocationError::BeforeFull { .. }));
    store.revoke(new("sub:alice", Expiry::Never), NOW).unwrap();
}

#[test]
fn the_database_is_private_and_has_one_owner() {
    let (_folder, path) = place();
    let store = RevocationStore::open(&path).unwrap();

    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    assert!(matches!(RevocationStore::open(&path), Err(RevocationError::InUse { .. })));
    drop(store);
    fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
    let refused = RevocationStore::open(&path).unwrap_err();
    assert!(refused.to_string().contains("chmod 600"), "{refused}");
}

#[test]
fn a_damaged_or_foreign_database_is_never_taken_for_an_empty_one() {
    type Spoil<'a> = (&'a str, &'a dyn Fn(&Path));
    let spoil: [Spoil<'_>; 4] = [
        ("empty", &|path| fs::write(path, "").unwrap()),
        ("garbage", &|path| fs::write(path, vec![7; 8_192]).unwrap()),
        ("another program's", &|path| {
            let other = rusqlite::Connection::open(path).unwrap();
            other.pragma_update(None, "application_id", 7).unwrap();
        }),
        ("a row that cannot be read", &|path| {
            let other = rusqlite::Connection::open(path).unwrap();
            let sql = "UPDATE revocations SET target = 'nothing known'";
            assert_eq!(other.execute(sql, []).unwrap(), 1);
        }),
    ];
    for (what, spoil) in spoil {
        let (_folder, path) = place();
        let mut store = RevocationStore::open(&path).unwrap();
        store.revoke(new("sub:alice", Expiry::Never), NOW).unwrap();
        drop(store);
        for suffix in ["-wal", "-shm"] {
            drop(fs::remove_file(path.with_extension(format!("db{suffix}"))));
        }

        spoil(&path);

        let refused = RevocationStore::open(&path).unwrap_err();
        assert!(
            matches!(refused, RevocationError::Damaged { .. } | RevocationError::Foreign { .. }),
            "{what}: {refused}"
        );
    }
}

#[test]
fn many_revocations_are_found_by_what_they_name() {
    let index = Revocations::default();
    let one = |number: u32| TokenRevocation {
        id: RevocationId::new(number),
        target: TokenTarget::Token(format!("t-{number}").into()),
        issuer: None,
        since: NOW,
        until: Expiry::Never,
        author: Author::Agent,
        reason: String::new(),
    };
    index.publish((1..=50_000).map(|number| Arc::new(one(number))).collect());
    let with = |id: &str| caller_with(TokenFacts { id: Some(id.into()), ..facts("alice") });

    assert!(index.check(&with("t-1"), NOW).is_err() && index.check(&with("t-50000"), NOW).is_err());
    assert!(index.check(&with("t-50001"), NOW).is_ok() && index.check(&with("1"), NOW).is_ok());
}

proptest! {
    #[test]
    fn the_index_says_of_every_caller_what_its_revocations_say(
        revoked in prop::collection::vec((0..6_u8, 0..4_u8, 0..3_u8), 0..12),
        caller in (0..4_u8, 0..4_u8, 0..4_u8, 0..4_u8, 0..2_u8, prop::option::of(0..4_u64)),
    ) {
        let one = |(number, &(kind, value, issuer)): (usize, &(u8, u8, u8))| {
            let text: Arc<str> = format!("v{value}").into();
            let target = match kind {
                0 => TokenTarget::Token(text),
                1 => TokenTarget::Subject(text),
                2 => TokenTarget::Key(text),
                3 => TokenTarget::Client(text),
                4 => TokenTarget::IssuedBefore(Timestamp::from_unix_seconds(value.into())),
                _ => TokenTarget::Certificate(Thumbprint([value; 32])),
            };
            let issuer = (issuer > 0 && kind < 5).then(|| format!("i{issuer}").into());
            let id = RevocationId::new(u32::try_from(number).unwrap());
            let (author, reason) = (Author::Agent, String::new());
            Arc::new(TokenRevocation { id, target, issuer, since: NOW, until: Expiry::Never, author, reason })
        };
        let all: Vec<_> = revoked.iter().enumerate().map(one).collect();
        let index = Revocations::default();
        index.publish(all.clone());
        let (id, subject, key, client, issuer, issued) = caller;
        let caller = caller_with(TokenFacts {
            id: Some(format!("v{id}").into()),
            subject: format!("v{subject}").into(),
            key: Some(format!("v{key}").into()),
            client: Some(format!("v{client}").into()),
            issuer: format!("i{}", issuer + 1).into(),
            issued: issued.map(Timestamp::from_unix_seconds),
            ..facts("alice")
        });

        let is_hit = all.iter().any(|one| one.hits(&caller));

        prop_assert_eq!(index.check(&caller, NOW).is_err(), is_hit);
    }

    #[test]
    fn a_target_survives_printing_and_parsing(kind in "(jti|sub|kid|client)", text in ".{1,40}") {
        let target: TokenTarget = format!("{kind}:{text}").parse().unwrap();

        prop_assert_eq!(target.to_string().parse::<TokenTarget>().unwrap(), target);
    }

    #[test]
    fn arbitrary_text_never_panics_as_a_target_or_a_name(text: String) {
        drop((text.parse::<TokenTarget>(), text.parse::<RevocationId>()));
    }
}

fn place() -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("state/revocations.db");
    (folder, path)
}

fn new(target: &str, until: Expiry) -> NewRevocation {
    let target = target.parse().unwrap();
    let author = Author::Operator { uid: 1000, name: "ada".to_owned() };
    NewRevocation { target, issuer: None, until, author, reason: "a laptop was lost".to_owned() }
}

fn facts(subject: &str) -> TokenFacts {
    TokenFacts {
        issuer: "corp".into(),
        subject: subject.into(),
        id: Some("t-1".into()),
        key: Some("k1".into()),
        client: Some("app".into()),
        audience: Box::default(),
        scopes: Box::default(),
        issued: Some(Timestamp::from_unix_seconds(1_794_999_990)),
        expires: Timestamp::from_unix_seconds(1_795_000_600),
        confirmation: None,
        claims: Claims::default(),
    }
}

fn caller(subject: &str) -> Identity {
    caller_with(facts(subject))
}

fn caller_with(facts: TokenFacts) -> Identity {
    let principal = Principal::from_token(&facts.issuer, &facts.subject);
    Identity { principal, proof: Proof::Token(Arc::new(facts)), certificate: None, bound: None }
}

fn refused(store: &RevocationStore, caller: &Identity) -> Option<Reason> {
    store.index().check(caller, NOW).err().map(|refused| refused.reason)
}
