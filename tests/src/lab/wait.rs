//! Waiting for something to become true, with an end.

use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};

/// How long anything in the lab may take before it counts as not happening.
pub const DEADLINE: Duration = Duration::from_secs(10);

/// How often a condition is looked at.
const PAUSE: Duration = Duration::from_millis(2);

/// Looks until `condition` yields something, and returns it.
pub fn wait_for<T>(
    what: &str,
    deadline: Duration,
    mut condition: impl FnMut() -> Option<T>,
) -> Result<T> {
    let begun = Instant::now();
    loop {
        if let Some(found) = condition() {
            return Ok(found);
        }
        if begun.elapsed() >= deadline {
            bail!("{what}: not within {deadline:?}");
        }
        thread::sleep(PAUSE);
    }
}

/// Looks until `condition` holds.
pub fn wait_until(
    what: &str,
    deadline: Duration,
    mut condition: impl FnMut() -> bool,
) -> Result<()> {
    wait_for(what, deadline, || condition().then_some(()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_becomes_true_ends_the_wait_and_what_does_not_is_named() {
        let mut looks = 0;
        let found = wait_for("three looks", DEADLINE, || {
            looks += 1;
            (looks == 3).then_some(looks)
        });
        let missed = wait_until("the end of time", Duration::from_millis(5), || false);

        assert_eq!(found.unwrap(), 3);
        assert_eq!(missed.unwrap_err().to_string(), "the end of time: not within 5ms");
    }
}
