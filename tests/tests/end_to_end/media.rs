//! Files in messages: uploaded, posted, read by those who may, and gone with their message.

use anyhow::{Context, Result, ensure};
use reqwest::Method;
use serde_json::{Value, json};
use uuid::Uuid;
use waltalkie_tests::harness::{Installation, LONG, ObjectStore, Person, RoleProcess, Servers, store_client, until};

/// People of a group, in an installation with a store of its own.
pub(crate) struct World {
    pub(crate) store: ObjectStore,
    pub(crate) installation: Installation,
    pub(crate) process: RoleProcess,
    pub(crate) alice: Person,
    pub(crate) bob: Person,
    pub(crate) mallory: Person,
    pub(crate) chat: String,
}

pub(crate) async fn world(test: &str, settings: &[(&str, &str)]) -> Result<World> {
    let store = ObjectStore::start().await?;
    let mut all = store.settings().to_vec();
    all.extend([("janitor.interval_ms", "200"), ("limits.commands_per_s", "1000"), ("limits.commands_burst", "1000")]);
    all.extend_from_slice(settings);
    let installation = Installation::make_on(Servers::shared()?, test, &all).await?;
    let process = installation.run(&["all"]).await?;
    let config = installation.config()?;
    let arrive = |name| Person::arrive(&config, process.gateway().unwrap_or_default(), name);
    let (alice, bob, mallory) = (arrive("alice").await?, arrive("bob").await?, arrive("mallory").await?);
    let chat = alice.make_group(&[&bob], json!({ "history_for_new_members": false })).await?;
    Ok(World { store, installation, process, alice, bob, mallory, chat })
}

/// A picture of some size whose pixels differ.
pub(crate) fn picture(width: u32, height: u32, format: image::ImageFormat) -> Result<Vec<u8>> {
    let pixels = image::RgbImage::from_fn(width, height, |x, y| {
        image::Rgb([(x * 255 / width) as u8, (y * 255 / height) as u8, ((x * y) % 251) as u8])
    });
    let mut bytes = std::io::Cursor::new(Vec::new());
    pixels.write_to(&mut bytes, format)?;
    Ok(bytes.into_inner())
}

pub(crate) fn photo() -> Result<Vec<u8>> {
    picture(1_600, 1_200, image::ImageFormat::Jpeg)
}

async fn posted(person: &Person, chat: &str, media: &[&str], content: Option<&str>) -> Result<Value> {
    let mut body = json!({ "attachments": media });
    if let Some(content) = content {
        body["content"] = json!(content);
    }
    person.post(&format!("/v1/chats/{chat}/messages"), body).await?.expect(201)
}

async fn show(person: &Person, media_id: &str) -> Result<Value> {
    person.get(&format!("/v1/media/{media_id}")).await?.expect(200)
}

async fn hidden(person: &Person, media_id: &str) -> Result<()> {
    let answer = person.get(&format!("/v1/media/{media_id}")).await?;
    answer.expect_problem(404, "media_not_found", Some("media_id"))
}

