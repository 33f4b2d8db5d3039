//! Finding a request of which a formula is true, or finding that there is none.
//!
//! Every part of a request that the formula looks at has a finite list of values that stand for all
//! values. The search gives one part after the other a value and asks the formula what can still
//! come; a branch in which *true* can no longer come is left at once. So the search is exact, and
//! fast where conditions are as people write them. Its work is bounded by [`STEPS_MAX`]: beyond it
//! the answer is [`Found::Open`], and nobody draws a conclusion.

use std::borrow::Cow;
use std::cell::Cell;
use std::sync::Arc;

use enforcer_authz::{
    Attribute, ClaimPath, Expr, Flag, Grant, Held, Number, Numbers, Numeric, Test, Text, Texts,
};
use enforcer_model::Role;

use super::formula::{Formula, Outcomes};
use super::model::{Model, Value, Variable};
use super::uses::{REST, Uses};
use super::world::{Place, Values, World, encoded};
use crate::routing::Segment;

/// What came of a search.
#[derive(Clone, Debug)]
pub(crate) enum Found {
    /// This makes it true.
    Sample(Model),
    /// Nothing makes it true.
    Nothing,
    /// It was not decided: too much work, or values without a stand-in.
    Open,
}

/// One question.
pub(crate) struct Search<'a> {
    pub(super) worlds: &'a [World<'a>],
    /// Which world is asked at the moment.
    at: Cell<usize>,
    pub(super) place: &'a Place,
    pub(super) uses: Uses,
    /// Whether a host and path lead to the route in question.
    leads_here: &'a dyn Fn(&str, &str) -> bool,
    values: Vec<(Variable, Value)>,
    steps: usize,
    steps_max: usize,
}

/// How much is tried for one question; far more than any condition that people write needs.
pub(crate) const STEPS_MAX: usize = 20_000;
/// Parts of a request that get a value at once; each is a level of recursion.
const DEPTH_MAX: usize = 128;

/// What can be said with the values so far, and which part to choose next.
struct Look {
    outcomes: Outcomes,
    next: Option<Variable>,
}

/// A value that is read, or what it waits for.
enum Seen<'s, T: ?Sized + ToOwned> {
    Value(Cow<'s, T>),
    Absent,
    Foreign,
    Open(Variable),
}

/// More work than is bounded.
struct Exhausted;

