//! Whether an SPDX licence expression can be met with a list of accepted licences.
//!
//! `OR` needs one side, `AND` both; `WITH` binds an exception to its licence and is accepted only
//! as a whole. A slash is the old way to write `OR`.

/// Whether `expression` can be met with licences from `accepted`.
pub(super) fn is_met(expression: &str, accepted: &[String]) -> bool {
    let spaced = expression.replace('(', " ( ").replace(')', " ) ").replace('/', " OR ");
    let words: Vec<&str> = spaced.split_whitespace().collect();
    let mut reader = Reader { words: &words, accepted };
    let met = reader.any();
    met == Some(true) && reader.words.is_empty()
}

struct Reader<'a> {
    words: &'a [&'a str],
    accepted: &'a [String],
}

impl<'a> Reader<'a> {
    fn any(&mut self) -> Option<bool> {
        let mut met = self.all()?;
        while self.skip("OR") {
            met |= self.all()?;
        }
        Some(met)
    }

    fn all(&mut self) -> Option<bool> {
        let mut met = self.one()?;
        while self.skip("AND") {
            met &= self.one()?;
        }
        Some(met)
    }

    /// None when the expression is not one.
    fn one(&mut self) -> Option<bool> {
        if self.skip("(") {
            let met = self.any()?;
            return self.skip(")").then_some(met);
        }
        let name = self.next().filter(|word| !matches!(*word, ")" | "OR" | "AND" | "WITH"))?;
        let whole = if self.skip("WITH") {
            format!("{name} WITH {}", self.next()?)
        } else {
            name.to_owned()
        };
        Some(self.accepted.contains(&whole))
    }

    fn skip(&mut self, word: &str) -> bool {
        let Some((first, rest)) = self.words.split_first() else { return false };
        if *first != word {
            return false;
        }
        self.words = rest;
        true
    }

    fn next(&mut self) -> Option<&'a str> {
        let (first, rest) = self.words.split_first()?;
        self.words = rest;
        Some(first)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_expression_is_met_as_spdx_reads_it() {
        for (expression, met) in [
            ("MIT", true),
            ("GPL-3.0", false),
            ("MIT OR GPL-3.0", true),
            ("GPL-3.0 OR MIT", true),
            ("MIT/Apache-2.0", true),
            ("MIT AND GPL-3.0", false),
            ("(MIT OR Apache-2.0) AND Unicode-3.0", true),
            ("(MIT OR Apache-2.0) AND GPL-3.0", false),
            ("MIT AND GPL-3.0 OR Apache-2.0", true),
            ("Apache-2.0 WITH LLVM-exception OR GPL-3.0", true),
            ("MIT WITH LLVM-exception", false),
        ] {
            assert_eq!(is_met(expression, &accepted()), met, "{expression}");
        }
    }

    #[test]
    fn what_is_no_expression_is_not_met() {
        for expression in ["", "(", "MIT OR", "MIT MIT", "(MIT", "MIT)", "OR MIT", "MIT WITH"] {
            assert!(!is_met(expression, &accepted()), "{expression}");
        }
    }

    fn accepted() -> Vec<String> {
        ["MIT", "Apache-2.0", "Apache-2.0 WITH LLVM-exception", "Unicode-3.0"]
            .map(str::to_owned)
            .to_vec()
    }
}
