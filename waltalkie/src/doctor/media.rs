//! The store of files, and what this machine can look into.

use anyhow::{Context, Result};
use previews::{Abilities, Layer, Previewer, Settings};
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
    let (weaker, open) = gaps(&abilities);
    seen.extend(weaker);
    wrong.extend(open);
    Ok((seen, wrong))
}

/// What is missing of the fence behind which strangers' files are decoded: parts that are weaker than meant, behind which nothing
/// got through all the same, as on kernels some years old; and what is open.
fn gaps(abilities: &Abilities) -> (Vec<String>, Vec<String>) {
    let (mut weaker, mut open) = (Vec::new(), Vec::new());
    for (part, layer) in abilities.sandbox.layers() {
        match layer {
            Layer::Full => {}
            Layer::Partial(why) => {
                weaker.push(format!("the fence around decoders is weaker than meant, {part}: {why}"));
            }
            Layer::Missing(why) => open.push(format!("a part of the fence around decoders is missing, {part}: {why}")),
        }
    }
    let proofs = &abilities.proofs;
    let tried = [
        ("open a socket", proofs.network_refused),
        ("read files of this machine", proofs.reading_refused),
        ("write files", proofs.writing_refused),
        ("start programs", proofs.processes_refused),
        ("send signals to the gateway", proofs.signals_refused),
        ("take more memory than it may", proofs.memory_refused),
        ("see the gateway's environment", proofs.environment_empty),
    ];
    let could: Vec<&str> = tried.iter().filter(|(_, refused)| !refused).map(|(what, _)| *what).collect();
    if !could.is_empty() {
        open.push(format!(
            "a decoder that a hostile file took over could {}: run gateways on a Linux with Landlock and seccomp, in a container that \
             allows both (docs/media.md)",
            could.join(", ")
        ));
    }
    if abilities.tools_confined == Some(false) {
        open.push(
            "a program that looks into files could read other files here: run gateways on a Linux with Landlock (docs/media.md)"
                .into(),
        );
    }
    if !open.is_empty() {
        // They may be why.
        open.append(&mut weaker);
    }
    (weaker, open)
}

#[cfg(test)]
mod tests {
    use super::*;
    use previews::{Proofs, Sandbox};

    fn whole() -> Abilities {
        let full = || Layer::Full;
        Abilities {
            sandbox: Sandbox {
                resource_limits: full(),
                user: full(),
                inheritance: full(),
                files: full(),
                system_calls: full(),
            },
            proofs: Proofs {
                network_refused: true,
                reading_refused: true,
                writing_refused: true,
                processes_refused: true,
                signals_refused: true,
                memory_refused: true,
                environment_empty: true,
            },
            tools_confined: Some(true),
            tools: Vec::new(),
        }
    }

    #[test]
    fn each_gap_in_the_fence_is_told_and_a_whole_one_is_not() {
        type Part<Whole, Of> = fn(&mut Whole) -> &mut Of;
        let none = (Vec::new(), Vec::new());
        assert_eq!(gaps(&whole()), none);
        assert_eq!(gaps(&Abilities { tools_confined: None, ..whole() }), none, "there is no tool to confine");
        let layers: [(Part<Sandbox, Layer>, &str); 5] = [
            (|sandbox| &mut sandbox.resource_limits, "resource limits: why"),
            (|sandbox| &mut sandbox.user, "user: why"),
            (|sandbox| &mut sandbox.inheritance, "inheritance: why"),
            (|sandbox| &mut sandbox.files, "files (Landlock): why"),
            (|sandbox| &mut sandbox.system_calls, "system calls (seccomp): why"),
        ];
        for (layer, told) in layers {
            let with = |gap: Layer| {
                let mut abilities = whole();
                *layer(&mut abilities.sandbox) = gap;
                gaps(&abilities)
            };
            let (weaker, open) = with(Layer::Missing("why".into()));
            assert!(weaker.is_empty() && open.len() == 1 && open[0].ends_with(told), "{open:?}");
            let (weaker, open) = with(Layer::Partial("why".into()));
            assert!(open.is_empty() && weaker.len() == 1 && weaker[0].ends_with(told), "{weaker:?}");
        }
        let proofs: [(Part<Proofs, bool>, &str); 7] = [
            (|proofs| &mut proofs.network_refused, "open a socket"),
            (|proofs| &mut proofs.reading_refused, "read files"),
            (|proofs| &mut proofs.writing_refused, "write files"),
            (|proofs| &mut proofs.processes_refused, "start programs"),
            (|proofs| &mut proofs.signals_refused, "signals"),
            (|proofs| &mut proofs.memory_refused, "memory"),
            (|proofs| &mut proofs.environment_empty, "environment"),
        ];
        for (proof, told) in proofs {
            let mut abilities = whole();
            *proof(&mut abilities.proofs) = false;
            abilities.sandbox.files = Layer::Partial("old".into());
            let (weaker, open) = gaps(&abilities);
            assert!(weaker.is_empty() && open.len() == 2 && open[0].contains(told), "{open:?}");
        }
        assert_eq!(gaps(&Abilities { tools_confined: Some(false), ..whole() }).1.len(), 1);
    }
}
