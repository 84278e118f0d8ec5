//! Tokens that somebody made to get in: each is refused with its code over HTTP and at the WebSocket's handshake, makes
//! nobody, and is in no log.

use anyhow::{Result, ensure};
use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use jsonwebtoken::{Algorithm, EncodingKey};
use serde_json::{Value, json};
use waltalkie_tests::harness::{Installation, KeyServer, Person, Servers, SigningKey, Socket};

const ISSUER: &str = "https://id.example";

fn claims(subject: &str) -> Value {
    let now_s = runtime::clock::now_ms() / 1_000;
    json!({ "sub": subject, "iss": ISSUER, "aud": "chat", "iat": now_s - 5, "exp": now_s + 600 })
}

fn with(more: &Value) -> Value {
    let mut claims = claims("mallory");
    if let (Value::Object(claims), Value::Object(more)) = (&mut claims, more) {
        claims.extend(more.clone());
        claims.retain(|_, value| !value.is_null());
    }
    claims
}

fn unsigned(header: &Value, claims: &Value) -> String {
    let encode = |value: &Value| BASE64_URL_SAFE_NO_PAD.encode(value.to_string());
    format!("{}.{}", encode(header), encode(claims))
}

fn by_secret(header: &Value, secret: &[u8]) -> Result<String> {
    let message = unsigned(header, &claims("mallory"));
    let key = EncodingKey::from_secret(secret);
    Ok(format!("{message}.{}", jsonwebtoken::crypto::sign(message.as_bytes(), &key, Algorithm::HS256)?))
}

