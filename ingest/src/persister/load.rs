//! Reads what a batch depends on, under the locks of its chats' counters: [`questions`], [`read`].

use std::collections::{BTreeSet, HashMap};

use deadpool_postgres::Transaction;
use schemas::{ChatState, command_type, ids, timestamp};
use time::OffsetDateTime;
use tokio_postgres::Row;
use tokio_postgres::types::ToSql;
use uuid::Uuid;

use super::book::{Book, Change, Key, Media, Message, Settings, Stay};
use super::phases::{Phase, Stopwatch};
use super::roles::Role;
use super::sequencer::Candidate;

/// What a batch asks about, each list sorted so that all persisters lock in one order.
#[derive(Default)]
pub(super) struct Questions {
    chats: BTreeSet<String>,
    created: BTreeSet<String>,
    with_owners: BTreeSet<String>,
    with_past: BTreeSet<(String, String)>,
    with_heirs: BTreeSet<String>,
    people: BTreeSet<(String, String)>,
    messages: BTreeSet<Uuid>,
    media: BTreeSet<(String, String)>,
}

/// What these commands depend on.
pub(super) fn questions(batch: &[&Candidate]) -> Questions {
    let mut asked = Questions::default();
    for Candidate { command, .. } in batch {
        asked.chats.insert(command.chat_id.clone());
        asked.people.insert((command.chat_id.clone(), command.user_id.clone()));
        // What can't be an id has no row, and Postgres fails over some of it (NUL) with the whole batch. The sequencer
        // refuses it.
        for member in command.members.iter().filter(|member| ids::is_valid(&member.user_id)) {
            asked.people.insert((command.chat_id.clone(), member.user_id.clone()));
        }
        for media_id in command.media_ids.iter().filter(|media_id| ids::is_valid(media_id)) {
            asked.media.insert((media_id.clone(), command.chat_id.clone()));
        }
        for id in [&command.message_id, &command.parent_message_id].into_iter().flatten() {
            asked.messages.extend(Uuid::try_parse(id).ok());
        }
        let names_a_message =
            matches!(command.command_type.as_str(), command_type::MESSAGE_EDIT | command_type::MESSAGE_DELETE);
        if names_a_message || command.parent_message_id.is_some() {
            asked.with_past.insert((command.chat_id.clone(), command.user_id.clone()));
        }
        match command.command_type.as_str() {
            command_type::CHAT_CREATE => {
                asked.created.insert(command.chat_id.clone());
            }
            command_type::MEMBERS_REMOVE | command_type::MEMBERS_UPDATE => {
                asked.with_owners.insert(command.chat_id.clone());
            }
            command_type::PERSON_REMOVE => {
                asked.with_owners.insert(command.chat_id.clone());
                asked.with_heirs.insert(command.chat_id.clone());
            }
            _ => {}
        }
    }
    asked
}

