//! Which known name somebody may have meant.

/// The known name that is spelled most like `name`, if any is spelled nearly so.
pub(super) fn nearest<'a>(name: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let lower = name.to_ascii_lowercase();
    let distance = |known: &str| strsim::damerau_levenshtein(&lower, &known.to_ascii_lowercase());
    let near = known.into_iter().map(|known| (distance(known), known));
    let (distance, near) = near.min_by_key(|(distance, _)| *distance)?;
    (distance <= 1 + name.len() / 4).then_some(near)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slip_is_recognised_and_another_word_is_not() {
        assert_eq!(nearest("ordres", ["orders", "billing"]), Some("orders"));
        assert_eq!(nearest("Orders", ["orders"]), Some("orders"));
        assert_eq!(nearest("search", ["orders", "billing"]), None);
        assert_eq!(nearest("orders", []), None);
    }
}
