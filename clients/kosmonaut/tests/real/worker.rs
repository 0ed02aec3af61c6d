//! The Worker: who handles what, and what happens when handlers, workers and servers fail.

use std::{
    cell::Cell,
    process::{Child, Stdio},
    sync::mpsc::{self, Receiver, Sender, SyncSender},
    thread,
};

use kosmonaut::{Error, HandlerError, Stopper, Trigger, Worker};
use serde_json::json;
use webrocket_launcher::{PATIENCE, freeze, wait};

use crate::{
    browser::Browser,
    log,
    server::{Server, example},
};

type Handled = Result<(), HandlerError>;

/// A worker in a thread that is ready.
struct Hand {
    name: String,
    /// The triggers whose handler has returned well.
    handled: Receiver<Trigger>,
    stopper: Stopper,
    ended: Receiver<Result<(), Error>>,
}

impl Hand {
    /// A worker for `events`, a regular expression, and for its own name, which proves that it is ready.
    fn hire(
        browser: &mut Browser,
        url: &str,
        events: &str,
        adjust: impl FnOnce(Worker) -> Worker,
        mut handler: impl FnMut(&Trigger) -> Handled + Send + 'static,
    ) -> Self {
        thread_local!(static HIRED: Cell<u32> = const { Cell::new(0) });
        let name = format!("hand-{}", HIRED.replace(HIRED.get() + 1));
        let (tell, handled) = mpsc::channel();
        let mut worker = adjust(Worker::new(url).unwrap().with_filter(&format!("{events}|{name}")));
        let greet: Sender<Trigger> = tell.clone();
        worker.on(&name, move |trigger| Ok(greet.send(trigger.clone())?));
        worker.otherwise(move |trigger| {
            handler(trigger)?;
            Ok(tell.send(trigger.clone())?)
        });
        let stopper = worker.stopper();
        let hand = Self { name, handled, stopper, ended: run(worker) };
        hand.await_ready(browser);
        hand
    }

    fn await_ready(&self, browser: &mut Browser) {
        browser.trigger_until_placed(&self.name, &json!({}));
        assert_eq!(self.hear().event, self.name);
    }

    fn hear(&self) -> Trigger {
        self.handled.recv_timeout(PATIENCE).expect("a trigger was due")
    }

    /// The numbers of the next jobs. What has none proved that somebody is ready, and may come again.
    fn numbers(&self, count: usize) -> Vec<u64> {
        let number = || Some(self.hear().data.get("n")?.as_u64().unwrap());
        std::iter::repeat_with(number).flatten().take(count).collect()
    }

    fn stop(self) {
        self.stopper.stop();
        self.join().unwrap();
    }

    fn join(self) -> Result<(), Error> {
        self.ended.recv_timeout(PATIENCE).expect("it ends")
    }
}

/// Runs a worker in a thread; how it ends.
fn run(worker: Worker) -> Receiver<Result<(), Error>> {
    let (tell, ended) = mpsc::channel();
    thread::spawn(move || tell.send(worker.run()));
    ended
}

/// The example worker as a process, which is killed when this is dropped.
struct Example(Child);

