//! From tasks to what goes to providers: everything that is needed is read for a whole batch at once, and it is decided a last
//! time, as things are now. What was read, muted, deleted or left since is cancelled.

use std::collections::HashMap;

use runtime::{Secret, clock};
use schemas::timestamp;
use serde_json::Value;
use time::OffsetDateTime;
use tokio_postgres::types::{Json, ToSql};

use super::Notifier;
use super::error::Error;
use super::messages::Sent;
use super::outlets::{ANDROID, IOS, Outlets};
use super::people::{Cursors, Member, settings_of};
use super::tasks::{Kind, Task};
use super::verdict::cause_of;
use crate::decide::{Decision, Look, Mentions, Message, Presence, Push, Recipient, decide};
use crate::payload::{Alert, ApnsPush, FcmPush, ReadElsewhere, WebPushPush};
use crate::provider::Outcome;
use crate::provider::web_push::Subscription;

const DEVICES: &str = "
    SELECT d.user_id, d.device_id, d.platform, d.address, d.keys, d.updated_at, d.refusals FROM user_device d
      JOIN unnest($1::text[], $2::text[]) AS k (user_id, device_id) ON d.user_id = k.user_id AND d.device_id = k.device_id";
const STAYS: &str = "
    SELECT m.chat_id, m.user_id, m.role, m.joined_seq, m.visible_from_seq, u.name, s.settings FROM chat_member m
      JOIN unnest($1::text[], $2::text[]) AS k (chat_id, user_id) ON m.chat_id = k.chat_id AND m.user_id = k.user_id
      LEFT JOIN \"user\" u ON u.id = m.user_id
      LEFT JOIN user_settings s ON s.user_id = m.user_id
     WHERE m.left_seq IS NULL";

/// What becomes of a task.
pub(crate) enum Ready {
    /// It goes out; so often in a row its device was refused before.
    Call { call: Box<Call>, refusals: i32 },
    /// It isn't wanted any more; why.
    Cancelled(&'static str),
    /// It can't be sent at all; why.
    Unfit(String),
}

/// A call of a provider.
pub(crate) enum Call {
    Apns { device: Secret, push: ApnsPush, registered_at: OffsetDateTime },
    Fcm { device: Secret, push: FcmPush, registered_at: OffsetDateTime },
    Web { browser: Subscription, push: WebPushPush, registered_at: OffsetDateTime },
    Mail { to: Secret, raw: Vec<u8> },
}

impl Call {
    /// Calls the provider once.
    pub(crate) async fn make(&self, outlets: &Outlets) -> Outcome {
        let missing = || Outcome::Refused { reason: "its provider isn't configured any more".into() };
        match self {
            Self::Apns { device, push, .. } => match &outlets.apns {
                Some(apns) => apns.send(device, push).await,
                None => missing(),
            },
            Self::Fcm { device, push, .. } => match &outlets.fcm {
                Some(fcm) => fcm.send(device, push).await,
                None => missing(),
            },
            Self::Web { browser, push, .. } => match &outlets.web {
                Some(web) => web.send(browser, push).await,
                None => missing(),
            },
            Self::Mail { to, raw } => match &outlets.mail {
                Some(mail) => mail.smtp.send(&mail.from, to, raw).await,
                None => missing(),
            },
        }
    }

