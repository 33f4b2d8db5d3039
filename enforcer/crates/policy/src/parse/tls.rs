//! `tls` of a listener: its certificates, which clients' certificates are good, and HSTS.

use std::path::PathBuf;
use std::time::Duration;

use crate::codes::{MISSING_PART, TOO_MANY};
use crate::grammar::{Fields, Key, Need, PATH, Shape};
use crate::parse::{Base, DAY, SECOND, YEAR};
use crate::problem::Report;
use crate::text::Span;

/// The certificates of a listener.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tls {
    /// At least one; the first is shown to clients that ask for no name, or for one that none of them
    /// is for.
    pub certificates: Vec<CertificateFiles>,
    /// Which certificates clients may show; none are asked for without it.
    pub clients: Option<Clients>,
}

/// The files of a certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CertificateFiles {
    /// PEM: the certificate and those that vouch for it.
    pub certificate: PathBuf,
    /// PEM: its private key.
    pub key: PathBuf,
    /// DER: what its authority says of it, RFC 6960.
    pub ocsp: Option<PathBuf>,
}

/// Which certificates clients may show.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Clients {
    /// PEM: the authorities that vouch for them.
    pub ca: PathBuf,
    /// PEM: lists of those that these authorities have revoked.
    pub crl: Option<PathBuf>,
    /// Whether there is no connection without one.
    pub require: bool,
}

/// What browsers are told about coming back (RFC 6797).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hsts {
    /// For how long they come back by TLS only.
    pub age: Duration,
    /// To every name below this one as well.
    pub subdomains: bool,
    /// Whether lists that browsers are shipped with may say so.
    pub preload: bool,
}

/// A listener's TLS files and the places that name them, to be looked at by whoever does I/O.
#[derive(Clone, Debug)]
pub(crate) struct NamedTls {
    pub(crate) tls: Tls,
    /// Of certificate and key, in the order of the certificates.
    pub(crate) pairs: Vec<(Span, Span)>,
    pub(crate) ca: Span,
    pub(crate) crl: Span,
}

/// Certificates of one listener beside the first.
const CERTIFICATES_MAX: usize = 4_096;

/// Lists that browsers are shipped with take no shorter promise.
const PRELOAD_AGE_MIN: Duration = YEAR;

pub(super) static KEYS: &[Key] = &[
    CERTIFICATE,
    KEY,
    OCSP,
    Key::optional(
        "certificates",
        Shape::List(&Shape::Table(CERTIFICATE_KEYS)),
        "Further certificates; clients get the one that is for the name they ask for.",
    ),
    Key::optional(
        "clients",
        Shape::Table(CLIENTS_KEYS),
        "Ask clients for a certificate, and which are good.",
    ),
];

static CERTIFICATE_KEYS: &[Key] = &[CERTIFICATE, KEY, OCSP];

const CERTIFICATE: Key = Key::required(
    "certificate",
    Shape::Text(&PATH),
    "PEM file with the certificate chain; relative to the policy file.",
);

const KEY: Key = Key::required(
    "key",
    Shape::Text(&PATH),
    "PEM file with the private key; relative to the policy file.",
);

const OCSP: Key = Key::optional(
    "ocsp",
    Shape::Text(&PATH),
    "DER file with the authority's OCSP response, read again at every reload; relative to the policy \
     file.",
);

static CLIENTS_KEYS: &[Key] = &[
    Key::required(
        "ca",
        Shape::Text(&PATH),
        "PEM file with the authorities that vouch for clients; relative to the policy file.",
    ),
    Key::optional(
        "crl",
        Shape::Text(&PATH),
        "PEM file with the lists of certificates that they revoked; relative to the policy file.",
    ),
    Key::with_default(
        "require",
        Shape::Flag,
        Need::False,
        "Refuse a connection without a client certificate.",
    ),
];

pub(super) static HSTS_KEYS: &[Key] = &[
    Key::with_default(
        "age",
        Shape::Span(SECOND, Duration::from_secs(10 * 365 * DAY.as_secs())),
        Need::Text("2y"),
        "How long browsers come back by https only.",
    ),
    Key::with_default("subdomains", Shape::Flag, Need::False, "To every name below as well."),
    Key::with_default(
        "preload",
        Shape::Flag,
        Need::False,
        "Whether lists that browsers are shipped with may name the host.",
    ),
];

/// The files of a listener; none where a part of them is missing, which was told.
pub(super) fn read(fields: Fields<'_>, base: Base<'_>, report: &mut Report) -> Option<NamedTls> {
    let asked = fields.table("clients");
    let clients = match fields.has("clients") {
        true => Some(Clients {
            ca: base.resolve(asked.text("ca")?),
            crl: asked.text("crl").map(|crl| base.resolve(crl)),
            require: asked.flag("require")?,
        }),
        false => None,
    };
    let others = fields.tables("certificates");
    if others.len() > CERTIFICATES_MAX {
        let message = format!("{} certificates are more than {CERTIFICATES_MAX}", others.len());
        let hint = "make two listeners, or certificates for several names".to_owned();
        report.add(&TOO_MANY, fields.span_of("certificates"), message, hint);
        return None;
    }
    let mut named = NamedTls {
        tls: Tls { certificates: Vec::new(), clients },
        pairs: Vec::new(),
        ca: asked.span_of("ca"),
        crl: asked.span_of("crl"),
    };
    for one in std::iter::once(fields).chain(others) {
        named.tls.certificates.push(CertificateFiles {
            certificate: base.resolve(one.text("certificate")?),
            key: base.resolve(one.text("key")?),
            ocsp: one.text("ocsp").map(|file| base.resolve(file)),
        });
        named.pairs.push((one.span_of("certificate"), one.span_of("key")));
    }
    Some(named)
}

/// `hsts` of a listener that has TLS.
pub(super) fn hsts(fields: Fields<'_>, report: &mut Report) -> Option<Hsts> {
    let hsts = Hsts {
        age: fields.duration("age")?,
        subdomains: fields.flag("subdomains")?,
        preload: fields.flag("preload")?,
    };
    if hsts.preload && !(hsts.subdomains && hsts.age >= PRELOAD_AGE_MIN) {
        let message = "`preload` has no meaning without `subdomains` and a year of `age`";
        let hint = "add `subdomains = true, age = \"2y\"`, or remove it".to_owned();
        report.add(&MISSING_PART, fields.span_of("preload"), message, hint);
    }
    Some(hsts)
}
