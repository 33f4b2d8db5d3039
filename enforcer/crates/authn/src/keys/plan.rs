//! What a policy says about keys: their prefix, how often they change, and who is told.
//!
//! Plain values that were checked where they were read. A plan holds for the keys that are given out
//! and rotated from then on; what a key was promised when it was made stays as it is.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

/// `[keys]` of a policy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyPlan {
    /// What new keys begin with. Keys that begin with `enf` are accepted beside it.
    pub prefix: KeyPrefix,
    /// How old a secret may become before its rotation is due; never when none.
    pub every: Option<Duration>,
    /// How long an old secret lives beside a new one, unless the operator says otherwise.
    pub grace: Duration,
    /// How long before an expiry notice is given, longest first; at most [`KeyPlan::NOTIFY_MAX`].
    pub notify: Box<[Duration]>,
    /// Where notices are posted: an `https://` address, or `http://` on loopback.
    pub webhook: Option<Arc<str>>,
}

/// The word that keys begin with: `enf` in `enf_live_…`.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct KeyPrefix {
    /// Filled up with zeros.
    bytes: [u8; Self::LENGTH_MAX],
    length: usize,
}

/// The text cannot begin a key.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{}` cannot begin a key; write 2 to {} letters a-z and digits, a letter first, such as `enf`",
    .0.escape_debug(),
    KeyPrefix::LENGTH_MAX
)]
pub struct KeyPrefixError(String);

impl KeyPlan {
    /// Notices before one expiry.
    pub const NOTIFY_MAX: usize = 8;
    /// How long an old secret may live beside a new one.
    pub const GRACE_MAX: Duration = Duration::from_secs(90 * 86_400);
}

impl Default for KeyPlan {
    /// Three days to change a secret everywhere, notices a month, a week and a day ahead, nothing
    /// that is due by itself.
    fn default() -> Self {
        const DAY: u64 = 86_400;
        Self {
            prefix: KeyPrefix::default(),
            every: None,
            grace: Duration::from_secs(3 * DAY),
            notify: [30, 7, 1].map(|days| Duration::from_secs(days * DAY)).into(),
            webhook: None,
        }
    }
}

impl KeyPrefix {
    /// Characters in a prefix.
    pub const LENGTH_MAX: usize = 12;

    /// What keys begin with unless the policy says otherwise; always accepted.
    pub const ENF: Self = Self { bytes: *b"enf\0\0\0\0\0\0\0\0\0", length: 3 };

    /// As written.
    pub const fn as_str(&self) -> &str {
        // The constructors admit ASCII only, so this never falls back.
        match std::str::from_utf8(self.as_bytes()) {
            Ok(text) => text,
            Err(_) => "",
        }
    }

    /// As compared.
    pub const fn as_bytes(&self) -> &[u8] {
        match self.bytes.split_at_checked(self.length) {
            Some((text, _zeros)) => text,
            None => &[],
        }
    }
}

impl Default for KeyPrefix {
    fn default() -> Self {
        Self::ENF
    }
}

impl FromStr for KeyPrefix {
    type Err = KeyPrefixError;

    fn from_str(text: &str) -> Result<Self, KeyPrefixError> {
        let refused = || KeyPrefixError(text.chars().take(64).collect());
        let well_formed = (2..=Self::LENGTH_MAX).contains(&text.len())
            && text.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit())
            && text.bytes().next().is_some_and(|byte| byte.is_ascii_lowercase());
        if !well_formed {
            return Err(refused());
        }
        let mut bytes = [0; Self::LENGTH_MAX];
        bytes.iter_mut().zip(text.bytes()).for_each(|(to, from)| *to = from);
        Ok(Self { bytes, length: text.len() })
    }
}

impl fmt::Display for KeyPrefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl serde::Serialize for KeyPrefix {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

impl fmt::Debug for KeyPrefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "KeyPrefix({self})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prefix_is_a_short_word_that_no_part_of_a_key_can_be_mistaken_for() {
        for good in ["enf", "ab", "acme2", "abcdefghijkl"] {
            assert_eq!(good.parse::<KeyPrefix>().unwrap().as_str(), good);
        }
        for bad in ["", "a", "2ab", "Enf", "a_b", "a-b", "abcdefghijklm", "é1", "a\0"] {
            let refused = bad.parse::<KeyPrefix>().unwrap_err().to_string();
            assert!(refused.contains("such as `enf`"), "{bad}: {refused}");
        }
        assert_eq!("enf".parse(), Ok(KeyPrefix::default()));
    }
}
