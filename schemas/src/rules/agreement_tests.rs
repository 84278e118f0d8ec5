//! Whatever the rules let pass, Avro reads: chains of random changes, judged by the rules and then tried on real bytes.

use apache_avro::Schema;
use apache_avro::reader::datum::GenericDatumReader;
use apache_avro::types::Value as Datum;
use apache_avro::writer::datum::GenericDatumWriter;
use proptest::prelude::*;
use serde_json::{Value, json};

use super::check;
use super::tests::{avro_reads, place};
use crate::shape::Shape;
use crate::{ChatEvent, Encoder, MessageState, Origin, Record, codec};

/// What is done to the field at a path; a few of them are allowed, most aren't.
const CHANGES: [fn(&mut Vec<Value>, usize); 14] = [
    |fields, _| fields.push(json!({"name": "added", "type": ["null", "string"], "default": null, "doc": "d"})),
    |fields, at| {
        let kind = json!({"type": "array", "items": "long"});
        fields.insert(at, json!({"name": "added", "type": kind, "default": [], "doc": "d"}));
    },
    |fields, at| fields.insert(at, json!({"name": "added", "type": "long", "doc": "d"})),
    |fields, at| fields[at]["doc"] = json!("Other words."),
    |fields, at| drop(fields.remove(at)),
    |fields, at| fields[at]["name"] = json!("renamed"),
    |fields, at| fields.swap(at, 0),
    |fields, at| fields[at]["type"] = json!("string"),
    |fields, at| fields[at]["type"] = json!("long"),
    |fields, at| fields[at]["type"] = json!(["null", "long"]),
    |fields, at| fields[at]["type"] = json!({"type": "array", "items": "string"}),
    |fields, at| fields[at]["default"] = json!(null),
    |fields, at| fields[at]["default"] = json!([]),
    |fields, at| drop(fields[at].as_object_mut().expect("a field").remove("default")),
];

fn mutated(changes: &[(prop::sample::Index, prop::sample::Index)]) -> String {
    let mut schema: Value = serde_json::from_str(ChatEvent::SCHEMA).expect("JSON");
    for (change, path) in changes {
        let Ok(shape) = Shape::parse(&schema.to_string()) else { break };
        let paths: Vec<String> = shape.fields().map(|(_, field)| field.path.clone()).collect();
        let path: &String = path.get(&paths);
        let (fields, at) = place(&mut schema, path);
        CHANGES[change.index(CHANGES.len())](fields, at);
    }
    schema.to_string()
}

fn read(writer: &Schema, reader: &Schema, datum: &[u8]) -> Datum {
    let resolver = GenericDatumReader::builder(writer).reader_schema(reader).build().expect("both are schemas");
    resolver.read_value(&mut &*datum).expect("what the rules let pass is read")
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn what_the_rules_let_pass_is_read_both_ways(
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<prop::sample::Index>()), 1..4),
    ) {
        let newer = mutated(&changes);
        if check(ChatEvent::NAME, &newer, &[ChatEvent::SCHEMA]).is_empty() {
            prop_assert!(avro_reads(ChatEvent::SCHEMA, &newer), "{}", newer);
            let today = codec::schema_of::<ChatEvent>();
            let ahead = Schema::parse_str(&newer).expect("the rules say so");
            let event = ChatEvent {
                message: Some(MessageState { content: Some("hello".into()), ..MessageState::default() }),
                ..ChatEvent::withheld("c", 3, "alice".into(), 5, Origin::default())
            };
            let datum = &Encoder::<ChatEvent>::new(0).encode(&event).expect("fits")[codec::HEADER_BYTES..];
            let forward = read(today, &ahead, datum);
            let written = GenericDatumWriter::builder(&ahead).build().expect("a schema").write_value_to_vec(forward);
            let back = read(&ahead, today, &written.expect("fits its schema"));
            prop_assert_eq!(apache_avro::from_value::<ChatEvent>(&back).expect("an event"), event);
        }
    }
}

/// The property above isn't empty: some of its changes pass, and most don't.
#[test]
fn random_changes_are_of_both_kinds() {
    let one = |change: usize, path: &str| {
        let mut schema: Value = serde_json::from_str(ChatEvent::SCHEMA).expect("JSON");
        let (fields, at) = place(&mut schema, path);
        CHANGES[change](fields, at);
        check(ChatEvent::NAME, &schema.to_string(), &[ChatEvent::SCHEMA]).is_empty()
    };
    let passed: Vec<usize> = (0..CHANGES.len()).filter(|change| one(*change, "message.content")).collect();
    assert_eq!(passed, [0, 1, 3, 11]);
}
