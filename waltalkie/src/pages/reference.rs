//! The references of `/docs`, as Markdown: of HTTP out of the OpenAPI document, of the WebSocket out of the AsyncAPI
//! document, of the topics out of the Avro schemas.

mod websocket;

use std::fmt::Write;

pub(super) use websocket::websocket;

use serde_json::{Map, Value};

/// Every endpoint by tag, then every shape.
pub(super) fn http() -> String {
    let document: Value = serde_json::from_str(ingest::gateway::openapi_json()).unwrap_or_default();
    let mut text = String::from(
        "# HTTP reference\n\nMade of [`/openapi.json`](/openapi.json). What holds for all requests is in \
         [api](/docs/api#http).\n",
    );
    for tag in array(&document["tags"]) {
        let _ = write!(text, "\n## {}\n\n{}.\n", str_of(&tag["name"]), str_of(&tag["description"]));
        for (path, item) in object(&document["paths"]) {
            for (method, operation) in object(item) {
                if array(&operation["tags"]).contains(&tag["name"]) {
                    write_operation(&mut text, &method.to_uppercase(), path, operation);
                }
            }
        }
    }
    write_shapes(&mut text, &document);
    text
}

/// Every schema of a document.
fn write_shapes(text: &mut String, document: &Value) {
    text.push_str("\n## Shapes\n");
    for (name, schema) in object(&document["components"]["schemas"]) {
        let _ = write!(text, "\n### {name}\n\n{}\n", str_of(&schema["description"]));
        write_fields(text, schema);
    }
}

fn write_fields(text: &mut String, schema: &Value) {
    let fields = object(&schema["properties"]);
    if fields.is_empty() {
        let _ = write!(text, "\n{}\n", type_of(schema));
        return;
    }
    text.push_str("\n| field | type | |\n|---|---|---|\n");
    for (field, facts) in fields {
        let is_required = array(&schema["required"]).iter().any(|required| required == field);
        let mark = if is_required { "" } else { "?" };
        let _ = writeln!(text, "| `{field}`{mark} | {} | {} |", type_of(facts), cell(&str_of(&facts["description"])));
    }
}

fn write_operation(text: &mut String, method: &str, path: &str, operation: &Value) {
    let _ = write!(text, "\n### `{method} {path}`\n\n{}\n", str_of(&operation["summary"]));
    let parameters = array(&operation["parameters"]);
    if !parameters.is_empty() {
        text.push_str("\n| parameter | in | type | |\n|---|---|---|---|\n");
    }
    for parameter in parameters {
        let mark = if parameter["required"] == true { "" } else { "?" };
        let (name, place) = (str_of(&parameter["name"]), str_of(&parameter["in"]));
        let (kind, meaning) = (type_of(&parameter["schema"]), cell(&str_of(&parameter["description"])));
        let _ = writeln!(text, "| `{name}`{mark} | {place} | {kind} | {meaning} |");
    }
    let body = &operation["requestBody"]["content"]["application/json"]["schema"];
    if !body.is_null() {
        let _ = write!(text, "\nBody: {}\n", type_of(body));
    }
    text.push_str("\n| status | answer | |\n|---|---|---|\n");
    let mut refusals = Vec::new();
    for (status, response) in object(&operation["responses"]) {
        if !response["$ref"].is_null() {
            refusals.push(status.as_str());
            continue;
        }
        let schema = &response["content"]["application/json"]["schema"];
        let kind = if schema.is_null() { String::new() } else { type_of(schema) };
        let _ = writeln!(text, "| {status} | {kind} | {} |", cell(&str_of(&response["description"])));
    }
    let _ = writeln!(text, "| {} | [ProblemDetails](#problemdetails) | [Refused](/docs/errors) |", refusals.join(", "));
}

/// What a schema allows, in a few words.
fn type_of(schema: &Value) -> String {
    if let Some(name) = schema["$ref"].as_str().and_then(|name| name.rsplit('/').next()) {
        return format!("[{name}](#{})", name.to_lowercase());
    }
    for list in ["oneOf", "anyOf", "allOf"] {
        let parts: Vec<String> = array(&schema[list]).iter().map(type_of).collect();
        if !parts.is_empty() {
            return parts.join(" or ");
        }
    }
    for list in ["enum", "x-known-values"] {
        let values: Vec<String> = array(&schema[list]).iter().map(|value| format!("`{value}`")).collect();
        if !values.is_empty() {
            return values.join(", ");
        }
    }
    let mut names = match &schema["type"] {
        Value::Array(names) => names.iter().map(str_of).collect(),
        name => vec![str_of(name)],
    };
    for name in &mut names {
        match name.as_str() {
            "array" => *name = format!("list of {}", type_of(&schema["items"])),
            "string" if !schema["format"].is_null() => *name = str_of(&schema["format"]),
            "object" if schema["additionalProperties"].is_object() => {
                *name = format!("object of {}", type_of(&schema["additionalProperties"]));
            }
            _ => {}
        }
    }
    let mut text = names.join(" or ");
    for (key, words) in [
        ("minLength", "from"),
        ("maxLength", "to"),
        ("minimum", "from"),
        ("maximum", "to"),
        ("minItems", "from"),
        ("maxItems", "to"),
    ] {
        if !schema[key].is_null() {
            let unit = if key.ends_with("Length") { " characters" } else { "" };
            let _ = write!(text, ", {words} {}{unit}", schema[key]);
        }
    }
    if let Some(pattern) = schema["pattern"].as_str() {
        let _ = write!(text, ", `{}`", cell(pattern));
    }
    text
}

/// Every topic and every field of its values.
pub(super) fn events() -> String {
    format!("# Event reference\n\nHow to read them rightly is in [consumers](/docs/consumers).\n\n{}", catalogue())
}

/// The catalogue without a title, and without links to other pages.
pub(super) fn catalogue() -> String {
    schemas::catalogue::markdown(&schemas::catalogue::catalogue())
}

/// A text as a table's cell can hold it.
fn cell(text: &str) -> String {
    text.replace('|', "\\|").replace('\n', " ")
}

fn str_of(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

fn array(value: &Value) -> &[Value] {
    value.as_array().map(Vec::as_slice).unwrap_or_default()
}

fn object(value: &Value) -> &Map<String, Value> {
    static EMPTY: std::sync::LazyLock<Map<String, Value>> = std::sync::LazyLock::new(Map::new);
    value.as_object().unwrap_or(&EMPTY)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_of_the_documents_is_missing() {
        let document: Value = serde_json::from_str(ingest::gateway::openapi_json()).unwrap();
        let http = http();
        for (path, item) in object(&document["paths"]) {
            for method in object(item).keys() {
                assert!(http.contains(&format!("### `{} {path}`", method.to_uppercase())), "{method} {path}");
            }
        }
        for name in object(&document["components"]["schemas"]).keys() {
            assert!(http.contains(&format!("\n### {name}\n")), "{name}");
        }
        let events = events();
        for (name, schema, _) in schemas::record::all() {
            assert!(events.contains(&format!("### {name}\n")), "{name}");
            for field in schema.split("\"name\": \"").skip(1).filter_map(|rest| rest.split('"').next()) {
                assert!(events.contains(field), "{name}: {field}");
            }
        }
    }
}
