//! What somebody is told: one thing that happened, in plain words and in fields.
//!
//! Whoever makes a notice cannot make one that is too large: every text is cut at its bound, which
//! is named beside it, and control characters become blanks.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use enforcer_model::Timestamp;
use serde::{Deserialize, Serialize};

/// Characters in a title.
pub const TITLE_MAX: usize = 200;
/// Characters in the text of a notice.
pub const TEXT_MAX: usize = 2_000;
/// Facts of a notice; more are left out.
pub const FACTS_MAX: usize = 16;
/// Characters in the value of a fact, in an id, and in whom a notice is about.
pub const FACT_MAX: usize = 256;
/// Characters in the name of a fact.
const NAME_MAX: usize = 64;

/// Something that an operator should know.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Notice {
    kind: Kind,
    severity: Severity,
    at: Timestamp,
    title: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    text: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    about: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    incident: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    decision: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    rule: Option<Arc<str>>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    facts: Vec<(String, String)>,
}

macro_rules! words {
    ($( #[$doc:meta] )* $name:ident, $error:ident, $what:literal:
     $( #[$variant_doc:meta] $variant:ident = $word:literal, )+) => {
        $( #[$doc] )*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum $name { $( #[$variant_doc] $variant, )+ }

        #[doc = concat!("The text is not ", $what, ".")]
        #[derive(Clone, Debug, PartialEq, Eq)]
        pub struct $error(String);

        impl $name {
            /// All of them, in order.
            pub const ALL: &[Self] = &[ $( Self::$variant, )+ ];
            /// Their words, in the same order.
            pub const WORDS: &[&str] = &[ $( $word, )+ ];

            /// The word for it, in policies, commands and payloads.
            pub const fn as_str(self) -> &'static str {
                match self { $( Self::$variant => $word, )+ }
            }
        }

        impl FromStr for $name {
            type Err = $error;

            fn from_str(text: &str) -> Result<Self, $error> {
                match text {
                    $( $word => Ok(Self::$variant), )+
                    _ => Err($error(text.to_owned())),
                }
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(self.as_str())
            }
        }

        impl fmt::Display for $error {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "`{}` is not {}; one of {}", self.0, $what, $name::WORDS.join(", "))
            }
        }

        impl std::error::Error for $error {}

        impl Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(self.as_str())
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
                String::deserialize(from)?.parse().map_err(serde::de::Error::custom)
            }
        }
    };
}

words! {
    /// What kind of thing happened.
    Kind, UnknownKind, "a kind of notice":
    /// A rule or a profile has noticed something.
    Finding = "finding",
    /// An incident began.
    IncidentOpened = "incident-opened",
    /// An incident got another level, or more findings.
    IncidentChanged = "incident-changed",
    /// An incident is over.
    IncidentClosed = "incident-closed",
    /// Something was decided.
    DecisionMade = "decision-made",
    /// Somebody has to approve or reject a decision.
    DecisionAsked = "decision-asked",
    /// A decision is in force, as read back from where it is enforced.
    DecisionApplied = "decision-applied",
    /// A decision could not be put in force.
    DecisionFailed = "decision-failed",
    /// A decision is over.
    DecisionExpired = "decision-expired",
    /// Decisions would have hit too many; they wait for approval.
    BlastRadius = "blast-radius",
    /// An upstream gets nothing more.
    UpstreamIsolated = "upstream-isolated",
    /// The incident level is another one.
    LevelChanged = "level-changed",
    /// The audit log is not as it should be.
    AuditTrouble = "audit-trouble",
    /// Notices could not be delivered, or were dropped.
    DeliveryTrouble = "delivery-trouble",
    /// An operator tries out a receiver.
    Test = "test",
}

words! {
    /// How much it matters; the least first.
    Severity, UnknownSeverity, "a severity":
    /// Good to know.
    Info = "info",
    /// Somebody should look tomorrow.
    Warning = "warning",
    /// Somebody should look today.
    Error = "error",
    /// Somebody should look now.
    Critical = "critical",
}

// === impl Notice ===

