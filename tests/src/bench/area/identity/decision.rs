//! A decision over 50 roles and 200 routes with conditions, beside Cedar and CEL.
//!
//! The world is drawn at random: up to five rules at a route, conditions of up to eight parts, all
//! kinds of attributes. Requests are what each engine wants them to be before the clock starts;
//! every answer is compared with every other before anything is measured.

use anyhow::{Result, ensure};

use super::super::super::{Effort, Row, Samples, Target};
use super::{each, rounds, versus};
use crate::oracle::{CedarPolicies, CelPolicies, Ours, Random, Request, World};

const ROLES: usize = 50;
const ROUTES: usize = 200;
const RULES: usize = 5;
const MOST: f64 = 100.0;

pub(super) fn measure(effort: Effort) -> Result<Vec<Row>> {
    let mut random = Random::new(0x1de_4717);
    let world = World::random(&mut random, ROLES, ROUTES, RULES);
    let requests: Vec<Request> = (0..2_048).map(|_| Request::random(&mut random, &world)).collect();
    let ours = Ours::new(&world);
    let cedar = CedarPolicies::new(&world)?;
    let cel = CelPolicies::new(&world)?;
    let asked: Vec<_> = requests.iter().map(|request| ours.asked(request)).collect();
    let of_cedar = requests.iter().map(|one| cedar.asked(one)).collect::<Result<Vec<_>>>()?;
    let of_cel = requests.iter().map(|one| cel.asked(one)).collect::<Result<Vec<_>>>()?;
    let answers: Vec<bool> = asked.iter().map(|asked| ours.allows(asked)).collect();
    for (n, answer) in answers.iter().enumerate() {
        let whole = n % 16 != 0 || cedar.allows_among_all(&of_cedar[n]) == *answer;
        let same = cedar.allows(&of_cedar[n]) == *answer && cel.allows(&of_cel[n]) == *answer;
        ensure!(whole && same, "the engines differ about {:#?}", requests[n]);
    }

    let mine = |list: &[usize]| each(20_000, |n| Ok(ours.allows(&asked[list[n % list.len()]])));
    let all: Vec<usize> = (0..requests.len()).collect();
    let (served, refused): (Vec<_>, Vec<_>) = all.iter().partition(|n| answers[**n]);
    let few = 256;
    let what = format!("decision, {ROLES} roles x {ROUTES} routes with conditions");
    let mut rows = vec![
        versus(
            &*what,
            "Cedar, the route's policies",
            effort,
            || mine(&all),
            || each(all.len(), |n| Ok(cedar.allows(&of_cedar[n]))),
        )?,
        versus(
            &*what,
            "Cedar, all policies",
            effort,
            || mine(&all),
            || each(few, |n| Ok(cedar.allows_among_all(&of_cedar[n]))),
        )?,
        versus(
            &*what,
            "CEL, the route's expression",
            effort,
            || mine(&all),
            || each(all.len(), |n| Ok(cel.allows(&of_cel[n]))),
        )?,
    ];
    rows = rows.into_iter().map(|row| row.target(Target::AtMost(MOST))).collect();
    for (which, list) in [("allowed", &served), ("refused", &refused)] {
        ensure!(!list.is_empty(), "no request is {which}");
        let figures = (0..rounds(effort)).map(|_| mine(list)).collect::<Result<_>>()?;
        let name = format!("of these, {which} ({} of {})", list.len(), all.len());
        rows.push(Row::new(name, "ns", Samples::new(figures)?.median()?));
    }
    Ok(rows)
}
