//! What a schema of the contract may be and how it may change: judged here, without a registry.
//!
//! Two sets of rules. `house` looks at one schema: only types that every reader of the history has, everything nullable
//! or empty by default, no column name that wants quotes, everything documented. `change` looks at an older and a newer
//! one: nothing is removed, renamed, retyped or put elsewhere, and what is new has a default. Together they are stricter
//! than FULL_TRANSITIVE, which lets go of logical types, renames with aliases, widened numbers, and fields that had a
//! default; the tests hold them against Avro's own resolution.
//!
//! Pure: texts in, findings out.

mod change;
mod house;

use std::fmt;

use apache_avro::Schema;
use serde::Serialize;

use crate::golden;
use crate::record;
use crate::shape::{Shape, ShapeError};

/// What a schema may fail.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Rule {
    /// The text is an Avro schema of a record.
    Avro,
    /// Every record and every field says what it is.
    Doc,
    /// Records, arrays, strings, booleans, ints, longs and `timestamp-millis`, nothing else.
    Type,
    /// A union is a field's type, of null and one type, null first.
    Union,
    /// A nullable field's default is null.
    NullDefault,
    /// An array's default is empty.
    ArrayDefault,
    /// Names are lower case, with underscores.
    NameStyle,
    /// No name wants quotes in Flink SQL or ksqlDB.
    QuotedName,
    /// There are no aliases.
    Alias,
    /// A record keeps its name and its namespace.
    RecordRenamed,
    /// A field stays.
    FieldRemoved,
    /// A field keeps its name.
    FieldRenamed,
    /// Fields keep their order.
    FieldReordered,
    /// A field keeps its type.
    TypeChanged,
    /// A field keeps its logical type.
    LogicalTypeChanged,
    /// What could be null can be, and what couldn't can't.
    NullabilityChanged,
    /// A default stays as it is.
    DefaultChanged,
    /// A new field is nullable with default null, or an array with an empty default.
    NewField,
}

impl Rule {
    /// Every rule.
    pub const ALL: [Self; 18] = [
        Self::Avro,
        Self::Doc,
        Self::Type,
        Self::Union,
        Self::NullDefault,
        Self::ArrayDefault,
        Self::NameStyle,
        Self::QuotedName,
        Self::Alias,
        Self::RecordRenamed,
        Self::FieldRemoved,
        Self::FieldRenamed,
        Self::FieldReordered,
        Self::TypeChanged,
        Self::LogicalTypeChanged,
        Self::NullabilityChanged,
        Self::DefaultChanged,
        Self::NewField,
    ];

    /// Name as it is shown.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Avro => "avro",
            Self::Doc => "doc",
            Self::Type => "type",
            Self::Union => "union",
            Self::NullDefault => "null-default",
            Self::ArrayDefault => "array-default",
            Self::NameStyle => "name-style",
            Self::QuotedName => "quoted-name",
            Self::Alias => "alias",
            Self::RecordRenamed => "record-renamed",
            Self::FieldRemoved => "field-removed",
            Self::FieldRenamed => "field-renamed",
            Self::FieldReordered => "field-reordered",
            Self::TypeChanged => "type-changed",
            Self::LogicalTypeChanged => "logical-type-changed",
            Self::NullabilityChanged => "nullability-changed",
            Self::DefaultChanged => "default-changed",
            Self::NewField => "new-field",
        }
    }

    /// How to mend it.
    pub const fn remedy(self) -> &'static str {
        match self {
            Self::Avro => "write a schema that Avro parses",
            Self::Doc => "add a \"doc\" that says what it holds and when it is null or empty",
            Self::Type => {
                "use a string, long, int, boolean, timestamp-millis, an array or a record; a set of values is a string"
            }
            Self::Union => "make the field [\"null\", type], and keep nulls out of arrays",
            Self::NullDefault => "add \"default\": null",
            Self::ArrayDefault => "add \"default\": []",
            Self::NameStyle => "use lower case letters, digits and underscores, with a letter first",
            Self::QuotedName => "choose a longer name, like chat_name for name",
            Self::Alias => "remove the aliases: half of the readers ignore them",
            Self::RecordRenamed => "give the record its old name and namespace again",
            Self::FieldRemoved => "put the field back and write its default into it",
            Self::FieldRenamed => {
                "put the old name back; add a nullable field of the new name beside it, and write both"
            }
            Self::FieldReordered => "put the fields back in their order and new ones after them",
            Self::TypeChanged => "put the old type back; add a nullable field of the new type beside it",
            Self::LogicalTypeChanged => {
                "put the old logical type back; add a nullable field of the other kind beside it"
            }
            Self::NullabilityChanged => {
                "put the old type back: a null that old readers don't expect breaks them, and one that was written stays"
            }
            Self::DefaultChanged => "put the old default back: it is what readers see in records that lack the field",
            Self::NewField => "make it [\"null\", type] with \"default\": null, or an array with \"default\": []",
        }
    }
}

