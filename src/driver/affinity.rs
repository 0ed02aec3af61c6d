//! Which CPU a shard runs on.

use std::io;

use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};
use webrocket_state::ShardId;

/// The CPUs of the affinity mask that this thread inherited, never empty.
///
/// # Errors
/// The system has more CPUs than the mask has room for (1,024).
pub fn allowed_cpus() -> io::Result<Vec<usize>> {
    let set = sched_getaffinity(None)?;
    Ok((0..CpuSet::MAX_CPU).filter(|&cpu| set.is_set(cpu)).collect())
}

/// The CPU of a shard: more shards than CPUs share them in turn.
pub(super) fn cpu_of(shard: ShardId, allowed: &[usize]) -> usize {
    allowed[shard.index() % allowed.len()]
}

/// Pins this thread to one CPU.
///
/// # Errors
/// It is not among those that the thread may use.
pub fn pin(cpu: usize) -> io::Result<()> {
    let mut set = CpuSet::new();
    set.set(cpu);
    Ok(sched_setaffinity(None, &set)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pinned_thread_is_allowed_one_cpu() {
        let allowed = allowed_cpus().unwrap();
        let cpu = cpu_of(ShardId(u16::MAX), &allowed);
        std::thread::spawn(move || {
            pin(cpu).unwrap();
            assert_eq!(allowed_cpus().unwrap(), [cpu]);
        })
        .join()
        .unwrap();
    }
}
