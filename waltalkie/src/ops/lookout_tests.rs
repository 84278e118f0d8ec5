use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use axum::Router;
use axum::routing::get;
use tokio::net::TcpListener;

use super::*;

/// A peer that counts how often it is asked for its metrics.
async fn peer(metrics: String, process: &str) -> (String, Arc<AtomicUsize>) {
    let asked = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&asked);
    let process = process.to_owned();
    let tell = move || {
        counter.fetch_add(1, Ordering::SeqCst);
        let answer = ([(PROCESS, process.clone())], metrics.clone());
        async move { answer }
    };
    let readyz = r#"{"roles":[{"role":"cdc","is_healthy":true,"is_ready":true}]}"#;
    let router = Router::new().route("/metrics", get(tell)).route("/readyz", get(move || async move { readyz }));
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = format!("http://{}", listener.local_addr().expect("an address"));
    tokio::spawn(async move { axum::serve(listener, router).await });
    (address, asked)
}

fn lookout(peers: &[String]) -> Lookout {
    let health = Health::default();
    let _ = health.role("gateway");
    Lookout::new("http://127.0.0.1:1".into(), peers, health, Models::new(&runtime::Config::default()).expect("none"))
        .expect("a client")
}

async fn processes(lookout: &Lookout) -> Vec<Value> {
    let look: Value = serde_json::from_slice(&lookout.look().await).expect("JSON");
    look["processes"].as_array().expect("processes").clone()
}

#[tokio::test]
async fn peers_are_asked_once_a_second_for_all_who_look() {
    let (address, asked) = peer("x 1\n".into(), "other").await;
    let lookout = lookout(std::slice::from_ref(&address));
    let looks = join_all((0..20).map(|_| lookout.look())).await;
    assert!(looks.windows(2).all(|pair| pair[0] == pair[1]));
    assert_eq!(asked.load(Ordering::SeqCst), 1);
    let processes = processes(&lookout).await;
    assert_eq!(processes.len(), 2);
    assert_eq!(processes[0]["readyz"]["roles"][0]["role"], "gateway");
    assert_eq!((&processes[1]["address"], &processes[1]["metrics"]), (&json!(address), &json!("x 1\n")));
}

#[tokio::test]
async fn its_own_address_among_the_peers_is_no_second_process() {
    let mut lookout = lookout(&[]);
    let (address, _) = peer("x 1\n".into(), &lookout.process).await;
    lookout.peers.push(address.clone());
    let processes = processes(&lookout).await;
    assert_eq!(processes.len(), 1);
    assert_eq!(processes[0]["address"], json!(address));
}

#[tokio::test]
async fn a_peer_that_is_gone_is_told_of_with_the_roles_that_it_had() {
    let nobody = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = format!("http://{}", nobody.local_addr().expect("an address"));
    drop(nobody);
    let lookout = lookout(std::slice::from_ref(&address));
    lookout.seen.lock().await.readyz.insert(address, json!({ "roles": [{ "role": "persister" }] }));
    let processes = processes(&lookout).await;
    assert_eq!(processes[1]["problem"], "nobody listens there");
    assert_eq!(processes[1]["readyz"]["roles"][0]["role"], "persister");
    assert!(processes[1].get("metrics").is_none());
}

#[tokio::test]
async fn an_answer_without_end_is_not_read_to_its_end() {
    let (address, _) = peer("x".repeat(LIMIT + 1), "other").await;
    let problem = processes(&lookout(&[address])).await[1]["problem"].as_str().unwrap_or_default().to_owned();
    assert!(problem.contains("longer than"), "{problem}");
}

#[tokio::test]
async fn a_peer_that_hangs_is_not_waited_for() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = format!("http://{}", listener.local_addr().expect("an address"));
    let lookout = lookout(&[address]);
    let began = Instant::now();
    assert_eq!(processes(&lookout).await[1]["problem"], "no answer within 1 s");
    assert!(began.elapsed() < PATIENCE * 3);
}
