//! What a question looks at, and the values that stand for all values there.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::hash::Hash;
use std::net::IpAddr;
use std::sync::Arc;

use enforcer_authz::{
    Attribute, ClaimPath, Flag, Network, Networks, Number, Numbers, Numeric, Test, Text, Texts,
    Time,
};

use super::addresses;
use super::formula::Formula;
use super::texts::{Asked, Texts as Values};
use super::world::{Moments, Place, WINDOWS_MAX, decoded, is_rest, is_segment};
use crate::routing::Segment;

/// Everything that a formula looks at, with stand-ins for every value.
#[derive(Debug, Default)]
pub(crate) struct Uses {
    texts: HashMap<TextUse, Arc<[Arc<str>]>>,
    numbers: HashMap<NumberUse, Arc<[i64]>>,
    flags: HashSet<ClaimPath>,
    there: HashSet<Attribute>,
    pub(crate) addresses: Vec<(IpAddr, Vec<bool>)>,
    pub(crate) moments: Moments,
    /// Some class of values has no stand-in: nothing follows from finding nothing.
    pub(crate) gaps: bool,
}

/// Where a text comes from, or a set of texts.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum TextUse {
    One(Attribute),
    Scopes,
    List(ClaimPath),
}

/// Where a number comes from, or a set of numbers.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum NumberUse {
    Incident,
    Claim(ClaimPath),
    List(ClaimPath),
}

/// What is looked at alike: attributes that are compared with each other, and all they are asked.
#[derive(Debug)]
struct Class<U, A> {
    members: HashSet<U>,
    asked: A,
}

/// What tests say of texts and numbers, before values are chosen.
#[derive(Debug, Default)]
struct Collected {
    texts: Vec<Class<TextUse, Asked>>,
    numbers: Vec<Class<NumberUse, BTreeSet<i64>>>,
    flags: HashSet<ClaimPath>,
    there: HashSet<Attribute>,
    networks: Vec<Arc<Networks>>,
    windows: Vec<Time>,
}

/// More attributes than this that are all compared with each other are not told apart.
const SHARED_MAX: usize = 6;
/// Networks that are looked at to find all classes of addresses.
const NETWORKS_MAX: usize = 4_096;

/// How [`Attribute::Param`] names the text of a final `{**}`.
pub(crate) const REST: &str = "**";

impl Uses {
    /// What `formula` looks at in requests to `place`.
    pub(crate) fn of(formula: &Formula<'_>, place: &Place) -> Self {
        let mut collected = Collected::default();
        formula.each_test(&mut |test| collected.note(test));
        collected.values(place)
    }

    /// The texts that stand for all texts of `attribute`.
    pub(crate) fn texts(&self, attribute: &Attribute) -> &[Arc<str>] {
        self.texts.get(&TextUse::One(attribute.clone())).map(AsRef::as_ref).unwrap_or_default()
    }

    /// The numbers that stand for all numbers of a claim.
    pub(crate) fn numbers(&self, claim: &ClaimPath) -> &[i64] {
        self.numbers.get(&NumberUse::Claim(claim.clone())).map(AsRef::as_ref).unwrap_or_default()
    }

    /// Whether a claim is read as a truth value.
    pub(crate) fn is_flag(&self, claim: &ClaimPath) -> bool {
        self.flags.contains(claim)
    }

    /// Whether a claim is read as a list of texts.
    pub(crate) fn is_list(&self, claim: &ClaimPath) -> bool {
        self.texts.contains_key(&TextUse::List(claim.clone()))
    }

    /// Whether a claim is read as a list of numbers.
    pub(crate) fn is_number_list(&self, claim: &ClaimPath) -> bool {
        self.numbers.contains_key(&NumberUse::List(claim.clone()))
    }

    /// Whether it makes a difference that `attribute` is there without a value that can be read.
    pub(crate) fn is_asked_for(&self, attribute: &Attribute) -> bool {
        self.there.contains(attribute)
    }

    /// Every claim that is read in any way.
    pub(crate) fn claims(&self) -> impl Iterator<Item = &ClaimPath> {
        let texts = self.texts.keys().filter_map(|key| match key {
            TextUse::One(Attribute::Claim(path)) | TextUse::List(path) => Some(path),
            TextUse::One(_) | TextUse::Scopes => None,
        });
        let numbers = self.numbers.keys().filter_map(|key| match key {
            NumberUse::Claim(path) | NumberUse::List(path) => Some(path),
            NumberUse::Incident => None,
        });
        texts.chain(numbers).chain(&self.flags)
    }

    /// Whether scopes are read by a condition, and not only for the roles that they give.
    pub(crate) fn reads_scopes(&self) -> bool {
        self.texts.contains_key(&TextUse::Scopes)
    }
}

