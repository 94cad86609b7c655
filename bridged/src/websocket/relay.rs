//! An open socket of AI calls: two directions that run side by side until the socket ends.
//!
//! `up` carries the client's messages and puts each call on record before it goes on; `down` carries the provider's
//! and ends the records. Each reads the frames as they pass and neither changes a byte. Invariant: however a socket
//! ends, the records of the responses that were under way are ended, by who ended it.

use std::future::{pending, poll_fn};
use std::io;
use std::mem::MaybeUninit;
use std::pin::Pin;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::task::Poll;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf, split};
use tokio::sync::{Notify, mpsc};
use tokio_util::sync::CancellationToken;

use super::caller::Caller;
use super::calls::{Calls, Commit};
use super::down::{Down, Word};
use super::up::Up;
use crate::activity::Activity;
use crate::record::{Finish, Outcome};

/// Bytes read at once.
const CHUNK: usize = 16 << 10;
/// Longest time that the end of a response waits for its record.
const COMMIT_WAIT: Duration = Duration::from_secs(5);
/// How long a socket may be silent once one of its directions has ended.
const HALF_CLOSED_SILENCE: Duration = Duration::from_secs(5);
/// How long responses may still run once the process is to end.
const LAST_RESPONSES: Duration = Duration::from_secs(20);
/// How often that is looked at.
const LOOK: Duration = Duration::from_millis(20);
/// How long either side may take to hear that it is over.
const FAREWELL: Duration = Duration::from_secs(1);

/// Why a socket ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum End {
    /// The client closed it or went away.
    Client,
    /// The client sent what is no frame.
    Unreadable,
    /// The upstream closed it, with this code and reason.
    Upstream(Option<u16>, String),
    /// The upstream's connection broke.
    Broken,
    /// Nothing came from either side for so long.
    Silent(Duration),
    /// The process is to end.
    Stopping,
}

/// Codes of a close that say that the upstream is in trouble: it goes away, has failed, restarts, or is overloaded,
/// or stands behind something that failed (RFC 6455 section 7.4.1 and its registry). The others speak of the client.
const TROUBLE: [u16; 5] = [1001, 1011, 1012, 1013, 1014];

impl End {
    /// The word for an upstream that left a call without a reply for a reason of its own.
    pub(super) fn desertion(&self) -> Option<&'static str> {
        match self {
            End::Broken => Some("upstream_broken"),
            End::Upstream(code, _) if code.is_none_or(|code| TROUBLE.contains(&code)) => {
                Some("upstream_closed")
            }
            _ => None,
        }
    }

    /// How the record of a response ends that was under way.
    pub(super) fn finish(&self) -> Finish {
        let (outcome, kind, message) = match self {
            End::Client => (
                Outcome::Aborted,
                "client_closed",
                "the client closed the socket before the response had ended".to_owned(),
            ),
            End::Unreadable => (
                Outcome::Aborted,
                "client_unreadable",
                "the client sent what is no frame of a WebSocket".to_owned(),
            ),
            End::Upstream(code, reason) => (Outcome::Failed, "upstream_closed", closed(*code, reason)),
            End::Broken => (
                Outcome::Failed,
                "upstream_broken",
                "the upstream's socket broke off".to_owned(),
            ),
            End::Silent(idle) => (
                Outcome::Failed,
                "upstream_silent",
                format!("nothing came over the socket for {} s", idle.as_secs_f64()),
            ),
            End::Stopping => (
                Outcome::Aborted,
                "gateway_stopped",
                "the gateway ended before the response did".to_owned(),
            ),
        };
        Finish::failed(outcome, kind, message)
    }
}

fn closed(code: Option<u16>, reason: &str) -> String {
    match (code, reason) {
        (None, _) => "the upstream closed the socket".to_owned(),
        (Some(code), "") => format!("the upstream closed the socket: {code}"),
        (Some(code), reason) => format!("the upstream closed the socket: {code}, {reason}"),
    }
}

/// What both directions know.
#[derive(Debug)]
pub(super) struct Shared<'a> {
    pub(super) caller: Caller,
    pub(super) stopping: &'a CancellationToken,
    calls: Mutex<Calls>,
    activity: Activity,
    half_closed: Notify,
}

