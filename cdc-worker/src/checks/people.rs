//! Whether the last changes of people that were published are rows of `user_change`.

use rdkafka::message::{BorrowedMessage, Headers, Message};
use schemas::timestamp;
use time::OffsetDateTime;
use tokio_postgres::{Client, Row};

use super::Difference;
use crate::error::Error;

/// Rows that the last changes must be.
const LAST_CHANGES: &str = "
    SELECT published.user_id, published.version, user_change.changed_at
      FROM unnest($1::text[], $2::bigint[]) AS published (user_id, version)
      LEFT JOIN user_change ON user_change.user_id = published.user_id AND user_change.version = published.version";

/// A person's change, as the headers of its record tell it: one that takes the person away has no value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct PublishedChange {
    pub(crate) user_id: String,
    pub(crate) version: i64,
    /// As the header has it; `None` where there is none.
    changed_at: Option<String>,
}

impl PublishedChange {
    /// Of a record of `chat.users`; `None` without the header `ce_id` that this program gives each.
    pub(crate) fn of(message: &BorrowedMessage<'_>) -> Option<Self> {
        let headers = message.headers()?;
        let text = |key: &str| {
            let value = headers.iter().find(|header| header.key == key)?.value?;
            std::str::from_utf8(value).ok()
        };
        let (user_id, version) = text("ce_id")?.rsplit_once('/')?;
        let changed_at = text("ce_time").map(str::to_owned);
        Some(Self { user_id: user_id.to_owned(), version: version.parse().ok()?, changed_at })
    }
}

/// The first of some changes that isn't its row.
pub(crate) async fn first_other_change(
    client: &Client,
    changes: &[PublishedChange],
) -> Result<Option<Difference>, Error> {
    if changes.is_empty() {
        return Ok(None);
    }
    let users: Vec<&str> = changes.iter().map(|change| change.user_id.as_str()).collect();
    let versions: Vec<i64> = changes.iter().map(|change| change.version).collect();
    let rows = client
        .query(LAST_CHANGES, &[&users, &versions])
        .await
        .map_err(Error::query("comparing the last changes of people with user_change"))?;
    Ok(rows.iter().find_map(|row| difference(row, changes)))
}

/// How a change differs from its row. Names aren't compared: removing a person empties them.
fn difference(row: &Row, changes: &[PublishedChange]) -> Option<Difference> {
    let (user_id, version): (&str, i64) = (row.get(0), row.get(1));
    let change = changes.iter().find(|change| change.user_id == user_id && change.version == version)?;
    // A time that was never one was never published either.
    let changed_at = row.try_get::<_, Option<OffsetDateTime>>(2).ok().flatten();
    let problem = match (changed_at.map(|at| timestamp::rfc3339(timestamp::from_offset(at))), &change.changed_at) {
        (None, _) => format!("chat.users has version {version}, the table has no such change"),
        (Some(row), Some(published)) if row != *published => {
            format!("the change of version {version} has another time than its row")
        }
        _ => return None,
    };
    Some(Difference { place: format!("user {user_id}"), problem })
}
