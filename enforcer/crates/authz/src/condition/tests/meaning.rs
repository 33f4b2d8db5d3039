use super::*;

#[test]
fn every_attribute_can_be_asked_for() {
    let defined = Defined::shared();
    let world = World {
        roles: defined.roles.closure(["writer"]).unwrap(),
        spiffe: Some("spiffe://example.com/ns/pay/api"),
        mtls: true,
        ..World::default()
    };

    for text in [
        "ip in net.office",
        "!(ip in net[\"lab.eu\"])",
        "mtls",
        "!dpop",
        "!anonymous",
        "\"reader\" in roles && 'writer' in roles && !(\"responder\" in roles)",
        "\"orders\" in scopes",
        "claims.tenant == \"acme\"",
        "\"acme\" == claims[\"tenant\"]",
        "claims.level >= 3 && 4 > claims.level && claims.level != 4",
        "claims.admin",
        "claims.admin == true && claims.admin != false",
        "\"pay\" in claims.teams && param.team in claims.teams",
        "3 in claims.levels && !(2 in claims.levels)",
        "claims.realm[\"https://x.y/role\"] == \"lead\"",
        "principal == \"token:corp/alice\"",
        "kind == \"token\"",
        "issuer == \"corp\"",
        "application == \"shop\"",
        "!has(owner)",
        "spiffe.startsWith(\"spiffe://example.com/ns/\")",
        "region in [\"DE\", \"FR\"]",
        "method == \"GET\"",
        "host == \"api.example.com\" && host.endsWith(\".example.com\")",
        "path.startsWith(\"/v1/\")",
        "param.id == \"7\"",
        "query.page == \"2\" && has(query.page)",
        "header.x-tenant == claims.tenant && header[\"X-Tenant\"] == \"acme\"",
        "incident == 0 && incident < 2 && incident in [0, 1,]",
        "time.work && !time.night",
        "mtls != dpop && mtls == (incident < 3)",
        "(mtls && dpop) == dpop",
        "true || false",
    ] {
        let condition = defined.read(text);
        assert_eq!(condition.holds(&world.facts()), Tri::True, "{text}");
        assert_eq!(&**condition.text(), text);
    }
}

#[test]
fn what_is_absent_is_unknown_and_negation_does_not_help() {
    let defined = Defined::shared();
    let world = World { region: None, ..World::default() };

    for text in [
        "claims.ghost == \"x\"",
        "claims.ghost != \"x\"",
        "!(claims.ghost == \"x\")",
        "claims.ghost",
        "!claims.ghost",
        "claims.ghost > 1",
        "claims.ghost in [\"a\"]",
        "\"a\" in claims.ghost",
        "claims.tenant.deeper == \"x\"",
        "owner == \"x\"",
        "region == \"DE\"",
        "query.ghost == \"x\"",
        "header.x-ghost.startsWith(\"x\")",
        "mtls == claims.ghost",
        "mtls != claims.ghost",
    ] {
        assert_eq!(defined.read(text).holds(&world.facts()), Tri::Unknown, "{text}");
    }
}

#[test]
fn a_claim_of_another_type_is_unknown() {
    let defined = Defined::shared();
    let world = World::default();

    for text in [
        "claims.level == \"3\"",
        "claims.tenant == 3",
        "claims.tenant",
        "claims.admin == \"true\"",
        "claims.teams == \"pay\"",
        "\"acme\" in claims.tenant",
        "\"pay\" in claims.mixed",
        "3 in claims.mixed",
        "3 in claims.teams",
        "claims.other == 1",
        "claims.realm == \"lead\"",
        "claims.level == claims.level2",
        "claims.level == claims.admin",
    ] {
        assert_eq!(defined.read(text).holds(&world.facts()), Tri::Unknown, "{text}");
    }
}

#[test]
fn unknown_spreads_as_kleene_says() {
    let defined = Defined::shared();
    let world = World::default();
    let u = "claims.ghost";

    for (text, expected) in [
        (format!("false && {u}"), Tri::False),
        (format!("{u} && false"), Tri::False),
        (format!("true && {u}"), Tri::Unknown),
        (format!("{u} || true"), Tri::True),
        (format!("true || {u}"), Tri::True),
        (format!("{u} || false"), Tri::Unknown),
        (format!("{u} || !{u}"), Tri::Unknown),
        (format!("{u} && !{u}"), Tri::Unknown),
        (format!("({u} && false) || ({u} || true)"), Tri::True),
    ] {
        assert_eq!(defined.read(&text).holds(&world.facts()), expected, "{text}");
    }
}

