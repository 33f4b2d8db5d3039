//! How the demo tells what it does: steps with the time since the beginning, and promises that
//! were held or broken.
//!
//! The number of promises is said beforehand. A story that ends early, or that tells fewer, does
//! not end well: its last line says so and its exit code is not 0.

#![expect(clippy::print_stdout, reason = "telling is what a story is for")]

use std::process::ExitCode;
use std::time::Instant;

use anyhow::{Result, bail};

/// A story with promises in it.
#[derive(Debug)]
pub struct Story {
    begun: Instant,
    planned: u32,
    told: u32,
    held: u32,
}

impl Story {
    /// Begins a story of so many promises.
    pub fn begin(title: &str, planned: u32) -> Self {
        println!("{title}");
        Self { begun: Instant::now(), planned, told: 0, held: 0 }
    }

    /// Begins a part.
    pub fn chapter(&self, title: &str) {
        println!("\n{title}");
    }

    /// Says what happens.
    pub fn step(&self, text: &str) {
        self.say("    ", text);
    }

    /// Tries a promise. `attempt` yields what was seen, or why the promise does not hold; the story
    /// goes on in both cases.
    pub fn promise(&mut self, promise: &str, attempt: impl FnOnce() -> Result<String>) {
        self.told = self.told.saturating_add(1);
        match attempt() {
            Ok(seen) => {
                self.held = self.held.saturating_add(1);
                self.say("held", &with_detail(promise, &seen));
            }
            Err(error) => self.say("LOST", &with_detail(promise, &format!("{error:#}"))),
        }
    }

    /// Ends the story.
    pub fn end(self) -> ExitCode {
        println!("\ndemo: {} of {} promises held", self.held, self.planned);
        if self.is_good() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
    }

    /// Ends the story where it could not go on.
    pub fn break_off(self, error: &anyhow::Error) -> ExitCode {
        self.say("STOP", &format!("{error:#}"));
        println!("\ndemo: {} of {} promises held", self.held, self.planned);
        ExitCode::FAILURE
    }

    const fn is_good(&self) -> bool {
        self.held == self.planned && self.told == self.planned
    }

    fn say(&self, mark: &str, text: &str) {
        let seconds = self.begun.elapsed().as_secs_f64();
        let mut lines = text.lines();
        println!("{seconds:8.3} s  {mark}  {}", lines.next().unwrap_or_default());
        for line in lines {
            println!("                  {line}");
        }
    }
}

fn with_detail(promise: &str, detail: &str) -> String {
    if detail.is_empty() { promise.to_owned() } else { format!("{promise}: {detail}") }
}

/// A promise's usual form: `condition` holds, and `seen` is what was seen either way.
pub fn held_if(condition: bool, seen: String) -> Result<String> {
    if condition { Ok(seen) } else { bail!(seen) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_story_ends_well_only_when_every_planned_promise_was_held() {
        let mut good = Story::begin("good", 1);
        good.promise("one", || held_if(true, "1".to_owned()));
        let mut short = Story::begin("short", 2);
        short.promise("one", || Ok(String::new()));
        let mut broken = Story::begin("broken", 1);
        broken.promise("one", || held_if(false, "0".to_owned()));

        assert!(good.is_good());
        assert!(!short.is_good());
        assert!(!broken.is_good());
    }

    #[test]
    fn more_promises_than_planned_are_a_mistake_of_the_story() {
        let mut story = Story::begin("long", 1);
        story.promise("one", || Ok(String::new()));
        story.promise("two", || Ok(String::new()));

        assert!(!story.is_good());
    }
}
