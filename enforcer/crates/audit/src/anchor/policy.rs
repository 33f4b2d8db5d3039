//! Which witnesses there are, and how many of them are enough.

use std::fmt;

use crate::note::{Checkpoint, NoteError, VerifierKey};

use super::cosignature::{SignedNote, WitnessKey};

/// Logs, witnesses and the quorum: what somebody believes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WitnessPolicy {
    pub(super) logs: Vec<VerifierKey>,
    pub(super) witnesses: Vec<Witness>,
    pub(super) quorum: Rule,
}

/// Somebody who cosigns.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Witness {
    /// As the policy names it.
    pub name: String,
    /// What it cosigns with.
    pub key: WitnessKey,
    /// Where it is asked.
    pub url: Option<String>,
}

/// Whose cosignatures are enough.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Rule {
    /// Nobody's are needed.
    None,
    /// Those of one, by its place among the witnesses.
    One(usize),
    /// Those of so many of the members. A witness stands below one group at most.
    Some { threshold: usize, members: Vec<Self> },
}

/// A checkpoint, and who cosigned it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cosigned {
    /// The tree head.
    pub checkpoint: Checkpoint,
    /// Names of the witnesses that cosigned it, in the order of the policy.
    pub by: Vec<String>,
    /// Since when the quorum knows it, in seconds since 1970: the latest time that enough of them
    /// name, so that a single one cannot make it look newer. None: they are not enough.
    pub since: Option<u64>,
}

// === impl WitnessPolicy ===

impl WitnessPolicy {
    /// `threshold` of `witnesses`, which have distinct keys; all of them when that is more.
    pub fn of(witnesses: Vec<Witness>, threshold: usize) -> Self {
        let members: Vec<_> = (0..witnesses.len()).map(Rule::One).collect();
        let quorum = match threshold.min(members.len()) {
            0 => Rule::None,
            threshold => Rule::Some { threshold, members },
        };
        Self { logs: Vec::new(), witnesses, quorum }
    }

    /// The same, for `log` alone.
    pub fn for_log(mut self, log: VerifierKey) -> Self {
        self.logs = vec![log];
        self
    }

    /// The logs that it is about; none: whichever.
    pub fn logs(&self) -> &[VerifierKey] {
        &self.logs
    }

    /// All witnesses.
    pub fn witnesses(&self) -> &[Witness] {
        &self.witnesses
    }

    /// Whether a checkpoint needs no cosignature at all.
    pub fn needs_nobody(&self) -> bool {
        self.quorum == Rule::None
    }

    /// Whether those witnesses of whose place `cosigned` is true are enough.
    pub fn is_met(&self, cosigned: impl Fn(usize) -> bool) -> bool {
        self.quorum.is_met(&cosigned)
    }

    /// What the cosignatures under `note` amount to. Lines of unknown keys are ignored; one that
    /// claims a known key and is not its signature makes the note a bad one. The signature of the
    /// log is the business of its own key.
    pub fn check(&self, note: &str) -> Result<Cosigned, NoteError> {
        let note = SignedNote::parse(note)?;
        let checkpoint = note.claims()?;
        let times = self.witnesses.iter().map(|witness| note.cosigned_by(&witness.key));
        let times: Vec<_> = times.collect::<Result<_, _>>()?;
        let named = self.witnesses.iter().zip(&times).filter(|(_, time)| time.is_some());
        let by = named.map(|(witness, _)| witness.name.clone()).collect();
        let at_or_after = |since: u64| move |time: &Option<u64>| time.is_some_and(|t| t >= since);
        let enough =
            |since: &u64| self.is_met(|place| times.get(place).is_some_and(at_or_after(*since)));
        let since = times.iter().flatten().copied().filter(|since| enough(since)).max();
        Ok(Cosigned { checkpoint, by, since })
    }
}

impl Rule {
    fn is_met(&self, cosigned: &impl Fn(usize) -> bool) -> bool {
        match self {
            Self::None => true,
            Self::One(place) => cosigned(*place),
            Self::Some { threshold, members } => {
                members.iter().filter(|member| member.is_met(cosigned)).count() >= *threshold
            }
        }
    }
}