    /// When the device was registered as it was called, if it is one.
    pub(crate) fn registered_at(&self) -> Option<OffsetDateTime> {
        match self {
            Self::Apns { registered_at, .. } | Self::Fcm { registered_at, .. } | Self::Web { registered_at, .. } => {
                Some(*registered_at)
            }
            Self::Mail { .. } => None,
        }
    }
}

struct Device {
    platform: String,
    address: Secret,
    keys: Option<Value>,
    updated_at: OffsetDateTime,
    refusals: i32,
}

/// What is known of a batch of tasks.
struct Known {
    devices: HashMap<(String, String), Device>,
    members: HashMap<(String, String), Member>,
    messages: HashMap<(String, i64), Sent>,
    cursors: Cursors,
    badges: HashMap<String, u64>,
}

/// Makes the tasks of devices ready.
pub(crate) async fn ready(notifier: &Notifier, tasks: Vec<Task>) -> Result<Vec<(Task, Ready)>, Error> {
    if tasks.is_empty() {
        return Ok(Vec::new());
    }
    let known = Box::pin(know(notifier, &tasks)).await?;
    let ready = |task: Task| {
        let ready = ready_one(notifier, &known, &task);
        (task, ready)
    };
    Ok(tasks.into_iter().map(ready).collect())
}

async fn know(notifier: &Notifier, tasks: &[Task]) -> Result<Known, Error> {
    let users: Vec<&str> = tasks.iter().map(|task| task.user_id.as_str()).collect();
    let devices: Vec<&str> = tasks.iter().map(|task| task.device_id.as_str()).collect();
    let chats: Vec<&str> = tasks.iter().map(|task| task.chat_id.as_str()).collect();
    let seqs: Vec<i64> = tasks.iter().map(|task| task.seq).collect();
    // Read one after another over few connections: many senders must not take the pool from each other.
    let (device_rows, stay_rows) = {
        let client = notifier.truth.get().await?;
        let asking = async {
            let (of_devices, of_stays) = (client.prepare_cached(DEVICES).await?, client.prepare_cached(STAYS).await?);
            let (devices, stays): ([&(dyn ToSql + Sync); 2], [&(dyn ToSql + Sync); 2]) =
                ([&users, &devices], [&chats, &users]);
            tokio::try_join!(client.query(&of_devices, &devices), client.query(&of_stays, &stays))
        };
        asking.await.map_err(Error::database("reading devices and members"))?
    };
    let device_of = |row: &tokio_postgres::Row| Device {
        platform: row.get(2),
        address: Secret::new(row.get::<_, String>(3)),
        keys: row.get::<_, Option<Json<Value>>>(4).map(|Json(keys)| keys),
        updated_at: row.get(5),
        refusals: row.get(6),
    };
    let member_of = |row: &tokio_postgres::Row| Member {
        stay: schemas::Membership {
            user_id: row.get(1),
            member_role: row.get(2),
            joined_seq: row.get(3),
            left_seq: None,
            visible_from_seq: row.get(4),
        },
        name: row.get(5),
        settings: settings_of(row.get(6)),
        has_device: true,
        has_address: false,
    };
    Ok(Known {
        devices: device_rows.iter().map(|row| ((row.get(0), row.get(1)), device_of(row))).collect(),
        members: stay_rows.iter().map(|row| ((row.get(0), row.get(1)), member_of(row))).collect(),
        messages: notifier.messages.all(&chats, &seqs).await?,
        cursors: notifier.people.cursors(&chats, &users).await?,
        badges: notifier.messages.badges(&notifier.people, &users).await?,
    })
}

fn ready_one(notifier: &Notifier, known: &Known, task: &Task) -> Ready {
    let Some(device) = known.devices.get(&(task.user_id.clone(), task.device_id.clone())) else {
        return Ready::Cancelled("no_device");
    };
    let badge = known.badges.get(&task.user_id).copied().unwrap_or_default();
    let now_ms = clock::now_ms();
    if task.kind == Kind::Clear {
        let read = ReadElsewhere { chat_id: &task.chat_id, read_seq: task.seq, badge };
        return match device.platform.as_str() {
            IOS => call(device, Some(ApnsPush::read(&read, now_ms)), None, None),
            ANDROID => call(device, None, Some(FcmPush::read(&read)), None),
            _ => Ready::Cancelled("no_way_to_clear"),
        };
    }
    let place = (task.chat_id.clone(), task.user_id.clone());
    let Some(member) = known.members.get(&place) else { return Ready::Cancelled("not_a_member") };
    let Some(sent) = known.messages.get(&(task.chat_id.clone(), task.seq)) else { return Ready::Cancelled("deleted") };
    let read_seq = known.cursors.get(&place).map_or(0, |(_, read_seq)| *read_seq);
    let message = Message {
        chat_id: &task.chat_id,
        seq: task.seq,
        message_id: &sent.message_id,
        sender_id: &sent.sender_id,
        sent_at_ms: sent.sent_at_ms,
        mentions: Mentions::of(sent.text.as_deref().unwrap_or_default()),
        may_name_all: task.cause == "mention_all",
    };
    let to = Recipient {
        user_id: &task.user_id,
        display_name: member.name.as_deref(),
        stays: std::slice::from_ref(&member.stay),
        settings: &member.settings,
        // That they aren't there was decided already; another device that takes it later doesn't undo it.
        delivered_seq: 0,
        read_seq,
        presence: Presence::Offline,
        has_device: true,
        has_address: false,
    };
    let decided = decide(&message, &to, &notifier.policy, Look::Again, now_ms);
    if let Err(reason) | Ok(Decision { push: Push::No(reason), .. }) = decided {
        return Ready::Cancelled(reason.name());
    }
    let mode = notifier.outlets.content.stricter(member.settings.content);
    let link = notifier.outlets.links.to(&task.chat_id, &sent.message_id);
    let alert = Alert {
        cause: cause_of(&task.cause),
        chat_id: &task.chat_id,
        chat_name: sent.group_name.as_deref(),
        message_id: &sent.message_id,
        seq: task.seq,
        sender_id: &sent.sender_id,
        sender_name: sent.sender(),
        text: sent.text.as_deref(),
        attachments: &sent.attachments,
        sent_at_ms: sent.sent_at_ms,
        badge,
        link: &link,
    };
    match device.platform.as_str() {
        IOS => call(device, Some(ApnsPush::message(&alert, mode)), None, None),
        ANDROID => call(device, None, Some(FcmPush::message(&alert, mode)), None),
        _ => call(
            device,
            None,
            None,
            Some(WebPushPush::message(&alert, mode, notifier.outlets.languages.texts(member.settings.language))),
        ),
    }
}

fn call(device: &Device, apns: Option<ApnsPush>, fcm: Option<FcmPush>, web: Option<WebPushPush>) -> Ready {
    let (address, registered_at) = (device.address.clone(), device.updated_at);
    let out = |call| Ready::Call { call: Box::new(call), refusals: device.refusals };
    if let Some(push) = apns {
        return out(Call::Apns { device: address, push, registered_at });
    }
    if let Some(push) = fcm {
        return out(Call::Fcm { device: address, push, registered_at });
    }
    let Some(push) = web else { return Ready::Cancelled("no_way") };
    let key = |name: &str| device.keys.as_ref().and_then(|keys| keys[name].as_str()).unwrap_or_default();
    match Subscription::new(address, key("p256dh"), key("auth")) {
        Ok(browser) => out(Call::Web { browser, push, registered_at }),
        Err(error) => Ready::Unfit(error.to_string()),
    }
}

/// Until when a device that a service reports gone may have been registered to be removed, and not registered again since.
pub(crate) fn gone_until(since_ms: Option<i64>, registered_at: OffsetDateTime) -> OffsetDateTime {
    since_ms.map_or(registered_at, |since_ms| timestamp::to_offset(since_ms).min(registered_at))
}
