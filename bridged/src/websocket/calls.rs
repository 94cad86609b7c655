//! The responses that are under way on one socket, and which of them an event belongs to.
//!
//! In come the calls that go upstream and the provider's messages; out come ended records. Responses of one lane
//! (`stream_id`) come in the order in which they were asked for, lanes side by side, so an event belongs to the
//! response that it names, else to the one that is running in its lane, else to the one that waits there.
//! Invariant: every record that is taken in is ended, at the latest with the socket.

use std::borrow::Cow;

use providers::{ClientEvent, Inspection, ReplyFacts, ServerEvent, Tap, Told, throttle};
use tokio::sync::oneshot;
use tokio::time::Instant;

use super::relay::End;
use crate::exchange;
use crate::record::{Finish, Outcome, Recording};
use crate::relay::conclude;

/// The status of a reply that came over a socket.
const SWITCHED: u16 = 101;

/// Resolves when the end of a record is committed.
pub(super) type Commit = oneshot::Receiver<()>;

type Lane = Option<Box<str>>;

/// The responses under way, in the order in which they were asked for.
#[derive(Debug, Default)]
pub(super) struct Calls {
    open: Vec<Open>,
    /// What the client last added to a response that was running; the response that takes it up is not asked for.
    steered: Option<(Lane, Inspection)>,
    /// The model that was last asked.
    model: Option<String>,
}

/// One response.
#[derive(Debug)]
struct Open {
    lane: Lane,
    stage: Stage,
    /// The client has asked for its end.
    cancelled: bool,
    sent: Instant,
    /// None: it only warms the connection up.
    record: Option<Box<Record>>,
}

#[derive(Debug)]
enum Stage {
    Waiting,
    Running { id: Option<Box<str>> },
}

#[derive(Debug)]
struct Record {
    tap: Tap,
    recording: Recording,
}

/// What came of an event.
#[derive(Debug, Default)]
pub(super) struct Observed {
    /// The records that it ended.
    pub(super) commits: Vec<Commit>,
    /// It begins a response that nobody asked for.
    pub(super) unasked: bool,
}

impl Calls {
    /// How many responses are under way.
    pub(super) fn len(&self) -> usize {
        self.open.len()
    }

    /// Takes in a call that goes upstream now, without a record if it only warms up.
    pub(super) fn begin(&mut self, lane: Option<&str>, model: Option<&str>, recording: Option<Recording>) {
        self.model = model.map(str::to_owned);
        self.open.push(Open {
            lane: lane.map(Box::from),
            stage: Stage::Waiting,
            cancelled: false,
            sent: Instant::now(),
            record: recording.map(|recording| Box::new(Record::new(recording))),
        });
    }

    /// Notes that the client wants a response to end.
    pub(super) fn cancel(&mut self, event: &ClientEvent<'_>) {
        let at = self
            .named(event.response_id.as_deref())
            .or_else(|| self.first(event.lane.as_deref(), Open::is_running))
            .or_else(|| self.first(event.lane.as_deref(), Open::is_waiting));
        if let Some(call) = at.and_then(|at| self.open.get_mut(at)) {
            call.cancelled = true;
        }
    }

    /// Notes what the client adds to a response.
    pub(super) fn steer(&mut self, lane: Option<&str>, inspection: Inspection) {
        self.steered = Some((lane.map(Box::from), inspection));
    }

    /// What a response that nobody asked for answers.
    pub(super) fn unasked(&mut self, lane: Option<&str>) -> Inspection {
        let steered = self.steered.take_if(|(of, _)| of.as_deref() == lane);
        let mut inspection = steered.map(|(_, inspection)| inspection).unwrap_or_default();
        inspection.model = inspection.model.or_else(|| self.model.clone());
        inspection.stream = true;
        inspection
    }

    /// Takes a message of the provider's in.
    pub(super) fn observe(&mut self, message: &[u8]) -> Observed {
        let event = providers::server_event(message);
        let mut observed = Observed::default();
        if event.told == Told::Created {
            observed.commits.extend(self.supersede(&event));
        }
        let Some(at) = self.whose(&event) else {
            observed.unasked = event.told == Told::Created;
            return observed;
        };
        let over = self
            .open
            .get_mut(at)
            .is_some_and(|call| call.read(&event, message));
        if over {
            observed.commits.extend(self.open.remove(at).conclude(&event));
        }
        observed
    }

    /// Ends what is still under way.
    pub(super) fn end_all(&mut self, end: &End) -> Vec<Commit> {
        let calls = std::mem::take(&mut self.open);
        calls.into_iter().filter_map(|call| call.cut(end)).collect()
    }

    fn whose(&self, event: &ServerEvent<'_>) -> Option<usize> {
        if let Some(at) = self.named(event.response_id.as_deref()) {
            return Some(at);
        }
        let unnamed = event.response_id.is_none();
        let waiting = || self.first(event.lane.as_deref(), Open::is_waiting);
        let running = || self.first(event.lane.as_deref(), Open::is_running);
        let nameless = || {
            self.first(event.lane.as_deref(), |call| {
                call.is_running() && (unnamed || call.is_nameless())
            })
        };
        match event.told {
            Told::Created => waiting(),
            // What was asked last was refused, more likely than what is running broken.
            Told::Error => waiting().or_else(running),
            Told::Ended => nameless().or_else(waiting),
            Told::Done | Told::Cancelled => nameless(),
            Told::Other => running().or_else(waiting),
        }
    }

