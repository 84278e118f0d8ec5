//! With whom people may start chats, and how they find one another: `[people]` of the configuration.

use runtime::config::StartChats;
use schemas::wire::{Code, Rejection};

use super::Gateway;
use super::caller::Caller;
use crate::users::{PublicUser, unavailable};

/// Most people that one address brings up.
const MOST_FOUND: i64 = 20;
/// Longest address that is looked for.
const MOST_CHARS: usize = 254;

impl Gateway {
    /// Refuses people whom the caller can't bring into a chat. One they may not bring in is answered like one who doesn't
    /// exist. A service is told of those who don't exist only. Where services alone start chats, adding to a group mustn't be
    /// the way around it.
    pub(crate) async fn check_company(
        &self,
        caller: &Caller,
        user_ids: &[String],
        field: &str,
    ) -> Result<(), Rejection> {
        if caller.service.is_some() || self.config.people.start_chats == StartChats::Anyone {
            return self.check_people(user_ids, field).await;
        }
        // One query for both, so that the time doesn't tell them apart either, nor which of several is named.
        let seen = self.users.seen_by(&caller.user_id, user_ids).await?;
        let stranger = user_ids.iter().find(|user_id| seen.iter().all(|user| user.user_id != **user_id));
        stranger.map_or(Ok(()), |stranger| Err(Rejection::user_not_found(stranger).at(field)))
    }

    /// Refuses people who may start no chats.
    pub(crate) fn check_may_start(&self, caller: &Caller) -> Result<(), Rejection> {
        if caller.service.is_some() || self.config.people.start_chats != StartChats::Services {
            return Ok(());
        }
        Err(Rejection::new(Code::Forbidden, "Chats are started by the application here, not by people."))
    }

    /// People of a mail address, as a whole and whatever its case.
    pub(crate) async fn find_by_email(&self, email: &str) -> Result<Vec<PublicUser>, Rejection> {
        if !self.config.people.find_by_email {
            let rule = "People aren't found by their address here (people.find_by_email).";
            return Err(Rejection::new(Code::Forbidden, rule).at("email"));
        }
        if email.is_empty() || email.chars().count() > MOST_CHARS || email.contains('\0') {
            return Err(Rejection::new(Code::BadField, "email is a whole mail address.").at("email"));
        }
        let client = self.chat.pool().get().await.map_err(unavailable)?;
        let sql = "SELECT id, name, avatar_url FROM \"user\"
                    WHERE lower(email) = lower($1) AND removed_at IS NULL ORDER BY id LIMIT $2";
        let rows = client.query(sql, &[&email, &MOST_FOUND]).await.map_err(unavailable)?;
        let user =
            |row: &tokio_postgres::Row| PublicUser { user_id: row.get(0), name: row.get(1), avatar_url: row.get(2) };
        Ok(rows.iter().map(user).collect())
    }
}
