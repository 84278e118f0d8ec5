//! A CDC worker that refuses to go on, in one process with everybody else: the process says so, and the others do their work.

use anyhow::{Result, ensure};
use serde_json::{Value, json};
use waltalkie_tests::harness::{Installation, LONG, Person, until};

#[tokio::test(flavor = "multi_thread")]
async fn the_others_go_on_without_a_worker_that_refuses() -> Result<()> {
    let installation = Installation::make("cdc-refuses").await?;
    let mut process = installation.run(&["all"]).await?;
    let config = installation.config()?;
    let alice = Person::arrive(&config, process.gateway()?, "alice").await?;
    let chat_id = alice.make_group(&[], json!({})).await?;
    let before = alice.say(&chat_id, "before").await?["seq"].as_i64();

    let truth = installation.truth().await?;
    let slot = installation.names().slot();
    // The worker connects again at once; between the two it has no slot to stream.
    until("the slot to be dropped", LONG, async || {
        let end = "SELECT pg_terminate_backend(active_pid, 1000) FROM pg_replication_slots
                    WHERE slot_name = $1 AND active_pid IS NOT NULL";
        truth.execute(end, &[&slot]).await?;
        let drop = "SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots WHERE slot_name = $1";
        Ok(truth.execute(drop, &[&slot]).await.is_ok().then_some(()))
    })
    .await?;
    let readyz = format!("{}/readyz", process.ops_url);
    let said: Value = until("the process to say that it isn't ready", LONG, async || {
        let answer = reqwest::get(&readyz).await?;
        let (status, said) = (answer.status(), answer.json::<Value>().await?);
        let ended = said.to_string().contains("isn't there");
        Ok((status == 503 && ended).then_some(said))
    })
    .await?;
    let roles = said["roles"].as_array().map(Vec::as_slice).unwrap_or_default();
    for role in roles {
        let is_ready = role["is_ready"] == true;
        ensure!(is_ready == (role["role"] != "cdc"), "{said:#}");
        ensure!(is_ready || role["problem"].as_str().is_some_and(|why| why.contains("cdc resnapshot")), "{said:#}");
    }
    ensure!(roles.len() > 5, "{said:#}");

    // Persisted, which is what its answer says; only the history waits.
    let after = alice.say(&chat_id, "without a worker").await?["seq"].as_i64();
    ensure!(after.is_some() && after == before.map(|seq| seq + 1), "{before:?} {after:?}");
    ensure!(process.is_running()?, "{}", process.log_end());
    Ok(())
}
