//! A part of a bench that runs as a process of its own, so that its CPU time and memory can be told from what is measured:
//! this program again, which takes orders as lines of JSON and answers each with one.

use std::process::Stdio;

use anyhow::{Context, Result, anyhow, bail};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};

#[derive(Serialize, Deserialize)]
enum Answer<T> {
    Done(T),
    Failed(String),
}

/// The process. Dropped, it is killed.
pub(crate) struct Helper {
    child: Child,
    orders: ChildStdin,
    answers: Lines<BufReader<ChildStdout>>,
    what: &'static str,
}

impl Helper {
    /// Starts `bench <what>`.
    pub(crate) fn start(what: &'static str) -> Result<Self> {
        let program = std::env::current_exe().context("this program's own file")?;
        let mut command = Command::new(program);
        command.args(["bench", what]).stdin(Stdio::piped()).stdout(Stdio::piped()).kill_on_drop(true);
        let mut child = command.spawn().with_context(|| format!("starting the process of {what}"))?;
        let pipes = child.stdin.take().zip(child.stdout.take());
        let (orders, answers) = pipes.context("a process without pipes")?;
        Ok(Self { child, orders, answers: BufReader::new(answers).lines(), what })
    }

    /// Gives an order and waits for the answer.
    pub(crate) async fn ask<A: DeserializeOwned>(&mut self, order: &impl Serialize) -> Result<A> {
        let mut line = serde_json::to_vec(order)?;
        line.push(b'\n');
        let said = async {
            self.orders.write_all(&line).await?;
            self.answers.next_line().await
        };
        let answer = said.await.ok().flatten().with_context(|| format!("the process of {} has ended", self.what))?;
        match serde_json::from_str(&answer)? {
            Answer::Done(answer) => Ok(answer),
            Answer::Failed(reason) => bail!("{}: {reason}", self.what),
        }
    }

    pub(crate) fn pid(&self) -> Result<u32> {
        self.child.id().with_context(|| format!("the process of {} has ended", self.what))
    }

    /// SIGKILL; returns when it is gone.
    pub(crate) async fn kill(&mut self) -> Result<()> {
        Ok(self.child.kill().await?)
    }
}

/// The helper's own end: takes orders until whoever gives them is gone.
pub(crate) async fn serve<O: DeserializeOwned>(
    mut take: impl AsyncFnMut(O) -> Result<serde_json::Value>,
) -> Result<()> {
    let mut orders = BufReader::new(tokio::io::stdin()).lines();
    let mut out = tokio::io::stdout();
    while let Some(line) = orders.next_line().await? {
        let done = match serde_json::from_str(&line) {
            Ok(order) => take(order).await,
            Err(error) => Err(anyhow!("an order that can't be read: {error}")),
        };
        let answer = match done {
            Ok(answer) => Answer::Done(answer),
            Err(error) => Answer::Failed(format!("{error:#}")),
        };
        let mut line = serde_json::to_vec(&answer)?;
        line.push(b'\n');
        out.write_all(&line).await?;
        out.flush().await?;
    }
    Ok(())
}
