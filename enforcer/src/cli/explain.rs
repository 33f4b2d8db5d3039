//! `enforcer explain`: what a code or a reason means, or why a recorded request got its answer.

use clap::Args;
use enforcer_kernel::Reason as PacketReason;
use enforcer_model::Reason;

use super::audit::Place;
use super::{Context, Exit, Failure};

/// What an error code means and what to do, or why a recorded request got its answer
#[derive(Args, Debug)]
pub(crate) struct Explain {
    /// `E-POL-003`, a reason for refusal such as `key-unknown`, or of a packet such as `budget`
    #[arg(required_unless_present = "audit", conflicts_with = "audit")]
    code: Option<String>,
    /// Why the request of audit record N got its answer, and what the policy says of it today
    #[arg(long, value_name = "N")]
    audit: Option<u64>,
    #[command(flatten)]
    place: Place,
}

impl Explain {
    pub(crate) fn execute(&self, context: &Context) -> Result<Exit, Failure> {
        if let Some(index) = self.audit {
            return super::policy::explain_record(context, &self.place, index);
        }
        let code = self.code.as_deref().unwrap_or_default();
        let text = text(code).ok_or_else(|| {
            Failure::nothing(format!("no code or reason is called `{code}`"))
                .hint("codes stand in brackets behind `error`, reasons in the audit records")
        })?;
        let lines: Vec<_> = text.lines().map(str::to_owned).collect();
        context.printer.item(&serde_json::json!({ "code": code, "meaning": text }), &lines)?;
        Ok(Exit::Done)
    }
}

fn text(code: &str) -> Option<String> {
    if let Some(reason) = Reason::from_name(code) {
        let status = reason.status();
        return Some(format!("{reason} (status {status}): {}", reason.meaning()));
    }
    let packet = PacketReason::ALL.into_iter().find(|reason| reason.name() == code);
    if let Some(reason) = packet {
        return Some(format!("{reason} (packets): {}", packet_meaning(reason)));
    }
    let upper = code.to_ascii_uppercase();
    enforcer_policy::explain(&upper).map(|text| format!("{upper}: {text}"))
}

/// What the kernel half means by a reason, in one sentence.
pub(super) const fn packet_meaning(reason: PacketReason) -> &'static str {
    match reason {
        PacketReason::Clean => "Nothing speaks against the packet.",
        PacketReason::Off => "The mode is off: nobody looked.",
        PacketReason::NotIp => "Neither IPv4 nor IPv6, such as ARP and LLDP; never dropped.",
        PacketReason::Blocked => "A block names its source; `blocks --why` tells which.",
        PacketReason::Budget => "Its source sent more packets than its budget covers.",
        PacketReason::Unreadable => "Not a packet that a network stack could accept.",
        PacketReason::Allowed => {
            "It would be dropped, but a never-block list names its source, and that wins."
        }
        PacketReason::Essential => {
            "It would be dropped, but a network breaks without it: neighbour discovery, path MTU, \
             DHCP."
        }
        PacketReason::ByteBudget => "Its source sent more bytes than its budget covers.",
        PacketReason::SynBudget => "Its source opened more TCP connections than its budget covers.",
        PacketReason::Flood => {
            "A newcomer during a flood, and the budget that newcomers share is spent."
        }
        PacketReason::Contained => "It goes to a blocked peer, and `egress` is \"contain\".",
    }
}
