//! The beginning of an upload: what may be uploaded, its row, and the store's own beginning of a large one.

use std::time::Duration;

use previews::clean_file_name;
use runtime::clock;
use schemas::timestamp;
use schemas::wire::client::Fields;
use schemas::wire::{Code, Rejection};
use uuid::Uuid;

use super::{MediaService, Row, store_away};
use crate::profiles;
use crate::users::unavailable;

/// From this size on a file is uploaded in parts, each of this size at least.
const PART_BYTES: u64 = 16 << 20;
/// Parts of an upload at most; S3 takes 10,000.
const MOST_PARTS: u64 = 1_000;
/// Longest name and type that are taken, in bytes.
const NAME_BYTES: usize = 1_000;
const TYPE_BYTES: usize = 255;

/// What somebody wants to upload.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Wanted {
    pub(crate) chat_id: String,
    file_name: String,
    content_type: String,
    size_bytes: u64,
}

impl Wanted {
    /// From the body of a request.
    pub(crate) fn of(body: &mut Fields) -> Result<Self, Rejection> {
        let wrong = |field: &str, rule: &str| Rejection::new(Code::BadField, rule).at(field);
        let chat_id = body.user_or_chat_id("chat_id")?;
        let file_name = body.text("file_name")?;
        if file_name.trim().is_empty() || file_name.len() > NAME_BYTES {
            return Err(wrong("file_name", "file_name is a text of 1 to 1,000 bytes."));
        }
        let content_type = body.optional_text("content_type")?.unwrap_or_default().trim().to_owned();
        let content_type = if content_type.is_empty() { "application/octet-stream".to_owned() } else { content_type };
        if !is_media_type(&content_type) {
            return Err(wrong("content_type", "content_type is a media type such as image/jpeg."));
        }
        let size = body
            .optional("size_bytes")
            .ok_or_else(|| Rejection::new(Code::MissingField, "size_bytes is missing.").at("size_bytes"))?;
        let size_bytes = size.as_u64().filter(|size| *size > 0);
        let size_bytes = size_bytes.ok_or_else(|| wrong("size_bytes", "size_bytes is a whole number from 1."))?;
        Ok(Self { chat_id, file_name: clean_file_name(&file_name), content_type, size_bytes })
    }
}

/// Type and subtype of RFC 9110, perhaps with parameters; in visible ASCII, since it travels as a header.
fn is_media_type(text: &str) -> bool {
    let is_token = |part: &str| {
        !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"!#$&-^_.+".contains(&byte))
    };
    let essence = text.split(';').next().unwrap_or_default().trim_end();
    let is_printable = text.bytes().all(|byte| byte == b' ' || byte.is_ascii_graphic());
    text.len() <= TYPE_BYTES
        && is_printable
        && essence.split_once('/').is_some_and(|(top, sub)| is_token(top) && is_token(sub))
}

impl MediaService {
    /// Makes the row of an upload; the person's membership of the chat was checked. The same `media_id` again is the same upload.
    pub(crate) async fn begin(&self, user_id: &str, media_id: &str, wanted: &Wanted) -> Result<Row, Rejection> {
        self.check_allowed(wanted)?;
        let is_large = wanted.size_bytes >= PART_BYTES;
        let part_bytes = is_large.then(|| wanted.size_bytes.div_ceil(MOST_PARTS).max(PART_BYTES));
        let upload_key = self.store.key(&format!("uploads/{}/file", Uuid::new_v4()));
        self.insert(user_id, media_id, wanted, &upload_key, part_bytes).await?;
        let mut row = self.own(user_id, media_id).await?;
        if is_large && row.upload_id.is_none() {
            match self.store.begin_parts(&row.upload_key, &row.content_type).await {
                Ok(upload_id) => row.upload_id = Some(self.keep_upload_id(media_id, &upload_id).await?),
                Err(error) => {
                    self.forget(media_id).await;
                    return Err(store_away(&error));
                }
            }
        }
        Ok(row)
    }

    fn check_allowed(&self, wanted: &Wanted) -> Result<(), Rejection> {
        let limit = self.config.max_file_bytes;
        if wanted.size_bytes > limit {
            let text = format!("The file has {} bytes; at most {limit} are taken.", wanted.size_bytes);
            return Err(Rejection::new(Code::MediaTooLarge, text).at("size_bytes"));
        }
        if !self.config.allows(&wanted.content_type) {
            let text = format!("Files of this type are not taken; taken are {}.", self.config.allowed_types.join(", "));
            return Err(Rejection::new(Code::MediaTypeRefused, text).at("content_type"));
        }
        Ok(())
    }

