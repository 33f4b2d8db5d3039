//! Limits as they are now, and other numbers for one of them while an incident lasts.
//!
//! Other numbers live in memory: a reload of the policy leaves them in force, a restart ends them, and
//! each ends by itself. What was asked for, by whom and why, is on record.

use std::net::IpAddr;
use std::num::{NonZeroU32, NonZeroU64};
use std::sync::Arc;
use std::time::Duration;

use enforcer_admin::call::{
    LimitChange, LimitChanged, LimitConsumer, LimitOverride, LimitRow, LimitSet, LimitSpent,
    LimitStanding, LimitTables, LimitsShown, ThrottledSources,
};
use enforcer_admin::{Answer, Refusal, RefusalKind};
use enforcer_limits::{By, Cost, Factor, Kind, Limit, Occupancy, Override, Payer};
use enforcer_model::{Author, Claims, KeyId, Moment, Principal, Source, Value};
use enforcer_policy::Charged;
use enforcer_proxy::Scope;

use super::{Desk, checked};
use crate::respond::Order;

/// Rows of each kind that one answer tells, at most.
const MOST: usize = 1_000;

/// The longest time that a limit may have other numbers: longer belongs into the policy.
const TTL_MAX: Duration = Duration::from_secs(30 * 86_400);

/// Who is looked up.
enum Subject {
    Address(IpAddr),
    Application(String),
    Claim(Value),
    Key(KeyId),
    Principal(Principal),
    Region(String),
    Role(String),
    Route(String),
}

impl Desk {
    /// Every limit, one by its name, or where a caller stands with those that count it.
    pub(super) async fn show_limits(
        &self,
        what: Option<&str>,
        most: u32,
    ) -> Result<Answer, Refusal> {
        let now = self.clock.now();
        let policy = self.policies.current();
        let most = usize::try_from(most).unwrap_or(MOST).min(MOST);
        let named = what.and_then(|name| policy.limit(name));
        let subject = match (what, named) {
            (Some(text), None) => Some(Subject::read(text)?),
            (Some(_), Some(_)) | (None, _) => None,
        };
        let mut shown = LimitsShown {
            tables: tables(self.limits.occupancy(now.monotonic)),
            quota_problem: self.limits.quota_problem(),
            ..LimitsShown::default()
        };
        match (&subject, named) {
            (Some(subject), _) => {
                let limits = policy.limits().iter();
                shown.standings = limits
                    .filter_map(|charged| self.standing(&charged.limit, subject, now))
                    .collect();
            }
            (None, Some(charged)) => {
                shown.limits = vec![self.row(charged, most, now)];
                let name = charged.limit.name();
                shown.consumers =
                    self.limits.consumers(Some(name), most).into_iter().map(consumer).collect();
            }
            (None, None) => {
                shown.limits =
                    policy.limits().iter().map(|charged| self.row(charged, most, now)).collect();
                shown.consumers =
                    self.limits.consumers(None, most).into_iter().map(consumer).collect();
            }
        }
        shown.shrunk = self
            .endpoints
            .less(&policy, |scope| subject.as_ref().is_none_or(|subject| subject.is_hit(scope)));
        let view = self.clerk.order(|reply| Order::Throttled { reply }).await?;
        shown.throttled = ThrottledSources {
            sources: view.sources,
            budget: view.budget.map(|budget| budget.to_string()),
            problem: view.problem,
        };
        Ok(Answer::Limits(Box::new(shown)))
    }

    /// Gives a limit other numbers for a while, or its own again.
    pub(super) async fn set_limit(&self, asked: LimitSet, by: &Author) -> Result<Answer, Refusal> {
        asked.reason.as_deref().map_or(Ok(()), checked)?;
        let mut arguments = vec![asked.name.clone(), told(&asked.change)];
        arguments.extend(asked.reason.clone());
        let done = self
            .change_limit(&asked, by)
            .map(|changed| (Answer::LimitChanged(Box::new(changed)), None));
        self.clerk.recorded("limits set", arguments, by, done).await
    }