impl Collected {
    fn note(&mut self, test: &Test) {
        match test {
            Test::Flag(Flag::Time(hours)) => {
                if !self.windows.contains(hours) {
                    self.windows.push(hours.clone());
                }
            }
            Test::Flag(Flag::Claim(path)) => {
                self.flags.insert(path.clone());
            }
            Test::Flag(Flag::Mtls | Flag::Dpop | Flag::Anonymous) | Test::Role(_) => {}
            Test::Has(attribute) => {
                self.text(TextUse::One(attribute.clone()));
                self.there.insert(attribute.clone());
            }
            Test::Equal(attribute, Text::Literal(text)) => {
                let text = Arc::clone(text);
                self.text(TextUse::One(attribute.clone())).whole.insert(text);
            }
            Test::Equal(left, Text::Attribute(right)) => {
                self.join(&TextUse::One(left.clone()), TextUse::One(right.clone()));
            }
            Test::StartsWith(attribute, start) => {
                self.text(TextUse::One(attribute.clone())).starts.insert(Arc::clone(start));
            }
            Test::EndsWith(attribute, end) => {
                self.text(TextUse::One(attribute.clone())).ends.insert(Arc::clone(end));
            }
            Test::OneOf(text, texts) => self.note_one_of(text, texts),
            Test::Compare(left, _, right) => match right {
                Number::Literal(number) => {
                    self.number(number_use(left)).insert(*number);
                }
                Number::Numeric(right) => self.join_numbers(&number_use(left), number_use(right)),
            },
            Test::NumberOneOf(number, numbers) => self.note_number_one_of(number, numbers),
            Test::Inside(Network { networks, .. }) => {
                // By what they hold: two policies can mean different networks by one name.
                if !self.networks.contains(networks) {
                    self.networks.push(Arc::clone(networks));
                }
            }
        }
    }

    fn note_one_of(&mut self, text: &Text, texts: &Texts) {
        let set = match texts {
            Texts::Literals(literals) => {
                if let Text::Attribute(attribute) = text {
                    let asked = self.text(TextUse::One(attribute.clone()));
                    asked.whole.extend(literals.iter().map(Arc::clone));
                }
                return;
            }
            Texts::Scopes => TextUse::Scopes,
            Texts::Claim(path) => TextUse::List(path.clone()),
        };
        match text {
            Text::Literal(text) => {
                self.text(set).whole.insert(Arc::clone(text));
            }
            Text::Attribute(attribute) => self.join(&TextUse::One(attribute.clone()), set),
        }
    }

    fn note_number_one_of(&mut self, number: &Number, numbers: &Numbers) {
        match (number, numbers) {
            (Number::Literal(_), Numbers::Literals(_)) => {}
            (Number::Numeric(numeric), Numbers::Literals(literals)) => {
                self.number(number_use(numeric)).extend(literals);
            }
            (Number::Literal(number), Numbers::Claim(path)) => {
                self.number(NumberUse::List(path.clone())).insert(*number);
            }
            (Number::Numeric(numeric), Numbers::Claim(path)) => {
                self.join_numbers(&number_use(numeric), NumberUse::List(path.clone()));
            }
        }
    }

    fn text(&mut self, of: TextUse) -> &mut Asked {
        &mut class(&mut self.texts, of).asked
    }

    fn number(&mut self, of: NumberUse) -> &mut BTreeSet<i64> {
        &mut class(&mut self.numbers, of).asked
    }

    fn join(&mut self, left: &TextUse, right: TextUse) {
        join(&mut self.texts, left, right, |asked, other| asked.merge(&other));
    }

    fn join_numbers(&mut self, left: &NumberUse, right: NumberUse) {
        join(&mut self.numbers, left, right, |asked, mut other| asked.append(&mut other));
    }

    /// Chooses the values.
    fn values(mut self, place: &Place) -> Uses {
        let mut uses = Uses { flags: self.flags.clone(), ..Uses::default() };
        uses.gaps |= self.spread_path(place);
        if let Some(host) = place.pattern.host()
            && let Some(class) = self.texts.iter_mut().find(|class| class.has(&Attribute::Host))
        {
            class.asked.whole.insert(host.into());
        }
        for class in &self.texts {
            uses.gaps |= class.members.len() > SHARED_MAX;
            class.choose(&place.literals, &mut uses);
        }
        for class in &self.numbers {
            uses.gaps |= class.members.len() > SHARED_MAX;
            let list: Arc<[i64]> = around(&class.asked, class.members.len().min(SHARED_MAX)).into();
            for member in &class.members {
                uses.numbers.insert(member.clone(), Arc::clone(&list));
            }
        }
        uses.there = self.there;

        let networks: Vec<&Networks> = self.networks.iter().map(AsRef::as_ref).collect();
        if networks.iter().map(|set| set.len()).sum::<usize>() > NETWORKS_MAX {
            uses.gaps = true;
            uses.addresses = addresses::some(&networks);
        } else {
            uses.addresses = addresses::classes(&networks);
        }
        uses.gaps |= self.windows.len() > WINDOWS_MAX;
        if !self.windows.is_empty() {
            self.windows.truncate(WINDOWS_MAX);
            uses.moments = place.hours.of(&self.windows);
        }
        uses
    }

