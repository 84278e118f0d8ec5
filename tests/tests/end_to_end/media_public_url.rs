//! `media.public_url`: clients reach the store at another address than the nodes do. Nothing but a proxy in between that hands the
//! `Host` on.

use anyhow::{Context, Result, ensure};
use faults::Proxy;
use serde_json::json;
use waltalkie_tests::harness::{Installation, ObjectStore, Person, Servers, store_client};

use super::media::photo;

#[tokio::test(flavor = "multi_thread")]
async fn clients_bring_and_read_files_by_an_address_of_their_own() -> Result<()> {
    let store = ObjectStore::start().await?;
    let settings = store.settings();
    let (_, endpoint) = settings.iter().find(|(key, _)| *key == "media.endpoint").context("no endpoint")?;
    let (public, public_url) = Proxy::before_url(endpoint).await?;
    let mut all = settings.to_vec();
    all.push(("media.public_url", &public_url));
    let installation = Installation::make_on(Servers::shared()?, "media-public-url", &all).await?;
    let process = installation.run(&["all"]).await?;
    let config = installation.config()?;
    let alice = Person::arrive(&config, process.gateway()?, "alice").await?;
    let bob = Person::arrive(&config, process.gateway()?, "bob").await?;
    let chat = alice.make_group(&[&bob], json!({})).await?;

    let photo = photo()?;
    let begun = alice.begin_upload(&chat, "sea.jpg", "image/jpeg", photo.len()).await?;
    let bring_to = begun["upload"]["url"].as_str().context("no URL")?;
    ensure!(bring_to.starts_with(&format!("{public_url}/")), "{bring_to}");
    ensure!(alice.bring(&begun["upload"], &photo).await? == [200], "the store took nothing by the public address");
    // Nodes go their own way.
    public.refuse();
    let media_id = begun["media_id"].as_str().context("no media_id")?;
    let ready = alice.post(&format!("/v1/media/{media_id}/complete"), json!(null)).await?.expect(200)?;
    ensure!(ready["state"] == "ready", "{ready}");
    public.heal();
    alice.post(&format!("/v1/chats/{chat}/messages"), json!({ "attachments": [media_id] })).await?.expect(201)?;
    let seen = bob.get(&format!("/v1/media/{media_id}")).await?.expect(200)?;
    let http = store_client()?;
    let previews = seen["urls"]["previews"].as_array().into_iter().flatten().map(|preview| &preview["url"]);
    for url in previews.chain([&seen["urls"]["url"], &seen["urls"]["download_url"]]) {
        let url = url.as_str().context("no URL")?;
        ensure!(url.starts_with(&format!("{public_url}/")), "{url}");
        let answer = http.get(url).send().await?;
        ensure!(answer.status().is_success(), "{url}: {}", answer.status());
        // The Host is signed: it counts at that address alone.
        let elsewhere = http.get(url.replacen(&public_url, endpoint, 1)).send().await?;
        ensure!(elsewhere.status() == 403, "{}", elsewhere.status());
    }

    // And the web client's pages may go there.
    let page = reqwest::get(format!("{}/", process.gateway()?)).await?;
    let policy = page.headers()["content-security-policy"].to_str()?;
    for what in ["img-src", "media-src", "connect-src"] {
        let allowed = policy.split(';').map(str::trim).find(|rule| rule.starts_with(what)).context(what)?;
        ensure!(allowed.split(' ').any(|origin| origin == public_url), "{policy}");
        ensure!(!allowed.contains(endpoint), "{policy}");
    }
    Ok(())
}
