//! The thread that publishes: chunks of records in, committed Kafka transactions out.
//!
//! ```text
//!   stream loop ──▶ bounded channel of chunks ──▶ this thread ──▶ begin · records · position · commit ──▶ Kafka
//!        ▲                                            │
//!        └───────────── watch: last committed ◀───────┘
//! ```
//!
//! A transaction takes what has arrived when it begins and while it is being sent, up to a limit, and waits only for a
//! chunk that was promised: idle, one commit of Postgres goes at once; under load transactions grow by themselves. While
//! Kafka is at work on a commit, the next transaction is sent already. The position travels in the same transaction as the
//! records that it speaks of, so that the two can't differ whatever happens.
//!
//! *Failure.* Nothing is tried twice here except what Kafka asks to ask again. Any other failure ends the thread, and
//! its producers with it: the next ones, under the same transactional ids, abort what these left open; the worker reads the
//! position and goes on from there. A dropped channel ends it without a commit, as a kill would.

mod ends;
mod fenced;
mod headers;
mod thread;

use std::collections::BTreeMap;

use schemas::{Encoder, PartitionEnd, Position, TopicShape};
use tokio::sync::{mpsc, oneshot, watch};

pub use fenced::Fenced;
pub use headers::HeaderMaker;

use crate::error::Error;
use crate::failpoint::Failpoints;
use crate::lsn::Lsn;
use crate::progress::Mark;
use crate::record::{Batch, Topics};
use thread::Loop;

/// Chunks that wait for the thread.
const QUEUED_CHUNKS: usize = 2;

/// Records of the stream in order, and where the stream stands after them.
#[derive(Debug)]
pub struct Chunk {
    /// Number, rising by one.
    pub number: u64,
    /// The records; none to move the position only.
    pub records: Batch,
    /// What the position record will say.
    pub mark: Mark,
    /// Another chunk follows soon, so that the transaction had better wait for it. A promise: it always comes.
    pub is_followed: bool,
}

/// The last chunk whose transaction is committed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Committed {
    /// Its number.
    pub number: u64,
    /// Its mark.
    pub mark: Mark,
}

/// What a position record says beside the mark.
#[derive(Debug, Clone)]
pub struct Identity {
    /// Slot.
    pub slot: String,
    /// Cluster of the database.
    pub system_identifier: String,
    /// Timeline of the database.
    pub timeline: i32,
    /// Cluster of Kafka.
    pub cluster_id: String,
    /// Ids of the topics by name.
    pub topic_ids: BTreeMap<String, String>,
    /// Numbers of partitions of the topics.
    pub topics: Vec<TopicShape>,
    /// Set while the history is being completed from the tables.
    pub resnapshot_until: Option<Lsn>,
}

/// The stream loop's ends.
pub struct Publisher {
    /// Where chunks go.
    pub queue: Queue,
    /// Where commits are told.
    pub news: News,
}

/// The way to the thread.
pub struct Queue(mpsc::Sender<Chunk>);

/// What the thread tells.
pub struct News {
    committed: watch::Receiver<Committed>,
    ended: Option<oneshot::Receiver<Result<(), Error>>>,
}

/// What the thread needs.
pub struct Task {
    /// The producers.
    pub fenced: Fenced,
    /// Topics.
    pub topics: Topics,
    /// The installation, for the records' headers.
    pub source: String,
    /// Who publishes.
    pub identity: Identity,
    /// Ends of the partitions as the stored position has them.
    pub ends: Vec<PartitionEnd>,
    /// Encoder of positions.
    pub positions: Encoder<Position>,
    /// The stored mark.
    pub stored: Mark,
    /// For tests.
    pub failpoints: Failpoints,
}

impl Publisher {
    /// Starts the thread.
    pub fn start(task: Task) -> Result<Self, Error> {
        let (sender, chunks) = mpsc::channel(QUEUED_CHUNKS);
        let (reports, committed) = watch::channel(Committed { number: 0, mark: task.stored });
        let (end, ended) = oneshot::channel();
        std::thread::Builder::new()
            .name("cdc-publisher".into())
            .spawn(move || {
                let outcome = Loop::new(task, reports).run(chunks);
                // Nobody listens if the worker was dropped.
                let _ = end.send(outcome);
            })
            .map_err(|_| Error::PublisherGone)?;
        Ok(Self { queue: Queue(sender), news: News { committed, ended: Some(ended) } })
    }
}

impl Queue {
    /// Room for a chunk; `None` if the thread has ended.
    pub async fn reserve(&self) -> Option<mpsc::Permit<'_, Chunk>> {
        self.0.reserve().await.ok()
    }
}

impl News {
    /// Waits for the next commit, or for the thread's end, which is always an error here.
    pub async fn next(&mut self) -> Result<Committed, Error> {
        tokio::select! {
            biased;
            Ok(()) = self.committed.changed() => Ok(*self.committed.borrow_and_update()),
            // The last news, if any, was taken above: a thread that ends tells nothing after its reason.
            reason = end_of(&mut self.ended) => Err(reason),
        }
    }

    /// Why the thread ended; waits until it has.
    pub async fn reason(&mut self) -> Error {
        end_of(&mut self.ended).await
    }
}

/// The thread's reason, told once.
async fn end_of(ended: &mut Option<oneshot::Receiver<Result<(), Error>>>) -> Error {
    let Some(receiver) = ended else { return Error::PublisherGone };
    let outcome = receiver.await;
    *ended = None;
    match outcome {
        Ok(Err(error)) => error,
        Ok(Ok(())) | Err(_) => Error::PublisherGone,
    }
}
