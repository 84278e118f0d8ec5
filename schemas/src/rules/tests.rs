//! The rules against small changes of the real schemas, and Avro's own verdict on each.

use std::collections::BTreeSet;

use apache_avro::Schema;
use apache_avro::schema_compatibility::{Compatibility, SchemaCompatibility};
use serde_json::{Value, json};

use super::{Finding, Rule, check, check_all};
use crate::{ChatEvent, Position, Record, record};

/// Whether Avro's resolution reads both ways, which is what a registry goes by.
pub(super) fn avro_reads(older: &str, newer: &str) -> bool {
    let parse = |schema| Schema::parse_str(schema).expect("a schema");
    matches!(SchemaCompatibility::mutual_read(&parse(older), &parse(newer)), Ok(Compatibility::Full))
}

/// The list of fields that a path's field is in, and its place there.
pub(super) fn place<'a>(schema: &'a mut Value, path: &str) -> (&'a mut Vec<Value>, usize) {
    let (name, rest) = path.split_once('.').map_or((path, None), |(name, rest)| (name, Some(rest)));
    let name = name.trim_end_matches("[]");
    let fields = schema["fields"].as_array_mut().expect("fields");
    let at = fields.iter().position(|field| field["name"] == name).expect(path);
    let Some(rest) = rest else { return (fields, at) };
    let mut kind = &mut fields[at]["type"];
    if kind.is_array() {
        kind = &mut kind[1];
    }
    if kind["type"] == "array" {
        kind = &mut kind["items"];
    }
    place(kind, rest)
}

fn at<'a>(schema: &'a mut Value, path: &str) -> &'a mut Value {
    if path == "." {
        return schema;
    }
    let (fields, at) = place(schema, path);
    &mut fields[at]
}

/// Does one thing to a schema, in the words of `changes.txt`.
fn apply(schema: &mut Value, change: &str) {
    let mut words = change.splitn(4, ' ');
    let mut word = || words.next().unwrap_or_else(|| panic!("{change}"));
    match word() {
        "add" => {
            let field = change.strip_prefix("add ").and_then(|json| serde_json::from_str(json).ok());
            schema["fields"].as_array_mut().expect("fields").push(field.expect(change));
        }
        "remove" => {
            let (fields, at) = place(schema, word());
            fields.remove(at);
        }
        "front" => {
            let (fields, at) = place(schema, word());
            fields[..=at].rotate_right(1);
        }
        "rename" => {
            let (place, name) = (at(schema, word()), word());
            place["name"] = json!(name);
        }
        "set" => {
            let (place, key) = (at(schema, word()), word());
            let value = serde_json::from_str(word()).expect(change);
            match place.pointer_mut(key) {
                Some(old) => *old = value,
                None => place[key] = value,
            }
        }
        "unset" => {
            let place = at(schema, word()).as_object_mut().expect(change);
            assert!(place.remove(word()).is_some(), "{change}");
        }
        other => panic!("{other}: {change}"),
    }
}

fn changed(schema: &str, changes: &str) -> String {
    let mut schema: Value = serde_json::from_str(schema).expect("JSON");
    changes.split(" ; ").for_each(|change| apply(&mut schema, change));
    schema.to_string()
}

/// Rules and paths as `changes.txt` writes them.
fn said(findings: &[Finding]) -> Vec<String> {
    let path = |finding: &Finding| if finding.path.is_empty() { ".".to_owned() } else { finding.path.clone() };
    findings.iter().map(|finding| format!("{} {}", finding.rule, path(finding))).collect()
}