/// A request of which `formula` is true, among those that go to `place`, and the steps it took.
pub(crate) fn find(
    formula: &Formula<'_>,
    worlds: &[World<'_>],
    place: &Place,
    leads_here: &dyn Fn(&str, &str) -> bool,
    steps_max: usize,
) -> (Found, usize) {
    let uses = Uses::of(formula, place);
    let (values, steps) = (Vec::new(), 0);
    let at = Cell::new(0);
    let mut search = Search { worlds, at, place, uses, leads_here, values, steps, steps_max };
    let satisfied = search.satisfy(formula, 0);
    let steps = search.steps;
    let found = match satisfied {
        Ok(true) => {
            // Where two policies look on, a scope can give different roles.
            let reads_scopes = search.uses.reads_scopes() || worlds.len() > 1;
            Found::Sample(Model { values: search.values, reads_scopes })
        }
        Ok(false) if !search.uses.gaps => Found::Nothing,
        Ok(false) | Err(Exhausted) => Found::Open,
    };
    (found, steps)
}

impl Search<'_> {
    /// Leaves the values that make it true, or none.
    fn satisfy(&mut self, formula: &Formula<'_>, depth: usize) -> Result<bool, Exhausted> {
        self.steps += 1;
        if self.steps > self.steps_max || depth > DEPTH_MAX {
            return Err(Exhausted);
        }
        let Look { outcomes, next } = self.ask(formula);
        if !outcomes.can_be(Outcomes::TRUE) {
            return Ok(false);
        }
        if !outcomes.is_open() {
            return Ok(true);
        }
        let Some(variable) = next else { return Ok(false) };
        for value in self.domain(&variable) {
            self.values.push((variable.clone(), value));
            if self.satisfy(formula, depth + 1)? {
                return Ok(true);
            }
            self.values.pop();
        }
        Ok(false)
    }

    fn ask(&self, formula: &Formula<'_>) -> Look {
        match formula {
            Formula::Known(outcomes) => Look::known(*outcomes),
            Formula::All(parts) => Look::fold(parts, Outcomes::TRUE, |part| self.ask(part)),
            Formula::Any(parts) => Look::fold(parts, Outcomes::FALSE, |part| self.ask(part)),
            Formula::Not(inner) => self.ask(inner).map(|outcomes| !outcomes),
            Formula::Surely(inner) => self.ask(inner).map(Outcomes::surely),
            Formula::Maybe(inner) => self.ask(inner).map(Outcomes::maybe),
            Formula::Condition(expr) => self.ask_expr(expr),
            Formula::Test(test) => self.ask_test(test),
            Formula::Routed => self.ask_routed(),
            Formula::In(number, inner) => {
                let before = self.at.replace(*number);
                let look = self.ask(inner);
                self.at.set(before);
                look
            }
        }
    }

    fn ask_expr(&self, expr: &Expr) -> Look {
        match expr {
            Expr::Constant(truth) => Look::known(Outcomes::of(*truth)),
            Expr::Not(inner) => self.ask_expr(inner).map(|outcomes| !outcomes),
            Expr::All(parts) => Look::fold(parts, Outcomes::TRUE, |part| self.ask_expr(part)),
            Expr::Any(parts) => Look::fold(parts, Outcomes::FALSE, |part| self.ask_expr(part)),
            Expr::Same(pair) => {
                let [left, right] = &**pair;
                let (left, right) = (self.ask_expr(left), self.ask_expr(right));
                let outcomes = left.outcomes.same(right.outcomes);
                Look { outcomes, next: left.next.or(right.next) }.settled()
            }
            Expr::Test(test) => self.ask_test(test),
        }
    }

    fn ask_test(&self, test: &Test) -> Look {
        match test {
            Test::Flag(flag) => self.ask_flag(flag),
            Test::Has(attribute) => match self.text(attribute) {
                Seen::Open(variable) => Look::open(variable),
                Seen::Absent => Look::NO,
                Seen::Value(_) | Seen::Foreign => Look::known(Outcomes::TRUE),
            },
            Test::Equal(left, Text::Literal(right)) => {
                self.text(left).test(|text| text == &**right)
            }
            Test::Equal(left, Text::Attribute(right)) => {
                self.text(left).then(|left| self.text(right).test(|right| left == right))
            }
            Test::StartsWith(text, start) => {
                self.text(text).test(|text| text.starts_with(&**start))
            }
            Test::EndsWith(text, end) => self.text(text).test(|text| text.ends_with(&**end)),
            Test::OneOf(text, texts) => {
                let text = match text {
                    Text::Literal(text) => Seen::Value(Cow::Borrowed(&**text)),
                    Text::Attribute(attribute) => self.text(attribute),
                };
                text.then(|text| self.ask_one_of(text, texts))
            }
            Test::Compare(left, comparison, right) => self
                .numeric(left)
                .then(|left| self.number(right).test(|right| comparison.holds(left.cmp(right)))),
            Test::NumberOneOf(number, numbers) => {
                self.number(number).then(|number| self.ask_number_one_of(*number, numbers))
            }
            Test::Inside(network) => match self.value(&Variable::Address) {
                Some(Value::Address(address)) => {
                    Look::known(Outcomes::of(network.networks.covering(*address).is_some()))
                }
                Some(_) | None => Look::open(Variable::Address),
            },
            Test::Role(Held { role, .. }) => self.ask_role(role),
        }
    }

    fn ask_flag(&self, flag: &Flag) -> Look {
        match flag {
            Flag::Mtls => self.mtls(),
            Flag::Anonymous => {
                self.ask_caller(|caller| Look::known(Outcomes::of(*caller == Value::Anonymous)))
            }
            Flag::Dpop => self.ask_caller(|caller| {
                if caller.is_token() { self.ask_switch(Variable::Dpop) } else { Look::NO }
            }),
            Flag::Time(hours) => match self.value(&Variable::Moment) {
                Some(Value::Moment(moment)) => {
                    Look::known(Outcomes::of(hours.window.is_open(*moment)))
                }
                Some(_) | None => Look::open(Variable::Moment),
            },
            Flag::Claim(path) => self.ask_claim(path, |value| {
                if let Value::Flag(truth) = value {
                    Look::known(Outcomes::of(*truth))
                } else {
                    Look::UNKNOWN
                }
            }),
        }
    }

    fn ask_one_of(&self, text: &str, texts: &Texts) -> Look {
        match texts {
            Texts::Literals(literals) => {
                Look::known(Outcomes::of(literals.iter().any(|literal| **literal == *text)))
            }
            Texts::Scopes => self.ask_caller(|caller| {
                if caller.is_token() || *caller == Value::Key {
                    self.ask_switch(Variable::Scope(text.into()))
                } else {
                    Look::NO
                }
            }),
            Texts::Claim(path) => self.ask_claim(path, |value| {
                if *value == Value::List {
                    self.ask_switch(Variable::Element(path.clone(), text.into()))
                } else {
                    Look::UNKNOWN
                }
            }),
        }
    }

    fn ask_number_one_of(&self, number: i64, numbers: &Numbers) -> Look {
        match numbers {
            Numbers::Literals(literals) => Look::known(Outcomes::of(literals.contains(&number))),
            Numbers::Claim(path) => self.ask_claim(path, |value| {
                if *value == Value::Numbers {
                    self.ask_switch(Variable::NumberElement(path.clone(), number))
                } else {
                    Look::UNKNOWN
                }
            }),
        }
    }

    /// Whether the caller has `role`, by the credentials that give it or a role that includes it.
    fn ask_role(&self, role: &Role) -> Look {
        let Some(world) = self.worlds.get(self.at.get()) else { return Look::NO };
        self.ask_caller(|caller| {
            let mut any = Look::NO;
            for &(role, grant) in world.givers(role) {
                let look = match (grant, caller) {
                    (Grant::Key, Value::Key) => self.ask_switch(Variable::Granted(role.clone())),
                    (Grant::Issuer { issuer, value }, Value::Token(name)) if issuer == name => {
                        self.ask_role_value(name, value)
                    }
                    (Grant::Spiffe(pattern), Value::Certificate) => {
                        match self.text(&Attribute::Spiffe) {
                            Seen::Open(variable) => Look::open(variable),
                            Seen::Value(id) => Look::known(Outcomes::of(pattern.matches(&id))),
                            Seen::Absent | Seen::Foreign => Look::NO,
                        }
                    }
                    (Grant::Key | Grant::Issuer { .. } | Grant::Spiffe(_), _) => continue,
                };
                any = Look { outcomes: any.outcomes | look.outcomes, next: any.next.or(look.next) }
                    .settled();
                // Nothing that could also give it makes a difference.
                if any.outcomes == Outcomes::TRUE {
                    break;
                }
            }
            any
        })
    }

    /// Whether a token of `issuer` has `value` where its role values stand.
    fn ask_role_value(&self, issuer: &str, value: &Arc<str>) -> Look {
        let issuers = self.worlds.get(self.at.get()).map_or(&[][..], |world| &world.issuers);
        let values = issuers.iter().find(|known| *known.name == *issuer).map(|it| &it.values);
        match values {
            None | Some(Values::Scopes) => self.ask_switch(Variable::Scope(Arc::clone(value))),
            Some(Values::Claim(names)) => {
                // A claim that no condition reads is nothing but a bag of role values.
                let Some(path) = self.uses.claims().find(|path| path.names() == &**names) else {
                    return self.ask_switch(Variable::RoleValue(Arc::clone(value)));
                };
                self.ask_claim(path, |found| {
                    if *found == Value::List {
                        self.ask_switch(Variable::Element(path.clone(), Arc::clone(value)))
                    } else {
                        Look::known(Outcomes::of(*found == Value::Text(Arc::clone(value))))
                    }
                })
            }
        }
    }

    fn ask_routed(&self) -> Look {
        self.text(&Attribute::Host).then(|host| {
            let path = match self.path() {
                Ok(path) => path,
                Err(variable) => return Look::open(variable),
            };
            let slash = if self.place.pattern.has_slash() { "/" } else { "" };
            Look::known(Outcomes::of((self.leads_here)(host, &format!("{path}{slash}"))))
        })
    }

    fn mtls(&self) -> Look {
        self.ask_caller(|caller| {
            if *caller == Value::Certificate {
                Look::known(Outcomes::TRUE)
            } else {
                self.ask_switch(Variable::Mtls)
            }
        })
    }

    fn ask_caller(&self, then: impl FnOnce(&Value) -> Look) -> Look {
        self.value(&Variable::Caller).map_or_else(|| Look::open(Variable::Caller), then)
    }

    /// A claim of a token; of any other caller it is unknown.
    fn ask_claim(&self, path: &ClaimPath, then: impl FnOnce(&Value) -> Look) -> Look {
        self.ask_caller(|caller| {
            if !caller.is_token() {
                return Look::UNKNOWN;
            }
            let variable = Variable::Claim(path.clone());
            match self.value(&variable) {
                Some(value) => then(value),
                None => Look::open(variable),
            }
        })
    }

    fn ask_switch(&self, variable: Variable) -> Look {
        match self.value(&variable) {
            Some(value) => Look::known(Outcomes::of(*value == Value::Flag(true))),
            None => Look::open(variable),
        }
    }

    pub(super) fn value(&self, variable: &Variable) -> Option<&Value> {
        self.values.iter().find(|(known, _)| known == variable).map(|(_, value)| value)
    }

    fn text(&self, attribute: &Attribute) -> Seen<'_, str> {
        let caller = self.value(&Variable::Caller);
        let from_caller = |attribute: &Attribute, reads: fn(&Value) -> bool| match caller {
            None => Seen::Open(Variable::Caller),
            Some(caller) if reads(caller) => self.free(Variable::Text(attribute.clone())),
            Some(_) => Seen::Absent,
        };
        match attribute {
            Attribute::Method => self.free(Variable::Method),
            Attribute::Host => match self.place.pattern.host() {
                Some(host) => Seen::Value(Cow::Borrowed(host)),
                None => self.free(Variable::Host),
            },
            Attribute::Path => match self.path() {
                Ok(path) => Seen::Value(Cow::Owned(path)),
                Err(variable) => Seen::Open(variable),
            },
            Attribute::Param(name) => {
                let at = self.place.pattern.segments().iter().position(|segment| match segment {
                    Segment::One(known) => known == name,
                    Segment::Rest => &**name == REST,
                    Segment::Literal(_) => false,
                });
                at.map_or(Seen::Absent, |at| self.free(Variable::Segment(at)))
            }
            Attribute::Query(_) | Attribute::Header(_) | Attribute::Region => {
                self.free(Variable::Text(attribute.clone()))
            }
            Attribute::Kind => match caller {
                None => Seen::Open(Variable::Caller),
                Some(Value::Key) => Seen::Value(Cow::Borrowed("api-key")),
                Some(Value::Token(_)) => Seen::Value(Cow::Borrowed("token")),
                Some(Value::Certificate) => Seen::Value(Cow::Borrowed("certificate")),
                Some(_) => Seen::Absent,
            },
            Attribute::Issuer => match caller {
                None => Seen::Open(Variable::Caller),
                Some(Value::Token(issuer)) => Seen::Value(Cow::Borrowed(issuer)),
                Some(_) => Seen::Absent,
            },
            Attribute::Application => {
                from_caller(attribute, |caller| matches!(caller, Value::Key | Value::Token(_)))
            }
            Attribute::Owner => from_caller(attribute, |caller| *caller == Value::Key),
            Attribute::Principal => match caller {
                None => Seen::Open(Variable::Caller),
                Some(Value::Anonymous) => Seen::Absent,
                // A certificate speaks for its SPIFFE id where it has one.
                Some(Value::Certificate) => match self.free(Variable::Text(Attribute::Spiffe)) {
                    Seen::Absent => self.free(Variable::Text(attribute.clone())),
                    seen @ (Seen::Value(_) | Seen::Foreign | Seen::Open(_)) => seen,
                },
                Some(_) => self.free(Variable::Text(attribute.clone())),
            },
            Attribute::Spiffe => {
                let Look { outcomes, next } = self.mtls();
                match next {
                    Some(variable) => Seen::Open(variable),
                    None if outcomes == Outcomes::TRUE => {
                        self.free(Variable::Text(attribute.clone()))
                    }
                    None => Seen::Absent,
                }
            }
            Attribute::Claim(path) => match caller {
                None => Seen::Open(Variable::Caller),
                Some(Value::Token(_)) => self.free(Variable::Claim(path.clone())),
                Some(_) => Seen::Absent,
            },
        }
    }

    /// What `variable` is as a text.
    fn free(&self, variable: Variable) -> Seen<'_, str> {
        match self.value(&variable) {
            None => Seen::Open(variable),
            Some(Value::Text(text)) => Seen::Value(Cow::Borrowed(text)),
            Some(Value::Absent) => Seen::Absent,
            Some(_) => Seen::Foreign,
        }
    }

    /// The path as conditions see it, or the segment that it waits for.
    fn path(&self) -> Result<String, Variable> {
        let mut path = String::new();
        for (n, segment) in self.place.pattern.segments().iter().enumerate() {
            let text = match segment {
                Segment::Literal(text) => Cow::Borrowed(text.as_str()),
                Segment::One(_) | Segment::Rest => match self.value(&Variable::Segment(n)) {
                    Some(Value::Text(text)) => Cow::Owned(encoded(text)),
                    Some(_) | None => return Err(Variable::Segment(n)),
                },
            };
            // Only a rest can be nothing.
            if *segment != Segment::Rest || !text.is_empty() {
                path.push('/');
                path.push_str(&text);
            }
        }
        Ok(if path.is_empty() { "/".to_owned() } else { path })
    }

    fn number(&self, number: &Number) -> Seen<'_, i64> {
        match number {
            Number::Literal(number) => Seen::Value(Cow::Owned(*number)),
            Number::Numeric(numeric) => self.numeric(numeric),
        }
    }

    fn numeric(&self, numeric: &Numeric) -> Seen<'_, i64> {
        let variable = match numeric {
            Numeric::Incident => Variable::Incident,
            Numeric::Claim(path) => match self.value(&Variable::Caller) {
                None => return Seen::Open(Variable::Caller),
                Some(Value::Token(_)) => Variable::Claim(path.clone()),
                Some(_) => return Seen::Absent,
            },
        };
        match self.value(&variable) {
            None => Seen::Open(variable),
            Some(Value::Number(number)) => Seen::Value(Cow::Owned(*number)),
            Some(Value::Absent) => Seen::Absent,
            Some(_) => Seen::Foreign,
        }
    }
}

