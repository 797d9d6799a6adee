//! The proxy's faults, seen from both sides of a real server.

#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::time::{Duration, Instant};

use testkit::http::Response;
use testkit::proxy::{Answer, Fault, Moment, Op, Outcome, Proxy, TcpMode, TcpProxy, When};
use testkit::servers::{Credentials, Moto, S3, Shared};

const DEADLINE: Duration = Duration::from_secs(30);

fn moto() -> Arc<Moto> {
    static MOTO: Shared<Moto> = Shared::new();
    MOTO.get_or_make(Moto::start)
}

/// A bucket of the test's own, seen through a proxy and directly.
fn setup(bucket: &str) -> (Proxy, S3, S3) {
    let direct = moto().with_bucket(bucket);
    let proxy = Proxy::before(&moto().address());
    let through = S3::new(&proxy.endpoint(), Credentials::default());
    (proxy, through, direct)
}

fn put(s3: &S3, bucket: &str, key: &str, body: &[u8]) -> std::io::Result<Response> {
    s3.call("PUT", bucket, key, &[], &[], body)
}

/// Whether the proxy ended the connection, by whichever error that shows on this side.
fn broken(result: &std::io::Result<Response>) -> bool {
    let kinds = [ErrorKind::ConnectionReset, ErrorKind::BrokenPipe, ErrorKind::UnexpectedEof];
    result.as_ref().is_err_and(|error| kinds.contains(&error.kind()))
}

#[test]
fn what_passes_is_unchanged_and_counted_by_operation() {
    let (proxy, s3, direct) = setup("passes");
    let upload = s3.create_upload("passes", "a b.mp4");
    let first = vec![7; 5 << 20];
    s3.upload_part("passes", "a b.mp4", &upload, 1, &first);
    s3.upload_part("passes", "a b.mp4", &upload, 2, b"tail");
    s3.complete("passes", "a b.mp4", &upload);
    assert_eq!(s3.sha256("passes", "a b.mp4"), direct.sha256("passes", "a b.mp4"));
    assert_eq!(s3.head("passes", "a b.mp4").unwrap().size_bytes, (5 << 20) + 4);
    assert_eq!(s3.keys("passes"), ["a b.mp4"]);

    for op in [
        Op::CreateMultipartUpload,
        Op::ListParts,
        Op::CompleteMultipartUpload,
        Op::GetObject,
        Op::HeadObject,
        Op::ListObjectsV2,
    ] {
        assert_eq!(proxy.count(op), 1, "{op:?}");
    }
    assert_eq!(proxy.body_bytes(Op::UploadPart), (5 << 20) + 4);
    let parts = proxy.requests(Op::UploadPart);
    assert_eq!(parts.iter().map(|logged| logged.request.part_number).collect::<Vec<_>>(), [Some(1), Some(2)]);
    assert!(parts.iter().all(|logged| logged.request.key == "a b.mp4" && logged.outcome == Outcome::Answered(200)));
    assert_eq!(parts[0].request.upload_id.as_deref(), Some(upload.as_str()));
}

#[test]
fn a_rule_is_for_its_requests_alone_and_as_often_as_asked() {
    let (proxy, s3, _) = setup("matching");
    let upload = s3.create_upload("matching", "k");
    let fault = proxy.inject(When::op(Op::UploadPart).part(2).key("k"), Fault::slow_down()).times(2);
    s3.upload_part("matching", "k", &upload, 1, b"one");
    let second = || {
        let query = [("partNumber", "2"), ("uploadId", upload.as_str())];
        s3.call("PUT", "matching", "k", &query, &[], b"two").unwrap().status
    };
    assert_eq!([second(), second(), second()], [503, 503, 200]);
    assert_eq!(fault.hits(), 2);
    proxy.inject(When::op(Op::UploadPart).and("odd", |request| request.part_number == Some(2)), Fault::Pass);
    proxy.inject(When::any(), Fault::internal_error());
    assert_eq!(second(), 200, "the first rule decides");
    assert_eq!(s3.call("HEAD", "matching", "k", &[], &[], &[]).unwrap().status, 500);
    proxy.heal();
    assert_eq!(s3.call("HEAD", "matching", "k", &[], &[], &[]).unwrap().status, 404);
}

