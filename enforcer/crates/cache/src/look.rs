//! Is there an answer, and if not, who asks for it.

use std::sync::Arc;

use enforcer_model::{CacheUse, Clock, Moment};
use http::Method;

use crate::answer::Answer;
use crate::conditions::{Conditions, is_for_origin};
use crate::directives::Wishes;
use crate::errand::Errand;
use crate::flight::{Landing, Lead, Of, Turn};
use crate::kept::Kept;
use crate::key::{Digest, KeyRef, Scope, Target};
use crate::plan::Plan;
use crate::store::{Cache, Counts};
use crate::vary::Fields;

/// A request that was allowed, on a route that keeps answers.
#[derive(Debug)]
pub struct Asked<'a> {
    /// The route's.
    pub plan: &'a Arc<Plan>,
    /// The method.
    pub method: &'a Method,
    /// What is asked for.
    pub target: Target<'a>,
    /// Of whom the upstream is told what.
    pub scope: Scope,
    /// Whether the upstream gets the credential that was accepted, and the scope holds it.
    pub scope_has_credential: bool,
    /// Whether the request has a body; such a one is nobody else's business.
    pub has_body: bool,
    /// Its fields.
    pub fields: Fields<'a>,
}

/// What to do with a request.
#[derive(Debug)]
pub enum Found {
    /// This is the answer.
    Answer(Answer),
    /// The upstream must be asked.
    Ask(Errand),
    /// The client wants no answer but one that is kept, and there is none: 504.
    Nothing,
    /// This is the answer, and the upstream is to be asked for a newer one meanwhile.
    Refresh(Answer, Errand),
}

/// What is kept for a request.
struct Sought {
    /// What would be its answer.
    kept: Option<(Scope, Arc<Kept>)>,
    /// Something is kept, for other values of the fields that it varies on.
    has_others: bool,
    /// The fields that the newest of it varies on, as the request has them.
    selecting: Option<Digest>,
}

/// What an answer that is kept is good for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Use {
    Fresh,
    /// Not fresh, and the client said that this is enough.
    Accepted,
    /// Not fresh, and good enough while somebody asks for a newer one.
    Meanwhile,
    /// Why not.
    No(&'static str),
}

/// How often a request waits for others before it asks by itself: what the first answer turns out
/// to vary on may leave it with nothing once.
const ROUNDS_MAX: u32 = 2;

impl Cache {
    /// The answer to `asked`, or who asks for it. May wait for another request that asks for the
    /// same, for a bounded time.
    pub async fn find(self: &Arc<Self>, asked: &Asked<'_>, clock: &dyn Clock) -> Found {
        let request = asked.fields.sent;
        let head_only = *asked.method == Method::HEAD;
        let conditions = Conditions::of(request, head_only);
        if !head_only && *asked.method != Method::GET {
            return Found::Ask(Errand::past(self, asked, conditions, "method"));
        }
        let wishes = Wishes::of(request);
        if wishes.no_store {
            return Found::Ask(Errand::past(self, asked, conditions, "request"));
        }
        if asked.has_body || is_for_origin(request) {
            return Found::Ask(Errand::past(self, asked, conditions, "bypass"));
        }
        let mut rounds = 0;
        loop {
            let now = clock.now();
            let sought = self.seek(asked);
            let kept = sought.kept.as_ref().map(|(_, kept)| kept);
            let why = match kept.map(|kept| usable(kept, wishes, now)) {
                Some(Use::Fresh) => return self.found(kept, &conditions, CacheUse::Hit, now),
                Some(Use::Accepted) => return self.found(kept, &conditions, CacheUse::Stale, now),
                Some(Use::Meanwhile) => return self.meanwhile(asked, sought, &conditions, now),
                Some(Use::No(why)) => why,
                None if sought.has_others => "vary-miss",
                None => "uri-miss",
            };
            if wishes.only_if_cached {
                return Found::Nothing;
            }
            if conditions.has_range() {
                return Found::Ask(Errand::past(self, asked, conditions, "partial"));
            }
            let place = self.places.place(asked.target);
            let selecting = sought.selecting;
            let errand = Errand::new(self, asked, &place, conditions.clone(), wishes, why);
            let errand = errand.about(sought.kept);
            // An answer to these is not, or may not be, an answer for others.
            if head_only || (conditions.is_conditional() && !errand.validates()) {
                return Found::Ask(errand);
            }
            match Lead::or_follow(&place, Of::new(asked.plan, asked.scope, selecting)) {
                Turn::Leads(lead) => {
                    // Who led until just now may have left the answer.
                    let again = self.seek(asked).kept.map(|(_, kept)| kept);
                    return match again.filter(|kept| usable(kept, wishes, now) == Use::Fresh) {
                        Some(kept) => self.found(Some(&kept), &conditions, CacheUse::Hit, now),
                        None => Found::Ask(errand.leading(lead)),
                    };
                }
                // Whoever insists on asking gets nothing from who asked before.
                Turn::Follows(_) if why == "request" || rounds == ROUNDS_MAX => {
                    return Found::Ask(errand);
                }
                Turn::Follows(flight) => {
                    Counts::add(&self.counts.waited);
                    if flight.landing(self.bounds().wait).await == Landing::Free {
                        return Found::Ask(errand.renewed(self));
                    }
                }
            }
            rounds += 1;
        }
    }

