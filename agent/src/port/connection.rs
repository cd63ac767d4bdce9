//! An admitted connection.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpStream, UnixStream};
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::Sleep;
use tokio_rustls::server::TlsStream;
use tonic::transport::server::Connected;

use super::caller::{Caller, Place};

/// The preface of HTTP/2 and the header of the following frame.
const GREETING_BYTES: usize = 24 + 9;

/// The byte stream of a connection.
#[derive(Debug)]
pub(super) enum Io {
    Unix(UnixStream),
    Tls(Box<TlsStream<TcpStream>>),
}

/// A connection of an authenticated caller. It releases its slots on drop.
#[derive(Debug)]
pub struct Connection {
    io: Io,
    caller: Caller,
    greeting: Option<Greeting>,
    _places: (Place, OwnedSemaphorePermit),
}

#[derive(Debug)]
struct Greeting {
    missing: usize,
    until: Pin<Box<Sleep>>,
}

impl Connection {
    pub(super) fn new(
        io: Io,
        caller: Caller,
        places: (Place, OwnedSemaphorePermit),
        greeting: Duration,
    ) -> Self {
        let until = Box::pin(tokio::time::sleep(greeting));
        let greeting = Some(Greeting { missing: GREETING_BYTES, until });
        Self { io, caller, greeting, _places: places }
    }
}

impl Connected for Connection {
    type ConnectInfo = Caller;

    fn connect_info(&self) -> Caller {
        self.caller.clone()
    }
}

/// Calls the method of either kind of stream.
macro_rules! stream {
    ($io:expr, $method:ident $(, $argument:expr)*) => {
        match $io {
            Io::Unix(stream) => Pin::new(stream).$method($($argument),*),
            Io::Tls(stream) => Pin::new(stream.as_mut()).$method($($argument),*),
        }
    };
}

impl AsyncRead for Connection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        if let Some(greeting) = &mut this.greeting
            && greeting.until.as_mut().poll(context).is_ready()
        {
            return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
        }
        let before = buffer.filled().len();
        let read = stream!(&mut this.io, poll_read, context, buffer);
        if let Some(greeting) = &mut this.greeting {
            greeting.missing = greeting.missing.saturating_sub(buffer.filled().len() - before);
            if greeting.missing == 0 {
                this.greeting = None;
            }
        }
        read
    }
}

impl AsyncWrite for Connection {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        stream!(&mut self.io, poll_write, context, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        stream!(&mut self.io, poll_write_vectored, context, bytes)
    }

    fn is_write_vectored(&self) -> bool {
        match &self.io {
            Io::Unix(stream) => stream.is_write_vectored(),
            Io::Tls(stream) => stream.is_write_vectored(),
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        stream!(&mut self.io, poll_flush, context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        stream!(&mut self.io, poll_shutdown, context)
    }
}
