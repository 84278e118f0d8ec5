//! State beside the rows: what the effects of a batch come to, written with one statement for each kind.
//!
//! Effects are folded first: of a thing that was made and changed in one batch, or changed twice, only the last state is
//! written.

use std::collections::BTreeMap;

use deadpool_postgres::Transaction;
use schemas::timestamp;
use time::OffsetDateTime;
use tokio_postgres::Error;

use super::book::{Change, Settings, Stay};
use super::sequencer::Effect;

type Key<'a> = (&'a str, &'a str, i64);

/// The last state of everything that a batch touches.
#[derive(Default)]
pub(super) struct State<'a> {
    chats_made: BTreeMap<&'a str, &'a Settings>,
    chats_changed: BTreeMap<&'a str, &'a Settings>,
    stays_opened: BTreeMap<Key<'a>, Opened<'a>>,
    stays_changed: BTreeMap<Key<'a>, Changed<'a>>,
    edits: BTreeMap<(&'a str, i64), &'a Change>,
    deletes: BTreeMap<(&'a str, i64), i64>,
    posts: Vec<(&'a str, i64, &'a str)>,
}

struct Opened<'a> {
    stay: &'a Stay,
    joined_at_ms: i64,
    left_at_ms: Option<i64>,
}

struct Changed<'a> {
    stay: &'a Stay,
    left_at_ms: Option<i64>,
}

impl<'a> State<'a> {
    pub(super) fn of(effects: &'a [Effect]) -> Self {
        let mut state = Self::default();
        for effect in effects {
            state.take(effect);
        }
        state
    }

    fn take(&mut self, effect: &'a Effect) {
        match effect {
            Effect::ChatMade { chat_id, settings } => {
                self.chats_made.insert(chat_id, settings);
            }
            Effect::ChatChanged { chat_id, settings } => match self.chats_made.get_mut(chat_id.as_str()) {
                Some(made) => *made = settings,
                None => {
                    self.chats_changed.insert(chat_id, settings);
                }
            },
            Effect::StayOpened { chat_id, user_id, stay, at_ms } => {
                let opened = Opened { stay, joined_at_ms: *at_ms, left_at_ms: None };
                self.stays_opened.insert((chat_id, user_id, stay.joined_seq), opened);
            }
            Effect::StayChanged { chat_id, user_id, stay, at_ms } => {
                let key = (chat_id.as_str(), user_id.as_str(), stay.joined_seq);
                let left_at_ms = stay.left_seq.map(|_| *at_ms);
                match self.stays_opened.get_mut(&key) {
                    Some(opened) => (opened.stay, opened.left_at_ms) = (stay, left_at_ms),
                    None => {
                        self.stays_changed.insert(key, Changed { stay, left_at_ms });
                    }
                }
            }
            Effect::MessageEdited { chat_id, message_seq, edited } => {
                self.edits.insert((chat_id, *message_seq), edited);
            }
            Effect::MessageDeleted { chat_id, message_seq, at_ms } => {
                self.deletes.insert((chat_id, *message_seq), *at_ms);
            }
            Effect::MediaPosted { chat_id, message_seq, media_id } => {
                self.posts.push((chat_id, *message_seq, media_id));
            }
        }
    }

    pub(super) async fn write(&self, transaction: &Transaction<'_>) -> Result<(), Error> {
        self.make_chats(transaction).await?;
        self.change_chats(transaction).await?;
        // A stay that ends before one that begins: of a person's stays in a chat one at most is open.
        self.change_stays(transaction).await?;
        self.open_stays(transaction).await?;
        self.edit(transaction).await?;
        // A file that is posted and whose message is deleted in one batch has a use to lose.
        self.post_media(transaction).await?;
        self.delete(transaction).await
    }

    async fn post_media(&self, transaction: &Transaction<'_>) -> Result<(), Error> {
        if self.posts.is_empty() {
            return Ok(());
        }
        let chats: Vec<&str> = self.posts.iter().map(|(chat_id, _, _)| *chat_id).collect();
        let seqs: Vec<i64> = self.posts.iter().map(|(_, seq, _)| *seq).collect();
        let media: Vec<&str> = self.posts.iter().map(|(_, _, media_id)| *media_id).collect();
        let sql = "INSERT INTO media_use (chat_id, sequence_number, media_id)
                   SELECT * FROM unnest($1::text[], $2::bigint[], $3::text[])";
        transaction.execute(&transaction.prepare_cached(sql).await?, &[&chats, &seqs, &media]).await?;
        let sql =
            "UPDATE media SET is_posted = true, changed_at = clock_timestamp() WHERE id = ANY($1) AND NOT is_posted";
        transaction.execute(&transaction.prepare_cached(sql).await?, &[&media]).await.map(drop)
    }

