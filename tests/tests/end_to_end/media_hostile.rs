//! Files that are not what they say, and URLs that are not used as they were given: each is refused with a reason, and nothing
//! of it is left.

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use waltalkie_tests::harness::{LONG, Person, store_client, until};

use super::media::{World, picture, world};

/// A PNG that says it has 50,000 × 50,000 pixels.
fn bomb() -> Vec<u8> {
    let head = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR\0\0\xc3\x50\0\0\xc3\x50\x08\x02\0\0\0\xc4\xcd\xaa\x9d";
    let pixels = b"\x00\x00\x00\x0b\x49\x44\x41\x54\x78\x9c\x63\x60\x80\x00\x00\x00\x08\x00\x01\xb7\x58\x73\x95";
    [head.as_slice(), pixels, b"\x00\x00\x00\x00\x49\x45\x4e\x44\xae\x42\x60\x82"].concat()
}

async fn refused_after_upload(world: &World, name: &str, kind: &str, bytes: &[u8]) -> Result<String> {
    let World { alice, chat, .. } = world;
    let begun = alice.begin_upload(chat, name, kind, bytes.len()).await?;
    let media_id = begun["media_id"].as_str().context("no id")?;
    ensure!(alice.bring(&begun["upload"], bytes).await? == [200], "{name}");
    let path = format!("/v1/media/{media_id}/complete");
    let refused = alice.post(&path, Value::Null).await?;
    refused.expect_problem(422, "media_refused", Some("media_id")).with_context(|| name.to_owned())?;
    let reason = refused.body["detail"].as_str().unwrap_or_default().to_owned();
    // The same again is answered the same.
    ensure!(alice.post(&path, Value::Null).await?.body["detail"] == json!(reason), "{name}");
    let state = alice.get(&format!("/v1/media/{media_id}")).await?.expect(200)?;
    ensure!(state["state"] == "refused" && state["urls"].is_null() && state["upload"].is_null(), "{name}: {state}");
    let sent = alice.post(&format!("/v1/chats/{chat}/messages"), json!({ "file": media_id })).await?;
    sent.expect_problem(404, "media_not_found", Some("attachments"))?;
    Ok(reason)
}

