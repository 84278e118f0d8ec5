//! `waltalkie token`: tokens for development, and why one is refused.

use anyhow::{Result, ensure};
use serde_json::json;
use waltalkie_tests::harness::{Installation, KeyServer, Person, Servers, SigningKey};

/// Status, standard output and standard error of a command.
async fn say(installation: &Installation, arguments: &[&str]) -> Result<(bool, String, String)> {
    let mut command = installation.command()?;
    command.arg("token").args(arguments);
    let output = tokio::task::spawn_blocking(move || command.output()).await??;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim().to_owned();
    Ok((output.status.success(), text(&output.stdout), text(&output.stderr)))
}

#[tokio::test(flavor = "multi_thread")]
async fn tokens_are_printed_and_explained() -> Result<()> {
    let (key, foreign) = (SigningKey::make("ES256", "current")?, SigningKey::make("ES256", "foreign")?);
    let published = KeyServer::start(&[&key]).await?;
    let settings = [("auth.jwks_url", published.url.as_str()), ("auth.audience", "chat")];
    let installation = Installation::make_on(Servers::shared()?, "token-commands", &settings).await?;
    let process = installation.run(&["all"]).await?;
    let gateway = process.gateway()?;

    let (is_good, token, said) = say(&installation, &["--service", "--scope", "users:write chats:write"]).await?;
    ensure!(is_good, "{said}");
    Person::with_token(gateway, "service", &token).put("/v1/users/alice", json!({})).await?.expect(201)?;
    let (_, explained, _) = say(&installation, &["explain", &token]).await?;
    ensure!(explained.contains("taken") && explained.contains("users:write chats:write"), "{explained}");
    for wrong in [
        &["--service"][..],
        &["--service", "--scope", "users:wipe"],
        &["--user", "a", "--service", "b", "--scope", "x"],
        &[],
    ] {
        let (is_good, token, said) = say(&installation, wrong).await?;
        ensure!(!is_good && token.is_empty() && !said.is_empty(), "{wrong:?}: {token} {said}");
    }

    let now_s = runtime::clock::now_ms() / 1_000;
    let claims = |audience: &str, ends_in: i64| json!({ "sub": "alice", "aud": audience, "exp": now_s + ends_in });
    let cases = [
        (key.sign(&claims("chat", 60))?, true, "it speaks for alice"),
        (key.sign(&claims("billing", 60))?, false, "token_invalid: The token isn't meant for this service (aud)."),
        (key.sign(&claims("chat", -60))?, false, "token_expired"),
        (foreign.sign(&claims("chat", 60))?, false, "isn't signed by a key known here"),
        ("what?".to_owned(), false, "is no JWT"),
    ];
    for (token, is_taken, reason) in &cases {
        let (is_good, explained, said) = say(&installation, &["explain", token]).await?;
        ensure!(is_good == *is_taken && explained.contains(reason), "{explained} {said}");
        let signature = token.rsplit('.').next().unwrap_or_default();
        let is_shown = token.contains('.') && (explained + &said).contains(signature);
        ensure!(!is_shown, "the signature of {token} is shown");
    }
    Ok(())
}
