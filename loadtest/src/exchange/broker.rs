//! The floor: a broker without logic.
//!
//! Triggers: one ROUTER socket in one thread. It forwards what clients send to workers in turn, as far as their windows
//! allow, acknowledges it to the client, and takes the workers' acknowledgements.
//!
//! Requests: a ROUTER in one thread, to which clients come, and behind it a DEALER to a second thread that acknowledges,
//! as an owner does; or, as an echo, nothing behind it.

use std::collections::VecDeque;
use std::io::Write;

use anyhow::Context;
use clap::Args;

/// A broker without logic, as the floor of `trigger` and `request`, which start it themselves.
///
/// One ROUTER socket on one thread: what a client sends as `TR` goes to the next worker whose window has room, and is
/// acknowledged to the client; `BC` is acknowledged at once. With --forward, whatever comes goes through a DEALER to a
/// second thread, which acknowledges it. Prints where it listens, and runs until it is killed.
#[derive(Args, Clone, Debug)]
pub(crate) struct Options {
    /// Where to listen
    #[arg(long, value_name = "ENDPOINT", default_value = "tcp://127.0.0.1:*")]
    listen: String,
    /// Pass all messages on to a second thread, and its acknowledgements back
    #[arg(long)]
    forward: bool,
}

/// Where the second thread is.
const BEHIND: &str = "inproc://behind";

/// Messages that a turn takes before it looks for more by `zmq_poll`.
const TURN: usize = 256;

struct Worker {
    id: Vec<u8>,
    room: u32,
}

/// Runs the broker until its socket fails.
///
/// # Errors
/// It cannot listen, or its socket fails.
pub(crate) fn run(options: &Options) -> anyhow::Result<()> {
    let context = zmq::Context::new();
    let socket = context.socket(zmq::ROUTER).context("cannot make a ROUTER socket")?;
    socket.set_sndhwm(0)?;
    socket.set_rcvhwm(0)?;
    socket.bind(&options.listen).with_context(|| format!("cannot listen at {}", options.listen))?;
    let endpoint = socket.get_last_endpoint()?;
    let endpoint = endpoint.map_err(|_| anyhow::anyhow!("the endpoint is no text"))?;
    println!("{endpoint}");
    std::io::stdout().flush()?;
    if options.forward {
        return forward(&context, &socket);
    }
    Broker { socket, workers: Vec::new(), next: 0, waiting: VecDeque::new(), count: 0 }.serve()
}

/// Passes messages on and answers back, as they come.
fn forward(context: &zmq::Context, front: &zmq::Socket) -> anyhow::Result<()> {
    let unbounded = |kind| -> anyhow::Result<zmq::Socket> {
        let socket = context.socket(kind).context("cannot make a DEALER socket")?;
        socket.set_sndhwm(0)?;
        socket.set_rcvhwm(0)?;
        Ok(socket)
    };
    let back = unbounded(zmq::DEALER)?;
    back.bind(BEHIND)?;
    let behind = unbounded(zmq::DEALER)?;
    behind.connect(BEHIND)?;
    std::thread::spawn(move || acknowledge(&behind));
    loop {
        let mut items = [front.as_poll_item(zmq::POLLIN), back.as_poll_item(zmq::POLLIN)];
        zmq::poll(&mut items, -1)?;
        let [is_asked, is_answered] = items.map(|item| item.is_readable());
        if is_asked {
            pass(front, &back)?;
        }
        if is_answered {
            pass(&back, front)?;
        }
    }
}

/// Passes on what is there, a turn's worth.
fn pass(from: &zmq::Socket, to: &zmq::Socket) -> anyhow::Result<()> {
    for _ in 0..TURN {
        let mut frame = match from.recv_msg(zmq::DONTWAIT) {
            Ok(frame) => frame,
            Err(zmq::Error::EAGAIN) => return Ok(()),
            Err(error) => return Err(error.into()),
        };
        while frame.get_more() {
            to.send(frame, zmq::SNDMORE)?;
            frame = from.recv_msg(0)?;
        }
        to.send(frame, 0)?;
    }
    Ok(())
}

