//! An AI call on its way in: read, inspected, and on record before anything is sent.

use bytes::Bytes;
use http::header::{CONTENT_ENCODING, HeaderMap, USER_AGENT};
use providers::{Api, Client, Inspection, Limits, Priced, Route};
use tokio::time::Instant;
use uuid::Uuid;

use super::Exchange;
use crate::admission::{Admitted, Denied, Facts, Move, Usage};
use crate::app::App;
use crate::body;
use crate::clock::Micros;
use crate::credential::Credential;
use crate::headers;
use crate::identity::Identity;
use crate::record::{CredentialKind, Finish, Mode, Outcome, Pricing, Recording, Started};
use crate::refusal::Refusal;
use crate::snapshot::Snapshot;
use crate::upstream::Upstream;

/// Bytes that a compressed request may decode to, for inspection only.
const DECODED_LIMIT: usize = 64 << 20;
/// Bytes of a request that make a token, roughly: JSON around text has more bytes than the text.
const BYTES_PER_TOKEN: u64 = 4;
/// Tokens of a reply that says nothing of its length beforehand.
const USUAL_OUTPUT: u64 = 4_096;
/// Longest `User-Agent` that is recorded, in bytes.
const USER_AGENT_LIMIT: usize = 256;

/// An AI call that has been read.
pub(crate) struct Call {
    /// The interception's id.
    pub(crate) id: Uuid,
    pub(crate) api: Api,
    pub(crate) arrived: Instant,
    pub(crate) date: Micros,
    pub(crate) mode: Mode,
    pub(crate) identity: Identity,
    pub(crate) connect_id: Option<Uuid>,
    pub(crate) request_id: Uuid,
    pub(crate) user_agent: Option<String>,
    pub(crate) client: Client,
    pub(crate) inspection: Inspection,
    /// Bytes of text in the body, decoded.
    pub(crate) request_text: usize,
    /// The head, its headers as they go upstream.
    pub(crate) parts: http::request::Parts,
    pub(crate) body: Bytes,
}

/// Buffers and inspects a request.
pub(crate) async fn receive(app: &App, route: &Route, api: Api, exchange: Exchange) -> Result<Call, Refusal> {
    let (arrived, date, mode) = (Instant::now(), app.clock.micros(), exchange.mode());
    let (mut parts, body) = exchange.request.into_parts();
    let body = body::collect(body, app.snapshot().config.max_body)
        .await
        .map_err(Refusal::Body)?;
    let (inspection, request_text) = inspect(api, &route.target.path_and_query, &parts.headers, &body);
    let client = providers::detect(&parts.headers);
    let user_agent = user_agent(&parts.headers);
    parts.headers = headers::to_upstream(&parts.headers);
    let Exchange {
        identity,
        connect_id,
        request_id,
        ..
    } = exchange;
    Ok(Call {
        // One HTTP request is one interception: the id that the client sees finds its record.
        id: request_id,
        api,
        arrived,
        date,
        mode,
        identity,
        connect_id,
        request_id,
        user_agent,
        client,
        inspection,
        request_text,
        parts,
        body,
    })
}

/// Records the start of a call. Where that cannot be done, the call is refused before anything is sent.
pub(crate) async fn record(
    app: &App,
    upstream: &Upstream,
    call: &mut Call,
    credential: &Credential,
) -> Result<Recording, Refusal> {
    let metrics = app.metrics.call(
        &upstream.name,
        call.api,
        call.inspection.model.as_deref(),
        call.client.name,
    );
    if call.inspection.prompt.is_some() {
        metrics.prompted();
    }
    let started = started(upstream, call, credential);
    let snapshot = app.snapshot();
    let recorder = app
        .recorder
        .keeping(snapshot.config.record, upstream.calls.content);
    let pricing = Pricing {
        prices: snapshot.prices.clone(),
        provider: upstream.name.clone(),
        kind: upstream.instance.kind.name(),
        asked: started.model.clone(),
    };
    let mut recording = Recording::open(
        recorder.clone(),
        app.clock.clone(),
        metrics,
        (started.id, call.api),
        call.arrived,
    );
    recording.priced_by(pricing);
    recording.asked_in(call.request_text);
    match recorder.start(started).await {
        Ok(()) => Ok(recording),
        Err(error) => {
            let refusal = Refusal::Unrecordable(error);
            recording.answered(refusal.status());
            recording.finish(Finish::failed(
                Outcome::Refused,
                refusal.code(),
                refusal.to_string(),
            ));
            Err(refusal)
        }
    }
}

