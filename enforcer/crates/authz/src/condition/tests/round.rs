//! Random conditions: what is printed reads the same, and means what a plain evaluator says.

use std::cmp::Ordering;
use std::collections::BTreeMap;

use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use proptest::sample::select;

use super::*;

/// The condition; two random parts that happen to be the same are rightly not compared.
fn read(text: &str) -> Result<Condition, TestCaseError> {
    let rightly = |said: &str| said.contains("with itself") || said.contains("reads nothing");
    match Defined::shared().parse(text) {
        Ok(condition) => Ok(condition),
        Err(problems) if problems.iter().all(|problem| rightly(&problem.message)) => {
            Err(TestCaseError::reject("compared with itself"))
        }
        Err(problems) => Err(TestCaseError::fail(format!("{text}: {problems:?}"))),
    }
}

/// What the plain evaluator knows of a request: every readable thing by the text of its name.
#[derive(Clone, Debug)]
enum Plain {
    Flag(bool),
    Number(i64),
    Text(String),
    Texts(Vec<String>),
    Numbers(Vec<i64>),
}

fn text_attribute() -> impl Strategy<Value = &'static str> {
    select(vec![
        "region",
        "owner",
        "application",
        "param.id",
        "param.team",
        "query.page",
        "query[\"a b\"]",
        "header.x-tenant",
        "claims.a",
        "claims.b",
        "claims.c[\"d e\"]",
    ])
}

fn region_free() -> impl Strategy<Value = &'static str> {
    text_attribute().prop_filter("regions have a form", |name| *name != "region")
}

fn literal() -> impl Strategy<Value = String> {
    select(vec!["a", "b", "pay", "7", "", "x\"y\\z", "\n\t", "ü", "\u{202e}"])
        .prop_map(|text| text.to_owned())
}

fn quoted(text: &str) -> String {
    display::Quoted(text).to_string()
}

/// The text of a condition that is right.
fn condition() -> impl Strategy<Value = String> {
    let list =
        |items: Vec<String>| items.iter().map(|item| quoted(item)).collect::<Vec<_>>().join(", ");
    let leaf = prop_oneof![
        select(vec![
            "mtls",
            "dpop",
            "anonymous",
            "time.work",
            "time.night",
            "claims.a",
            "claims.b",
            "true",
            "false",
            "ip in net.office",
            "ip in net.mesh",
            "\"reader\" in roles",
            "\"writer\" in roles",
            "\"responder\" in roles",
            "region in [\"DE\"]",
            "region == \"DE\"",
            "incident in [1, 5]",
            "has(region)",
            "has(owner)",
            "has(claims.a)",
            "has(header.x-tenant)",
            "has(query.page)",
            "method == \"GET\"",
            "kind != \"token\"",
            "path.startsWith(\"/v1/\")",
            "host.endsWith(\".com\")",
            "issuer != \"lab\"",
        ])
        .prop_map(str::to_owned),
        (region_free(), literal(), any::<bool>()).prop_map(|(name, text, turned)| {
            if turned {
                format!("{} == {name}", quoted(&text))
            } else {
                format!("{name} != {}", quoted(&text))
            }
        }),
        (text_attribute(), text_attribute())
            .prop_filter("compared with itself", |(one, other)| one != other)
            .prop_map(|(one, other)| format!("{one} == {other}")),
        (region_free(), vec(literal(), 1..4))
            .prop_map(move |(name, items)| format!("{name} in [{}]", list(items))),
        (region_free(), select(vec!["a", "p", "pay"]), any::<bool>()).prop_map(
            |(name, text, start)| {
                format!("{name}.{}(\"{text}\")", if start { "startsWith" } else { "endsWith" })
            }
        ),
        (literal(), select(vec!["scopes", "claims.a", "claims.b"]))
            .prop_map(|(text, set)| format!("{} in {set}", quoted(&text))),
        (region_free(), select(vec!["scopes", "claims.e"]))
            .prop_map(|(name, set)| format!("{name} in {set}")),
        (
            select(vec!["claims.a", "claims.b"]),
            select(vec!["==", "!=", "<", "<=", ">", ">="]),
            -2..4_i64
        )
            .prop_map(|(name, op, number)| format!("{name} {op} {number}")),
        (1..5_i64, select(vec!["==", "!=", "<", "<=", ">"]))
            .prop_map(|(number, op)| format!("{number} {op} incident")),
        select(vec![
            "claims.a < incident",
            "incident in claims.a",
            "2 in claims.b",
            "claims.a in [1, 2]"
        ])
        .prop_map(str::to_owned),
    ];
    leaf.prop_recursive(4, 24, 3, |inner| {
        prop_oneof![
            vec(inner.clone(), 2..4).prop_map(|parts| {
                parts.iter().map(|part| format!("({part})")).collect::<Vec<_>>().join(" && ")
            }),
            vec(inner.clone(), 2..4).prop_map(|parts| {
                parts.iter().map(|part| format!("({part})")).collect::<Vec<_>>().join("||")
            }),
            inner.clone().prop_map(|part| format!("!({part})")),
            (inner.clone(), inner, any::<bool>()).prop_map(|(one, other, same)| {
                format!("({one}) {} ({other})", if same { "==" } else { "!=" })
            }),
        ]
    })
}

