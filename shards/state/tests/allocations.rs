//! What the fan-out asks of the allocator once it has warmed up: nothing, for a broadcast as for a delivery; for a
//! broadcast that crosses shards, one allocation that all share.
//!
//! One test, because the counting allocator counts for the whole process. Where a count is not met, every
//! allocation is written with its backtrace into the file that the failure names; valgrind's `dh_view.html` shows it.

#[path = "../../../benches/crowd/mod.rs"]
mod crowd;

use crowd::{Crowd, Flushed, broadcast, masked};
use webrocket_state::{SessionRef, ShardId};

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
fn neither_broadcasts_nor_deliveries_allocate_and_what_crosses_shards_is_shared() {
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
    what_crosses_shards_is_shared();
}

/// A broadcast of the owner's own session, for its own shard and two others.
fn what_crosses_shards_is_shared() {
    let (mut crowd, others) = (Crowd::among(3, 0), [ShardId(1), ShardId(2)]);
    let channel = crowd.open_own();
    let session = crowd.connect();
    crowd.receive(session, &masked(&format!(r#"{{"subscribe":{{"channel":"{channel}"}}}}"#)));
    for other in others {
        crowd.subscribe_from(other, &channel);
        assert_eq!(crowd.pass_on(other), 1);
    }
    crowd.flush();
    let frame = broadcast(&channel, 64);
    let mut run = || {
        for _ in 0..ROUNDS {
            crowd.receive(session, &frame);
            assert_eq!(others.map(|other| crowd.pass_on(other)), [1, 1]);
            assert_eq!(crowd.flush().sends, 1);
        }
    };
    assert_count(&mut run, ROUNDS as u64);
}

/// Asserts that `run` does not allocate when it is run for the second time.
fn assert_none(run: impl FnMut()) {
    assert_count(run, 0);
}

/// Asserts how often `run` allocates when it is run for the second time.
fn assert_count(mut run: impl FnMut(), expected: u64) {
    run();
    let file = concat!(env!("CARGO_TARGET_TMPDIR"), "/allocations.json");
    let _profiler = dhat::Profiler::builder().testing().file_name(file).build();
    run();
    let allocations = dhat::HeapStats::get().total_blocks;
    dhat::assert_eq!(allocations, expected, "they are in {file}");
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
