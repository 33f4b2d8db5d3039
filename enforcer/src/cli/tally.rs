//! Counting records: by whom, from where, what for, with what outcome, and when.
//!
//! A tally takes one record after the other and holds no record. What it counts by is bounded; what
//! does not fit any more is counted together.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

use enforcer_audit::Stored;
use serde::Serialize;
use serde_json::Value;

/// Different things that are counted apart, of one kind.
const APART_MAX: usize = 50_000;

/// What many records come to.
#[derive(Debug, Default, Serialize)]
pub(crate) struct Tally {
    pub(crate) records: u64,
    pub(crate) first: Option<Mark>,
    pub(crate) last: Option<Mark>,
    pub(crate) requests: u64,
    pub(crate) served: u64,
    pub(crate) refused: u64,
    pub(crate) bytes_in: u64,
    pub(crate) bytes_out: u64,
    /// Bytes of the records themselves.
    pub(crate) record_bytes: u64,
    pub(crate) latency_us: Latency,
    pub(crate) classes: Counts,
    pub(crate) addresses: Counts,
    pub(crate) routes: Counts,
    pub(crate) callers: Counts,
    pub(crate) tokens: Counts,
    pub(crate) credentials: Counts,
    pub(crate) reasons: Counts,
    pub(crate) statuses: Counts,
    pub(crate) decisions: Counts,
    pub(crate) gaps: Counts,
    /// Records that gaps stand for.
    pub(crate) missing: u64,
}

/// One record, and when it was written.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Mark {
    pub(crate) time: String,
    pub(crate) record: u64,
}

/// Things of one kind.
#[derive(Debug, Default)]
pub(crate) struct Counts {
    things: BTreeMap<String, Count>,
    /// Records with things that were not counted apart.
    others: u64,
}

/// What is known of one thing.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Count {
    pub(crate) records: u64,
    pub(crate) refused: u64,
    pub(crate) bytes_in: u64,
    pub(crate) bytes_out: u64,
    pub(crate) first: Mark,
    pub(crate) last: Mark,
}

/// Times in microseconds, to an eighth of their size.
#[derive(Debug, Default)]
pub(crate) struct Latency {
    buckets: BTreeMap<u64, u64>,
    count: u64,
    most: u64,
}

/// What one request adds.
#[derive(Clone, Copy, Debug, Default)]
struct Share {
    is_refused: bool,
    bytes_in: u64,
    bytes_out: u64,
}

impl Tally {
    /// Counts one record.
    pub(crate) fn add(&mut self, record: &Stored) {
        let Ok(json) = record.json() else { return };
        let class = text(&json, "/class").unwrap_or_default();
        let time = text(&json, "/time").unwrap_or_default();
        let mark = Mark { time: time.to_owned(), record: record.index };
        self.records += 1;
        self.record_bytes += u64::try_from(record.text.len()).unwrap_or(u64::MAX);
        self.first.get_or_insert_with(|| mark.clone());
        self.last = Some(mark.clone());
        self.classes.add(class, Share::default(), &mark);
        let what = text(&json, "/body/what");
        match class {
            "http" => self.request(&json, &mark),
            "block" | "list" | "endpoint" | "upstream" => {
                let decision = format!("{class} {}", what.unwrap_or_default());
                self.decisions.add(&decision, Share::default(), &mark);
            }
            "finding" => {
                let decision = format!("finding {}", text(&json, "/body/rule").unwrap_or_default());
                self.decisions.add(&decision, Share::default(), &mark);
            }
            "admin" => {
                let decision = format!("admin {}", text(&json, "/body/verb").unwrap_or_default());
                self.decisions.add(&decision, Share::default(), &mark);
            }
            "gap" => {
                let why = text(&json, "/body/why").unwrap_or_default();
                self.gaps.add(why, Share::default(), &mark);
                self.missing = self.missing.saturating_add(number(&json, "/body/records"));
            }
            _ => {}
        }
    }

    fn request(&mut self, json: &Value, mark: &Mark) {
        let reason = text(json, "/body/reason");
        let share = Share {
            is_refused: reason.is_some(),
            bytes_in: number(json, "/body/bytes_in"),
            bytes_out: number(json, "/body/bytes_out"),
        };
        self.requests += 1;
        if share.is_refused {
            self.refused += 1;
        } else {
            self.served += 1;
        }
        self.bytes_in = self.bytes_in.saturating_add(share.bytes_in);
        self.bytes_out = self.bytes_out.saturating_add(share.bytes_out);
        self.latency_us.add(number(json, "/body/duration_us"));
        if let Some(source) = source(json) {
            self.addresses.add(source, share, mark);
        }
        let things = [
            (&mut self.routes, "/body/route"),
            (&mut self.callers, "/body/who/principal"),
            (&mut self.tokens, "/body/who/token"),
            (&mut self.credentials, "/body/credential"),
            (&mut self.reasons, "/body/reason"),
        ];
        for (counts, path) in things {
            if let Some(thing) = text(json, path) {
                counts.add(thing, share, mark);
            }
        }
        self.statuses.add(&number(json, "/body/status").to_string(), share, mark);
    }
}

