//! What can arise at all: who can call, which requests lead to a route, which hours there are.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;
use std::sync::Arc;

use enforcer_authz::{Grant, Roles, Time};
use enforcer_inspect::Path;
use enforcer_model::{Role, Timestamp};

use crate::routing::Pattern;

/// The callers that a policy knows.
#[derive(Clone, Debug)]
pub(crate) struct World<'a> {
    pub(crate) roles: &'a Roles,
    pub(crate) issuers: Vec<Issuer>,
    /// By role; looked up once, for questions ask about the same roles again and again.
    givers: BTreeMap<&'a Role, Vec<(&'a Role, &'a Grant)>>,
}

impl<'a> World<'a> {
    pub(crate) fn new(roles: &'a Roles, issuers: Vec<Issuer>) -> Self {
        let givers = roles.iter().map(|role| {
            let satisfying = roles.satisfying(role).into_iter().flatten();
            let grants = |giving| roles.grants(giving).iter().map(move |grant| (giving, grant));
            (role, satisfying.flat_map(grants).collect())
        });
        Self { roles, issuers, givers: givers.collect() }
    }

    /// What gives `role`, or a role that includes it, each with the role that is given.
    pub(crate) fn givers(&self, role: &Role) -> &[(&'a Role, &'a Grant)] {
        self.givers.get(role).map(AsRef::as_ref).unwrap_or_default()
    }
}

/// One `[issuer]`.
#[derive(Clone, Debug)]
pub(crate) struct Issuer {
    pub(crate) name: Arc<str>,
    pub(crate) values: Values,
}

/// Where the role values of an issuer's tokens stand.
#[derive(Clone, Debug)]
pub(crate) enum Values {
    /// They are the scopes.
    Scopes,
    /// At this path of claims.
    Claim(Vec<Arc<str>>),
}

/// Which requests a question is about: those that a route's pattern takes.
#[derive(Clone, Debug)]
pub(crate) struct Place {
    pub(crate) pattern: Pattern,
    /// How many segments the longest pattern of the policy has: a `{**}` is tried up to there.
    pub(crate) depth: usize,
    /// Hosts and segments that patterns of the policy write out, decoded.
    pub(crate) literals: Rc<BTreeSet<String>>,
    pub(crate) hours: Rc<HoursSeen>,
}

/// Moments by the windows that they are for: many routes read the same ones.
#[derive(Debug, Default)]
pub(crate) struct HoursSeen(RefCell<Vec<(Vec<Time>, Moments)>>);

/// Moments, each with what the windows say of it.
pub(crate) type Moments = Rc<[(Timestamp, Vec<bool>)]>;

impl HoursSeen {
    /// [`moments`] of `windows`, which are searched once.
    pub(crate) fn of(&self, windows: &[Time]) -> Moments {
        let known = |seen: &[(Vec<Time>, Moments)]| {
            let found = seen.iter().find(|(known, _)| known == windows);
            found.map(|(_, moments)| Rc::clone(moments))
        };
        if let Some(moments) = known(&self.0.borrow()) {
            return moments;
        }
        let found: Moments = moments(&windows.iter().collect::<Vec<_>>()).into();
        self.0.borrow_mut().push((windows.to_vec(), Rc::clone(&found)));
        found
    }
}

/// The deepest path that is tried below a `{**}`.
pub(crate) const DEPTH_MAX: usize = 12;

/// More windows than this are not told apart; the questions that need it stay open.
pub(crate) const WINDOWS_MAX: usize = 32;

/// What `text`, a part of a path in its folded form, reads as once it is decoded.
pub(crate) fn decoded(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut pieces = text.split('%');
    bytes.extend_from_slice(pieces.next().unwrap_or_default().as_bytes());
    for piece in pieces {
        let (digits, rest) = piece.split_at_checked(2)?;
        bytes.push(u8::from_str_radix(digits, 16).ok()?);
        bytes.extend_from_slice(rest.as_bytes());
    }
    String::from_utf8(bytes).ok()
}

/// `text` as one or more segments of a path, escaped where it must be.
pub(crate) fn encoded(text: &str) -> String {
    let mut path = String::with_capacity(text.len());
    for byte in text.bytes() {
        let plain = byte.is_ascii_alphanumeric()
            || matches!(byte, b'-' | b'.' | b'_' | b'~' | b'!' | b'$' | b'&' | b'\'' | b'(' | b')')
            || matches!(byte, b'*' | b'+' | b',' | b'=' | b':' | b'@' | b'/');
        if plain { path.push(byte.into()) } else { path.push_str(&format!("%{byte:02X}")) }
    }
    path
}

