//! Commands into Kafka, and their answers back: the producer's side of the chat.
//!
//! *Order.* [`ChatService::submit`] hands a command to the producer before it returns, so calls made one after another
//! for a chat arrive in that order; the producer is idempotent, so its retries keep it.
//!
//! *Failure.* A command whose delivery fails may still be written (its message_id guards it); the sender is told to try
//! again. An answer that doesn't come is read from the tables.

use std::sync::Arc;
use std::time::{Duration, Instant};

use deadpool_postgres::Pool;
use futures_util::future::{BoxFuture, FutureExt};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::producer::{FutureProducer, FutureRecord, Producer};
use runtime::trace::Span;
use runtime::{Config, Names, RoleHealth, Shutdown, Tracer, clock, kafka, postgres};
use schemas::topics::Topic;
use schemas::trace;
use schemas::wire::client::SendMessage;
use schemas::wire::{Answer, Code, Rejection};
use schemas::{ChatCommand, ChatSettings, CommandMember, Encoder, command_type};
use uuid::Uuid;

use crate::admission::{Admission, UnderWay};
use crate::answers::{Expected, Listener};
use crate::error::Error;
use crate::limits::Limits;
use crate::{metrics, silence, start, users};

/// How long a command may stay undecided before its sender is told to look again.
const PATIENCE: Duration = Duration::from_secs(30);

/// Who asks, and on which connection or request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Asker {
    /// The person.
    pub user_id: String,
    /// The connection or request; its own commands apply in order.
    pub session_id: String,
    /// Number of the command within the session.
    pub session_counter: i64,
    /// Whether a service asks, which has limits of its own.
    pub is_service: bool,
}

/// What somebody asks of a chat.
#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(missing_docs, reason = "the contract's own field names")]
pub enum Wish {
    Send(SendMessage),
    Edit { chat_id: String, message_id: Uuid, content: String, based_on_seq: Option<i64> },
    Delete { chat_id: String, message_id: Uuid },
    CreateChat { chat_id: String, settings: ChatSettings, members: Vec<CommandMember> },
    UpdateChat { chat_id: String, settings: ChatSettings, based_on_seq: Option<i64> },
    AddMembers { chat_id: String, members: Vec<CommandMember>, based_on_seq: Option<i64> },
    RemoveMembers { chat_id: String, members: Vec<CommandMember>, based_on_seq: Option<i64> },
    UpdateMembers { chat_id: String, members: Vec<CommandMember>, based_on_seq: Option<i64> },
    RemovePerson { chat_id: String, user_id: String },
}

/// A command that was handed to Kafka's producer.
pub struct Submitted {
    /// Resolves once the command is in Kafka with acks=all, or isn't.
    pub accepted: BoxFuture<'static, Result<(), Rejection>>,
    /// Resolves once the command is decided: `seq` of its event, `None` if it changed nothing, or why not.
    pub decided: BoxFuture<'static, Result<Option<i64>, Rejection>>,
}

/// The service of one gateway node.
pub struct ChatService {
    producer: FutureProducer,
    topic: String,
    encoder: Encoder<ChatCommand>,
    listener: Listener,
    pool: Pool,
    limits: Arc<Limits>,
    admission: Admission,
    tracer: Tracer,
    node_id: String,
}

impl ChatService {
    /// Starts the service; `None` when it is time to stop before Kafka, Postgres and the registry were there.
    pub async fn start(
        config: &Config,
        node_id: &str,
        limits: Arc<Limits>,
        health: &RoleHealth,
        shutdown: &Shutdown,
    ) -> Result<Option<Self>, Error> {
        let names: Names = config.names();
        let Some(ground) = start::ground(config, health, shutdown).await? else { return Ok(None) };
        let registry = config.registry_client()?;
        let Some(schema_id) = start::schema_id::<ChatCommand>(&registry, health, shutdown).await else {
            return Ok(None);
        };
        let listener = Listener::start(config, &names, node_id, shutdown)?;
        shutdown.spawn(silence::watch(listener.clone(), ground.pool.clone(), shutdown.clone()));
        Ok(Some(Self {
            producer: kafka::producer_config(&config.kafka).create()?,
            topic: names.topic(Topic::ChatCommands),
            encoder: Encoder::new(schema_id),
            listener,
            pool: ground.pool,
            limits,
            admission: Admission::new(&config.limits),
            tracer: Tracer::start(&config.trace, "gateway", shutdown),
            node_id: node_id.to_owned(),
        }))
    }

    /// The source of truth, for the gateway's reads.
    pub fn pool(&self) -> &Pool {
        &self.pool
    }

    /// Checks membership where the caller doesn't know it, then hands the command to the producer.
    ///
    /// `is_known_member`: the caller's own view says that the asker is a member. The persister decides in any case.
    pub async fn submit(&self, asker: &Asker, wish: Wish, is_known_member: bool) -> Result<Submitted, Rejection> {
        if !asker.is_service {
            self.limits.command(&asker.user_id)?;
        }
        self.submit_allowed(asker, wish, is_known_member).await
    }