#[tokio::test(flavor = "multi_thread")]
async fn files_that_are_not_what_they_say_are_refused_and_removed() -> Result<()> {
    let world = world("media-hostile", &[("media.open_uploads", "100")]).await?;
    let png = picture(64, 48, image::ImageFormat::Png)?;
    let jpeg = picture(640, 480, image::ImageFormat::Jpeg)?;
    let html = b"<!doctype html><script>alert(1)</script>".to_vec();
    let svg = b"<svg xmlns=\"http://www.w3.org/2000/svg\"><script>alert(1)</script></svg>".to_vec();
    let handler = b"<svg xmlns=\"http://www.w3.org/2000/svg\" onload=\"alert(1)\"/>".to_vec();
    let two_in_one = [png.as_slice(), b"PK\x05\x06", &[0; 18]].concat();
    let cases: [(&str, &str, &[u8], &str); 10] = [
        ("page.png", "image/png", &html, "declared as image/png"),
        ("photo.jpg", "image/jpeg", &png, "declared as image/jpeg"),
        ("program.png", "image/png", b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0", "declared as image/png"),
        ("script.svg", "image/svg+xml", &svg, "script"),
        ("handler.svg", "image/svg+xml", &handler, "script"),
        ("cut.jpg", "image/jpeg", &jpeg[..jpeg.len() / 2], "damaged"),
        ("cut.png", "image/png", &png[..png.len() / 2], "damaged"),
        ("head.png", "image/png", &png[..20], "damaged"),
        ("bomb.png", "image/png", &bomb(), "pixels"),
        ("two.png", "image/png", &two_in_one, "in one"),
    ];
    for (name, kind, bytes, expected) in cases {
        let reason = refused_after_upload(&world, name, kind, bytes).await?;
        ensure!(reason.contains(expected), "{name}: {reason}");
    }
    let files = world.store.files()?;
    ensure!(files.is_empty(), "left: {files:?}");
    // An honest one goes on being taken.
    world.alice.upload(&world.chat, "a.png", "image/png", &png).await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_isnt_taken_is_refused_before_a_byte_comes() -> Result<()> {
    let settings = [("media.max_file_bytes", "1000"), ("media.allowed_types", "image/*, application/pdf")];
    let world = world("media-limits", &settings).await?;
    let World { alice, chat, .. } = &world;
    let ask = async |kind: &str, size: u64| {
        let wanted = json!({ "chat_id": chat, "file_name": "a", "content_type": kind, "size_bytes": size });
        alice.post("/v1/media", wanted).await
    };
    ask("image/png", 1_000).await?.expect(201)?;
    ask("image/png", 1_001).await?.expect_problem(413, "media_too_large", Some("size_bytes"))?;
    ask("text/html", 10).await?.expect_problem(422, "media_type_refused", Some("content_type"))?;
    ask("image/png\r\nX: y", 10).await?.expect_problem(400, "bad_field", Some("content_type"))?;
    ask("image/png", 0).await?.expect_problem(400, "bad_field", Some("size_bytes"))?;
    Ok(())
}

async fn put(url: &str, kind: &str, bytes: Vec<u8>) -> Result<u16> {
    Ok(store_client()?.put(url).header("content-type", kind).body(bytes).send().await?.status().as_u16())
}

async fn url_of_upload(alice: &Person, chat: &str, size: usize) -> Result<(String, String)> {
    let begun = alice.begin_upload(chat, "a.png", "image/png", size).await?;
    let text = |value: &Value| value.as_str().context("no text").map(str::to_owned);
    Ok((text(&begun["media_id"])?, text(&begun["upload"]["url"])?))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_url_does_what_was_signed_and_nothing_else() -> Result<()> {
    let world = world("media-urls", &[]).await?;
    let World { alice, bob, chat, store, .. } = &world;
    let png = picture(64, 48, image::ImageFormat::Png)?;
    let (media_id, url) = url_of_upload(alice, chat, png.len()).await?;
    // Another length, another type, another key, another day, no signature.
    let longer = [png.as_slice(), b"more"].concat();
    ensure!(put(&url, "image/png", longer).await? == 403);
    ensure!(put(&url, "image/png", png[1..].to_vec()).await? == 403);
    ensure!(put(&url, "text/html", png.clone()).await? == 403);
    ensure!(put(&url.replace("/file?", "/other?"), "image/png", png.clone()).await? == 403);
    let later = url.replace("X-Amz-Expires=3600", "X-Amz-Expires=360000");
    ensure!(later != url && put(&later, "image/png", png.clone()).await? == 403);
    let bare = url.split('?').next().context("no query")?;
    ensure!(put(bare, "image/png", png.clone()).await? == 403);
    ensure!(store_client()?.get(&url).send().await?.status() == 403, "an upload's URL reads nothing");
    ensure!(store_client()?.delete(&url).send().await?.status() == 403, "nor does it remove");
    ensure!(store.files()?.is_empty(), "{:?}", store.files()?);

    ensure!(put(&url, "image/png", png.clone()).await? == 200);
    alice.post(&format!("/v1/media/{media_id}/complete"), Value::Null).await?.expect(200)?;
    alice.post(&format!("/v1/chats/{chat}/messages"), json!({ "file": media_id })).await?.expect(201)?;
    // Used again, it changes nothing that anybody reads, and what it brings is removed once no such URL counts.
    let mut evil = png.clone();
    let last = evil.len() - 1;
    evil[last] ^= 1;
    ensure!(put(&url, "image/png", evil).await? == 200);
    let seen = bob.get(&format!("/v1/media/{media_id}")).await?.expect(200)?;
    let read = seen["urls"]["url"].as_str().context("no url")?.to_owned();
    ensure!(store_client()?.get(&read).send().await?.bytes().await? == png);
    let truth = world.installation.truth().await?;
    truth.execute("UPDATE media_leftover SET due_at = clock_timestamp()", &[]).await?;
    until("the replayed upload to be removed", LONG, async || {
        let files = store.files()?;
        Ok(files.iter().all(|file| file.to_string_lossy().contains(&media_id)).then_some(()))
    })
    .await?;
    // A URL to read with: not under another name or type, not for another file.
    for (from, to) in [("image%2Fpng", "text%2Fhtml"), ("inline", "attachment"), ("/original?", "/preview-0.jpg?")] {
        let other = read.replacen(from, to, 1);
        ensure!(other != read, "{from} isn't in the URL");
        ensure!(store_client()?.get(&other).send().await?.status() == 403, "{from} → {to}");
    }
    ensure!(put(&read, "image/png", png).await? == 403);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_can_run_script_is_only_saved() -> Result<()> {
    let world = world("media-script", &[]).await?;
    let World { alice, chat, .. } = &world;
    let html = b"<!doctype html><title>x</title><script>alert(1)</script>".to_vec();
    let svg = b"<svg xmlns=\"http://www.w3.org/2000/svg\"><rect width=\"1\" height=\"1\"/></svg>".to_vec();
    let pdf = b"%PDF-1.4\n1 0 obj<</Type/Catalog>>endobj\ntrailer<</Root 1 0 R>>\n%%EOF\n".to_vec();
    for (name, kind, bytes) in
        [("a.html", "text/html", html), ("a.svg", "image/svg+xml", svg), ("a.pdf", "application/pdf", pdf)]
    {
        let media_id = alice.upload(chat, name, kind, &bytes).await.with_context(|| name.to_owned())?;
        let seen = alice.get(&format!("/v1/media/{media_id}")).await?.expect(200)?;
        let url = seen["urls"]["url"].as_str().context("no url")?;
        let read = store_client()?.get(url).send().await?;
        let header = |name: &str| read.headers().get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
        ensure!(header("content-type") == "application/octet-stream", "{name}: {}", header("content-type"));
        ensure!(header("content-disposition").starts_with("attachment;"), "{name}");
        ensure!(header("x-content-type-options") == "nosniff", "{name}");
        ensure!(seen["kind"] == "file", "{seen}");
    }
    Ok(())
}
