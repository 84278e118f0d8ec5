//! The hub's loop. It owns all state and never waits for a connection or for Postgres.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use deadpool_postgres::Pool;
use runtime::redis::{Heard, Subscriptions};
use runtime::{Config, Names, RoleHealth, Shutdown, Tracer};
use schemas::{ChatEvent, Decoder};
use serde_json::Value;
use tokio::sync::{Semaphore, mpsc};
use tokio::time::Instant;

use super::chat::{CatchUp, Chat, Item};
use super::desk::Desk;
use super::filler::{Done, Job};
use super::load::{Cursors, Failure, Place};
use super::presence::{Look, Presence};
use super::reads::{ReadEvent, Reads};
use super::receipts::Gathered;
use super::{Ask, Pools, SUBSCRIBE_PATIENCE_MS};
use crate::metrics;

/// Messages of Pub/Sub taken in one turn.
const HEARD_BATCH: usize = 256;
/// Requests taken before events have their turn, however many wait: after a node's death a crowd comes, and those who are
/// there already go on talking.
const ASKS_IN_A_ROW: usize = 16;
/// Results of reads that wait for the loop.
const QUEUED_RESULTS: usize = 1_024;
/// Reads of missing events at a time.
const HEALS: usize = 2;
/// Reads of resumes at a time.
const RESUMES: usize = 2;
/// Questions for who may see chats that are resumed, at a time.
const LOOKUPS: usize = 1;
/// How often things that wait for time are looked at.
const TICK: Duration = Duration::from_millis(25);

/// What a read has brought.
pub(super) enum Found {
    Loaded { connections: Vec<u64>, moment: u64, outcome: Result<(Vec<Place>, Cursors), Failure> },
    Joined { pairs: Vec<(Arc<str>, Arc<str>)>, outcome: Result<Vec<Place>, Failure> },
    OpenStays { outcome: Result<Vec<(String, String)>, Failure>, is_last: bool },
    Heads { is_late: bool, outcome: Result<Vec<(String, i64)>, Failure> },
    Healed { chat_id: Arc<str>, outcome: Result<Vec<Item>, Failure> },
    Filled { connection: u64, done: Vec<Done>, is_last: bool },
    Nodes(Result<Look, redis::RedisError>),
}

pub(super) enum Stage {
    /// Channels that aren't confirmed yet, and until when to wait for them.
    Subscribing {
        missing: usize,
        until_ms: u64,
    },
    /// Its chats are being read.
    Loading {
        is_patient: bool,
    },
    Ready,
}

/// Cursors that a connection wants resumed, with the id of its frame.
pub(super) type AskedResume = (Vec<(String, i64)>, Option<Value>);

pub(super) struct Connection {
    pub(super) user_id: Arc<str>,
    pub(super) desk: Arc<Desk>,
    pub(super) stage: Stage,
    /// Resumes that wait for its chats to be known, or for earlier ones.
    pub(super) resumes: VecDeque<AskedResume>,
    /// Joins that were heard before its chats were known.
    pub(super) joins: Vec<(Arc<str>, i64)>,
    /// Resumes and the like that are being read.
    pub(super) fills: usize,
}

#[derive(Default)]
pub(super) struct User {
    pub(super) connections: Vec<u64>,
    pub(super) confirmed: Option<u64>,
    pub(super) idle_since_ms: Option<u64>,
}

/// A person's join that has to be looked up.
pub(super) struct Join {
    pub(super) seq: i64,
    pub(super) tries: u32,
    pub(super) due_ms: u64,
    pub(super) patience_ms: u64,
    pub(super) is_asked: bool,
}

enum Change {
    Subscribe(String),
    Unsubscribe(String),
}