/// Admits a call on a connection that is open already, with the leave of its model's breaker, and records its start.
///
/// The breaker of the instance is not asked: it guards new connections, and this one works or ends by itself.
pub(crate) async fn begin(
    app: &App,
    upstream: &Upstream,
    mut call: Call,
    credential: &Credential,
) -> Result<Recording, Refusal> {
    let asking = Asking::of(&call);
    let admitted = match asking.admit(app, &app.snapshot(), upstream) {
        Ok(admitted) => admitted,
        Err(denied) => return Err(refuse(app, upstream, call, denied.into()).await),
    };
    let model = call.inspection.model.as_deref();
    let watch = match upstream.health.admit_call(call.api, model) {
        Ok(watch) => watch,
        Err(wait) => {
            let refusal = Refusal::model_is_left_alone(upstream, model, wait);
            return Err(refuse(app, upstream, call, refusal).await);
        }
    };
    let mut recording = record(app, upstream, &mut call, credential).await?;
    recording.admitted(admitted);
    recording.watch(watch);
    Ok(recording)
}

/// Records a call that the provider has begun by itself: nobody can refuse it any more. What it uses counts where
/// there is still room to count it.
pub(crate) async fn begin_unasked(
    app: &App,
    upstream: &Upstream,
    mut call: Call,
    credential: &Credential,
) -> Result<Recording, Refusal> {
    let admitted = Asking::of(&call).admit(app, &app.snapshot(), upstream);
    let mut recording = record(app, upstream, &mut call, credential).await?;
    if let Ok(admitted) = admitted {
        recording.admitted(admitted);
    }
    Ok(recording)
}

/// What a call asks for, as far as limits and budgets can tell.
#[derive(Clone, Debug)]
pub(super) struct Asking {
    pub(super) identity: Identity,
    pub(super) model: Option<String>,
    date: Micros,
    /// Tokens that it may use, before that is known: in and out.
    tokens: (u64, u64),
}

impl Asking {
    pub(super) fn of(call: &Call) -> Asking {
        Asking {
            identity: call.identity.clone(),
            model: call.inspection.model.clone(),
            date: call.date,
            tokens: (
                call.body.len() as u64 / BYTES_PER_TOKEN,
                call.inspection.max_output.unwrap_or(USUAL_OUTPUT),
            ),
        }
    }

    /// Asks whether the call may be made now.
    pub(super) fn admit(
        &self,
        app: &App,
        snapshot: &Snapshot,
        upstream: &Upstream,
    ) -> Result<Admitted, Denied> {
        let facts = self.facts(app, snapshot, upstream);
        snapshot.admission.admit(&facts, &app.load, Instant::now())
    }

    /// Asks whether another instance may answer a call that holds `admitted`; gives what it has to hold then.
    pub(super) fn admit_elsewhere(
        &self,
        app: &App,
        snapshot: &Snapshot,
        upstream: &Upstream,
        admitted: &Admitted,
    ) -> Result<Move, Denied> {
        let facts = self.facts(app, snapshot, upstream);
        snapshot
            .admission
            .admit_elsewhere(&facts, admitted, Instant::now())
    }

    fn facts<'a>(&'a self, app: &App, snapshot: &Snapshot, upstream: &'a Upstream) -> Facts<'a> {
        let (estimate, priced) = self.estimate(snapshot, upstream);
        Facts {
            identity: &self.identity,
            provider: &upstream.name,
            model: self.model.as_deref(),
            estimate,
            priced,
            date: self.date,
            queued: app.recorder.queued(),
        }
    }

