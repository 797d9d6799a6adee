//! Programs in ffprobe's place that do what they should not.

use std::time::Instant;

use super::*;

fn using(dir: &TempDir, body: &str, timeout: Duration) -> (Describer, PathBuf) {
    let recording = dir.path().join("x.mp4");
    std::fs::write(&recording, "some bytes").unwrap();
    (Describer::new(script(dir, body).into(), timeout, 2), recording)
}

/// Whether a process runs. One that is dead and waits for its parent does not.
fn runs(pid: &str) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(") ").is_some_and(|(_, rest)| !rest.starts_with('Z'))
}

fn read_pid(path: &Path) -> Option<String> {
    let pid = std::fs::read_to_string(path).ok()?;
    pid.ends_with('\n').then(|| pid.trim().to_owned())
}

#[tokio::test]
async fn one_that_hangs_is_ended_and_reaped() {
    let dir = temp_dir();
    let pid_file = dir.path().join("pid");
    let body = format!("echo $$ > {}; exec sleep 1000", pid_file.display());
    let (describer, recording) = using(&dir, &body, Duration::from_secs(4));
    let began = Instant::now();
    let error = unknown(probe(&describer, &recording).await);
    assert_eq!(error, "ffprobe: gave no answer within 4 s and was ended");
    assert!(began.elapsed() < Duration::from_secs(20), "{:?}", began.elapsed());
    let pid = read_pid(&pid_file).expect("the script has run");
    assert!(!Path::new("/proc").join(&pid).exists(), "process {pid} is still there");
}

#[tokio::test]
async fn what_it_started_is_ended_too() {
    let dir = temp_dir();
    let pid_file = dir.path().join("pid");
    // The child goes at once; the grandchild keeps the pipes open.
    let body = format!("sleep 1000 & echo $! > {}", pid_file.display());
    let (describer, recording) = using(&dir, &body, Duration::from_secs(4));
    let error = unknown(probe(&describer, &recording).await);
    assert!(error.contains("no answer"), "{error}");
    let pid = read_pid(&pid_file).expect("the script has run");
    eventually("the grandchild is gone", || !runs(&pid)).await;
}

#[tokio::test]
async fn one_that_nobody_waits_for_any_more_is_ended() {
    let dir = temp_dir();
    let pid_file = dir.path().join("pid");
    let body = format!("sleep 1000 & echo $! > {}; wait", pid_file.display());
    let (describer, recording) = using(&dir, &body, Duration::from_secs(1000));
    let probing = tokio::spawn(async move { probe(&describer, &recording).await });
    eventually("the script runs", || read_pid(&pid_file).is_some()).await;
    probing.abort();
    assert!(probing.await.unwrap_err().is_cancelled());
    let pid = read_pid(&pid_file).unwrap();
    eventually("the child and its child are gone", || !runs(&pid)).await;
}

#[tokio::test]
async fn it_gives_way_to_recorders() {
    let dir = temp_dir();
    // Its priority is set when it runs already.
    let body = "until [ $(nice) -gt 0 ]; do sleep 0.01; done; echo '{\"format\":{\"duration\":\"7.5\"}}'";
    let (describer, recording) = using(&dir, body, Duration::from_secs(20));
    assert_eq!(known(probe(&describer, &recording).await).duration_seconds(), Some(7.5));
}

#[tokio::test]
async fn one_that_floods_its_output_is_ended() {
    let dir = temp_dir();
    let (describer, recording) = using(&dir, "exec yes", Duration::from_mins(10));
    let error = unknown(probe(&describer, &recording).await);
    assert!(error.contains("wrote more than 4194304 bytes"), "{error}");
}

#[tokio::test]
async fn one_that_complains_without_end_is_heard_and_its_first_words_are_kept() {
    let dir = temp_dir();
    let body = "yes '[mov @ 0x1234] too bad' | head -c 3000000 >&2; \
                echo '{\"format\":{\"duration\":\"7.5\"},\"streams\":[]}'";
    let (describer, recording) = using(&dir, body, Duration::from_mins(1));
    assert_eq!(known(probe(&describer, &recording).await).duration_seconds(), Some(7.5));

    let (describer, recording) = using(&dir, &format!("{body}; exit 3"), Duration::from_mins(1));
    assert_eq!(unknown(probe(&describer, &recording).await), "ffprobe: too bad");
}

#[tokio::test]
async fn one_that_talks_nonsense_or_dies_is_quoted() {
    let dir = temp_dir();
    for (body, expected) in [
        ("echo hello", "not the JSON that was asked for"),
        ("printf '\\377\\376'", "not the JSON that was asked for"),
        ("echo '{}'", "missing field `format`"),
        ("echo '{\"format\":{},\"streams\":3}'", "not the JSON that was asked for"),
        ("true", "not the JSON that was asked for"),
        ("exit 3", "ended with exit status: 3"),
        ("kill -SEGV $$", "ended with signal: 11"),
        ("for i in 1 2 3 4 5; do echo \"line $i\" >&2; done; exit 1", "line 1; line 2; line 3"),
    ] {
        let (describer, recording) = using(&dir, body, Duration::from_mins(1));
        let error = unknown(probe(&describer, &recording).await);
        assert!(error.starts_with("ffprobe: ") && error.contains(expected), "{body}: {error}");
    }
}

#[tokio::test]
async fn one_that_may_not_be_executed_is_not_taken_for_missing() {
    let dir = temp_dir();
    let recording = mp4(&dir, "");
    let describer = Describer::new(dir.path().into(), Duration::from_mins(1), 1);
    let error = unknown(probe(&describer, &recording).await);
    assert!(error.contains("cannot run") && !error.contains("not installed"), "{error}");
}

#[tokio::test]
async fn no_more_run_at_once_than_allowed() {
    let dir = temp_dir();
    let lock = dir.path().join("lock");
    // mkdir fails if another one is at work.
    let body = format!("mkdir {0} && sleep 0.1 && rmdir {0} && echo '{{\"format\":{{}}}}'", lock.display());
    let (_, recording) = using(&dir, &body, Duration::from_mins(1));
    let describer = Describer::new(dir.path().join("ffprobe.sh").into(), Duration::from_mins(1), 1);
    let probes = (0..5).map(|_| {
        let (describer, recording) = (describer.clone(), recording.clone());
        tokio::spawn(async move { probe(&describer, &recording).await })
    });
    for probe in probes.collect::<Vec<_>>() {
        known(probe.await.unwrap());
    }
}
