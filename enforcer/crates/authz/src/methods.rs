//! Sets of HTTP methods, compared byte for byte (RFC 9110 section 9.1).
//!
//! `get` is not `GET`, and `HEAD` is not implied by `GET`. The methods that everybody knows are bits;
//! a request's method is looked at once, and each rule costs one instruction.

use std::fmt;

use http::Method;

/// A set of methods.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Methods {
    bits: u16,
    others: Box<[Method]>,
}

/// A request's method, ready to be asked for in many sets.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Asked<'a> {
    bit: u16,
    method: &'a Method,
}

const KNOWN: [Method; 9] = [
    Method::GET,
    Method::HEAD,
    Method::POST,
    Method::PUT,
    Method::PATCH,
    Method::DELETE,
    Method::OPTIONS,
    Method::CONNECT,
    Method::TRACE,
];

const ANY: u16 = u16::MAX;

/// Stands for every method that has no bit of its own; only [`Methods::any`] has it.
const OTHER: u16 = 1 << 15;

impl Methods {
    /// Every method.
    pub fn any() -> Self {
        Self { bits: ANY, others: Box::default() }
    }

    /// Whether it is the set of every method.
    pub const fn is_any(&self) -> bool {
        self.bits == ANY
    }

    /// Whether `method` is in the set.
    pub fn contains(&self, method: &Method) -> bool {
        self.has(Asked::new(method))
    }

    /// The methods that it lists, in a fixed order; none for the set of every method.
    pub fn iter(&self) -> impl Iterator<Item = &Method> {
        let listed = !self.is_any();
        let known = KNOWN.iter().filter(move |known| listed && self.bits & bit(known) != 0);
        known.chain(&self.others)
    }

    #[inline]
    pub(crate) fn has(&self, asked: Asked<'_>) -> bool {
        self.bits & asked.bit != 0 || (asked.bit == OTHER && self.others.contains(asked.method))
    }
}

impl<'a> Asked<'a> {
    #[inline]
    pub(crate) fn new(method: &'a Method) -> Self {
        Self { bit: bit(method), method }
    }
}

#[inline]
fn bit(method: &Method) -> u16 {
    match *method {
        Method::GET => 1,
        Method::HEAD => 1 << 1,
        Method::POST => 1 << 2,
        Method::PUT => 1 << 3,
        Method::PATCH => 1 << 4,
        Method::DELETE => 1 << 5,
        Method::OPTIONS => 1 << 6,
        Method::CONNECT => 1 << 7,
        Method::TRACE => 1 << 8,
        _ => OTHER,
    }
}

/// Exactly these; none of them means no method at all.
impl FromIterator<Method> for Methods {
    fn from_iter<I: IntoIterator<Item = Method>>(methods: I) -> Self {
        let mut bits = 0;
        let mut others: Vec<Method> = Vec::new();
        for method in methods {
            match bit(&method) {
                OTHER if others.contains(&method) => {}
                OTHER => others.push(method),
                bit => bits |= bit,
            }
        }
        Self { bits, others: others.into() }
    }
}

impl fmt::Display for Methods {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_any() {
            return f.write_str("any method");
        }
        self.iter().enumerate().try_for_each(|(n, method)| {
            let comma = if n == 0 { "" } else { ", " };
            write!(f, "{comma}{method}")
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn head_is_not_implied_and_lower_case_is_another_method() {
        let get: Methods = [Method::GET].into_iter().collect();

        assert!(get.contains(&Method::GET));
        assert!(!get.contains(&Method::HEAD));
        assert!(!get.contains(&method("get")));
    }

    #[test]
    fn a_set_holds_what_it_was_made_of_and_nothing_else() {
        let listed = [Method::DELETE, method("REPORT"), Method::DELETE, method("get")];

        let set: Methods = listed.iter().cloned().collect();

        for asked in KNOWN.into_iter().chain(["REPORT", "get", "REPORTS"].map(method)) {
            assert_eq!(set.contains(&asked), listed.contains(&asked), "{asked}");
            assert!(Methods::any().contains(&asked));
            assert!(!Methods::from_iter([]).contains(&asked));
        }
        assert_eq!(set.to_string(), "DELETE, REPORT, get");
        assert_eq!(Methods::any().to_string(), "any method");
    }

    #[test]
    fn listing_every_known_method_is_not_any_method() {
        let all: Methods = KNOWN.into_iter().collect();

        assert!(!all.is_any() && !all.contains(&method("REPORT")));
        assert_eq!(all.iter().count(), 9);
    }

    fn method(name: &str) -> Method {
        Method::from_bytes(name.as_bytes()).unwrap()
    }
}
