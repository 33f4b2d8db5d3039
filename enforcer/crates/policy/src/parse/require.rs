//! `require`: how strongly a caller must have proven who it is.

use enforcer_authn::{Binding, Identity};
use enforcer_model::CredentialKind;

use crate::grammar::Shape;

/// One thing that a caller must have shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Require {
    /// A token that is bound to its holder, in either way.
    Bound,
    /// A token that is bound by RFC 9449.
    Dpop,
    /// An API key.
    Key,
    /// A client certificate on the connection.
    Mtls,
    /// A token of an issuer.
    Token,
}

/// Things of which a caller must have shown all.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Requires(u8);

/// What a caller has shown.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Shown {
    /// The connection has a verified client certificate.
    pub mtls: bool,
    /// What kind of credential came with the request.
    pub kind: Option<CredentialKind>,
    /// How its token was proven to be in its hands.
    pub bound: Option<Binding>,
}

pub(super) const WORD: Shape = Shape::Choice(&["mtls", "dpop", "bound", "token", "key"]);

impl Require {
    const ALL: [Self; 5] = [Self::Bound, Self::Dpop, Self::Key, Self::Mtls, Self::Token];

    /// As a policy writes it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Bound => "bound",
            Self::Dpop => "dpop",
            Self::Key => "key",
            Self::Mtls => "mtls",
            Self::Token => "token",
        }
    }

    /// Whether it can only be met with a credential.
    pub const fn needs_caller(self) -> bool {
        !matches!(self, Self::Mtls)
    }

    /// The one that a policy writes so.
    pub fn named(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|known| known.as_str() == word)
    }

    const fn bit(self) -> u8 {
        match self {
            Self::Bound => 1,
            Self::Dpop => 2,
            Self::Key => 4,
            Self::Mtls => 8,
            Self::Token => 16,
        }
    }

    fn is_met(self, shown: Shown) -> bool {
        match self {
            Self::Bound => shown.bound.is_some(),
            Self::Dpop => shown.bound == Some(Binding::Dpop),
            Self::Key => shown.kind == Some(CredentialKind::ApiKey),
            Self::Mtls => shown.mtls,
            Self::Token => shown.kind == Some(CredentialKind::Token),
        }
    }
}

impl Requires {
    /// The first that is not met; none when all are.
    pub fn unmet(self, shown: Shown) -> Option<Require> {
        if self.0 == 0 {
            return None;
        }
        self.iter().find(|require| !require.is_met(shown))
    }

    /// Each of them.
    pub fn iter(self) -> impl Iterator<Item = Require> {
        Require::ALL.into_iter().filter(move |require| self.0 & require.bit() != 0)
    }

    /// Whether nothing is required.
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Both.
    #[must_use]
    pub const fn and(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// Whether no credential can meet them all: an API key is no token.
    pub const fn is_impossible(self) -> bool {
        let token = Require::Bound.bit() | Require::Dpop.bit() | Require::Token.bit();
        self.0 & Require::Key.bit() != 0 && self.0 & token != 0
    }
}

impl From<Require> for Requires {
    fn from(require: Require) -> Self {
        Self(require.bit())
    }
}

impl Shown {
    /// What an accepted credential shows, on a connection with a client certificate or without.
    pub fn of(caller: Option<&Identity>, mtls: bool) -> Self {
        Self {
            mtls: mtls || caller.is_some_and(|caller| caller.certificate().is_some()),
            kind: caller.map(Identity::kind),
            bound: caller.and_then(Identity::bound),
        }
    }
}
