mod garbage;
mod meaning;
mod messages;
mod round;

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, LazyLock};

use enforcer_model::{Claims, CredentialKind, Role, Timestamp, Value};
use http::{HeaderMap, Method};

use super::*;
use crate::{Caller, Networks, RoleDefinition, RoleSet, Roles, Window};

/// What a small policy defines.
pub(crate) struct Defined {
    pub(crate) roles: Roles,
    networks: BTreeMap<Arc<str>, Arc<Networks>>,
    windows: BTreeMap<Arc<str>, Arc<Window>>,
    issuers: BTreeSet<Arc<str>>,
}

pub(crate) const PARAMS: [&str; 2] = ["id", "team"];

impl Defined {
    /// The same for every test: reading zones takes its time.
    pub(crate) fn shared() -> &'static Self {
        static SHARED: LazyLock<Defined> = LazyLock::new(Defined::new);
        &SHARED
    }

    fn new() -> Self {
        let role = |name: &str, includes: &[&str]| RoleDefinition {
            role: Role::new(name),
            includes: includes.iter().map(|name| Role::new(name)).collect(),
            from: Vec::new(),
        };
        let network = |prefixes: &[&str]| {
            Arc::new(Networks::collect(prefixes.iter().map(|text| text.parse().unwrap())).0)
        };
        let window = |days: &str, hours: &str, zone: &str| {
            Arc::new(Window::new(days.parse().unwrap(), hours.parse().unwrap(), zone).unwrap())
        };
        Self {
            roles: Roles::new([
                role("reader", &[]),
                role("writer", &["reader"]),
                role("responder", &[]),
            ])
            .unwrap(),
            networks: BTreeMap::from([
                ("office".into(), network(&["198.51.100.0/24", "2001:db8:10::/48"])),
                ("mesh".into(), network(&["10.0.0.0/8"])),
                ("lab.eu".into(), network(&["192.0.2.0/28"])),
            ]),
            windows: BTreeMap::from([
                ("work".into(), window("mon-fri", "08:00-18:00", "Europe/Berlin")),
                ("night".into(), window("fri", "22:00-06:00", "UTC")),
            ]),
            issuers: ["corp".into(), "lab".into()].into(),
        }
    }

    pub(crate) fn vocabulary(&self) -> Vocabulary<'_> {
        Vocabulary {
            roles: &self.roles,
            networks: &self.networks,
            windows: &self.windows,
            issuers: &self.issuers,
            has_regions: true,
        }
    }

    pub(crate) fn parse(&self, text: &str) -> Result<Condition, Vec<ConditionProblem>> {
        Condition::parse(text, &self.vocabulary(), &PARAMS)
    }

    pub(crate) fn read(&self, text: &str) -> Condition {
        self.parse(text).unwrap_or_else(|problems| panic!("{text}: {problems:#?}"))
    }
}

/// What the facts of a request are borrowed from.
#[derive(Debug)]
pub(crate) struct World {
    pub(crate) ip: std::net::IpAddr,
    pub(crate) method: Method,
    pub(crate) path: String,
    pub(crate) host: String,
    pub(crate) params: Vec<(&'static str, Cow<'static, str>)>,
    pub(crate) query: Vec<(Cow<'static, str>, Cow<'static, str>)>,
    pub(crate) headers: HeaderMap,
    pub(crate) region: Option<&'static str>,
    pub(crate) incident: u8,
    pub(crate) now: Timestamp,
    pub(crate) mtls: bool,
    pub(crate) spiffe: Option<&'static str>,
    pub(crate) known: bool,
    pub(crate) roles: RoleSet,
    pub(crate) scopes: Vec<Arc<str>>,
    pub(crate) issuer: Option<&'static str>,
    pub(crate) application: Option<&'static str>,
    pub(crate) owner: Option<&'static str>,
    pub(crate) claims: Option<Claims>,
    pub(crate) dpop: bool,
}

impl Default for World {
    /// Alice with a token of `corp`, on a Wednesday morning.
    fn default() -> Self {
        Self {
            ip: "198.51.100.7".parse().unwrap(),
            method: Method::GET,
            path: "/v1/orders/7".to_owned(),
            host: "api.example.com".to_owned(),
            params: vec![("id", "7".into()), ("team", "pay".into())],
            query: vec![("page".into(), "2".into())],
            headers: HeaderMap::from_iter([(
                http::HeaderName::from_static("x-tenant"),
                http::HeaderValue::from_static("acme"),
            )]),
            region: Some("DE"),
            incident: 0,
            now: "2026-11-18T09:00:00Z".parse().unwrap(),
            mtls: false,
            spiffe: None,
            known: true,
            roles: RoleSet::NONE,
            scopes: vec!["orders".into(), "profile".into()],
            issuer: Some("corp"),
            application: Some("shop"),
            owner: None,
            claims: Some(claims()),
            dpop: false,
        }
    }
}

impl World {
    pub(crate) fn facts(&self) -> Facts<'_> {
        let caller = Caller {
            principal: "token:corp/alice",
            kind: CredentialKind::Token,
            roles: self.roles,
            scopes: &self.scopes,
            issuer: self.issuer,
            application: self.application,
            owner: self.owner,
            claims: self.claims.as_ref(),
            dpop: self.dpop,
        };
        Facts {
            ip: self.ip,
            method: &self.method,
            host: &self.host,
            path: &self.path,
            params: &self.params,
            query: &self.query,
            headers: &self.headers,
            region: self.region,
            incident: self.incident,
            now: self.now,
            mtls: self.mtls,
            spiffe: self.spiffe,
            caller: self.known.then_some(caller),
        }
    }
}

fn claims() -> Claims {
    let list = |items: &[&str]| {
        Value::List(items.iter().map(|text| Value::Text((*text).into())).collect())
    };
    Claims::from_iter([
        ("tenant".into(), Value::Text("acme".into())),
        ("level".into(), Value::Number(3)),
        ("admin".into(), Value::Flag(true)),
        ("teams".into(), list(&["pay", "ops"])),
        ("levels".into(), Value::List([Value::Number(1), Value::Number(3)].into())),
        ("mixed".into(), Value::List([Value::Text("pay".into()), Value::Number(3)].into())),
        ("other".into(), Value::Other),
        (
            "realm".into(),
            Value::Table(Claims::from_iter([(
                "https://x.y/role".into(),
                Value::Text("lead".into()),
            )])),
        ),
    ])
}
