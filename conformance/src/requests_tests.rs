//! What the document says of clients' frames and what the parser takes are the same.

use proptest::prelude::*;
use schemas::wire::client::{Limits, parse};
use schemas::wire::{ClientEvent, Code};
use serde_json::{Map, Value, json};

use super::Frames;

/// A value that is mostly right for a field of this name, and sometimes anything.
fn value_of(field: &'static str) -> BoxedStrategy<Value> {
    let wrong = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        (-3_i64..9).prop_map(Value::from),
        Just(json!(1.5)),
        "[ -~]{0,70}".prop_map(Value::from),
        Just(json!([])),
        Just(json!(["a"])),
        Just(json!({})),
        Just(json!({ "chat": -1 })),
        Just(json!({ "no spaces": 1 })),
        Just(json!({ "a": { "b": [] } })),
    ];
    let right: BoxedStrategy<Value> = match field {
        "chat_id" => "[A-Za-z0-9._:-]{1,64}".prop_map(Value::from).boxed(),
        "message_id" | "parent_message_id" => {
            any::<u128>().prop_map(|bits| Value::from(uuid::Uuid::from_u128(bits.max(1)).to_string())).boxed()
        }
        "content" | "token" | "epoch" => "[ -~]{0,20}[a-z]".prop_map(Value::from).boxed(),
        "marks" | "cursors" => {
            prop::collection::hash_map("[a-z0-9:]{1,64}", 0..=i64::MAX, 0..4).prop_map(|seqs| json!(seqs)).boxed()
        }
        "active" => any::<bool>().prop_map(Value::from).boxed(),
        "app_data" => Just(json!({ "mood": ["good", 1] })).boxed(),
        // Only what the document has: other things that are empty are taken too.
        "attachments" => {
            let lists = [json!([]), json!(["m"]), json!(["m", "n"]), json!(["m", "m"]), json!(["no spaces "])];
            return prop::sample::select([lists.to_vec(), vec![Value::Null]].concat()).boxed();
        }
        "file" => return prop_oneof![Just(Value::Null), Just(json!("")), Just(json!("m"))].boxed(),
        _ => any::<i64>().prop_map(Value::from).boxed(),
    };
    prop_oneof![6 => right, 1 => wrong].boxed()
}

const FIELDS: [&str; 12] = [
    "chat_id",
    "message_id",
    "content",
    "parent_message_id",
    "app_data",
    "attachments",
    "file",
    "marks",
    "cursors",
    "epoch",
    "token",
    "active",
];

fn frame() -> impl Strategy<Value = Value> {
    let id = prop_oneof![
        Just(Value::Null),
        (0_i64..9).prop_map(Value::from),
        "[a-z0-9]{0,150}".prop_map(Value::from),
        Just(json!({})),
        Just(json!(true)),
    ];
    let fields: Vec<_> = FIELDS.into_iter().map(|field| prop::option::weighted(0.8, value_of(field))).collect();
    let payload = prop_oneof![
        12 => fields.prop_map(|values| {
            let present = FIELDS.into_iter().zip(values).filter_map(|(field, value)| Some((field.to_owned(), value?)));
            Some(Value::Object(present.collect::<Map<_, _>>()))
        }),
        1 => Just(None),
        1 => Just(Some(Value::Null)),
        1 => Just(Some(json!([]))),
    ];
    let event = prop::sample::select(&ClientEvent::ALL[..]);
    (event, prop::option::weighted(0.9, id), payload).prop_map(|(event, id, payload)| {
        let mut frame = json!({ "event": event.name() });
        if let Some(id) = id {
            frame["id"] = id;
        }
        if let Some(payload) = payload {
            frame["payload"] = payload;
        }
        frame
    })
}

#[test]
fn asyncapi_describes_what_the_parser_takes() {
    let described = Frames::new(false);
    let mut taken = std::collections::HashSet::new();
    let config = ProptestConfig { cases: 4_000, failure_persistence: None, ..ProptestConfig::default() };
    let mut runner = proptest::test_runner::TestRunner::new(config);
    let seen = std::cell::RefCell::new(&mut taken);
    runner
        .run(&frame(), |frame| {
            let described = described.check("client", &frame);
            match parse(&frame.to_string(), &Limits::default()) {
                Ok(_) => {
                    prop_assert!(described.is_ok(), "taken, but {described:?}");
                    seen.borrow_mut().insert(frame["event"].to_string());
                }
                // White space alone is no text; a schema can't say so for all alphabets.
                Err(refused) if refused.rejection.code == Code::ContentEmpty => {}
                Err(refused) => {
                    prop_assert!(described.is_err(), "described, but {:?}: {frame}", refused.rejection);
                }
            }
            Ok(())
        })
        .unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(taken.len(), ClientEvent::ALL.len(), "some were never right: {taken:?}");
}
