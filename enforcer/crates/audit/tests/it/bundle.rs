//! A folder of evidence that convinces a stranger, and no folder that was tampered with does.
//!
//! Long because every way to tamper with a bundle is tried beside the others.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use enforcer_audit::index::Keeper;
use enforcer_audit::{
    Anchors, BundleError, Bundled, CheckError, Choice, Cosigner, Extras, Log, Record, Selector,
    SignedNote, Wanted, check_bundle, leaf_hash,
};
use enforcer_model::Timestamp;
use proptest::prelude::*;
use ring::digest::{SHA256, digest};

use crate::lab::{Lab, block, copy_tree, note, request};

#[tokio::test]
async fn a_trail_becomes_a_bundle_that_script_and_program_accept() {
    let lab = mixed(90).await;

    let (folder, bundled) = lab.bundle("bundle", Choice::Trail(key_of_requests()));

    assert_eq!(bundled.records, 30, "every third record is a request of that key");
    let report = check_bundle(&folder, None).unwrap();
    assert_eq!((report.records, report.checkpoint.size), (30, bundled.size));
    assert_eq!(report.what, "trail key:k7Qx2mP9aB3c");
    let lines = fs::read_to_string(folder.join("readable.jsonl")).unwrap();
    assert_eq!(lines.lines().count(), 30);
    assert!(lines.lines().all(|line| line.contains("k7Qx2mP9aB3c")));
    let said = script(&folder, &[]);
    assert_eq!(said.0, Some(0), "{}", said.1);
    assert!(said.1.contains(&format!("VERIFIED: 30 records of {} in the log", bundled.size)));
    assert!(said.1.contains(&bundled.key.to_string()), "the key to be compared");
    assert_eq!(script(&folder, &[&bundled.key.to_string()]).0, Some(0));
}

#[tokio::test]
async fn records_by_number_and_a_span_of_time_become_bundles() {
    let mut lab = Lab::new();
    for _ in 0..4 {
        lab = lab.with_records(10).await;
        std::thread::sleep(std::time::Duration::from_millis(2));
    }
    let log = lab.log();
    let time = |index| log.record(index).unwrap().header().unwrap().time;

    let (numbers, _) = lab.bundle("numbers", Choice::Numbers(vec![7, 3, 7]));
    assert_eq!(check_bundle(&numbers, None).unwrap().records, 2);
    assert_eq!(script(&numbers, &[]).0, Some(0));

    let wanted = Wanted { what: Choice::Everything, since: Some(time(10)), until: Some(time(30)) };
    let folder = lab.beside("span");
    log.bundle(&wanted, &extras(&[]), &folder).unwrap();
    let report = check_bundle(&folder, None).unwrap();
    assert_eq!(report.records, report.to - report.from);
    assert_eq!((report.from, report.to), (10, 30));
    let said = script(&folder, &[]);
    assert_eq!(said.0, Some(0), "{}", said.1);
    assert!(said.1.contains("COMPLETE"), "{}", said.1);
}

#[tokio::test]
async fn a_bundle_without_records_is_not_made_and_none_replaces_a_folder() {
    let lab = mixed(10).await;
    let log = lab.log();
    let nobody =
        Wanted { what: Choice::Trail("192.0.2.77".parse().unwrap()), since: None, until: None };

    let empty = log.bundle(&nobody, &extras(&[]), &lab.beside("empty"));
    assert!(matches!(empty, Err(BundleError::Nothing)), "{empty:?}");
    assert!(!lab.beside("empty").exists());

    let (folder, _) = lab.bundle("there", Choice::Everything);
    let again = log.bundle(&everything(), &extras(&[]), &folder);
    assert!(matches!(again, Err(BundleError::Exists(_))), "{again:?}");
    assert!(check_bundle(&folder, None).is_ok(), "what was there is left alone");
}

