//! Kosmonaut connects a backend to a WebRocket server, over ZeroMQ.
//!
//! A [`Client`] asks: it opens channels, broadcasts, issues single access tokens.
//!
//! ```no_run
//! # fn main() -> Result<(), kosmonaut::Error> {
//! use serde_json::json;
//!
//! let mut client = kosmonaut::Client::new("wr://TOKEN@localhost/world")?;
//! client.open_channel("news")?;
//! client.broadcast("news", "headline", &json!({"text": "Hello"}))?;
//! # Ok(())
//! # }
//! ```
//!
//! A [`Worker`] handles what browsers trigger.
//!
//! ```no_run
//! # fn main() -> Result<(), kosmonaut::Error> {
//! let mut worker = kosmonaut::Worker::new("wr://TOKEN@localhost/world")?;
//! worker.on("order", |order| {
//!     println!("{:?} orders {}", order.uid, order.data["item"]);
//!     Ok(())
//! });
//! worker.run()
//! # }
//! ```
//!
//! Both keep to one thread of yours and block it. Neither hides that a network lies between: a [`Client`] never repeats
//! a request by itself, and a handler may see a trigger again.

#![forbid(unsafe_code)]

mod address;
mod bell;
mod client;
mod error;
mod inbox;
mod link;
mod socket;
mod trigger;
mod worker;

pub use client::{Client, Member};
pub use error::Error;
pub use trigger::Trigger;
pub use worker::{HandlerError, Stopper, WINDOW_MAX, Worker};
