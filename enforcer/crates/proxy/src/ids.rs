//! Random names for requests, drawn from the system in handfuls.

use std::cell::RefCell;

use enforcer_model::RequestId;
use ring::rand::{SecureRandom, SystemRandom};

/// Names from one call to the system.
const HANDFUL: usize = 256;

/// Makes names; one per thread.
pub(crate) struct Ids {
    system: SystemRandom,
    ready: RefCell<Vec<u128>>,
    last: RefCell<u128>,
}

impl Ids {
    pub(crate) fn new() -> Self {
        Self { system: SystemRandom::new(), ready: RefCell::default(), last: RefCell::default() }
    }

    /// A name that no other request has.
    ///
    /// A name is for finding a request, not for guarding anything: should the system have no
    /// randomness, names go on by counting.
    pub(crate) fn next(&self) -> RequestId {
        let mut ready = self.ready.borrow_mut();
        if ready.is_empty() {
            let mut bytes = [[0; 16]; HANDFUL];
            if self.system.fill(bytes.as_flattened_mut()).is_ok() {
                ready.extend(bytes.map(u128::from_le_bytes));
            }
        }
        let mut last = self.last.borrow_mut();
        *last = ready.pop().unwrap_or_else(|| last.wrapping_add(1));
        RequestId::from_bits(*last)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn no_two_names_are_alike() {
        let ids = Ids::new();

        let names: HashSet<_> = (0..3 * HANDFUL).map(|_| ids.next()).collect();

        assert_eq!(names.len(), 3 * HANDFUL);
    }
}
