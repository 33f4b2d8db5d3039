//! How long an answer is used (RFC 9111, 4.2).

use super::{Ask, Lab, answer, ok};

/// Whether an answer with these fields is used again three seconds later.
async fn is_reused(fields: &[(&str, &str)]) -> bool {
    Lab::new().is_reused_after(3, fields).await
}

#[tokio::test]
async fn what_says_how_long_it_is_good_is_good_for_so_long() {
    for (field, seconds, expected) in [
        ("max-age=3600", 3_599, true),
        ("max-age=3600", 3_600, false),
        ("max-age=0", 0, false),
        ("max-age=1, s-maxage=3600", 3, true),
        ("s-maxage=1, max-age=3600", 3, false),
        ("MaX-aGe=3600", 3, true),
        ("max-age=003600", 3, true),
        ("max-age=\"3600\"", 3, true),
        ("max-age=2147483649", 3, true),
        ("max-age=99999999999999999999999999", 3, true),
        ("foobar, max-age=3600", 3, true),
        ("max-age=3600, max-age=3600", 3, true),
        ("max-age=3600, must-revalidate", 3, true),
        ("max-age=2, must-revalidate", 3, false),
    ] {
        let reused = Lab::new().is_reused_after(seconds, &[("cache-control", field)]).await;
        assert_eq!(reused, expected, "{field} after {seconds}");
    }
}

#[tokio::test]
async fn what_cannot_be_read_as_a_number_or_is_said_twice_is_not_fresh() {
    for field in [
        "max-age=-3600",
        "max-age='3600'",
        "max-age=3600.0",
        "max-age=3600a",
        "max-age=a3600",
        "max-age= 3600",
        "max-age =3600",
        "max-age",
        "max-age=",
        "max-age=3600, max-age=7200",
        "extension=\"max-age=3600\", max-age=1",
        "max-age=1, extension=\"max-age=3600\"",
        "extension=\"\\\", max-age=3600\"",
    ] {
        assert!(!is_reused(&[("cache-control", field)]).await, "{field}");
    }
    assert!(
        !is_reused(&[("cache-control", "max-age=7200"), ("cache-control", "max-age=3600")]).await
    );
}

#[tokio::test]
async fn expires_counts_from_date_unless_cache_control_says_more() {
    let lab = Lab::new();
    let at = |ahead| lab.date(ahead);
    let (now, soon, past) = (at(0), at(3_600), at(-3_600));

    for (fields, expected) in [
        (vec![("expires", &*soon), ("date", &*now)], true),
        (vec![("expires", &*past), ("date", &*now)], false),
        (vec![("expires", &*now), ("date", &*now)], false),
        (vec![("expires", &*soon), ("date", "foo")], true),
        (vec![("expires", "0"), ("date", &*now)], false),
        (vec![("expires", &*soon), ("expires", &*soon), ("date", &*now)], false),
        (vec![("expires", &*past), ("cache-control", "max-age=3600")], true),
        (vec![("expires", "0"), ("cache-control", "max-age=3600")], true),
        (vec![("expires", &*soon), ("cache-control", "max-age=0")], false),
        (vec![("expires", &*past), ("cache-control", "max-age=0, s-maxage=3600")], true),
    ] {
        assert_eq!(is_reused(&fields).await, expected, "{fields:?}");
    }
    // Both clocks of the upstream are ahead alike: it is the difference that counts.
    let (ahead, before) = (at(400), at(300));
    assert!(!is_reused(&[("expires", &before), ("date", &ahead)]).await);
}

#[tokio::test]
async fn an_answer_is_as_old_as_age_and_date_say_at_least() {
    let lab = Lab::new();
    let old = lab.date(-7_200);

    for (age, expected) in [
        ("7200", false),
        ("2147483648", false),
        ("99999999999999999999999", false),
        ("7200, 0", false),
        ("0, 7200", true),
        ("abc", true),
        ("-7200", true),
        ("7200.0", true),
        ("0, 0", true),
    ] {
        let fields = [("cache-control", "max-age=3600"), ("age", age)];
        assert_eq!(is_reused(&fields).await, expected, "{age}");
    }
    let fields = [("cache-control", "max-age=3600"), ("age", "7200"), ("age", "0")];
    assert!(!is_reused(&fields).await, "the first line counts");
    assert!(!is_reused(&[("cache-control", "max-age=3600"), ("date", &old)]).await);
}

