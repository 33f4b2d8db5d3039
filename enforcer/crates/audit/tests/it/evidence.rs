//! One record that convinces a stranger who has a shell, openssl and xxd.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use enforcer_audit::{
    Evidence, EvidenceError, Expected, Log, ReadError, VERIFY_SH, verify, verify_evidence,
};

use crate::lab::{Lab, header_bytes};

#[tokio::test]
async fn every_record_can_be_proven_over_tiles_and_segments() {
    let lab = Lab::with_segments(40_000).with_records(1_300).await;
    let log = Log::open_read_only(&lab.directory()).unwrap();

    for index in (0..1_300).step_by(37).chain([255, 256, 1_279, 1_280, 1_299]) {
        let Evidence { record, proof, key, .. } = log.export(index).unwrap();

        let (proven, checkpoint) = verify_evidence(&record, &proof, &key).unwrap();
        assert_eq!((proven, checkpoint.size), (index, 1_300));
    }
    assert!(matches!(log.export(1_300), Err(ReadError::NoRecord { index: 1_300, size: 1_300 })));
}

#[tokio::test]
async fn the_script_accepts_what_was_exported_and_says_which_record_of_which_log() {
    let lab = Lab::with_segments(40_000).with_records(1_300).await;
    let log = Log::open_read_only(&lab.directory()).unwrap();

    for index in [0, 700, 1_279, 1_299] {
        let bundle = lab.beside(&format!("bundle-{index}"));
        log.export(index).unwrap().write_to(&bundle).unwrap();

        let json = fs::read_to_string(bundle.join("record.json")).unwrap();
        assert!(json.starts_with(&format!("{{\"v\":1,\"index\":{index},")), "{json}");
        let leaf = (log.key().to_string(), "record.leaf");
        let json = (bundle.join("key.pub").display().to_string(), "record.json");
        for (key, record) in [leaf, json] {
            let output = Command::new("sh")
                .arg(bundle.join("verify.sh"))
                .args([bundle.join(record), bundle.join("record.tlog-proof")])
                .arg(key)
                .output()
                .unwrap();

            let said = String::from_utf8(output.stdout).unwrap();
            assert_eq!(output.status.code(), Some(0), "{:?}", String::from_utf8(output.stderr));
            let verdict = "of 1300 in the log host.example/enforcer\n";
            assert_eq!(said, format!("VERIFIED: record {index} {verdict}"));
        }
    }
}

#[tokio::test]
async fn the_script_refuses_a_record_and_every_byte_of_a_proof_that_were_changed() {
    let lab = Lab::new().with_records(2).await;
    let log = Log::open_read_only(&lab.directory()).unwrap();
    let evidence = log.export(1).unwrap();
    let bundle = lab.beside("bundle");
    evidence.write_to(&bundle).unwrap();
    let (record, proof) = (&*evidence.record, evidence.proof.as_bytes());
    assert_eq!(script(&bundle, record, proof, &log.key().to_string()), Some(0));

    // One hash covers the whole record: a sample of its bytes will do.
    let flips: Vec<(bool, usize)> = (0..record.len())
        .step_by(9)
        .map(|place| (true, place))
        .chain((0..proof.len()).map(|place| (false, place)))
        .collect();
    let workers: Vec<_> = (0..3)
        .map(|worker| {
            let (record, proof, flips) = (record.to_vec(), proof.to_vec(), flips.clone());
            let key = log.key().to_string();
            let bundle = lab.beside(&format!("bundle-{worker}"));
            evidence.write_to(&bundle).unwrap();
            thread::spawn(move || {
                for &(in_record, place) in flips.iter().skip(worker).step_by(3) {
                    let (mut record, mut proof) = (record.clone(), proof.clone());
                    let bytes = if in_record { &mut record } else { &mut proof };
                    bytes[place] ^= 1 << (place % 8);
                    let code = script(&bundle, &record, &proof, &key);
                    assert_eq!(code, Some(7), "byte {place}, record: {in_record}");
                }
            })
        })
        .collect();
    workers.into_iter().for_each(|worker| worker.join().unwrap());
}

