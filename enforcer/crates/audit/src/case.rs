//! What detection led to: new findings, incidents, decisions, each transition a record.
//!
//! All that belongs to an incident carries its id, so that `incident:INC-0042` finds it. Whom a
//! record is about stands in the fields that other records have for it: an address as `target` or
//! `source`, a caller as `who`, a credential by its fingerprint.

use std::sync::Arc;
use std::time::Duration;

use enforcer_model::{
    Author, DecisionId, FindingId, Fingerprint, IncidentId, Prefix, Principal, RequestId, Source,
    Timestamp,
};
use serde::ser::{SerializeMap, SerializeStruct};
use serde::{Serialize, Serializer};

use crate::record::{cut_author, cut_option, cut_text, micros};

/// Whom or what a finding or a decision is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Whom {
    /// An address or network.
    Source(Prefix),
    /// A caller.
    Identity(Principal),
    /// A credential, by its fingerprint.
    Credential(Fingerprint),
    /// A kind of TLS client.
    Ja4(Arc<str>),
    /// A route of the policy.
    Route(Arc<str>),
    /// The host of an upstream.
    Upstream(Arc<str>),
    /// All traffic together.
    Everyone,
}

/// Something was found by a rule or a profile.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FoundRecord {
    /// Its name.
    pub id: FindingId,
    /// What it is part of.
    pub incident: IncidentId,
    /// What found it.
    pub rule: Arc<str>,
    /// Whom it is about.
    pub about: Whom,
    /// Who else was there when it was completed.
    pub there: There,
    /// The span of time that was looked at.
    pub window: Duration,
    /// Why, in plain words, the most telling first.
    pub signals: Vec<String>,
    /// Requests that were counted, newest last.
    pub evidence: Vec<RequestId>,
}

/// Who completed a finding.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct There {
    /// Where the request came from.
    pub source: Option<Source>,
    /// The proxy by whose word that is known.
    pub through: Option<Source>,
    /// The caller.
    pub who: Option<Principal>,
    /// The credential.
    pub credential: Option<Fingerprint>,
    /// The TLS client.
    pub ja4: Option<Arc<str>>,
    /// The route.
    pub route: Option<Arc<str>>,
    /// The host of the upstream.
    pub upstream: Option<Arc<str>>,
}

/// An incident began or is over.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct IncidentChange {
    /// Which of the two.
    pub what: IncidentEvent,
    /// Its name.
    pub incident: IncidentId,
    /// What it is about.
    pub title: String,
    /// Findings so far.
    pub findings: u64,
    /// Its decisions so far, as far as they are kept.
    pub decisions: Vec<DecisionId>,
    /// Who opened or closed it.
    pub author: Author,
    /// Why.
    pub reason: Option<String>,
}

/// What happened to an incident.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum IncidentEvent {
    /// It is over.
    Closed,
    /// It began.
    Opened,
}

/// A decision came about, or changed its state.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DecisionChange {
    /// What happened: `ordered`, `applied`, `partly`, `failed`, `asked`, `approved`, `rejected`,
    /// `lapsed`, `observed`, `refused`, `extended`, `expired`, `rolled-back`, `undone`,
    /// `not-undone`.
    pub what: &'static str,
    /// What it is part of.
    pub incident: IncidentId,
    /// Its name.
    pub decision: DecisionId,
    /// What it answers.
    pub finding: Option<FindingId>,
    /// The rule that asked for it.
    pub rule: Arc<str>,
    /// What is done.
    pub action: String,
    /// Whom it hits.
    pub target: Whom,
    /// The proxy by whose word a source is known.
    pub through: Option<Source>,
    /// `observe`, `approve`, `auto`.
    pub mode: &'static str,
    /// How long it lasts.
    pub ttl: Duration,
    /// When it, or the wait for an operator's word, ends by itself.
    pub until: Timestamp,
    /// Who caused this transition.
    pub author: Author,
    /// The explanation of the finding, or the operator's words.
    pub reason: String,
    /// Where it is in force, read back.
    pub applied: Vec<String>,
    /// Why it was refused, what went wrong, what an operator said.
    pub detail: Option<String>,
}