    /// Gives what is asked about the whole path to its segments; says whether something is lost.
    fn spread_path(&mut self, place: &Place) -> bool {
        let at = self.texts.iter().position(|class| class.has(&Attribute::Path));
        let path = at.map(|at| self.texts.swap_remove(at));
        let segments = place.pattern.segments();
        if place.pattern.host().is_none() {
            self.text(TextUse::One(Attribute::Host));
        }
        for segment in segments {
            match segment {
                Segment::Literal(_) => {}
                Segment::One(name) => {
                    self.text(param(name));
                }
                Segment::Rest => {
                    self.text(param(REST));
                }
            }
        }
        let Some(Class { members, asked }) = path else { return false };
        for (n, segment) in segments.iter().enumerate() {
            let (name, rest) = match segment {
                Segment::Literal(_) => continue,
                Segment::One(name) => (&**name, false),
                Segment::Rest => (REST, true),
            };
            let last = n + 1 == segments.len();
            self.text(param(name)).merge(&of_segment(&asked, n, rest, last));
        }
        let all = asked.whole.iter().chain(&asked.starts).chain(&asked.ends);
        // An escape that is cut in two cannot be told segment by segment.
        let escapes = all.into_iter().any(|text| text.contains('%'));
        // Compared with something else, a path is put together from parts that nobody lists.
        escapes || members.len() > 1
    }
}

impl<U, A> Class<U, A> {
    fn merge(&mut self, other: Self, merge: impl FnOnce(&mut A, A))
    where
        U: Hash + Eq,
    {
        self.members.extend(other.members);
        merge(&mut self.asked, other.asked);
    }
}

impl Class<TextUse, Asked> {
    fn has(&self, attribute: &Attribute) -> bool {
        self.members.contains(&TextUse::One(attribute.clone()))
    }

    fn choose(&self, avoid: &BTreeSet<String>, uses: &mut Uses) {
        let alone = match self.members.iter().next() {
            Some(TextUse::One(only)) if self.members.len() == 1 => Some(only),
            _ => None,
        };
        let Values { list, gaps } = match alone {
            Some(Attribute::Region) => self.regions(),
            Some(only) => self.asked.texts(1, words(only), avoid, &|text| fits(only, text)),
            // One list for all of them: the same text must be able to stand in each.
            None => {
                let fresh = self.members.len().min(SHARED_MAX);
                self.asked.texts(fresh, &["some", "other", "third"], avoid, &|_| true)
            }
        };
        uses.gaps |= gaps;
        for member in &self.members {
            let list = match member {
                TextUse::One(attribute) => {
                    list.iter().filter(|text| fits(attribute, text)).map(Arc::clone).collect()
                }
                TextUse::Scopes | TextUse::List(_) => list.clone(),
            };
            uses.texts.insert(member.clone(), list.into());
        }
    }

    /// All countries there can be, as far as they are told apart.
    fn regions(&self) -> Values {
        let mut seen = BTreeSet::new();
        let letters = || ('A'..='Z').rev();
        let codes = letters().flat_map(|a| letters().map(move |b| format!("{a}{b}")));
        let list = codes.filter(|code| {
            let begins: Vec<bool> =
                self.asked.starts.iter().map(|start| code.starts_with(&**start)).collect();
            let ends: Vec<bool> =
                self.asked.ends.iter().map(|end| code.ends_with(&**end)).collect();
            let whole = self.asked.whole.get(code.as_str());
            seen.insert((begins, ends, whole))
        });
        Values { list: list.map(Arc::from).collect(), gaps: false }
    }
}

/// What a fresh text is called, so that samples read well.
fn words(attribute: &Attribute) -> &'static [&'static str] {
    match attribute {
        Attribute::Method => {
            &["GET", "POST", "PUT", "DELETE", "PATCH", "HEAD", "OPTIONS", "PROPFIND", "REPORT"]
        }
        Attribute::Host => &["host.example", "other.example"],
        Attribute::Param(_) => &["7", "some"],
        Attribute::Spiffe => &["spiffe://other.example/some"],
        Attribute::Principal
        | Attribute::Kind
        | Attribute::Issuer
        | Attribute::Application
        | Attribute::Owner
        | Attribute::Region
        | Attribute::Path
        | Attribute::Query(_)
        | Attribute::Header(_)
        | Attribute::Claim(_) => &["some", "other"],
    }
}

