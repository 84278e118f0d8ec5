//! The reference of the WebSocket, out of the AsyncAPI document: frames in both directions, close codes, shapes.

use std::fmt::Write;

use serde_json::Value;

use super::{array, object, str_of, write_shapes};

/// Every frame, then every close code, then every shape.
pub(in crate::pages) fn websocket() -> String {
    let document: Value = serde_json::from_str(schemas::asyncapi::asyncapi_json()).unwrap_or_default();
    let channel = &document["channels"]["socket"];
    let mut text = format!(
        "# WebSocket reference\n\nMade of [`/asyncapi.json`](/asyncapi.json). The handshake, and what a client must do, are \
         in [api](/docs/api#websocket).\n\n`GET {}`: {}\n",
        str_of(&channel["address"]),
        str_of(&channel["description"])
    );
    for (heading, action) in [("Client to server", "receive"), ("Server to client", "send")] {
        let _ = write!(text, "\n## {heading}\n\n| event | payload | answer | |\n|---|---|---|---|\n");
        for operation in object(&document["operations"]).values() {
            if operation["action"] == action && operation["channel"]["$ref"] == "#/channels/socket" {
                write_frame(&mut text, &document, operation);
            }
        }
    }
    text.push_str("\n## Close codes\n\n| code | when | what the client does |\n|---|---|---|\n");
    for code in array(&channel["x-close-codes"]) {
        let _ = writeln!(text, "| {} | {} | {} |", code["code"], str_of(&code["when"]), str_of(&code["then"]));
    }
    write_shapes(&mut text, &document);
    text
}

fn write_frame(text: &mut String, document: &Value, operation: &Value) {
    let message = &document["components"]["messages"][last_of(&operation["messages"][0])];
    let payload = &message["payload"]["properties"]["payload"];
    let payload = match last_of(payload) {
        "" => String::new(),
        name => format!("[{name}](#{})", name.to_lowercase()),
    };
    let event_of =
        |answer: &Value| format!("`{}`", str_of(&document["components"]["messages"][last_of(answer)]["name"]));
    let answers: Vec<String> = array(&operation["reply"]["messages"]).iter().map(event_of).collect();
    let event = str_of(&message["name"]);
    let _ = writeln!(text, "| `{event}` | {payload} | {} | {} |", answers.join(", "), str_of(&message["summary"]));
}

/// The last part of a reference.
fn last_of(value: &Value) -> &str {
    value["$ref"].as_str().and_then(|reference| reference.rsplit('/').next()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_of_the_asyncapi_document_is_missing() {
        let document: Value = serde_json::from_str(schemas::asyncapi::asyncapi_json()).unwrap();
        let page = websocket();
        for message in object(&document["channels"]["socket"]["messages"]).values() {
            let name = str_of(&document["components"]["messages"][last_of(message)]["name"]);
            assert!(page.contains(&format!("| `{name}` |")), "{name}");
        }
        assert_eq!(page.matches("| `typing` |").count(), 2, "both ways");
        for code in array(&document["channels"]["socket"]["x-close-codes"]) {
            assert!(page.contains(&format!("| {} |", code["code"])), "{code}");
        }
        for name in object(&document["components"]["schemas"]).keys() {
            assert!(page.contains(&format!("\n### {name}\n")), "{name}");
        }
    }
}
