//! Client and Worker against a real server process, with a browser on its other side.
//!
//! The server's binaries are taken from the folder in `WEBROCKET_BIN`, else from where cargo puts them.

mod browser;
mod client;
mod log;
mod server;
mod worker;
