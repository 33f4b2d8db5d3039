//! A condition of a rule, and a request that it is asked about.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr};
use std::sync::{Arc, LazyLock};

use enforcer_authz::{
    CONDITION_BYTES_MAX, Caller, Condition, ConditionProblem, Days, Facts, Hours, Methods,
    Networks, Plan, RoleDefinition, RoleSet, Roles, Rule, Tri, Vocabulary, Window, decide, trace,
};
use enforcer_model::{Claims, CredentialKind, Role, Timestamp, Value};
use http::{HeaderMap, HeaderValue, Method};

const PARAMS: [&str; 2] = ["id", "team"];

const ROLES: [&str; 3] = ["reader", "writer", "responder"];

/// Bytes in front of the text that say what the request is like.
const REQUEST_BYTES: usize = 24;

/// The names of one policy.
struct Defined {
    roles: Roles,
    networks: BTreeMap<Arc<str>, Arc<Networks>>,
    windows: BTreeMap<Arc<str>, Arc<Window>>,
    issuers: BTreeSet<Arc<str>>,
}

static DEFINED: LazyLock<Defined> = LazyLock::new(Defined::new);

/// The first `REQUEST_BYTES` are a request, the others the text of a condition.
///
/// The text is read, or each problem has a place inside it, a message and a hint, and moves no cursor.
/// What is read prints as a text with the same meaning, of the same request it says the same twice,
/// and unknown has a name. As a rule that allows it allows only what is true of; as one that denies
/// it lets through only what is false of; and its trace says what was decided.
pub fn condition(bytes: &[u8]) {
    let Some((request, text)) = bytes.split_at_checked(REQUEST_BYTES) else { return };
    let Ok(text) = std::str::from_utf8(text) else { return };
    let vocabulary = DEFINED.vocabulary();
    let condition = match Condition::parse(text, &vocabulary, &PARAMS) {
        Err(problems) => return refused(&problems, text),
        Ok(condition) => condition,
    };
    let printed = condition.expr().to_string();
    if printed.len() <= CONDITION_BYTES_MAX {
        match Condition::parse(&printed, &vocabulary, &PARAMS) {
            Ok(again) => assert_eq!(again.expr(), condition.expr(), "{printed}"),
            Err(problems) => panic!("`{printed}` was printed and is refused: {problems:?}"),
        }
    }
    asked(&condition, &Request::read(request));
}

fn refused(problems: &[ConditionProblem], text: &str) {
    assert!(!problems.is_empty(), "refused without a word");
    assert!(problems.is_sorted_by_key(|problem| problem.span.start), "told out of order");
    for ConditionProblem { span, message, hint } in problems {
        assert!(text.get(span.clone()).is_some(), "{span:?} is not inside");
        assert!(!message.is_empty() && !hint.is_empty(), "{span:?} is told without a word");
        let odd = message.chars().chain(hint.chars()).find(|c| c.is_control());
        assert_eq!(odd, None, "{message:?} {hint:?}");
    }
}

fn asked(condition: &Condition, request: &Request) {
    let facts = request.facts();
    let holds = condition.holds(&facts);
    assert_eq!(condition.holds(&facts), holds, "two answers to one question");
    assert_eq!(condition.expr().unknown(&facts).is_some(), holds == Tri::Unknown);

    let rule = || {
        let when = Some(condition.clone());
        Rule::new("r", Methods::any(), None, when, &DEFINED.roles).expect("no role is named")
    };
    let allows = Plan::rules(vec![rule()]);
    let denies = Plan::public().denying(vec![rule()]);
    assert_eq!(decide(&allows, &facts).is_ok(), holds == Tri::True);
    assert_eq!(decide(&denies, &facts).is_ok(), holds == Tri::False);
    for rule in trace(&allows, &facts).allow.iter().chain(&trace(&denies, &facts).deny) {
        assert_eq!((rule.matches, rule.when), (holds, Some(holds)));
    }
}

/// What the facts are borrowed from.
struct Request {
    ip: IpAddr,
    method: Method,
    query: Vec<(Cow<'static, str>, Cow<'static, str>)>,
    headers: HeaderMap,
    region: Option<&'static str>,
    incident: u8,
    now: Timestamp,
    flags: u8,
    roles: RoleSet,
    scopes: Vec<Arc<str>>,
    claims: Claims,
}