#[tokio::test]
async fn age_grows_by_the_time_it_lies_here_and_date_stays() {
    let lab = Lab::new();
    let date = lab.date(0);
    let fields = [("cache-control", "max-age=3600"), ("age", "30"), ("date", &*date)];
    lab.ask(&Ask::get("/a"), |_| ok(&fields)).await;

    lab.pass(3);
    let got = lab.kept(&Ask::get("/a")).await;

    assert_eq!((got.field("age"), got.field("date")), ("33".to_owned(), date));
    assert_eq!(got.field("cache-status"), "enforcer; hit; ttl=3567");
}

#[tokio::test]
async fn without_a_date_an_answer_has_the_one_of_its_arrival() {
    let lab = Lab::new();
    let arrived = lab.date(0);
    lab.ask(&Ask::get("/a"), |_| super::fresh("x")).await;

    lab.pass(10);
    let got = lab.kept(&Ask::get("/a")).await;

    assert_eq!(got.field("date"), arrived);
}

#[tokio::test]
async fn what_did_not_change_for_long_is_good_for_a_tenth_of_that_where_the_status_allows_it() {
    let lab = Lab::new();
    let (now, day, eon) = (lab.date(0), lab.date(-86_400), lab.date(-864_000_000));

    for (status, expected) in [
        (200, true),
        (201, false),
        (202, false),
        (203, true),
        (204, true),
        (302, false),
        (403, false),
        (404, true),
        (405, true),
        (410, true),
        (414, true),
        (500, false),
        (501, true),
        (502, false),
        (503, false),
        (504, false),
        (599, false),
    ] {
        for (fields, expected) in [
            (vec![("last-modified", &*day), ("date", &*now)], expected),
            (vec![("last-modified", &*day), ("date", &*now), ("cache-control", "public")], true),
            (vec![("last-modified", &*day), ("date", &*now), ("pragma", "no-cache")], false),
        ] {
            let lab = Lab::new();
            lab.ask(&Ask::get("/a"), |_| answer(status, &fields, "")).await;
            lab.pass(8_639);
            let got = lab.ask(&Ask::get("/a"), |_| answer(status, &[], "")).await;
            assert_eq!(!got.is_from_upstream(), expected, "{status} {fields:?}");
        }
    }
    let fields = [("last-modified", &*eon), ("date", &*now)];
    assert!(Lab::new().is_reused_after(86_399, &fields).await);
    assert!(!Lab::new().is_reused_after(86_401, &fields).await, "a day at most");
    assert!(!Lab::new().is_reused_after(8_641, &[("last-modified", &day), ("date", &now)]).await);
}

#[tokio::test]
async fn what_is_said_to_gateways_stands_for_the_rest() {
    let past = Lab::new().date(-3_600);

    for (told, others, expected) in [
        ("max-age=3600", vec![], true),
        ("max-age=99999999999", vec![], true),
        ("max-age=0", vec![("cache-control", "max-age=3600")], false),
        ("max-age=1", vec![("cache-control", "max-age=3600")], false),
        ("max-age=3600", vec![("cache-control", "max-age=1")], true),
        ("max-age=3600", vec![("cache-control", "no-store")], true),
        ("max-age=3600", vec![("expires", &*past)], true),
        ("max-age=3600", vec![("age", "7200")], false),
        ("private", vec![("cache-control", "max-age=3600")], false),
        ("no-cache", vec![("cache-control", "max-age=3600")], false),
        ("no-store", vec![("cache-control", "max-age=3600")], false),
        ("no-store=1", vec![("cache-control", "max-age=3600")], false),
        ("foobar, max-age=3600", vec![], true),
        // Malformed: as if it was not there.
        ("max-age=10000, &&&&&", vec![("cache-control", "no-store")], false),
        ("max-age=10000, &&&&&", vec![("cache-control", "max-age=3600")], true),
        ("max-age =3600", vec![("cache-control", "max-age=1")], false),
        ("", vec![("cache-control", "max-age=3600")], true),
        // Of the wrong kind: no number.
        ("max-age=\"10000\"", vec![("cache-control", "max-age=3600")], false),
    ] {
        let mut fields = vec![("cdn-cache-control", told)];
        fields.extend(others);
        assert_eq!(is_reused(&fields).await, expected, "{fields:?}");
    }
}
