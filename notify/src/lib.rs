//! Messages → people who aren't looking: who is told, by what, and the providers' protocols.
//!
//! ```text
//!   chat.events ─▶ decide ─┬─▶ in-app                       (over the socket)
//!                          ├─▶ push ─▶ payload ─▶ provider: APNs, FCM, Web Push
//!                          └─▶ digest ─▶ mail ─▶ provider: SMTP
//!                                         breaker and backoff stand before each provider
//! ```
//!
//! What is here keeps no state of its own beyond tokens of providers, and knows no Kafka, PostgreSQL or Redis: whoever wires
//! it reads settings, cursors and presence, stores digests, and calls again when a [`decide::Decision`] or an
//! [`provider::Outcome`] says so. All but the providers is pure: no I/O, no clock, no randomness of its own.

pub mod backoff;
pub mod breaker;
pub mod decide;
pub mod digest;
#[cfg(feature = "fakes")]
pub mod fakes;
pub mod languages;
pub mod mail;
pub mod payload;
pub mod provider;
pub mod quiet;
pub mod retry_after;
pub mod service;
pub mod settings;
pub mod text;
pub mod unsubscribe;
