//! What the agent tells clients about the tokens that it takes (RFC 9728).

use serde::Serialize;

use crate::jwt::{Algorithm, Algorithms};

/// The document at `/.well-known/oauth-protected-resource` for `resource`, whose tokens come from
/// `issuers` and carry `scopes`; `bindings` says whether tokens may be bound to their holder.
pub fn metadata(resource: &str, issuers: &[&str], scopes: &[&str], binds: Binds) -> String {
    let algorithms: Vec<_> = Algorithms::ASYMMETRIC.iter().map(Algorithm::as_str).collect();
    let document = Document {
        resource,
        authorization_servers: issuers,
        scopes_supported: scopes,
        bearer_methods_supported: &["header"],
        tls_client_certificate_bound_access_tokens: binds.certificates,
        dpop_signing_alg_values_supported: if binds.dpop { &algorithms } else { &[] },
        dpop_bound_access_tokens_required: binds.dpop_required,
    };
    // Strings and lists of strings: nothing in it can fail to be written.
    serde_json::to_string(&document).unwrap_or_default()
}

/// How tokens may be bound to their holder.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Binds {
    /// Tokens that are bound to a client certificate (RFC 8705) are taken.
    pub certificates: bool,
    /// Tokens that are bound to a key (RFC 9449) are taken.
    pub dpop: bool,
    /// No others are taken.
    pub dpop_required: bool,
}

#[derive(Serialize)]
struct Document<'a> {
    resource: &'a str,
    #[serde(skip_serializing_if = "is_empty")]
    authorization_servers: &'a [&'a str],
    #[serde(skip_serializing_if = "is_empty")]
    scopes_supported: &'a [&'a str],
    bearer_methods_supported: &'a [&'a str],
    #[serde(skip_serializing_if = "is_false")]
    tls_client_certificate_bound_access_tokens: bool,
    #[serde(skip_serializing_if = "is_empty")]
    dpop_signing_alg_values_supported: &'a [&'a str],
    #[serde(skip_serializing_if = "is_false")]
    dpop_bound_access_tokens_required: bool,
}

/// RFC 9728 section 3.2: what has no value is left out.
fn is_empty(list: &&[&str]) -> bool {
    list.is_empty()
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde calls it so")]
fn is_false(flag: &bool) -> bool {
    !flag
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_learns_whom_to_ask_for_a_token_and_how_to_send_it() {
        let binds = Binds { certificates: true, dpop: false, dpop_required: false };
        let document = metadata(
            "https://api.example.com",
            &["https://idp.example.com"],
            &["api.read", "api \"write\""],
            binds,
        );

        let read: serde_json::Value = serde_json::from_str(&document).unwrap();
        assert_eq!(
            read,
            serde_json::json!({
                "resource": "https://api.example.com",
                "authorization_servers": ["https://idp.example.com"],
                "scopes_supported": ["api.read", "api \"write\""],
                "bearer_methods_supported": ["header"],
                "tls_client_certificate_bound_access_tokens": true,
            })
        );
    }

    #[test]
    fn what_has_no_value_is_left_out() {
        let document = metadata("https://api.example.com", &[], &[], Binds::default());

        assert_eq!(
            document,
            r#"{"resource":"https://api.example.com","bearer_methods_supported":["header"]}"#
        );
    }
}
