//! Which CPU a shard runs on.

use std::{io, mem};

use webrocket_state::ShardId;

/// The CPUs of the affinity mask that this thread inherited, never empty.
///
/// # Errors
/// The system has more CPUs than the mask has room for (1,024).
pub fn allowed_cpus() -> io::Result<Vec<usize>> {
    // SAFETY: all zeroes is an empty set.
    let mut set: libc::cpu_set_t = unsafe { mem::zeroed() };
    // SAFETY: the set is live and as large as said; 0 is this thread.
    if unsafe { libc::sched_getaffinity(0, size_of_val(&set), &raw mut set) } != 0 {
        return Err(io::Error::last_os_error());
    }
    let limit = usize::try_from(libc::CPU_SETSIZE).expect("a small constant");
    // SAFETY: `cpu` is below the size of the set.
    Ok((0..limit).filter(|&cpu| unsafe { libc::CPU_ISSET(cpu, &set) }).collect())
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
    // SAFETY: all zeroes is an empty set.
    let mut set: libc::cpu_set_t = unsafe { mem::zeroed() };
    // SAFETY: the CPU comes from such a set.
    unsafe { libc::CPU_SET(cpu, &mut set) };
    // SAFETY: the set is live and as large as said; 0 is this thread.
    match unsafe { libc::sched_setaffinity(0, size_of_val(&set), &raw const set) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
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