fn claim() -> impl Strategy<Value = Option<Value>> {
    let list = vec(select(vec!["a", "b", "pay"]), 0..3).prop_map(|items| {
        Value::List(items.into_iter().map(|item| Value::Text(item.into())).collect())
    });
    option::of(prop_oneof![
        literal().prop_map(|text| Value::Text(text.into())),
        (-2..4_i64).prop_map(Value::Number),
        any::<bool>().prop_map(Value::Flag),
        list,
        vec(-1..4_i64, 0..3)
            .prop_map(|items| Value::List(items.into_iter().map(Value::Number).collect())),
        Just(Value::Other),
    ])
}

fn world() -> impl Strategy<Value = World> {
    let connection = (
        select(vec![
            "198.51.100.7",
            "10.1.2.3",
            "::ffff:10.0.0.1",
            "2001:db8:10::1",
            "203.0.113.1",
        ]),
        select(vec![Method::GET, Method::POST]),
        select(vec!["/v1/orders", "/v2", "/"]),
        select(vec!["api.example.com", "x.org"]),
        option::of(select(vec!["DE", "FR"])),
        0..=5_u8,
        1_795_000_000..1_796_500_000_u64,
        any::<bool>(),
    );
    let sent = (
        vec((select(vec!["page", "a b"]), literal()), 0..3),
        vec(select(vec!["a", "pay", "\u{fc}"]), 0..3),
        literal(),
        literal(),
    );
    let caller = (
        any::<bool>(),
        vec(select(vec!["reader", "writer", "responder"]), 0..3),
        vec(literal(), 0..3),
        option::of(select(vec!["a", "pay"])),
        option::of(select(vec!["a", "pay"])),
        any::<bool>(),
        vec(claim(), 4),
    );
    (connection, sent, caller).prop_map(|(connection, sent, caller)| {
        let (ip, method, path, host, region, incident, now, mtls) = connection;
        let (query, headers, id, team) = sent;
        let (known, roles, scopes, application, owner, dpop, claims) = caller;
        let mut claims = claims.into_iter();
        let mut named = Vec::new();
        for name in ["a", "b", "e"] {
            named.extend(claims.next().flatten().map(|value| (Arc::from(name), value)));
        }
        let inner = claims.next().flatten().map(|value| (Arc::from("d e"), value));
        named.push(("c".into(), Value::Table(inner.into_iter().collect())));
        World {
            ip: ip.parse().unwrap(),
            method,
            path: path.to_owned(),
            host: host.to_owned(),
            params: vec![("id", id.into()), ("team", team.into())],
            query: query.into_iter().map(|(name, value)| (name.into(), value.into())).collect(),
            headers: headers
                .into_iter()
                .map(|value| {
                    (
                        http::HeaderName::from_static("x-tenant"),
                        http::HeaderValue::from_str(value).unwrap(),
                    )
                })
                .collect(),
            region,
            incident,
            now: Timestamp::from_unix_seconds(now),
            mtls,
            spiffe: None,
            known,
            roles: Defined::shared().roles.closure(roles).unwrap(),
            scopes: scopes.into_iter().map(Arc::from).collect(),
            issuer: Some("corp"),
            application,
            owner,
            claims: Some(named.into_iter().collect()),
            dpop,
        }
    })
}