#[tokio::test]
async fn the_bundle_holds_the_policies_that_are_still_kept() {
    let lab = Lab::new();
    let (audit, _) = lab.open().unwrap();
    let policy = lab.beside("policy.toml");
    fs::write(&policy, "[listen]\n").unwrap();
    let mut exchange = request(1, "203.0.113.7:4711");
    exchange.policy = sha256(b"[listen]\n").into();
    audit.reserve().unwrap().write(Record::Http(exchange.into())).committed().await.unwrap();
    audit.close().await.unwrap();
    let other = lab.beside("other.toml");
    fs::write(&other, "[listen]\n# another\n").unwrap();

    let folder = lab.beside("bundle");
    lab.log().bundle(&everything(), &extras(&[policy, other]), &folder).unwrap();

    let kept: Vec<_> = fs::read_dir(folder.join("policies")).unwrap().collect();
    assert_eq!(kept.len(), 1);
    let name = format!("policies/{}.toml", sha256(b"[listen]\n"));
    assert_eq!(fs::read_to_string(folder.join(&name)).unwrap(), "[listen]\n");
    assert!(fs::read_to_string(folder.join("policies.jsonl")).unwrap().contains(&name));
    assert_eq!(verdicts(&folder), (Some(0), Some(0)));
}

#[tokio::test]
async fn a_checkpoint_that_witnesses_have_seen_is_the_one_that_a_bundle_leads_to() {
    let lab = mixed(30).await;
    let seen = lab.log();
    let witness = Cosigner::generate("witness.example/w1").unwrap();
    let text = SignedNote::parse(seen.note()).unwrap().text().to_owned();
    let cosigned = format!("{}{}", seen.note(), witness.cosign(&text, 1_800_000_000));
    let anchors = Anchors::of(&lab.directory());
    anchors.keep_note(seen.size(), &cosigned).unwrap();
    let policy = format!("witness w1 {} http://localhost/\nquorum w1\n", witness.key());
    anchors.keep_policy(&policy).unwrap();
    let hash = digest(&SHA256, cosigned.as_bytes());
    let token = [b"a token over ", hash.as_ref()].concat();
    anchors.keep_token(seen.size(), &token).unwrap();
    let (audit, _) = lab.open().unwrap();
    audit.reserve().unwrap().write(note(1)).committed().await.unwrap();
    audit.close().await.unwrap();

    let (folder, bundled) = lab.bundle("seen", Choice::Numbers(vec![5]));
    assert_eq!(
        (bundled.size, bundled.witnesses.as_slice()),
        (seen.size(), ["witness.example/w1".to_owned()].as_slice())
    );
    let report = check_bundle(&folder, None).unwrap();
    assert_eq!(report.witnesses[0].seconds, 1_800_000_000);
    assert!(report.has_token);
    let said = script(&folder, &[]);
    let words = format!("witnessed: witness.example/w1 saw the log with {} records", seen.size());
    assert!(said.1.contains(&words), "{said:?}");

    let (newer, bundled) = lab.bundle("newer", Choice::Numbers(vec![seen.size()]));
    let unseen = (seen.size() + 1, 0);
    assert_eq!((bundled.size, bundled.witnesses.len()), unseen, "nobody has seen that one yet");
    assert_eq!(verdicts(&newer), (Some(0), Some(0)));

    // A cosignature of another witness, of another time, none at all, another token.
    let other = Cosigner::generate("witness.example/w1").unwrap();
    let forged = seen.note().to_owned() + &other.cosign(&text, 1_800_000_000);
    let later = cosigned.replace(&witness.cosign(&text, 1_800_000_000), &{
        let line = witness.cosign(&text, 1_800_000_000);
        let (head, _) = line.split_at(line.len() - 20);
        format!("{head}{}\n", "A".repeat(19))
    });
    for note in [forged, later, seen.note().to_owned()] {
        let bad = lab.copy_of(&folder, "bad");
        for proof in files(&bad).into_iter().filter(|path| extension(path) == "tlog-proof") {
            let text = fs::read_to_string(&proof).unwrap();
            fs::write(&proof, text.replace(&cosigned, &note)).unwrap();
        }
        fs::write(bad.join("checkpoint"), &note).unwrap();
        fs::remove_file(bad.join("checkpoint.tsr")).unwrap();
        list_again(&bad);
        assert_eq!(verdicts(&bad), (Some(7), Some(7)), "{note}");
    }
    let bad = lab.copy_of(&folder, "bad");
    fs::write(bad.join("checkpoint.tsr"), b"a token over something else").unwrap();
    list_again(&bad);
    assert_eq!(verdicts(&bad), (Some(7), Some(7)));
}