    fn change_limit(&self, asked: &LimitSet, by: &Author) -> Result<LimitChanged, Refusal> {
        let now = self.clock.now();
        let policy = self.policies.current();
        let charged = policy.limit(&asked.name).ok_or_else(|| {
            let message = format!("the policy has no limit `{}`", asked.name);
            Refusal::new(RefusalKind::NotFound, message).hint("`enforcer limits show` lists them")
        })?;
        let limit = &charged.limit;
        let before = match &asked.change {
            LimitChange::Reset => {
                let message = || format!("limit `{}` has the policy's own numbers", limit.name());
                let ended = self.limits.reset_override(limit.name(), now.wall);
                Some(ended.ok_or_else(|| Refusal::new(RefusalKind::NotFound, message()))?)
            }
            LimitChange::Numbers { .. } => {
                let new = numbers(limit, asked, by, now)?;
                self.limits
                    .set_override(limit.name(), new, now.wall)
                    .map_err(|full| Refusal::new(RefusalKind::Failed, full.to_string()))?
            }
        };
        let before = before.filter(|before| before.until > now.wall);
        Ok(LimitChanged {
            limit: self.row(charged, 0, now),
            before: before.map(|before| overridden(limit, &before)),
            audit: None,
        })
    }

    fn row(&self, charged: &Charged, most: usize, now: Moment) -> LimitRow {
        let limit = &charged.limit;
        let spent = match limit.kind() {
            Kind::Quota { .. } => self.limits.quota_levels(limit.name(), most, now.wall),
            Kind::Concurrent(_) | Kind::Rate { .. } => Vec::new(),
        };
        let changed = self.limits.override_of(limit.name(), now.wall);
        LimitRow {
            name: limit.name().to_string(),
            by: limit.by().to_string(),
            limit: limit.kind().to_string(),
            cost: limit.cost().to_string(),
            conditional: charged.when.is_some(),
            changed: changed.map(|changed| overridden(limit, &changed)),
            spent: spent
                .into_iter()
                .map(|level| LimitSpent {
                    subject: level.subject,
                    used: level.used,
                    ends: level.ends,
                })
                .collect(),
        }
    }

    fn standing(&self, limit: &Limit, subject: &Subject, now: Moment) -> Option<LimitStanding> {
        let claims = subject.claims(limit.by());
        let principal = subject.principal();
        let payer = subject.payer(limit.by(), claims.as_ref(), principal.as_ref())?;
        let demand = limit.demand(&payer, Factor::WHOLE);
        let standing = self.limits.standing(&demand, now);
        Some(LimitStanding {
            name: limit.name().to_string(),
            subject: demand.subject.to_string(),
            limit: standing.kind.to_string(),
            used: standing.used,
            full_in_ms: standing
                .full_in
                .map(|time| u64::try_from(time.as_millis()).unwrap_or(u64::MAX)),
        })
    }
}

impl Subject {
    /// An address, `key:ID`, another principal, or `application:NAME` and its like.
    fn read(text: &str) -> Result<Self, Refusal> {
        if let Ok(address) = text.parse() {
            return Ok(Self::Address(address));
        }
        let unknown = || {
            let message = format!("`{text}` is neither a limit of the policy nor a caller");
            Refusal::new(RefusalKind::NotFound, message).hint(
                "write a limit's name, an address, `key:ID`, `token:ISSUER/SUBJECT`, \
                 `spiffe://…`, `cert:…`, or `application:`, `region:`, `role:`, `route:` or \
                 `claim:` with a value",
            )
        };
        let (kind, value) = text.split_once(':').ok_or_else(unknown)?;
        let named = || value.to_owned();
        Ok(match kind {
            "application" => Self::Application(named()),
            "cert" | "spiffe" | "token" => {
                let principal = serde_json::from_value(serde_json::Value::from(text));
                Self::Principal(principal.or(Err(unknown()))?)
            }
            "claim" => Self::Claim(match (value.parse(), value.parse()) {
                (Ok(number), _) => Value::Number(number),
                (_, Ok(flag)) => Value::Flag(flag),
                (Err(_), Err(_)) => Value::Text(value.into()),
            }),
            "key" => Self::Key(value.parse().map_err(|error: enforcer_model::KeyIdError| {
                Refusal::new(RefusalKind::Usage, error.to_string())
            })?),
            "region" => Self::Region(named()),
            "role" => Self::Role(named()),
            "route" => Self::Route(named()),
            _ => return Err(unknown()),
        })
    }

