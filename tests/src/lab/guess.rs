//! Guessing keys: what the rule of every policy of the lab notices.

use anyhow::{Result, ensure};

use super::{Answer, Ask, Connection};

/// Invented keys, each different, none ever issued: the shape is right, the checksum is not.
#[derive(Clone, Debug, Default)]
pub struct KeyGuesses {
    next: u64,
}

/// Asks once with each of `keys`; every answer must be a refusal of the credential.
pub fn guess(
    connection: &mut Connection,
    keys: impl IntoIterator<Item = String>,
) -> Result<Vec<Answer>> {
    let ask = |key: String| {
        let answer = connection.ask(&Ask::get("/v1/orders").key(&key))?;
        ensure!(answer.status == 401, "a guess got {}", answer.status);
        Ok(answer)
    };
    keys.into_iter().map(ask).collect()
}

impl Iterator for KeyGuesses {
    type Item = String;

    fn next(&mut self) -> Option<String> {
        let number = self.next;
        self.next = number.checked_add(1)?;
        Some(format!("enf_live_{number:012}_{number:043}000000"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn guesses_differ_and_have_the_length_of_keys() {
        let guesses: Vec<String> = KeyGuesses::default().take(3).collect();

        assert_eq!(guesses[0].len(), "enf_live_".len() + 12 + 1 + 43 + 6);
        assert_ne!(guesses[0], guesses[1]);
        assert_ne!(guesses[1], guesses[2]);
    }
}
