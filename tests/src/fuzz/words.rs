//! Words that operators type and that come back in records: every one has one spelling.

use std::fmt::{Debug, Display};
use std::str::FromStr;
use std::time::Duration;

use enforcer_audit::Selector;
use enforcer_inspect::{Host, Path};
use enforcer_model::{BlockId, Bytes, Expiry, KeyId, PerSecond, Prefix, Rate, Target, Timestamp};
use enforcer_policy::Percent;

/// A word of any kind.
///
/// What is read as a thing and printed is read as the same thing. A network has no host bits and
/// covers itself; a target selects its own trail; a rate always lets something pass.
pub fn selector(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let selector = kept::<Selector>(text);
    if let Some(prefix) = kept::<Prefix>(text) {
        assert!(prefix.contains(prefix.address()) && prefix.covers(prefix));
        assert_eq!(Prefix::new(prefix.address(), prefix.length()), Ok(prefix));
        assert_eq!(prefix.is_single(), !prefix.to_string().contains('/'));
    }
    if let Some(target) = kept::<Target>(text) {
        assert_eq!(selector.as_ref().map(ToString::to_string), Some(target.to_string()));
    }
    if let Some(id) = kept::<BlockId>(text) {
        assert_eq!(BlockId::from_bits(id.bits()), id);
        assert_eq!(selector, Some(Selector::Block(id)));
    }
    if let Some(rate) = kept::<Rate>(text) {
        assert!(rate.count() > 0 && rate.interval() > Duration::ZERO);
    }
    if let Some(path) = kept::<Path>(text) {
        assert_eq!(path.as_str(), text, "a path is never repaired");
    }
    kept::<Bytes>(text);
    kept::<Host>(text);
    kept::<KeyId>(text);
    kept::<PerSecond>(text);
    kept::<Percent>(text);
    to_the_microsecond::<Expiry>(text);
    to_the_microsecond::<Timestamp>(text);
}

/// The thing that `text` is, if any; printing and reading keep it.
fn kept<T: FromStr + Display + Debug + PartialEq>(text: &str) -> Option<T> {
    let thing: T = text.parse().ok()?;
    assert_eq!(thing.to_string().parse().ok().as_ref(), Some(&thing), "{text:?}");
    Some(thing)
}

/// A time is printed to the microsecond, and from then on it is kept.
fn to_the_microsecond<T: FromStr + Display + Debug + PartialEq>(text: &str) {
    if let Ok(time) = text.parse::<T>() {
        kept::<T>(&time.to_string()).expect("a time that was printed is a time");
    }
}
