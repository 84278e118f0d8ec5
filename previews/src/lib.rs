//! Looks into an uploaded file and makes its previews, in a child process that a hostile file can't get out of. Knows no
//! storage, no queue and no database.
//!
//! ```text
//!             Upload                    Previewer                        child, fenced in
//!  pieces ──▶ a file without a name ──▶ type by its first bytes,    ──▶  decodes, shrinks, encodes
//!             size, SHA-256             job by type                      or becomes ffmpeg, ffprobe, pdftoppm
//!                                       Report, previews            ◀──  JSON and JPEG, bounded
//! ```
//!
//! - **What is promised.** [`Previewer::examine`] comes back within the time that its limits give, holds no more memory than
//!   they let, and leaves no file and no process, whatever the file holds. Equal files give equal reports.
//! - **What is refused** is a typed [`Refusal`] that says what is wrong, the limit, and how to mend it.
//! - **What is only missing** is a [`Note`] in the report: no ffmpeg, no poster.
//! - **Everything blocks**: call it from a thread that may, and bound how many do.
//!
//! The executable must call [`child_main`] first thing in its `main`.

mod child;
mod content_type;
mod error;
mod markup;

mod picture;
mod previewer;
mod report;
mod sandbox;
mod serving;
mod settings;
mod sniff;
mod sound;
mod tools;
mod upload;
mod waveform;
mod whole;
mod wire;

pub use child::{CHILD_COMMAND, child_main};
pub use content_type::{ContentType, Kind};
pub use error::{ChildFailure, Error, Refusal};
pub use previewer::{Declared, Previewer};
pub use report::{Abilities, Note, Preview, PreviewKind, Report, ToolState};
pub use sandbox::{ChildProgram, Layer, Proofs, Sandbox};
pub use serving::{Disposition, clean_file_name, content_disposition, disposition, served_content_type};
pub use settings::{Limits, PictureSettings, Settings};
pub use upload::{Upload, Uploaded};
