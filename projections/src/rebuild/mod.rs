//! Tables made again from the history, beside the live ones; swapped in, or compared with them.
//!
//! ```text
//!   chat.events ──▶ a reader a partition ──▶ decode ──▶ apply ──▶ ┌ schema rebuild_<projection> ┐
//!   chat.cursors      (module `replay`)                           │ tables, consumer_offset     │
//!                                                                 └──┬──────────────────────────┘
//!        live offsets locked ▶ replay up to them ▶ tables change places ▶ commit     (module `swap`)
//! ```
//!
//! *Progress.* Partitions are read side by side. Each keeps the rows that it changes in memory, and writes them together
//! with its offset in one transaction, every few seconds: a rebuild that is stopped goes on from there when it is asked
//! for again. Passes over the topics follow each other until little is left; the last one happens while the live runners
//! wait for the lock of their offsets.
//!
//! *Exactly once.* The swap never moves a live offset back: it reads up to the live ones first. Where the rebuild is
//! ahead, the offset moves forward with the tables, and a live batch that was read before finds that out by its
//! compare-and-set, rolls back and reads again. So no batch in flight can be applied twice or be left out.
//!
//! *Side effects* are none: what a projection publishes, it doesn't publish here, and the publisher and the notifier have
//! groups of their own.
//!
//! *Failure.* Whatever fails ends the rebuild with its reason; the live tables are as they were, and the next one goes on.

mod compare;
mod fresh;
mod leftovers;
mod progress;
mod replay;
mod swap;
mod tell;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use runtime::kafka::admin::Admin;
use runtime::kafka::partition;
use runtime::{Config, Shutdown, postgres};
use schemas::timestamp;
use schemas::topics::Topic;
use tokio_postgres::{Client, Transaction};

pub use compare::{Difference, Side, Verdict};
pub use leftovers::{Leftover, leftovers};
pub use progress::Progress;
pub use replay::Pass;

use crate::error::Error;
use crate::projection::Projection;
use crate::wiring::Wiring;
use fresh::{Begin, Fresh};

/// Work is written at least this often: as much is lost when a rebuild is stopped.
const WRITE_EVERY: Duration = Duration::from_secs(10);
/// A pass that read no more than this has come close enough to the end for the last one to be short.
const LITTLE: u64 = 2_000;
/// Passes before the last one, however much is written meanwhile.
const PASSES: usize = 50;

const OFFSETS: &str = "
    SELECT topic, partition, next_offset, log_id FROM consumer_offset WHERE consumer = $1 ORDER BY topic, partition";

/// A projection whose tables can be made again.
pub trait Replay: Projection {
    /// Topics that are replayed though the live projection doesn't read them. If there are any, its offsets stay as they
    /// are when the tables are swapped: what is read once more must change nothing.
    const OTHER_TOPICS: &'static [Topic] = &[];
    /// Whether the past can be had: no compacted topic is among the inputs.
    const HAS_PAST: bool = true;

    /// Tables whose rows may be in no log any more, with their keys. A rebuild that would lose some of them refuses.
    const IRREPLACEABLE: &'static [(&'static str, &'static str)] = &[];

    /// Settings that decide which rows are made: an unfinished rebuild under others is begun anew.
    fn settings(&self) -> String {
        String::new()
    }

    /// Reads each input to the pass' end, in the order that suits the projection.
    fn replay(self: Arc<Self>, pass: Arc<Pass>) -> impl Future<Output = Result<(), Error>> + Send;
}

/// What came of a rebuild.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rebuilt {
    /// Records that were read, those of an earlier, unfinished rebuild not among them.
    pub records: u64,
    /// Where the tables are: `None` is in the place of the live ones.
    pub schema: Option<String>,
}

/// Makes tables again.
pub struct Rebuilder {
    wiring: Wiring,
    progress: Arc<Progress>,
    write_every: Duration,
    stop: Shutdown,
    loses_rows: bool,
    tables: Option<Arc<str>>,
}

impl Rebuilder {
    /// Of this installation; what it is doing is told in `progress`.
    pub fn new(wiring: Wiring, progress: Arc<Progress>) -> Self {
        let (write_every, stop) = (WRITE_EVERY, Shutdown::new());
        Self { wiring, progress, write_every, stop, loses_rows: false, tables: None }
    }

    /// The installation's configuration.
    pub fn config(&self) -> &Config {
        &self.wiring.config
    }

    /// Writes rows and offsets this often, instead of every ten seconds.
    #[must_use]
    pub fn writing_every(self, write_every: Duration) -> Self {
        Self { write_every, ..self }
    }

    /// Gives up what it is doing when this begins, and leaves no copy of a comparison behind.
    #[must_use]
    pub fn stopped_by(self, stop: Shutdown) -> Self {
        Self { stop, ..self }
    }

    /// Swaps tables in also if rows are lost that can't be had again.
    #[must_use]
    pub fn losing_rows(self, loses_rows: bool) -> Self {
        Self { loses_rows, ..self }
    }

    /// Makes fresh tables by this SQL, which names them without a schema and does nothing where they are there. Otherwise they
    /// are made like the live ones, so that a new version with other columns can't be rebuilt before these have them.
    #[must_use]
    pub fn making_tables(self, sql: &str) -> Self {
        Self { tables: Some(sql.into()), ..self }
    }

