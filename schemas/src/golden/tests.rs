use std::collections::BTreeSet;
use std::sync::Arc;

use apache_avro::reader::datum::GenericDatumReader;
use apache_avro::{Schema, from_value};
use serde_json::Value;

use super::files::{self, HOW};
use super::{ALL, samples, versions};
use crate::registry::Registry;
use crate::shape::Shape;
use crate::{
    ChatAbuse, ChatActivity, ChatCommand, ChatEvent, Cursor, Decoder, Encoder, Mark, Notification, OperatorState,
    Position, Record, User, codec, event_type, record,
};

/// Runs a test of one record's type with each of them.
macro_rules! each_record {
    ($run:ident($($argument:expr),*)) => {{
        $run::<ChatCommand>($($argument),*);
        $run::<ChatEvent>($($argument),*);
        $run::<User>($($argument),*);
        $run::<Mark>($($argument),*);
        $run::<Cursor>($($argument),*);
        $run::<Notification>($($argument),*);
        $run::<Position>($($argument),*);
        $run::<ChatActivity>($($argument),*);
        $run::<ChatAbuse>($($argument),*);
        $run::<OperatorState>($($argument),*);
    }};
}

#[test]
fn every_schema_has_its_golden_version() {
    let (stored, _) = files::read();
    for (record, schema, _) in record::all() {
        let newest = versions(record).last().unwrap_or_else(|| panic!("{record} has no golden version. {HOW}"));
        assert_eq!(
            files::without_docs(newest),
            files::without_docs(schema),
            "the schema of {record} changed, and none of its golden versions is this one. {HOW}"
        );
        let stems = stored.keys().filter_map(|path| path.strip_suffix(".avsc"));
        let count = stems.filter(|stem| stem.starts_with(&format!("{record}/"))).count();
        assert_eq!(count, versions(record).len(), "{record}: schemas/src/golden.rs doesn't name all versions");
        for (version, text) in (1..).zip(versions(record)) {
            let path = format!("{record}/{version}.avsc");
            assert_eq!(stored.get(&path).map(Vec::as_slice), Some(text.as_bytes()), "{path}");
            let samples = stored.keys().filter(|path| path.starts_with(&format!("{record}/{version}/"))).count();
            assert!(samples >= 2, "{record}/{version} has no records. {HOW}");
        }
    }
    let names: Vec<&str> = ALL.iter().map(|(record, _)| *record).collect();
    assert_eq!(names, record::all().map(|(record, _, _)| record));
}

#[test]
fn golden_files_are_as_they_were() {
    let (stored, list) = files::read();
    let differences = files::differences(&stored, &list);
    assert!(
        differences.is_empty(),
        "golden files are kept as they were written, since records like them are in topics for ever: {differences:?}. \
         Take the change back, and make a new version instead. {HOW}"
    );
}

/// The check of the list sees an edited, an unlisted and a missing file.
#[test]
fn an_edit_of_a_golden_file_is_seen() {
    let (mut stored, list) = files::read();
    stored.get_mut("ChatEvent/1/withheld.avro").expect("there")[0] ^= 1;
    stored.remove("Mark/1.avsc");
    stored.insert("Mark/1/new.avro".into(), Vec::new());
    let expected =
        ["ChatEvent/1/withheld.avro was edited", "Mark/1/new.avro is not in SHA256SUMS", "Mark/1.avsc is gone"];
    assert_eq!(files::differences(&stored, &list), expected);
}

/// Words alone make no version; anything else does.
#[test]
fn a_version_is_more_than_words() {
    let schema = ChatEvent::SCHEMA;
    let words = schema.replace("Position in the chat's one total order", "Place in the chat's one order");
    assert_ne!(words, schema);
    assert_eq!(files::without_docs(&words), files::without_docs(schema));
    for (from, to) in
        [("\"default\": []", "\"default\": null"), ("timestamp-millis", "timestamp-micros"), ("\"seq\"", "\"sq\"")]
    {
        let changed = schema.replacen(from, to, 1);
        assert_ne!(files::without_docs(&changed), files::without_docs(schema), "{from}");
    }
}

#[test]
fn todays_readers_read_every_golden_record() {
    let (stored, _) = files::read();
    let goldens = files::records(&stored);
    assert!(goldens.len() >= 20, "only {} golden records", goldens.len());
    each_record!(read_back(&goldens));
}

