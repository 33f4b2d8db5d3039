//! From tokens to a tree without types.
//!
//! ```text
//! any      = all { "||" all }
//! all      = relation { "&&" relation }
//! relation = unary [ ( "==" | "!=" | "<" | "<=" | ">" | ">=" | "in" ) unary ]
//! unary    = { "!" } primary
//! primary  = "true" | "false" | number | text | list | "(" any ")" | path
//!          | "has" "(" path ")" | primary "." name "(" text ")"
//! ```
//!
//! Every way down is counted, so neither the text nor the tree can be deeper than [`DEPTH_MAX`]. A part
//! that cannot be read is told and left out; reading goes on behind the next `&&` or `||`.

#![expect(
    clippy::wildcard_enum_match_arm,
    reason = "each place names the tokens that it takes; any other one is an error there"
)]

use std::ops::Range;

use crate::Dialect;
use crate::lexer::{Placed, Relation, Token, tokens};
use crate::problem::ConditionProblem;
use crate::tree::{DEPTH_MAX, Kind, LIST_MAX, NODES_MAX, Name, Node};

/// Reading cannot go on here; what is wrong has been told.
struct Lost;

/// The tree of `text`, as far as it can be read; what cannot be is in `problems`.
pub fn parse(text: &str, dialect: &Dialect, problems: &mut Vec<ConditionProblem>) -> Node {
    let tokens = tokens(text, dialect, problems);
    let mut parser = Parser {
        text,
        tokens,
        at: 0,
        nodes: 0,
        parens: 0,
        brackets: 0,
        is_full: false,
        dialect,
        problems,
    };
    if matches!(parser.peek(), Token::End) {
        parser.tell(
            0..text.len(),
            "the condition is empty",
            "leave `when` out, or write a condition",
        );
        return parser.broken(0..text.len());
    }
    // Every way in which a part can end is told where it ends, so nothing is left behind it.
    parser.any()
}

struct Parser<'a> {
    text: &'a str,
    tokens: Vec<Placed>,
    at: usize,
    nodes: usize,
    parens: usize,
    /// Lists and calls that were begun and not ended.
    brackets: usize,
    /// A bound was passed: nothing more is read, nothing more is told.
    is_full: bool,
    dialect: &'a Dialect,
    problems: &'a mut Vec<ConditionProblem>,
}

