//! Mails of what stays unread: one however many messages, none for what was read, and a way out that works with one click.

use std::process::Command;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use waltalkie_tests::harness::{LONG, repository, target_dir, until};

use super::world::World;

#[tokio::test(flavor = "multi_thread")]
async fn what_stays_unread_is_mailed_once_and_what_is_read_is_not() -> Result<()> {
    let mut world = World::make("mailed", &[]).await?;
    let process = world.run().await?;
    let alice = world.arrive(&process, "alice").await?;
    let (bob, carol) = (world.arrive(&process, "bob").await?, world.arrive(&process, "carol").await?);
    let truth = world.installation.truth().await?;
    for person in [&bob, &carol] {
        let address = format!("{}@mail.example", person.user_id);
        truth.execute("UPDATE \"user\" SET email = $2 WHERE id = $1", &[&person.user_id, &address]).await?;
        person.patch("/v1/users/me/settings", json!({ "email": true, "language": "de" })).await?.expect(200)?;
    }
    let chat_id = alice.make_group(&[&bob, &carol], json!({ "name": "Büro" })).await?;
    let mut last = json!(null);
    for number in 1..=3 {
        last = alice.say(&chat_id, &format!("Nachricht {number} <b>")).await?["seq"].clone();
    }
    // Carol reads before it is time.
    carol.post(&format!("/v1/chats/{chat_id}/read"), json!({ "seq": last })).await?;
    let mail = world.mail.next().await?;
    ensure!(mail["to"][0] == "bob@mail.example", "{mail}");
    ensure!(mail["fields"]["Subject"] == "3 ungelesene Nachrichten in Waltalkie", "{mail}");
    ensure!(
        mail["text"].as_str().is_some_and(|text| text.contains("Büro (3)") && text.contains("Nachricht 3 <b>")),
        "{mail}"
    );
    ensure!(mail["html"].as_str().is_some_and(|html| html.contains("Nachricht 3 &lt;b&gt;")), "{mail}");
    ensure!(mail["fields"]["List-Unsubscribe-Post"] == "List-Unsubscribe=One-Click", "{mail}");
    // The next mails are the next message's: carol got none, bob no second one.
    alice.say(&chat_id, "noch eine").await?;
    let mut told = Vec::new();
    for _ in 0..2 {
        let next = world.mail.next().await?;
        ensure!(next["fields"]["Subject"] == "1 ungelesene Nachricht in Waltalkie", "{next}");
        told.push(next["to"][0].as_str().context("an address")?.to_owned());
    }
    told.sort();
    ensure!(told == ["bob@mail.example", "carol@mail.example"], "{told:?}");

    // One click: what a mail program sends, to the address of the mail, by whichever name the gateway has here.
    let link = mail["fields"]["List-Unsubscribe"].as_str().context("a link")?.trim_matches(['<', '>']).to_owned();
    let path = link.strip_prefix("http://chat.example").context("the public address")?;
    let here = format!("{}{path}", process.gateway()?);
    let http = reqwest::Client::new();
    let page = http.get(&here).send().await?;
    ensure!(page.status() == 200 && page.text().await?.contains("Keine Mails mehr"), "the page asks");
    let settings = bob.get("/v1/users/me/settings").await?.expect(200)?;
    ensure!(settings["email"] == true, "looking changes nothing: {settings}");
    let form = "application/x-www-form-urlencoded";
    let click = http.post(&here).header("content-type", form).body("List-Unsubscribe=One-Click").send().await?;
    ensure!(click.status() == 200, "{}", click.status());
    ensure!(click.text().await?.contains("Du bekommst keine Mails"), "the page says what happened");
    let settings = bob.get("/v1/users/me/settings").await?.expect(200)?;
    ensure!(settings["email"] == false && settings["language"] == "de", "{settings}");
    let forged = http.post(format!("{here}x")).body("List-Unsubscribe=One-Click").send().await?;
    ensure!(forged.status() == 400, "{}", forged.status());
    // Somebody who still wants mails is the fence behind which bob's would have come.
    alice.say(&chat_id, "zuletzt").await?;
    let fence = world.mail.next().await?;
    ensure!(fence["to"][0] == "carol@mail.example", "{fence}");
    let read = world.installation.read().await?;
    until("no mail to wait", LONG, async || {
        let sql =
            "SELECT (SELECT count(*) FROM notify_task) + (SELECT count(*) FROM notify_digest WHERE due_at IS NOT NULL)";
        Ok((read.query_one(sql, &[]).await?.get::<_, i64>(0) == 0).then_some(()))
    })
    .await
}

