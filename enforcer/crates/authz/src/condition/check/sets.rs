//! `in`: an element of a list, of a network, of roles, scopes or a claim.

use std::sync::Arc;

use enforcer_condition::{Kind, Node};

use super::operand::{Operand, Type};
use super::{Checker, domain};
use crate::condition::expr::{
    Attribute, Expr, Held, Network, Number, Numbers, Numeric, Test, Text, Texts,
};
use crate::condition::names::Thing;

impl Checker<'_> {
    pub(super) fn membership(
        &mut self,
        node: &Node,
        (left, a): (&Node, Operand<'_>),
        (right, b): (&Node, Operand<'_>),
    ) -> Option<Expr> {
        match b {
            Operand::Thing(Thing::Networks(network)) => self.inside(left, &a, network),
            Operand::List(elements) => self.listed(node, (left, a), (right, elements)),
            Operand::Thing(Thing::Roles) => self.role(left, &a),
            Operand::Thing(Thing::Scopes) => {
                let text = self.element(left, a, Type::Text)?.text()?;
                Some(Expr::Test(Test::OneOf(text, Texts::Scopes)))
            }
            Operand::Thing(Thing::Claim(set)) => match a.kind()? {
                Type::Number => {
                    Some(Expr::Test(Test::NumberOneOf(a.number()?, Numbers::Claim(set))))
                }
                _ => {
                    let text = self.element(left, a, Type::Text)?.text()?;
                    if text == Text::Attribute(Attribute::Claim(set.clone())) {
                        self.itself(node);
                        return None;
                    }
                    Some(Expr::Test(Test::OneOf(text, Texts::Claim(set))))
                }
            },
            Operand::Text(_) if matches!(a, Operand::Thing(Thing::Address)) => {
                self.address_hint(right);
                None
            }
            other => {
                let is = other.kind().map_or("no set", Type::described);
                let name = self.plain(left);
                let hint = match &other {
                    Operand::Text(_) => {
                        format!("write `{name} == …`, or a list: `{name} in [\"…\"]`")
                    }
                    Operand::Thing(Thing::Text(_)) => {
                        format!("write `{name} == {}`", self.plain(right))
                    }
                    _ => "write `x in [\"a\", \"b\"]`, `ip in net.NAME` or `\"NAME\" in roles`"
                        .to_owned(),
                };
                let message =
                    format!("`in` asks for an element of a set, and {} is {is}", self.shown(right));
                self.tell(&right.span, message, hint);
                None
            }
        }
    }

    pub(super) fn inside(
        &mut self,
        left: &Node,
        a: &Operand<'_>,
        network: Network,
    ) -> Option<Expr> {
        if matches!(a, Operand::Thing(Thing::Address)) {
            return Some(Expr::Test(Test::Inside(network)));
        }
        let is = a.kind()?.described();
        let message = format!("{} is {is}, and a network has addresses", self.shown(left));
        let name = &network.name;
        self.tell(&left.span, message, format!("write `ip in net.{name}`"));
        None
    }

    pub(super) fn role(&mut self, left: &Node, a: &Operand<'_>) -> Option<Expr> {
        let Operand::Text(name) = a else {
            let message = format!("{} is not the name of a role", self.shown(left));
            self.tell(&left.span, message, "name one role in quotes: `\"NAME\" in roles`");
            return None;
        };
        match self.names.role(name, &left.span) {
            Ok(Held { role, index }) => Some(Expr::Test(Test::Role(Held { role, index }))),
            Err(problem) => {
                self.problems.push(problem);
                None
            }
        }
    }

    pub(super) fn listed(
        &mut self,
        node: &Node,
        (left, a): (&Node, Operand<'_>),
        (right, elements): (&Node, &[Node]),
    ) -> Option<Expr> {
        if matches!(a, Operand::Thing(Thing::Address)) {
            self.address_hint(right);
            return None;
        }
        let Some(first) = elements.first() else {
            self.tell(
                &right.span,
                "the list is empty, so this is never true",
                "write what it may be",
            );
            return None;
        };
        let wanted = match first.kind {
            Kind::Text(_) => Type::Text,
            Kind::Int(_) => Type::Number,
            Kind::Broken => return None,
            _ => {
                self.literals_only(first);
                return None;
            }
        };
        let (mut texts, mut numbers): (Vec<Arc<str>>, Vec<i64>) = (Vec::new(), Vec::new());
        for element in elements {
            match (&element.kind, wanted) {
                (Kind::Text(text), Type::Text) => texts.push(text.as_str().into()),
                (Kind::Int(number), Type::Number) => numbers.push(*number),
                (Kind::Broken, _) => return None,
                (Kind::Text(_) | Kind::Int(_), _) => {
                    let message = format!(
                        "{} is {}, and {} is {}",
                        self.shown(first),
                        wanted.described(),
                        self.shown(element),
                        if wanted == Type::Text { Type::Number } else { Type::Text }.described(),
                    );
                    self.tell(&element.span, message, "a list has elements of one type");
                    return None;
                }
                _ => {
                    self.literals_only(element);
                    return None;
                }
            }
        }
        let a = self.element(left, a, wanted)?;
        if matches!(a, Operand::Text(_) | Operand::Int(_)) {
            self.constant(node);
            return None;
        }
        if wanted == Type::Number {
            let number = a.number()?;
            if number == Number::Numeric(Numeric::Incident) {
                self.levels(elements, &numbers)?;
                if domain::INCIDENTS.iter().all(|level| numbers.contains(level)) {
                    self.settled(node, true, "`incident` is between 0 and 5");
                    return None;
                }
            }
            return Some(Expr::Test(Test::NumberOneOf(number, Numbers::Literals(numbers.into()))));
        }
        let text = a.text()?;
        if let Text::Attribute(attribute) = &text {
            let checked: Vec<Option<()>> = elements
                .iter()
                .zip(&texts)
                .map(|(element, text)| self.value(attribute, text, element))
                .collect();
            checked.into_iter().collect::<Option<()>>()?;
        }
        Some(Expr::Test(Test::OneOf(text, Texts::Literals(texts.into()))))
    }

    pub(super) fn levels(&mut self, elements: &[Node], numbers: &[i64]) -> Option<()> {
        let mut result = Some(());
        for (element, number) in elements.iter().zip(numbers) {
            if !domain::INCIDENTS.contains(number) {
                let message = format!("`incident` is between 0 and 5, never `{number}`");
                self.tell(&element.span, message, "remove it");
                result = None;
            }
        }
        result
    }

    /// `operand` as an element of a set of `wanted`.
    pub(super) fn element<'n>(
        &mut self,
        node: &Node,
        operand: Operand<'n>,
        wanted: Type,
    ) -> Option<Operand<'n>> {
        let kind = operand.kind()?;
        if kind == wanted || kind == Type::Claim {
            return Some(operand);
        }
        let message = format!(
            "{} is {}, and the elements are {}",
            self.shown(node),
            kind.described(),
            if wanted == Type::Text { "texts" } else { "whole numbers" },
        );
        let hint = match (kind, wanted) {
            (Type::Number, Type::Text) => "write numbers without quotes",
            (Type::Text, Type::Number) => "write texts in quotes",
            _ => "compare one value with a list of its type",
        };
        self.tell(&node.span, message, hint);
        None
    }
}