/// Whoever tampers makes a new list of hashes too: the list alone is no evidence.
#[tokio::test]
async fn whoever_tampers_and_lists_again_is_refused_all_the_same() {
    let lab = mixed(16).await;
    let (folder, _) = lab.bundle("bundle", Choice::Everything);
    let (trail, _) = lab.bundle("trail", Choice::Trail(key_of_requests()));
    let foreign = mixed(16).await;
    let (other, _) = foreign.bundle("other", Choice::Everything);
    assert_eq!(verdicts(&folder), (Some(0), Some(0)));
    let leaf = |index: u64| format!("records/{index:020}.leaf");
    let proof = |index: u64| format!("records/{index:020}.tlog-proof");

    type Tampering<'a> = (&'a str, &'a dyn Fn(&Path));
    let tamperings: &[Tampering<'_>] = &[
        ("a byte of a record", &|bad| flip(&bad.join(leaf(7)), 60)),
        ("a byte of a record's salt", &|bad| flip(&bad.join(leaf(7)), 3)),
        ("two records exchanged", &|bad| {
            swap(&bad.join(leaf(7)), &bad.join(leaf(8)));
        }),
        ("a record and its proof exchanged with another", &|bad| {
            swap(&bad.join(leaf(7)), &bad.join(leaf(8)));
            swap(&bad.join(proof(7)), &bad.join(proof(8)));
        }),
        ("a record withheld", &|bad| {
            withhold(bad, 7);
        }),
        ("the first record withheld", &|bad| withhold(bad, 0)),
        ("the last record withheld", &|bad| withhold(bad, 16)),
        ("a proof withheld", &|bad| fs::remove_file(bad.join(proof(7))).unwrap()),
        ("a record without its bytes", &|bad| fs::remove_file(bad.join(leaf(7))).unwrap()),
        ("the readable form altered", &|bad| replace(&bad.join("records.jsonl"), "200", "201")),
        ("the readable form of what is around altered", &|bad| {
            fs::write(bad.join("context.jsonl"), "{}\n").unwrap();
        }),
        ("a proof of a log like it", &|bad| {
            fs::copy(other.join(proof(7)), bad.join(proof(7))).unwrap();
        }),
        ("the checkpoint of another log", &|bad| {
            fs::copy(other.join("checkpoint"), bad.join("checkpoint")).unwrap();
        }),
        ("the key of another log", &|bad| {
            fs::copy(other.join("key.pub"), bad.join("key.pub")).unwrap();
        }),
        ("a narrower selection", &|bad| renumber(&bad.join("selection"), "to ", |to| to - 1)),
        ("another size", &|bad| renumber(&bad.join("selection"), "size ", |size| size + 1)),
        ("another number", &|bad| renumber(&bad.join("selection"), "records ", |count| count - 1)),
        ("another log's name", &|bad| replace(&bad.join("selection"), "log host", "log post")),
        ("a padded number", &|bad| replace(&bad.join("selection"), "records ", "records 0")),
        ("a time that is none", &|bad| replace(&bad.join("selection"), "made 20", "made x0")),
        ("a word too many", &|bad| append(&bad.join("selection"), "more 1\n")),
        ("a selection of something", &|bad| {
            replace(&bad.join("selection"), "what everything", "what else");
        }),
        ("an index in a proof", &|bad| replace(&bad.join(proof(7)), "index 7\n", "index 8\n")),
        ("a padded index", &|bad| replace(&bad.join(proof(7)), "index 7\n", "index 07\n")),
        ("two lines of a path in one", &|bad| {
            let text = fs::read_to_string(bad.join(proof(7))).unwrap();
            let mut lines: Vec<_> = text.lines().map(str::to_owned).collect();
            let joined = lines.remove(4);
            lines[3] = format!("{} {joined}", lines[3]);
            fs::write(bad.join(proof(7)), lines.join("\n") + "\n").unwrap();
        }),
        ("a carriage return", &|bad| replace(&bad.join(proof(7)), "index 7\n", "index 7\r\n")),
        ("a shorter path", &|bad| {
            let text = fs::read_to_string(bad.join(proof(7))).unwrap();
            let line = text.lines().nth(4).unwrap().to_owned();
            replace(&bad.join(proof(7)), &format!("{line}\n"), "");
        }),
        ("a policy that is not the one of its name", &|bad| {
            fs::create_dir(bad.join("policies")).unwrap();
            fs::write(bad.join(format!("policies/{}.toml", "0".repeat(64))), "x").unwrap();
        }),
        ("a file of its own", &|bad| fs::write(bad.join("more.txt"), "x").unwrap()),
        ("a record that is no record's name", &|bad| {
            fs::write(bad.join("records/7.leaf"), "x").unwrap();
        }),
        ("no selection", &|bad| fs::remove_file(bad.join("selection")).unwrap()),
        ("no readme", &|bad| fs::remove_file(bad.join("README.txt")).unwrap()),
    ];
    for (tampering, tamper) in tamperings {
        let bad = lab.copy_of(&folder, "bad");
        tamper(&bad);
        list_again(&bad);
        assert_eq!(verdicts(&bad), (Some(7), Some(7)), "{tampering}");
    }

    // Beside the list: what it does not name, what is no file, how it is written.
    let unlisted: &[Tampering<'_>] = &[
        ("a file that is not listed", &|bad| fs::write(bad.join("records/extra"), "x").unwrap()),
        ("a link instead of a file", &|bad| {
            let readme = bad.join("README.txt");
            fs::rename(&readme, bad.with_extension("readme")).unwrap();
            std::os::unix::fs::symlink(bad.with_extension("readme"), &readme).unwrap();
        }),
        ("a list in another order", &|bad| {
            let list = fs::read_to_string(bad.join("MANIFEST")).unwrap();
            let lines: Vec<_> = list.lines().rev().collect();
            fs::write(bad.join("MANIFEST"), lines.join("\n") + "\n").unwrap();
        }),
        ("a list without its end", &|bad| {
            let list = fs::read_to_string(bad.join("MANIFEST")).unwrap();
            fs::write(bad.join("MANIFEST"), list.trim_end()).unwrap();
        }),
        ("a list that leads out of the folder", &|bad| {
            fs::write(bad.with_extension("outside"), "x").unwrap();
            let line = format!("{}  ../bad.outside\n", sha256(b"x"));
            let list = fs::read_to_string(bad.join("MANIFEST")).unwrap();
            fs::write(bad.join("MANIFEST"), line + &list).unwrap();
        }),
        ("an empty list", &|bad| fs::write(bad.join("MANIFEST"), "").unwrap()),
    ];
    for (tampering, tamper) in unlisted {
        let bad = lab.copy_of(&folder, "bad");
        tamper(&bad);
        assert_eq!(verdicts(&bad), (Some(7), Some(7)), "{tampering}");
    }

    let bad = lab.copy_of(&trail, "bad");
    replace(&bad.join("selection"), "\nfrom 0\n", "\nfrom 2\n");
    list_again(&bad);
    assert_eq!(verdicts(&bad), (Some(7), Some(7)), "a trail that begins late");
    let no_bundle = lab.beside("nothing");
    fs::create_dir(&no_bundle).unwrap();
    assert_eq!(verdicts(&no_bundle), (Some(2), Some(2)));
}