/// Everything that the conditions above may read, as plain values.
fn plain(world: &World) -> BTreeMap<String, Plain> {
    let mut all = BTreeMap::new();
    let mut set = |name: &str, value: Plain| drop(all.insert(name.to_owned(), value));
    let text = |text: &str| Plain::Text(text.to_owned());
    set("mtls", Plain::Flag(world.mtls));
    set("dpop", Plain::Flag(world.known && world.dpop));
    set("anonymous", Plain::Flag(!world.known));
    set("incident", Plain::Number(world.incident.into()));
    set("method", text(world.method.as_str()));
    set("path", text(&world.path));
    set("host", text(&world.host));
    world.region.iter().for_each(|region| set("region", text(region)));
    world.params.iter().for_each(|(name, value)| set(&format!("param.{name}"), text(value)));
    for (key, name) in [("page", "query.page"), ("a b", "query[\"a b\"]")] {
        let values: Vec<_> = world.query.iter().filter(|(known, _)| known == key).collect();
        if let [(_, value)] = &*values {
            set(name, text(value));
        }
    }
    let values: Vec<_> = world.headers.get_all("x-tenant").iter().collect();
    if let [value] = &*values
        && value.as_bytes().is_ascii()
    {
        set("header.x-tenant", text(value.to_str().unwrap()));
    }
    let scopes = world.scopes.iter().filter(|_| world.known).map(|scope| scope.to_string());
    set("scopes", Plain::Texts(scopes.collect()));
    if world.known {
        set("kind", text("token"));
        set("issuer", text("corp"));
        world.application.iter().for_each(|value| set("application", text(value)));
        world.owner.iter().for_each(|value| set("owner", text(value)));
        let claims = world.claims.as_ref().unwrap();
        let inner = claims.at(&["c", "d e"]);
        let named = [
            ("claims.a", claims.get("a")),
            ("claims.b", claims.get("b")),
            ("claims.e", claims.get("e")),
        ];
        for (name, value) in named.into_iter().chain([("claims.c[\"d e\"]", inner)]) {
            match value {
                Some(Value::Flag(value)) => set(name, Plain::Flag(*value)),
                Some(Value::Number(value)) => set(name, Plain::Number(*value)),
                Some(Value::Text(value)) => set(name, text(value)),
                Some(Value::List(values)) => {
                    let texts = values
                        .iter()
                        .map(|value| value.text().map(str::to_owned))
                        .collect::<Option<Vec<_>>>();
                    let numbers = values
                        .iter()
                        .map(
                            |value| {
                                if let Value::Number(value) = value { Some(*value) } else { None }
                            },
                        )
                        .collect::<Option<Vec<_>>>();
                    // An empty list is one of both types.
                    if let Some(numbers) = numbers.filter(|numbers| !numbers.is_empty()) {
                        set(name, Plain::Numbers(numbers));
                    } else if let Some(texts) = texts {
                        set(name, Plain::Texts(texts));
                    }
                }
                Some(Value::Table(_) | Value::Other) | None => {}
            }
        }
    }
    all
}

/// The naive evaluator: names, not types; lists of possible truths, not Kleene's tables.
fn expected(expr: &Expr, world: &World) -> Tri {
    let both = [Tri::False, Tri::True];
    match expr {
        Expr::Constant(value) => Tri::from(*value),
        Expr::Test(test) => Tri::of(asked(test, world)),
        // Unknown is what both truths would make different.
        Expr::Not(inner) => possible(&[expected(inner, world)], &both, |values| !values[0]),
        Expr::All(parts) => {
            let parts: Vec<Tri> = parts.iter().map(|part| expected(part, world)).collect();
            possible(&parts, &both, |values| values.iter().all(|value| *value))
        }
        Expr::Any(parts) => {
            let parts: Vec<Tri> = parts.iter().map(|part| expected(part, world)).collect();
            possible(&parts, &both, |values| values.contains(&true))
        }
        Expr::Same(sides) => {
            let sides: Vec<Tri> = sides.iter().map(|side| expected(side, world)).collect();
            possible(&sides, &both, |values| values[0] == values[1])
        }
    }
}

/// What `join` says when each unknown part is tried as false and as true.
fn possible(parts: &[Tri], both: &[Tri; 2], join: impl Fn(&[bool]) -> bool) -> Tri {
    let mut rows: Vec<Vec<bool>> = vec![Vec::new()];
    for part in parts {
        let tried = if *part == Tri::Unknown { &both[..] } else { std::slice::from_ref(part) };
        rows = rows
            .iter()
            .flat_map(|row| tried.iter().map(|value| [&**row, &[*value == Tri::True]].concat()))
            .collect();
    }
    let answers: Vec<bool> = rows.iter().map(|row| join(row)).collect();
    match (answers.contains(&true), answers.contains(&false)) {
        (true, true) => Tri::Unknown,
        (is_true, _) => Tri::from(is_true),
    }
}

