//! Starting the shards: options in, running threads out.
//!
//! All or none: what the system may refuse is asked for before the first machine is made.

use std::{
    io,
    net::SocketAddr,
    os::fd::AsFd,
    sync::{Arc, atomic::AtomicU64, mpsc as startup},
    thread::{self, JoinHandle},
};

use crossbeam::queue::ArrayQueue;
use tokio::sync::mpsc;
use webrocket_state::{Machine, ShardId};

use super::{
    abort::AbortOnPanic,
    affinity,
    control::ControlLine,
    error::DriverError,
    executor, host,
    listener::{self, Listener},
    mailbox::{FromShard, Mailbox},
    options::{DriverOptions, Io, IoMode},
    poller::{Poller, Timer, Token},
    probe,
    queues::{Links, Port},
    sender::Sender,
    shard::{Driver, Parts},
    turns::{LongestTurn, TurnWatch},
    wake::Wake,
};

/// Shards at work.
#[derive(Debug)]
pub struct Running<M: Machine> {
    /// Where they listen.
    pub address: SocketAddr,
    /// On which host they run, and why on that.
    pub io: Io,
    /// The way into each shard, by its id.
    pub mailboxes: Vec<Mailbox<M::Command>>,
    /// The ends of the queues that belong to the parties beside the shards, in order.
    pub ports: Vec<Port<M::Message>>,
    /// What all shards report and hand over. Ends when the last shard has ended.
    pub reports: mpsc::Receiver<FromShard<M::Report>>,
    /// Times that a shard paused accepting for want of file descriptors or socket memory.
    pub accept_pauses: Arc<AtomicU64>,
    /// The longest turn of each shard, by shard.
    pub longest_turns: Box<[Arc<LongestTurn>]>,
    /// The threads.
    pub threads: Threads,
}

impl<M: Machine> Running<M> {
    /// Waits until all shards have stopped. Whoever still wants the reports takes
    /// [`Running::reports`] out and joins [`Running::threads`].
    pub fn join(self) {
        self.threads.join();
    }
}

/// The shards' threads.
#[derive(Debug)]
pub struct Threads(Vec<JoinHandle<()>>);

impl Threads {
    /// Waits until all shards have stopped.
    pub fn join(self) {
        for thread in self.0 {
            // A panic never gets here: it aborts the process.
            thread.join().expect("a shard's thread ends or aborts the process");
        }
    }
}

/// Starts the shards, each with a machine that `make_machine` makes in its thread.
///
/// They accept connections as soon as this returns. They end when their machines say
/// [`Action::Stop`](webrocket_state::Action::Stop).
///
/// # Errors
/// The address is in use, io_uring is demanded and refused, or the system lacks something.
///
/// # Panics
/// Without a shard. A panic in a shard's thread aborts the process: half a node strands channels.
pub fn start<M: Machine + 'static>(
    options: &DriverOptions,
    make_machine: impl Fn(ShardId) -> M + Send + Clone + 'static,
) -> Result<Running<M>, DriverError> {
    assert!(options.shards > 0, "a node has at least one shard");
    let cpus = cpus(options)?;
    let io = choose(options.io, cpus[0])?;
    let listeners = listener::bind_all(options.listen, options.shards)?;
    let address = listeners[0].address();
    let accept_pauses = Arc::new(AtomicU64::new(0));
    let longest_turns: Box<[Arc<LongestTurn>]> = (0..options.shards).map(|_| Arc::default()).collect();
    let (sender, reports) = mpsc::channel(options.report_capacity);

    let parties = options.shards + options.further_parties;
    let wakes = (0..parties)
        .map(|shard| Wake::new().map(Arc::new).map_err(failed(ShardId(shard), "its eventfd")))
        .collect::<Result<Box<[_]>, _>>()?;
    let links = Arc::new(Links::new(wakes.clone(), options.queue_capacity));
    let ports =
        (options.shards..parties).map(|party| Port::new(ShardId(party), Arc::clone(&links))).collect();
    let mut mailboxes = Vec::new();
    let mut seats = Vec::new();
    for ((shard, listener), wake) in (0..options.shards).zip(listeners).zip(wakes) {
        let id = ShardId(shard);
        let (poller, timer) = watch(&listener, &wake).map_err(failed(id, "its epoll set"))?;
        let mailbox = Arc::new(ArrayQueue::new(options.mailbox_capacity));
        mailboxes.push(Mailbox::new(Arc::clone(&mailbox), wake));
        let parts = Parts::<M> {
            id,
            poller,
            timer,
            listener,
            port: Port::new(id, Arc::clone(&links)),
            mailbox,
            control: ControlLine::new(id, sender.clone()),
            publish: Arc::clone(&options.publish),
            accept_pauses: Arc::clone(&accept_pauses),
            turns: TurnWatch::new(Arc::clone(&longest_turns[id.index()])),
        };
        seats.push(Seat { parts, cpu: cpus[id.index()], is_uring: matches!(io, Io::Uring) });
    }
    // The reports end with the last shard.
    drop(sender);
    let threads = Threads::spawn(seats, make_machine)?;
    Ok(Running { address, io, mailboxes, ports, reports, accept_pauses, longest_turns, threads })
}

