//! An Avro schema as rules and the catalogue look at it: records by full name, fields with their paths.
//!
//! Avro's own parsed schema drops what matters here: which default stood in the text, whether a logical type was one that
//! it doesn't know, the docs of references. So this is read from the JSON itself.

use std::fmt;

use serde_json::{Map, Value};

/// Avro's types without a definition of their own.
const PRIMITIVES: [&str; 8] = ["null", "boolean", "int", "long", "float", "double", "bytes", "string"];

/// A text that is no record's schema.
#[derive(Debug, thiserror::Error)]
pub enum ShapeError {
    /// Not JSON.
    #[error("not JSON")]
    Json(#[source] serde_json::Error),
    /// Something that the specification wants isn't there.
    #[error("{at}: {what}")]
    Incomplete {
        /// Path from the root; empty for the root itself.
        at: String,
        /// What is wrong.
        what: &'static str,
    },
}

/// Every record of one schema.
#[derive(Debug, Clone, PartialEq)]
pub struct Shape {
    /// Records in the order in which they are defined; the first is the root.
    pub records: Vec<RecordShape>,
}

/// One record.
#[derive(Debug, Clone, PartialEq)]
pub struct RecordShape {
    /// Name with namespace.
    pub full_name: String,
    /// Its documentation.
    pub doc: Option<String>,
    /// Whether it has other names.
    pub has_aliases: bool,
    /// Path of the field that defines it; empty for the root.
    pub path: String,
    /// Its fields in order.
    pub fields: Vec<FieldShape>,
}

/// One field.
#[derive(Debug, Clone, PartialEq)]
pub struct FieldShape {
    /// Its name.
    pub name: String,
    /// Names from the root to it with dots between; `[]` after an array.
    pub path: String,
    /// Its documentation.
    pub doc: Option<String>,
    /// What its values are.
    pub kind: Kind,
    /// Its default, if it has one.
    pub default: Option<Value>,
    /// Its other names.
    pub aliases: Vec<String>,
}

/// What values are.
#[derive(Debug, Clone, PartialEq)]
pub enum Kind {
    /// A type without a definition.
    Primitive(String),
    /// A type with a logical one over it.
    Logical {
        /// The type below.
        base: String,
        /// The logical type.
        logical: String,
    },
    /// A list.
    Array(Box<Kind>),
    /// A record, by its full name.
    Record(String),
    /// One of several.
    Union(Vec<Kind>),
    /// Everything else (enum, fixed, map), with its definition.
    Other {
        /// Avro's word for it.
        word: String,
        /// The definition.
        definition: Value,
    },
}

impl Shape {
    /// The shape of a schema that is a record.
    pub fn parse(schema: &str) -> Result<Self, ShapeError> {
        let schema: Value = serde_json::from_str(schema).map_err(ShapeError::Json)?;
        let mut records = Vec::new();
        match kind_of(&schema, "", "", &mut records)? {
            Kind::Record(_) if !records.is_empty() => Ok(Self { records }),
            _ => Err(ShapeError::Incomplete { at: String::new(), what: "not a record" }),
        }
    }

    /// The record that the schema is about.
    pub fn root(&self) -> &RecordShape {
        &self.records[0]
    }

    /// The record of a full name.
    pub fn record(&self, full_name: &str) -> Option<&RecordShape> {
        self.records.iter().find(|record| record.full_name == full_name)
    }

    /// Every field of every record.
    pub fn fields(&self) -> impl Iterator<Item = (&RecordShape, &FieldShape)> {
        self.records.iter().flat_map(|record| record.fields.iter().map(move |field| (record, field)))
    }
}

impl RecordShape {
    /// Name without namespace.
    pub fn name(&self) -> &str {
        short(&self.full_name)
    }

    /// The field of a name.
    pub fn field(&self, name: &str) -> Option<&FieldShape> {
        self.fields.iter().find(|field| field.name == name)
    }
}

impl Kind {
    /// Whether null is among the values.
    pub fn is_nullable(&self) -> bool {
        matches!(self, Self::Union(branches) if branches.iter().any(Self::is_null))
    }

    /// Whether null is the only value.
    pub fn is_null(&self) -> bool {
        matches!(self, Self::Primitive(name) if name == "null")
    }

