//! Demonstration people and chats, made once, through the same doors as everybody's.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use ingest::users::Users;
use runtime::{Config, postgres};
use serde_json::{Value, json};

/// Ids and names of the people.
pub(crate) const PEOPLE: [(&str, &str); 4] =
    [("alice", "Alice Weber"), ("bob", "Bob Okafor"), ("carol", "Carol Lindqvist"), ("dave", "Dave Moreno")];

/// Makes people and chats if this installation has none yet; `true` if it did.
pub(crate) async fn ensure_made(config: &Config, gateway_url: &str) -> Result<bool> {
    let pool = postgres::pool(&config.postgres.truth_url, "postgres.truth_url", 2)?;
    let client = pool.get().await.context("Postgres")?;
    let made = client.query_opt("SELECT 1 FROM installation WHERE name = 'demonstration'", &[]).await?;
    if made.is_some() {
        return Ok(false);
    }
    let users = Users::new(pool.clone());
    for (user_id, name) in PEOPLE {
        users.create(user_id, Some(name), None).await.map_err(|refusal| anyhow::anyhow!("{refusal}"))?;
    }
    let chats = [
        json!({ "is_group": false, "member_ids": ["bob"] }),
        json!({ "chat_id": "launch", "name": "Launch", "member_ids": ["bob", "carol", "dave"] }),
        json!({ "chat_id": "weekend", "name": "Weekend", "member_ids": ["carol", "dave"] }),
    ];
    for chat in &chats {
        create(config, gateway_url, chat).await?;
    }
    client
        .execute("INSERT INTO installation (name, value) VALUES ('demonstration', 'made') ON CONFLICT DO NOTHING", &[])
        .await?;
    Ok(true)
}

/// A start that was killed between chats finds some of them there, and that is as good.
async fn create(config: &Config, gateway_url: &str, chat: &Value) -> Result<()> {
    let (token, _) = ingest::auth::development_token(config, PEOPLE[0].0, Some(PEOPLE[0].1), 300)?;
    let http = reqwest::Client::builder().timeout(Duration::from_secs(60)).build()?;
    let response = http.post(format!("{gateway_url}/v1/chats")).bearer_auth(token).json(chat).send().await?;
    let status = response.status();
    let answer: Value = response.json().await.unwrap_or_default();
    let is_there = status.is_success() || answer["code"] == "chat_exists";
    ensure!(is_there, "a demonstration chat could not be made: {status} {}", answer["detail"]);
    Ok(())
}
