//! `enforcer release`: end a block.

use clap::Args;
use enforcer_admin::call::{CaseName, ListName, ListNameError, ListReleased, Released, Which};
use enforcer_admin::{Answer, Call};
use enforcer_model::{BlockId, CaseIdError, Clock, Expiry, SystemClock, Target, Timestamp};

use super::quarantine::{exact_span, micros};
use super::{Context, Exit, Failure, counted, mismatched, recorded};

/// End a block by id or target, a list by name, or what a decision or an incident does
#[derive(Args, Debug)]
pub(crate) struct Release {
    /// `B-7K2Q4XW`, the target that is blocked, `list:NAME`; or a decision `D-7K2Q4XW`, or an
    /// incident `INC-0042` with all of its decisions
    #[arg(value_parser = parse_what)]
    what: What,
    /// Why; goes on record
    #[arg(long, value_name = "TEXT")]
    reason: Option<String>,
    /// Take it out of the pinned kernel maps where no agent runs
    #[arg(long)]
    from_kernel: bool,
}

/// One block, or many of one name.
#[derive(Clone, Debug, PartialEq, Eq)]
enum What {
    Block(Which),
    Case(CaseName),
    List(ListName),
}

impl Release {
    pub(crate) fn execute(&self, context: &Context) -> Result<Exit, Failure> {
        match (&self.what, self.from_kernel) {
            (What::Block(which), true) => super::pinned::release(context, which),
            (What::List(_), true) => Err(Failure::usage("the kernel knows no names of lists")
                .hint("release its networks one by one, or start the agent with `enforcer run`")),
            (What::Case(_), true) => Err(Failure::usage("the kernel knows no decisions")
                .hint("release the address, or start the agent with `enforcer run`")),
            (What::Case(what), false) => {
                super::incident::take_back(context, *what, self.reason.clone())
            }
            (What::Block(which), false) => self.block(context, which.clone()),
            (What::List(name), false) => self.list(context, name),
        }
    }

    fn list(&self, context: &Context, name: &ListName) -> Result<Exit, Failure> {
        let call = Call::ReleaseList { name: name.clone(), reason: self.reason.clone() };
        let Answer::ListReleased(released) = context.ask(&call)? else { return Err(mismatched()) };
        context.printer.item(&released, &list_told(&released, SystemClock.now().wall))?;
        let is_whole = released.problems.is_empty() && released.audit.is_some();
        Ok(if is_whole { Exit::Done } else { Exit::PartlyApplied })
    }

    fn block(&self, context: &Context, which: Which) -> Result<Exit, Failure> {
        let call = Call::Release { what: which, reason: self.reason.clone() };
        let Answer::Released(released) = context.ask(&call)? else { return Err(mismatched()) };
        context.printer.item(&released, &told(&released, SystemClock.now().wall))?;
        let is_whole = released.problems.is_empty() && released.audit.is_some();
        Ok(if is_whole { Exit::Done } else { Exit::PartlyApplied })
    }
}

fn parse_what(text: &str) -> Result<What, String> {
    let begins = |start: &str| {
        text.get(..start.len()).is_some_and(|found| found.eq_ignore_ascii_case(start))
    };
    if begins("INC-") {
        let incident = text.parse().map(CaseName::Incident).map(What::Case);
        return incident.map_err(|error: CaseIdError| error.to_string());
    }
    if begins("D-") {
        let decision = text.parse().map(CaseName::Decision).map(What::Case);
        return decision.map_err(|error: CaseIdError| error.to_string());
    }
    match text.strip_prefix("list:") {
        Some(name) => {
            name.parse().map(What::List).map_err(|error: ListNameError| error.to_string())
        }
        None => parse_which(text).map(What::Block),
    }
}

fn parse_which(text: &str) -> Result<Which, String> {
    if text.len() > 2 && text.get(..2).is_some_and(|start| start.eq_ignore_ascii_case("B-")) {
        return text.parse::<BlockId>().map(Which::Id).map_err(|error| error.to_string());
    }
    text.parse::<Target>().map(Which::Target).map_err(|error| error.to_string())
}

fn told(released: &Released, now: Timestamp) -> Vec<String> {
    let block = &released.block;
    let mut lines = vec![format!("released  {}   {}", block.target, block.id)];
    if released.kernel {
        lines.push(format!("  kernel  removed; it had dropped {} packets", released.packets));
    }
    if released.layer7 {
        lines.push("  layer 7 removed".to_owned());
    }
    lines.extend(released.problems.iter().map(|problem| format!("  NOT done: {problem}")));
    lines.push(format!("  audit   {}", recorded(released.audit)));
    lines.push(format!(
        "undo: enforcer quarantine {} --for {} --reason 'undo of {}'",
        block.target,
        rest(block.until, now),
        block.id
    ));
    lines
}

