//! The fuzz targets of the server: what holds of any address, configuration and store.
//!
//! As in `webrocket_wire`, each stands beside the code that it checks, `fuzz/` hands bytes over to it, and a test
//! replays `fuzz/corpus`.

pub use crate::{
    config::fuzz::config,
    control::fuzz::address,
    store::fuzz::{record, store},
};

#[cfg(test)]
#[path = "../fuzz/replay.rs"]
mod replay;

#[test]
fn the_corpora_are_replayed() {
    replay::replay(
        "webrocket",
        &[("address", address), ("config", config), ("record", record), ("store", store)],
    );
}
