//! The ways out that the operator has configured, made of `[notify]`.

use std::path::Path;
use std::time::Duration;

use runtime::config::{Notify, NotifyContent, SmtpTls as TlsSetting};
use runtime::{Config, clock, tls};

use super::error::Error;
use super::templates;
use crate::backoff::Backoff;
use crate::decide;
use crate::digest;
use crate::languages::Languages;
use crate::mail::{MailConfig, Mailer};
use crate::payload::Links;
use crate::provider::HttpOptions;
use crate::provider::address::Reach;
use crate::provider::apns::{Apns, ApnsConfig};
use crate::provider::fcm::{Fcm, FcmConfig};
use crate::provider::smtp::{Smtp, SmtpConfig, SmtpTls};
use crate::provider::web_push::{VapidKey, WebPush, WebPushConfig};
use crate::settings::ContentMode;
use crate::unsubscribe::Unsubscribe;

/// Platforms of `user_device` and what reaches them.
pub(crate) const IOS: &str = "ios";
pub(crate) const ANDROID: &str = "android";
pub(crate) const WEB: &str = "web";

/// All that is configured.
#[derive(Debug)]
pub struct Outlets {
    pub(crate) apns: Option<Apns>,
    pub(crate) fcm: Option<Fcm>,
    pub(crate) web: Option<WebPush>,
    pub(crate) mail: Option<MailOutlet>,
    pub(crate) content: ContentMode,
    pub(crate) languages: Languages,
    pub(crate) links: Links,
}

/// Mail: who makes it and who takes it.
#[derive(Debug)]
pub(crate) struct MailOutlet {
    pub(crate) smtp: Smtp,
    pub(crate) mailer: Mailer,
    pub(crate) from: String,
}

impl Outlets {
    /// Sets up what `[notify]` names; nothing is connected yet. Call within a runtime.
    pub fn new(config: &Config) -> Result<Self, Error> {
        let notify = &config.notify;
        let tls = if notify.ca_file.is_empty() {
            tls::client_config_of_the_system()?
        } else {
            tls::client_config_with(Path::new(&notify.ca_file))?
        };
        let timeout = Duration::from_millis(notify.timeout_ms);
        let options = HttpOptions::new(tls, clock::now_ms);
        let http = HttpOptions { timeout, connect_timeout: options.connect_timeout.min(timeout), ..options };
        let apns = (!notify.apns_key.is_empty()).then(|| {
            Apns::new(&ApnsConfig {
                endpoint: notify.apns_endpoint.clone(),
                topic: notify.apns_topic.clone(),
                team_id: notify.apns_team_id.clone(),
                key_id: notify.apns_key_id.clone(),
                key: notify.apns_key.clone(),
                http: http.clone(),
            })
        });
        let fcm = (!notify.fcm_service_account.is_empty()).then(|| {
            Fcm::new(&FcmConfig {
                endpoint: notify.fcm_endpoint.clone(),
                service_account: notify.fcm_service_account.clone(),
                http: http.clone(),
            })
        });
        let web = (!notify.web_push_key.is_empty()).then(|| {
            WebPush::new(&WebPushConfig {
                key: VapidKey::new(&notify.web_push_key)?,
                contact: notify.web_push_contact.clone(),
                reach: reach(notify),
                http,
            })
        });
        let mail = (!notify.smtp_host.is_empty()).then(|| MailOutlet::new(config)).transpose()?;
        Ok(Self {
            apns: apns.transpose()?,
            fcm: fcm.transpose()?,
            web: web.transpose()?,
            mail,
            content: content(notify),
            languages: templates::languages(&notify.templates_dir)?,
            links: links(notify)?,
        })
    }

    /// Platforms that can be reached.
    pub(crate) fn platforms(&self) -> Vec<&'static str> {
        let reached = [(self.apns.is_some(), IOS), (self.fcm.is_some(), ANDROID), (self.web.is_some(), WEB)];
        reached.into_iter().filter_map(|(is_on, platform)| is_on.then_some(platform)).collect()
    }
}