/// Whether `text` can be the value of `attribute`.
pub(crate) fn fits(attribute: &Attribute, text: &str) -> bool {
    match attribute {
        // CONNECT and TRACE are refused before a route is looked for.
        Attribute::Method => {
            http::Method::from_bytes(text.as_bytes()).is_ok()
                && !matches!(text, "CONNECT" | "TRACE")
        }
        Attribute::Host => {
            text.parse::<enforcer_inspect::Host>().is_ok_and(|host| host.as_str() == text)
        }
        Attribute::Param(name) if &**name == REST => is_rest(text),
        Attribute::Param(_) => is_segment(text),
        Attribute::Region => text.len() == 2 && text.bytes().all(|byte| byte.is_ascii_uppercase()),
        Attribute::Header(_) => {
            text.trim() == text && text.bytes().all(|byte| matches!(byte, b' '..=b'~'))
        }
        Attribute::Spiffe => text.starts_with("spiffe://"),
        Attribute::Principal => !text.is_empty(),
        Attribute::Kind
        | Attribute::Issuer
        | Attribute::Application
        | Attribute::Owner
        | Attribute::Path
        | Attribute::Query(_)
        | Attribute::Claim(_) => true,
    }
}

fn param(name: &str) -> TextUse {
    TextUse::One(Attribute::Param(name.into()))
}

fn number_use(numeric: &Numeric) -> NumberUse {
    match numeric {
        Numeric::Incident => NumberUse::Incident,
        Numeric::Claim(path) => NumberUse::Claim(path.clone()),
    }
}

/// What is asked about segment `n` by asking so about the whole path.
fn of_segment(asked: &Asked, n: usize, rest: bool, last: bool) -> Asked {
    let mut own = Asked::default();
    let plain = |text: &str| decoded(text).map(Arc::<str>::from);
    for text in &asked.whole {
        own.whole.extend(part(text, n, rest).0.and_then(plain));
    }
    for text in &asked.starts {
        let (begun, is_whole) = part(text, n, rest);
        let Some(begun) = begun.and_then(plain) else { continue };
        own.whole.insert(Arc::clone(&begun));
        if !is_whole && !begun.is_empty() {
            own.starts.insert(begun);
        }
    }
    for text in &asked.ends {
        // Where a slash stands in it, what follows may be all there is of a segment.
        let tails = text.match_indices('/').filter_map(|(at, _)| text.get(at + 1..));
        own.whole.extend(tails.filter(|tail| rest || !tail.contains('/')).filter_map(plain));
        own.whole.extend(text.split('/').filter_map(plain));
        let head = text.split('/').next().unwrap_or_default();
        let end = if rest || (last && !text.contains('/')) { text } else { head };
        own.ends.extend(plain(end).filter(|end| !end.is_empty()));
    }
    own
}

/// What `text`, the beginning of a path, says about segment `n`, or about all from there on; and
/// whether it says all about it.
fn part(text: &str, n: usize, rest: bool) -> (Option<&str>, bool) {
    let Some(text) = text.strip_prefix('/') else { return (None, false) };
    let mut pieces = text.splitn(if rest { n + 1 } else { n + 2 }, '/').skip(n);
    (pieces.next(), pieces.next().is_some())
}

/// Numbers that stand for all: as many on both sides of each constant as there are attributes.
fn around(constants: &BTreeSet<i64>, attributes: usize) -> Vec<i64> {
    let reach = i64::try_from(attributes.max(1)).unwrap_or(1);
    let constants: Vec<i64> =
        if constants.is_empty() { vec![0] } else { constants.iter().copied().collect() };
    let near = constants
        .iter()
        .flat_map(|constant| (-reach..=reach).filter_map(move |step| constant.checked_add(step)));
    near.collect::<BTreeSet<i64>>().into_iter().collect()
}

fn class<U: Hash + Eq, A: Default>(classes: &mut Vec<Class<U, A>>, of: U) -> &mut Class<U, A> {
    let at = match classes.iter().position(|class| class.members.contains(&of)) {
        Some(at) => at,
        None => {
            classes.push(Class { members: HashSet::from([of]), asked: A::default() });
            classes.len() - 1
        }
    };
    #[expect(clippy::indexing_slicing, reason = "found there, or pushed there")]
    &mut classes[at]
}

fn join<U: Hash + Eq + Clone, A: Default>(
    classes: &mut Vec<Class<U, A>>,
    left: &U,
    right: U,
    merge: impl FnOnce(&mut A, A),
) {
    if class(classes, left.clone()).members.contains(&right) {
        return;
    }
    let other = match classes.iter().position(|class| class.members.contains(&right)) {
        Some(at) => classes.swap_remove(at),
        None => Class { members: HashSet::from([right]), asked: A::default() },
    };
    class(classes, left.clone()).merge(other, merge);
}
