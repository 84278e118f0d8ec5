use proptest::prelude::*;
use tokio::io::AsyncWriteExt;

use super::*;

fn copy_data(body: &[u8]) -> Vec<u8> {
    [&[COPY_DATA], ((body.len() + 4) as u32).to_be_bytes().as_slice(), body].concat()
}

fn data(lsn: u64, payload: &[u8]) -> Vec<u8> {
    copy_data(&[b"w".as_slice(), &lsn.to_be_bytes(), &[0; 16], payload].concat())
}

fn keepalive(lsn: u64, asks: bool) -> Vec<u8> {
    copy_data(&[b"k".as_slice(), &lsn.to_be_bytes(), &[0; 8], &[u8::from(asks)]].concat())
}

/// LSN, and payload unless it was a keepalive.
type Seen = (u64, Option<Vec<u8>>);

/// What a stream makes of bytes that arrive in pieces.
fn read(bytes: &[u8], piece: usize) -> Result<Vec<Seen>, ReplicationError> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let (near, mut far) = tokio::io::duplex(64);
        let mut stream = ReplicationStream::new(Channel { transport: Box::new(near), buffer: BytesMut::new() });
        let writing = async {
            for piece in bytes.chunks(piece.max(1)) {
                if far.write_all(piece).await.is_err() {
                    break;
                }
            }
            drop(far);
        };
        let mut seen = Vec::new();
        let reading = async {
            loop {
                while let Some(message) = stream.next_message()? {
                    seen.push(match message {
                        Incoming::Data { wal_start, payload } => (wal_start.0, Some(payload.to_vec())),
                        Incoming::Keepalive { wal_end, .. } => (wal_end.0, None),
                    });
                }
                match stream.fill(false).await {
                    Err(ReplicationError::Ended) => return Ok(()),
                    other => other?,
                }
            }
        };
        let (outcome, ()) = tokio::join!(reading, writing);
        outcome.map(|()| seen)
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn messages_come_back_however_they_are_cut(
        payloads in proptest::collection::vec(proptest::option::of(proptest::collection::vec(any::<u8>(), 0..200)), 0..20),
        piece in 1_usize..100,
    ) {
        let mut bytes = Vec::new();
        let mut expected = Vec::new();
        for (lsn, payload) in payloads.into_iter().enumerate() {
            bytes.extend(match &payload {
                Some(payload) => data(lsn as u64, payload),
                None => keepalive(lsn as u64, false),
            });
            expected.push((lsn as u64, payload));
        }
        prop_assert_eq!(read(&bytes, piece).expect("a stream"), expected);
    }

    #[test]
    fn any_bytes_are_an_error_or_a_stream(bytes in proptest::collection::vec(any::<u8>(), 0..100)) {
        let _ = read(&bytes, 100);
    }
}

#[test]
fn a_message_larger_than_the_buffer_arrives_whole() {
    let payload = vec![7; READ_BYTES * 3];
    let bytes = [data(1, &payload), keepalive(2, true)].concat();
    assert_eq!(read(&bytes, 10_000).expect("a stream"), [(1, Some(payload)), (2, None)]);
}

#[test]
fn an_error_of_the_server_is_told_in_its_words() {
    let body = b"SERROR\0C57P01\0Mterminating connection\0\0";
    let bytes = [&[ERROR], ((body.len() + 4) as u32).to_be_bytes().as_slice(), body].concat();
    let error = read(&bytes, 100).expect_err("an error");
    assert!(error.is_transient());
    let ReplicationError::Server { source, .. } = error else { panic!("{error:?}") };
    assert_eq!((source.code.as_str(), source.message.as_str()), ("57P01", "terminating connection"));
}

#[test]
fn a_report_has_the_protocols_shape() {
    let message = status_update(Lsn(3), Lsn(2), 7);
    assert_eq!(message.len(), 39);
    assert_eq!(&message[..6], [b'd', 0, 0, 0, 38, b'r']);
    assert_eq!(&message[6..14], 3_u64.to_be_bytes());
    assert_eq!(&message[14..22], 2_u64.to_be_bytes());
    assert_eq!(&message[30..38], 7_i64.to_be_bytes());
    assert_eq!(message[38], 0, "asks for no answer");
}
