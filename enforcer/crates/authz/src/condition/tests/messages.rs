use super::*;

/// What is told of `text`: what stands at the span, the message, the hint.
fn told(text: &str) -> Vec<(String, String, String)> {
    let defined = Defined::shared();
    let problems = defined.parse(text).expect_err(text);
    let each = problems.into_iter().map(|problem| {
        let at = text.get(problem.span.clone()).expect("a span inside the text");
        (at.to_owned(), problem.message, problem.hint)
    });
    each.collect()
}

#[track_caller]
fn says(text: &str, at: &str, message: &str, hint: &str) {
    let told = told(text);
    let [(where_, what, help)] = &*told else { panic!("{text}: {told:#?}") };
    assert_eq!(where_, at, "{text}: {what}");
    assert!(what.contains(message), "{text}: {what}");
    assert!(help.contains(hint), "{text}: {help}");
}

#[test]
fn a_misspelt_name_is_told_with_what_was_meant() {
    for (text, at, message, hint) in [
        ("regio == \"DE\"", "regio", "no attribute is called `regio`", "did you mean `region`?"),
        ("Mtls", "Mtls", "no attribute is called `Mtls`", "did you mean `mtls`?"),
        ("mtls == TRUE", "TRUE", "no attribute", "did you mean `true`?"),
        ("ip in office", "office", "no attribute", "did you mean `net.office`?"),
        ("work", "work", "no attribute", "did you mean `time.work`?"),
        ("writer", "writer", "no attribute", "did you mean `\"writer\" in roles`?"),
        ("id == \"7\"", "id", "no attribute", "did you mean `param.id`?"),
        ("source_ip in net.office", "source_ip", "no attribute", "did you mean `ip`?"),
        ("jwt.tenant == \"a\"", "jwt", "no attribute", "claims.NAME"),
        ("request.method == \"GET\"", "request", "no attribute", "stand alone"),
        ("gibberish == 1", "gibberish", "no attribute", "a text stands in quotes"),
        ("ip in net.offise", "offise", "no network is called `offise`", "did you mean `office`?"),
        ("time.wrok", "wrok", "no time window is called `wrok`", "did you mean `work`?"),
        ("time.lunchbreak", "lunchbreak", "no time window", "use one of: night, work"),
        (
            "\"raeder\" in roles",
            "\"raeder\"",
            "no role is called `raeder`",
            "did you mean `reader`?",
        ),
        ("param.tema == \"x\"", "tema", "no `{tema}`", "did you mean `team`?"),
        ("issuer == \"crop\"", "\"crop\"", "no issuer is called `crop`", "did you mean `corp`?"),
        ("kind == \"key\"", "\"key\"", "no credential is of the kind `key`", "`api-key`"),
        (
            "path.startswith(\"/a\")",
            "startswith",
            "no method `startswith`",
            "did you mean `startsWith`?",
        ),
    ] {
        says(text, at, message, hint);
    }
}