impl Notice {
    /// One that says `title`, and nothing more yet.
    pub fn new(kind: Kind, severity: Severity, at: Timestamp, title: &str) -> Self {
        Self {
            kind,
            severity,
            at,
            title: cut(title, TITLE_MAX),
            text: String::new(),
            about: None,
            incident: None,
            decision: None,
            rule: None,
            facts: Vec::new(),
        }
    }

    /// The same with more words: why, and what can be done.
    pub fn with_text(mut self, text: &str) -> Self {
        self.text = cut(text, TEXT_MAX);
        self
    }

    /// The same with whom or what it is about, as entities are written: `source:203.0.113.7`.
    pub fn with_about(mut self, about: impl fmt::Display) -> Self {
        self.about = Some(cut(&about.to_string(), FACT_MAX));
        self
    }

    /// The same with its incident: notices of one incident are told together.
    pub fn with_incident(mut self, id: impl fmt::Display) -> Self {
        self.incident = Some(cut(&id.to_string(), FACT_MAX));
        self
    }

    /// The same with the decision that it tells of.
    pub fn with_decision(mut self, id: impl fmt::Display) -> Self {
        self.decision = Some(cut(&id.to_string(), FACT_MAX));
        self
    }

    /// The same with the rule that found it.
    pub fn with_rule(mut self, rule: &str) -> Self {
        self.rule = Some(cut(rule, FACT_MAX).into());
        self
    }

    /// The same with one more fact; one of the same name is replaced.
    pub fn with_fact(mut self, name: &str, value: impl fmt::Display) -> Self {
        let (name, value) = (cut(name, NAME_MAX), cut(&value.to_string(), FACT_MAX));
        if let Some((_, old)) = self.facts.iter_mut().find(|(known, _)| *known == name) {
            *old = value;
        } else if self.facts.len() < FACTS_MAX {
            self.facts.push((name, value));
        }
        self
    }

    /// What kind of thing happened.
    pub const fn kind(&self) -> Kind {
        self.kind
    }

    /// How much it matters.
    pub const fn severity(&self) -> Severity {
        self.severity
    }

    /// When it happened.
    pub const fn at(&self) -> Timestamp {
        self.at
    }

    /// It in one line.
    pub fn title(&self) -> &str {
        &self.title
    }

    /// More words; may be empty.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Whom or what it is about.
    pub fn about(&self) -> Option<&str> {
        self.about.as_deref()
    }

    /// The incident that it belongs to.
    pub fn incident(&self) -> Option<&str> {
        self.incident.as_deref()
    }

    /// The decision that it tells of.
    pub fn decision(&self) -> Option<&str> {
        self.decision.as_deref()
    }

    /// The rule that found it.
    pub fn rule(&self) -> Option<&str> {
        self.rule.as_deref()
    }

    /// What else is known, in the order in which it was added.
    pub fn facts(&self) -> &[(String, String)] {
        &self.facts
    }

    /// About how many bytes it takes on the wire and on disk.
    pub(crate) fn size(&self) -> usize {
        const FRAME: usize = 200;
        let ids = [&self.about, &self.incident, &self.decision];
        let ids = ids.into_iter().flatten().map(String::len).sum::<usize>();
        let facts = self.facts.iter().map(|(name, value)| name.len() + value.len() + 8);
        FRAME + self.title.len() + self.text.len() + ids + facts.sum::<usize>()
    }

    /// What it is told together with: its incident, else its rule and whom it is about, else its
    /// kind.
    pub fn group(&self) -> String {
        match (&self.incident, &self.rule, &self.about) {
            (Some(incident), _, _) => format!("incident/{incident}"),
            (None, Some(rule), Some(about)) => format!("rule/{rule}/{about}"),
            (None, Some(rule), None) => format!("rule/{rule}"),
            (None, None, Some(about)) => format!("{}/{about}", self.kind),
            (None, None, None) => self.kind.to_string(),
        }
    }
}

