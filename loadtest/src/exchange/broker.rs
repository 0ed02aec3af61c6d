//! The floor: a broker without logic. One ROUTER socket in one thread; it forwards what clients send to workers in
//! turn, as far as their windows allow, acknowledges it to the client, and takes the workers' acknowledgements.

use std::collections::VecDeque;
use std::io::Write;

use anyhow::Context;
use clap::Args;

/// A broker without logic, as the floor of `trigger` and `request`, which start it themselves.
///
/// One ROUTER socket on one thread: what a client sends as `TR` goes to the next worker whose window has room, and is
/// acknowledged to the client; `BC` is only acknowledged. Prints where it listens, and runs until it is killed.
#[derive(Args, Clone, Debug)]
pub(crate) struct Options {
    /// Where to listen
    #[arg(long, value_name = "ENDPOINT", default_value = "tcp://127.0.0.1:*")]
    listen: String,
}

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
    Broker { socket, workers: Vec::new(), next: 0, waiting: VecDeque::new(), count: 0 }.serve()
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