/// Acknowledges each message, until the sockets are gone.
fn acknowledge(socket: &zmq::Socket) -> anyhow::Result<()> {
    loop {
        let name = socket.recv_msg(0)?;
        let mut more = name.get_more();
        while more {
            more = socket.recv_msg(0)?.get_more();
        }
        socket.send(name, zmq::SNDMORE)?;
        socket.send("", zmq::SNDMORE)?;
        socket.send("OK", 0)?;
    }
}

struct Broker {
    socket: zmq::Socket,
    workers: Vec<Worker>,
    next: usize,
    waiting: VecDeque<zmq::Message>,
    count: u64,
}

impl Broker {
    fn serve(&mut self) -> anyhow::Result<()> {
        let mut frames = Vec::new();
        loop {
            zmq::poll(&mut [self.socket.as_poll_item(zmq::POLLIN)], -1)?;
            for _ in 0..TURN {
                if !self.receive(&mut frames)? {
                    break;
                }
                self.handle(&mut frames)?;
            }
        }
    }

    fn receive(&self, frames: &mut Vec<zmq::Message>) -> anyhow::Result<bool> {
        frames.clear();
        let mut frame = match self.socket.recv_msg(zmq::DONTWAIT) {
            Ok(frame) => frame,
            Err(zmq::Error::EAGAIN) => return Ok(false),
            Err(error) => return Err(error.into()),
        };
        loop {
            let more = frame.get_more();
            frames.push(frame);
            if !more {
                return Ok(true);
            }
            frame = self.socket.recv_msg(0)?;
        }
    }

    fn handle(&mut self, frames: &mut Vec<zmq::Message>) -> anyhow::Result<()> {
        match &*frames[2] {
            b"TR" => {
                let payload = frames.pop().context("a trigger has a payload")?;
                self.reply(&frames[0])?;
                self.waiting.push_back(payload);
            }
            b"BC" => self.reply(&frames[0])?,
            b"AK" => {
                let worker = self.workers.iter_mut().find(|worker| worker.id[..] == frames[0][..]);
                worker.context("a worker that is none")?.room += 1;
            }
            b"RD" => {
                let window = std::str::from_utf8(&frames[4])?.parse()?;
                self.workers.push(Worker { id: frames[0].to_vec(), room: window });
            }
            b"QT" => self.workers.retain(|worker| worker.id[..] != frames[0][..]),
            _ => {}
        }
        self.forward()
    }

    fn reply(&self, to: &[u8]) -> anyhow::Result<()> {
        self.send(to, &[b"", b"OK"])
    }

    fn forward(&mut self) -> anyhow::Result<()> {
        while !self.waiting.is_empty()
            && let Some(index) = self.next_with_room()
        {
            let payload = self.waiting.pop_front().context("just looked")?;
            self.count += 1;
            self.workers[index].room -= 1;
            let id = self.count.to_string();
            self.send(&self.workers[index].id, &[b"", b"TR", &payload, id.as_bytes()])?;
        }
        Ok(())
    }

    fn next_with_room(&mut self) -> Option<usize> {
        let count = self.workers.len();
        let index = (0..count).map(|step| (self.next + step) % count);
        let index = index.into_iter().find(|index| self.workers[*index].room > 0)?;
        self.next = index + 1;
        Some(index)
    }

    fn send(&self, to: &[u8], frames: &[&[u8]]) -> anyhow::Result<()> {
        self.socket.send(to, zmq::SNDMORE)?;
        let (last, others) = frames.split_last().context("a message has frames")?;
        for frame in others {
            self.socket.send(*frame, zmq::SNDMORE)?;
        }
        Ok(self.socket.send(*last, 0)?)
    }
}
