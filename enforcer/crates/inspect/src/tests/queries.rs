//! Keys of a query that a policy reads.

use enforcer_model::{Reason, Rejection};
use proptest::prelude::*;

use crate::query_values;

#[test]
fn a_key_says_one_thing_decoded() {
    for (query, value) in [
        ("tenant=acme", Some("acme")),
        ("a=b&tenant=acme&c", Some("acme")),
        ("tenant=a%20b%c3%a4", Some("a b\u{e4}")),
        ("tenant=a+b", Some("a b")),
        ("%74enant=acme", Some("acme")),
        ("tenant", Some("")),
        ("tenant=", Some("")),
        ("tenant=a=b", Some("a=b")),
        ("tenants=acme", None),
        ("xtenant=acme", None),
        ("a=tenant", None),
        ("", None),
    ] {
        let values = query_values(Some(query), &["tenant"]).unwrap();

        assert_eq!(values.first().map(|(_, value)| &**value), value, "{query}");
    }
    assert_eq!(query_values(None, &["tenant"]).unwrap(), []);
    let two = query_values(Some("b=2&a=1"), &["a", "b"]).unwrap();
    assert_eq!(two, [("a".into(), "1".into()), ("b".into(), "2".into())]);
}

#[test]
fn a_key_that_can_be_read_in_two_ways_is_refused() {
    for query in [
        "tenant=a&tenant=a",
        "tenant=a&tenant=b",
        "tenant=a&%74enant=b",
        "tenant=a&TENANT=b",
        "TENANT=a",
        "tenant[]=a",
        "tenant=a&tenant[0]=b",
        "tenant%00=a",
        "+tenant=a",
        "x=1;tenant=a",
        "tenant=a;x=1",
        "tenant=a;tenant=b",
    ] {
        let refused = Rejection::from(query_values(Some(query), &["tenant"]).unwrap_err());

        assert_eq!(refused.reason, Reason::QueryDuplicate, "{query}");
    }
    for query in ["tenant=%zz", "tenant=%4", "tenant=%ff", "tenant=a%00", "tenant=a%0ab"] {
        let refused = Rejection::from(query_values(Some(query), &["tenant"]).unwrap_err());

        assert_eq!(refused.reason, Reason::PathMalformed, "{query}");
    }
    // What no policy reads is nobody's business.
    assert_eq!(query_values::<&str>(Some("tenant=a&tenant=%zz"), &[]).unwrap(), []);
}

proptest! {
    /// However a query is put together, what is read is what a second, plain reader reads.
    #[test]
    fn a_value_is_the_one_that_everybody_reads(query in "[a-cA-C=&;%+0-2]{0,24}") {
        if let Ok(values) = query_values(Some(&query), &["a"]) {
            let plain: Vec<&str> = query
                .split('&')
                .filter(|pair| pair.split('=').next() == Some("a"))
                .collect();
            prop_assert!(plain.len() <= 1);
            if let (Some(pair), Some((_, value))) = (plain.first(), values.first()) {
                let raw = pair.split_once('=').map_or("", |(_, value)| value);
                if !raw.contains(['%', '+']) {
                    prop_assert_eq!(raw, &**value);
                }
            }
        }
    }
}