    /// Files that only these messages named: from here on nobody gets a URL of them, no send may name them, and the janitor
    /// removes them.
    async fn drop_media(&self, transaction: &Transaction<'_>, chats: &[&str], seqs: &[i64]) -> Result<(), Error> {
        let sql = "DELETE FROM media_use u USING unnest($1::text[], $2::bigint[]) AS n(chat_id, message_seq)
                    WHERE u.chat_id = n.chat_id AND u.sequence_number = n.message_seq RETURNING u.media_id";
        let statement = transaction.prepare_cached(sql).await?;
        let rows = transaction.query(&statement, &[&chats, &seqs]).await?;
        let mut media: Vec<&str> = rows.iter().map(|row| row.get(0)).collect();
        if media.is_empty() {
            return Ok(());
        }
        media.sort_unstable();
        media.dedup();
        let sql = "UPDATE media m SET state = 'removing', changed_at = clock_timestamp()
                    WHERE m.id = ANY($1) AND NOT EXISTS (SELECT 1 FROM media_use u WHERE u.media_id = m.id)";
        let statement = transaction.prepare_cached(sql).await?;
        transaction.execute(&statement, &[&media]).await.map(drop)
    }

    async fn make_chats(&self, transaction: &Transaction<'_>) -> Result<(), Error> {
        if self.chats_made.is_empty() {
            return Ok(());
        }
        let columns = SettingsColumns::of(&self.chats_made);
        let is_group: Vec<bool> = self.chats_made.values().map(|settings| settings.state.is_group).collect();
        let made_at: Vec<OffsetDateTime> =
            self.chats_made.values().map(|settings| timestamp::to_offset(settings.state.created_at)).collect();
        let sql = "INSERT INTO chat (id, name, app_data, avatar_url, deleted_shown_as, history_for_new_members,
                                     changed_seq, changed_session, is_group, created_at)
                   SELECT * FROM unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::text[], $6::bool[],
                                        $7::bigint[], $8::text[], $9::bool[], $10::timestamptz[])";
        let statement = transaction.prepare_cached(sql).await?;
        let SettingsColumns { ids, names, app_data, avatar_urls, shown_as, show_history, seqs, sessions } = &columns;
        transaction
            .execute(
                &statement,
                &[ids, names, app_data, avatar_urls, shown_as, show_history, seqs, sessions, &is_group, &made_at],
            )
            .await
            .map(drop)
    }

    async fn change_chats(&self, transaction: &Transaction<'_>) -> Result<(), Error> {
        if self.chats_changed.is_empty() {
            return Ok(());
        }
        let columns = SettingsColumns::of(&self.chats_changed);
        let sql = "UPDATE chat SET name = n.name, app_data = n.app_data, avatar_url = n.avatar_url,
                          deleted_shown_as = n.shown_as, history_for_new_members = n.show_history,
                          changed_seq = n.seq, changed_session = n.session
                     FROM unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::text[], $6::bool[], $7::bigint[],
                                 $8::text[]) AS n(id, name, app_data, avatar_url, shown_as, show_history, seq, session)
                    WHERE chat.id = n.id";
        let statement = transaction.prepare_cached(sql).await?;
        let SettingsColumns { ids, names, app_data, avatar_urls, shown_as, show_history, seqs, sessions } = &columns;
        transaction
            .execute(&statement, &[ids, names, app_data, avatar_urls, shown_as, show_history, seqs, sessions])
            .await
            .map(drop)
    }

    async fn change_stays(&self, transaction: &Transaction<'_>) -> Result<(), Error> {
        if self.stays_changed.is_empty() {
            return Ok(());
        }
        let stays: Vec<&Stay> = self.stays_changed.values().map(|changed| changed.stay).collect();
        let columns = StayColumns::of(self.stays_changed.keys(), &stays);
        let left_at: Vec<Option<OffsetDateTime>> =
            self.stays_changed.values().map(|changed| changed.left_at_ms.map(timestamp::to_offset)).collect();
        let sql = "UPDATE chat_member m SET role = n.role, left_seq = n.left_seq, left_at = n.left_at,
                          changed_seq = n.changed_seq, changed_session = n.session
                     FROM unnest($1::text[], $2::text[], $3::bigint[], $4::text[], $5::bigint[], $6::bigint[], $7::text[],
                                 $8::timestamptz[])
                          AS n(chat_id, user_id, joined_seq, role, left_seq, changed_seq, session, left_at)
                    WHERE m.chat_id = n.chat_id AND m.user_id = n.user_id AND m.joined_seq = n.joined_seq";
        let statement = transaction.prepare_cached(sql).await?;
        let StayColumns { chats, people, joined, roles, left, seqs, sessions } = &columns;
        transaction.execute(&statement, &[chats, people, joined, roles, left, seqs, sessions, &left_at]).await.map(drop)
    }

    async fn open_stays(&self, transaction: &Transaction<'_>) -> Result<(), Error> {
        if self.stays_opened.is_empty() {
            return Ok(());
        }
        let opened = || self.stays_opened.values();
        let stays: Vec<&Stay> = opened().map(|opened| opened.stay).collect();
        let columns = StayColumns::of(self.stays_opened.keys(), &stays);
        let joined_at: Vec<OffsetDateTime> = opened().map(|opened| timestamp::to_offset(opened.joined_at_ms)).collect();
        let left_at: Vec<Option<OffsetDateTime>> =
            opened().map(|opened| opened.left_at_ms.map(timestamp::to_offset)).collect();
        let visible: Vec<i64> = stays.iter().map(|stay| stay.visible_from_seq).collect();
        let sql = "INSERT INTO chat_member (chat_id, user_id, joined_seq, role, left_seq, changed_seq, changed_session,
                                            joined_at, left_at, visible_from_seq)
                   SELECT * FROM unnest($1::text[], $2::text[], $3::bigint[], $4::text[], $5::bigint[], $6::bigint[],
                                        $7::text[], $8::timestamptz[], $9::timestamptz[], $10::bigint[])";
        let statement = transaction.prepare_cached(sql).await?;
        let StayColumns { chats, people, joined, roles, left, seqs, sessions } = &columns;
        transaction
            .execute(&statement, &[chats, people, joined, roles, left, seqs, sessions, &joined_at, &left_at, &visible])
            .await
            .map(drop)
    }

    async fn edit(&self, transaction: &Transaction<'_>) -> Result<(), Error> {
        if self.edits.is_empty() {
            return Ok(());
        }
        let (chats, message_seqs): (Vec<&str>, Vec<i64>) = self.edits.keys().copied().unzip();
        let (seqs, sessions): (Vec<i64>, Vec<&str>) =
            self.edits.values().map(|edited| (edited.seq, edited.session.as_str())).unzip();
        let sql = "UPDATE message m SET edited_seq = n.seq, edit_session = n.session
                     FROM unnest($1::text[], $2::bigint[], $3::bigint[], $4::text[]) AS n(chat_id, message_seq, seq, session)
                    WHERE m.chat_id = n.chat_id AND m.sequence_number = n.message_seq";
        let statement = transaction.prepare_cached(sql).await?;
        transaction.execute(&statement, &[&chats, &message_seqs, &seqs, &sessions]).await.map(drop)
    }

    /// A delete empties the body wherever it stands: in the send and in every edit of it.
    async fn delete(&self, transaction: &Transaction<'_>) -> Result<(), Error> {
        if self.deletes.is_empty() {
            return Ok(());
        }
        let (chats, message_seqs): (Vec<&str>, Vec<i64>) = self.deletes.keys().copied().unzip();
        let deleted_at: Vec<OffsetDateTime> = self.deletes.values().map(|at_ms| timestamp::to_offset(*at_ms)).collect();
        let sql = "UPDATE message m SET content = NULL, file_url = NULL, app_data = NULL, attachments = NULL,
                          is_delete = true, deleted_at = n.deleted_at
                     FROM unnest($1::text[], $2::bigint[], $3::timestamptz[]) AS n(chat_id, message_seq, deleted_at)
                    WHERE m.chat_id = n.chat_id AND m.sequence_number = n.message_seq";
        let statement = transaction.prepare_cached(sql).await?;
        transaction.execute(&statement, &[&chats, &message_seqs, &deleted_at]).await?;
        let sql = "UPDATE chat_change c SET content = NULL, message = c.message - 'app_data' - 'attachments'
                     FROM unnest($1::text[], $2::bigint[]) AS n(chat_id, message_seq)
                    WHERE c.chat_id = n.chat_id AND c.message_seq = n.message_seq";
        let statement = transaction.prepare_cached(sql).await?;
        transaction.execute(&statement, &[&chats, &message_seqs]).await?;
        self.drop_media(transaction, &chats, &message_seqs).await
    }
}

