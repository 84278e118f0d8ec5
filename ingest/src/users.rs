//! People: a first valid token creates its person, and others see no more than name and picture.

use std::collections::HashSet;
use std::sync::Arc;

use deadpool_postgres::Pool;
use schemas::wire::{Code, Rejection};
use serde::Serialize;
use utoipa::ToSchema;

use crate::auth::Identity;
use crate::standing::{Standing, Standings};

/// A person as others see them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
#[schema(as = User)]
pub struct PublicUser {
    /// Their id.
    pub user_id: String,
    /// Their name.
    #[schema(required)]
    pub name: Option<String>,
    /// Their picture.
    #[schema(required)]
    pub avatar_url: Option<String>,
}

/// The table of people.
pub struct Users {
    pool: Pool,
    standings: Arc<Standings>,
}

impl Users {
    /// On the source of truth.
    pub fn new(pool: Pool) -> Self {
        Self { standings: Standings::new(pool.clone()), pool }
    }

    /// What this node knows of their standing.
    pub fn standings(&self) -> &Arc<Standings> {
        &self.standings
    }

    /// Creates the person of a token, if it is their first; refuses one who was removed, and a revoked token.
    pub async fn ensure(&self, identity: &Identity) -> Result<(), Rejection> {
        let (user_id, issued_at_ms) = (identity.user_id.as_str(), identity.issued_at_ms);
        if let Some(standing) = self.standings.remembered(user_id, issued_at_ms) {
            return standing.check();
        }
        if self.standings.meet(user_id).await? {
            return self.standings.still(user_id, issued_at_ms).check();
        }
        // Before anything is made: a revoked token makes nobody.
        self.standings.ask(user_id, issued_at_ms).await?.check()?;
        if !self.create(user_id, identity.name.as_deref(), identity.email.as_deref()).await? {
            return Standing::Removed.check();
        }
        self.standings.remember(user_id).await?;
        self.standings.still(user_id, issued_at_ms).check()
    }

    /// Refuses an id that is nobody's, for a service that acts in their name.
    pub(crate) async fn check_there(&self, user_id: &str) -> Result<(), Rejection> {
        let nobody = || Rejection::new(Code::UserNotFound, "There is no such person.");
        match self.standings.remembered(user_id, i64::MAX) {
            Some(Standing::Good) => return Ok(()),
            Some(_) => return Err(nobody()),
            None => {}
        }
        if self.existing(&[user_id.to_owned()]).await?.is_empty() {
            return Err(nobody());
        }
        self.standings.remember(user_id).await
    }

    /// Creates a person if there is none of that id; `false` if there was one who is removed.
    pub async fn create(&self, user_id: &str, name: Option<&str>, email: Option<&str>) -> Result<bool, Rejection> {
        let client = self.pool.get().await.map_err(unavailable)?;
        // The row of user_change is what becomes the record on chat.users; both are one statement.
        let sql = "WITH made AS (
                       INSERT INTO \"user\" (id, name, email, created_at, updated_at)
                       VALUES ($1, $2, $3, clock_timestamp(), clock_timestamp())
                       ON CONFLICT (id) DO NOTHING RETURNING id, name, email, updated_at),
                   told AS (
                       INSERT INTO user_change (user_id, version, name, email, avatar_url, is_removed, changed_at)
                       SELECT id, 1, name, email, NULL, false, updated_at FROM made)
                   SELECT true FROM made UNION ALL SELECT removed_at IS NULL FROM \"user\" WHERE id = $1 LIMIT 1";
        let row = client.query_opt(sql, &[&user_id, &name, &email]).await.map_err(unavailable)?;
        // No row at all: another gateway made the person between our two looks.
        Ok(row.is_none_or(|row| row.get(0)))
    }

    /// Those of the ids that exist and are not removed, whoever asks; for checks, not for showing.
    pub async fn existing(&self, user_ids: &[String]) -> Result<HashSet<String>, Rejection> {
        let client = self.pool.get().await.map_err(unavailable)?;
        let rows = client
            .query("SELECT id FROM \"user\" WHERE id = ANY($1) AND removed_at IS NULL", &[&user_ids])
            .await
            .map_err(unavailable)?;
        Ok(rows.iter().map(|row| row.get(0)).collect())
    }

    /// Those of the ids that share a chat with `viewer`, and the viewer.
    pub async fn seen_by(&self, viewer: &str, user_ids: &[String]) -> Result<Vec<PublicUser>, Rejection> {
        let client = self.pool.get().await.map_err(unavailable)?;
        let sql = "SELECT u.id, u.name, u.avatar_url FROM \"user\" u
                    WHERE u.id = ANY($2) AND u.removed_at IS NULL AND (u.id = $1 OR EXISTS (
                          SELECT 1 FROM chat_member mine JOIN chat_member theirs USING (chat_id)
                           WHERE mine.user_id = $1 AND mine.left_seq IS NULL AND theirs.user_id = u.id))
                    ORDER BY u.id";
        let rows = client.query(sql, &[&viewer, &user_ids]).await.map_err(unavailable)?;
        Ok(rows.iter().map(public_user).collect())
    }

    /// One person's own profile.
    pub async fn own(&self, user_id: &str) -> Result<Option<(PublicUser, Option<String>)>, Rejection> {
        let client = self.pool.get().await.map_err(unavailable)?;
        let sql = "SELECT id, name, avatar_url, email FROM \"user\" WHERE id = $1 AND removed_at IS NULL";
        let row = client.query_opt(sql, &[&user_id]).await.map_err(unavailable)?;
        Ok(row.map(|row| (public_user(&row), row.get(3))))
    }
}

fn public_user(row: &tokio_postgres::Row) -> PublicUser {
    PublicUser { user_id: row.get(0), name: row.get(1), avatar_url: row.get(2) }
}

/// The client's refusal for a database error, which is logged here and shown to nobody.
pub(crate) fn unavailable(error: impl std::fmt::Display) -> Rejection {
    tracing::warn!(error = %error, "a request found Postgres away");
    Rejection::unavailable()
}
