//! `/docs` as a gateway serves it: every page, every error code, nothing from elsewhere; and what the web client is installed by.

use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};
use schemas::wire::Code;
use serde_json::Value;
use waltalkie_tests::harness::{Installation, program};

#[test]
fn who_reads_the_beginning_only_sees_no_failure() -> Result<()> {
    let mut printing =
        Command::new(program()?).args(["docs", "openapi"]).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
    drop(printing.stdout.take());
    let output = printing.wait_with_output()?;
    let complained = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success() && complained.is_empty(), "{}: {complained}", output.status);
    Ok(())
}

/// Whether a phone can put the web client on its home screen: the page names a manifest and an icon, and what it names is there.
async fn can_be_installed(gateway: &str, page: &str) -> Result<()> {
    let fetch = async |path: &str, kind: &str| {
        let response = reqwest::get(format!("{gateway}{path}")).await?.error_for_status()?;
        let told = response.headers().get("content-type").and_then(|told| told.to_str().ok()).unwrap_or_default();
        ensure!(told == kind, "{path}: {told}");
        Ok::<_, anyhow::Error>(response.bytes().await?)
    };
    for named in ["href=\"/manifest.webmanifest\"", "href=\"/apple-touch-icon.png\""] {
        ensure!(page.contains(named), "no {named}: {page}");
    }
    fetch("/apple-touch-icon.png", "image/png").await?;
    let manifest: Value = serde_json::from_slice(&fetch("/manifest.webmanifest", "application/manifest+json").await?)?;
    ensure!(manifest["display"] == "standalone" && manifest["start_url"] == "/", "{manifest}");
    let icons = manifest["icons"].as_array().context("no icons")?;
    for size in ["any", "192x192", "512x512"] {
        ensure!(icons.iter().any(|icon| icon["sizes"] == size), "no icon of {size}: {manifest}");
    }
    for icon in icons {
        let (source, kind) = (icon["src"].as_str(), icon["type"].as_str());
        fetch(source.context("an icon without src")?, kind.context("an icon without type")?).await?;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn every_page_and_every_error_is_served() -> Result<()> {
    let installation = Installation::make("documentation").await?;
    let process = installation.run(&["all"]).await?;
    let gateway = process.gateway()?;
    let get = async |path: &str| {
        let response = reqwest::get(format!("{gateway}{path}")).await?;
        let policy = response.headers().get("content-security-policy").and_then(|policy| policy.to_str().ok());
        let policy = policy.unwrap_or_default().to_owned();
        Ok::<_, anyhow::Error>((response.status().as_u16(), policy, response.text().await?))
    };
    let (status, _, index) = get("/docs").await?;
    ensure!(status == 200, "{status}");
    let pages: Vec<&str> = index.split("href=\"").skip(1).filter_map(|rest| rest.split('"').next()).collect();
    ensure!(pages.len() > 10, "{pages:?}");
    for page in pages {
        let (status, policy, text) = get(page).await?;
        ensure!(status == 200 && !text.is_empty(), "{page}: {status}");
        if text.starts_with("<!doctype html>") {
            ensure!(policy.starts_with("default-src 'none'; style-src 'self'"), "{page}: {policy}");
        }
    }
    for code in Code::ALL {
        let name = code.name();
        let (status, _, text) = get(&format!("/docs/errors/{name}")).await?;
        ensure!(status == 200, "{name}: {status}");
        for part in [name.as_str(), ">Cause<", ">Remedy<", ">Try again?<"] {
            ensure!(text.contains(part), "{name}: no {part}");
        }
    }
    // Beside it: whether the process is well, for who balances load, and the web client.
    for path in ["/healthz", "/readyz"] {
        let (status, _, text) = get(path).await?;
        ensure!(status == 200, "{path}: {status} {text}");
    }
    let (status, _, page) = get("/").await?;
    ensure!(status == 200 && page.to_lowercase().starts_with("<!doctype html>"), "{status} {page}");
    can_be_installed(gateway, &page).await?;
    for nothing in ["/docs/nothing", "/docs/errors/nothing", "/docs/..%2fREADME.md"] {
        ensure!(get(nothing).await?.0 == 404, "{nothing}");
    }
    // What a problem names is a page.
    let refused: Value = reqwest::get(format!("{gateway}/v1/chats")).await?.json().await?;
    let (status, ..) = get(refused["type"].as_str().context("no type")?).await?;
    ensure!(status == 200, "{refused}");
    Ok(())
}
