//! `/v1/media`: files for messages. The bytes go between clients and the store; here are the rules and the URLs.

use std::sync::Arc;

use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::{Extension, Json};
use schemas::wire::Rejection;
use schemas::{ids, timestamp};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::caller::{Caller, JsonBody};
use super::idempotency::Operation;
use super::{Gateway, Problem, Shared};
use crate::media::{MediaService, MediaUrls, Row, State as MediaState, UploadUrls, Wanted, not_configured};

/// A file to upload.
#[derive(Deserialize, ToSchema)]
#[allow(dead_code, reason = "read by the document's generator")]
pub(crate) struct NewMedia {
    /// The chat that it may be posted in.
    #[schema(max_length = 64, pattern = "^[A-Za-z0-9._:-]+$")]
    chat_id: String,
    /// Shown to others, without folders and without what could deceive.
    #[schema(min_length = 1, max_length = 1000)]
    file_name: String,
    /// What it is; `application/octet-stream` if absent, which claims nothing. Held against the bytes.
    #[schema(max_length = 255)]
    content_type: Option<String>,
    /// All of its bytes.
    #[schema(minimum = 1)]
    size_bytes: u64,
}

/// A file, as its uploader or the reader of a message sees it.
#[allow(clippy::struct_field_names, reason = "the contract's own field names")]
#[derive(Serialize, ToSchema)]
pub(crate) struct Media {
    media_id: String,
    /// The chat that it may be posted in.
    chat_id: String,
    user_id: String,
    state: MediaState,
    /// `image`, `video`, `audio` or `file`; null until it is ready.
    #[schema(required)]
    kind: Option<String>,
    file_name: String,
    /// By its bytes once it is ready, as declared before.
    content_type: String,
    size_bytes: u64,
    /// Of pictures and videos, turned upright.
    #[schema(required)]
    width_px: Option<i64>,
    #[schema(required)]
    height_px: Option<i64>,
    /// Of audio and video.
    #[schema(required)]
    duration_ms: Option<i64>,
    /// ThumbHash in Base64, to draw something at once.
    #[schema(required)]
    thumbhash: Option<String>,
    /// Of audio: 64 peaks from 0 to 255, in Base64.
    #[schema(required)]
    waveform: Option<String>,
    /// What couldn't be made of it, and why.
    notes: Vec<String>,
    /// While it is `uploading`.
    #[schema(required)]
    upload: Option<UploadUrls>,
    /// Once it is `ready`.
    #[schema(required)]
    urls: Option<MediaUrls>,
    /// Why it is `refused`.
    #[schema(required)]
    refusal: Option<String>,
    #[serde(serialize_with = "timestamp::serialize")]
    #[schema(value_type = String, format = DateTime)]
    created_at: i64,
}

/// Begins an upload.
#[utoipa::path(post, path = "/v1/media", operation_id = "create_media", tag = "media",
    request_body = NewMedia,
    responses((status = 201, description = "Where to bring the bytes", body = Media)))]
pub(crate) async fn create(
    State(gateway): Shared,
    caller: Caller,
    operation: Option<Extension<Operation>>,
    JsonBody(mut body): JsonBody,
) -> Result<(StatusCode, Json<Media>), Problem> {
    let service = gateway.media_service()?;
    let wanted = Wanted::of(&mut body)?;
    gateway.limits.command(&caller.user_id)?;
    gateway.head_for(&caller.user_id, &wanted.chat_id).await?;
    let media_id = operation.map_or_else(ids::new_id, |Extension(operation)| operation.id.to_string());
    let row = service.begin(&caller.user_id, &media_id, &wanted).await?;
    Ok((StatusCode::CREATED, Json(shown(service, row).await?)))
}

/// Says that all bytes are in the store. Answers when the file was looked into, which takes seconds for a film.
#[utoipa::path(post, path = "/v1/media/{media_id}/complete", operation_id = "complete_media", tag = "media",
    params(("media_id" = String, Path)),
    responses((status = 200, description = "It may be posted", body = Media)))]
