//! What a test expects: `allow`, `allow: RULE`, `deny`, `deny: TEXT`, or a status with a reason.

use std::fmt;
use std::str::FromStr;

use enforcer_model::Reason;

use super::judge::Verdict;

/// An expectation of a `[[test]]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Expected {
    /// It is allowed, by this rule if one is named.
    Allow(Option<String>),
    /// It is refused with 401 or 403; the cause, the reason or the rule is, or holds, this text.
    Deny(Option<String>),
    /// It is refused with this status, for this reason if one is named.
    Status(u16, Option<String>),
}

/// The text expects nothing.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is not an answer")]
pub struct ExpectedError {
    /// As written.
    pub text: String,
    /// What to do.
    pub hint: String,
}

impl Expected {
    /// Whether `verdict` is what was expected.
    pub fn is_met(&self, verdict: &Verdict) -> bool {
        match (self, verdict) {
            (Self::Allow(None), Verdict::Allowed { .. }) => true,
            (Self::Allow(Some(wanted)), Verdict::Allowed { rule }) => **rule == **wanted,
            (Self::Deny(wanted), Verdict::Refused { reason, .. }) => {
                matches!(reason.status(), 401 | 403) && says(verdict, wanted.as_deref())
            }
            (Self::Status(status, wanted), Verdict::Refused { reason, .. }) => {
                reason.status() == *status && says(verdict, wanted.as_deref())
            }
            (Self::Allow(_), Verdict::Refused { .. })
            | (Self::Deny(_) | Self::Status(..), Verdict::Allowed { .. }) => false,
        }
    }
}

/// Whether a refusal says `wanted`: its reason, its rule, or words of its cause.
fn says(verdict: &Verdict, wanted: Option<&str>) -> bool {
    let Verdict::Refused { reason, cause, rule } = verdict else { return false };
    wanted.is_none_or(|wanted| {
        reason.as_str() == wanted || rule.as_deref() == Some(wanted) || holds_words(cause, wanted)
    })
}

/// Whether `text` holds `words`, not beginning or ending inside of a word or number.
fn holds_words(text: &str, words: &str) -> bool {
    let inside = |letter: Option<char>| letter.is_some_and(char::is_alphanumeric);
    text.match_indices(words).any(|(at, _)| {
        let before = text.get(..at).and_then(|text| text.chars().next_back());
        let after = text.get(at + words.len()..).and_then(|text| text.chars().next());
        let begins_inside = inside(before) && inside(words.chars().next());
        let ends_inside = inside(after) && inside(words.chars().next_back());
        !begins_inside && !ends_inside
    })
}

impl FromStr for Expected {
    type Err = ExpectedError;

    fn from_str(text: &str) -> Result<Self, ExpectedError> {
        let refused = |hint: String| ExpectedError { text: text.to_owned(), hint };
        let (word, more) = match text.split_once(':') {
            Some((word, more)) => (word.trim(), Some(more.trim())),
            None => (text.trim(), None),
        };
        let more = match more {
            Some("") => {
                return Err(refused(format!("write `{word}` alone, or say more behind the colon")));
            }
            more => more.map(str::to_owned),
        };
        match word {
            "allow" => return Ok(Self::Allow(more)),
            "deny" => return Ok(Self::Deny(more)),
            _ => {}
        }
        let known = |status: &u16| Reason::ALL.iter().any(|reason| reason.status() == *status);
        if let Some(status) = word.parse::<u16>().ok().filter(known) {
            return Ok(Self::Status(status, more));
        }
        Err(refused(match crate::grammar::suggest(word, ["allow", "deny"]) {
            Some(meant) => format!("did you mean `{meant}`?"),
            None => "write `allow`, `allow: RULE`, `deny`, `deny: TEXT`, `404` or `400: REASON`"
                .to_owned(),
        }))
    }
}

impl fmt::Display for Expected {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (word, more) = match self {
            Self::Allow(more) => ("allow".to_owned(), more),
            Self::Deny(more) => ("deny".to_owned(), more),
            Self::Status(status, more) => (status.to_string(), more),
        };
        match more {
            Some(more) => write!(f, "{word}: {more}"),
            None => f.write_str(&word),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    #[test]
    fn an_expectation_survives_printing_and_parsing() {
        for text in ["allow", "allow: orders.allow[1]", "deny", "deny: a (b)", "404", "400: path-x"]
        {
            assert_eq!(text.parse::<Expected>().unwrap().to_string(), text);
        }
        for (text, hint) in [
            ("alow", "did you mean `allow`?"),
            ("deny:", "write `deny` alone"),
            ("200", "write `allow`"),
            ("", "write `allow`"),
        ] {
            let refused = text.parse::<Expected>().unwrap_err();
            assert!(refused.hint.starts_with(hint), "{text}: {}", refused.hint);
        }
    }

    #[test]
    fn a_denial_is_known_by_its_cause_its_reason_or_its_rule() {
        let denied = Verdict::Refused {
            reason: Reason::NotAllowed,
            cause: "no allow rule matched (orders.allow[2].when)".to_owned(),
            rule: Some(Arc::from("orders.allow[2]")),
        };
        let met = |text: &str| text.parse::<Expected>().unwrap().is_met(&denied);

        assert!(met("deny") && met("403") && met("403: not-allowed"));
        assert!(met("deny: no allow rule matched (orders.allow[2].when)"));
        assert!(met("deny: orders.allow[2]") && met("deny: no allow rule matched"));
        assert!(!met("deny: orders.allow[1]") && !met("deny: rders.allow[2].when"));
        assert!(!met("allow") && !met("404") && !met("deny: orders.allow[2].wh"));
    }
}
