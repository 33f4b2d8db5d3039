//! What the log says is verified by programs that nobody here wrote.
//!
//! Go's `sumdb/note` and `sumdb/tlog`, tlog-scales and sigstore of `PyPI`, `@sigstore/verify` of npm,
//! and our own script. Each is asked about records of a log that the real binary wrote, and about each
//! of these with one thing changed.

mod exports;

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use enforcer_audit::{Evidence, Log};
use enforcer_tests::lab::{DEADLINE, Family, Http, wait_until};
use serde_json::{Value, json};

use crate::stage::{Hook, Stage, THRESHOLD, orders};

/// A record, its proof and what it is held against, as the verifiers are told.
#[derive(Clone)]
struct Case {
    what: &'static str,
    leaf: Vec<u8>,
    index: u64,
    path: Vec<String>,
    note: String,
    key: String,
}

#[test]
#[ignore = "needs root; run by `cargo xtask test`"]
fn programs_that_nobody_here_wrote_accept_the_log_and_refuse_every_forgery() {
    let stage = busy();
    let log = Log::open_read_only(&stage.site.state().join("audit")).unwrap();
    let other = busy();
    let foreign = Log::open_read_only(&other.site.state().join("audit")).unwrap();
    let sample: Vec<u64> = (0..log.size()).step_by(7).chain([log.size() - 1]).collect();
    let good: Vec<Case> =
        sample.iter().map(|index| Case::of("good", &log.export(*index).unwrap())).collect();
    let middle = log.size() / 2;
    let forged = forgeries(&log.export(middle).unwrap(), &foreign.export(middle).unwrap());
    let cases: Vec<Case> = good.iter().cloned().chain(forged).collect();
    let file = stage.site.folder().join("cases.json");
    let told: Vec<_> = cases.iter().map(Case::told).collect();
    fs::write(&file, serde_json::to_vec(&told).unwrap()).unwrap();

    for (verifier, mut command) in verifiers(&stage) {
        let output = command.arg(&file).stdin(Stdio::null()).output().unwrap();
        let said = String::from_utf8(output.stdout).unwrap();
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{verifier}: {errors}");
        let verdicts: Vec<_> = said.lines().collect();
        assert_eq!(verdicts.len(), cases.len(), "{verifier}: {said}{errors}");
        for (case, verdict) in cases.iter().zip(verdicts) {
            let Case { what, index, .. } = case;
            let accepted = verdict == "accepted";
            assert_eq!(accepted, *what == "good", "{verifier} of {what} {index}: {verdict}");
        }
    }
    for case in &cases {
        let code = case.script(stage.site.folder());
        let expected = if case.what == "good" { 0 } else { 7 };
        assert_eq!(code, Some(expected), "verify.sh of {}", case.what);
    }
}

#[test]
#[ignore = "needs root; run by `cargo xtask test`"]
fn our_proofs_are_those_of_tlog_scales_byte_for_byte() {
    let stage = busy();
    let log = Log::open_read_only(&stage.site.state().join("audit")).unwrap();
    let published = stage.site.folder().join("published");
    log.publish(&published).unwrap();
    let mut command = python("scales.py");
    command.arg("prove").arg(&published);
    command.args((0..log.size()).map(|index| index.to_string()));

    let said = run(&mut command);

    let lines: Vec<Value> = said.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(u64::try_from(lines.len()), Ok(log.size()));
    for line in lines {
        let ours = Case::of("good", &log.export(line["index"].as_u64().unwrap()).unwrap());
        assert_eq!(line["path"], json!(ours.path), "{line}");
        assert_eq!(line["leaf"], json!(STANDARD.encode(&ours.leaf)), "{line}");
    }
}

impl Case {
    fn of(what: &'static str, evidence: &Evidence) -> Self {
        let (head, note) = evidence.proof.split_once("\n\n").unwrap();
        let lines = head.lines().skip(2).map(str::to_owned);
        Self {
            what,
            leaf: evidence.record.to_vec(),
            index: evidence.index,
            path: lines.collect(),
            note: note.to_owned(),
            key: evidence.key.to_string(),
        }
    }

    fn told(&self) -> Value {
        let Self { what, leaf, index, path, note, key } = self;
        let leaf = STANDARD.encode(leaf);
        json!({ "what": what, "leaf": leaf, "index": index, "path": path, "note": note, "key": key })
    }

    /// What our own script says.
    fn script(&self, folder: &Path) -> Option<i32> {
        let Self { leaf, index, path, note, key, .. } = self;
        let path: String = path.iter().map(|line| format!("{line}\n")).collect();
        let proof = format!("c2sp.org/tlog-proof@v1\nindex {index}\n{path}\n{note}");
        let files = [folder.join("case.leaf"), folder.join("case.tlog-proof")];
        fs::write(&files[0], leaf).unwrap();
        fs::write(&files[1], proof).unwrap();
        let script = folder.join("verify.sh");
        fs::write(&script, enforcer_audit::VERIFY_SH).unwrap();
        let mut command = Command::new("sh");
        command.arg(script).args(files).arg(key).stdout(Stdio::null()).stderr(Stdio::null());
        command.status().unwrap().code()
    }
}

