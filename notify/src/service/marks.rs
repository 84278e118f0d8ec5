//! Whether the cursors have come to where `chat.marks` ended some seconds ago. Only then do they say who has taken a message: a
//! projector that stands still makes everybody look as if they hadn't.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use deadpool_postgres::Pool;
use runtime::kafka::admin::Admin;
use runtime::{Config, Shutdown};
use schemas::topics::Topic;

use super::Notifier;
use super::error::Error;

const PART: &str = "marks";
const LEAST: Duration = Duration::from_millis(250);
const MOST: Duration = Duration::from_secs(5);

/// Offsets of the projection that makes cursors.
const OFFSETS: &str = "SELECT partition, next_offset FROM consumer_offset WHERE consumer = 'cursor' AND topic = $1";

/// Ends by partition.
type Ends = BTreeMap<i32, i64>;

/// Where the topic ended when it was looked last, and the time before.
pub(crate) struct Marks {
    admin: Admin,
    topic: String,
    ends: Mutex<Option<(Ends, Ends)>>,
}

impl Marks {
    pub(crate) fn new(config: &Config) -> Result<Self, Error> {
        let (admin, topic) = (Admin::new(&config.kafka)?, config.names().topic(Topic::ChatMarks));
        Ok(Self { admin, topic, ends: Mutex::default() })
    }

    /// Whether the cursors have come far enough. Not before it was looked for the first time.
    pub(crate) async fn are_projected(&self, read: &Pool) -> Result<bool, Error> {
        let before =
            self.ends.lock().unwrap_or_else(PoisonError::into_inner).as_ref().map(|(before, _)| before.clone());
        let Some(before) = before else { return Ok(false) };
        let client = read.get().await?;
        let rows = client.query(OFFSETS, &[&self.topic]).await.map_err(Error::database("reading offsets"))?;
        let offsets: Ends = rows.iter().map(|row| (row.get(0), row.get(1))).collect();
        Ok(is_reached(&before, &offsets))
    }

    fn note(&self, ends: Ends) {
        let mut kept = self.ends.lock().unwrap_or_else(PoisonError::into_inner);
        *kept = Some(noted(kept.take(), ends));
    }
}

fn noted(kept: Option<(Ends, Ends)>, ends: Ends) -> (Ends, Ends) {
    (kept.map_or_else(|| ends.clone(), |(_, last)| last), ends)
}

fn is_reached(ends: &Ends, offsets: &Ends) -> bool {
    ends.iter().all(|(partition, end)| *end == 0 || offsets.get(partition).is_some_and(|next| next >= end))
}

/// Looks where the topic ends until it is time to stop. Several times before it is looked again whether somebody has taken a
/// message, so that the marks of who takes messages at once count.
pub(crate) async fn run(notifier: &Arc<Notifier>, shutdown: &Shutdown) -> Result<(), Error> {
    let every = Duration::from_millis(notifier.config.notify.look_again_ms / 4).clamp(LEAST, MOST);
    notifier.repeat(PART, every, shutdown, |notifier| Box::pin(async move { look(&notifier).await })).await
}

async fn look(notifier: &Notifier) -> Result<bool, Error> {
    let Marks { admin, topic, .. } = &notifier.marks;
    let ends = admin.ends(topic).await?.into_iter();
    // What was in an emptied partition is projected, or lost.
    notifier
        .marks
        .note(ends.map(|(partition, (first, end))| (partition, if first == end { 0 } else { end })).collect());
    Ok(false)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cursors_have_to_come_to_where_the_topic_ended_the_time_before() {
        let ends = |first, second| Ends::from([(0, first), (1, second)]);
        assert!(is_reached(&ends(5, 0), &ends(5, 0)) && is_reached(&ends(5, 0), &Ends::from([(0, 7)])));
        assert!(!is_reached(&ends(5, 1), &Ends::from([(0, 7)])) && !is_reached(&ends(5, 0), &ends(4, 0)));
        let kept = noted(None, ends(5, 0));
        assert_eq!(kept, (ends(5, 0), ends(5, 0)));
        let kept = noted(Some(kept), ends(6, 0));
        assert_eq!(kept, (ends(5, 0), ends(6, 0)));
        assert_eq!(noted(Some(kept), ends(6, 2)), (ends(6, 0), ends(6, 2)));
    }
}
