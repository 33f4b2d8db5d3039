//! `[limit]`: how much callers may ask for, alone and together.

use std::num::{NonZeroU32, NonZeroU64};
use std::sync::Arc;

use enforcer_authz::Condition;
use enforcer_limits::{Allotment, By, Cost, Durability, Kind, Limit};
use enforcer_model::Rate;

use super::conditions::{Names, condition};
use super::roles::reserved;
use crate::codes::{EXCLUDES, MISSING_KEY, MISSING_PART, NEVER_ADMITS, NO_REGIONS};
use crate::grammar::{
    ALLOTMENT, CALLERS, CONDITION, COST, Fields, Key, Named, Need, RATE, Shape, claim_path,
};
use crate::problem::Report;

/// A limit, and when it holds.
#[derive(Clone, Debug)]
pub struct Charged {
    /// Whom it counts, how much, and what a request costs.
    pub limit: Arc<Limit>,
    /// It holds only while this does; where that cannot be told, it holds.
    pub when: Option<Arc<Condition>>,
    /// Its place in [`crate::Policy::limits`].
    pub number: usize,
}

pub(super) static KEYS: &[Key] = &[
    Key::required(
        "by",
        Shape::Text(&CALLERS),
        "Who is counted: `principal`, `key`, `ip` (IPv6 by /64), `prefix`, `application`, `route`, \
         `role`, `region`, `global` or `claims.NAME`.",
    ),
    Key::optional("rate", Shape::Text(&RATE), "Requests in the long run: `100/s`, `6/m`, `50/h`."),
    Key::optional(
        "burst",
        Shape::Count(1, 0xFFFF_FFFF),
        "Requests at once, beside `rate`. Without it: as many as the rate says.",
    ),
    Key::optional(
        "quota",
        Shape::Text(&ALLOTMENT),
        "So much in every hour, day or month (UTC); survives restarts.",
    ),
    Key::with_default(
        "strict",
        Shape::Flag,
        Need::False,
        "Of a quota: not even a crash lets it be overspent.",
    ),
    Key::optional("concurrent", Shape::Count(1, 1 << 20), "Requests under way at the same time."),
    Key::optional(
        "cost",
        Shape::CountOr(1, 0xFFFF_FFFF, &COST),
        "What one request costs: a number, or its bytes: `response.kib / 1024`. Without it: 1.",
    ),
    Key::optional("when", Shape::Text(&CONDITION), "The limit holds while this condition does."),
    Key::optional("v4", Shape::Count(8, 32), "With `by = \"prefix\"`: the IPv4 length; 24."),
    Key::optional("v6", Shape::Count(16, 64), "With `by = \"prefix\"`: the IPv6 length; 64."),
    Key::with_default(
        "headers",
        Shape::Flag,
        Need::False,
        "Tell callers what is left (`RateLimit`, `RateLimit-Policy`).",
    ),
];

pub(super) fn read(root: Fields<'_>, names: &Names<'_>, report: &mut Report) -> Vec<Charged> {
    let mut limits = Vec::new();
    for entry in root.named("limit") {
        reserved(entry.name, entry.span, report);
        let Some(fields) = entry.fields(KEYS) else { continue };
        let when = condition(fields, &[], names, report);
        if let (Some(limit), Some(when)) = (limit(entry, fields, names, report), when) {
            let number = limits.len();
            limits.push(Charged { limit: Arc::new(limit), when: when.map(Arc::new), number });
        }
    }
    limits
}

fn limit(
    entry: Named<'_>,
    fields: Fields<'_>,
    names: &Names<'_>,
    report: &mut Report,
) -> Option<Limit> {
    let by = by(fields, names, report);
    let kind = kind(entry, fields, report);
    let cost = match fields.count("cost") {
        Some(weight) => Cost::Weight(NonZeroU32::new(u32::try_from(weight).ok()?)?),
        None if fields.has("cost") => fields.parsed("cost")?,
        None => Cost::ONE,
    };
    let (by, kind) = (by?, kind?);
    admits(kind, cost, fields, report)?;
    let limit = Limit::new(entry.name, by, kind).costing(cost);
    Some(if fields.flag("headers")? { limit.with_headers() } else { limit })
}

