//! What a reader takes out of the few frames that aren't messages.

use std::borrow::Cow;

use serde::Deserialize;

#[derive(Deserialize)]
struct Frame<P> {
    payload: P,
}

/// `chats`: where a person's chats stand.
#[derive(Deserialize)]
pub(super) struct Chats<'a> {
    #[serde(borrow)]
    pub(super) chats: Vec<Stand<'a>>,
    pub(super) complete: bool,
}

#[derive(Deserialize)]
pub(super) struct Stand<'a> {
    #[serde(borrow)]
    pub(super) chat_id: Cow<'a, str>,
    pub(super) head_seq: i64,
}

/// `resumed`: everything up to here has been sent.
#[derive(Deserialize)]
pub(super) struct Resumed<'a> {
    #[serde(borrow)]
    pub(super) chat_id: Cow<'a, str>,
    pub(super) to_seq: i64,
    pub(super) complete: bool,
}

/// `error`.
#[derive(Deserialize)]
pub(super) struct Refusal<'a> {
    #[serde(borrow)]
    pub(super) code: Cow<'a, str>,
}

/// A frame's payload; `None` where it has another shape.
pub(super) fn payload_of<'a, P: Deserialize<'a>>(frame: &'a [u8]) -> Option<P> {
    serde_json::from_slice::<Frame<P>>(frame).ok().map(|frame| frame.payload)
}

#[cfg(test)]
mod tests {
    use schemas::wire::server;

    use super::*;

    #[test]
    fn frames_of_the_server_are_understood() {
        let frame = server::resumed("crowd-c000001", 3, 9, true);
        let resumed: Resumed<'_> = payload_of(frame.as_bytes()).expect("a payload");
        assert_eq!((&*resumed.chat_id, resumed.to_seq, resumed.complete), ("crowd-c000001", 9, true));
        assert!(payload_of::<Chats<'_>>(frame.as_bytes()).is_none());
    }
}