/// The CPU of each shard, if they shall be pinned.
fn cpus(options: &DriverOptions) -> Result<Vec<Option<usize>>, DriverError> {
    if !options.pin {
        return Ok(vec![None; usize::from(options.shards)]);
    }
    let allowed = affinity::allowed_cpus().map_err(failed(ShardId(0), "its CPU affinity"))?;
    Ok((0..options.shards).map(|shard| Some(affinity::cpu_of(ShardId(shard), &allowed))).collect())
}

/// The host for `mode`, tried out if need be.
fn choose(mode: IoMode, cpu: Option<usize>) -> Result<Io, DriverError> {
    if mode == IoMode::Epoll {
        return Ok(Io::Epoll(None));
    }
    match (probe::try_uring(cpu), mode) {
        (Ok(()), _) => Ok(Io::Uring),
        (Err(refusal), IoMode::Uring) => Err(DriverError::UringRefused(refusal)),
        (Err(refusal), IoMode::Auto | IoMode::Epoll) => Ok(Io::Epoll(Some(refusal))),
    }
}

/// An epoll set with everything in it that is no connection.
fn watch(listener: &Listener, wake: &Wake) -> io::Result<(Poller, Timer)> {
    let poller = Poller::new()?;
    let timer = Timer::new()?;
    poller.add(listener.as_fd(), Token::Listener)?;
    poller.add(wake.as_fd(), Token::Wake)?;
    poller.add(timer.as_fd(), Token::Timer)?;
    Ok((poller, timer))
}

fn failed(shard: ShardId, context: &'static str) -> impl FnOnce(io::Error) -> DriverError {
    move |source| DriverError::Shard { shard: shard.0, context, source }
}

/// What a shard's thread is given.
struct Seat<M: Machine> {
    parts: Parts<M>,
    cpu: Option<usize>,
    is_uring: bool,
}

impl<M: Machine> Seat<M> {
    /// Runs the shard to its end in this thread, once `gate` lets it.
    fn run(self, make_machine: impl FnOnce(ShardId) -> M, gate: Gate) {
        let id = self.parts.id;
        // Drivers are made behind the gate: a machine is made only if the shard will run.
        if self.is_uring {
            let executor = match executor::make(self.cpu) {
                Ok(executor) => executor,
                Err(error) => {
                    return gate.refuse(failed(id, "its executor")(io::Error::other(error.to_string())));
                }
            };
            if gate.pass() {
                host::run_on_uring(&executor, Driver::new(self.parts, make_machine(id), Sender::batching()));
            }
        } else {
            if let Some(Err(error)) = self.cpu.map(affinity::pin) {
                return gate.refuse(failed(id, "its CPU")(error));
            }
            if gate.pass() {
                host::run_on_epoll(Driver::new(self.parts, make_machine(id), Sender::plain()));
            }
        }
    }
}

/// Where shards wait at their start until all of them can run.
struct Gate {
    ready: startup::Sender<Result<(), DriverError>>,
    /// Says go; hung up if another shard cannot run.
    go: startup::Receiver<()>,
}

impl Gate {
    fn refuse(self, error: DriverError) {
        // Nobody listens any more if another shard was first to refuse.
        let _ = self.ready.send(Err(error));
    }

    fn pass(self) -> bool {
        self.ready.send(Ok(())).is_ok() && self.go.recv().is_ok()
    }
}

impl Threads {
    /// Starts a thread for each seat, or none.
    fn spawn<M: Machine + 'static>(
        seats: Vec<Seat<M>>,
        make_machine: impl Fn(ShardId) -> M + Send + Clone + 'static,
    ) -> Result<Self, DriverError> {
        let (ready, is_ready) = startup::channel();
        let mut threads = Vec::new();
        let mut starters = Vec::new();
        for seat in seats {
            let id = seat.parts.id;
            let (starter, go) = startup::channel();
            let gate = Gate { ready: ready.clone(), go };
            let make_machine = make_machine.clone();
            let thread = thread::Builder::new().name(format!("shard-{}", id.0));
            let body = move || {
                let _guard = AbortOnPanic::new(format!("shard {}", id.0));
                seat.run(make_machine, gate);
            };
            threads.push(thread.spawn(body).map_err(failed(id, "its thread"))?);
            starters.push(starter);
        }
        let mut refusals =
            threads.iter().map(|_| is_ready.recv().expect("each shard says whether it can run"));
        let refusal = refusals.find_map(Result::err);
        drop(refusals);
        if let Some(error) = refusal {
            // Hanging up sends the others home.
            drop(starters);
            Self(threads).join();
            return Err(error);
        }
        for starter in starters {
            starter.send(()).expect("a shard that can run waits for this");
        }
        Ok(Self(threads))
    }
}
