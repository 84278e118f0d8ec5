//! Files whose check, removal or reader isn't what it was when it began.

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use waltalkie_tests::harness::{LONG, until};

use super::media::{photo, picture, world};

#[tokio::test(flavor = "multi_thread")]
async fn a_check_whose_folder_was_given_up_meanwhile_makes_no_file_ready() -> Result<()> {
    let world = world("media-long-check", &[]).await?;
    let photo = photo()?;
    let begun = world.alice.begin_upload(&world.chat, "a.jpg", "image/jpeg", photo.len()).await?;
    let media_id = begun["media_id"].as_str().context("no id")?.to_owned();
    ensure!(world.alice.bring(&begun["upload"], &photo).await? == [200]);
    world.store.proxy.freeze();
    let path = format!("/v1/media/{media_id}/complete");
    let checking = {
        let (alice, path) = (world.alice.clone(), path.clone());
        tokio::spawn(async move { alice.post(&path, Value::Null).await })
    };
    // As the janitor does it after an hour.
    let truth = world.installation.truth().await?;
    until("the check's folder to be given up", LONG, async || {
        Ok((truth.execute("DELETE FROM media_leftover", &[]).await? > 0).then_some(()))
    })
    .await?;
    world.store.proxy.heal();
    checking.await??.expect_problem(503, "unavailable", None)?;
    let ready = world.alice.post(&path, Value::Null).await?.expect(200)?;
    ensure!(ready["state"] == "ready", "{ready}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn an_uploader_who_left_reads_what_they_posted_no_more() -> Result<()> {
    let world = world("media-left", &[]).await?;
    let png = picture(64, 48, image::ImageFormat::Png)?;
    let wanted = json!({
        "chat_id": world.chat, "file_name": "a.png", "content_type": "image/png", "size_bytes": png.len(),
    });
    let begun = world.bob.post_once("/v1/media", "key-1", wanted.clone()).await?.expect(201)?;
    let media_id = begun["media_id"].as_str().context("no id")?.to_owned();
    ensure!(world.bob.bring(&begun["upload"], &png).await? == [200]);
    let complete = format!("/v1/media/{media_id}/complete");
    world.bob.post(&complete, Value::Null).await?.expect(200)?;
    let messages = format!("/v1/chats/{}/messages", world.chat);
    world.bob.post(&messages, json!({ "file": media_id })).await?.expect(201)?;
    let again = world.bob.post(&complete, Value::Null).await?.expect(200)?;
    ensure!(again["urls"].is_object(), "{again}");
    world.alice.delete(&format!("/v1/chats/{}/members/bob", world.chat)).await?;
    world.bob.get(&format!("/v1/media/{media_id}")).await?.expect_problem(404, "media_not_found", Some("media_id"))?;
    world.bob.post(&complete, Value::Null).await?.expect_problem(404, "media_not_found", Some("media_id"))?;
    let repeated = world.bob.post_once("/v1/media", "key-1", wanted).await?;
    ensure!(!repeated.body.to_string().contains("X-Amz-Signature"), "{}", repeated.body);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_removed_keeps_nothing_else_from_it() -> Result<()> {
    let world = world("media-stuck", &[]).await?;
    let truth = world.installation.truth().await?;
    // The store refuses to give up an upload of such a name; behind it another note, and a file.
    let notes = "
        INSERT INTO media_leftover (folder, upload_key, upload_id, due_at)
             VALUES ('stuck/', 'stuck/a', 'no upload', clock_timestamp() - interval '2 hours');
        INSERT INTO media_leftover (folder, due_at) VALUES ('other/', clock_timestamp() - interval '1 hour')";
    let png = picture(64, 48, image::ImageFormat::Png)?;
    let stuck = world.alice.upload(&world.chat, "a.png", "image/png", &png).await?;
    let other = world.alice.upload(&world.chat, "b.png", "image/png", &png).await?;
    let spoil = "UPDATE media SET upload_id = 'no upload' WHERE id = $1";
    truth.execute(spoil, &[&stuck]).await?;
    truth.batch_execute(notes).await?;
    for media_id in [&stuck, &other] {
        world.alice.delete(&format!("/v1/media/{media_id}")).await?;
    }
    until("everything else to be removed", LONG, async || {
        let sql = "SELECT (SELECT count(*) FROM media WHERE id = $1)
                        + (SELECT count(*) FROM media_leftover WHERE folder = 'other/')";
        Ok((truth.query_one(sql, &[&other]).await?.get::<_, i64>(0) == 0).then_some(()))
    })
    .await?;
    let left = "SELECT (SELECT count(*) FROM media WHERE id = $1)
                     + (SELECT count(*) FROM media_leftover WHERE folder = 'stuck/')";
    ensure!(truth.query_one(left, &[&stuck]).await?.get::<_, i64>(0) == 2, "what is stuck is given up");
    Ok(())
}
