//! From a tree without types to an [`Expr`], or to what is wrong with it.
//!
//! Every name is looked up and every operand has a type; what can never be true, or never be false, is
//! refused as well, because it does not mean what its author meant. A part that is wrong is left out
//! and the others are looked at, so that everything is told at once.

#![expect(
    clippy::wildcard_enum_match_arm,
    reason = "each place names the operands that fit; any other one is an error of the author there"
)]

mod operand;
mod sets;
mod told;

use std::ops::Range;

use enforcer_condition::{ConditionProblem, Kind, Name, Node, Relation, brief, shown};

use self::operand::{Operand, Type, join};
use super::domain;
use super::expr::{Attribute, ClaimPath, Comparison, Expr, Flag, Number, Numeric, Test, Text};
use super::names::{Names, Thing};
use crate::Vocabulary;

/// The expression that `node` means; none when something was wrong, which then is in `problems`.
pub(super) fn check(
    text: &str,
    node: &Node,
    vocabulary: &Vocabulary<'_>,
    params: &[&str],
    problems: &mut Vec<ConditionProblem>,
) -> Option<Expr> {
    let names = Names { vocabulary, params };
    Checker { text, names, problems }.condition(node)
}

struct Checker<'a> {
    text: &'a str,
    names: Names<'a>,
    problems: &'a mut Vec<ConditionProblem>,
}