fn asked(test: &Test, world: &World) -> Option<bool> {
    let values = plain(world);
    let text = |name: &dyn fmt::Display| match values.get(&name.to_string()) {
        Some(Plain::Text(text)) => Some(text.clone()),
        _ => None,
    };
    let either = |side: &Text| match side {
        Text::Literal(text) => Some(text.to_string()),
        Text::Attribute(attribute) => text(attribute),
    };
    let number = |side: &dyn fmt::Display| match values.get(&side.to_string()) {
        Some(Plain::Number(number)) => Some(*number),
        Some(_) => None,
        None => side.to_string().parse().ok(),
    };
    let is_in = |networks: &[&str]| {
        let address = world.ip.to_canonical();
        networks
            .iter()
            .any(|text| text.parse::<enforcer_model::Prefix>().unwrap().contains(address))
    };
    match test {
        Test::Flag(Flag::Time(time)) => {
            let zone = if &*time.name == "work" { "Europe/Berlin" } else { "UTC" };
            let now =
                jiff::Timestamp::from_second(world.now.unix_seconds().try_into().unwrap()).unwrap();
            let clock = now.in_tz(zone).unwrap();
            let (day, hour) = (clock.weekday().to_monday_one_offset(), clock.hour());
            Some(match &*time.name {
                "work" => day <= 5 && (8..18).contains(&hour),
                _ => (day == 5 && hour >= 22) || (day == 6 && hour < 6),
            })
        }
        Test::Flag(flag) => match values.get(&flag.to_string()) {
            Some(Plain::Flag(value)) => Some(*value),
            _ => None,
        },
        Test::Has(attribute) => Some(match &*attribute.to_string() {
            "query.page" => world.query.iter().any(|(name, _)| name == "page"),
            "header.x-tenant" => !world.headers.is_empty(),
            "claims.a" => world.known && world.claims.as_ref().unwrap().get("a").is_some(),
            other => values.contains_key(other),
        }),
        Test::Equal(left, right) => Some(text(left)? == either(right)?),
        Test::Compare(left, comparison, right) => {
            let order = number(left)?.cmp(&number(right)?);
            Some(match comparison {
                Comparison::Equal => order == Ordering::Equal,
                Comparison::Less => order == Ordering::Less,
                Comparison::AtMost => order != Ordering::Greater,
                Comparison::Greater => order == Ordering::Greater,
                Comparison::AtLeast => order != Ordering::Less,
            })
        }
        Test::OneOf(left, set) => {
            let left = either(left)?;
            match (set, values.get(&set.to_string())) {
                (Texts::Literals(texts), _) => Some(texts.iter().any(|text| **text == *left)),
                (_, Some(Plain::Texts(texts))) => Some(texts.contains(&left)),
                _ => None,
            }
        }
        Test::NumberOneOf(left, set) => {
            let left = number(left)?;
            match (set, values.get(&set.to_string())) {
                (Numbers::Literals(numbers), _) => Some(numbers.contains(&left)),
                (_, Some(Plain::Numbers(numbers))) => Some(numbers.contains(&left)),
                (_, Some(Plain::Texts(texts))) if texts.is_empty() => Some(false),
                _ => None,
            }
        }
        Test::Inside(network) => Some(match &*network.name {
            "office" => is_in(&["198.51.100.0/24", "2001:db8:10::/48"]),
            _ => is_in(&["10.0.0.0/8"]),
        }),
        Test::Role(held) => {
            let held = held.role.as_str();
            Some(
                world.known
                    && Defined::shared().roles.named(world.roles).any(|role| role.as_str() == held),
            )
        }
        Test::StartsWith(name, start) => Some(text(name)?.starts_with(&**start)),
        Test::EndsWith(name, end) => Some(text(name)?.ends_with(&**end)),
    }
}

proptest! {
    #[test]
    fn what_is_printed_reads_as_the_same_condition(text in condition()) {
        let defined = Defined::shared();
        let condition = read(&text)?;

        let printed = condition.expr().to_string();

        let again = defined.parse(&printed);
        prop_assert!(again.is_ok(), "{text}\n{printed}\n{again:?}");
        let again = again.unwrap();
        prop_assert_eq!(again.expr(), condition.expr(), "{}\n{}", text, printed);
        prop_assert_eq!(again.expr().to_string(), printed);
    }

    #[test]
    fn a_condition_means_what_a_naive_evaluator_says(text in condition(), world in world()) {
        let condition = read(&text)?;

        let holds = condition.holds(&world.facts());

        prop_assert_eq!(holds, expected(condition.expr(), &world), "{}", text);
        let named = condition.expr().unknown(&world.facts());
        prop_assert_eq!(named.is_some(), holds == Tri::Unknown);
        if let Some(named) = named {
            prop_assert!(text.contains(&named.to_string()), "{}: {}", text, named);
        }
    }

    #[test]
    fn learning_what_was_unknown_never_turns_an_answer(text in condition(), mut world in world()) {
        // What asks whether something is there changes its answer, as it must.
        let text = text.replace("has(region)", "mtls").replace("has(owner)", "dpop");
        let condition = read(&text)?;
        let full = condition.holds(&world.facts());

        world.application = None;
        world.owner = None;
        world.region = None;
        let less = condition.holds(&world.facts());

        prop_assert!(less == full || less == Tri::Unknown, "{}: {} became {}", text, less, full);
    }
}
