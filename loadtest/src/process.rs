//! What the kernel tells about a process: processor time, resident memory, file descriptors.

use std::fs;
use std::sync::OnceLock;
use std::time::Duration;

use anyhow::{Context, bail};
use rustix::param::clock_ticks_per_second;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

/// A process's identifier.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ProcessId(pub(crate) u32);

/// Processor time that a process has used since it began, all its threads together, ended ones included.
///
/// User and system time are what the kernel makes of samples, in steps of its tick (usually 10 ms): good for their
/// proportion. The total is exact to the nanosecond, so the three need not add up.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct ProcessorTime {
    pub(crate) user: Duration,
    pub(crate) system: Duration,
    pub(crate) total: Duration,
}

impl ProcessorTime {
    /// User and system time together, exactly.
    pub(crate) fn total(self) -> Duration {
        self.total
    }

    /// What was used between `earlier` and `self`.
    pub(crate) fn since(self, earlier: Self) -> Self {
        Self {
            user: self.user.saturating_sub(earlier.user),
            system: self.system.saturating_sub(earlier.system),
            total: self.total.saturating_sub(earlier.total),
        }
    }
}

/// Reads a process's processor time.
pub(crate) fn processor_time(process: ProcessId) -> anyhow::Result<ProcessorTime> {
    let path = format!("/proc/{}/stat", process.0);
    let text = fs::read_to_string(&path).with_context(|| format!("cannot read {path}"))?;
    let (user, system) = parse_stat(&text).with_context(|| format!("{path} does not look as expected"))?;
    let tick_ns = 1_000_000_000 / clock_ticks_per_second();
    let duration = |ticks: u64| Duration::from_nanos(ticks * tick_ns);
    Ok(ProcessorTime { user: duration(user), system: duration(system), total: exact_time(process)? })
}

/// Reads a process's clock of processor time. Unlike the sum over `/proc/<pid>/task/*/schedstat` it includes threads
/// that have ended, and what a running thread has used since its last tick. Only libc names another process's clock.
fn exact_time(process: ProcessId) -> anyhow::Result<Duration> {
    let mut clock: libc::clockid_t = 0;
    // SAFETY: `clock` is writable for the duration of the call.
    let error = unsafe { libc::clock_getcpuclockid(process.0 as libc::pid_t, &raw mut clock) };
    if error != 0 {
        return Err(std::io::Error::from_raw_os_error(error))
            .with_context(|| format!("process {} has no clock of processor time: has it ended?", process.0));
    }
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `time` is writable for the duration of the call.
    if unsafe { libc::clock_gettime(clock, &raw mut time) } < 0 {
        return Err(std::io::Error::last_os_error())
            .with_context(|| format!("cannot read the processor time of process {}", process.0));
    }
    Ok(Duration::new(time.tv_sec as u64, time.tv_nsec as u32))
}

/// The ticks of user and system time in a line of `/proc/<pid>/stat`. The command's name comes second, in
/// parentheses, and may hold anything; `utime` and `stime` are the 14th and 15th field.
fn parse_stat(text: &str) -> Option<(u64, u64)> {
    let (_, after_name) = text.rsplit_once(')')?;
    let mut fields = after_name.split_ascii_whitespace().skip(11);
    Some((fields.next()?.parse().ok()?, fields.next()?.parse().ok()?))
}

/// Reads a process's resident memory in bytes (`VmRSS`).
pub(crate) fn resident_bytes(process: ProcessId) -> anyhow::Result<u64> {
    let path = format!("/proc/{}/status", process.0);
    let text = fs::read_to_string(&path).with_context(|| format!("cannot read {path}"))?;
    parse_resident(&text).with_context(|| format!("{path} names no VmRSS: has the process ended?"))
}

fn parse_resident(text: &str) -> Option<u64> {
    let value = text.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kib: u64 = value.trim().strip_suffix("kB")?.trim_end().parse().ok()?;
    Some(kib * 1024)
}

/// Counts the file descriptors that a process holds.
pub(crate) fn descriptors(process: ProcessId) -> anyhow::Result<u64> {
    let path = format!("/proc/{}/fd", process.0);
    Ok(fs::read_dir(&path).with_context(|| format!("cannot read {path}"))?.count() as u64)
}

/// The processors on which this process might run when this was first asked: [`run_on`] narrows that down only for
/// a thread and what it starts.
pub(crate) fn processors() -> anyhow::Result<&'static [usize]> {
    static FIRST: OnceLock<Vec<usize>> = OnceLock::new();
    if let Some(first) = FIRST.get() {
        return Ok(first);
    }
    let now = allowed_processors()?;
    Ok(FIRST.get_or_init(|| now))
}

