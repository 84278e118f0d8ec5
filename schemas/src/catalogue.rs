//! The catalogue of the topics: what each carries, under which key, for how long, and every field with its path, type and
//! first version. Made of the schemas, their golden versions and the topics' settings; pure.

mod markdown;

use crate::golden;
use crate::record;
use crate::shape::{FieldShape, Kind, RecordShape, Shape, short};
use crate::topics::Topic;

pub use markdown::markdown;

/// A topic and what is in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TopicEntry {
    /// The topic.
    pub topic: Topic,
    /// How long it keeps records.
    pub kept: Kept,
    /// What its values are; `None` where they aren't Avro.
    pub value: Option<ValueEntry>,
}

/// How long a topic keeps records.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kept {
    /// All of them, always.
    ForEver,
    /// The latest of each key.
    Compacted,
    /// All of them, for so many days.
    Days(u64),
}

/// What a topic's values are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ValueEntry {
    /// Subject in the registry, without prefix.
    pub subject: String,
    /// Number of the newest version.
    pub version: u32,
    /// The root record and those inside it, in the order in which they are defined.
    pub records: Vec<RecordEntry>,
}

/// A record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RecordEntry {
    /// Name without namespace.
    pub name: String,
    /// Name with namespace.
    pub full_name: String,
    /// What it is.
    pub doc: String,
    /// Its fields in order.
    pub fields: Vec<FieldEntry>,
}

/// A field.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FieldEntry {
    /// Names from the root to it, with dots between and `[]` after an array.
    pub path: String,
    /// Its Avro type, nulls aside.
    pub kind: FieldKind,
    /// Its logical type.
    pub logical: Option<String>,
    /// Whether it may be null.
    pub is_nullable: bool,
    /// What it says.
    pub doc: String,
    /// First version that has it.
    pub since: u32,
}

/// What a field's values are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FieldKind {
    /// An Avro type without fields.
    Plain(String),
    /// A record of the catalogue, by its name without namespace.
    Record(String),
    /// A list.
    List(Box<FieldKind>),
}

/// Every topic: first those that anybody may read, then internal ones.
pub fn catalogue() -> Vec<TopicEntry> {
    let mut topics = Topic::ALL.to_vec();
    topics.sort_by_key(|topic| topic.is_internal());
    topics.into_iter().map(entry_of).collect()
}

fn entry_of(topic: Topic) -> TopicEntry {
    let value =
        record::all().into_iter().find(|(_, _, its_topic)| *its_topic == topic).and_then(|(name, schema, _)| {
            let records = records(schema, golden::versions(name))?;
            let version = records.iter().flat_map(|record| &record.fields).map(|field| field.since).max();
            let version = version.unwrap_or_default().max(golden::versions(name).len() as u32);
            Some(ValueEntry { subject: format!("{}-value", topic.base_name()), version, records })
        });
    TopicEntry { topic, kept: kept(topic.config()), value }
}

/// The records of a schema; `since` is counted along its versions, oldest first. `None` if it is no record's schema.
pub fn records(schema: &str, versions: &[&str]) -> Option<Vec<RecordEntry>> {
    let shape = Shape::parse(schema).ok()?;
    let earlier: Vec<Shape> = versions.iter().filter_map(|version| Shape::parse(version).ok()).collect();
    Some(shape.records.iter().map(|record| record_entry(record, &earlier)).collect())
}

fn record_entry(record: &RecordShape, versions: &[Shape]) -> RecordEntry {
    let fields = record.fields.iter().map(|field| {
        let has_it = |shape: &Shape| shape.fields().any(|(_, other)| other.path == field.path);
        // A field that no golden version has is the next one's.
        let since = versions.iter().position(has_it).unwrap_or(versions.len()) as u32 + 1;
        field_entry(field, since)
    });
    RecordEntry {
        name: record.name().to_owned(),
        full_name: record.full_name.clone(),
        doc: record.doc.clone().unwrap_or_default(),
        fields: fields.collect(),
    }
}

fn field_entry(field: &FieldShape, since: u32) -> FieldEntry {
    let kind = field.kind.without_null();
    FieldEntry {
        path: field.path.clone(),
        kind: kind_of(kind),
        logical: logical_of(kind),
        is_nullable: field.kind.is_nullable(),
        doc: field.doc.clone().unwrap_or_default(),
        since,
    }
}