impl Checker<'_> {
    fn tell(&mut self, span: &Range<usize>, message: impl Into<String>, hint: impl Into<String>) {
        self.problems.push(ConditionProblem::new(span.clone(), message, hint));
    }

    fn shown(&self, node: &Node) -> String {
        shown(self.text, node.span.clone())
    }

    /// The name as written, without the quotes of [`Self::shown`].
    fn plain(&self, node: &Node) -> String {
        brief(self.text.get(node.span.clone()).unwrap_or_default())
    }

    /// `node` as something that is true or false.
    fn condition(&mut self, node: &Node) -> Option<Expr> {
        match self.operand(node) {
            Operand::Broken => None,
            Operand::Expr(expr) => Some(expr),
            Operand::Flag(value) => Some(Expr::Constant(value)),
            Operand::Thing(Thing::Flag(flag)) => Some(Expr::Test(Test::Flag(flag))),
            Operand::Thing(Thing::Claim(path)) => Some(Expr::Test(Test::Flag(Flag::Claim(path)))),
            other => {
                let (shown, name) = (self.shown(node), self.plain(node));
                let hint = match &other {
                    Operand::Thing(Thing::Address) => "write `ip in net.NAME`".to_owned(),
                    Operand::Thing(Thing::Networks(_)) => format!("write `ip in {name}`"),
                    Operand::Thing(Thing::Incident) => "compare it: `incident >= 2`".to_owned(),
                    Operand::Thing(Thing::Roles) => "write `\"NAME\" in roles`".to_owned(),
                    Operand::Thing(Thing::Scopes) => "write `\"NAME\" in scopes`".to_owned(),
                    Operand::Thing(Thing::Text(_)) => {
                        format!("compare it: `{name} == \"…\"`, or ask `has({name})`")
                    }
                    _ => "compare something with it".to_owned(),
                };
                let is = other.kind().map_or("no condition", Type::described);
                self.tell(&node.span, format!("{shown} is {is}, not true or false"), hint);
                None
            }
        }
    }

    fn operand<'n>(&mut self, node: &'n Node) -> Operand<'n> {
        let expr = match &node.kind {
            Kind::Broken => return Operand::Broken,
            Kind::Flag(value) => return Operand::Flag(*value),
            Kind::Int(number) => return Operand::Int(*number),
            Kind::Text(text) => return Operand::Text(text),
            Kind::List(elements) => return Operand::List(elements),
            Kind::Path(names) => {
                return match self.names.find(names) {
                    Ok(thing) => Operand::Thing(thing),
                    Err(problem) => {
                        self.problems.push(problem);
                        Operand::Broken
                    }
                };
            }
            Kind::Not(inner) => self.condition(inner).map(not),
            Kind::All(parts) => self.each(parts).map(|parts| Expr::All(parts.into())),
            Kind::Any(parts) => self.each(parts).map(|parts| Expr::Any(parts.into())),
            Kind::Relation(sides, relation) => {
                let [left, right] = &**sides;
                self.relation(node, left, *relation, right)
            }
            Kind::Has(inner) => self.has(inner),
            Kind::Call { receiver, method, arguments } => {
                self.call(node, receiver, method, arguments)
            }
        };
        expr.map_or(Operand::Broken, Operand::Expr)
    }

    /// All parts, or none when one is wrong; every one is looked at.
    fn each(&mut self, parts: &[Node]) -> Option<Vec<Expr>> {
        let read: Vec<Option<Expr>> = parts.iter().map(|part| self.condition(part)).collect();
        read.into_iter().collect()
    }

    fn relation(
        &mut self,
        node: &Node,
        left: &Node,
        relation: Relation,
        right: &Node,
    ) -> Option<Expr> {
        let (a, b) = (self.operand(left), self.operand(right));
        if matches!(a, Operand::Broken) || matches!(b, Operand::Broken) {
            return None;
        }
        match relation {
            Relation::In => self.membership(node, (left, a), (right, b)),
            Relation::Equal => self.equality(node, (left, a), (right, b), relation),
            Relation::NotEqual => self.equality(node, (left, a), (right, b), relation).map(not),
            Relation::Less | Relation::AtMost | Relation::Greater | Relation::AtLeast => {
                self.order(node, (left, a), (right, b), relation)
            }
        }
    }

    fn equality(
        &mut self,
        node: &Node,
        (left, a): (&Node, Operand<'_>),
        (right, b): (&Node, Operand<'_>),
        relation: Relation,
    ) -> Option<Expr> {
        let (Some(left_type), Some(right_type)) = (a.kind(), b.kind()) else { return None };
        match join(left_type, right_type) {
            Some(Type::Text) => self.texts(node, (left, a), (right, b)),
            Some(Type::Number) => self.numbers(node, a, b, relation),
            Some(Type::Flag) => self.flags(node, a, b),
            Some(Type::Address | Type::Claim | Type::List | Type::Networks | Type::Texts)
            | None => {
                self.never_equal((left, a), (right, b));
                None
            }
        }
    }

    fn texts(
        &mut self,
        node: &Node,
        (left, a): (&Node, Operand<'_>),
        (right, b): (&Node, Operand<'_>),
    ) -> Option<Expr> {
        let (attribute, at, text) = match (a.text()?, b.text()?) {
            (Text::Literal(_), Text::Literal(_)) => {
                self.constant(node);
                return None;
            }
            (Text::Attribute(attribute), text) => (attribute, right, text),
            (text @ Text::Literal(_), Text::Attribute(attribute)) => (attribute, left, text),
        };
        match &text {
            Text::Attribute(other) if *other == attribute => {
                self.itself(node);
                return None;
            }
            Text::Attribute(_) => {}
            Text::Literal(literal) => self.value(&attribute, literal, at)?,
        }
        Some(Expr::Test(Test::Equal(attribute, text)))
    }

    fn flags(&mut self, node: &Node, a: Operand<'_>, b: Operand<'_>) -> Option<Expr> {
        match (a.flag()?, b.flag()?) {
            (Expr::Constant(_), Expr::Constant(_)) => self.constant(node),
            (left, right) if left == right => self.itself(node),
            (Expr::Constant(value), expr) | (expr, Expr::Constant(value)) => {
                return Some(if value { expr } else { not(expr) });
            }
            (left, right) => return Some(Expr::Same(Box::new([left, right]))),
        }
        None
    }

    fn order(
        &mut self,
        node: &Node,
        (left, a): (&Node, Operand<'_>),
        (right, b): (&Node, Operand<'_>),
        relation: Relation,
    ) -> Option<Expr> {
        for (side, operand, other) in [(left, &a, &b), (right, &b, &a)] {
            let kind = operand.kind()?;
            if !matches!(kind, Type::Number | Type::Claim) {
                let is = kind.described();
                let hint = match operand {
                    Operand::Text(text) if text.parse::<i64>().is_ok() => {
                        format!("write `{text}` without quotes")
                    }
                    _ if kind == Type::Text && other.kind() == Some(Type::Text) => {
                        "compare texts with `==`, `in` or `.startsWith(\"…\")`".to_owned()
                    }
                    _ => "compare `incident` or a claim with a whole number".to_owned(),
                };
                let message = format!("{} is {is}, and has no order", self.shown(side));
                self.tell(&side.span, message, hint);
                return None;
            }
        }
        self.numbers(node, a, b, relation)
    }

    fn numbers(
        &mut self,
        node: &Node,
        a: Operand<'_>,
        b: Operand<'_>,
        relation: Relation,
    ) -> Option<Expr> {
        let comparison = match relation {
            Relation::Equal | Relation::NotEqual | Relation::In => Comparison::Equal,
            Relation::Less => Comparison::Less,
            Relation::AtMost => Comparison::AtMost,
            Relation::Greater => Comparison::Greater,
            Relation::AtLeast => Comparison::AtLeast,
        };
        let (numeric, comparison, number) = match (a.number()?, b.number()?) {
            (Number::Literal(_), Number::Literal(_)) => {
                self.constant(node);
                return None;
            }
            (Number::Numeric(numeric), number) => (numeric, comparison, number),
            (number @ Number::Literal(_), Number::Numeric(numeric)) => {
                (numeric, comparison.turned(), number)
            }
        };
        if Number::Numeric(numeric.clone()) == number {
            self.itself(node);
            return None;
        }
        if let (Numeric::Incident, Number::Literal(literal)) = (&numeric, &number) {
            let holds = |level: &i64| comparison.holds(level.cmp(literal));
            let count = domain::INCIDENTS.iter().filter(|level| holds(level)).count();
            if count == 0 || count == domain::INCIDENTS.len() {
                let outcome = (count > 0) != (relation == Relation::NotEqual);
                self.settled(node, outcome, "`incident` is between 0 and 5");
                return None;
            }
        }
        Some(Expr::Test(Test::Compare(numeric, comparison, number)))
    }

    fn has(&mut self, inner: &Node) -> Option<Expr> {
        let operand = self.operand(inner);
        let attribute = match operand {
            Operand::Broken => return None,
            Operand::Thing(Thing::Claim(path)) => Some(Attribute::Claim(path)),
            Operand::Thing(Thing::Text(attribute)) if domain::may_be_absent(&attribute) => {
                Some(attribute)
            }
            _ => None,
        };
        if attribute.is_none() {
            let message = format!("{} is always there", self.shown(inner));
            let hint = "`has` asks for what may be absent, such as `has(claims.tenant)`";
            self.tell(&inner.span, message, hint);
        }
        attribute.map(|attribute| Expr::Test(Test::Has(attribute)))
    }

    fn call(
        &mut self,
        node: &Node,
        receiver: &Node,
        method: &Name,
        arguments: &[Node],
    ) -> Option<Expr> {
        let is_start = match &*method.text {
            "startsWith" => true,
            "endsWith" => false,
            _ => {
                self.no_method(receiver, method, arguments);
                return None;
            }
        };
        let attribute = match self.operand(receiver) {
            Operand::Broken => return None,
            Operand::Text(_) => {
                self.constant(node);
                return None;
            }
            operand => match operand.kind()? {
                Type::Text | Type::Claim => match operand.text()? {
                    Text::Attribute(attribute) => attribute,
                    Text::Literal(_) => return None,
                },
                kind => {
                    let message =
                        format!("{} is {}, not text", self.shown(receiver), kind.described());
                    let hint = format!("`{}` asks for the beginning or end of a text", method.text);
                    self.tell(&receiver.span, message, hint);
                    return None;
                }
            },
        };
        let [Node { kind: Kind::Text(text), span, .. }] = arguments else {
            if !arguments.iter().any(|argument| matches!(argument.kind, Kind::Broken)) {
                let message = format!("`{}` asks for one text in quotes", method.text);
                let hint = format!("write `{}.{}(\"…\")`", self.plain(receiver), method.text);
                self.tell(&node.span, message, hint);
            }
            return None;
        };
        if text.is_empty() {
            let message = "every text begins and ends with nothing, so this is always true";
            self.tell(span, message, "write what it must begin or end with");
            return None;
        }
        let wrong = domain::never_part(&attribute, text, is_start);
        if let Some((message, hint)) = wrong {
            self.tell(span, message, hint);
            return None;
        }
        let text = text.as_str().into();
        let test = if is_start { Test::StartsWith } else { Test::EndsWith };
        Some(Expr::Test(test(attribute, text)))
    }

    /// Whether `attribute` can be `literal` at all.
    fn value(&mut self, attribute: &Attribute, literal: &str, at: &Node) -> Option<()> {
        let issuers = self.names.vocabulary.issuers;
        match domain::never(attribute, literal, issuers) {
            None => Some(()),
            Some((message, hint)) => {
                self.tell(&at.span, message, hint);
                None
            }
        }
    }
}

fn not(expr: Expr) -> Expr {
    Expr::Not(Box::new(expr))
}

impl ClaimPath {
    /// The most names of a path.
    pub(super) const NAMES_MAX: usize = 16;
}
