//! Sending to many sockets: by one system call for all where the system has io_uring, otherwise by one each.
//!
//! Owns the ring and nothing else. Everything happens within [`Sender::send`]: the sends are of the sort that
//! never waits, so they are done when they have been submitted, and no byte is looked at after the call.
//!
//! What it is worth: `webrocket-loadtest peers --only floor,floor-uring`, and docs/performance.md.

use std::{
    io, mem,
    os::fd::{AsRawFd, BorrowedFd},
    process,
};

use io_uring::{IoUring, opcode, types};
use rustix::io::{Errno, Result};

use super::socket;

/// The most sends that one call takes. More would be cheaper still, but nothing else happens meanwhile.
const BATCH_MAX: u32 = 128;

/// Below so many sends the plain system call is the cheaper one.
const BATCH_MIN: usize = 4;

/// The most sends at once where each is a call of its own: nothing is gained by many.
const PLAIN_MAX: usize = 8;

/// After a batch that the kernel did not take whole, so many are sent by plain calls before another ring is tried.
const PLAIN_BATCHES: u32 = 10_000;

/// How a shard sends.
pub(super) struct Sender {
    ring: Option<IoUring>,
    /// After how many more calls of [`Sender::send`] another ring is tried; never if 0.
    retry_in: u32,
}

impl Sender {
    /// One system call for each send.
    pub(super) fn plain() -> Self {
        Self { ring: None, retry_in: 0 }
    }

    /// One system call for many sends. Where the system refuses a ring for that, one for each.
    pub(super) fn batching() -> Self {
        Self { ring: new_ring(), retry_in: 0 }
    }

    /// How many sends [`Sender::send`] takes at most.
    pub(super) fn batch_max(&self) -> usize {
        if self.ring.is_some() { BATCH_MAX as usize } else { PLAIN_MAX }
    }

    /// Sends, at most [`Sender::batch_max`] times: to each socket, of which none stands there twice, as many of its bytes
    /// as it takes, 0 if it is full. Appends to `outcomes` how many each has taken, in their order.
    ///
    /// A ring that takes no more sends, as where the kernel has no memory for them, is given up. The sends that it did
    /// not take are made by calls of their own, and so are the next [`PLAIN_BATCHES`]; then another ring is tried.
    ///
    /// # Panics
    /// There are more sends than that. A panic while the ring holds sends ends the process.
    pub(super) fn send<'a>(
        &mut self,
        sends: impl ExactSizeIterator<Item = (BorrowedFd<'a>, &'a [u8])> + Clone,
        outcomes: &mut Vec<Result<usize>>,
    ) {
        assert!(sends.len() <= BATCH_MAX as usize, "more sends than one batch takes");
        if self.retry_in > 0 {
            self.retry_in -= 1;
            if self.retry_in == 0 {
                self.ring = new_ring();
            }
        }
        let plainly = |(socket, bytes)| socket::send(socket, bytes);
        let Some(ring) = self.ring.as_mut().filter(|_| sends.len() >= BATCH_MIN) else {
            outcomes.extend(sends.map(plainly));
            return;
        };
        let before = outcomes.len();
        let Err(NotTaken { from, reason }) = submit(ring, sends.clone(), outcomes) else { return };
        // With the ring go the sends that it holds and whose bytes are borrowed for this call only.
        self.ring = None;
        self.retry_in = PLAIN_BATCHES;
        tracing::warn!(%reason, "a shard's ring takes no more sends; they are made one by one for a while");
        outcomes.truncate(before + from);
        outcomes.extend(sends.skip(from).map(plainly));
    }
}

/// A ring for batches, where the system has one.
fn new_ring() -> Option<IoUring> {
    // Without the flag, a send that cannot even be tried keeps those behind it from being tried.
    IoUring::builder().setup_submit_all().build(BATCH_MAX).ok()
}

/// The kernel took the first sends of a batch only, and none of them is under way any more. The others stand in the ring,
/// which must be dropped.
struct NotTaken {
    /// How many it took.
    from: usize,
    reason: io::Error,
}

/// Ends the process when it is dropped, as by a panic: the ring may hold sends whose bytes are freed next.
struct SendsHeld;