pub(super) struct Task {
    pub(super) names: Names,
    pub(super) truth: Pool,
    pub(super) read: Pool,
    pub(super) decoder: Decoder<ChatEvent>,
    pub(super) development: bool,
    pub(super) heartbeat_ms: u64,
    /// Most people whose receipts are told of by name at a time.
    pub(super) receipt_people: usize,
    /// Most events of one chat in one resume.
    pub(super) resume_events: i64,
    drain_ms: u64,
    subscriptions: Subscriptions,
    changes: VecDeque<Change>,
    pub(super) health: RoleHealth,
    pub(super) shutdown: Shutdown,
    started: Instant,
    pub(super) found: mpsc::Sender<Found>,
    finding: Option<mpsc::Receiver<Found>>,
    heals: Reads,
    pub(super) resumes: Reads,
    pub(super) lookups: Arc<Semaphore>,
    pub(super) chats: HashMap<Arc<str>, Box<Chat>>,
    pub(super) users: HashMap<Arc<str>, User>,
    pub(super) connections: HashMap<u64, Connection>,
    /// Connections in [`Stage::Subscribing`].
    pub(super) subscribing: HashSet<u64>,
    pub(super) to_load: Vec<u64>,
    pub(super) loads: usize,
    pub(super) load_after_ms: u64,
    pub(super) joins: HashMap<(Arc<str>, Arc<str>), Join>,
    /// Chats for which something is missing.
    unsettled: HashSet<Arc<str>>,
    /// Chats that were subscribed anew and have to be compared with their heads.
    pub(super) to_check: HashSet<Arc<str>>,
    /// People whose channel was subscribed anew.
    pub(super) to_resync: HashSet<Arc<str>>,
    pub(super) heads_asked: bool,
    pub(super) next_heads_ms: u64,
    pub(super) heads_after_ms: u64,
    pub(super) stays_asked: bool,
    pub(super) next_stays_ms: u64,
    pub(super) next_sweep_ms: u64,
    pub(super) presence: Presence,
    /// Of chats whose members were told of some within the last second.
    pub(super) receipts: HashMap<Arc<str>, Gathered>,
    pub(super) tracer: Tracer,
    /// Counts confirmations and loads, so that it is known which came first.
    moment: u64,
    deliveries: ::metrics::Counter,
    busy: ::metrics::Counter,
    pub(super) events: ::metrics::Counter,
    pub(super) age: ::metrics::Histogram,
}

impl Task {
    pub(super) fn new(
        config: &Config,
        Pools { truth, read }: Pools,
        decoder: Decoder<ChatEvent>,
        subscriptions: Subscriptions,
        presence: Presence,
        health: RoleHealth,
        shutdown: Shutdown,
    ) -> Self {
        let (found, finding) = mpsc::channel(QUEUED_RESULTS);
        let heals = Reads::new(truth.clone(), HEALS, &shutdown);
        let resumes = Reads::new(truth.clone(), RESUMES, &shutdown);
        let tracer = Tracer::start(&config.trace, "gateway", &shutdown);
        Self {
            names: config.names(),
            truth,
            read,
            decoder,
            development: config.development,
            heartbeat_ms: config.gateway.heartbeat_ms,
            receipt_people: config.gateway.receipt_people,
            resume_events: i64::from(config.gateway.resume_events),
            drain_ms: config.gateway.drain_ms,
            subscriptions,
            changes: VecDeque::new(),
            health,
            shutdown,
            started: Instant::now(),
            found,
            finding: Some(finding),
            heals,
            resumes,
            lookups: Arc::new(Semaphore::new(LOOKUPS)),
            chats: HashMap::new(),
            users: HashMap::new(),
            connections: HashMap::new(),
            subscribing: HashSet::new(),
            to_load: Vec::new(),
            loads: 0,
            load_after_ms: 0,
            joins: HashMap::new(),
            unsettled: HashSet::new(),
            to_check: HashSet::new(),
            to_resync: HashSet::new(),
            heads_asked: false,
            next_heads_ms: 0,
            heads_after_ms: 0,
            stays_asked: false,
            next_stays_ms: 0,
            next_sweep_ms: 0,
            presence,
            receipts: HashMap::new(),
            tracer,
            moment: 0,
            deliveries: ::metrics::counter!(metrics::DELIVERIES),
            busy: ::metrics::counter!(metrics::HUB_BUSY),
            events: ::metrics::counter!(metrics::EVENTS),
            age: ::metrics::histogram!(metrics::EVENT_AGE),
        }
    }

