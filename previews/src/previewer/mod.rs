//! The parent half: which jobs a file takes, in which order, and what becomes of their answers.

mod children;
mod film;
mod probe;

use std::io;
use std::path::Path;

use crate::error::{Error, Refusal};
use crate::report::{Abilities, Note, Preview, PreviewKind, Report};
use crate::sandbox::ChildProgram;
use crate::settings::Settings;
use crate::sniff::sniff;
use crate::tools::{self, Tools};
use crate::upload::Uploaded;
use crate::wire::{Outcome, PictureFound, Work};
use crate::{ContentType, Kind};

/// What the uploader says about a file.
#[derive(Debug, Clone, Copy, Default)]
pub struct Declared<'a> {
    /// A media type; empty claims nothing.
    pub content_type: &'a str,
    /// Bytes.
    pub size_bytes: Option<u64>,
}

/// Looks into files. One for a process; several threads may use it at once, a child each.
#[derive(Debug)]
pub struct Previewer {
    program: ChildProgram,
    settings: Settings,
    tools: Tools,
}

impl Previewer {
    /// With this very executable as child, which must call [`crate::child_main`], and the tools of `PATH`.
    pub fn new(settings: Settings) -> io::Result<Self> {
        Ok(Self::with_program(ChildProgram::current()?, settings))
    }

    /// With another executable as child.
    pub fn with_program(program: ChildProgram, settings: Settings) -> Self {
        let tools = Tools::find(std::env::var_os("PATH").as_deref());
        Self { program, settings, tools }
    }

    /// The same without ffmpeg, ffprobe and pdftoppm, installed or not.
    #[must_use]
    pub fn without_tools(self) -> Self {
        Self { tools: Tools::default(), ..self }
    }

    /// What it was made with.
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// What fences a child in here, whether it holds, and which tools there are. Starts a few children.
    pub fn abilities(&self) -> Result<Abilities, Error> {
        let something = Uploaded::of_bytes(b"something")?;
        let (answer, _) = self.ask(&something, Work::Prove)?;
        let Outcome::Proved(proofs) = answer.outcome else { return Err(unexpected()) };
        // A program that any system has stands for the tools.
        let read = |path: &str| self.collect(&something, Path::new("/bin/cat"), vec![path.to_owned()]);
        let reads_input = read("/dev/stdin").is_ok_and(|read| read == b"something");
        let tools_confined = reads_input.then(|| read("/etc/passwd").is_err());
        Ok(Abilities { sandbox: answer.sandbox, proofs, tools_confined, tools: self.tools.states() })
    }

    /// Looks into a file and makes its previews. Blocks: seconds for a film, see [`Settings`].
    ///
    /// # Errors
    ///
    /// [`Error::Refused`] and [`Error::Child`] are the file's fault and final, [`Error::System`] is this machine's.
    pub fn examine(&self, file: &Uploaded, declared: &Declared<'_>) -> Result<Report, Error> {
        let content_type = self.check_claims(file, declared)?;
        let mut report = blank(file, content_type);
        match report.kind {
            Kind::Image if content_type == ContentType::Avif => self.still(file, &mut report)?,
            Kind::Image => {
                let picture = self.picture(file, content_type, &mut report)?;
                (report.width_px, report.height_px) = (Some(picture.width_px), Some(picture.height_px));
                report.frames = (picture.frames > 1).then_some(picture.frames);
            }
            Kind::Video => self.film(file, &mut report)?,
            Kind::Audio => self.sound(file, &mut report)?,
            Kind::Document => self.document(file, &mut report)?,
            Kind::File if content_type == ContentType::Svg => {
                self.check(file, Work::Svg { max_bytes: self.settings.picture.max_bytes })?;
            }
            // A card with icon, name and size. Archives aren't opened, so that what they unpack to doesn't matter.
            Kind::File => {}
        }
        Ok(report)
    }