/// Every kind of selector, each with and without something to find.
#[tokio::test]
async fn a_trail_that_the_log_vouches_for_is_complete_and_no_record_of_it_can_be_withheld() {
    let lab = vouched_for(600).await;
    let selectors = [
        "key:k7Qx2mP9aB3c",
        "principal:key:k7Qx2mP9aB3c",
        "203.0.113.7",
        "203.0.113.0/27",
        "198.51.100.9",
        "198.51.0.0/16",
        "2001:db8::7",
        "2001:db8:0:1::/64",
        "2001:db8:5:0:0:1::",
        "route:orders",
        "rule:orders.allow[1]",
        "incident:2",
        "incident:INC-0042",
        "D-7K2Q4XW",
        "B-7K2Q4XW",
        "abababababababababababababababab",
        "fingerprint:abababababababababababababababab",
        "request:00000000000000000000000000000003",
    ];
    for (place, selector) in selectors.iter().enumerate() {
        let folder = lab.beside(&format!("trail-{place}"));
        let to = lab.log().record(6).unwrap().header().unwrap().time;
        let what = Choice::Trail(selector.parse().unwrap());
        // A part of it: a script takes its time.
        let wanted = Wanted { what, since: None, until: Some(to) };
        match lab.log().bundle(&wanted, &extras(&[]), &folder) {
            // Of a network, an index does not know every address that stands apart.
            Ok(bundled) if !bundled.is_complete && selector.contains('/') => {
                assert_eq!(verdicts(&folder), (Some(0), Some(0)), "{selector}");
                continue;
            }
            Ok(bundled) => assert!(bundled.is_complete, "{selector}"),
            Err(BundleError::Nothing) => continue,
            Err(error) => panic!("{selector}: {error}"),
        }

        let report = check_bundle(&folder, None).unwrap();
        assert_eq!(report.uncovered, [], "{selector}");
        let said = script(&folder, &[]);
        assert_eq!(said.0, Some(0), "{selector}: {}", said.1);
        assert!(said.1.contains("COMPLETE: every record of "), "{selector}: {}", said.1);

        let withheld = fs::read_dir(folder.join("records")).unwrap().next().unwrap().unwrap();
        let index = withheld.path().file_stem().unwrap().to_str().unwrap().parse().unwrap();
        let bad = lab.copy_of(&folder, "bad");
        withhold(&bad, index);
        let count = format!("records {}\n", report.records);
        replace(&bad.join("selection"), &count, &format!("records {}\n", report.records - 1));
        list_again(&bad);
        assert_eq!(verdicts(&bad), (Some(7), Some(7)), "{selector} without record {index}");
        let why = check_bundle(&bad, None).unwrap_err().to_string();
        assert!(why.contains("which the log names for the selection"), "{why}");
    }
    assert!(lab.beside("trail-0").exists() && lab.beside("trail-2").exists());
}

