//! What is compared: the figures to beat, one case each.

use super::super::super::Target;
use super::party::{Door, Name};

/// One comparison.
#[derive(Clone, Copy, Debug)]
pub(super) struct Case {
    /// What it is called in the report.
    pub(super) name: &'static str,
    /// What is asked for.
    pub(super) load: Load,
    /// Ours, and through which door.
    pub(super) ours: Door,
    /// Who stands beside it, through which door, and what ours should reach of their processor time.
    pub(super) beside: &'static [(Name, Door, Option<Target>)],
}

/// What is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Load {
    /// Over connections that are kept: this path, a body of this length.
    Http1(&'static str, u64),
    /// The same over HTTP/2.
    Http2(&'static str, u64),
    /// A new TLS connection for each request.
    Handshakes,
}

/// A path of the upstream, and how long its body is.
const SMALL: Load = Load::Http1("/small", 1_024);

const fn most(ratio: f64) -> Option<Target> {
    Some(Target::RatioAtMost(ratio))
}

/// All of them.
pub(super) const CASES: &[Case] = &[
    Case {
        name: "plain HTTP/1.1, 1 KB",
        load: SMALL,
        ours: Door::Plain,
        beside: &[
            (Name::Nginx, Door::Plain, most(1.05)),
            (Name::Haproxy, Door::Plain, None),
            (Name::Pingora, Door::Plain, most(0.65)),
            (Name::Envoy, Door::Plain, most(0.4)),
            (Name::Caddy, Door::Plain, None),
            (Name::Traefik, Door::Plain, None),
        ],
    },
    Case {
        name: "Unix socket to the upstream, 1 KB",
        load: SMALL,
        ours: Door::Unix,
        beside: &[
            (Name::Nginx, Door::Plain, most(0.75)),
            (Name::Nginx, Door::Unix, most(1.05)),
            (Name::Haproxy, Door::Unix, None),
        ],
    },
    Case {
        name: "TLS 1.3, HTTP/1.1, 1 KB",
        load: SMALL,
        ours: Door::Tls,
        beside: &[
            (Name::Nginx, Door::Tls, most(1.0)),
            (Name::Haproxy, Door::Tls, most(1.0)),
            (Name::Envoy, Door::Tls, None),
            (Name::Caddy, Door::Tls, None),
            (Name::Traefik, Door::Tls, None),
        ],
    },
    Case {
        name: "HTTP/2 over TLS, 1 KB",
        load: Load::Http2("/small", 1_024),
        ours: Door::Tls,
        beside: &[
            (Name::Nginx, Door::Tls, most(1.0)),
            (Name::Haproxy, Door::Tls, None),
            (Name::Envoy, Door::Tls, None),
            (Name::Caddy, Door::Tls, None),
            (Name::Traefik, Door::Tls, None),
        ],
    },
    Case {
        name: "everything on, API keys",
        load: SMALL,
        ours: Door::Keyed,
        beside: &[(Name::Nginx, Door::Keyed, most(1.15))],
    },
    Case {
        name: "everything on, RS256 tokens",
        load: SMALL,
        ours: Door::Tokens,
        beside: &[(Name::Haproxy, Door::Tokens, most(0.5))],
    },
    Case {
        name: "plain HTTP/1.1, 64 KB",
        load: Load::Http1("/large", 65_536),
        ours: Door::Plain,
        beside: &[
            (Name::Haproxy, Door::Plain, most(0.8)),
            (Name::Nginx, Door::Plain, None),
            (Name::Pingora, Door::Plain, None),
            (Name::Envoy, Door::Plain, None),
            (Name::Caddy, Door::Plain, None),
            (Name::Traefik, Door::Plain, None),
        ],
    },
    Case {
        name: "full TLS 1.3 handshake and one request",
        load: Load::Handshakes,
        ours: Door::Tls,
        beside: &[
            (Name::Nginx, Door::Tls, most(0.65)),
            (Name::Haproxy, Door::Tls, None),
            (Name::Envoy, Door::Tls, None),
            (Name::Caddy, Door::Tls, None),
            (Name::Traefik, Door::Tls, None),
        ],
    },
];
