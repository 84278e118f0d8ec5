//! Keys by URL: rotated, away, broken, and never fetched as often as tokens would like.

use anyhow::{Result, ensure};
use serde_json::json;
use waltalkie_tests::harness::{Installation, KeyServer, LONG, Person, Servers, SigningKey, until};

fn token(key: &SigningKey) -> Result<String> {
    let now_s = runtime::clock::now_ms() / 1_000;
    key.sign(&json!({ "sub": "alice", "iat": now_s, "exp": now_s + 600 }))
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_are_rotated_and_survive_their_url() -> Result<()> {
    let keys = [("EdDSA", "1"), ("ES256", "2"), ("RS256", "3"), ("EdDSA", "4")];
    let [first, second, third, fourth] = keys.map(|(algorithm, kid)| SigningKey::make(algorithm, kid));
    let (first, second, third, fourth) = (first?, second?, third?, fourth?);
    let published = KeyServer::start(&[&first]).await?;
    let settings = [("auth.jwks_url", published.url.as_str()), ("auth.hs256_secret", "")];
    let installation = Installation::make_on(Servers::shared()?, "published-keys", &settings).await?;
    let process = installation.run(&["all"]).await?;
    let gateway = process.gateway()?;
    let ask = async |key: &SigningKey| Person::with_token(gateway, "alice", &token(key)?).get("/v1/users/me").await;
    let taken = async |what: &str, key: &SigningKey| {
        until(what, LONG, async || Ok((ask(key).await?.status == 200).then_some(()))).await
    };
    ask(&first).await?.expect(200)?;
    ask(&second).await?.expect_problem(401, "token_invalid", None)?;

    // A new key is looked for when a token names it; the one before is gone with its set.
    published.publish(&[&first, &second, &third]);
    taken("the second key", &second).await?;
    ask(&third).await?.expect(200)?;
    ask(&first).await?.expect(200)?;
    published.publish(&[&third, &fourth]);
    taken("the fourth key", &fourth).await?;
    ask(&first).await?.expect_problem(401, "token_invalid", None)?;

    // However many tokens name keys that aren't there, one fetch in five seconds.
    let (before, began) = (published.requests(), std::time::Instant::now());
    let mut unknown = SigningKey::make("EdDSA", "")?;
    for number in 0..200 {
        unknown.kid = format!("unknown {number}");
        ask(&unknown).await?.expect_problem(401, "token_invalid", None)?;
    }
    let most = began.elapsed().as_secs() as usize / 5 + 2;
    ensure!(published.requests() - before <= most, "{} fetches", published.requests() - before);

    // Away, broken, too large: what is known stays.
    let answers = [(503, String::new()), (200, "<html>".into()), (200, json!({ "keys": [] }).to_string())];
    for (status, body) in
        answers.into_iter().chain([(200, format!("{{\"keys\":[],\"x\":\"{}\"}}", "x".repeat(1 << 20)))])
    {
        published.answer(status, body);
        let fetched = published.requests();
        until("another fetch", LONG, async || {
            ask(&first).await?.expect_problem(401, "token_invalid", None)?;
            Ok((published.requests() > fetched).then_some(()))
        })
        .await?;
        ask(&third).await?.expect(200)?;
    }
    let failed = process.metric("waltalkie_gateway_jwks_fetches_total").await?;
    ensure!(failed >= 4.0, "{failed}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_never_had_keys_isnt_ready() -> Result<()> {
    let key = SigningKey::make("ES256", "only")?;
    let published = KeyServer::start(&[&key]).await?;
    published.answer(500, String::new());
    let settings = [("auth.jwks_url", published.url.as_str()), ("auth.hs256_secret", "")];
    let installation = Installation::make_on(Servers::shared()?, "no-keys", &settings).await?;
    let starting = installation.run(&["all"]);
    let publishing = async {
        until("the node to ask", LONG, async || Ok((published.requests() > 0).then_some(()))).await?;
        published.publish(&[&key]);
        anyhow::Ok(())
    };
    let (process, publishing) = tokio::join!(starting, publishing);
    publishing?;
    Person::with_token(process?.gateway()?, "alice", &token(&key)?).get("/v1/users/me").await?.expect(200)?;
    Ok(())
}