#[tokio::test]
async fn a_proof_of_completeness_that_was_altered_is_refused() {
    let lab = vouched_for(600).await;
    let (folder, bundled) = lab.bundle(
        "bundle",
        Choice::Trail("request:00000000000000000000000000000007".parse().unwrap()),
    );
    assert!(bundled.records > 0);
    let proofs: Vec<_> = files(&folder.join("completeness"));
    assert!(proofs.len() > 1, "{proofs:?}");
    let name = proofs[0].strip_prefix(&folder).unwrap().to_owned();
    let text = fs::read_to_string(&proofs[0]).unwrap();
    let records = text.lines().find(|line| line.starts_with("records ")).unwrap().to_owned();
    let fewer = records.rsplit_once(' ').unwrap().0.to_owned();
    let (head, _) = text.split_once("\n\n").unwrap();
    let other = fs::read_to_string(&proofs[1]).unwrap();

    let tamperings = [
        ("a record fewer", text.replace(&records, &fewer)),
        ("no claim", format!("{head}\n")),
        ("an empty line too many", format!("{text}\n")),
        ("a line too many", format!("{text}more\n")),
        ("of another segment", other),
        ("another form", text.replace("index-proof/1", "index-proof/2")),
        ("a padded number", text.replacen("segment ", "segment 0", 1)),
        ("another place", text.replacen("present ", "present 1", 1)),
        ("a key altered", text.replacen("key request ", "key request A", 1)),
        ("without its key", text.replacen("key request ", "key route ", 1)),
        ("empty", String::new()),
    ];
    for (tampering, altered) in tamperings {
        assert_ne!(altered, text, "{tampering}");
        let bad = lab.copy_of(&folder, "bad");
        fs::write(bad.join(&name), altered).unwrap();
        list_again(&bad);
        assert_eq!(verdicts(&bad), (Some(7), Some(7)), "{tampering}");
    }
    let bad = lab.copy_of(&folder, "bad");
    fs::remove_file(bad.join(&name)).unwrap();
    list_again(&bad);
    assert_eq!(verdicts(&bad), (Some(7), Some(7)), "left out");
    let bad = lab.copy_of(&folder, "bad");
    replace(&bad.join("selection"), "0007\n", "0008\n");
    list_again(&bad);
    assert_eq!(verdicts(&bad), (Some(7), Some(7)), "of somebody else");
}