#[tokio::test]
async fn script_and_program_refuse_the_same_forgeries() {
    let lab = Lab::new().with_records(7).await;
    let other = Lab::new().with_records(7).await;
    let log = Log::open_read_only(&lab.directory()).unwrap();
    let foreign = Log::open_read_only(&other.directory()).unwrap();
    let bundle = lab.beside("bundle");
    let evidence = log.export(4).unwrap();
    evidence.write_to(&bundle).unwrap();
    let proof = &evidence.proof;
    let (head, note) = proof.split_once("\n\n").unwrap();
    let last_hash = head.lines().last().unwrap();

    let forgeries: Vec<(&str, String)> = vec![
        ("of another record", log.export(5).unwrap().proof),
        ("of another log", foreign.export(4).unwrap().proof),
        ("at another index", proof.replace("index 4", "index 5")),
        ("beyond the end", proof.replace("index 4", "index 12")),
        ("with a padded index", proof.replace("index 4", "index 04")),
        ("with a longer path", proof.replace("\n\nhost", &format!("\n{last_hash}\n\nhost"))),
        ("with a shorter path", proof.replacen(&format!("{last_hash}\n"), "", 1)),
        ("without signature", format!("{head}\n\n{}", note.split_once("\n\n").unwrap().0)),
        ("signed by a stranger", proof.replace("— host.example", "— lost.example")),
        ("without its end", proof.trim_end().to_owned()),
        ("with carriage returns", proof.replace('\n', "\r\n")),
        ("empty", String::new()),
    ];

    for (forgery, proof) in forgeries {
        let record = &*evidence.record;
        let refused = verify_evidence(record, &proof, log.key());
        assert!(refused.is_err(), "{forgery}");
        let code = script(&bundle, record, proof.as_bytes(), &log.key().to_string());
        assert_eq!(code, Some(7), "{forgery}");
    }
}

#[tokio::test]
async fn extra_data_and_cosignatures_of_others_do_not_disturb_a_proof() {
    let lab = Lab::new().with_records(7).await;
    let log = Log::open_read_only(&lab.directory()).unwrap();
    let bundle = lab.beside("bundle");
    let evidence = log.export(3).unwrap();
    evidence.write_to(&bundle).unwrap();
    let extra = evidence.proof.replacen("\nindex", "\nextra aGVsbG8=\nindex", 1);
    let cosigned = format!("{extra}— witness.example AAAAAAAA\n");

    let proven = verify_evidence(&evidence.record, &cosigned, log.key());

    assert_eq!(proven.map(|(index, _)| index), Ok(3));
    let key = log.key().to_string();
    assert_eq!(script(&bundle, &evidence.record, cosigned.as_bytes(), &key), Some(0));
}

#[tokio::test]
async fn the_script_tells_a_forgery_from_what_it_cannot_do() {
    let lab = Lab::new().with_records(2).await;
    let log = Log::open_read_only(&lab.directory()).unwrap();
    let bundle = lab.beside("bundle");
    let evidence = log.export(0).unwrap();
    evidence.write_to(&bundle).unwrap();
    let (record, proof) = (&*evidence.record, evidence.proof.as_bytes());
    let key = log.key().to_string();

    assert_eq!(script(&bundle, record, proof, ""), Some(7), "no key");
    assert_eq!(script(&bundle, record, proof, &key.replace("host.", "post.")), Some(7), "its id");
    fs::write(bundle.join("record.leaf"), record).unwrap();
    fs::write(bundle.join("record.json"), &record[16..]).unwrap();
    fs::write(bundle.join("record.tlog-proof"), proof).unwrap();
    let by_name = |name: &str| {
        let mut command = Command::new("sh");
        command.arg(bundle.join("verify.sh")).arg(bundle.join(name));
        command.arg(bundle.join("record.tlog-proof")).arg(&key).stderr(Stdio::null());
        command.status().unwrap().code()
    };
    assert_eq!(by_name("record.json"), Some(0));
    fs::write(bundle.join("record.json"), &record[17..]).unwrap();
    assert_eq!(by_name("record.json"), Some(7), "JSON that is not the record's");
    fs::remove_file(bundle.join("record.json")).unwrap();
    let missing = Command::new("sh")
        .args([bundle.join("verify.sh"), bundle.join("record.json"), bundle.join("key.pub")])
        .arg(key)
        .stderr(Stdio::null())
        .status()
        .unwrap();
    assert_eq!(missing.code(), Some(2));
}