/// Where a request came from, without the port.
pub(crate) fn source(json: &Value) -> Option<&str> {
    let named = text(json, "/body/source");
    named.or_else(|| {
        let peer = text(json, "/body/peer")?;
        let host = peer.rsplit_once(':').map_or(peer, |(host, _)| host);
        let is_tcp = !peer.starts_with("unix:");
        Some(if is_tcp { host.trim_start_matches('[').trim_end_matches(']') } else { peer })
    })
}

pub(crate) fn text<'a>(json: &'a Value, pointer: &str) -> Option<&'a str> {
    json.pointer(pointer).and_then(Value::as_str)
}

pub(crate) fn number(json: &Value, pointer: &str) -> u64 {
    json.pointer(pointer).and_then(Value::as_u64).unwrap_or(0)
}

// === impl Counts ===

impl Counts {
    fn add(&mut self, thing: &str, share: Share, mark: &Mark) {
        let is_full = self.things.len() >= APART_MAX;
        let count = match self.things.entry(thing.to_owned()) {
            Entry::Occupied(count) => count.into_mut(),
            Entry::Vacant(_) if is_full => {
                self.others += 1;
                return;
            }
            Entry::Vacant(place) => place.insert(Count {
                records: 0,
                refused: 0,
                bytes_in: 0,
                bytes_out: 0,
                first: mark.clone(),
                last: mark.clone(),
            }),
        };
        count.records += 1;
        count.refused += u64::from(share.is_refused);
        count.bytes_in = count.bytes_in.saturating_add(share.bytes_in);
        count.bytes_out = count.bytes_out.saturating_add(share.bytes_out);
        count.last = mark.clone();
    }

    /// The most frequent first; then by name.
    pub(crate) fn top(&self) -> Vec<(&str, &Count)> {
        let mut top: Vec<_> = self.things.iter().map(|(thing, count)| (&**thing, count)).collect();
        top.sort_by_key(|(_, count)| std::cmp::Reverse(count.records));
        top
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.things.is_empty()
    }

    pub(crate) fn len(&self) -> usize {
        self.things.len()
    }
}

impl Serialize for Counts {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        #[derive(Serialize)]
        struct Named<'a> {
            name: &'a str,
            #[serde(flatten)]
            count: &'a Count,
        }
        let named = self.top().into_iter().map(|(name, count)| Named { name, count });
        serializer.collect_seq(named)
    }
}

// === impl Latency ===

impl Latency {
    fn add(&mut self, us: u64) {
        // The highest bit and the three below it.
        let bits = us.max(1).ilog2().saturating_sub(3);
        *self.buckets.entry(us >> bits << bits).or_default() += 1;
        self.count += 1;
        self.most = self.most.max(us);
    }

    /// What so many of a thousand requests did not exceed, or not by more than an eighth.
    pub(crate) fn quantile(&self, thousandths: u64) -> u64 {
        let wanted = self.count.saturating_mul(thousandths).div_ceil(1_000);
        let mut seen = 0;
        for (us, count) in &self.buckets {
            seen += count;
            if seen >= wanted {
                return *us;
            }
        }
        self.most
    }

    pub(crate) const fn most(&self) -> u64 {
        self.most
    }
}

impl Serialize for Latency {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let (p50, p95, p99) = (self.quantile(500), self.quantile(950), self.quantile(990));
        let told = BTreeMap::from([("p50", p50), ("p95", p95), ("p99", p99), ("max", self.most)]);
        told.serialize(serializer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(index: u64, body: &str) -> Stored {
        let text = format!(r#"{{"class":"http","time":"T{index}","body":{body}}}"#);
        Stored::new(index, text)
    }

    #[test]
    fn requests_are_counted_by_address_route_and_reason() {
        let mut tally = Tally::default();
        tally.add(&request(
            3,
            r#"{"peer":"203.0.113.7:1","route":"orders","status":200,"reason":null,"bytes_out":7,"duration_us":900}"#,
        ));
        tally.add(&request(
            5,
            r#"{"peer":"[2001:db8::1]:2","source":"203.0.113.7","status":401,"reason":"key-unknown","bytes_out":1}"#,
        ));
        tally.add(&request(9, r#"{"peer":"[2001:db8::1]:2","status":200,"reason":null}"#));

        let addresses: Vec<_> = tally
            .addresses
            .top()
            .iter()
            .map(|(name, it)| (*name, it.records, it.refused))
            .collect();
        assert_eq!(addresses, [("203.0.113.7", 2, 1), ("2001:db8::1", 1, 0)]);
        assert_eq!((tally.requests, tally.served, tally.refused), (3, 2, 1));
        assert_eq!(tally.bytes_out, 8);
        assert_eq!(tally.reasons.top().first().map(|(name, _)| *name), Some("key-unknown"));
        let (first, last) = (tally.first.unwrap(), tally.last.unwrap());
        assert_eq!((first.record, last.record), (3, 9));
    }

    #[test]
    fn a_quantile_is_near_the_truth() {
        let mut latency = Latency::default();
        (1..=1_000).for_each(|us| latency.add(us));

        for (thousandths, truth) in [(500, 500), (950, 950), (990, 990)] {
            let told = latency.quantile(thousandths);
            assert!(told <= truth && told >= truth - truth / 8, "{told} for {truth}");
        }
        assert_eq!(latency.most(), 1_000);
    }
}
