//! How far long work is, on stderr, and only where somebody watches.

use std::io::IsTerminal;
use std::time::Duration;

use enforcer_admin::Progress;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

/// One bar that goes from step to step: reading, sending, applying.
#[derive(Debug)]
pub(crate) struct Steps {
    bar: ProgressBar,
}

const MEASURED: &str = "{msg:<9} {bar:40} {bytes}/{total_bytes}";
const UNMEASURED: &str = "{msg:<9} {spinner} {bytes}";
const WAITING: &str = "{msg:<9} {spinner} {elapsed}";

impl Steps {
    pub(crate) fn new() -> Self {
        let bar = if std::io::stderr().is_terminal() {
            ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr())
        } else {
            ProgressBar::hidden()
        };
        Self { bar }
    }

    /// So many bytes are read, of so many where that is known.
    pub(crate) fn read(&mut self, bytes: u64, of: Option<u64>) {
        self.show("reading", bytes, of);
    }

    /// So many of the bytes that were read are understood.
    pub(crate) fn parsed(&mut self, bytes: usize, of: usize) {
        let number = |count: usize| u64::try_from(count).unwrap_or(u64::MAX);
        self.show("checking", number(bytes), Some(number(of)));
    }

    /// So far is the call.
    pub(crate) fn call(&mut self, progress: Progress) {
        match progress {
            Progress::Sent { bytes, of } => self.show("sending", bytes, Some(of)),
            Progress::Waiting => {
                self.style(WAITING);
                self.bar.set_message("applying");
                self.bar.reset_elapsed();
                self.bar.enable_steady_tick(Duration::from_millis(100));
            }
        }
    }

    fn show(&self, step: &'static str, bytes: u64, of: Option<u64>) {
        if self.bar.message() != step {
            self.style(if of.is_some() { MEASURED } else { UNMEASURED });
            self.bar.set_message(step);
        }
        if let Some(of) = of {
            self.bar.set_length(of.max(bytes));
        }
        self.bar.set_position(bytes);
    }

    fn style(&self, template: &str) {
        let style = ProgressStyle::with_template(template);
        self.bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
    }
}

impl Drop for Steps {
    /// What is told next stands where the bar was.
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}
