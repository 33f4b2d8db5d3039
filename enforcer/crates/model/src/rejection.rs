//! Why a request was not served: a closed list for the outside, a chain of causes for us.

use std::error::Error;
use std::fmt;

use serde::Serialize;

/// A refusal on its way to the client and into the audit log.
#[derive(Debug)]
pub struct Rejection {
    /// What the caller may know. Also the metric label and the audit field.
    pub reason: Reason,
    /// What happened, with its chain of causes. Log and audit only.
    pub cause: Box<dyn Error + Send + Sync>,
}

macro_rules! reasons {
    ($( $(#[doc = $doc:literal])+ $name:ident = $text:literal, $status:literal; )+) => {
        /// Every reason to refuse, alphabetical; a new one must break the build where it matters.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum Reason { $( $(#[doc = $doc])+ $name, )+ }

        impl Reason {
            /// All of them, for tables, metrics and documentation.
            pub const ALL: &[Self] = &[ $( Self::$name, )+ ];

            /// The stable word in metrics, audit records and documentation.
            pub const fn as_str(self) -> &'static str {
                match self { $( Self::$name => $text, )+ }
            }

            /// The HTTP status of the answer.
            pub const fn status(self) -> u16 {
                match self { $( Self::$name => $status, )+ }
            }

            /// One sentence for the documentation's table.
            pub const fn meaning(self) -> &'static str {
                match self { $( Self::$name => concat!($( $doc ),+).trim_ascii(), )+ }
            }
        }
    };
}