/// Whether `text` can stand for one segment of a path.
pub(crate) fn is_segment(text: &str) -> bool {
    !text.is_empty() && !text.contains('/') && is_rest(text)
}

/// Whether `text` can stand for the rest of a path.
pub(crate) fn is_rest(text: &str) -> bool {
    text.is_empty()
        || (!text.starts_with('/')
            && !text.ends_with('/')
            && format!("/{}", encoded(text)).parse::<Path>().is_ok())
}

/// Moments that stand for all moments: one for each answer that the windows can give together.
///
/// Windows repeat every week, and offsets of clocks are multiples of a quarter of an hour, so answers
/// change only at a border of a window moved by some quarters. Four weeks are searched, in which the
/// clocks of all hemispheres and both sides of the Atlantic stand in every way to each other.
pub(crate) fn moments(windows: &[&Time]) -> Vec<(Timestamp, Vec<bool>)> {
    let mut borders: BTreeSet<u16> = BTreeSet::from([10 * 60 % QUARTER]);
    for time in windows {
        let hours = time.window.hours();
        borders.extend([hours.from_minute() % QUARTER, hours.to_minute() % QUARTER]);
    }
    let mut found: Vec<(Timestamp, Vec<bool>)> = Vec::new();
    let mut seen = BTreeSet::new();
    for day in WEEKS.into_iter().flat_map(|monday| (0..7).map(move |n| monday + n * DAY)) {
        // From the middle of the day on, so that a sample is a time at which people work.
        for step in 0..u64::from(DAY_MINUTES / QUARTER) {
            let quarter = (step + 40) % u64::from(DAY_MINUTES / QUARTER);
            for border in &borders {
                let minute = quarter * u64::from(QUARTER) + u64::from(*border);
                let moment = Timestamp::from_unix_seconds(day + minute * 60);
                let answers: Vec<bool> =
                    windows.iter().map(|time| time.window.is_open(moment)).collect();
                if !seen.contains(&answers) {
                    seen.insert(answers.clone());
                    found.push((moment, answers));
                }
            }
        }
    }
    found
}

const QUARTER: u16 = 15;
const DAY_MINUTES: u16 = 24 * 60;
const DAY: u64 = 86_400;

/// 2026-07-06, 2026-01-05, 2026-03-16 and 2026-03-30: Mondays, at midnight in UTC.
const WEEKS: [u64; 4] = [1_783_296_000, 1_767_571_200, 1_773_619_200, 1_774_828_800];

#[cfg(test)]
mod tests {
    use enforcer_authz::Window;

    use super::*;

    #[test]
    fn windows_that_exclude_each_other_are_never_open_together() {
        let work = hours("mon-fri", "08:00-18:00", "Europe/Berlin");
        let weekend = hours("sat,sun", "00:00-24:00", "Europe/Berlin");
        let odd = hours("mon", "09:07-09:08", "UTC");

        let found = moments(&[&work, &weekend, &odd]);

        let answers: BTreeSet<Vec<bool>> = found.iter().map(|(_, open)| open.clone()).collect();
        let expected = [
            vec![false, false, false],
            vec![false, true, false],
            vec![true, false, false],
            vec![true, false, true],
        ];
        assert_eq!(answers, expected.into());
    }

    #[test]
    fn windows_of_two_zones_meet_as_clocks_do_in_summer_and_winter() {
        let berlin = hours("mon-sun", "12:00-13:00", "Europe/Berlin");
        let ten = hours("mon-sun", "10:00-11:00", "UTC");
        let eleven = hours("mon-sun", "11:00-12:00", "UTC");

        let found = moments(&[&berlin, &ten, &eleven]);

        for wanted in [[true, true, false], [true, false, true], [false, true, false]] {
            assert!(found.iter().any(|(_, open)| *open == wanted), "{wanted:?}");
        }
        assert!(!found.iter().any(|(_, open)| *open == [true, false, false]));
    }

    fn hours(days: &str, hours: &str, zone: &str) -> Time {
        let window = Window::new(days.parse().unwrap(), hours.parse().unwrap(), zone).unwrap();
        Time { name: days.into(), window: Arc::new(window) }
    }
}