impl Example {
    fn start(server: &Server) -> Self {
        let mut worker = example("worker");
        Self(worker.arg(server.url()).stdin(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap())
    }

    /// One that works.
    fn ready(server: &Server, browser: &mut Browser) -> Self {
        let worker = Self::start(server);
        browser.trigger_until_placed("order", &json!({"item": "fuel"}));
        assert_eq!(browser.hear(), json!({"thanks": {"for": "fuel"}}));
        worker
    }

    /// Waits until it has ended in order, which the end of its input tells it to do.
    fn end(mut self) {
        drop(self.0.stdin.take());
        assert!(wait(&mut self.0, PATIENCE).unwrap().success());
    }
}

impl Drop for Example {
    fn drop(&mut self) {
        // Where it has ended already, both only tell so.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Returns when the server takes workers for dead that have been silent since this was called.
fn outlast_silence(server: &Server) {
    let mut ann = server.browser();
    let silent = Example::ready(server, &mut ann);
    freeze(&silent.0, PATIENCE).unwrap();
    assert!(ann.trigger("order", &json!({"n": 0})));
    let heir = Hand::hire(&mut ann, &server.url(), "order", as_it_is, |_| Ok(()));
    assert_eq!(heir.numbers(1), [0], "what a dead worker had goes to another one");
    heir.stop();
}

fn as_it_is(worker: Worker) -> Worker {
    worker
}

/// A handler that waits to be let go on, and the two ends of that.
fn held() -> (impl FnMut(&Trigger) -> Handled + Send, Receiver<()>, SyncSender<()>) {
    let (begin, begun) = mpsc::channel();
    let (go_on, may_go_on) = mpsc::sync_channel(1000);
    let handler = move |_: &Trigger| {
        let _ = begin.send(());
        Ok(may_go_on.recv_timeout(PATIENCE)?)
    };
    (handler, begun, go_on)
}

#[test]
fn a_trigger_says_who_sent_what() {
    let server = Server::start();
    let mut ann = server.browser();
    let hand = Hand::hire(&mut ann, &server.url(), "job", as_it_is, |_| Ok(()));
    assert!(ann.trigger("job", &json!({"item": "fuel", "litres": 4.5, "sid": "forged"})));
    let heard = hand.hear();
    assert_eq!((heard.event.as_str(), heard.uid.as_deref(), heard.channel), ("job", Some("ann"), None));
    assert_eq!(heard.sid.as_ref(), Some(&ann.sid));
    assert_eq!(serde_json::Value::Object(heard.data), json!({"item": "fuel", "litres": 4.5}));
    assert!(!ann.trigger("another", &json!({})));
    hand.stop();
}

#[test]
fn triggers_come_in_order_whatever_the_window() {
    let server = Server::start();
    let mut ann = server.browser();
    let windows: [fn(Worker) -> Worker; 3] =
        [|worker| worker.with_window(1), |worker| worker.with_window(1000), Worker::without_acknowledgements];
    for adjust in windows {
        let hand = Hand::hire(&mut ann, &server.url(), "job", adjust, |_| Ok(()));
        ann.place(0..200);
        assert_eq!(hand.numbers(200), (0..200).collect::<Vec<_>>());
        hand.stop();
    }
}

#[test]
fn what_a_handler_failed_at_goes_to_another_worker() {
    let server = Server::start();
    let mut ann = server.browser();
    let good = Hand::hire(&mut ann, &server.url(), "job", as_it_is, |_| Ok(()));
    let (tell, failed) = mpsc::channel();
    let bad = Hand::hire(&mut ann, &server.url(), "job", as_it_is, move |trigger| {
        tell.send(())?;
        assert_ne!(trigger.data["n"].as_u64().unwrap() % 2, 0, "every other failure is a panic");
        Err("spilled".into())
    });
    ann.place(0..20);
    let mut numbers = good.numbers(20);
    numbers.sort_unstable();
    assert_eq!(numbers, (0..20).collect::<Vec<_>>());
    assert!(failed.try_iter().count() >= 2);
    bad.stop();
    good.stop();
}

#[test]
fn a_long_handler_does_not_make_its_worker_look_dead() {
    let server = Server::start();
    let mut ann = server.browser();
    let (handler, begun, go_on) = held();
    let adjust = |worker: Worker| worker.with_window(1);
    let busy = Hand::hire(&mut ann, &server.url(), "job", adjust, handler);
    ann.place([1]);
    begun.recv_timeout(PATIENCE).unwrap();
    outlast_silence(&server);
    // Of a worker that looks dead, the next one gets all that it had, and before its own name.
    let next = Hand::hire(&mut ann, &server.url(), "job", as_it_is, |_| Ok(()));
    next.stop();
    go_on.send(()).unwrap();
    assert_eq!(busy.numbers(1), [1]);
    ann.place([2]);
    go_on.send(()).unwrap();
    assert_eq!(busy.numbers(1), [2]);
    busy.stop();
}

#[test]
fn stopping_finishes_what_was_begun_and_gives_back_the_rest() {
    let server = Server::start();
    let mut ann = server.browser();
    let (handler, begun, go_on) = held();
    let first = Hand::hire(&mut ann, &server.url(), "job", as_it_is, handler);
    ann.place(0..10);
    begun.recv_timeout(PATIENCE).unwrap();
    first.stopper.stop();
    let second = Hand::hire(&mut ann, &server.url(), "job", as_it_is, |_| Ok(()));
    go_on.send(()).unwrap();
    first.ended.recv_timeout(PATIENCE).expect("it ends").unwrap();
    let finished: Vec<_> = first.handled.try_iter().map(|trigger| trigger.data["n"].as_u64()).collect();
    assert_eq!(finished, [Some(0)]);
    assert_eq!(second.numbers(9), (1..10).collect::<Vec<_>>());
    ann.place([10]);
    assert_eq!(second.numbers(1), [10], "and nothing twice");
    second.stop();
}

#[test]
fn what_nobody_acknowledges_is_handled_before_the_end() {
    let server = Server::start();
    let mut ann = server.browser();
    let (handler, begun, go_on) = held();
    let hand = Hand::hire(&mut ann, &server.url(), "job", Worker::without_acknowledgements, handler);
    ann.place([0]);
    begun.recv_timeout(PATIENCE).unwrap();
    hand.stopper.stop();
    go_on.send(()).unwrap();
    assert_eq!(hand.numbers(1), [0]);
    hand.join().unwrap();
}

#[test]
fn a_worker_that_is_refused_says_why() {
    let server = Server::start();
    let refused = |worker| run(worker).recv_timeout(PATIENCE).expect("it ends").unwrap_err().code();
    assert_eq!(refused(Worker::new(&server.url_with("x", "/world")).unwrap()), Some(402));
    assert_eq!(refused(Worker::new(&server.url_with("x", "/nowhere")).unwrap()), Some(402));
    assert_eq!(refused(Worker::new(&server.url()).unwrap().with_filter("(")), Some(400));
    let hand = Hand::hire(&mut server.browser(), &server.url(), "job", as_it_is, |_| Ok(()));
    server.regenerate_token();
    assert_eq!(hand.join().unwrap_err().code(), Some(402));
}

#[test]
fn a_worker_that_is_stopped_first_returns_at_once() {
    let worker = Worker::new("wr://x@127.0.0.1:1/nowhere").unwrap();
    worker.stopper().stop();
    run(worker).recv_timeout(PATIENCE).expect("it ends").unwrap();
}

#[test]
fn a_server_that_died_or_fell_silent_is_found_again() {
    log::keep();
    let mut server = Server::start();
    let hand = Hand::hire(&mut server.browser(), &server.url(), "job", as_it_is, |_| Ok(()));
    server.restart();
    let mut ann = server.browser();
    hand.await_ready(&mut ann);
    server.freeze();
    log::await_line(&["connecting anew: ", "the server is silent", &server.exchange().to_string()]);
    server.thaw();
    hand.await_ready(&mut ann);
    ann.place([1]);
    assert_eq!(hand.numbers(1), [1]);
    hand.stop();
}

#[test]
fn the_example_takes_orders() {
    let server = Server::start();
    let mut ann = server.browser();
    let worker = Example::ready(&server, &mut ann);
    let mut listener = server.browser();
    listener.subscribe("orders");
    assert!(ann.trigger("order", &json!({"item": "tea"})));
    let told = json!({"ordered": {"item": "tea", "by": "ann", "channel": "orders"}});
    assert_eq!((listener.hear(), ann.hear()), (told, json!({"thanks": {"for": "tea"}})));
    worker.end();
}

#[test]
fn what_a_killed_process_had_goes_to_another_worker() {
    let server = Server::start();
    let mut ann = server.browser();
    let worker = Example::ready(&server, &mut ann);
    // A frozen process takes nothing, but its connection stands: what it is given waits there until it is killed.
    freeze(&worker.0, PATIENCE).unwrap();
    for number in 0..20 {
        assert!(ann.trigger("order", &json!({"n": number})));
    }
    let heir = Hand::hire(&mut ann, &server.url(), "order", as_it_is, |_| Ok(()));
    drop(worker);
    assert_eq!(heir.numbers(20), (0..20).collect::<Vec<_>>());
    heir.stop();
}
