//! Seeds under which something about triggers once went wrong.

use webrocket_sim::{run, world::Options};

fn is_kept(seed: u64) {
    match run(seed, Options::default()) {
        Ok(outcome) => assert!(outcome.violations.is_empty(), "seed {seed}: {}", outcome.violations[0]),
        Err(violation) => panic!("seed {seed}: {violation}"),
    }
}

/// The vhost is removed while the answer to a trigger that was refused waits for room.
#[test]
fn a_refusal_leaves_after_the_end_of_its_vhost() {
    is_kept(370);
}

/// A worker comes again under its name twice before the end of its first connection is known.
#[test]
fn a_worker_that_comes_again_twice_is_told_apart() {
    is_kept(431);
}

/// The same, where what the worker had may not be given to another one.
#[test]
fn what_a_worker_had_that_came_again_twice_is_given_up() {
    is_kept(886);
}

/// A trigger finds its worker gone and is given to the last one with room; what the first worker had comes
/// back behind that.
#[test]
fn what_comes_back_goes_behind_what_is_on_its_way() {
    is_kept(1398);
}

/// A worker gives a trigger back to a full queue while an earlier one waits for it.
#[test]
fn what_comes_back_to_a_full_queue_does_not_overtake() {
    is_kept(1842);
}

/// A stream goes in the turn in which a copy for it was decided.
#[test]
fn what_was_decided_for_a_stream_is_sent_after_its_end() {
    is_kept(2148);
}
