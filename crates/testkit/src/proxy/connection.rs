//! One client connection of the HTTP proxy: request by request, each over a connection of its
//! own to the server, so that a stale one is never mistaken for a fault.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;

use super::Shared;
use super::fault::{Answer, Fault, Rule};
use super::listener::{Ending, end};
use super::request::{Outcome, Request};
use super::wire::{Body, Head};

/// Talks with a client until either side ends it.
pub(super) async fn serve(client: TcpStream, shared: Arc<Shared>) {
    let mut client = BufReader::with_capacity(64 * 1024, client);
    loop {
        let Ok(Some(head)) = Head::read(&mut client).await else {
            end(client.get_ref(), Ending::Close);
            return;
        };
        let (number, rule) = shared.begin(Request::of(&head));
        let _cut = CutWhenDropped { shared: &shared, number };
        let mut exchange = Exchange { client: &mut client, head: &head, shared: &shared, number, server: None };
        let (outcome, ending) = match exchange.run(rule.as_deref()).await {
            Ok((outcome, ending)) => (outcome, ending),
            Err(Broken::Client) => (Outcome::ClientGone, Some(Ending::Close)),
            Err(Broken::Server) => (Outcome::ServerGone, Some(Ending::Reset)),
        };
        if let Some(server) = exchange.server.take() {
            // A server must not take an unfinished request for a short but complete one.
            end(server.get_ref(), if outcome == Outcome::Cut { Ending::Reset } else { Ending::Close });
        }
        // The log comes first: whoever sees the connection end finds in the log why.
        shared.note(number, |logged| logged.end(outcome));
        if let Some(ending) = ending {
            end(client.get_ref(), ending);
            return;
        }
    }
}

/// Notes that a request was cut when all connections were: then its work is dropped halfway.
struct CutWhenDropped<'a> {
    shared: &'a Shared,
    number: usize,
}

impl Drop for CutWhenDropped<'_> {
    fn drop(&mut self) {
        self.shared.note(self.number, |logged| {
            if logged.outcome == Outcome::Underway {
                logged.end(Outcome::Cut);
            }
        });
    }
}

/// Which side broke off.
enum Broken {
    Client,
    Server,
}

fn client_broke(_: io::Error) -> Broken {
    Broken::Client
}

fn server_broke(_: io::Error) -> Broken {
    Broken::Server
}

/// One request and its answer.
struct Exchange<'a> {
    client: &'a mut BufReader<TcpStream>,
    head: &'a Head,
    shared: &'a Shared,
    number: usize,
    server: Option<BufReader<TcpStream>>,
}

/// How it ended; with an ending if the client's connection is not to be used again.
type Ended = (Outcome, Option<Ending>);

