//! `[notify]`: push, mail, and how they look. Each way out is off until its key or host is set.

use serde::{Deserialize, Serialize};

use super::Secret;

/// `[notify]`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Notify {
    /// Address of the application as people open it, such as `https://chat.example.com`. Needed by push and mail.
    pub public_url: String,
    /// Where a notification leads, with `{chat_id}` and, where wanted, `{message_id}`. Empty: a chat of the web client under
    /// `notify.public_url`.
    pub link_template: String,
    /// What the application is called in mails.
    pub brand: String,
    /// The most that a notification shows of a message: `full`, `sender_only` or `nothing`. People may choose less.
    pub content: NotifyContent,
    /// How long who looks online has time to take a message before it is pushed all the same. Longer than the 10 s for which
    /// a dead connection still looks alive.
    pub look_again_ms: u64,
    /// Messages older than this aren't pushed any more, as after an outage.
    pub push_within_ms: u64,
    /// How long a message stays unread before it is mailed.
    pub mail_after_ms: u64,
    /// Least time between two mails to a person.
    pub mail_gap_ms: u64,
    /// Members from which on a chat's message is one job, worked through page by page beside everything else.
    pub large_chat_members: u32,
    /// Notifications on their way to providers at once.
    pub sends_at_once: usize,
    /// Tries of a notification before it goes to `chat.notifications.dlq`.
    pub tries: u32,
    /// Highest pause after the first try; doubles with each further one.
    pub first_pause_ms: u64,
    /// Highest pause of all.
    pub most_pause_ms: u64,
    /// How long a provider may take for one notification.
    pub timeout_ms: u64,
    /// Certificates to trust towards providers instead of the system's, in PEM; for closed networks and tests.
    pub ca_file: String,
    /// APNs: content of the `.p8` file. Empty: no APNs.
    pub apns_key: Secret,
    /// APNs: id of the key, ten characters.
    pub apns_key_id: String,
    /// APNs: id of the team, ten characters.
    pub apns_team_id: String,
    /// APNs: the app's bundle id.
    pub apns_topic: String,
    /// APNs: `https://api.push.apple.com`, or `https://api.sandbox.push.apple.com` for apps under development.
    pub apns_endpoint: String,
    /// FCM: content of the service account's JSON file. Empty: no FCM.
    pub fcm_service_account: Secret,
    /// FCM: `https://fcm.googleapis.com`.
    pub fcm_endpoint: String,
    /// Web Push: the VAPID private key, base64url; `waltalkie notify key` makes one. Empty: no Web Push. Gateways need it too.
    pub web_push_key: Secret,
    /// Web Push: whom a push service may contact, `mailto:` or `https:`.
    pub web_push_contact: String,
    /// Web Push: let endpoints lead to addresses that aren't public, for closed networks with push services of their own.
    pub web_push_anywhere: bool,
    /// Mail: name of the server. Empty: no mail.
    pub smtp_host: String,
    /// Mail: its port.
    pub smtp_port: u16,
    /// Mail: `implicit` (TLS from the first byte), `starttls` or `off`.
    pub smtp_tls: SmtpTls,
    /// Mail: name towards the server; empty where it wants none.
    pub smtp_username: String,
    /// Mail: password towards the server.
    pub smtp_password: Secret,
    /// Mail: the sender's address.
    pub mail_from: String,
    /// Mail: the sender's name; empty for `notify.brand`.
    pub mail_from_name: String,
    /// Folder with one for each language, such as `fr/digest.html`: templates of mails and sentences, in the place of the built-in
    /// ones or beside them.
    pub templates_dir: String,
    /// Mail: signs the links that end it, at least 32 bytes. Gateways need it too. An older one may follow after a comma, so that
    /// links in old mails keep working.
    pub unsubscribe_secret: Secret,
}

/// How much of a message a notification shows.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum NotifyContent {
    /// Who wrote, where, and what.
    #[default]
    Full,
    /// Who wrote, and where.
    SenderOnly,
    /// That there is something.
    Nothing,
}

/// How the connection to a mail server is protected.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SmtpTls {
    /// TLS from the first byte.
    Implicit,
    /// STARTTLS, insisted on.
    #[default]
    StartTls,
    /// None.
    Off,
}

