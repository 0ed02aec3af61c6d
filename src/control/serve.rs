//! Serving HTTP/1.1 on connections, as many as there may be, until the node stops.

use std::{io::Write, sync::Arc, time::Duration};

use axum::{Router, http::Request};
use hyper::{body::Incoming, server::conn::http1};
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    service::TowerToHyperService,
};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore},
    time::{sleep, timeout},
};
use tower::ServiceExt;

use super::{connection::Connection, figures::Figure, line::Line, refusal::Refusal, stop::StopSignal};

/// How long a request's head may take, and how long a connection may be idle between requests.
pub(super) const HEAD_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a peer may take no bytes of an answer.
const WRITE_TIMEOUT: Duration = Duration::from_secs(10);
/// Length of a request's head, in bytes.
const HEAD_BYTES_MAX: usize = 64 << 10;
/// How long connections may go on when the node stops.
const STOP_TIMEOUT: Duration = Duration::from_secs(1);
/// How long to wait before accepting again after the system refused.
const ACCEPT_RETRY: Duration = Duration::from_millis(100);

/// Serves one router on any number of connections up to a bound.
#[derive(Clone)]
pub(super) struct HttpServer {
    router: Router,
    room: Arc<Semaphore>,
    most: u32,
    head_timeout: Duration,
    stop: StopSignal,
    gauges: Gauges,
}

/// Where an [`HttpServer`] counts its connections.
#[derive(Clone)]
pub(super) struct Gauges {
    /// Those that are open.
    pub(super) open: fn(&super::figures::ControlFigures) -> &Figure,
    /// Those that were refused.
    pub(super) refused: fn(&super::figures::ControlFigures) -> &Figure,
    /// All figures.
    pub(super) figures: Arc<super::figures::ControlFigures>,
}

impl HttpServer {
    /// Serves at most `most` connections at the same moment.
    pub(super) fn new(router: Router, most: u32, stop: StopSignal, gauges: Gauges) -> Self {
        let room = Arc::new(Semaphore::new(most as usize));
        Self { router, room, most, head_timeout: HEAD_TIMEOUT, stop, gauges }
    }

    /// The same with another timeout for heads.
    #[cfg(test)]
    pub(super) fn with_head_timeout(self, head_timeout: Duration) -> Self {
        Self { head_timeout, ..self }
    }

    /// Accepts and serves connections until the node stops.
    pub(super) async fn accept(self, listener: TcpListener) {
        let mut stop = self.stop.clone();
        loop {
            let accepted = tokio::select! {
                () = stop.stopping() => return,
                accepted = listener.accept() => accepted,
            };
            match accepted.and_then(|(stream, _)| stream.into_std()) {
                Ok(stream) => self.serve(stream, Vec::new()),
                Err(error) => {
                    tracing::warn!(%error, "a connection to the control API could not be accepted");
                    sleep(ACCEPT_RETRY).await;
                }
            }
        }
    }

    /// Serves a connection of which `head` was read already. At the bound the client is told so,
    /// and the connection closed.
    pub(super) fn serve(&self, stream: std::net::TcpStream, head: Vec<u8>) {
        let Ok(permit) = Arc::clone(&self.room).try_acquire_owned() else {
            (self.gauges.refused)(&self.gauges.figures).increment();
            refuse(stream);
            return;
        };
        match stream.set_nonblocking(true).and_then(|()| TcpStream::from_std(stream)) {
            Ok(stream) => {
                let _ = stream.set_nodelay(true);
                let line = Line::default();
                let connection = Connection::new(stream, head, WRITE_TIMEOUT, line.clone());
                tokio::spawn(self.clone().run(connection, line, permit));
            }
            Err(error) => tracing::warn!(%error, "an HTTP connection could not be taken over"),
        }
    }

    /// Waits until all connections are closed, but not for long.
    pub(super) async fn drained(&self) {
        let _ = timeout(STOP_TIMEOUT, self.room.acquire_many(self.most)).await;
    }

    async fn run(mut self, connection: Connection, line: Line, permit: OwnedSemaphorePermit) {
        let open = self.gauges.open;
        open(&self.gauges.figures).increment();
        let of_requests = line.clone();
        let service = self.router.clone().map_request(move |mut request: Request<Incoming>| {
            request.extensions_mut().insert(of_requests.clone());
            request
        });
        let service = TowerToHyperService::new(service);
        let serving = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(self.head_timeout)
            .max_buf_size(HEAD_BYTES_MAX)
            // A client may say that it sends nothing more and still wants its answer.
            .half_close(true)
            .serve_connection(TokioIo::new(connection), service);
        tokio::pin!(serving);
        let result = tokio::select! {
            result = serving.as_mut() => result,
            () = line.is_cut() => Ok(()),
            () = self.stop.stopping() => {
                serving.as_mut().graceful_shutdown();
                serving.as_mut().await
            }
        };
        if let Err(error) = result {
            tracing::debug!(%error, "an HTTP connection ended early");
        }
        open(&self.gauges.figures).decrement();
        drop(permit);
    }
}

/// Tells the client that there are too many connections. Best effort: it is about to be closed.
fn refuse(mut stream: std::net::TcpStream) {
    let refusal = Refusal::TooManyConnections;
    let body = serde_json::json!({ "error": refusal.to_string() }).to_string();
    let text = format!(
        "HTTP/1.1 {}\r\ncontent-type: application/json\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}",
        refusal.status(),
        body.len()
    );
    let _ = stream.set_nonblocking(true);
    let _ = stream.write_all(text.as_bytes());
    let _ = stream.shutdown(std::net::Shutdown::Write);
}
