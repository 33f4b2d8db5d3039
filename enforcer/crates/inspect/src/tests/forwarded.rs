//! Who a request is from, by the word of proxies, and what attackers put in front of that word.

use enforcer_model::{RequestId, Source, SourceBy};
use http::{HeaderMap, HeaderName, HeaderValue};
use proptest::prelude::*;

use crate::{Chain, HOPS_MAX, Walk, forwarding_headers, walk};

const PEER: &str = "10.0.0.5";

#[test]
fn the_first_address_from_the_right_that_is_not_trusted_is_the_source() {
    for (value, source) in [
        ("203.0.113.7", "203.0.113.7"),
        ("203.0.113.7, 10.0.0.4", "203.0.113.7"),
        ("6.6.6.6, 203.0.113.7, 10.0.0.4,10.0.0.3", "203.0.113.7"),
        ("10.0.0.9, 203.0.113.7", "203.0.113.7"),
        ("2001:db8::7", "2001:db8::7"),
        ("[2001:db8::7]:4711", "2001:db8::7"),
        ("203.0.113.7:4711", "203.0.113.7"),
        ("::ffff:203.0.113.7", "203.0.113.7"),
        (" ,, 203.0.113.7 ,\t, ", "203.0.113.7"),
        ("10.0.0.4, 10.0.0.3", "10.0.0.4"),
    ] {
        let walk = walked(&[("x-forwarded-for", value)]).unwrap();

        assert_eq!(walk.source(), at(source), "{value}");
        assert_eq!((walk.by, walk.doubt), (SourceBy::XForwardedFor, None), "{value}");
        assert_eq!(walk.hops.last(), Some(&at(PEER)));
    }
}

#[test]
fn every_form_that_rfc_7239_has_is_understood() {
    for (value, source) in [
        ("for=203.0.113.7", "203.0.113.7"),
        ("For=\"203.0.113.7:4711\"", "203.0.113.7"),
        ("FOR=\"[2001:db8::7]\"", "2001:db8::7"),
        ("for=\"[2001:db8::7]:47011\"", "2001:db8::7"),
        ("for=\"203.0.113.7:_hidden.Port-1\"", "203.0.113.7"),
        ("proto=https;for=203.0.113.7;by=10.0.0.5;host=\"a,b;c\"", "203.0.113.7"),
        (";for=203.0.113.7;", "203.0.113.7"),
        ("for=203.0.113.7 ; by=x", "203.0.113.7"),
        ("for=\"2\\03.0.113.7\"", "203.0.113.7"),
        ("for=6.6.6.6, for=203.0.113.7, for=10.0.0.4", "203.0.113.7"),
        ("for=6.6.6.6,for=203.0.113.7;by=\"a\\\"b,c\"", "203.0.113.7"),
    ] {
        let walk = walked(&[("forwarded", value)]).unwrap();

        assert_eq!(walk.source(), at(source), "{value}");
        assert_eq!((walk.by, walk.doubt), (SourceBy::Forwarded, None), "{value}");
    }
}

#[test]
fn what_is_not_understood_ends_the_walk_at_the_last_good_hop_and_is_told() {
    for (name, value) in [
        ("x-forwarded-for", "203.0.113.7, unknown, 10.0.0.4"),
        ("x-forwarded-for", "203.0.113.7, 10.0.0.256, 10.0.0.4"),
        ("x-forwarded-for", "203.0.113.7, 010.0.0.1, 10.0.0.4"),
        ("x-forwarded-for", "203.0.113.7, 0.0.0.0, 10.0.0.4"),
        ("x-forwarded-for", "203.0.113.7, ff02::1, 10.0.0.4"),
        ("x-forwarded-for", "203.0.113.7, 203.0.113.8:port, 10.0.0.4"),
        ("x-forwarded-for", "203.0.113.7, for=203.0.113.8, 10.0.0.4"),
        ("forwarded", "for=203.0.113.7, for=unknown, for=10.0.0.4"),
        ("forwarded", "for=203.0.113.7, for=_hidden, for=10.0.0.4"),
        ("forwarded", "for=203.0.113.7, for=2001:db8::7, for=10.0.0.4"),
        ("forwarded", "for=203.0.113.7, for=\"2001:db8::7\", for=10.0.0.4"),
        ("forwarded", "for=203.0.113.7, by=203.0.113.8, for=10.0.0.4"),
        ("forwarded", "for=203.0.113.7, for=1.1.1.1;for=2.2.2.2, for=10.0.0.4"),
        ("forwarded", "for=203.0.113.7, for, for=10.0.0.4"),
        ("forwarded", "for=203.0.113.7, for=, for=10.0.0.4"),
        ("forwarded", "for=203.0.113.7, =1.1.1.1, for=10.0.0.4"),
        ("forwarded", "for=203.0.113.7, for=1.1.1.1 by=x, for=10.0.0.4"),
        ("forwarded", "for=203.0.113.7, for=\"1.1.1.1\"x, for=10.0.0.4"),
    ] {
        let walk = walked(&[(name, value)]).unwrap();

        assert_eq!(walk.source(), at("10.0.0.4"), "{value}");
        assert!(walk.doubt.is_some(), "{value}");
        assert_eq!(walk.hops, [at("10.0.0.4"), at(PEER)]);
    }
}

