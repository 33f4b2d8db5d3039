//! The JSON Schema of a policy, printed from the same description that checks one.

use serde_json::{Map, Value, json};

use crate::grammar::{Form, Key, NAME, Need, Shape};
use crate::parse::KEYS;

/// The JSON Schema (draft 2020-12) of a policy file, for editors.
pub fn schema() -> String {
    let mut schema = table(KEYS);
    if let Value::Object(fields) = &mut schema {
        fields.insert("$schema".into(), json!("https://json-schema.org/draft/2020-12/schema"));
        fields.insert("title".into(), json!("enforcer policy"));
    }
    format!("{schema:#}\n")
}

fn table(keys: &[Key]) -> Value {
    let properties: Map<String, Value> =
        keys.iter().map(|key| (key.name.to_owned(), property(key))).collect();
    let required: Vec<&str> =
        keys.iter().filter(|key| matches!(key.need, Need::Required)).map(|key| key.name).collect();
    let mut schema = json!({
        "type": "object",
        "properties": properties,
        "additionalProperties": false,
    });
    if let (false, Value::Object(fields)) = (required.is_empty(), &mut schema) {
        fields.insert("required".into(), json!(required));
    }
    schema
}

fn property(key: &Key) -> Value {
    let mut schema = shape(&key.shape);
    if let Value::Object(fields) = &mut schema {
        fields.insert("description".into(), json!(key.doc));
        let default = match key.need {
            Need::Text(text) => Some(json!(text)),
            Need::Count(count) => Some(json!(count)),
            Need::False => Some(json!(false)),
            Need::True => Some(json!(true)),
            Need::Optional | Need::Required => None,
        };
        fields.extend(default.map(|default| ("default".to_owned(), default)));
    }
    schema
}

fn shape(shape: &Shape) -> Value {
    match shape {
        Shape::Flag => json!({ "type": "boolean" }),
        Shape::Count(min, max) => json!({ "type": "integer", "minimum": min, "maximum": max }),
        Shape::Span(..) => json!({
            "type": "string",
            "pattern": "^(?=.)([0-9]+y)?([0-9]+d)?([0-9]+h)?([0-9]+m)?([0-9]+s)?([0-9]+ms)?$",
            "examples": ["10s", "15m", "1h30m"],
        }),
        Shape::Size(..) => json!({
            "type": "string",
            "pattern": "^[0-9]+ ?(B|KiB|MiB|GiB)?$",
            "examples": ["64KiB", "1MiB"],
        }),
        Shape::Choice(words) => json!({ "enum": words }),
        Shape::Text(form) => json!({
            "type": "string",
            "pattern": form.pattern,
            "examples": [form.example],
        }),
        Shape::List(of) => json!({ "type": "array", "items": self::shape(of), "minItems": 1 }),
        Shape::OneOrMore(of) => {
            json!({ "anyOf": [self::shape(of), self::shape(&Shape::List(of))] })
        }
        Shape::WordOr(word, of) => json!({ "anyOf": [{ "enum": [word] }, self::shape(of)] }),
        Shape::Table(keys) => table(keys),
        Shape::TextOr(form, keys) => {
            json!({ "anyOf": [self::shape(&Shape::Text(form)), table(keys)] })
        }
        Shape::FlagOr(keys) => json!({ "anyOf": [{ "type": "boolean" }, table(keys)] }),
        Shape::Named(of) => keyed(&NAME, of),
        Shape::Keyed(form, of) => keyed(form, of),
        Shape::Factor => json!({ "type": "number", "minimum": 0, "maximum": 1 }),
        Shape::CountOr(min, max, form) => json!({
            "anyOf": [self::shape(&Shape::Count(*min, *max)), self::shape(&Shape::Text(form))],
        }),
    }
}

fn keyed(form: &Form, of: &Shape) -> Value {
    json!({
        "type": "object",
        "propertyNames": { "pattern": form.pattern },
        "additionalProperties": shape(of),
    })
}