/// As a file that [`WitnessPolicy::parse`] reads.
impl fmt::Display for WitnessPolicy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.logs.iter().try_for_each(|log| writeln!(f, "log {log}"))?;
        for Witness { name, key, url } in &self.witnesses {
            let url = url.as_deref().map_or_else(String::new, |url| format!(" {url}"));
            writeln!(f, "witness {name} {key}{url}")?;
        }
        let mut groups = 0;
        let quorum = self.write_groups(&self.quorum, &mut groups, f)?;
        writeln!(f, "quorum {quorum}")
    }
}

impl WitnessPolicy {
    /// Writes the groups that `rule` is made of; gives its name.
    fn write_groups(
        &self,
        rule: &Rule,
        groups: &mut usize,
        f: &mut fmt::Formatter<'_>,
    ) -> Result<String, fmt::Error> {
        match rule {
            Rule::None => Ok("none".to_owned()),
            Rule::One(place) => {
                self.witnesses.get(*place).map(|witness| witness.name.clone()).ok_or(fmt::Error)
            }
            Rule::Some { threshold, members } => {
                let names = members.iter().map(|member| self.write_groups(member, groups, f));
                let names: Vec<_> = names.collect::<Result<_, _>>()?;
                let taken = |name: &String| self.witnesses.iter().any(|one| one.name == *name);
                let mut fresh = std::iter::from_fn(|| {
                    *groups += 1;
                    Some(format!("group-{groups}"))
                });
                let name = fresh.find(|name| !taken(name)).ok_or(fmt::Error)?;
                writeln!(f, "group {name} {threshold} {}", names.join(" "))?;
                Ok(name)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::Cosigner;
    use super::*;
    use crate::note::SigningKey;

    #[test]
    fn a_quorum_is_met_by_enough_witnesses_and_no_fewer() {
        let (cosigners, policy) = witnesses(3, 2);
        let note = SigningKey::generate("host.example/log").unwrap().sign(9, [2; 32]);
        let text = SignedNote::parse(&note).unwrap().text().to_owned();
        let by = |who: &[(usize, u64)]| {
            let lines = who.iter().map(|(place, time)| cosigners[*place].cosign(&text, *time));
            policy.check(&format!("{note}{}", lines.collect::<String>())).unwrap()
        };

        assert_eq!(by(&[]).since, None);
        assert_eq!(by(&[(1, 50)]).since, None);
        assert_eq!(by(&[(1, 50)]).by, ["w1"]);
        // One alone cannot make it look newer than another one knows it.
        assert_eq!(by(&[(1, 50), (2, 900)]).since, Some(50));
        assert_eq!(by(&[(0, 70), (1, 50), (2, 900)]).since, Some(70));
        assert_eq!(by(&[(2, 900), (2, 901)]).since, None, "twice the same one is one");
        assert_eq!(by(&[(2, 900)]).checkpoint.size, 9);
    }

    #[test]
    fn a_line_that_only_claims_to_be_of_a_witness_makes_the_note_a_bad_one() {
        let (cosigners, policy) = witnesses(2, 1);
        let log = SigningKey::generate("host.example/log").unwrap();
        let (note, other) = (log.sign(9, [2; 32]), log.sign(9, [3; 32]));
        let of_other = cosigners[0].cosign(SignedNote::parse(&other).unwrap().text(), 70);

        assert_eq!(policy.check(&format!("{note}{of_other}")), Err(NoteError::Signature));
    }

    #[test]
    fn a_quorum_of_none_is_always_met_and_one_of_too_many_is_all() {
        assert!(witnesses(0, 3).1.needs_nobody());
        let (_, all) = witnesses(2, 5);
        assert!(all.is_met(|_| true) && !all.is_met(|place| place == 0));
    }

    fn witnesses(count: usize, threshold: usize) -> (Vec<Cosigner>, WitnessPolicy) {
        let names = (0..count).map(|number| format!("w{number}"));
        let cosigners: Vec<_> = names.map(|name| Cosigner::generate(&name).unwrap()).collect();
        let all = cosigners.iter().map(|cosigner| Witness {
            name: cosigner.key().name().to_owned(),
            key: cosigner.key().clone(),
            url: None,
        });
        let policy = WitnessPolicy::of(all.collect(), threshold);
        (cosigners, policy)
    }
}