impl fmt::Display for Rule {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(self.name())
    }
}

/// One thing that is wrong with a schema.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// Name of the record, without its namespace, that the field is in.
    pub record: String,
    /// Path from the root's fields; empty for the root itself.
    pub path: String,
    /// What it fails.
    pub rule: Rule,
    /// What is wrong, as it is and as it was.
    pub problem: String,
    /// How to mend it.
    pub remedy: &'static str,
    /// Golden version that it doesn't fit; `None` where the schema is wrong by itself.
    pub version: Option<u32>,
}

impl Finding {
    fn new(record: &str, path: &str, rule: Rule, problem: impl Into<String>) -> Self {
        let problem = problem.into();
        Self { record: record.to_owned(), path: path.to_owned(), rule, problem, remedy: rule.remedy(), version: None }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}", self.record)?;
        if !self.path.is_empty() {
            write!(out, ", {}", self.path)?;
        }
        write!(out, ": {} ({}", self.problem, self.rule)?;
        if let Some(version) = self.version {
            write!(out, ", version {version}")?;
        }
        write!(out, "). Mend: {}.", self.remedy)
    }
}

/// What is wrong with a record's schema, by itself and after its earlier versions, oldest first.
///
/// What is wrong against several versions is said once, with the oldest.
pub fn check(record: &str, schema: &str, versions: &[&str]) -> Vec<Finding> {
    let newer = match read(schema) {
        Ok(shape) => shape,
        Err(problem) => return vec![Finding::new(record, "", Rule::Avro, problem)],
    };
    let refused = Schema::parse_str(schema).err();
    let mut findings: Vec<Finding> =
        refused.iter().map(|error| Finding::new(record, "", Rule::Avro, error.to_string())).collect();
    findings.extend(house::check(&newer));
    for (version, text) in (1..).zip(versions) {
        let against = match read(text) {
            Ok(older) => change::check(&older, &newer),
            Err(problem) => vec![Finding::new(record, "", Rule::Avro, problem)],
        };
        for mut finding in against {
            let is_said = |said: &Finding| (said.rule, &said.path) == (finding.rule, &finding.path);
            if !findings.iter().any(is_said) {
                finding.version = Some(version);
                findings.push(finding);
            }
        }
    }
    findings
}

/// What is wrong with this version's schemas, by record: each against every golden version of it.
pub fn check_all() -> Vec<(&'static str, Vec<Finding>)> {
    record::all().into_iter().map(|(name, schema, _)| (name, check(name, schema, golden::versions(name)))).collect()
}

fn read(schema: &str) -> Result<Shape, String> {
    Shape::parse(schema).map_err(|error| match &error {
        ShapeError::Json(source) => format!("{error}: {source}"),
        ShapeError::Incomplete { .. } => error.to_string(),
    })
}

#[cfg(test)]
mod agreement_tests;
#[cfg(test)]
mod tests;
