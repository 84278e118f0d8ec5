//! `waltalkie notify test --user`: a test goes out to everything that a person has, in their language, which may be one that the
//! operator added; and the command says what came of each.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use notify::text::Phrase;
use serde_json::{Value, json};

use super::world::{World, apple_token};

/// All that a language needs.
fn add_french(folder: &Path) -> Result<()> {
    let folder = folder.join("fr");
    std::fs::create_dir(&folder)?;
    let phrases = Phrase::ALL.map(|phrase| (phrase.key(), format!("fr {}", phrase.key())));
    std::fs::write(folder.join("phrases.json"), serde_json::to_string(&BTreeMap::from(phrases))?)?;
    for (name, text) in [
        ("digest.subject", "{{ total }} messages non lus"),
        ("digest.txt", "Bonjour"),
        ("digest.html", "<p>Bonjour</p>"),
    ] {
        std::fs::write(folder.join(name), text)?;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_test_goes_to_all_devices_and_the_mailbox_and_says_what_came_of_it() -> Result<()> {
    let folder = tempfile::tempdir()?;
    add_french(folder.path())?;
    let templates = folder.path().to_str().context("a path")?;
    let mut world = World::make("notify-test", &[("notify.templates_dir", templates)]).await?;
    let process = world.run().await?;
    let bob = world.arrive(&process, "bob").await?;
    let browser = world.give_devices(&bob, 1).await?;
    let truth = world.installation.truth().await?;
    truth.execute("UPDATE \"user\" SET email = 'bob@mail.example' WHERE id = 'bob'", &[]).await?;
    let test = async || -> Result<(bool, String)> {
        let mut command = world.installation.command()?;
        command.args(["notify", "test", "--user", "bob"]);
        let output = tokio::task::spawn_blocking(move || command.output()).await??;
        let said = [output.stdout, output.stderr].concat();
        Ok((output.status.success(), String::from_utf8(said)?))
    };
    let (is_well, said) = test().await?;
    ensure!(is_well && said.matches("  sent").count() == 4, "{said}");
    for place in ["ios phone", "android tablet", "web browser", "mail"] {
        ensure!(said.lines().any(|line| line == place), "{place} isn't in {said}");
    }
    let shown: [Value; 3] = [
        world.apple(1).pop().context("nothing at Apple's")?.payload["aps"]["alert"]["body"].take(),
        world.android(1).pop().context("nothing at Android's")?.message["android"]["notification"]["body"].take(),
        world.browser(&browser).pop().context("nothing at the browser's")?["body"].take(),
    ];
    ensure!(shown.iter().all(|body| body == "This is a test."), "{shown:?}");
    // What is gone is told, and the rest goes out all the same.
    world.apns.unregister(&apple_token(1), runtime::clock::now_ms() + 60_000);
    let (is_well, said) = test().await?;
    ensure!(!is_well && said.contains("gone") && said.matches("  sent").count() == 3, "{said}");
    ensure!((world.apple(1).len(), world.android(1).len(), world.browser(&browser).len()) == (1, 2, 2));
    for _ in 0..2 {
        let mail = world.mail.next().await?;
        ensure!(mail["to"].to_string().contains("bob@mail.example"), "{mail}");
    }
    // In the person's language.
    let options = bob.get("/v1/notifications").await?.expect(200)?;
    ensure!(options["languages"] == json!(["en", "de", "fr"]), "{options}");
    bob.patch("/v1/users/me/settings", json!({ "language": "fr-CA", "content": "nothing" })).await?.expect(200)?;
    test().await?;
    let pushed = world.browser(&browser).pop().context("nothing at the browser's")?;
    ensure!(pushed["lang"] == "fr" && pushed["body"] == "fr WALTALKIE_MESSAGE", "{pushed}");
    let mail = world.mail.next().await?;
    ensure!(mail["fields"]["Subject"] == "8 messages non lus", "{mail}");
    // Nobody is nobody, and says so.
    let mut command = world.installation.command()?;
    command.args(["notify", "test", "--user", "nobody"]);
    let output = tokio::task::spawn_blocking(move || command.output()).await??;
    let complained = String::from_utf8_lossy(&output.stderr);
    ensure!(!output.status.success() && complained.contains("there is no person nobody"), "{complained}");
    ensure!(bob.get("/v1/users/me/devices").await?.expect(200)?["devices"] != json!([]), "a test removes nothing");
    Ok(())
}