impl Shared<'_> {
    /// The responses under way; never held while anything is waited for.
    pub(super) fn calls(&self) -> MutexGuard<'_, Calls> {
        self.calls.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Ends what is under way, and waits until that is on record.
    pub(super) async fn end_calls(&self, end: &End) {
        let commits = self.calls().end_all(end);
        committed(commits).await;
    }

    /// Reads what there is, into memory that lives only as long as it is needed; nothing at the stream's end. A TLS
    /// peer that leaves without a word has ended too.
    pub(super) async fn read(&self, from: &mut (impl AsyncRead + Unpin)) -> io::Result<Vec<u8>> {
        let chunk = poll_fn(|cx| {
            let mut memory = [const { MaybeUninit::uninit() }; CHUNK];
            let mut chunk = ReadBuf::uninit(&mut memory);
            match Pin::new(&mut *from).poll_read(cx, &mut chunk) {
                Poll::Pending => Poll::Pending,
                Poll::Ready(Err(error)) if error.kind() != io::ErrorKind::UnexpectedEof => {
                    Poll::Ready(Err(error))
                }
                Poll::Ready(_) => Poll::Ready(Ok(chunk.filled().to_vec())),
            }
        })
        .await?;
        self.activity.note();
        if chunk.is_empty() {
            self.half_closed.notify_one();
        }
        Ok(chunk)
    }
}

/// Waits until records are committed; a reply must not depend on the store for longer than a few seconds.
pub(super) async fn committed(commits: Vec<Commit>) {
    let all = async {
        for commit in commits {
            // Dropped when the record is lost, which is counted where that happens.
            let _ = commit.await;
        }
    };
    let _ = tokio::time::timeout(COMMIT_WAIT, all).await;
}

/// Carries an open socket's bytes until it ends; `idle` is the longest time in which nothing may move.
pub(super) async fn relay<C, U>(
    client: C,
    upstream: U,
    caller: Caller,
    idle: Duration,
    stopping: &CancellationToken,
) where
    C: AsyncRead + AsyncWrite + Unpin,
    U: AsyncRead + AsyncWrite + Unpin,
{
    let shared = Shared {
        caller,
        stopping,
        calls: Mutex::default(),
        activity: Activity::default(),
        half_closed: Notify::new(),
    };
    let (mut from_client, mut to_client) = split(client);
    let (mut from_upstream, mut to_upstream) = split(upstream);
    let (words, spoken) = mpsc::channel(1);
    let end = {
        let up = Up::new(&mut from_client, &mut to_upstream, &shared, words.clone());
        let down = Down::new(&mut from_upstream, &mut to_client, &shared, spoken);
        tokio::select! {
            ended = async { tokio::try_join!(up.run(), down.run()) } => ended.err(),
            () = shared.activity.silent_for(idle) => Some(End::Silent(idle)),
            () = abandoned(&shared) => None,
            () = stopped(&shared, words) => Some(End::Stopping),
        }
    };
    if let Some(end) = &end {
        tracing::debug!(?end, "a WebSocket ended");
    }
    shared.end_calls(end.as_ref().unwrap_or(&End::Broken)).await;
    // Whichever side is still there learns that this was the end. What the client has sent meanwhile is read: it
    // must not turn the end into a broken connection.
    let farewell = async {
        let _ = tokio::join!(to_client.shutdown(), to_upstream.shutdown());
        let mut rest = [0; 512];
        while from_client.read(&mut rest).await.is_ok_and(|count| count > 0) {}
    };
    let _ = tokio::time::timeout(FAREWELL, farewell).await;
}

async fn abandoned(shared: &Shared<'_>) {
    shared.half_closed.notified().await;
    shared.activity.silent_for(HALF_CLOSED_SILENCE).await;
}

/// Once the process is to end: lets the responses under way come to their end, then has the client told.
async fn stopped(shared: &Shared<'_>, words: mpsc::Sender<Word>) {
    shared.stopping.cancelled().await;
    let quiet = async {
        while shared.calls().len() > 0 {
            tokio::time::sleep(LOOK).await;
        }
    };
    let _ = tokio::time::timeout(LAST_RESPONSES, quiet).await;
    if words.send(Word::going_away()).await.is_ok() {
        tokio::time::sleep(FAREWELL).await;
    } else {
        // The client has heard the upstream's own end.
        pending::<()>().await;
    }
}