#[test]
fn nothing_that_a_client_put_to_the_left_changes_how_the_right_reads() {
    let honest = "for=203.0.113.7;by=\"[::1]:443\"";
    for spoof in [
        "for=\"",
        "for=\"6.6.6.6",
        "for=6.6.6.6;host=\"a\\\"",
        "\"",
        "\\\"",
        "for=\"a,",
        ",,,",
        "for=10.0.0.4;by=\"",
        "for=\"\\",
        "=\"=\"",
    ] {
        for value in [format!("{spoof},{honest}"), format!("{spoof} , {honest}")] {
            let walk = walked(&[("forwarded", &value)]).unwrap();
            assert_eq!((walk.source(), walk.doubt), (at("203.0.113.7"), None), "{value}");
        }
        let lines = walked(&[("forwarded", spoof), ("forwarded", honest)]).unwrap();
        assert_eq!((lines.source(), lines.doubt), (at("203.0.113.7"), None), "{spoof}");
    }
}

#[test]
fn lines_are_one_list_and_the_last_line_is_its_right_end() {
    let lines = [
        ("x-forwarded-for", "6.6.6.6"),
        ("x-forwarded-for", "203.0.113.7, 10.0.0.3"),
        ("x-forwarded-for", "10.0.0.4"),
    ];

    let walk = walked(&lines).unwrap();

    assert_eq!(walk.hops, ["203.0.113.7", "10.0.0.3", "10.0.0.4", PEER].map(at));
}

#[test]
fn two_fields_that_name_two_clients_are_refused_and_two_that_agree_are_not() {
    let both = |forwarded, listed| {
        let headers = [("forwarded", forwarded), ("x-forwarded-for", listed)];
        walk(&map(&headers), at(PEER), trusted)
    };

    let agreed = both("for=6.6.6.6, for=203.0.113.7", "203.0.113.7, 10.0.0.4").unwrap().unwrap();
    assert_eq!(agreed.source(), at("203.0.113.7"));
    for (forwarded, listed) in
        [("for=6.6.6.6", "203.0.113.7"), ("for=_x", "203.0.113.7"), ("for=203.0.113.7", "?")]
    {
        let refused = both(forwarded, listed).unwrap_err();
        assert!(refused.to_string().contains("203.0.113.7"), "{refused}");
    }
}

#[test]
fn without_a_word_the_peer_is_the_source_and_hops_are_bounded() {
    assert_eq!(walked(&[]), None);
    assert_eq!(walked(&[("x-forwarded-for", " , "), ("forwarded", "")]), None);
    let many = vec!["10.0.0.4"; HOPS_MAX + 9].join(",");
    let walk = walked(&[("x-forwarded-for", &many)]).unwrap();
    assert_eq!(walk.hops.len(), HOPS_MAX);
    assert!(walk.doubt.is_some());
}

#[test]
fn the_upstream_gets_the_chain_that_is_believed_and_nothing_of_what_a_client_put_before_it() {
    let mut headers = map(&[("forwarded", "for=6.6.6.6"), ("x-forwarded-for", "6.6.6.6")]);
    let hops = ["2001:db8::7", "10.0.0.4", PEER].map(at);
    let host = "api.example.com".parse().unwrap();
    let chain = Chain { source: hops[0], hops: &hops, by: Some(SourceBy::Forwarded) };

    crate::strip(&mut headers);
    forwarding_headers(&mut headers, chain, &host, true, RequestId::from_bits(7));

    assert_eq!(headers["x-forwarded-for"], "2001:db8::7, 10.0.0.4, 10.0.0.5");
    assert_eq!(
        headers["forwarded"],
        "for=\"[2001:db8::7]\", for=10.0.0.4, for=10.0.0.5;host=\"api.example.com\";proto=https"
    );
    let again = walk(&headers, at("10.0.0.9"), trusted).unwrap().unwrap();
    assert_eq!(again.source(), hops[0]);
}

proptest! {
    #[test]
    fn whatever_stands_to_the_left_the_honest_end_decides(
        spoof in "[ -~]{0,60}",
        name in prop_oneof![Just("forwarded"), Just("x-forwarded-for")],
    ) {
        let honest = if name == "forwarded" { "for=203.0.113.7" } else { "203.0.113.7" };
        let value = format!("{spoof},{honest}");

        let walk = walked(&[(name, &value)]).unwrap();

        prop_assert_eq!((walk.source(), walk.doubt), (at("203.0.113.7"), None));
    }

    #[test]
    fn any_text_ends_in_a_hop_that_a_trusted_one_named(text in "[ -~]{0,120}") {
        for name in ["forwarded", "x-forwarded-for"] {
            if let Some(walk) = walked(&[(name, &text)]) {
                let (source, before) = walk.hops.split_first().unwrap();
                prop_assert!(before.iter().all(|hop| trusted(*hop)));
                prop_assert!(!source.address().is_unspecified());
                prop_assert!(walk.hops.len() <= HOPS_MAX);
            }
        }
    }
}

fn walked(headers: &[(&'static str, &str)]) -> Option<Walk> {
    walk(&map(headers), at(PEER), trusted).unwrap()
}

fn trusted(source: Source) -> bool {
    source.to_string().starts_with("10.0.0.")
}

fn at(address: &str) -> Source {
    Source::new(address.parse().unwrap())
}

fn map(fields: &[(&'static str, &str)]) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for (name, value) in fields {
        headers.append(HeaderName::from_static(name), HeaderValue::from_str(value).unwrap());
    }
    headers
}
