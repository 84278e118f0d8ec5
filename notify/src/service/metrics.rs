//! Names of what the notifier counts.

/// Decisions about a person and a message. Label `push`: `send`, `look_again`, or why not.
pub const DECISIONS: &str = "waltalkie_notifier_decisions_total";
/// Records of chat.events and chat.cursors that the decider has not read.
pub const DECIDER_LAG: &str = "waltalkie_notifier_decider_lag_records";
/// Records of chat.notifications that the intake has not read.
pub const INTAKE_LAG: &str = "waltalkie_notifier_intake_lag_records";
/// Notifications written to chat.notifications.
pub const PUBLISHED: &str = "waltalkie_notifier_published_notifications_total";
/// Batches that another process had worked through already.
pub const MISMATCHES: &str = "waltalkie_notifier_offset_mismatches_total";
/// Turns that failed and are tried again. Label `part`.
pub const RETRIES: &str = "waltalkie_notifier_retries_total";
/// Records that can't be read. Those of chat.notifications go to the dead letters; of an event nobody is told.
pub const POISON: &str = "waltalkie_notifier_poison_records_total";
/// Events of types that this program doesn't know; passed over.
pub const UNKNOWN: &str = "waltalkie_notifier_unknown_events_total";
/// Tries at providers. Labels `service` and `outcome`.
pub const TRIES: &str = "waltalkie_notifier_tries_total";
/// How long providers take. Label `service`.
pub const TRY_SECONDS: &str = "waltalkie_notifier_try_seconds";
/// From the event's time to a provider's acceptance, where the first try worked.
pub const DELIVERY_SECONDS: &str = "waltalkie_notifier_delivery_seconds";
/// Notifications given up shortly before they would have been sent. Label `reason`.
pub const CANCELLED: &str = "waltalkie_notifier_cancelled_total";
/// Notifications that went to chat.notifications.dlq.
pub const DEAD_LETTERS: &str = "waltalkie_notifier_dead_letters_total";
/// Devices removed since their provider says that they are gone.
pub const DEVICES_GONE: &str = "waltalkie_notifier_devices_gone_total";
/// Tasks that wait to be sent.
pub const WAITING: &str = "waltalkie_notifier_waiting_tasks";
/// Circuit breakers that aren't closed.
pub const OPEN_BREAKERS: &str = "waltalkie_notifier_open_breakers";

/// The first part of a service's name, since hosts of push services come from clients and would be labels without end.
pub(crate) fn label(service: &str) -> &'static str {
    match service.split('/').next() {
        Some("apns") => "apns",
        Some("fcm") => "fcm",
        Some("web") => "web_push",
        Some("smtp") => "smtp",
        _ => "other",
    }
}
