//! A frame as it goes over a socket: made once, header and all, and shared by every connection that gets it. A server's
//! frames aren't masked (RFC 6455, section 5.1), so they are the same for everybody.

use std::future::poll_fn;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::task::{Context, Poll, ready};

use runtime::trace::Span;
use tokio::io::AsyncWrite;

use super::deflate;

const TEXT: u8 = 0x81;
const COMPRESSED_TEXT: u8 = 0xC1;
const CLOSE: u8 = 0x88;
const PING: u8 = 0x89;
const PONG: u8 = 0x8A;
/// Most frames of one system call.
const SLICES: usize = 64;

/// A shared frame.
#[derive(Debug, Clone)]
pub(crate) struct Frame(Arc<Bytes>);

#[derive(Debug)]
struct Bytes {
    plain: Box<[u8]>,
    payload_at: u8,
    /// For connections that agreed on compression, made when the first of them is written; none if it isn't smaller.
    deflated: OnceLock<Option<Box<[u8]>>>,
    span: Option<FirstWrite>,
}

/// The span of an event's frame, which ends when the first socket has taken it: later ones may be slow people's.
#[derive(Debug, Clone)]
pub(crate) struct FirstWrite(Arc<Mutex<Option<Span>>>);

impl FirstWrite {
    pub(crate) fn of(span: Span) -> Self {
        Self(Arc::new(Mutex::new(Some(span))))
    }

    fn end(&self) {
        let span = self.0.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(span) = span {
            span.end();
        }
    }
}

impl Frame {
    fn new(first: u8, payload: &[u8]) -> Self {
        Self::with_span(first, payload, None)
    }

    /// A text frame, with the span of the event that it shows, if that is sampled.
    pub(crate) fn text_of(text: &str, span: Option<FirstWrite>) -> Self {
        Self::with_span(TEXT, text.as_bytes(), span)
    }

    fn with_span(first: u8, payload: &[u8], span: Option<FirstWrite>) -> Self {
        let plain = encode(first, payload);
        let payload_at = (plain.len() - payload.len()) as u8;
        let deflated = if first == TEXT { OnceLock::new() } else { OnceLock::from(None) };
        Self(Arc::new(Bytes { plain, payload_at, deflated, span }))
    }

    /// Whether it is the very same frame, not one like it.
    #[cfg(test)]
    pub(crate) fn is_same(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }

    pub(crate) fn ping() -> Self {
        Self::new(PING, &[])
    }

    /// The answer to a ping, with its payload.
    pub(crate) fn pong(payload: &[u8]) -> Self {
        Self::new(PONG, payload)
    }

    /// `reason` has at most 123 bytes.
    pub(crate) fn close(code: Option<u16>, reason: &str) -> Self {
        let code = code.map(u16::to_be_bytes);
        Self::new(CLOSE, &[code.as_ref().map_or(&[][..], |code| &code[..]), reason.as_bytes()].concat())
    }

    /// Bytes on the way, if it isn't compressed.
    pub(crate) fn len(&self) -> usize {
        self.0.plain.len()
    }

    fn bytes(&self, is_deflated: bool) -> &[u8] {
        let plain = &self.0.plain;
        if !is_deflated {
            return plain;
        }
        let deflated = self.0.deflated.get_or_init(|| {
            deflate::deflate(&plain[usize::from(self.0.payload_at)..]).map(|packed| encode(COMPRESSED_TEXT, &packed))
        });
        deflated.as_deref().unwrap_or(plain)
    }

    /// The text of a text frame.
    #[cfg(test)]
    pub(crate) fn text(&self) -> &str {
        std::str::from_utf8(&self.0.plain[usize::from(self.0.payload_at)..]).expect("text")
    }
}

impl From<String> for Frame {
    fn from(text: String) -> Self {
        Self::new(TEXT, text.as_bytes())
    }
}

fn encode(first: u8, payload: &[u8]) -> Box<[u8]> {
    let mut bytes = Vec::with_capacity(10 + payload.len());
    bytes.push(first);
    match payload.len() {
        length @ 0..=125 => bytes.push(length as u8),
        length @ 126..=0xFFFF => {
            bytes.push(126);
            bytes.extend((length as u16).to_be_bytes());
        }
        length => {
            bytes.push(127);
            bytes.extend((length as u64).to_be_bytes());
        }
    }
    bytes.extend_from_slice(payload);
    bytes.into_boxed_slice()
}

/// Frames on their way into a socket, several in one system call and none of them copied. How far it has come is kept
/// here, not in the future: whoever gives that up, in the middle of a frame too, can go on with what the frame lacks.
#[derive(Default)]
pub(crate) struct Writing {
    frames: Vec<Frame>,
    next: usize,
    /// Bytes of the next frame that are written.
    offset: usize,
}

impl Writing {
    /// Room for more frames.
    pub(crate) const fn frames(&mut self) -> &mut Vec<Frame> {
        &mut self.frames
    }

    /// Forgets frames that aren't begun.
    pub(crate) fn forget_rest(&mut self) {
        self.frames.truncate(self.next + usize::from(self.offset > 0));
    }

    /// Writes all that is left, and keeps room for so many more.
    pub(crate) async fn write<W>(&mut self, io: &mut W, is_deflated: bool, kept: usize) -> io::Result<()>
    where
        W: AsyncWrite + Unpin,
    {
        poll_fn(|context| self.poll_write(io, is_deflated, context)).await?;
        (self.next, self.offset) = (0, 0);
        self.frames.clear();
        self.frames.shrink_to(kept);
        Ok(())
    }