impl MailOutlet {
    fn new(config: &Config) -> Result<Self, Error> {
        let notify = &config.notify;
        let read =
            |path: &str| std::fs::read_to_string(path).map_err(|source| Error::File { path: path.to_owned(), source });
        let ca_pem = if notify.ca_file.is_empty() { None } else { Some(read(&notify.ca_file)?) };
        let credentials =
            (!notify.smtp_username.is_empty()).then(|| (notify.smtp_username.clone(), notify.smtp_password.clone()));
        let smtp = Smtp::new(&SmtpConfig {
            host: notify.smtp_host.clone(),
            port: notify.smtp_port,
            tls: match notify.smtp_tls {
                TlsSetting::Implicit => SmtpTls::Implicit,
                TlsSetting::StartTls => SmtpTls::StartTls,
                TlsSetting::Off => SmtpTls::Off,
            },
            credentials,
            hello_name: notify.mail_from.rsplit('@').next().map(str::to_owned),
            ca_pem,
            timeout: Duration::from_millis(notify.timeout_ms),
            connections: 4,
        })?;
        Ok(Self { smtp, mailer: mailer(config)?, from: notify.mail_from.clone() })
    }
}

/// What makes the mails.
pub fn mailer(config: &Config) -> Result<Mailer, Error> {
    let notify = &config.notify;
    let from_name = if notify.mail_from_name.is_empty() { &notify.brand } else { &notify.mail_from_name };
    let mail = MailConfig {
        brand: notify.brand.clone(),
        from_name: from_name.clone(),
        from_address: notify.mail_from.clone(),
        home: format!("{}/", notify.home()),
        settings: Some(format!("{}/#/settings", notify.home())),
        content: content(notify),
    };
    Ok(Mailer::new(mail, templates::templates(&notify.templates_dir)?, Some(unsubscribe(config)?)))
}

/// Makes and reads the links that end mails.
pub fn unsubscribe(config: &Config) -> Result<Unsubscribe, Error> {
    let url = format!("{}/unsubscribe", config.notify.home());
    Ok(Unsubscribe::new(url, &config.notify.unsubscribe_secrets(), config.development)?)
}

/// What browsers subscribe with, where Web Push is configured.
pub fn web_push_public_key(notify: &Notify) -> Result<Option<String>, Error> {
    let key = (!notify.web_push_key.is_empty()).then(|| VapidKey::new(&notify.web_push_key)).transpose()?;
    Ok(key.map(|key| key.public_key().to_owned()))
}

/// Where endpoints of browsers may lead.
pub fn reach(notify: &Notify) -> Reach {
    if notify.web_push_anywhere { Reach::Anywhere } else { Reach::Public }
}

/// The most that is shown to anybody.
pub(crate) fn content(notify: &Notify) -> ContentMode {
    match notify.content {
        NotifyContent::Full => ContentMode::Full,
        NotifyContent::SenderOnly => ContentMode::SenderOnly,
        NotifyContent::Nothing => ContentMode::Nothing,
    }
}

/// Where notifications lead.
pub(crate) fn links(notify: &Notify) -> Result<Links, Error> {
    let template = match notify.link_template.as_str() {
        "" => format!("{}/#/chats/{{chat_id}}", notify.home()),
        own => own.to_owned(),
    };
    Ok(Links::new(template)?)
}

/// Times of decisions.
pub(crate) fn decide_policy(notify: &Notify) -> decide::Policy {
    decide::Policy {
        look_again_ms: notify.look_again_ms as i64,
        mail_after_ms: notify.mail_after_ms as i64,
        push_within_ms: notify.push_within_ms as i64,
    }
}

/// Times of mails.
pub(crate) fn digest_policy(notify: &Notify) -> digest::Policy {
    digest::Policy { least_gap_ms: notify.mail_gap_ms as i64 }
}

/// How often and how patiently providers are tried.
pub(crate) fn backoff(notify: &Notify) -> Backoff {
    Backoff {
        first: Duration::from_millis(notify.first_pause_ms),
        most: Duration::from_millis(notify.most_pause_ms),
        tries: notify.tries,
        ..Backoff::default()
    }
}
