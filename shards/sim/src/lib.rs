//! The seeded simulation of a whole broker: many shards, one thread, one seed.
//!
//! The shards and the exchange are the real ones, from `webrocket-state`; everything around them is played:
//! virtual time, sockets that fill up at any byte, queues with room for a handful, a control thread
//! that is late, browsers and backends with bad manners. The same seed gives the same run, to the byte.
//!
//! | room | what lives there |
//! | --- | --- |
//! | [`world`] | one run: whose turn it is, and its phases |
//! | [`driver`], [`exchange`] | a shard and its driver, the exchange and its driver |
//! | [`net`] | sockets, queues, and how a fault is put in |
//! | [`time`], [`canary`] | virtual time, faults put in on purpose |
//! | [`browser`], [`frames`], [`encodings`] | a browser, its bytes, two encodings beside the plain one |
//! | [`request`], [`answer`], [`classic`], [`wwfp`] | what it asks and understands, in either dialect |
//! | [`peers`], [`wires`] | backends over ZeroMQ, their connections |
//! | [`control`] | the control thread, the backend behind it, and takers of events over HTTP |
//! | [`theme`], [`scenario`], [`workload`] | what a run is about, what is fixed for it, what a seed makes happen |
//! | [`oracles`] | what must hold |
//! | [`chance`] | the one source of chance |
//!
//! `cargo run --release -p webrocket-sim -- --seeds 1000` tries seeds; a seed that fails becomes a named test.

#![forbid(unsafe_code)]

pub mod answer;
pub mod browser;
pub mod canary;
pub mod chance;
pub mod classic;
pub mod control;
pub mod driver;
pub mod encodings;
pub mod exchange;
pub mod frames;
pub mod net;
pub mod oracles;
pub mod peers;
pub mod request;
pub mod scenario;
pub mod theme;
pub mod time;
pub mod wires;
pub mod workload;
pub mod world;
pub mod wwfp;

use std::{
    cell::{Cell, RefCell},
    panic::{self, AssertUnwindSafe},
    sync::Once,
};

use oracles::{Guarantee, Violation};
use world::{Options, Outcome, World};

thread_local! {
    /// The seed that this thread runs.
    static RUNNING: Cell<Option<u64>> = const { Cell::new(None) };
    static LAST_PANIC: RefCell<Option<String>> = const { RefCell::new(None) };
}

/// Runs a seed.
///
/// # Errors
/// An assertion failed, in the machine or the simulation. Where panics abort the process, as in
/// the release profile, the seed is printed before.
pub fn run(seed: u64, options: Options) -> Result<Outcome, Violation> {
    static HOOK: Once = Once::new();
    HOOK.call_once(watch_panics);
    RUNNING.set(Some(seed));
    let outcome = panic::catch_unwind(AssertUnwindSafe(|| World::new(seed, options).run()));
    RUNNING.set(None);
    outcome.map_err(|_| Violation {
        guarantee: Guarantee::NoInvariantIsBroken,
        at: 0,
        detail: LAST_PANIC.take().unwrap_or_default(),
    })
}

/// Keeps what a panic of a run says; other panics go on as usual.
fn watch_panics() {
    let usual = panic::take_hook();
    panic::set_hook(Box::new(move |info| match RUNNING.get() {
        Some(seed) if cfg!(panic = "abort") => {
            eprintln!("seed {seed} FAILED: {}: {info}", Guarantee::NoInvariantIsBroken);
        }
        Some(_) => LAST_PANIC.set(Some(info.to_string())),
        None => usual(info),
    }));
}
