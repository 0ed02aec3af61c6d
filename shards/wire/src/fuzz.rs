//! The fuzz targets of this crate: what holds of any bytes that a peer sends.
//!
//! Each stands beside the code that it checks, where property tests call its parts too. `fuzz/` hands bytes over to
//! it, and a test replays `fuzz/corpus`.

pub use crate::{
    frame::fuzz::frame, handshake::fuzz::handshake, json::fuzz::json, message::fuzz::message, wbp::fuzz::wbp,
};

#[cfg(test)]
#[path = "../../../fuzz/replay.rs"]
mod replay;

#[test]
fn the_corpora_are_replayed() {
    replay::replay(
        "webrocket_wire",
        &[("frame", frame), ("handshake", handshake), ("json", json), ("message", message), ("wbp", wbp)],
    );
}
