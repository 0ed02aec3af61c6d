//! What the hot path takes, without sockets: `cargo bench --bench hot_path`, or with a case's name behind `--`.
//!
//! An element is what the case calls an operation: a frame, a message, a delivery, a lookup, a hop. The same
//! cases are counted in instructions, which say more on a machine that others use too: `cargo xtask
//! instructions`. Only the hop between two threads is timed here alone; it needs two processors of its own.

mod cases;
mod crowd;

use std::{
    hint,
    ops::ControlFlow,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use cases::{
    Subject,
    hop::{BATCH, Parties, Sender},
};
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use webrocket_state::ShardId;

/// What the server uses.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn hot_path(criterion: &mut Criterion) {
    for case in cases::all() {
        let mut group = criterion.benchmark_group(case.group);
        group.measurement_time(Duration::from_secs(2)).warm_up_time(Duration::from_millis(500));
        group.throughput(Throughput::Elements(case.operations));
        let mut subject = None;
        group.bench_function(case.name, |bencher| {
            let subject = subject.get_or_insert_with(case.prepare);
            bencher.iter_custom(|runs| (0..runs).map(|_| take_time(&mut **subject)).sum());
        });
        group.finish();
    }
}

fn take_time(subject: &mut dyn Subject) -> Duration {
    let begun = Instant::now();
    subject.run();
    let elapsed = begun.elapsed();
    subject.restore();
    elapsed
}

fn hop(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("hop");
    group.measurement_time(Duration::from_secs(2)).warm_up_time(Duration::from_millis(500));
    group.throughput(Throughput::Elements(BATCH));
    let mut threads = None;
    group.bench_function("two threads, 64 a batch", |bencher| {
        let threads = threads.get_or_insert_with(TwoThreads::new);
        bencher.iter_custom(|batches| threads.pass(batches));
    });
    group.finish();
}

/// Each end in a thread of its own; the receiver looks again and again.
struct TwoThreads {
    parties: Parties,
    sender: Sender,
    received: Arc<AtomicU64>,
    is_over: Arc<AtomicBool>,
    receiver: Option<JoinHandle<()>>,
}

impl TwoThreads {
    fn new() -> Self {
        let mut parties = Parties::new();
        let port = parties.ports.pop_back().expect("there are two");
        let (received, is_over) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicBool::new(false)));
        let (counter, over) = (Arc::clone(&received), Arc::clone(&is_over));
        let receiver = thread::spawn(move || {
            let mut count = 0;
            while !over.load(Ordering::Relaxed) {
                port.receive(|_, message| {
                    hint::black_box(message);
                    count += 1;
                    ControlFlow::Continue(())
                });
                counter.store(count, Ordering::Release);
                hint::spin_loop();
            }
        });
        Self { parties, sender: Sender::new(ShardId(2)), received, is_over, receiver: Some(receiver) }
    }

    /// Sends so many batches; how long until the other thread had all of them.
    fn pass(&mut self, batches: u64) -> Duration {
        let expected = self.received.load(Ordering::Acquire) + batches * BATCH;
        let begun = Instant::now();
        for _ in 0..batches {
            self.sender.send_batch(&self.parties.ports[0]);
        }
        while self.received.load(Ordering::Acquire) < expected {
            hint::spin_loop();
        }
        begun.elapsed()
    }
}

impl Drop for TwoThreads {
    fn drop(&mut self) {
        self.is_over.store(true, Ordering::Relaxed);
        self.receiver.take().expect("dropped once").join().expect("it only receives");
    }
}

criterion_group!(benches, hot_path, hop);
criterion_main!(benches);
