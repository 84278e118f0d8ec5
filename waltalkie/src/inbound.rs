//! Joins fan-out's connections to the way in: services don't know each other, this file knows both.

use std::sync::Arc;

use fanout::{Caller, Identity, Inbound, KnownChat, MarkKind, Standing, Submitted};
use ingest::auth::Token;
use ingest::chat_service::{Asker, Wish};
use ingest::gateway::Gateway;
use ingest::marks::Kind;
use ingest::standing;
use schemas::wire::{ClientFrame, Code, Rejection};

/// The gateway, as connections see it.
pub(crate) struct GatewayInbound(pub(crate) Arc<Gateway>);

type Pending<'a, T> = std::pin::Pin<Box<dyn Future<Output = T> + Send + 'a>>;

impl Inbound for GatewayInbound {
    fn authenticate<'a>(&'a self, token: &'a str) -> Pending<'a, Result<Identity, Rejection>> {
        Box::pin(async move {
            let Token::Person(identity) = self.0.authenticator.verify(token).await? else {
                return Err(Rejection::new(Code::Forbidden, "Connections are for people; services ask over HTTP."));
            };
            self.0.users.ensure(&identity).await?;
            let ingest::auth::Identity { user_id, issued_at_ms, expires_at_ms, .. } = identity;
            Ok(Identity { user_id, issued_at_ms, expires_at_ms })
        })
    }

    fn standing(&self, user_id: &str, issued_at_ms: i64) -> Standing {
        match self.0.users.standings().still(user_id, issued_at_ms) {
            standing::Standing::Good => Standing::Good,
            standing::Standing::Revoked => Standing::Revoked,
            standing::Standing::Removed => Standing::Removed,
        }
    }

    fn submit<'a>(
        &'a self,
        caller: &'a Caller,
        session_counter: i64,
        command: ClientFrame,
        known: Option<KnownChat>,
    ) -> Pending<'a, Result<Submitted, Rejection>> {
        Box::pin(async move {
            let asker = Asker {
                user_id: caller.user_id.clone(),
                session_id: caller.session_id.clone(),
                session_counter,
                is_service: false,
            };
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
