//! Starting with what is wrong: the error names where, what, and the nearest right thing.

use std::fs;

use anyhow::{Result, ensure};

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_configuration_names_file_line_key_and_the_nearest() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("waltalkie.toml");
    fs::write(&file, "development = true\n\n[gateway]\nlisten_on = \"127.0.0.1:0\"\n")?;
    let said = refusal(&["--config", &file.to_string_lossy(), "config"], &[])?;
    ensure!(
        said.contains(&format!("{}:4: unknown key `listen_on`; the nearest is `listen`", file.display())),
        "{said}"
    );
    fs::write(&file, "[kafka]\npartitions = \"a secret\"\n")?;
    let said = refusal(&["--config", &file.to_string_lossy(), "config"], &[])?;
    ensure!(said.contains("waltalkie.toml:2: "), "{said}");
    let said = refusal(&["config"], &[("WALTALKIE_KAFKA__BROKER", "secret:9092")])?;
    ensure!(said.contains("WALTALKIE_KAFKA__BROKER") && said.contains("`brokers`"), "{said}");
    ensure!(!said.contains("secret"), "a value is shown: {said}");
    let said = refusal(&["run", "gatway"], &[])?;
    ensure!(said.contains("gateway"), "{said}");
    Ok(())
}

/// What the program says when it refuses to start.
fn refusal(arguments: &[&str], variables: &[(&str, &str)]) -> Result<String> {
    let folder = tempfile::tempdir()?;
    let mut command = std::process::Command::new(waltalkie_tests::harness::program()?);
    let output = command.args(arguments).envs(variables.iter().copied()).current_dir(folder.path()).output()?;
    ensure!(!output.status.success(), "{arguments:?} was taken");
    Ok(String::from_utf8_lossy(&output.stderr).into_owned())
}
