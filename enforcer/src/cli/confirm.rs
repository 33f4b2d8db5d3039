//! A question to a person before something that is hard to take back.

use std::io::{BufRead, Read};

use super::{Context, Failure};

/// Longest answer that is read.
const ANSWER_MAX: u64 = 1_024;

/// Asks `question` and reads one line; any but one that `agrees`, and nobody there, is a no.
pub(crate) fn confirm(
    context: &Context,
    question: &str,
    agrees: impl FnOnce(&str) -> bool,
) -> Result<(), Failure> {
    context.printer.say(question);
    let mut line = String::new();
    std::io::stdin()
        .lock()
        .take(ANSWER_MAX)
        .read_line(&mut line)
        .map_err(|error| Failure::failed(format!("cannot read the answer: {error}")))?;
    let answer = line.trim();
    if agrees(answer) {
        return Ok(());
    }
    Err(Failure::usage(match answer {
        "" => "nobody answered: nothing was done".to_owned(),
        other => format!("`{other}` is not what was asked for: nothing was done"),
    }))
}
