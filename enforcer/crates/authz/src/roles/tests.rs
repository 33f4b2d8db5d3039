use super::*;

#[test]
fn inclusion_reaches_over_any_number_of_steps() {
    let roles = roles(&[("admin", &["writer"]), ("writer", &["reader"]), ("reader", &[])]);

    let satisfying = |name| {
        let set = roles.as_ref().unwrap().satisfying(&Role::new(name)).unwrap();
        set.iter().map(Role::as_str).collect::<Vec<_>>()
    };
    assert_eq!(satisfying("reader"), ["admin", "reader", "writer"]);
    assert_eq!(satisfying("admin"), ["admin"]);
}

#[test]
fn every_contradiction_is_reported_at_once() {
    let problems =
        roles(&[("a", &["b"]), ("b", &["a"]), ("c", &["c", "ghost"]), ("d", &[]), ("d", &[])])
            .unwrap_err();

    let said: Vec<String> = problems.iter().map(ToString::to_string).collect();
    assert_eq!(
        said,
        [
            "role `d` is defined twice",
            "role `a` includes itself",
            "role `b` includes itself",
            "role `c` includes `ghost`, which is not defined",
            "role `c` includes itself",
        ]
    );
}

#[test]
fn an_undefined_role_satisfies_nothing() {
    let roles = roles(&[("reader", &[])]).unwrap();

    let refused = roles.satisfying(&Role::new("ghost")).unwrap_err();

    assert_eq!(refused.to_string(), "role `ghost` is not defined");
    assert_eq!(roles.closure(["reader", "ghost"]), Err(refused));
    assert_eq!(roles.index("ghost"), None);
}

#[test]
fn a_policy_has_at_most_512_roles() {
    let many = |count: usize| {
        let definition = |n| RoleDefinition {
            role: Role::new(&format!("role-{n:04}")),
            includes: Vec::new(),
            from: vec![Grant::Key],
        };
        Roles::new((0..count).map(definition))
    };

    let all = many(512).unwrap();
    let each: Vec<Role> = all.iter().cloned().collect();
    assert_eq!(all.of_key(&each).iter().count(), 512);
    assert_eq!(all.named(all.of_key(&each)).count(), 512);
    assert_eq!(many(513).unwrap_err(), [RolesError::TooMany(513)]);
}

#[test]
fn a_key_has_the_roles_it_was_issued_with_as_long_as_they_come_from_keys() {
    let roles = granted(&[
        ("reader", &[], &["key"]),
        ("writer", &["reader"], &[]),
        ("lead", &["writer"], &["key"]),
    ]);
    let of = |names: &[&str]| {
        let issued: Vec<Role> = names.iter().map(|name| Role::new(name)).collect();
        names_of(&roles, roles.of_key(&issued))
    };

    assert_eq!(of(&["reader"]), ["reader"]);
    assert_eq!(of(&["writer"]), [""; 0]);
    assert_eq!(of(&["lead", "ghost"]), ["lead", "reader", "writer"]);
}

#[test]
fn a_token_has_the_roles_that_its_issuer_may_give() {
    let roles = granted(&[
        ("reader", &[], &["issuer:corp/api.read", "issuer:lab/a/b"]),
        ("writer", &["reader"], &["issuer:corp/api.write"]),
    ]);

    let of =
        |issuer, values: &[&str]| names_of(&roles, roles.of_token(issuer, values.iter().copied()));
    assert_eq!(of("corp", &["api.read", "other"]), ["reader"]);
    assert_eq!(of("corp", &["api.write"]), ["reader", "writer"]);
    assert_eq!(of("lab", &["api.read", "api.write"]), [""; 0]);
    assert_eq!(of("lab", &["a/b"]), ["reader"]);
    assert_eq!(of("corp", &["API.READ", "api.read ", ""]), [""; 0]);
    assert_eq!(of("", &["api.read"]), [""; 0]);
}

