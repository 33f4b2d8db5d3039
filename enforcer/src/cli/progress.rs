//! How far long work is, on stderr, and only where somebody watches.

use std::io::IsTerminal;
use std::time::Duration;

use enforcer_admin::Progress;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::{Context, counted};

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

/// How much is left to wait for: a line that changes where somebody watches, else one line for each
/// number, once a second at the most.
#[derive(Debug)]
pub(crate) struct Left {
    what: String,
    bar: Option<ProgressBar>,
    told: Option<(u64, std::time::Instant)>,
}

/// Between two lines where nobody watches.
const LINE_EVERY: Duration = Duration::from_secs(1);

impl Left {
    pub(crate) fn new(what: &str) -> Self {
        let bar = std::io::stderr().is_terminal().then(|| {
            let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr());
            let style = ProgressStyle::with_template("{spinner} {msg}  {elapsed}");
            bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_spinner()));
            bar.enable_steady_tick(Duration::from_millis(100));
            bar
        });
        Self { what: what.to_owned(), bar, told: None }
    }

    /// So many requests are under way.
    pub(crate) fn tell(&mut self, context: &Context, left: u64, now: std::time::Instant) {
        let line = format!("{}: {} under way", self.what, counted(left, "request"));
        if let Some(bar) = &self.bar {
            return bar.set_message(line);
        }
        let is_due = self.told.is_none_or(|(told, at)| {
            told != left && (left == 0 || now.saturating_duration_since(at) >= LINE_EVERY)
        });
        if is_due {
            self.told = Some((left, now));
            context.printer.say(&line);
        }
    }
}

impl Drop for Left {
    /// What is told next stands where the line was.
    fn drop(&mut self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}