    async fn insert(
        &self,
        user_id: &str,
        media_id: &str,
        wanted: &Wanted,
        upload_key: &str,
        part_bytes: Option<u64>,
    ) -> Result<(), Rejection> {
        let mut client = self.pool.get().await.map_err(unavailable)?;
        let transaction = client.transaction().await.map_err(unavailable)?;
        // The person's row keeps uploads apart, so that there are never more than allowed.
        profiles::hold(&transaction, user_id).await?;
        let sql = "SELECT count(*) FROM media WHERE user_id = $1 AND state IN ('uploading', 'checking') AND id <> $2";
        let open: i64 = transaction.query_one(sql, &[&user_id, &media_id]).await.map_err(unavailable)?.get(0);
        if open >= i64::from(self.config.open_uploads) {
            let rule = format!(
                "A person has at most {} uploads that are begun and not completed: complete or remove one first.",
                self.config.open_uploads
            );
            return Err(Rejection::new(Code::Conflict, rule));
        }
        let sql =
            "INSERT INTO media (id, user_id, file_name, url, created_at, chat_id, state, content_type, size_bytes,
                                      upload_key, urls_until, part_bytes, changed_at)
                   VALUES ($1, $2, $3, $4, clock_timestamp(), $5, 'uploading', $6, $7, $8, $9, $10, clock_timestamp())
                   ON CONFLICT (id) DO NOTHING";
        let Wanted { chat_id, file_name, content_type, size_bytes } = wanted;
        let (size, part_bytes) = (*size_bytes as i64, part_bytes.map(|bytes| bytes as i64));
        let url = self.store.place(upload_key);
        let until = timestamp::to_offset(clock::now_ms() + self.upload_ttl().as_millis() as i64);
        transaction
            .execute(
                sql,
                &[&media_id, &user_id, file_name, &url, chat_id, content_type, &size, &upload_key, &until, &part_bytes],
            )
            .await
            .map_err(unavailable)?;
        transaction.commit().await.map_err(unavailable)
    }

    /// Of two beginnings of the same upload the first one's id counts.
    async fn keep_upload_id(&self, media_id: &str, upload_id: &str) -> Result<String, Rejection> {
        let client = self.pool.get().await.map_err(unavailable)?;
        let sql = "UPDATE media SET upload_id = coalesce(upload_id, $2) WHERE id = $1 RETURNING upload_id";
        Ok(client.query_one(sql, &[&media_id, &upload_id]).await.map_err(unavailable)?.get(0))
    }

    /// The store has begun nothing, so nothing is to be removed.
    async fn forget(&self, media_id: &str) {
        let forgotten = async {
            let client = self.pool.get().await.map_err(unavailable)?;
            let sql = "DELETE FROM media WHERE id = $1 AND state = 'uploading' AND upload_id IS NULL";
            client.execute(sql, &[&media_id]).await.map_err(unavailable)
        };
        if forgotten.await.is_err() {
            tracing::warn!("an upload that could not begin is left to the janitor");
        }
    }

    pub(super) fn upload_ttl(&self) -> Duration {
        Duration::from_secs(self.config.upload_url_ttl_s)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn wanted(body: &Value) -> Result<Wanted, Rejection> {
        Wanted::of(&mut Fields::of_body(body.to_string().as_bytes()).unwrap())
    }

    #[test]
    fn wishes_are_checked_field_by_field() {
        let good = json!({ "chat_id": "c", "file_name": "../a\\b.png", "content_type": "image/png", "size_bytes": 7 });
        assert_eq!(wanted(&good).unwrap().file_name, "b.png");
        let bare = json!({ "chat_id": "c", "file_name": "b", "size_bytes": 7 });
        assert_eq!(wanted(&bare).unwrap().content_type, "application/octet-stream");
        for (field, value) in [
            ("chat_id", json!("a b")),
            ("file_name", json!(" ")),
            ("file_name", json!("x".repeat(1_001))),
            ("content_type", json!("image")),
            ("content_type", json!("image/png\r\nx: y")),
            ("content_type", json!("bild/größe")),
            ("size_bytes", json!(0)),
            ("size_bytes", json!(-1)),
            ("size_bytes", json!(1.5)),
            ("size_bytes", json!("7")),
        ] {
            let mut body = good.clone();
            body[field] = value;
            let refused = wanted(&body).unwrap_err();
            assert_eq!((refused.code, refused.field.as_deref()), (Code::BadField, Some(field)), "{body}");
        }
    }
}