fn read_back<R: Record + PartialEq + std::fmt::Debug>(goldens: &[files::Golden]) {
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("runtime");
    let mut count = 0;
    for golden in goldens.iter().filter(|golden| golden.record == R::NAME) {
        count += 1;
        let at = format!("{}/{}/{}", golden.record, golden.version, golden.name);
        let text = versions(R::NAME)[golden.version as usize - 1];

        // As our own consumers read it: an id that they haven't met, whose schema the registry gives.
        let registry = Arc::new(Registry::new("http://127.0.0.1:1", "").expect("a URL"));
        let schema_id = 100 + golden.version;
        registry.keep(schema_id, text);
        let framed = [codec::header(schema_id).as_slice(), &golden.datum].concat();
        let read = runtime.block_on(Decoder::<R>::new(registry, 7).decode(&framed)).expect(&at);
        let said = serde_json::to_value(&read).expect("JSON");
        assert!(says_the_same(&golden.json, &said), "{at}: {} became {said}", golden.json);

        // As others do, who resolve the writer's schema to the reader's.
        let writer = Schema::parse_str(text).expect(&at);
        let reader = GenericDatumReader::builder(&writer).reader_schema(codec::schema_of::<R>()).build().expect(&at);
        let value = reader.read_value(&mut golden.datum.as_slice()).expect(&at);
        assert_eq!(from_value::<R>(&value).expect(&at), read, "{at}");

        if golden.version as usize == versions(R::NAME).len() {
            let written = Encoder::<R>::new(schema_id).encode(&read).expect(&at);
            assert_eq!(written, framed, "{at}: today's writer makes other bytes");
        }
    }
    assert!(count > 0, "{} has no golden records", R::NAME);
}

/// Whether all that was said then is said now; what came later is null or empty.
fn says_the_same(then: &Value, now: &Value) -> bool {
    match (then, now) {
        (Value::Object(then), Value::Object(now)) => {
            then.iter().all(|(key, value)| now.get(key).is_some_and(|now| says_the_same(value, now)))
                && now
                    .iter()
                    .all(|(key, value)| then.contains_key(key) || value.is_null() || *value == Value::Array(vec![]))
        }
        (Value::Array(then), Value::Array(now)) => {
            then.len() == now.len() && then.iter().zip(now).all(|(then, now)| says_the_same(then, now))
        }
        (then, now) => then == now,
    }
}

#[test]
fn what_was_said_is_compared() {
    let then = serde_json::json!({"a": 1, "b": [{"c": null}]});
    for (now, is_same) in [
        (r#"{"a": 1, "b": [{"c": null, "d": null}], "e": []}"#, true),
        (r#"{"a": 2, "b": [{"c": null}]}"#, false),
        (r#"{"a": 1, "b": []}"#, false),
        (r#"{"a": 1}"#, false),
        (r#"{"a": 1, "b": [{"c": null}], "e": 5}"#, false),
    ] {
        assert_eq!(says_the_same(&then, &serde_json::from_str(now).expect("JSON")), is_same, "{now}");
    }
}

/// Otherwise a new field would get into a golden version with nothing but its default.
#[test]
fn samples_set_every_field_and_have_every_event_type() {
    for ((record, schema, _), (name, samples)) in record::all().into_iter().zip(samples::all()) {
        assert_eq!(record, name);
        let mut set = BTreeSet::new();
        for sample in &samples {
            set_fields(&sample.json, "", &mut set);
        }
        let shape = Shape::parse(schema).expect(record);
        for (_, field) in shape.fields() {
            assert!(
                set.contains(&field.path),
                "no sample of {record} sets {}: schemas/src/golden/samples.rs",
                field.path
            );
        }
    }
    let samples = samples::all();
    let events = &samples.iter().find(|(record, _)| *record == ChatEvent::NAME).expect("there").1;
    let types: BTreeSet<&str> = events.iter().filter_map(|sample| sample.json["event_type"].as_str()).collect();
    let known = [
        event_type::MESSAGE_PERSISTED,
        event_type::MESSAGE_EDITED,
        event_type::MESSAGE_DELETED,
        event_type::CHAT_CREATED,
        event_type::CHAT_UPDATED,
        event_type::MEMBER_JOINED,
        event_type::MEMBER_LEFT,
        event_type::MEMBER_UPDATED,
        event_type::WITHHELD,
    ];
    assert_eq!(types, BTreeSet::from(known));
}

fn set_fields(value: &Value, path: &str, set: &mut BTreeSet<String>) {
    match value {
        Value::Object(object) => {
            for (key, value) in object {
                let path = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
                if !value.is_null() && *value != Value::Array(vec![]) {
                    set.insert(path.clone());
                }
                set_fields(value, &path, set);
            }
        }
        Value::Array(items) => items.iter().for_each(|item| set_fields(item, &format!("{path}[]"), set)),
        _ => {}
    }
}
