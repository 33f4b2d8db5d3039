//! What is wrong is told all at once, in its place, with the way out.

use expect_test::expect;

use super::anchoring::WITNESS;
use super::{SMALL, code_of, read, shipped_text};
use crate::{Explained, Severity, explain};

#[test]
fn every_problem_is_reported_at_once_with_its_place_and_the_way_out() {
    let text = r#"version = 1

[agent]
socket = 3

[listen.public]
addres = "0.0.0.0:8443"

[limit]
per_key = { by = "key", rate = "0/s", burst = 200 }

[upstream.orders]
hosts = ["127.0.0.1:9000"]

[[route]]
name     = "orders"
match    = "api.example.com/v1/orders/"
upstraem = "orders"
limits   = ["per_kye"]
public   = true

[[rule]]
id = "guessing"
failures = 10
within = "10"
respond = { action = "block", ttl = "15m" }
"#;

    let problems = read(text).unwrap_err();

    expect![[r#"
        error[E-POL-004]: `agent.socket` is a whole number, not a path in quotes
         --> policy.toml:4:10
          |
        4 | socket = 3
          |          ^
          = hint: such as "path/to/file"

        error[E-POL-003]: `listen.public.address` is missing
         --> policy.toml:6:9
          |
        6 | [listen.public]
          |         ^^^^^^
          = hint: add `address = "0.0.0.0:8443"`

        error[E-POL-002]: unknown key `addres` in `listen.public`
         --> policy.toml:7:1
          |
        7 | addres = "0.0.0.0:8443"
          | ^^^^^^
          = hint: did you mean `address`?

        error[E-POL-005]: `limit.per_key.rate`: `0/s` is not a rate
          --> policy.toml:10:32
           |
        10 | per_key = { by = "key", rate = "0/s", burst = 200 }
           |                                ^^^^^
           = hint: write it as `250/s`, `6/m`, `50/h` or `1000/d`, at least `1`

        error[E-POL-003]: `route[0].upstream` is missing
          --> policy.toml:15:1
           |
        15 | [[route]]
           | ^^^^^^^^^
           = hint: add `upstream = "orders"`

        error[E-POL-005]: `route[0].match`: `api.example.com/v1/orders/` ends in a slash
          --> policy.toml:17:12
           |
        17 | match    = "api.example.com/v1/orders/"
           |            ^^^^^^^^^^^^^^^^^^^^^^^^^^^^
           = hint: write `api.example.com/v1/orders`: it matches with and without the slash

        error[E-POL-002]: unknown key `upstraem` in `route[0]`
          --> policy.toml:18:1
           |
        18 | upstraem = "orders"
           | ^^^^^^^^
           = hint: did you mean `upstream`?

        error[E-POL-010]: no limit is called `per_kye`
          --> policy.toml:19:13
           |
        19 | limits   = ["per_kye"]
           |             ^^^^^^^^^
           = hint: did you mean `per_key`?

        error[E-POL-005]: `rule[0].within`: `10` is not a span of time
          --> policy.toml:25:10
           |
        25 | within = "10"
           |          ^^^^
           = hint: write it as `10s`, `15m`, `1h30m` or `500ms`"#]]
    .assert_eq(&problems.to_string());
}

#[test]
fn a_syntax_error_comes_alone_with_its_place() {
    let problems = read("version = 1\n[listen.public\naddress = 3\n").unwrap_err();

    expect![[r#"
        error[E-POL-001]: not TOML: unclosed table, expected `]`
         --> policy.toml:2:15
          |
        2 | [listen.public
          |               ^
          = hint: the cause is here or shortly before"#]]
    .assert_eq(&problems.to_string());
}

#[test]
fn columns_count_characters_and_marks_stand_below_what_they_mark() {
    let text =
        format!("{SMALL}\n[limit]\n\t\"\u{e4}\" = {{ by = \"ip\", rate = \"1/w\", burst = 1 }}\n");

    let problems = read(&text).unwrap_err();

    let shown = problems.to_string();
    assert!(shown.contains("\n   | \t^^^\n"), "{shown}");
    assert_eq!(problems.iter().next().unwrap().column, 2);
}

#[test]
fn a_long_line_is_shown_around_the_problem_and_without_control_characters() {
    let spaces = " ".repeat(5_000);
    let text = format!("{SMALL}\n[limit]{spaces}\u{1b}[2J = 1\n");

    let problems = read(&text).unwrap_err();

    let shown = problems.to_string();
    assert!(shown.lines().all(|line| line.chars().count() < 200), "{shown}");
    assert!(!shown.contains('\u{1b}'));
}

#[test]
fn each_problem_has_its_code() {
    let cases = [
        ("E-POL-002", SMALL.replace("version = 1", "version = 1\nlisten_to = 1")),
        ("E-POL-003", SMALL.replace("version = 1", "")),
        ("E-POL-004", SMALL.replace("version = 1", "version = \"1\"")),
        ("E-POL-005", SMALL.replace("version = 1", "version = 2")),
        ("E-POL-006", SMALL.replace("[listen.local]\naddress = \"127.0.0.1:8080\"", "[listen]")),
        ("E-POL-007", SMALL.replace("127.0.0.1:8080", "0.0.0.0:8080")),
        ("E-POL-008", with_listener("tls = {certificate='c',key='k'}\nredirect = 'https'")),
        ("E-POL-009", with_listener("").replace("8443", "8080")),
        ("E-POL-010", SMALL.replace("role = \"reader\"", "role = \"raeder\"")),
        ("E-POL-010", SMALL.replace("upstream = \"orders\"", "upstream = \"x\"")),
        (
            "E-POL-010",
            SMALL.replace("upstream = \"orders\"", "upstream = \"orders\"\nlimits=['x']"),
        ),
        ("E-POL-010", SMALL.replace("[\"key\"]", "[\"key\"], includes = [\"x\"]")),
        ("E-POL-011", with_route("name='orders'\nmatch='h/a'\npublic=true")),
        ("E-POL-012", with_route("name='a'\nmatch='h/a'")),
        ("E-POL-012", with_route("name='a'\nmatch='h/a'\npublic=false")),
        (
            "E-POL-013",
            SMALL.replace("upstream = \"orders\"", "upstream = \"orders\"\npublic = true"),
        ),
        ("E-POL-014", with_route("name='a'\nmatch='*/v1/orders/{x}'\npublic=true")),
        ("E-POL-015", with_limit("key", "public = true")),
        ("E-POL-016", SMALL.replace("[\"key\"]", "[\"key\"], includes = [\"reader\"]")),
        ("E-POL-017", format!("{SMALL}#{}", "x".repeat(8 << 20))),
        ("E-POL-018", SMALL.replace("9000", "8080")),
        (
            "E-POL-018",
            SMALL.replace("127.0.0.1:8080", "[::1]:90").replace("127.0.0.1:9000", "[::1]:90"),
        ),
        ("E-POL-101", format!("{SMALL}[upstream.spare]\nhosts='127.0.0.1:1'\n")),
        ("E-POL-101", format!("{SMALL}[limit.spare]\nby='ip'\nrate='1/s'\nburst=1\n")),
        ("E-POL-101", format!("{SMALL}[role.spare]\nfrom=['key']\n")),
        ("E-POL-102", format!("{SMALL}  [[route.allow]]\n  method='GET'\n  role='reader'\n")),
        ("E-POL-103", with_route("name='a'\nmatch='*/V1/orders/{**}'\npublic=true")),
        ("E-POL-104", format!("{SMALL}[guard]\nnever_block={{all=['::/0']}}\n")),
        ("E-POL-105", with_listener("redirect = 'https'")),
        ("E-POL-106", SMALL.split("[role]").next().unwrap().to_owned()),
    ];
    for (code, text) in cases {
        assert_eq!(code_of(&text), [code], "{text}");
        assert!(explain(code).is_some(), "{code}");
    }
}

#[test]
fn an_upstream_on_loopback_behind_a_listener_on_every_address_is_this_agent() {
    let text = shipped_text("minimal.toml").replace("127.0.0.1:9000", "127.0.0.1:8443");

    assert_eq!(code_of(&text), ["E-POL-018"]);
}

#[test]
fn a_role_that_another_used_role_includes_is_used() {
    let text = SMALL.replace(
        "reader = { from = [\"key\"] }",
        "reader = { from = [\"key\"] }\nwriter = { from = [\"key\"], includes = [\"reader\"] }",
    );

    assert_eq!(code_of(&text), [""; 0]);
}

#[test]
fn a_limit_by_key_needs_a_caller_and_one_by_address_does_not() {
    assert_eq!(code_of(&with_limit("ip", "public = true")), [""; 0]);
    assert_eq!(code_of(&with_limit("key", "allow = [{method='GET',role='reader'}]")), [""; 0]);
}

#[test]
fn every_value_out_of_its_form_is_refused() {
    let agent = |line: &str| format!("{SMALL}[agent]\n{line}\n");
    let kernel = |line: &str| format!("{SMALL}[kernel]\ninterfaces=['eth1']\n{line}\n");
    let rule = |within: &str, failures: &str| {
        format!(
            "{SMALL}[[rule]]\nid='x'\nfailures={failures}\nwithin='{within}'\n\
             respond={{action='block',ttl='1h'}}\n"
        )
    };
    let cases = [
        agent("threads = 0"),
        agent("threads = -1"),
        agent("threads = 0x99999999999999999"),
        agent("state = ''"),
        agent(&format!("socket = '/{}'", "s".repeat(107))),
        kernel("budget = { packets = '0/s', burst = 1 }"),
        kernel("budget = { packets = '1/m', burst = 1 }"),
        kernel("budget = { packets = '1/s', burst = 0 }"),
        kernel("budget = { packets = '1/s', burst = 4294967296 }"),
        kernel("blocks = 0"),
        kernel("pins = 'relative'"),
        kernel("mode = 'on'"),
        kernel("attach = 'skb'"),
        format!("{SMALL}[kernel]\ninterfaces=[]\n"),
        format!("{SMALL}[kernel]\ninterfaces=['a interface']\n"),
        format!("{SMALL}[kernel]\ninterfaces=['sixteen-letters-']\n"),
        format!("{SMALL}[guard]\nnever_block={{a=['10.0.0.1/8']}}\n"),
        format!("{SMALL}[guard]\nnever_block={{a=['host.example']}}\n"),
        format!("{SMALL}[guard]\nmax_clients='101%'\n"),
        format!("{SMALL}[guard]\nmax_clients='+5%'\n"),
        format!("{SMALL}[audit]\norigin='has space'\n"),
        format!("{SMALL}[audit]\ndenied='later'\n"),
        format!("{SMALL}[audit]\nquorum=0\n"),
        format!("{SMALL}[audit]\nwitness_wait='2m'\n"),
        format!("{SMALL}[audit.timestamp]\nurl='ftp://tsa.example'\n"),
        format!("{SMALL}[audit.witness.w]\nurl='witness.example'\nkey='{WITNESS}'\n"),
        format!("{SMALL}[audit.witness.w]\nurl='http://w.example?a'\nkey='{WITNESS}'\n"),
        format!("{SMALL}[audit.witness.w]\nurl='http://w.example'\nkey='w+00000000+BA=='\n"),
        format!("{SMALL}[timeouts]\nidle='0s'\n"),
        format!("{SMALL}[timeouts]\nbody_rate='0'\n"),
        rule("1m30", "1"),
        rule("30s1m", "1"),
        rule("-1s", "1"),
        rule("1.5s", "1"),
        rule("", "1"),
        rule("99999999999999999999d", "1"),
        rule("1s", "0"),
        SMALL.replace("127.0.0.1:9000", "local host:9000"),
        SMALL.replace("127.0.0.1:9000", "127.0.0.1"),
        SMALL.replace("127.0.0.1:9000", "127.0.0.1:0"),
        SMALL.replace("127.0.0.1:9000", "0.0.0.0:9000"),
        SMALL.replace("\"127.0.0.1:8080\"", "[]"),
        SMALL.replace("\"GET\"", "\"get\""),
        SMALL.replace("\"GET\"", "\"CONNECT\""),
        SMALL.replace("[\"key\"]", "[\"jwt\"]"),
        SMALL.replace("name = \"orders\"", "name = \"two words\""),
    ];
    for text in cases {
        assert_eq!(code_of(&text), ["E-POL-005"], "{text}");
    }
}

#[test]
fn spans_of_time_are_read_in_every_unit() {
    let idle = |text: &str| {
        let policy = read(&format!("{SMALL}[timeouts]\nidle='{text}'\n")).unwrap();
        policy.timeouts().idle.as_millis()
    };

    assert_eq!(idle("500ms"), 500);
    assert_eq!(idle("10s"), 10_000);
    assert_eq!(idle("15m"), 900_000);
    assert_eq!(idle("1h"), 3_600_000);
    assert_eq!(idle("1m30s500ms"), 90_500);
}

#[test]
fn problems_beyond_a_bound_are_counted_not_told() {
    let keys: String = (0..500).map(|n| format!("k{n} = 1\n")).collect();

    let problems = read(&format!("{keys}{SMALL}")).unwrap_err();

    assert_eq!(problems.len(), 500);
    assert_eq!(problems.iter().count(), 200);
    assert!(problems.to_string().ends_with("and 300 more problems"));
}

#[test]
fn a_policy_with_more_than_ten_thousand_routes_is_refused() {
    let routes: String = (0..10_001)
        .map(|n| {
            format!("[[route]]\nname='r{n}'\nmatch='h/a{n}'\nupstream='orders'\npublic=true\n")
        })
        .collect();

    let text = SMALL.split("[[route]]").next().unwrap();
    assert_eq!(code_of(&format!("{text}{routes}")), ["E-POL-017"]);
}

#[test]
fn every_code_is_explained_once_in_order() {
    let codes: Vec<&str> = Explained::ALL.iter().map(|known| known.code).collect();

    let mut sorted = codes.clone();
    sorted.sort_unstable();
    sorted.dedup();
    assert_eq!(codes, sorted);
    assert!(
        Explained::ALL.iter().all(|known| !known.title.is_empty() && known.text.ends_with('.'))
    );
    assert_eq!(explain("e-pol-002"), explain("E-POL-002"));
    assert_eq!(explain("E-POL-999"), None);
}

/// Codes from 111 on, and that of tests, belong to the analysis, which has tests of its own.
#[test]
fn every_code_of_reading_has_a_test() {
    const TESTS: [&str; 8] = [
        include_str!("problems.rs"),
        include_str!("conditions.rs"),
        include_str!("files.rs"),
        include_str!("incidents.rs"),
        include_str!("kernel.rs"),
        include_str!("limits.rs"),
        include_str!("regions.rs"),
        include_str!("routes.rs"),
    ];
    let own = |code: &str| {
        ("E-POL-001"..="E-POL-034").contains(&code) || ("E-POL-101"..="E-POL-110").contains(&code)
    };
    let untested: Vec<&str> = Explained::ALL
        .iter()
        .map(|known| known.code)
        .filter(|code| own(code) && !TESTS.iter().any(|tests| tests.contains(code)))
        .collect();

    assert_eq!(untested, [""; 0]);
}

#[test]
fn warnings_do_not_keep_a_policy_from_being_used() {
    let policy = read(&format!("{SMALL}[role.spare]\nfrom=['key']\n")).unwrap();

    let [warning] = policy.warnings() else { panic!("{:?}", policy.warnings()) };
    assert_eq!(warning.severity, Severity::Warning);
    assert!(warning.to_string().starts_with("warning[E-POL-101]: no route uses role `spare`"));
}

fn with_listener(lines: &str) -> String {
    format!("{SMALL}[listen.second]\naddress = \"127.0.0.1:8443\"\n{lines}\n")
}

fn with_route(lines: &str) -> String {
    format!("{SMALL}[[route]]\nupstream = 'orders'\n{lines}\n")
}

fn with_limit(by: &str, lines: &str) -> String {
    format!(
        "{SMALL}[limit]\nl = {{ by = '{by}', rate = '1/s', burst = 1 }}\n\
         [[route]]\nname = 'a'\nmatch = 'h/a'\nupstream = 'orders'\nlimits = ['l']\n{lines}\n"
    )
}
