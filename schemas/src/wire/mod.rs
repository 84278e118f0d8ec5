//! What travels in JSON and on Redis: frames and messages as clients see them, refusals, the persister's answers, and
//! the envelope in which events go from the publisher to the nodes.

pub mod answer;
pub mod client;
pub mod json;
pub mod rejection;
pub mod relay;
pub mod server;

pub use answer::Answer;
pub use client::{ClientFrame, Limits, Request};
pub use rejection::{Code, Rejection};
pub use relay::Relayed;
