//! What a predecessor still finds is answered by its successor, which owns the blocks.

use std::sync::mpsc::SyncSender;
use std::time::Duration;

use enforcer_model::{FailureCount, Failures, Offence, RequestId, Source};
use tokio::sync::mpsc;

use super::words::{Found, FoundOf, Word};
use crate::respond::Order;

/// What the record of a finding says that was handed on.
const HANDED_ON: &str = "handed on to the successor, which answers it";

/// Requests that go with a finding, at most.
const EVIDENCE_MAX: usize = 16;

/// Hands findings on until nobody finds anything any more. Other orders have no meaning any more: the
/// successor keeps what is blocked, and says what is to be cut.
pub(crate) fn forward(mut orders: mpsc::Receiver<Order>, successor: &SyncSender<Word>) {
    while let Some(order) = orders.blocking_recv() {
        if let Order::Answer { finding, reply } = order {
            let handed_on = successor.try_send(Word::Found { finding: written(&finding) });
            let why = if handed_on.is_ok() { HANDED_ON } else { "the successor was behind" };
            reply.send(Err(why.to_owned())).unwrap_or_default();
        }
    }
}

fn written(finding: &Offence) -> Found {
    let millis = |duration: Duration| u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
    Found {
        rule: finding.rule.clone(),
        target: finding.target,
        through: finding.through.map(Source::address),
        seen: finding.failures.seen,
        window_ms: millis(finding.failures.window),
        of: match finding.failures.of {
            Failures::Authentication => FoundOf::Authentication,
            Failures::Limits => FoundOf::Limits,
        },
        ttl_ms: millis(finding.ttl),
        evidence: finding.evidence.iter().map(ToString::to_string).collect(),
    }
}

/// The finding behind the word; requests that cannot be read are left out.
pub(super) fn read(found: Found) -> Offence {
    let ids = found.evidence.iter().filter_map(|id| u128::from_str_radix(id, 16).ok());
    Offence {
        rule: found.rule,
        target: found.target,
        through: found.through.map(Source::new),
        failures: FailureCount {
            seen: found.seen,
            window: Duration::from_millis(found.window_ms),
            of: match found.of {
                FoundOf::Authentication => Failures::Authentication,
                FoundOf::Limits => Failures::Limits,
            },
        },
        ttl: Duration::from_millis(found.ttl_ms),
        evidence: ids.take(EVIDENCE_MAX).map(RequestId::from_bits).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_finding_is_the_same_on_the_other_side() {
        let finding = Offence {
            rule: "key-guessing".to_owned(),
            target: "192.0.2.7".parse().unwrap(),
            through: Some(Source::new("10.0.0.9".parse().unwrap())),
            failures: FailureCount {
                seen: 5,
                window: Duration::from_secs(30),
                of: Failures::Authentication,
            },
            ttl: Duration::from_secs(600),
            evidence: vec![RequestId::from_bits(0xfeed), RequestId::from_bits(u128::MAX)],
        };

        assert_eq!(read(written(&finding)), finding);
    }
}
