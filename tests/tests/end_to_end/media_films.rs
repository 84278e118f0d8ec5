//! Films and sounds on their whole way: from signed URL to the other side, with what ffmpeg makes of them.

use std::process::Command;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use waltalkie_tests::harness::store_client;

use super::media::{World, world};

/// Three seconds of a picture that moves, with a tone.
fn film() -> Result<Vec<u8>> {
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("film.mp4");
    let status = Command::new("ffmpeg")
        .args(["-v", "error", "-nostdin", "-f", "lavfi", "-i", "testsrc=duration=3:size=640x360:rate=15"])
        .args(["-f", "lavfi", "-i", "sine=frequency=440:duration=3", "-pix_fmt", "yuv420p", "-shortest"])
        .arg(&file)
        .status()
        .context("ffmpeg makes the film of this test (Debian: ffmpeg)")?;
    ensure!(status.success(), "ffmpeg: {status}");
    Ok(std::fs::read(&file)?)
}

/// Two seconds of a tone that swells, as WAV: 8,000 samples a second of 16 bits.
fn tone() -> Vec<u8> {
    let samples: Vec<u8> = (0..16_000_u16)
        .flat_map(|at| {
            let at = f32::from(at) / 16_000.0;
            ((at * (at * 5_000.0).sin() * 30_000.0) as i16).to_le_bytes()
        })
        .collect();
    let head: [&[u8]; 8] = [
        b"RIFF",
        &(36 + samples.len() as u32).to_le_bytes(),
        b"WAVEfmt \x10\0\0\0\x01\0\x01\0",
        &8_000_u32.to_le_bytes(),
        &16_000_u32.to_le_bytes(),
        b"\x02\0\x10\0data",
        &(samples.len() as u32).to_le_bytes(),
        &samples,
    ];
    head.concat()
}

async fn fetched(url: &Value) -> Result<(String, Vec<u8>)> {
    let answer = store_client()?.get(url.as_str().context("no URL")?).send().await?.error_for_status()?;
    let kind = answer.headers()["content-type"].to_str()?.to_owned();
    Ok((kind, answer.bytes().await?.to_vec()))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_film_and_a_sound_reach_the_other_with_poster_duration_and_waveform() -> Result<()> {
    let world = world("media-films", &[]).await?;
    let World { alice, bob, mallory, chat, .. } = &world;
    let (film, tone) = (film()?, tone());
    let mut bobs = bob.connect().await?;
    let film_id = alice.upload(chat, "sea.mp4", "video/mp4", &film).await?;
    let tone_id = alice.upload(chat, "sea.wav", "audio/wav", &tone).await?;
    let body = json!({ "content": "The sea", "attachments": [film_id, tone_id] });
    alice.post(&format!("/v1/chats/{chat}/messages"), body).await?.expect(201)?;

    // The event alone is enough to draw something of the right size.
    let message = bobs.wait("message", |message| message["content"] == "The sea").await?;
    let [moving, heard] = [&message["attachments"][0], &message["attachments"][1]];
    ensure!(moving["media_id"] == film_id.as_str() && moving["kind"] == "video", "{message}");
    ensure!(moving["content_type"] == "video/mp4" && moving["file_name"] == "sea.mp4", "{message}");
    ensure!(moving["width_px"] == 640 && moving["height_px"] == 360, "{message}");
    ensure!(moving["duration_ms"].as_i64().is_some_and(|ms| (2_800..=3_200).contains(&ms)), "{message}");
    ensure!(moving["thumbhash"].as_str().is_some_and(|hash| hash.len() > 20), "{message}");
    ensure!(heard["media_id"] == tone_id.as_str() && heard["kind"] == "audio", "{message}");
    ensure!(heard["duration_ms"].as_i64().is_some_and(|ms| (1_950..=2_050).contains(&ms)), "{message}");
    ensure!(heard["width_px"].is_null() && heard["thumbhash"].is_null(), "{message}");

    let shown = bob.get(&format!("/v1/media/{film_id}")).await?.expect(200)?;
    ensure!(shown["notes"] == json!([]), "{shown}");
    let (kind, bytes) = fetched(&shown["urls"]["url"]).await?;
    ensure!(kind == "video/mp4" && bytes == film, "{kind}, {} bytes", bytes.len());
    let previews = shown["urls"]["previews"].as_array().context("no previews")?;
    let mut posters = 0;
    let mut clips = 0;
    for preview in previews {
        let (kind, bytes) = fetched(&preview["url"]).await?;
        ensure!(preview["size_bytes"] == bytes.len() && preview["content_type"] == kind.as_str(), "{preview}");
        if kind.starts_with("video/") {
            clips += 1;
            ensure!(bytes.get(4..8) == Some(b"ftyp"), "no film: {preview}");
        } else {
            posters += 1;
            let poster = image::load_from_memory(&bytes)?;
            ensure!(poster.width() * 9 == poster.height() * 16, "{} x {}", poster.width(), poster.height());
        }
    }
    ensure!(posters > 0 && clips == 1, "{shown}");

    let shown = bob.get(&format!("/v1/media/{tone_id}")).await?.expect(200)?;
    ensure!(shown["waveform"].as_str().is_some_and(|peaks| peaks.len() == 88), "64 peaks: {shown}");
    let (kind, bytes) = fetched(&shown["urls"]["url"]).await?;
    ensure!(kind == "audio/wav" && bytes == tone, "{kind}, {} bytes", bytes.len());
    for media_id in [&film_id, &tone_id] {
        let answer = mallory.get(&format!("/v1/media/{media_id}")).await?;
        answer.expect_problem(404, "media_not_found", Some("media_id"))?;
    }
    Ok(())
}
