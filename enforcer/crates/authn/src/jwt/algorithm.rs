//! The signature algorithms that are understood, and sets of them.

use std::fmt;
use std::str::FromStr;

/// A signature algorithm of RFC 7518, RFC 8037 or RFC 9864.
///
/// There is no variant for `none`, so nothing can admit it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Algorithm {
    /// Ed25519, called `EdDSA` (RFC 8037) or `Ed25519` (RFC 9864).
    EdDsa,
    /// ECDSA with P-256 and SHA-256.
    Es256,
    /// ECDSA with P-384 and SHA-384.
    Es384,
    /// HMAC with SHA-256; only with a secret that the operator configured.
    Hs256,
    /// RSASSA-PSS with SHA-256.
    Ps256,
    /// RSASSA-PSS with SHA-384.
    Ps384,
    /// RSASSA-PSS with SHA-512.
    Ps512,
    /// RSASSA-PKCS1-v1_5 with SHA-256.
    Rs256,
    /// RSASSA-PKCS1-v1_5 with SHA-384.
    Rs384,
    /// RSASSA-PKCS1-v1_5 with SHA-512.
    Rs512,
}

/// The name is not that of an algorithm that is understood.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{0}` is not an algorithm that is accepted; choose from ES256, ES384, EdDSA, PS256, PS384, \
     PS512, RS256, RS384, RS512, or HS256 with a secret"
)]
pub struct AlgorithmError(String);

/// A set of algorithms.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
pub struct Algorithms(u16);

impl Algorithm {
    /// All of them.
    pub const ALL: [Self; 10] = [
        Self::EdDsa,
        Self::Es256,
        Self::Es384,
        Self::Hs256,
        Self::Ps256,
        Self::Ps384,
        Self::Ps512,
        Self::Rs256,
        Self::Rs384,
        Self::Rs512,
    ];

    /// Its name in a token's header. `EdDSA` has two; this is the older one.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::EdDsa => "EdDSA",
            Self::Es256 => "ES256",
            Self::Es384 => "ES384",
            Self::Hs256 => "HS256",
            Self::Ps256 => "PS256",
            Self::Ps384 => "PS384",
            Self::Ps512 => "PS512",
            Self::Rs256 => "RS256",
            Self::Rs384 => "RS384",
            Self::Rs512 => "RS512",
        }
    }

    /// The algorithm with this name, compared byte for byte.
    pub(crate) fn named(name: &str) -> Option<Self> {
        let named = Self::ALL.into_iter().find(|algorithm| algorithm.as_str() == name);
        named.or((name == "Ed25519").then_some(Self::EdDsa))
    }

    const fn bit(self) -> u16 {
        match self {
            Self::EdDsa => 1,
            Self::Es256 => 1 << 1,
            Self::Es384 => 1 << 2,
            Self::Hs256 => 1 << 3,
            Self::Ps256 => 1 << 4,
            Self::Ps384 => 1 << 5,
            Self::Ps512 => 1 << 6,
            Self::Rs256 => 1 << 7,
            Self::Rs384 => 1 << 8,
            Self::Rs512 => 1 << 9,
        }
    }
}

impl fmt::Display for Algorithm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Algorithm {
    type Err = AlgorithmError;

    fn from_str(name: &str) -> Result<Self, AlgorithmError> {
        Self::named(name).ok_or_else(|| AlgorithmError(name.to_owned()))
    }
}

impl Algorithms {
    /// Every algorithm whose key has a public half.
    pub const ASYMMETRIC: Self = {
        let Self(rsa) = Self::RSA;
        Self(rsa | Algorithm::EdDsa.bit() | Algorithm::Es256.bit() | Algorithm::Es384.bit())
    };

    /// What an RSA key can be used for when it does not say.
    pub(crate) const RSA: Self = Self(
        Algorithm::Ps256.bit()
            | Algorithm::Ps384.bit()
            | Algorithm::Ps512.bit()
            | Algorithm::Rs256.bit()
            | Algorithm::Rs384.bit()
            | Algorithm::Rs512.bit(),
    );

    /// The set of one.
    pub const fn only(algorithm: Algorithm) -> Self {
        Self(algorithm.bit())
    }

    /// Whether `algorithm` is in it.
    pub const fn contains(self, algorithm: Algorithm) -> bool {
        self.0 & algorithm.bit() != 0
    }

    /// Whether nothing is in it.
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Those in it, by name.
    pub fn iter(self) -> impl Iterator<Item = Algorithm> {
        Algorithm::ALL.into_iter().filter(move |&algorithm| self.contains(algorithm))
    }
}

impl FromIterator<Algorithm> for Algorithms {
    fn from_iter<I: IntoIterator<Item = Algorithm>>(algorithms: I) -> Self {
        Self(algorithms.into_iter().fold(0, |set, algorithm| set | algorithm.bit()))
    }
}

impl fmt::Debug for Algorithms {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.iter()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_compared_byte_for_byte() {
        for algorithm in Algorithm::ALL {
            assert_eq!(algorithm.as_str().parse(), Ok(algorithm));
        }
        assert_eq!("Ed25519".parse(), Ok(Algorithm::EdDsa));
        for wrong in ["none", "None", "", "es256", "ES256 ", "HS512", "ES256K", "RSA1_5", "Ed448"] {
            assert!(wrong.parse::<Algorithm>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_set_holds_what_was_put_into_it() {
        let set: Algorithms = [Algorithm::Es256, Algorithm::EdDsa].into_iter().collect();

        assert!(set.contains(Algorithm::Es256));
        assert!(!set.contains(Algorithm::Es384));
        assert_eq!(set.iter().count(), 2);
        assert!(!Algorithms::ASYMMETRIC.contains(Algorithm::Hs256));
        assert_eq!(Algorithms::ASYMMETRIC.iter().count(), Algorithm::ALL.len() - 1);
    }
}
