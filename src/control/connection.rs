//! One TCP connection of an HTTP client, taken over from a shard or accepted here.

use std::{
    io,
    mem::MaybeUninit,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use socket2::SockRef;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
    time::{Sleep, sleep},
};

use super::line::Line;

/// Bytes of an endless answer that may wait in the system to be sent. What waits there counts as
/// taken by the client, so it is not to be much.
const STREAM_UNSENT_BYTES: u32 = 16 << 10;

/// A TCP stream that first yields what was read of it already, and that fails when the peer
/// takes no bytes for too long: nobody holds a connection by not reading. While its answer is
/// endless, it also fails when the peer ends its half.
#[derive(Debug)]
pub(super) struct Connection {
    stream: TcpStream,
    head: Vec<u8>,
    /// How much of `head` was read again.
    replayed: usize,
    write_timeout: Duration,
    /// Runs while the peer takes nothing.
    stalled: Option<Pin<Box<Sleep>>>,
    line: Line,
    /// Whether the answer is known to be endless.
    is_stream: bool,
}

impl Connection {
    /// Reads from `stream`, but `head` first.
    pub(super) fn new(stream: TcpStream, head: Vec<u8>, write_timeout: Duration, line: Line) -> Self {
        Self { stream, head, replayed: 0, write_timeout, stalled: None, line, is_stream: false }
    }

    /// Fails if nobody wants the endless answer any more: hyper reads nothing while it answers, and
    /// would find out by a write too many.
    fn check_peer(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        if !self.line.is_stream() {
            return Ok(());
        }
        if !self.is_stream {
            self.is_stream = true;
            // Best effort: without it, more is lost with a client that does not read.
            let _ = SockRef::from(&self.stream).set_tcp_notsent_lowat(STREAM_UNSENT_BYTES);
        }
        let mut byte = [MaybeUninit::uninit()];
        match self.stream.poll_peek(cx, &mut ReadBuf::uninit(&mut byte)) {
            Poll::Ready(Ok(0)) => Err(io::Error::new(io::ErrorKind::ConnectionAborted, "the peer is gone")),
            Poll::Ready(Err(error)) => Err(error),
            Poll::Ready(Ok(_)) | Poll::Pending => Ok(()),
        }
    }

    /// Passes on the outcome of a write, unless it has been pending for too long.
    fn watch<T>(&mut self, cx: &mut Context<'_>, outcome: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if outcome.is_ready() {
            self.stalled = None;
            return outcome;
        }
        let timeout = self.write_timeout;
        let stalled = self.stalled.get_or_insert_with(|| Box::pin(sleep(timeout)));
        ready!(stalled.as_mut().poll(cx));
        Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, "the peer takes no bytes")))
    }
}

impl AsyncRead for Connection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        let left = &this.head[this.replayed..];
        if left.is_empty() {
            return Pin::new(&mut this.stream).poll_read(cx, buffer);
        }
        let taken = left.len().min(buffer.remaining());
        buffer.put_slice(&left[..taken]);
        this.replayed += taken;
        if this.replayed == this.head.len() {
            (this.head, this.replayed) = (Vec::new(), 0);
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Connection {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.check_peer(cx)?;
        let outcome = Pin::new(&mut self.stream).poll_write(cx, bytes);
        self.watch(cx, outcome)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.check_peer(cx)?;
        let outcome = Pin::new(&mut self.stream).poll_write_vectored(cx, slices);
        self.watch(cx, outcome)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.check_peer(cx)?;
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
