//! From a tree without types to an [`Expr`], or to what is wrong with it.
//!
//! Every name is looked up, every operand has a type, and a comparison with what an attribute never
//! is is refused: it does not mean what its author meant. A part that is wrong is left out and the
//! others are looked at, so that everything is told at once.

use std::cmp::Ordering;
use std::net::IpAddr;

use enforcer_condition::{ConditionProblem, Kind, Name, Node, Relation, brief, shown, suggest};
use enforcer_model::{Prefix, PrefixError, Reason};

use super::names::{Thing, find};
use super::{Attribute, Comparison, Expr, Flag, Numeric, Test};

/// What an operand is, before it is known what it is compared with.
enum Operand<'n> {
    Broken,
    Thing(Thing),
    Flag(bool),
    Int(i64),
    Text(&'n str),
    List(&'n [Node]),
    Expr(Expr),
}

/// The expression that `node` means; none when something was wrong, which then is in `problems`.
pub(super) fn check(text: &str, node: &Node, problems: &mut Vec<ConditionProblem>) -> Option<Expr> {
    let expr = Checker { text, problems }.condition(node)?;
    if expr.reads_packets() && expr.reads_requests() {
        let message = "`packets` and `opening` are of the kernel, the other attributes of requests";
        let hint = "use two rules: no event has both";
        problems.push(ConditionProblem::new(node.span.clone(), message, hint));
        return None;
    }
    Some(expr)
}

struct Checker<'a> {
    text: &'a str,
    problems: &'a mut Vec<ConditionProblem>,
}

