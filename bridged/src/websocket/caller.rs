//! Who calls over a socket: what its handshake told, and how one call is admitted and put on record.
//!
//! In comes a `response.create` that has been read; out comes its open record, or a refusal that becomes an error
//! event on the socket. A call has an id of its own and shares the handshake's request id.

use std::sync::Arc;

use bytes::Bytes;
use http::Request;
use providers::{Api, Client, ErrorShape, Inspection, Limits, Route};
use tokio::time::Instant;
use uuid::Uuid;

use crate::app::App;
use crate::clock::Micros;
use crate::credential::Credential;
use crate::exchange::{self, Exchange};
use crate::identity::Identity;
use crate::record::{Mode, Recording};
use crate::refusal::Refusal;
use crate::snapshot::Providers;
use crate::upstream::Upstream;

/// Responses that may be under way on one socket.
const RESPONSES: usize = 256;

/// Who calls over a socket.
#[derive(Debug)]
pub(super) struct Caller {
    pub(super) app: Arc<App>,
    providers: Arc<Providers>,
    index: usize,
    path: String,
    mode: Mode,
    identity: Identity,
    connect_id: Option<Uuid>,
    request_id: Uuid,
    user_agent: Option<String>,
    client: Client,
    /// What is recorded of the handshake's credential.
    credential: Credential,
    shape: ErrorShape,
}

/// When a call's message began.
#[derive(Clone, Copy, Debug)]
pub(super) struct Arrival {
    at: Instant,
    date: Micros,
}

impl Caller {
    /// The sender of a handshake.
    pub(super) fn new(
        app: &Arc<App>,
        providers: &Arc<Providers>,
        route: &Route,
        exchange: &Exchange,
        credential: &Credential,
    ) -> Caller {
        let headers = exchange.request.headers();
        let upstream = providers.upstream(route.index);
        Caller {
            app: app.clone(),
            providers: providers.clone(),
            index: route.index,
            path: route.target.path_and_query.clone(),
            mode: exchange.mode(),
            identity: exchange.identity.clone(),
            connect_id: exchange.connect_id,
            request_id: exchange.request_id,
            user_agent: exchange::user_agent(headers),
            client: providers::detect(headers),
            credential: credential.shown(),
            shape: upstream.map_or(ErrorShape::OpenAi, |upstream| {
                upstream.instance.kind.error_shape(route.endpoint)
            }),
        }
    }

    /// Now, as the beginning of a call.
    pub(super) fn arrival(&self) -> Arrival {
        Arrival {
            at: Instant::now(),
            date: self.app.clock.micros(),
        }
    }

    /// What a call asks. A response over a socket is always streamed.
    pub(super) fn inspect(&self, message: &[u8]) -> Inspection {
        let mut inspection = providers::inspect(Api::Responses, &self.path, message, &Limits::default());
        inspection.stream = true;
        inspection
    }

    /// Decides whether a call may be made; asked once for each `response.create`, before it is recorded. `open` is
    /// how many responses are under way on the socket.
    ///
    /// # Errors
    /// It may not.
    pub(super) fn admit(&self, asked: &Inspection, open: usize) -> Result<(), Refusal> {
        if open >= RESPONSES {
            return Err(Refusal::TooManyResponses { limit: RESPONSES });
        }
        if !self.identity.is_live(&self.app, self.app.clock.micros()) {
            return Err(Refusal::Ended);
        }
        let (snapshot, upstream) = (self.app.snapshot(), self.upstream()?);
        if !asked.warm_up {
            // The rest is asked when it is recorded, so that a refusal is on record too.
            return Ok(());
        }
        let model = asked.model.as_deref();
        snapshot.admission.permit(&self.identity, &upstream.name, model)?;
        // What only warms up takes no place of a recovery: its success would say little.
        match upstream.health.left_alone(Api::Responses, model) {
            Some(wait) => Err(Refusal::model_is_left_alone(upstream, model, wait)),
            None => Ok(()),
        }
    }

    fn upstream(&self) -> Result<&Upstream, Refusal> {
        self.providers
            .upstream(self.index)
            .ok_or(Refusal::UnknownProvider)
    }

    /// Takes what limits and budgets give for a call, and the leave of its model's breaker, and puts its start on
    /// record; in strict durability it is committed then.
    ///
    /// # Errors
    /// It may not be made now, or cannot be recorded.
    pub(super) async fn record(
        &self,
        inspection: Inspection,
        arrival: Arrival,
        message: Bytes,
    ) -> Result<Recording, Refusal> {
        let upstream = self.upstream()?;
        let call = self.call(inspection, arrival, message);
        // Boxed: it lives only while a call begins, and sockets are many.
        Box::pin(exchange::begin(&self.app, upstream, call, &self.credential)).await
    }

    /// Puts a response on record that the provider has begun by itself.
    ///
    /// # Errors
    /// It cannot be recorded.
    pub(super) async fn record_unasked(&self, inspection: Inspection) -> Result<Recording, Refusal> {
        let upstream = self.upstream()?;
        let call = self.call(inspection, self.arrival(), Bytes::new());
        Box::pin(exchange::begin_unasked(
            &self.app,
            upstream,
            call,
            &self.credential,
        ))
        .await
    }

    fn call(&self, inspection: Inspection, arrival: Arrival, message: Bytes) -> exchange::Call {
        let (parts, ()) = Request::new(()).into_parts();
        exchange::Call {
            id: Uuid::now_v7(),
            api: Api::Responses,
            arrived: arrival.at,
            date: arrival.date,
            mode: self.mode,
            identity: self.identity.clone(),
            connect_id: self.connect_id,
            request_id: self.request_id,
            user_agent: self.user_agent.clone(),
            client: self.client.clone(),
            inspection,
            request_text: providers::text_length(&message),
            parts,
            body: message,
        }
    }

    /// The error event that answers a refused call; counted and logged.
    pub(super) fn refuse(&self, refusal: &Refusal, lane: Option<&str>) -> Vec<u8> {
        self.app.metrics.refused(refusal.code());
        tracing::info!(
            request = %self.request_id,
            reason = refusal.code(),
            status = refusal.status(),
            error = refusal as &dyn std::error::Error,
            "call on a WebSocket refused"
        );
        refusal.event(self.shape, self.request_id, lane)
    }
}
