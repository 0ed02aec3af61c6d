//! A node: its shards, its exchange and its control thread, started and stopped as one.

use std::{
    fs, io,
    net::{SocketAddr, TcpListener},
    os::unix::fs::DirBuilderExt,
    path::{Path, PathBuf},
    sync::{Arc, mpsc},
    thread,
    time::Duration,
};

use webrocket_state::{
    Directory, Shard, ShardConfig, ShardId, encoding::Encodings, exchange::ExchangeConfig,
};

use crate::{
    config::{Config, ConfigError},
    control::{
        self, Addresses, ControlConfig, ControlError, Cookie, CookieError, NodeInfo, Stopper, seed_dev,
        stop_signal,
    },
    driver::{self, DriverError, DriverOptions, Io, Running, Threads, UringRefusal, affinity},
    exchange::{self, ExchangeError, ExchangeOptions, KeyPair, KeyPairError, Sockets},
    metrics::Board,
    store::{Store, StoreError},
};

/// A node at work.
///
/// Stops when asked ([`Server::stop`]), and when dropped. A panic in any of its shards or in its exchange
/// aborts the process: half a node strands channels.
#[derive(Debug)]
pub struct Server {
    websocket_addr: SocketAddr,
    control_addr: SocketAddr,
    exchange_addr: SocketAddr,
    stream_addr: SocketAddr,
    curve_public_key: Option<String>,
    shards: u16,
    io: Io,
    cookie_file: PathBuf,
    stopper: Stopper,
    threads: Option<NodeThreads>,
}

/// A node's threads.
#[derive(Debug)]
struct NodeThreads {
    shards: Threads,
    exchange: thread::JoinHandle<()>,
    control: thread::JoinHandle<Result<(), ControlError>>,
}