impl Checker<'_> {
    fn tell(&mut self, node: &Node, message: impl Into<String>, hint: impl Into<String>) {
        self.problems.push(ConditionProblem::new(node.span.clone(), message, hint));
    }

    fn shown(&self, node: &Node) -> String {
        shown(self.text, node.span.clone())
    }

    /// `node` as something that is true or false.
    fn condition(&mut self, node: &Node) -> Option<Expr> {
        let operand = self.operand(node);
        let hint = match operand {
            Operand::Broken => return None,
            Operand::Expr(expr) => return Some(expr),
            Operand::Flag(value) => return Some(Expr::Constant(value)),
            Operand::Thing(Thing::Flag(flag)) => return Some(Expr::Test(Test::Flag(flag))),
            Operand::Thing(Thing::Text(_)) => "compare it: `… == \"…\"`, or ask `has(…)`",
            Operand::Thing(Thing::Number(_)) => "compare it: `status >= 500`",
            Operand::Thing(Thing::Address) => "write `source in [\"192.0.2.0/24\"]`",
            Operand::Int(_) | Operand::Text(_) | Operand::List(_) => "compare something with it",
        };
        let message = format!("{} is not true or false", self.shown(node));
        self.tell(node, message, hint);
        None
    }

    fn operand<'n>(&mut self, node: &'n Node) -> Operand<'n> {
        let expr = match &node.kind {
            Kind::Broken => return Operand::Broken,
            Kind::Flag(value) => return Operand::Flag(*value),
            Kind::Int(number) => return Operand::Int(*number),
            Kind::Text(text) => return Operand::Text(text),
            Kind::List(elements) => return Operand::List(elements),
            Kind::Path(names) => {
                return match find(names) {
                    Ok(thing) => Operand::Thing(thing),
                    Err(problem) => {
                        self.problems.push(problem);
                        Operand::Broken
                    }
                };
            }
            Kind::Not(inner) => self.condition(inner).map(|inner| Expr::Not(Box::new(inner))),
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
        let compared = match relation {
            Relation::In => return self.membership(node, (left, a), (right, b)),
            Relation::Equal | Relation::NotEqual => Comparison::Equal,
            Relation::Less => Comparison::Less,
            Relation::AtMost => Comparison::AtMost,
            Relation::Greater => Comparison::Greater,
            Relation::AtLeast => Comparison::AtLeast,
        };
        let negated = relation == Relation::NotEqual;
        let not = |expr: Expr| if negated { Expr::Not(Box::new(expr)) } else { expr };
        match (a, b) {
            (Operand::Broken, _) | (_, Operand::Broken) => None,
            (Operand::Thing(Thing::Number(number)), Operand::Int(literal)) => {
                self.number(node, number, compared, literal, negated).map(not)
            }
            (Operand::Int(literal), Operand::Thing(Thing::Number(number))) => {
                self.number(node, number, compared.turned(), literal, negated).map(not)
            }
            (Operand::Thing(Thing::Text(text)), Operand::Text(literal))
                if compared == Comparison::Equal =>
            {
                self.value(text, literal, right)?;
                Some(not(Expr::Test(Test::Equal(text, literal.into()))))
            }
            (Operand::Text(literal), Operand::Thing(Thing::Text(text)))
                if compared == Comparison::Equal =>
            {
                self.value(text, literal, left)?;
                Some(not(Expr::Test(Test::Equal(text, literal.into()))))
            }
            (Operand::Thing(Thing::Flag(flag)), Operand::Flag(value))
            | (Operand::Flag(value), Operand::Thing(Thing::Flag(flag)))
                if compared == Comparison::Equal =>
            {
                let test = Expr::Test(Test::Flag(flag));
                Some(if value == negated { Expr::Not(Box::new(test)) } else { test })
            }
            (Operand::Thing(Thing::Address), _) | (_, Operand::Thing(Thing::Address)) => {
                let message = "an address is looked up in networks";
                self.tell(node, message, "write `source in [\"192.0.2.0/24\"]`");
                None
            }
            (Operand::Thing(Thing::Number(_)), Operand::Text(text))
                if text.parse::<i64>().is_ok() =>
            {
                let message = format!("{} is a text, not a number", self.shown(right));
                self.tell(right, message, format!("write `{}` without quotes", brief(text)));
                None
            }
            _ => {
                let message =
                    format!("{} and {} cannot be compared", self.shown(left), self.shown(right));
                let hint = "compare an attribute with a literal of its type: a text with `==` or \
                            `in`, a number with `<`, `<=`, `==`, `>=` or `>`";
                self.tell(node, message, hint);
                None
            }
        }
    }

    fn number(
        &mut self,
        node: &Node,
        number: Numeric,
        comparison: Comparison,
        literal: i64,
        negated: bool,
    ) -> Option<Expr> {
        let (least, most) = number.range();
        let holds = |value: i64| comparison.holds(value.cmp(&literal));
        // What is always true, as `status < 600`, is how people close a range.
        let possible = match comparison {
            Comparison::Equal => (least..=most).contains(&literal),
            Comparison::Less | Comparison::AtMost | Comparison::Greater | Comparison::AtLeast => {
                holds(least) || holds(most)
            }
        };
        if !possible {
            let message = format!("{} is always {negated}", self.shown(node));
            self.tell(node, message, format!("it is between {least} and {most}"));
            return None;
        }
        Some(Expr::Test(Test::Compare(number, comparison, literal)))
    }

    fn membership(
        &mut self,
        node: &Node,
        (left, a): (&Node, Operand<'_>),
        (right, b): (&Node, Operand<'_>),
    ) -> Option<Expr> {
        let elements = match (&a, b) {
            (Operand::Broken, _) | (_, Operand::Broken) => return None,
            (_, Operand::List(elements)) => elements,
            (Operand::Thing(Thing::Address), Operand::Text(_)) => std::slice::from_ref(right),
            _ => {
                let message = format!("{} is no list", self.shown(right));
                self.tell(right, message, "write literals in brackets: `[\"a\", \"b\"]`");
                return None;
            }
        };
        if elements.is_empty() {
            self.tell(right, "the list is empty", "write at least one literal");
            return None;
        }
        match a {
            Operand::Thing(Thing::Text(text)) => {
                let read: Vec<Option<Box<str>>> =
                    elements.iter().map(|element| self.text_element(text, element)).collect();
                let texts: Option<Vec<Box<str>>> = read.into_iter().collect();
                Some(Expr::Test(Test::OneOf(text, texts?.into())))
            }
            Operand::Thing(Thing::Number(number)) => {
                let read: Vec<Option<i64>> =
                    elements.iter().map(|element| self.number_element(number, element)).collect();
                let numbers: Option<Vec<i64>> = read.into_iter().collect();
                Some(Expr::Test(Test::NumberOneOf(number, numbers?.into())))
            }
            Operand::Thing(Thing::Address) => {
                let read: Vec<Option<Prefix>> =
                    elements.iter().map(|element| self.network(element)).collect();
                let networks: Option<Vec<Prefix>> = read.into_iter().collect();
                Some(Expr::Test(Test::Inside(networks?.into())))
            }
            Operand::Thing(Thing::Flag(_))
            | Operand::Broken
            | Operand::Flag(_)
            | Operand::Int(_)
            | Operand::Text(_)
            | Operand::List(_)
            | Operand::Expr(_) => {
                let message = format!("{} is in no list", self.shown(left));
                let hint = "write an attribute in front of `in`: `status in [401, 403]`";
                self.tell(node, message, hint);
                None
            }
        }
    }

    fn text_element(&mut self, attribute: Attribute, node: &Node) -> Option<Box<str>> {
        let Kind::Text(text) = &node.kind else {
            return self.wrong_element(node, "a text in quotes");
        };
        self.value(attribute, text, node)?;
        Some(text.as_str().into())
    }

    fn number_element(&mut self, numeric: Numeric, node: &Node) -> Option<i64> {
        let Kind::Int(number) = node.kind else {
            return self.wrong_element(node, "a whole number");
        };
        let (least, most) = numeric.range();
        if (least..=most).contains(&number) {
            return Some(number);
        }
        self.tell(
            node,
            format!("it is never {number}"),
            format!("it is between {least} and {most}"),
        );
        None
    }

    fn network(&mut self, node: &Node) -> Option<Prefix> {
        let Kind::Text(text) = &node.kind else {
            return self.wrong_element(node, "a network in quotes");
        };
        if let Ok(address) = text.parse::<IpAddr>() {
            return Some(enforcer_model::Source::new(address).into());
        }
        match text.parse::<Prefix>() {
            Ok(network) => Some(network),
            Err(error @ PrefixError::HostBits { network, .. }) => {
                self.tell(node, brief(&error.to_string()), format!("write `{network}`"));
                None
            }
            Err(PrefixError::Length { .. } | PrefixError::Text(_)) => {
                let message = format!("`{}` is no network", brief(text));
                self.tell(node, message, "write it as `192.0.2.1` or `192.0.2.0/24`");
                None
            }
        }
    }

    fn wrong_element<T>(&mut self, node: &Node, wanted: &str) -> Option<T> {
        if !matches!(node.kind, Kind::Broken) {
            let message = format!("{} stands where {wanted} must", self.shown(node));
            self.tell(node, message, "all elements of a list have the type of the attribute");
        }
        None
    }

    fn has(&mut self, inner: &Node) -> Option<Expr> {
        match self.operand(inner) {
            Operand::Broken => None,
            Operand::Thing(Thing::Text(attribute)) if attribute != Attribute::Method => {
                Some(Expr::Test(Test::Has(attribute)))
            }
            Operand::Thing(_)
            | Operand::Flag(_)
            | Operand::Int(_)
            | Operand::Text(_)
            | Operand::List(_)
            | Operand::Expr(_) => {
                let message = format!("{} is always there", self.shown(inner));
                self.tell(inner, message, "`has` asks for what may be absent: `has(ja4)`");
                None
            }
        }
    }

    fn call(
        &mut self,
        node: &Node,
        receiver: &Node,
        method: &Name,
        arguments: &[Node],
    ) -> Option<Expr> {
        const METHODS: [&str; 3] = ["startsWith", "endsWith", "contains"];
        let make = match &*method.text {
            "startsWith" => Test::Starts,
            "endsWith" => Test::Ends,
            "contains" => Test::Contains,
            other => {
                let hint = suggest(other, METHODS).map_or_else(
                    || format!("there are: {}", METHODS.join(", ")),
                    |meant| format!("did you mean `{meant}`?"),
                );
                let message = format!("no text has `{}`", brief(other));
                self.problems.push(ConditionProblem::new(method.span.clone(), message, hint));
                return None;
            }
        };
        let attribute = match self.operand(receiver) {
            Operand::Broken => return None,
            Operand::Thing(Thing::Text(attribute)) if attribute != Attribute::Credential => {
                attribute
            }
            Operand::Thing(_)
            | Operand::Flag(_)
            | Operand::Int(_)
            | Operand::Text(_)
            | Operand::List(_)
            | Operand::Expr(_) => {
                let message = format!("{} is no text of an event", self.shown(receiver));
                let hint = format!("`{}` asks for a part of a text", method.text);
                self.tell(receiver, message, hint);
                return None;
            }
        };
        match arguments {
            [Node { kind: Kind::Text(text), .. }] if !text.is_empty() => {
                Some(Expr::Test(make(attribute, text.as_str().into())))
            }
            [Node { kind: Kind::Broken, .. }] => None,
            _ => {
                let message = format!("`{}` asks for one text in quotes", method.text);
                self.tell(node, message, format!("write `.{}(\"…\")`", method.text));
                None
            }
        }
    }

    /// Whether `attribute` can be `literal` at all.
    fn value(&mut self, attribute: Attribute, literal: &str, at: &Node) -> Option<()> {
        let shown = brief(literal);
        let (message, hint) = match attribute {
            Attribute::Reason => match Reason::from_name(literal) {
                Some(reason) if reason.is_own_denial() => (
                    format!("what we refuse with `{shown}` is never counted"),
                    "our own denials are no evidence: a block must not feed itself".to_owned(),
                ),
                Some(_) => return Some(()),
                None => {
                    let known = Reason::ALL.iter().map(|reason| reason.as_str());
                    let hint = match suggest(literal, known) {
                        Some(meant) => format!("did you mean `{meant}`?"),
                        None => "`enforcer/docs/reasons.md` lists them".to_owned(),
                    };
                    (format!("no reason is called `{shown}`"), hint)
                }
            },
            Attribute::Credential => (
                "a credential is not compared".to_owned(),
                "ask `has(credential)`, or count by it: `key: credential`".to_owned(),
            ),
            Attribute::Method if literal.bytes().any(|byte| byte.is_ascii_lowercase()) => {
                let upper = brief(&literal.to_ascii_uppercase());
                (
                    format!("methods have capital letters, never `{shown}`"),
                    format!("write `{upper}`"),
                )
            }
            Attribute::Path if !literal.starts_with('/') => (
                format!("every path begins with `/`, never `{shown}`"),
                format!("write `/{shown}`"),
            ),
            Attribute::Region
                if literal.len() != 2 || !literal.bytes().all(|byte| byte.is_ascii_uppercase()) =>
            {
                let hint = "write the code of a country in two capital letters, such as `DE`";
                (format!("`{shown}` is no region"), hint.to_owned())
            }
            Attribute::Host if literal.bytes().any(|byte| byte.is_ascii_uppercase()) => {
                let lower = brief(&literal.to_ascii_lowercase());
                (format!("hosts are in lower case, never `{shown}`"), format!("write `{lower}`"))
            }
            Attribute::Method
            | Attribute::Host
            | Attribute::Path
            | Attribute::Route
            | Attribute::ObjectId
            | Attribute::Identity
            | Attribute::Role
            | Attribute::Region
            | Attribute::Ja4
            | Attribute::UserAgent
            | Attribute::Upstream => return Some(()),
        };
        self.tell(at, message, hint);
        None
    }
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

    pub(super) fn holds(self, order: Ordering) -> bool {
        match self {
            Self::Equal => order.is_eq(),
            Self::Less => order.is_lt(),
            Self::AtMost => order.is_le(),
            Self::Greater => order.is_gt(),
            Self::AtLeast => order.is_ge(),
        }
    }
}

impl Numeric {
    /// The least and the greatest that it can be.
    const fn range(self) -> (i64, i64) {
        match self {
            Self::Status => (100, 599),
            Self::Incident => (0, 5),
            Self::Hour => (0, 23),
            Self::Weekday => (1, 7),

            Self::Packets
            | Self::BytesIn
            | Self::BytesOut
            | Self::Secrets
            | Self::Personal
            | Self::Cards
            | Self::DurationMs => (0, i64::MAX),
        }
    }

    const fn is_of_packets(self) -> Option<bool> {
        match self {
            Self::Packets => Some(true),
            Self::Hour | Self::Weekday => None,
            Self::Status
            | Self::Incident
            | Self::BytesIn
            | Self::BytesOut
            | Self::Secrets
            | Self::Personal
            | Self::Cards
            | Self::DurationMs => Some(false),
        }
    }
}

impl Expr {
    pub(crate) fn reads_packets(&self) -> bool {
        self.reads(true)
    }

    pub(crate) fn reads_requests(&self) -> bool {
        self.reads(false)
    }

    pub(crate) fn reads_region(&self) -> bool {
        self.has(&|test| match test {
            Test::Has(read)
            | Test::Equal(read, _)
            | Test::OneOf(read, _)
            | Test::Starts(read, _)
            | Test::Ends(read, _)
            | Test::Contains(read, _) => *read == Attribute::Region,
            Test::Flag(_) | Test::Compare(..) | Test::NumberOneOf(..) | Test::Inside(_) => false,
        })
    }

    fn reads(&self, packets: bool) -> bool {
        self.has(&|test| test.is_of_packets() == Some(packets))
    }

    fn has(&self, wanted: &dyn Fn(&Test) -> bool) -> bool {
        match self {
            Self::Constant(_) => false,
            Self::Not(inner) => inner.has(wanted),
            Self::All(parts) | Self::Any(parts) => parts.iter().any(|part| part.has(wanted)),
            Self::Test(test) => wanted(test),
        }
    }
}

impl Test {
    /// Whether only packets have it, or only requests; none: both have it.
    const fn is_of_packets(&self) -> Option<bool> {
        match self {
            Self::Flag(Flag::Opening) => Some(true),
            Self::Compare(number, ..) | Self::NumberOneOf(number, _) => number.is_of_packets(),
            Self::Inside(_) => None,
            Self::Flag(
                Flag::Anonymous
                | Flag::Refused
                | Flag::CredentialRefused
                | Flag::HasObjectId
                | Flag::Proxied,
            )
            | Self::Has(_)
            | Self::Equal(..)
            | Self::OneOf(..)
            | Self::Starts(..)
            | Self::Ends(..)
            | Self::Contains(..) => Some(false),
        }
    }
}
