//! Real requests over loopback.

#![allow(clippy::unwrap_used)]

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use async_trait::async_trait;
use reeltime_core::{
    Limits, ObjectKey, Part, PartNumber, PartPlan, PartTable, PlanKind, Reason, State as StreamState, StreamId,
    StreamRecord, UploadState, WallTime,
};
use serde_json::Value;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;
use uuid::Uuid;

use super::*;
use crate::checkpoint::CheckpointError;
use crate::checkpoint::url::{StateUrl, open};
use crate::events::{Side, What};
use crate::telemetry::metrics::Metrics;
use crate::view::StreamView;

/// A checkpoint store that is away. (The one that is there is a real one.)
struct Away;

fn away<T>() -> Result<T, CheckpointError> {
    Err(CheckpointError::Outage { op: "load", target: "memory".to_owned(), cause: "it is\naway".to_owned() })
}

#[async_trait]
impl CheckpointStore for Away {
    fn location(&self) -> String {
        "memory".to_owned()
    }

    async fn load(&self) -> Result<Vec<StreamRecord>, CheckpointError> {
        away()
    }

    async fn find(&self, _: StreamId) -> Result<Option<StreamRecord>, CheckpointError> {
        away()
    }

    async fn load_parts(&self, _: StreamId, _: u32) -> Result<PartTable, CheckpointError> {
        away()
    }

    async fn create(&self, _: &StreamRecord) -> Result<(), CheckpointError> {
        away()
    }

    async fn record_part(&self, _: StreamId, _: u64, _: u32, _: PartNumber, _: &Part) -> Result<(), CheckpointError> {
        away()
    }

    async fn transition(&self, _: StreamState, _: &StreamRecord) -> Result<(), CheckpointError> {
        away()
    }

    async fn claim(&self, _: StreamId, _: u64, _: &str) -> Result<u64, CheckpointError> {
        away()
    }

    async fn forget(&self, _: StreamId, _: u64) -> Result<(), CheckpointError> {
        away()
    }
}

/// A state file with these streams, of each but the completed three parts of 5 MiB.
async fn remembered(dir: &Path, records: &[StreamRecord]) -> Arc<dyn CheckpointStore> {
    let store = open(&StateUrl::Sqlite(dir.join("state.db")), "cam-1").await.unwrap();
    for record in records {
        store.create(record).await.unwrap();
        let parts = if record.state == StreamState::Completed { 0 } else { 3 };
        for number in 1..=parts {
            let part = Part {
                size_bytes: 5 << 20,
                etag: String::new(),
                crc: None,
                stored_at: WallTime(0),
                uploads: 1,
                proven: None,
                dirty: false,
            };
            store.record_part(record.id, 1, 1, PartNumber::new(number).unwrap(), &part).await.unwrap();
        }
    }
    store
}

fn id(number: u128) -> StreamId {
    StreamId(Uuid::from_u128(number))
}

fn record(number: u128, state: StreamState, name: &str) -> StreamRecord {
    let failed = state == StreamState::Failed;
    StreamRecord {
        id: id(number),
        node: "cam-1".to_owned(),
        epoch: 1,
        source: "/nowhere".into(),
        source_mark: "7.2.0".into(),
        destination: "s3://archive/studio".into(),
        path: PathBuf::from("/nowhere").join(name),
        key: ObjectKey::from_bytes(name.into()),
        state,
        reason: failed.then_some(Reason::SourceMissing),
        generation: 1,
        upload: UploadState::None,
        plan: PartPlan::new(PlanKind::Uniform, 5 << 20, Limits::S3).unwrap(),
        version: None,
        size_bytes: 20 << 20,
        etag: None,
        checksum: None,
        started_at: WallTime(1_782_900_000_000),
        completed_at: None,
    }
}

struct Server {
    address: SocketAddr,
    state: AppState,
    metrics: Metrics,
    stop: CancellationToken,
    serving: JoinHandle<io::Result<()>>,
    _dir: TempDir,
}

