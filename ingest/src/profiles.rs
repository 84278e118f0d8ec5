//! Profiles: made, replaced and taken away by services, changed by people. Each change is a row of `user_change`, and so a record on
//! `chat.users`.

use deadpool_postgres::{Pool, Transaction};
use schemas::wire::{Code, Rejection};
use tokio_postgres::Row;

use crate::users::unavailable;

/// What a profile holds.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Profile {
    /// Name shown to others.
    pub name: Option<String>,
    /// Mail address.
    pub email: Option<String>,
    /// Picture.
    pub avatar_url: Option<String>,
}

/// Whether a profile was there before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Put {
    /// The person is new.
    Made,
    /// The person was there, with this profile or another.
    Replaced,
}

/// Gives a person this profile, and makes them if they aren't there. The same again changes nothing.
pub async fn put(pool: &Pool, user_id: &str, profile: &Profile) -> Result<Put, Rejection> {
    let mut client = pool.get().await.map_err(unavailable)?;
    let transaction = client.transaction().await.map_err(unavailable)?;
    let sql = "INSERT INTO \"user\" (id, name, email, avatar_url, created_at, updated_at)
               VALUES ($1, $2, $3, $4, clock_timestamp(), clock_timestamp()) ON CONFLICT (id) DO NOTHING";
    let Profile { name, email, avatar_url } = profile;
    let made = transaction.execute(sql, &[&user_id, name, email, avatar_url]).await.map_err(unavailable)?;
    if made == 1 {
        tell(&transaction, user_id, false).await?;
        transaction.commit().await.map_err(unavailable)?;
        return Ok(Put::Made);
    }
    let sql = "SELECT removed_at IS NOT NULL, name, email, avatar_url FROM \"user\" WHERE id = $1 FOR UPDATE";
    let row = transaction.query_one(sql, &[&user_id]).await.map_err(unavailable)?;
    if row.get(0) {
        let rule = "This person was removed; their id isn't given again.";
        return Err(Rejection::new(Code::Conflict, rule).at("user_id"));
    }
    write(transaction, user_id, &profile_of(&row), profile).await?;
    Ok(Put::Replaced)
}

/// Changes a person's own name and picture: `None` leaves one as it is, an empty text takes it away.
pub(crate) async fn change(
    pool: &Pool,
    user_id: &str,
    name: Option<String>,
    avatar_url: Option<String>,
) -> Result<Profile, Rejection> {
    let mut client = pool.get().await.map_err(unavailable)?;
    let transaction = client.transaction().await.map_err(unavailable)?;
    let old = hold(&transaction, user_id).await?;
    let changed = |wanted: Option<String>, old: &Option<String>| match wanted {
        None => old.clone(),
        Some(text) => Some(text).filter(|text| !text.is_empty()),
    };
    let (name, avatar_url) = (changed(name, &old.name), changed(avatar_url, &old.avatar_url));
    let new = Profile { name, avatar_url, email: old.email.clone() };
    write(transaction, user_id, &old, &new).await?;
    Ok(new)
}

/// Keeps two changes of what belongs to a person apart, and refuses one who was removed.
pub(crate) async fn hold(transaction: &Transaction<'_>, user_id: &str) -> Result<Profile, Rejection> {
    let sql = "SELECT removed_at IS NOT NULL, name, email, avatar_url FROM \"user\" WHERE id = $1 FOR UPDATE";
    let row = transaction.query_opt(sql, &[&user_id]).await.map_err(unavailable)?;
    let row = row.filter(|row| !row.get::<_, bool>(0));
    row.as_ref().map(profile_of).ok_or_else(|| Rejection::new(Code::UserNotFound, "This person was removed."))
}

async fn write(transaction: Transaction<'_>, user_id: &str, old: &Profile, new: &Profile) -> Result<(), Rejection> {
    if new != old {
        let Profile { name, email, avatar_url } = new;
        let sql =
            "UPDATE \"user\" SET name = $2, email = $3, avatar_url = $4, updated_at = clock_timestamp() WHERE id = $1";
        transaction.execute(sql, &[&user_id, name, email, avatar_url]).await.map_err(unavailable)?;
        tell(&transaction, user_id, false).await?;
    }
    transaction.commit().await.map_err(unavailable)
}

fn profile_of(row: &Row) -> Profile {
    Profile { name: row.get(1), email: row.get(2), avatar_url: row.get(3) }
}

/// Ends a profile, also in the rows of its earlier versions; `false` if there is no such person. Again, it changes nothing.
pub(crate) async fn end(transaction: &Transaction<'_>, user_id: &str) -> Result<bool, Rejection> {
    let sql = "SELECT removed_at IS NOT NULL FROM \"user\" WHERE id = $1 FOR UPDATE";
    let Some(row) = transaction.query_opt(sql, &[&user_id]).await.map_err(unavailable)? else { return Ok(false) };
    if !row.get::<_, bool>(0) {
        let sql = "UPDATE \"user\" SET name = NULL, email = NULL, avatar_url = NULL, removed_at = clock_timestamp(),
                          updated_at = clock_timestamp() WHERE id = $1";
        transaction.execute(sql, &[&user_id]).await.map_err(unavailable)?;
        // Updates of this table aren't published.
        let sql = "UPDATE user_change SET name = NULL, email = NULL, avatar_url = NULL WHERE user_id = $1";
        transaction.execute(sql, &[&user_id]).await.map_err(unavailable)?;
        tell(transaction, user_id, true).await?;
        for table in ["user_device", "user_settings", "idempotent_answer"] {
            let sql = format!("DELETE FROM {table} WHERE user_id = $1");
            transaction.execute(&sql, &[&user_id]).await.map_err(unavailable)?;
        }
    }
    Ok(true)
}

/// Adds the row that becomes the record. The person's row is locked, so versions have no gap.
async fn tell(transaction: &Transaction<'_>, user_id: &str, is_removed: bool) -> Result<(), Rejection> {
    let sql = "INSERT INTO user_change (user_id, version, name, email, avatar_url, is_removed, changed_at)
               SELECT u.id, (SELECT coalesce(max(c.version), 0) + 1 FROM user_change c WHERE c.user_id = u.id),
                      u.name, u.email, u.avatar_url, $2, u.updated_at
                 FROM \"user\" u WHERE u.id = $1";
    transaction.execute(sql, &[&user_id, &is_removed]).await.map_err(unavailable)?;
    Ok(())
}
