//! Commands whose answers don't come: the tables are asked for all of them at once.
//!
//! One question at a time, however many wait, and less and less often for each of them: a persister that lags is not helped
//! by being asked how far it is.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use deadpool_postgres::Pool;
use runtime::Shutdown;
use schemas::wire::Answer;
use schemas::{ChatCommand, command_type};
use tokio::time::MissedTickBehavior;
use tokio_postgres::types::Json;
use uuid::Uuid;

use crate::answers::Listener;
use crate::metrics;

/// How long an answer may be silent before the tables are asked; then twice as long, and so on.
const FIRST: Duration = Duration::from_secs(1);
/// How often at least.
const MOST: Duration = Duration::from_secs(8);
/// How often is looked who has waited too long.
const LOOK_EVERY: Duration = Duration::from_millis(250);
/// Commands in one question.
const AT_ONCE: usize = 1_000;

/// What the tables can be asked of a command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Question {
    pub(crate) command_id: Uuid,
    /// Of a send: its message, whose row is an answer if chat and sender are the same.
    pub(crate) send: Option<(Uuid, String, String)>,
}

impl Question {
    pub(crate) fn of(command: &ChatCommand) -> Self {
        let message_id = command.message_id.as_deref().and_then(|id| Uuid::try_parse(id).ok());
        let is_send = command.command_type == command_type::MESSAGE_SEND;
        let send = message_id.filter(|_| is_send);
        Self {
            command_id: Uuid::try_parse(&command.command_id).unwrap_or_default(),
            send: send.map(|message_id| (message_id, command.chat_id.clone(), command.user_id.clone())),
        }
    }
}

/// When a command is to be asked for.
#[derive(Debug)]
pub(crate) struct Patience {
    next: Instant,
    pause: Duration,
}

impl Patience {
    pub(crate) fn new(since: Instant) -> Self {
        Self { next: since + FIRST, pause: FIRST }
    }

    /// Whether it is time; it counts as asked then.
    pub(crate) fn is_over(&mut self, now: Instant) -> bool {
        let is_over = now >= self.next;
        if is_over {
            self.pause = (self.pause * 2).min(MOST);
            self.next = now + self.pause;
        }
        is_over
    }
}

/// Asks for whoever waits too long, until the node stops and nobody waits any more: a draining one hears nothing from Redis.
pub(crate) async fn watch(listener: Listener, pool: Pool, shutdown: Shutdown) {
    let mut look = tokio::time::interval(LOOK_EVERY);
    look.set_missed_tick_behavior(MissedTickBehavior::Delay);
    while !shutdown.has_begun() || listener.undecided().0 > 0 {
        look.tick().await;
        let questions = listener.overdue(Instant::now(), AT_ONCE);
        if questions.is_empty() {
            continue;
        }
        match ask(&pool, &questions).await {
            Ok(answers) => {
                for answer in answers {
                    if listener.answer(answer) {
                        metrics::answer_from_tables();
                    }
                }
            }
            Err(error) => tracing::debug!(error, "answers can't be read from the tables now"),
        }
    }
}

async fn ask(pool: &Pool, questions: &[Question]) -> Result<Vec<Answer>, String> {
    let words = |error: tokio_postgres::Error| error.to_string();
    let client = pool.get().await.map_err(|error| error.to_string())?;
    let command_ids: Vec<Uuid> = questions.iter().map(|question| question.command_id).collect();
    let sql = "SELECT answer FROM command_result WHERE command_id = ANY($1)";
    let results = client.prepare_cached(sql).await.map_err(words)?;
    let mut answers = Vec::new();
    for row in client.query(&results, &[&command_ids]).await.map_err(words)? {
        let Json(answer) = row.try_get(0).map_err(words)?;
        answers.push(answer);
    }
    // A send that was repeated waits more than once.
    let mut sends: HashMap<&(Uuid, String, String), Vec<Uuid>> = HashMap::new();
    for question in questions {
        if let Some(send) = &question.send {
            sends.entry(send).or_default().push(question.command_id);
        }
    }
    if sends.is_empty() {
        return Ok(answers);
    }
    let message_ids: Vec<Uuid> = sends.keys().map(|(message_id, ..)| *message_id).collect();
    let sql = "SELECT message_id, chat_id, sender_id, sequence_number FROM message_key WHERE message_id = ANY($1)";
    let keys = client.prepare_cached(sql).await.map_err(words)?;
    for row in client.query(&keys, &[&message_ids]).await.map_err(words)? {
        let (place, seq) = ((row.get(0), row.get(1), row.get(2)), row.get(3));
        // Another use of the UUID is no answer to this one: its refusal will be in command_result.
        for command_id in sends.get(&place).into_iter().flatten() {
            answers.push(Answer { command_id: command_id.to_string(), seq: Some(seq), rejection: None });
        }
    }
    Ok(answers)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patience_grows() {
        let began = Instant::now();
        let mut patience = Patience::new(began);
        let asked = (0..40).filter(|second| patience.is_over(began + Duration::from_secs(*second)));
        let asked: Vec<u64> = asked.collect();
        assert_eq!(asked, [1, 3, 7, 15, 23, 31, 39]);
    }

    #[test]
    fn only_a_sends_message_is_an_answer() {
        let message_id = Uuid::now_v7();
        let command = |kind: &str| ChatCommand {
            command_type: kind.into(),
            command_id: Uuid::now_v7().to_string(),
            message_id: Some(message_id.to_string()),
            chat_id: "c".into(),
            user_id: "u".into(),
            ..ChatCommand::default()
        };
        let send = Question::of(&command(command_type::MESSAGE_SEND));
        assert_eq!(send.send, Some((message_id, "c".into(), "u".into())));
        assert_eq!(Question::of(&command(command_type::MESSAGE_EDIT)).send, None);
    }
}