struct SettingsColumns<'a> {
    ids: Vec<&'a str>,
    names: Vec<Option<&'a str>>,
    app_data: Vec<Option<&'a str>>,
    avatar_urls: Vec<Option<&'a str>>,
    shown_as: Vec<&'a str>,
    show_history: Vec<bool>,
    seqs: Vec<i64>,
    sessions: Vec<&'a str>,
}

impl<'a> SettingsColumns<'a> {
    fn of(chats: &BTreeMap<&'a str, &'a Settings>) -> Self {
        let settings = || chats.values().copied();
        Self {
            ids: chats.keys().copied().collect(),
            names: settings().map(|settings| settings.state.chat_name.as_deref()).collect(),
            app_data: settings().map(|settings| settings.state.app_data.as_deref()).collect(),
            avatar_urls: settings().map(|settings| settings.state.avatar_url.as_deref()).collect(),
            shown_as: settings().map(|settings| settings.state.deleted_shown_as.as_str()).collect(),
            show_history: settings().map(|settings| settings.state.history_for_new_members).collect(),
            seqs: settings().map(|settings| settings.changed.seq).collect(),
            sessions: settings().map(|settings| settings.changed.session.as_str()).collect(),
        }
    }
}

struct StayColumns<'a> {
    chats: Vec<&'a str>,
    people: Vec<&'a str>,
    joined: Vec<i64>,
    roles: Vec<&'static str>,
    left: Vec<Option<i64>>,
    seqs: Vec<i64>,
    sessions: Vec<&'a str>,
}