#[test]
fn has_is_never_unknown_and_sees_what_cannot_be_read() {
    let defined = Defined::shared();
    let mut world = World::default();
    world.headers.append("x-debug", http::HeaderValue::from_static("a"));
    world.headers.append("x-debug", http::HeaderValue::from_static("b"));
    world.headers.insert("x-odd", http::HeaderValue::from_bytes(b"\xff").unwrap());
    world.query.extend([("a".into(), "1".into()), ("a".into(), "2".into())]);

    let says = |text: &str| defined.read(text).holds(&world.facts());
    for name in
        ["header.x-debug", "header.x-odd", "query.a", "claims.level", "claims.other", "region"]
    {
        assert_eq!(says(&format!("has({name})")), Tri::True, "{name}");
    }
    for name in ["header.x-debug", "header.x-odd", "query.a", "claims.level"] {
        assert_eq!(says(&format!("{name} == \"a\"")), Tri::Unknown, "{name}");
    }
    for name in ["header.x-none", "query.b", "claims.ghost", "owner", "spiffe"] {
        assert_eq!(says(&format!("has({name})")), Tri::False, "{name}");
    }
}

#[test]
fn nobody_has_no_roles_and_no_scopes_and_everything_else_is_unknown() {
    let defined = Defined::shared();
    let world = World { known: false, ..World::default() };

    let says = |text: &str| defined.read(text).holds(&world.facts());
    assert_eq!(says("anonymous && !dpop"), Tri::True);
    assert_eq!(says("\"reader\" in roles"), Tri::False);
    assert_eq!(says("\"orders\" in scopes"), Tri::False);
    for name in ["principal", "kind", "issuer", "application", "owner", "claims.tenant"] {
        assert_eq!(says(&format!("has({name})")), Tri::False, "{name}");
    }
    assert_eq!(says("kind == \"token\""), Tri::Unknown);
    assert_eq!(says("kind != \"token\""), Tri::Unknown);
    assert_eq!(says("!(\"pay\" in claims.teams)"), Tri::Unknown);
}

#[test]
fn a_mapped_address_is_in_the_network_of_its_ipv4_form() {
    let defined = Defined::shared();
    let says = |ip: &str| {
        let world = World { ip: ip.parse().unwrap(), ..World::default() };
        defined.read("ip in net.office").holds(&world.facts())
    };

    assert_eq!(says("::ffff:198.51.100.9"), Tri::True);
    assert_eq!(says("2001:db8:10:ffff::1"), Tri::True);
    assert_eq!(says("198.51.101.0"), Tri::False);
    assert_eq!(says("2001:db8:11::"), Tri::False);
}

#[test]
fn spellings_of_one_meaning_are_one_expression() {
    let defined = Defined::shared();

    for (one, other) in [
        ("region != \"DE\"", "!(region == \"DE\")"),
        ("\"DE\" == region", "region == 'DE'"),
        ("2 <= incident", "incident >= 2"),
        ("mtls == true", "mtls"),
        ("false == mtls", "!mtls"),
        ("((mtls))", "mtls"),
        ("header[\"X-A\"] == \"\\u0041\"", "header.x-a == \"A\""),
        ("mtls&&dpop||anonymous", "(mtls && dpop) || anonymous"),
    ] {
        assert_eq!(defined.read(one).expr(), defined.read(other).expr(), "{one}");
    }
}

#[test]
fn the_first_unknown_attribute_is_named() {
    let defined = Defined::shared();
    let world = World::default();

    for (text, expected) in [
        ("claims.tenant == \"acme\" && claims.a == claims.b", Some("claims.a")),
        ("owner == \"x\" || !(1 in claims[\"c d\"])", Some("owner")),
        ("!(1 in claims[\"c d\"])", Some("claims[\"c d\"]")),
        ("claims.ghost && false", None),
        ("claims.level < claims.d", Some("claims.d")),
        ("mtls == claims.e", Some("claims.e")),
        ("param.team in claims.f", Some("claims.f")),
        ("mtls", None),
    ] {
        let named = defined.read(text).expr().unknown(&world.facts());
        assert_eq!(named.map(|name| name.to_string()).as_deref(), expected, "{text}");
    }
}
