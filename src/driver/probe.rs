//! Whether io_uring can be used here.
//!
//! glommio panics, or even ends the process, where it cannot: where seccomp or
//! `kernel.io_uring_disabled` refuses the system calls (Docker's default profile does), on old
//! kernels, and with little lockable memory. So all of that is tried first, and at last, in a
//! thread of its own, an executor like those that the shards will run.

use std::{fmt, io, thread};

use io_uring::{IoUring, opcode, register::Probe};
use rustix::process::{Resource, getrlimit};

use super::executor;

/// glommio's own bound, checked by it at each executor's start.
const MEMLOCK_MIN: u64 = 512 * 1024;

/// The last operation that glommio needs; kernels 5.6 and later know all before it.
const LAST_OPERATION: u8 = opcode::Recv::CODE;

/// Why io_uring cannot be used.
#[derive(Debug)]
pub enum UringRefusal {
    /// The kernel, or a filter before it, refuses a system call.
    SystemCall {
        /// Which one.
        call: &'static str,
        /// What it says.
        error: io::Error,
    },
    /// The kernel lacks operations that the executor needs.
    OldKernel,
    /// The process may lock too little memory.
    LockedMemory {
        /// How much it may, in bytes.
        limit: u64,
    },
    /// The executor does not start.
    Executor(String),
}

impl fmt::Display for UringRefusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::SystemCall { call, error } => {
                write!(f, "{call} is refused: {error} (by a seccomp profile or kernel.io_uring_disabled?)")
            }
            Self::OldKernel => f.write_str("the kernel lacks operations that kernels since 5.8 have"),
            Self::LockedMemory { limit } => {
                write!(f, "RLIMIT_MEMLOCK is {limit} bytes, {MEMLOCK_MIN} are needed")
            }
            Self::Executor(reason) => write!(f, "the executor does not start: {reason}"),
        }
    }
}

/// Tries whether a shard's executor, pinned to `cpu` if given, would run here.
///
/// # Errors
/// Why not.
pub(super) fn try_uring(cpu: Option<usize>) -> Result<(), UringRefusal> {
    try_system_calls()?;
    let limit = locked_memory_limit();
    if limit < MEMLOCK_MIN {
        return Err(UringRefusal::LockedMemory { limit });
    }
    // The executor binds its thread to the CPU, hence not in this one.
    let trial = thread::spawn(move || executor::make(cpu).map(drop).map_err(|error| error.to_string()));
    trial.join().expect("what glommio would panic about was tried before").map_err(UringRefusal::Executor)
}

fn try_system_calls() -> Result<(), UringRefusal> {
    let refused = |call| move |error| UringRefusal::SystemCall { call, error };
    let ring = IoUring::new(2).map_err(refused("io_uring_setup"))?;
    let mut operations = Probe::new();
    ring.submitter().register_probe(&mut operations).map_err(refused("io_uring_register"))?;
    if !operations.is_supported(LAST_OPERATION) {
        return Err(UringRefusal::OldKernel);
    }
    // Submits nothing and waits for nothing.
    ring.submit().map_err(refused("io_uring_enter")).map(drop)
}

fn locked_memory_limit() -> u64 {
    getrlimit(Resource::Memlock).current.unwrap_or(u64::MAX)
}
