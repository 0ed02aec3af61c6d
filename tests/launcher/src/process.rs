//! Child processes: how they are tied to this one, signals to them, and what comes of these.

use std::{
    io,
    os::unix::process::CommandExt,
    process::{Child, Command, ExitStatus},
    sync::mpsc,
    thread,
    time::Duration,
};

use rustix::{
    event::{PollFd, PollFlags, poll},
    io::retry_on_intr,
    process::{
        Pid, PidfdFlags, Signal, WaitId, WaitIdOptions, kill_process, pidfd_open,
        set_parent_process_death_signal, waitid,
    },
};

/// Lets what `command` starts get `signal` when the thread that starts it ends. In a process group of its own it does
/// not hear the terminal's Ctrl-C: only this process ends it.
pub fn end_with_parent(command: &mut Command, signal: Signal) {
    command.process_group(0);
    // SAFETY: between fork and exec the closure makes one system call and neither allocates nor locks.
    unsafe { command.pre_exec(move || Ok(set_parent_process_death_signal(Some(signal))?)) };
}

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

#[cfg(test)]
mod tests {
    use std::os::unix::process::ExitStatusExt;

    use super::*;
    use crate::PATIENCE;

    #[test]
    fn a_child_ends_with_the_thread_that_started_it() {
        let parent = thread::spawn(|| {
            let mut command = Command::new("sleep");
            end_with_parent(command.arg("600"), Signal::TERM);
            command.spawn()
        });
        let mut child = parent.join().unwrap().unwrap();
        let ended = wait(&mut child, PATIENCE).unwrap();
        assert_eq!(ended.signal(), Some(Signal::TERM.as_raw()));
    }
}
