use super::*;

fn status() -> Status {
    Status {
        slot: "waltalkie".into(),
        exists: true,
        is_active: true,
        plugin: "pgoutput".into(),
        is_failover: Some(true),
        wal_status: "reserved".into(),
        invalidation_reason: None,
        server_lsn: "0/300".into(),
        restart_lsn: Some("0/100".into()),
        confirmed_flush_lsn: "0/200".into(),
        wal_retained_bytes: 512,
        safe_wal_bytes: Some(20 << 20),
        lag_bytes: 256,
        lag: Some(Lag { ms: 12, is: LagKind::Measured }),
        events_per_s: Some(12.3),
        window_ms: 1_100,
        last_event_age_ms: Some(61_000),
        lease_holder: Some("w".into()),
        lease_left_ms: Some(1_000),
        streamer: Some(Streamer {
            pid: 7,
            client: Some("10.0.0.1:5000".into()),
            connected_ms: Some(7_200_000),
            sent_lsn: Some("0/300".into()),
            received_lsn: Some("0/300".into()),
        }),
        position: Some(StoredPosition {
            commit_lsn: "0/1F0".into(),
            ordinal: 3,
            confirmable_lsn: "0/200".into(),
            age_ms: 400,
        }),
        problems: Vec::new(),
    }
}

#[test]
fn people_see_each_part() {
    let seen = text(&status(), Paint { is_on: false });
    let expected = "\
✓ slot waltalkie: all is well

  worker     w holds the lease; process 7 of the server streams from 10.0.0.1:5000 for 2 h
  slot       active, pgoutput, WAL reserved, 20 MB more may be written, a failover slot
  position   published up to 0/200, last row 3 of commit 0/1F0; written 400 ms ago
  WAL        0/100 kept ─ 0/200 confirmed ─ 0/200 published ─ 0/300 end; 512 bytes kept for the slot
  lag        256 bytes not known to be published; commits wait 12 ms or less
  events     12/s over 1.1 s; the last occurred 1 min ago
";
    assert_eq!(seen, expected);
}

#[test]
fn problems_come_last_and_whole() {
    let gone = Status {
        exists: false,
        is_active: false,
        restart_lsn: None,
        lag: None,
        events_per_s: None,
        lease_holder: None,
        streamer: None,
        position: None,
        problems: vec!["one; mend it".into(), "two; mend it".into()],
        ..status()
    };
    let seen = text(&gone, Paint { is_on: false });
    assert!(seen.starts_with("✗ slot waltalkie: 2 problems\n"), "{seen}");
    assert!(seen.contains("nobody holds the lease, nobody streams") && seen.contains("isn't there"), "{seen}");
    assert!(seen.ends_with("\n✗ one; mend it\n\n✗ two; mend it\n"), "{seen}");
}

#[test]
fn colours_add_nothing_but_colours() {
    let painted = text(&status(), Paint { is_on: true });
    let mut plain = painted.clone();
    for code in ["\x1b[32m", "\x1b[31m", "\x1b[2m", "\x1b[0m"] {
        assert!(code == "\x1b[31m" || plain.contains(code), "{code:?} is nowhere");
        plain = plain.replace(code, "");
    }
    assert_eq!(plain, text(&status(), Paint { is_on: false }));
}
