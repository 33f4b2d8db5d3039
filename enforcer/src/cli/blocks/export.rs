//! `enforcer blocks export`: the networks that are blocked, as `blocks import` takes them.
//!
//! A million of them come by the page and are printed as they come. What changes meanwhile may be in
//! or not; what does not change is in, once.

use clap::Args;
use enforcer_admin::call::{Exported, ListName};
use enforcer_admin::{Answer, Call};
use enforcer_model::Prefix;

use crate::cli::{Context, Exit, Failure, Format, Printed, mismatched};

/// Print the networks that are blocked, as `import` takes them
#[derive(Args, Debug)]
pub(crate) struct Export {
    /// Those of one list; by default those of every list and every single block
    #[arg(long, value_name = "NAME")]
    list: Option<ListName>,
}

impl Export {
    pub(super) fn execute(&self, context: &Context) -> Result<Exit, Failure> {
        let mut after = None;
        let mut form = Form::of(context.printer.format());
        let mut count = 0u64;
        loop {
            let call = Call::Export { list: self.list.clone(), after };
            let Answer::Exported(Exported { networks, next, .. }) = context.ask(&call)? else {
                return Err(mismatched());
            };
            count += u64::try_from(networks.0.len()).unwrap_or(u64::MAX);
            let lines = form.lines(&networks.0, next.is_none());
            if context.printer.text(&lines)? == Printed::ReaderGone {
                return Ok(Exit::Done);
            }
            // A page that leads to itself would never end.
            if next.is_none() || next == after {
                break;
            }
            after = next;
        }
        if count == 0 && !context.printer.is_for_programs() {
            context.printer.say("no network is blocked");
        }
        Ok(Exit::Done)
    }
}

/// How one network after the other is written.
#[derive(Debug)]
enum Form {
    Plain,
    Jsonl,
    /// What stands before the next one.
    Json(&'static str),
    /// Whether any has been written.
    Yaml(bool),
}

impl Form {
    const fn of(format: Format) -> Self {
        match format {
            Format::Auto | Format::Plain | Format::Table => Self::Plain,
            Format::Jsonl => Self::Jsonl,
            Format::Json => Self::Json("["),
            Format::Yaml => Self::Yaml(false),
        }
    }

    fn lines(&mut self, networks: &[Prefix], is_last: bool) -> Vec<String> {
        let mut lines: Vec<_> = networks.iter().map(|network| self.line(*network)).collect();
        match self {
            Self::Plain | Self::Jsonl => {}
            Self::Json(before) => {
                let end = if *before == "[" { "[]" } else { "\n]" };
                if is_last {
                    lines.push(end.trim_start().to_owned());
                }
            }
            Self::Yaml(written) => {
                if is_last && !*written {
                    lines.push("[]".to_owned());
                }
            }
        }
        lines
    }

    /// A list in JSON has its comma at the beginning of a line: who comes next is not known yet.
    fn line(&mut self, network: Prefix) -> String {
        match self {
            Self::Plain => network.to_string(),
            Self::Jsonl => format!("{{\"network\":\"{network}\"}}"),
            Self::Json(before) => {
                let before = std::mem::replace(before, ",");
                format!("{before} {{\"network\":\"{network}\"}}")
            }
            Self::Yaml(written) => {
                *written = true;
                format!("- network: '{network}'")
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use enforcer_admin::networks_file::{HostBits, read_networks};

    use super::*;

    #[test]
    fn what_is_exported_in_pages_can_be_imported_again_in_each_form() {
        let networks: Vec<Prefix> =
            ["10.0.0.0/8", "192.0.2.1", "2001:db8::/32"].map(|text| text.parse().unwrap()).to_vec();
        for format in [Format::Plain, Format::Auto, Format::Jsonl, Format::Json] {
            let mut form = Form::of(format);
            let mut lines = form.lines(&networks[..2], false);
            lines.extend(form.lines(&networks[2..], true));

            let text = lines.join("\n");

            let read = read_networks(text.as_bytes(), HostBits::Refuse, &mut |_| ()).unwrap();
            assert_eq!(read, networks, "{text}");
        }
    }

    #[test]
    fn an_export_is_a_document_even_when_it_is_empty() {
        let whole = |format, networks: &[Prefix]| Form::of(format).lines(networks, true).join("\n");
        let one = ["2001:db8::/32".parse().unwrap()];

        assert_eq!(whole(Format::Json, &[]), "[]");
        assert_eq!(whole(Format::Yaml, &[]), "[]");
        assert_eq!(whole(Format::Plain, &[]), "");
        let json: serde_json::Value = serde_json::from_str(&whole(Format::Json, &one)).unwrap();
        let yaml: serde_json::Value = serde_yaml_ng::from_str(&whole(Format::Yaml, &one)).unwrap();
        assert_eq!(json, yaml);
        assert_eq!(json[0]["network"], "2001:db8::/32");
    }
}
