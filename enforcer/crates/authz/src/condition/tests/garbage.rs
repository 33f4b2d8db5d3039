//! Texts that nobody meant.

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;

use super::*;

fn inside(text: &str, problems: &[ConditionProblem]) {
    assert!(!problems.is_empty(), "{text:?} is refused without a word");
    for ConditionProblem { span, message, hint } in problems {
        assert!(span.start <= span.end && text.get(span.clone()).is_some(), "{span:?} in {text:?}");
        assert!(!message.is_empty() && !hint.is_empty(), "{text:?}");
        assert!(
            !message.contains(enforcer_condition::is_unseen)
                && !hint.contains(enforcer_condition::is_unseen)
        );
    }
    assert!(problems.is_sorted_by_key(|problem| problem.span.start));
    assert!(problems.len() <= PROBLEMS_MAX);
}

fn asked(text: &str) {
    let defined = Defined::shared();
    match defined.parse(text) {
        Err(problems) => inside(text, &problems),
        Ok(condition) => {
            condition.holds(&World::default().facts());
            let printed = condition.expr().to_string();
            if printed.len() <= CONDITION_BYTES_MAX {
                assert_eq!(defined.read(&printed).expr(), condition.expr(), "{text}");
            }
        }
    }
}

fn word() -> impl Strategy<Value = &'static str> {
    select(vec![
        "ip",
        "net.office",
        "mtls",
        "claims.a",
        "claims",
        ".",
        "roles",
        "\"reader\"",
        "'x'",
        "in",
        "==",
        "!=",
        "<",
        "=",
        "&&",
        "||",
        "!",
        "(",
        ")",
        "[",
        "]",
        ",",
        "1",
        "-1",
        "1.5",
        "has",
        "has(",
        "startsWith",
        ".startsWith(",
        "\"DE\"",
        "region",
        "incident",
        "and",
        "or",
        "not",
        "true",
        "\"",
        "\\",
        "“",
        "\u{0}",
        "time.work",
        "[\"a b\"]",
        "path",
        "99999999999999999999",
        "#",
        " ",
    ])
}

proptest! {
    #[test]
    fn any_text_is_read_or_refused_with_a_place_inside_it(text in any::<String>()) {
        asked(&text);
    }

    #[test]
    fn any_words_are_read_or_refused_with_a_place_inside_them(words in vec(word(), 0..24)) {
        asked(&words.join(" "));
        asked(&words.concat());
    }
}

#[test]
fn the_deepest_and_the_longest_texts_end_without_ado() {
    for piece in
        ["(", "!", "[", "has(", "a.", "\"", "(mtls&&", "mtls||", "!(", "x.startsWith(", "==", "\\"]
    {
        let count = CONDITION_BYTES_MAX / piece.len();
        asked(&piece.repeat(count));
        asked(&piece.repeat(count * 2));
    }
}