/// The mail server takes it and the connection ends before its answer: mailboxes that get it twice can tell by its id.
#[tokio::test(flavor = "multi_thread")]
async fn a_mail_that_was_taken_without_an_answer_goes_out_again_as_the_same_mail() -> Result<()> {
    let mut world = World::make("mail-lost-answer", &[]).await?;
    let process = world.run().await?;
    let (alice, bob) = (world.arrive(&process, "alice").await?, world.arrive(&process, "bob").await?);
    let truth = world.installation.truth().await?;
    truth.execute("UPDATE \"user\" SET email = 'lost@mail.example' WHERE id = 'bob'", &[]).await?;
    bob.patch("/v1/users/me/settings", json!({ "email": true })).await?.expect(200)?;
    let chat_id = alice.make_group(&[&bob], json!({ "name": "Launch" })).await?;
    alice.say(&chat_id, "Lunch at noon?").await?;
    let (first, again) = (world.mail.next().await?, world.mail.next().await?);
    ensure!(first["text"].as_str().is_some_and(|text| text.contains("Lunch at noon?")), "{first}");
    let id = |mail: &Value| mail["fields"]["Message-ID"].as_str().map(str::to_owned);
    ensure!(id(&first).is_some_and(|id| id.ends_with("@chat.example>")), "{first}");
    ensure!(id(&first) == id(&again) && first["fields"]["Date"] == again["fields"]["Date"], "{first} {again}");
    ensure!(first["text"] == again["text"] && first["html"] == again["html"], "{first} {again}");
    // That one was answered: what comes next is another mail.
    alice.say(&chat_id, "Or later?").await?;
    let other = world.mail.next().await?;
    ensure!(id(&other) != id(&first), "{other}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_digest_looks_right_broad_and_narrow_light_and_dark() -> Result<()> {
    let mut world = World::make("mail-picture", &[("notify.mail_after_ms", "6000")]).await?;
    let process = world.run().await?;
    let (alice, bob) = (world.arrive(&process, "alice").await?, world.arrive(&process, "bob").await?);
    let truth = world.installation.truth().await?;
    truth
        .execute("UPDATE \"user\" SET email = 'bob@mail.example', name = 'Bob Building' WHERE id = 'bob'", &[])
        .await?;
    bob.patch("/v1/users/me/settings", json!({ "email": true })).await?.expect(200)?;
    let address = format!("https://example.com/{}", "noplacetobreak".repeat(10));
    let mut chats = Vec::new();
    // Usual ones, one that nothing breaks, and one from right to left.
    for (name, words) in [
        ("Launch", &["Lunch at noon?", "I have the rocket.", "And the sandwiches."][..]),
        ("Donaudampfschifffahrtselektrizitätenhauptbetriebswerkbauunterbeamtengesellschaft", &[address.as_str()][..]),
        ("צוות", &["מה שלומך?"][..]),
        ("Team <script>alert(1)</script>", &["1", "2", "3", "4", "5", "6", "last & least"][..]),
    ] {
        let chat_id = alice.make_group(&[&bob], json!({ "name": name })).await?;
        for word in words {
            alice.say(&chat_id, word).await?;
        }
        let link = format!("http://chat.example/#/chats/{chat_id}");
        chats.push(json!({ "name": name, "link": link, "text": words[words.len() - 1] }));
    }
    let mail = world.mail.next().await?;
    let (text, html) = (mail["text"].as_str().context("text")?, mail["html"].as_str().context("html")?);
    let unsubscribe = mail["fields"]["List-Unsubscribe"].as_str().context("a link")?.trim_matches(['<', '>']);
    ensure!(mail["fields"]["Subject"] == "12 unread messages in Waltalkie", "{mail}");
    // The plain part says the same, and each link stands on a line where programs find it.
    for chat in &chats {
        let words = ["name", "text"].map(|field| chat[field].as_str().unwrap_or_default());
        ensure!(words.iter().all(|words| text.contains(words)), "{words:?}: {text}");
        ensure!(text.lines().any(|line| chat["link"] == line.trim()), "{chat}: {text}");
    }
    ensure!(text.contains(unsubscribe) && text.contains("and 2 more") && !text.contains("&amp;"), "{text}");

    let pictures = target_dir()?.join("screenshots");
    std::fs::create_dir_all(&pictures)?;
    let file = world.installation.logs().join("digest.html");
    std::fs::write(&file, html)?;
    let expected = json!({ "chats": chats, "home": "http://chat.example/", "unsubscribe": unsubscribe });
    let mut command = Command::new("node");
    command
        .args(["--test", "e2e-mail"])
        .current_dir(repository().join("web"))
        .env("MAIL", &file)
        .env("EXPECTED", expected.to_string())
        .env("SCREENSHOTS", &pictures);
    let output = tokio::task::spawn_blocking(move || command.output()).await?.context("node")?;
    ensure!(
        output.status.success(),
        "{}\n{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(())
}
