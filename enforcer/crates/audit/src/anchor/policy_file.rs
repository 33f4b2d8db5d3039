//! The file in which somebody writes whom he believes (C2SP tlog-policy).
//!
//! `log`, `witness`, `group` and `quorum`, one on a line. Names are octets and stand for themselves;
//! whatever is defined twice, used before it is defined, or a member of two groups refuses the file,
//! so that no witness counts twice.

use std::collections::HashMap;
use std::fmt;

use crate::note::VerifierKey;

use super::cosignature::WitnessKey;
use super::policy::{Rule, Witness, WitnessPolicy};

/// Logs, witnesses and groups, each: more would only slow down whoever reads it.
const LINES_MAX: usize = 256;
/// Bytes of a file.
const FILE_BYTES_MAX: usize = 256 << 10;

/// A file that is no policy.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub struct PolicyProblem {
    /// From 1; none: it is about the whole file.
    pub line: Option<usize>,
    /// What is wrong.
    pub fault: PolicyFault,
}

/// What is wrong with a policy file.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PolicyFault {
    /// A control character other than tab.
    #[error("a control character")]
    Control,
    /// A key that stands for two.
    #[error("the key stands on another line already")]
    KeyTwice,
    /// Not the key of a log.
    #[error("not the key of a log; one looks like `host.example/enforcer+1234abcd+AX…`")]
    LogKey,
    /// A member of two groups, or twice of one.
    #[error("`{0}` is a member already, and nobody counts twice")]
    MemberTwice(String),
    /// A name for two, or `none`.
    #[error("`{0}` is a name already")]
    NameTaken(String),
    /// Neither a witness nor a group on a line above.
    #[error("`{0}` is defined on no line above")]
    NameUnknown(String),
    /// No `quorum` line, or two.
    #[error("there must be one `quorum` line")]
    Quorum,
    /// Not a number of members.
    #[error("`{0}` is not `all`, `any` or a number from 1 to that of the members")]
    Threshold(String),
    /// Too long.
    #[error("longer than any policy that is read")]
    TooLong,
    /// Not one of the four words, or not what follows it.
    #[error(
        "a line is `log KEY [URL]`, `witness NAME KEY [URL]`, `group NAME all|any|COUNT NAME…` or \
         `quorum NAME`"
    )]
    Words,
    /// Not the key of a witness.
    #[error("not the key of a witness; one looks like `witness.example+1234abcd+BA…`")]
    WitnessKey,
}

/// A file as far as it was read.
#[derive(Default)]
struct Reading<'a> {
    logs: Vec<VerifierKey>,
    witnesses: Vec<Witness>,
    /// What each name stands for, and whether a group has it.
    names: HashMap<&'a [u8], (Rule, bool)>,
    groups: usize,
    quorum: Option<Rule>,
}

impl WitnessPolicy {
    /// The policy that `file` is.
    pub fn parse(file: &[u8]) -> Result<Self, PolicyProblem> {
        let whole = |fault| PolicyProblem { line: None, fault };
        if file.len() > FILE_BYTES_MAX {
            return Err(whole(PolicyFault::TooLong));
        }
        let mut reading = Reading::default();
        for (number, line) in (1..).zip(file.split(|byte| *byte == b'\n')) {
            let read = reading.line(line);
            read.map_err(|fault| PolicyProblem { line: Some(number), fault })?;
        }
        let Reading { logs, witnesses, quorum, .. } = reading;
        let quorum = quorum.ok_or_else(|| whole(PolicyFault::Quorum))?;
        Ok(Self { logs, witnesses, quorum })
    }
}

impl<'a> Reading<'a> {
    fn line(&mut self, line: &'a [u8]) -> Result<(), PolicyFault> {
        if line.iter().any(|byte| (*byte < b' ' && *byte != b'\t') || *byte == 0x7f) {
            return Err(PolicyFault::Control);
        }
        let words: Vec<_> = line
            .split(|byte| matches!(byte, b' ' | b'\t'))
            .filter(|word| !word.is_empty())
            .collect();
        match words.as_slice() {
            [] => Ok(()),
            [first, ..] if first.starts_with(b"#") => Ok(()),
            [b"log", key] | [b"log", key, _] => self.log(key),
            [b"witness", name, key] => self.witness(name, key, None),
            [b"witness", name, key, url] => self.witness(name, key, Some(told(url))),
            [b"group", name, threshold, members @ ..] => self.group(name, threshold, members),
            [b"quorum", name] => self.quorum(name),
            _ => Err(PolicyFault::Words),
        }
    }

