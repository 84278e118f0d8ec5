//! Looks into a file: the copy is made, read, examined in a child process, and its previews are stored beside it.

use std::collections::HashSet;
use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use bytes::Bytes;
use futures_util::StreamExt;
use previews::{Declared, Error as PreviewError, Kind, Note, PreviewKind, Report, Upload};
use runtime::s3::S3Error;
use schemas::Attachment;
use tokio::sync::mpsc;

use super::MediaService;
use super::claim::Claimed;
use super::row::{Details, ORIGINAL, Row, StoredPreview};

/// Pieces that wait to be written.
const PIECES: usize = 16;

/// Why a file is not ready.
#[derive(Debug)]
pub(super) enum Failure {
    /// It is not what it should be; for people.
    Refused(String),
    /// The store doesn't have all of it; for people.
    Incomplete(String),
    /// Somebody else has the claim.
    Lost,
    /// The store.
    Store(S3Error),
    /// This machine.
    Machine(String),
    /// This machine or the file: it wasn't ready in time, or its child was killed. For people.
    Exhausted(String),
}

impl From<S3Error> for Failure {
    fn from(error: S3Error) -> Self {
        Self::Store(error)
    }
}

/// What was found.
pub(super) struct Found {
    pub(super) attachment: Attachment,
    pub(super) details: Details,
    pub(super) sha256: [u8; 32],
}

impl MediaService {
    pub(super) async fn check(&self, claimed: &Claimed) -> Result<Found, Failure> {
        let Claimed { row, folder, .. } = claimed;
        let size_bytes = self.whole(row).await?;
        if size_bytes != row.size_bytes {
            let text = format!("it has {size_bytes} bytes, {} were declared; upload it again", row.size_bytes);
            return Err(Failure::Refused(text));
        }
        let original = format!("{folder}{ORIGINAL}");
        self.store.copy(&row.upload_key, &original).await?;
        let turn = self.turns.acquire().await.map_err(|_| Failure::Machine("stopping".into()))?;
        let report = self.examine(&original, row).await?;
        drop(turn);
        let mut stored = Vec::with_capacity(report.previews.len());
        for (number, preview) in report.previews.iter().enumerate() {
            let (name, content_type) = match preview.kind {
                PreviewKind::Picture => (format!("preview-{number}.jpg"), preview.kind.mime()),
                PreviewKind::Clip => (format!("preview-{number}.mp4"), preview.kind.mime()),
            };
            let key = format!("{folder}{name}");
            let size_bytes = preview.bytes.len() as u64;
            self.store.put(&key, Bytes::copy_from_slice(&preview.bytes), content_type).await?;
            let (width_px, height_px) = (preview.width_px, preview.height_px);
            stored.push(StoredPreview { name, content_type: content_type.to_owned(), width_px, height_px, size_bytes });
        }
        Ok(found(row, &report, stored))
    }

    /// Bytes of the upload, put together first if it came in parts.
    async fn whole(&self, row: &Row) -> Result<u64, Failure> {
        if let Some(size_bytes) = self.store.size(&row.upload_key).await? {
            return Ok(size_bytes);
        }
        let Some(upload_id) = &row.upload_id else {
            return Err(Failure::Incomplete("The store doesn't have the file: upload it with the URL.".into()));
        };
        let parts = match self.store.parts(&row.upload_key, upload_id).await {
            Err(error) if error.is_absent() => Vec::new(),
            parts => parts?,
        };
        let there: HashSet<(u32, u64)> = parts.iter().map(|part| (part.number, part.size_bytes)).collect();
        let missing: Vec<String> =
            row.parts().iter().filter(|part| !there.contains(part)).map(|(number, _)| number.to_string()).collect();
        if !missing.is_empty() {
            let shown = missing.iter().take(20).map(String::as_str).collect::<Vec<_>>().join(", ");
            let more = if missing.len() > 20 { format!(" and {} more", missing.len() - 20) } else { String::new() };
            return Err(Failure::Incomplete(format!("The store doesn't have these parts: {shown}{more}.")));
        }
        self.store.complete_parts(&row.upload_key, upload_id, &parts).await?;
        let put_together = self.store.size(&row.upload_key).await?;
        put_together.ok_or_else(|| {
            Failure::Store(S3Error::Away { doing: "putting an upload together", detail: "the file isn't there".into() })
        })
    }

