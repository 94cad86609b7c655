//! Recent troubles of clients: why connections to this gateway failed, told so that a person can cure it.
//!
//! In come signs that a listener noticed (`proxyd::troubles`); out goes a list for `causeway doctor` and the API.
//! Bounded: the same trouble of the same peer is counted, not repeated, and the oldest goes when there are too
//! many. It holds addresses, host names and words of our own, never anything else that a client sent.

use std::collections::VecDeque;
use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use serde::Serialize;
use utoipa::ToSchema;

use crate::clock::Micros;
use crate::secret::scrubbed;

/// How many troubles are kept.
const KEPT: usize = 128;
/// Longest host name kept, in bytes: longer ones are no names.
const HOST_LIMIT: usize = 255;

/// A kind of trouble: what it looks like from here, and what cures it.
#[derive(Debug, PartialEq, Eq)]
pub struct Sign {
    /// One stable word, also the metric's `reason`.
    pub reason: &'static str,
    /// What happened, as the end of a sentence that begins with the client.
    pub story: &'static str,
    /// What to do.
    pub cure: &'static str,
    /// Whether clients that work show it too, so that the next success of the same peer settles it. What is said
    /// plainly stays: another client at the same address may be the one that succeeds.
    pub fleeting: bool,
}

/// A trouble that one peer had with one host.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct Trouble {
    /// When it was seen first, RFC 3339 UTC.
    pub first_at: String,
    /// When it was seen last, RFC 3339 UTC.
    pub last_at: String,
    /// How often it was seen.
    pub count: u64,
    /// The client's address.
    #[schema(value_type = String)]
    pub peer: IpAddr,
    /// The host that the client wanted, empty where it named none.
    pub host: String,
    /// One stable word.
    pub reason: &'static str,
    /// What happened, in a sentence.
    pub explanation: String,
    /// What to do.
    pub cure: &'static str,
    /// Whether it may have meant nothing, and the same peer has since reached the same host.
    pub solved: bool,
}

#[derive(Debug)]
struct Entry {
    first_at: Micros,
    last_at: Micros,
    count: u64,
    peer: IpAddr,
    host: String,
    sign: &'static Sign,
    solved: bool,
}

/// What went wrong lately.
#[derive(Debug, Default)]
pub struct Troubles {
    recent: Mutex<VecDeque<Entry>>,
    /// Whether any waits for a success, so that connections without trouble take no lock.
    any: AtomicBool,
}

impl Troubles {
    /// Notes that `peer`, on its way to `host`, showed `sign`.
    pub fn note(&self, now: Micros, peer: IpAddr, host: &str, sign: &'static Sign) {
        // Whoever writes a proxy's URL wrongly may have a token where the host should be.
        let host = &*scrubbed(host.get(..HOST_LIMIT).unwrap_or(host));
        let mut recent = self.recent();
        let known = recent
            .iter()
            .position(|entry| entry.peer == peer && entry.host == host && entry.sign == sign);
        let mut entry = known.and_then(|at| recent.remove(at)).unwrap_or_else(|| Entry {
            first_at: now,
            last_at: now,
            count: 0,
            peer,
            host: host.to_owned(),
            sign,
            solved: false,
        });
        entry.last_at = now;
        entry.count += 1;
        entry.solved = false;
        recent.truncate(KEPT - 1);
        recent.push_front(entry);
        if sign.fleeting {
            self.any.store(true, Ordering::Release);
        }
    }

    /// Notes that `peer` has reached `host`: what may have meant nothing there did.
    pub fn solved(&self, peer: IpAddr, host: &str) {
        if !self.any.load(Ordering::Acquire) {
            return;
        }
        let mut recent = self.recent();
        for entry in recent
            .iter_mut()
            .filter(|entry| entry.sign.fleeting && entry.peer == peer && entry.host == host)
        {
            entry.solved = true;
        }
        let any = recent.iter().any(|entry| entry.sign.fleeting && !entry.solved);
        self.any.store(any, Ordering::Release);
    }

    /// The troubles, the newest first.
    pub fn list(&self) -> Vec<Trouble> {
        self.recent().iter().map(Trouble::from).collect()
    }

    fn recent(&self) -> MutexGuard<'_, VecDeque<Entry>> {
        self.recent.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl From<&Entry> for Trouble {
    fn from(entry: &Entry) -> Trouble {
        let (peer, story) = (entry.peer, entry.sign.story);
        let explanation = if entry.host.is_empty() {
            format!("a client from {peer} {story}")
        } else {
            format!("a client from {peer}, on its way to {}, {story}", entry.host)
        };
        Trouble {
            first_at: entry.first_at.rfc3339(),
            last_at: entry.last_at.rfc3339(),
            count: entry.count,
            peer,
            host: entry.host.clone(),
            reason: entry.sign.reason,
            explanation,
            cure: entry.sign.cure,
            solved: entry.solved,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    static SIGN: Sign = Sign {
        reason: "unknown_ca",
        story: "did not trust the CA",
        cure: "trust it",
        fleeting: false,
    };
    static FLEETING: Sign = Sign {
        reason: "client_left",
        story: "left",
        cure: "nothing",
        fleeting: true,
    };

    fn peer(last: u8) -> IpAddr {
        IpAddr::from([10, 0, 0, last])
    }

    #[test]
    fn the_same_trouble_is_counted_and_the_oldest_goes() {
        let troubles = Troubles::default();
        for at in 0..1_000 {
            troubles.note(Micros(at), peer(7), "api.openai.com", &SIGN);
            troubles.note(Micros(at), peer(8), &format!("host-{at}.test"), &SIGN);
        }
        let list = troubles.list();
        assert_eq!(list.len(), KEPT);
        assert_eq!(list[0].host, "host-999.test");
        assert_eq!((list[1].count, list[1].peer), (1_000, peer(7)));
        assert_eq!(
            list[1].explanation,
            "a client from 10.0.0.7, on its way to api.openai.com, did not trust the CA"
        );
    }

    #[test]
    fn a_fleeting_trouble_is_solved_for_its_own_peer_and_host_until_it_comes_back() {
        let troubles = Troubles::default();
        let solved = || troubles.list().iter().map(|one| one.solved).collect::<Vec<_>>();
        troubles.note(Micros(1), peer(1), "a.test", &FLEETING);
        troubles.note(Micros(2), peer(2), "a.test", &FLEETING);
        troubles.note(Micros(2), peer(1), "a.test", &SIGN);
        troubles.solved(peer(1), "a.test");
        assert_eq!(solved(), [false, false, true]);
        troubles.solved(peer(2), "b.test");
        assert_eq!(solved(), [false, false, true]);
        troubles.note(Micros(3), peer(1), "a.test", &FLEETING);
        assert_eq!(solved(), [false, false, false]);
    }
}
