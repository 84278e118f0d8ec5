//! Which partitions this process owns, and how it gets them.
//!
//! A partition that is assigned is taken over in this order: its transactional id, which fences whoever had it and aborts
//! what they left open; then the changelog up to its end, to which nobody else can add any more; then its events from the
//! offset in there. A process that was stopped and goes on finds its producer fenced, and nothing that it had open counts.
//! So the group decides who does the work, and the transactional id that only one does, also without the group's help.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, PoisonError};

use runtime::kafka::partition::{self, PartitionReader, Span};
use runtime::kafka::reader::{Loading, Place};
use runtime::kafka::{self, OffsetStore, Start};
use schemas::OperatorState;
use tokio::task::JoinSet;

use crate::error::{self, Error};
use crate::metrics;
use crate::partition::Partition;
use crate::transform::Transform;
use crate::wiring::Wiring;

/// Partitions that are taken over at a time.
const AT_ONCE: usize = 4;
/// Most records of the changelog that are read at once.
const CHUNK_RECORDS: usize = 5_000;

/// A partition that the loop and a rebalance may both want.
pub(crate) type Owned = Arc<Mutex<Partition>>;

/// The partitions of the present assignment.
pub(crate) struct Ownership {
    wiring: Arc<Wiring>,
    owned: Mutex<BTreeMap<i32, Owned>>,
    standing: Mutex<Standing>,
}

/// How the last assignment went.
#[derive(Default)]
struct Standing {
    problem: Option<String>,
    refusal: Option<Error>,
    is_settled: bool,
}

impl Ownership {
    pub(crate) fn new(wiring: Arc<Wiring>) -> Self {
        Self { wiring, owned: Mutex::default(), standing: Mutex::default() }
    }

    /// A partition of the present assignment.
    pub(crate) fn get(&self, number: i32) -> Option<Owned> {
        self.owned.lock().unwrap_or_else(PoisonError::into_inner).get(&number).cloned()
    }

    /// All of them.
    pub(crate) fn all(&self) -> Vec<Owned> {
        self.owned.lock().unwrap_or_else(PoisonError::into_inner).values().cloned().collect()
    }

    /// Why the role has to end, if it has to.
    pub(crate) fn take_refusal(&self) -> Option<Error> {
        self.standing.lock().unwrap_or_else(PoisonError::into_inner).refusal.take()
    }

    /// What is in the way, if an assignment isn't settled.
    pub(crate) fn problem(&self) -> Option<String> {
        let standing = self.standing.lock().unwrap_or_else(PoisonError::into_inner);
        (!standing.is_settled).then(|| standing.problem.clone().unwrap_or_else(|| "waiting for partitions".to_owned()))
    }

    /// Gives all partitions up; ending their producers' threads takes a moment.
    pub(crate) async fn let_go(&self) {
        let former = std::mem::take(&mut *self.owned.lock().unwrap_or_else(PoisonError::into_inner));
        let _ = tokio::task::spawn_blocking(move || drop(former)).await;
    }

    fn tell(&self, standing: Standing) {
        *self.standing.lock().unwrap_or_else(PoisonError::into_inner) = standing;
    }

    async fn take_over(&self, places: &[Place]) -> Result<HashMap<Place, Start>, Error> {
        self.let_go().await;
        let mut starts = HashMap::new();
        let mut taken = BTreeMap::new();
        for some in places.chunks(AT_ONCE) {
            let mut tasks = JoinSet::new();
            for place in some {
                let (wiring, place) = (Arc::clone(&self.wiring), place.clone());
                tasks.spawn(async move { take_over_one(&wiring, place).await });
            }
            while let Some(outcome) = tasks.join_next().await {
                let (place, start, partition) = outcome.map_err(|_| Error::BrokeOff { partition: -1 })??;
                taken.insert(place.1, Arc::new(Mutex::new(partition)));
                starts.insert(place, start);
            }
        }
        *self.owned.lock().unwrap_or_else(PoisonError::into_inner) = taken;
        Ok(starts)
    }
}