reasons! {
    /// The audit log cannot take a record, and nothing is served unrecorded.
    AuditUnavailable = "audit-unavailable", 503;
    /// The route, or the incident, wants a stronger proof of who is calling than was given.
    AuthenticationTooWeak = "authentication-too-weak", 401;
    /// The client's body is longer than the route admits.
    BodyTooLarge = "body-too-large", 413;
    /// The client did not send the body in time.
    BodyTooSlow = "body-too-slow", 408;
    /// The client's body broke off or was framed wrongly.
    BodyBroken = "body-broken", 400;
    /// The client certificate has been revoked here.
    CertificateRevoked = "certificate-revoked", 401;
    /// The client certificate gives its holder no name that the policy knows.
    CertificateUnknown = "certificate-unknown", 401;
    /// CONNECT, which no route allows.
    ConnectRefused = "connect-refused", 405;
    /// The same kind of credential stands in the request twice.
    CredentialDuplicate = "credential-duplicate", 401;
    /// A route that wants a caller was asked without any credential.
    CredentialMissing = "credential-missing", 401;
    /// A deny rule of the route matched, or could not be ruled out.
    DeniedByRule = "denied-by-rule", 403;
    /// An operator has disabled the endpoint for a while; the status is what the operator chose.
    EndpointDisabled = "endpoint-disabled", 503;
    /// An operator lets the endpoint be used less for a while, and the caller has used that up.
    EndpointTightened = "endpoint-tightened", 429;
    /// Expect asks for something else than `100-continue`.
    ExpectationFailed = "expectation-failed", 417;
    /// Framing that can be read two ways: Transfer-Encoding with Content-Length, or a coding other
    /// than one final `chunked`.
    FramingAmbiguous = "framing-ambiguous", 400;
    /// A header with control bytes, a bad name, or an underscore twin of a protected header.
    HeaderMalformed = "header-malformed", 400;
    /// The header block is over the limit.
    HeadersTooLarge = "headers-too-large", 431;
    /// The connection's certificate is not for the host that was asked for, as when a browser reuses a
    /// connection for another name.
    HostMisdirected = "host-misdirected", 421;
    /// Host and `:authority` or the absolute target disagree.
    HostMismatch = "host-mismatch", 400;
    /// Host is missing, repeated or not a host.
    HostMalformed = "host-malformed", 400;
    /// More HTTP/2 frames of a kind that costs us more than the client; ends the connection.
    Http2Flood = "http2-flood", 429;
    /// A fault of ours; the log has the cause.
    Internal = "internal", 500;
    /// Whether the token is good cannot be told: its issuer does not answer, or never has.
    IssuerUnavailable = "issuer-unavailable", 503;
    /// The key's time is over.
    KeyExpired = "key-expired", 401;
    /// The credential is not in the form of a key, or its checksum is wrong.
    KeyMalformed = "key-malformed", 401;
    /// The key's time has not come.
    KeyNotYetValid = "key-not-yet-valid", 401;
    /// The key has been revoked.
    KeyRevoked = "key-revoked", 401;
    /// No such key, or the secret is wrong.
    KeyUnknown = "key-unknown", 401;
    /// The key may only be used with its client certificate.
    KeyWrongCertificate = "key-wrong-certificate", 401;
    /// The key may not be used from this network.
    KeyWrongNetwork = "key-wrong-network", 401;
    /// The key may not be used for this route.
    KeyWrongRoute = "key-wrong-route", 403;
    /// As many requests as a limit admits are under way at once.
    LimitConcurrent = "limit-concurrent", 429;
    /// The caller's own limit is used up.
    LimitKey = "limit-key", 429;
    /// A limit that several callers share is used up: an application's, a tenant's, a route's, …
    LimitShared = "limit-shared", 429;
    /// The source address's limit is used up.
    LimitSource = "limit-source", 429;
    /// The request cannot be limited in a known way: the limiter has no room for a new caller.
    LimitUnavailable = "limit-unavailable", 503;
    /// A method in another spelling than capital letters, digits and hyphens.
    MethodMalformed = "method-malformed", 400;
    /// A header or query that asks for another method.
    MethodOverride = "method-override", 400;
    /// The caller's roles satisfy no allow rule of the route.
    NotAllowed = "not-allowed", 403;
    /// No route matches host and path.
    NoRoute = "no-route", 404;
    /// The path has a byte below 0x20 or 0x7F, raw or encoded.
    PathControlByte = "path-control-byte", 400;
    /// The path has a `.` or `..` segment, raw or encoded.
    PathDotSegment = "path-dot-segment", 400;
    /// The path decodes to something that is encoded again.
    PathDoubleEncoding = "path-double-encoding", 400;
    /// The path has an empty segment (`//`).
    PathEmptySegment = "path-empty-segment", 400;
    /// The path has an encoded slash, or a backslash raw or encoded.
    PathEncodedSeparator = "path-encoded-separator", 400;
    /// A percent sign without two hexadecimal digits, or a byte that a path must encode.
    PathMalformed = "path-malformed", 400;
    /// The path has a `;` parameter, raw or encoded.
    PathMatrixParameter = "path-matrix-parameter", 400;
    /// The decoded path is not UTF-8, or overlong.
    PathNotUtf8 = "path-not-utf8", 400;
    /// The path is longer than the limit.
    PathTooLong = "path-too-long", 414;
    /// The proof of possession (RFC 9449) was used before.
    ProofReplayed = "proof-replayed", 401;
    /// The source or the caller is under quarantine.
    Quarantined = "quarantined", 403;
    /// A query parameter that the policy reads stands in the request twice.
    QueryDuplicate = "query-duplicate", 400;
    /// The quota of the day or the month is used up.
    QuotaUsed = "quota-used", 429;
    /// The request was not done within the time that the policy gives it.
    RequestTimeout = "request-timeout", 504;
    /// The upstream is nearly full, and callers of this kind are the first to be turned away.
    Shed = "shed", 503;
    /// The agent is shutting down.
    ShuttingDown = "shutting-down", 503;
    /// The token's algorithm is not one that the policy and the issuer's key allow.
    TokenAlgorithm = "token-algorithm", 401;
    /// The token is bound to a key or certificate that the caller did not prove to have.
    TokenBinding = "token-binding", 401;
    /// The token's time is over.
    TokenExpired = "token-expired", 401;
    /// The issuer says that the token is not active.
    TokenInactive = "token-inactive", 401;
    /// The policy knows no such issuer.
    TokenIssuerUnknown = "token-issuer-unknown", 401;
    /// The issuer has no such key.
    TokenKeyUnknown = "token-key-unknown", 401;
    /// Not a token, or one that could be read two ways.
    TokenMalformed = "token-malformed", 401;
    /// The token's time has not come.
    TokenNotYetValid = "token-not-yet-valid", 401;
    /// The token, its key or its subject has been revoked here.
    TokenRevoked = "token-revoked", 401;
    /// The token's signature is wrong.
    TokenSignature = "token-signature", 401;
    /// The policy accepts only tokens of this issuer that are bound to their holder.
    TokenUnbound = "token-unbound", 401;
    /// The token is meant for another audience.
    TokenWrongAudience = "token-wrong-audience", 401;
    /// TRACE, which would echo what was added on the way.
    TraceRefused = "trace-refused", 405;
    /// An upgrade to another protocol, which no route allows.
    UpgradeRefused = "upgrade-refused", 400;
    /// The upstream broke the connection before its answer was complete.
    UpstreamBroken = "upstream-broken", 502;
    /// The upstream answered something that is not HTTP.
    UpstreamInvalid = "upstream-invalid", 502;
    /// Too many requests to the upstream failed, and it is left alone for a moment.
    UpstreamPaused = "upstream-paused", 503;
    /// No connection to any address of the upstream.
    UpstreamUnreachable = "upstream-unreachable", 502;
    /// The upstream did not answer in time.
    UpstreamTimeout = "upstream-timeout", 504;
    /// The upstream has as many requests as the policy admits.
    UpstreamBusy = "upstream-busy", 503;
}