#[test]
fn made_up_answers_reach_the_client_and_nothing_reaches_the_server() {
    let (proxy, s3, direct) = setup("answers");
    for (fault, status, code) in [
        (Fault::slow_down(), 503, "SlowDown"),
        (Fault::internal_error(), 500, "InternalError"),
        (Fault::too_many_requests(), 429, "TooManyRequests"),
        (Fault::access_denied(), 403, "AccessDenied"),
        (Fault::error_in_ok(), 200, "<Error>"),
    ] {
        proxy.inject(When::op(Op::PutObject), fault);
        let answer = put(&s3, "answers", "k", &vec![1; 300_000]).unwrap();
        assert_eq!(answer.status, status);
        assert!(answer.text().contains(code), "{}", answer.text());
        proxy.heal();
    }
    let later = Answer::error(503, "SlowDown", "later").header("retry-after", "7");
    proxy.inject(When::any(), Fault::Answer(later));
    assert_eq!(put(&s3, "answers", "k", b"x").unwrap().header("retry-after"), Some("7"));
    assert_eq!(direct.keys("answers"), Vec::<String>::new());
    assert_eq!(proxy.body_bytes(Op::PutObject), 5 * 300_000 + 1);
}

#[test]
fn a_false_answer_can_hide_that_the_server_did_it() {
    let (proxy, s3, direct) = setup("instead");
    proxy.inject(When::any(), Fault::AnswerInstead(Answer::error(500, "InternalError", "no")));
    assert_eq!(put(&s3, "instead", "k", b"done").unwrap().status, 500);
    assert_eq!(direct.get("instead", "k").unwrap(), b"done");
    assert_eq!(proxy.log()[0].server_status, Some(200));
}

#[test]
fn a_reset_in_the_middle_of_a_body_leaves_nothing_at_the_server() {
    let (proxy, s3, direct) = setup("reset");
    proxy.inject(When::op(Op::PutObject), Fault::Reset { after_body_bytes: 100_000 });
    assert!(broken(&put(&s3, "reset", "k", &vec![1; 2 << 20])));
    let logged = &proxy.log()[0];
    assert_eq!((logged.outcome, logged.body_bytes), (Outcome::Cut, 100_000));
    assert_eq!(logged.server_status, None);
    proxy.heal();
    assert_eq!(direct.get("reset", "k"), None);
    assert_eq!(put(&s3, "reset", "k", b"x").unwrap().status, 200);
}

#[test]
fn a_cut_answer_comes_after_the_server_did_it() {
    let (proxy, s3, direct) = setup("cutanswer");
    proxy.inject(When::op(Op::PutObject), Fault::CutAnswer);
    assert!(broken(&put(&s3, "cutanswer", "k", b"done")));
    assert_eq!(proxy.log()[0].server_status, Some(200));
    assert_eq!(direct.get("cutanswer", "k").unwrap(), b"done");
    proxy.inject(When::op(Op::GetObject), Fault::CutAnswerAfter { body_bytes: 2 });
    assert!(broken(&s3.call("GET", "cutanswer", "k", &[], &[], &[])));
}

#[test]
fn a_black_hole_takes_everything_and_answers_nothing() {
    let (proxy, _, direct) = setup("blackhole");
    let fault = proxy.inject(When::any(), Fault::BlackHole);
    let mut client = TcpStream::connect(proxy.address()).unwrap();
    client.write_all(b"PUT /blackhole/k HTTP/1.1\r\nhost: x\r\ncontent-length: 100000\r\n\r\n").unwrap();
    client.write_all(&vec![1; 100_000]).unwrap();
    fault.wait_hits(1, DEADLINE);
    proxy.wait_for("the body", DEADLINE, |log| log[0].body_bytes == 100_000);
    client.set_read_timeout(Some(Duration::from_millis(200))).unwrap();
    let silence = client.read(&mut [0; 1]).unwrap_err();
    assert!(matches!(silence.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut), "{silence}");
    drop(client);
    proxy.wait_for("its end", DEADLINE, |log| log[0].outcome == Outcome::ClientGone);
    assert_eq!(direct.get("blackhole", "k"), None);
}

#[test]
fn a_held_request_or_answer_goes_on_when_it_is_let_go() {
    let (proxy, s3, direct) = setup("held");
    for (fault, done_while_held) in [(Fault::Hold, false), (Fault::HoldAnswer, true)] {
        let key = format!("{fault}");
        let held = proxy.inject(When::op(Op::PutObject), fault);
        let client = {
            let (s3, key) = (s3.clone(), key.clone());
            std::thread::spawn(move || put(&s3, "held", &key, b"x").unwrap().status)
        };
        held.wait_hits(1, DEADLINE);
        if done_while_held {
            proxy.wait_for("the server's answer", DEADLINE, |log| log.last().unwrap().server_status.is_some());
        }
        assert_eq!(direct.get("held", &key).is_some(), done_while_held);
        assert_eq!(proxy.log().last().unwrap().outcome, Outcome::Underway);
        held.lift();
        assert_eq!(client.join().unwrap(), 200);
        assert!(direct.get("held", &key).is_some());
    }
}