impl OffsetStore for Ownership {
    fn load<'a>(&'a self, places: &'a [Place]) -> Loading<'a> {
        Box::pin(async move {
            let problem = Some("reading the state of its partitions".to_owned());
            self.tell(Standing { problem, ..Standing::default() });
            match self.take_over(places).await {
                Ok(starts) => {
                    self.tell(Standing { is_settled: true, ..Standing::default() });
                    Ok(starts)
                }
                Err(failure) => {
                    let problem = error::chain(&failure);
                    let refusal = (!failure.is_transient()).then_some(failure);
                    self.tell(Standing { problem: Some(problem.clone()), refusal, is_settled: false });
                    Err(problem)
                }
            }
        })
    }
}

async fn take_over_one(wiring: &Arc<Wiring>, place: Place) -> Result<(Place, Start, Partition), Error> {
    let number = place.1;
    let fencing = Arc::clone(wiring);
    let fenced = tokio::task::spawn_blocking(move || Partition::fence(&fencing, number)).await;
    let producer = fenced.map_err(|_| Error::BrokeOff { partition: number })??;
    let (transform, next_offset) = restore(wiring, number).await?;
    ::metrics::counter!(metrics::TAKEOVERS).increment(1);
    let start = next_offset.map_or(Start::Beginning, Start::At);
    let partition = Partition::new(number, place.0.clone(), producer, transform, next_offset.unwrap_or(0));
    Ok((place, start, partition))
}

/// The state as the changelog has it, and the offset to go on from; `None` before the first event.
async fn restore(wiring: &Wiring, number: i32) -> Result<(Transform, Option<i64>), Error> {
    let topic = &wiring.topics.state;
    // Of all records, also those of a transaction that is just being aborted: there is nothing behind them.
    let ends = partition::ends(&wiring.config.kafka, topic).await?;
    let until = ends.get(&number).map_or(0, |(_, end)| *end);
    let span =
        Span { topic: topic.clone(), partition: number, from: 0, until: Some(until), chunk_records: CHUNK_RECORDS };
    let group = wiring.names.group("operators-state");
    let mut reader = PartitionReader::start(kafka::client_config(&wiring.config.kafka), &group, span)?;
    let mut latest: HashMap<Vec<u8>, Vec<u8>> = HashMap::new();
    while let Some(chunk) = reader.next().await? {
        for record in chunk.records {
            let key = record.key.unwrap_or_default();
            match record.value {
                Some(value) => drop(latest.insert(key, value)),
                None => drop(latest.remove(&key)),
            }
        }
        if chunk.is_end {
            break;
        }
    }
    let unusable = |key: &[u8], source| Error::State {
        topic: topic.clone(),
        partition: number,
        key: String::from_utf8_lossy(key).into_owned(),
        source,
    };
    let (mut progress, mut windows) = (None, Vec::new());
    for (key, value) in latest {
        let state: OperatorState = match wiring.states.decode(&value).await {
            Ok(state) => state,
            Err(failure) if failure.is_transient() => return Err(Error::Schema(failure)),
            Err(failure) => return Err(unusable(&key, Some(failure))),
        };
        progress = progress.or(state.progress);
        windows.extend(state.open_window);
    }
    let Some(progress) = progress else {
        return Ok((Transform::new(wiring.rules), None));
    };
    if progress.topic_log != wiring.topic_log {
        return Err(Error::OtherLog {
            topic: topic.clone(),
            partition: number,
            recorded: progress.topic_log,
            found: wiring.topic_log.clone(),
        });
    }
    let restored = Transform::restored(wiring.rules, progress.watermark_at, windows);
    let transform = restored.ok_or_else(|| unusable(b"a window of an unknown kind", None))?;
    Ok((transform, Some(progress.next_offset)))
}