#[test]
fn types_that_do_not_meet_are_told_with_both_of_them() {
    for (text, at, message, hint) in [
        (
            "incident == \"2\"",
            "incident == \"2\"",
            "`incident` is a whole number, `\"2\"` is text",
            "write `2` without quotes",
        ),
        (
            "\"2\" == incident",
            "\"2\" == incident",
            "is text, `incident` is a whole number",
            "write `2` without",
        ),
        (
            "region == 49",
            "region == 49",
            "`region` is text, `49` is a whole number",
            "write it in quotes: `\"49\"`",
        ),
        ("mtls == \"true\"", "mtls == \"true\"", "`mtls` is true or false", "without quotes"),
        ("incident >= \"2\"", "\"2\"", "is text, and has no order", "write `2` without quotes"),
        ("region < \"DE\"", "region", "is text, and has no order", "compare texts with `==`"),
        ("mtls > 1", "mtls", "has no order", "compare `incident`"),
        ("ip == \"1.2.3.4\"", "\"1.2.3.4\"", "`ip` is an address", "office = [\"1.2.3.4\"]"),
        ("ip in \"10.0.0.0/8\"", "\"10.0.0.0/8\"", "`ip` is an address", "`ip in net.office`"),
        (
            "ip in [\"10.0.0.0/8\"]",
            "[\"10.0.0.0/8\"]",
            "`ip` is an address",
            "office = [\"10.0.0.0/8\"]",
        ),
        ("ip == net.office", "ip == net.office", "a set of addresses", "write `ip in net.office`"),
        ("ip == 1.2.3.4", "1.2.3.4", "an address cannot be written here", "ip in net.NAME"),
        (
            "roles == \"reader\"",
            "roles == \"reader\"",
            "`roles` is a set of texts",
            "write `\"reader\" in roles`",
        ),
        (
            "region == [\"DE\"]",
            "region == [\"DE\"]",
            "`[\"DE\"]` is a list",
            "write `region in [\"DE\"]`",
        ),
        ("region in \"DE\"", "\"DE\"", "`in` asks for an element of a set", "region == …"),
        ("region in method", "method", "`method` is text", "write `region == method`"),
        (
            "region in net.office",
            "region",
            "is text, and a network has addresses",
            "ip in net.office",
        ),
        (
            "region in [1, 2]",
            "region",
            "`region` is text, and the elements are whole numbers",
            "in quotes",
        ),
        ("incident in [\"1\"]", "incident", "the elements are texts", "without quotes"),
        ("region in [\"DE\", 1]", "1", "`\"DE\"` is text, and `1` is a whole number", "one type"),
        (
            "region in [host]",
            "host",
            "neither a text in quotes nor a whole number",
            "literals only",
        ),
        ("7 in scopes", "7", "the elements are texts", "without quotes"),
        ("claims.team in roles", "claims.team", "not the name of a role", "\"NAME\" in roles"),
        ("incident", "incident", "is a whole number, not true or false", "`incident >= 2`"),
        ("region && mtls", "region", "is text, not true or false", "has(region)"),
        ("!ip", "ip", "is an address", "ip in net.NAME"),
        ("net.office", "net.office", "a set of addresses", "write `ip in net.office`"),
        ("net", "net", "`net` alone means nothing", "net.office"),
        ("roles", "roles", "a set of texts", "\"NAME\" in roles"),
        ("\"x\"", "\"x\"", "is text, not true or false", "compare"),
        ("roles.reader", "reader", "`roles` has no members", "write `\"reader\" in roles`"),
        ("region.code == \"DE\"", "code", "`region` has no members", "write `region` alone"),
        ("net.office.x", "x", "no members of members", "net.office"),
        (
            "incident.startsWith(\"1\")",
            "incident",
            "is a whole number, not text",
            "beginning or end",
        ),
        ("has(mtls)", "mtls", "always there", "has(claims.tenant)"),
        ("has(path)", "path", "always there", "has(claims.tenant)"),
        (
            "path.startsWith(claims.a)",
            "path.startsWith(claims.a)",
            "one text in quotes",
            "path.startsWith(\"…\")",
        ),
        ("path.contains(\"x\")", "contains", "no method `contains`", "write `\"x\" in path`"),
        ("path.matches(\"x\")", "matches", "no method", "there are no patterns"),
        ("startsWith(path)", "startsWith", "`startsWith` is no function", "x.startsWith"),
    ] {
        says(text, at, message, hint);
    }
}