fn list_told(released: &ListReleased, now: Timestamp) -> Vec<String> {
    let ListReleased { name, id, networks, kernel, packets, .. } = released;
    let mut lines = vec![
        format!("released  list:{name}   {id}"),
        format!("  held    {}", counted(*networks, "network")),
        format!("  kernel  {kernel} removed; they had dropped {}", counted(*packets, "packet")),
    ];
    if released.still_blocked > 0 {
        lines.push(format!("  {} stay blocked by other decisions", released.still_blocked));
    }
    lines.extend(released.problems.iter().map(|problem| format!("  NOT done: {problem}")));
    lines.push(format!("  audit   {}", recorded(released.audit)));
    lines.push(format!("  took    {}", micros(released.took_us)));
    lines.extend(released.previous.as_ref().map(|file| {
        format!(
            "undo: enforcer blocks import {} --list {name} --for {} --reason 'undo of {id}'",
            file.display(),
            rest(released.until, now)
        )
    }));
    lines
}

/// How long it would have lasted, as arguments take it.
fn rest(until: Expiry, now: Timestamp) -> String {
    match until {
        Expiry::At(end) => exact_span(end.since(now)),
        Expiry::Never => "forever".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use enforcer_model::{Author, Block};

    use super::*;

    #[test]
    fn the_undo_line_lasts_as_long_as_the_block_would_have() {
        let now = Timestamp::from_unix_seconds(1_000);
        let undo = |until| told(&released(until), now).pop().unwrap();

        let timed = undo(Expiry::At(Timestamp::from_unix_seconds(1_898)));
        assert!(timed.contains(" 203.0.113.7 --for 14m58s --reason "), "{timed}");
        let over = undo(Expiry::At(Timestamp::from_unix_seconds(900)));
        assert!(over.contains(" --for 1s "), "{over}");
        let endless = undo(Expiry::Never);
        assert!(endless.contains(" --for forever "), "{endless}");
    }

    #[test]
    fn a_block_is_named_by_id_or_target_and_a_list_by_its_name() {
        assert!(matches!(parse_what("b-7K2Q4XW"), Ok(What::Block(Which::Id(_)))));
        assert!(matches!(parse_what("203.0.113.0/24"), Ok(What::Block(Which::Target(_)))));
        assert_eq!(parse_what("list:drop"), Ok(What::List("drop".parse().unwrap())));
        assert!(matches!(parse_what("inc-0042"), Ok(What::Case(CaseName::Incident(_)))));
        assert!(matches!(parse_what("D-7K2Q4XW"), Ok(What::Case(CaseName::Decision(_)))));
        for wrong in ["INC-42", "D-7K2", "list:", "list:../x", "B-7K2Q4XWW", "example.com", ""] {
            assert!(parse_what(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_list_that_ended_comes_with_what_brings_it_back() {
        let released = ListReleased {
            name: "drop".parse().unwrap(),
            id: BlockId::from_bits(1),
            networks: 1_000_000,
            still_blocked: 3,
            kernel: 999_997,
            packets: 12,
            until: Expiry::At(Timestamp::from_unix_seconds(3_700)),
            previous: Some("/var/lib/enforcer/lists/drop.previous".into()),
            problems: Vec::new(),
            took_us: 400_000,
            audit: Some(9),
        };

        let lines = list_told(&released, Timestamp::from_unix_seconds(100));

        assert_eq!(
            lines,
            [
                "released  list:drop   B-0000001",
                "  held    1000000 networks",
                "  kernel  999997 removed; they had dropped 12 packets",
                "  3 stay blocked by other decisions",
                "  audit   #9",
                "  took    400.0 ms",
                "undo: enforcer blocks import /var/lib/enforcer/lists/drop.previous --list drop \
                 --for 1h --reason 'undo of B-0000001'",
            ]
        );
    }

    #[test]
    fn what_did_not_work_is_told() {
        let mut released = released(Expiry::Never);
        released.problems.push("the kernel map cannot be written".to_owned());

        let lines = told(&released, Timestamp::from_unix_seconds(0));

        assert!(lines.contains(&"  NOT done: the kernel map cannot be written".to_owned()));
    }

    fn released(until: Expiry) -> Released {
        Released {
            block: Block {
                id: BlockId::from_bits(1),
                target: "203.0.113.7".parse().unwrap(),
                since: Timestamp::from_unix_seconds(0),
                until,
                author: Author::Agent,
                reason: "test".to_owned(),
                through: None,
            },
            kernel: true,
            packets: 7,
            layer7: true,
            problems: Vec::new(),
            audit: Some(1),
        }
    }
}
