//! `notify test`: what a person's devices and mailbox would get, for operators to look at, and to send.

use std::sync::Arc;

use runtime::{Config, Secret, clock};
use serde_json::{Value, json};
use tokio_postgres::types::Json;

use super::Notifier;
use super::error::Error;
use super::outlets::{self, ANDROID, IOS};
use super::people::settings_of;
use super::sending::Call;
use crate::mail::{ChatContent, DigestContent, Mail, MessageContent};
use crate::payload::{Alert, ApnsPush, Cause, FcmPush, Links, ReadElsewhere, WebPushPush};
use crate::provider::web_push::Subscription;
use crate::provider::{Fault, Outcome};
use crate::settings::{ContentMode, Settings};
use crate::text::Language;

const PERSON: &str = "
    SELECT u.name, coalesce(u.email, ''), s.settings FROM \"user\" u
      LEFT JOIN user_settings s ON s.user_id = u.id WHERE u.id = $1";
const DEVICES: &str = "
    SELECT device_id, platform, name, address, keys, updated_at FROM user_device WHERE user_id = $1 ORDER BY device_id";
const MESSAGE: &str = "00000000-0000-4000-8000-000000000000";
const CHAT: &str = "notify-test";

/// A trial of one person.
pub struct Trial {
    notifier: Notifier,
    /// Whether there is such a person.
    pub is_known: bool,
    /// How they want to be told.
    pub settings: Settings,
    /// Where it would go.
    pub parts: Vec<Part>,
}

/// One place where it would go.
pub struct Part {
    /// Which device, or the mailbox.
    pub place: String,
    /// What would be sent, without what is needed to reach it.
    pub shown: Value,
    /// Why it can't be.
    pub problem: Option<String>,
    call: Option<Call>,
}

impl Trial {
    /// Puts together what a person would get of a test message.
    pub async fn of(config: &Arc<Config>, user_id: &str) -> Result<Self, Error> {
        let notifier = Notifier::new(config)?;
        let failed = || Error::database("reading a person");
        let client = notifier.truth.get().await?;
        let Some(person) = client.query_opt(PERSON, &[&user_id]).await.map_err(failed())? else {
            drop(client);
            return Ok(Self { notifier, is_known: false, settings: Settings::default(), parts: Vec::new() });
        };
        let (name, address): (Option<String>, String) = (person.get(0), person.get(1));
        let settings = settings_of(person.get(2));
        let devices = client.query(DEVICES, &[&user_id]).await.map_err(failed())?;
        drop(client);
        let link = notifier.outlets.links.to(CHAT, MESSAGE);
        let mode = notifier.outlets.content.stricter(settings.content);
        let alert = Alert {
            cause: Cause::Message,
            chat_id: CHAT,
            chat_name: None,
            message_id: MESSAGE,
            seq: 1,
            sender_id: "waltalkie:system",
            sender_name: &config.notify.brand,
            text: Some("This is a test."),
            attachments: &[],
            sent_at_ms: clock::now_ms(),
            badge: 1,
            link: &link,
        };
        let mut parts: Vec<Part> = devices.iter().map(|row| device(&notifier, row, &alert, mode, &settings)).collect();
        if let Some(part) = mail(&notifier, user_id, name.as_deref(), &address, &settings) {
            parts.push(part);
        }
        Ok(Self { notifier, is_known: true, settings, parts })
    }

    /// Sends one part; `None` if it can't be sent.
    pub async fn send(&self, part: &Part) -> Option<Outcome> {
        Some(part.call.as_ref()?.make(&self.notifier.outlets).await)
    }
}

fn device(
    notifier: &Notifier,
    row: &tokio_postgres::Row,
    alert: &Alert<'_>,
    mode: ContentMode,
    settings: &Settings,
) -> Part {
    let (device_id, platform, name): (String, String, Option<String>) = (row.get(0), row.get(1), row.get(2));
    let (address, registered_at) = (Secret::new(row.get::<_, String>(3)), row.get(5));
    let place = format!("{platform} {device_id}{}", name.map(|name| format!(" ({name})")).unwrap_or_default());
    let (shown, call, is_on) = match platform.as_str() {
        IOS => {
            let push = ApnsPush::message(alert, mode);
            let shown = json!({ "apns-collapse-id": push.collapse_id, "payload": push.payload });
            (shown, Ok(Call::Apns { device: address, push, registered_at }), notifier.outlets.apns.is_some())
        }
        ANDROID => {
            let push = FcmPush::message(alert, mode);
            let shown = json!({ "message": push.message });
            (shown, Ok(Call::Fcm { device: address, push, registered_at }), notifier.outlets.fcm.is_some())
        }
        _ => {
            let push = WebPushPush::message(alert, mode, notifier.outlets.languages.texts(settings.language));
            let shown = json!({
                "topic": push.topic, "urgency": push.urgency.name(), "ttl": push.ttl_s, "payload": push.payload,
            });
            let keys = row.get::<_, Option<Json<Value>>>(4).map(|Json(keys)| keys).unwrap_or_default();
            let key = |name: &str| keys[name].as_str().unwrap_or_default();
            let browser = Subscription::new(address, key("p256dh"), key("auth"));
            let call = browser.map(|browser| Call::Web { browser, push, registered_at });
            (shown, call, notifier.outlets.web.is_some())
        }
    };
    let problem = match &call {
        _ if !is_on => Some("its provider isn't configured in [notify]".to_owned()),
        Err(error) => Some(error.to_string()),
        Ok(_) => None,
    };
    let call = call.ok().filter(|_| problem.is_none());
    Part { place, shown, problem, call }
}