#[test]
fn delays_and_rates_are_kept() {
    let (proxy, s3, _) = setup("slow");
    let delayed = proxy.inject(When::any(), Fault::Delay(Duration::from_millis(300)));
    let began = Instant::now();
    put(&s3, "slow", "k", b"x").unwrap();
    assert!(began.elapsed() >= Duration::from_millis(300));
    delayed.lift();
    proxy.inject(When::any(), Fault::Throttle { bytes_per_second: 1_000_000 });
    for op in ["PUT", "GET"] {
        let began = Instant::now();
        let body = if op == "PUT" { vec![1; 400_000] } else { vec![] };
        assert_eq!(s3.call(op, "slow", "k", &[], &[], &body).unwrap().status, 200);
        assert!(began.elapsed() >= Duration::from_millis(390), "{op} {:?}", began.elapsed());
    }
}

#[test]
fn a_proxy_that_is_down_refuses_and_resets_and_comes_up_again() {
    let (proxy, s3, _) = setup("down");
    proxy.inject(When::op(Op::GetObject), Fault::BlackHole);
    let mut open = TcpStream::connect(proxy.address()).unwrap();
    open.write_all(b"GET /down/k HTTP/1.1\r\nhost: x\r\n\r\n").unwrap();
    proxy.wait_for("the request", DEADLINE, |log| log.len() == 1);
    proxy.go_down();
    proxy.wait_for("the cut", DEADLINE, |log| log[0].outcome == Outcome::Cut);
    open.set_read_timeout(Some(DEADLINE)).unwrap();
    assert_eq!(open.read(&mut [0; 1]).unwrap_err().kind(), ErrorKind::ConnectionReset);
    assert_eq!(put(&s3, "down", "k", b"x").unwrap_err().kind(), ErrorKind::ConnectionRefused);
    proxy.come_up();
    proxy.clear_log();
    assert_eq!(put(&s3, "down", "k", b"x").unwrap().status, 200);
    assert_eq!(proxy.log()[0].outcome, Outcome::Answered(200));
}

#[test]
fn one_connection_carries_many_requests_and_invitations_to_go_on() {
    let (proxy, _, direct) = setup("keepalive");
    let mut client = TcpStream::connect(proxy.address()).unwrap();
    client.set_read_timeout(Some(DEADLINE)).unwrap();
    // moto closes the connection after every answer; the proxy's own answers do not.
    proxy.inject(When::any().key("a"), Fault::Answer(Answer { status: 200, headers: vec![], body: vec![] }));
    for key in ["a", "b"] {
        // Any authorization will do for moto.
        let head = format!(
            "PUT /keepalive/{key} HTTP/1.1\r\nhost: x\r\nauthorization: AWS4-HMAC-SHA256 \
             Credential=x/20260101/us-east-1/s3/aws4_request, SignedHeaders=host, Signature=x\r\n\
             expect: 100-continue\r\ncontent-length: 3\r\n\r\n"
        );
        client.write_all(head.as_bytes()).unwrap();
        assert_eq!(read_until_blank_line(&mut client), "HTTP/1.1 100 Continue\r\n\r\n");
        client.write_all(b"xyz").unwrap();
        let answer = read_until_blank_line(&mut client);
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
        assert!(answer.to_ascii_lowercase().contains("content-length: 0"), "{answer}");
    }
    assert_eq!(direct.keys("keepalive"), ["b"]);
    assert_eq!(direct.get("keepalive", "b").unwrap(), b"xyz");
    assert_eq!(proxy.count(Op::PutObject), 2);
}

fn read_until_blank_line(client: &mut TcpStream) -> String {
    let mut text = Vec::new();
    while !text.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        client.read_exact(&mut byte).unwrap();
        text.push(byte[0]);
    }
    String::from_utf8(text).unwrap()
}

#[test]
fn a_server_that_is_gone_looks_gone_through_the_proxy() {
    let moto = Moto::start();
    let proxy = Proxy::before(&moto.address());
    let s3 = S3::new(&proxy.endpoint(), Credentials::default());
    moto.process().kill();
    assert!(broken(&put(&s3, "any", "k", b"x")));
    proxy.wait_for("its end", DEADLINE, |log| log[0].outcome == Outcome::ServerGone);
}

