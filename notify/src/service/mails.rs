//! A digest's mail, as things are when it is sent.

use runtime::{Secret, clock};
use schemas::{DigestChat, Notification};

use super::Notifier;
use super::error::Error;
use super::messages::Sent;
use super::people::settings_of;
use super::sending::{Call, Ready};
use super::tasks::Task;
use crate::languages::Texts;
use crate::mail::{ChatContent, DigestContent, MessageContent};
use crate::payload::Phrase;
use crate::settings::Settings;

/// Messages of a chat that a mail shows; the latest.
const SHOWN: usize = 5;
/// Chats whose messages are read for it. Further ones are counted.
const CHATS: usize = 20;

const PERSON: &str = "
    SELECT u.email, u.name, s.settings FROM \"user\" u LEFT JOIN user_settings s ON s.user_id = u.id
     WHERE u.id = $1 AND coalesce(u.email, '') <> ''";
const CHAT: &str = "
    SELECT CASE WHEN c.is_group THEN nullif(trim(c.name), '') END,
           (SELECT coalesce(nullif(trim(u.name), ''), x.user_id) FROM chat_member x LEFT JOIN \"user\" u ON u.id = x.user_id
             WHERE x.chat_id = c.id AND x.user_id <> $2 AND x.left_seq IS NULL ORDER BY x.user_id LIMIT 1)
      FROM chat c JOIN chat_member m ON m.chat_id = c.id AND m.user_id = $2 AND m.left_seq IS NULL WHERE c.id = $1";

/// What of one chat is in a mail.
struct Part {
    name: String,
    link: String,
    count: u64,
    messages: Vec<Sent>,
}

/// Makes a mail's task ready.
pub(crate) async fn ready(notifier: &Notifier, task: &Task) -> Result<Ready, Error> {
    let Some(outlet) = &notifier.outlets.mail else { return Ok(Ready::Cancelled("no_mail")) };
    let digest = task.payload.clone().and_then(|payload| serde_json::from_value::<Notification>(payload).ok());
    let Some(digest) = digest else { return Ok(Ready::Unfit("its content can't be read".into())) };
    let person = {
        let client = notifier.truth.get().await?;
        client.query_opt(PERSON, &[&task.user_id]).await.map_err(Error::database("reading a person"))?
    };
    let Some(person) = person else { return Ok(Ready::Cancelled("no_address")) };
    let (address, name): (String, Option<String>) = (person.get(0), person.get(1));
    let settings = settings_of(person.get(2));
    if !settings.email {
        return Ok(Ready::Cancelled("off"));
    }
    let parts = parts(notifier, task, &digest.digest_chats, &settings).await?;
    if parts.is_empty() {
        return Ok(Ready::Cancelled("read"));
    }
    let zone = settings.do_not_disturb.clone().map(|hours| crate::quiet::DoNotDisturb::from(hours).time_zone);
    let texts = notifier.outlets.languages.texts(settings.language);
    let content = DigestContent {
        id: &task.message_id,
        user_id: &task.user_id,
        name: name.as_deref(),
        address: &address,
        language: settings.language,
        content: settings.content,
        time_zone: zone.as_deref(),
        chats: parts.iter().map(|part| content_of(part, texts)).collect(),
    };
    // Dated when it was taken, so that the same mail sent again is the same in every byte.
    let dated_ms = if digest.decided_at > 0 { digest.decided_at } else { clock::now_ms() };
    match outlet.mailer.digest(&content, dated_ms) {
        Ok(mail) => {
            let call = Box::new(Call::Mail { to: Secret::new(address.clone()), raw: mail.raw });
            Ok(Ready::Call { call, refusals: 0 })
        }
        Err(error) => Ok(Ready::Unfit(super::error::chain(&error))),
    }
}

/// What is still unread, in chats that the person still hears of.
async fn parts(
    notifier: &Notifier,
    task: &Task,
    chats: &[DigestChat],
    settings: &Settings,
) -> Result<Vec<Part>, Error> {
    let ids: Vec<&str> = chats.iter().map(|chat| chat.chat_id.as_str()).collect();
    let users: Vec<&str> = ids.iter().map(|_| task.user_id.as_str()).collect();
    let cursors = notifier.people.cursors(&ids, &users).await?;
    let mut parts = Vec::new();
    for chat in chats {
        let read_seq = cursors.get(&(chat.chat_id.clone(), task.user_id.clone())).map_or(0, |(_, read_seq)| *read_seq);
        let unread: Vec<i64> = chat.seqs.iter().copied().filter(|seq| *seq > read_seq).collect();
        if settings.muted_chat_ids.contains(&chat.chat_id) {
            continue;
        }
        let older = if unread.len() == chat.seqs.len() { chat.unread_count - chat.seqs.len() as i64 } else { 0 };
        let there = notifier.messages.there(&chat.chat_id, &unread).await?;
        let client = notifier.truth.get().await?;
        let row = client.query_opt(CHAT, &[&chat.chat_id, &task.user_id]).await;
        let Some(row) = row.map_err(Error::database("reading a chat"))? else { continue };
        drop(client);
        if there.is_empty() {
            continue;
        }
        let shown = if parts.len() < CHATS { &there[there.len().saturating_sub(SHOWN)..] } else { &[] };
        let same: Vec<&str> = shown.iter().map(|_| chat.chat_id.as_str()).collect();
        let mut messages: Vec<Sent> = notifier.messages.all(&same, shown).await?.into_values().collect();
        messages.sort_unstable_by_key(|message| message.seq);
        let last = messages.last().map(|message| message.message_id.clone()).unwrap_or_default();
        parts.push(Part {
            name: row.get::<_, Option<String>>(0).or(row.get(1)).unwrap_or_default(),
            link: notifier.outlets.links.to(&chat.chat_id, &last),
            count: there.len() as u64 + older.max(0) as u64,
            messages,
        });
    }
    Ok(parts)
}

fn content_of<'a>(part: &'a Part, texts: &'a Texts) -> ChatContent<'a> {
    let messages = part.messages.iter().map(|message| MessageContent {
        sender: message.sender(),
        text: message
            .text
            .as_deref()
            .filter(|text| !text.trim().is_empty())
            .unwrap_or_else(|| texts.phrase(file_of(message))),
        sent_at_ms: message.sent_at_ms,
    });
    ChatContent { name: &part.name, link: &part.link, count: part.count, messages: messages.collect() }
}

/// The sentence in place of words.
fn file_of(message: &Sent) -> Phrase {
    match message.attachments.first().map(|file| file.kind.as_str()) {
        Some("image") => Phrase::Photo,
        Some("video") => Phrase::Video,
        Some("audio") => Phrase::Audio,
        Some(_) => Phrase::File,
        None => Phrase::Message,
    }
}