impl Default for Notify {
    fn default() -> Self {
        Self {
            public_url: String::new(),
            link_template: String::new(),
            brand: "Waltalkie".into(),
            content: NotifyContent::Full,
            look_again_ms: 15_000,
            push_within_ms: 86_400_000,
            mail_after_ms: 900_000,
            mail_gap_ms: 3_600_000,
            large_chat_members: 500,
            sends_at_once: 32,
            tries: 10,
            first_pause_ms: 2_000,
            most_pause_ms: 900_000,
            timeout_ms: 15_000,
            ca_file: String::new(),
            apns_key: Secret::default(),
            apns_key_id: String::new(),
            apns_team_id: String::new(),
            apns_topic: String::new(),
            apns_endpoint: "https://api.push.apple.com".into(),
            fcm_service_account: Secret::default(),
            fcm_endpoint: "https://fcm.googleapis.com".into(),
            web_push_key: Secret::default(),
            web_push_contact: String::new(),
            web_push_anywhere: false,
            smtp_host: String::new(),
            smtp_port: 587,
            smtp_tls: SmtpTls::StartTls,
            smtp_username: String::new(),
            smtp_password: Secret::default(),
            mail_from: String::new(),
            mail_from_name: String::new(),
            templates_dir: String::new(),
            unsubscribe_secret: Secret::default(),
        }
    }
}

impl Notify {
    /// Whether anything is sent at all.
    pub fn is_on(&self) -> bool {
        self.has_push() || !self.smtp_host.is_empty()
    }

    /// Whether anything is pushed.
    pub fn has_push(&self) -> bool {
        !(self.apns_key.is_empty() && self.fcm_service_account.is_empty() && self.web_push_key.is_empty())
    }

    /// The public address without a slash at its end.
    pub fn home(&self) -> &str {
        self.public_url.trim_end_matches('/')
    }

    /// What is missing or makes no sense: the key, and what to do.
    pub(super) fn problem(&self, development: bool) -> Option<(&'static str, &'static str)> {
        let is_web = |text: &str| text.starts_with("https://") || (development && text.starts_with("http://"));
        let needs = [
            (
                self.is_on() && !is_web(&self.public_url),
                "notify.public_url",
                "is the application's https:// address; push and mail need it",
            ),
            (
                !self.link_template.is_empty() && !self.link_template.contains("{chat_id}"),
                "notify.link_template",
                "has {chat_id} in it",
            ),
            (
                !self.apns_key.is_empty()
                    && (self.apns_key_id.is_empty() || self.apns_team_id.is_empty() || self.apns_topic.is_empty()),
                "notify.apns_key",
                "needs notify.apns_key_id, notify.apns_team_id and notify.apns_topic beside it",
            ),
            (
                !self.web_push_key.is_empty()
                    && !["mailto:", "https:"].iter().any(|start| self.web_push_contact.starts_with(start)),
                "notify.web_push_contact",
                "begins with mailto: or https:; Web Push needs it",
            ),
            (
                !self.smtp_host.is_empty() && !self.mail_from.contains('@'),
                "notify.mail_from",
                "is an address such as chat@example.com; mail needs it",
            ),
            (
                !self.smtp_host.is_empty()
                    && self.unsubscribe_secrets().iter().any(|secret| secret.expose().len() < 32),
                "notify.unsubscribe_secret",
                "needs at least 32 bytes, such as the output of `openssl rand -hex 32`; mail needs it",
            ),
            (
                self.smtp_tls == SmtpTls::Off && !self.smtp_password.is_empty(),
                "notify.smtp_password",
                "isn't sent without TLS: set notify.smtp_tls",
            ),
            (self.sends_at_once == 0, "notify.sends_at_once", "at least 1"),
            (self.tries == 0, "notify.tries", "at least 1"),
            (self.large_chat_members < 2, "notify.large_chat_members", "at least 2"),
            (!(100..=120_000).contains(&self.timeout_ms), "notify.timeout_ms", "from 100 to 120000 ms"),
        ];
        needs.into_iter().find(|(is_wrong, _, _)| *is_wrong).map(|(_, key, problem)| (key, problem))
    }

    /// Secrets of unsubscribe links: the first signs, all are accepted. One empty one if none is set.
    pub fn unsubscribe_secrets(&self) -> Vec<Secret> {
        self.unsubscribe_secret.expose().split(',').map(|secret| Secret::new(secret.trim())).collect()
    }
}