impl Request {
    fn read(bytes: &[u8]) -> Self {
        let byte = |at: usize| bytes.get(at).copied().unwrap_or_default();
        let pick =
            |at: usize| ["a", "pay", "7", "acme", ""].get(usize::from(byte(at) % 5)).copied();
        let text = |at: usize| pick(at).unwrap_or_default();
        let (a, b, c, d) = (byte(0), byte(1), byte(2), byte(3));
        let v4 = Ipv4Addr::new(if a & 1 == 0 { 10 } else { 198 }, b, c, d);
        let mut headers = HeaderMap::new();
        for at in 0..byte(4) % 3 {
            headers.append("x-tenant", HeaderValue::from_static(text(5 + usize::from(at))));
        }
        let query = (0..byte(7) % 3).map(|at| ("page".into(), text(8 + usize::from(at)).into()));
        let held = ROLES.into_iter().enumerate().filter(|(n, _)| byte(10) >> n & 1 == 1);
        let seconds =
            u64::from_le_bytes([byte(11), byte(12), byte(13), byte(14), byte(15), 0, 0, 0]);
        let names = ["tenant", "level", "admin", "teams", "a", "b"];
        let claims = names.into_iter().enumerate().filter_map(|(n, name)| {
            let byte = byte(16 + n);
            let value = match byte % 7 {
                0 => return None,
                1 => Value::Flag(byte & 8 == 0),
                2 => Value::Number(i64::from(byte / 7) - 2),
                3 => Value::Text(text(16 + n).into()),
                4 => Value::List([Value::Text(text(16 + n).into())].into()),
                5 => Value::List([Value::Number(i64::from(byte / 7)), Value::Other].into()),
                _ => Value::Table(Claims::from_iter([("b".into(), Value::Number(1))])),
            };
            Some((Arc::from(name), value))
        });
        Self {
            ip: if a & 2 == 0 { v4.into() } else { v4.to_ipv6_mapped().into() },
            method: if byte(22) & 1 == 0 { Method::GET } else { Method::POST },
            query: query.collect(),
            headers,
            region: [None, Some("DE"), Some("FR")]
                .get(usize::from(byte(22) / 2 % 3))
                .copied()
                .flatten(),
            incident: byte(22) / 8 % 6,
            now: Timestamp::from_unix_seconds(seconds),
            flags: byte(23),
            roles: DEFINED.roles.closure(held.map(|(_, name)| name)).expect("they are defined"),
            scopes: vec![text(8).into(), text(9).into()],
            claims: claims.collect(),
        }
    }

    fn facts(&self) -> Facts<'_> {
        let is = |bit: u8| self.flags >> bit & 1 == 1;
        const GIVEN: [(&str, Cow<'static, str>); 2] =
            [("id", Cow::Borrowed("7")), ("team", Cow::Borrowed("pay"))];
        let caller = Caller {
            principal: "token:corp/alice",
            kind: CredentialKind::Token,
            roles: self.roles,
            scopes: &self.scopes,
            issuer: is(0).then_some("corp"),
            application: is(1).then_some("shop"),
            owner: is(2).then_some("pay"),
            claims: is(3).then_some(&self.claims),
            dpop: is(4),
        };
        Facts {
            ip: self.ip,
            method: &self.method,
            host: "api.example.com",
            path: "/v1/orders/7",
            params: &GIVEN,
            query: &self.query,
            headers: &self.headers,
            region: self.region,
            incident: self.incident,
            now: self.now,
            mtls: is(5),
            spiffe: is(6).then_some("spiffe://example.com/ns/pay/api"),
            caller: is(7).then_some(caller),
        }
    }
}

impl Defined {
    fn new() -> Self {
        let role = |name: &str| RoleDefinition {
            role: Role::new(name),
            includes: if name == "writer" { vec![Role::new("reader")] } else { Vec::new() },
            from: Vec::new(),
        };
        let network = |text: &str| {
            let prefix = text.parse().expect("a network");
            Arc::new(Networks::collect([prefix]).0)
        };
        let work = "08:00-18:00".parse().expect("hours");
        let zone = |hours: Hours, zone: &str| {
            Arc::new(Window::new(Days::ALL, hours, zone).expect("a zone"))
        };
        Self {
            roles: Roles::new(ROLES.map(role)).expect("roles without a circle"),
            networks: BTreeMap::from([
                ("office".into(), network("198.51.100.0/24")),
                ("mesh".into(), network("10.0.0.0/8")),
            ]),
            windows: BTreeMap::from([
                ("work".into(), zone(work, "Europe/Berlin")),
                ("always".into(), zone(Hours::ALL, "UTC")),
            ]),
            issuers: BTreeSet::from(["corp".into()]),
        }
    }

    const fn vocabulary(&self) -> Vocabulary<'_> {
        let Self { roles, networks, windows, issuers } = self;
        Vocabulary { roles, networks, windows, issuers, has_regions: true }
    }
}