fn kind_of(kind: &Kind) -> FieldKind {
    match kind {
        Kind::Record(full_name) => FieldKind::Record(short(full_name).to_owned()),
        Kind::Array(items) => FieldKind::List(Box::new(kind_of(items))),
        Kind::Logical { base, .. } => FieldKind::Plain(base.clone()),
        other => FieldKind::Plain(other.to_string()),
    }
}

fn logical_of(kind: &Kind) -> Option<String> {
    match kind {
        Kind::Logical { logical, .. } => Some(logical.clone()),
        Kind::Array(items) => logical_of(items),
        _ => None,
    }
}

fn kept(settings: &[(&str, &str)]) -> Kept {
    const DAY_MS: u64 = 24 * 60 * 60 * 1_000;
    let value = |name| settings.iter().find(|(setting, _)| *setting == name).map(|(_, value)| *value);
    if value("cleanup.policy").is_some_and(|policy| policy.contains("compact")) {
        return Kept::Compacted;
    }
    match value("retention.ms").map(str::parse::<u64>) {
        Some(Ok(milliseconds)) => Kept::Days(milliseconds / DAY_MS),
        Some(Err(_)) => Kept::ForEver,
        // The broker's default.
        None => Kept::Days(7),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{ChatEvent, Record};

    fn find<'a>(records: &'a [RecordEntry], path: &str) -> &'a FieldEntry {
        records.iter().flat_map(|record| &record.fields).find(|field| field.path == path).expect(path)
    }

    #[test]
    fn every_topic_is_there_and_internal_ones_are_last() {
        let entries = catalogue();
        let names: Vec<&str> = entries.iter().map(|entry| entry.topic.base_name()).collect();
        let expected = [
            "chat.events",
            "chat.users",
            "chat.marks",
            "chat.cursors",
            "chat.notifications",
            "chat.activity",
            "chat.abuse",
            "chat.commands",
            "chat.commands.dlq",
            "chat.notifications.dlq",
            "cdc.positions",
            "operators.state",
            "chat.events.dlq",
        ];
        assert_eq!(names, expected);
        let kept: Vec<Kept> = entries.iter().map(|entry| entry.kept).collect();
        let days = Kept::Days;
        let (ever, latest) = (Kept::ForEver, Kept::Compacted);
        let expected =
            [ever, latest, days(7), latest, days(7), ever, ever, days(7), days(28), days(28), latest, latest, days(28)];
        assert_eq!(kept, expected);
        let without: Vec<&str> =
            entries.iter().filter(|entry| entry.value.is_none()).map(|entry| entry.topic.base_name()).collect();
        assert_eq!(without, ["chat.commands.dlq", "chat.notifications.dlq", "chat.events.dlq"]);
    }

    /// Nothing of a schema is left out, and nothing is without its words.
    #[test]
    fn every_field_is_there() {
        let entries = catalogue();
        for (name, schema, topic) in record::all() {
            let value = entries.iter().find(|entry| entry.topic == topic).and_then(|entry| entry.value.as_ref());
            let value = value.expect(name);
            assert_eq!(value.records[0].name, name);
            let fields: Vec<&FieldEntry> = value.records.iter().flat_map(|record| &record.fields).collect();
            assert_eq!(fields.len(), schema.matches("\"name\":").count() - value.records.len(), "{name}");
            assert!(fields.iter().all(|field| !field.doc.is_empty() && field.since <= value.version), "{name}");
        }
    }

    #[test]
    fn a_field_has_its_types_and_its_first_version() {
        let newer = ChatEvent::SCHEMA.replacen(
            r#"{"name": "edited_at""#,
            r#"{"name": "pinned_at", "type": ["null", "long"], "default": null, "doc": "New."}, {"name": "edited_at""#,
            1,
        );
        let records = records(&newer, &[ChatEvent::SCHEMA]).expect("a record");
        assert_eq!((find(&records, "message.pinned_at").since, find(&records, "message.edited_at").since), (2, 1));
        let edited_at = find(&records, "message.edited_at");
        assert_eq!(edited_at.kind, FieldKind::Plain("long".into()));
        assert_eq!(edited_at.logical.as_deref(), Some("timestamp-millis"));
        assert!(edited_at.is_nullable && !find(&records, "message.created_at").is_nullable);
        let attachments = find(&records, "message.attachments");
        assert_eq!(attachments.kind, FieldKind::List(Box::new(FieldKind::Record("Attachment".into()))));
        assert!(!attachments.is_nullable);
    }
}
