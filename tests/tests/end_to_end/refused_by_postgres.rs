//! Commands that PostgreSQL refuses: one that it never takes is put aside alone, one that it doesn't take for now is tried
//! again.

use anyhow::{Context, Result, ensure};
use schemas::topics::Topic;
use serde_json::json;
use uuid::Uuid;
use waltalkie_tests::harness::{Installation, LONG, Person, Socket, read_all, until};

/// What no table takes, and no log may show.
const CANARY: &str = "canary 77aa";
/// Sends that fill what the persister reads ahead, so that those after them come in one batch.
const AHEAD: usize = 12;

async fn send(socket: &mut Socket, chat_id: &str, content: &str) -> Result<u64> {
    let payload = json!({ "chat_id": chat_id, "message_id": Uuid::now_v7(), "content": content });
    let id = socket.send("send_message", payload).await?;
    socket.answer(id, |frame| frame["payload"]["state"] == "accepted").await?;
    Ok(id)
}

#[tokio::test(flavor = "multi_thread")]
async fn one_that_is_never_taken_is_put_aside_and_its_neighbours_arent() -> Result<()> {
    let installation = Installation::make("refused-by-postgres").await?;
    let process = installation.run(&["gateway", "persister"]).await?;
    let config = installation.config()?;
    let alice = Person::arrive(&config, process.gateway()?, "alice").await?;
    let (chat_id, other) = (alice.make_group(&[], json!({})).await?, alice.make_group(&[], json!({})).await?);
    let (mut keeper, truth) = (installation.truth().await?, installation.truth().await?);
    let refusal = format!("ALTER TABLE message ADD CONSTRAINT no_canary CHECK (content <> '{CANARY}')");
    truth.batch_execute(&refusal).await?;
    let mut socket = alice.connect().await?;

    // Nothing is decided meanwhile, so that all this is one batch or two.
    let held = keeper.transaction().await?;
    held.execute("SELECT FROM chat_counter FOR UPDATE", &[]).await?;
    let mut good = Vec::new();
    for number in 0..AHEAD {
        good.push(send(&mut socket, &chat_id, &format!("number {number}")).await?);
    }
    let elsewhere = send(&mut socket, &other, "in another chat").await?;
    let refused = send(&mut socket, &chat_id, CANARY).await?;
    good.push(send(&mut socket, &chat_id, "behind it").await?);
    held.rollback().await?;

    let answer = socket.answer(refused, |frame| frame["event"] == "error").await?;
    ensure!(answer["payload"]["code"] == "internal" && answer["payload"]["temporary"] == true, "{answer}");
    // Redis may lose the answer: it is in the tables as well.
    let kept = "SELECT count(*) FROM command_result WHERE answer -> 'rejection' ->> 'code' = 'internal'";
    until("the answer to be kept", LONG, async || {
        Ok((truth.query_one(kept, &[]).await?.get::<_, i64>(0) == 1).then_some(()))
    })
    .await?;
    // It took no place.
    for (id, seq) in good.into_iter().zip(2..) {
        ensure!(socket.persisted(id).await? == seq, "no place for {seq}");
    }
    ensure!(socket.persisted(elsewhere).await? == 2);

    let dead = read_all(&config, Topic::ChatCommandsDlq).await?;
    let [dead] = dead.as_slice() else { anyhow::bail!("one dead letter and no other: {dead:?}") };
    let reason = dead.header("reason").context("no reason")?;
    ensure!(reason.contains("no_canary") && !reason.contains(CANARY), "{reason}");
    let position = |name: &str| dead.header(name).and_then(|text| text.parse::<i64>().ok());
    let commands = read_all(&config, Topic::ChatCommands).await?;
    let original = commands.iter().find(|command| {
        Some(i64::from(command.partition)) == position("source_partition")
            && Some(command.offset) == position("source_offset")
    });
    let original = original.context("no such place")?;
    ensure!(original.value == dead.value && original.key == dead.key && original.key == chat_id, "{dead:?}");
    ensure!(String::from_utf8_lossy(dead.value.as_deref().unwrap_or_default()).contains(CANARY), "another command");
    let counted = process.metric("waltalkie_persister_dead_letters_total").await?;
    ensure!((0.5..1.5).contains(&counted), "{counted} dead letters are counted");
    let mut logs = String::new();
    for file in std::fs::read_dir(installation.logs())? {
        logs += &std::fs::read_to_string(file?.path())?;
    }
    ensure!(logs.contains("a batch failed and is split"), "it came alone: {logs}");
    ensure!(!logs.contains(CANARY), "a body is in the log: {logs}");

    // Mended, and tried again by hand.
    truth.batch_execute("ALTER TABLE message DROP CONSTRAINT no_canary").await?;
    let mut retry = installation.command()?;
    retry.args(["dlq", "retry", "0"]);
    ensure!(tokio::task::spawn_blocking(move || retry.status()).await??.success(), "dlq retry failed");
    let page = format!("/v1/chats/{chat_id}/messages?limit=1");
    until("the one that was put aside", LONG, async || {
        let page = alice.get(&page).await?.expect(200)?;
        Ok((page["messages"][0]["content"] == CANARY).then_some(()))
    })
    .await?;

    // What fails for now is tried again, whole and as often as it takes.
    truth
        .batch_execute(
            "CREATE SEQUENCE tries;
             CREATE FUNCTION contend() RETURNS trigger LANGUAGE plpgsql AS $$
             BEGIN
                 IF NEW.content = 'contended' AND nextval('tries') <= 3 THEN
                     RAISE EXCEPTION 'could not serialize access' USING ERRCODE = '40001';
                 END IF;
                 RETURN NEW;
             END $$;
             CREATE TRIGGER contend BEFORE INSERT ON message FOR EACH ROW EXECUTE FUNCTION contend()",
        )
        .await?;
    let retries = process.metric("waltalkie_persister_batch_retries_total").await?;
    let contended = send(&mut socket, &other, "contended").await?;
    ensure!(socket.persisted(contended).await? == 3);
    let retries = process.metric("waltalkie_persister_batch_retries_total").await? - retries;
    ensure!(retries >= 3.0, "tried again {retries} times");
    ensure!(read_all(&config, Topic::ChatCommandsDlq).await?.len() == 1, "put aside though it passes");
    until("the role to be well again", LONG, async || Ok(process.is_ready().await.then_some(()))).await
}
