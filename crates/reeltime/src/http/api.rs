//! The streams as JSON.

use std::collections::HashSet;
use std::str::FromStr;

use axum::Json;
use axum::extract::rejection::{PathRejection, QueryRejection};
use axum::extract::{Path, Query, State};
use axum::http::{HeaderName, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use reeltime_core::{State as StreamState, StreamId};
use serde::Deserialize;

use super::{AppState, refusal};
use crate::checkpoint::CheckpointError;
use crate::listing::view_of;
use crate::view::StreamView;

/// Says that remembered streams are missing in an answer, and why: the state could not be
/// read. The streams of the process itself are there all the same.
const INCOMPLETE: HeaderName = HeaderName::from_static("reeltime-incomplete");

#[derive(Debug, Deserialize)]
pub(super) struct Filter {
    state: Option<String>,
}

/// `GET /api/streams[?state=S]`
pub(super) async fn streams(State(state): State<AppState>, filter: Result<Query<Filter>, QueryRejection>) -> Response {
    let filter = match filter {
        Ok(Query(filter)) => filter,
        Err(error) => return refusal(StatusCode::BAD_REQUEST, &error.body_text(), ""),
    };
    let Ok(wanted) = filter.state.as_deref().map(StreamState::from_str).transpose() else {
        let hint = StreamState::ALL.map(StreamState::as_str).join(", ");
        return refusal(StatusCode::BAD_REQUEST, "no such state", &format!("the states are {hint}"));
    };
    let Listing { streams, incomplete } = listing(&state, wanted).await;
    let mut response = Json(streams).into_response();
    if let Some(why) = incomplete {
        let why = HeaderValue::from_str(&crate::printable::printable(&why)).ok();
        let why = why.unwrap_or(HeaderValue::from_static("the state cannot be read"));
        response.headers_mut().insert(INCOMPLETE, why);
    }
    response
}

/// `GET /api/streams/{id}`
pub(super) async fn stream(State(state): State<AppState>, id: Result<Path<String>, PathRejection>) -> Response {
    let Some(id) = id.ok().and_then(|Path(id)| id.parse::<StreamId>().ok()) else {
        return refusal(StatusCode::BAD_REQUEST, "this is not a stream's id", "ids are UUIDs");
    };
    if let Some(view) = state.board.get(id) {
        return Json(view).into_response();
    }
    match remembered(&state, |record_id| record_id == id, None).await {
        Ok(mut views) => match views.pop() {
            Some(view) => Json(view).into_response(),
            None => refusal(StatusCode::NOT_FOUND, &format!("no stream {id}"), ""),
        },
        Err(error) => refusal(StatusCode::SERVICE_UNAVAILABLE, &error.to_string(), "try again later"),
    }
}

/// All streams that are known.
pub(super) struct Listing {
    /// The oldest first.
    pub(super) streams: Vec<StreamView>,
    /// Why remembered ones are missing, if they are.
    pub(super) incomplete: Option<String>,
}

/// The streams of the board, and those that only the checkpoint knows.
pub(super) async fn listing(state: &AppState, wanted: Option<StreamState>) -> Listing {
    let mut streams = state.board.all();
    let live: HashSet<String> = streams.iter().map(|stream| stream.id.clone()).collect();
    let (others, incomplete) = match remembered(state, |id| !live.contains(&id.to_string()), wanted).await {
        Ok(others) => (others, None),
        Err(error) => (Vec::new(), Some(error.to_string())),
    };
    streams.extend(others);
    streams.retain(|stream| wanted.is_none_or(|wanted| stream.state == wanted.as_str()));
    streams.sort_by(|a, b| a.id.cmp(&b.id));
    Listing { streams, incomplete }
}

async fn remembered(
    state: &AppState,
    include: impl Fn(StreamId) -> bool,
    wanted: Option<StreamState>,
) -> Result<Vec<StreamView>, CheckpointError> {
    let mut views = Vec::new();
    for record in state.checkpoint.load().await? {
        if include(record.id) && wanted.is_none_or(|wanted| record.state == wanted) {
            views.push(view_of(&record, state.checkpoint.as_ref(), &state.full_key).await?);
        }
    }
    Ok(views)
}
