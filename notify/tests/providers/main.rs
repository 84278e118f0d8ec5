//! The providers against servers that speak their protocols, and misbehave.
#![allow(clippy::unwrap_used, reason = "a test fails by it")]

mod apns;
mod fcm;
mod smtp;
mod web_push;

use std::time::Duration;

use notify::payload::{Alert, Cause};
use notify::provider::{Fault, HttpOptions, Outcome};

const MESSAGE: &str = "0190b5a0-1c2d-7e3f-8a4b-5c6d7e8f9012";

fn alert() -> Alert<'static> {
    Alert {
        cause: Cause::Message,
        chat_id: "team-1",
        chat_name: Some("Team"),
        message_id: MESSAGE,
        seq: 42,
        sender_id: "u-alice",
        sender_name: "Alice",
        text: Some("Lunch at noon?"),
        attachments: &[],
        sent_at_ms: 1_790_000_000_500,
        badge: 3,
        link: "https://chat.example/#/chats/team-1",
    }
}

/// Time-outs short enough to be waited for.
fn impatient(http: HttpOptions) -> HttpOptions {
    HttpOptions { timeout: Duration::from_millis(400), ..http }
}

fn limited(after_s: u64, why: &str) -> Outcome {
    Outcome::Retry { after: Some(Duration::from_secs(after_s)), fault: Fault::Limited(why.into()) }
}

fn unavailable(why: &str) -> Outcome {
    Outcome::Retry { after: None, fault: Fault::Unavailable(why.into()) }
}

fn refused(why: &str) -> Outcome {
    Outcome::Refused { reason: why.into() }
}

/// An address at which nobody listens.
fn nowhere() -> String {
    let port = std::net::TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).unwrap().port();
    format!("https://localhost:{port}")
}
