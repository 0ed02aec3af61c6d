//! The glommio executor that a shard runs on.

use std::time::Duration;

use glommio::{LocalExecutor, LocalExecutorBuilder, Placement};

/// Entries of each of the executor's rings: a shard has one wait and a few timers in flight.
const RING_DEPTH: usize = 32;

/// Memory registered for the executor's own I/O, which shards do not use: the least that it takes.
const IO_MEMORY: usize = 64 * 1024;

/// How often the executor looks at its rings while a shard is busy without end.
const PREEMPT_EVERY: Duration = Duration::from_millis(100);

/// An executor in this thread, pinned to `cpu` if given. Of each executor that has run, glommio 0.9
/// keeps an eventfd open until the process ends.
pub(super) fn make(cpu: Option<usize>) -> glommio::Result<LocalExecutor, ()> {
    LocalExecutorBuilder::new(cpu.map_or(Placement::Unbound, Placement::Fixed))
        .ring_depth(RING_DEPTH)
        .io_memory(IO_MEMORY)
        .preempt_timer(PREEMPT_EVERY)
        .make()
}
