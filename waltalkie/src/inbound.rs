//! Joins fan-out's connections to the way in: services don't know each other, this file knows both.

use std::sync::Arc;

use fanout::{Caller, Identity, Inbound, KnownChat, MarkKind, Submitted};
use ingest::chat_service::{Asker, Wish};
use ingest::gateway::Gateway;
use ingest::marks::Kind;
use schemas::wire::{ClientFrame, Code, Rejection};

/// The gateway, as connections see it.
pub(crate) struct GatewayInbound(pub(crate) Arc<Gateway>);

type Pending<'a, T> = std::pin::Pin<Box<dyn Future<Output = T> + Send + 'a>>;

impl Inbound for GatewayInbound {
    fn authenticate<'a>(&'a self, token: &'a str) -> Pending<'a, Result<Identity, Rejection>> {
        Box::pin(async move {
            let identity = self.0.authenticator.verify(token)?;
            self.0.users.ensure(&identity).await?;
            Ok(Identity { user_id: identity.user_id, expires_at_ms: identity.expires_at_ms })
        })
    }

    fn submit<'a>(
        &'a self,
        caller: &'a Caller,
        session_counter: i64,
        command: ClientFrame,
        known: Option<KnownChat>,
    ) -> Pending<'a, Result<Submitted, Rejection>> {
        Box::pin(async move {
            let asker =
                Asker { user_id: caller.user_id.clone(), session_id: caller.session_id.clone(), session_counter };
            let wish = match command {
                ClientFrame::SendMessage(send) => Wish::Send(send),
                ClientFrame::EditMessage { chat_id, message_id, content } => {
                    Wish::Edit { chat_id, message_id, content, based_on_seq: known.map(|chat| chat.head_seq) }
                }
                ClientFrame::DeleteMessage { chat_id, message_id } => Wish::Delete { chat_id, message_id },
                _ => return Err(Rejection::new(Code::NotSupported, "This frame is no command.")),
            };
            let submitted = self.0.chat.submit(&asker, wish, known.is_some()).await?;
            Ok(Submitted { accepted: submitted.accepted, decided: submitted.decided })
        })
    }

    fn mark<'a>(
        &'a self,
        caller: &'a Caller,
        kind: MarkKind,
        marks: Vec<(String, i64)>,
    ) -> Pending<'a, Result<(), Rejection>> {
        let kind = match kind {
            MarkKind::Delivered => Kind::Delivered,
            MarkKind::Read => Kind::Read,
        };
        Box::pin(async move { self.0.marks.take(&caller.user_id, kind, marks) })
    }
}
