//! Where io_uring is refused, as by Docker's default seccomp profile.

use std::{
    collections::BTreeMap,
    io::{Read, Write},
    thread,
};

use seccompiler::{BpfProgram, SeccompAction, SeccompFilter};
use webrocket::driver::{DriverError, Io, IoMode, UringRefusal};

use crate::{
    machine::Manner,
    node::{Node, serially},
};

/// Runs `test` in a thread where `call` fails with EPERM, also in the threads that it starts.
fn where_refused(call: libc::c_long, test: impl FnOnce() + Send + 'static) {
    let filter = SeccompFilter::new(
        BTreeMap::from([(call, Vec::new())]),
        SeccompAction::Allow,
        SeccompAction::Errno(libc::EPERM.cast_unsigned()),
        std::env::consts::ARCH.try_into().unwrap(),
    );
    let program: BpfProgram = filter.unwrap().try_into().unwrap();
    let thread = thread::spawn(move || {
        seccompiler::apply_filter(&program).unwrap();
        test();
    });
    thread.join().unwrap();
}

#[test]
fn auto_falls_back_to_epoll_and_says_why() {
    let _turn = serially();
    for call in [libc::SYS_io_uring_setup, libc::SYS_io_uring_register, libc::SYS_io_uring_enter] {
        where_refused(call, || {
            let node = Node::start(IoMode::Auto, 2, Manner::Echo, |_| {});
            assert!(matches!(node.io, Io::Epoll(Some(UringRefusal::SystemCall { .. }))), "{}", node.io);
            assert!(node.io.to_string().contains("Operation not permitted"), "{}", node.io);
            let mut peer = node.connect();
            peer.write_all(b"hello").unwrap();
            peer.read_exact(&mut [0; 5]).unwrap();
            node.stop();
        });
    }
}

#[test]
fn uring_on_demand_is_refused_with_the_reason() {
    let _turn = serially();
    where_refused(libc::SYS_io_uring_setup, || {
        let result = Node::try_start(IoMode::Uring, 1, Manner::Echo, |_| {});
        let error = result.map(|_| ()).unwrap_err();
        assert!(matches!(error, DriverError::UringRefused(_)), "{error}");
        assert!(error.to_string().contains("io_uring_setup is refused: Operation not permitted"), "{error}");
    });
}

#[test]
fn auto_prefers_io_uring_where_it_is_allowed() {
    let _turn = serially();
    let node = Node::start(IoMode::Auto, 1, Manner::Echo, |_| {});
    assert!(matches!(node.io, Io::Uring), "{}", node.io);
    node.stop();
}
