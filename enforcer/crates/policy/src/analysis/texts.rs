//! Texts that stand for all texts.
//!
//! Conditions look at a text by equality with constants and by its beginning and end. Two texts of
//! which all these tests say the same are one to every rule. A text that equals no constant is
//! known by the longest beginning and the longest end that the tests find on it, so
//! `beginning + something fresh + end` stands for every such text: with the constants themselves
//! these are all classes. Attributes that are compared with each other share one list with as many
//! fresh texts as there are attributes, so that each of them can differ from all others.

use std::collections::BTreeSet;
use std::sync::Arc;

/// What tests ask about a text.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Asked {
    /// Constants it is compared with.
    pub(crate) whole: BTreeSet<Arc<str>>,
    /// Beginnings.
    pub(crate) starts: BTreeSet<Arc<str>>,
    /// Ends.
    pub(crate) ends: BTreeSet<Arc<str>>,
}

/// Texts, one or more of every class; and whether every class is there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Texts {
    pub(crate) list: Vec<Arc<str>>,
    /// A class may be missing: nothing follows from finding no text.
    pub(crate) gaps: bool,
}

/// The most texts for one attribute; beyond it classes are missing.
const TEXTS_MAX: usize = 2_048;

impl Asked {
    pub(crate) fn merge(&mut self, other: &Self) {
        self.whole.extend(other.whole.iter().map(Arc::clone));
        self.starts.extend(other.starts.iter().map(Arc::clone));
        self.ends.extend(other.ends.iter().map(Arc::clone));
    }

    /// One text of every class, or `fresh` of those that leave room for it; `fits` says whether a
    /// text can stand where it would.
    ///
    /// A constant that does not fit can never be met. Something made up that does not fit leaves a
    /// gap: another text of its class might. Nothing made up is in `avoid`, for there it would mean
    /// something after all.
    pub(crate) fn texts(
        &self,
        fresh: usize,
        words: &[&str],
        avoid: &BTreeSet<String>,
        fits: &dyn Fn(&str) -> bool,
    ) -> Texts {
        let mut list: Vec<Arc<str>> = Vec::new();
        let mut gaps = false;
        let none = || std::iter::once("");
        for start in none().chain(self.starts.iter().map(|text| &**text)) {
            for end in none().chain(self.ends.iter().map(|text| &**text)) {
                for n in 0..fresh.max(1) {
                    let free = |text: &str| !avoid.contains(text) && fits(text);
                    let made = self.fresh(start, end, n, words, &list, &free);
                    if list.len() >= TEXTS_MAX {
                        return Texts { list, gaps: true };
                    }
                    match made {
                        Some(text) => list.push(text),
                        None => gaps = true,
                    }
                }
            }
        }
        let constants = self.whole.iter().filter(|text| fits(text));
        list.extend(constants.map(Arc::clone));
        gaps |= list.len() > TEXTS_MAX;
        Texts { list, gaps }
    }

    /// The `n`th text that begins with `start` and with no longer beginning that is asked for, ends
    /// so with `end`, and equals nothing.
    fn fresh(
        &self,
        start: &str,
        end: &str,
        n: usize,
        words: &[&str],
        taken: &[Arc<str>],
        fits: &dyn Fn(&str) -> bool,
    ) -> Option<Arc<str>> {
        // Numbered words are as many as the constants can spoil, and some more.
        let spoilt = self.whole.len() + self.starts.len() + self.ends.len() + n + 1;
        let plain = words.iter().skip(n).map(|word| (*word).to_owned());
        let numbered = (0..spoilt * 3).map(|number| format!("q{}x", number + 2));
        let odd = (0..spoilt * 3).map(|number| format!("zq-{number}-qz"));
        plain.chain(numbered).chain(odd).find_map(|word| {
            let text = format!("{start}{word}{end}");
            let longer = |known: &Arc<str>, than: &str| known.len() > than.len();
            let right = !self.whole.contains(text.as_str())
                && !self
                    .starts
                    .iter()
                    .any(|known| longer(known, start) && text.starts_with(&**known))
                && !self.ends.iter().any(|known| longer(known, end) && text.ends_with(&**known))
                && !taken.iter().any(|other| **other == *text)
                && fits(&text);
            right.then(|| text.into())
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::collection::btree_set;
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// Whatever text there is, one of the list answers every question as it does.
        #[test]
        fn every_text_has_a_stand_in(
            whole in btree_set("[ab]{0,3}", 0..4),
            starts in btree_set("[ab]{1,3}", 0..4),
            ends in btree_set("[ab]{1,3}", 0..4),
            text in "[abc]{0,6}",
        ) {
            let shared = |set: &BTreeSet<String>| set.iter().map(|t| Arc::from(t.as_str())).collect();
            let asked = Asked { whole: shared(&whole), starts: shared(&starts), ends: shared(&ends) };

            let texts = asked.texts(1, &["c"], &BTreeSet::new(), &|_| true);

            let answers = |text: &str| {
                let whole: Vec<bool> = whole.iter().map(|known| known == text).collect();
                let starts: Vec<bool> =
                    starts.iter().map(|known| text.starts_with(known.as_str())).collect();
                let ends: Vec<bool> =
                    ends.iter().map(|known| text.ends_with(known.as_str())).collect();
                (whole, starts, ends)
            };
            prop_assert!(!texts.gaps);
            prop_assert!(
                texts.list.iter().any(|known| answers(known) == answers(&text)),
                "{text} of {:?}", texts.list
            );
        }
    }

    #[test]
    fn several_fresh_texts_differ_from_each_other_and_from_every_constant() {
        let asked = Asked { whole: ["other".into()].into(), ..Asked::default() };

        let texts =
            asked.texts(3, &["other", "another"], &BTreeSet::from(["another".into()]), &|_| true);

        let distinct: BTreeSet<_> = texts.list.iter().collect();
        assert_eq!((texts.list.len(), distinct.len()), (4, 4), "{:?}", texts.list);
        assert!(!texts.list.contains(&"another".into()));
    }

    #[test]
    fn what_cannot_stand_there_is_left_out_and_a_class_without_a_text_is_a_gap() {
        let asked = Asked {
            whole: ["DE".into(), "Germany".into()].into(),
            starts: ["F".into()].into(),
            ..Asked::default()
        };

        let texts = asked.texts(1, &["ZZ"], &BTreeSet::new(), &|text| text.len() == 2);

        assert_eq!(texts.list.iter().map(|text| &**text).collect::<Vec<_>>(), ["ZZ", "DE"]);
        assert!(texts.gaps);
    }
}
