//! Shards at work, seen from a test.

use std::{
    fs,
    net::{SocketAddr, TcpStream},
    os::fd::AsRawFd,
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, atomic::AtomicU64},
    time::Duration,
};

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::{
    runtime::{Builder, Runtime},
    sync::mpsc::Receiver,
    time::timeout,
};
use webrocket::driver::{self, DriverError, DriverOptions, FromShard, Io, IoMode, Mailbox, Threads};
use webrocket_state::{SessionRef, ShardId};

use crate::machine::{Command, Manner, Report, Shower};

/// Both hosts.
pub(crate) const HOSTS: [IoMode; 2] = [IoMode::Uring, IoMode::Epoll];

/// After this a test that waits has failed.
const PATIENCE: Duration = Duration::from_secs(60);

/// One test at a time: they count the process's descriptors, and two cores are soon busy.
pub(crate) fn serially() -> MutexGuard<'static, ()> {
    static TURN: Mutex<()> = Mutex::new(());
    TURN.lock().unwrap_or_else(PoisonError::into_inner)
}

/// How many descriptors this process has open.
pub(crate) fn descriptors() -> usize {
    fs::read_dir("/proc/self/fd").unwrap().count()
}

/// Leaves this process `more` descriptors until dropped.
pub(crate) fn limit_descriptors(more: u64) -> impl Drop {
    struct Restore(Rlimit);
    impl Drop for Restore {
        fn drop(&mut self) {
            setrlimit(Resource::Nofile, self.0).unwrap();
        }
    }
    let limit = getrlimit(Resource::Nofile);
    // The lowest free number is given out next.
    let next = u64::try_from(fs::File::open("/dev/null").unwrap().as_raw_fd()).unwrap();
    setrlimit(Resource::Nofile, Rlimit { current: Some(next + more), ..limit }).unwrap();
    Restore(limit)
}

/// Shards with showing machines.
pub(crate) struct Node {
    pub(crate) address: SocketAddr,
    pub(crate) io: Io,
    pub(crate) accept_pauses: Arc<AtomicU64>,
    mailboxes: Vec<Mailbox<Command>>,
    reports: Receiver<FromShard<Report>>,
    threads: Threads,
    turns: Arc<Turns>,
    runtime: Runtime,
}

/// Counts the turns of all shards.
#[derive(Default)]
struct Turns {
    count: Mutex<u64>,
    grown: Condvar,
}

impl Turns {
    fn count(&self) -> MutexGuard<'_, u64> {
        self.count.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Node {
    pub(crate) fn try_start(
        io: IoMode,
        shards: u16,
        manner: Manner,
        adjust: impl FnOnce(&mut DriverOptions),
    ) -> Result<Self, DriverError> {
        let turns = Arc::new(Turns::default());
        let counted = Arc::clone(&turns);
        let mut options = DriverOptions::new("127.0.0.1:0".parse().unwrap(), shards);
        options.io = io;
        options.publish = Arc::new(move |_, _| {
            *counted.count() += 1;
            counted.grown.notify_all();
        });
        adjust(&mut options);
        let running = driver::start(&options, move |id| Shower::new(id, shards, manner))?;
        Ok(Self {
            address: running.address,
            io: running.io,
            accept_pauses: running.accept_pauses,
            mailboxes: running.mailboxes,
            reports: running.reports,
            threads: running.threads,
            turns,
            runtime: Builder::new_current_thread().enable_time().build().unwrap(),
        })
    }

    pub(crate) fn start(
        io: IoMode,
        shards: u16,
        manner: Manner,
        adjust: impl FnOnce(&mut DriverOptions),
    ) -> Self {
        Self::try_start(io, shards, manner, adjust).unwrap()
    }

    pub(crate) fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(self.address).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_write_timeout(Some(PATIENCE)).unwrap();
        stream
    }

    pub(crate) fn command(&self, shard: ShardId, command: Command) {
        self.mailboxes[shard.index()].try_send(command).expect("tests send few commands");
    }

    /// The next word of any shard.
    pub(crate) fn next(&mut self) -> FromShard<Report> {
        let next = self.runtime.block_on(async { timeout(PATIENCE, self.reports.recv()).await });
        next.expect("nothing came").expect("the shards have stopped")
    }

    /// The next report of any shard, and whose.
    pub(crate) fn report(&mut self) -> (ShardId, Report) {
        match self.next() {
            FromShard::Report(shard, report) => (shard, report),
            FromShard::HandOff(hand_off) => panic!("{hand_off:?}"),
        }
    }

    /// The session whose acceptance is reported next.
    pub(crate) fn accepted(&mut self) -> SessionRef {
        match self.report() {
            (shard, Report::Accepted(session, _)) if session.shard == shard => session,
            other => panic!("{other:?}"),
        }
    }

    /// Waits until shard 0 has done all that it was told.
    pub(crate) fn ping(&mut self) {
        self.command(ShardId(0), Command::Ping);
        assert_eq!(self.report(), (ShardId(0), Report::Pong));
    }

    /// That the shards take no turns but those that commands ask for.
    pub(crate) fn assert_sleeping(&mut self) {
        const COMMANDS: u64 = 50;
        // One that finds the command; one for its wake, if the shard was awake already; one for a poll of its
        // host that was armed before; and the one under way.
        const TURNS_PER_COMMAND: u64 = 4;
        let before = *self.turns.count();
        for _ in 0..COMMANDS {
            self.ping();
        }
        let turns = *self.turns.count() - before;
        assert!(turns <= COMMANDS * TURNS_PER_COMMAND, "{turns} turns for {COMMANDS} commands");
    }

    /// Waits for a turn after which `is_so`.
    pub(crate) fn await_turn(&self, is_so: impl Fn() -> bool) {
        let waited = self.turns.grown.wait_timeout_while(self.turns.count(), PATIENCE, |_| !is_so());
        assert!(!waited.unwrap().1.timed_out(), "no turn brought it about");
    }

    /// Stops the shards and waits for their end.
    pub(crate) fn stop(mut self) {
        for shard in 0..self.mailboxes.len() {
            self.command(ShardId(u16::try_from(shard).unwrap()), Command::Stop);
        }
        let end = async { while self.reports.recv().await.is_some() {} };
        self.runtime.block_on(async { timeout(PATIENCE, end).await }).expect("the shards do not stop");
        self.threads.join();
    }
}