    /// Whether what is decided about `scope` concerns it.
    fn is_hit(&self, scope: &Scope) -> bool {
        match (scope, self) {
            (Scope::Source(network), Self::Address(address)) => network.contains(*address),
            (Scope::Caller(caller), _) => self.principal().as_ref() == Some(caller),
            (Scope::Route(name), Self::Route(route)) => **name == **route,
            (Scope::Endpoint(_) | Scope::Route(_) | Scope::Source(_), _) => false,
        }
    }

    fn principal(&self) -> Option<Principal> {
        match self {
            Self::Key(key) => Some(Principal::from_key(*key)),
            Self::Principal(principal) => Some(principal.clone()),
            Self::Address(_)
            | Self::Application(_)
            | Self::Claim(_)
            | Self::Region(_)
            | Self::Role(_)
            | Self::Route(_) => None,
        }
    }

    /// A token that has the value where the limit looks for it.
    fn claims(&self, by: &By) -> Option<Claims> {
        let (Self::Claim(value), By::Claim(path)) = (self, by) else { return None };
        let mut names = path.iter().rev().map(|name| Arc::from(&**name));
        let innermost = Claims::from_iter([(names.next()?, value.clone())]);
        Some(names.fold(innermost, |inner, name| Claims::from_iter([(name, Value::Table(inner))])))
    }

    /// A request of the subject, if it is of the kind that a limit counts.
    fn payer<'a>(
        &'a self,
        by: &By,
        claims: Option<&'a Claims>,
        principal: Option<&'a Principal>,
    ) -> Option<Payer<'a>> {
        // Where the subject is no address, nothing of the payer's is looked at but the subject.
        let nobody = IpAddr::V4(std::net::Ipv4Addr::UNSPECIFIED);
        let address = if let Self::Address(address) = self { *address } else { nobody };
        let payer = Payer::from_source(Source::new(address), "", None);
        match (self, by) {
            (Self::Address(_), By::Ip | By::Prefix { .. }) => Some(payer),
            (Self::Application(name), By::Application) => {
                Some(Payer { application: Some(name), ..payer })
            }
            (Self::Claim(_), By::Claim(_)) => Some(Payer { claims, ..payer }),
            (Self::Key(key), By::Key | By::Principal) => {
                Some(Payer { key: Some(*key), principal, ..payer })
            }
            (Self::Principal(_), By::Key | By::Principal) => Some(Payer { principal, ..payer }),
            (Self::Region(region), By::Region) => Some(Payer { region: Some(region), ..payer }),
            (Self::Role(role), By::Role) => Some(Payer { role: Some(role), ..payer }),
            (Self::Route(route), By::Route) => Some(Payer { route, ..payer }),
            _ => None,
        }
    }
}

