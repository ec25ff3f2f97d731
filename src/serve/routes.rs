//! What the server answers.

use std::sync::Arc;
use std::time::Instant;

use axum::body::Bytes;
use axum::extract::multipart::MultipartError;
use axum::extract::{DefaultBodyLimit, FromRequest, Multipart, Request, State};
use axum::http::{HeaderValue, StatusCode, Uri, header};
use axum::middleware::{self, Next};
use axum::response::{Html, IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Extension, Router};
use serde_json::{Value, json};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::JoinSet;

use super::batcher::Batcher;
use super::metrics::Metrics;
use super::{Limits, Model, openapi};
use crate::data::{Framing, claimed_size, prepare};
use crate::ops::loss;

/// Classes that are named unless a request says how many.
pub(super) const TOP: usize = 5;

/// What all requests share.
#[derive(Debug, Clone)]
pub(super) struct Shared {
    pub(super) model: Arc<Model>,
    pub(super) metrics: Arc<Metrics>,
    pub(super) limits: Limits,
    pub(super) batcher: Batcher,
    /// Requests that may be at work or wait.
    pub(super) places: Arc<Semaphore>,
}

pub(super) fn router(shared: Shared) -> Router {
    let work = Router::new()
        .route("/predict", post(predict))
        .route("/batch", post(batch))
        .layer(DefaultBodyLimit::max(shared.limits.bytes))
        .layer(middleware::from_fn_with_state(shared.clone(), limited));
    Router::new()
        .route("/", get(page))
        .route("/health", get(health))
        .route("/metrics", get(metrics))
        .route("/openapi.json", get(description))
        .merge(work)
        .fallback(unknown)
        .method_not_allowed_fallback(not_allowed)
        .layer(middleware::from_fn_with_state(shared.clone(), counted))
        .with_state(shared)
}

/// An answer that is an error: what and what to do, as JSON.
struct Refused(StatusCode, String);

impl Refused {
    fn json(&self) -> Value {
        json!({ "error": self.1 })
    }
}

impl IntoResponse for Refused {
    fn into_response(self) -> Response {
        let mut response = (self.0, axum::Json(self.json())).into_response();
        if self.0 == StatusCode::SERVICE_UNAVAILABLE {
            let soon = HeaderValue::from_static("1");
            response.headers_mut().insert(header::RETRY_AFTER, soon);
        }
        response
    }
}

/// Counts requests and their time, and says what browsers may do with an answer.
async fn counted(State(shared): State<Shared>, request: Request, next: Next) -> Response {
    let started = Instant::now();
    let path = match request.uri().path() {
        "/" => "/",
        "/predict" => "/predict",
        "/batch" => "/batch",
        "/health" => "/health",
        "/metrics" => "/metrics",
        "/openapi.json" => "/openapi.json",
        // What clients make up must not fill the memory.
        _ => "other",
    };
    let mut response = next.run(request).await;
    let headers = response.headers_mut();
    headers.insert(
        header::X_CONTENT_TYPE_OPTIONS,
        HeaderValue::from_static("nosniff"),
    );
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    let status = response.status().as_u16();
    shared.metrics.request(path, status, started.elapsed());
    response
}