fn by(fields: Fields<'_>, names: &Names<'_>, report: &mut Report) -> Option<By> {
    let word = fields.text("by")?;
    for key in ["v4", "v6"].into_iter().filter(|key| word != "prefix" && fields.has(key)) {
        let message = format!("`{key}` has no meaning while `by` is not \"prefix\"");
        report.add(
            &MISSING_PART,
            fields.span_of(key),
            message,
            "write `by = \"prefix\"`, or remove it".to_owned(),
        );
    }
    let length = |key, standard| match fields.has(key) {
        true => fields.count(key).and_then(|length| u8::try_from(length).ok()),
        false => Some(standard),
    };
    Some(match word {
        "application" => By::Application,
        "global" => By::Global,
        "ip" => By::Ip,
        "key" => By::Key,
        "prefix" => By::Prefix { v4: length("v4", 24)?, v6: length("v6", 64)? },
        "principal" => By::Principal,
        "region" => {
            if !names.vocabulary.has_regions {
                let message = "a limit by region needs a database that knows regions";
                let hint = "add `[region]` with `database = \"FILE.mmdb\"`".to_owned();
                report.add(&NO_REGIONS, fields.span_of("by"), message, hint);
            }
            By::Region
        }
        "role" => By::Role,
        "route" => By::Route,
        claim => By::Claim(claim_path(claim)?.into_iter().map(Box::from).collect()),
    })
}

fn kind(entry: Named<'_>, fields: Fields<'_>, report: &mut Report) -> Option<Kind> {
    let mut written = ["rate", "quota", "concurrent"].into_iter().filter(|key| fields.has(key));
    let Some(first) = written.next() else {
        let message = format!("limit `{}` does not say how much", entry.name);
        let hint = "add `rate = \"100/s\"`, `quota = \"50/day\"` or `concurrent = 10`".to_owned();
        report.add(&MISSING_KEY, entry.span, message, hint);
        return None;
    };
    if let Some(second) = written.next() {
        let message = format!("limit `{}` has both `{first}` and `{second}`", entry.name);
        let hint = "make two limits; a route takes any number of them".to_owned();
        report.add(&EXCLUDES, fields.span_of(second), message, hint);
        return None;
    }
    for (key, beside) in [("burst", "rate"), ("strict", "quota")] {
        if fields.has(key) && first != beside {
            let message = format!("`{key}` has no meaning without `{beside}`");
            let hint = format!("write it beside `{beside}`, or remove it");
            report.add(&MISSING_PART, fields.span_of(key), message, hint);
        }
    }
    Some(match first {
        "rate" => {
            let rate: Rate = fields.parsed("rate")?;
            let burst = match fields.has("burst") {
                true => u32::try_from(fields.count("burst")?).ok()?,
                false => rate.count(),
            };
            Kind::Rate { rate, burst: NonZeroU32::new(burst)? }
        }
        "quota" => {
            let Allotment { amount, period } = fields.parsed("quota")?;
            let durability = match fields.flag("strict")? {
                true => Durability::Strict,
                false => Durability::Background,
            };
            Kind::Quota { amount, period, durability }
        }
        _ => {
            let most = u32::try_from(fields.count("concurrent")?).ok()?;
            Kind::Concurrent(NonZeroU32::new(most)?)
        }
    })
}

/// `None`, and told, when no request would ever be admitted, or the cost means nothing.
fn admits(kind: Kind, cost: Cost, fields: Fields<'_>, report: &mut Report) -> Option<()> {
    let span = fields.span_of("cost");
    let never = |most: u64, report: &mut Report| {
        let message = format!("one request costs more than the limit holds, which is {most}");
        report.add(&NEVER_ADMITS, span, message, "lower the cost, or raise the limit".to_owned());
        None
    };
    match (kind, cost) {
        (Kind::Rate { burst, .. }, Cost::Weight(weight)) if weight > burst => {
            never(u64::from(burst.get()), report)
        }
        (Kind::Quota { amount, .. }, Cost::Weight(weight)) if NonZeroU64::from(weight) > amount => {
            never(amount.get(), report)
        }
        (Kind::Concurrent(_), cost) if cost != Cost::ONE => {
            let message = "a limit of requests under way counts each of them as one";
            let hint = "remove `cost`, or limit a rate or quota by it".to_owned();
            report.add(&EXCLUDES, span, message, hint);
            None
        }
        (Kind::Quota { amount, .. }, Cost::Bytes { per, .. })
            if amount.checked_mul(per).is_none_or(|all| i64::try_from(all.get()).is_err()) =>
        {
            let message = "the quota is more bytes than can be counted";
            let hint = "count in smaller units, or lower the quota".to_owned();
            report.add(&EXCLUDES, span, message, hint);
            None
        }
        _ => Some(()),
    }
}
