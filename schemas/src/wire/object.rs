//! JSON of clients, read in one pass: no object has a key twice, and `app_data` stays as it was written.
//!
//! Of a key that is there twice one reader takes the first value and another the last (RFC 8259, section 4): what is checked here
//! would not be what somebody else sees. `app_data` is the application's own: numbers beyond 2^53 keep their digits, which the
//! usual readers of JSON would round.

use std::fmt;
use std::marker::PhantomData;

use serde::de::{DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use serde_json::de::Read;
use serde_json::map::Entry;
use serde_json::value::RawValue;
use serde_json::{Map, Number, Value};

use super::{Code, Rejection};

/// Longest part of a key that a refusal repeats.
const KEY_CHARS: usize = 64;

/// What stood where an object was expected; the value of the object's one member that is read in a way of its own.
pub(super) enum Found<T> {
    Object(Map<String, Value>, Option<T>),
    Null,
    Other,
}

/// An object whose `app_data` isn't looked into.
type Body = Found<Box<RawValue>>;

const BODY: Expected<PhantomData<Box<RawValue>>> = Expected { key: "app_data", seed: PhantomData };

/// A frame, with its payload.
pub(super) fn frame(text: &str) -> Result<Found<Body>, Rejection> {
    read(serde_json::Deserializer::from_str(text), Expected { key: "payload", seed: BODY })
}

/// The body of a request.
pub(super) fn body(bytes: &[u8]) -> Result<Body, Rejection> {
    read(serde_json::Deserializer::from_slice(bytes), BODY)
}

/// The application's own object, checked like everything else and kept as written, but for blanks between its parts; `None` if it
/// is null.
pub(super) fn app_data(written: &RawValue) -> Result<Option<String>, Rejection> {
    match read(serde_json::Deserializer::from_str(written.get()), Strict)? {
        Value::Object(_) => Ok(Some(without_blanks(written.get()))),
        Value::Null => Ok(None),
        _ => Err(Rejection::new(Code::BadField, "app_data is an object.")),
    }
}

fn read<'de, S: DeserializeSeed<'de>>(
    mut reader: serde_json::Deserializer<impl Read<'de>>,
    seed: S,
) -> Result<S::Value, Rejection> {
    let value = seed.deserialize(&mut reader);
    value.and_then(|value| reader.end().map(|()| value)).map_err(|error| {
        let text = if error.is_data() {
            // Ours, which says where by itself.
            format!("{error}.")
        } else {
            format!("Not JSON: line {}, column {}.", error.line(), error.column())
        };
        Rejection::new(Code::BadJson, text)
    })
}

fn without_blanks(json: &str) -> String {
    let (mut is_in_text, mut is_escaped) = (false, false);
    json.chars()
        .filter(|character| {
            let is_blank = !is_in_text && matches!(character, ' ' | '\t' | '\r' | '\n');
            is_in_text ^= *character == '"' && !is_escaped;
            is_escaped = *character == '\\' && !is_escaped;
            !is_blank
        })
        .collect()
}

fn insert<E: Error>(object: &mut Map<String, Value>, key: String, value: Value) -> Result<(), E> {
    match object.entry(key) {
        Entry::Vacant(place) => {
            place.insert(value);
            Ok(())
        }
        Entry::Occupied(place) => Err(twice(place.key())),
    }
}

fn twice<E: Error>(key: &str) -> E {
    let key: String = key.chars().take(KEY_CHARS).collect();
    E::custom(format_args!("An object has the key {key:?} twice"))
}

/// Any value, in whose objects no key is there twice.
#[derive(Clone, Copy)]
struct Strict;

impl<'de> DeserializeSeed<'de> for Strict {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, reader: D) -> Result<Value, D::Error> {
        reader.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Strict {
    type Value = Value;

    fn expecting(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        to.write_str("JSON")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(Value::Number(value.into()))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(Value::Number(value.into()))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        Ok(Number::from_f64(value).map_or(Value::Null, Value::Number))
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(Value::String(value.to_owned()))
    }

    fn visit_string<E>(self, value: String) -> Result<Value, E> {
        Ok(Value::String(value))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        let mut list = Vec::new();
        while let Some(item) = items.next_element_seed(Self)? {
            list.push(item);
        }
        Ok(Value::Array(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Value, A::Error> {
        let mut object = Map::new();
        while let Some(key) = members.next_key()? {
            let value = members.next_value_seed(Self)?;
            insert(&mut object, key, value)?;
        }
        Ok(Value::Object(object))
    }
}

/// An object, whose member `key` is read by `seed`.
#[derive(Clone, Copy)]
struct Expected<S> {
    key: &'static str,
    seed: S,
}

impl<'de, S: DeserializeSeed<'de> + Copy> DeserializeSeed<'de> for Expected<S> {
    type Value = Found<S::Value>;

    fn deserialize<D: Deserializer<'de>>(self, reader: D) -> Result<Self::Value, D::Error> {
        reader.deserialize_any(self)
    }
}

impl<'de, S: DeserializeSeed<'de> + Copy> Visitor<'de> for Expected<S> {
    type Value = Found<S::Value>;

    fn expecting(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        to.write_str("JSON")
    }

    fn visit_unit<E>(self) -> Result<Self::Value, E> {
        Ok(Found::Null)
    }

    fn visit_bool<E>(self, _: bool) -> Result<Self::Value, E> {
        Ok(Found::Other)
    }

    fn visit_i64<E>(self, _: i64) -> Result<Self::Value, E> {
        Ok(Found::Other)
    }

    fn visit_u64<E>(self, _: u64) -> Result<Self::Value, E> {
        Ok(Found::Other)
    }

    fn visit_f64<E>(self, _: f64) -> Result<Self::Value, E> {
        Ok(Found::Other)
    }

    fn visit_str<E>(self, _: &str) -> Result<Self::Value, E> {
        Ok(Found::Other)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, items: A) -> Result<Self::Value, A::Error> {
        Strict.visit_seq(items).map(|_| Found::Other)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Self::Value, A::Error> {
        let (mut object, mut own) = (Map::new(), None);
        while let Some(key) = members.next_key::<String>()? {
            if key == self.key {
                if own.replace(members.next_value_seed(self.seed)?).is_some() {
                    return Err(twice(self.key));
                }
            } else {
                let value = members.next_value_seed(Strict)?;
                insert(&mut object, key, value)?;
            }
        }
        Ok(Found::Object(object, own))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn refusal(json: &str) -> String {
        let Err(rejection) = body(json.as_bytes()) else { panic!("{json} is taken") };
        assert_eq!(rejection.code, Code::BadJson);
        rejection.message
    }

    #[test]
    fn a_key_is_there_once_however_deep() {
        for json in [
            r#"{"a":1,"a":1}"#,
            r#"{"a":1,"b":{"a":1,"\u0061":2}}"#,
            r#"{"b":[[{"a":null,"a":null}]]}"#,
            r#"{"app_data":{},"app_data":{}}"#,
            r#"[{"a":1,"a":2}]"#,
        ] {
            assert!(refusal(json).contains(" twice at line 1 column "), "{}", refusal(json));
        }
        assert!(frame(r#"{"event":"x","payload":{},"payload":{}}"#).is_err());
        assert!(frame(r#"{"event":"x","payload":{"marks":{"c":1,"c":2}}}"#).is_err());
        assert!(body(br#"{"a":{"b":1},"b":{"a":[{"a":1},{"a":1}]}}"#).is_ok());
        let own = RawValue::from_string(r#"{"a":{"b":1,"b":1}}"#.to_owned()).unwrap();
        assert!(app_data(&own).is_err());
        assert!(refusal(&format!(r#"{{"{0}":1,"{0}":1}}"#, "x".repeat(5_000))).len() < 200);
    }

    #[test]
    fn what_is_no_json_is_refused() {
        for json in
            ["", "  ", "{", "{}}", "{} {}", "{\"a\":1e999}", "{\"a\":\"\\ud800\"}", "{\"a\":\"\\ud800\\u0041\"}"]
        {
            assert!(refusal(json).starts_with("Not JSON: line "), "{json}");
        }
        let deep = format!("{{\"a\":{}{}}}", "[".repeat(5_000), "]".repeat(5_000));
        refusal(&deep);
        let deep = RawValue::from_string(format!("{{\"a\":{}{}}}", "[".repeat(5_000), "]".repeat(5_000))).unwrap();
        assert!(app_data(&deep).is_err());
        assert!(body(b"{\"app_data\":\"\xff\"}").is_err());
    }

    #[test]
    fn the_applications_own_keeps_its_digits() {
        let Ok(Found::Object(_, Some(own))) =
            body(b"{\"app_data\": {\"n\": 9007199254740993, \"big\" : 123456789012345678901234567890,\n \"t\": \"a \\\" b\"}}")
        else {
            panic!("refused")
        };
        assert_eq!(
            app_data(&own).unwrap().as_deref(),
            Some(r#"{"n":9007199254740993,"big":123456789012345678901234567890,"t":"a \" b"}"#)
        );
        let other = |json: &str| app_data(&RawValue::from_string(json.to_owned()).unwrap());
        assert_eq!(other("null"), Ok(None));
        assert_eq!(other("[1]").unwrap_err().code, Code::BadField);
    }

    fn any_json() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            any::<f64>().prop_filter("JSON has none", |number| number.is_finite()).prop_map(Value::from),
            ".{0,8}".prop_map(Value::from),
        ];
        leaf.prop_recursive(4, 32, 4, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
                prop::collection::btree_map(".{0,6}", inner, 0..4)
                    .prop_map(|all| Value::Object(all.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn everything_else_is_read_as_usual(value in any_json()) {
            let text = serde_json::to_string_pretty(&value).unwrap();
            let read = read(serde_json::Deserializer::from_str(&text), Strict).unwrap();
            prop_assert_eq!(&read, &serde_json::from_str::<Value>(&text).unwrap());
            let small: Value = serde_json::from_str(&without_blanks(&text)).unwrap();
            prop_assert_eq!(small, read);
        }
    }
}
