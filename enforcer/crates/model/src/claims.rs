//! What a token says of its subject, in the few forms that a policy can compare.

use std::sync::Arc;

use serde::Serialize;

/// One value of a token, or of an introspection answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(untagged)]
pub enum Value {
    /// `true` or `false`.
    Flag(bool),
    /// A whole number that fits.
    Number(i64),
    /// A string.
    Text(Arc<str>),
    /// An array.
    List(Arc<[Self]>),
    /// An object.
    Table(Claims),
    /// A fraction, a number that does not fit, or `null`: present, and equal to nothing.
    Other,
}

/// An object with unique names; what a strict parser made of a token's payload.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct Claims(Arc<std::collections::BTreeMap<Arc<str>, Value>>);

impl Claims {
    /// The value called `name`.
    pub fn get(&self, name: &str) -> Option<&Value> {
        self.0.get(name)
    }

    /// The value at `path`, name by name through nested objects.
    pub fn at(&self, path: &[impl AsRef<str>]) -> Option<&Value> {
        let (first, rest) = path.split_first()?;
        let value = self.get(first.as_ref())?;
        match (rest.is_empty(), value) {
            (true, value) => Some(value),
            (false, Value::Table(inner)) => inner.at(rest),
            (false, _) => None,
        }
    }

    /// All of them, in the order of their names.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Value)> {
        self.0.iter().map(|(name, value)| (&**name, value))
    }
}

impl FromIterator<(Arc<str>, Value)> for Claims {
    fn from_iter<I: IntoIterator<Item = (Arc<str>, Value)>>(claims: I) -> Self {
        Self(Arc::new(claims.into_iter().collect()))
    }
}

impl Value {
    /// The text, if it is one.
    pub fn text(&self) -> Option<&str> {
        match self {
            Self::Text(text) => Some(text),
            Self::Flag(_) | Self::Number(_) | Self::List(_) | Self::Table(_) | Self::Other => None,
        }
    }

    /// The texts in it: itself, the elements of a list, or the words of neither.
    pub fn texts(&self) -> impl Iterator<Item = &str> {
        let (one, many) = match self {
            Self::Text(text) => (Some(&**text), &[][..]),
            Self::List(values) => (None, &**values),
            Self::Flag(_) | Self::Number(_) | Self::Table(_) | Self::Other => (None, &[][..]),
        };
        one.into_iter().chain(many.iter().filter_map(Self::text))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_leads_through_objects_and_nothing_else() {
        let inner = Claims::from_iter([("b".into(), Value::Number(7))]);
        let claims = Claims::from_iter([
            ("a".into(), Value::Table(inner)),
            ("list".into(), Value::List([Value::Text("x".into()), Value::Other].into())),
        ]);

        assert_eq!(claims.at(&["a", "b"]), Some(&Value::Number(7)));
        assert_eq!(claims.at(&["a", "b", "c"]), None);
        assert_eq!(claims.at(&["list", "0"]), None);
        assert_eq!(claims.at(&[""; 0]), None);
        assert_eq!(claims.get("list").unwrap().texts().collect::<Vec<_>>(), ["x"]);
    }
}
