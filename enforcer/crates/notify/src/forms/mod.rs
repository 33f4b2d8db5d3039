//! The forms in which receivers understand a bundle. Pure: the same bundle gives the same bytes.

pub(crate) mod alertmanager;
pub(crate) mod cef;
pub(crate) mod pagerduty;
pub(crate) mod slack;
pub(crate) mod syslog;
pub(crate) mod webhook;

use crate::Bundle;
use crate::bundle::Counted;

/// The counts of a digest on one line: `40 stuffing, 20 bola`.
fn counts(counted: &[Counted]) -> String {
    let each: Vec<_> = counted.iter().map(|one| format!("{} {}", one.count, one.what)).collect();
    each.join(", ")
}

/// What a bundle does not show, in words.
fn left_out(bundle: &Bundle) -> Vec<String> {
    let mut words = Vec::new();
    if bundle.omitted() > 0 {
        words.push(format!("{} more are not shown here", bundle.omitted()));
    }
    if bundle.lost > 0 {
        words.push(format!("{} earlier notices were dropped", bundle.lost));
    }
    words
}

#[cfg(test)]
pub(crate) mod tests {
    use std::sync::Arc;

    use enforcer_model::Timestamp;

    use crate::bundle::Telling;
    use crate::{Bundle, Kind, Notice, Severity};

    pub(crate) fn at(seconds: u64) -> Timestamp {
        Timestamp::from_unix_seconds(1_795_000_000 + seconds)
    }

    pub(crate) fn notice() -> Notice {
        Notice::new(Kind::IncidentOpened, Severity::Error, at(0), "60 objects <script> & more")
            .with_text("see `enforcer incident show INC-0042`")
            .with_about("source:192.0.2.7")
            .with_incident("INC-0042")
            .with_rule("bola-enumeration")
            .with_fact("route", "orders")
    }

    pub(crate) fn closed() -> Notice {
        Notice::new(Kind::IncidentClosed, Severity::Info, at(60), "INC-0042 is over")
            .with_incident("INC-0042")
    }

    pub(crate) fn bundle(notices: Vec<Notice>) -> Bundle {
        told(notices, Telling::Group)
    }

    pub(crate) fn digest(count: u64) -> Bundle {
        let many = (0..count).map(|number| {
            Notice::new(Kind::Finding, Severity::Warning, at(number), "finding")
                .with_rule("stuffing")
                .with_about(format!("source:192.0.2.{number}"))
        });
        told(many.collect(), Telling::Digest)
    }

    fn told(notices: Vec<Notice>, telling: Telling) -> Bundle {
        let notices: Vec<_> = notices.into_iter().map(Arc::new).collect();
        let group = notices[0].group();
        Bundle::of("msg_0123".to_owned(), &group, &notices, telling, 3).unwrap()
    }
}