/// What is tried, the token, and the code that it is refused with.
fn attacks(
    ed: &SigningKey,
    rsa: &SigningKey,
    other: &SigningKey,
    trap: &str,
) -> Result<Vec<(&'static str, String, &'static str)>> {
    let now_s = runtime::clock::now_ms() / 1_000;
    let good = ed.sign(&claims("mallory"))?;
    let (message, signature) = good.rsplit_once('.').unwrap_or_default();
    let (head, body) = message.split_once('.').unwrap_or_default();
    let forged = |header: &Value| other.sign_with(header, &claims("mallory"));
    let claiming = |more: Value| ed.sign(&with(&more));
    let plain = claims("mallory").to_string();
    let twice = format!("{},\"sub\":\"alice\"}}", plain.trim_end_matches('}'));
    let hs = json!({ "alg": "HS256", "typ": "JWT" });
    Ok(vec![
        ("alg none", format!("{}.", unsigned(&json!({ "alg": "none" }), &claims("mallory"))), "token_invalid"),
        (
            "alg nOnE",
            format!("{}.", unsigned(&json!({ "alg": "nOnE", "kid": ed.kid }), &claims("mallory"))),
            "token_invalid",
        ),
        ("no alg", format!("{}.{signature}", unsigned(&json!({ "typ": "JWT" }), &claims("mallory"))), "token_invalid"),
        ("HS256 by the public PEM", by_secret(&hs, rsa.public_pem.as_bytes())?, "token_invalid"),
        (
            "HS256 by the public JWK",
            by_secret(&json!({ "alg": "HS256", "kid": rsa.kid }), rsa.jwk().to_string().as_bytes())?,
            "token_invalid",
        ),
        ("HS256 by nothing", by_secret(&hs, b"")?, "token_invalid"),
        ("stripped signature", format!("{message}."), "token_invalid"),
        ("no third part", message.to_owned(), "token_invalid"),
        ("a fourth part", format!("{good}.{signature}"), "token_invalid"),
        (
            "another token's signature",
            format!("{head}.{}.{signature}", BASE64_URL_SAFE_NO_PAD.encode(claims("alice").to_string())),
            "token_invalid",
        ),
        ("padded parts", format!("{head}=.{body}=.{signature}="), "token_invalid"),
        ("a foreign key of the same name", forged(&json!({ "kid": ed.kid }))?, "token_invalid"),
        ("a foreign key by its own name", forged(&json!({}))?, "token_invalid"),
        ("a foreign key without a name", forged(&json!({ "kid": null }))?, "token_invalid"),
        ("foreign jku", forged(&json!({ "jku": trap }))?, "token_invalid"),
        ("foreign x5u", forged(&json!({ "x5u": trap }))?, "token_invalid"),
        ("its own jwk", forged(&json!({ "jwk": other.jwk() }))?, "token_invalid"),
        ("its own x5c", forged(&json!({ "x5c": ["MIIB"] }))?, "token_invalid"),
        ("kid traversal", forged(&json!({ "kid": "../../../../../../dev/null" }))?, "token_invalid"),
        ("kid injection", forged(&json!({ "kid": "' UNION SELECT 'x' -- " }))?, "token_invalid"),
        ("kid as an address", forged(&json!({ "kid": trap }))?, "token_invalid"),
        ("kid as a list", forged(&json!({ "kid": [ed.kid] }))?, "token_invalid"),
        (
            "another algorithm than the key's",
            other.sign_with(&json!({ "alg": "ES256", "kid": ed.kid }), &claims("mallory"))?,
            "token_invalid",
        ),
        ("wrong aud", claiming(json!({ "aud": "billing" }))?, "token_invalid"),
        ("no aud", claiming(json!({ "aud": null }))?, "token_invalid"),
        ("wrong iss", claiming(json!({ "iss": "https://id.example.evil.org" }))?, "token_invalid"),
        ("no iss", claiming(json!({ "iss": null }))?, "token_invalid"),
        ("expired", claiming(json!({ "exp": now_s - 60 }))?, "token_expired"),
        ("no exp", claiming(json!({ "exp": null }))?, "token_invalid"),
        ("exp as a text", claiming(json!({ "exp": (now_s + 60).to_string() }))?, "token_invalid"),
        ("not yet valid", claiming(json!({ "nbf": now_s + 600 }))?, "token_invalid"),
        ("issued in the future", claiming(json!({ "iat": now_s + 600 }))?, "token_invalid"),
        (
            "header typ of another use",
            ed.sign_with(&json!({ "typ": "dpop+jwt" }), &claims("mallory"))?,
            "token_invalid",
        ),
        ("claim typ of another use", claiming(json!({ "typ": "Refresh" }))?, "token_invalid"),
        ("crit", ed.sign_with(&json!({ "crit": ["b64"], "b64": false }), &claims("mallory"))?, "token_invalid"),
        ("sub with a space", claiming(json!({ "sub": "mal lory" }))?, "token_invalid"),
        ("sub as a path", claiming(json!({ "sub": "../alice" }))?, "token_invalid"),
        ("sub too long", claiming(json!({ "sub": "m".repeat(65) }))?, "token_invalid"),
        ("sub as a number", claiming(json!({ "sub": 7 }))?, "token_invalid"),
        ("no sub", claiming(json!({ "sub": null }))?, "token_invalid"),
        ("the system's sub", claiming(json!({ "sub": "waltalkie:system" }))?, "token_invalid"),
        ("sub twice", ed.sign_text(&json!({ "alg": "EdDSA", "kid": ed.kid }).to_string(), &twice)?, "token_invalid"),
        (
            "alg twice",
            ed.sign_text(&format!("{{\"alg\":\"none\",\"alg\":\"EdDSA\",\"kid\":\"{}\"}}", ed.kid), &plain)?,
            "token_invalid",
        ),
        (
            "claims that are no object",
            ed.sign_text(&json!({ "alg": "EdDSA", "kid": ed.kid }).to_string(), "[]")?,
            "token_invalid",
        ),
        ("too long", claiming(json!({ "padding": "x".repeat(9_000) }))?, "token_invalid"),
        ("no token at all", "Waltalkie".to_owned(), "token_invalid"),
    ])
}