/// Locks the batch's chats and reads what is asked of them. The clock is read behind the locks, so that times follow `seq`.
pub(super) async fn read(
    transaction: &Transaction<'_>,
    asked: &Questions,
    stopwatch: &mut Stopwatch,
) -> Result<Book, tokio_postgres::Error> {
    let chats: Vec<&str> = asked.chats.iter().map(String::as_str).collect();
    if !asked.created.is_empty() {
        // A chat that is about to be made needs a row to lock.
        let created: Vec<&str> = asked.created.iter().map(String::as_str).collect();
        let sql = "INSERT INTO chat_counter (chat_id, last_seq, last_at) \
                   SELECT id, 0, 'epoch' FROM unnest($1::text[]) AS id ON CONFLICT DO NOTHING";
        transaction.execute(&transaction.prepare_cached(sql).await?, &[&created]).await?;
    }
    let lock = transaction
        .prepare_cached(
            "SELECT chat_id, last_seq, last_at FROM chat_counter WHERE chat_id = ANY($1) ORDER BY chat_id FOR UPDATE",
        )
        .await?;
    let now = transaction.prepare_cached("SELECT clock_timestamp()").await?;
    let settings = transaction
        .prepare_cached(
            "SELECT id, name, is_group, created_at, app_data, avatar_url, deleted_shown_as, history_for_new_members,
                    changed_seq, changed_session
               FROM chat WHERE id = ANY($1)",
        )
        .await?;
    let stays = transaction
        .prepare_cached(
            "SELECT DISTINCT ON (m.chat_id, m.user_id) m.chat_id, m.user_id, m.role, m.joined_seq, m.left_seq,
                    m.visible_from_seq, m.changed_seq, m.changed_session
               FROM unnest($1::text[], $2::text[]) AS asked(chat_id, user_id)
               JOIN chat_member m ON m.chat_id = asked.chat_id AND m.user_id = asked.user_id
              ORDER BY m.chat_id, m.user_id, m.joined_seq DESC",
        )
        .await?;
    let keys = transaction
        .prepare_cached(
            "SELECT k.message_id, k.chat_id, k.sender_id, k.sequence_number, k.body_hash,
                    m.parent_message_id, m.parent_seq, m.app_data, m.attachments::text, m.created_at, m.is_delete,
                    m.edited_seq, m.edit_session, m.deleted_at,
                    (SELECT e.occurred_at FROM chat_change e
                      WHERE e.chat_id = m.chat_id AND e.sequence_number = m.edited_seq)
               FROM message_key k
               LEFT JOIN message m ON m.chat_id = k.chat_id AND m.sequence_number = k.sequence_number
              WHERE k.message_id = ANY($1)",
        )
        .await?;
    let (people_chats, people): (Vec<&str>, Vec<&str>) =
        asked.people.iter().map(|(chat, user)| (chat.as_str(), user.as_str())).unzip();
    let messages: Vec<Uuid> = asked.messages.iter().copied().collect();
    let of_chats: [&(dyn ToSql + Sync); 1] = [&chats];
    let of_people: [&(dyn ToSql + Sync); 2] = [&people_chats, &people];
    let of_messages: [&(dyn ToSql + Sync); 1] = [&messages];
    let lock = async {
        let rows = transaction.query(&lock, &of_chats).await;
        if rows.is_ok() {
            stopwatch.end(Phase::Lock);
        }
        rows
    };
    // Sent together, in this order, and answered together: one round trip. PostgreSQL begins with the second when it has the
    // locks, and each sees what was committed before it begins (READ COMMITTED).
    let (counter_rows, now_row, setting_rows, stay_rows, key_rows) = futures_util::join!(
        lock,
        transaction.query_one(&now, &[]),
        transaction.query(&settings, &of_chats),
        transaction.query(&stays, &of_people),
        transaction.query(&keys, &of_messages),
    );
    // After one has failed the others fail for that alone: the first that failed says why.
    let counter_rows = counter_rows?;
    let mut book = Book { now_ms: timestamp::from_offset(now_row?.get(0)), ..Book::default() };
    for row in &counter_rows {
        let chat = book.chats.entry(row.get(0)).or_default();
        chat.last_seq = row.get(1);
        chat.last_at_ms = timestamp::from_offset(row.get(2));
    }
    for row in &setting_rows? {
        book.chats.entry(row.get(0)).or_default().settings = Some(settings_of(row));
    }
    for row in &stay_rows? {
        insert_stay(&mut book, row);
    }
    for row in &key_rows? {
        insert_key(&mut book, row);
    }
    if !asked.with_owners.is_empty() {
        let with_owners: Vec<&str> = asked.with_owners.iter().map(String::as_str).collect();
        load_owners(transaction, &mut book, &with_owners).await?;
    }
    if !asked.with_past.is_empty() {
        load_past(transaction, &mut book, &asked.with_past).await?;
    }
    if !asked.media.is_empty() {
        load_media(transaction, &mut book, &asked.media).await?;
    }
    for chat_id in &asked.with_heirs {
        // Each person of the batch may be one who leaves or changes in it: one more than they are.
        let most = asked.people.iter().filter(|(chat, _)| chat == chat_id).count() as i64 + 1;
        load_heirs(transaction, &mut book, chat_id, most).await?;
    }
    Ok(book)
}

/// Ended stays of people who ask about a message.
async fn load_past(
    transaction: &Transaction<'_>,
    book: &mut Book,
    asked: &BTreeSet<(String, String)>,
) -> Result<(), tokio_postgres::Error> {
    let (chats, people): (Vec<&str>, Vec<&str>) = asked.iter().map(|(chat, user)| (&**chat, &**user)).unzip();
    let past = transaction
        .prepare_cached(
            "SELECT chat_id, user_id, visible_from_seq, left_seq
               FROM chat_member JOIN unnest($1::text[], $2::text[]) AS asked(chat_id, user_id) USING (chat_id, user_id)
              WHERE left_seq IS NOT NULL",
        )
        .await?;
    for row in transaction.query(&past, &[&chats, &people]).await? {
        let chat = book.chats.entry(row.get(0)).or_default();
        chat.seen_before.entry(row.get(1)).or_default().push((row.get(2), row.get(3)));
    }
    Ok(())
}

