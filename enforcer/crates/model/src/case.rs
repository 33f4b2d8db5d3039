//! The names of what detection leads to: findings, incidents, decisions.
//!
//! Findings and decisions are many and have random names, as blocks have; incidents are few, are
//! spoken about, and are counted.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::BlockId;

/// The name of an incident, such as `INC-0042`; no two of one host have the same, ever.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct IncidentId(u32);

/// The name of a decision, `D-` and seven characters of Crockford's base 32, such as `D-7K2Q4XW`.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct DecisionId(BlockId);

/// The name of a finding, such as `F-7K2Q4XW`.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct FindingId(BlockId);

/// The text is no such name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is not {what}; it looks like `{example}`")]
pub struct CaseIdError {
    text: String,
    what: &'static str,
    example: &'static str,
}

impl IncidentId {
    /// The incident with this number.
    pub const fn from_number(number: u32) -> Self {
        Self(number)
    }

    /// Its number.
    pub const fn number(self) -> u32 {
        self.0
    }
}

impl fmt::Display for IncidentId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "INC-{:04}", self.0)
    }
}

impl FromStr for IncidentId {
    type Err = CaseIdError;

    fn from_str(text: &str) -> Result<Self, CaseIdError> {
        let upper = text.to_ascii_uppercase();
        let digits = upper
            .strip_prefix("INC-")
            .filter(|digits| digits.bytes().all(|byte| byte.is_ascii_digit()));
        let id = digits.and_then(|digits| digits.parse().ok()).map(Self);
        // One name for each: `INC-42` and `INC-00042` are none.
        id.filter(|id| id.to_string() == upper).ok_or_else(|| CaseIdError {
            text: text.to_owned(),
            what: "the id of an incident",
            example: "INC-0042",
        })
    }
}

macro_rules! random_id {
    ($name:ident, $prefix:literal, $what:literal, $example:literal) => {
        impl $name {
            /// The id made of the low 35 bits of `bits`.
            pub const fn from_bits(bits: u64) -> Self {
                Self(BlockId::from_bits(bits))
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                let block = self.0.to_string();
                write!(f, "{}{}", $prefix, block.strip_prefix("B-").unwrap_or_default())
            }
        }

        impl FromStr for $name {
            type Err = CaseIdError;

            fn from_str(text: &str) -> Result<Self, CaseIdError> {
                let digits = text.get(..2).filter(|start| start.eq_ignore_ascii_case($prefix));
                let digits = digits.and_then(|_| text.get(2..));
                digits.and_then(|digits| format!("B-{digits}").parse().ok()).map(Self).ok_or_else(
                    || CaseIdError { text: text.to_owned(), what: $what, example: $example },
                )
            }
        }
    };
}

random_id!(DecisionId, "D-", "the id of a decision", "D-7K2Q4XW");
random_id!(FindingId, "F-", "the id of a finding", "F-7K2Q4XW");

macro_rules! as_text {
    ($($type:ident),+) => { $(
        impl fmt::Debug for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($type), "({})"), self)
            }
        }

        impl Serialize for $type {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> Deserialize<'de> for $type {
            fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
                String::deserialize(from)?.parse().map_err(serde::de::Error::custom)
            }
        }
    )+ };
}

as_text!(IncidentId, DecisionId, FindingId);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_survive_printing_and_parsing() {
        for number in [0, 7, 42, 9_999, 10_000, u32::MAX] {
            let id = IncidentId::from_number(number);
            assert_eq!(id.to_string().parse(), Ok(id));
            assert_eq!(id.to_string().to_lowercase().parse(), Ok(id));
        }
        assert_eq!(IncidentId::from_number(42).to_string(), "INC-0042");
        for bits in [0, 1, u64::MAX] {
            let (decision, finding) = (DecisionId::from_bits(bits), FindingId::from_bits(bits));
            assert_eq!(decision.to_string().parse(), Ok(decision));
            assert_eq!(finding.to_string().to_lowercase().parse(), Ok(finding));
        }
    }

    #[test]
    fn an_incident_has_one_name_and_nothing_else_is_one() {
        for text in ["INC-42", "INC-00042", "INC-", "INC-+042", "D-7K2Q4XW", "", "INC-99999999999"]
        {
            assert!(text.parse::<IncidentId>().is_err(), "{text}");
        }
        for text in ["F-7K2Q4XW", "D-7K2Q4XWW", "D-", "B-7K2Q4XW", "é-7K2Q4XW"] {
            assert!(text.parse::<DecisionId>().is_err(), "{text}");
        }
    }
}
