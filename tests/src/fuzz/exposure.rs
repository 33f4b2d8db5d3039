//! What answers give away, however they come.

use enforcer_inspect::Exposure;
use enforcer_model::Exposed;
use http::header::CONTENT_TYPE;
use http::{HeaderMap, HeaderValue};

/// The length of the parts in the first byte, a body in the rest.
///
/// How a body is split makes no difference, and nothing is found twice.
pub fn exposure(bytes: &[u8]) {
    let [length, body @ ..] = bytes else { return };

    let whole = found(body, body.len().max(1));

    assert_eq!(found(body, usize::from(*length).max(1)), whole);
    let Exposed { secrets, cards, accounts, emails } = whole;
    let room = u32::try_from(body.len()).expect("a body of a test is short");
    // The least that each takes, of which two may share a part.
    for (count, least) in [(secrets, 4), (cards, 14), (accounts, 15), (emails, 5)] {
        assert!(u64::from(count) * least <= u64::from(room) + 1, "{whole:?} in {room} bytes");
    }
}

fn found(body: &[u8], length: usize) -> Exposed {
    let kind = HeaderValue::from_static("text/plain");
    let mut exposure =
        Exposure::of(&HeaderMap::from_iter([(CONTENT_TYPE, kind)])).expect("text is looked at");
    body.chunks(length).for_each(|part| exposure.see(part));
    exposure.end().unwrap_or_default()
}
