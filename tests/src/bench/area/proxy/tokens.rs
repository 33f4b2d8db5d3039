//! Tokens of a real provider, and its public key in the form that haproxy reads.

use std::fs;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result};
use base64::Engine;
use base64::prelude::{BASE64_STANDARD, BASE64_URL_SAFE_NO_PAD};
use serde_json::Value;

use crate::lab::Namespace;
use crate::lab::idp::{Idp, IdpKey, IdpOptions, ORDERS};

/// Different tokens of one caller.
const TOKENS: usize = 100;

/// The algorithm identifier of RSA (RFC 8017, appendix A.1), as DER.
const RSA: [u8; 15] =
    [0x30, 0x0d, 0x06, 0x09, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x01, 0x05, 0x00];

/// The provider, which signs with RS256.
pub(super) struct Issuer(Idp);

impl Issuer {
    /// What its tokens are meant for.
    pub(super) const AUDIENCE: &str = "https://api.test/rs256";

    /// Starts it; writes `issuer.pem` and `tokens.credentials` into the folder.
    pub(super) fn start(host: &Namespace, folder: &Path) -> Result<Self> {
        let options = IdpOptions {
            keys: vec![IdpKey::fresh("RS256", "bench")],
            ttl: Duration::from_secs(24 * 60 * 60),
            ..IdpOptions::default()
        };
        let idp = Idp::start(Some(host), options)?;
        let key = idp.keys().first().context("the provider has no key")?;
        fs::write(folder.join("issuer.pem"), pem(key)?)?;
        let mut lines = String::new();
        for _ in 0..TOKENS {
            lines.push_str(&format!("Bearer {}\n", idp.token(ORDERS, "rs256")?));
        }
        fs::write(folder.join("tokens.credentials"), lines)?;
        Ok(Self(idp))
    }

    /// Its URL, which its tokens bear.
    pub(super) fn url(&self) -> &str {
        self.0.issuer()
    }
}

/// The public half of an RSA key (RFC 7517) as `SubjectPublicKeyInfo` in PEM.
fn pem(jwk: &Value) -> Result<String> {
    let number = |name: &str| -> Result<Vec<u8>> {
        let text = jwk.get(name).and_then(Value::as_str);
        let bytes = BASE64_URL_SAFE_NO_PAD.decode(text.context("no RSA key")?)?;
        // A leading zero keeps the number positive.
        let sign: &[u8] =
            if bytes.first().is_some_and(|first| *first >= 0x80) { &[0] } else { &[] };
        Ok(der(0x02, &[sign, &bytes].concat()))
    };
    let key = der(0x30, &[number("n")?, number("e")?].concat());
    // A bit string begins with the number of its unused bits.
    let info = der(0x30, &[RSA.to_vec(), der(0x03, &[vec![0], key].concat())].concat());
    let mut text = String::from("-----BEGIN PUBLIC KEY-----\n");
    for line in BASE64_STANDARD.encode(info).as_bytes().chunks(64) {
        text.push_str(&String::from_utf8_lossy(line));
        text.push('\n');
    }
    Ok(text + "-----END PUBLIC KEY-----\n")
}

/// A DER value shorter than 64 KiB.
fn der(tag: u8, content: &[u8]) -> Vec<u8> {
    let [_, _, .., high, low] = content.len().to_be_bytes();
    let length: &[u8] = match (high, low) {
        (0, 0..=0x7f) => &[low],
        (0, _) => &[0x81, low],
        (_, _) => &[0x82, high, low],
    };
    [&[tag], length, content].concat()
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    #[test]
    fn a_key_of_the_provider_is_one_for_openssl() {
        let options =
            IdpOptions { keys: vec![IdpKey::fresh("RS256", "k")], ..IdpOptions::default() };
        let idp = Idp::start(None, options).unwrap();
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("key.pem");
        fs::write(&path, pem(&idp.keys()[0]).unwrap()).unwrap();

        let mut openssl = Command::new("openssl");
        openssl.args(["rsa", "-pubin", "-noout", "-modulus", "-in"]).arg(path);
        let said = String::from_utf8(openssl.output().unwrap().stdout).unwrap();

        let modulus = idp.keys()[0]["n"].as_str().unwrap();
        let modulus = BASE64_URL_SAFE_NO_PAD.decode(modulus).unwrap();
        let hex: String = modulus.iter().map(|byte| format!("{byte:02X}")).collect();
        assert_eq!(said.trim(), format!("Modulus={hex}"));
    }
}