    /// Replays the history and swaps the tables in. Live reads and writes go on.
    pub async fn rebuild<P: Replay>(&self, projection: P) -> Result<Rebuilt, Error> {
        self.unless_stopped(Box::pin(self.rebuild_to_the_end(projection))).await
    }

    async fn rebuild_to_the_end<P: Replay>(&self, projection: P) -> Result<Rebuilt, Error> {
        let (projection, schema) = (Arc::new(projection), format!("rebuild_{}", P::NAME));
        let fresh = Fresh::open(self, &*projection, &schema, None, Begin::OrGoOn).await?;
        let teller = tell::Teller {
            url: self.wiring.config.postgres.read_url.clone(),
            projection: P::NAME,
            version: P::VERSION,
            progress: Arc::clone(&self.progress),
        };
        teller.during(Box::pin(self.rebuild_into(&projection, fresh))).await
    }

    async fn rebuild_into<P: Replay>(&self, projection: &Arc<P>, mut fresh: Fresh) -> Result<Rebuilt, Error> {
        let mut records = match self.pass(projection, &fresh, Until::End).await {
            // An unfinished rebuild of another log is of no use.
            Err(Error::OtherLog { .. }) => {
                fresh = fresh.again(&self.wiring, &**projection).await?;
                self.pass(projection, &fresh, Until::End).await?
            }
            outcome => outcome?,
        };
        for _ in 0..PASSES {
            let read = self.pass(projection, &fresh, Until::End).await?;
            records += read;
            if read <= LITTLE {
                break;
            }
        }
        self.progress.phase("swapping the tables in");
        records += swap::swap(self, projection, &fresh).await?;
        Ok(Rebuilt { records, schema: None })
    }

    /// Builds the state as of a time in a schema of its own, which stays.
    pub async fn rebuild_as_of<P: Replay>(&self, projection: P, until_ms: i64) -> Result<Rebuilt, Error> {
        if !P::HAS_PAST {
            return Err(Error::NoPast { projection: P::NAME });
        }
        let time: String = timestamp::rfc3339(until_ms).chars().filter(char::is_ascii_alphanumeric).collect();
        let schema = format!("{}_as_of_{}", P::NAME, time.to_ascii_lowercase());
        let fresh = Fresh::open(self, &projection, &schema, Some(until_ms), Begin::OrGoOn).await?;
        let records = self.unless_stopped(self.pass(&Arc::new(projection), &fresh, Until::End)).await?;
        Ok(Rebuilt { records, schema: Some(schema) })
    }

    /// Replays the history up to the live offsets and compares the rows. The live tables stay.
    pub async fn verify<P: Replay>(&self, projection: P) -> Result<Verdict, Error> {
        compare::verify(self, &Arc::new(projection)).await
    }

    /// Reads every input of the projection once; says how many records that were.
    async fn pass<P: Replay>(&self, projection: &Arc<P>, fresh: &Fresh, until: Until) -> Result<u64, Error> {
        let pass = Arc::new(Pass::new(self, fresh, until));
        Arc::clone(projection).replay(Arc::clone(&pass)).await?;
        Ok(pass.records())
    }

    /// Work, or that it is time to stop.
    async fn unless_stopped<T>(&self, work: impl Future<Output = Result<T, Error>>) -> Result<T, Error> {
        tokio::select! {
            biased;
            () = self.stop.begun() => Err(Error::Stopped),
            outcome = work => outcome,
        }
    }

    /// A connection to the live tables.
    async fn connect(&self) -> Result<Client, Error> {
        Ok(postgres::connect(&postgres::parse(&self.wiring.config.postgres.read_url, "postgres.read_url")?).await?)
    }
}

/// Where the live tables stand, as this transaction sees it: offsets of the log that is there.
async fn targets<P: Replay>(rebuilder: &Rebuilder, transaction: &Transaction<'_>) -> Result<Until, Error> {
    let config = &rebuilder.wiring.config;
    let admin = Admin::new(&config.kafka)?;
    let mut offsets = BTreeMap::new();
    for &topic in P::OTHER_TOPICS {
        let topic = config.names().topic(topic);
        offsets.extend(
            partition::ends(&config.kafka, &topic)
                .await?
                .into_iter()
                .map(|(number, (_, end))| ((topic.clone(), number), end)),
        );
    }
    if P::OTHER_TOPICS.is_empty() {
        let rows = transaction.query(OFFSETS, &[&P::NAME]).await.map_err(Error::database("reading offsets"))?;
        let mut logs = BTreeMap::<String, String>::new();
        for row in rows {
            let (topic, log_id): (String, String) = (row.get(0), row.get(3));
            if !logs.contains_key(&topic) {
                logs.insert(topic.clone(), admin.log_id(&topic).await?);
            }
            if logs.get(&topic) == Some(&log_id) {
                offsets.insert((topic, row.get(1)), row.get(2));
            }
        }
    }
    Ok(Until::Offsets(offsets))
}

/// Where a pass ends.
#[derive(Debug, Clone)]
pub(crate) enum Until {
    /// At the end of what is committed.
    End,
    /// At these offsets; partitions that aren't named aren't read.
    Offsets(BTreeMap<(String, i32), i64>),
}