/// The place that a request takes until all of its work is over.
#[derive(Debug, Clone)]
struct Held(#[expect(dead_code, reason = "held until it is dropped")] Arc<OwnedSemaphorePermit>);

/// Turns away what is too much, and ends what takes too long.
async fn limited(State(shared): State<Shared>, mut request: Request, next: Next) -> Response {
    let Ok(place) = Arc::clone(&shared.places).try_acquire_owned() else {
        let message = format!(
            "{} requests are at work or waiting already; try again in a second",
            shared.limits.requests
        );
        return Refused(StatusCode::SERVICE_UNAVAILABLE, message).into_response();
    };
    request.extensions_mut().insert(Held(Arc::new(place)));
    let limit = shared.limits.time;
    match tokio::time::timeout(limit, next.run(request)).await {
        Ok(response) => response,
        Err(_) => {
            let message = format!("not done within {} s", limit.as_secs_f64());
            Refused(StatusCode::GATEWAY_TIMEOUT, message).into_response()
        }
    }
}

async fn predict(
    State(shared): State<Shared>,
    Extension(held): Extension<Held>,
    request: Request,
) -> Result<Response, Refused> {
    let top = top(request.uri())?;
    let limit = shared.limits.bytes;
    let body = Bytes::from_request(request, &()).await.map_err(|error| {
        let status = error.status();
        match status {
            StatusCode::PAYLOAD_TOO_LARGE => too_large(limit),
            _ => Refused(status, error.body_text()),
        }
    })?;
    let answer = classify(&shared, held, body, top).await?;
    Ok(axum::Json(answer).into_response())
}

async fn batch(
    State(shared): State<Shared>,
    Extension(held): Extension<Held>,
    request: Request,
) -> Result<Response, Refused> {
    let top = top(request.uri())?;
    let mut form = Multipart::from_request(request, &())
        .await
        .map_err(|error| Refused(error.status(), error.body_text()))?;
    let limit = shared.limits.bytes;
    // A form that breaks off is its sender's matter.
    let broken = |error: MultipartError| match error.status() {
        StatusCode::PAYLOAD_TOO_LARGE => too_large(limit),
        _ => Refused(StatusCode::BAD_REQUEST, error.body_text()),
    };
    let mut names = Vec::new();
    let mut tasks = JoinSet::new();
    while let Some(field) = form.next_field().await.map_err(broken)? {
        if names.len() == shared.limits.pictures {
            let message = format!(
                "more than {} pictures; send several requests",
                shared.limits.pictures
            );
            return Err(Refused(StatusCode::PAYLOAD_TOO_LARGE, message));
        }
        let name = field.file_name().or(field.name()).unwrap_or_default();
        let name = name.to_owned();
        let bytes = field.bytes().await.map_err(broken)?;
        let (shared, held, index) = (shared.clone(), held.clone(), names.len());
        tasks.spawn(async move { (index, classify(&shared, held, bytes, top).await) });
        names.push(name);
    }
    if names.is_empty() {
        let message = "there is no picture in the form; add files to it, under any name";
        return Err(Refused(StatusCode::BAD_REQUEST, message.into()));
    }
    let mut answers = vec![json!({ "error": "it was given up" }); names.len()];
    while let Some(done) = tasks.join_next().await {
        if let Ok((index, answer)) = done {
            answers[index] = answer.unwrap_or_else(|refused| refused.json());
        }
    }
    for (answer, name) in answers.iter_mut().zip(names) {
        answer["name"] = name.into();
    }
    Ok(axum::Json(answers).into_response())
}

fn too_large(limit: usize) -> Refused {
    let message = format!("larger than {limit} bytes; send a smaller picture");
    Refused(StatusCode::PAYLOAD_TOO_LARGE, message)
}

/// `top=N` of an address.
fn top(uri: &Uri) -> Result<usize, Refused> {
    let pairs = uri.query().unwrap_or_default().split('&');
    let mut top = TOP;
    for pair in pairs.filter(|pair| !pair.is_empty()) {
        match pair.split_once('=') {
            Some(("top", number)) => match number.parse() {
                Ok(number) if number > 0 => top = number,
                _ => {
                    let message = "`top` is a number above 0";
                    return Err(Refused(StatusCode::BAD_REQUEST, message.into()));
                }
            },
            _ => {
                let message = "only `top` may stand behind the `?`";
                return Err(Refused(StatusCode::BAD_REQUEST, message.into()));
            }
        }
    }
    Ok(top)
}

/// What the network takes a picture for.
async fn classify(shared: &Shared, held: Held, bytes: Bytes, top: usize) -> Result<Value, Refused> {
    let place = shared
        .batcher
        .place()
        .await
        .map_err(|error| broken(&error))?;
    let (model, most) = (Arc::clone(&shared.model), shared.limits.pixels);
    let decoded = tokio::task::spawn_blocking(move || {
        // Whoever waited may have gone; the work goes on, and its place is taken that long.
        let _held = held;
        if let Some((width, height)) = claimed_size(&bytes)
            && u64::from(width) * u64::from(height) > most
        {
            let message = format!(
                "{width} x {height} pixels, more than {} megapixels; send a smaller picture",
                most / 1_000_000
            );
            return Err(Refused(StatusCode::PAYLOAD_TOO_LARGE, message));
        }
        prepare(&bytes, &model.preprocess, Framing::Resized)
            .map_err(|flaw| Refused(StatusCode::UNPROCESSABLE_ENTITY, flaw.to_string()))
    });
    let pixels = match decoded.await {
        Ok(decoded) => decoded?,
        Err(_) => return Err(broken("the decoder has stopped")),
    };
    let probabilities = place.probabilities(pixels).await;
    let probabilities = probabilities.map_err(|error| broken(&error))?;
    let ranked = loss::ranked(&shared.model.classes, &probabilities, top);
    let classes = ranked
        .into_iter()
        .map(|(class, probability)| json!({ "class": class, "probability": probability }));
    Ok(json!({ "classes": classes.collect::<Vec<_>>() }))
}

/// Our own fault.
fn broken(reason: &str) -> Refused {
    Refused(StatusCode::INTERNAL_SERVER_ERROR, reason.to_owned())
}

async fn page() -> Response {
    let policy = "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; \
                  img-src blob:; connect-src 'self'; base-uri 'none'; form-action 'none'";
    let headers = [(header::CONTENT_SECURITY_POLICY, policy)];
    (headers, Html(include_str!("upload.html"))).into_response()
}

async fn health(State(shared): State<Shared>) -> Response {
    axum::Json(json!({ "status": "ok", "model": shared.model.name })).into_response()
}

async fn metrics(State(shared): State<Shared>) -> Response {
    let busy = shared.limits.requests - shared.places.available_permits();
    let kind = [(header::CONTENT_TYPE, "text/plain; version=0.0.4")];
    (kind, shared.metrics.text(busy)).into_response()
}

async fn description(State(shared): State<Shared>) -> Response {
    axum::Json(openapi::description(&shared.model, &shared.limits)).into_response()
}

async fn unknown() -> Refused {
    let message = "there is nothing here; see `/openapi.json`";
    Refused(StatusCode::NOT_FOUND, message.into())
}

async fn not_allowed() -> Refused {
    let message = "not with this method; see `/openapi.json`";
    Refused(StatusCode::METHOD_NOT_ALLOWED, message.into())
}