fn allowed_processors() -> anyhow::Result<Vec<usize>> {
    let set = sched_getaffinity(None).context("cannot tell on which processors to run")?;
    Ok((0..CpuSet::MAX_CPU).filter(|cpu| set.is_set(*cpu)).collect())
}

/// Lets this thread, and processes and threads that it starts from now on, run on `processors` only.
pub(crate) fn run_on(processors: &[usize]) -> anyhow::Result<()> {
    let mut set = CpuSet::new();
    processors.iter().for_each(|cpu| set.set(*cpu));
    sched_setaffinity(None, &set).context("cannot choose processors")
}

/// File descriptors that the load test needs besides its connections.
const SPARE_DESCRIPTORS: u64 = 64;

/// Raises this process's limit on file descriptors to the hard one, and makes sure that `connections` fit.
///
/// A server that is started afterwards inherits the limit.
pub(crate) fn raise_descriptor_limit(connections: u32) -> anyhow::Result<()> {
    let most = getrlimit(Resource::Nofile).maximum;
    setrlimit(Resource::Nofile, Rlimit { current: most, maximum: most })
        .context("cannot raise the limit on file descriptors")?;
    let needed = u64::from(connections) + SPARE_DESCRIPTORS;
    if let Some(most) = most
        && needed > most
    {
        bail!(
            "{connections} connections need {needed} file descriptors, but the hard limit is {most} (ulimit -Hn): \
             ask for at most {} connections or raise the limit",
            most.saturating_sub(SPARE_DESCRIPTORS),
        );
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use rustix::time::{ClockId, clock_gettime};

    use super::*;

    #[test]
    fn processors_are_those_of_the_beginning_whatever_is_chosen_since() {
        let all = processors().expect("this thread runs").to_vec();
        let last = *all.last().expect("on one at least");
        run_on(&[last]).expect("it may run there");
        assert_eq!(allowed_processors().expect("this thread runs"), [last]);
        assert_eq!(processors().expect("this thread runs"), all);
        run_on(&all).expect("it could before");
    }

    /// Processor time of this thread.
    fn thread_time() -> Duration {
        let time = clock_gettime(ClockId::ThreadCPUTime);
        Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
    }

    #[test]
    fn processor_time_is_found_behind_any_name() {
        let line = "4242 (a) b (c) S 1 4242 4242 0 -1 4194560 9 0 0 0 123 45 0 0 20 0 4 0 1000 1 2 3";
        assert_eq!(parse_stat(line), Some((123, 45)));
        assert_eq!(parse_stat("4242 (a"), None);
    }

    #[test]
    fn resident_memory_is_in_bytes() {
        assert_eq!(parse_resident("VmPeak:\t  9 kB\nVmRSS:\t    1234 kB\n"), Some(1234 * 1024));
        assert_eq!(parse_resident("VmPeak:\t  9 kB\n"), None);
    }

    #[test]
    fn this_process_can_be_measured() {
        let process = ProcessId(std::process::id());
        assert!(resident_bytes(process).expect("this process is alive") > 0);
        processor_time(process).expect("this process is alive");
        assert!(descriptors(process).expect("this process is alive") >= 3);
    }

    #[test]
    fn processor_time_is_exact_and_includes_threads_that_have_ended() {
        let process = ProcessId(std::process::id());
        let before = processor_time(process).expect("this process is alive");
        // What a thread takes to begin is less than a tick.
        let used = std::thread::spawn(thread_time).join().expect("it only reads a clock");
        let after = processor_time(process).expect("this process is alive");
        assert!(used > Duration::ZERO);
        assert!(after.since(before).total() >= used, "less than one tick, and still not lost");
    }

    #[test]
    fn a_process_that_has_ended_is_told() {
        let mut child = std::process::Command::new("true").spawn().expect("it starts");
        let process = ProcessId(child.id());
        child.wait().expect("it ends");
        assert!(processor_time(process).is_err() && descriptors(process).is_err());
    }

    #[test]
    fn too_many_connections_are_a_clear_sentence() {
        let error = raise_descriptor_limit(u32::MAX).expect_err("nobody has so many");
        assert!(error.to_string().contains("file descriptors, but the hard limit is"), "{error}");
        raise_descriptor_limit(10).expect("a few always fit");
    }
}
