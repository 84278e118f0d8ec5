//! What travels in JSON and on Redis: frames and messages as clients see them, refusals, close codes, the persister's
//! answers, and the envelope in which events go from the publisher to the nodes.

pub mod answer;
pub mod client;
pub mod close;
pub mod events;
pub mod json;
pub mod names;
mod object;
pub mod payload;
pub mod rejection;
pub mod relay;
pub mod server;

pub use answer::Answer;
pub use client::{ClientFrame, Limits, Request};
pub use close::CloseCode;
pub use events::{ClientEvent, ServerEvent};
pub use rejection::{Code, Rejection};
pub use relay::Relayed;
