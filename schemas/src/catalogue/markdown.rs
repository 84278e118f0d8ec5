//! The catalogue as Markdown, for a terminal and for pages.

use std::fmt::Write;

use super::{FieldEntry, FieldKind, Kept, RecordEntry, TopicEntry, ValueEntry};
use crate::registry::COMPATIBILITY;

/// All topics in one table, then each with its records and their fields. Records that several topics' values have are
/// shown with each.
pub fn markdown(entries: &[TopicEntry]) -> String {
    let mut text = format!(
        "Values are Avro in Confluent's wire format, keys are texts, subjects are `<topic>-value`, and compatibility is \
         {COMPATIBILITY}. Topics and subjects carry `names.prefix`, if there is one. A version is one of a record's shape, \
         counted here; a registry has numbers of its own.\n\n\
         | topic | value | version | key | kept | |\n|---|---|---|---|---|---|\n"
    );
    for entry in entries {
        let name = entry.topic.base_name();
        let (value, version) = match &entry.value {
            Some(value) => (link(&value.records[0].name), value.version.to_string()),
            None => ("not Avro".to_owned(), String::new()),
        };
        let (key, kept) = (entry.topic.key(), words(entry.kept));
        let internal = if entry.topic.is_internal() { "internal" } else { "" };
        let _ = writeln!(text, "| [`{name}`](#{}) | {value} | {version} | {key} | {kept} | {internal} |", anchor(name));
    }
    for entry in entries {
        write_topic(&mut text, entry);
    }
    text
}

fn write_topic(text: &mut String, entry: &TopicEntry) {
    let _ =
        write!(text, "\n## {}\n\nKey: {}. Kept: {}.", entry.topic.base_name(), entry.topic.key(), words(entry.kept));
    let internal = if entry.topic.is_internal() { " Internal: it may change without notice." } else { "" };
    match &entry.value {
        None => {
            let _ = writeln!(text, "{internal} Its values are bytes as they came, not Avro.");
        }
        Some(ValueEntry { subject, version, records }) => {
            let _ = writeln!(text, " Subject: `{subject}`, version {version}.{internal}");
            for record in records {
                write_record(text, record);
            }
        }
    }
}

fn write_record(text: &mut String, record: &RecordEntry) {
    let _ = write!(text, "\n### {}\n\n`{}`. {}\n", record.name, record.full_name, record.doc.replace('<', "\\<"));
    text.push_str("\n| field | type | null | since | |\n|---|---|---|---|---|\n");
    for field in &record.fields {
        let FieldEntry { path, since, .. } = field;
        let null = if field.is_nullable { "yes" } else { "" };
        let _ = writeln!(text, "| `{path}` | {} | {null} | {since} | {} |", type_of(field), cell(&field.doc));
    }
}

fn type_of(field: &FieldEntry) -> String {
    let kind = kind_of(&field.kind);
    match &field.logical {
        Some(logical) => format!("{kind}, {logical}"),
        None => kind,
    }
}

fn kind_of(kind: &FieldKind) -> String {
    match kind {
        FieldKind::Plain(name) => name.clone(),
        FieldKind::Record(name) => link(name),
        FieldKind::List(items) => format!("list of {}", kind_of(items)),
    }
}

fn words(kept: Kept) -> String {
    match kept {
        Kept::ForEver => "for ever".into(),
        Kept::Compacted => "compacted".into(),
        Kept::Days(days) => format!("{days} days"),
    }
}

fn link(heading: &str) -> String {
    format!("[{heading}](#{})", anchor(heading))
}

/// The id that a heading gets: lower case, without other signs.
fn anchor(heading: &str) -> String {
    heading.to_lowercase().chars().filter(|sign| sign.is_alphanumeric()).collect()
}

/// A text as a table's cell can hold it. What looks like a tag would be taken for HTML.
fn cell(text: &str) -> String {
    text.replace('|', "\\|").replace('\n', " ").replace('<', "\\<")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalogue::catalogue;

    #[test]
    fn the_catalogue_as_markdown() {
        insta::assert_snapshot!(markdown(&catalogue()));
    }

    #[test]
    fn links_lead_to_headings() {
        let text = markdown(&catalogue());
        let headings: Vec<String> = text
            .lines()
            .filter(|line| line.starts_with('#'))
            .map(|line| anchor(line.trim_start_matches('#')))
            .collect();
        let mut links = 0;
        for target in text.split("](#").skip(1).filter_map(|rest| rest.split(')').next()) {
            assert!(headings.iter().any(|heading| heading == target), "{target}");
            links += 1;
        }
        assert!(links > 15);
    }

    #[test]
    fn cells_hold_any_text() {
        assert_eq!(cell("a | b\n<c>"), "a \\| b \\<c>");
    }
}