    fn log(&mut self, key: &[u8]) -> Result<(), PolicyFault> {
        let key: VerifierKey = parsed(key).ok_or(PolicyFault::LogKey)?;
        if self.logs.iter().any(|other| other.bytes() == key.bytes()) {
            return Err(PolicyFault::KeyTwice);
        }
        self.logs.push(key);
        bounded(self.logs.len())
    }

    fn witness(
        &mut self,
        name: &'a [u8],
        key: &[u8],
        url: Option<String>,
    ) -> Result<(), PolicyFault> {
        let key: WitnessKey = parsed(key).ok_or(PolicyFault::WitnessKey)?;
        if self.witnesses.iter().any(|other| other.key.bytes() == key.bytes()) {
            return Err(PolicyFault::KeyTwice);
        }
        self.define(name, Rule::One(self.witnesses.len()))?;
        self.witnesses.push(Witness { name: told(name), key, url });
        bounded(self.witnesses.len())
    }

    fn group(
        &mut self,
        name: &'a [u8],
        threshold: &[u8],
        members: &[&'a [u8]],
    ) -> Result<(), PolicyFault> {
        let count = members.len();
        let threshold = match threshold {
            b"all" => Some(count),
            b"any" => Some(1),
            number => parsed(number).filter(|_| number.iter().all(u8::is_ascii_digit)),
        }
        .filter(|threshold| (1..=count).contains(threshold))
        .ok_or_else(|| PolicyFault::Threshold(told(threshold)))?;
        let mut rules = Vec::new();
        for member in members {
            let defined = self.names.get_mut(*member);
            let (rule, taken) = defined.ok_or_else(|| PolicyFault::NameUnknown(told(member)))?;
            if std::mem::replace(taken, true) {
                return Err(PolicyFault::MemberTwice(told(member)));
            }
            rules.push(rule.clone());
        }
        self.groups += 1;
        bounded(self.groups)?;
        self.define(name, Rule::Some { threshold, members: rules })
    }

    fn quorum(&mut self, name: &[u8]) -> Result<(), PolicyFault> {
        let rule = match self.names.get(name) {
            _ if name == b"none" => Rule::None,
            Some((rule, _)) => rule.clone(),
            None => return Err(PolicyFault::NameUnknown(told(name))),
        };
        if self.quorum.replace(rule).is_some() {
            return Err(PolicyFault::Quorum);
        }
        Ok(())
    }

    fn define(&mut self, name: &'a [u8], rule: Rule) -> Result<(), PolicyFault> {
        if name == b"none" || self.names.contains_key(name) {
            return Err(PolicyFault::NameTaken(told(name)));
        }
        self.names.insert(name, (rule, false));
        Ok(())
    }
}

const fn bounded(count: usize) -> Result<(), PolicyFault> {
    if count > LINES_MAX { Err(PolicyFault::TooLong) } else { Ok(()) }
}

fn parsed<T: std::str::FromStr>(word: &[u8]) -> Option<T> {
    std::str::from_utf8(word).ok()?.parse().ok()
}

fn told(word: &[u8]) -> String {
    String::from_utf8_lossy(word).into_owned()
}

impl fmt::Display for PolicyProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.line {
            Some(line) => write!(f, "line {line}: {}", self.fault),
            None => self.fault.fmt(f),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::Cosigner;
    use super::*;
    use crate::note::SigningKey;

    #[test]
    fn the_policy_in_the_specification_asks_for_two_of_one_house_and_one_of_the_other() {
        let names = ["X1", "X2", "X3", "Y1", "Y2", "Y3"];
        let log = SigningKey::generate("host.example/log").unwrap();
        let witnesses: String = names.iter().map(|name| witness(name)).collect();
        let file = format!(
            "# whom we believe\n\n log\t{} https://log.example \n{witnesses}\
             group X-witnesses 2 X1 X2 X3\ngroup Y-witnesses any Y1 Y2 Y3\n\
             group X-and-Y all X-witnesses Y-witnesses\nquorum X-and-Y\n",
            log.verifier()
        );

        let policy = WitnessPolicy::parse(file.as_bytes()).unwrap();

        let met = |who: &[usize]| policy.is_met(|place| who.contains(&place));
        assert!(met(&[0, 1, 3]) && met(&[1, 2, 5]) && met(&[0, 1, 2, 3, 4, 5]));
        assert!(!met(&[0, 3]) && !met(&[0, 1, 2]) && !met(&[3, 4, 5]) && !met(&[]));
        assert_eq!(policy.logs(), [log.verifier().clone()]);
        assert_eq!(policy.witnesses().len(), 6);
        assert_eq!(policy.witnesses()[0].url.as_deref(), Some("https://w.example/X1"));
        let again = WitnessPolicy::parse(policy.to_string().as_bytes()).unwrap();
        assert_eq!(again, policy);
    }

