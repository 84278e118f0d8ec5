//! The removal of a person that a gateway didn't finish: another one does.

use anyhow::{Result, ensure};
use serde_json::json;
use waltalkie_tests::harness::{Installation, LONG, Person, until};

#[tokio::test(flavor = "multi_thread")]
async fn memberships_that_a_lost_gateway_left_are_ended_by_the_next() -> Result<()> {
    let installation = Installation::make("cut-removal").await?;
    let process = installation.run(&["all"]).await?;
    let config = installation.config()?;
    let alice = Person::arrive(&config, process.gateway()?, "alice").await?;
    let bob = Person::arrive(&config, process.gateway()?, "bob").await?;
    let group = alice.make_group(&[&bob], json!({})).await?;
    let other = bob.make_group(&[&alice], json!({})).await?;
    let mut his = bob.connect().await?;

    // What is left of a removal whose gateway died after its transaction: the row, and no command to any chat.
    let truth = installation.truth().await?;
    let left =
        "INSERT INTO user_removal (user_id, asked_at) VALUES ('alice', clock_timestamp() - interval '2 minutes')";
    truth.execute(left, &[]).await?;
    let open = "SELECT count(*) FROM chat_member WHERE user_id = 'alice' AND left_seq IS NULL";
    ensure!(truth.query_one(open, &[]).await?.get::<_, i64>(0) == 2);
    until("another gateway to end her memberships", LONG, async || {
        Ok((truth.query_one(open, &[]).await?.get::<_, i64>(0) == 0).then_some(()))
    })
    .await?;
    for _ in 0..2 {
        let left = his.wait("member_left", |_| true).await?;
        ensure!(left["chat_id"] == group.as_str() || left["chat_id"] == other.as_str(), "{left}");
        ensure!(left["memberships"][0]["user_id"] == "alice" && left["actor_id"] == "waltalkie:system", "{left}");
    }
    // The row stays for an hour, for commands from before; then it goes.
    let rows = "SELECT count(*) FROM user_removal";
    ensure!(truth.query_one(rows, &[]).await?.get::<_, i64>(0) == 1);
    truth.execute("UPDATE user_removal SET asked_at = clock_timestamp() - interval '2 hours'", &[]).await?;
    until("the row to go", LONG, async || Ok((truth.query_one(rows, &[]).await?.get::<_, i64>(0) == 0).then_some(())))
        .await
}