#[test]
fn what_is_never_or_always_true_is_refused() {
    for (text, at, message, hint) in [
        (
            "incident == 7",
            "incident == 7",
            "between 0 and 5, so `incident == 7` is never true",
            "another level",
        ),
        ("incident != 7", "incident != 7", "is always true", "another level"),
        ("incident >= 0", "incident >= 0", "is always true", "another level"),
        ("0 > incident", "0 > incident", "is never true", "another level"),
        ("incident in [2, 9]", "9", "never `9`", "remove it"),
        (
            "incident in [0, 1, 2, 3, 4, 5]",
            "incident in [0, 1, 2, 3, 4, 5]",
            "is always true",
            "another level",
        ),
        ("region in []", "[]", "empty, so this is never true", "what it may be"),
        ("region == \"Germany\"", "\"Germany\"", "`Germany` is no region", "such as `DE`"),
        ("region in [\"DE\", \"fr\"]", "\"fr\"", "`fr` is no region", "such as `DE`"),
        ("method == \"post\"", "\"post\"", "capital letters", "write `POST`"),
        ("method == \"GET POST\"", "\"GET POST\"", "no method is called", "POST"),
        (
            "host == \"API.example.com\"",
            "\"API.example.com\"",
            "lower case",
            "write `api.example.com`",
        ),
        ("host.endsWith(\"https://x\")", "\"https://x\"", "stands in no host", "api.example.com"),
        ("path == \"v1/orders\"", "\"v1/orders\"", "begins with `/`", "write `/v1/orders`"),
        ("path.startsWith(\"v1\")", "\"v1\"", "begins with `/`", "write `/v1`"),
        ("path == \"/a b\"", "\"/a b\"", "stands in no path", "percent-encoded"),
        ("path.endsWith(\"?x=1\")", "\"?x=1\"", "stands in no path", "without query"),
        ("path.startsWith(\"\")", "\"\"", "always true", "begin or end with"),
        (
            "spiffe == \"example.com/ns\"",
            "\"example.com/ns\"",
            "is no SPIFFE id",
            "spiffe://trust.domain/path",
        ),
        (
            "principal == \"alice\"",
            "\"alice\"",
            "no principal is called `alice`",
            "token:ISSUER/SUBJECT",
        ),
        ("1 < 2", "1 < 2", "reads nothing of the request", "an attribute"),
        ("\"a\" == \"a\"", "\"a\" == \"a\"", "reads nothing of the request", "an attribute"),
        ("\"a\" in [\"a\"]", "\"a\" in [\"a\"]", "reads nothing", "an attribute"),
        ("true == false", "true == false", "reads nothing", "an attribute"),
        ("\"abc\".startsWith(\"a\")", "\"abc\".startsWith(\"a\")", "reads nothing", "an attribute"),
        ("region == region", "region == region", "compares a thing with itself", "something else"),
        ("claims.a == claims.a", "claims.a == claims.a", "with itself", "something else"),
        ("incident < incident", "incident < incident", "with itself", "something else"),
        (
            "(mtls && dpop) == (mtls && dpop)",
            "(mtls && dpop) == (mtls && dpop)",
            "with itself",
            "else",
        ),
        ("claims.a in claims.a", "claims.a in claims.a", "with itself", "something else"),
    ] {
        says(text, at, message, hint);
    }
}

#[test]
fn another_languages_spelling_is_told_with_ours() {
    for (text, at, message, hint) in [
        ("incident = 2", "=", "`=` is no operator", "write `==`"),
        ("incident === 2", "===", "`===` is no operator", "write `==`"),
        ("incident !== 2", "!==", "no operator", "write `!=`"),
        ("incident <> 2", "<>", "no operator", "write `!=`"),
        ("incident => 2", "=>", "no operator", "write `>=`"),
        ("mtls & dpop", "&", "no operator", "write `&&`"),
        ("mtls | dpop", "|", "no operator", "write `||`"),
        ("mtls and dpop", "and", "`and` is no operator", "write `&&`"),
        ("mtls OR dpop", "OR", "`OR` is no operator", "write `||`"),
        ("not mtls", "not", "`not` is no operator", "write `!`"),
        ("region not in [\"DE\"]", "not in", "`not in` is no operator", "write `!(… in …)`"),
        ("mtls is true", "is", "stands where an operator must", "write `==`"),
        ("scopes contains \"x\"", "contains", "where an operator must", "\"x\" in"),
        ("path =~ \"^/a\"", "=~", "no operator", "there are no patterns"),
        (
            "0 < incident < 3",
            "<",
            "comparisons do not chain",
            "write `0 < incident && incident < 3`",
        ),
        (
            "mtls == dpop == anonymous",
            "==",
            "do not chain",
            "write `mtls == dpop && dpop == anonymous`",
        ),
        ("incident + 1 > 2", "+", "`+` means nothing here", "no arithmetic"),
        ("mtls ? dpop", "?", "means nothing", "no `? :`"),
        ("region == “DE”", "“DE”", "is no text", "plain quotes"),
        ("mtls; dpop", ";", "means nothing", "one expression"),
        ("mtls # why", "#", "means nothing", "no comments"),
        ("claims.a == null", "null", "no attribute", "has(x)"),
        ("incident > 1.5", "1.5", "not a whole number", "decimal digits"),
        ("incident > 0x2", "0x2", "not a whole number", "decimal digits"),
        (
            "claims.a == 9223372036854775808",
            "9223372036854775808",
            "too large",
            "9223372036854775807",
        ),
        ("incident > 02", "02", "begins with `0`", "leading zeros"),
        ("region == \"DE", "\"DE", "the text does not end", "close it with `\"`"),
        ("region == \"D\\q\"", "\\q", "the escape means nothing", "`\\\\` for a backslash"),
        ("(mtls && dpop", "(", "`(` is never closed", "add `)`"),
        ("region in [\"DE\"", "[", "`[` is never closed", "add `]`"),
        ("mtls)", ")", "closes nothing", "remove it"),
        ("mtls dpop", "dpop", "where an operator must", "join conditions"),
        ("mtls &&", "", "ends too early", "write what belongs here"),
        ("&& mtls", "&&", "stands where a value must", "write an attribute"),
        ("claims. == 1", ".", "a name must stand behind the dot", "claims.tenant"),
        ("claims[0] == 1", "[", "named by a text in quotes", "[\"name\"]"),
        ("has(\"x\")", "\"x\"", "`has` asks for one attribute", "has(claims.tenant)"),
        ("", "", "the condition is empty", "leave `when` out"),
        ("  ", "  ", "the condition is empty", "leave `when` out"),
        ("header.authorization == \"x\"", "authorization", "no condition reads", "`claims.NAME`"),
        ("header[\"a b\"] == \"x\"", "\"a b\"]", "not the name of a header", "header.x-tenant"),
    ] {
        says(text, at, message, hint);
    }
}