#[test]
fn a_star_takes_whole_segments_below_and_never_leaves_the_trust_domain() {
    let roles = granted(&[
        ("billing", &[], &["spiffe://example.com/ns/pay/*"]),
        ("exact", &[], &["spiffe://example.com/ns/pay"]),
        ("inside", &[], &["spiffe://example.com/*"]),
    ]);

    let of = |id| names_of(&roles, roles.of_spiffe(id));
    assert_eq!(of("spiffe://example.com/ns/pay/api"), ["billing", "inside"]);
    assert_eq!(of("spiffe://example.com/ns/pay/api/v2"), ["billing", "inside"]);
    assert_eq!(of("spiffe://example.com/ns/pay"), ["exact", "inside"]);
    assert_eq!(of("spiffe://example.com/ns/payroll/api"), ["inside"]);
    for id in [
        "spiffe://example.com",
        "spiffe://example.com/",
        "spiffe://example.com/ns/pay/",
        "spiffe://example.com/ns/pay/../admin",
        "spiffe://example.com/ns//pay",
        "spiffe://example.com.evil/ns/pay/api",
        "spiffe://example.com@evil/ns/pay/api",
        "spiffe://evil/example.com/ns/pay/api",
        "SPIFFE://example.com/ns/pay/api",
        "spiffe://Example.com/ns/pay/api",
        "spiffe://example.com/ns/pay/%61pi",
        "spiffe://example.com/ns/pay/api?x",
        "example.com/ns/pay/api",
        "",
    ] {
        assert_eq!(of(id), [""; 0], "{id}");
    }
}

#[test]
fn what_cannot_be_granted_is_refused_with_the_correct_form() {
    let said = |text: &str| text.parse::<Grant>().unwrap_err().to_string();

    assert!(said("keys").contains("write `key`"));
    assert!(said("issuer:corp").contains("issuer:NAME/VALUE"));
    assert!(said("issuer:/x").contains("issuer:NAME/VALUE"));
    for text in ["spiffe://*", "spiffe://*/x", "spiffe://a/x*", "spiffe://a/*/y", "spiffe://a/**"] {
        assert!(said(text).contains("wrong place"), "{text}");
    }
    for text in [
        "spiffe:///x",
        "spiffe://A/x",
        "spiffe://a:1/x",
        "spiffe://a//x",
        "spiffe://a/",
        "spiffe:a",
        "spiffe:///*",
    ] {
        assert!(said(text).contains("is not a SPIFFE id"), "{text}");
    }
    for text in ["key", "issuer:corp/a/b c", "spiffe://a.b/c", "spiffe://a.b/c/*", "spiffe://a.b"] {
        assert_eq!(text.parse::<Grant>().unwrap().to_string(), text);
    }
}

#[test]
fn the_tables_agree_with_the_patterns_one_by_one() {
    let patterns = ["spiffe://a/*", "spiffe://a/b/*", "spiffe://a/b/c", "spiffe://b/*"];
    let roles = granted(&[
        ("r0", &[], &[patterns[0]]),
        ("r1", &[], &[patterns[1]]),
        ("r2", &[], &[patterns[2]]),
        ("r3", &[], &[patterns[3]]),
    ]);

    for id in [
        "spiffe://a/b/c",
        "spiffe://a/b",
        "spiffe://a/b/c/d",
        "spiffe://b/b/c",
        "spiffe://a",
        "spiffe://c/x",
    ] {
        let matching: Vec<String> = (0..4)
            .filter(|n| patterns[*n].parse::<SpiffePattern>().unwrap().matches(id))
            .map(|n| format!("r{n}"))
            .collect();
        assert_eq!(names_of(&roles, roles.of_spiffe(id)), matching, "{id}");
    }
}

fn names_of(roles: &Roles, set: RoleSet) -> Vec<&str> {
    roles.named(set).map(Role::as_str).collect()
}

fn granted(definitions: &[(&str, &[&str], &[&str])]) -> Roles {
    let definition = |(role, includes, from): &(&str, &[&str], &[&str])| RoleDefinition {
        role: Role::new(role),
        includes: includes.iter().map(|name| Role::new(name)).collect(),
        from: from.iter().map(|text| text.parse().unwrap()).collect(),
    };
    Roles::new(definitions.iter().map(definition)).unwrap()
}

fn roles(definitions: &[(&str, &[&str])]) -> Result<Roles, Vec<RolesError>> {
    let definition = |(role, includes): &(&str, &[&str])| RoleDefinition {
        role: Role::new(role),
        includes: includes.iter().map(|name| Role::new(name)).collect(),
        from: Vec::new(),
    };
    Roles::new(definitions.iter().map(definition))
}