fn url_of(value: &Value) -> Result<&str> {
    value.as_str().with_context(|| format!("no URL: {value}"))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_photo_reaches_the_other_and_nobody_else_and_goes_with_its_message() -> Result<()> {
    let world = world("media", &[]).await?;
    let World { alice, bob, mallory, chat, store, .. } = &world;
    let photo = photo()?;
    let mut bobs = bob.connect().await?;
    ensure!(bobs.hello["limits"]["attachments"] == 10, "{}", bobs.hello);
    let media_id = alice.upload(chat, "../../Urlaub \u{202e}gpj.jpg", "image/jpeg", &photo).await?;
    let own = show(alice, &media_id).await?;
    ensure!(own["state"] == "ready" && own["kind"] == "image", "{own}");
    ensure!(own["file_name"] == "Urlaub gpj.jpg" && own["size_bytes"] == photo.len(), "{own}");
    // Nobody else before it is posted.
    hidden(bob, &media_id).await?;
    hidden(mallory, &media_id).await?;

    let mut alices = alice.connect().await?;
    let message_id = Uuid::now_v7();
    let message = json!({ "chat_id": chat, "message_id": message_id, "attachments": [media_id] });
    let sent = alices.send("send_message", message.clone()).await?;
    alices.answer(sent, |frame| frame["payload"]["state"] == "persisted").await?;
    let frame = bobs.wait("message", |payload| payload["message_id"] == json!(message_id)).await?;
    let attachment = &frame["attachments"][0];
    ensure!(frame["content"] == "" && frame["file"] == json!(media_id), "{frame}");
    ensure!(attachment["width_px"] == 1_600 && attachment["height_px"] == 1_200, "{frame}");
    ensure!(attachment["thumbhash"].as_str().is_some_and(|hash| hash.len() > 20), "{frame}");

    let seen = show(bob, &media_id).await?;
    let http = store_client()?;
    let original = http.get(url_of(&seen["urls"]["url"])?).send().await?;
    let header = |name: &str| original.headers().get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
    ensure!(header("content-type") == "image/jpeg" && header("x-content-type-options") == "nosniff");
    ensure!(header("content-disposition").starts_with("inline; filename=\"Urlaub gpj.jpg\""));
    ensure!(original.bytes().await? == photo);
    let saved = http.get(url_of(&seen["urls"]["download_url"])?).send().await?;
    let named = saved.headers()["content-disposition"].to_str()?.to_owned();
    ensure!(named.starts_with("attachment;") && saved.headers()["content-type"] == "application/octet-stream");
    let previews = seen["urls"]["previews"].as_array().context("no previews")?;
    ensure!(previews.len() == 2 && previews[0]["width_px"] == 320 && previews[1]["width_px"] == 1_280, "{seen}");
    for preview in previews {
        let bytes = http.get(url_of(&preview["url"])?).send().await?.error_for_status()?.bytes().await?;
        let decoded = image::load_from_memory(&bytes)?;
        ensure!(preview["width_px"] == decoded.width() && preview["size_bytes"] == bytes.len(), "{preview}");
    }
    hidden(mallory, &media_id).await?;

    // The same send again is the same message; another file under its id is not.
    let again = alices.send("send_message", message).await?;
    alices.answer(again, |frame| frame["payload"]["state"] == "persisted").await?;
    let other = json!({ "chat_id": chat, "message_id": message_id, "content": "other", "attachments": [media_id] });
    let refused = alices.send("send_message", other).await?;
    // Decided by the persister, so it is accepted first.
    let refused = alices.answer(refused, |frame| frame["event"] == "error").await?;
    ensure!(refused["payload"]["code"] == "message_id_conflict", "{refused}");

    // An edit keeps it.
    let path = format!("/v1/chats/{chat}/messages/{message_id}");
    let edited = alice.patch(&path, json!({ "content": "The sea" })).await?.expect(200)?;
    ensure!(edited["content"] == "The sea" && edited["attachments"][0]["media_id"] == json!(media_id), "{edited}");
    let frame = bobs.wait("message_edited", |payload| payload["message_id"] == json!(message_id)).await?;
    ensure!(frame["attachments"][0]["media_id"] == json!(media_id), "{frame}");

    // A delete takes it from everybody, and its objects from the store.
    ensure!(store.files()?.len() >= 3, "{:?}", store.files()?);
    alice.delete(&path).await?.expect(200)?;
    for person in [alice, bob, mallory] {
        hidden(person, &media_id).await?;
    }
    let gone = bob.get(&path).await?.expect(200)?;
    ensure!(gone["attachments"] == json!([]) && gone["file"].is_null(), "{gone}");
    let truth = world.installation.truth().await?;
    let left: i64 = truth
        .query_one(
            "SELECT (SELECT count(*) FROM message WHERE attachments IS NOT NULL OR file_url IS NOT NULL)
                  + (SELECT count(*) FROM chat_change WHERE message::text LIKE '%' || $1 || '%')",
            &[&media_id],
        )
        .await?
        .get(0);
    ensure!(left == 0, "{left} rows still name the file");
    until("the janitor to remove the objects", LONG, async || {
        let rows: i64 = truth.query_one("SELECT count(*) FROM media", &[]).await?.get(0);
        Ok((rows == 0 && store.files()?.is_empty()).then_some(()))
    })
    .await?;
    let again = alice.post(&format!("/v1/chats/{chat}/messages"), json!({ "attachments": [media_id] })).await?;
    again.expect_problem(404, "media_not_found", Some("attachments"))
}

#[tokio::test(flavor = "multi_thread")]
async fn only_completed_files_of_ones_own_go_into_the_chat_that_they_are_for() -> Result<()> {
    let world = world("media-rules", &[]).await?;
    let World { alice, bob, mallory, chat, .. } = &world;
    let photo = picture(64, 48, image::ImageFormat::Png)?;
    let messages = format!("/v1/chats/{chat}/messages");
    // Not for strangers.
    let wanted = json!({ "chat_id": chat, "file_name": "a.png", "content_type": "image/png", "size_bytes": 10 });
    mallory.post("/v1/media", wanted.clone()).await?.expect_problem(404, "chat_not_found", Some("chat_id"))?;
    let mut elsewhere = wanted.clone();
    elsewhere["chat_id"] = json!("no-such-chat");
    mallory.post("/v1/media", elsewhere).await?.expect_problem(404, "chat_not_found", Some("chat_id"))?;
    // Not before it is complete.
    let begun = alice.begin_upload(chat, "a.png", "image/png", photo.len()).await?;
    let early = begun["media_id"].as_str().context("no id")?.to_owned();
    let refused = alice.post(&messages, json!({ "attachments": [early] })).await?;
    refused.expect_problem(409, "media_not_ready", Some("attachments"))?;
    let complete = format!("/v1/media/{early}/complete");
    alice.post(&complete, Value::Null).await?.expect_problem(409, "upload_incomplete", None)?;
    for stranger in [bob, mallory] {
        stranger.post(&complete, Value::Null).await?.expect_problem(404, "media_not_found", Some("media_id"))?;
        let path = format!("/v1/media/{early}");
        stranger.delete(&path).await?.expect_problem(404, "media_not_found", Some("media_id"))?;
    }
    // Not somebody else's, not in another chat, not one that isn't there.
    let media_id = alice.upload(chat, "a.png", "image/png", &photo).await?;
    for (who, body) in [
        (bob, json!({ "attachments": [media_id] })),
        (alice, json!({ "attachments": [media_id, "nothing"] })),
        (alice, json!({ "file": "nothing" })),
    ] {
        who.post(&messages, body).await?.expect_problem(404, "media_not_found", Some("attachments"))?;
    }
    let other = alice.make_group(&[bob], json!({})).await?;
    let refused = alice.post(&format!("/v1/chats/{other}/messages"), json!({ "file": media_id })).await?;
    refused.expect_problem(404, "media_not_found", Some("attachments"))?;
    // One and the same file in two messages goes with the second.
    let both = json!({ "content": "look", "file": media_id });
    let first = alice.post(&messages, both.clone()).await?.expect(201)?;
    let second = alice.post(&messages, both).await?.expect(201)?;
    ensure!(first["content"] == "look" && first["file"] == json!(media_id), "{first}");
    let path = |message: &Value| format!("{messages}/{}", message["message_id"].as_str().unwrap_or_default());
    alice.delete(&path(&first)).await?.expect(200)?;
    show(bob, &media_id).await?;
    let kept = alice.delete(&format!("/v1/media/{media_id}")).await?;
    kept.expect_problem(409, "conflict", Some("media_id"))?;
    alice.delete(&path(&second)).await?.expect(200)?;
    hidden(bob, &media_id).await?;
    // Given up: gone at once, and no more of it.
    alice.delete(&format!("/v1/media/{early}")).await?.expect(204)?;
    hidden(alice, &early).await?;
    let refused = alice.post(&complete, Value::Null).await?;
    refused.expect_problem(404, "media_not_found", Some("media_id"))
}

#[tokio::test(flavor = "multi_thread")]
async fn who_may_not_see_the_message_doesnt_get_its_file() -> Result<()> {
    let world = world("media-intervals", &[]).await?;
    let World { alice, bob, mallory, chat, .. } = &world;
    let photo = picture(64, 48, image::ImageFormat::Png)?;
    let before = alice.upload(chat, "before.png", "image/png", &photo).await?;
    posted(alice, chat, &[&before], None).await?;
    let members = format!("/v1/chats/{chat}/members");
    alice.post(&members, json!({ "user_ids": ["mallory"] })).await?.expect(201)?;
    // Hidden history hides its files.
    hidden(mallory, &before).await?;
    let during = alice.upload(chat, "during.png", "image/png", &photo).await?;
    posted(alice, chat, &[&during], Some("both of you")).await?;
    show(mallory, &during).await?;
    show(bob, &during).await?;
    // Who was removed gets nothing any more, of no time.
    alice.delete(&format!("{members}/mallory")).await?.expect(200)?;
    hidden(mallory, &during).await?;
    let after = alice.upload(chat, "after.png", "image/png", &photo).await?;
    posted(alice, chat, &[&after], None).await?;
    hidden(mallory, &after).await?;
    // And back again, what was seen then, but not what was said between.
    alice.post(&members, json!({ "user_ids": ["mallory"] })).await?.expect(201)?;
    show(mallory, &during).await?;
    hidden(mallory, &after).await?;
    hidden(mallory, &before).await?;
    // A file and none, by the same answer.
    let theirs = mallory.get(&format!("/v1/media/{after}")).await?;
    let nothing = mallory.get("/v1/media/no-such-file").await?;
    ensure!(theirs.body == nothing.body && theirs.status == nothing.status, "{} {}", theirs.body, nothing.body);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_large_file_comes_in_parts_and_goes_on_where_it_was() -> Result<()> {
    let world = world("media-parts", &[]).await?;
    let World { alice, bob, chat, store, .. } = &world;
    let bytes: Vec<u8> = (0..40_u32 << 20).map(|at| (at.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    let begun = alice.begin_upload(chat, "data.bin", "application/octet-stream", bytes.len()).await?;
    let media_id = begun["media_id"].as_str().context("no id")?.to_owned();
    let path = format!("/v1/media/{media_id}");
    let upload = &begun["upload"];
    ensure!(upload["parts"].as_array().map(Vec::len) == Some(3) && upload["part_bytes"] == 16 << 20, "{upload}");
    // The second part only, then the client forgets everything but the id.
    let mut one = upload.clone();
    one["parts"] = json!([upload["parts"][1]]);
    ensure!(alice.bring(&one, &bytes).await? == [200]);
    let complete = format!("{path}/complete");
    let refused = alice.post(&complete, Value::Null).await?;
    refused.expect_problem(409, "upload_incomplete", None)?;
    ensure!(refused.body["detail"].as_str().is_some_and(|detail| detail.contains("parts: 1, 3")), "{}", refused.body);
    let state = show(alice, &media_id).await?;
    let missing: Vec<u64> = state["upload"]["parts"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(|part| part["part_number"].as_u64())
        .collect();
    ensure!(missing == [1, 3] && state["upload"]["uploaded_parts"] == json!([2]), "{state}");
    // A part of another length than the one that was signed is not taken.
    let url = url_of(&state["upload"]["parts"][1]["url"])?;
    // It is refused by its head; whether the answer is heard depends on how much of the body is under way by then.
    if let Ok(longer) = store_client()?.put(url).body(vec![0; 9 << 20]).send().await {
        ensure!(longer.status() == 403, "{}", longer.status());
    }
    ensure!(show(alice, &media_id).await?["upload"]["uploaded_parts"] == json!([2]));
    ensure!(alice.bring(&state["upload"], &bytes).await? == [200, 200]);
    let ready = alice.post(&complete, Value::Null).await?.expect(200)?;
    ensure!(ready["state"] == "ready" && ready["kind"] == "file", "{ready}");
    ensure!(alice.post(&complete, Value::Null).await?.expect(200)?["state"] == "ready");
    posted(alice, chat, &[&media_id], None).await?;
    let seen = show(bob, &media_id).await?;
    let read = store_client()?.get(url_of(&seen["urls"]["url"])?).send().await?;
    ensure!(read.headers()["content-type"] == "application/octet-stream");
    ensure!(read.headers()["content-disposition"].to_str()?.starts_with("attachment;"));
    ensure!(read.bytes().await? == bytes);
    // A part of it, as players ask.
    let range =
        store_client()?.get(url_of(&seen["urls"]["url"])?).header("range", "bytes=16777210-16777219").send().await?;
    ensure!(range.status() == 206 && range.bytes().await? == bytes[16_777_210..16_777_220]);
    ensure!(store.files()?.len() == 1, "{:?}", store.files()?);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_nobody_completes_or_posts_is_removed_in_its_time() -> Result<()> {
    let world = world("media-janitor", &[("media.open_uploads", "4")]).await?;
    let World { alice, chat, store, .. } = &world;
    let photo = picture(64, 48, image::ImageFormat::Png)?;
    let small = alice.begin_upload(chat, "a.png", "image/png", photo.len()).await?;
    ensure!(alice.bring(&small["upload"], &photo).await? == [200]);
    let large = alice.begin_upload(chat, "b.bin", "application/octet-stream", 20 << 20).await?;
    let mut first = large["upload"].clone();
    first["parts"] = json!([first["parts"][0]]);
    ensure!(alice.bring(&first, &vec![7; 20 << 20]).await? == [200]);
    let unposted = alice.upload(chat, "c.png", "image/png", &photo).await?;
    let posted_id = alice.upload(chat, "d.png", "image/png", &photo).await?;
    posted(alice, chat, &[&posted_id], None).await?;
    for _ in 0..2 {
        alice.begin_upload(chat, "e.png", "image/png", 100).await?;
    }
    let wanted = json!({ "chat_id": chat, "file_name": "f", "size_bytes": 1 });
    alice.post("/v1/media", wanted).await?.expect_problem(409, "conflict", None)?;
    let truth = world.installation.truth().await?;
    // A day and nine days later, as far as the rows tell.
    let age =
        "UPDATE media SET changed_at = changed_at - $1::text::interval, urls_until = urls_until - $1::text::interval";
    truth.execute(age, &[&"25 hours"]).await?;
    let states = "SELECT count(*) FILTER (WHERE state = 'ready'), count(*) FROM media";
    let count = async || -> Result<(i64, i64)> {
        let row = truth.query_one(states, &[]).await?;
        Ok((row.get(0), row.get(1)))
    };
    until("unfinished uploads to be removed", LONG, async || Ok((count().await? == (2, 2)).then_some(()))).await?;
    show(alice, &unposted).await?;
    truth.execute(age, &[&"8 days"]).await?;
    until("the unposted file to be removed", LONG, async || Ok((count().await? == (1, 1)).then_some(()))).await?;
    hidden(alice, &unposted).await?;
    show(alice, &posted_id).await?;
    // Nothing but the posted file and its preview, and no part of the large one.
    until("their objects to be removed", LONG, async || {
        let files = store.files()?;
        let is_posted = |file: &std::path::PathBuf| file.to_string_lossy().contains(&posted_id);
        Ok((!files.is_empty() && files.iter().all(is_posted)).then_some(()))
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upload_that_is_asked_for_twice_is_one() -> Result<()> {
    let world = world("media-repeated", &[]).await?;
    let World { alice, chat, .. } = &world;
    let wanted = json!({ "chat_id": chat, "file_name": "a.png", "content_type": "image/png", "size_bytes": 100 });
    let first = alice.post_once("/v1/media", "key-1", wanted.clone()).await?.expect(201)?;
    let again = alice.post_once("/v1/media", "key-1", wanted).await?;
    ensure!(again.headers.get("idempotent-replayed").is_some_and(|value| value == "true"));
    let again = again.expect(201)?;
    ensure!(first["media_id"] == again["media_id"] && again["upload"]["url"].is_string(), "{again}");
    let kept: String = world
        .installation
        .truth()
        .await?
        .query_one("SELECT body::text FROM idempotent_answer WHERE key = 'key-1'", &[])
        .await?
        .get(0);
    ensure!(!kept.contains("X-Amz-Signature"), "{kept}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn browsers_may_bring_files_from_the_page() -> Result<()> {
    let world = world("media-browsers", &[]).await?;
    let begun = world.alice.begin_upload(&world.chat, "a.png", "image/png", 10).await?;
    let url = url_of(&begun["upload"]["url"])?;
    let preflight = store_client()?
        .request(Method::OPTIONS, url)
        .header("origin", world.process.gateway()?)
        .header("access-control-request-method", "PUT")
        .header("access-control-request-headers", "content-type")
        .send()
        .await?;
    ensure!(preflight.status() == 204 && preflight.headers()["access-control-allow-origin"] == "*");
    ensure!(preflight.headers()["access-control-allow-headers"] == "content-type");
    let page = reqwest::get(world.process.gateway()?).await?;
    let policy = page.headers()["content-security-policy"].to_str()?.to_owned();
    let store = url.split("/waltalkie-media").next().context("no origin")?;
    for part in [format!("connect-src 'self' {store}"), format!("img-src 'self' blob: {store}")] {
        ensure!(policy.contains(&part), "{policy}");
    }
    Ok(())
}