async fn server(records: Option<Vec<StreamRecord>>) -> Server {
    let dir = tempfile::tempdir().unwrap();
    let checkpoint: Arc<dyn CheckpointStore> = match records {
        Some(records) => remembered(dir.path(), &records).await,
        None => Arc::new(Away),
    };
    let board = Board::default();
    let (metrics, registry) = Metrics::new(&board);
    let state = AppState {
        board,
        checkpoint,
        registry: Arc::new(registry),
        readiness: Arc::default(),
        full_key: Arc::new(|key| format!("studio/{key}")),
    };
    let listener = bind(SocketAddr::from(([127, 0, 0, 1], 0))).await.unwrap();
    let address = listener.local_addr().unwrap();
    let stop = CancellationToken::new();
    let serving = tokio::spawn(serve(listener, state.clone(), stop.clone()));
    Server { address, state, metrics, stop, serving, _dir: dir }
}

struct Answer {
    status: u16,
    headers: HashMap<String, String>,
    body: String,
}

impl Answer {
    fn json(&self) -> Value {
        assert_eq!(self.headers["content-type"], "application/json");
        serde_json::from_str(&self.body).unwrap()
    }
}

impl Server {
    async fn ask(&self, method: &str, target: &str) -> Answer {
        let mut connection = TcpStream::connect(self.address).await.unwrap();
        let request = format!("{method} {target} HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n");
        connection.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        connection.read_to_string(&mut answer).await.unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        let mut lines = head.lines();
        let status = lines.next().unwrap().split(' ').nth(1).unwrap().parse().unwrap();
        let headers = lines.map(|line| line.split_once(": ").unwrap());
        let headers = headers.map(|(name, value)| (name.to_lowercase(), value.to_owned())).collect();
        Answer { status, headers, body: body.to_owned() }
    }

    async fn get(&self, target: &str) -> Answer {
        self.ask("GET", target).await
    }

    fn show(&self, number: u128, change: impl FnOnce(&mut StreamView)) {
        let mut view =
            StreamView::of_record(&record(number, StreamState::Active, "live.mp4"), "studio/live.mp4".into());
        change(&mut view);
        self.state.board.show(id(number), view);
    }
}

fn three_records() -> Vec<StreamRecord> {
    vec![
        record(3, StreamState::Failed, "c.mp4"),
        record(1, StreamState::Completed, "a.mp4"),
        record(2, StreamState::Active, "b.mp4"),
    ]
}

#[tokio::test]
async fn streams_are_those_of_the_board_and_those_that_are_remembered() {
    let server = server(Some(three_records())).await;
    server.show(2, |view| {
        view.uploaded_bytes = 7;
        view.path = "the board's".to_owned();
    });
    let all = server.get("/api/streams").await;
    assert_eq!(all.status, 200);
    let all = all.json();
    let all = all.as_array().unwrap();
    assert_eq!(all.len(), 3, "the oldest first, none twice");
    assert_eq!((&all[0]["key"], &all[0]["state"]), (&"studio/a.mp4".into(), &"completed".into()));
    assert_eq!((&all[0]["uploaded_bytes"], &all[0]["parts_sent"]), (&(20 << 20).into(), &4.into()));
    assert_eq!((&all[1]["path"], &all[1]["uploaded_bytes"]), (&"the board's".into(), &7.into()));
    assert_eq!((&all[2]["reason"], &all[2]["parts_sent"]), (&"source_missing".into(), &3.into()));
    assert_eq!(all[2]["started_at"], "2026-07-01T10:00:00.000Z");
}

#[tokio::test]
async fn streams_can_be_asked_for_by_state() {
    let server = server(Some(three_records())).await;
    server.show(3, |view| view.state = "active".to_owned());
    let active = server.get("/api/streams?state=active").await.json();
    assert_eq!(active.as_array().unwrap().len(), 2, "the third is active again: {active:#}");
    assert_eq!(server.get("/api/streams?state=failed").await.json(), serde_json::json!([]));
    let bad = server.get("/api/streams?state=done").await;
    assert_eq!(bad.status, 400);
    assert!(bad.json()["hint"].as_str().unwrap().contains("pending_completion"));
    let twice = server.get("/api/streams?state=active&state=failed").await;
    assert_eq!(twice.status, 400);
    assert!(twice.json()["error"].is_string());
}

