//! `clients/rust/` sends files as `docs/clients.md` says; the rest of it is held by every test and bench that uses it.

use anyhow::{Context, Result, ensure};
use tokio::sync::mpsc::Receiver;
use waltalkie_client::api::Api;
use waltalkie_client::{Command, Event, NewFile, Observation, Observed, Options, connect};
use waltalkie_tests::harness::{LONG, store_client, until, within};

use super::media::{World, picture, world};

async fn seen<T>(observed: &mut Receiver<Observed>, what: &str, find: impl Fn(Observation) -> Option<T>) -> Result<T> {
    let looking = async {
        loop {
            if let Some(found) = find(observed.recv().await.context("the client ended")?.what) {
                return anyhow::Ok(found);
            }
        }
    };
    within(what, LONG, looking).await?
}

fn message(observation: Observation) -> Option<Event> {
    match observation {
        Observation::Event(event) if event.kind == "message" => Some(event),
        _ => None,
    }
}

/// A try that was given up had brought the second part: the next one, cut as well, brings the first and nothing else.
#[tokio::test(flavor = "multi_thread")]
async fn an_upload_that_was_given_up_goes_on_where_it_was() -> Result<()> {
    let world = world("rust-client-parts", &[]).await?;
    let World { alice, store, chat, .. } = &world;
    let api = Api::new(&alice.base);
    let bytes = vec![b'1'; 17 << 20];
    let file = NewFile { chat_id: chat, file_name: "data.bin", content_type: None, bytes: &bytes };
    let media_id = api.begin_upload(&alice.token, &file).await?;
    let begun = api.file(&alice.token, &media_id).await?;
    let mut second = begun["upload"].clone();
    second["parts"] = serde_json::json!([second["parts"][1]]);
    // Other bytes, by which it shows whose came.
    let others = vec![b'2'; bytes.len()];
    ensure!(alice.bring(&second, &others).await? == [200]);
    store.proxy.refuse();
    let healed = async {
        until("the client to meet the fault", LONG, async || Ok((store.proxy.resets() > 0).then_some(()))).await?;
        store.proxy.heal();
        anyhow::Ok(())
    };
    let (brought, healed) = tokio::join!(api.go_on_with_upload(&alice.token, &media_id, &file), healed);
    healed?;
    brought?;
    let ready = api.file(&alice.token, &media_id).await?;
    let url = ready["urls"]["download_url"].as_str().context("no URL")?;
    let read = store_client()?.get(url).send().await?.bytes().await?;
    ensure!(read.len() == bytes.len(), "{} bytes", read.len());
    let (first, second) = read.split_at(16 << 20);
    ensure!(first.iter().all(|byte| *byte == b'1'), "the first part is not the client's");
    ensure!(second.iter().all(|byte| *byte == b'2'), "the second part was brought again");
    // What is complete stays so.
    api.go_on_with_upload(&alice.token, &media_id, &file).await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn files_go_to_the_store_and_then_with_their_message() -> Result<()> {
    let world = world("rust-client-files", &[]).await?;
    let World { alice, bob, chat, .. } = &world;
    let api = Api::new(&alice.base);
    let chat_id = chat.as_str().into();
    let (hers, mut told) = connect(Options::new(&alice.base, "alice", &alice.token));
    let (_his, mut his) = connect(Options::new(&bob.base, "bob", &bob.token).from_the_beginning());
    let photo = picture(640, 480, image::ImageFormat::Jpeg)?;
    let large: Vec<u8> = (0..20_u32 << 20).map(|at| (at.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    let file = |file_name, content_type, bytes| NewFile { chat_id: chat, file_name, content_type, bytes };
    let one = api.upload(&alice.token, &file("sea.jpg", Some("image/jpeg"), &photo)).await?;
    let other = api.upload(&alice.token, &file("data.bin", None, &large)).await?;
    let command = Command::send(&chat_id, "").with_attachments(vec![one.clone(), other.clone()]);
    let sent = hers.command(command).await;
    let persisted = |observation| match observation {
        Observation::Persisted { op_id, .. } | Observation::Refused { op_id, .. } if op_id == sent => Some(observation),
        _ => None,
    };
    let answer = seen(&mut told, "the send's answer", persisted).await?;
    ensure!(matches!(answer, Observation::Persisted { .. }), "{answer:?}");
    let event = seen(&mut his, "the message", message).await?;
    let [first, second] = event.attachments.as_slice() else { anyhow::bail!("{event:?}") };
    ensure!((&first.media_id, &*first.kind, first.width_px) == (&one, "image", Some(640)), "{first:?}");
    ensure!((&second.media_id, second.size_bytes) == (&other, large.len() as u64), "{second:?}");
    let found = api.file(&bob.token, &other).await?;
    let url = found["urls"]["download_url"].as_str().context("no URL")?;
    ensure!(store_client()?.get(url).send().await?.bytes().await? == large, "other bytes than were brought");

    // For good: what isn't what it says, and what nobody uploaded.
    let refused = api.upload(&alice.token, &file("photo.png", Some("image/png"), b"no picture at all")).await;
    ensure!(refused.as_ref().is_err_and(|error| error.code() == "media_refused"), "{refused:?}");
    let sent = hers.command(Command::send(&chat_id, "").with_attachments(vec!["nothing".into()])).await;
    let code = seen(&mut told, "the refusal", |observation| match observation {
        Observation::Refused { op_id, code } if op_id == sent => Some(code),
        _ => None,
    });
    let code = code.await?;
    ensure!(code == "media_not_found", "{code}");
    Ok(())
}