    /// Holds what the uploader says against what came, before any process is started.
    fn check_claims(&self, file: &Uploaded, declared: &Declared<'_>) -> Result<ContentType, Refusal> {
        let limit = self.settings.max_file_bytes;
        if file.size_bytes == 0 {
            return Err(Refusal::Empty);
        }
        if file.size_bytes > limit {
            return Err(Refusal::TooLarge { bytes: file.size_bytes, limit });
        }
        if let Some(size) = declared.size_bytes.filter(|size| *size != file.size_bytes) {
            return Err(Refusal::SizeMismatch { declared: size, found: file.size_bytes });
        }
        let found = sniff(&file.head);
        if !found.matches_declared(declared.content_type) {
            return Err(Refusal::TypeMismatch { declared: shown(declared.content_type), found });
        }
        Ok(found)
    }

    /// Has a picture decoded, and puts hash and previews into the report.
    fn picture(&self, file: &Uploaded, content_type: ContentType, report: &mut Report) -> Result<PictureFound, Error> {
        let settings = self.settings.picture.clone();
        let (answer, pictures) = self.ask(file, Work::Picture { content_type, settings })?;
        let found = match answer.outcome {
            Outcome::Picture(found) => found,
            Outcome::Refused(refusal) => return Err(refusal.into()),
            _ => return Err(unexpected()),
        };
        report.peak_rss_bytes = report.peak_rss_bytes.max(answer.peak_rss_bytes);
        report.thumbhash = Some(found.thumbhash.clone());
        report.previews.extend(found.previews.iter().zip(pictures).map(|(head, bytes)| Preview {
            kind: PreviewKind::Picture,
            width_px: head.width_px,
            height_px: head.height_px,
            bytes,
        }));
        Ok(found)
    }

    /// What a tool drew, as if it had been uploaded: tools are fed by strangers, so that they are believed no more.
    fn drawn(&self, png: &[u8], report: &mut Report) -> Result<(), Error> {
        self.picture(&Uploaded::of_bytes(png)?, ContentType::Png, report).map(drop)
    }

    fn document(&self, file: &Uploaded, report: &mut Report) -> Result<(), Error> {
        self.check(file, Work::Whole { content_type: report.content_type })?;
        let Some(pdftoppm) = &self.tools.pdftoppm else {
            report.notes.push(Note::ToolMissing { tool: "pdftoppm", part: "first page" });
            return Ok(());
        };
        let page = self.collect(file, pdftoppm, tools::first_page(self.largest_side()));
        let drawn = page.and_then(|png| self.drawn(&png, report));
        note("first page", drawn, report)
    }

    /// A job that answers with nothing but whether the file may pass.
    fn check(&self, file: &Uploaded, work: Work) -> Result<(), Error> {
        let (answer, _) = self.ask(file, work)?;
        match answer.outcome {
            Outcome::Clean => Ok(()),
            Outcome::Refused(refusal) => Err(refusal.into()),
            _ => Err(unexpected()),
        }
    }

    fn largest_side(&self) -> u32 {
        self.settings.picture.sides_px.iter().copied().max().unwrap_or(1280)
    }
}

fn blank(file: &Uploaded, content_type: ContentType) -> Report {
    Report {
        content_type,
        kind: content_type.kind(),
        size_bytes: file.size_bytes,
        sha256: file.sha256,
        width_px: None,
        height_px: None,
        duration_ms: None,
        frames: None,
        thumbhash: None,
        waveform: None,
        previews: Vec::new(),
        notes: Vec::new(),
        peak_rss_bytes: None,
    }
}

/// A part that a file can do without: what is wrong with the file's rest is a note, what is wrong with this machine isn't.
fn note(part: &'static str, made: Result<(), Error>, report: &mut Report) -> Result<(), Error> {
    match made {
        Err(error @ Error::System { .. }) => Err(error),
        Err(error) => {
            report.notes.push(Note::NotMade { part, detail: error.to_string() });
            Ok(())
        }
        Ok(()) => Ok(()),
    }
}

/// A declared type is shown to people: no more of it than a type can be, and nothing that isn't printed.
fn shown(declared: &str) -> String {
    declared.chars().filter(|c| !c.is_control()).take(100).collect()
}

fn unexpected() -> Error {
    crate::error::ChildFailure::Answer { detail: "it answered something else".into() }.into()
}
