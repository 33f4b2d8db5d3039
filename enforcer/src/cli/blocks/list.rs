//! `enforcer blocks` and `blocks lists`: single decisions and lists, each with its effects.

use std::io::IsTerminal;

use clap::Args;
use enforcer_admin::call::{BlockRow, ListRow};
use enforcer_admin::{Answer, Call};
use enforcer_model::{Author, BlockId, Expiry, Timestamp};
use serde::Serialize;

use crate::cli::quarantine::until;
use crate::cli::{Context, Exit, Failure, Format, Printed, Table, counted, mismatched};

/// Every list
#[derive(Args, Debug)]
pub(crate) struct Lists {}

/// One line of the answer.
#[derive(Debug, Serialize)]
#[serde(untagged)]
enum Row {
    Block(Box<BlockRow>),
    List(Box<ListedRow>),
}

/// A list among single blocks: its target is what `release` takes.
#[derive(Debug, Serialize)]
struct ListedRow {
    id: BlockId,
    target: String,
    networks: u64,
    reason: String,
    author: Author,
    since: Timestamp,
    until: Expiry,
    in_kernel: u64,
    packets: u64,
    layer7: bool,
}

const HEADER: &[&str] = &["ID", "TARGET", "UNTIL", "ENFORCED", "DROPPED", "BY", "REASON"];

impl Lists {
    pub(super) fn execute(&self, context: &Context) -> Result<Exit, Failure> {
        let Self {} = self;
        let Answer::Lists(answer) = context.ask(&Call::Lists)? else { return Err(mismatched()) };
        let header = &["ID", "LIST", "NETWORKS", "UNTIL", "IN KERNEL", "DROPPED", "BY", "REASON"];
        let rows = answer.lists.iter().map(list_cells).collect();
        context.printer.list(&answer.lists, &Table { header, rows })?;
        if answer.lists.is_empty() && !context.printer.is_for_programs() {
            context.printer.say("no list is in force; `enforcer blocks import FILE` makes one");
        }
        Ok(Exit::Done)
    }
}

/// Every block; by the page where the form of the answer allows it.
pub(super) fn execute(context: &Context) -> Result<Exit, Failure> {
    let on_terminal = std::io::stdout().is_terminal();
    let by_the_line = match context.printer.format() {
        Format::Plain | Format::Jsonl => true,
        Format::Auto => !on_terminal,
        Format::Table | Format::Json | Format::Yaml => false,
    };
    let mut rows = Vec::new();
    let mut all = 0;
    let mut after = None;
    loop {
        let Answer::Blocks(page) = context.ask(&Call::Blocks { after })? else {
            return Err(mismatched());
        };
        rows.extend(page.lists.into_iter().map(Row::from));
        rows.extend(page.blocks.into_iter().map(|row| Row::Block(Box::new(row))));
        if by_the_line {
            all += rows.len();
            if print(context, &rows)? == Printed::ReaderGone {
                return Ok(Exit::Done);
            }
            rows.clear();
        }
        after = page.next;
        if after.is_none() {
            break;
        }
    }
    if !by_the_line {
        all = rows.len();
        print(context, &rows)?;
    }
    if all == 0 && !context.printer.is_for_programs() {
        context.printer.say("nobody is blocked");
    }
    Ok(Exit::Done)
}

fn print(context: &Context, rows: &[Row]) -> Result<Printed, Failure> {
    let cells = rows.iter().map(Row::cells).collect();
    context.printer.list(rows, &Table { header: HEADER, rows: cells })
}

impl From<ListRow> for Row {
    fn from(list: ListRow) -> Self {
        Self::List(Box::new(ListedRow {
            id: list.id,
            target: format!("list:{}", list.name),
            networks: list.networks,
            reason: list.reason,
            author: list.author,
            since: list.since,
            until: list.until,
            in_kernel: list.in_kernel,
            packets: list.packets,
            layer7: list.layer7,
        }))
    }
}

impl Row {
    fn cells(&self) -> Vec<String> {
        match self {
            Self::Block(row) => cells(row),
            Self::List(row) => vec![
                row.id.to_string(),
                format!("{} ({})", row.target, counted(row.networks, "network")),
                until(row.until, row.since),
                layers(row.in_kernel > 0, row.layer7).to_owned(),
                row.packets.to_string(),
                row.author.to_string(),
                row.reason.clone(),
            ],
        }
    }
}

/// One block as a row of a table.
pub(super) fn cells(row: &BlockRow) -> Vec<String> {
    let block = &row.block;
    vec![
        block.id.to_string(),
        block.target.to_string(),
        until(block.until, block.since),
        match (row.kernel.is_some(), row.layer7, block.through) {
            (false, true, Some(proxy)) => format!("layer 7 only: came through {proxy}"),
            (kernel, layer7, _) => layers(kernel, layer7).to_owned(),
        },
        row.kernel.as_ref().map_or_else(|| "-".to_owned(), |kernel| kernel.packets.to_string()),
        block.author.to_string(),
        block.reason.clone(),
    ]
}

const fn layers(kernel: bool, layer7: bool) -> &'static str {
    match (kernel, layer7) {
        (true, true) => "kernel, layer 7",
        (true, false) => "kernel",
        (false, true) => "layer 7",
        (false, false) => "NOWHERE",
    }
}

fn list_cells(list: &ListRow) -> Vec<String> {
    vec![
        list.id.to_string(),
        list.name.to_string(),
        list.networks.to_string(),
        until(list.until, list.since),
        list.in_kernel.to_string(),
        list.packets.to_string(),
        list.author.to_string(),
        list.reason.clone(),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_among_blocks_is_named_as_release_takes_it_in_every_form() {
        let row = Row::from(ListRow {
            name: "drop".parse().unwrap(),
            id: BlockId::from_bits(1),
            networks: 1_000_000,
            since: Timestamp::from_unix_seconds(0),
            until: Expiry::Never,
            reason: "spamhaus".to_owned(),
            author: Author::Agent,
            in_kernel: 1_000_000,
            packets: 7,
            layer7: true,
        });

        assert_eq!(serde_json::to_value(&row).unwrap()["target"], "list:drop");
        let cells = row.cells();
        assert_eq!(cells[1], "list:drop (1000000 networks)");
        assert_eq!(cells[3], "kernel, layer 7");
        assert_eq!(cells.len(), HEADER.len());
    }
}
