//! People who come to a node at the same time, as after another node's death: asked for together, in one statement.
//!
//! *Progress.* Whoever finds a free place asks for everybody who waits, and answers them. *Failure.* If whoever asks goes
//! away meanwhile, the others ask for themselves.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use deadpool_postgres::Pool;
use schemas::timestamp;
use schemas::wire::Rejection;
use tokio::sync::{Semaphore, oneshot};

use crate::standing::Known;
use crate::users::unavailable;

/// Statements at a time.
const STATEMENTS: usize = 2;
/// People of one statement.
const PEOPLE: usize = 500;

type Answer = Result<Option<Known>, Rejection>;

pub(crate) struct Arrivals {
    pool: Pool,
    waiting: Mutex<Vec<(String, oneshot::Sender<Answer>)>>,
    places: Semaphore,
}

impl Arrivals {
    pub(crate) fn new(pool: Pool) -> Self {
        Self { pool, waiting: Mutex::default(), places: Semaphore::new(STATEMENTS) }
    }

    fn waiting(&self) -> MutexGuard<'_, Vec<(String, oneshot::Sender<Answer>)>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What the tables have of a person; `None` if there is no such person.
    pub(crate) async fn ask(&self, user_id: &str) -> Answer {
        'again: loop {
            let (answer, mut answered) = oneshot::channel();
            self.waiting().push((user_id.to_owned(), answer));
            loop {
                tokio::select! {
                    biased;
                    answer = &mut answered => match answer {
                        Ok(answer) => return answer,
                        // Whoever asked has gone.
                        Err(_) => continue 'again,
                    },
                    place = self.places.acquire() => {
                        let place = place.map_err(unavailable)?;
                        if !self.ask_for_all().await {
                            // Somebody else is asking for us already.
                            drop(place);
                            match (&mut answered).await {
                                Ok(answer) => return answer,
                                Err(_) => continue 'again,
                            }
                        }
                    }
                }
            }
        }
    }

    /// Says whether anybody waited.
    async fn ask_for_all(&self) -> bool {
        let asked: Vec<(String, oneshot::Sender<Answer>)> = {
            let mut waiting = self.waiting();
            let count = waiting.len().min(PEOPLE);
            waiting.drain(..count).filter(|(_, answer)| !answer.is_closed()).collect()
        };
        if asked.is_empty() {
            return false;
        }
        let user_ids: Vec<&str> = asked.iter().map(|(user_id, _)| user_id.as_str()).collect();
        let known = self.read(&user_ids).await;
        for (user_id, answer) in asked {
            let of_them = known.as_ref().map(|known| known.get(&user_id).copied()).map_err(Clone::clone);
            // They may be gone.
            let _ = answer.send(of_them);
        }
        true
    }

    async fn read(&self, user_ids: &[&str]) -> Result<HashMap<String, Known>, Rejection> {
        let client = self.pool.get().await.map_err(unavailable)?;
        let sql = "SELECT u.id, r.refused_before, u.removed_at IS NOT NULL OR coalesce(r.is_removed, false)
                     FROM \"user\" u LEFT JOIN user_revocation r ON r.user_id = u.id
                    WHERE u.id = ANY($1)";
        let statement = client.prepare_cached(sql).await.map_err(unavailable)?;
        let rows = client.query(&statement, &[&user_ids]).await.map_err(unavailable)?;
        let known = |row: &tokio_postgres::Row| Known {
            refused_before_ms: row.get::<_, Option<_>>(1).map_or(0, timestamp::from_offset),
            is_removed: row.get(2),
        };
        Ok(rows.iter().map(|row| (row.get(0), known(row))).collect())
    }
}
