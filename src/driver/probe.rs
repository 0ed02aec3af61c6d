//! Whether io_uring can be used here.
//!
//! glommio panics, or even ends the process, where it cannot: where seccomp or
//! `kernel.io_uring_disabled` refuses the system calls (Docker's default profile does), on old
//! kernels, and with little lockable memory. So all of that is tried first, and at last, in a
//! thread of its own, an executor like those that the shards will run.

use std::{
    ffi::c_void,
    fmt, io,
    os::fd::{AsRawFd, FromRawFd, OwnedFd},
    thread,
};

use super::host;

/// glommio's own bound, checked by it at each executor's start.
const MEMLOCK_MIN: u64 = 512 * 1024;

/// The last operation that glommio needs (`IORING_OP_RECV`); kernels 5.6 and later know all before it.
const LAST_OPERATION: u8 = 27;

const IORING_REGISTER_PROBE: libc::c_uint = 8;

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
    let trial = thread::spawn(move || host::executor(cpu).map(drop).map_err(|error| error.to_string()));
    trial.join().expect("what glommio would panic about was tried before").map_err(UringRefusal::Executor)
}

fn try_system_calls() -> Result<(), UringRefusal> {
    /// `struct io_uring_params`, whose contents do not matter here.
    #[repr(C, align(8))]
    struct Parameters([u8; 120]);
    /// `struct io_uring_probe` with room for all operations.
    #[repr(C, align(8))]
    struct Probe {
        last_operation: u8,
        rest: [u8; 15 + 8 * 256],
    }

    let refused = |call| move |error| UringRefusal::SystemCall { call, error };
    let mut parameters = Parameters([0; 120]);
    // SAFETY: the parameters are live and as large as the kernel's structure.
    let fd = unsafe { libc::syscall(libc::SYS_io_uring_setup, 2, &raw mut parameters) };
    let fd = checked(fd).map_err(refused("io_uring_setup"))?;
    // SAFETY: the descriptor was just made and belongs to nobody else.
    let ring = unsafe { OwnedFd::from_raw_fd(fd) };

    let mut probe = Probe { last_operation: 0, rest: [0; 15 + 8 * 256] };
    let argument: *mut c_void = (&raw mut probe).cast();
    // SAFETY: the probe is live and has room for 256 operations.
    let result = unsafe {
        libc::syscall(libc::SYS_io_uring_register, ring.as_raw_fd(), IORING_REGISTER_PROBE, argument, 256)
    };
    checked(result).map_err(refused("io_uring_register"))?;
    if probe.last_operation < LAST_OPERATION {
        return Err(UringRefusal::OldKernel);
    }

    // SAFETY: submits nothing and waits for nothing.
    let result = unsafe {
        libc::syscall(libc::SYS_io_uring_enter, ring.as_raw_fd(), 0, 0, 0, std::ptr::null::<c_void>(), 0)
    };
    checked(result).map_err(refused("io_uring_enter")).map(drop)
}

fn checked(result: libc::c_long) -> io::Result<libc::c_int> {
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(libc::c_int::try_from(result).expect("a descriptor or a small number"))
}

fn locked_memory_limit() -> u64 {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: the structure is live; on failure the limit stays 0.
    unsafe { libc::getrlimit(libc::RLIMIT_MEMLOCK, &raw mut limit) };
    limit.rlim_cur
}
