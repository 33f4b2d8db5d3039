//! Who is calling: a credential in a request's headers becomes an [`Identity`], or a refusal.
//!
//! [`Presented`] takes the one credential that a request may carry, [`Token`] reads its form,
//! [`ApiKeys`] compares it with the keys in memory, [`KeyStore`] keeps those keys on disk. What a
//! caller may do is not decided here. All refusals are one and the same 401 to the caller; the
//! reasons differ in the audit record only.
//!
//! # The form of a key
//!
//! `enf_live_<12 id>_<43 secret><6 checksum>`, every part in base 62 (`0-9A-Za-z`); `enf_test_…`
//! for trials. The first word is the policy's to choose ([`KeyPlan`]): new secrets begin with it,
//! and those that begin otherwise stay good, `enf` always.
//!
//! - The prefix makes a leaked key recognisable to people and scanners, the underscore keeps it
//!   selectable by a double click, and the checksum (CRC-32 of all before it, zero-padded) lets a
//!   scanner and this crate tell a key from noise with no look-up: the form that GitHub describes in
//!   ["Behind GitHub's new authentication token
//!   formats"](https://github.blog/engineering/platform-security/behind-githubs-new-authentication-token-formats/).
//!   The checksum is no secret and proves nothing; it only saves work.
//! - The secret has 43 characters of uniform randomness, 256 bits. The [OWASP Session Management
//!   Cheat
//!   Sheet](https://cheatsheetseries.owasp.org/cheatsheets/Session_Management_Cheat_Sheet.html) asks
//!   for at least 64. A secret of that size needs no slow hash (the [OWASP Password Storage Cheat
//!   Sheet](https://cheatsheetseries.owasp.org/cheatsheets/Password_Storage_Cheat_Sheet.html) is
//!   about secrets that people choose); it is kept as HMAC-SHA-256 under a [`Pepper`] that lies
//!   outside the database, so that a stolen database alone neither reveals nor accepts a key.
//!
//! # Known attacks
//!
//! - *Guessing*: 256 bits; each wrong guess is evidence for detection.
//! - *Timing*: the comparison is constant-time (`ring::hmac::verify`), and an unknown id costs the
//!   same HMAC as a known one.
//! - *Two credentials in one request*, read differently by us and by the upstream: refused.
//! - *Probing for revoked or expired keys*: those reasons are given only once the secret was right.

mod assertion;
mod certificate;
mod dpop;
mod identity;
mod issuers;
pub mod jwt;
mod keys;
mod presented;
mod private;
mod revocations;
mod tokens;

pub use assertion::{ASSERTION_TYPE, Assertions, Statement};
pub use certificate::CertificateError;
pub use dpop::{DpopProofs, PROOF_WINDOW, ProofError, ProofTarget};
pub use identity::{Binding, Certificate, Confirmation, Identity, KeyFacts, Proof, TokenFacts};
pub use issuers::{
    AskError, Bindings, ClientSecret, Discovery, DiscoveryError, Endpoint, EndpointError,
    HttpClient, Introspection, IssuerPlan, KeySource, RoleValues, Roots, RootsError, Unbound,
    Unintrospected, read_introspection,
};
pub use keys::{
    ApiKeys, Damage, Environment, EnvironmentError, FoundKey, IMPORT_MAX, ImportFile, ImportFormat,
    ImportProblem, ImportedKey, IssuedKey, KeyPlan, KeyPrefix, KeyPrefixError, KeyRecord,
    KeyScanner, KeyState, KeyStore, LastUse, NewKey, NewKeyError, Notice, NoticeHeaders,
    NoticeKind, NoticeMark, Pepper, Refused, Revocation, SecretForm, SecretRecord, StoreError,
    Token, TokenError, notice_headers, read_import,
};
pub use presented::{
    CREDENTIAL_HEADERS, CredentialError, FingerprintKey, Presented, Scheme, bearer,
};
pub use private::SecretFileError;
pub use revocations::{
    NewRevocation, RevocationError, RevocationId, RevocationIdError, RevocationStore, Revocations,
    TakenBack, TokenRevocation, TokenTarget, TokenTargetError,
};
pub use tokens::{
    Asked, Binds, Check, Inspection, IssuerStatus, Issuers, Outcome, TokenRefused, Tokens, metadata,
};