#[tokio::test]
async fn one_stream_is_found_by_its_id() {
    let server = server(Some(three_records())).await;
    server.show(9, |_| {});
    for number in [1, 9] {
        let found = server.get(&format!("/api/streams/{}", id(number))).await;
        assert_eq!((found.status, found.json()["id"].clone()), (200, id(number).to_string().into()));
    }
    assert_eq!(server.get(&format!("/api/streams/{}", id(8))).await.status, 404);
    for bad in ["7", "..%2f..%2fetc", "%ff", "0-0"] {
        let answer = server.get(&format!("/api/streams/{bad}")).await;
        assert_eq!(answer.status, 400, "{bad}");
        assert!(answer.json()["error"].is_string(), "{bad}");
    }
}

#[tokio::test]
async fn an_outage_of_the_state_leaves_the_streams_of_the_process() {
    let server = server(None).await;
    server.show(9, |_| {});
    let all = server.get("/api/streams").await;
    assert_eq!(all.json().as_array().unwrap().len(), 1);
    assert_eq!(all.headers["reeltime-incomplete"], "load in checkpoint memory: it is\\naway");
    assert_eq!(server.get(&format!("/api/streams/{}", id(9))).await.status, 200);
    let unknown = server.get(&format!("/api/streams/{}", id(8))).await;
    assert_eq!(unknown.status, 503, "it may exist");
    assert!(server.get("/").await.body.contains("Remembered streams are missing here"));
}

#[tokio::test]
async fn ready_is_who_has_scanned_and_reached_the_store() {
    let server = server(Some(three_records())).await;
    assert_eq!(server.get("/healthz").await.status, 200);
    let not_yet = server.get("/readyz").await;
    assert_eq!((not_yet.status, not_yet.json()["reasons"].as_array().unwrap().len()), (503, 2));
    server.state.readiness.scanned();
    server.state.readiness.store(Err("HeadBucket s3://b: timed out".to_owned()));
    let away = server.get("/readyz").await;
    assert_eq!((away.status, away.json()["reasons"][0].clone()), (503, "HeadBucket s3://b: timed out".into()));
    server.state.readiness.store(Ok(()));
    server.state.readiness.round();
    let ready = server.get("/readyz").await;
    assert_eq!((ready.status, ready.json()), (200, serde_json::json!({"ready": true, "reasons": []})));
    assert_eq!(server.get("/healthz").await.status, 200);
}