impl Drop for SendsHeld {
    fn drop(&mut self) {
        eprintln!("sends are left behind in a ring; the process cannot go on");
        process::abort();
    }
}

fn submit<'a>(
    ring: &mut IoUring,
    sends: impl ExactSizeIterator<Item = (BorrowedFd<'a>, &'a [u8])>,
    outcomes: &mut Vec<Result<usize>>,
) -> std::result::Result<(), NotTaken> {
    let before = outcomes.len();
    let held = SendsHeld;
    for (number, (socket, bytes)) in sends.enumerate() {
        let length = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
        let entry = opcode::Send::new(types::Fd(socket.as_raw_fd()), bytes.as_ptr(), length)
            .flags(socket::SEND_FLAGS.bits().cast_signed())
            .build()
            .user_data(number as u64);
        // SAFETY: descriptor and bytes are borrowed for longer than this function runs. It returns `Ok` when the kernel
        // has told the outcome of each send, and `NotTaken` when it has told those of all sends that it took, whereupon
        // the caller drops the ring with the others. A panic before that meets `held`, which ends the process.
        unsafe { ring.submission().push(&entry) }.expect("the ring was empty and has room for a batch");
        outcomes.push(Ok(0));
    }
    let count = outcomes.len() - before;
    let (mut told, mut waiting) = (0, count);
    while told < count {
        let entered = ring.submit_and_wait(count - told);
        for completion in ring.completion() {
            told += 1;
            let number = usize::try_from(completion.user_data()).expect("a number of this batch");
            outcomes[before + number] = outcome(completion.result());
        }
        // The kernel takes sends in their order, and what it has not taken stays in the queue.
        let was_waiting = mem::replace(&mut waiting, ring.submission().len());
        let is_under_way = told + waiting < count;
        match entered {
            _ if waiting > 0 && waiting == was_waiting && !is_under_way => {
                mem::forget(held);
                let reason = entered.err().unwrap_or_else(|| io::ErrorKind::WouldBlock.into());
                return Err(NotTaken { from: count - waiting, reason });
            }
            Ok(_) => {}
            // A signal, or no memory for more sends. Those under way never wait, so they are told soon.
            Err(error) => match Errno::from_io_error(&error) {
                Some(Errno::INTR | Errno::AGAIN | Errno::BUSY) => {}
                _ => panic!("the ring for sending fails: {error}"),
            },
        }
    }
    mem::forget(held);
    Ok(())
}

/// What the kernel says of one send.
fn outcome(result: i32) -> Result<usize> {
    match usize::try_from(result).map_err(|_| Errno::from_raw_os_error(-result)) {
        Err(Errno::AGAIN) => Ok(0),
        outcome => outcome,
    }
}

#[cfg(test)]
mod tests {
    use std::{
        env,
        io::Read,
        net::{TcpListener, TcpStream},
        os::{fd::AsFd, unix::process::ExitStatusExt},
        process::Command,
        thread,
    };

    use seccompiler::{BpfProgram, SeccompAction, SeccompFilter};

    use super::*;

    const COUNT: usize = BATCH_MAX as usize;

    fn pair() -> (TcpStream, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let near = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        (near, listener.accept().unwrap().0)
    }

    /// Both ways, where the system has both.
    fn senders() -> Vec<Sender> {
        let batching = Sender::batching();
        [Some(Sender::plain()), batching.ring.is_some().then_some(batching)].into_iter().flatten().collect()
    }

    #[test]
    fn each_socket_takes_its_own() {
        for mut sender in senders() {
            let pairs: Vec<_> = (0..COUNT).map(|_| pair()).collect();
            let texts: Vec<String> = (0..COUNT).map(|number| format!("for {number:05}")).collect();
            for count in [1, BATCH_MIN, COUNT] {
                let sends = pairs.iter().zip(&texts).take(count);
                let sends = sends.map(|((near, _), text)| (near.as_fd(), text.as_bytes()));
                let mut taken = Vec::new();
                sender.send(sends, &mut taken);
                let taken: Vec<_> = taken.into_iter().map(Result::unwrap).collect();
                assert_eq!(taken, vec!["for 00000".len(); count]);
            }
            for (number, (_, far)) in pairs.iter().enumerate() {
                let mut received = [0; 9];
                let times = [1, BATCH_MIN, COUNT].iter().filter(|count| number < **count).count();
                for _ in 0..times {
                    (&*far).read_exact(&mut received).unwrap();
                    assert_eq!(received, texts[number].as_bytes());
                }
            }
        }
    }