impl Reason {
    /// This reason with what caused it.
    pub fn because(self, cause: impl Into<Box<dyn Error + Send + Sync>>) -> Rejection {
        Rejection { reason: self, cause: cause.into() }
    }

    /// Whether a credential was presented and not accepted: the raw material of guessing.
    ///
    /// Our own denials (quarantine, limits, overload) are never evidence: a block must not feed
    /// itself.
    pub const fn is_refused_credential(self) -> bool {
        matches!(
            self,
            Self::CertificateRevoked
                | Self::CertificateUnknown
                | Self::CredentialDuplicate
                | Self::KeyExpired
                | Self::KeyMalformed
                | Self::KeyNotYetValid
                | Self::KeyRevoked
                | Self::KeyUnknown
                | Self::KeyWrongCertificate
                | Self::KeyWrongNetwork
                | Self::ProofReplayed
                | Self::TokenAlgorithm
                | Self::TokenBinding
                | Self::TokenInactive
                | Self::TokenIssuerUnknown
                | Self::TokenKeyUnknown
                | Self::TokenMalformed
                | Self::TokenNotYetValid
                | Self::TokenRevoked
                | Self::TokenSignature
                | Self::TokenUnbound
                | Self::TokenWrongAudience
        )
    }

    /// Whether it was refused by what we had decided before, or for want of our own means: that says
    /// nothing of whoever sent it.
    pub const fn is_own_denial(self) -> bool {
        matches!(
            self,
            Self::AuditUnavailable
                | Self::AuthenticationTooWeak
                | Self::EndpointDisabled
                | Self::EndpointTightened
                | Self::Internal
                | Self::IssuerUnavailable
                | Self::LimitConcurrent
                | Self::LimitKey
                | Self::LimitShared
                | Self::LimitSource
                | Self::LimitUnavailable
                | Self::Quarantined
                | Self::QuotaUsed
                | Self::Shed
                | Self::ShuttingDown
                | Self::UpstreamBusy
                | Self::UpstreamPaused
        )
    }

    /// The word with this name, as [`Self::as_str`] writes it.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|reason| reason.as_str() == name)
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl Serialize for Reason {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

impl Rejection {
    /// The chain of causes on one line, outermost first.
    pub fn chain(&self) -> String {
        let mut text = self.cause.to_string();
        let mut next = self.cause.source();
        while let Some(cause) = next {
            text.push_str(": ");
            text.push_str(&cause.to_string());
            next = cause.source();
        }
        text
    }
}

impl fmt::Display for Rejection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.reason.fmt(f)
    }
}

impl Error for Rejection {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        let cause: &(dyn Error + 'static) = self.cause.as_ref();
        Some(cause)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn every_reason_has_a_word_of_its_own_and_an_error_status() {
        let words: HashSet<_> = Reason::ALL.iter().map(|reason| reason.as_str()).collect();

        assert_eq!(words.len(), Reason::ALL.len());
        for &reason in Reason::ALL {
            assert!((400..600).contains(&reason.status()), "{reason}");
            assert_eq!(Reason::from_name(reason.as_str()), Some(reason));
        }
    }

    #[test]
    fn only_refused_credentials_are_evidence_of_guessing() {
        for &reason in Reason::ALL {
            if reason.is_refused_credential() {
                assert_eq!(reason.status(), 401, "{reason}");
            }
        }
        for denial_of_ours in [Reason::Quarantined, Reason::LimitSource, Reason::LimitKey] {
            assert!(!denial_of_ours.is_refused_credential());
            assert!(denial_of_ours.is_own_denial());
        }
        for &reason in Reason::ALL {
            assert!(!(reason.is_own_denial() && reason.is_refused_credential()), "{reason}");
        }
    }
}
