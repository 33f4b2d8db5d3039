//! `enforcer explain`: what a code or a reason means.

use clap::Args;
use enforcer_kernel::Reason as PacketReason;
use enforcer_model::Reason;

use super::{Context, Exit, Failure};

/// What an error code means and what to do
#[derive(Args, Debug)]
pub(crate) struct Explain {
    /// `E-POL-003`, a reason for refusal such as `key-unknown`, or of a packet such as `budget`
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
        let packet = PacketReason::ALL.into_iter().find(|reason| reason.name() == self.code);
        if let Some(reason) = packet {
            return Some(format!("{reason} (packets): {}", packet_meaning(reason)));
        }
        let upper = self.code.to_ascii_uppercase();
        enforcer_policy::explain(&upper).map(|text| format!("{upper}: {text}"))
    }
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
