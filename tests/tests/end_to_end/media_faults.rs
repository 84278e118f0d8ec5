//! The store away, hanging, busy, slow, cut in the middle; the node killed while it checks: a clear answer, a retry that works, and nothing
//! half there.

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use waltalkie_tests::harness::{LONG, Mood, Person, StoreFront, store_client, until};

use super::media::{World, photo, picture, world};

async fn begun(world: &World, bytes: &[u8]) -> Result<(String, Value)> {
    let begun = world.alice.begin_upload(&world.chat, "a.jpg", "image/jpeg", bytes.len()).await?;
    Ok((begun["media_id"].as_str().context("no id")?.to_owned(), begun["upload"].clone()))
}

async fn complete(person: &Person, media_id: &str) -> Result<waltalkie_tests::harness::Answer> {
    person.post(&format!("/v1/media/{media_id}/complete"), Value::Null).await
}

async fn state_of(person: &Person, media_id: &str) -> Result<String> {
    let shown = person.get(&format!("/v1/media/{media_id}")).await?.expect(200)?;
    Ok(shown["state"].as_str().unwrap_or_default().to_owned())
}

/// Only what the file itself is: the copy and its two previews.
async fn only_the_file_is_left(world: &World, media_id: &str) -> Result<()> {
    let truth = world.installation.truth().await?;
    until("leftovers to be removed", LONG, async || {
        truth.execute("UPDATE media_leftover SET due_at = clock_timestamp()", &[]).await?;
        let folder: String = truth.query_one("SELECT folder FROM media WHERE id = $1", &[&media_id]).await?.get(0);
        let files = world.store.files()?;
        let is_of_it = |file: &std::path::PathBuf| file.to_string_lossy().contains(folder.trim_end_matches('/'));
        Ok((files.len() == 3 && files.iter().all(is_of_it)).then_some(()))
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_is_away_delays_and_loses_nothing() -> Result<()> {
    let world = world("media-away", &[]).await?;
    let World { alice, bob, chat, store, .. } = &world;
    let photo = photo()?;
    let (media_id, upload) = begun(&world, &photo).await?;
    ensure!(alice.bring(&upload, &photo).await? == [200]);
    store.proxy.refuse();
    let refused = complete(alice, &media_id).await?;
    refused.expect_problem(503, "unavailable", None)?;
    ensure!(refused.body["temporary"] == true && refused.headers.contains_key("retry-after"), "{}", refused.body);
    ensure!(store.proxy.resets() > 0, "the fault never hit");
    // A large upload can't begin without the store, and leaves no row.
    let wanted = json!({ "chat_id": chat, "file_name": "b", "size_bytes": 20 << 20 });
    alice.post("/v1/media", wanted).await?.expect_problem(503, "unavailable", None)?;
    let rows: i64 = world.installation.truth().await?.query_one("SELECT count(*) FROM media", &[]).await?.get(0);
    ensure!(rows == 1, "{rows}");
    // Who only chats notices nothing.
    ensure!(world.process.is_ready().await, "not ready without the store");
    bob.say(chat, "still here").await?;
    store.proxy.heal();
    ensure!(state_of(alice, &media_id).await? == "uploading");
    complete(alice, &media_id).await?.expect(200)?;
    alice.post(&format!("/v1/chats/{chat}/messages"), json!({ "file": media_id })).await?.expect(201)?;
    only_the_file_is_left(&world, &media_id).await
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upload_that_is_cut_is_not_there_and_goes_well_again() -> Result<()> {
    let world = world("media-cut", &[]).await?;
    let World { alice, store, .. } = &world;
    let photo = photo()?;
    let (media_id, upload) = begun(&world, &photo).await?;
    // Half of it is there, and the other half never comes.
    let (half, mut halves) = tokio::sync::mpsc::channel::<std::io::Result<Vec<u8>>>(1);
    let body = futures_util::stream::poll_fn(move |context| halves.poll_recv(context));
    let request = store_client()?
        .put(upload["url"].as_str().context("no url")?)
        .header("content-type", "image/jpeg")
        .header("content-length", photo.len())
        .body(reqwest::Body::wrap_stream(body));
    let bringing = tokio::spawn(request.send());
    half.send(Ok(photo[..photo.len() / 2].to_vec())).await?;
    until("half of it to be there", LONG, async || Ok((!store.files()?.is_empty()).then_some(()))).await?;
    ensure!(store.proxy.cut() > 0, "nothing was cut");
    ensure!(bringing.await?.is_err(), "the upload survived its cut");
    until("half a file to be dropped", LONG, async || Ok(store.files()?.is_empty().then_some(()))).await?;
    complete(alice, &media_id).await?.expect_problem(409, "upload_incomplete", None)?;
    ensure!(alice.bring(&upload, &photo).await? == [200]);
    complete(alice, &media_id).await?.expect(200)?;
    only_the_file_is_left(&world, &media_id).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_hangs_is_given_up_and_asked_again() -> Result<()> {
    let world = world("media-hangs", &[]).await?;
    let World { alice, store, .. } = &world;
    let photo = photo()?;
    let (media_id, upload) = begun(&world, &photo).await?;
    ensure!(alice.bring(&upload, &photo).await? == [200]);
    store.proxy.freeze();
    let answer = complete(alice, &media_id).await?;
    answer.expect_problem(503, "unavailable", None)?;
    ensure!(store.proxy.connections() > 0, "the fault never hit: nobody waits for the store");
    store.proxy.heal();
    complete(alice, &media_id).await?.expect(200)?;
    only_the_file_is_left(&world, &media_id).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_has_too_much_to_do_is_asked_later_and_a_slow_one_is_waited_for() -> Result<()> {
    let front = StoreFront::start().await?;
    let world = world("media-busy", &[("media.endpoint", &front.url)]).await?;
    let World { alice, chat, store, .. } = &world;
    front.set(store.url(), Mood::Well);
    let photo = photo()?;
    let (media_id, upload) = begun(&world, &photo).await?;
    ensure!(alice.bring(&upload, &photo).await? == [200]);
    front.set(store.url(), Mood::Busy);
    // What is tried again by itself, and what isn't.
    let refused = complete(alice, &media_id).await?;
    refused.expect_problem(503, "unavailable", None)?;
    ensure!(refused.body["temporary"] == true && refused.headers.contains_key("retry-after"), "{}", refused.body);
    let tries = front.bad_answers();
    ensure!(tries > 1, "asked {tries} times");
    let wanted = json!({ "chat_id": chat, "file_name": "b", "size_bytes": 20 << 20 });
    alice.post("/v1/media", wanted).await?.expect_problem(503, "unavailable", None)?;
    let tries = front.bad_answers() - tries;
    ensure!(tries > 0, "an upload in parts never asked");
    ensure!(state_of(alice, &media_id).await? == "uploading");
    front.set(store.url(), Mood::Slow);
    let before = front.bad_answers();
    complete(alice, &media_id).await?.expect(200)?;
    ensure!(front.bad_answers() > before, "the copy wasn't slow to come");
    only_the_file_is_left(&world, &media_id).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_copy_that_is_cut_while_it_is_looked_into_makes_nothing_of_the_file() -> Result<()> {
    let front = StoreFront::start().await?;
    let world = world("media-copy-cut", &[("media.endpoint", &front.url)]).await?;
    let World { alice, chat, store, .. } = &world;
    front.set(store.url(), Mood::Cut);
    let photo = photo()?;
    let (media_id, upload) = begun(&world, &photo).await?;
    ensure!(alice.bring(&upload, &photo).await? == [200]);
    complete(alice, &media_id).await?.expect_problem(503, "unavailable", None)?;
    ensure!(front.bad_answers() > 0, "the fault never hit");
    // Half a file is no file: neither ready nor refused.
    ensure!(state_of(alice, &media_id).await? == "uploading");
    let post = json!({ "file": media_id });
    let refused = alice.post(&format!("/v1/chats/{chat}/messages"), post).await?;
    refused.expect_problem(409, "media_not_ready", Some("attachments"))?;
    front.set(store.url(), Mood::Well);
    let ready = complete(alice, &media_id).await?.expect(200)?;
    ensure!(ready["size_bytes"] == photo.len(), "{ready}");
    only_the_file_is_left(&world, &media_id).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_check_is_done_by_one_and_taken_over_from_the_dead() -> Result<()> {
    let mut world = world("media-claims", &[]).await?;
    let photo = photo()?;
    let (media_id, upload) = begun(&world, &photo).await?;
    ensure!(world.alice.bring(&upload, &photo).await? == [200]);
    // A node that hangs in the middle of a check has the claim.
    world.store.proxy.freeze();
    let hanging = {
        let (alice, media_id) = (world.alice.clone(), media_id.clone());
        tokio::spawn(async move { complete(&alice, &media_id).await })
    };
    let truth = world.installation.truth().await?;
    until("the check to begin", LONG, async || {
        let state: String = truth.query_one("SELECT state FROM media", &[]).await?.get(0);
        Ok((state == "checking").then_some(()))
    })
    .await?;
    let busy = complete(&world.alice, &media_id).await?;
    busy.expect_problem(409, "media_busy", None)?;
    ensure!(busy.body["temporary"] == true, "{}", busy.body);
    // It dies; another one takes over when the claim has run out.
    world.process.kill()?;
    ensure!(hanging.await?.is_err());
    world.store.proxy.heal();
    let process = world.installation.run(&["all"]).await?;
    let alice = world.alice.at(process.gateway()?);
    let ready = until("the check to be taken over", LONG, async || {
        let answer = complete(&alice, &media_id).await?;
        if answer.status == 409 {
            answer.expect_problem(409, "media_busy", None)?;
            return Ok(None);
        }
        Ok(Some(answer.expect(200)?))
    })
    .await?;
    ensure!(ready["state"] == "ready", "{ready}");
    only_the_file_is_left(&world, &media_id).await
}

#[tokio::test(flavor = "multi_thread")]
async fn an_accepted_send_of_a_file_that_went_meanwhile_is_refused() -> Result<()> {
    let world = world("media-race", &[]).await?;
    let World { alice, chat, .. } = &world;
    let png = picture(64, 48, image::ImageFormat::Png)?;
    let truth = world.installation.truth().await?;
    let mut socket = alice.connect().await?;
    for round in 0..20 {
        let media_id = alice.upload(chat, "a.png", "image/png", &png).await?;
        let path = format!("/v1/media/{media_id}");
        let message_id = uuid::Uuid::now_v7();
        let send = json!({ "chat_id": chat, "message_id": message_id, "file": media_id });
        let (sent, removed) = tokio::join!(socket.send("send_message", send), alice.delete(&path));
        let sent = sent?;
        let answer =
            socket.answer(sent, |frame| frame["event"] == "error" || frame["payload"]["state"] == "persisted").await?;
        let removed = removed?.status == 204;
        let is_posted = answer["event"] == "ack";
        ensure!(is_posted != removed, "round {round}: posted {is_posted}, removed {removed}: {answer}");
        let uses: i64 =
            truth.query_one("SELECT count(*) FROM media_use WHERE media_id = $1", &[&media_id]).await?.get(0);
        ensure!(uses == i64::from(is_posted), "round {round}");
        if !is_posted {
            ensure!(answer["payload"]["code"] == "media_not_found", "{answer}");
            let discarded =
                socket.send("discard_message", json!({ "chat_id": chat, "message_id": message_id })).await?;
            socket.answer(discarded, |frame| frame["event"] == "ack").await?;
        }
    }
    Ok(())
}
