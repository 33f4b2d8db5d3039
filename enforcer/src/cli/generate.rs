//! Everything that is written from the program itself: completions, man pages, references.

use std::fs;
use std::path::{Path, PathBuf};

use clap::{Args, Command};
use clap_complete::Shell;
use enforcer_model::Reason;

use super::explain::packet_meaning;
use super::{Context, Exit, Failure};

/// Shell completions for bash, zsh, fish, …
#[derive(Args, Debug)]
pub(crate) struct Completions {
    /// For which shell
    shell: Shell,
}

/// Writes the policy's schema, the CLI reference, man pages and the table of reasons
#[derive(Args, Debug)]
pub(crate) struct Generate {
    /// Into this folder
    folder: PathBuf,
}

impl Completions {
    pub(crate) fn execute(&self, context: &Context) -> Result<Exit, Failure> {
        let mut script = Vec::new();
        clap_complete::generate(self.shell, &mut super::command(), "enforcer", &mut script);
        context.printer.data(String::from_utf8_lossy(&script).trim_end())?;
        Ok(Exit::Done)
    }
}

impl Generate {
    pub(crate) fn execute(&self, _: &Context) -> Result<Exit, Failure> {
        let mut command = super::command().version(env!("CARGO_PKG_VERSION")).term_width(100);
        command.build();
        self.write(Path::new("policy.schema.json"), enforcer_policy::schema().as_bytes())?;
        self.write(Path::new("cli.md"), reference(&command).as_bytes())?;
        self.write(Path::new("reasons.md"), reasons().as_bytes())?;
        self.man(&command, "enforcer")?;
        Ok(Exit::Done)
    }

    fn man(&self, command: &Command, name: &str) -> Result<(), Failure> {
        let mut page = Vec::new();
        let titled = command.clone().name(name.to_owned()).display_name(name);
        clap_mangen::Man::new(titled)
            .render(&mut page)
            .map_err(|error| Failure::failed(format!("cannot render {name}: {error}")))?;
        self.write(&Path::new("man").join(format!("{name}.1")), &page)?;
        for verb in visible(command) {
            self.man(verb, &format!("{name}-{}", verb.get_name()))?;
        }
        Ok(())
    }

    fn write(&self, name: &Path, content: &[u8]) -> Result<(), Failure> {
        let path = self.folder.join(name);
        let written = path.parent().map_or(Ok(()), fs::create_dir_all);
        written
            .and_then(|()| fs::write(&path, content))
            .map_err(|error| Failure::failed(format!("cannot write {}: {error}", path.display())))
    }
}

fn visible(command: &Command) -> impl Iterator<Item = &Command> {
    command.get_subcommands().filter(|verb| !verb.is_hide_set() && verb.get_name() != "help")
}

fn reference(command: &Command) -> String {
    let mut text =
        "# Command line\n\nWritten by `cargo xtask gen` from the program itself.\n".to_owned();
    section(command, "enforcer", &mut text);
    text
}

fn section(command: &Command, name: &str, text: &mut String) {
    let help = command.clone().bin_name(name).render_long_help().to_string();
    let help = help.lines().map(str::trim_end).collect::<Vec<_>>().join("\n");
    text.push_str(&format!("\n## `{name}`\n\n```text\n{}\n```\n", help.trim_end()));
    for verb in visible(command) {
        section(verb, &format!("{name} {}", verb.get_name()), text);
    }
}

fn reasons() -> String {
    let mut text =
        "# Reasons for refusal\n\nWritten by `cargo xtask gen`. The word stands in audit \
                    records and counters; the client sees the status and a title only.\n\n\
                    | reason | status | meaning |\n|---|---|---|\n"
            .to_owned();
    for reason in Reason::ALL {
        let (status, meaning) = (reason.status(), reason.meaning());
        text.push_str(&format!("| `{reason}` | {status} | {meaning} |\n"));
    }
    text.push_str(
        "\n# Reasons of packets\n\nThe words of `status`, `blocks --why` and metrics for what the \
         kernel half did. With `pass`, a reason that otherwise drops means that it was only \
         observed.\n\n| reason | meaning |\n|---|---|\n",
    );
    for reason in enforcer_kernel::Reason::ALL {
        text.push_str(&format!("| `{reason}` | {} |\n", packet_meaning(reason)));
    }
    text
}