impl Look {
    const NO: Self = Self::known(Outcomes::FALSE);
    const UNKNOWN: Self = Self::known(Outcomes::UNKNOWN);

    const fn known(outcomes: Outcomes) -> Self {
        Self { outcomes, next: None }
    }

    const fn open(variable: Variable) -> Self {
        Self { outcomes: Outcomes::OPEN, next: Some(variable) }
    }

    fn map(self, of: impl FnOnce(Outcomes) -> Outcomes) -> Self {
        Self { outcomes: of(self.outcomes), ..self }.settled()
    }

    /// What is decided waits for nothing.
    fn settled(self) -> Self {
        if self.outcomes.is_open() { self } else { Self { next: None, ..self } }
    }

    /// Kleene's conjunction or disjunction, by what an empty one would be.
    fn fold<T>(parts: &[T], empty: Outcomes, ask: impl Fn(&T) -> Self) -> Self {
        let mut all = Self::known(empty);
        for part in parts {
            let look = ask(part);
            all.outcomes = if empty == Outcomes::TRUE {
                all.outcomes & look.outcomes
            } else {
                all.outcomes | look.outcomes
            };
            // Decided: the rest cannot change it.
            if all.outcomes == !empty {
                return Self::known(all.outcomes);
            }
            all.next = all.next.or(look.next);
        }
        all.settled()
    }
}

impl<T: ?Sized + ToOwned> Seen<'_, T> {
    /// What a test of the value says; without a value it is unknown.
    fn test(self, holds: impl FnOnce(&T) -> bool) -> Look {
        self.then(|value| Look::known(Outcomes::of(holds(value))))
    }

    /// What `ask` says of the value; without a value it is unknown.
    fn then(self, ask: impl FnOnce(&T) -> Look) -> Look {
        match self {
            Self::Open(variable) => Look::open(variable),
            Self::Absent | Self::Foreign => Look::UNKNOWN,
            Self::Value(value) => ask(&value),
        }
    }
}
