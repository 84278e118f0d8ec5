//! Schemas that can't be had yet: the registry is away, or doesn't know the id. Nothing is poison because of that, and what was met
//! before is known without it.

use std::path::Path;
use std::sync::Arc;

use faults::Proxy;
use runtime::{Config, Health, Secret, Shutdown};
use schemas::registry::Registry;
use schemas::{ChatEvent, Encoder, Record};
use tokio::sync::Mutex;
use uuid::Uuid;

use crate::support::{created, sent, until, with_stack};

/// Held by whoever counts on the id that the registry gives next.
static IDS: Mutex<()> = Mutex::const_new(());

/// A schema that nobody has registered: that of events with another comment.
fn unheard_of() -> String {
    let text = ChatEvent::SCHEMA.trim_end();
    let inside = text.strip_suffix('}').expect("an object");
    format!("{inside}, \"written_by\": \"{}\"}}", Uuid::new_v4())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_schema_that_the_registry_does_not_know_yet_is_waited_for() {
    with_stack(|stack| async move {
        let url = stack.config.registry.url.expose();
        let (proxy, through) = Proxy::before_url(url).await.expect("a proxy");
        let mut config = Config::clone(&stack.config);
        config.registry.url = Secret::new(through);
        let (health, shutdown) = (Health::default(), Shutdown::new());
        let running = projections::run(Arc::new(config), health.role("projector"), shutdown.clone());
        let running = tokio::spawn(running);
        let problem = || health.statuses().remove(0).problem.unwrap_or_default();
        let head = "SELECT coalesce(max(head_seq), 0) FROM chat_head";
        stack.event(&created("c", &["alice"])).await;
        stack.until_count(head, 1).await;

        // Restarted and away while it works: the ids that it has met are known.
        proxy.cut();
        stack.event(&sent("c", 2, "alice")).await;
        stack.until_count(head, 2).await;
        proxy.refuse();
        stack.event(&sent("c", 3, "alice")).await;
        stack.until_count(head, 3).await;

        // An id that nobody has given yet, and the registry away: it waits for either.
        let _ids = IDS.lock().await;
        let registry = Registry::new(url, stack.names.prefix()).expect("a registry");
        let subject = format!("{}unheard-of-value", stack.names.prefix());
        let last = registry.register(&subject, &unheard_of()).await.expect("registered");
        let event = sent("c", 4, "alice");
        let value = Encoder::<ChatEvent>::new(last + 1).encode(&event).expect("fits");
        stack.value::<ChatEvent>("c", value, event.occurred_at).await;
        stack.event(&sent("c", 5, "alice")).await;
        until("a word about the registry", || async { problem().contains("no answer") }).await;
        proxy.heal();
        until("a word about the id", || async { problem().contains("404") }).await;
        assert!(!running.is_finished() && health.is_healthy() && !health.is_ready(), "{}", problem());
        let next = registry.register(&format!("{subject}-2"), &unheard_of()).await.expect("registered");
        assert_eq!(next, last + 1, "the registry counts its ids");
        stack.until_count(head, 5).await;
        until("ready", || async { health.is_ready() }).await;
        shutdown.begin();
        running.await.expect("no panic").expect("a good end");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ids_that_were_met_before_are_known_at_a_start_without_the_registry() {
    with_stack(|stack| async move {
        let url = stack.config.registry.url.expose();
        let (proxy, through) = Proxy::before_url(url).await.expect("a proxy");
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("registry-{}", Uuid::new_v4()));
        let mut config = Config::clone(&stack.config);
        config.registry.url = Secret::new(through);
        config.registry.cache_dir = folder.display().to_string();
        let config = Arc::new(config);
        let head = "SELECT coalesce(max(head_seq), 0) FROM chat_head";
        let registry = Registry::new(url, stack.names.prefix()).expect("a registry");
        let subject = format!("{}another-value", stack.names.prefix());
        let ids = IDS.lock().await;
        let another = registry.register(&subject, &unheard_of()).await.expect("registered");
        drop(ids);
        let another = Encoder::<ChatEvent>::new(another);
        stack.event(&created("c", &["alice"])).await;
        let mut seq = 1;
        // As it should be, then refused, then without an answer, as from a registry that hangs.
        for fault in ["none", "refused", "frozen"] {
            if fault == "refused" {
                proxy.refuse();
            } else if fault == "frozen" {
                proxy.freeze();
            }
            let resets = proxy.resets();
            let (health, shutdown) = (Health::default(), Shutdown::new());
            let running = projections::run(Arc::clone(&config), health.role("projector"), shutdown.clone());
            let running = tokio::spawn(running);
            seq += 2;
            stack.event(&sent("c", seq - 1, "alice")).await;
            // Of a schema that isn't ours.
            let event = sent("c", seq, "alice");
            stack.value::<ChatEvent>("c", another.encode(&event).expect("fits"), event.occurred_at).await;
            stack.until_count(head, seq).await;
            until("ready", || async { health.is_ready() }).await;
            assert!(proxy.resets() > resets || proxy.connections() > 0, "{fault}: nobody asked");
            shutdown.begin();
            running.await.expect("no panic").expect("a good end");
        }
        std::fs::remove_dir_all(folder).expect("removed");
    })
    .await;
}
