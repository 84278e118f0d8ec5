use super::*;

fn mark(lsn: u64) -> Mark {
    Mark { place: Place { commit_lsn: Lsn(lsn), ordinal: 0 }, confirmable: Lsn(lsn) }
}

fn after(start: Instant, ms: u64) -> Instant {
    start + Duration::from_millis(ms)
}

#[test]
fn only_what_is_committed_is_flushed() {
    let start = Instant::now();
    let mut progress = Progress::new(mark(100), start);
    let number = progress.hand(start);
    let feedback = progress.last_report(Lsn(500), start);
    assert_eq!(feedback, Feedback { written: Lsn(500), flushed: Lsn(100) });
    progress.commit(number, mark(400));
    let feedback = progress.last_report(Lsn(500), start);
    assert_eq!(feedback, Feedback { written: Lsn(500), flushed: Lsn(400) });
}

#[test]
fn an_idle_slot_moves_every_ten_seconds() {
    let start = Instant::now();
    let mut progress = Progress::new(mark(100), start);
    assert!(!progress.wants_position(Lsn(200), after(start, 9_999)));
    assert!(progress.wants_position(Lsn(200), after(start, 10_000)));
    assert!(!progress.wants_position(Lsn(100), after(start, 60_000)), "nothing to say");
    let number = progress.hand(after(start, 10_000));
    assert!(!progress.wants_position(Lsn(200), after(start, 60_000)), "one is on its way");
    progress.commit(number, mark(200));
    assert!(!progress.wants_position(Lsn(300), after(start, 10_001)));
    assert!(progress.wants_position(Lsn(300), after(start, 20_000)));
}

#[test]
fn a_question_with_nothing_pending_moves_the_slot_at_once_and_is_answered_then() {
    let start = Instant::now();
    let mut progress = Progress::new(mark(100), start);
    progress.ask(Lsn(200), start);
    assert_eq!(progress.report(Lsn(200), after(start, 1)), None, "a better answer is coming");
    assert!(progress.wants_position(Lsn(200), after(start, 1)));
    let number = progress.hand(after(start, 1));
    assert_eq!(progress.report(Lsn(200), after(start, 2)), None);
    progress.commit(number, mark(200));
    let feedback = progress.report(Lsn(200), after(start, 5)).expect("the answer");
    assert_eq!(feedback, Feedback { written: Lsn(200), flushed: Lsn(200) });
    assert_eq!(progress.report(Lsn(200), after(start, 6)), None, "once");
    progress.ask(Lsn(200), after(start, 7));
    assert!(progress.report(Lsn(200), after(start, 7)).is_some(), "nothing to wait for");
}

#[test]
fn while_kafka_is_away_a_question_is_answered_once_a_second_and_a_burst_means_the_end() {
    let start = Instant::now();
    let mut progress = Progress::new(mark(100), start);
    progress.hand(start);
    let mut answers = 0;
    let mut ms = 0;
    // The server asks again the moment that it is answered.
    progress.ask(Lsn(300), start);
    while !progress.is_server_stopping() {
        ms += 10;
        if let Some(feedback) = progress.report(Lsn(300), after(start, ms)) {
            assert_eq!(feedback.flushed, Lsn(100));
            answers += 1;
            progress.ask(Lsn(300), after(start, ms));
        }
        assert!(ms < 60_000, "never noticed");
    }
    assert!((3..=4).contains(&answers), "{answers} answers in {ms} ms");
    assert!(ms >= 3_000);
}

#[test]
fn unasked_reports_come_by_the_timer() {
    let start = Instant::now();
    let mut progress = Progress::new(mark(100), start);
    let reports = (0..10_000_u64)
        .filter(|ms| {
            // Something new arrives every millisecond.
            progress.report(Lsn(100 + ms), after(start, *ms)).is_some()
        })
        .count();
    assert!((15..=20).contains(&reports), "{reports} in 10 s");
    let reports = (10_000..40_000_u64).filter(|ms| progress.report(Lsn(10_099), after(start, *ms)).is_some()).count();
    assert!((4..=7).contains(&reports), "{reports} in 30 s of silence");
}

#[test]
fn questions_that_are_satisfied_are_no_burst() {
    let start = Instant::now();
    let mut progress = Progress::new(mark(100), start);
    for round in 0..20_u64 {
        let lsn = 200 + round;
        progress.ask(Lsn(lsn), start);
        let number = progress.hand(start);
        progress.commit(number, mark(lsn));
        assert!(progress.report(Lsn(lsn), start).is_some());
        assert!(!progress.is_server_stopping());
    }
}