    /// Runs until the connections have left after shutdown has begun.
    pub(super) async fn run(mut self, mut asked: mpsc::Receiver<Ask>, mut hearing: mpsc::Receiver<Heard>) {
        let Some(mut finding) = self.finding.take() else { return };
        let mut heard = Vec::with_capacity(HEARD_BATCH);
        let mut is_hearing = true;
        let mut tick = tokio::time::interval(TICK);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut end_at: Option<Instant> = None;
        let mut asks_in_a_row = 0;
        self.health.ready();
        loop {
            let began;
            // Answers of reads and requests first: events wait for them. Neither can keep the other from its turn, nor time
            // from going on: each takes a bounded batch, and ticks are looked at before events.
            tokio::select! {
                biased;
                Some(found) = finding.recv() => {
                    began = Instant::now();
                    self.take_found(found);
                    // Chats of hundreds of people may have been in it.
                    asks_in_a_row = ASKS_IN_A_ROW;
                }
                Some(ask) = asked.recv() => {
                    began = Instant::now();
                    self.take_ask(ask);
                    asks_in_a_row += 1;
                }
                () = subscribe_one(&self.subscriptions, self.changes.front()), if !self.changes.is_empty() => {
                    began = Instant::now();
                    self.changes.pop_front();
                }
                _ = tick.tick() => {
                    began = Instant::now();
                    self.tick();
                    if self.shutdown.has_begun() {
                        let end = *end_at.get_or_insert_with(|| Instant::now() + Duration::from_millis(self.drain_ms + 2_000));
                        if self.connections.is_empty() || Instant::now() >= end {
                            return;
                        }
                    }
                }
                count = hearing.recv_many(&mut heard, HEARD_BATCH), if is_hearing => {
                    began = Instant::now();
                    is_hearing = count > 0;
                    asks_in_a_row = 0;
                    for heard in heard.drain(..) {
                        self.take_heard(heard).await;
                    }
                }
            }
            if asks_in_a_row >= ASKS_IN_A_ROW {
                asks_in_a_row = 0;
                for _ in 0..HEARD_BATCH {
                    let Ok(heard) = hearing.try_recv() else { break };
                    self.take_heard(heard).await;
                }
            }
            self.load_and_join();
            self.busy.increment(began.elapsed().as_micros() as u64);
        }
    }

    pub(super) fn now_ms(&self) -> u64 {
        self.started.elapsed().as_millis() as u64
    }

    pub(super) fn next_moment(&mut self) -> u64 {
        self.moment += 1;
        self.moment
    }

    fn take_ask(&mut self, ask: Ask) {
        match ask {
            Ask::Connect { user_id, desk } => self.connect(user_id, desk),
            Ask::Disconnect { connection } => self.disconnect(connection),
            Ask::Resume { connection, cursors, id } => self.resume(connection, cursors, id),
        }
    }

    fn take_found(&mut self, found: Found) {
        match found {
            Found::Loaded { connections, moment, outcome } => self.loaded(connections, moment, outcome),
            Found::Joined { pairs, outcome } => self.joined(&pairs, outcome),
            Found::OpenStays { outcome, is_last } => self.take_open_stays(outcome, is_last),
            Found::Heads { is_late, outcome } => self.take_heads(is_late, outcome),
            Found::Healed { chat_id, outcome } => self.healed(&chat_id, outcome),
            Found::Filled { connection, done, is_last } => self.filled(connection, &done, is_last),
            Found::Nodes(look) => self.take_look(look),
        }
    }

