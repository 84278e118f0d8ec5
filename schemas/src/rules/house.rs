//! What one schema must be, whatever came before it.

use std::collections::HashSet;
use std::sync::LazyLock;

use serde_json::{Value, json};

use super::{Finding, Rule};
use crate::shape::{FieldShape, Kind, RecordShape, Shape};

/// Words that Flink SQL or ksqlDB want quoted where they are a column's name.
static QUOTED_WORDS: LazyLock<HashSet<&str>> = LazyLock::new(|| {
    let lines = include_str!("quoted_words.txt").lines().filter(|line| !line.starts_with('#'));
    lines.flat_map(str::split_whitespace).collect()
});

/// Names that are older than the rule and can't be changed any more: `ordinal` became a keyword of Flink SQL with 2.3;
/// `Position` is read by nobody but the worker that writes it.
const QUOTED_ALL_THE_SAME: [(&str, &str); 3] = [("Origin", "ordinal"), ("Position", "ordinal"), ("Position", "topics")];

const TYPES: [&str; 4] = ["string", "long", "int", "boolean"];

pub(super) fn check(shape: &Shape) -> Vec<Finding> {
    let mut findings = Vec::new();
    for record in &shape.records {
        check_record(record, &mut findings);
        for field in &record.fields {
            check_field(record, field, &mut findings);
        }
    }
    findings
}

fn check_record(record: &RecordShape, findings: &mut Vec<Finding>) {
    let mut found = |rule, problem: &str| findings.push(Finding::new(record.name(), &record.path, rule, problem));
    if is_blank(record.doc.as_deref()) {
        found(Rule::Doc, "the record has no doc");
    }
    if record.has_aliases {
        found(Rule::Alias, "the record has aliases");
    }
}

fn check_field(record: &RecordShape, field: &FieldShape, findings: &mut Vec<Finding>) {
    let name = field.name.as_str();
    let mut found = |rule, problem: String| findings.push(Finding::new(record.name(), &field.path, rule, problem));
    if is_blank(field.doc.as_deref()) {
        found(Rule::Doc, "the field has no doc".into());
    }
    if !field.aliases.is_empty() {
        found(Rule::Alias, format!("the field has aliases: {}", field.aliases.join(", ")));
    }
    if !is_plain(name) {
        found(Rule::NameStyle, format!("`{name}` is not in lower case with underscores"));
    } else if QUOTED_WORDS.contains(name) && !QUOTED_ALL_THE_SAME.contains(&(record.name(), name)) {
        found(Rule::QuotedName, format!("`{name}` is a word of Flink SQL or ksqlDB and wants quotes there"));
    }
    let inner = match &field.kind {
        Kind::Union(branches) => match branches.as_slice() {
            [null, kind] if null.is_null() && !matches!(kind, Kind::Union(_)) && !kind.is_null() => {
                if field.default != Some(Value::Null) {
                    found(Rule::NullDefault, format!("nullable, and its default is {}", shown(field.default.as_ref())));
                }
                kind
            }
            _ => return found(Rule::Union, format!("the union is {}", field.kind)),
        },
        kind => kind,
    };
    if matches!(field.kind, Kind::Array(_)) && field.default != Some(json!([])) {
        found(Rule::ArrayDefault, format!("an array, and its default is {}", shown(field.default.as_ref())));
    }
    if let Some((rule, problem)) = fault_of(inner) {
        found(rule, problem);
    }
}

/// What is wrong with a type that is no nullable field's.
fn fault_of(kind: &Kind) -> Option<(Rule, String)> {
    match kind {
        Kind::Record(_) => None,
        Kind::Primitive(name) if TYPES.contains(&name.as_str()) => None,
        Kind::Logical { base, logical } if base == "long" && logical == "timestamp-millis" => None,
        Kind::Array(items) => fault_of(items),
        Kind::Union(_) => Some((Rule::Union, format!("a union inside an array: {kind}"))),
        Kind::Primitive(_) | Kind::Logical { .. } | Kind::Other { .. } => {
            Some((Rule::Type, format!("{kind} is not a type of the contract")))
        }
    }
}

fn is_blank(doc: Option<&str>) -> bool {
    doc.is_none_or(|doc| doc.trim().is_empty())
}

fn is_plain(name: &str) -> bool {
    name.starts_with(|first: char| first.is_ascii_lowercase())
        && name.chars().all(|sign| sign.is_ascii_lowercase() || sign.is_ascii_digit() || sign == '_')
}

fn shown(default: Option<&Value>) -> String {
    default.map_or_else(|| "missing".into(), Value::to_string)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record;

    /// Each exception is needed, and names a field that there is.
    #[test]
    fn exceptions_are_of_fields_that_want_quotes() {
        let shapes: Vec<Shape> =
            record::all().iter().map(|(name, schema, _)| Shape::parse(schema).expect(name)).collect();
        for (record, name) in QUOTED_ALL_THE_SAME {
            assert!(QUOTED_WORDS.contains(name), "{name}");
            let is_there = |(of, field): (&RecordShape, &FieldShape)| of.name() == record && field.name == name;
            assert!(shapes.iter().any(|shape| shape.fields().any(is_there)), "{record}.{name}");
        }
    }

    #[test]
    fn words_are_of_all_sources() {
        for word in ["user", "value", "offset", "key", "topic", "row_number", "ordinal", "zone"] {
            assert!(QUOTED_WORDS.contains(word), "{word}");
        }
        assert!(QUOTED_WORDS.len() > 600);
    }
}
