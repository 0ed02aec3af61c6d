//! The backends' side under load: `trigger` (browser to worker) and `request` (clients), each beside its floor.
//!
//! The floor is a bare broker on one ROUTER socket, without our logic ([`broker`]), as a process of its own that
//! gets the same payloads and the same acknowledgements. Server and floor take turns in one run, so that their ratio
//! holds although the machine is noisy.

mod broker;
mod client;
mod payload;
mod peers;
mod report;
mod request;
mod side;
mod trigger;
mod worker;

pub(crate) use broker::{Options as BrokerOptions, run as run_broker};
pub(crate) use request::{Options as RequestOptions, run as run_request};
pub(crate) use trigger::{Options as TriggerOptions, run as run_trigger};
