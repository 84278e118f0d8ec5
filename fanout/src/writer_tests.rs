//! Tests of the outgoing queue and its writer.

use super::*;

fn frame(text: &str) -> Frame {
    text.to_owned().into()
}

#[tokio::test]
async fn a_full_queue_ends_the_connection_and_lets_go_of_its_frames() {
    let outgoing = Outgoing::new(1_000);
    for _ in 0..10 {
        outgoing.push(frame("0123456789"));
    }
    assert!(!outgoing.has_ended());
    for _ in 0..10 {
        outgoing.push(frame("0123456789"));
    }
    assert_eq!(outgoing.ended().await, Close::SLOW);
    assert_eq!(outgoing.bytes(), 0);
    assert!(!outgoing.gather_with_room(frame("late")).await);
}

#[tokio::test]
async fn a_greeting_may_be_longer_than_the_limit_and_what_follows_may_not() {
    let outgoing = Outgoing::new(1_000);
    outgoing.push(frame("hello"));
    let pages = BATCH_FRAMES + 20;
    outgoing.greet(vec![frame("0123456789"); pages]);
    assert!(!outgoing.has_ended() && !outgoing.has_room() && !outgoing.has_room_for(1));
    for _ in 0..10 {
        outgoing.push(frame("0123456789"));
    }
    assert!(!outgoing.has_ended());
    let mut batch = Vec::new();
    outgoing.take(&mut batch);
    assert_eq!(batch.len(), BATCH_FRAMES);
    // What has left makes no room for others: it never counted.
    for _ in 0..10 {
        outgoing.push(frame("0123456789"));
    }
    assert_eq!(outgoing.ended().await, Close::SLOW);
}

/// Whether the writer has been woken since the last look.
async fn is_woken(outgoing: &Outgoing) -> bool {
    tokio::time::timeout(Duration::ZERO, outgoing.filled.notified()).await.is_ok()
}

#[tokio::test]
async fn what_is_gathered_waits_until_it_is_flushed_or_much_or_somebody_pushes() {
    let outgoing = Outgoing::new(1 << 20);
    outgoing.gather(frame("one"));
    assert!(!is_woken(&outgoing).await);
    outgoing.flush();
    assert!(is_woken(&outgoing).await);
    assert_eq!(outgoing.take_all().len(), 1);
    outgoing.flush();
    assert!(!is_woken(&outgoing).await, "nothing waits");

    outgoing.gather(frame("one"));
    outgoing.push(frame("two"));
    assert!(is_woken(&outgoing).await);
    outgoing.take_all();

    let long = frame(&"x".repeat(1_000));
    for _ in 0..GATHER_BYTES / cost(&long) {
        outgoing.gather(long.clone());
        assert!(!is_woken(&outgoing).await);
    }
    outgoing.gather(long);
    assert!(is_woken(&outgoing).await);
}

#[tokio::test(start_paused = true)]
async fn hello_goes_with_the_chats_unless_they_take_long() {
    for (after_ms, together) in [(150, true), (250, false)] {
        let (mut io, mut client) = tokio::io::duplex(4_096);
        let outgoing = std::sync::Arc::new(Outgoing::new(1 << 20));
        outgoing.gather(frame("hello"));
        let writer = std::sync::Arc::clone(&outgoing);
        let writing = tokio::spawn(async move { writer.write(&mut io, &mut Writing::default(), false).await });
        let greeting = async {
            tokio::time::sleep(Duration::from_millis(after_ms)).await;
            outgoing.greet(vec![frame("chats")]);
        };
        let mut bytes = [0; 64];
        let (read, ()) = tokio::join!(tokio::io::AsyncReadExt::read(&mut client, &mut bytes), greeting);
        let first = String::from_utf8_lossy(&bytes[..read.expect("bytes")]).into_owned();
        assert_eq!((first.contains("hello"), first.contains("chats")), (true, together), "{first:?}");
        writing.abort();
    }
}

#[test]
fn bytes_are_counted_down_by_batches() {
    let outgoing = Outgoing::new(1 << 20);
    for _ in 0..=BATCH_FRAMES {
        outgoing.push(frame("0123456789"));
    }
    let mut batch = Vec::new();
    outgoing.take(&mut batch);
    assert_eq!((batch.len(), outgoing.bytes()), (BATCH_FRAMES, 12 + FRAME_OVERHEAD_BYTES));
}
