//! Limits as they are at this moment, and other numbers for one of them.

use enforcer_model::{Prefix, Rate, Timestamp};
use serde::{Deserialize, Serialize};

use super::EndpointRow;

/// Other numbers for a limit, or the end of them.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LimitSet {
    /// As the policy names it.
    pub name: String,
    /// What is to hold.
    pub change: LimitChange,
    /// The operator's words.
    pub reason: Option<String>,
}

/// What is to hold.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum LimitChange {
    /// What the policy says.
    Reset,
    /// These numbers for a while; what is none stays as the policy says.
    Numbers {
        /// Of a rate, as a policy writes it: `100/s`.
        rate: Option<String>,
        /// Of a rate.
        burst: Option<u32>,
        /// Of a quota.
        quota: Option<u64>,
        /// Of a limit of requests at once.
        concurrent: Option<u32>,
        /// How long.
        ttl_seconds: u64,
    },
}

/// A limit that has other numbers, or has its own again.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct LimitChanged {
    /// How the limit is now.
    pub limit: LimitRow,
    /// The numbers that an operator had given it before.
    pub before: Option<LimitOverride>,
    /// Number of the audit record.
    #[serde(default)]
    pub audit: Option<u64>,
}

/// Limits, or where one caller stands with them.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct LimitsShown {
    /// The limits that were asked for.
    pub limits: Vec<LimitRow>,
    /// Where the caller stands that was asked for.
    pub standings: Vec<LimitStanding>,
    /// Who draws most on them, by sample.
    pub consumers: Vec<LimitConsumer>,
    /// How full the tables are.
    pub tables: LimitTables,
    /// Sources whose packet budget is shrunk in the kernel.
    pub throttled: ThrottledSources,
    /// Callers, sources and routes whose limits are shrunk, or that are tightened to a rate; with a
    /// caller, what concerns it.
    #[serde(default)]
    pub shrunk: Vec<EndpointRow>,
    /// Why levels of quotas are not written.
    pub quota_problem: Option<String>,
}

/// One limit.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct LimitRow {
    /// As the policy names it.
    pub name: String,
    /// Whom it counts.
    pub by: String,
    /// How much, as the policy says: `100/s burst 200`.
    pub limit: String,
    /// What one request costs.
    pub cost: String,
    /// Whether a condition decides when it holds.
    pub conditional: bool,
    /// Other numbers that hold at the moment.
    #[serde(rename = "override")]
    pub changed: Option<LimitOverride>,
    /// Of a quota: who has spent most.
    pub spent: Vec<LimitSpent>,
}

/// Other numbers for a limit.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LimitOverride {
    /// How much: `10/s burst 20`.
    pub limit: String,
    /// The rate that was given.
    pub rate: Option<String>,
    /// The burst that was given.
    pub burst: Option<u32>,
    /// The quota that was given.
    pub quota: Option<u64>,
    /// The number of requests at once that was given.
    pub concurrent: Option<u32>,
    /// When it ends.
    pub until: Timestamp,
    /// The operator's words.
    pub reason: String,
    /// Who said so.
    pub by: String,
}

/// What one subject has spent of a quota.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct LimitSpent {
    /// Whose it is.
    pub subject: String,
    /// Requests, or bytes.
    pub used: u64,
    /// When it begins anew.
    pub ends: Timestamp,
}

/// Where a subject stands with a limit.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct LimitStanding {
    /// The limit.
    pub name: String,
    /// Whose bucket.
    pub subject: String,
    /// How much holds.
    pub limit: String,
    /// Used of it: requests, or bytes.
    pub used: u64,
    /// After this time all of it is back.
    pub full_in_ms: Option<u64>,
}

/// Somebody who draws on a limit.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct LimitConsumer {
    /// The limit.
    pub name: String,
    /// Whose buckets.
    pub subject: String,
    /// Draws in the last minutes, an estimate.
    pub draws: u64,
    /// Of these, refused.
    pub refused: u64,
}

/// How full the tables are.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct LimitTables {
    /// Buckets that are drawn on.
    pub buckets: u64,
    /// Buckets that there is room for.
    pub buckets_max: u64,
    /// Buckets that were forgotten before they were full again.
    pub lossy_evictions: u64,
    /// Counters of quotas.
    pub quotas: u64,
    /// Counters that there is room for.
    pub quotas_max: u64,
    /// Subjects with requests under way, of limits that count these.
    pub concurrent: u64,
    /// Such subjects that there is room for.
    pub concurrent_max: u64,
}

/// Sources whose packet budget is shrunk.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct ThrottledSources {
    /// The sources.
    pub sources: Vec<Prefix>,
    /// What each of them has, in packets: `100/s`.
    pub budget: Option<String>,
    /// Why the kernel does not hold it.
    pub problem: Option<String>,
}

impl LimitChange {
    /// The rate that was asked for.
    pub fn rate(&self) -> Option<Result<Rate, enforcer_model::UnitError>> {
        match self {
            Self::Reset => None,
            Self::Numbers { rate, .. } => rate.as_ref().map(|rate| rate.parse()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_is_a_reset_or_numbers_with_an_end() {
        let reset: LimitChange = serde_json::from_str("\"reset\"").unwrap();
        assert_eq!(reset, LimitChange::Reset);
        let numbers = r#"{"numbers":{"rate":"5/s","burst":null,"quota":null,"concurrent":null,"ttl_seconds":60}}"#;
        let numbers: LimitChange = serde_json::from_str(numbers).unwrap();
        assert_eq!(numbers.rate().unwrap().unwrap().to_string(), "5/s");
        let endless = serde_json::from_str::<LimitChange>(r#"{"numbers":{"rate":"5/s"}}"#);
        assert!(endless.unwrap_err().to_string().contains("ttl_seconds"));
    }
}
