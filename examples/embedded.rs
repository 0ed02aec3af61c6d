//! A node inside another program: start it, use it, stop it.
//!
//! `cargo run --release --example embedded`

use std::time::Duration;

use webrocket::{config::Config, server::Server};

fn main() -> anyhow::Result<()> {
    let directory = tempfile::tempdir()?;
    let config = Config {
        websocket_addr: "127.0.0.1:0".parse()?,
        control_addr: "127.0.0.1:0".parse()?,
        exchange_addr: "127.0.0.1:0".parse()?,
        stream_addr: "127.0.0.1:0".parse()?,
        data_dir: directory.path().join("webrocket"),
        node_name: Some("embedded".to_owned()),
        dev: true,
        ..Config::default()
    };
    let server = Server::start(&config)?;
    println!("{} shards on {}, at ws://{}/demo", server.shards(), server.io(), server.websocket_addr());

    let (mut browser, _) = tungstenite::connect(format!("ws://{}/demo", server.websocket_addr()))?;
    for request in [
        r#"{"subscribe":{"channel":"news"}}"#,
        r#"{"broadcast":{"event":"headline","channel":"news","data":{"text":"It works"}}}"#,
    ] {
        println!("-> {request}");
        browser.send(request.into())?;
    }
    // The acknowledgement of each request, and the broadcast itself.
    for _ in 0..3 {
        println!("<- {}", browser.read()?);
    }

    server.stop();
    println!("<- {}", browser.read()?);
    let _ = browser.flush();
    drop(browser);
    server.join()?;
    println!("stopped, in less than {:?}", Duration::from_millis(u64::from(config.close_timeout_ms)));
    Ok(())
}
