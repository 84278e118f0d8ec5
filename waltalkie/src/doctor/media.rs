//! The store of files, and what this machine can look into.

use anyhow::{Context, Result};
use previews::{Previewer, Settings};
use runtime::Config;
use runtime::s3::Store;

use super::Looked;

pub(super) async fn look(config: &Config) -> Looked {
    let Some(store) = Store::open(&config.media, &config.names())? else {
        return Ok((vec!["not configured: messages have no files; media.bucket names a store".into()], Vec::new()));
    };
    store.try_out().await.with_context(|| {
        format!(
            "bucket {} at {} can't be written, read and removed from: check that it is there and that the access key may do so",
            config.media.bucket,
            config.media.store_url()
        )
    })?;
    let mut seen = vec![format!("bucket {} at {} takes files", config.media.bucket, config.media.store_url())];
    let mut wrong = Vec::new();
    let folder = &config.media.scratch_dir;
    if !folder.is_empty() && !std::path::Path::new(folder).is_dir() {
        wrong.push(format!(
            "media.scratch_dir = {folder} is no folder: make it, on a disk with room for the largest files"
        ));
    }
    let abilities = tokio::task::spawn_blocking(|| -> Result<_> {
        let previewer = Previewer::new(Settings::default()).context("this executable can't be found")?;
        previewer.abilities().context("no process to look into files with can be started")
    })
    .await??;
    for tool in &abilities.tools {
        match &tool.path {
            Some(path) => seen.push(format!("{}: {} ({})", tool.name, path.display(), tool.makes)),
            // Files are taken all the same, and shown with an icon.
            None => seen.push(format!(
                "{} isn't installed, so there are no {}: install the package {} where gateways run",
                tool.name, tool.makes, tool.debian_package
            )),
        }
    }
    if abilities.tools_confined == Some(false) {
        wrong.push(
            "a program that looks into files could read other files here: see docs/media.md on the sandbox".into(),
        );
    }
    Ok((seen, wrong))
}
