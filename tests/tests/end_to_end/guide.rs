//! Guides lead where they say: their blocks are run as they stand.

use std::path::PathBuf;
use std::process::Command;
use std::{env, fs};

use anyhow::{Context, Result, bail, ensure};
use conformance::{check_client_frame, check_server_frame};
use serde_json::{Value, json};
use waltalkie_tests::harness::{Installation, Person, RoleProcess, python, repository};

/// Blocks of a page, or of one of its sections, by language and in order.
fn blocks(page: &str, section: Option<&str>) -> Result<Vec<(String, String)>> {
    let text = fs::read_to_string(repository().join("docs").join(page))?;
    let part = match section {
        Some(section) => {
            let (_, part) = text.split_once(section).context("no such section")?;
            part.split("\n## ").next().unwrap_or_default()
        }
        None => &text,
    };
    let blocks = part.split("```").skip(1).step_by(2).filter_map(|block| block.split_once('\n'));
    Ok(blocks.map(|(language, text)| (language.to_owned(), text.to_owned())).collect())
}

/// Runs the shell's blocks as one script, beside the one of Python under its name; gives what was said.
async fn follow(
    installation: &Installation,
    process: &RoleProcess,
    blocks: &[(String, String)],
    python_file: &str,
) -> Result<String> {
    let folder = tempfile::tempdir()?;
    let mut script = String::from("set -e\n");
    for (language, text) in blocks {
        match language.as_str() {
            "sh" => {
                let gateway = process.gateway()?;
                let text = text.replace("http://127.0.0.1:8080", gateway);
                script.push_str(&text.replace("ws://127.0.0.1:8080", &gateway.replacen("http", "ws", 1)));
            }
            "python" => fs::write(folder.path().join(python_file), text)?,
            // Run below, or by tests of their own.
            "json" | "sql" | "flinksql" | "console" => {}
            other => bail!("a block of {other} isn't run"),
        }
    }
    // Those of this installation are in the environment already.
    let script = script.replace("eval \"$(waltalkie up --print-env)\"\n", "");
    fs::write(folder.path().join("guide.sh"), script)?;

    let template = installation.command()?;
    let mut command = Command::new("bash");
    command.arg("guide.sh").current_dir(folder.path());
    command.envs(template.get_envs().filter_map(|(name, value)| Some((name, value?))));
    // `waltalkie` and `python3` as their reader has them.
    let mut path = vec![PathBuf::from(template.get_program()), python()?];
    for program in &mut path {
        program.pop();
    }
    path.extend(env::split_paths(&env::var_os("PATH").unwrap_or_default()));
    command.env("PATH", env::join_paths(path)?);
    let output = tokio::task::spawn_blocking(move || command.output()).await??;
    let (said, complained) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    println!("{said}");
    ensure!(output.status.success(), "{}\n{said}\n{complained}", output.status);
    Ok(said.into_owned())
}

#[tokio::test(flavor = "multi_thread")]
async fn the_guide_ends_in_a_conversation() -> Result<()> {
    let installation = Installation::make("guide").await?;
    let process = installation.run(&["all"]).await?;
    let blocks = blocks("api.md", None)?;
    let said = follow(&installation, &process, &blocks, "listen.py").await?;
    for heard in [
        "alice: Noon?",
        "\"content\":\"Half past twelve works\"",
        "\"unread_count\":0",
        "\"edited_at\":\"2",
        "\"state\":\"accepted\"",
        "\"state\":\"persisted\",\"seq\":5",
    ] {
        ensure!(said.contains(heard), "no {heard} in\n{said}");
    }
    // The examples: frames as the document has them, a message, and a chat as the server shows one.
    let token = ingest::auth::development_token(&installation.config()?, "bob", None, 60)?.0;
    let chat = Person::with_token(process.gateway()?, "bob", &token).get("/v1/chats/lunch").await?.expect(200)?;
    let mut kinds = [0; 3];
    for (_, text) in blocks.iter().filter(|(language, _)| language == "json") {
        let example: Value = serde_json::from_str(text).with_context(|| text.clone())?;
        if example["event"].is_string() {
            let check = if example["event"] == "ack" { check_server_frame } else { check_client_frame };
            check(&example).map_err(anyhow::Error::msg).with_context(|| text.clone())?;
            kinds[0] += 1;
        } else if example["message_seq"].is_i64() {
            let frame = json!({ "event": "message", "payload": example });
            check_server_frame(&frame).map_err(anyhow::Error::msg)?;
            kinds[1] += 1;
        } else {
            let kinds_of = |chat: &Value| -> Result<Vec<(String, u8)>> {
                let kind = |value: &Value| match value {
                    Value::Null | Value::String(_) | Value::Object(_) => 0,
                    Value::Bool(_) => 1,
                    Value::Number(_) => 2,
                    Value::Array(_) => 3,
                };
                let fields = chat.as_object().context("no object")?.iter();
                Ok(fields.map(|(field, value)| (field.clone(), kind(value))).collect())
            };
            ensure!(kinds_of(&example)? == kinds_of(&chat)?, "{example} isn't like {chat}");
            kinds[2] += 1;
        }
    }
    ensure!(kinds == [3, 1, 1], "{kinds:?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn the_guide_to_the_history_ends_in_reports() -> Result<()> {
    let installation = Installation::make("history-guide").await?;
    let process = installation.run(&["all"]).await?;
    let blocks = blocks("history.md", None)?;
    let said = follow(&installation, &process, &blocks, "count.py").await?;
    for heard in [
        "\"event_type\":\"chat.created\"",
        "alice said 1\nbob said 1\n",
        "It is in schema chat_head_as_of_",
        "membership: membership is equal",
        "each once, dense in its chat",
        "chat_activity: rebuilt and swapped in",
        "Too late for that rebuild",
    ] {
        ensure!(said.contains(heard), "no {heard} in\n{said}");
    }
    // As of then: without what came later.
    let schema = said.split("It is in schema ").nth(1).and_then(|rest| rest.split(' ').next()).context("no schema")?;
    let read = installation.read().await?;
    let head = read.query_one(&format!("SELECT head_seq FROM {schema}.chat_head WHERE chat_id = 'lunch'"), &[]).await?;
    ensure!(head.get::<_, i64>(0) == 3, "{head:?}");

    let job = fs::read_to_string(repository().join("tests/interop/flink-sql/job.sql"))?;
    for (_, text) in blocks.iter().filter(|(language, _)| language == "flinksql") {
        ensure!(job.contains(text.as_str()), "the job that is tested has no\n{text}");
    }
    for (_, text) in blocks.iter().filter(|(language, _)| language == "sql") {
        // A role is the server's, not the database's: this one is rolled back.
        read.batch_execute(&format!("BEGIN; {text} SET LOCAL ROLE reports; SELECT count(*) FROM chat_activity"))
            .await?;
        let refused = read.batch_execute("SELECT message FROM user_export").await;
        ensure!(refused.is_err_and(|error| error.to_string().contains("db error")), "a report may not read words");
        read.batch_execute("ROLLBACK").await?;
    }
    Ok(())
}
