//! `waltalkie new projection`: a crate with a read model of one's own, which is `examples/projection` under another name.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result, ensure};
use clap::{Args, Subcommand};

/// The example's name for what it counts; the new one takes its place.
const NAME: &str = "talkers";
const TYPE: &str = "Talkers";
/// Where the example finds the library.
const LIBRARY: &str = "../..";
/// Longest name of a table in PostgreSQL, less what a rebuild puts before it.
const MOST: usize = 40;

const FILES: [(&str, &str); 5] = [
    ("Cargo.toml", include_str!("../../examples/projection/Cargo.toml")),
    ("README.md", include_str!("../../examples/projection/README.md")),
    ("tables.sql", include_str!("../../examples/projection/tables.sql")),
    ("src/main.rs", include_str!("../../examples/projection/src/main.rs")),
    ("src/talkers.rs", include_str!("../../examples/projection/src/talkers.rs")),
];

/// What is made.
#[derive(Debug, Subcommand)]
pub enum NewCommand {
    /// A crate with a projection, and an executable that runs, rebuilds and verifies it
    #[command(after_help = "Examples:
  waltalkie new projection talkers --waltalkie ~/src/waltalkie
  cd talkers && cargo run -- rebuild && cargo run -- verify")]
    Projection(ProjectionArgs),
}

/// Arguments of `new projection`.
#[derive(Debug, Args)]
pub struct ProjectionArgs {
    /// Its name: lower-case letters, digits and _; also its table's and its folder's
    name: String,
    /// Waltalkie's sources, for the library
    #[arg(long, value_name = "FOLDER")]
    waltalkie: PathBuf,
    /// Where its folder is made
    #[arg(long, value_name = "FOLDER", default_value = ".")]
    r#in: PathBuf,
}

pub(crate) fn run(command: &NewCommand) -> Result<ExitCode> {
    let NewCommand::Projection(args) = command;
    let name = args.name.as_str();
    let is_good = name.starts_with(|sign: char| sign.is_ascii_lowercase())
        && name.chars().all(|sign| sign.is_ascii_lowercase() || sign.is_ascii_digit() || sign == '_');
    ensure!(is_good && name.len() <= MOST, "{name}: a name is lower-case letters, digits and _, {MOST} at most");
    let library = args.waltalkie.canonicalize().with_context(|| format!("--waltalkie {}", args.waltalkie.display()))?;
    ensure!(
        library.join("projections/Cargo.toml").is_file(),
        "--waltalkie {}: there are no sources of Waltalkie; clone them, and name the folder",
        library.display()
    );
    let folder = args.r#in.join(name);
    ensure!(!folder.exists(), "{} is there already", folder.display());
    for (file, text) in FILES {
        let path = folder.join(file.replace(NAME, name));
        write(&path, &named(text, name, &library)).with_context(|| format!("{} can't be written", path.display()))?;
    }
    // The versions that the library was tested with.
    let _ = fs::copy(library.join("Cargo.lock"), folder.join("Cargo.lock"));
    println!("{}: what it counts is src/{name}.rs, its table tables.sql", folder.display());
    println!("  cd {} && cargo run -- rebuild && cargo run -- verify", folder.display());
    Ok(ExitCode::SUCCESS)
}

fn write(path: &Path, text: &str) -> std::io::Result<()> {
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder)?;
    }
    fs::write(path, text)
}

fn named(text: &str, name: &str, library: &Path) -> String {
    let type_name: String = name.split('_').map(capitalized).collect();
    let text = text.replace(&format!("path = \"{LIBRARY}/"), &format!("path = \"{}/", library.display()));
    text.replace(NAME, name).replace(TYPE, &type_name)
}

fn capitalized(word: &str) -> String {
    let mut signs = word.chars();
    signs.next().map(|first| first.to_ascii_uppercase()).into_iter().chain(signs).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_example_is_what_is_written_and_nothing_else_is_renamed() {
        for (file, text) in FILES {
            assert_eq!(named(text, NAME, Path::new(LIBRARY)), text, "{file}");
        }
        let renamed = named(FILES[4].1, "word_counts", Path::new("/src/waltalkie"));
        assert!(renamed.contains("pub struct WordCounts;") && renamed.contains("FROM word_counts"), "{renamed}");
        assert!(named(FILES[0].1, "x", Path::new("/src")).contains("path = \"/src/schemas\""));
    }
}