#[test]
fn each_change_is_caught_by_its_rules_and_no_others() {
    let (mut forbidden, mut allowed, mut tried) = (0, 0, BTreeSet::new());
    let lines = include_str!("changes.txt").lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
    for line in lines {
        let columns: Vec<&str> = line.split('|').map(str::trim).collect();
        let [what, how, expected, avro] = columns[..] else { panic!("{line}") };
        let newer = changed(ChatEvent::SCHEMA, how);
        let findings = check(ChatEvent::NAME, &newer, &[ChatEvent::SCHEMA]);
        let expected: Vec<&str> = expected.split(", ").filter(|part| !part.is_empty()).collect();
        assert_eq!(said(&findings), expected, "{what}: {findings:?}");
        let verdict = if avro_reads(ChatEvent::SCHEMA, &newer) { "fits" } else { "breaks" };
        assert_eq!(verdict, avro, "{what}");
        *(if expected.is_empty() { &mut allowed } else { &mut forbidden }) += 1;
        tried.extend(findings.iter().map(|finding| finding.rule.name()));
    }
    assert!(forbidden >= 40 && allowed >= 8, "{forbidden}, {allowed}");
    let all = Rule::ALL.iter().filter(|rule| **rule != Rule::Avro).map(|rule| rule.name());
    assert_eq!(tried, all.collect(), "every rule has a change");
}

#[test]
fn rules_are_named_alike_everywhere() {
    for rule in Rule::ALL {
        assert_eq!(serde_json::to_value(rule).expect("JSON"), rule.name());
        assert!(!rule.remedy().ends_with('.'), "{rule}");
    }
}

#[test]
fn this_versions_schemas_keep_the_rules() {
    for (record, findings) in check_all() {
        assert_eq!(findings, [], "{record}");
    }
    for (name, schema, _) in record::all() {
        let schema: Value = serde_json::from_str(schema).expect(name);
        assert_eq!(schema["name"], name);
    }
}

#[test]
fn a_finding_names_record_field_and_rule_and_says_how_to_mend_it() {
    let newer = changed(ChatEvent::SCHEMA, r#"set message.parent_seq type ["null", "string"]"#);
    let findings = check(ChatEvent::NAME, &newer, &[ChatEvent::SCHEMA, ChatEvent::SCHEMA]);
    assert_eq!(findings.len(), 1, "said once, however many versions it is against: {findings:?}");
    assert_eq!(
        findings[0].to_string(),
        "MessageState, message.parent_seq: was null or long, is null or string (type-changed, version 1). Mend: put the old \
         type back; add a nullable field of the new type beside it."
    );
    assert_eq!(
        serde_json::to_value(&findings[0]).expect("JSON"),
        json!({
            "record": "MessageState", "path": "message.parent_seq", "rule": "type-changed",
            "problem": "was null or long, is null or string", "remedy": Rule::TypeChanged.remedy(), "version": 1,
        })
    );
}

/// A field that was gone for a version comes back as something else: only the oldest version tells.
#[test]
fn every_earlier_version_counts() {
    let with = |kind: &str| {
        let field = json!({"name": "note", "type": ["null", kind], "default": null, "doc": "d"});
        changed(ChatEvent::SCHEMA, &format!("add {field}"))
    };
    let (first, third) = (with("string"), with("long"));
    assert_eq!(check(ChatEvent::NAME, &third, &[ChatEvent::SCHEMA]), []);
    let findings = check(ChatEvent::NAME, &third, &[&first, ChatEvent::SCHEMA]);
    assert_eq!(said(&findings), ["type-changed note"]);
    assert_eq!(findings[0].version, Some(1));
}

#[test]
fn a_default_may_not_be_another() {
    let newer = changed(Position::SCHEMA, r#"set topics[].topic_uuid default "?""#);
    assert_eq!(said(&check(Position::NAME, &newer, &[Position::SCHEMA])), ["default-changed topics[].topic_uuid"]);
    assert!(avro_reads(Position::SCHEMA, &newer));
}

#[test]
fn what_avro_refuses_is_said_with_its_words() {
    let twice = changed(ChatEvent::SCHEMA, r#"add {"name": "seq", "type": "long", "doc": "d"}"#);
    let null = changed(ChatEvent::SCHEMA, r#"set message.content type "string""#);
    for (schema, words, expected) in [
        ("{\"type\": \"record\"", "not JSON", &["avro ."][..]),
        (&twice, "seq", &["avro ."]),
        (&null, "content", &["avro .", "nullability-changed message.content"]),
    ] {
        let findings = check(ChatEvent::NAME, schema, &[ChatEvent::SCHEMA]);
        assert_eq!(said(&findings), expected, "{schema}");
        assert!(findings[0].problem.contains(words), "{}", findings[0]);
    }
}