    /// Ends the response that was running in a lane in which the next one begins.
    fn supersede(&mut self, event: &ServerEvent<'_>) -> Option<Commit> {
        let lane = event.lane.as_deref();
        if self.named(event.response_id.as_deref()).is_some() {
            return None;
        }
        let at = self
            .open
            .iter()
            .position(|call| call.lane.as_deref() == lane && call.is_running())?;
        let message = "the provider began the next response without ending this one";
        self.open.remove(at).finish(SWITCHED, false, |facts| Finish {
            facts: Some(facts),
            ..Finish::failed(Outcome::Failed, "superseded", message.to_owned())
        })
    }

    fn named(&self, id: Option<&str>) -> Option<usize> {
        let id = id?;
        self.open.iter().position(|call| call.id() == Some(id))
    }

    /// The first in a lane. Where a provider names no lanes, events without one may belong to any.
    fn first(&self, lane: Option<&str>, fits: impl Fn(&Open) -> bool) -> Option<usize> {
        let in_lane = |call: &Open| call.lane.as_deref() == lane;
        let any = lane.is_none() && !self.open.iter().any(in_lane);
        self.open
            .iter()
            .position(|call| (any || in_lane(call)) && fits(call))
    }
}

impl Open {
    fn is_waiting(&self) -> bool {
        matches!(self.stage, Stage::Waiting)
    }

    fn is_running(&self) -> bool {
        matches!(self.stage, Stage::Running { .. })
    }

    fn is_nameless(&self) -> bool {
        matches!(self.stage, Stage::Running { id: None })
    }

    fn id(&self) -> Option<&str> {
        match &self.stage {
            Stage::Running { id } => id.as_deref(),
            Stage::Waiting => None,
        }
    }

    /// Reads an event of this response; tells whether it is the last.
    fn read(&mut self, event: &ServerEvent<'_>, message: &[u8]) -> bool {
        if event.told == Told::Created {
            let id = event.response_id.as_ref().map(|id| Box::from(id.as_ref()));
            self.stage = Stage::Running { id };
            if let Some(record) = &mut self.record {
                record.recording.begun();
            }
        }
        if event.told == Told::Error && self.is_running() && std::mem::take(&mut self.cancelled) {
            // It was the wish to end it that failed.
            return false;
        }
        if let Some(record) = &mut self.record {
            record.read(message);
        }
        !matches!(event.told, Told::Created | Told::Other)
    }

    /// Ends the record as the last event says.
    fn conclude(mut self, event: &ServerEvent<'_>) -> Option<Commit> {
        let failed = event.told == Told::Error;
        let trouble = event
            .status
            .filter(|status| failed && throttle::is_failure(*status));
        if let (Some(record), Some(status)) = (&mut self.record, trouble) {
            record.recording.upstream_failed(status, event.retry_after);
        }
        let cancelled = self.cancelled;
        let status = event.status.filter(|_| failed).unwrap_or(SWITCHED);
        self.finish(status, true, |facts| {
            let completed = facts.finish_reason.as_deref() == Some("completed");
            if event.told == Told::Cancelled || (cancelled && !failed && !completed) {
                return aborted(facts);
            }
            conclude(facts, None, !failed)
        })
    }

    /// Ends the record of a response that the socket's end cut off.
    fn cut(mut self, end: &End) -> Option<Commit> {
        if let (Some(record), Stage::Waiting, Some(kind)) = (&mut self.record, &self.stage, end.desertion()) {
            record.recording.deserted(kind);
        }
        self.finish(SWITCHED, false, |facts| Finish {
            facts: Some(facts),
            ..end.finish()
        })
    }

    fn finish(self, status: u16, ended: bool, judge: impl FnOnce(ReplyFacts) -> Finish) -> Option<Commit> {
        let Record { tap, mut recording } = *self.record?;
        recording.waited(self.sent.elapsed());
        recording.answered(status);
        recording.finish(judge(tap.finish(ended)))
    }
}

fn aborted(facts: ReplyFacts) -> Finish {
    let message = "the client asked for the response to end".to_owned();
    Finish {
        facts: Some(facts),
        ..Finish::failed(Outcome::Aborted, "client_cancelled", message)
    }
}

impl Record {
    fn new(recording: Recording) -> Record {
        let limits = exchange::tap_limits(&recording);
        Record {
            tap: Tap::of_events(recording.api(), limits),
            recording,
        }
    }

    fn read(&mut self, message: &[u8]) {
        self.tap.push_event(message);
        self.recording.passed(message.len());
        if !self.recording.has_first_token() && self.tap.saw_output() {
            self.recording.first_token();
        }
    }
}

/// The lane of a message of the provider's, for a response that nobody asked for.
pub(super) fn lane_of(message: &[u8]) -> Option<Cow<'_, str>> {
    providers::server_event(message).lane
}