    /// The one type that a value has where it isn't null; a union of more stays as it is.
    pub fn without_null(&self) -> &Self {
        match self {
            Self::Union(branches) => {
                let mut others = branches.iter().filter(|branch| !branch.is_null());
                match (others.next(), others.next()) {
                    (Some(only), None) => only,
                    _ => self,
                }
            }
            kind => kind,
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Primitive(name) => out.write_str(name),
            Self::Logical { base, logical } => write!(out, "{base} ({logical})"),
            Self::Array(items) => write!(out, "list of {items}"),
            Self::Record(full_name) => out.write_str(full_name),
            Self::Union(branches) => {
                for (place, branch) in branches.iter().enumerate() {
                    write!(out, "{}{branch}", if place == 0 { "" } else { " or " })?;
                }
                Ok(())
            }
            Self::Other { word, definition } => match definition["name"].as_str() {
                Some(name) => write!(out, "{word} {name}"),
                None => out.write_str(word),
            },
        }
    }
}

/// A name without its namespace.
pub(crate) fn short(full_name: &str) -> &str {
    full_name.rsplit('.').next().unwrap_or(full_name)
}

fn kind_of(schema: &Value, namespace: &str, path: &str, records: &mut Vec<RecordShape>) -> Result<Kind, ShapeError> {
    let incomplete = |what| ShapeError::Incomplete { at: path.to_owned(), what };
    match schema {
        Value::String(name) if PRIMITIVES.contains(&name.as_str()) => Ok(Kind::Primitive(name.clone())),
        Value::String(name) => {
            let full_name = full_name(name, namespace);
            let is_known = records.iter().any(|record| record.full_name == full_name);
            is_known.then_some(Kind::Record(full_name)).ok_or_else(|| incomplete("a type that isn't defined before it"))
        }
        Value::Array(branches) => branches
            .iter()
            .map(|branch| kind_of(branch, namespace, path, records))
            .collect::<Result<_, _>>()
            .map(Kind::Union),
        Value::Object(object) => match object.get("type") {
            Some(Value::String(word)) => match (word.as_str(), object.get("logicalType").and_then(Value::as_str)) {
                ("record", _) => record_of(object, namespace, path, records),
                ("array", _) => {
                    let items = object.get("items").ok_or_else(|| incomplete("an array without items"))?;
                    let items = kind_of(items, namespace, &format!("{path}[]"), records)?;
                    Ok(Kind::Array(Box::new(items)))
                }
                (base, Some(logical)) => Ok(Kind::Logical { base: base.to_owned(), logical: logical.to_owned() }),
                ("enum" | "fixed" | "map", None) => Ok(Kind::Other { word: word.clone(), definition: schema.clone() }),
                (_, None) => kind_of(&object["type"], namespace, path, records),
            },
            Some(inner) => kind_of(inner, namespace, path, records),
            None => Err(incomplete("no type")),
        },
        _ => Err(incomplete("no type")),
    }
}

fn record_of(
    object: &Map<String, Value>,
    namespace: &str,
    path: &str,
    records: &mut Vec<RecordShape>,
) -> Result<Kind, ShapeError> {
    let incomplete = |what| ShapeError::Incomplete { at: path.to_owned(), what };
    let name = object.get("name").and_then(Value::as_str).ok_or_else(|| incomplete("a record without a name"))?;
    let full_name = full_name(name, object.get("namespace").and_then(Value::as_str).unwrap_or(namespace));
    let namespace = full_name.rsplit_once('.').map_or("", |(namespace, _)| namespace).to_owned();
    let place = records.len();
    records.push(RecordShape {
        full_name: full_name.clone(),
        doc: text(object, "doc"),
        has_aliases: object.contains_key("aliases"),
        path: path.to_owned(),
        fields: Vec::new(),
    });
    let fields = object.get("fields").and_then(Value::as_array).ok_or_else(|| incomplete("a record without fields"))?;
    for field in fields {
        let field = field.as_object().ok_or_else(|| incomplete("a field that is no object"))?;
        let name = field.get("name").and_then(Value::as_str).ok_or_else(|| incomplete("a field without a name"))?;
        let path = if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") };
        let kind =
            field.get("type").ok_or(ShapeError::Incomplete { at: path.clone(), what: "a field without a type" })?;
        let kind = kind_of(kind, &namespace, &path, records)?;
        let aliases = field.get("aliases").and_then(Value::as_array).into_iter().flatten();
        records[place].fields.push(FieldShape {
            name: name.to_owned(),
            doc: text(field, "doc"),
            kind,
            default: field.get("default").cloned(),
            aliases: aliases.filter_map(Value::as_str).map(str::to_owned).collect(),
            path,
        });
    }
    Ok(Kind::Record(full_name))
}

fn full_name(name: &str, namespace: &str) -> String {
    if name.contains('.') || namespace.is_empty() { name.to_owned() } else { format!("{namespace}.{name}") }
}

fn text(object: &Map<String, Value>, key: &str) -> Option<String> {
    object.get(key).and_then(Value::as_str).map(str::to_owned)
}

#[cfg(test)]
mod tests;