/// The same record with one thing changed, each in its own way.
fn forgeries(evidence: &Evidence, foreign: &Evidence) -> Vec<Case> {
    let good = |what| Case::of(what, evidence);
    let other = Case::of("other", foreign);
    let lines: Vec<&str> =
        good("").note.lines().map(str::to_owned).map(String::leak).map(|it| &*it).collect();
    let [origin, size, root] = [lines[0], lines[1], lines[2]];
    let changed = |text: &str| {
        let first = text.chars().next().unwrap();
        let swapped = if first == 'A' { 'B' } else { 'A' };
        format!("{swapped}{}", text.get(1..).unwrap())
    };
    let (head, signature) = lines[4].rsplit_once(' ').unwrap();
    let (before, rest) = signature.split_at(20);
    let bent = format!("{before}{}", changed(rest));
    let bigger = (size.parse::<u64>().unwrap() + 1).to_string();
    let leaf = |place: usize| {
        let mut leaf = evidence.record.to_vec();
        let place = place.min(leaf.len() - 1);
        leaf[place] ^= 1;
        leaf
    };
    let path = |lines: Vec<String>| lines;
    let mut shorter = good("").path;
    shorter.pop();
    let mut longer = good("").path;
    longer.push(longer[0].clone());
    let mut bent_path = good("").path;
    bent_path[0] = changed(&bent_path[0]);
    let mut swapped = good("").path;
    swapped.swap(0, 1);
    let note = |from: &str, to: &str| good("").note.replacen(from, to, 1);
    vec![
        Case { leaf: leaf(0), ..good("the first byte of a record changed") },
        Case { leaf: leaf(usize::MAX), ..good("the last byte of a record changed") },
        Case { leaf: evidence.record[1..].to_vec(), ..good("a record without its first byte") },
        Case { leaf: Vec::new(), ..good("no record") },
        Case { index: evidence.index + 1, ..good("the next index") },
        Case { index: evidence.index - 1, ..good("the index before") },
        Case { index: size.parse().unwrap(), ..good("an index behind the end") },
        Case { path: path(bent_path), ..good("a hash of the path changed") },
        Case { path: path(swapped), ..good("two hashes of the path exchanged") },
        Case { path: path(shorter), ..good("a path that is too short") },
        Case { path: path(longer), ..good("a path that is too long") },
        Case { path: Vec::new(), ..good("no path") },
        Case { note: note(root, &changed(root)), ..good("another root") },
        Case {
            note: note(&format!("\n{size}\n"), &format!("\n{bigger}\n")),
            ..good("another size")
        },
        Case { note: note(signature, &bent), ..good("another signature") },
        Case { note: note(&format!("{head} {signature}\n"), ""), ..good("no signature") },
        Case { note: note(origin, &format!("{origin}x")), ..good("another origin") },
        Case {
            note: good("").note.replace(origin, "elsewhere"),
            ..good("another name throughout")
        },
        Case { key: other.key.clone(), ..good("another key") },
        Case { note: other.note.clone(), ..good("the checkpoint of another log") },
        Case { note: other.note.clone(), key: other.key, ..good("the tree of another log") },
    ]
}

/// A log with requests, refusals, a finding, a block and what operators did.
fn busy() -> Stage {
    let stage = Stage::new(Hook::Native);
    let reader = stage.key("client", "reader");
    let mut connection = stage.client(Family::V4).connect(Http::Two).unwrap();
    for _ in 0..60 {
        assert_eq!(connection.ask(&orders().key(&reader)).unwrap().status, 200);
    }
    stage.guess(Family::V4, THRESHOLD);
    stage.quarantine(&["198.51.100.0/24"]);
    assert!(stage.enforcer(&["release", "198.51.100.0/24"]).is_success());
    let count = || stage.records_of("http").len();
    wait_until("every request is on record", DEADLINE, || count() == 60 + THRESHOLD).unwrap();
    stage
}

/// Each verifier, with how it is run.
fn verifiers(stage: &Stage) -> Vec<(&'static str, Command)> {
    let program = stage.site.folder().join("sumdb");
    let mut build = Command::new("go");
    build.arg("build").arg("-o").arg(&program).arg(here("sumdb.go"));
    // Packages of the system, and no network.
    build.envs([("GO111MODULE", "off"), ("GOPATH", "/usr/share/gocode"), ("GOFLAGS", "")]);
    build.env("GOCACHE", stage.site.folder().join("go"));
    run(&mut build);
    let mut node = Command::new("node");
    node.arg(here("sigstore.mjs")).arg(target("verifiers-npm"));
    vec![
        ("sumdb", Command::new(program)),
        ("tlog-scales", python("scales.py")),
        ("sigstore of PyPI", python("sigstore.py")),
        ("@sigstore/verify", node),
    ]
}

/// A script of Python with the packages that were installed for the tests.
fn python(name: &str) -> Command {
    let mut command = Command::new("python3");
    // Not its own folder: it holds a file with the name of a package.
    command.args(["-P", "-B"]).arg(here(name)).env("PYTHONPATH", target("verifiers"));
    command
}

fn here(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("it/verifiers").join(name)
}

fn target(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../target").join(name)
}

fn run(command: &mut Command) -> String {
    let output = command.stdin(Stdio::null()).output().unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {errors}");
    String::from_utf8(output.stdout).unwrap()
}

/// The same, with something to read.
fn fed(command: &mut Command, text: &str) -> String {
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let text = text.to_owned();
    let writer = std::thread::spawn(move || stdin.write_all(text.as_bytes()).unwrap());
    let output = child.wait_with_output().unwrap();
    writer.join().unwrap();
    assert!(output.status.success(), "{command:?}");
    String::from_utf8(output.stdout).unwrap()
}