    fn found(
        &self,
        kept: Option<&Arc<Kept>>,
        conditions: &Conditions,
        used: CacheUse,
        now: Moment,
    ) -> Found {
        let Some(kept) = kept else { return Found::Nothing };
        Counts::add(if used == CacheUse::Hit { &self.counts.hits } else { &self.counts.stale });
        Found::Answer(Answer::of(kept, conditions, used, now))
    }

    /// Answers with what is not fresh; the first who does so is to ask for a newer one.
    fn meanwhile(
        self: &Arc<Self>,
        asked: &Asked<'_>,
        sought: Sought,
        conditions: &Conditions,
        now: Moment,
    ) -> Found {
        let Some((_, kept)) = &sought.kept else { return Found::Nothing };
        Counts::add(&self.counts.stale);
        let answer = Answer::of(kept, conditions, CacheUse::Stale, now);
        let place = self.places.place(asked.target);
        let of = Of::new(asked.plan, asked.scope, sought.selecting);
        match Lead::or_follow(&place, of) {
            Turn::Leads(lead) => {
                let (conditions, wishes) = (Conditions::default(), Wishes::default());
                let errand = Errand::new(self, asked, &place, conditions, wishes, "stale");
                Found::Refresh(answer, errand.about(sought.kept).leading(lead))
            }
            Turn::Follows(_) => Found::Answer(answer),
        }
    }

    fn seek(&self, asked: &Asked<'_>) -> Sought {
        let mut sought = Sought { kept: None, has_others: false, selecting: None };
        let own = (asked.scope != Scope::Everyone).then_some(asked.scope);
        let shared = (own.is_none() || asked.plan.shared).then_some(Scope::Everyone);
        for scope in [shared, own].into_iter().flatten() {
            let Plan { route, via, .. } = &**asked.plan;
            let Some(variants) = self.get(KeyRef { route, via, scope, target: asked.target })
            else {
                continue;
            };
            for kept in variants.current() {
                if !sought.has_others {
                    sought.has_others = true;
                    sought.selecting = asked.fields.selecting(&kept.vary.names);
                }
                if kept.vary.is_met_by(&asked.fields) {
                    sought.kept = Some((scope, Arc::clone(kept)));
                    return sought;
                }
            }
        }
        sought
    }
}

fn usable(kept: &Kept, wishes: Wishes, now: Moment) -> Use {
    let freshness = &kept.freshness;
    let age_max = wishes.max_age.map(std::time::Duration::from_secs);
    if wishes.no_cache || age_max.is_some_and(|most| freshness.age(now) > most) {
        return Use::No("request");
    }
    if freshness.is_fresh(now) {
        let least = wishes.min_fresh.map(std::time::Duration::from_secs);
        let is_enough = least.is_none_or(|least| freshness.left(now) >= least);
        return if is_enough { Use::Fresh } else { Use::No("request") };
    }
    let stale_max = wishes.max_stale.map(std::time::Duration::from_secs);
    if freshness.may_be_stale() && stale_max.is_some_and(|most| freshness.staleness(now) <= most) {
        return Use::Accepted;
    }
    // A client that wants it to be good for a while does not want this.
    if wishes.min_fresh.is_none() && freshness.serves_while_revalidated(now) {
        return Use::Meanwhile;
    }
    Use::No("stale")
}
