//! Conditions in a policy: what is wrong in one is shown at its very place, in every kind of quotes.

use expect_test::expect;

use super::{SMALL, code_of, read};

#[test]
fn what_is_wrong_in_a_condition_is_marked_inside_the_string() {
    let text = format!(
        "{SMALL}  when = 'mtls && ip in net.offcie'\n[net]\noffice = ['198.51.100.0/24']\n"
    );

    let problems = read(&text).unwrap_err();

    expect![[r#"
        error[E-POL-024]: no network is called `offcie`
          --> policy.toml:16:29
           |
        16 |   when = 'mtls && ip in net.offcie'
           |                             ^^^^^^
           = hint: did you mean `office`?"#]]
    .assert_eq(&problems.to_string());
}

#[test]
fn the_mark_stands_right_behind_escapes_and_on_later_lines() {
    for (written, line, marked) in [
        (r#"when = "\"\u0041\" in roles || nothing""#, 16, "nothing"),
        ("when = '''\nmtls ||\n  nothing'''", 18, "nothing"),
        ("when = \"\"\"mtls \\\n  || nothing\"\"\"", 17, "nothing"),
        ("when = '\"\u{e4}\" in scopes || nothing'", 16, "nothing"),
    ] {
        let text = format!("{SMALL}[role.A]\nfrom = 'key'\n")
            .replace("role = \"reader\"\n", &format!("role = \"reader\"\n{written}\n"));

        let problems = read(&text).unwrap_err();

        let [problem] = &problems.iter().collect::<Vec<_>>()[..] else { panic!("{problems}") };
        assert_eq!((problem.code, problem.line), ("E-POL-024", line), "{problems}");
        let shown = text.lines().nth(problem.line - 1).unwrap();
        let rest: String = shown.chars().skip(problem.column - 1).collect();
        assert!(rest.starts_with(marked), "{rest}\n{problems}");
        assert!(problems.to_string().contains(&"^".repeat(marked.len())), "{problems}");
    }
}

#[test]
fn every_condition_of_a_file_is_read_and_all_problems_are_told() {
    let text = format!(
        "{SMALL}  when = 'ip in net.a'\n  [[route.deny]]\n  when = 'time.b'\n\
         [limit]\nl = {{ by = 'ip', rate = '1/s', when = '\"c\" in roles' }}\n"
    );

    assert_eq!(code_of(&text), ["E-POL-024"; 3]);
}

#[test]
fn a_region_without_a_database_is_refused_where_it_is_read() {
    let condition = format!("{SMALL}  when = 'owner == \"region\" || region in [\"DE\"]'\n");
    let limit = format!("{SMALL}[limit]\nl = {{ by = 'region', rate = '1/s' }}\n");

    let problems = read(&condition).unwrap_err();

    expect![[r#"
        error[E-POL-025]: no database knows the region of an address
          --> policy.toml:16:32
           |
        16 |   when = 'owner == "region" || region in ["DE"]'
           |                                ^^^^^^
           = hint: add `[region]` with `database = "FILE.mmdb"`"#]]
    .assert_eq(&problems.to_string());
    assert_eq!(code_of(&limit), ["E-POL-025"]);
    assert_eq!(code_of(&format!("{condition}[region]\ndatabase = 'c.mmdb'\n")), [""; 0]);
}

#[test]
fn names_in_braces_of_the_pattern_and_no_others_are_parameters() {
    let with = |name: &str| {
        SMALL.replace("/v1/orders/{**}", "/v1/{tenant}/orders")
            + &format!("  when = 'param.{name} == owner'\n")
    };

    assert_eq!(code_of(&with("tenant")), [""; 0]);
    assert_eq!(code_of(&with("tennant")), ["E-POL-024"]);
}

#[test]
fn networks_and_windows_that_no_condition_uses_are_told() {
    let text = format!(
        "{SMALL}[net]\noffice = '198.51.100.0/24'\n[time]\nwork = {{ days = 'mon-fri' }}\n"
    );

    assert_eq!(code_of(&text), ["E-POL-101", "E-POL-101"]);
    let used = text
        .replace("role = \"reader\"\n", "when = 'ip in net.office && time.work && !anonymous'\n");
    // The role is what nobody uses then.
    assert_eq!(code_of(&used), ["E-POL-101"]);
    assert!(read(&used).unwrap().warnings()[0].to_string().contains("role `reader`"));
}

#[test]
fn a_role_that_only_a_condition_asks_for_is_used() {
    let text = format!(
        "{SMALL}  [[route.deny]]\n  when = '\"guest\" in roles'\n[role.guest]\nfrom='key'\n"
    );

    assert_eq!(code_of(&text), [""; 0]);
}

#[test]
fn a_window_that_cannot_be_is_refused_for_its_reason() {
    let window = |keys: &str| format!("{SMALL}  when = 'time.w'\n[time]\nw = {{ {keys} }}\n");

    for keys in ["days = 'mon-fry'", "hours = '8-18'", "hours = '08:00-08:00'", "zone = 'Mars/One'"]
    {
        let problems = read(&window(keys)).unwrap_err();

        let first = problems.iter().next().unwrap();
        assert_eq!(first.code, "E-POL-005", "{keys}\n{problems}");
        assert!(first.hint.as_ref().is_some_and(|hint| hint.contains("write")), "{problems}");
    }
    assert_eq!(
        code_of(&window("days = 'sat,sun', hours = '22:00-06:00', zone = 'Asia/Tokyo'")),
        [""; 0]
    );
}
