//! One token for the end of a process: stop intake, drain, commit, exit.

use std::future::Future;
use std::time::Duration;

use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// Says when to stop and waits for everybody who was told. Clones speak of the same end.
#[derive(Debug, Clone, Default)]
pub struct Shutdown {
    token: CancellationToken,
    tasks: TaskTracker,
}

impl Shutdown {
    /// A new life.
    pub fn new() -> Self {
        Self::default()
    }

    /// A part of this life that can be ended on its own, and ends with it. Its tasks are waited for by both.
    pub fn child(&self) -> Self {
        Self { token: self.token.child_token(), tasks: self.tasks.clone() }
    }

    /// Tells everybody to stop.
    pub fn begin(&self) {
        self.token.cancel();
    }

    /// Whether it is time to stop.
    pub fn has_begun(&self) -> bool {
        self.token.is_cancelled()
    }

    /// Waits until it is time to stop.
    pub async fn begun(&self) {
        self.token.cancelled().await;
    }

    /// Runs a task that is waited for at the end. There are no others: nothing runs detached.
    pub fn spawn<F>(&self, task: F) -> tokio::task::JoinHandle<F::Output>
    where
        F: Future<Output: Send + 'static> + Send + 'static,
    {
        self.tasks.spawn(task)
    }

    /// Waits for a while, or less if it is time to stop; says whether to go on.
    pub async fn pause(&self, duration: Duration) -> bool {
        tokio::select! {
            biased;
            () = self.token.cancelled() => false,
            () = tokio::time::sleep(duration) => true,
        }
    }

    /// Tells everybody to stop and waits for their tasks, at most `deadline`; says whether all came to an end.
    pub async fn finish(&self, deadline: Duration) -> bool {
        self.begin();
        self.tasks.close();
        tokio::time::timeout(deadline, self.tasks.wait()).await.is_ok()
    }
}