#[tokio::test]
async fn a_scrape_has_counters_gauges_and_its_end() {
    let server = server(Some(three_records())).await;
    let took = Duration::from_millis(30);
    for again in [false, true] {
        server.metrics.count(&What::PartStored { number: PartNumber::FIRST, size_bytes: 100, again, took });
    }
    server.metrics.count(&What::PartCopied { number: PartNumber::FIRST, size_bytes: 70, took });
    server.metrics.count(&What::Failed { reason: Reason::TooLarge });
    let away = What::Retrying { side: Side::Checkpoint, error: String::new(), hint: String::new() };
    server.metrics.count(&away);
    server.metrics.count(&What::Completed { size_bytes: 1, after_last_change: Duration::from_secs(3) });
    server.show(1, |view| view.lag_seconds = 1.5);
    server.show(2, |view| (view.uploaded_bytes, view.state) = (5, "pending_completion".to_owned()));
    server.show(3, |view| (view.lag_seconds, view.state) = (99.0, "failed".to_owned()));

    let scrape = server.get("/metrics").await;
    assert_eq!(scrape.headers["content-type"], "application/openmetrics-text; version=1.0.0; charset=utf-8");
    assert!(scrape.body.ends_with("# EOF\n"));
    let samples: HashMap<&str, f64> = (scrape.body.lines())
        .filter(|line| !line.starts_with('#'))
        .map(|line| line.rsplit_once(' ').unwrap())
        .map(|(name, value)| (name, value.parse().unwrap()))
        .collect();
    let version = concat!("reeltime_build_info{version=\"", env!("CARGO_PKG_VERSION"), "\"}");
    for (name, value) in [
        (version, 1.0),
        ("reeltime_parts_stored_total", 2.0),
        ("reeltime_parts_resent_total", 1.0),
        ("reeltime_part_bytes_sent_total", 200.0),
        ("reeltime_parts_copied_total", 1.0),
        ("reeltime_part_bytes_copied_total", 70.0),
        ("reeltime_part_seconds_count", 2.0),
        ("reeltime_part_seconds_bucket{le=\"0.02\"}", 0.0),
        ("reeltime_part_seconds_bucket{le=\"0.04\"}", 2.0),
        ("reeltime_end_to_object_seconds_sum", 3.0),
        ("reeltime_streams_discovered_total", 0.0),
        ("reeltime_streams_completed_total", 1.0),
        ("reeltime_streams_failed_total{reason=\"too_large\"}", 1.0),
        ("reeltime_streams_failed_total{reason=\"refused\"}", 0.0),
        ("reeltime_retries_total{of=\"store\"}", 0.0),
        ("reeltime_retries_total{of=\"checkpoint\"}", 1.0),
        ("reeltime_retries_total{of=\"source\"}", 0.0),
        ("reeltime_uploads_aborted_total", 0.0),
        ("reeltime_verified_bytes_total", 0.0),
        ("reeltime_events_missed_total", 0.0),
        ("reeltime_streams{state=\"active\"}", 1.0),
        ("reeltime_streams{state=\"pending_completion\"}", 1.0),
        ("reeltime_streams{state=\"completed\"}", 0.0),
        ("reeltime_streams{state=\"failed\"}", 1.0),
        ("reeltime_unsent_bytes", f64::from((20 << 20) * 2 - 5)),
        ("reeltime_lag_seconds", 1.5),
    ] {
        assert_eq!(samples.get(name), Some(&value), "{name} in\n{}", scrape.body);
    }
    for line in scrape.body.lines().filter_map(|line| line.strip_prefix("# TYPE ")) {
        let name = line.split(' ').next().unwrap();
        assert!(scrape.body.contains(&format!("# HELP {name} ")), "{name} has no help");
    }
}

#[tokio::test]
async fn the_page_shows_names_as_text() {
    let server = server(Some(Vec::new())).await;
    assert!(server.get("/").await.body.contains("No recordings yet"));
    server.show(1, |view| {
        view.path = "/rec/<script>alert(1)</script>.mp4".to_owned();
        view.reason = Some("<b>\"".to_owned());
    });
    let page = server.get("/").await;
    assert!(page.headers["content-type"].starts_with("text/html"));
    assert!(page.headers["content-security-policy"].starts_with("default-src 'none'"));
    assert!(page.body.contains("/rec/&lt;script&gt;alert(1)&lt;/script&gt;.mp4"), "{}", page.body);
    assert!(!page.body.contains("<script") && !page.body.contains("<b>"), "{}", page.body);
}

#[tokio::test]
async fn what_is_not_there_is_said_in_json() {
    let server = server(Some(Vec::new())).await;
    let missing = server.get("/nothing/here?x=1").await;
    assert_eq!((missing.status, missing.json()["error"].clone()), (404, "no such path: /nothing/here".into()));
    let post = server.ask("POST", "/api/streams").await;
    assert_eq!((post.status, post.json()["error"].clone()), (405, "only GET is answered here".into()));
}

#[tokio::test]
async fn a_port_in_use_is_a_failure_with_a_hint() {
    let server = server(Some(Vec::new())).await;
    let failure = bind(server.address).await.unwrap_err();
    assert!(failure.message.starts_with(&format!("cannot listen on {}: ", server.address)), "{failure}");
    assert!(failure.hint.contains("--listen"), "{failure}");
    assert_eq!(failure.exit_code, 1);
}

#[tokio::test]
async fn the_stop_does_not_wait_for_a_silent_client() {
    let server = server(Some(Vec::new())).await;
    let mut silent = TcpStream::connect(server.address).await.unwrap();
    silent.write_all(b"GET /api/str").await.unwrap();
    assert_eq!(server.get("/healthz").await.status, 200);
    server.stop.cancel();
    tokio::time::timeout(GRACE * 5, server.serving).await.unwrap().unwrap().unwrap();
    assert!(TcpStream::connect(server.address).await.is_err(), "the port is free again");
}
