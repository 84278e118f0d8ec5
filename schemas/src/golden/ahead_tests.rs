//! A writer that is one version ahead, read by today's programs, and the other way round.

use std::sync::Arc;

use apache_avro::reader::datum::GenericDatumReader;
use apache_avro::types::Value;
use apache_avro::writer::datum::GenericDatumWriter;
use apache_avro::{Schema, from_value};
use serde_json::json;

use super::samples;
use crate::registry::Registry;
use crate::{ChatEvent, Decoder, FrameError, Record, codec, rules};

/// Tomorrow's schema: a new type of event with its own record, and a field more in a nested record, in the items of an
/// array and in a record that every event has.
fn schema_ahead() -> String {
    let mut schema: serde_json::Value = serde_json::from_str(ChatEvent::SCHEMA).expect("JSON");
    let long = || json!({"name": "relay_seq", "type": ["null", "long"], "default": null, "doc": "New."});
    let text = || json!({"name": "shown_name", "type": ["null", "string"], "default": null, "doc": "New."});
    let poll = json!({"name": "poll", "default": null, "doc": "Set by poll.created.", "type": ["null", {
        "type": "record", "name": "PollState", "doc": "New.", "fields": [
            {"name": "question", "type": "string", "doc": "New."},
            {"name": "closes_at", "type": {"type": "long", "logicalType": "timestamp-millis"}, "doc": "New."},
            {"name": "choices", "type": {"type": "array", "items": "string"}, "default": [], "doc": "New."},
        ],
    }]});
    let tags = json!({"name": "tags", "type": {"type": "array", "items": "string"}, "default": [], "doc": "New."});
    let push = |fields: &mut serde_json::Value, field| fields.as_array_mut().expect("fields").push(field);
    push(&mut schema["fields"][6]["type"]["fields"], long());
    push(&mut schema["fields"][7]["type"][1]["fields"], text());
    push(&mut schema["fields"][7]["type"][1]["fields"], tags);
    push(&mut schema["fields"][8]["type"]["items"]["fields"], text());
    push(&mut schema["fields"], poll);
    schema.to_string()
}

/// Today's samples as the writer ahead writes them, with all of its new fields set.
fn written_ahead(schema: &Schema) -> Vec<(Vec<u8>, ChatEvent)> {
    let reader =
        GenericDatumReader::builder(codec::schema_of::<ChatEvent>()).reader_schema(schema).build().expect("fits");
    let writer = GenericDatumWriter::builder(schema).build().expect("a schema");
    let all = samples::all();
    let events = &all.iter().find(|(record, _)| *record == ChatEvent::NAME).expect("there").1;
    let mut written = Vec::new();
    for sample in events {
        let mut value = reader.read_value(&mut sample.datum.as_slice()).expect("today's records are read ahead");
        fill(&mut value);
        set(&mut value, "event_type", Value::String("poll.created".into()));
        let poll = vec![
            ("question".into(), Value::String("Lunch?".into())),
            ("closes_at".into(), Value::TimestampMillis(1)),
            ("choices".into(), Value::Array(vec![Value::String("yes".into()), Value::String("no".into())])),
        ];
        set(&mut value, "poll", Value::Union(1, Box::new(Value::Record(poll))));
        let mut today: ChatEvent = serde_json::from_value(sample.json.clone()).expect("a ChatEvent");
        "poll.created".clone_into(&mut today.event_type);
        written.push((writer.write_value_to_vec(value).expect("fits its schema"), today));
    }
    written
}

fn set(value: &mut Value, name: &str, to: Value) {
    let Value::Record(fields) = value else { panic!("not a record") };
    fields.iter_mut().find(|(field, _)| field == name).expect(name).1 = to;
}

/// Sets the new fields wherever they are.
fn fill(value: &mut Value) {
    match value {
        Value::Record(fields) => {
            for (name, value) in fields {
                match name.as_str() {
                    "relay_seq" => *value = Value::Union(1, Box::new(Value::Long(-1))),
                    "shown_name" => *value = Value::Union(1, Box::new(Value::String("Åse".into()))),
                    "tags" => *value = Value::Array(vec![Value::String("x".into()); 70]),
                    _ => fill(value),
                }
            }
        }
        Value::Array(items) => items.iter_mut().for_each(fill),
        Value::Union(_, value) => fill(value),
        _ => {}
    }
}

#[test]
fn a_writer_one_version_ahead_is_read_by_today() {
    let text = schema_ahead();
    assert_eq!(rules::check(ChatEvent::NAME, &text, super::versions(ChatEvent::NAME)), []);
    let ahead = Schema::parse_str(&text).expect("a schema");
    let registry = Arc::new(Registry::new("http://127.0.0.1:1", "").expect("a URL"));
    registry.keep(8, &text);
    let decoder = Decoder::<ChatEvent>::new(registry, 7);
    let resolver =
        GenericDatumReader::builder(&ahead).reader_schema(codec::schema_of::<ChatEvent>()).build().expect("fits");
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("runtime");
    let written = written_ahead(&ahead);
    assert!(written.len() >= 9);
    for (datum, today) in written {
        let framed = [codec::header(8).as_slice(), &datum].concat();
        assert_eq!(runtime.block_on(decoder.decode(&framed)).expect("today reads it"), today);
        let resolved = resolver.read_value(&mut datum.as_slice()).expect("Avro resolves it");
        assert_eq!(from_value::<ChatEvent>(&resolved).expect("a ChatEvent"), today);
        // Its own schema is what makes it readable: with today's the bytes are something else.
        let misread = runtime.block_on(decoder.decode(&[codec::header(7).as_slice(), &datum].concat()));
        assert!(misread.is_err() || misread.is_ok_and(|event| event != today));
    }
}

#[test]
fn an_id_that_nobody_can_resolve_is_tried_again() {
    let registry = Arc::new(Registry::new("http://127.0.0.1:1", "").expect("a URL"));
    let decoder = Decoder::<ChatEvent>::new(registry, 7);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("runtime");
    let error = runtime.block_on(decoder.decode(&[0, 0, 0, 0, 8, 1])).expect_err("nobody listens there");
    assert!(error.is_transient() && matches!(error, FrameError::Schema { schema_id: 8, .. }), "{error}");
}
