//! A worker: takes orders, answers who ordered, and tells everybody. Enter ends it.
//!
//! `cargo run -p kosmonaut --example worker wr://TOKEN@localhost/world`

use std::{env, io, process::ExitCode, thread};

use kosmonaut::{Client, Error, HandlerError, Trigger, Worker};
use serde::Deserialize;
use serde_json::json;

#[derive(Deserialize)]
struct Order {
    item: String,
}

fn main() -> ExitCode {
    tracing_subscriber::fmt().init();
    let Some(url) = env::args().nth(1) else {
        eprintln!("usage: worker wr://TOKEN@host/vhost");
        return ExitCode::FAILURE;
    };
    match work(&url) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

fn work(url: &str) -> Result<(), Error> {
    let mut client = Client::new(url)?;
    client.open_channel("orders")?;
    let mut worker = Worker::new(url)?.with_filter("order");
    worker.on("order", move |trigger| take(&mut client, trigger));
    let stopper = worker.stopper();
    thread::spawn(move || {
        let _ = io::stdin().read_line(&mut String::new());
        stopper.stop();
    });
    println!("waiting for orders");
    worker.run()
}

/// An order that cannot be read is an error, is logged, and goes to another worker.
fn take(client: &mut Client, trigger: &Trigger) -> Result<(), HandlerError> {
    let Order { item } = trigger.parse()?;
    client.broadcast("orders", "ordered", &json!({"item": item, "by": trigger.uid}))?;
    let Some(sid) = &trigger.sid else { return Ok(()) };
    match client.send_message(sid, "thanks", &json!({"for": item})) {
        // The browser has gone meanwhile.
        Err(error) if error.code() == Some(404) => Ok(()),
        sent => Ok(sent?),
    }
}
