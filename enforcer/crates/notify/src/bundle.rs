//! What is told at once: a few notices of one group, or a digest of many.
//!
//! A bundle is made once and sent until it is taken: its id and its content stay, so that a receiver
//! that gets it twice can tell.

use std::collections::BTreeMap;
use std::sync::Arc;

use enforcer_model::Timestamp;
use serde::{Deserialize, Serialize};

use crate::{Kind, Notice, Severity};

/// Notices that a bundle shows whole; of more the gravest are shown, and all are counted.
pub(crate) const SHOWN_MAX: usize = 20;
/// Bytes of notices that a bundle shows.
const SHOWN_BYTES_MAX: usize = 32 << 10;
/// Rules and entities that a digest counts.
const TOP_MAX: usize = 10;
/// Incidents that a digest names.
const INCIDENTS_MAX: usize = 100;

/// One message.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bundle {
    /// The same in each try; without dots.
    pub id: String,
    /// What its notices have in common.
    pub group: String,
    /// So many notices.
    pub count: u64,
    /// The gravest of them.
    pub severity: Severity,
    /// When the first of them happened.
    pub since: Timestamp,
    /// When the last of them happened.
    pub until: Timestamp,
    /// Those that are shown, the oldest first.
    pub notices: Vec<Notice>,
    /// The newest of each incident.
    pub incidents: Vec<IncidentNews>,
    /// What they have in common, where they are too many to be told one by one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub digest: Option<Digest>,
    /// Notices for this receiver that were dropped before, for want of room or in time.
    pub lost: u64,
}

/// How an incident was when it was last told of.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct IncidentNews {
    /// Such as `INC-0042`.
    pub id: String,
    /// When that was.
    pub at: Timestamp,
    /// The gravest notice about it.
    pub severity: Severity,
    /// The title of the last one that was no mere step.
    pub title: String,
    /// The rule, where one found it.
    pub rule: Option<Arc<str>>,
    /// Whether it is over.
    pub is_closed: bool,
    /// Whether an operator has taken it up.
    pub is_taken_up: bool,
}

/// Many notices in a few numbers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Digest {
    /// How many of each kind, the most first.
    pub kinds: Vec<Counted>,
    /// How many by each rule, the most first.
    pub rules: Vec<Counted>,
    /// How many about each entity, the most first.
    pub about: Vec<Counted>,
}

/// How many of one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counted {
    /// Of what.
    pub what: String,
    /// So many.
    pub count: u64,
}

/// How a digest is told: with everything that waits, or as one group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Telling {
    Group,
    Digest,
}

impl Bundle {
    /// Of `notices`, oldest first; none where there are none.
    pub(crate) fn of(
        id: String,
        group: &str,
        notices: &[Arc<Notice>],
        telling: Telling,
        lost: u64,
    ) -> Option<Self> {
        let severity = notices.iter().map(|notice| notice.severity()).max()?;
        let since = notices.iter().map(|notice| notice.at()).min()?;
        let until = notices.iter().map(|notice| notice.at()).max()?;
        let digest = match telling {
            Telling::Group => None,
            Telling::Digest => Some(Digest {
                kinds: top(notices.iter().map(|notice| notice.kind().as_str())),
                rules: top(notices.iter().filter_map(|notice| notice.rule())),
                about: top(notices.iter().filter_map(|notice| notice.about())),
            }),
        };
        Some(Self {
            id,
            group: group.to_owned(),
            count: u64::try_from(notices.len()).unwrap_or(u64::MAX),
            severity,
            since,
            until,
            notices: shown(notices),
            incidents: incidents(notices),
            digest,
            lost,
        })
    }

    /// One notice by itself.
    pub fn single(id: String, notice: Notice) -> Self {
        let group = notice.group();
        let (severity, at) = (notice.severity(), notice.at());
        let incidents = incidents(&[Arc::new(notice.clone())]);
        Self {
            id,
            group,
            count: 1,
            severity,
            since: at,
            until: at,
            notices: vec![notice],
            incidents,
            digest: None,
            lost: 0,
        }
    }

    /// Whether it only tries a receiver out.
    pub fn is_test(&self) -> bool {
        matches!(&*self.notices, [only] if only.kind() == Kind::Test)
    }

    /// Notices that are counted and not shown.
    pub fn omitted(&self) -> u64 {
        self.count.saturating_sub(u64::try_from(self.notices.len()).unwrap_or(u64::MAX))
    }

