//! What an issuer says of itself (`OpenID` Connect Discovery 1.0, section 4).
//!
//! The `issuer` in it must be the one that was asked, byte for byte, or one issuer could speak for
//! another. What it names must be as well protected as itself.

use enforcer_model::Claims;

use super::{Endpoint, EndpointError};
use crate::jwt::{JsonError, document};

/// A discovery document of the issuer that was asked.
#[derive(Clone, Debug)]
pub struct Discovery {
    claims: Claims,
    is_tls: bool,
}

/// The document is none, or names what cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum DiscoveryError {
    /// Not a strict JSON object.
    #[error("the discovery document is not readable")]
    Document(#[source] JsonError),
    /// An endpoint is no URL that may be asked.
    #[error("the discovery document has an unusable `{name}`")]
    Endpoint {
        /// The member.
        name: &'static str,
        /// Why.
        source: EndpointError,
    },
    /// It speaks for another.
    #[error(
        "the discovery document is one of `{}`, not of `{expected}`; `url` and `issuer` must be \
         the same, byte for byte", .found.escape_debug()
    )]
    Issuer {
        /// Who was asked.
        expected: String,
        /// Whose document it is.
        found: String,
    },
    /// It does not name what is needed.
    #[error("the discovery document names no `{0}`")]
    Missing(&'static str),
}

impl Discovery {
    /// Bytes of a document.
    pub const LENGTH_MAX: usize = 64 * 1024;

    /// Where the document of the issuer `url` lies.
    pub(crate) fn location(url: &str) -> Result<Endpoint, EndpointError> {
        let base = url.strip_suffix('/').unwrap_or(url);
        Endpoint::parse(&format!("{base}/.well-known/openid-configuration"))
    }

    /// The document that `body` is, if it is one of the issuer `url`.
    pub fn read(body: &[u8], url: &str) -> Result<Self, DiscoveryError> {
        let claims = document(body).map_err(DiscoveryError::Document)?;
        match claims.get("issuer").and_then(|issuer| issuer.text()) {
            Some(issuer) if issuer == url => {
                Ok(Self { claims, is_tls: url.starts_with("https://") })
            }
            found => Err(DiscoveryError::Issuer {
                expected: url.to_owned(),
                found: found.unwrap_or("nobody").chars().take(Endpoint::LENGTH_MAX).collect(),
            }),
        }
    }

    /// Where its keys are.
    pub fn jwks(&self) -> Result<Endpoint, DiscoveryError> {
        self.endpoint("jwks_uri")
    }

    /// Where it is asked about tokens.
    pub fn introspection(&self) -> Result<Endpoint, DiscoveryError> {
        self.endpoint("introspection_endpoint")
    }

    fn endpoint(&self, name: &'static str) -> Result<Endpoint, DiscoveryError> {
        let text = self.claims.get(name).and_then(|value| value.text());
        let text = text.ok_or(DiscoveryError::Missing(name))?;
        // A document that came by TLS does not lead away from it.
        let refused = |source| DiscoveryError::Endpoint { name, source };
        if self.is_tls && !text.starts_with("https://") {
            return Err(refused(EndpointError::Plain(text.to_owned())));
        }
        Endpoint::parse(text).map_err(refused)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const URL: &str = "https://idp.example.com/realm";

    #[test]
    fn the_document_lies_below_the_issuer() {
        let at = |url| Discovery::location(url).unwrap().to_string();

        assert_eq!(at(URL), format!("{URL}/.well-known/openid-configuration"));
        assert_eq!(
            at("https://idp.example.com/"),
            "https://idp.example.com/.well-known/openid-configuration"
        );
    }

    #[test]
    fn a_document_leads_to_keys_and_introspection() {
        let body = br#"{"issuer":"https://idp.example.com/realm",
            "jwks_uri":"https://keys.example.com/jwks",
            "introspection_endpoint":"https://idp.example.com/introspect","x":[1,{"y":null}]}"#;

        let found = Discovery::read(body, URL).unwrap();

        assert_eq!(found.jwks().unwrap().as_str(), "https://keys.example.com/jwks");
        assert_eq!(found.introspection().unwrap().as_str(), "https://idp.example.com/introspect");
    }

    #[test]
    fn a_document_of_anybody_else_is_refused() {
        for issuer in [
            r#""https://idp.example.com/realm/""#,
            r#""https://IDP.example.com/realm""#,
            r#""https://idp.example.com""#,
            r#""""#,
            r#"["https://idp.example.com/realm"]"#,
            "null",
        ] {
            let body = format!(r#"{{"issuer":{issuer},"jwks_uri":"https://idp.example.com/j"}}"#);

            let refused = Discovery::read(body.as_bytes(), URL).unwrap_err();

            assert!(matches!(refused, DiscoveryError::Issuer { .. }), "{issuer}: {refused}");
        }
        assert!(Discovery::read(b"{}", URL).is_err());
    }

    #[test]
    fn garbage_and_duplicates_are_no_documents() {
        for body in [
            "",
            "<html>",
            "[]",
            r#"{"issuer":"https://idp.example.com/realm""#,
            r#"{"issuer":"https://evil","issuer":"https://idp.example.com/realm"}"#,
        ] {
            let refused = Discovery::read(body.as_bytes(), URL).unwrap_err();

            assert!(matches!(refused, DiscoveryError::Document(_)), "{body}: {refused}");
        }
    }

    #[test]
    fn what_it_names_is_as_well_protected_as_itself() {
        let read = |url: &str, jwks: &str| {
            let body = format!(r#"{{"issuer":"{url}","jwks_uri":"{jwks}"}}"#);
            Discovery::read(body.as_bytes(), url).unwrap().jwks()
        };

        assert!(read(URL, "http://127.0.0.1/jwks").is_err());
        assert!(read(URL, "http://idp.example.com/jwks").is_err());
        assert!(read(URL, "/jwks").is_err());
        assert!(read("http://127.0.0.1:9", "http://127.0.0.1:9/jwks").is_ok());
        assert!(read("http://127.0.0.1:9", "https://idp.example.com/jwks").is_ok());
        let nothing = Discovery::read(format!(r#"{{"issuer":"{URL}"}}"#).as_bytes(), URL).unwrap();
        assert!(matches!(nothing.jwks(), Err(DiscoveryError::Missing("jwks_uri"))));
    }
}
