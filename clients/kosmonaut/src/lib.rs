#![doc = include_str!("../README.md")]
//!
//! # How it is built
//!
//! A [`Client`] asks: it opens channels, broadcasts, issues single access tokens. A [`Worker`] handles what browsers
//! trigger: its link to the server is a thread of its own, its handlers run in yours.
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
