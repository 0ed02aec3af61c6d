//! The floor: what fan-out costs when nothing is done but the system calls.
//!
//! A server for the bare dialect in one thread: a broadcast is encoded once and sent to one subscriber after the
//! other, at once. No limits, no rights, no order but that of arrival, no answers but to subscriptions. It is a
//! measure, not a broker: nothing can deliver a message to a thousand sockets for less, unless it sends several
//! messages at a time.
//!
//! [`readiness`] does it by `epoll_wait(2)`, `recv(2)` and `send(2)`, [`uring`] by an io_uring of its own;
//! [`protocol`] is all of it that is no system call, and the same in both.

mod protocol;
mod readiness;
#[cfg(test)]
mod tests;
mod uring;

use std::io::{self, Write};
use std::net::{SocketAddr, TcpListener};

use anyhow::Context;
use clap::{Args, ValueEnum};
use socket2::{Domain, Protocol, Socket, Type};

const BACKLOG: i32 = 4096;

/// The floor of a fan-out, as a server: comparisons start it themselves.
///
/// One thread that sends an encoded frame to each subscriber, and does nothing else that a broker does. It speaks
/// the bare dialect: the text message `S<channel>` subscribes, `P<channel> <data>` sends `<data>` to all
/// subscribers. Prints where it listens, and runs until it is killed.
#[derive(Args, Clone, Debug)]
pub(crate) struct Options {
    /// Where to listen
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:0")]
    listen: SocketAddr,
    /// By which system calls
    #[arg(long, value_enum, default_value_t)]
    io: Io,
}

#[derive(ValueEnum, Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Io {
    /// epoll_wait(2), recv(2), and a send(2) for each delivery
    #[default]
    Readiness,
    /// io_uring: multishot accept and receive, and many sends by one io_uring_enter(2)
    Uring,
}

/// Serves until the listener fails.
///
/// # Errors
/// It cannot listen, the epoll set fails, or the kernel has no io_uring as it is wanted here.
pub(crate) fn run(options: &Options) -> anyhow::Result<()> {
    let listener = listen(options.listen)?;
    println!("ws://{}/", listener.local_addr()?);
    io::stdout().flush()?;
    serve(options, listener)
}

fn listen(address: SocketAddr) -> anyhow::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    // Those that are accepted inherit it.
    socket.set_tcp_nodelay(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into()).with_context(|| format!("cannot listen at {address}"))?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

fn serve(options: &Options, listener: TcpListener) -> anyhow::Result<()> {
    match options.io {
        Io::Readiness => readiness::Server::new(listener)?.serve(),
        Io::Uring => uring::Server::new(listener)?.serve(),
    }
}
