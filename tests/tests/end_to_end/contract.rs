//! `tests/contract.md` names a test for every endpoint, frame, close code and error code and for every other promise, and no test
//! that isn't there; `docs/api.md` lists the frames, fields and close codes that the AsyncAPI document describes, and no others.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;

use anyhow::{Context, Result, ensure};
use schemas::wire::Code;
use serde_json::Value;
use waltalkie_tests::harness::repository;

/// What is promised in words: each is in a row's first cell. Documents of the interfaces list the rest.
const IN_WORDS: [&str; 48] = [
    "never in the query",
    "chats by latest activity",
    "what clients do at each close code",
    "what Pub/Sub loses is healed",
    "a send without `message_id` gets a v7 one",
    "the same `message_id` has the first one's `seq`, however late",
    "sends of one connection to one chat keep their order",
    "still on its way is taken and decided in order",
    "every frame and close code is as `/asyncapi.json` says",
    "at most one mark a chat, user and second",
    "moves the cursor, an `ack` never does",
    "a key that is there twice",
    "`app_data` stays as it was written",
    "a removal and a send, a deletion and a delivery",
    "a late command undoes nothing",
    "nobody sees a body from outside their intervals",
    "every endpoint answers as `/openapi.json` says",
    "ids are the application's own",
    "201 once persisted, 202 once accepted",
    "a service acts under limits of its own",
    "`On-Behalf-Of` and the system sender",
    "spoofed and smuggled headers",
    "cursor pages, stable under writes",
    "problem details, each with a page",
    "`Idempotency-Key`",
    "unread counts, at most 999",
    "deleted messages as tombstones or hidden",
    "who may what is one table",
    "history for new members",
    "`Request-Id` on every answer",
    "no log line ever holds a body",
    "names hold nothing that rearranges",
    "answered like one that isn't there, by the same query",
    "who may start chats",
    "`RateLimit`, `Retry-After`",
    "new sends are refused early",
    "`ETag`",
    "answers are compressed",
    "CORS",
    "`/docs`",
    "`/openapi.json`",
    "`/asyncapi.json`",
    "`/healthz`",
    "`/readyz`",
    "web client at `/`",
    "`/ops` and `/metrics`",
    "`list_dev_users`",
    "`make_dev_token`",
];

/// Texts in backticks.
fn quoted(text: &str) -> impl Iterator<Item = &str> {
    text.split('`').skip(1).step_by(2)
}

/// Rows of the tables of a part of a page, as cells.
fn rows(part: &str) -> impl Iterator<Item = Vec<&str>> {
    let rows = part.lines().filter(|line| line.starts_with('|') && !line.starts_with("|---"));
    rows.map(|row| row.trim_matches('|').split('|').map(str::trim).collect())
}

/// The part of a page below a heading.
fn part<'a>(page: &'a str, heading: &str) -> Result<&'a str> {
    let (_, part) = page.split_once(heading).with_context(|| format!("no {heading}"))?;
    Ok(part.split("\n#").next().unwrap_or_default())
}

/// Frames and close codes that a table of `docs/api.md` lists, each with its row.
fn listed(part: &str) -> BTreeMap<String, String> {
    let mut listed = BTreeMap::new();
    for row in rows(part).skip(1) {
        let first = row.first().copied().unwrap_or_default();
        let codes = first.split(", ").filter(|code| code.parse::<u16>().is_ok());
        listed.extend(quoted(first).chain(codes).map(|name| (name.to_owned(), row.join(" | "))));
    }
    listed
}

fn asyncapi() -> Result<Value> {
    Ok(serde_json::from_str(schemas::asyncapi::asyncapi_json())?)
}

/// Frames of one side by their events, each with its payload's schema.
fn described<'a>(document: &'a Value, side: &str) -> Result<BTreeMap<&'a str, &'a Value>> {
    let messages = document["components"]["messages"].as_object().context("no messages")?;
    let of_side = messages.iter().filter(|(key, _)| key.starts_with(side));
    let frames = of_side.map(|(_, message)| {
        let payload = &message["payload"]["properties"]["payload"];
        let schema = payload["$ref"].as_str().and_then(|reference| document.pointer(reference.strip_prefix('#')?));
        Some((message["name"].as_str()?, schema.unwrap_or(payload)))
    });
    frames.collect::<Option<_>>().context("a message without name")
}