#[tokio::test]
async fn what_the_log_does_not_vouch_for_yet_is_not_called_complete() {
    let lab = mixed(12).await;
    let (folder, bundled) = lab.bundle("bundle", Choice::Trail(key_of_requests()));

    assert!(!bundled.is_complete);
    assert_eq!(check_bundle(&folder, None).unwrap().uncovered, vec![0..bundled.size; 1]);
    let said = script(&folder, &[]);
    assert_eq!(said.0, Some(0), "{}", said.1);
    assert!(
        said.1.contains(&format!("NOT PROVEN COMPLETE: records 0 to before {}\n", bundled.size)),
        "{}",
        said.1
    );
    assert!(!said.1.contains("COMPLETE: every"), "{}", said.1);
}

#[tokio::test]
async fn a_span_of_time_that_was_cut_short_is_refused() {
    let lab = Lab::new().with_records(5).await;
    std::thread::sleep(std::time::Duration::from_millis(2));
    let lab = lab.with_records(20).await;
    let log = lab.log();
    let since = log.record(5).unwrap().header().unwrap().time;
    let wanted = Wanted { what: Choice::Everything, since: Some(since), until: None };
    let folder = lab.beside("span");
    log.bundle(&wanted, &extras(&[]), &folder).unwrap();
    assert_eq!(check_bundle(&folder, None).unwrap().from, 5);
    assert_eq!(verdicts(&folder), (Some(0), Some(0)));

    // The first record is dropped and everything that says so is made to agree.
    let bad = lab.copy_of(&folder, "bad");
    withhold(&bad, 5);
    replace(&bad.join("selection"), "\nfrom 5\n", "\nfrom 6\n");
    replace(&bad.join("selection"), "\nrecords 20\n", "\nrecords 19\n");
    list_again(&bad);

    assert_eq!(verdicts(&bad), (Some(7), Some(7)));
    let (mine, theirs) = (check_bundle(&bad, None).unwrap_err(), script(&bad, &[]).1);
    assert!(mine.to_string().contains("beside the selection"), "{mine}");
    assert!(theirs.contains("beside the selection"), "{theirs}");
}

#[tokio::test]
async fn another_key_than_the_one_in_the_bundle_is_refused() {
    let lab = mixed(5).await;
    let (folder, _) = lab.bundle("bundle", Choice::Everything);
    let stranger = mixed(5).await.log().key().clone();

    assert!(matches!(check_bundle(&folder, Some(&stranger)), Err(CheckError::Refused(_))));
    assert_eq!(script(&folder, &[&stranger.to_string()]).0, Some(7));
}