    /// Delivers what a chat has in order, and reads what is missing before the rest.
    pub(super) fn settle(&mut self, chat_id: &Arc<str>) {
        let now_ms = self.now_ms();
        let Some(chat) = self.chats.get_mut(chat_id) else { return };
        let outcome = chat.deliver(now_ms);
        let Some(sequence) = &mut chat.sequence else { return };
        let read = sequence.read(now_ms);
        if sequence.is_settled() {
            self.unsettled.remove(chat_id);
        } else {
            self.unsettled.insert(Arc::clone(chat_id));
        }
        if outcome.deliveries > 0 {
            self.deliveries.increment(outcome.deliveries);
        }
        if outcome.unknown > 0 {
            ::metrics::counter!(metrics::UNKNOWN).increment(outcome.unknown);
        }
        if let Some((from, to)) = read {
            self.heal(chat_id, from, to);
        }
        if outcome.changes_members {
            self.presence_changed(chat_id);
        }
        for CatchUp { connection, from, to, stays } in outcome.catch_ups {
            self.fill(connection, vec![Job::known(chat_id, from, to, stays, false)], None);
        }
        for (user_id, seq) in outcome.joined {
            self.want_join(&user_id, chat_id, seq);
        }
    }

    fn heal(&mut self, chat_id: &Arc<str>, from: i64, to: i64) {
        ::metrics::counter!(metrics::GAPS).increment(1);
        tracing::debug!(chat = &**chat_id, from, to, "events are missing and read from Postgres");
        let (chat_id, reads, found) = (Arc::clone(chat_id), self.heals.clone(), self.found.clone());
        self.shutdown.spawn(async move {
            let outcome =
                reads.range(&chat_id, from, to).await.map(|events| events.iter().map(ReadEvent::item).collect());
            let _ = found.send(Found::Healed { chat_id, outcome }).await;
        });
    }

    fn healed(&mut self, chat_id: &Arc<str>, outcome: Result<Vec<Item>, Failure>) {
        let now_ms = self.now_ms();
        let Some(sequence) = self.chats.get_mut(chat_id).and_then(|chat| chat.sequence.as_mut()) else { return };
        match outcome {
            Ok(items) => {
                ::metrics::counter!(metrics::HEALED).increment(items.len() as u64);
                sequence.healed(items.into_iter().map(|item| (item.event.seq, item)).collect(), now_ms);
            }
            Err(error) => {
                tracing::warn!(%error, "missing events can't be read; trying again");
                sequence.failed(now_ms);
            }
        }
        self.settle(chat_id);
    }

    pub(super) fn subscribe(&mut self, channel: String) {
        self.changes.push_back(Change::Subscribe(channel));
    }

    pub(super) fn unsubscribe(&mut self, channel: String) {
        self.changes.push_back(Change::Unsubscribe(channel));
    }

    fn tick(&mut self) {
        let now_ms = self.now_ms();
        for chat_id in self.unsettled.iter().cloned().collect::<Vec<_>>() {
            if self.chats.contains_key(&chat_id) {
                self.settle(&chat_id);
            } else {
                self.unsettled.remove(&chat_id);
            }
        }
        self.lose_patience(now_ms);
        self.ask_heads(now_ms);
        self.ask_open_stays(now_ms);
        self.sweep(now_ms);
        self.presence_tick(now_ms);
        self.receipts_tick(now_ms);
    }

    pub(super) const fn patience(now_ms: u64) -> u64 {
        now_ms + SUBSCRIBE_PATIENCE_MS
    }
}

async fn subscribe_one(subscriptions: &Subscriptions, change: Option<&Change>) {
    match change {
        Some(Change::Subscribe(channel)) => subscriptions.subscribe(channel.clone()).await,
        Some(Change::Unsubscribe(channel)) => subscriptions.unsubscribe(channel.clone()).await,
        None => {}
    }
}
