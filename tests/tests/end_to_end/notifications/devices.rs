//! A device is one person's at a time: whoever registers it last.

use anyhow::{Result, ensure};
use serde_json::json;

use super::world::{World, apple_token};

#[tokio::test(flavor = "multi_thread")]
async fn a_device_of_somebody_else_before_shows_nothing_of_theirs_and_nothing_twice() -> Result<()> {
    let world = World::make("moved-device", &[]).await?;
    let process = world.run().await?;
    let (alice, bob) = (world.arrive(&process, "alice").await?, world.arrive(&process, "bob").await?);
    let carol = world.arrive(&process, "carol").await?;
    // An app that names no device registers its token again and again; the spelling of hexadecimal digits doesn't matter.
    for address in [apple_token(0xab), apple_token(0xab).to_uppercase(), apple_token(0xab)] {
        bob.post("/v1/users/me/devices", json!({ "platform": "ios", "address": address })).await?.expect(201)?;
    }
    let listed = bob.get("/v1/users/me/devices").await?.expect(200)?;
    ensure!(listed["devices"].as_array().is_some_and(|devices| devices.len() == 1), "{listed}");
    // Bob signed out where the server couldn't be reached, and carol signs in on the same phone.
    let ios = json!({ "device_id": "phone", "platform": "ios", "address": apple_token(0xab) });
    carol.post("/v1/users/me/devices", ios).await?.expect(201)?;
    let listed = bob.get("/v1/users/me/devices").await?.expect(200)?;
    ensure!(listed["devices"] == json!([]), "{listed}");
    let (with_bob, with_carol) =
        (alice.make_group(&[&bob], json!({})).await?, alice.make_group(&[&carol], json!({})).await?);
    alice.say(&with_bob, "for bob alone").await?;
    alice.say(&with_carol, "for carol").await?;
    let pushed = world.apple_has(0xab, 1).await?;
    ensure!(pushed[0].payload["aps"]["alert"]["body"] == "for carol", "{pushed:?}");
    world.settled().await?;
    ensure!(world.apple(0xab).len() == 1, "{:?}", world.apple(0xab));
    Ok(())
}