/// Files of the batch's sends, each only for the chat that it was uploaded for. Locks their rows: whoever removes a file
/// marks its row first, and from here on waits.
async fn load_media(
    transaction: &Transaction<'_>,
    book: &mut Book,
    asked: &BTreeSet<(String, String)>,
) -> Result<(), tokio_postgres::Error> {
    let (ids, chats): (Vec<&str>, Vec<&str>) = asked.iter().map(|(id, chat)| (&**id, &**chat)).unzip();
    let media = transaction
        .prepare_cached(
            "SELECT m.id, m.chat_id, m.user_id, m.state, m.attachment::text,
                    (SELECT count(*) FROM media_use u WHERE u.media_id = m.id)
               FROM media m JOIN unnest($1::text[], $2::text[]) AS asked(id, chat_id) USING (id, chat_id)
              ORDER BY m.id FOR UPDATE OF m",
        )
        .await?;
    for row in transaction.query(&media, &[&ids, &chats]).await? {
        let state: &str = row.get(3);
        let attachment: Option<&str> = row.get(4);
        let attachment = attachment.filter(|_| state == "ready").and_then(|json| serde_json::from_str(json).ok());
        let is_lost = matches!(state, "refused" | "removing");
        let media = Media { chat_id: row.get(1), user_id: row.get(2), attachment, is_lost, uses: row.get(5) };
        book.media.insert(row.get(0), media);
    }
    Ok(())
}

/// Those who come first to own a group whose last owner is removed: the oldest admins, then the oldest members.
async fn load_heirs(
    transaction: &Transaction<'_>,
    book: &mut Book,
    chat_id: &str,
    most: i64,
) -> Result<(), tokio_postgres::Error> {
    let heirs = transaction
        .prepare_cached(
            "SELECT chat_id, user_id, role, joined_seq, left_seq, visible_from_seq, changed_seq, changed_session
               FROM chat_member WHERE chat_id = $1 AND left_seq IS NULL AND role <> 'owner'
              ORDER BY role <> 'admin', joined_seq, user_id LIMIT $2",
        )
        .await?;
    for row in transaction.query(&heirs, &[&chat_id, &most]).await? {
        insert_stay(book, &row);
    }
    Ok(())
}

/// Owners and the number of members, for commands that could leave a group without one.
async fn load_owners(
    transaction: &Transaction<'_>,
    book: &mut Book,
    chats: &[&str],
) -> Result<(), tokio_postgres::Error> {
    let owners = transaction
        .prepare_cached(
            "SELECT chat_id, user_id, role, joined_seq, left_seq, visible_from_seq, changed_seq, changed_session
               FROM chat_member WHERE chat_id = ANY($1) AND left_seq IS NULL AND role = 'owner'",
        )
        .await?;
    for row in transaction.query(&owners, &[&chats]).await? {
        insert_stay(book, &row);
    }
    let counts = transaction
        .prepare_cached(
            "SELECT chat_id, count(*) FROM chat_member WHERE chat_id = ANY($1) AND left_seq IS NULL GROUP BY 1",
        )
        .await?;
    for row in transaction.query(&counts, &[&chats]).await? {
        book.chats.entry(row.get(0)).or_default().open_stays = row.get(1);
    }
    Ok(())
}

fn settings_of(row: &Row) -> Settings {
    Settings {
        state: ChatState {
            chat_name: row.get(1),
            is_group: row.get(2),
            created_at: timestamp::from_offset(row.get(3)),
            app_data: row.get(4),
            avatar_url: row.get(5),
            deleted_shown_as: row.get(6),
            history_for_new_members: row.get(7),
        },
        changed: Change { seq: row.get(8), session: row.get(9) },
    }
}

fn insert_stay(book: &mut Book, row: &Row) {
    let stay = Stay {
        // The table's constraint allows the three names only.
        role: Role::parse(row.get(2)).unwrap_or(Role::Member),
        joined_seq: row.get(3),
        left_seq: row.get(4),
        visible_from_seq: row.get(5),
        changed: Change { seq: row.get(6), session: row.get(7) },
    };
    book.chats.entry(row.get(0)).or_default().stays.insert(row.get(1), stay);
}

fn insert_key(book: &mut Book, row: &Row) {
    let message_id: Uuid = row.get(0);
    let key = Key { chat_id: row.get(1), sender_id: row.get(2), seq: row.get(3), body_hash: row.get(4) };
    let time = |column: usize| row.get::<_, Option<OffsetDateTime>>(column).map(timestamp::from_offset);
    if let Some(created_at_ms) = time(9) {
        let message = Message {
            seq: key.seq,
            sender_id: key.sender_id.clone(),
            parent_message_id: row.get(5),
            parent_seq: row.get(6),
            app_data: row.get(7),
            attachments: row.get(8),
            created_at_ms,
            is_deleted: row.get(10),
            edited: Change {
                seq: row.get::<_, Option<i64>>(11).unwrap_or_default(),
                session: row.get::<_, Option<String>>(12).unwrap_or_default(),
            },
            edited_at_ms: time(14),
        };
        let chats: &mut HashMap<_, _> = &mut book.chats;
        chats.entry(key.chat_id.clone()).or_default().messages.insert(message_id, message);
    }
    book.keys.insert(message_id, key);
}
