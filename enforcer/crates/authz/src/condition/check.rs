//! From a tree without types to an [`Expr`], or to what is wrong with it.
//!
//! Every name is looked up and every operand has a type; what can never be true, or never be false, is
//! refused as well, because it does not mean what its author meant. A part that is wrong is left out
//! and the others are looked at, so that everything is told at once.

use std::ops::Range;
use std::sync::Arc;

use super::expr::{
    Attribute, ClaimPath, Comparison, Expr, Flag, Held, Network, Number, Numbers, Numeric, Test,
    Text, Texts,
};
use super::lexer::Relation;
use super::names::{Names, Thing};
use super::parser::{Kind, Name, Node};
use super::problem::ConditionProblem;
use super::{domain, shown};
use crate::Vocabulary;

/// What an operand is, before it is known what it is compared with.
enum Operand<'n> {
    /// Something that has been told.
    Broken,
    Thing(Thing),
    Flag(bool),
    Int(i64),
    Text(&'n str),
    List(&'n [Node]),
    /// A condition of its own.
    Expr(Expr),
}

/// What can be put on one side of `==`.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Type {
    Address,
    Claim,
    Flag,
    List,
    Networks,
    Number,
    Text,
    Texts,
}

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
        super::brief(self.text.get(node.span.clone()).unwrap_or_default())
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
            let Some(kind) = operand.kind() else { return None };
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

    fn membership(
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

    fn inside(&mut self, left: &Node, a: &Operand<'_>, network: Network) -> Option<Expr> {
        if matches!(a, Operand::Thing(Thing::Address)) {
            return Some(Expr::Test(Test::Inside(network)));
        }
        let is = a.kind()?.described();
        let message = format!("{} is {is}, and a network has addresses", self.shown(left));
        let name = &network.name;
        self.tell(&left.span, message, format!("write `ip in net.{name}`"));
        None
    }

    fn role(&mut self, left: &Node, a: &Operand<'_>) -> Option<Expr> {
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

    fn listed(
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

    fn levels(&mut self, elements: &[Node], numbers: &[i64]) -> Option<()> {
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

    fn no_method(&mut self, receiver: &Node, method: &Name, arguments: &[Node]) {
        let (name, set) = (super::brief(&method.text), self.plain(receiver));
        let argument =
            arguments.first().map_or_else(|| "\"…\"".to_owned(), |node| self.plain(node));
        let hint = match &*method.text.to_ascii_lowercase() {
            "contains" | "includes" | "has" => format!("write `{argument} in {set}`"),
            "matches" | "match" | "like" => {
                "there are no patterns; write `.startsWith(\"…\")` or `.endsWith(\"…\")`".to_owned()
            }
            "size" | "length" | "len" => "compare the value itself, or ask `has(x)`".to_owned(),
            "isinrange" | "inrange" => "name it in `[net]`, and write `ip in net.NAME`".to_owned(),
            _ => match super::suggest(&method.text, ["startsWith", "endsWith"]) {
                Some(meant) => format!("did you mean `{meant}`?"),
                None => "there are `.startsWith(\"…\")` and `.endsWith(\"…\")`".to_owned(),
            },
        };
        self.tell(&method.span, format!("there is no method `{name}`"), hint);
    }

    /// `operand` as an element of a set of `wanted`.
    fn element<'n>(
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

    fn never_equal(&mut self, (left, a): (&Node, Operand<'_>), (right, b): (&Node, Operand<'_>)) {
        let pair = |wanted: fn(&Operand<'_>) -> bool| wanted(&a) || wanted(&b);
        let literal = if matches!(a, Operand::Text(_)) { left } else { right };
        let is_address = |side: &Operand<'_>| matches!(side, Operand::Thing(Thing::Address));
        let is_text = |side: &Operand<'_>| matches!(side, Operand::Text(_));
        if pair(is_address) && pair(is_text) {
            return self.address_hint(literal);
        }
        let (one, other) = (self.plain(left), self.plain(right));
        let types = a.kind().zip(b.kind());
        let numeric = |side: &Operand<'_>| match side {
            Operand::Text(text) => text.parse::<i64>().is_ok(),
            _ => false,
        };
        let truth = |side: &Operand<'_>| matches!(side, Operand::Text("true" | "false"));
        let hint = match types {
            Some((Type::Address, Type::Networks)) => format!("write `{one} in {other}`"),
            Some((Type::Networks, Type::Address)) => format!("write `{other} in {one}`"),
            Some((Type::Texts, Type::Text)) => format!("write `{other} in {one}`"),
            Some((Type::Text, Type::Texts)) => format!("write `{one} in {other}`"),
            Some((_, Type::List)) => format!("write `{one} in {other}`"),
            Some((Type::List, _)) => format!("write `{other} in {one}`"),
            Some((Type::Number, Type::Text) | (Type::Text, Type::Number)) if pair(numeric) => {
                let literal = self.plain(literal);
                let bare = literal.trim_matches(['"', '\'']);
                format!("write `{bare}` without quotes")
            }
            Some((Type::Flag, Type::Text) | (Type::Text, Type::Flag)) if pair(truth) => {
                "write `true` and `false` without quotes".to_owned()
            }
            Some((Type::Text, Type::Number)) if matches!(b, Operand::Int(_)) => {
                format!("write it in quotes: `\"{other}\"`")
            }
            Some((Type::Number, Type::Text)) if matches!(a, Operand::Int(_)) => {
                format!("write it in quotes: `\"{one}\"`")
            }
            _ => "compare values of one type".to_owned(),
        };
        let (left_is, right_is) = match types {
            Some((a, b)) => (a.described(), b.described()),
            None => return,
        };
        let message = if left_is == right_is {
            format!("{} and {} cannot be compared", self.shown(left), self.shown(right))
        } else {
            let (left, right) = (self.shown(left), self.shown(right));
            format!("{left} is {left_is}, {right} is {right_is}: they are never equal")
        };
        self.tell(&(left.span.start..right.span.end), message, hint);
    }

    fn address_hint(&mut self, literal: &Node) {
        let written = self.plain(literal);
        let list = if written.starts_with('[') { written } else { format!("[{written}]") };
        self.tell(
            &literal.span,
            "`ip` is an address, and is compared with named networks only",
            format!(
                "name it under `[net]`, such as `office = {list}`, and write `ip in net.office`"
            ),
        );
    }

    fn literals_only(&mut self, element: &Node) {
        let message =
            format!("{} is neither a text in quotes nor a whole number", self.shown(element));
        self.tell(
            &element.span,
            message,
            "a list has literals only; join other comparisons with `||`",
        );
    }

    fn constant(&mut self, node: &Node) {
        let message = format!("{} reads nothing of the request", self.shown(node));
        self.tell(&node.span, message, "compare an attribute with it");
    }

    fn itself(&mut self, node: &Node) {
        let message = format!("{} compares a thing with itself", self.shown(node));
        self.tell(&node.span, message, "compare it with something else");
    }

    fn settled(&mut self, node: &Node, outcome: bool, because: &str) {
        let word = if outcome { "always" } else { "never" };
        let message = format!("{because}, so {} is {word} true", self.shown(node));
        self.tell(&node.span, message, "compare it with another level, or leave it out");
    }
}

impl Operand<'_> {
    const fn kind(&self) -> Option<Type> {
        Some(match self {
            Self::Broken => return None,
            Self::Thing(thing) => match thing {
                Thing::Address => Type::Address,
                Thing::Networks(_) => Type::Networks,
                Thing::Flag(_) => Type::Flag,
                Thing::Roles | Thing::Scopes => Type::Texts,
                Thing::Text(_) => Type::Text,
                Thing::Incident => Type::Number,
                Thing::Claim(_) => Type::Claim,
            },
            Self::Flag(_) | Self::Expr(_) => Type::Flag,
            Self::Int(_) => Type::Number,
            Self::Text(_) => Type::Text,
            Self::List(_) => Type::List,
        })
    }

    fn text(self) -> Option<Text> {
        Some(match self {
            Self::Text(text) => Text::Literal(text.into()),
            Self::Thing(Thing::Text(attribute)) => Text::Attribute(attribute),
            Self::Thing(Thing::Claim(path)) => Text::Attribute(Attribute::Claim(path)),
            _ => return None,
        })
    }

    fn number(self) -> Option<Number> {
        Some(match self {
            Self::Int(number) => Number::Literal(number),
            Self::Thing(Thing::Incident) => Number::Numeric(Numeric::Incident),
            Self::Thing(Thing::Claim(path)) => Number::Numeric(Numeric::Claim(path)),
            _ => return None,
        })
    }

    fn flag(self) -> Option<Expr> {
        Some(match self {
            Self::Flag(value) => Expr::Constant(value),
            Self::Expr(expr) => expr,
            Self::Thing(Thing::Flag(flag)) => Expr::Test(Test::Flag(flag)),
            Self::Thing(Thing::Claim(path)) => Expr::Test(Test::Flag(Flag::Claim(path))),
            _ => return None,
        })
    }
}

impl Type {
    const fn described(self) -> &'static str {
        match self {
            Self::Address => "an address",
            Self::Claim => "a claim",
            Self::Flag => "true or false",
            Self::List => "a list",
            Self::Networks => "a set of addresses",
            Self::Number => "a whole number",
            Self::Text => "text",
            Self::Texts => "a set of texts",
        }
    }
}

/// The type that two sides are compared as. A claim is of the other side's type; two claims are texts.
fn join(left: Type, right: Type) -> Option<Type> {
    match (left, right) {
        (Type::Claim, Type::Claim) => Some(Type::Text),
        (Type::Claim, known) | (known, Type::Claim) => Some(known),
        (left, right) if left == right => Some(left),
        _ => None,
    }
}

fn not(expr: Expr) -> Expr {
    Expr::Not(Box::new(expr))
}

impl Comparison {
    /// The same with its sides exchanged.
    const fn turned(self) -> Self {
        match self {
            Self::Equal => Self::Equal,
            Self::Less => Self::Greater,
            Self::AtMost => Self::AtLeast,
            Self::Greater => Self::Less,
            Self::AtLeast => Self::AtMost,
        }
    }
}

impl ClaimPath {
    /// The most names of a path.
    pub(super) const NAMES_MAX: usize = 16;
}
