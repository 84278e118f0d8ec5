//! A thread for one loop.
//!
//! The shared runtime always has a thread that waits on every socket, and each segment that arrives wakes it. On a thread
//! of its own a loop that knows that more is coming can sleep over it: nobody waits on its sockets meanwhile.

use tokio::sync::oneshot;

/// Runs a task on a new thread with a runtime of its own, on which everything that it spawns runs too. As with any task,
/// dropping what is returned drops the task. Fails if there is no thread or runtime to be had, or if the task panics.
pub async fn run<F, T>(name: &str, make: impl FnOnce() -> F + Send + 'static) -> std::io::Result<T>
where
    F: Future<Output = T>,
    T: Send + 'static,
{
    let (wanted, unwanted) = oneshot::channel::<std::convert::Infallible>();
    let (sender, outcome) = oneshot::channel();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    std::thread::Builder::new().name(name.to_owned()).spawn(move || {
        let outcome = runtime.block_on(async {
            tokio::select! {
                biased;
                _ = unwanted => None,
                outcome = make() => Some(outcome),
            }
        });
        // Without waiting for calls that block.
        runtime.shutdown_background();
        if let Some(outcome) = outcome {
            // Whoever wanted it may have gone in this moment.
            let _ = sender.send(outcome);
        }
    })?;
    let outcome = outcome.await;
    drop(wanted);
    outcome.map_err(|_| std::io::Error::other(format!("the thread {name} ended without a word")))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[tokio::test]
    async fn a_task_runs_on_a_thread_of_its_own() {
        let name = || std::thread::current().name().map(str::to_owned);
        let told = run("loop", move || async move { tokio::spawn(async move { name() }).await }).await;
        assert_eq!(told.expect("a thread").expect("a task").as_deref(), Some("loop"));
    }

    #[tokio::test]
    async fn dropping_it_drops_the_task() {
        let (mut alive, dropped) = oneshot::channel::<()>();
        let running = run("loop", move || async move {
            let _dropped = dropped;
            std::future::pending::<()>().await;
        });
        assert!(tokio::time::timeout(Duration::from_millis(50), running).await.is_err(), "it runs for ever");
        alive.closed().await;
    }

    #[tokio::test]
    async fn a_panic_is_an_error() {
        let outcome = run("loop", || async { panic!("as the test wants it") }).await;
        assert!(outcome.is_err_and(|error| error.to_string().contains("loop")));
    }
}
