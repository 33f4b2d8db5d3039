//! Messages about operands that do not fit together.

use enforcer_condition::{Name, Node, brief, suggest};

use super::Checker;
use super::operand::{Operand, Type};
use crate::condition::names::Thing;

impl Checker<'_> {
    pub(super) fn no_method(&mut self, receiver: &Node, method: &Name, arguments: &[Node]) {
        let (name, set) = (brief(&method.text), self.plain(receiver));
        let argument =
            arguments.first().map_or_else(|| "\"…\"".to_owned(), |node| self.plain(node));
        let hint = match &*method.text.to_ascii_lowercase() {
            "contains" | "includes" | "has" => format!("write `{argument} in {set}`"),
            "matches" | "match" | "like" => {
                "there are no patterns; write `.startsWith(\"…\")` or `.endsWith(\"…\")`".to_owned()
            }
            "size" | "length" | "len" => "compare the value itself, or ask `has(x)`".to_owned(),
            "isinrange" | "inrange" => "name it in `[net]`, and write `ip in net.NAME`".to_owned(),
            _ => match suggest(&method.text, ["startsWith", "endsWith"]) {
                Some(meant) => format!("did you mean `{meant}`?"),
                None => "there are `.startsWith(\"…\")` and `.endsWith(\"…\")`".to_owned(),
            },
        };
        self.tell(&method.span, format!("there is no method `{name}`"), hint);
    }

    pub(super) fn never_equal(
        &mut self,
        (left, a): (&Node, Operand<'_>),
        (right, b): (&Node, Operand<'_>),
    ) {
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

    pub(super) fn address_hint(&mut self, literal: &Node) {
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

    pub(super) fn literals_only(&mut self, element: &Node) {
        let message =
            format!("{} is neither a text in quotes nor a whole number", self.shown(element));
        self.tell(
            &element.span,
            message,
            "a list has literals only; join other comparisons with `||`",
        );
    }

    pub(super) fn constant(&mut self, node: &Node) {
        let message = format!("{} reads nothing of the request", self.shown(node));
        self.tell(&node.span, message, "compare an attribute with it");
    }

    pub(super) fn itself(&mut self, node: &Node) {
        let message = format!("{} compares a thing with itself", self.shown(node));
        self.tell(&node.span, message, "compare it with something else");
    }

    pub(super) fn settled(&mut self, node: &Node, outcome: bool, because: &str) {
        let word = if outcome { "always" } else { "never" };
        let message = format!("{because}, so {} is {word} true", self.shown(node));
        self.tell(&node.span, message, "compare it with another level, or leave it out");
    }
}