impl Exchange<'_> {
    async fn run(&mut self, rule: Option<&Rule>) -> Result<Ended, Broken> {
        let cut = (Outcome::Cut, Some(Ending::Reset));
        let Some(rule) = rule else { return self.pass(None, u64::MAX).await };
        match &rule.fault {
            Fault::Pass => self.pass(None, u64::MAX).await,
            Fault::Throttle { bytes_per_second } => self.pass(Some(*bytes_per_second), u64::MAX).await,
            Fault::Delay(time) => {
                tokio::time::sleep(*time).await;
                self.pass(None, u64::MAX).await
            }
            Fault::Hold => {
                rule.until_lifted().await;
                self.pass(None, u64::MAX).await
            }
            Fault::HoldAnswer => {
                self.forward(None, u64::MAX).await?;
                let answer = self.answer_head().await?;
                rule.until_lifted().await;
                self.give_back(&answer, None, u64::MAX).await
            }
            Fault::Reset { after_body_bytes } => {
                self.forward(None, *after_body_bytes).await?;
                Ok(cut)
            }
            Fault::BlackHole => {
                self.swallow().await?;
                // Nothing more is expected from a client that waits for its answer.
                while !self.client.fill_buf().await.map_err(client_broke)?.is_empty() {
                    let read = self.client.buffer().len();
                    self.client.consume(read);
                }
                Err(Broken::Client)
            }
            Fault::CutAnswer => {
                self.forward(None, u64::MAX).await?;
                let answer = self.answer_head().await?;
                self.drain_answer(&answer).await?;
                Ok(cut)
            }
            Fault::CutAnswerAfter { body_bytes } => {
                self.forward(None, u64::MAX).await?;
                let answer = self.answer_head().await?;
                self.give_back(&answer, None, *body_bytes).await
            }
            Fault::Answer(answer) => {
                self.swallow().await?;
                self.say(answer).await
            }
            Fault::AnswerInstead(answer) => {
                self.forward(None, u64::MAX).await?;
                let true_answer = self.answer_head().await?;
                self.drain_answer(&true_answer).await?;
                self.say(answer).await
            }
        }
    }

    async fn pass(&mut self, rate: Option<u64>, body_bytes: u64) -> Result<Ended, Broken> {
        self.forward(rate, body_bytes).await?;
        let answer = self.answer_head().await?;
        self.give_back(&answer, rate, u64::MAX).await
    }

    /// Sends the request to the server, at most `until` bytes of its body.
    async fn forward(&mut self, rate: Option<u64>, until: u64) -> Result<(), Broken> {
        let server = TcpStream::connect(&self.shared.upstream).await.map_err(server_broke)?;
        let _ = server.set_nodelay(true);
        // Unless the exchange ends well, the server sees a reset.
        end(&server, Ending::Reset);
        let mut server = BufReader::with_capacity(64 * 1024, server);
        server.get_mut().write_all(&self.head.raw).await.map_err(server_broke)?;
        self.invite().await?;
        let mut body = self.head.request_body();
        let mut passed = 0;
        // A server may answer, and stop reading, before it has the whole request: what it says
        // is more to the point than that it stopped.
        let mut listens = true;
        while passed < until {
            let limit = piece_limit(rate, until - passed);
            let Some(piece) = body.next(self.client, limit).await.map_err(client_broke)? else { break };
            passed += piece.len() as u64;
            self.count(piece.len());
            pace(rate, piece.len()).await;
            listens = listens && server.get_mut().write_all(&piece).await.is_ok();
        }
        self.server = Some(server);
        Ok(())
    }

    /// Reads the request to its end.
    async fn swallow(&mut self) -> Result<(), Broken> {
        self.invite().await?;
        let mut body = self.head.request_body();
        while let Some(piece) = body.next(self.client, usize::MAX).await.map_err(client_broke)? {
            self.count(piece.len());
        }
        Ok(())
    }

    /// Tells a client that waits for it to send its body. (What the server says to that is left
    /// out when its answer is read.)
    async fn invite(&mut self) -> Result<(), Broken> {
        if self.head.expects_continue() {
            let go_on = b"HTTP/1.1 100 Continue\r\n\r\n";
            self.client.get_mut().write_all(go_on).await.map_err(client_broke)?;
        }
        Ok(())
    }

    fn count(&self, bytes: usize) {
        self.shared.note(self.number, |logged| logged.body_bytes += bytes as u64);
    }

    async fn answer_head(&mut self) -> Result<Head, Broken> {
        let server = self.server.as_mut().ok_or(Broken::Server)?;
        loop {
            let head = Head::read(server).await.map_err(server_broke)?.ok_or(Broken::Server)?;
            let status = head.status().map_err(server_broke)?;
            if !(100..200).contains(&status) {
                self.shared.note(self.number, |logged| logged.server_status = Some(status));
                return Ok(head);
            }
        }
    }

    fn answer_body(&self, answer: &Head) -> Result<(u16, Body), Broken> {
        let status = answer.status().map_err(server_broke)?;
        Ok((status, answer.response_body(self.head.request_line().0, status)))
    }

    async fn drain_answer(&mut self, answer: &Head) -> Result<(), Broken> {
        let (_, mut body) = self.answer_body(answer)?;
        let server = self.server.as_mut().ok_or(Broken::Server)?;
        while body.next(server, usize::MAX).await.map_err(server_broke)?.is_some() {}
        Ok(())
    }

    /// Gives the server's answer to the client, at most `until` bytes of its body.
    async fn give_back(&mut self, answer: &Head, rate: Option<u64>, until: u64) -> Result<Ended, Broken> {
        let (status, mut body) = self.answer_body(answer)?;
        let closes = body.ends_with_connection() || answer.closes() || self.head.closes();
        let server = self.server.as_mut().ok_or(Broken::Server)?;
        let client = self.client.get_mut();
        // Always one piece behind, so that the log has the outcome before the client has the
        // last byte.
        let mut pending = answer.raw.clone();
        let mut passed = 0;
        while passed < until {
            let limit = piece_limit(rate, until - passed);
            let Some(piece) = body.next(server, limit).await.map_err(server_broke)? else {
                let outcome = Outcome::Answered(status);
                self.shared.note(self.number, |logged| logged.end(outcome));
                client.write_all(&pending).await.map_err(client_broke)?;
                return Ok((outcome, closes.then_some(Ending::Close)));
            };
            pace(rate, piece.len()).await;
            client.write_all(&pending).await.map_err(client_broke)?;
            passed += piece.len() as u64;
            pending = piece;
        }
        client.write_all(&pending).await.map_err(client_broke)?;
        Ok((Outcome::Cut, Some(Ending::Close)))
    }

    async fn say(&mut self, answer: &Answer) -> Result<Ended, Broken> {
        let bytes = answer.bytes(self.head.request_line().0);
        let outcome = Outcome::Answered(answer.status);
        self.shared.note(self.number, |logged| logged.end(outcome));
        self.client.get_mut().write_all(&bytes).await.map_err(client_broke)?;
        Ok((outcome, self.head.closes().then_some(Ending::Close)))
    }
}

/// Small enough that a throttled body flows instead of coming in bursts.
fn piece_limit(rate: Option<u64>, left: u64) -> usize {
    let by_rate = rate.map_or(u64::MAX, |rate| (rate / 20).max(1));
    usize::try_from(by_rate.min(left)).unwrap_or(usize::MAX)
}

async fn pace(rate: Option<u64>, bytes: usize) {
    if let Some(rate) = rate {
        tokio::time::sleep(Duration::from_secs_f64(bytes as f64 / rate.max(1) as f64)).await;
    }
}