#[test]
fn script_and_program_agree_about_every_folder() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let lab = runtime.block_on(mixed(12));
    let wanted = Choice::Trail(key_of_requests());
    let (folder, _) = lab.bundle("bundle", wanted);
    let all: Vec<PathBuf> =
        files(&folder).iter().map(|path| path.strip_prefix(&folder).unwrap().into()).collect();
    let strategy = (
        proptest::sample::select(all),
        any::<prop::sample::Index>(),
        any::<u8>(),
        0..4u8,
        any::<bool>(),
    );
    let config =
        ProptestConfig { cases: 96, failure_persistence: None, ..ProptestConfig::default() };
    let mut runner = proptest::test_runner::TestRunner::new(config);

    let run = runner.run(&strategy, |(file, place, byte, how, list)| {
        let bad = lab.copy_of(&folder, "bad");
        let path = bad.join(&file);
        let mut bytes = fs::read(&path).unwrap();
        let place = if bytes.is_empty() { 0 } else { place.index(bytes.len()) };
        match how {
            0 if !bytes.is_empty() => bytes[place] ^= byte | 1,
            1 if !bytes.is_empty() => drop(bytes.remove(place)),
            2 => bytes.insert(place, byte),
            _ => bytes.truncate(place),
        }
        fs::write(&path, bytes).unwrap();
        if list && file != Path::new("MANIFEST") {
            list_again(&bad);
        }
        let (mine, theirs) = verdicts(&bad);
        // Nothing but the words for people may be another's.
        let words = [
            "README.txt",
            "readable.jsonl",
            "verify.sh",
            "clock.jsonl",
            "programs.jsonl",
            "policies.jsonl",
        ];
        let proven = !words.iter().any(|word| file == Path::new(word));
        let untouched = files(&bad).iter().all(|path| {
            fs::read(path).ok() == fs::read(folder.join(path.strip_prefix(&bad).unwrap())).ok()
        });
        prop_assert!(
            file == Path::new("verify.sh") || mine == theirs,
            "{mine:?} and {theirs:?} of {file:?}"
        );
        let harmless = untouched || !proven && list || file == Path::new("selection");
        prop_assert!(harmless || mine == Some(7), "{file:?} at {place}: {mine:?}");
        Ok(())
    });

    run.unwrap();
}

impl Lab {
    fn log(&self) -> Log {
        Log::open_read_only(&self.directory()).unwrap()
    }

    fn bundle(&self, name: &str, what: Choice) -> (PathBuf, Bundled) {
        let folder = self.beside(name);
        let wanted = Wanted { what, since: None, until: None };
        let bundled = self.log().bundle(&wanted, &extras(&[]), &folder).unwrap();
        (folder, bundled)
    }

    /// A copy of `folder` under this name, in the place of an earlier one.
    fn copy_of(&self, folder: &Path, name: &str) -> PathBuf {
        let copy = self.beside(name);
        if copy.exists() {
            fs::remove_dir_all(&copy).unwrap();
        }
        copy_tree(folder, &copy);
        copy
    }
}

/// A log with `count` records of three kinds in turn, and one that begins it.
async fn mixed(count: u64) -> Lab {
    let lab = Lab::in_memory();
    let (audit, _) = lab.open().unwrap();
    let mut tickets = vec![audit.reserve().unwrap().write(note(0))];
    for number in 0..count {
        let record = match number % 3 {
            0 => Record::Http(request(number.into(), "203.0.113.7:4711").into()),
            1 => Record::Block(block("B-7K2Q4XW", "198.51.100.0/24")),
            _ => note(number),
        };
        tickets.push(audit.reserve().unwrap().write(record));
    }
    for ticket in tickets {
        ticket.committed().await.unwrap();
    }
    audit.close().await.unwrap();
    lab
}

/// A log of several segments, each with an index that the log vouches for.
async fn vouched_for(count: u64) -> Lab {
    let lab = Lab::in_memory_with_segments(40_000);
    let (audit, _) = lab.open().unwrap();
    for number in 0..count {
        let peer = match number % 5 {
            0 => "203.0.113.7:4711",
            1 => "[2001:db8::7]:4711",
            2 => "[2001:db8:5::1:0:0]:4711",
            _ => "[2001:db8:0:1::9]:80",
        };
        let mut exchange = request(number.into(), peer);
        exchange.incident = u8::from(number % 7 == 0) * 2;
        let record = match number % 6 {
            3 => Record::Block(block("B-7K2Q4XW", "198.51.100.0/24")),
            4 => Record::Block(block("B-7K2Q4XX", "2001:db8::/48")),
            _ => Record::Http(exchange.into()),
        };
        audit.reserve().unwrap().write(record).committed().await.unwrap();
    }
    audit.close().await.unwrap();
    let (audit, _) = lab.open().unwrap();
    let mut keeper = Keeper::new(audit.clone(), lab.directory());
    let report = keeper.pass(&|| false).unwrap();
    assert!(report.segments > 1, "{report:?}");
    audit.append(note(0)).await.unwrap();
    drop(keeper);
    audit.close().await.unwrap();
    lab
}

