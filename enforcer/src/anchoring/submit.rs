//! One checkpoint, one witness.

use std::time::Duration;

use enforcer_audit::{AddCheckpoint, Log, SignedNote, WitnessKey, parse_size};
use enforcer_authn::HttpClient;
use enforcer_policy::WitnessPlan;
use http::StatusCode;
use http::header::HeaderValue;

use crate::cli::chain;

/// For one question to a witness.
const PATIENCE: Duration = Duration::from_secs(5);
/// Questions about one checkpoint: a witness may know another size than we thought, and have learnt
/// yet another one meanwhile.
const TRIES: usize = 3;
/// Bytes of an answer: a few signature lines.
const ANSWER_MAX: usize = 16 << 10;

/// What became of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Submitted {
    /// The witness knows it for good.
    Cosigned {
        /// Its signature lines.
        lines: String,
    },
    /// The witness knows more records than the log has: the log was cut, or put back.
    RolledBack {
        /// So many.
        known: u64,
    },
    /// The log goes another way than it once did.
    Forked,
    /// The log has grown meanwhile; the next round asks again.
    Overtaken {
        /// What the witness knows.
        known: u64,
    },
    /// There is no cosignature, for another reason.
    Failed(String),
}

/// Shows `witness` the checkpoint of `log`; `known` is what it knew when it was last asked.
pub(super) async fn submit(
    client: &HttpClient,
    witness: &WitnessPlan,
    log: &Log,
    mut known: u64,
) -> Submitted {
    for _ in 0..TRIES {
        let proof = match log.consistency(known.min(log.size())) {
            Ok(proof) => proof,
            Err(error) => return Submitted::Failed(format!("nothing can be proven: {error}")),
        };
        let request =
            AddCheckpoint { old: known.min(log.size()), proof, note: log.note().to_owned() };
        let answer = client.post(
            &witness.submit,
            HeaderValue::from_static("text/plain; charset=utf-8"),
            request.to_string(),
            ANSWER_MAX,
            PATIENCE,
        );
        let (status, body) = match answer.await {
            Ok(answer) => answer,
            Err(error) => return Submitted::Failed(chain(&error)),
        };
        match status {
            StatusCode::OK => return cosigned(log.note(), &body, &witness.key),
            StatusCode::CONFLICT => match parse_size(&body) {
                Some(size) if size > log.size() => return Submitted::RolledBack { known: size },
                Some(size) if size == request.old => {
                    let why = "it refuses the size that it says it knows";
                    return Submitted::Failed(why.to_owned());
                }
                Some(size) => known = size,
                None => return Submitted::Failed("its 409 names no size".to_owned()),
            },
            StatusCode::UNPROCESSABLE_ENTITY => return Submitted::Forked,
            StatusCode::FORBIDDEN => {
                return Submitted::Failed("it knows the log by another key".to_owned());
            }
            StatusCode::NOT_FOUND => {
                return Submitted::Failed("it does not know this log, or is not there".to_owned());
            }
            status => return Submitted::Failed(format!("it answers {status}")),
        }
    }
    Submitted::Failed("it knows another size each time".to_owned())
}

fn cosigned(note: &str, answer: &[u8], key: &WitnessKey) -> Submitted {
    let wrong = |why: &str| Submitted::Failed(why.to_owned());
    let Ok(lines) = std::str::from_utf8(answer) else { return wrong("its answer is no text") };
    let both = format!("{note}{lines}");
    let Ok(both) = SignedNote::parse(&both) else { return wrong("its answer is no signature") };
    match both.cosigned_by(key) {
        Ok(Some(_time)) => Submitted::Cosigned { lines: both.lines_by(key) },
        Ok(None) => wrong("it has not signed with the key that the policy names"),
        Err(_) => wrong("its signature does not fit the checkpoint"),
    }
}