    /// Reads the copy to a file without a name, and has it examined; both on a thread that may block.
    async fn examine(&self, key: &str, row: &Row) -> Result<Report, Failure> {
        let mut object = self.store.read(key).await?;
        let (pieces, mut come) = mpsc::channel::<Option<Bytes>>(PIECES);
        let (previewer, scratch) = (Arc::clone(&self.previewer), self.scratch.clone());
        let (content_type, size_bytes) = (row.content_type.clone(), row.size_bytes);
        let examining = tokio::task::spawn_blocking(move || {
            let mut upload = Upload::begin(scratch.as_deref(), size_bytes)?;
            loop {
                match come.blocking_recv() {
                    Some(Some(piece)) => upload.write(&piece)?,
                    Some(None) => break,
                    // The reader gave up: nobody asks for the report.
                    None => return Ok(None),
                }
            }
            let declared = Declared { content_type: &content_type, size_bytes: Some(size_bytes) };
            previewer.examine(&upload.finish(), &declared).map(Some)
        });
        let mut failed = None;
        while let Some(piece) = object.pieces.next().await {
            match piece {
                Ok(piece) => {
                    // The other end says itself why it takes no more.
                    if pieces.send(Some(piece)).await.is_err() {
                        break;
                    }
                }
                Err(error) => {
                    failed = Some(error);
                    break;
                }
            }
        }
        if failed.is_none() {
            let _ = pieces.send(None).await;
        }
        drop(pieces);
        let examined = examining.await.map_err(|error| Failure::Machine(error.to_string()))?;
        match (examined, failed) {
            (_, Some(error)) => Err(error.into()),
            (Ok(Some(report)), None) => Ok(report),
            (Ok(None), None) => Err(Failure::Machine("the examination ended early".into())),
            (Err(error @ PreviewError::System { .. }), None) => Err(Failure::Machine(runtime::chain(&error))),
            (Err(PreviewError::Refused(refusal)), None) => Err(Failure::Refused(refusal.to_string())),
            (Err(PreviewError::Child(failure)), None) if failure.may_pass() => {
                Err(Failure::Exhausted(failure.to_string()))
            }
            (Err(PreviewError::Child(failure)), None) => Err(Failure::Refused(failure.to_string())),
        }
    }
}

fn found(row: &Row, report: &Report, previews: Vec<StoredPreview>) -> Found {
    let kind = match report.kind {
        Kind::Image => "image",
        Kind::Video => "video",
        Kind::Audio => "audio",
        // Shown as a file, with its first page as preview.
        Kind::Document | Kind::File => "file",
    };
    let notes = report.notes.iter().map(note).collect();
    Found {
        attachment: Attachment {
            media_id: row.media_id.clone(),
            kind: kind.to_owned(),
            file_name: row.file_name.clone(),
            content_type: report.content_type.mime().to_owned(),
            size_bytes: report.size_bytes as i64,
            width_px: report.width_px.map(i64::from),
            height_px: report.height_px.map(i64::from),
            duration_ms: report.duration_ms.map(|duration| duration as i64),
            thumbhash: report.thumbhash.as_ref().map(|hash| BASE64.encode(hash)),
        },
        details: Details {
            found: report.content_type,
            waveform: report.waveform.as_ref().map(|peaks| BASE64.encode(peaks)),
            previews,
            notes,
        },
        sha256: report.sha256,
    }
}

fn note(note: &Note) -> String {
    match note {
        Note::ToolMissing { tool, part } => format!("no {part}: {tool} isn't installed"),
        Note::NotMade { part, detail } => format!("no {part}: {detail}"),
        Note::TooLong => "no waveform: the sound is too long".to_owned(),
    }
}
