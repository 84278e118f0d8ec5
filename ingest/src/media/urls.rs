//! What clients do with a file, as URLs that count for a while.

use std::collections::HashMap;
use std::time::Duration;

use previews::{ContentType, Disposition, content_disposition, disposition, served_content_type};
use runtime::clock;
use runtime::s3::Presigned;
use schemas::timestamp;
use schemas::wire::Rejection;
use serde::Serialize;
use utoipa::ToSchema;

use super::row::ORIGINAL;
use super::{MediaService, Row, State, store_away};
use crate::users::unavailable;

/// How to bring a file's bytes to the store.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct UploadUrls {
    /// `PUT`, of every request.
    method: &'static str,
    /// Of a file that goes in one piece; null where it goes in parts.
    #[schema(required)]
    url: Option<String>,
    /// Headers of that request, exactly so: they are signed. Browsers set `content-length` themselves.
    headers: HashMap<&'static str, String>,
    /// Of a file from 16 MiB on: the parts that the store doesn't have yet, each a request of its own.
    parts: Vec<PartUrl>,
    /// Bytes of each part but the last.
    #[schema(required)]
    part_bytes: Option<u64>,
    /// Numbers of the parts that the store has.
    uploaded_parts: Vec<u32>,
    /// Until when the URLs count; `GET /v1/media/{media_id}` gives new ones.
    #[serde(serialize_with = "timestamp::serialize")]
    #[schema(value_type = String, format = DateTime)]
    expires_at: i64,
}

/// One part to upload.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct PartUrl {
    /// From 1. Part n begins at byte (n − 1) × `part_bytes`.
    part_number: u32,
    size_bytes: u64,
    url: String,
}

/// Where to read a file.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct MediaUrls {
    /// To show it in place, if its type can't run script; else to save it.
    url: String,
    /// To save it.
    download_url: String,
    /// Smaller ones to show in its place: pictures, smallest first, then a muted clip of a video.
    previews: Vec<PreviewUrl>,
    /// Until when the URLs count: five minutes at most. Ask again for new ones.
    #[serde(serialize_with = "timestamp::serialize")]
    #[schema(value_type = String, format = DateTime)]
    expires_at: i64,
}

/// A preview.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct PreviewUrl {
    /// `image/jpeg` or `video/mp4`.
    content_type: String,
    width_px: u32,
    height_px: u32,
    size_bytes: u64,
    url: String,
}

impl MediaService {
    /// URLs for what is missing of an upload; `None` if it isn't one any more.
    pub(crate) async fn upload_urls(&self, row: &Row) -> Result<Option<UploadUrls>, Rejection> {
        if row.state != State::Uploading {
            return Ok(None);
        }
        let ttl = self.upload_ttl();
        let expires_at = clock::now_ms() + ttl.as_millis() as i64;
        self.note_urls(&row.media_id, expires_at).await?;
        let mut urls = UploadUrls {
            method: "PUT",
            url: None,
            headers: HashMap::new(),
            parts: Vec::new(),
            part_bytes: row.part_bytes,
            uploaded_parts: Vec::new(),
            expires_at,
        };
        let away = |error| store_away(&error);
        let Some(upload_id) = &row.upload_id else {
            let signed = self.store.sign_put(&row.upload_key, &row.content_type, row.size_bytes, ttl);
            let Presigned { url, headers } = signed.await.map_err(away)?;
            (urls.url, urls.headers) = (Some(url), headers.into_iter().collect());
            return Ok(Some(urls));
        };
        let there = match self.store.parts(&row.upload_key, upload_id).await {
            Ok(parts) => parts,
            // Put together already, by a check that failed after that: nothing is missing.
            Err(error) if error.is_absent() => return Ok(Some(urls)),
            Err(error) => return Err(store_away(&error)),
        };
        for (part_number, size_bytes) in row.parts() {
            if there.iter().any(|part| part.number == part_number && part.size_bytes == size_bytes) {
                urls.uploaded_parts.push(part_number);
                continue;
            }
            let signed = self.store.sign_part(&row.upload_key, upload_id, part_number, size_bytes, ttl);
            let url = signed.await.map_err(away)?.url;
            urls.parts.push(PartUrl { part_number, size_bytes, url });
        }
        Ok(Some(urls))
    }

    /// Keeps until when somebody may still upload, so that what comes late is removed too.
    async fn note_urls(&self, media_id: &str, expires_at: i64) -> Result<(), Rejection> {
        let client = self.pool.get().await.map_err(unavailable)?;
        let sql = "UPDATE media SET urls_until = greatest(urls_until, $2) WHERE id = $1";
        client.execute(sql, &[&media_id, &timestamp::to_offset(expires_at)]).await.map_err(unavailable)?;
        Ok(())
    }

    /// URLs to read a file with; `None` unless it is ready.
    pub(crate) async fn read_urls(&self, row: &Row) -> Result<Option<MediaUrls>, Rejection> {
        let (State::Ready, Some(folder), Some(details)) = (row.state, &row.folder, &row.details) else {
            return Ok(None);
        };
        let ttl = Duration::from_secs(self.config.url_ttl_s);
        let expires_at = clock::now_ms() + ttl.as_millis() as i64;
        let original = format!("{folder}{ORIGINAL}");
        let away = |error| store_away(&error);
        let sign = async |found: ContentType, how: Disposition| {
            let named = content_disposition(how, &row.file_name);
            let kind = match how {
                Disposition::Inline => served_content_type(found),
                Disposition::Attachment => "application/octet-stream",
            };
            self.store.sign_get(&original, kind, &named, ttl).await.map_err(away)
        };
        let url = sign(details.found, disposition(details.found)).await?;
        let download_url = sign(details.found, Disposition::Attachment).await?;
        let mut previews = Vec::with_capacity(details.previews.len());
        for preview in &details.previews {
            let key = format!("{folder}{}", preview.name);
            let named = content_disposition(Disposition::Inline, &preview.name);
            let url = self.store.sign_get(&key, &preview.content_type, &named, ttl).await.map_err(away)?;
            previews.push(PreviewUrl {
                content_type: preview.content_type.clone(),
                width_px: preview.width_px,
                height_px: preview.height_px,
                size_bytes: preview.size_bytes,
                url,
            });
        }
        Ok(Some(MediaUrls { url, download_url, previews, expires_at }))
    }
}
