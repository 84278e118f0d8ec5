//! Messages out of a socket.

use std::future::poll_fn;
use std::io;
use std::mem::MaybeUninit;
use std::pin::Pin;
use std::task::{Poll, ready};

use tokio::io::{AsyncRead, ReadBuf};

use super::parser::Parser;
use super::{Broken, Message};

/// Bytes read at a time, into the stack.
const READ_BYTES: usize = 8_192;

/// The reading half of a connection.
pub(crate) struct Reader<R> {
    io: R,
    parser: Parser,
}

impl<R: AsyncRead + Unpin> Reader<R> {
    /// Messages have at most so many bytes; compressed ones are taken if that was agreed on.
    pub(crate) const fn new(io: R, most_bytes: usize, is_deflated: bool) -> Self {
        Self { io, parser: Parser::new(most_bytes, is_deflated) }
    }

    /// The next message; none once the socket has ended. Nothing is lost if the future is dropped.
    pub(crate) async fn next(&mut self) -> Option<Result<Message, Broken>> {
        loop {
            match self.parser.next() {
                Ok(Some(message)) => return Some(Ok(message)),
                Err(broken) => return Some(Err(broken)),
                Ok(None) => {}
            }
            let Self { io, parser } = self;
            if !matches!(read(io, |bytes| parser.feed(bytes)).await, Ok(1..)) {
                return None;
            }
        }
    }

    /// Reads whatever comes, to the end.
    pub(crate) async fn drain(&mut self) {
        while matches!(read(&mut self.io, |_| {}).await, Ok(1..)) {}
    }
}

async fn read<R: AsyncRead + Unpin>(io: &mut R, mut take: impl FnMut(&[u8])) -> io::Result<usize> {
    poll_fn(|context| {
        // Here and not in the future, which would hold it for as long as the client is silent.
        let mut bytes = [MaybeUninit::uninit(); READ_BYTES];
        let mut bytes = ReadBuf::uninit(&mut bytes);
        ready!(Pin::new(&mut *io).poll_read(context, &mut bytes))?;
        take(bytes.filled());
        Poll::Ready(Ok(bytes.filled().len()))
    })
    .await
}
