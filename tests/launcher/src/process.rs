//! Signals to child processes, and what comes of them.

use std::{
    io,
    process::{Child, ExitStatus},
    sync::mpsc,
    thread,
    time::Duration,
};

use rustix::{
    event::{PollFd, PollFlags, poll},
    io::retry_on_intr,
    process::{Pid, PidfdFlags, Signal, WaitId, WaitIdOptions, kill_process, pidfd_open, waitid},
};

/// Sends a signal. The child's id is its own until it has been waited for, which needs the child mutably.
pub(crate) fn signal(child: &Child, signal: Signal) -> io::Result<()> {
    Ok(kill_process(Pid::from_child(child), signal)?)
}

/// Lets a child process stand still, and returns when all its threads do.
///
/// # Errors
/// It has ended, or does not stand still after `patience`.
pub fn freeze(child: &Child, patience: Duration) -> io::Result<()> {
    signal(child, Signal::STOP)?;
    let id = WaitId::Pid(Pid::from_child(child));
    let (tell, told) = mpsc::channel();
    // The system cannot await this and a deadline at once.
    thread::spawn(move || {
        // The child can still be waited for afterwards.
        let options = WaitIdOptions::STOPPED | WaitIdOptions::EXITED | WaitIdOptions::NOWAIT;
        let _ = tell.send(retry_on_intr(|| waitid(id.clone(), options)));
    });
    match told.recv_timeout(patience) {
        Ok(Ok(Some(status))) if status.stopped() => Ok(()),
        Ok(Ok(_)) => Err(io::Error::other("the process has ended")),
        Ok(Err(error)) => Err(error.into()),
        Err(_) => Err(io::ErrorKind::TimedOut.into()),
    }
}

/// Lets a child process go on after [`freeze`].
///
/// # Errors
/// It has ended.
pub fn thaw(child: &Child) -> io::Result<()> {
    signal(child, Signal::CONT)
}

/// Waits until a child process has ended.
///
/// # Errors
/// It has not after `patience`.
pub fn wait(child: &mut Child, patience: Duration) -> io::Result<ExitStatus> {
    if has_ended(child, patience)? { child.wait() } else { Err(io::ErrorKind::TimedOut.into()) }
}

/// Waits until a child process has ended; whether it has after `patience`.
pub(crate) fn has_ended(child: &Child, patience: Duration) -> io::Result<bool> {
    let process = pidfd_open(Pid::from_child(child), PidfdFlags::empty())?;
    let patience = patience.try_into().map_err(io::Error::other)?;
    let mut ends = [PollFd::new(&process, PollFlags::IN)];
    Ok(retry_on_intr(|| poll(&mut ends, Some(&patience)))? > 0)
}
