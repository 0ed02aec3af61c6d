//! What the fan-out asks of the allocator once it has warmed up: nothing, for a broadcast as for a delivery.
//!
//! One test, because the counting allocator counts for the whole process. Where a count is not met, every
//! allocation is written with its backtrace into the file that the failure names; valgrind's `dh_view.html` shows it.

#[path = "../../../benches/crowd/mod.rs"]
mod crowd;

use crowd::{Crowd, Flushed, broadcast, masked};
use webrocket_state::SessionRef;

#[global_allocator]
static ALLOCATOR: dhat::Alloc = dhat::Alloc;

const FOLLOWERS: usize = 1_000;
const VISITORS: usize = 10;
const ROUNDS: usize = 50;

/// How many broadcasts wait at each flush of a round.
const WAITING: [usize; 5] = [1, 1, 1, 1, 16];

/// A million deliveries to followers; then some to visitors too, with one channel's broadcasts between two
/// flushes, because those of several are copied to be put in order.
#[test]
fn neither_broadcasts_nor_deliveries_allocate() {
    let (mut crowd, sessions) = Crowd::following(FOLLOWERS);
    let world = broadcast("world", 64);
    let broadcasts = ROUNDS * WAITING.iter().sum::<usize>();
    assert_eq!(broadcasts * FOLLOWERS, 1_000_000);
    assert_none(|| {
        run(&mut crowd, sessions[0], &world, FOLLOWERS);
    });

    crowd.open("moon");
    let subscribe = masked(r#"{"subscribe":{"channel":"moon"}}"#);
    for session in &sessions[..VISITORS] {
        crowd.receive(*session, &subscribe);
    }
    crowd.flush();
    let moon = broadcast("moon", 64);
    assert_none(|| {
        run(&mut crowd, sessions[0], &world, FOLLOWERS);
        run(&mut crowd, sessions[0], &moon, VISITORS);
    });
}

/// Asserts that `run` does not allocate when it is run for the second time.
fn assert_none(mut run: impl FnMut()) {
    run();
    let file = concat!(env!("CARGO_TARGET_TMPDIR"), "/allocations.json");
    let _profiler = dhat::Profiler::builder().testing().file_name(file).build();
    run();
    let allocations = dhat::HeapStats::get().total_blocks;
    dhat::assert_eq!(allocations, 0, "they are in {file}");
}

/// Broadcasts and flushes; every one of the subscribers is sent all of it.
fn run(crowd: &mut Crowd, sender: SessionRef, frame: &[u8], subscribers: usize) {
    let mut delivered_bytes = None;
    for waiting in (0..ROUNDS).flat_map(|_| WAITING) {
        for _ in 0..waiting {
            crowd.receive(sender, frame);
        }
        let flushed = crowd.flush();
        let bytes = *delivered_bytes.get_or_insert(flushed.bytes);
        assert_eq!(flushed, Flushed { sends: subscribers, bytes: waiting * bytes });
    }
}
