use proptest::prelude::*;

use super::*;
use crate::bench::plan::Sizes;
use waltalkie_client::Via;

fn ledger(members: usize, messages: usize) -> Ledger {
    let sizes = Sizes { people: members, chats: 1, members, content_bytes: 40, messages_per_run: messages, runs: 1 };
    let ledger = Ledger::new(Arc::new(Plan::new(sizes, 7, 1)), 100.0, 0);
    ledger.start(0, Instant::now());
    ledger
}

fn event(ledger: &Ledger, number: usize, seq: i64) -> Event {
    Event {
        chat_id: "c".into(),
        seq,
        kind: "message".into(),
        message_id: Some(ledger.plan.message_id(number)),
        message_seq: Some(seq),
        sender_id: None,
        actor_id: None,
        content: Some(ledger.plan.content(number)),
        attachments: Vec::new(),
        memberships: Vec::new(),
        via: Via::Live,
    }
}

/// A perfect run, except for what `spoil` does to one delivery.
fn run(members: usize, messages: usize, mut spoil: impl FnMut(usize, u32, &mut Event) -> usize) -> Ledger {
    let ledger = ledger(members, messages);
    for number in 0..messages {
        let due = ledger.due(number).expect("started");
        ledger.sent(number, due);
        ledger.accepted(number, due + Duration::from_millis(2));
        ledger.persisted(number, Some(number as i64 + 1), due + Duration::from_millis(5));
        for person in 0..members as u32 {
            let mut event = event(&ledger, number, number as i64 + 1);
            for _ in 0..spoil(number, person, &mut event) {
                ledger.shown(person, number, &event, due + Duration::from_millis(10));
            }
        }
    }
    ledger
}

#[test]
fn latency_counts_from_the_due_time_and_for_others_only() {
    let ledger = run(4, 50, |_, _, _| 1);
    assert!(ledger.is_complete(0) && ledger.faults(0).is_none());
    let screen = ledger.run(0).screen.lock().unwrap().clone();
    assert_eq!(screen.len(), 50 * 3);
    for quantile in [0.0, 0.5, 1.0] {
        assert!(screen.value_at_quantile(quantile).abs_diff(10_000) <= 10);
    }
    assert!(ledger.run(0).accepted.lock().unwrap().max().abs_diff(2_000) <= 2);
    let between = ledger.run(0).accepted_to_persisted.lock().unwrap().clone();
    assert_eq!(between.len(), 50);
    assert!(between.min().abs_diff(3_000) <= 3 && between.max().abs_diff(3_000) <= 3);
}

#[test]
fn one_ack_that_says_both_has_nothing_between() {
    let ledger = ledger(2, 1);
    let at = ledger.due(0).unwrap() + Duration::from_millis(7);
    ledger.accepted(0, at);
    ledger.persisted(0, Some(1), at);
    assert_eq!(ledger.run(0).accepted_to_persisted.lock().unwrap().len(), 0);
    assert_eq!(ledger.run(0).persisted.lock().unwrap().len(), 1);
}

#[test]
fn a_stall_counts_for_every_message_that_it_held_up() {
    let ledger = ledger(2, 100);
    // Due every 10 ms; all of them leave and arrive together, a second after the first was due.
    let stalled = ledger.due(0).unwrap() + Duration::from_secs(1);
    for number in 0..100 {
        ledger.shown(1 - ledger.plan.sends[number].1, number, &event(&ledger, number, number as i64 + 1), stalled);
    }
    let median_us = ledger.run(0).screen.lock().unwrap().value_at_quantile(0.5);
    assert!((490_000..=520_000).contains(&median_us), "{median_us}");
}

#[test]
fn refusals_and_silence_are_told_apart_from_losses() {
    let ledger = ledger(3, 3);
    ledger.refused(0);
    ledger.accepted(1, Instant::now());
    assert_eq!(ledger.faults(0), Faults { lost: 3, unanswered: 2, ..Faults::default() });
    assert_eq!(ledger.missing(0).collect::<Vec<_>>(), [(1, 0), (2, 0)]);
    assert!(!ledger.is_complete(0));
}

proptest! {
    #[test]
    fn each_spoiled_delivery_is_counted(at in 0usize..30, person in 0u32..5, what in 0..5) {
        let ledger = run(5, 30, |number, to, event| {
            if (number, to) != (at, person) {
                return 1;
            }
            match what {
                0 => 0,
                1 => 2,
                2 => { event.seq += 1; 1 }
                3 => { event.content = None; 1 }
                _ => 1,
            }
        });
        let expected = match what {
            0 => Faults { lost: 1, ..Faults::default() },
            1 | 2 => Faults { repeated: 1, ..Faults::default() },
            3 => Faults { altered: 1, ..Faults::default() },
            _ => Faults::default(),
        };
        prop_assert_eq!(ledger.faults(0), expected);
        prop_assert_eq!(ledger.is_complete(0), what != 0);
    }

    #[test]
    fn a_senders_messages_out_of_order_are_counted(swap in 0usize..29) {
        let ledger = ledger(2, 30);
        for number in 0..30 {
            let place = match number {
                n if n == swap => swap + 1,
                n if n == swap + 1 => swap,
                n => n,
            };
            ledger.persisted(number, Some(place as i64 + 1), Instant::now());
        }
        let same_sender = ledger.plan.sends[swap] == ledger.plan.sends[swap + 1];
        prop_assert_eq!(ledger.faults(0).out_of_order, u64::from(same_sender));
    }
}