    fn poll_write<W>(&mut self, io: &mut W, is_deflated: bool, context: &mut Context<'_>) -> Poll<io::Result<()>>
    where
        W: AsyncWrite + Unpin,
    {
        while self.next < self.frames.len() {
            let mut slices = [IoSlice::new(&[]); SLICES];
            let count = slices.len().min(self.frames.len() - self.next);
            for (slice, frame) in slices.iter_mut().zip(&self.frames[self.next..]) {
                *slice = IoSlice::new(frame.bytes(is_deflated));
            }
            slices[0].advance(self.offset);
            let mut written = ready!(Pin::new(&mut *io).poll_write_vectored(context, &slices[..count]))?;
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            written += self.offset;
            self.offset = 0;
            for frame in &self.frames[self.next..self.next + count] {
                let length = frame.bytes(is_deflated).len();
                if written < length {
                    self.offset = written;
                    break;
                }
                written -= length;
                self.next += 1;
                if let Some(span) = &frame.0.span {
                    span.end();
                }
            }
        }
        Pin::new(&mut *io).poll_flush(context)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::AsyncReadExt;

    #[test]
    fn lengths_are_written_as_short_as_they_go() {
        for (length, header) in [(0, 2), (125, 2), (126, 4), (65_535, 4), (65_536, 10)] {
            let frame = Frame::from("x".repeat(length));
            assert_eq!((frame.len(), frame.text().len()), (header + length, length));
        }
    }

    #[test]
    fn compressed_text_is_marked_and_short_text_stays() {
        let frame = Frame::from("compress me ".repeat(50));
        let packed = frame.bytes(true);
        assert!(packed.len() < frame.len() / 4 && packed[0] == COMPRESSED_TEXT);
        assert!(std::ptr::eq(packed, frame.clone().bytes(true)), "compressed once, whoever gets it");
        assert_eq!(deflate::inflate(packed[2..].to_vec(), 1_000), Ok(frame.text().as_bytes().to_vec()));
        assert_eq!(Frame::from("short".to_owned()).bytes(true)[0], TEXT);
        assert_eq!(Frame::close(Some(4_008), "slow").bytes(true), [0x88, 6, 0x0F, 0xA8, b's', b'l', b'o', b'w']);
    }

    /// However little the socket takes at a time.
    #[tokio::test]
    async fn every_byte_is_written_once_and_in_order() {
        let frames: Vec<Frame> = (0..200).map(|n| Frame::from("abc".repeat(n))).collect();
        let expected: Vec<u8> = frames.iter().flat_map(|frame| frame.bytes(false).to_vec()).collect();
        for room in [1, 7, 1_000, 1 << 20] {
            let (mut near, mut far) = tokio::io::duplex(room);
            let reading = tokio::spawn(async move {
                let mut read = Vec::new();
                far.read_to_end(&mut read).await.map(|_| read)
            });
            let mut writing = Writing::default();
            writing.frames().extend(frames.iter().cloned());
            writing.write(&mut near, false, 0).await.expect("written");
            drop(near);
            assert_eq!(reading.await.expect("joined").expect("read"), expected);
        }
    }

    /// A socket that takes everything, and counts how often it is asked to.
    #[derive(Default)]
    struct Counting {
        writes: usize,
        bytes: usize,
    }

    impl AsyncWrite for Counting {
        fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
            self.poll_write_vectored(context, &[IoSlice::new(bytes)])
        }

        fn poll_write_vectored(
            self: Pin<&mut Self>,
            _: &mut Context<'_>,
            slices: &[IoSlice<'_>],
        ) -> Poll<io::Result<usize>> {
            let taken: usize = slices.iter().map(|slice| slice.len()).sum();
            let counting = self.get_mut();
            counting.writes += 1;
            counting.bytes += taken;
            Poll::Ready(Ok(taken))
        }

        fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }

        fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }
    }

    #[tokio::test]
    async fn many_frames_are_few_writes() {
        let frames: Vec<Frame> = (0..3 * SLICES + 8).map(|n| Frame::from("abc".repeat(n))).collect();
        let expected: usize = frames.iter().map(Frame::len).sum();
        let (mut socket, mut writing) = (Counting::default(), Writing::default());
        writing.frames().extend(frames);
        writing.write(&mut socket, false, 0).await.expect("written");
        assert_eq!((socket.writes, socket.bytes), (4, expected));
    }

    /// Somebody else's turn in the middle of a frame: it is ended, and what follows it is a frame again.
    #[tokio::test]
    async fn a_frame_that_was_given_up_is_ended_before_others_come() {
        let frames: Vec<Frame> = (1..50).map(|n| Frame::from("abc".repeat(n))).collect();
        let goodbye = Frame::close(Some(4_008), "slow");
        let whole: Vec<u8> = frames.iter().flat_map(|frame| frame.bytes(false).to_vec()).collect();
        for room in 1..200 {
            let (mut near, mut far) = tokio::io::duplex(room);
            let mut writing = Writing::default();
            writing.frames().extend(frames.iter().cloned());
            let given_up = tokio::time::timeout(std::time::Duration::ZERO, writing.write(&mut near, false, 0)).await;
            assert!(given_up.is_err(), "nobody reads");
            writing.forget_rest();
            writing.frames().push(goodbye.clone());
            let reading = tokio::spawn(async move {
                let mut read = Vec::new();
                far.read_to_end(&mut read).await.map(|_| read)
            });
            writing.write(&mut near, false, 0).await.expect("written");
            drop(near);
            let read = reading.await.expect("joined").expect("read");
            let begun = read.strip_suffix(goodbye.bytes(false)).expect("the last frame is whole");
            assert!(whole.starts_with(begun) && begun.len() >= room, "{room}");
            let ends = frames.iter().scan(0, |end, frame| {
                *end += frame.bytes(false).len();
                Some(*end)
            });
            assert!(ends.into_iter().any(|end| end == begun.len()), "{room}: cut in the middle of a frame");
        }
    }
}