fn mail(notifier: &Notifier, user_id: &str, name: Option<&str>, address: &str, settings: &Settings) -> Option<Part> {
    let outlet = notifier.outlets.mail.as_ref()?;
    let place = "mail".to_owned();
    if address.is_empty() {
        let problem = Some("the person has no mail address".to_owned());
        return Some(Part { place, shown: Value::Null, problem, call: None });
    }
    let links = sample_links(&notifier.outlets.links);
    let content = sample(user_id, name, address, settings.language, settings.content, &links);
    Some(match outlet.mailer.digest(&content, clock::now_ms()) {
        Ok(mail) => {
            let shown = json!({ "from": mail.from, "subject": mail.subject, "text": mail.text });
            let call = Some(Call::Mail { to: Secret::new(address), raw: mail.raw });
            Part { place, shown, problem: None, call }
        }
        Err(error) => Part { place, shown: Value::Null, problem: Some(super::error::chain(&error)), call: None },
    })
}

/// A mail of made-up messages, for looking at templates.
pub fn preview(config: &Config, language: Language) -> Result<Mail, Error> {
    let links = sample_links(&outlets::links(&config.notify)?);
    let content = sample("carol", Some("Carol"), "carol@example.com", language, ContentMode::Full, &links);
    Ok(super::mailer(config)?.digest(&content, clock::now_ms())?)
}

/// Where the two chats of [`sample`] lead.
fn sample_links(links: &Links) -> [String; 2] {
    ["launch", "dave"].map(|chat_id| links.to(chat_id, MESSAGE))
}

fn sample<'a>(
    user_id: &'a str,
    name: Option<&'a str>,
    address: &'a str,
    language: Language,
    content: ContentMode,
    links: &'a [String; 2],
) -> DigestContent<'a> {
    let message = |sender, text| MessageContent { sender, text, sent_at_ms: clock::now_ms() - 1_200_000 };
    DigestContent {
        id: "test",
        user_id,
        name,
        address,
        language,
        content,
        time_zone: None,
        chats: vec![
            ChatContent {
                name: "Launch",
                link: &links[0],
                count: 7,
                messages: vec![message("Alice", "Lunch at noon?"), message("Bob", "Yes, the usual place.")],
            },
            ChatContent {
                name: "Dave",
                link: &links[1],
                count: 1,
                messages: vec![message("Dave", "Have you seen the draft?")],
            },
        ],
    }
}

/// What was asked, and how it is or what is wrong and how to mend it.
pub type Checked = (&'static str, Result<String, String>);

/// Asks each configured provider whether it would take something from us; nobody is sent anything.
pub async fn check(config: &Config) -> Result<Vec<Checked>, Error> {
    let outlets = super::Outlets::new(config)?;
    let mut found: Vec<Checked> = Vec::new();
    if let Some(apns) = &outlets.apns {
        // No device has this token: whoever is let in is told so.
        let push = ApnsPush::read(&ReadElsewhere { chat_id: CHAT, read_seq: 0, badge: 0 }, clock::now_ms());
        let answer = match apns.send(&Secret::new("0".repeat(64)), &push).await {
            Outcome::Sent { .. } | Outcome::Gone { .. } => Ok("accepts our token".to_owned()),
            Outcome::Refused { reason } if reason == "BadDeviceToken" => Ok("accepts our token".to_owned()),
            Outcome::Refused { reason } => {
                Err(format!("refuses: {reason}; check notify.apns_topic and notify.apns_endpoint"))
            }
            Outcome::Retry { fault, .. } => {
                Err(hint(&fault, "notify.apns_key, notify.apns_key_id and notify.apns_team_id"))
            }
        };
        found.push(("APNs", answer));
    }
    if let Some(fcm) = &outlets.fcm {
        let answer = fcm.check().await.map(|()| "Google gives tokens for the service account".to_owned());
        found.push(("FCM", answer.map_err(|fault| hint(&fault, "notify.fcm_service_account"))));
    }
    if let Some(key) = super::web_push_public_key(&config.notify)? {
        found.push(("Web Push", Ok(format!("browsers subscribe with {key}"))));
    }
    if let Some(mail) = &outlets.mail {
        let answer = mail.smtp.check().await.map(|()| "the mail server lets us in".to_owned());
        let keys = "notify.smtp_tls, notify.smtp_username and notify.smtp_password";
        found.push(("mail", answer.map_err(|fault| hint(&fault, keys))));
    }
    Ok(found)
}

fn hint(fault: &Fault, keys: &str) -> String {
    match fault {
        Fault::Credentials(_) => format!("{fault}; check {keys}"),
        Fault::Unreachable(_) | Fault::AnswerLost(_) => {
            format!("{fault}; may this machine reach it, and is its certificate trusted?")
        }
        Fault::Limited(_) | Fault::Unavailable(_) => fault.to_string(),
    }
}
