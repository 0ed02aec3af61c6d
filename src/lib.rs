//! WebRocket: a broker between browsers and the applications behind them.

pub mod config;
pub mod control;
pub mod ctl;
pub mod driver;
pub mod metrics;
pub mod server;
pub mod store;