fn key_of_requests() -> Selector {
    "key:k7Qx2mP9aB3c".parse().unwrap()
}

fn everything() -> Wanted {
    Wanted { what: Choice::Everything, since: None, until: None }
}

fn extras(policies: &[PathBuf]) -> Extras<'_> {
    Extras { policies, now: Timestamp::from_unix_seconds(1_800_000_000) }
}

/// What program and script say of `folder`, as exit codes.
fn verdicts(folder: &Path) -> (Option<i32>, Option<i32>) {
    let mine = match check_bundle(folder, None) {
        Ok(_) => 0,
        Err(CheckError::Refused(_)) => 7,
        Err(CheckError::File(_) | CheckError::NoBundle(_)) => 2,
    };
    (Some(mine), script(folder, &[]).0)
}

/// What our script says of `folder`, with everything that it prints.
fn script(folder: &Path, more: &[&str]) -> (Option<i32>, String) {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/verify.sh");
    let output = Command::new("sh")
        .arg(script)
        .arg(folder)
        .args(more)
        .env("TMPDIR", std::env::temp_dir())
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let said = [output.stdout, output.stderr].concat();
    (output.status.code(), String::from_utf8_lossy(&said).into_owned())
}

/// Makes the list of hashes anew, as whoever tampers would.
fn list_again(folder: &Path) {
    let mut lines: Vec<(String, String)> = files(folder)
        .into_iter()
        .map(|path| {
            let name = path.strip_prefix(folder).unwrap().display().to_string();
            (name, sha256(&fs::read(path).unwrap()))
        })
        .filter(|(name, _)| name != "MANIFEST")
        .collect();
    lines.sort();
    let list: String = lines.iter().map(|(name, hash)| format!("{hash}  {name}\n")).collect();
    fs::write(folder.join("MANIFEST"), list).unwrap();
}

/// Removes a record, its proof and its line.
fn withhold(folder: &Path, index: u64) {
    fs::remove_file(folder.join(format!("records/{index:020}.leaf"))).unwrap();
    fs::remove_file(folder.join(format!("records/{index:020}.tlog-proof"))).unwrap();
    let path = folder.join("records.jsonl");
    let text = fs::read_to_string(&path).unwrap();
    let other = |line: &&str| !line.contains(&format!("\"index\":{index},"));
    let lines: String = text.lines().filter(other).map(|line| format!("{line}\n")).collect();
    assert_ne!(text, lines, "no record {index}");
    fs::write(&path, lines).unwrap();
}

/// Puts another number behind `name` at the beginning of a line.
fn renumber(path: &Path, name: &str, change: impl Fn(u64) -> u64) {
    let text = fs::read_to_string(path).unwrap();
    let found = text.lines().find_map(|line| line.strip_prefix(name)).unwrap();
    let changed = change(found.parse().unwrap());
    replace(path, &format!("{name}{found}\n"), &format!("{name}{changed}\n"));
}

fn replace(path: &Path, from: &str, to: &str) {
    let text = fs::read_to_string(path).unwrap();
    assert!(text.contains(from), "no {from:?} in {}", path.display());
    fs::write(path, text.replacen(from, to, 1)).unwrap();
}

fn append(path: &Path, text: &str) {
    let whole = fs::read_to_string(path).unwrap() + text;
    fs::write(path, whole).unwrap();
}

fn flip(path: &Path, place: usize) {
    let mut bytes = fs::read(path).unwrap();
    bytes[place] ^= 1;
    fs::write(path, bytes).unwrap();
}

fn swap(one: &Path, other: &Path) {
    let (first, second) = (fs::read(one).unwrap(), fs::read(other).unwrap());
    assert_ne!(leaf_hash(&first), leaf_hash(&second));
    fs::write(one, second).unwrap();
    fs::write(other, first).unwrap();
}

fn extension(path: &Path) -> &str {
    path.extension().and_then(|extension| extension.to_str()).unwrap_or_default()
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() { found.extend(files(&path)) } else { found.push(path) }
    }
    found.sort();
    found
}

fn sha256(bytes: &[u8]) -> String {
    digest(&SHA256, bytes).as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
}