#[tokio::test(flavor = "multi_thread")]
async fn no_made_up_token_gets_in() -> Result<()> {
    let (ed, rsa) = (SigningKey::make("EdDSA", "current")?, SigningKey::make("RS256", "older")?);
    let other = SigningKey::make("EdDSA", "mallory's own")?;
    let (published, trap) = (KeyServer::start(&[&ed, &rsa]).await?, KeyServer::start(&[&other]).await?);
    let settings = [
        ("auth.jwks_url", published.url.as_str()),
        ("auth.issuer", ISSUER),
        ("auth.audience", "chat"),
        ("log.filter", "trace,rdkafka=info,librdkafka=info"),
    ];
    let installation = Installation::make_on(Servers::shared()?, "token-attacks", &settings).await?;
    let began = std::time::Instant::now();
    let process = installation.run(&["all"]).await?;
    let gateway = process.gateway()?;

    // What the attacks are made of is good.
    for key in [&ed, &rsa] {
        Person::with_token(gateway, "alice", &key.sign(&claims("alice"))?).get("/v1/users/me").await?.expect(200)?;
    }
    let attacks = attacks(&ed, &rsa, &other, &trap.url)?;
    ensure!(attacks.len() >= 40, "{} attacks", attacks.len());
    for (what, token, code) in &attacks {
        let answer = Person::with_token(gateway, "mallory", token).get("/v1/chats").await?;
        answer.expect_problem(401, code, None).map_err(|error| error.context(*what))?;
        ensure!(!answer.body.to_string().contains(token.as_str()), "{what}: the token is in {}", answer.body);
        let (status, body) = Socket::refused(gateway, &format!("waltalkie.v1, bearer.{token}"), None).await?;
        // A subprotocol can't hold what a padded or empty one would need.
        ensure!([400, 401].contains(&status), "{what}: {status} {body}");
        ensure!(!body.contains(token.as_str()), "{what}: the token is in {body}");
    }
    let huge = "x".repeat(1 << 20);
    match Person::with_token(gateway, "mallory", &huge).get("/v1/chats").await {
        Ok(answer) => ensure!([400, 401, 431].contains(&answer.status.as_u16()), "{}", answer.status),
        // The listener may hang up before it has read all of it.
        Err(error) => ensure!(error.downcast_ref::<reqwest::Error>().is_some(), "{error:#}"),
    }
    ensure!(trap.requests() == 0, "{} requests went where a token said", trap.requests());
    let most = began.elapsed().as_secs() as usize / 5 + 2;
    ensure!(published.requests() <= most, "tokens made {} fetches", published.requests());

    // An open connection isn't renewed by any of them either.
    let alice = Person::with_token(gateway, "alice", &ed.sign(&claims("alice"))?);
    let mut socket = alice.connect().await?;
    for (_, token, code) in attacks.iter().take(20) {
        let asked = socket.send("authenticate", json!({ "token": token })).await?;
        socket.expect_error(asked, code, None).await?;
    }

    let truth = installation.truth().await?;
    ensure!(truth.query("SELECT 1 FROM \"user\" WHERE id <> 'alice'", &[]).await?.is_empty(), "somebody was made");
    let mut logged = String::new();
    for file in std::fs::read_dir(installation.logs())? {
        logged.push_str(&std::fs::read_to_string(file?.path()).unwrap_or_default());
    }
    ensure!(logged.contains("answered"), "the log has nothing of the requests");
    for (what, token, _) in &attacks {
        let signature = token.rsplit('.').next().unwrap_or_default();
        ensure!(!logged.contains(token.as_str()), "{what}: the token is in the log");
        ensure!(signature.len() < 20 || !logged.contains(signature), "{what}: the signature is in the log");
    }
    ensure!(!logged.contains(&alice.token), "a good token is in the log");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_gets_a_services_rights() -> Result<()> {
    let installation = Installation::make("token-scopes").await?;
    let process = installation.run(&["all"]).await?;
    let (config, gateway) = (installation.config()?, process.gateway()?);
    let alice = Person::arrive(&config, gateway, "alice").await?;
    let bob = Person::arrive(&config, gateway, "bob").await?;
    let chat_id = bob.make_group(&[], json!({})).await?;
    let messages = format!("/v1/chats/{chat_id}/messages");
    let put = async |person: &Person, path: &str| person.put(path, json!({})).await;
    let refused = |answer: waltalkie_tests::harness::Answer, field| answer.expect_problem(403, "scope_missing", field);

    // A person, also one whose token has a scope.
    refused(put(&alice, "/v1/users/carol").await?, None)?;
    refused(put(&alice, &format!("/v1/chats/{chat_id}")).await?, None)?;
    refused(alice.delete("/v1/users/bob").await?, None)?;
    refused(alice.post("/v1/users/bob/revoke", json!({})).await?, None)?;
    refused(alice.as_if("bob").get("/v1/chats").await?, Some("On-Behalf-Of"))?;

    // A service without the scope that it takes, for each thing that takes one.
    let service = |scope: &str| -> Result<Person> {
        let token = ingest::auth::development_service_token(&config, "backend", scope, 60)?.0;
        Ok(Person::with_token(gateway, "backend", &token))
    };
    let all = ingest::auth::Scope::ALL;
    let without = |scope: &str| {
        let names: Vec<&str> = all.iter().map(|scope| scope.name()).filter(|name| *name != scope).collect();
        service(&names.join(" "))
    };
    refused(put(&without("users:write")?, "/v1/users/carol").await?, None)?;
    refused(without("users:remove")?.delete("/v1/users/bob").await?, None)?;
    refused(without("users:revoke")?.post("/v1/users/bob/revoke", json!({})).await?, None)?;
    refused(put(&without("chats:write")?, "/v1/chats/new").await?, None)?;
    refused(without("chats:write")?.post(&format!("/v1/chats/{chat_id}/members"), json!({})).await?, None)?;
    refused(without("chats:read")?.get(&messages).await?, None)?;
    refused(without("messages:system")?.post(&messages, json!({ "content": "hi" })).await?, None)?;
    refused(without("act:users")?.as_if("bob").get("/v1/chats").await?, None)?;
    for nothing in ["", "users:writer", "USERS:WRITE", "users:write,chats:write", "*"] {
        refused(put(&service(nothing)?, "/v1/users/carol").await?, None)?;
    }

    // With all of them: in nobody's name, in nobody's who is there, as somebody else than people, over a connection.
    let names: Vec<&str> = all.iter().map(|scope| scope.name()).collect();
    let service = service(&names.join(" "))?;
    service.get("/v1/chats").await?.expect_problem(400, "missing_field", Some("On-Behalf-Of"))?;
    service.as_if("nobody").get("/v1/chats").await?.expect_problem(404, "user_not_found", Some("On-Behalf-Of"))?;
    service.as_if("waltalkie:system").get("/v1/chats").await?.expect_problem(400, "bad_field", Some("On-Behalf-Of"))?;
    service.as_if("b b").get("/v1/chats").await?.expect_problem(400, "bad_field", Some("On-Behalf-Of"))?;
    put(&service, "/v1/users/waltalkie:system").await?.expect_problem(400, "bad_field", Some("user_id"))?;
    let (status, body) = Socket::refused(gateway, &format!("waltalkie.v1, bearer.{}", service.token), None).await?;
    ensure!(status == 403 && body.contains("forbidden"), "{status} {body}");
    let truth = installation.truth().await?;
    let people: i64 = truth.query_one("SELECT count(*) FROM \"user\" WHERE removed_at IS NULL", &[]).await?.get(0);
    ensure!(people == 2, "{people} people");
    Ok(())
}
