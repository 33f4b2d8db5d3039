//! What an answer gave away.

use serde::{Deserialize, Serialize};

/// How much of what should seldom leave was found in an answer: counts, never the values.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Exposed {
    /// Private keys, API keys and tokens of well-known makers, hashes of passwords.
    #[serde(skip_serializing_if = "is_zero")]
    pub secrets: u32,
    /// Numbers of payment cards (ISO/IEC 7812, with a good check digit).
    #[serde(skip_serializing_if = "is_zero")]
    pub cards: u32,
    /// Numbers of bank accounts (IBAN, ISO 13616, with good check digits).
    #[serde(skip_serializing_if = "is_zero")]
    pub accounts: u32,
    /// Addresses of electronic mail.
    #[serde(skip_serializing_if = "is_zero")]
    pub emails: u32,
}

impl Exposed {
    /// Everything that says something of a person.
    pub const fn personal(self) -> u32 {
        self.cards.saturating_add(self.accounts).saturating_add(self.emails)
    }

    /// Whether there was nothing.
    pub const fn is_nothing(self) -> bool {
        self.secrets == 0 && self.personal() == 0
    }
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
const fn is_zero(count: &u32) -> bool {
    *count == 0
}
