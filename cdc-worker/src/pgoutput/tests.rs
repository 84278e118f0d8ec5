use proptest::prelude::*;

use super::*;

/// Builds messages by the protocol's documentation, independently of the decoder.
mod build {
    pub(super) fn text(text: &str) -> Vec<u8> {
        [text.as_bytes(), &[0]].concat()
    }

    pub(super) fn tuple(values: &[(u8, Vec<u8>)]) -> Vec<u8> {
        let mut bytes = (values.len() as u16).to_be_bytes().to_vec();
        for (kind, value) in values {
            bytes.push(*kind);
            if matches!(kind, b't' | b'b') {
                bytes.extend((value.len() as u32).to_be_bytes());
                bytes.extend(value);
            }
        }
        bytes
    }

    pub(super) fn insert(relation_id: u32, values: &[(u8, Vec<u8>)]) -> Vec<u8> {
        [&b"I"[..], &relation_id.to_be_bytes(), b"N", &tuple(values)].concat()
    }
}

fn hex(text: &str) -> Vec<u8> {
    let digits: Vec<u8> = text.bytes().filter(u8::is_ascii_hexdigit).collect();
    digits
        .chunks(2)
        .map(|pair| u8::from_str_radix(std::str::from_utf8(pair).expect("ASCII"), 16).expect("hexadecimal"))
        .collect()
}

/// Captured from PostgreSQL 18 with `proto_version '1', binary 'true', messages 'true'`: see `captured.txt`.
#[test]
fn captured_messages_decode() {
    let lines = include_str!("captured.txt").lines().filter(|line| !line.starts_with('#') && !line.is_empty());
    let messages: Vec<Vec<u8>> = lines.map(hex).collect();
    let decoded: Vec<Message<'_>> = messages.iter().map(|bytes| decode(bytes).expect("a message")).collect();
    let kinds: String = messages.iter().map(|bytes| char::from(bytes[0])).collect();
    assert_eq!(kinds, "MBRRIICBMC");
    let Message::Logical { is_transactional, prefix, content, .. } = decoded[0] else { panic!("{:?}", decoded[0]) };
    assert_eq!((is_transactional, prefix, content), (false, "waltalkie.heartbeat", &b"1764000000000"[..]));
    let Message::Begin { final_lsn, .. } = decoded[1] else { panic!("{:?}", decoded[1]) };
    let Message::Commit { commit_lsn, end_lsn, .. } = decoded[6] else { panic!("{:?}", decoded[6]) };
    assert!(final_lsn == commit_lsn && commit_lsn < end_lsn);
    let (Message::Relation(root), Message::Relation(leaf)) = (&decoded[2], &decoded[3]) else { panic!("{decoded:?}") };
    assert_eq!((root.namespace.as_str(), root.name.as_str()), ("public", "message"));
    assert!(leaf.name.starts_with("message_p"), "partitions are described too");
    let columns: Vec<&str> = root.columns.iter().map(|column| column.name.as_str()).collect();
    assert_eq!(&columns[..4], ["message_id", "chat_id", "sender_id", "content"]);
    let Message::Insert { relation_id, tuple } = decoded[4] else { panic!("{:?}", decoded[4]) };
    assert_eq!((relation_id, tuple.len()), (root.id, root.columns.len()));
    let values: Vec<Value<'_>> = tuple.values().collect::<Result<_, _>>().expect("values");
    assert_eq!(values[1], Value::Binary(b"c"));
    assert_eq!(values[3], Value::Binary("hëllo".as_bytes()));
    assert_eq!(values[4], Value::Null);
    let Message::Logical { is_transactional: true, content: b"inside", .. } = decoded[8] else {
        panic!("{:?}", decoded[8])
    };
}

#[test]
fn what_must_not_arrive_is_told_apart() {
    let update = [&b"U"[..], &7_u32.to_be_bytes(), b"N", &build::tuple(&[(b'n', vec![])])].concat();
    assert_eq!(decode(&update), Ok(Message::Update { relation_id: 7 }));
    let delete = [&b"D"[..], &8_u32.to_be_bytes(), b"K", &build::tuple(&[(b'n', vec![])])].concat();
    assert_eq!(decode(&delete), Ok(Message::Delete { relation_id: 8 }));
    let truncate = [&b"T"[..], &2_u32.to_be_bytes(), &[0], &3_u32.to_be_bytes(), &4_u32.to_be_bytes()].concat();
    assert_eq!(decode(&truncate), Ok(Message::Truncate { relation_ids: vec![3, 4] }));
}

