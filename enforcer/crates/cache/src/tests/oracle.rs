//! A second opinion: `http-cache-semantics`, where it and the RFC agree.
//!
//! It is no part of the agent. It takes a directive for another one in the wrong case, splits quoted
//! strings at commas, reads dates by the grammar of mail, knows thirteen statuses, joins the
//! client's tags to its own and makes `Date` anew; see the ADR. Written as the grammar wants them,
//! heads mean the same to both.

use std::time::{Duration, SystemTime};

use http::{HeaderValue, Request, Response};
use http_cache_semantics::{CacheOptions, CachePolicy};
use proptest::prelude::*;

use super::{Ask, Lab, NOW, answer};

proptest! {
    #[test]
    fn plain_heads_are_judged_alike(
        status in prop::sample::select(vec![200_u16, 203, 204, 301, 302, 307, 404, 410]),
        max_age in prop::option::of(0..200_u64),
        s_maxage in prop::option::of(0..200_u64),
        expires in prop::option::of(-100..200_i64),
        flags in prop::sample::subsequence(
            vec!["public", "private", "no-store", "must-revalidate", "x-extension"], 0..3),
        age in prop::option::of(0..150_u64),
        changed in prop::option::of(1..3_000_i64),
        later in 0..300_u64,
    ) {
        let lab = Lab::new();
        let mut directives: Vec<String> = flags.iter().map(|flag| (*flag).to_owned()).collect();
        directives.extend(max_age.map(|age| format!("max-age={age}")));
        directives.extend(s_maxage.map(|age| format!("s-maxage={age}")));
        let mut owned = vec![("date", lab.date(0))];
        if !directives.is_empty() {
            owned.push(("cache-control", directives.join(", ")));
        }
        owned.extend(expires.map(|ahead| ("expires", lab.date(ahead))));
        owned.extend(age.map(|age| ("age", age.to_string())));
        owned.extend(changed.map(|ago| ("last-modified", lab.date(-ago))));
        let fields: Vec<_> = owned.iter().map(|(name, value)| (*name, &**value)).collect();

        let arrived = SystemTime::UNIX_EPOCH + Duration::from_secs(NOW);
        let request = Request::builder().uri("https://api.example/a").body(()).unwrap();
        let mut response = Response::new(());
        *response.status_mut() = http::StatusCode::from_u16(status).unwrap();
        for (name, value) in &fields {
            response.headers_mut().append(*name, HeaderValue::from_str(value).unwrap());
        }
        let policy =
            CachePolicy::new_options(&request, &response, arrived, CacheOptions::default());
        let theirs = policy.is_storable()
            && !policy.is_stale(arrived + Duration::from_secs(later));

        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        let ours = runtime.block_on(async {
            lab.ask(&Ask::get("/a"), |_| answer(status, &fields, "")).await;
            lab.pass(later);
            !lab.ask(&Ask::get("/a"), |_| answer(status, &[], "")).await.is_from_upstream()
        });

        // Theirs guesses a time for answers that say nothing whatever their status is; so do we, but
        // only for those that may be kept without a word (RFC 9111, 4.2.2).
        let says_nothing = max_age.is_none() && s_maxage.is_none() && expires.is_none();
        let guesses = says_nothing && matches!(status, 302 | 307) && !flags.contains(&"public");
        prop_assert!(ours == theirs || (guesses && !ours), "{status} {fields:?} {later}: {ours}");
    }
}
