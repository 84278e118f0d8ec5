use super::*;
use crate::{ChatEvent, Record};

#[test]
fn fields_have_their_paths_and_records_their_namespaces() {
    let shape = Shape::parse(ChatEvent::SCHEMA).expect("our own");
    let paths: Vec<&str> = shape.fields().map(|(_, field)| field.path.as_str()).collect();
    for path in ["event_id", "origin.shard", "message.content", "message.attachments[].kind", "memberships[].user_id"] {
        assert!(paths.contains(&path), "{path}");
    }
    let names: Vec<&str> = shape.records.iter().map(|record| record.full_name.as_str()).collect();
    let expected = ["ChatEvent", "Origin", "MessageState", "Attachment", "Membership", "ChatState"];
    assert_eq!(names, expected.map(|name| format!("waltalkie.chat.{name}")));
    let edited_at = shape.record("waltalkie.chat.MessageState").expect("there").field("edited_at").expect("there");
    assert!(edited_at.kind.is_nullable());
    assert_eq!(edited_at.kind.to_string(), "null or long (timestamp-millis)");
    assert_eq!(edited_at.default, Some(Value::Null));
}

#[test]
fn what_is_no_record_is_an_error_that_says_where() {
    for (text, said) in [
        ("{", "not JSON"),
        (r#""string""#, ": not a record"),
        (r#"{"type": "record", "name": "R"}"#, ": a record without fields"),
        (r#"{"type": "record", "name": "R", "fields": [{"name": "a", "type": "Lost"}]}"#, "a: a type that isn't"),
        (r#"{"type": "record", "name": "R", "fields": [{"name": "a"}]}"#, "a: a field without a type"),
    ] {
        let error = Shape::parse(text).expect_err(text).to_string();
        assert!(error.starts_with(said), "{text}: {error}");
    }
}

#[test]
fn a_reference_is_the_record_it_names() {
    let text = r#"{"type": "record", "name": "R", "namespace": "n", "fields": [
        {"name": "a", "type": {"type": "record", "name": "Inner", "fields": []}},
        {"name": "b", "type": ["null", "Inner"]}]}"#;
    let shape = Shape::parse(text).expect("well formed");
    assert_eq!(shape.root().fields[1].kind.without_null(), &Kind::Record("n.Inner".into()));
}
