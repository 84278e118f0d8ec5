//! How a schema may follow an older one.

use serde_json::{Value, json};

use super::{Finding, Rule};
use crate::shape::{FieldShape, Kind, RecordShape, Shape};

/// What of `newer` doesn't follow `older`. Readers and writers of both are taken to be about, so it is judged both ways.
pub(super) fn check(older: &Shape, newer: &Shape) -> Vec<Finding> {
    let mut findings = Vec::new();
    let (old_root, new_root) = (older.root(), newer.root());
    if old_root.full_name != new_root.full_name {
        let problem = format!("was {}, is {}", old_root.full_name, new_root.full_name);
        findings.push(Finding::new(new_root.name(), "", Rule::RecordRenamed, problem));
    }
    check_record(old_root, new_root, &mut findings);
    for old in &older.records[1..] {
        // A record that is gone shows at the field whose type it was.
        if let Some(new) = newer.record(&old.full_name) {
            check_record(old, new, &mut findings);
        }
    }
    findings
}

fn check_record(old: &RecordShape, new: &RecordShape, findings: &mut Vec<Finding>) {
    let mut renamed = Vec::new();
    for (place, field) in old.fields.iter().enumerate() {
        if let Some(kept) = new.field(&field.name) {
            check_field(old, field, kept, findings);
        } else if let Some(other) = new_name_of(field, place, old, new) {
            renamed.push(other.name.as_str());
            let problem = format!("was {}, is {}", field.name, other.name);
            findings.push(Finding::new(old.name(), &field.path, Rule::FieldRenamed, problem));
        } else {
            findings.push(Finding::new(
                old.name(),
                &field.path,
                Rule::FieldRemoved,
                format!("was {}, is gone", field.kind),
            ));
        }
    }
    for field in new.fields.iter().filter(|field| old.field(&field.name).is_none()) {
        let is_empty_by_default = match &field.kind {
            Kind::Array(_) => field.default == Some(json!([])),
            kind => kind.is_nullable() && field.default == Some(Value::Null),
        };
        if !is_empty_by_default && !renamed.contains(&field.name.as_str()) {
            let problem = format!("new, {}, and its default is {}", field.kind, shown(field.default.as_ref()));
            findings.push(Finding::new(new.name(), &field.path, Rule::NewField, problem));
        }
    }
    if let Some((was, is)) = first_out_of_order(old, new) {
        let problem = format!("stands where {} stood", was.name);
        findings.push(Finding::new(new.name(), &is.path, Rule::FieldReordered, problem));
    }
}

/// The field that an old one seems to have become: one that says so, or one of the same type at the same place.
fn new_name_of<'a>(
    field: &FieldShape,
    place: usize,
    old: &RecordShape,
    new: &'a RecordShape,
) -> Option<&'a FieldShape> {
    let says_so = new.fields.iter().find(|candidate| candidate.aliases.contains(&field.name));
    says_so.or_else(|| {
        new.fields.get(place).filter(|candidate| old.field(&candidate.name).is_none() && candidate.kind == field.kind)
    })
}

/// Writers that know the order, constructors that are generated, and `SELECT *` go by it.
fn first_out_of_order<'a>(old: &'a RecordShape, new: &'a RecordShape) -> Option<(&'a FieldShape, &'a FieldShape)> {
    let before = old.fields.iter().filter(|field| new.field(&field.name).is_some());
    let after = new.fields.iter().filter(|field| old.field(&field.name).is_some());
    before.zip(after).find(|(was, is)| was.name != is.name)
}

fn check_field(record: &RecordShape, old: &FieldShape, new: &FieldShape, findings: &mut Vec<Finding>) {
    let mut found = |rule, problem| findings.push(Finding::new(record.name(), &new.path, rule, problem));
    if old.kind.is_nullable() != new.kind.is_nullable() {
        found(Rule::NullabilityChanged, format!("was {}, is {}", old.kind, new.kind));
    }
    if let Some(rule) = difference(old.kind.without_null(), new.kind.without_null()) {
        found(rule, format!("was {}, is {}", old.kind, new.kind));
    }
    // One that is added only helps; it then stays too.
    if old.default.is_some() && old.default != new.default {
        found(
            Rule::DefaultChanged,
            format!("the default was {}, is {}", shown(old.default.as_ref()), shown(new.default.as_ref())),
        );
    }
}

/// What changed between two types, nulls aside: how a union is written is the house's rule.
fn difference(old: &Kind, new: &Kind) -> Option<Rule> {
    fn base(kind: &Kind) -> &str {
        match kind {
            Kind::Primitive(name) | Kind::Logical { base: name, .. } => name,
            _ => "",
        }
    }
    match (old, new) {
        (Kind::Array(old), Kind::Array(new)) => difference(old, new),
        (Kind::Record(old), Kind::Record(new)) => (old != new).then_some(Rule::RecordRenamed),
        (Kind::Primitive(_) | Kind::Logical { .. }, Kind::Primitive(_) | Kind::Logical { .. }) => {
            if base(old) == base(new) {
                (old != new).then_some(Rule::LogicalTypeChanged)
            } else {
                Some(Rule::TypeChanged)
            }
        }
        (old, new) => (old != new).then_some(Rule::TypeChanged),
    }
}

fn shown(default: Option<&Value>) -> String {
    default.map_or_else(|| "missing".into(), Value::to_string)
}
