//! Headers that claim something else than what a request is: another person, another method, another length.

use anyhow::{Context, Result, ensure};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use waltalkie_tests::harness::{Installation, LONG, Person, fingerprint};

/// Sends bytes as they stand; all that is answered until the connection is closed.
async fn raw(gateway: &str, request: &str) -> Result<String> {
    let address = gateway.strip_prefix("http://").context("no address")?;
    let mut stream = TcpStream::connect(address).await?;
    stream.write_all(request.as_bytes()).await?;
    let mut answer = Vec::new();
    tokio::time::timeout(LONG, stream.read_to_end(&mut answer)).await.context("the connection stays open")??;
    Ok(String::from_utf8_lossy(&answer).into_owned())
}

fn statuses(answer: &str) -> Vec<&str> {
    answer.split("HTTP/1.1 ").skip(1).filter_map(|rest| rest.get(..3)).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn headers_that_claim_something_else_do_nothing() -> Result<()> {
    let installation = Installation::make("smuggled").await?;
    let process = installation.run(&["all"]).await?;
    let (config, gateway) = (installation.config()?, process.gateway()?);
    let alice = Person::arrive(&config, gateway, "alice").await?;
    let bob = Person::arrive(&config, gateway, "bob").await?;
    let chat_id = alice.make_group(&[], serde_json::json!({})).await?;
    let truth = installation.truth().await?;
    let before = fingerprint(&truth).await?;
    let (token, other) = (&alice.token, &bob.token);
    let head = |method: &str, path: &str, more: &str| {
        format!("{method} {path} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token}\r\n{more}\r\n")
    };

    // Who and what: only the token and the request line say it.
    for spoof in
        ["X-User-Id: bob", "X-Forwarded-User: bob", "X-HTTP-Method-Override: DELETE", "X-Original-URL: /v1/dev/users"]
    {
        let answer = raw(gateway, &head("GET", "/v1/users/me", &format!("{spoof}\r\nConnection: close\r\n"))).await?;
        ensure!(statuses(&answer) == ["200"] && answer.contains("\"user_id\":\"alice\""), "{spoof}: {answer}");
    }
    let twice = format!("Authorization: Bearer {other}\r\nConnection: close\r\n");
    let answer = raw(gateway, &head("GET", "/v1/users/me", &twice)).await?;
    ensure!(statuses(&answer) == ["401"], "{answer}");
    let acting = raw(gateway, &head("GET", "/v1/users/me", "On-Behalf-Of: bob\r\nConnection: close\r\n")).await?;
    ensure!(statuses(&acting) == ["403"], "{acting}");

    // How long: what can be read in two ways isn't read at all.
    let path = format!("/v1/chats/{chat_id}/messages");
    let body = "{\"content\":\"smuggled\"}";
    for lengths in [
        "Content-Length: 22\r\nContent-Length: 5\r\n",
        "Content-Length: -1\r\n",
        "Content-Length: 0x16\r\n",
        "Content-Length : 22\r\n",
        "Transfer-Encoding: xchunked\r\n",
        "Transfer-Encoding: chunked, identity\r\n",
        "Content-Length: 22\r\n folded: 1\r\n",
        "Bad Name: x\r\nContent-Length: 22\r\n",
    ] {
        let answer = raw(gateway, &format!("{}{body}", head("POST", &path, lengths))).await?;
        ensure!(statuses(&answer) == ["400"], "{lengths:?}: {answer}");
    }
    // Chunks count where both are given (RFC 9112, 6.3), so the rest is a request of its own, with nobody's token.
    let both = "Content-Length: 99\r\nTransfer-Encoding: chunked\r\n";
    let rest = "GET /v1/users/me HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
    let answer = raw(gateway, &format!("{}0\r\n\r\n{rest}", head("POST", &path, both))).await?;
    ensure!(statuses(&answer) == ["400", "401"] || statuses(&answer) == ["400"], "{answer}");
    ensure!(fingerprint(&truth).await? == before, "something happened");
    Ok(())
}