pub(crate) async fn complete(
    State(gateway): Shared,
    caller: Caller,
    Path(media_id): Path<String>,
) -> Result<Json<Media>, Problem> {
    let service = gateway.media_service()?;
    let media_id = media_id_of(media_id)?;
    gateway.limits.command(&caller.user_id)?;
    let row = service.complete(&caller.user_id, &media_id).await?;
    Ok(Json(shown(service, row).await?))
}

/// A file: for its uploader until it is posted, then for those who may see a message with it.
#[utoipa::path(get, path = "/v1/media/{media_id}", operation_id = "get_media", tag = "media",
    params(("media_id" = String, Path)),
    responses((status = 200, description = "Its state, and URLs that count for a while", body = Media)))]
pub(crate) async fn show(
    State(gateway): Shared,
    caller: Caller,
    Path(media_id): Path<String>,
) -> Result<Json<Media>, Problem> {
    let service = gateway.media_service()?;
    let media_id = media_id_of(media_id)?;
    let row = service.readable(&caller.user_id, &media_id).await?;
    Ok(Json(shown(service, row).await?))
}

/// Gives up a file that was not posted.
#[utoipa::path(delete, path = "/v1/media/{media_id}", operation_id = "remove_media", tag = "media",
    params(("media_id" = String, Path)),
    responses((status = 204, description = "It is gone for everybody; its bytes are removed soon")))]
pub(crate) async fn remove(
    State(gateway): Shared,
    caller: Caller,
    Path(media_id): Path<String>,
) -> Result<StatusCode, Problem> {
    let service = gateway.media_service()?;
    let media_id = media_id_of(media_id)?;
    service.give_up(&caller.user_id, &media_id).await?;
    Ok(StatusCode::NO_CONTENT)
}

impl Gateway {
    fn media_service(&self) -> Result<&Arc<MediaService>, Rejection> {
        self.media.as_ref().ok_or_else(not_configured)
    }

    /// A file for its uploader as it is now, for the answer to a request that comes again.
    pub(super) async fn one_media(&self, user_id: &str, media_id: &str) -> Option<serde_json::Value> {
        let service = self.media.as_ref()?;
        let row = service.own(user_id, media_id).await.ok()?;
        serde_json::to_value(shown(service, row).await.ok()?).ok()
    }
}

/// A file's id in a path. One that can't be an id is answered like one that isn't there.
fn media_id_of(text: String) -> Result<String, Rejection> {
    if ids::is_valid(&text) { Ok(text) } else { Err(Rejection::media_not_found()) }
}

async fn shown(service: &MediaService, row: Row) -> Result<Media, Rejection> {
    let upload = service.upload_urls(&row).await?;
    let urls = service.read_urls(&row).await?;
    let attachment = row.attachment;
    let of = |number: fn(&schemas::Attachment) -> Option<i64>| attachment.as_ref().and_then(number);
    let (width_px, height_px) = (of(|found| found.width_px), of(|found| found.height_px));
    let duration_ms = of(|found| found.duration_ms);
    let (waveform, notes) = row.details.map_or((None, Vec::new()), |details| (details.waveform, details.notes));
    Ok(Media {
        media_id: row.media_id,
        chat_id: row.chat_id,
        user_id: row.user_id,
        state: row.state,
        kind: attachment.as_ref().map(|found| found.kind.clone()),
        file_name: row.file_name,
        content_type: attachment.as_ref().map_or(row.content_type, |found| found.content_type.clone()),
        size_bytes: row.size_bytes,
        width_px,
        height_px,
        duration_ms,
        thumbhash: attachment.and_then(|found| found.thumbhash),
        waveform,
        notes,
        upload,
        urls,
        refusal: row.refusal,
        created_at: row.created_at,
    })
}