impl Whom {
    const fn kind(&self) -> &'static str {
        match self {
            Self::Source(_) => "source",
            Self::Identity(_) => "identity",
            Self::Credential(_) => "credential",
            Self::Ja4(_) => "ja4",
            Self::Route(_) => "route",
            Self::Upstream(_) => "upstream",
            Self::Everyone => "everyone",
        }
    }
}

/// Fields that name somebody, each at most once.
#[derive(Default)]
struct Named<'a> {
    target: Option<Prefix>,
    source: Option<Source>,
    through: Option<Source>,
    who: Option<&'a Principal>,
    credential: Option<Fingerprint>,
    ja4: Option<&'a str>,
    route: Option<&'a str>,
    upstream: Option<&'a str>,
}

impl<'a> Named<'a> {
    fn new(whom: &'a Whom, there: &'a There) -> Self {
        let mut named = Self {
            target: None,
            source: there.source,
            through: there.through,
            who: there.who.as_ref(),
            credential: there.credential,
            ja4: there.ja4.as_deref(),
            route: there.route.as_deref(),
            upstream: there.upstream.as_deref(),
        };
        match whom {
            Whom::Source(network) => named.target = Some(*network),
            Whom::Identity(who) => named.who = Some(who),
            Whom::Credential(print) => named.credential = Some(*print),
            Whom::Ja4(ja4) => named.ja4 = Some(ja4),
            Whom::Route(route) => named.route = Some(route),
            Whom::Upstream(host) => named.upstream = Some(host),
            Whom::Everyone => {}
        }
        named
    }

    fn serialize<S: SerializeStruct>(&self, body: &mut S) -> Result<(), S::Error> {
        let Self { target, source, through, who, credential, ja4, route, upstream } = self;
        if let Some(target) = target {
            body.serialize_field("target", target)?;
        }
        if let Some(source) = source {
            body.serialize_field("source", source)?;
        }
        if let Some(through) = through {
            body.serialize_field("through", through)?;
        }
        if let Some(who) = who {
            body.serialize_field("who", &Caller(who))?;
        }
        if let Some(credential) = credential {
            body.serialize_field("credential", credential)?;
        }
        for (name, value) in [("ja4", ja4), ("route", route), ("upstream", upstream)] {
            if let Some(value) = value {
                body.serialize_field(name, value)?;
            }
        }
        Ok(())
    }
}

/// A caller, in the form that records of requests have.
struct Caller<'a>(&'a Principal);

impl Serialize for Caller<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut who = serializer.serialize_map(Some(1))?;
        who.serialize_entry("principal", self.0)?;
        who.end()
    }
}

impl Serialize for FoundRecord {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Self { id, incident, rule, about, there, window, signals, evidence } = self;
        let mut body = serializer.serialize_struct("Found", 15)?;
        body.serialize_field("finding", id)?;
        body.serialize_field("incident", incident)?;
        body.serialize_field("rule", rule)?;
        body.serialize_field("about", about.kind())?;
        Named::new(about, there).serialize(&mut body)?;
        body.serialize_field("window_us", &micros(*window))?;
        body.serialize_field("signals", signals)?;
        body.serialize_field("evidence", evidence)?;
        body.end()
    }
}

impl Serialize for DecisionChange {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Self {
            what,
            incident,
            decision,
            finding,
            rule,
            action,
            target,
            through,
            mode,
            ttl,
            until,
            author,
            reason,
            applied,
            detail,
        } = self;
        let mut body = serializer.serialize_struct("Decision", 22)?;
        body.serialize_field("what", what)?;
        body.serialize_field("incident", incident)?;
        body.serialize_field("decision", decision)?;
        body.serialize_field("finding", finding)?;
        body.serialize_field("rule", rule)?;
        body.serialize_field("action", action)?;
        body.serialize_field("about", target.kind())?;
        let there = There { through: *through, ..There::default() };
        Named::new(target, &there).serialize(&mut body)?;
        body.serialize_field("mode", mode)?;
        body.serialize_field("ttl_us", &micros(*ttl))?;
        body.serialize_field("until", until)?;
        body.serialize_field("author", author)?;
        body.serialize_field("reason", reason)?;
        body.serialize_field("applied", applied)?;
        body.serialize_field("detail", detail)?;
        body.end()
    }
}

