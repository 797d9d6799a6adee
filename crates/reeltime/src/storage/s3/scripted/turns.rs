//! Very many requests at once.

use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::task::JoinSet;

use super::*;

/// How often those who could come before an answer are given way.
const GIVEN_WAY: usize = 1000;

const ASKED: usize = 4 * REQUESTS_AT_ONCE;

/// A store that answers nobody before it has as many requests as there may be at once.
#[derive(Default)]
struct Crowded {
    waiting: AtomicUsize,
    answered: AtomicUsize,
    most: AtomicUsize,
}

impl Crowded {
    async fn serve(self: Arc<Self>, listener: TcpListener) {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(Arc::clone(&self).talk(stream));
        }
    }

    async fn talk(self: Arc<Self>, stream: TcpStream) {
        let mut stream = BufReader::new(stream);
        loop {
            let mut line = String::new();
            while line != "\r\n" {
                line.clear();
                if stream.read_line(&mut line).await.unwrap_or(0) == 0 {
                    return;
                }
            }
            let waiting = self.waiting.fetch_add(1, Ordering::SeqCst) + 1;
            self.most.fetch_max(waiting, Ordering::SeqCst);
            while !self.is_crowded() {
                tokio::task::yield_now().await;
            }
            for _ in 0..GIVEN_WAY {
                tokio::task::yield_now().await;
            }
            self.answered.fetch_add(1, Ordering::SeqCst);
            self.waiting.fetch_sub(1, Ordering::SeqCst);
            stream.write_all(b"HTTP/1.1 204 No Content\r\n\r\n").await.unwrap();
        }
    }

    /// Nobody is left who could come, or as many have come as may.
    fn is_crowded(&self) -> bool {
        let (waiting, answered) = (self.waiting.load(Ordering::SeqCst), self.answered.load(Ordering::SeqCst));
        waiting >= REQUESTS_AT_ONCE || answered + REQUESTS_AT_ONCE > ASKED
    }
}

#[tokio::test]
async fn small_requests_take_turns() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let server = Server::saying([]).await;
    let endpoint = Some(format!("http://{}", listener.local_addr().unwrap()));
    let store = Arc::new(S3Store::connect(S3Config { endpoint, ..server.config() }).await.unwrap());
    let crowded = Arc::new(Crowded::default());
    tokio::spawn(Arc::clone(&crowded).serve(listener));

    let mut asking = JoinSet::new();
    for number in 0..ASKED {
        let store = Arc::clone(&store);
        let upload = UploadRef { key: key(), id: number.to_string() };
        asking.spawn(async move { store.abort(&upload).await });
    }
    for answer in asking.join_all().await {
        answer.unwrap();
    }

    assert_eq!(crowded.answered.load(Ordering::SeqCst), ASKED);
    assert_eq!(crowded.most.load(Ordering::SeqCst), REQUESTS_AT_ONCE);
}
