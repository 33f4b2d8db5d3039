//! `enforcer notify`: who is told what happens, how they are, and trying them out.

use clap::{Args, Subcommand};
use enforcer_admin::call::{
    NotifyOrder, NotifyTested, ReceiverRow, ReceiverState, ReceiversListed,
};
use enforcer_admin::{Answer, Call};

use super::{Context, Exit, Failure, Table, counted, mismatched, recorded};

/// Receivers of notices: webhooks, Slack, `PagerDuty`, Alertmanager, syslog
#[derive(Debug, Subcommand)]
pub(crate) enum Notify {
    /// Every receiver of the policy, how it does and what waits for it
    List(List),
    /// Send a marked notice now, and print what each receiver answered
    Test(Test),
    /// Send again to a receiver that said it wants nothing more
    Enable(Enable),
    /// Try what waits now, and once more what was given up
    Resend(Resend),
}

/// Every receiver of the policy, how it does and what waits for it
#[derive(Args, Debug)]
pub(crate) struct List {}

/// Send a marked notice now, and print what each receiver answered
///
/// Takes the way that every notice takes: the same form, signature, guard of addresses and time-out;
/// it waits in no queue and is not tried again. A receiver that was disabled and takes it is sent to
/// again. Exit code 6 when one of them did not take it.
#[derive(Args, Debug)]
pub(crate) struct Test {
    /// As the policy names it; without it every receiver
    name: Option<String>,
}

/// Send again to a receiver that said it wants nothing more
#[derive(Args, Debug)]
pub(crate) struct Enable {
    /// As the policy names it
    name: String,
}

/// Try what waits now, and once more what was given up
#[derive(Args, Debug)]
pub(crate) struct Resend {
    /// As the policy names it; without it every receiver
    name: Option<String>,
}

impl Notify {
    pub(crate) fn execute(&self, context: &Context) -> Result<Exit, Failure> {
        let order = match self {
            Self::List(List {}) => NotifyOrder::List,
            Self::Test(Test { name }) => NotifyOrder::Test { name: name.clone() },
            Self::Enable(Enable { name }) => NotifyOrder::Enable { name: name.clone() },
            Self::Resend(Resend { name }) => NotifyOrder::Resend { name: name.clone() },
        };
        let changes = matches!(self, Self::Enable(_) | Self::Resend(_));
        let answer = context.ask(&Call::Notify { order })?;
        if let Answer::Receivers(listed) = &answer {
            return show(context, listed, changes);
        }
        let Answer::NotifyTested(tested) = &answer else { return Err(mismatched()) };
        show_tested(context, tested)
    }
}

fn show(context: &Context, listed: &ReceiversListed, changes: bool) -> Result<Exit, Failure> {
    let header =
        &["NAME", "KIND", "TARGET", "FROM", "STATE", "WAITING", "NEXT", "DELIVERED", "WHY"];
    let rows = listed.receivers.iter().map(cells).collect();
    context.printer.list(&listed.receivers, &Table { header, rows })?;
    if changes {
        context.printer.say(&format!("audit  {}", recorded(listed.audit)));
        return Ok(if listed.audit.is_none() { Exit::PartlyApplied } else { Exit::Done });
    }
    if listed.receivers.is_empty() {
        context.printer.hint("nobody is told of anything: add `[notify.NAME]` to the policy");
    }
    for row in listed.receivers.iter().filter(|row| row.state == ReceiverState::Disabled) {
        context.printer.hint(&format!("`enforcer notify enable {}` sends to it again", row.name));
    }
    Ok(Exit::Done)
}

fn cells(row: &ReceiverRow) -> Vec<String> {
    let time = |time: Option<enforcer_model::Timestamp>| {
        time.map_or_else(|| "-".to_owned(), |time| time.to_string())
    };
    let state = match row.state {
        ReceiverState::Disabled => "disabled",
        ReceiverState::Failing => "failing",
        ReceiverState::Unused => "unused",
        ReceiverState::Well => "well",
    };
    let mut why: Vec<String> = row.why.iter().cloned().collect();
    why.extend((row.dropped > 0).then(|| format!("{} dropped", counted(row.dropped, "notice"))));
    why.extend(
        (row.given_up > 0).then(|| format!("{} given up", counted(row.given_up, "message"))),
    );
    vec![
        row.name.clone(),
        row.kind.clone(),
        row.target.clone(),
        row.severity.clone(),
        state.to_owned(),
        row.waiting.to_string(),
        time(row.next),
        time(row.delivered),
        if why.is_empty() { "-".to_owned() } else { why.join("; ") },
    ]
}

fn show_tested(context: &Context, tested: &NotifyTested) -> Result<Exit, Failure> {
    let header = &["NAME", "KIND", "TARGET", "RESULT", "TOOK", "ANSWER"];
    let rows = tested.receivers.iter().map(|row| {
        let result = if row.delivered { "delivered" } else { "FAILED" };
        vec![
            row.name.clone(),
            row.kind.clone(),
            row.target.clone(),
            result.to_owned(),
            format!("{} ms", row.took_ms),
            row.said.clone(),
        ]
    });
    context.printer.list(&tested.receivers, &Table { header, rows: rows.collect() })?;
    let failed = tested.receivers.iter().any(|row| !row.delivered);
    Ok(if failed || tested.audit.is_none() { Exit::PartlyApplied } else { Exit::Done })
}
