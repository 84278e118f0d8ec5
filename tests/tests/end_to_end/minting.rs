//! The programs in `docs/auth.md` mint tokens that a gateway takes.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use serde_json::json;
use waltalkie_tests::harness::{Installation, Person, Servers, python, repository};

/// The only block of a language in the page.
fn block<'a>(page: &'a str, language: &str) -> Result<&'a str> {
    let mut blocks = page.split("```").skip(1).step_by(2).filter_map(|block| block.split_once('\n'));
    let (_, text) = blocks.find(|(name, _)| *name == language).with_context(|| format!("no {language} block"))?;
    ensure!(blocks.all(|(name, _)| name != language), "more than one {language} block");
    Ok(text)
}

fn run(folder: &Path, program: impl Into<PathBuf>, arguments: &[&str]) -> Result<String> {
    let program = program.into();
    let mut command = Command::new(&program);
    // Go otherwise fetches the toolchain that it would rather have.
    command.args(arguments).current_dir(folder).env("GOTOOLCHAIN", "local").env("GOFLAGS", "-mod=mod");
    let output =
        command.output().with_context(|| format!("{} isn't there: scripts/test lists it", program.display()))?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{} {arguments:?}: {}\n{said}", program.display(), output.status);
    Ok(String::from_utf8(output.stdout)?)
}

#[tokio::test(flavor = "multi_thread")]
async fn programs_of_the_page_mint_tokens_that_are_taken() -> Result<()> {
    let page = fs::read_to_string(repository().join("docs/auth.md"))?;
    let folder = tempfile::tempdir()?;
    let here = folder.path();
    run(here, "sh", &["-ec", block(&page, "sh")?])?;
    let mut minted = Vec::new();
    for (language, file) in [("js", "mint.mjs"), ("python", "mint.py"), ("go", "mint.go")] {
        fs::write(here.join(file), block(&page, language)?)?;
        let output = match language {
            "js" => run(here, "node", &[file])?,
            "python" => run(here, python()?, &[file])?,
            _ => run(here, "go", &["run", file])?,
        };
        let tokens: Vec<String> = output.lines().map(str::to_owned).collect();
        ensure!(tokens.len() == 2, "{language} printed {} lines", tokens.len());
        minted.push((language, tokens));
    }

    // The gateway is set up as the page says.
    let settings: runtime::Config = toml::from_str(block(&page, "toml")?)?;
    let public_key = fs::read_to_string(here.join("public.pem"))?;
    let auth = [
        ("auth.hs256_secret", ""),
        ("auth.public_key_pem", public_key.as_str()),
        ("auth.algorithm", settings.auth.algorithm.as_str()),
        ("auth.issuer", settings.auth.issuer.as_str()),
        ("auth.audience", settings.auth.audience.as_str()),
    ];
    let installation = Installation::make_on(Servers::shared()?, "minting", &auth).await?;
    let process = installation.run(&["all"]).await?;
    let gateway = process.gateway()?;
    for (language, tokens) in minted {
        let alice = Person::with_token(gateway, "alice", &tokens[0]).get("/v1/users/me").await?.expect(200)?;
        ensure!(alice["user_id"] == "alice" && alice["name"] == "Alice", "{language}: {alice}");
        let service = Person::with_token(gateway, "backend", &tokens[1]);
        let members = json!([{ "user_id": "alice", "role": "owner" }]);
        service.put(&format!("/v1/chats/by-{language}"), json!({ "members": members })).await?.expect(201)?;
        service.delete("/v1/users/alice").await?.expect_problem(403, "scope_missing", None)?;
    }
    Ok(())
}
