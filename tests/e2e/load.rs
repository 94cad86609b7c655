//! Clients that go on whatever happens: each sends one request after the other to the bridge and remembers which
//! replies it saw to their end.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use ::bytes::Bytes;
use http::Request;
use http_body_util::{BodyExt as _, Full};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

use crate::cases::Case;
use crate::harness::Gateway;

/// What the clients of a load saw.
#[derive(Default)]
pub(crate) struct Seen {
    /// The ids of requests whose reply came whole and was the provider's.
    pub(crate) whole: Vec<String>,
    /// Replies with another status than 200.
    pub(crate) refused: usize,
}

/// Clients at work.
pub(crate) struct Load {
    seen: Arc<Mutex<Seen>>,
    stop: Arc<AtomicBool>,
    clients: Vec<tokio::task::JoinHandle<()>>,
}

impl Load {
    /// Sets `clients` clients to work that ask `case` of the gateway.
    pub(crate) fn on(gateway: &Gateway, case: Case, clients: usize) -> Self {
        Self::asking(gateway, case, clients, move || Bytes::from_static(case.request))
    }

    /// The same with requests of one's own.
    pub(crate) fn asking(
        gateway: &Gateway,
        case: Case,
        clients: usize,
        request: impl Fn() -> Bytes + Clone + Send + Sync + 'static,
    ) -> Self {
        let (seen, stop) = (Arc::<Mutex<Seen>>::default(), Arc::<AtomicBool>::default());
        let client = |_| {
            let (seen, stop) = (Arc::clone(&seen), Arc::clone(&stop));
            let to = (gateway.bridge(), gateway.token());
            let request = request.clone();
            tokio::spawn(async move {
                while !stop.load(Ordering::Relaxed) {
                    // The gateway may be killed at any moment; then there is nothing more to ask.
                    if ask_on_one_connection(&to, (case, &request), &seen, &stop)
                        .await
                        .is_none()
                    {
                        tokio::time::sleep(Duration::from_millis(5)).await;
                    }
                }
            })
        };
        let clients = (0..clients).map(client).collect();
        Self { seen, stop, clients }
    }

    /// How many whole replies there are so far.
    pub(crate) fn whole(&self) -> usize {
        self.seen.lock().unwrap().whole.len()
    }

    /// How many refusals there are so far.
    pub(crate) fn refused(&self) -> usize {
        self.seen.lock().unwrap().refused
    }

    /// Ends the work.
    pub(crate) async fn stop(self) -> Seen {
        self.stop.store(true, Ordering::Relaxed);
        for client in self.clients {
            client.await.unwrap();
        }
        std::mem::take(&mut self.seen.lock().unwrap())
    }
}

async fn ask_on_one_connection(
    (bridge, token): &(SocketAddr, String),
    (case, request): (Case, &(impl Fn() -> Bytes + Sync)),
    seen: &Mutex<Seen>,
    stop: &AtomicBool,
) -> Option<()> {
    let tcp = TcpStream::connect(bridge).await.ok()?;
    let (mut sender, connection) = http1::handshake(TokioIo::new(tcp)).await.ok()?;
    let connection = tokio::spawn(connection);
    while !stop.load(Ordering::Relaxed) {
        let asked = Request::post(format!("/{}{}", case.provider, case.path))
            .header("host", "bridge")
            .header("x-coder-ai-governance-token", token)
            .header("authorization", "Bearer sk-user")
            .body(Full::new(request()))
            .unwrap();
        let answered = async {
            let response = sender.send_request(asked).await.ok()?;
            let (head, body) = response.into_parts();
            let body = body.collect().await.ok()?.to_bytes();
            Some((head, body))
        };
        let Some((head, body)) = answered.await else { break };
        let mut seen = seen.lock().unwrap();
        if head.status == 200 {
            assert_eq!(body, case.reply);
            let id = head.headers["x-causeway-request-id"].to_str().unwrap();
            seen.whole.push(id.to_owned());
        } else {
            seen.refused += 1;
        }
    }
    connection.abort();
    Some(())
}
