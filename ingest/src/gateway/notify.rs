//! `/v1/notifications`: what clients need to know before a person can be told of messages, and what the gateway asks of whoever
//! knows push services: the wiring joins it with the notifier's crate.

use axum::Json;
use axum::extract::State;
use schemas::wire::{Code, Rejection};
use serde::Serialize;
use utoipa::ToSchema;

use super::settings::Content;
use super::{Problem, Shared};
use crate::gateway::caller::Caller;

/// Why a browser can't be pushed to: the field that is wrong, and the rule.
pub type BrowserProblem = (&'static str, String);

/// Checks endpoint, `p256dh` and `auth` of a browser's subscription.
pub type BrowserCheck = dyn Fn(&str, &str, &str) -> Result<(), BrowserProblem> + Send + Sync;

/// Says whether hours of silence can be kept in a zone.
pub type ZoneCheck = dyn Fn(&str) -> bool + Send + Sync;

/// What is known of notifications on this gateway.
pub struct Notifications {
    /// What browsers subscribe with, where Web Push is configured: base64url.
    pub web_push_public_key: Option<String>,
    /// Decides which browsers' subscriptions are taken.
    pub check_browser: Box<BrowserCheck>,
    /// Decides which time zones are taken: by the table of whoever follows them.
    pub check_zone: Box<ZoneCheck>,
    /// Languages that notifications and mails come in.
    pub languages: Vec<String>,
}

impl Notifications {
    pub(super) fn check_browser(&self, endpoint: &str, p256dh: &str, auth: &str) -> Result<(), Rejection> {
        (self.check_browser)(endpoint, p256dh, auth)
            .map_err(|(field, rule)| Rejection::new(Code::BadField, rule).at(field))
    }
}

/// How people can be told of messages here.
#[derive(Serialize, ToSchema)]
pub(crate) struct NotificationOptions {
    /// What browsers subscribe with (`applicationServerKey`), base64url; null where there is no Web Push.
    #[schema(required)]
    web_push_public_key: Option<String>,
    /// Whether iPhones and other devices of Apple are reached.
    ios: bool,
    /// Whether Android devices are reached.
    android: bool,
    /// Whether mail is sent.
    email: bool,
    /// The most that a notification shows of a message here.
    content: Content,
    /// Languages that notifications and mails come in.
    languages: Vec<String>,
}

/// How people can be told of messages here.
#[utoipa::path(get, path = "/v1/notifications", operation_id = "get_notification_options", tag = "people",
    responses((status = 200, description = "What is configured", body = NotificationOptions)))]
pub(crate) async fn show(State(gateway): Shared, _caller: Caller) -> Result<Json<NotificationOptions>, Problem> {
    use runtime::config::NotifyContent;
    let notify = &gateway.config.notify;
    Ok(Json(NotificationOptions {
        web_push_public_key: gateway.notify.web_push_public_key.clone(),
        ios: !notify.apns_key.is_empty(),
        android: !notify.fcm_service_account.is_empty(),
        email: !notify.smtp_host.is_empty(),
        content: match notify.content {
            NotifyContent::Full => Content::Full,
            NotifyContent::SenderOnly => Content::SenderOnly,
            NotifyContent::Nothing => Content::Nothing,
        },
        languages: gateway.notify.languages.clone(),
    }))
}
