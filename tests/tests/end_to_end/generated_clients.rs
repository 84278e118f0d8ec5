//! Clients that common generators make of the OpenAPI document hold a conversation.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use waltalkie_tests::harness::{Installation, Person, node_packages, python, repository, target_dir};

fn run(folder: &Path, program: &Path, arguments: &[&str]) -> Result<String> {
    let name = program.display();
    let mut command = Command::new(program);
    let output = command.args(arguments).current_dir(folder).output().with_context(|| name.to_string())?;
    let (said, complained) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    ensure!(output.status.success(), "{name} {arguments:?}: {}\n{said}\n{complained}", output.status);
    Ok(said.into_owned())
}

/// Two people, and a folder that holds the document.
struct Scene {
    installation: Installation,
    folder: tempfile::TempDir,
}

impl Scene {
    async fn make(test: &str) -> Result<Self> {
        let installation = Installation::make(test).await?;
        // Node looks for packages in the folders above.
        let folder = tempfile::tempdir_in(target_dir()?)?;
        let mut command = installation.command()?;
        let document = tokio::task::spawn_blocking(move || command.args(["docs", "openapi"]).output()).await??;
        fs::write(folder.path().join("openapi.json"), document.stdout)?;
        Ok(Self { installation, folder })
    }

    async fn talk(&self, program: PathBuf, file: &str) -> Result<()> {
        let process = self.installation.run(&["all"]).await?;
        let (config, gateway) = (self.installation.config()?, process.gateway()?);
        let alice = Person::arrive(&config, gateway, "alice").await?;
        let bob = Person::arrive(&config, gateway, "bob").await?;
        let (folder, file) = (self.folder.path().to_owned(), file.to_owned());
        let arguments = [file, gateway.to_owned(), alice.token, bob.token];
        let talking = move || run(&folder, &program, &arguments.each_ref().map(String::as_str));
        let said: Value = serde_json::from_str(tokio::task::spawn_blocking(talking).await??.trim())?;
        let expected = json!({
            "said": ["Half past twelve?", "Yes"], "edited": true, "unread": 1, "refused": "chat_not_found",
        });
        ensure!(said == expected, "{said}");
        Ok(())
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn one_made_for_python_talks() -> Result<()> {
    let scene = Scene::make("python-client").await?;
    let folder = scene.folder.path();
    let generate = ["-m", "openapi_python_client", "generate", "--path", "openapi.json", "--meta", "none"];
    run(folder, &python()?, &[&generate[..], &["--output-path", "client"]].concat())?;
    fs::copy(repository().join("tests/interop/python/conversation.py"), folder.join("conversation.py"))?;
    scene.talk(python()?, "conversation.py").await
}

#[tokio::test(flavor = "multi_thread")]
async fn one_made_for_typescript_talks() -> Result<()> {
    let scene = Scene::make("typescript-client").await?;
    let folder = scene.folder.path();
    let packages = node_packages()?;
    std::os::unix::fs::symlink(&packages, folder.join("node_modules"))?;
    for file in ["package.json", "tsconfig.json", "conversation.ts"] {
        fs::copy(repository().join("tests/interop/typescript").join(file), folder.join(file))?;
    }
    let tool = |name: &str| packages.join(".bin").join(name);
    run(folder, &tool("openapi-typescript"), &["openapi.json", "-o", "schema.d.ts"])?;
    run(folder, &tool("tsc"), &["--project", "tsconfig.json"])?;
    scene.talk("node".into(), "conversation.js").await
}