    #[test]
    fn nobody_counts_twice_and_nothing_is_used_before_it_is_defined() {
        let (a, b) = (witness("A"), witness("B"));
        let key = a.split(' ').nth(2).unwrap();
        for (file, line, fault) in [
            (format!("{a}quorum A\nquorum A\n"), Some(3), PolicyFault::Quorum),
            (a.clone(), None, PolicyFault::Quorum),
            (format!("quorum A\n{a}"), Some(1), PolicyFault::NameUnknown("A".into())),
            (format!("{a}{a}"), Some(2), PolicyFault::KeyTwice),
            (format!("{a}witness A {}", key_of("C")), Some(2), PolicyFault::NameTaken("A".into())),
            (format!("witness none {key}"), Some(1), PolicyFault::NameTaken("none".into())),
            (format!("{a}group G 1 A A\n"), Some(2), PolicyFault::MemberTwice("A".into())),
            (
                format!("{a}{b}group G any A\ngroup H all A B\n"),
                Some(4),
                PolicyFault::MemberTwice("A".into()),
            ),
            (format!("{a}group G any none\n"), Some(2), PolicyFault::NameUnknown("none".into())),
            (format!("{a}group G any G\n"), Some(2), PolicyFault::NameUnknown("G".into())),
            (format!("{a}group G 2 A\n"), Some(2), PolicyFault::Threshold("2".into())),
            (format!("{a}group G 0 A\n"), Some(2), PolicyFault::Threshold("0".into())),
            (format!("{a}group G +1 A\n"), Some(2), PolicyFault::Threshold("+1".into())),
            (format!("{a}group G all\n"), Some(2), PolicyFault::Threshold("all".into())),
            ("quorum none\r\n".into(), Some(1), PolicyFault::Control),
            ("quorum\n".into(), Some(1), PolicyFault::Words),
            ("QUORUM none\n".into(), Some(1), PolicyFault::Words),
            (format!("log {key}\n"), Some(1), PolicyFault::LogKey),
            ("witness A A+00000000+BA==\n".into(), Some(1), PolicyFault::WitnessKey),
        ] {
            let problem = WitnessPolicy::parse(file.as_bytes()).unwrap_err();
            assert_eq!(problem, PolicyProblem { line, fault }, "{file}");
        }
    }

    #[test]
    fn names_are_octets_and_a_quorum_of_nobody_is_written_none() {
        let file = b"witness \xff K\nquorum none\n";
        assert!(WitnessPolicy::parse(file).is_err());
        let mut file = b"witness \xe2\x84\xaa ".to_vec();
        file.extend_from_slice(key_of("kelvin").as_bytes());
        file.extend_from_slice(b"\nquorum K\n");
        let problem = WitnessPolicy::parse(&file).unwrap_err();
        assert_eq!(problem.fault, PolicyFault::NameUnknown("K".into()));

        let policy = WitnessPolicy::parse(b"quorum none").unwrap();
        assert!(policy.needs_nobody() && policy.is_met(|_| false));
        assert_eq!(policy.to_string(), "quorum none\n");
    }

    #[test]
    fn the_recommended_number_of_everything_fits() {
        let names: Vec<_> = (0..32).map(|number| format!("w{number}")).collect();
        let mut file: String = names.iter().map(|name| witness(name)).collect();
        for name in &names {
            file += &format!("group g-{name} all {name}\n");
        }
        for number in 0..32 {
            let log = SigningKey::generate(&format!("log{number}")).unwrap();
            file += &format!("log {}\n", log.verifier());
        }
        file += "quorum g-w31\n";

        let policy = WitnessPolicy::parse(file.as_bytes()).unwrap();

        assert!(policy.is_met(|place| place == 31) && !policy.is_met(|place| place != 31));
    }

    fn key_of(name: &str) -> String {
        Cosigner::generate(name).unwrap().key().to_string()
    }

    fn witness(name: &str) -> String {
        format!("witness {name} {} https://w.example/{name}\n", key_of(name))
    }
}
