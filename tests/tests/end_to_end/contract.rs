//! `tests/contract.md` names a test for every endpoint, frame and close code, and no test that isn't there.

use std::collections::BTreeSet;
use std::fs;

use anyhow::{Context, Result, ensure};
use waltalkie_tests::harness::repository;

/// Texts in backticks.
fn quoted(text: &str) -> impl Iterator<Item = &str> {
    text.split('`').skip(1).step_by(2)
}

/// Rows of the tables of a part of a page, as cells.
fn rows(part: &str) -> impl Iterator<Item = Vec<&str>> {
    let rows = part.lines().filter(|line| line.starts_with('|') && !line.starts_with("|---"));
    rows.map(|row| row.trim_matches('|').split('|').map(str::trim).collect())
}

/// What the documents of the interfaces list: frames and close codes of the WebSocket, operations of HTTP.
fn promised() -> Result<BTreeSet<String>> {
    let page = fs::read_to_string(repository().join("docs/api.md"))?;
    let mut promised = BTreeSet::new();
    for heading in ["### Client to server", "### Server to client", "### Close codes"] {
        let (_, part) = page.split_once(heading).with_context(|| format!("no {heading}"))?;
        let before = promised.len();
        for row in rows(part.split("\n#").next().unwrap_or_default()).skip(1) {
            let first = row.first().copied().unwrap_or_default();
            promised.extend(quoted(first).map(str::to_owned));
            promised.extend(first.split(", ").filter(|code| code.parse::<u16>().is_ok()).map(str::to_owned));
        }
        ensure!(promised.len() > before + 5, "no table under {heading}");
    }
    let document: serde_json::Value = serde_json::from_str(ingest::gateway::openapi_json())?;
    let items = document["paths"].as_object().context("no paths")?.values();
    for operation in items.filter_map(|item| item.as_object()).flat_map(|item| item.values()) {
        promised.extend(operation["operationId"].as_str().map(str::to_owned));
    }
    Ok(promised)
}

#[test]
fn every_promise_has_a_test() -> Result<()> {
    let table = fs::read_to_string(repository().join("tests/contract.md"))?;
    let mut proven = BTreeSet::new();
    for row in rows(&table).filter(|row| row.len() == 2 && row[0] != "what") {
        let tests: Vec<&str> = quoted(row[1]).collect();
        ensure!(!tests.is_empty(), "no test: {}", row[0]);
        for test in tests {
            let (file, name) = test.split_once("::").with_context(|| test.to_owned())?;
            let path = match file.split_once('/') {
                Some(("end_to_end", file)) => format!("tests/tests/end_to_end/{file}.rs"),
                Some((part, file)) => format!("{part}/tests/servers/{file}.rs"),
                None => file.to_owned(),
            };
            let text = fs::read_to_string(repository().join(&path)).with_context(|| path.clone())?;
            let (before, _) = text.split_once(&format!("fn {name}(")).with_context(|| format!("{test} isn't there"))?;
            let is_test = before.lines().rev().take(2).any(|line| line.contains("test"));
            ensure!(is_test, "{test} is no test");
        }
        proven.extend(quoted(row[0]).map(str::to_owned));
    }
    let missing: Vec<_> = promised()?.into_iter().filter(|promise| !proven.contains(promise)).collect();
    ensure!(missing.is_empty(), "tests/contract.md lacks {missing:?}");
    Ok(())
}
