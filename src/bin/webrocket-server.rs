//! `webrocket-server`: the broker as a daemon.

use std::{io::IsTerminal, process::ExitCode};

use anyhow::Context;
use clap::Parser;
use tokio::signal::unix::{SignalKind, signal};
use tracing_subscriber::{EnvFilter, fmt};
use webrocket::{
    config::{Config, Flags, LogFormat, LogLevel},
    driver::descriptors,
    sentence::sentence,
    server::Server,
};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    match run(Flags::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("webrocket-server: {}", sentence(error.as_ref()));
            ExitCode::FAILURE
        }
    }
}

fn run(flags: Flags) -> anyhow::Result<()> {
    let config = flags.into_config()?;
    start_log(&config);
    if let Err(error) = descriptors::raise_limit() {
        tracing::warn!(%error, "the limit of open files cannot be raised: there will be room for fewer connections");
    }
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("cannot wait for signals")?;
    runtime.block_on(async {
        // From here on a signal is not lost, even while the node starts.
        let mut terminate = signal(SignalKind::terminate()).context("cannot wait for SIGTERM")?;
        let mut interrupt = signal(SignalKind::interrupt()).context("cannot wait for SIGINT")?;
        let server = Server::start(&config)?;
        announce(&config, &server);
        let name = tokio::select! {
            _ = terminate.recv() => "SIGTERM",
            _ = interrupt.recv() => "SIGINT",
        };
        tracing::info!(signal = name, "stopping");
        server.stop();
        tokio::spawn(async move {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
            tracing::warn!("asked to stop again: ending at once");
            std::process::exit(1);
        });
        tokio::task::spawn_blocking(move || server.join()).await.context("the node panicked")??;
        tracing::info!("stopped");
        Ok(())
    })
}

fn start_log(config: &Config) {
    let level = match config.log_level {
        LogLevel::Error => "error",
        LogLevel::Warn => "warn",
        LogLevel::Info => "info",
        LogLevel::Debug => "debug",
        LogLevel::Trace => "trace",
    };
    let log = fmt()
        .with_env_filter(EnvFilter::new(level))
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal());
    match config.log_format {
        LogFormat::Text => log.with_target(false).init(),
        LogFormat::Json => log.json().init(),
    }
}

fn announce(config: &Config, server: &Server) {
    if let Some(refusal) = server.uring_refusal() {
        tracing::warn!(reason = %refusal, "io_uring cannot be used here, the shards run on epoll");
    }
    if let Some(key) = server.curve_public_key() {
        tracing::info!(
            public_key = key,
            "ZeroMQ backends speak CURVE and know this server by its public key"
        );
    }
    tracing::info!(
        websocket = %server.websocket_addr(),
        control = %server.control_addr(),
        exchange = %server.exchange_addr(),
        streams = %server.stream_addr(),
        shards = server.shards(),
        io = server.io(),
        "ready"
    );
    if config.dev {
        tracing::info!("open http://{}/ in two browser tabs", server.websocket_addr());
        tracing::info!("vhost /demo has users reader (no secret), writer and manager (secret: demo)");
    }
}