#[test]
#[should_panic(expected = "waited 1ms for the impossible; the proxy has seen:\nHeadObject HEAD /seen/k")]
fn waiting_in_vain_tells_what_was_seen() {
    let (proxy, s3, _) = setup("seen");
    s3.head("seen", "k");
    proxy.wait_for("the impossible", Duration::from_millis(1), |_| false);
}

#[test]
fn the_plain_proxy_carries_holds_and_breaks() {
    let proxy = TcpProxy::before(&moto().address());
    let s3 = S3::new(&format!("http://{}", proxy.address()), Credentials::default());
    s3.create_bucket("plain");
    proxy.set(TcpMode::HoldAnswers);
    let client = {
        let s3 = s3.clone();
        std::thread::spawn(move || put(&s3, "plain", "k", b"x").unwrap().status)
    };
    let deadline = Instant::now() + DEADLINE;
    while moto().s3().get("plain", "k").is_none() {
        assert!(Instant::now() < deadline);
    }
    assert!(!client.is_finished());
    proxy.set(TcpMode::Pass);
    assert_eq!(client.join().unwrap(), 200);
    proxy.go_down();
    assert_eq!(put(&s3, "plain", "k", b"y").unwrap_err().kind(), ErrorKind::ConnectionRefused);
    proxy.come_up();

    proxy.set(TcpMode::BlackHole);
    let (sent, s3_held) = (proxy.bytes_to_server(), s3.clone());
    let client = std::thread::spawn(move || put(&s3_held, "plain", "k", b"z"));
    while !client.is_finished() {
        proxy.reset_connections(); // as soon as there is one
        std::thread::yield_now();
    }
    assert!(client.join().unwrap().is_err());
    assert_eq!(proxy.bytes_to_server(), sent, "nothing came through");
    assert_eq!(moto().s3().get("plain", "k").unwrap(), b"x");
    proxy.set(TcpMode::Throttle { bytes_per_second: 1_000_000 });
    let began = Instant::now();
    assert_eq!(put(&s3, "plain", "k", &vec![1; 300_000]).unwrap().status, 200);
    assert!(began.elapsed() >= Duration::from_millis(290));
}

#[test]
fn a_tcp_proxy_cuts_one_request_before_during_or_after_it() {
    let proxy = TcpProxy::before(&moto().address());
    let s3 = S3::new(&format!("http://{}", proxy.address()), Credentials::default());
    s3.create_bucket("cut");
    for (moment, key) in [(Moment::Before, "before"), (Moment::During, "during")] {
        let cut = proxy.cut_at(format!("/cut/{key}"), moment);
        assert_eq!(put(&s3, "cut", "other", b"x").unwrap().status, 200, "it is for one request");
        assert!(!cut.is_met());
        let sent = proxy.bytes_to_server();
        let answer = put(&s3, "cut", key, b"x");
        assert!(broken(&answer), "{answer:?}");
        cut.wait(DEADLINE);
        assert_eq!(proxy.bytes_to_server() - sent, if moment == Moment::Before { 0 } else { "PUT ".len() as u64 });
        assert_eq!(moto().s3().get("cut", key), None);
        assert_eq!(put(&s3, "cut", key, b"x").unwrap().status, 200, "it is done once");
    }
    let cut = proxy.cut_at("/cut/after", Moment::After);
    let client = {
        let s3 = s3.clone();
        std::thread::spawn(move || put(&s3, "cut", "after", b"x"))
    };
    cut.wait(DEADLINE);
    let deadline = Instant::now() + DEADLINE;
    while moto().s3().get("cut", "after").is_none() {
        assert!(Instant::now() < deadline);
    }
    assert!(!client.is_finished(), "its answer is held");
    cut.cut();
    let answer = client.join().unwrap();
    assert!(broken(&answer), "{answer:?}");
    assert_eq!(put(&s3, "cut", "after", b"x").unwrap().status, 200, "it is done once");

    let each = proxy.cut_each("/cut/never");
    for _ in 0..2 {
        let answer = put(&s3, "cut", "never", b"x");
        assert!(broken(&answer), "{answer:?}");
    }
    each.lift();
    assert_eq!(moto().s3().get("cut", "never"), None);
    assert_eq!(put(&s3, "cut", "never", b"x").unwrap().status, 200);
}