/// The numbers that were asked for, if they fit the limit.
fn numbers(limit: &Limit, asked: &LimitSet, by: &Author, now: Moment) -> Result<Override, Refusal> {
    let usage = |message: String| Refusal::new(RefusalKind::Usage, message);
    let LimitChange::Numbers { burst, quota, concurrent, ttl_seconds, .. } = asked.change else {
        return Err(usage("a reset has no numbers".to_owned()));
    };
    let rate = asked.change.rate().transpose().map_err(|error| usage(error.to_string()))?;
    let fits = match limit.kind() {
        Kind::Concurrent(_) => rate.is_none() && burst.is_none() && quota.is_none(),
        Kind::Quota { .. } => rate.is_none() && burst.is_none() && concurrent.is_none(),
        Kind::Rate { .. } => quota.is_none() && concurrent.is_none(),
    };
    let some = rate.is_some() || burst.is_some() || quota.is_some() || concurrent.is_some();
    if !fits || !some {
        let takes = match limit.kind() {
            Kind::Concurrent(_) => "`--concurrent`",
            Kind::Quota { .. } => "`--quota`",
            Kind::Rate { .. } => "`--rate`, `--burst` or both",
        };
        let message = format!("limit `{}` is {}", limit.name(), limit.kind());
        return Err(usage(message).hint(format!("it takes {takes}")));
    }
    let ttl = Duration::from_secs(ttl_seconds);
    if ttl.is_zero() || ttl > TTL_MAX {
        return Err(usage(
            "other numbers hold for at least a second and at most 30 days".to_owned(),
        )
        .hint("what is to stay belongs into the policy"));
    }
    let zero =
        || usage("zero is a block, not a limit".to_owned()).hint("`enforcer quarantine` blocks");
    let nonzero = |number: Option<u32>| number.map(|n| NonZeroU32::new(n).ok_or_else(zero));
    let new = Override {
        rate,
        burst: nonzero(burst).transpose()?,
        amount: quota.map(|n| NonZeroU64::new(n).ok_or_else(zero)).transpose()?,
        concurrent: nonzero(concurrent).transpose()?,
        until: now.wall.saturating_add(ttl),
        reason: asked.reason.as_deref().unwrap_or_default().into(),
        by: by.to_string().into(),
    };
    let too_heavy = match (new.on(limit.kind()), limit.cost()) {
        (Kind::Rate { burst, .. }, Cost::Weight(weight)) => weight > burst,
        (Kind::Quota { amount, .. }, Cost::Weight(weight)) => NonZeroU64::from(weight) > amount,
        (Kind::Quota { amount, .. }, Cost::Bytes { per, .. }) => amount.checked_mul(per).is_none(),
        (Kind::Concurrent(_) | Kind::Rate { .. }, _) => false,
    };
    if too_heavy {
        let message = format!("one request costs {}: none would be admitted", limit.cost());
        return Err(usage(message).hint("raise the number, or block the callers"));
    }
    Ok(new)
}

/// What was asked for, for the record.
fn told(change: &LimitChange) -> String {
    match change {
        LimitChange::Reset => "as the policy says".to_owned(),
        LimitChange::Numbers { rate, burst, quota, concurrent, ttl_seconds } => {
            let numbers = [
                rate.as_ref().map(|rate| format!("rate {rate}")),
                burst.map(|burst| format!("burst {burst}")),
                quota.map(|quota| format!("quota {quota}")),
                concurrent.map(|most| format!("concurrent {most}")),
                Some(format!("for {ttl_seconds} s")),
            ];
            numbers.into_iter().flatten().collect::<Vec<_>>().join(", ")
        }
    }
}

fn overridden(limit: &Limit, changed: &Override) -> LimitOverride {
    LimitOverride {
        limit: changed.on(limit.kind()).to_string(),
        rate: changed.rate.map(|rate| rate.to_string()),
        burst: changed.burst.map(NonZeroU32::get),
        quota: changed.amount.map(NonZeroU64::get),
        concurrent: changed.concurrent.map(NonZeroU32::get),
        until: changed.until,
        reason: changed.reason.to_string(),
        by: changed.by.to_string(),
    }
}

fn consumer(one: enforcer_limits::Consumer) -> LimitConsumer {
    LimitConsumer {
        name: one.limit.to_string(),
        subject: one.subject,
        draws: one.draws,
        refused: one.refused,
    }
}

