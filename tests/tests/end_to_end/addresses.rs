//! Limits of an address: told in headers, and counted for the address that a request really came from.

use anyhow::{Context, Result, ensure};
use reqwest::Response;
use waltalkie_tests::harness::{Installation, Person, Servers};

async fn ask(who: &Person, forwarded_for: &str) -> Result<Response> {
    let request = reqwest::Client::new().get(format!("{}/v1/users/me", who.base)).bearer_auth(&who.token);
    Ok(request.header("x-forwarded-for", forwarded_for).send().await?)
}

fn header<'a>(response: &'a Response, name: &str) -> Result<&'a str> {
    response.headers().get(name).with_context(|| format!("no {name}"))?.to_str().context("not text")
}

#[tokio::test(flavor = "multi_thread")]
async fn an_address_is_believed_from_trusted_proxies_only() -> Result<()> {
    let limits = [("limits.requests_per_s", "1"), ("limits.requests_burst", "40")];
    for (name, proxies, expected_refused) in [("trusted", "127.0.0.0/8, ::1", false), ("untrusted", "10.0.0.1", true)] {
        let settings = [limits[0], limits[1], ("gateway.trusted_proxies", proxies)];
        let installation = Installation::make_on(Servers::shared()?, name, &settings).await?;
        let process = installation.run(&["all"]).await?;
        let alice = Person::arrive(&installation.config()?, process.gateway()?, "alice").await?;
        // One client floods, and writes other addresses before its own.
        let mut refused = None;
        for number in 0..100 {
            let response = ask(&alice, &format!("198.51.100.{number}, 203.0.113.1")).await?;
            if number == 0 && !expected_refused {
                ensure!(header(&response, "ratelimit-policy")? == "\"address\";q=40;w=40", "{response:?}");
                ensure!(header(&response, "ratelimit")?.starts_with("\"address\";r=39;t="), "{response:?}");
            }
            if response.status() == 429 {
                refused = Some(response);
                break;
            }
        }
        let refused = refused.context("a flood isn't refused")?;
        ensure!(header(&refused, "ratelimit")?.starts_with("\"address\";r=0;t="), "{refused:?}");
        ensure!(header(&refused, "retry-after")? == "1", "{refused:?}");
        let other = ask(&alice, "203.0.113.2").await?;
        ensure!((other.status() == 429) == expected_refused, "{name}: {other:?}");
    }
    Ok(())
}