impl FoundRecord {
    pub(crate) fn cut(&mut self, longest: usize) {
        self.signals.truncate(longest);
        self.signals.iter_mut().for_each(|signal| cut_text(signal, longest));
        self.evidence.truncate(longest);
    }
}

impl IncidentChange {
    pub(crate) fn cut(&mut self, longest: usize) {
        cut_text(&mut self.title, longest);
        self.decisions.truncate(longest);
        cut_author(&mut self.author, longest);
        cut_option(&mut self.reason, longest);
    }
}

impl DecisionChange {
    pub(crate) fn cut(&mut self, longest: usize) {
        cut_text(&mut self.action, longest);
        cut_author(&mut self.author, longest);
        cut_text(&mut self.reason, longest);
        self.applied.truncate(longest);
        self.applied.iter_mut().for_each(|place| cut_text(place, longest));
        cut_option(&mut self.detail, longest);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::Record;
    use crate::select::Selector;
    use crate::stored::Stored;

    fn stored(record: &Record) -> Stored {
        let body = serde_json::to_string(record).unwrap();
        let class = record.class();
        Stored::new(0, format!(r#"{{"v":1,"index":0,"class":"{class}","body":{body}}}"#))
    }

    #[test]
    fn every_record_of_an_incident_is_found_by_its_name_and_by_whom_it_is_about() {
        let incident = IncidentId::from_number(42);
        let decision = DecisionId::from_bits(7);
        let found = stored(&Record::Found(Box::new(FoundRecord {
            id: FindingId::from_bits(3),
            incident,
            rule: "bola".into(),
            about: Whom::Identity(Principal::from_token("corp", "eve")),
            there: There { source: Some(Source::new([203, 0, 113, 7].into())), ..There::default() },
            window: Duration::from_secs(600),
            signals: vec!["60 objects".into()],
            evidence: vec![RequestId::from_bits(9)],
        })));
        let decided = stored(&Record::Decision(Box::new(DecisionChange {
            what: "applied",
            incident,
            decision,
            finding: None,
            rule: "bola".into(),
            action: "drop the source".into(),
            target: Whom::Source("203.0.113.7".parse().unwrap()),
            through: None,
            mode: "auto",
            ttl: Duration::from_secs(60),
            until: Timestamp::from_unix_seconds(60),
            author: Author::Agent,
            reason: "60 objects".into(),
            applied: vec!["layer 7".into()],
            detail: None,
        })));
        let closed = stored(&Record::Incident(Box::new(IncidentChange {
            what: IncidentEvent::Closed,
            incident,
            title: "bola: identity:token:corp/eve".into(),
            findings: 1,
            decisions: vec![decision],
            author: Author::Agent,
            reason: None,
        })));
        let finds = |selector: &str| {
            let selector: Selector = selector.parse().unwrap();
            [&found, &decided, &closed].map(|record| selector.matches(record))
        };

        assert_eq!(finds("incident:INC-0042"), [true; 3]);
        assert_eq!(finds("INC-0042"), [true; 3]);
        assert_eq!(finds("incident:INC-0043"), [false; 3]);
        assert_eq!(finds(&decision.to_string()), [false, true, true]);
        assert_eq!(finds("principal:token:corp/eve"), [true, false, false]);
        assert_eq!(finds("203.0.113.0/24"), [true, true, false]);
        assert_eq!(finds("rule:bola"), [true, true, false]);
        assert_eq!(finds("request:00000000000000000000000000000009"), [true, false, false]);
        assert_eq!(finds("level:42"), [false; 3]);
    }

    #[test]
    fn long_texts_are_cut() {
        let mut record = IncidentChange {
            what: IncidentEvent::Opened,
            incident: IncidentId::from_number(1),
            title: "x".repeat(10_000),
            findings: 0,
            decisions: Vec::new(),
            author: Author::Agent,
            reason: Some("y".repeat(10_000)),
        };

        record.cut(128);

        assert!(record.title.len() < 200 && record.reason.unwrap().len() < 200);
    }
}
