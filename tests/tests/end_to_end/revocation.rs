//! Whoever is revoked or removed is out on every node within two seconds, with Redis and without.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use faults::Proxy;
use runtime::Config;
use serde_json::json;
use waltalkie_tests::harness::{Installation, Person, SHORT, Servers, Socket, until};

const WITHIN: Duration = Duration::from_secs(2);

fn service(config: &Config, gateway: &str) -> Result<Person> {
    let scope = "users:revoke users:remove users:write";
    let token = ingest::auth::development_service_token(config, "backend", scope, 600)?.0;
    Ok(Person::with_token(gateway, "backend", &token))
}

/// A token that is surely older than what comes next, and one that is surely newer: `iat` counts whole seconds.
async fn fresh(config: &Config, gateway: &str, user_id: &str) -> Result<Person> {
    until("a token of a later second", SHORT, async || {
        let token = ingest::auth::development_token(config, user_id, None, 600)?.0;
        let person = Person::with_token(gateway, user_id, &token);
        Ok((person.get("/v1/users/me").await?.status == 200).then_some(person))
    })
    .await
}

async fn out_in_time(sockets: &mut [&mut Socket], code: u16, began: Instant) -> Result<()> {
    for socket in sockets {
        let closed = socket.closed().await?;
        ensure!(closed == Some(code), "closed with {closed:?} instead of {code}");
    }
    ensure!(began.elapsed() < WITHIN, "it took {:?}", began.elapsed());
    Ok(())
}

async fn revoked_and_removed(redis_is_cut: bool) -> Result<()> {
    let servers = Servers::shared()?;
    let (proxy, through) = Proxy::before_url(&servers.redis).await?;
    let name = if redis_is_cut { "revoked-without-redis" } else { "revoked" };
    let installation = Installation::make_on(servers, name, &[("redis.url", &through)]).await?;
    let (first, second) = (installation.run(&["all"]).await?, installation.run(&["gateway"]).await?);
    let config = installation.config()?;
    let [one, two] = [first.gateway()?, second.gateway()?];
    let alice = Person::arrive(&config, one, "alice").await?;
    let bob = Person::arrive(&config, one, "bob").await?;
    let (mut here, mut there, mut others) =
        (alice.connect().await?, alice.at(two).connect().await?, bob.at(two).connect().await?);
    let service = service(&config, one)?;
    if redis_is_cut {
        proxy.refuse();
    }

    let began = Instant::now();
    service.post("/v1/users/alice/revoke", json!({})).await?.expect(200)?;
    out_in_time(&mut [&mut here, &mut there], 4101, began).await?;
    for gateway in [one, two] {
        alice.at(gateway).get("/v1/users/me").await?.expect_problem(401, "token_revoked", None)?;
        let protocols = format!("waltalkie.v1, bearer.{}", alice.token);
        let (status, body) = Socket::refused(gateway, &protocols, None).await?;
        ensure!(status == 401 && body.contains("token_revoked"), "{status} {body}");
    }
    // A token that doesn't say when it was issued counts as issued at the beginning.
    let undated = undated(&config, "alice")?;
    Person::with_token(two, "alice", &undated).get("/v1/users/me").await?.expect_problem(401, "token_revoked", None)?;
    bob.at(two).get("/v1/users/me").await?.expect(200)?;

    // A new token is good on both, and old ones don't come back by it.
    let alice = fresh(&config, one, "alice").await?;
    alice.at(two).get("/v1/users/me").await?.expect(200)?;
    let (mut here, mut there) = (alice.connect().await?, alice.at(two).connect().await?);

    let began = Instant::now();
    let removing = tokio::spawn(async move { service.delete("/v1/users/alice").await });
    out_in_time(&mut [&mut here, &mut there], 4102, began).await?;
    let answer = removing.await??;
    ensure!([200, 202].contains(&answer.status.as_u16()), "{} {}", answer.status, answer.body);
    for gateway in [one, two] {
        let token = ingest::auth::development_token(&config, "alice", None, 600)?.0;
        let returned = Person::with_token(gateway, "alice", &token);
        returned.get("/v1/users/me").await?.expect_problem(401, "token_invalid", None)?;
    }
    let asked = others.send("mark_read", json!({ "marks": {} })).await?;
    others.answer(asked, |frame| frame["event"] == "ack").await?;
    if redis_is_cut {
        ensure!(proxy.resets() > 0, "Redis was never cut");
    }
    Ok(())
}

fn undated(config: &Config, user_id: &str) -> Result<String> {
    let claims = json!({ "sub": user_id, "exp": runtime::clock::now_ms() / 1_000 + 60 });
    let key = jsonwebtoken::EncodingKey::from_secret(config.auth.hs256_secret.expose().as_bytes());
    jsonwebtoken::encode(&jsonwebtoken::Header::new(jsonwebtoken::Algorithm::HS256), &claims, &key).context("signing")
}

#[tokio::test(flavor = "multi_thread")]
async fn revoked_people_are_out_on_every_node() -> Result<()> {
    revoked_and_removed(false).await
}

#[tokio::test(flavor = "multi_thread")]
async fn revoked_people_are_out_without_redis_too() -> Result<()> {
    revoked_and_removed(true).await
}