/// The node cannot start, or ended in error.
#[derive(Debug, thiserror::Error)]
pub enum ServerError {
    /// The configuration cannot be used.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The data directory cannot be made.
    #[error("cannot make the data directory {path}: {source}", path = path.display())]
    DataDirectory {
        /// Which one.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// The store cannot be used.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The cookie cannot be used.
    #[error(transparent)]
    Cookie(#[from] CookieError),
    /// Somebody listens on the control address already.
    #[error(
        "cannot listen on {address}: it is in use; stop what listens there or choose another --control-addr"
    )]
    ControlInUse {
        /// Where.
        address: SocketAddr,
    },
    /// The control address cannot be listened on.
    #[error("cannot listen on {address}: {source}")]
    ControlListen {
        /// Where.
        address: SocketAddr,
        /// What the system says.
        source: io::Error,
    },
    /// The shards cannot start.
    #[error(transparent)]
    Driver(#[from] DriverError),
    /// The exchange's key pair cannot be used.
    #[error(transparent)]
    KeyPair(#[from] KeyPairError),
    /// The exchange cannot start.
    #[error(transparent)]
    Exchange(#[from] ExchangeError),
    /// The control thread cannot go on.
    #[error(transparent)]
    Control(#[from] ControlError),
    /// The system gives no threads or no random numbers.
    #[error("the system does not give what a node needs: {0}")]
    System(#[source] io::Error),
}

impl Server {
    /// Starts a node and returns when it is ready: it listens, and everything stored is in effect.
    ///
    /// # Errors
    /// One sentence that says what stands in the way; nothing is left running.
    pub fn start(config: &Config) -> Result<Self, ServerError> {
        config.check()?;
        let node_name = config.node_name()?;
        let key_file = config.exchange_curve_secret_key_file.as_deref();
        let key_pair = key_file.map(KeyPair::load).transpose()?;
        make_data_directory(&config.data_dir)?;
        let store = if config.dev {
            let store = Store::in_memory()?;
            seed_dev(&store)?;
            store
        } else {
            Store::open(&config.data_dir)?
        };
        let cookie = Cookie::load_or_make(&config.data_dir, &node_name)?;
        let listener = bind_control(config.control_addr)?;
        let control_addr = listener.local_addr().map_err(ServerError::System)?;

        let shards = config.shard_count();
        let directory = Directory::new(shards, u64::from_ne_bytes(random()?));
        let board = Arc::new(Board::new(shards));
        let exchange_options = exchange_options(config, key_pair.as_ref());
        let curve_public_key = key_pair.map(|pair| pair.public().to_owned());
        let sockets = Sockets::bind(&exchange_options)?;
        let (exchange_addr, stream_addr) = (sockets.exchange_addr(), sockets.stream_addr());
        let mut running = start_shards(config, &directory, &board)?;
        let port = running.ports.pop().expect("the exchange is a party beside the shards");
        let exchange_config = ExchangeConfig { directory: directory.clone() };
        let exchange_board = Arc::clone(&board);
        let publish = move |figures: &[u64]| exchange_board.publish_exchange(figures);
        let exchange = exchange::start(&exchange_options, sockets, port, exchange_config, publish)?;
        board.show_accept_pauses(Arc::clone(&running.accept_pauses));
        board.show_longest_turns(running.longest_turns.clone());
        let node = NodeInfo {
            name: node_name.clone(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            shards,
            io: io_name(&running.io).to_owned(),
            addresses: Addresses {
                websocket: running.address,
                control: control_addr,
                exchange: exchange_addr,
                stream: stream_addr,
            },
            curve_public_key: curve_public_key.clone(),
        };
        let (stopper, stop) = stop_signal();
        let control = ControlConfig {
            store,
            mailboxes: running.mailboxes,
            from_shards: running.reports,
            exchange: exchange.mailbox,
            exchange_reports: exchange.reports,
            listener,
            directory,
            cookie,
            node,
            dev: config.dev,
            http_body_bytes_max: config.http_body_bytes_max,
            figures: board,
            stop,
        };
        let control = start_control(control)?;
        Ok(Self {
            websocket_addr: running.address,
            control_addr,
            exchange_addr,
            stream_addr,
            curve_public_key,
            shards,
            io: running.io,
            cookie_file: Cookie::file(&config.data_dir, &node_name),
            stopper,
            threads: Some(NodeThreads { shards: running.threads, exchange: exchange.thread, control }),
        })
    }

    /// Where browsers connect.
    #[must_use]
    pub fn websocket_addr(&self) -> SocketAddr {
        self.websocket_addr
    }

    /// Where the control API listens.
    #[must_use]
    pub fn control_addr(&self) -> SocketAddr {
        self.control_addr
    }

    /// Where ZeroMQ clients and workers connect.
    #[must_use]
    pub fn exchange_addr(&self) -> SocketAddr {
        self.exchange_addr
    }

    /// Where ZeroMQ stream subscribers connect.
    #[must_use]
    pub fn stream_addr(&self) -> SocketAddr {
        self.stream_addr
    }

    /// The public key by which ZeroMQ backends know the node, in Z85, if they are to speak CURVE.
    #[must_use]
    pub fn curve_public_key(&self) -> Option<&str> {
        self.curve_public_key.as_deref()
    }

    /// How many shards the node has.
    #[must_use]
    pub fn shards(&self) -> u16 {
        self.shards
    }

    /// How shards do their I/O: `uring` or `epoll`.
    #[must_use]
    pub fn io(&self) -> &'static str {
        io_name(&self.io)
    }

    /// Why the shards run on epoll although io_uring would have been preferred.
    #[must_use]
    pub fn uring_refusal(&self) -> Option<&UringRefusal> {
        match &self.io {
            Io::Epoll(refusal) => refusal.as_ref(),
            Io::Uring => None,
        }
    }

    /// The file with the cookie that the control API wants.
    #[must_use]
    pub fn cookie_file(&self) -> &Path {
        &self.cookie_file
    }

    /// Asks the node to stop: sessions are closed with 1012. [`Server::join`] waits for it.
    pub fn stop(&self) {
        self.stopper.stop();
    }

    /// Waits until the node has stopped.
    ///
    /// # Errors
    /// The control thread ended in error.
    pub fn join(mut self) -> Result<(), ServerError> {
        self.wait()
    }

    fn wait(&mut self) -> Result<(), ServerError> {
        let Some(threads) = self.threads.take() else {
            return Ok(());
        };
        let ended = threads.control.join().expect("the control thread does not panic");
        threads.exchange.join().expect("the exchange's thread ends or aborts the process");
        threads.shards.join();
        Ok(ended?)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop();
        if let Err(error) = self.wait() {
            tracing::error!(%error, "the node ended in error");
        }
    }
}

fn make_data_directory(path: &Path) -> Result<(), ServerError> {
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)
        .map_err(|source| ServerError::DataDirectory { path: path.to_owned(), source })
}

fn bind_control(address: SocketAddr) -> Result<TcpListener, ServerError> {
    TcpListener::bind(address).map_err(|source| match source.kind() {
        io::ErrorKind::AddrInUse => ServerError::ControlInUse { address },
        _ => ServerError::ControlListen { address, source },
    })
}

fn exchange_options(config: &Config, key_pair: Option<&KeyPair>) -> ExchangeOptions {
    // The last one, which shards take last.
    let cpus = if config.pin { affinity::allowed_cpus().unwrap_or_default() } else { Vec::new() };
    ExchangeOptions {
        exchange_addr: config.exchange_addr,
        stream_addr: config.stream_addr,
        message_bytes_max: config.exchange_message_bytes_max,
        unread_bytes_max: config.exchange_unread_bytes_max,
        secret_key: key_pair.map(|pair| pair.secret().clone()),
        cpu: cpus.last().copied(),
    }
}

fn start_shards(
    config: &Config,
    directory: &Directory,
    board: &Arc<Board>,
) -> Result<Running<Shard>, ServerError> {
    let board = Arc::clone(board);
    let options = DriverOptions {
        io: config.io.into(),
        pin: config.pin,
        further_parties: 1,
        publish: Arc::new(move |shard, figures| board.publish(shard, figures)),
        ..DriverOptions::new(config.websocket_addr, directory.shards())
    };
    let seed: [u8; 32] = random()?;
    let shard = ShardConfig {
        id: ShardId(0),
        directory: directory.clone(),
        encodings: Encodings::default(),
        seed,
        handshake_timeout: Duration::from_millis(u64::from(config.handshake_timeout_ms)),
        close_timeout: Duration::from_millis(u64::from(config.close_timeout_ms)),
    };
    Ok(driver::start(&options, move |id| {
        let mut shard = ShardConfig { id, ..shard.clone() };
        // Each shard draws its own numbers.
        for (byte, mask) in shard.seed.iter_mut().zip(id.0.to_ne_bytes()) {
            *byte ^= mask;
        }
        Shard::new(shard)
    })?)
}

/// Starts the control thread and waits until everything stored is in effect.
fn start_control(config: ControlConfig) -> Result<thread::JoinHandle<Result<(), ControlError>>, ServerError> {
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(ServerError::System)?;
    let (ready, is_ready) = mpsc::sync_channel(1);
    let thread = thread::Builder::new()
        .name("control".to_owned())
        .spawn(move || {
            let announce = move || {
                // Nobody waits any more only if the start was given up.
                let _ = ready.send(());
            };
            runtime.block_on(control::run(config, announce))
        })
        .map_err(ServerError::System)?;
    if is_ready.recv().is_err() {
        // It ended before it was ready, and says why.
        thread.join().expect("the control thread does not panic")?;
        return Err(ServerError::System(io::Error::other("the control thread ended")));
    }
    Ok(thread)
}

fn io_name(io: &Io) -> &'static str {
    match io {
        Io::Uring => "uring",
        Io::Epoll(_) => "epoll",
    }
}

fn random<const N: usize>() -> Result<[u8; N], ServerError> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).map_err(|error| ServerError::System(io::Error::other(error)))?;
    Ok(bytes)
}