#[test]
fn origin_and_type_decode() {
    let origin = [&b"O"[..], &5_u64.to_be_bytes(), &build::text("elsewhere")].concat();
    assert_eq!(decode(&origin), Ok(Message::Origin { commit_lsn: Lsn(5), name: "elsewhere" }));
    let kind = [&b"Y"[..], &6_u32.to_be_bytes(), &build::text("public"), &build::text("mood")].concat();
    assert_eq!(decode(&kind), Ok(Message::Type { oid: 6, namespace: "public", name: "mood" }));
}

#[test]
fn errors_say_where() {
    assert_eq!(decode(b""), Err(DecodeError::Truncated { at: 0, what: "tag" }));
    assert_eq!(decode(b"?"), Err(DecodeError::Unexpected { at: 0, what: "tag", found: b'?' }));
    assert_eq!(decode(b"B\0\0"), Err(DecodeError::Truncated { at: 1, what: "final LSN" }));
    let mut long = build::insert(1, &[]);
    long.push(0);
    assert_eq!(decode(&long), Err(DecodeError::LeftOver { at: 8, left: 1 }));
    assert_eq!(
        decode(&[b"O".as_slice(), &[0; 8], &[0xFF, 0]].concat()),
        Err(DecodeError::NotUtf8 { at: 9, what: "origin name" })
    );
}

fn values() -> impl Strategy<Value = Vec<(u8, Vec<u8>)>> {
    let kind = prop_oneof![Just(b'n'), Just(b'u'), Just(b't'), Just(b'b')];
    proptest::collection::vec((kind, proptest::collection::vec(any::<u8>(), 0..40)), 0..20)
}

/// Decodes a message and, if it is a row, its values.
fn read_whole(bytes: &[u8]) -> Result<(), DecodeError> {
    match decode(bytes)? {
        Message::Insert { tuple, .. } => tuple.values().try_for_each(|value| value.map(drop)),
        _ => Ok(()),
    }
}

proptest! {
    #[test]
    fn inserted_rows_come_back(relation_id: u32, values in values()) {
        let bytes = build::insert(relation_id, &values);
        let Ok(Message::Insert { relation_id: found, tuple }) = decode(&bytes) else { panic!("no row") };
        prop_assert_eq!(found, relation_id);
        prop_assert_eq!(tuple.len(), values.len());
        for (value, (kind, expected)) in tuple.values().zip(&values) {
            match value.expect("a value") {
                Value::Null => prop_assert_eq!(*kind, b'n'),
                Value::Unchanged => prop_assert_eq!(*kind, b'u'),
                Value::Text(bytes) => prop_assert_eq!((*kind, bytes), (b't', expected.as_slice())),
                Value::Binary(bytes) => prop_assert_eq!((*kind, bytes), (b'b', expected.as_slice())),
            }
        }
    }

    #[test]
    fn a_part_of_a_message_is_an_error(values in values(), cut in 0.0..1.0) {
        let bytes = build::insert(1, &values);
        let length = (bytes.len() as f64 * cut) as usize;
        prop_assert!(read_whole(&bytes[..length]).is_err());
    }

    #[test]
    fn a_message_with_more_than_it_should_have_is_an_error(values in values(), more in 1..9_usize) {
        let mut bytes = build::insert(1, &values);
        bytes.extend(vec![b'n'; more]);
        prop_assert!(read_whole(&bytes).is_err());
    }

    #[test]
    fn any_bytes_are_an_error_or_a_message(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        let _ = read_whole(&bytes);
    }

    #[test]
    fn any_bytes_after_a_tag_are_an_error_or_a_message(
        tag in proptest::sample::select(b"BCORYIUDTM".to_vec()),
        mut bytes in proptest::collection::vec(any::<u8>(), 0..200),
    ) {
        bytes.insert(0, tag);
        let _ = read_whole(&bytes);
    }
}
