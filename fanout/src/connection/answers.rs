//! A command in flight: `accepted`, then `persisted` or why not.

use std::sync::Arc;

use schemas::wire::{Code, Rejection, server};
use serde_json::Value;
use uuid::Uuid;

use crate::hub::Desk;
use crate::inbound::Pending;

/// What an answer has to name.
#[derive(Debug, Clone)]
pub(super) struct Place {
    pub(super) id: Option<Value>,
    pub(super) chat_id: String,
    pub(super) message_id: Uuid,
    pub(super) is_send: bool,
}

impl Place {
    pub(super) fn new(id: Option<Value>, chat_id: &str, message_id: Uuid, is_send: bool) -> Self {
        Self { id, chat_id: chat_id.to_owned(), message_id, is_send }
    }
}

/// What a command's end means for the sender's order.
#[derive(Debug)]
pub(super) enum End {
    /// A send that is to be sent again before later ones: it never reached Kafka, or its chat took no more.
    Refused(Place),
    /// A send that is in its chat.
    Persisted(Place),
    /// Nothing.
    Other,
}

pub(super) type Answering = Pending<'static, End>;

pub(super) fn answer(
    desk: Arc<Desk>,
    place: Place,
    accepted: Pending<'static, Result<(), Rejection>>,
    decided: Pending<'static, Result<Option<i64>, Rejection>>,
) -> Answering {
    Box::pin(async move {
        let message_id = place.message_id.to_string();
        let ack =
            |state: &str, seq| server::ack(place.id.as_ref(), Some(&place.chat_id), Some(&message_id), state, seq);
        let error = |rejection| server::error(place.id.as_ref(), rejection, Some(&place.chat_id), Some(&message_id));
        if let Err(rejection) = accepted.await {
            desk.outgoing.push(error(&rejection).into());
            return End::Refused(place);
        }
        desk.outgoing.push(ack("accepted", None).into());
        match decided.await {
            Ok(seq) => {
                desk.outgoing.push(ack("persisted", seq).into());
                if place.is_send { End::Persisted(place) } else { End::Other }
            }
            Err(rejection) => {
                desk.outgoing.push(error(&rejection).into());
                if rejection.code == Code::RateLimited { End::Refused(place) } else { End::Other }
            }
        }
    })
}
