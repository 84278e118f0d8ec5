//! A file's row, and what is found out about it.

use previews::ContentType;
use schemas::{Attachment, timestamp};
use serde::{Deserialize, Serialize};
use tokio_postgres::Row as Columns;
use tokio_postgres::types::Json;

/// How far a file has come. What is to be removed has no state that anybody is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
#[schema(as = MediaState)]
pub(crate) enum State {
    /// Its bytes are awaited, and then `complete`.
    Uploading,
    /// It is being looked into.
    Checking,
    /// It may be posted, and read.
    Ready,
    /// It is not what it should be.
    Refused,
}

impl State {
    fn of(name: &str) -> Option<Self> {
        Some(match name {
            "uploading" => Self::Uploading,
            "checking" => Self::Checking,
            "ready" => Self::Ready,
            "refused" => Self::Refused,
            _ => return None,
        })
    }
}

/// What only readers of the file are shown, and how it is served.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Details {
    /// By content.
    pub(crate) found: ContentType,
    /// 64 peaks, base64.
    pub(crate) waveform: Option<String>,
    /// Smallest first, then the clip.
    pub(crate) previews: Vec<StoredPreview>,
    /// What couldn't be made.
    pub(crate) notes: Vec<String>,
}

/// A preview in the file's folder.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct StoredPreview {
    pub(crate) name: String,
    pub(crate) content_type: String,
    pub(crate) width_px: u32,
    pub(crate) height_px: u32,
    pub(crate) size_bytes: u64,
}

/// A file.
#[derive(Debug, Clone)]
pub(crate) struct Row {
    pub(crate) media_id: String,
    pub(crate) user_id: String,
    pub(crate) chat_id: String,
    /// Clean.
    pub(crate) file_name: String,
    pub(crate) state: State,
    /// As declared.
    pub(crate) content_type: String,
    pub(crate) size_bytes: u64,
    pub(crate) upload_key: String,
    pub(crate) upload_id: Option<String>,
    pub(crate) part_bytes: Option<u64>,
    /// Where the copy is; ends with `/`.
    pub(crate) folder: Option<String>,
    pub(crate) attachment: Option<Attachment>,
    pub(crate) details: Option<Details>,
    pub(crate) refusal: Option<String>,
    pub(crate) created_at: i64,
}

/// Columns of [`Row::of`], of `media AS m`.
pub(super) const COLUMNS: &str =
    "m.id, m.user_id, m.chat_id, m.file_name, m.state, m.content_type, m.size_bytes, m.upload_key,
    m.upload_id, m.part_bytes, m.folder, m.attachment, m.details, m.refusal, m.created_at";

/// Name of the copy in its folder.
pub(super) const ORIGINAL: &str = "original";

impl Row {
    /// `None` of a file that is to be removed.
    pub(super) fn of(columns: &Columns) -> Option<Self> {
        let json = |column| columns.get::<_, Option<Json<serde_json::Value>>>(column).map(|Json(value)| value);
        Some(Self {
            state: State::of(columns.get("state"))?,
            media_id: columns.get("id"),
            user_id: columns.get("user_id"),
            chat_id: columns.get("chat_id"),
            file_name: columns.get("file_name"),
            content_type: columns.get("content_type"),
            size_bytes: columns.get::<_, i64>("size_bytes").unsigned_abs(),
            upload_key: columns.get("upload_key"),
            upload_id: columns.get("upload_id"),
            part_bytes: columns.get::<_, Option<i64>>("part_bytes").map(i64::unsigned_abs),
            folder: columns.get("folder"),
            attachment: json("attachment").and_then(|value| serde_json::from_value(value).ok()),
            details: json("details").and_then(|value| serde_json::from_value(value).ok()),
            refusal: columns.get("refusal"),
            created_at: timestamp::from_offset(columns.get("created_at")),
        })
    }

    /// Numbers and sizes of the parts of an upload in parts.
    pub(super) fn parts(&self) -> Vec<(u32, u64)> {
        let Some(part_bytes) = self.part_bytes.filter(|bytes| *bytes > 0) else { return Vec::new() };
        let count = self.size_bytes.div_ceil(part_bytes);
        let size = |number: u64| part_bytes.min(self.size_bytes - (number - 1) * part_bytes);
        (1..=count).map(|number| (number as u32, size(number))).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_cover_the_file_and_no_more() {
        let row = |size_bytes, part_bytes| Row {
            media_id: String::new(),
            user_id: String::new(),
            chat_id: String::new(),
            file_name: String::new(),
            state: State::Uploading,
            content_type: String::new(),
            size_bytes,
            upload_key: "p-uploads/1/file".into(),
            upload_id: None,
            part_bytes,
            folder: None,
            attachment: None,
            details: None,
            refusal: None,
            created_at: 0,
        };
        assert_eq!(row(25, Some(10)).parts(), [(1, 10), (2, 10), (3, 5)]);
        assert_eq!(row(20, Some(10)).parts(), [(1, 10), (2, 10)]);
        assert_eq!(row(20, None).parts(), []);
        assert_eq!(runtime::s3::folder_of("p-uploads/1/file"), "p-uploads/1/");
    }
}