impl Parser<'_> {
    fn peek(&self) -> &Token {
        self.tokens.get(self.at).map_or(&Token::End, |placed| &placed.token)
    }

    fn peek_behind(&self) -> &Token {
        self.tokens.get(self.at + 1).map_or(&Token::End, |placed| &placed.token)
    }

    fn span(&self) -> Range<usize> {
        self.tokens
            .get(self.at)
            .map_or(self.text.len()..self.text.len(), |placed| placed.span.clone())
    }

    fn next(&mut self) -> Placed {
        let placed = Placed { token: self.peek().clone(), span: self.span() };
        // The end is never passed.
        self.at = (self.at + 1).min(self.tokens.len().saturating_sub(1));
        placed
    }

    fn tell(&mut self, span: Range<usize>, message: impl Into<String>, hint: impl Into<String>) {
        if !self.is_full {
            self.problems.push(ConditionProblem::new(span, message, hint));
        }
    }

    fn node(&mut self, span: Range<usize>, kind: Kind) -> Node {
        let inner = match &kind {
            Kind::Broken
            | Kind::Flag(_)
            | Kind::Int(_)
            | Kind::Text(_)
            | Kind::List(_)
            | Kind::Path(_) => 0,
            Kind::Not(inner) | Kind::Has(inner) | Kind::Call { receiver: inner, .. } => {
                inner.height
            }
            Kind::All(parts) | Kind::Any(parts) => {
                parts.iter().map(|part| part.height).max().unwrap_or_default()
            }
            Kind::Relation(sides, _) => {
                sides.iter().map(|side| side.height).max().unwrap_or_default()
            }
        };
        self.nodes += 1;
        if self.nodes > NODES_MAX {
            let message = format!("the condition has more than {NODES_MAX} parts");
            self.full(span.clone(), message, "use a list with `in`, or several rules");
        }
        if inner >= DEPTH_MAX {
            self.full(span.clone(), too_deep(), "use several rules");
            return Node { span, kind: Kind::Broken, height: 1 };
        }
        Node { span, kind, height: inner + 1 }
    }

    fn broken(&mut self, span: Range<usize>) -> Node {
        Node { span, kind: Kind::Broken, height: 1 }
    }

    /// A bound is passed: tells it, and goes to the end.
    fn full(&mut self, span: Range<usize>, message: impl Into<String>, hint: &str) {
        self.tell(span, message, hint);
        self.is_full = true;
        self.at = self.tokens.len().saturating_sub(1);
    }

    fn any(&mut self) -> Node {
        self.joined(&Token::Or, "or", Self::all, Kind::Any)
    }

    fn all(&mut self) -> Node {
        self.joined(&Token::And, "and", Self::part, Kind::All)
    }

    /// One or more of `part`, with `sign` between them.
    fn joined(
        &mut self,
        sign: &Token,
        word: &str,
        part: fn(&mut Self) -> Node,
        kind: fn(Vec<Node>) -> Kind,
    ) -> Node {
        let first = part(self);
        let mut span = first.span.clone();
        let mut parts = vec![first];
        loop {
            match self.peek() {
                token if token == sign => {}
                Token::Name(name) if name.eq_ignore_ascii_case(word) => {
                    let shown = name.clone();
                    let hint = format!("write `{}`", if word == "or" { "||" } else { "&&" });
                    self.tell(self.span(), format!("`{shown}` is no operator"), hint);
                }
                _ => break,
            }
            self.next();
            let next = part(self);
            span.end = span.end.max(next.span.end);
            parts.push(next);
        }
        match <[Node; 1]>::try_from(parts) {
            Ok([only]) => only,
            Err(parts) => self.node(span, kind(parts)),
        }
    }

    /// A relation, or the reason why there is none; then everything up to the next `&&` or `||`.
    fn part(&mut self) -> Node {
        let (start, outside) = (self.span(), self.brackets);
        let read = self.relation();
        let is_read = read.is_ok();
        let mut open = std::mem::replace(&mut self.brackets, outside).saturating_sub(outside);
        let mut node = read.unwrap_or_else(|Lost| self.broken(start.clone()));
        let is_over = |parser: &Self| match parser.peek() {
            Token::End | Token::And | Token::Or => true,
            Token::Close => parser.parens > 0,
            Token::Name(name) => {
                is_read && (name.eq_ignore_ascii_case("and") || name.eq_ignore_ascii_case("or"))
            }
            _ => false,
        };
        if open == 0 && is_over(self) {
            return node;
        }
        if is_read {
            self.unexpected();
            // What was read is half of what was meant.
            node = self.broken(node.span);
        }
        while !matches!(self.peek(), Token::End) && (open > 0 || !self.is_at_joint()) {
            match self.peek() {
                Token::Open | Token::OpenList => open += 1,
                Token::Close | Token::CloseList => open = open.saturating_sub(1),
                _ => {}
            }
            self.next();
        }
        node
    }

    fn is_at_joint(&self) -> bool {
        match self.peek() {
            Token::And | Token::Or => true,
            Token::Close => self.parens > 0,
            _ => false,
        }
    }

    /// Something stands behind an operand that cannot.
    fn unexpected(&mut self) {
        let span = self.span();
        let shown = crate::shown(self.text, span.clone());
        match self.peek().clone() {
            Token::Broken | Token::End => {}
            Token::Close => {
                self.tell(span, "this parenthesis closes nothing", "remove it, or open one before");
            }
            Token::Name(name) => {
                let lower = name.to_ascii_lowercase();
                let hint = match &*lower {
                    "is" | "eq" | "equals" => "write `==`",
                    "isnt" | "ne" => "write `!=`",
                    "xor" => "write `!=` between two truth values",
                    "contains" | "has" => "write `\"x\" in …`",
                    "like" | "matches" | "startswith" | "endswith" => {
                        "write `.startsWith(\"…\")` or `.endsWith(\"…\")`"
                    }
                    "not" => "write `!(… in …)`",
                    _ => "join conditions with `&&` or `||`, and quote texts",
                };
                self.tell(span, format!("{shown} stands where an operator must"), hint);
            }
            _ => self.tell(
                span,
                format!("{shown} stands where an operator must"),
                "join conditions with `&&` or `||`",
            ),
        }
    }

    fn relation(&mut self) -> Result<Node, Lost> {
        let left = self.unary()?;
        let negated = matches!(self.peek(), Token::Name(name) if name.eq_ignore_ascii_case("not"))
            && matches!(self.peek_behind(), Token::Relation(Relation::In));
        if negated {
            let span =
                self.span().start..self.tokens.get(self.at + 1).map_or(0, |next| next.span.end);
            self.tell(span, "`not in` is no operator", "write `!(… in …)`");
            self.next();
        }
        let Token::Relation(relation) = *self.peek() else { return Ok(left) };
        self.next();
        let right = self.unary()?;
        let mut span = left.span.start..right.span.end;
        let mut node = self.node(span.clone(), Kind::Relation(Box::new([left, right]), relation));
        while let Token::Relation(next) = *self.peek() {
            let at = self.span();
            self.next();
            let right = self.unary()?;
            span.end = right.span.end;
            if let Kind::Relation(sides, first) = &node.kind {
                let [left, middle] = &**sides;
                let shown = |node: &Node| self.text.get(node.span.clone()).unwrap_or_default();
                let hint = format!(
                    "write `{a} {first} {b} && {b} {next} {c}`",
                    a = crate::brief(shown(left)),
                    b = crate::brief(shown(middle)),
                    c = crate::brief(shown(&right)),
                    first = first.as_str(),
                    next = next.as_str(),
                );
                self.tell(at, "comparisons do not chain", hint);
            }
            node = self.broken(span.clone());
        }
        Ok(node)
    }

    fn unary(&mut self) -> Result<Node, Lost> {
        let mut marks: Vec<Range<usize>> = Vec::new();
        loop {
            match self.peek() {
                Token::Not => {}
                Token::Name(name) if name.eq_ignore_ascii_case("not") && self.is_word() => {
                    let shown = name.clone();
                    self.tell(self.span(), format!("`{shown}` is no operator"), "write `!`");
                }
                _ => break,
            }
            marks.push(self.next().span);
        }
        let mut node = self.primary()?;
        for mark in marks.into_iter().rev() {
            let span = mark.start..node.span.end;
            node = self.node(span, Kind::Not(Box::new(node)));
        }
        Ok(node)
    }

    /// Whether the name here is a word in front of an operand.
    fn is_word(&self) -> bool {
        matches!(
            self.peek_behind(),
            Token::Name(_)
                | Token::Text(_)
                | Token::Int(_)
                | Token::Not
                | Token::Open
                | Token::OpenList
        )
    }

    fn primary(&mut self) -> Result<Node, Lost> {
        let Placed { token, span } = self.next();
        let node = match token {
            Token::Broken => self.broken(span),
            Token::Int(number) => self.node(span, Kind::Int(number)),
            Token::Text(text) => self.node(span, Kind::Text(text)),
            Token::OpenList => self.list(span)?,
            Token::Open => self.parenthesis(span)?,
            Token::Name(name) => match (&*name, self.peek()) {
                ("has", Token::Open) => self.has(span)?,
                ("true", _) => self.node(span, Kind::Flag(true)),
                ("false", _) => self.node(span, Kind::Flag(false)),
                _ => self.path(Name { text: name, span })?,
            },
            Token::End => {
                self.tell(span, "the condition ends too early", "write what belongs here");
                return Err(Lost);
            }
            Token::And
            | Token::Or
            | Token::Not
            | Token::Relation(_)
            | Token::Close
            | Token::CloseList
            | Token::Comma
            | Token::Dot => {
                let shown = crate::shown(self.text, span.clone());
                self.tell(
                    span,
                    format!("{shown} stands where a value must"),
                    "write an attribute, a text in quotes, a number or a list",
                );
                // It may be the joint from which reading goes on.
                self.at = self.at.saturating_sub(1);
                return Err(Lost);
            }
        };
        self.calls(node)
    }

    /// `.name(…)`, any number of times: only one makes sense, and which is told with its types.
    fn calls(&mut self, mut node: Node) -> Result<Node, Lost> {
        while matches!(self.peek(), Token::Dot) {
            let dot = self.next().span;
            let Placed { token, span } = self.next();
            let (Token::Name(text), Token::Open) = (token, self.peek()) else {
                self.at = self.at.saturating_sub(1);
                let hint = self.dialect.member;
                match node.kind {
                    _ if matches!(self.peek(), Token::Broken) => {}
                    Kind::Path(_) => self.tell(dot, "a name must stand behind the dot", hint),
                    _ => self.tell(dot, "a value has no members", hint),
                }
                return Err(Lost);
            };
            let method = Name { text, span };
            node = self.call(node, method)?;
        }
        Ok(node)
    }

    fn call(&mut self, receiver: Node, method: Name) -> Result<Node, Lost> {
        let open = self.next().span;
        let arguments = self.elements(open, &Token::Close)?;
        let span = receiver.span.start..self.before();
        Ok(self.node(span, Kind::Call { receiver: Box::new(receiver), method, arguments }))
    }

    fn list(&mut self, open: Range<usize>) -> Result<Node, Lost> {
        let elements = self.elements(open.clone(), &Token::CloseList)?;
        let span = open.start..self.before();
        if elements.len() > LIST_MAX {
            let message = format!("the list has {} elements, more than {LIST_MAX}", elements.len());
            self.tell(span.clone(), message, "split it into several rules");
            return Ok(self.broken(span));
        }
        Ok(self.node(span, Kind::List(elements)))
    }

    /// Values with commas between them, up to `close`; a comma may stand behind the last one.
    fn elements(&mut self, open: Range<usize>, close: &Token) -> Result<Vec<Node>, Lost> {
        let mut elements = Vec::new();
        self.brackets += 1;
        loop {
            if self.peek() == close {
                self.next();
                self.brackets -= 1;
                return Ok(elements);
            }
            let Placed { token, span } = self.next();
            // Literals are no parts of their own: the list is one.
            let element = match token {
                Token::Int(number) => Node { span, kind: Kind::Int(number), height: 1 },
                Token::Text(text) => Node { span, kind: Kind::Text(text), height: 1 },
                Token::Broken => self.broken(span),
                Token::Name(text) if text == "true" || text == "false" => {
                    Node { span, kind: Kind::Flag(text == "true"), height: 1 }
                }
                Token::Name(text) => self.path(Name { text, span })?,
                Token::End => {
                    return Err(self.unclosed(open, close));
                }
                _ => {
                    let shown = crate::shown(self.text, span.clone());
                    self.tell(
                        span,
                        format!("{shown} stands where a text or a number must"),
                        "write literals with commas between them: `[\"a\", \"b\"]`",
                    );
                    self.at = self.at.saturating_sub(1);
                    return Err(Lost);
                }
            };
            elements.push(element);
            match self.peek() {
                Token::Comma => {
                    self.next();
                }
                next if next == close => {}
                Token::End => return Err(self.unclosed(open, close)),
                Token::Broken => return Err(Lost),
                _ => {
                    let shown = crate::shown(self.text, self.span());
                    self.tell(
                        self.span(),
                        format!("{shown} stands where `,` or `{}` must", sign(close)),
                        "write literals with commas between them: `[\"a\", \"b\"]`",
                    );
                    return Err(Lost);
                }
            }
        }
    }

    fn parenthesis(&mut self, open: Range<usize>) -> Result<Node, Lost> {
        if self.parens >= DEPTH_MAX {
            self.full(open, too_deep(), "use several rules");
            return Err(Lost);
        }
        self.parens += 1;
        let node = self.any();
        self.parens -= 1;
        match self.peek() {
            Token::Close => {
                let span = open.start..self.next().span.end;
                Ok(Node { span, ..node })
            }
            _ => Err(self.unclosed(open, &Token::Close)),
        }
    }

    fn unclosed(&mut self, open: Range<usize>, close: &Token) -> Lost {
        let shown = crate::shown(self.text, open.clone());
        self.tell(open, format!("{shown} is never closed"), format!("add `{}`", sign(close)));
        Lost
    }

    fn has(&mut self, name: Range<usize>) -> Result<Node, Lost> {
        let open = self.next().span;
        self.brackets += 1;
        let Placed { token, span } = self.next();
        let inner = match token {
            Token::Name(text) => self.path(Name { text, span })?,
            Token::Broken => self.broken(span),
            _ => {
                self.at = self.at.saturating_sub(1);
                let span = if span.is_empty() { open } else { span };
                self.tell(span, "`has` asks for one attribute", self.dialect.has);
                return Err(Lost);
            }
        };
        if !matches!(self.peek(), Token::Close) {
            let span = if self.span().is_empty() { open } else { self.span() };
            self.tell(span, "`has` asks for one attribute", self.dialect.has);
            return Err(Lost);
        }
        let span = name.start..self.next().span.end;
        self.brackets -= 1;
        Ok(self.node(span, Kind::Has(Box::new(inner))))
    }

    /// `first.name["any name"]…`, up to a name that is called.
    fn path(&mut self, first: Name) -> Result<Node, Lost> {
        let mut span = first.span.clone();
        let mut names = vec![first];
        loop {
            match (self.peek(), self.peek_behind()) {
                (Token::Dot, Token::Name(_)) if !self.is_call() => {
                    self.next();
                    let Placed { token, span } = self.next();
                    names.extend(match token {
                        Token::Name(text) => Some(Name { text, span }),
                        _ => None,
                    });
                }
                (Token::OpenList, Token::Text(_)) => {
                    let open = self.next().span;
                    let Placed { token, span } = self.next();
                    if !matches!(self.peek(), Token::CloseList) {
                        return Err(self.unclosed(open, &Token::CloseList));
                    }
                    let end = self.next().span.end;
                    names.extend(match token {
                        Token::Text(text) => Some(Name { text, span: span.start..end }),
                        _ => None,
                    });
                }
                (Token::OpenList, _) => {
                    let hint = "write `[\"name\"]`, or `x in [\"a\", \"b\"]`";
                    self.tell(self.span(), "a member is named by a text in quotes", hint);
                    return Err(Lost);
                }
                (Token::Open, _) => {
                    let shown = crate::shown(self.text, span.clone());
                    let hint = "there are `has(x)`, `x.startsWith(\"…\")` and `x.endsWith(\"…\")`";
                    self.tell(span, format!("{shown} is no function"), hint);
                    return Err(Lost);
                }
                _ => break,
            }
            span.end = self.before();
        }
        Ok(self.node(span, Kind::Path(names)))
    }

    /// Whether a dot, a name and a parenthesis stand here.
    fn is_call(&self) -> bool {
        matches!(self.tokens.get(self.at + 2), Some(Placed { token: Token::Open, .. }))
    }

    /// Where the last token ends.
    fn before(&self) -> usize {
        let last = self.at.checked_sub(1).and_then(|at| self.tokens.get(at));
        last.map_or(0, |placed| placed.span.end)
    }
}

fn too_deep() -> String {
    format!("the condition is nested deeper than {DEPTH_MAX}")
}

const fn sign(close: &Token) -> &'static str {
    match close {
        Token::CloseList => "]",
        _ => ")",
    }
}