    /// It in one line.
    pub fn title(&self) -> String {
        if let Some(digest) = &self.digest {
            let kinds: Vec<_> = digest
                .kinds
                .iter()
                .take(3)
                .map(|one| format!("{} {}", one.count, one.what))
                .collect();
            return format!("{} notices: {}", self.count, kinds.join(", "));
        }
        let gravest = self.notices.iter().max_by_key(|notice| (notice.severity(), notice.at()));
        let title = gravest.map_or("", |notice| notice.title());
        match self.count {
            0 | 1 => title.to_owned(),
            more => format!("{title} (and {} more)", more - 1),
        }
    }
}

impl Notice {
    /// The same with the operator who did it.
    ///
    /// An incident that an operator has taken up is acknowledged where receivers know that.
    pub fn by_operator(self, name: impl std::fmt::Display) -> Self {
        self.with_fact(OPERATOR, name)
    }

    fn is_by_operator(&self) -> bool {
        self.facts().iter().any(|(name, _)| name == OPERATOR)
    }

    /// Whether it is not held back because the same was told shortly before: somebody waits for
    /// it, or wants to know that somebody else has taken it up.
    pub(crate) fn is_urgent(&self) -> bool {
        self.kind().is_urgent() || self.is_by_operator()
    }
}

const OPERATOR: &str = "operator";

/// The gravest and, of those that are alike, the newest, as many as there is room for.
fn shown(notices: &[Arc<Notice>]) -> Vec<Notice> {
    let mut places: Vec<usize> = (0..notices.len()).collect();
    places.sort_by_key(|&place| {
        (
            std::cmp::Reverse(notices.get(place).map(|notice| notice.severity())),
            std::cmp::Reverse(place),
        )
    });
    let mut room = SHOWN_BYTES_MAX;
    let mut kept = Vec::new();
    for place in places.into_iter().take(SHOWN_MAX) {
        let Some(notice) = notices.get(place) else { continue };
        let size = notice.size();
        // The first one is told however large it is; it has its own bounds.
        if size > room && !kept.is_empty() {
            break;
        }
        room = room.saturating_sub(size);
        kept.push(place);
    }
    kept.sort_unstable();
    kept.into_iter()
        .filter_map(|place| notices.get(place))
        .map(|notice| (**notice).clone())
        .collect()
}

fn incidents(notices: &[Arc<Notice>]) -> Vec<IncidentNews> {
    let mut news: BTreeMap<&str, IncidentNews> = BTreeMap::new();
    for notice in notices {
        let Some(id) = notice.incident() else { continue };
        let is_closed = notice.kind() == Kind::IncidentClosed;
        let one = news.entry(id).or_insert_with(|| IncidentNews {
            id: id.to_owned(),
            at: notice.at(),
            severity: notice.severity(),
            title: notice.title().to_owned(),
            rule: notice.rule().map(Arc::from),
            is_closed: false,
            is_taken_up: false,
        });
        one.at = one.at.max(notice.at());
        if notice.severity() >= one.severity {
            one.severity = notice.severity();
            one.title = notice.title().to_owned();
        }
        if one.rule.is_none() {
            one.rule = notice.rule().map(Arc::from);
        }
        // An incident that is opened again is open again.
        one.is_closed = is_closed || (one.is_closed && notice.kind() != Kind::IncidentOpened);
        one.is_taken_up =
            notice.is_by_operator() || (one.is_taken_up && !notice.kind().is_trouble());
    }
    // Those that are over first: an alert that is never ended is worse than one that is not begun.
    let mut news: Vec<_> = news.into_values().collect();
    news.sort_by_key(|one| (!one.is_closed, std::cmp::Reverse(one.severity)));
    news.truncate(INCIDENTS_MAX);
    news
}