    /// What the call may use, before it is known; and whether it has a price.
    fn estimate(&self, snapshot: &Snapshot, upstream: &Upstream) -> (Usage, bool) {
        let (input, output) = self.tokens;
        let usage = providers::Usage {
            input,
            output,
            ..providers::Usage::default()
        };
        let of = Priced {
            provider: &upstream.name,
            kind: upstream.instance.kind.name(),
            answered: None,
            asked: self.model.as_deref(),
            tier: None,
        };
        // A look-up that nobody needs is not made.
        let counted = snapshot.admission.counts_money();
        let date = self.date.into();
        let cost = counted.then(|| snapshot.prices.cost(&of, &usage, date)).flatten();
        let estimate = Usage {
            tokens: input.saturating_add(output),
            micros: cost.and_then(|cost| u64::try_from(cost).ok()).unwrap_or_default(),
        };
        (estimate, cost.is_some())
    }
}

/// Puts a call that is refused on record, so that an auditor sees it; unless there are too many of them.
pub(super) async fn refuse(app: &App, upstream: &Upstream, mut call: Call, refusal: Refusal) -> Refusal {
    if !app.recorder.may_note_refusal() {
        return refusal;
    }
    let credential = Credential::of(CredentialKind::None);
    // Whether it can be recorded changes nothing for the client.
    if let Ok(mut recording) = record(app, upstream, &mut call, &credential).await {
        recording.answered(refusal.status());
        recording.finish(Finish::failed(
            Outcome::Refused,
            refusal.code(),
            refusal.to_string(),
        ));
    }
    refusal
}

/// The beginning of a call's record; what only the record needs is taken out of the call.
fn started(upstream: &Upstream, call: &mut Call, credential: &Credential) -> Started {
    let inspection = &mut call.inspection;
    Started {
        id: call.id,
        request_id: call.request_id,
        connect_id: call.connect_id,
        user: call.identity.user.clone(),
        provider: upstream.name.clone(),
        kind: upstream.instance.kind.name().into(),
        api: call.api,
        model: inspection.model.clone(),
        client: call.client.name.into(),
        client_version: call.client.version.take(),
        user_agent: call.user_agent.take(),
        session_id: call.client.session_id.take().or(inspection.session_id.take()),
        agent_id: call.client.agent_id.take(),
        parent_agent_id: call.client.parent_agent_id.take(),
        mode: call.mode,
        credential: credential.kind,
        credential_hint: credential.hint.clone(),
        credential_fingerprint: credential.marks.fingerprint.clone(),
        credential_plan: credential.marks.claims.plan.clone(),
        credential_account: credential.marks.claims.account.clone(),
        stream: inspection.stream,
        request_bytes: call.body.len() as u64,
        started_at: call.date,
        prompt: inspection.prompt.clone(),
        prompt_truncated: inspection.prompt_truncated,
        tool_results: std::mem::take(&mut inspection.tool_results),
    }
}

fn inspect(api: Api, path: &str, headers: &HeaderMap, body: &Bytes) -> (Inspection, usize) {
    let encoding = headers
        .get(CONTENT_ENCODING)
        .and_then(|value| value.to_str().ok());
    match providers::decode_body(encoding, body, DECODED_LIMIT) {
        Ok(decoded) => (
            providers::inspect(api, path, &decoded, &Limits::default()),
            providers::text_length(&decoded),
        ),
        Err(error) => {
            tracing::debug!(
                error = &error as &dyn std::error::Error,
                "a request body cannot be decoded"
            );
            (providers::inspect(api, path, b"", &Limits::default()), body.len())
        }
    }
}

pub(crate) fn user_agent(headers: &HeaderMap) -> Option<String> {
    let text = headers.get(USER_AGENT)?.to_str().ok()?;
    Some(text.get(..USER_AGENT_LIMIT).unwrap_or(text).to_owned())
}
