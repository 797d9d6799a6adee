//! Running a program that logs as reeltime does. reeltime's own tests run the real one.

#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

use tempfile::TempDir;
use testkit::daemon::Daemon;

const DEADLINE: Duration = Duration::from_secs(30);

/// A shell script in the place of the binary.
fn program(script: &str) -> (TempDir, std::path::PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("reeltime");
    std::fs::write(&path, format!("#!/bin/sh\n{script}\n")).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
    (dir, path)
}

const LOGS: &str = r#"
echo '{"level":"INFO","fields":{"message":"found","event":"discovered","path":"/r/a b.mp4"}}'
echo "args $*" >&2
echo '{"level":"INFO","fields":{"event":"completed","path":"/r/a b.mp4","size_bytes":7}}'
"#;

#[test]
fn events_are_waited_for_and_arguments_handed_over() {
    let (_dir, program) = program(&format!("{LOGS} exec sleep 1000"));
    let daemon = Daemon::run(&program).args(["/r", "--to", "s3://b"]).start();
    let completed = daemon.wait_event_of("completed", "/r/a b.mp4", DEADLINE);
    assert_eq!(completed.number("size_bytes"), Some(7));
    let text = daemon.events()[1].to_string();
    assert_eq!(text, format!("args run --log-format json --listen {} /r --to s3://b", daemon.address()));
    assert_eq!(daemon.kill().signal(), Some(9));
}

#[test]
fn after_a_restart_old_events_do_not_count() {
    let (_dir, program) = program(
        r#"n=$(cat "$XDG_STATE_HOME" 2>/dev/null || echo 0)
        echo $((n + 1)) > "$XDG_STATE_HOME"
        echo "{\"fields\":{\"event\":\"run\",\"number\":$n}}"
        exec sleep 1000"#,
    );
    let mut daemon = Daemon::run(&program).start();
    assert_eq!(daemon.wait_event("run", DEADLINE, |line| line.event() == Some("run")).number("number"), Some(0));
    daemon.restart();
    assert_eq!(daemon.wait_event("run", DEADLINE, |line| line.event() == Some("run")).number("number"), Some(1));
    assert!(daemon.terminate(DEADLINE).signal().is_some());
}

#[test]
#[should_panic(expected = "0 of 1 × a miracle; seen:\n{\"fields\":{\"event\":\"discovered\"")]
fn waiting_in_vain_tells_what_was_seen_as_soon_as_the_process_ends() {
    let (_dir, program) = program(LOGS);
    let daemon = Daemon::run(&program).start();
    daemon.wait_event("a miracle", Duration::from_hours(1), |line| line.event() == Some("miracle"));
}

#[test]
fn its_api_is_asked_on_its_own_port() {
    let serve = r#"import http.server, sys
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200 if self.path == "/api/streams" else 404)
        self.end_headers()
        self.wfile.write(b"""[{"state":"active"}]""")
host, port = sys.argv[1].split(":")
http.server.HTTPServer((host, int(port)), Handler).serve_forever()"#;
    let (_dir, program) = program(&format!("exec python3 -c '{serve}' \"$5\""));
    let daemon = Daemon::run(&program).start();
    daemon.wait_answers("/api/streams", DEADLINE);
    assert!(!daemon.answers("/readyz"));
    assert_eq!(daemon.api_streams()[0]["state"], "active");
    assert!(daemon.resident_bytes() > 1 << 20);
}
