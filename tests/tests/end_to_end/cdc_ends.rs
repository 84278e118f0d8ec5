//! A CDC worker that can't go on, in one process with everybody else: the process says so, and the others do their work.

use anyhow::{Result, ensure};
use serde_json::{Value, json};
use waltalkie_tests::harness::{Installation, LONG, Person, until};

#[tokio::test(flavor = "multi_thread")]
async fn the_others_go_on_without_a_worker_that_has_ended() -> Result<()> {
    let installation = Installation::make("cdc-ends").await?;
    let mut process = installation.run(&["all"]).await?;
    let config = installation.config()?;
    let alice = Person::arrive(&config, process.gateway()?, "alice").await?;
    let chat_id = alice.make_group(&[], json!({})).await?;
    let before = alice.say(&chat_id, "before").await?["seq"].as_i64();

    // A row that no event can be made of, as no persister writes it.
    let truth = installation.truth().await?;
    truth
        .batch_execute(
            "INSERT INTO message (message_id, chat_id, sender_id, content, sequence_number, created_at)
             VALUES (gen_random_uuid(), 'at-no-time', 'mallory', 'text', 1, 'infinity')",
        )
        .await?;
    let readyz = format!("{}/readyz", process.ops_url);
    let said = until("the process to say that it isn't ready", LONG, async || {
        let answer = reqwest::get(&readyz).await?;
        let (status, said) = (answer.status(), answer.json::<Value>().await?);
        Ok((status == 503 && said.to_string().contains("can't be published")).then_some(said))
    })
    .await?;
    let roles = said["roles"].as_array().map(Vec::as_slice).unwrap_or_default();
    for role in roles {
        let is_ready = role["is_ready"] == true;
        ensure!(is_ready == (role["role"] != "cdc"), "{said:#}");
        ensure!(is_ready || role["problem"].as_str().is_some_and(|why| why.contains("at-no-time/1")), "{said:#}");
    }
    ensure!(roles.len() > 5, "{said:#}");

    // Persisted, which is what its answer says; only the history waits.
    let after = alice.say(&chat_id, "without a worker").await?["seq"].as_i64();
    ensure!(after.is_some() && after == before.map(|seq| seq + 1), "{before:?} {after:?}");
    ensure!(process.is_running()?, "{}", process.log_end());
    Ok(())
}