impl Kind {
    /// Whether somebody waits for it: it is not held back because the same was told shortly before.
    pub const fn is_urgent(self) -> bool {
        match self {
            Self::DecisionAsked
            | Self::BlastRadius
            | Self::DecisionFailed
            | Self::IncidentClosed
            | Self::LevelChanged
            | Self::AuditTrouble
            | Self::UpstreamIsolated
            | Self::Test => true,
            Self::Finding
            | Self::IncidentOpened
            | Self::IncidentChanged
            | Self::DecisionMade
            | Self::DecisionApplied
            | Self::DecisionExpired
            | Self::DeliveryTrouble => false,
        }
    }
}

impl Kind {
    /// Whether an operator who has taken an incident up does not know of this yet.
    pub(crate) const fn is_trouble(self) -> bool {
        matches!(
            self,
            Self::Finding
                | Self::IncidentOpened
                | Self::DecisionAsked
                | Self::DecisionFailed
                | Self::BlastRadius
        )
    }
}

/// At most `most` characters of `text`, without control characters; line ends stay.
pub(crate) fn cut(text: &str, most: usize) -> String {
    let clean = |c: char| if c.is_control() && c != '\n' { ' ' } else { c };
    let mut characters = text.chars().map(clean);
    let mut kept: String = characters.by_ref().take(most).collect();
    if characters.next().is_some() {
        kept.pop();
        kept.push('…');
    }
    kept
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn notice() -> Notice {
        let at = Timestamp::from_unix_seconds(1_795_000_000);
        Notice::new(Kind::Finding, Severity::Error, at, "60 different objects in 10m")
    }

    #[test]
    fn notices_of_one_incident_are_told_together_and_others_by_rule_and_entity() {
        let of = |notice: Notice| notice.group();

        assert_eq!(of(notice().with_rule("bola").with_incident("INC-0042")), "incident/INC-0042");
        assert_eq!(
            of(notice().with_rule("bola").with_about("source:192.0.2.1")),
            "rule/bola/source:192.0.2.1"
        );
        assert_eq!(of(notice().with_rule("bola")), "rule/bola");
        assert_eq!(of(notice().with_about("everyone")), "finding/everyone");
        assert_eq!(of(notice()), "finding");
    }

    #[test]
    fn a_fact_is_told_once_and_no_more_than_sixteen_are() {
        let mut told = notice().with_fact("limit", 59).with_fact("limit", 60);
        assert_eq!(told.facts(), [("limit".to_owned(), "60".to_owned())]);

        for number in 0..100 {
            told = told.with_fact(&format!("fact {number}"), number);
        }
        assert_eq!(told.facts().len(), FACTS_MAX);
    }

    #[test]
    fn words_survive_printing_and_parsing_and_others_are_refused_with_those_that_exist() {
        for kind in Kind::ALL {
            assert_eq!(kind.to_string().parse(), Ok(*kind));
        }
        for severity in Severity::ALL {
            assert_eq!(severity.to_string().parse(), Ok(*severity));
        }
        let refused = "bad".parse::<Severity>().unwrap_err().to_string();
        assert_eq!(refused, "`bad` is not a severity; one of info, warning, error, critical");
        assert!(Severity::Info < Severity::Warning && Severity::Error < Severity::Critical);
    }

    proptest! {
        #[test]
        fn whatever_is_told_stays_within_its_bounds_and_survives_the_disk(
            title in "\\PC{0,300}[\\x00-\\x1f]{0,3}", text in ".{0,2500}", about in ".{0,400}",
        ) {
            let told = notice().with_text(&text).with_about(&about).with_fact(&title, &about);
            let told = Notice { title: cut(&title, TITLE_MAX), ..told };

            prop_assert!(told.title().chars().count() <= TITLE_MAX);
            prop_assert!(told.text().chars().count() <= TEXT_MAX);
            prop_assert!(told.about().unwrap().chars().count() <= FACT_MAX);
            prop_assert!(!told.title().chars().any(|c| c.is_control() && c != '\n'));
            let json = serde_json::to_string(&told).unwrap();
            prop_assert_eq!(serde_json::from_str::<Notice>(&json).unwrap(), told);
        }
    }
}
