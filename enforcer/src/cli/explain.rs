//! `enforcer explain`: what a code or a reason means.

use clap::Args;
use enforcer_model::Reason;

use super::{Context, Exit, Failure};

/// What an error code means and what to do
#[derive(Args, Debug)]
pub(crate) struct Explain {
    /// `E-POL-003`, or a reason for refusal such as `key-unknown`
    code: String,
}

impl Explain {
    pub(crate) fn execute(&self, context: &Context) -> Result<Exit, Failure> {
        let text = self.text().ok_or_else(|| {
            Failure::nothing(format!("no code or reason is called `{}`", self.code))
                .hint("codes stand in brackets behind `error`, reasons in the audit records")
        })?;
        let lines: Vec<_> = text.lines().map(str::to_owned).collect();
        context.printer.item(&serde_json::json!({ "code": self.code, "meaning": text }), &lines)?;
        Ok(Exit::Done)
    }

    fn text(&self) -> Option<String> {
        if let Some(reason) = Reason::from_name(&self.code) {
            let status = reason.status();
            return Some(format!("{reason} (status {status}): {}", reason.meaning()));
        }
        let upper = self.code.to_ascii_uppercase();
        enforcer_policy::explain(&upper).map(|text| format!("{upper}: {text}"))
    }
}
