//! Sending to many sockets: by one system call for all where the system has io_uring, otherwise by one each.
//!
//! Owns the ring and nothing else. Everything happens within [`Sender::send`]: the sends are of the sort that
//! never waits, so they are done when they have been submitted, and no byte is looked at after the call.
//!
//! What it is worth: `webrocket-loadtest peers --only floor-uring,floor-uring-1`, and docs/performance.md.

use std::{
    io,
    os::fd::{AsRawFd, BorrowedFd},
};

use io_uring::{IoUring, opcode, types};

use super::socket;

/// The most sends that one call takes. More would be cheaper still, but nothing else happens meanwhile.
const BATCH_MAX: u32 = 128;

/// Below so many sends the plain system call is the cheaper one.
const BATCH_MIN: usize = 4;

/// The most sends at once where each is a call of its own: nothing is gained by many.
const PLAIN_MAX: usize = 8;

/// How a shard sends.
pub(super) struct Sender {
    ring: Option<IoUring>,
}

impl Sender {
    /// One system call for each send.
    pub(super) fn plain() -> Self {
        Self { ring: None }
    }

    /// One system call for many sends. Where the system refuses a ring for that, one for each.
    pub(super) fn batching() -> Self {
        // Without the flag, a send that cannot even be tried keeps those behind it from being tried.
        let ring = IoUring::builder().setup_submit_all().build(BATCH_MAX);
        Self { ring: ring.ok() }
    }

    /// How many sends [`Sender::send`] takes at most.
    pub(super) fn batch_max(&self) -> usize {
        if self.ring.is_some() { BATCH_MAX as usize } else { PLAIN_MAX }
    }

    /// Sends, at most [`Sender::batch_max`] times: to each socket, of which none stands there twice, as many of its bytes
    /// as it takes, 0 if it is full. Appends to `outcomes` how many each has taken, in their order.
    ///
    /// # Panics
    /// There are more sends than that, or the ring fails altogether, which leaves open what was sent.
    pub(super) fn send<'a>(
        &mut self,
        sends: impl ExactSizeIterator<Item = (BorrowedFd<'a>, &'a [u8])>,
        outcomes: &mut Vec<io::Result<usize>>,
    ) {
        match &mut self.ring {
            Some(ring) if sends.len() >= BATCH_MIN => submit(ring, sends, outcomes),
            Some(_) | None => outcomes.extend(sends.map(|(socket, bytes)| socket::send(socket, bytes))),
        }
    }
}

fn submit<'a>(
    ring: &mut IoUring,
    sends: impl ExactSizeIterator<Item = (BorrowedFd<'a>, &'a [u8])>,
    outcomes: &mut Vec<io::Result<usize>>,
) {
    let before = outcomes.len();
    for (number, (socket, bytes)) in sends.enumerate() {
        let length = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
        let entry = opcode::Send::new(types::Fd(socket.as_raw_fd()), bytes.as_ptr(), length)
            .flags(libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL)
            .build()
            .user_data(number as u64);
        // SAFETY: descriptor and bytes are borrowed for longer than this function runs, and it returns only when
        // the kernel has told the outcome of each.
        unsafe { ring.submission().push(&entry) }.expect("the ring was empty and has room for a batch");
        outcomes.push(Ok(0));
    }
    let (mut told, count) = (0, outcomes.len() - before);
    while told < count {
        match ring.submit_and_wait(count - told) {
            Ok(_) => {}
            Err(error) if matches!(error.raw_os_error(), Some(libc::EINTR | libc::EAGAIN | libc::EBUSY)) => {}
            Err(error) => panic!("the ring for sending fails: {error}"),
        }
        for completion in ring.completion() {
            told += 1;
            let outcome = usize::try_from(completion.result())
                .map_err(|_| io::Error::from_raw_os_error(-completion.result()));
            let number = usize::try_from(completion.user_data()).expect("a number of this batch");
            outcomes[before + number] = match outcome {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(0),
                outcome => outcome,
            };
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{
        io::Read,
        net::{TcpListener, TcpStream},
        os::fd::AsFd,
    };

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
            for (number, outcome) in outcomes.iter().enumerate() {
                match (number, outcome) {
                    (1, Ok(0)) | (0 | 3..6, Ok(5)) => {}
                    (2, Err(error)) => assert_eq!(error.raw_os_error(), Some(libc::EPIPE)),
                    other => panic!("{other:?}"),
                }
            }
        }
    }
}
