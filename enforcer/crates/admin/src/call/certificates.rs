//! Certificates that listeners show: for whom, until when, and what became of new files.

use std::path::PathBuf;

use enforcer_model::Timestamp;
use serde::{Deserialize, Serialize};

/// What is wanted of the certificates.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum CertsOrder {
    /// Those in force.
    List,
    /// Their files are read again.
    Reload,
}

/// Every certificate in force.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct CertificatesListed {
    /// Listener by listener.
    pub certificates: Vec<CertificateRow>,
}

/// A certificate in force.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CertificateRow {
    /// The listener that shows it.
    pub listener: String,
    /// Whether it is shown to clients that ask for no name of any.
    pub default: bool,
    /// The DNS names that it is for.
    pub names: Vec<String>,
    /// Whom it was issued to.
    pub subject: String,
    /// Who vouches for it.
    pub issuer: String,
    /// When its time begins.
    pub not_before: Timestamp,
    /// When its time is over.
    pub not_after: Timestamp,
    /// Whole days until then; below zero once it is over.
    pub days_left: i64,
    /// What somebody should see to, if anything.
    pub warning: Option<ExpiryWarning>,
    /// SHA-256 of the certificate, in hex.
    pub sha256: String,
    /// Where it was read from.
    pub file: PathBuf,
    /// Its OCSP staple, where the policy names one.
    pub ocsp: Option<OcspRow>,
}

/// How urgent it is that a certificate be replaced.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ExpiryWarning {
    /// Less than thirty days are left.
    Soon,
    /// Less than seven days are left.
    VerySoon,
    /// Its time is over, or has not begun.
    Invalid,
}

/// An OCSP staple.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OcspRow {
    /// Where it was read from.
    pub file: PathBuf,
    /// How long ago its authority knew what it says.
    pub age_seconds: Option<u64>,
    /// Until when it counts.
    pub next_update: Option<Timestamp>,
    /// Why it is not stapled; none when it is.
    pub problem: Option<String>,
}

/// What came of reading the files again.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct CertificatesReloaded {
    /// Each listener with TLS.
    pub listeners: Vec<ListenerReloaded>,
    /// Number of the audit record.
    #[serde(default)]
    pub audit: Option<u64>,
}

/// What came of reading one listener's files again.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ListenerReloaded {
    /// As the policy names it.
    pub listener: String,
    /// Why everything of it stays as it was.
    pub refused: Option<String>,
    /// Certificates that are in force now and were not before.
    pub added: Vec<CertificateRow>,
    /// Certificates that were in force before.
    pub removed: Vec<CertificateRow>,
    /// Certificates that stay.
    pub unchanged: u64,
}

impl ExpiryWarning {
    /// Days before the end at which somebody should begin to care.
    pub const SOON_DAYS: i64 = 30;
    /// Days before the end at which somebody should hurry.
    pub const VERY_SOON_DAYS: i64 = 7;

    /// Of a certificate with so many seconds left.
    pub const fn of(seconds_left: i64) -> Option<Self> {
        const DAY: i64 = 86_400;
        if seconds_left <= 0 {
            Some(Self::Invalid)
        } else if seconds_left < Self::VERY_SOON_DAYS * DAY {
            Some(Self::VerySoon)
        } else if seconds_left < Self::SOON_DAYS * DAY {
            Some(Self::Soon)
        } else {
            None
        }
    }
}