#[test]
fn every_problem_is_told_at_once_in_order() {
    let told = told(
        "regio == \"DE\" and incident = \"2\" || (mtls dpop) && ip in net.ofice || 1 < incident < 9 && !\"ghost\" in roles",
    );

    let places: Vec<&str> = told.iter().map(|(at, ..)| &**at).collect();
    assert_eq!(
        places,
        ["regio", "and", "incident = \"2\"", "=", "dpop", "ofice", "<", "\"ghost\""]
    );
}

#[test]
fn a_region_is_refused_without_a_database_and_a_parameter_without_a_pattern() {
    let defined = Defined::shared();
    let vocabulary = Vocabulary { has_regions: false, ..defined.vocabulary() };

    let problems =
        Condition::parse("region == \"DE\" && param.id == \"7\"", &vocabulary, &[]).unwrap_err();

    let said: Vec<String> = problems.iter().map(ToString::to_string).collect();
    assert_eq!(
        said,
        [
            "without a region database `region` is never known; add `[region]` with `database = \"….mmdb\"`",
            "the route's pattern has no `{id}`; the pattern has no `{NAME}`",
        ]
    );
}

#[test]
fn bounds_are_kept_to_the_last_byte_and_level() {
    let defined = Defined::shared();
    let fits = |text: &str| {
        defined.parse(text).map(|_| ()).map_err(|mut problems| problems.remove(0).message)
    };

    let parens = |n| format!("{}mtls{}", "(".repeat(n), ")".repeat(n));
    assert_eq!(fits(&parens(32)), Ok(()));
    assert_eq!(fits(&parens(33)), Err("the condition is nested deeper than 32".to_owned()));
    let marks = |n| format!("{}mtls", "!".repeat(n));
    assert_eq!(fits(&marks(31)), Ok(()));
    assert_eq!(fits(&marks(32)), Err("the condition is nested deeper than 32".to_owned()));
    let parts = |n| vec!["mtls"; n].join("&&");
    assert_eq!(fits(&parts(511)), Ok(()));
    assert_eq!(fits(&parts(512)), Err("the condition has more than 512 parts".to_owned()));
    let list = |n| format!("claims.a in [{}]", vec!["1"; n].join(","));
    assert_eq!(fits(&list(256)), Ok(()));
    assert_eq!(fits(&list(257)), Err("the list has 257 elements, more than 256".to_owned()));
    let long = |n: usize| format!("claims.a == \"{}\"", "x".repeat(n - 14));
    assert_eq!(fits(&long(4096)), Ok(()));
    assert_eq!(fits(&long(4097)), Err("4097 bytes are more than 4096".to_owned()));
    let path = |n| format!("claims{} == 1", ".a".repeat(n));
    assert_eq!(fits(&path(16)), Ok(()));
    assert_eq!(fits(&path(17)), Err("a path to a claim has at most 16 names".to_owned()));
}

#[test]
fn a_message_carries_nothing_that_moves_a_cursor() {
    for text in
        ["\u{1b}[2J == 1", "region == \"\u{202e}x\" && x\u{7}y", "\u{9b}", "claims[\"\u{1b}\"]x"]
    {
        for (_, message, hint) in told(text) {
            assert!(
                !format!("{message}{hint}").contains(enforcer_condition::is_unseen),
                "{message}; {hint}"
            );
        }
    }
}
