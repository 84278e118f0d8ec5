//! `clients/python/` holds what `docs/clients.md` says: its own tests, on an installation.

use std::process::Command;

use anyhow::{Result, ensure};
use waltalkie_tests::harness::{Installation, LONG, Lines, ObjectStore, Person, Servers, python, repository};

const MIB: u64 = 1 << 20;

/// `python -m unittest` in the client's folder; unbuffered, so that its lines come when they are printed.
fn unittest(names: &[&str]) -> Result<Command> {
    let mut command = Command::new(python()?);
    command.args(["-u", "-B", "-m", "unittest", "-v"]).args(names).current_dir(repository().join("clients/python"));
    Ok(command)
}

/// The same with three people at a gateway.
async fn unittest_with_people(installation: &Installation, gateway: &str, names: &[&str]) -> Result<Command> {
    let config = installation.config()?;
    let mut command = unittest(names)?;
    command.env("WALTALKIE_URL", gateway);
    for user_id in ["alice", "bob", "echo"] {
        let person = Person::arrive(&config, gateway, user_id).await?;
        command.env(format!("WALTALKIE_{}_TOKEN", user_id.to_uppercase()), person.token);
    }
    Ok(command)
}

/// Waits for the end: every test ran and none failed. Python says so on its error output.
async fn pass(mut command: Command) -> Result<()> {
    let output = tokio::task::spawn_blocking(move || command.output()).await??;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success() && said.trim_end().ends_with("\nOK"), "{}:\n{said}", output.status);
    ensure!(!said.contains("Ran 0 tests"), "{said}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn its_sync_core_passes_the_vectors() -> Result<()> {
    pass(unittest(&["test_vectors", "test_session"])?).await
}

#[tokio::test(flavor = "multi_thread")]
async fn cuts_lose_nothing_and_a_bot_answers() -> Result<()> {
    let store = ObjectStore::start().await?;
    let installation = Installation::make_on(Servers::shared()?, "python-client-talks", &store.settings()).await?;
    let process = installation.run(&["all"]).await?;
    let names = ["test_live.Conversation", "test_live.Files", "test_live.Network", "test_live.Bot"];
    pass(unittest_with_people(&installation, process.gateway()?, &names).await?).await
}

/// Parts of 16, 16 and 8 MiB: the first is cut in its middle, and the answer to the second is lost.
#[tokio::test(flavor = "multi_thread")]
async fn a_file_whose_upload_is_cut_arrives_whole_and_what_is_there_is_not_sent_again() -> Result<()> {
    let store = ObjectStore::start().await?;
    let installation = Installation::make_on(Servers::shared()?, "python-client-uploads", &store.settings()).await?;
    let process = installation.run(&["all"]).await?;
    let command = unittest_with_people(&installation, process.gateway()?, &["test_live.LargeFile"]).await?;
    store.proxy.cut_after(8 * MIB);
    store.proxy.lose_answer_after(32 * MIB);
    pass(command).await?;
    ensure!(store.proxy.resets() >= 2, "the faults never hit");
    // 8 of the cut, and 40 of the file.
    let sent = store.proxy.bytes_there();
    ensure!(sent / MIB == 48, "the store was sent {sent} bytes");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn it_goes_on_when_its_gateway_is_killed() -> Result<()> {
    let installation = Installation::make("python-client-survives").await?;
    let _behind = installation.run(&["persister", "cdc", "projector", "publisher"]).await?;
    let mut first = installation.run(&["gateway"]).await?;
    let second = installation.run(&["gateway"]).await?;
    let mut command = unittest_with_people(&installation, first.gateway()?, &["test_live.Survival"]).await?;
    command.env("WALTALKIE_OTHER_URL", second.gateway()?);
    let mut lines = Lines::of(command)?;
    let mut lines = tokio::task::spawn_blocking(move || {
        lines.wait(|line| line == "kill the gateway of alice", LONG)?;
        Ok::<_, anyhow::Error>(lines)
    })
    .await??;
    first.kill()?;
    // A failure ends it without this line, and is told with all that it printed.
    tokio::task::spawn_blocking(move || lines.wait(|line| line == "! OK", LONG)).await??;
    Ok(())
}