fn top<'a>(words: impl Iterator<Item = &'a str>) -> Vec<Counted> {
    let mut counts: BTreeMap<&str, u64> = BTreeMap::new();
    words.for_each(|word| *counts.entry(word).or_default() += 1);
    let mut counted: Vec<_> =
        counts.into_iter().map(|(what, count)| Counted { what: what.to_owned(), count }).collect();
    counted.sort_by_key(|one| std::cmp::Reverse(one.count));
    counted.truncate(TOP_MAX);
    counted
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Timestamp {
        Timestamp::from_unix_seconds(1_795_000_000 + seconds)
    }

    fn notice(number: u64, kind: Kind, severity: Severity) -> Notice {
        Notice::new(kind, severity, at(number), &format!("title {number}"))
    }

    fn bundle(notices: Vec<Notice>, telling: Telling) -> Bundle {
        let notices: Vec<_> = notices.into_iter().map(Arc::new).collect();
        Bundle::of("msg_1".to_owned(), "group", &notices, telling, 0).unwrap()
    }

    #[test]
    fn the_gravest_are_shown_in_the_order_of_time_and_all_are_counted() {
        let mut notices: Vec<_> =
            (0..100).map(|number| notice(number, Kind::Finding, Severity::Warning)).collect();
        notices[7] = notice(7, Kind::IncidentOpened, Severity::Critical);

        let bundle = bundle(notices, Telling::Group);

        assert_eq!((bundle.count, bundle.notices.len(), bundle.omitted()), (100, SHOWN_MAX, 80));
        assert_eq!(bundle.severity, Severity::Critical);
        assert_eq!((bundle.since, bundle.until), (at(0), at(99)));
        assert_eq!(bundle.notices[0].title(), "title 7");
        assert!(bundle.notices.is_sorted_by_key(|notice| notice.at()));
        assert_eq!(bundle.title(), "title 7 (and 99 more)");
    }

    #[test]
    fn a_digest_counts_kinds_rules_and_entities_and_names_the_top_ones() {
        let mut notices = Vec::new();
        for number in 0..60_u64 {
            let about = format!("source:192.0.2.{}", number % 20);
            let rule = if number % 3 == 0 { "bola" } else { "stuffing" };
            notices.push(
                notice(number, Kind::Finding, Severity::Warning).with_rule(rule).with_about(about),
            );
        }
        notices
            .push(notice(60, Kind::BlastRadius, Severity::Critical).with_about("source:192.0.2.3"));

        let bundle = bundle(notices, Telling::Digest);

        let digest = bundle.digest.as_ref().unwrap();
        let counts = |counted: &[Counted]| -> Vec<_> {
            counted.iter().map(|one| (one.what.clone(), one.count)).collect()
        };
        assert_eq!(counts(&digest.rules), [("stuffing".to_owned(), 40), ("bola".to_owned(), 20)]);
        assert_eq!(counts(&digest.kinds)[0], ("finding".to_owned(), 60));
        assert_eq!((digest.about.len(), &*digest.about[0].what), (10, "source:192.0.2.3"));
        assert_eq!(bundle.title(), "61 notices: 60 finding, 1 blast-radius");
    }

    #[test]
    fn what_became_of_each_incident_is_known_also_in_a_digest() {
        let of = |number, kind, severity, incident: &str| {
            notice(number, kind, severity).with_incident(incident)
        };
        let news = bundle(
            vec![
                of(1, Kind::IncidentOpened, Severity::Error, "INC-1"),
                of(2, Kind::IncidentOpened, Severity::Warning, "INC-2").with_rule("bola"),
                of(3, Kind::IncidentClosed, Severity::Info, "INC-1"),
                of(4, Kind::DecisionMade, Severity::Info, "INC-2").by_operator("alice"),
            ],
            Telling::Digest,
        )
        .incidents;

        let [first, second] = &*news else { panic!("{news:?}") };
        assert_eq!((&*first.id, first.is_closed, first.severity), ("INC-1", true, Severity::Error));
        assert_eq!((&*second.id, second.is_closed, second.is_taken_up), ("INC-2", false, true));
        assert_eq!((second.rule.as_deref(), &*second.title), (Some("bola"), "title 2"));
    }

    #[test]
    fn who_has_taken_an_incident_up_is_asked_again_when_something_new_goes_wrong() {
        let of = |number, kind| notice(number, kind, Severity::Warning).with_incident("INC-1");
        let is_taken_up = |notices| bundle(notices, Telling::Group).incidents[0].is_taken_up;
        let decided = |number| of(number, Kind::DecisionMade).by_operator("alice");

        assert!(is_taken_up(vec![of(1, Kind::DecisionAsked), decided(2)]));
        assert!(is_taken_up(vec![decided(2), of(3, Kind::DecisionApplied)]));
        for trouble in [Kind::DecisionFailed, Kind::DecisionAsked, Kind::BlastRadius, Kind::Finding]
        {
            assert!(!is_taken_up(vec![decided(2), of(3, trouble)]), "{trouble}");
        }
    }

    #[test]
    fn a_bundle_has_a_longest_size_whatever_is_in_it() {
        let large = |number| {
            let mut large = notice(number, Kind::Finding, Severity::Error)
                .with_text(&"\u{1f4a5}".repeat(3_000));
            for fact in 0..16 {
                large = large.with_fact(&fact.to_string(), "\u{1f4a5}".repeat(300));
            }
            large
        };

        let json =
            serde_json::to_string(&bundle((0..50).map(large).collect(), Telling::Group)).unwrap();

        assert!(json.len() < 70_000, "{}", json.len());
    }
}