fn close_codes(document: &Value) -> BTreeSet<String> {
    let codes = document["channels"]["socket"]["x-close-codes"].as_array().into_iter().flatten();
    codes.map(|code| code["code"].to_string()).collect()
}

/// What the documents of the interfaces list: frames and close codes of the WebSocket, operations of HTTP, error codes of both.
fn promised() -> Result<BTreeSet<String>> {
    let document = asyncapi()?;
    let mut promised = close_codes(&document);
    promised.extend(Code::ALL.map(Code::name));
    for side in ["client_", "server_"] {
        promised.extend(described(&document, side)?.into_keys().map(str::to_owned));
    }
    let document: Value = serde_json::from_str(ingest::gateway::openapi_json())?;
    let items = document["paths"].as_object().context("no paths")?.values();
    for operation in items.filter_map(|item| item.as_object()).flat_map(|item| item.values()) {
        promised.extend(operation["operationId"].as_str().map(str::to_owned));
    }
    Ok(promised)
}

#[test]
fn the_guide_lists_what_is_described() -> Result<()> {
    let page = fs::read_to_string(repository().join("docs/api.md"))?;
    let document = asyncapi()?;
    let message = part(&page, "### A message")?;
    for (heading, side) in [("### Client to server", "client_"), ("### Server to client", "server_")] {
        let section = part(&page, heading)?;
        let (listed, described) = (listed(section), described(&document, side)?);
        let events: Vec<&str> = listed.keys().map(String::as_str).collect();
        ensure!(events == described.keys().copied().collect::<Vec<_>>(), "{heading}: {events:?}");
        let notes: String = section.lines().filter(|line| !line.starts_with('|')).collect();
        for (event, schema) in described {
            let row = &listed[event];
            for field in schema["properties"].as_object().into_iter().flat_map(|fields| fields.keys()) {
                let is_told = row.contains(field.as_str())
                    || notes.contains(&format!("`{field}`"))
                    || (row.contains("#a-message") && message.contains(&format!("{field}\"")))
                    || (row.contains("#a-message") && message.contains(&format!("`{field}`")));
                ensure!(is_told, "docs/api.md doesn't tell of {field} in {event}");
            }
        }
    }
    let codes: BTreeSet<String> = listed(part(&page, "### Close codes")?).into_keys().collect();
    ensure!(codes.into_iter().filter(|code| code.parse::<u16>().is_ok()).eq(close_codes(&document)), "close codes");
    Ok(())
}

#[test]
fn every_promise_has_a_test() -> Result<()> {
    let table = fs::read_to_string(repository().join("tests/contract.md"))?;
    let mut proven = BTreeSet::new();
    let mut promises = Vec::new();
    for row in rows(&table).filter(|row| row.len() == 2 && row[0] != "what") {
        let tests: Vec<&str> = quoted(row[1]).collect();
        ensure!(!tests.is_empty(), "no test: {}", row[0]);
        tests.into_iter().try_for_each(is_there)?;
        promises.push(row[0].to_owned());
        proven.extend(quoted(row[0]).map(str::to_owned));
    }
    let unkept: Vec<_> = IN_WORDS.iter().filter(|words| !promises.iter().any(|row| row.contains(**words))).collect();
    ensure!(unkept.is_empty(), "tests/contract.md lacks {unkept:?}");
    let missing: Vec<_> = promised()?.into_iter().filter(|promise| !proven.contains(promise)).collect();
    ensure!(missing.is_empty(), "tests/contract.md lacks {missing:?}");
    Ok(())
}

/// Whether a test that a row names is one: a function of a file of tests, or such a file of another language.
fn is_there(test: &str) -> Result<()> {
    let Some((file, name)) = test.split_once("::") else {
        ensure!(repository().join(test).is_file(), "{test} isn't there");
        return Ok(());
    };
    let path = match file.split_once('/') {
        _ if repository().join(file).is_file() => file.to_owned(),
        Some((binary @ ("end_to_end" | "own_servers"), file)) => format!("tests/tests/{binary}/{file}.rs"),
        Some((part, file)) => format!("{part}/tests/servers/{file}.rs"),
        None => file.to_owned(),
    };
    let text = fs::read_to_string(repository().join(&path)).with_context(|| path.clone())?;
    let (before, _) = text.split_once(&format!("fn {name}(")).with_context(|| format!("{test} isn't there"))?;
    let is_test = before.lines().rev().take(3).any(|line| line.contains("#[") && line.contains("test"));
    ensure!(is_test, "{test} is no test");
    Ok(())
}
