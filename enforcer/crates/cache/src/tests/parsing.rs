//! Answers that were chosen by fields of the request (RFC 9111, 4.1).

use super::{Ask, Lab, answer};

/// Whether what a request with `first` brought is used for one with `second`, when it varies on
/// `vary`.
async fn is_same(
    vary: &[&str],
    first: &[(&'static str, &str)],
    second: &[(&'static str, &str)],
) -> bool {
    let lab = Lab::new();
    let ask = |fields: &[(&'static str, &str)]| {
        fields.iter().fold(Ask::get("/a"), |ask, (name, value)| ask.with(name, value))
    };
    let mut fields = vec![("cache-control", "max-age=3600")];
    fields.extend(vary.iter().map(|vary| ("vary", *vary)));
    lab.ask(&ask(first), |_| answer(200, &fields, "")).await;
    !lab.ask(&ask(second), |_| answer(200, &[], "")).await.is_from_upstream()
}

#[tokio::test]
async fn every_field_that_counts_must_be_the_same_and_no_other() {
    for (vary, first, second, expected) in [
        ("foo", vec![("foo", "1")], vec![("foo", "1")], true),
        ("foo", vec![("foo", "1")], vec![("foo", "2")], false),
        ("foo", vec![("foo", "1")], vec![], false),
        ("foo", vec![], vec![("foo", "1")], false),
        ("foo", vec![("foo", "")], vec![], false),
        ("foo", vec![("foo", "1"), ("x", "1")], vec![("foo", "1"), ("x", "2")], true),
        ("FOO , bar,,", vec![("foo", "1"), ("bar", "2")], vec![("bar", "2"), ("foo", "1")], true),
        ("foo, bar", vec![("foo", "1"), ("bar", "2")], vec![("foo", "1"), ("bar", "3")], false),
        ("foo, bar", vec![("foo", "1"), ("bar", "2")], vec![("foo", "12")], false),
        ("foo", vec![("foo", "1, 2")], vec![("foo", "1"), ("foo", "2")], true),
        ("foo", vec![("foo", "1,2")], vec![("foo", "12")], false),
        // What another field may mean by its spaces is not for us to say.
        ("foo", vec![("foo", "1,2")], vec![("foo", "1, 2")], false),
        ("foo", vec![("foo", "a")], vec![("foo", "A")], false),
        ("", vec![("foo", "1")], vec![("foo", "2")], true),
    ] {
        assert_eq!(
            is_same(&[vary], &first, &second).await,
            expected,
            "{vary} {first:?} {second:?}"
        );
    }
}

#[tokio::test]
async fn what_nobody_can_choose_by_is_not_kept() {
    for vary in [
        &["*"][..],
        &["*, *"],
        &["*", "*"],
        &[", *"],
        &["", "*"],
        &["*, foo"],
        &["foo, *"],
        &["foo bar"],
    ] {
        assert!(!is_same(vary, &[("foo", "1")], &[("foo", "1")]).await, "{vary:?}");
    }
    let many: Vec<String> = (0..17).map(|n| format!("x-{n}")).collect();
    assert!(!is_same(&[&many.join(",")], &[], &[]).await, "on so many fields");
    assert!(is_same(&[&many[1..].join(",")], &[], &[]).await);
}

#[tokio::test]
async fn fields_of_negotiation_are_compared_as_the_lists_that_they_are() {
    for (name, first, second, expected) in [
        ("accept-language", "en, de", "eN ,  De", true),
        ("accept-language", "en, de", "de, en", false),
        ("accept-language", "en;q=0.5", "en; q=0.5", true),
        ("accept-encoding", "gzip, br", "br,GZIP", true),
        ("accept-encoding", "gzip, br", "gzip", false),
        ("accept-encoding", "gzip;q=0", "gzip", false),
        ("accept", "text/html, */*", "text/html,*/*", true),
        ("accept", "a/b;x=\"A, b\"", "a/b;x=\"a, b\"", false),
    ] {
        let same = is_same(&[name], &[(name, first)], &[(name, second)]).await;
        assert_eq!(same, expected, "{name}: {first} / {second}");
    }
}

#[tokio::test]
async fn variants_lie_beside_each_other_and_the_oldest_of_too_many_gives_way() {
    let lab = Lab::new();
    let ask = |n: usize| Ask::get("/a").with("foo", &n.to_string());
    let fields = [("cache-control", "max-age=3600"), ("vary", "foo")];
    for n in 0..1_000 {
        lab.ask(&ask(n), |_| answer(200, &fields, "")).await;
    }
    for n in 992..1_000 {
        assert!(!lab.kept(&ask(n)).await.is_from_upstream(), "{n}");
    }
    assert!(lab.ask(&ask(991), |_| answer(200, &[], "")).await.is_from_upstream());
    assert_eq!(lab.cache.stats().entries, 8);
}

#[tokio::test]
async fn no_value_of_a_field_is_kept() {
    let lab = Lab::new();
    let secret = "session=very-secret-value";
    let fields = [("cache-control", "public, max-age=3600"), ("vary", "cookie")];
    lab.ask(&Ask::get("/a").with("cookie", secret), |_| answer(200, &fields, "")).await;

    assert!(!format!("{:?}", lab.cache).contains("very-secret-value"));
    assert!(!lab.kept(&Ask::get("/a").with("cookie", secret)).await.is_from_upstream());
    assert!(
        lab.ask(&Ask::get("/a").with("cookie", "session=x"), |_| answer(200, &[], ""))
            .await
            .is_from_upstream()
    );
}