    /// The same for a further command of one request, which waits for the limit instead of being refused: a request that
    /// takes several commands isn't left half done.
    pub async fn submit_further(
        &self,
        asker: &Asker,
        wish: Wish,
        is_known_member: bool,
    ) -> Result<Submitted, Rejection> {
        if !asker.is_service {
            self.limits.further_command(&asker.user_id).await;
        }
        self.submit_allowed(asker, wish, is_known_member).await
    }

    async fn submit_allowed(&self, asker: &Asker, wish: Wish, is_known_member: bool) -> Result<Submitted, Rejection> {
        let span = self.tracer.sample("gateway");
        if matches!(wish, Wish::Send(_)) {
            self.admission.admit(self.under_way())?;
        }
        let command = self.command(asker, wish);
        if !is_known_member && command.command_type != command_type::CHAT_CREATE {
            self.check_access(&command).await?;
        }
        if !command.media_ids.is_empty() {
            self.check_media(&command).await?;
        }
        self.produce(&command, span)
    }

    fn under_way(&self) -> UnderWay {
        let (undecided, oldest) = self.listener.undecided();
        UnderWay { queued: usize::try_from(self.producer.in_flight_count()).unwrap_or(0), undecided, oldest }
    }

    fn produce(&self, command: &ChatCommand, mut span: Option<Span>) -> Result<Submitted, Rejection> {
        let began = Instant::now();
        let value = self.encoder.encode(command).map_err(|error| {
            tracing::error!(error = %error, "a command could not be encoded");
            Rejection::new(Code::Internal, "The command could not be encoded.")
        })?;
        // Expected before it is sent: the answer can be quicker than Kafka's own acknowledgement.
        let expected = self.listener.expect(command);
        let mut record =
            FutureRecord::to(&self.topic).key(&command.chat_id).payload(&value).timestamp(command.issued_at);
        if let Some(span) = &mut span {
            span.note("waltalkie.command_type", command.command_type.as_str());
            span.note("waltalkie.chat_id", command.chat_id.as_str());
            span.note("waltalkie.message_id", command.message_id.as_deref().unwrap_or_default());
            let value = span.context().to_text();
            record = record.headers(OwnedHeaders::new().insert(Header { key: trace::HEADER, value: Some(&value) }));
        }
        let delivery = self.producer.send_result(record).map_err(|(error, _)| match error {
            KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull) => {
                metrics::refused(Code::Overloaded);
                Rejection::new(Code::Overloaded, "Too much is on its way already; try again.").retry_after(1_000)
            }
            error => {
                tracing::warn!(error = %error, "a command could not be handed to Kafka");
                Rejection::unavailable()
            }
        })?;
        let accepted = async move {
            match delivery.await {
                Ok(Ok(_)) => {
                    metrics::accepted(began.elapsed());
                    if let Some(span) = span {
                        span.end();
                    }
                    Ok(())
                }
                Ok(Err((error, _))) => {
                    if let Some(span) = span {
                        span.end_refused("unavailable");
                    }
                    tracing::warn!(error = %error, "a command did not reach Kafka in time");
                    Err(Rejection::unavailable())
                }
                Err(_) => Err(Rejection::unavailable()),
            }
        };
        let limits = Arc::clone(&self.limits);
        let decided = async move {
            let decision = decision(expected).await;
            metrics::decided(began.elapsed());
            if decision.as_ref().is_err_and(|refusal| refusal.code == Code::RateLimited) {
                limits.chat_is_full();
            }
            decision
        };
        Ok(Submitted { accepted: accepted.boxed(), decided: decided.boxed() })
    }

    /// One query, the same whether the chat isn't there or isn't the asker's. A send that was taken before is let
    /// through although its sender was removed since: its answer is still owed.
    async fn check_access(&self, command: &ChatCommand) -> Result<(), Rejection> {
        let client = self.pool.get().await.map_err(users::unavailable)?;
        let message_id = command.message_id.as_deref().and_then(|id| Uuid::try_parse(id).ok());
        let sql = "SELECT EXISTS (SELECT 1 FROM chat_member WHERE chat_id = $1 AND user_id = $2 AND left_seq IS NULL)
                       OR $2 = 'waltalkie:system' AND EXISTS (SELECT 1 FROM chat WHERE id = $1)
                       OR EXISTS (SELECT 1 FROM message_key WHERE message_id = $3 AND chat_id = $1 AND sender_id = $2)";
        let statement = client.prepare_cached(sql).await.map_err(users::unavailable)?;
        let row = client
            .query_one(&statement, &[&command.chat_id, &command.user_id, &message_id])
            .await
            .map_err(users::unavailable)?;
        if row.get(0) { Ok(()) } else { Err(Rejection::chat_not_found()) }
    }

    /// Refuses a send of files that aren't the sender's completed ones for this chat before it is accepted; the persister
    /// decides again under their locks. One that was taken before is let through: its answer is still owed.
    async fn check_media(&self, command: &ChatCommand) -> Result<(), Rejection> {
        let client = self.pool.get().await.map_err(users::unavailable)?;
        let message_id = command.message_id.as_deref().and_then(|id| Uuid::try_parse(id).ok());
        let sql = "SELECT count(*) FILTER (WHERE state = 'ready'), count(*) FILTER (WHERE state IN ('uploading', 'checking')),
                          EXISTS (SELECT 1 FROM message_key WHERE message_id = $4)
                     FROM media WHERE id = ANY($1) AND chat_id = $2 AND user_id = $3";
        let statement = client.prepare_cached(sql).await.map_err(users::unavailable)?;
        let row = client
            .query_one(&statement, &[&command.media_ids, &command.chat_id, &command.user_id, &message_id])
            .await
            .map_err(users::unavailable)?;
        let (ready, under_way): (i64, i64) = (row.get(0), row.get(1));
        let wanted = command.media_ids.len() as i64;
        if ready == wanted || row.get(2) {
            return Ok(());
        }
        Err(if ready + under_way == wanted {
            let rule = "A file is not completed yet: upload it and call complete, then send the message.";
            Rejection::new(Code::MediaNotReady, rule).at("attachments")
        } else {
            Rejection::media_not_found().at("attachments")
        })
    }

    fn command(&self, asker: &Asker, wish: Wish) -> ChatCommand {
        let base = ChatCommand {
            command_id: Uuid::now_v7().to_string(),
            user_id: asker.user_id.clone(),
            session_id: asker.session_id.clone(),
            session_counter: asker.session_counter,
            node_id: self.node_id.clone(),
            issued_at: clock::now_ms(),
            ..ChatCommand::default()
        };
        let members = |kind: &str, chat_id, members, based_on_seq| ChatCommand {
            command_type: kind.into(),
            chat_id,
            members,
            based_on_seq,
            ..base.clone()
        };
        match wish {
            Wish::Send(send) => ChatCommand {
                command_type: command_type::MESSAGE_SEND.into(),
                chat_id: send.chat_id,
                message_id: Some(send.message_id.to_string()),
                content: Some(send.content),
                media_ids: send.media_ids,
                parent_message_id: send.parent_message_id.map(|id| id.to_string()),
                app_data: send.app_data,
                ..base
            },
            Wish::Edit { chat_id, message_id, content, based_on_seq } => ChatCommand {
                command_type: command_type::MESSAGE_EDIT.into(),
                chat_id,
                message_id: Some(message_id.to_string()),
                content: Some(content),
                based_on_seq,
                ..base
            },
            Wish::Delete { chat_id, message_id } => ChatCommand {
                command_type: command_type::MESSAGE_DELETE.into(),
                chat_id,
                message_id: Some(message_id.to_string()),
                ..base
            },
            Wish::CreateChat { chat_id, settings, members } => ChatCommand {
                command_type: command_type::CHAT_CREATE.into(),
                chat_id,
                members,
                chat: Some(settings),
                ..base
            },
            Wish::UpdateChat { chat_id, settings, based_on_seq } => ChatCommand {
                command_type: command_type::CHAT_UPDATE.into(),
                chat_id,
                chat: Some(settings),
                based_on_seq,
                ..base
            },
            Wish::AddMembers { chat_id, members: people, based_on_seq } => {
                members(command_type::MEMBERS_ADD, chat_id, people, based_on_seq)
            }
            Wish::RemoveMembers { chat_id, members: people, based_on_seq } => {
                members(command_type::MEMBERS_REMOVE, chat_id, people, based_on_seq)
            }
            Wish::UpdateMembers { chat_id, members: people, based_on_seq } => {
                members(command_type::MEMBERS_UPDATE, chat_id, people, based_on_seq)
            }
            Wish::RemovePerson { chat_id, user_id } => {
                let person = vec![CommandMember { user_id, member_role: None }];
                members(command_type::PERSON_REMOVE, chat_id, person, None)
            }
        }
    }
}

/// Waits for one command's answer.
async fn decision(mut expected: Expected) -> Result<Option<i64>, Rejection> {
    match tokio::time::timeout(PATIENCE, &mut expected.answer).await {
        Ok(Ok(answer)) => decision_of(answer),
        _ => Err(Rejection::new(
            Code::Unavailable,
            "It is accepted and not decided yet: send it again with the same message_id to learn what became of it.",
        )
        .retry_after(5_000)),
    }
}

fn decision_of(answer: Answer) -> Result<Option<i64>, Rejection> {
    match answer.rejection {
        Some(rejection) => {
            metrics::refused(rejection.code);
            Err(rejection)
        }
        None => Ok(answer.seq),
    }
}

/// The pool of the read models, for the gateway's reads.
pub fn read_pool(config: &Config) -> Result<Pool, Error> {
    Ok(postgres::pool(&config.postgres.read_url, "postgres.read_url", config.postgres.pool_size)?)
}