    #[test]
    fn who_is_full_or_gone_keeps_nobody_from_his_own() {
        for mut sender in senders() {
            let pairs: Vec<_> = (0..6).map(|_| pair()).collect();
            let much = vec![b'x'; 64 << 20];
            let full = |sender: &mut Sender| {
                let (sends, mut taken) = ([(pairs[1].0.as_fd(), &much[..])], Vec::new());
                sender.send(sends.into_iter(), &mut taken);
                taken.pop().unwrap().unwrap()
            };
            while full(&mut sender) > 0 {}
            pairs[2].0.shutdown(std::net::Shutdown::Write).unwrap();
            let sends = pairs.iter().map(|(near, _)| (near.as_fd(), &b"hello"[..]));
            let mut outcomes = Vec::new();
            sender.send(sends, &mut outcomes);
            // What is on its way to the full one may arrive meanwhile, and make room.
            assert!(matches!(outcomes.remove(1), Ok(0..=5)));
            assert_eq!(outcomes, [Ok(5), Err(Errno::PIPE), Ok(5), Ok(5), Ok(5)]);
        }
    }

    /// Lets every submission of this thread fail from now on as if the kernel had no memory for it.
    fn refuse_submissions() {
        let filter = SeccompFilter::new(
            [(libc::SYS_io_uring_enter, Vec::new())].into(),
            SeccompAction::Allow,
            SeccompAction::Errno(Errno::AGAIN.raw_os_error().cast_unsigned()),
            std::env::consts::ARCH.try_into().unwrap(),
        );
        let program: BpfProgram = filter.unwrap().try_into().unwrap();
        seccompiler::apply_filter(&program).unwrap();
    }

    #[test]
    fn what_the_ring_does_not_take_is_sent_by_plain_calls() {
        let sender = thread::spawn(|| {
            let mut sender = Sender::batching();
            let pairs: Vec<_> = (0..BATCH_MIN).map(|_| pair()).collect();
            refuse_submissions();
            for _ in 0..3 {
                let sends = pairs.iter().map(|(near, _)| (near.as_fd(), &b"hello"[..]));
                let mut outcomes = Vec::new();
                sender.send(sends, &mut outcomes);
                let taken: Vec<_> = outcomes.into_iter().map(Result::unwrap).collect();
                assert_eq!(taken, [5; BATCH_MIN]);
                for (_, far) in &pairs {
                    let mut received = [0; 5];
                    (&*far).read_exact(&mut received).unwrap();
                    assert_eq!(&received, b"hello", "once, and not again by the next ring");
                }
                assert!(sender.ring.is_none());
            }
            for (near, far) in &pairs {
                near.shutdown(std::net::Shutdown::Write).unwrap();
                assert_eq!((&*far).read(&mut [0]).unwrap(), 0, "nothing was sent twice");
            }
        });
        sender.join().unwrap();
    }

    #[test]
    fn a_panic_with_sends_in_the_ring_ends_the_process() {
        const NAME: &str = "driver::sender::tests::a_panic_with_sends_in_the_ring_ends_the_process";
        let mut sender = Sender::batching();
        if sender.ring.is_none() {
            return;
        }
        if env::var_os(NAME).is_none() {
            let mut again = Command::new(env::current_exe().unwrap());
            let output = again.args(["--exact", NAME]).env(NAME, "").output().unwrap();
            assert_eq!(output.status.signal(), Some(libc::SIGABRT), "{output:?}");
            return;
        }
        let pairs: Vec<_> = (0..BATCH_MIN).map(|_| pair()).collect();
        let sends = pairs.iter().enumerate().map(|(number, (near, _))| {
            assert!(number < 2, "the third send panics");
            (near.as_fd(), &b"hello"[..])
        });
        sender.send(sends, &mut Vec::new());
    }
}
