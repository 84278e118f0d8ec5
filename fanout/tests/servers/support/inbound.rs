//! The counterpart of a connection: keeps what it is handed, answers as the test says.

use std::collections::HashSet;
use std::sync::{Arc, Mutex};

use fanout::inbound::{Caller, Identity, Inbound, KnownChat, MarkKind, Pending, Standing, Submitted};
use runtime::clock;
use schemas::wire::{ClientFrame, Code, Rejection};
use tokio::sync::Notify;

/// A token of this test's own kind: `user~expiry`.
pub fn token(user_id: &str, for_ms: i64) -> String {
    format!("{user_id}~{}", clock::now_ms() + for_ms)
}

/// A command as it was handed over.
#[derive(Debug, Clone, PartialEq)]
pub struct Command {
    pub user_id: String,
    pub counter: i64,
    pub frame: ClientFrame,
    pub known: Option<i64>,
}

/// Marks as they were handed over.
pub type Marked = (MarkKind, Vec<(String, i64)>);

#[derive(Default)]
pub struct Recorder {
    pub commands: Mutex<Vec<Command>>,
    pub marks: Mutex<Vec<Marked>>,
    /// Bodies that are refused before Kafka.
    pub refused: Mutex<HashSet<String>>,
    /// Bodies that Kafka never takes.
    pub lost: Mutex<HashSet<String>>,
    /// Bodies that the persister refuses.
    pub rejected: Mutex<HashSet<String>>,
    /// Bodies whose decision waits, each for one `release`.
    pub held: Mutex<HashSet<String>>,
    pub release: Arc<Notify>,
}

impl Recorder {
    pub fn bodies(&self) -> Vec<String> {
        self.commands.lock().expect("lock").iter().filter_map(|command| body(&command.frame)).collect()
    }
}

fn body(frame: &ClientFrame) -> Option<String> {
    match frame {
        ClientFrame::SendMessage(send) => Some(send.content.clone()),
        ClientFrame::EditMessage { content, .. } => Some(content.clone()),
        _ => None,
    }
}

impl Inbound for Recorder {
    fn authenticate<'a>(&'a self, token: &'a str) -> Pending<'a, Result<Identity, Rejection>> {
        Box::pin(async move {
            let parsed = token.split_once('~').and_then(|(user, expiry)| Some((user, expiry.parse::<i64>().ok()?)));
            match parsed {
                None => Err(Rejection::new(Code::TokenInvalid, "Not a token.")),
                Some((_, expiry)) if expiry <= clock::now_ms() => Err(Rejection::new(Code::TokenExpired, "Expired.")),
                Some((user_id, expires_at_ms)) => {
                    Ok(Identity { user_id: user_id.to_owned(), issued_at_ms: 0, expires_at_ms })
                }
            }
        })
    }

    fn standing(&self, _user_id: &str, _issued_at_ms: i64) -> Standing {
        Standing::Good
    }

    fn submit<'a>(
        &'a self,
        caller: &'a Caller,
        session_counter: i64,
        command: ClientFrame,
        known: Option<KnownChat>,
    ) -> Pending<'a, Result<Submitted, Rejection>> {
        Box::pin(async move {
            let body = body(&command).unwrap_or_default();
            if self.refused.lock().expect("lock").contains(&body) {
                return Err(Rejection::new(Code::RateLimited, "Slow down.").retry_after(10));
            }
            let count = {
                let mut commands = self.commands.lock().expect("lock");
                let known = known.map(|known| known.head_seq);
                let user_id = caller.user_id.clone();
                commands.push(Command { user_id, counter: session_counter, frame: command, known });
                commands.len() as i64
            };
            let lost = self.lost.lock().expect("lock").contains(&body);
            let rejected = self.rejected.lock().expect("lock").contains(&body);
            let held = self.held.lock().expect("lock").contains(&body).then(|| Arc::clone(&self.release));
            Ok(Submitted {
                accepted: Box::pin(async move { if lost { Err(Rejection::unavailable()) } else { Ok(()) } }),
                decided: Box::pin(async move {
                    if let Some(release) = held {
                        release.notified().await;
                    }
                    if rejected { Err(Rejection::chat_not_found()) } else { Ok(Some(100 + count)) }
                }),
            })
        })
    }

    fn mark<'a>(
        &'a self,
        _caller: &'a Caller,
        kind: MarkKind,
        marks: Vec<(String, i64)>,
    ) -> Pending<'a, Result<(), Rejection>> {
        Box::pin(async move {
            self.marks.lock().expect("lock").push((kind, marks));
            Ok(())
        })
    }
}
