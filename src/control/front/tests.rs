use super::*;
use crate::control::{
    backend::Backend, dev, fake_node::HANG, figures::ControlFigures, request::Control, serve::Gauges,
    stop::stop_signal,
};
use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    sync::Arc,
    time::Duration,
};
use tokio::sync::mpsc;

/// A connection whose first bytes, `head`, a shard has read and handed over.
fn handed_over(server: &HttpServer, head: &str) -> TcpStream {
    let listener = TcpListener::bind(SocketAddr::from(([127, 0, 0, 1], 0))).unwrap();
    let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    client.set_read_timeout(Some(HANG)).unwrap();
    let (stream, peer) = listener.accept().unwrap();
    Front::new(server.clone()).serve(HandOff { stream, peer, head: head.as_bytes().to_vec() });
    client
}

fn server(dev: bool, most: u32) -> HttpServer {
    let (stopper, stop) = stop_signal();
    std::mem::forget(stopper);
    let figures = Arc::<ControlFigures>::default();
    let gauges = Gauges {
        open: |figures| &figures.http_connections,
        refused: |figures| &figures.http_refused_total,
        figures: Arc::clone(&figures),
    };
    // Nobody owns vhosts here.
    let (requests, _) = mpsc::channel(1);
    let backend = Backend::new(Control::new(requests), 1 << 20, Arc::clone(&figures));
    HttpServer::new(router(dev, backend, figures), most, stop, gauges)
}

/// Reads one answer; its end is known by `content-length`.
fn answer(client: &mut TcpStream, head_only: bool) -> (String, String) {
    let (mut head, mut byte) = (Vec::new(), [0]);
    while !head.ends_with(b"\r\n\r\n") {
        client.read_exact(&mut byte).unwrap();
        head.push(byte[0]);
    }
    let head = String::from_utf8(head).unwrap();
    let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")).unwrap();
    let mut body = vec![0; if head_only { 0 } else { length.parse().unwrap() }];
    client.read_exact(&mut body).unwrap();
    (head, String::from_utf8(body).unwrap())
}

/// Runs `client` aside while the server's runtime goes on.
async fn aside<T: Send + 'static>(client: impl FnOnce() -> T + Send + 'static) -> T {
    tokio::task::spawn_blocking(client).await.unwrap()
}

#[tokio::test]
async fn the_demo_page_is_served_with_its_policy() {
    let mut client = handed_over(&server(true, 8), "GET / HTTP/1.1\r\nhost: a\r\n\r\nHEAD / HT");
    aside(move || {
        let (head, body) = answer(&mut client, false);
        assert!(head.starts_with("HTTP/1.1 200 OK\r\n"), "{head}");
        assert!(head.contains("content-type: text/html; charset=utf-8\r\n"), "{head}");
        assert!(head.contains("content-security-policy: default-src 'none'; "), "{head}");
        assert!(head.contains("cache-control: no-store\r\n"), "{head}");
        assert_eq!(body, dev::PAGE);
        client.write_all(b"TP/1.1\r\nhost: a\r\n\r\n").unwrap();
        let (head, _) = answer(&mut client, true);
        assert!(head.starts_with("HTTP/1.1 200 OK\r\n"), "{head}");
        client.write_all(b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 0\r\n\r\n").unwrap();
        let (head, body) = answer(&mut client, false);
        assert!(head.starts_with("HTTP/1.1 405 "), "{head}");
        assert!(head.contains("allow: GET,HEAD\r\n"), "{head}");
        assert_eq!(body, r#"{"error":"the resource does not have this method"}"#);
    })
    .await;
}

#[tokio::test]
async fn without_dev_there_is_nothing() {
    let mut client = handed_over(&server(false, 8), "GET / HTTP/1.1\r\nhost: a\r\n\r\n");
    let (head, body) = aside(move || answer(&mut client, false)).await;
    assert!(head.starts_with("HTTP/1.1 404 "), "{head}");
    assert!(head.contains("content-type: application/json\r\n"), "{head}");
    assert_eq!(body, r#"{"error":"there is no such resource"}"#);
}

#[tokio::test]
async fn a_websocket_needs_a_new_connection() {
    let mut client = handed_over(
        &server(true, 8),
        "GET /demo HTTP/1.1\r\nhost: a\r\nconnection: keep-alive, Upgrade\r\nupgrade: WebSocket\r\n\r\n",
    );
    aside(move || {
        let (head, body) = answer(&mut client, false);
        assert!(head.starts_with("HTTP/1.1 400 ") && head.contains("connection: close\r\n"), "{head}");
        assert_eq!(body, r#"{"error":"a WebSocket needs a new connection"}"#);
        assert_eq!(client.read(&mut [0]).unwrap(), 0, "closed");
    })
    .await;
}

#[tokio::test]
async fn there_is_a_bound_on_connections() {
    let server = server(true, 1);
    let first = handed_over(&server, "GET /x HTTP/1.1\r\nhost: a\r\n\r\n");
    let mut second = handed_over(&server, "GET /x HTTP/1.1\r\nhost: a\r\n\r\n");
    aside(move || {
        let (head, body) = answer(&mut second, false);
        assert!(head.starts_with("HTTP/1.1 503 Service Unavailable\r\n"), "{head}");
        assert_eq!(body, r#"{"error":"there are too many connections; try again later"}"#);
        assert_eq!(second.read(&mut [0]).unwrap(), 0, "closed");
    })
    .await;
    drop(first);
}

#[tokio::test]
async fn an_idle_connection_is_closed() {
    let server = server(true, 8).with_head_timeout(Duration::from_millis(200));
    let mut idle = handed_over(&server, "GET /x HTTP/1.1\r\nhost: a\r\n\r\n");
    let mut slow = handed_over(&server, "GET /x HTTP/1.1\r\nho");
    aside(move || {
        answer(&mut idle, false);
        assert_eq!(idle.read(&mut [0]).unwrap(), 0, "closed");
        let mut rest = Vec::new();
        slow.read_to_end(&mut rest).unwrap();
    })
    .await;
}

#[tokio::test]
async fn a_body_in_chunks_is_the_last_of_its_connection() {
    let chunks =
        "POST /x HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\ncontent-length: 0\r\n\r\n0\r\n\r\n";
    let mut client =
        handed_over(&server(false, 8), &format!("{chunks}GET /smuggled HTTP/1.1\r\nhost: a\r\n\r\n"));
    aside(move || {
        let (head, _) = answer(&mut client, false);
        assert!(head.starts_with("HTTP/1.1 404 ") && head.contains("connection: close\r\n"), "{head}");
        assert_eq!(client.read(&mut [0]).unwrap(), 0, "what follows is not looked at");
    })
    .await;
}
