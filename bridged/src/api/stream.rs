//! Answers that are made while they are sent: event streams, exports and long tables.
//!
//! Whoever makes the answer puts texts into a `Pipe`; the client reads them from its other end. A client that takes
//! nothing for half a minute is cut off. How many such answers run at once is bounded, in all and for each user.

use std::collections::HashMap;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::Body;
use bytes::Bytes;
use http_body::Frame;
use tokio::sync::mpsc;

use super::problem::Problem;
use crate::app::App;
use crate::identity::Identity;
use crate::store::StoreError;

/// Longest time that a client may take nothing.
const PATIENCE: Duration = Duration::from_secs(30);
/// Texts on their way to a client.
const AHEAD: usize = 4;
/// Answers at once.
const MOST: usize = 128;
/// Answers of one user at once.
const MOST_OF_USER: usize = 16;

/// The answers that run.
#[derive(Debug, Default)]
pub struct Streams(Mutex<HashMap<Arc<str>, usize>>);

/// One of the answers that may run at once.
#[derive(Debug)]
pub(super) struct Place {
    streams: Arc<Streams>,
    user: Arc<str>,
}

impl Streams {
    /// Takes a place for `user`; none where there are too many.
    fn enter(self: &Arc<Self>, user: &Arc<str>) -> Option<Place> {
        let mut running = self.lock();
        let own = running.get(user).copied().unwrap_or(0);
        if own >= MOST_OF_USER || running.values().sum::<usize>() >= MOST {
            return None;
        }
        running.insert(user.clone(), own + 1);
        Some(Place {
            streams: self.clone(),
            user: user.clone(),
        })
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Arc<str>, usize>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Place {
    /// Takes a place for the caller.
    pub(super) fn take(app: &App, caller: &Identity) -> Result<Place, Problem> {
        app.streams.enter(&caller.user).ok_or_else(|| {
            app.metrics.refused("too_many_streams");
            Problem::later("too many exports and event streams run at once")
        })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut running = self.streams.lock();
        let left = running.get(&self.user).map_or(0, |own| own.saturating_sub(1));
        if left == 0 {
            running.remove(&self.user);
        } else {
            running.insert(self.user.clone(), left);
        }
    }
}

/// Takes the parts of an answer. Dropped before `finish`, the answer breaks off, which the client notices.
#[derive(Debug)]
pub(super) struct Pipe(mpsc::Sender<Part>);

#[derive(Debug)]
enum Part {
    Text(Bytes),
    End,
}

/// The client has left or does not read, or there is nothing more to send it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Gone;

impl Gone {
    /// What could not be read is not sent; the answer breaks off.
    pub(super) fn unreadable(error: &StoreError) -> Gone {
        tracing::error!(
            error = error as &dyn std::error::Error,
            "an answer breaks off: the store cannot be read"
        );
        Gone
    }
}

/// A pipe and the body that comes out of it.
pub(super) fn pipe() -> (Pipe, Body) {
    let (sender, receiver) = mpsc::channel(AHEAD);
    (Pipe(sender), Body::new(Outlet(receiver)))
}

impl Pipe {
    /// Sends a part.
    pub(super) async fn send(&self, text: String) -> Result<(), Gone> {
        if text.is_empty() {
            return Ok(());
        }
        self.put(Part::Text(text.into())).await
    }

    /// Ends the answer.
    pub(super) async fn finish(self) {
        // Where it fails the answer breaks off, and there is nobody to tell.
        let _ = self.put(Part::End).await;
    }

    /// Waits until the client has left.
    pub(super) async fn closed(&self) {
        self.0.closed().await;
    }

    async fn put(&self, part: Part) -> Result<(), Gone> {
        match tokio::time::timeout(PATIENCE, self.0.send(part)).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(_)) => Err(Gone),
            Err(_) => {
                tracing::debug!("a client does not read its answer; it is cut off");
                Err(Gone)
            }
        }
    }
}

/// The client's end of a pipe.
struct Outlet(mpsc::Receiver<Part>);

#[derive(Debug, thiserror::Error)]
#[error("the answer broke off")]
struct BrokeOff;

impl http_body::Body for Outlet {
    type Data = Bytes;
    type Error = BrokeOff;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BrokeOff>>> {
        self.0.poll_recv(cx).map(|part| match part {
            Some(Part::Text(text)) => Some(Ok(Frame::data(text))),
            Some(Part::End) => None,
            None => Some(Err(BrokeOff)),
        })
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt;

    use super::*;

    #[test]
    fn places_are_bounded_and_come_back() {
        let streams = Arc::new(Streams::default());
        let users: Vec<Arc<str>> = (0..9).map(|n| Arc::from(format!("user-{n}"))).collect();
        let mut places = Vec::new();
        for user in &users {
            for _ in 0..MOST_OF_USER {
                places.extend(streams.enter(user));
            }
            assert!(streams.enter(user).is_none(), "no user takes them all");
        }
        assert_eq!(places.len(), MOST);
        drop(places);
        assert!(streams.enter(&users[0]).is_some());
        assert!(streams.lock().is_empty(), "nothing is kept of those who left");
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_does_not_read_is_cut_off_and_notices() {
        let (pipe, body) = pipe();
        for _ in 0..AHEAD {
            pipe.send("part".to_owned()).await.unwrap();
        }
        assert_eq!(pipe.send("more".to_owned()).await, Err(Gone));
        drop(pipe);
        assert!(body.collect().await.is_err());
        let (pipe, body) = super::pipe();
        pipe.send("whole".to_owned()).await.unwrap();
        pipe.finish().await;
        assert_eq!(body.collect().await.unwrap().to_bytes(), "whole");
    }
}