#[tokio::test]
async fn a_damaged_log_exports_nothing() {
    let lab = Lab::new().with_records(600).await;
    let mut bytes = fs::read(lab.segment()).unwrap();
    // A leaf hash of the first block, behind its frame, nonce and place.
    let leaf = header_bytes(&bytes) + 5 + 12 + 8 + 4 + 7;
    bytes[leaf] ^= 1;
    fs::write(lab.segment(), bytes).unwrap();

    let refused = Log::open_read_only(&lab.directory()).unwrap().export(5).unwrap_err();

    assert!(refused.to_string().contains("audit verify"), "{refused}");
}

/// The vector of `docs/audit-format.md`: somebody who has only that page has this log.
#[test]
fn the_documented_test_vector_holds() {
    let document = fs::read_to_string(
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/audit-format.md"),
    )
    .unwrap();
    let block = |name: &str| {
        let fence = format!("```text {name}\n");
        let (_, rest) = document.split_once(&fence).unwrap_or_else(|| panic!("no {name}"));
        rest.split_once("```").unwrap().0.to_owned()
    };
    let home = tempfile::tempdir().unwrap();
    for folder in ["segments", "keys"] {
        fs::create_dir(home.path().join(folder)).unwrap();
    }
    let segment = STANDARD.decode(block("segment").replace('\n', "")).unwrap();
    for (name, bytes) in [
        ("key.pub", block("key.pub").into_bytes()),
        ("epochs", block("epochs").into_bytes()),
        ("checkpoint", block("checkpoint").into_bytes()),
        ("keys/00000000000000000000.key", block("data-key").into_bytes()),
        ("segments/00000000000000000000.seg", segment),
    ] {
        fs::write(home.path().join(name), bytes).unwrap();
    }

    let report = verify(home.path(), &Expected::default(), |_, _| ()).unwrap();
    let evidence = Log::open_read_only(home.path()).unwrap().export(2).unwrap();

    assert_eq!((report.checkpoint.size, report.sealed, report.epochs), (5, 0, 1));
    let (salt, record) = evidence.record.split_at(16);
    let salt: String = salt.iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(salt, block("salt").trim_end());
    assert_eq!(String::from_utf8_lossy(record), block("record").trim_end());
    assert_eq!(evidence.proof, block("proof"));
    let key = evidence.key.to_string();
    let bundle = tempfile::tempdir().unwrap();
    fs::write(bundle.path().join("verify.sh"), VERIFY_SH).unwrap();
    let proof = evidence.proof.as_bytes();
    assert_eq!(script(bundle.path(), &evidence.record, proof, &key), Some(0));
    let altered = verify_evidence(b"{}", &evidence.proof, &evidence.key).unwrap_err();
    assert_eq!(altered, EvidenceError::Path);
}

/// What the script in `bundle` says about these bytes.
fn script(bundle: &Path, record: &[u8], proof: &[u8], key: &str) -> Option<i32> {
    let paths: [PathBuf; 2] = [bundle.join("record.leaf"), bundle.join("record.tlog-proof")];
    fs::write(&paths[0], record).unwrap();
    fs::write(&paths[1], proof).unwrap();
    let mut command = Command::new("sh");
    command.arg(bundle.join("verify.sh")).args(&paths).arg(key).env("TMPDIR", bundle);
    command.stdout(Stdio::null()).stderr(Stdio::null()).status().unwrap().code()
}
