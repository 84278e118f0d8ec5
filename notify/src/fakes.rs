//! Servers that stand for the providers in tests and benches. They speak the real protocols over TLS, verify what the real
//! ones verify, and misbehave when told to. In service nothing starts one.

mod apns;
mod fcm;
mod push_service;
mod server;

pub use apns::{ApnsFake, Notification};
pub use fcm::{FcmFake, Sent};
pub use push_service::{Browser, PushServiceFake, Pushed};
pub use server::{Instead, Tls};