fn tables(occupancy: Occupancy) -> LimitTables {
    let count = |number: usize| u64::try_from(number).unwrap_or(u64::MAX);
    let Occupancy {
        buckets,
        buckets_max,
        lossy_evictions,
        quotas,
        quotas_max,
        concurrent,
        concurrent_max,
    } = occupancy;
    LimitTables {
        buckets: count(buckets),
        buckets_max: count(buckets_max),
        lossy_evictions,
        quotas: count(quotas),
        quotas_max: count(quotas_max),
        concurrent: count(concurrent),
        concurrent_max: count(concurrent_max),
    }
}

#[cfg(test)]
mod tests {
    use enforcer_model::{Clock, SystemClock};

    use super::*;

    #[test]
    fn callers_are_read_as_they_are_logged() {
        let told = |text: &str, by: By| {
            let limit = Limit::new("l", by, Kind::Concurrent(NonZeroU32::MIN));
            let subject = Subject::read(text).unwrap();
            let claims = subject.claims(limit.by());
            let principal = subject.principal();
            let payer = subject.payer(limit.by(), claims.as_ref(), principal.as_ref())?;
            Some(limit.subject(&payer).to_string())
        };
        let tenant = || By::Claim(["org".into(), "tenant".into()].into());
        for (text, by, subject) in [
            ("192.0.2.7", By::Ip, "192.0.2.7"),
            ("192.0.2.7", By::Prefix { v4: 24, v6: 64 }, "192.0.2.0/24"),
            ("key:k7Qx2mP9aB3c", By::Key, "key:k7Qx2mP9aB3c"),
            ("key:k7Qx2mP9aB3c", By::Principal, "key:k7Qx2mP9aB3c"),
            ("token:corp/alice", By::Principal, "token:corp/alice"),
            ("spiffe://example.com/pay", By::Principal, "spiffe://example.com/pay"),
            ("application:billing", By::Application, "application:billing"),
            ("claim:acme", tenant(), "claim:\"acme\""),
            ("claim:7", tenant(), "claim:7"),
            ("route:orders", By::Route, "route:orders"),
        ] {
            assert_eq!(told(text, by).as_deref(), Some(subject), "{text}");
        }
        assert_eq!(told("192.0.2.7", By::Key), None);
        assert_eq!(told("role:reader", By::Ip), None);
        let refused = Subject::read("nobody").err().unwrap();
        assert_eq!(refused.kind, RefusalKind::NotFound);
    }

    #[test]
    fn numbers_that_do_not_fit_the_limit_are_refused_with_what_would() {
        let rate =
            Kind::Rate { rate: "10/s".parse().unwrap(), burst: NonZeroU32::new(20).unwrap() };
        let heavy = Cost::Weight(NonZeroU32::new(5).unwrap());
        let limit = Limit::new("l", By::Ip, rate).costing(heavy);
        let tried = |rate: Option<&str>, burst, quota, ttl_seconds| {
            let rate = rate.map(str::to_owned);
            let change = LimitChange::Numbers { rate, burst, quota, concurrent: None, ttl_seconds };
            let asked = LimitSet { name: "l".to_owned(), change, reason: None };
            numbers(&limit, &asked, &Author::Agent, SystemClock.now())
        };

        let new = tried(Some("3/s"), Some(7), None, 60).unwrap();
        assert_eq!(new.on(limit.kind()).to_string(), "3/s burst 7");
        for refused in [
            tried(None, None, None, 60),
            tried(None, None, Some(5), 60),
            tried(Some("3/w"), None, None, 60),
            tried(None, Some(0), None, 60),
            tried(None, Some(4), None, 60),
            tried(Some("3/s"), None, None, 0),
            tried(Some("3/s"), None, None, 31 * 86_400),
        ] {
            assert_eq!(refused.unwrap_err().kind, RefusalKind::Usage);
        }
    }
}