impl<'a> StayColumns<'a> {
    fn of<'k>(keys: impl Iterator<Item = &'k Key<'a>>, stays: &[&'a Stay]) -> Self
    where
        'a: 'k,
    {
        let keys: Vec<Key<'a>> = keys.copied().collect();
        Self {
            chats: keys.iter().map(|key| key.0).collect(),
            people: keys.iter().map(|key| key.1).collect(),
            joined: keys.iter().map(|key| key.2).collect(),
            roles: stays.iter().map(|stay| stay.role.name()).collect(),
            left: stays.iter().map(|stay| stay.left_seq).collect(),
            seqs: stays.iter().map(|stay| stay.changed.seq).collect(),
            sessions: stays.iter().map(|stay| stay.changed.session.as_str()).collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::persister::roles::Role;

    fn stay(joined_seq: i64, left_seq: Option<i64>, role: Role) -> Stay {
        Stay { role, joined_seq, left_seq, visible_from_seq: 1, changed: Change::default() }
    }

    fn opened(user_id: &str, stay: Stay) -> Effect {
        Effect::StayOpened { chat_id: "c".into(), user_id: user_id.into(), stay, at_ms: 5 }
    }

    fn changed(user_id: &str, stay: Stay, at_ms: i64) -> Effect {
        Effect::StayChanged { chat_id: "c".into(), user_id: user_id.into(), stay, at_ms }
    }

    #[test]
    fn somebody_who_joins_leaves_and_joins_again_has_two_stays() {
        let effects = [
            changed("old", stay(1, Some(6), Role::Owner), 6),
            opened("new", stay(3, None, Role::Member)),
            changed("new", stay(3, None, Role::Admin), 7),
            changed("new", stay(3, Some(8), Role::Admin), 8),
            opened("new", stay(9, None, Role::Member)),
        ];
        let state = State::of(&effects);
        let stays: Vec<_> = state
            .stays_opened
            .iter()
            .map(|(key, opened)| (key.2, opened.stay.left_seq, opened.stay.role, opened.left_at_ms))
            .collect();
        assert_eq!(stays, [(3, Some(8), Role::Admin, Some(8)), (9, None, Role::Member, None)]);
        assert_eq!(state.stays_changed.len(), 1);
    }

    #[test]
    fn the_last_state_is_what_is_written() {
        let edited = |seq| Effect::MessageEdited {
            chat_id: "c".into(),
            message_seq: 2,
            edited: Change { seq, session: String::new() },
        };
        let effects = [edited(3), edited(4)];
        let state = State::of(&effects);
        assert_eq!(state.edits.values().map(|edited| edited.seq).collect::<Vec<_>>(), [4]);
    }
}
