//! Clients that ask once, each on a connection of its own, and on a runtime that is not the test's:
//! they go on while the test waits for something else.

use std::future::Future;
use std::net::SocketAddr;
use std::panic::resume_unwind;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::runtime::Handle;
use tokio::task::JoinHandle;

use super::connection::{Answer, Connection};
use super::request::Request;

/// A request on its way. Dropped before it has its answer, the client hangs up.
#[must_use = "dropped, the client hangs up"]
pub struct Asking(JoinHandle<Answer>);

impl Asking {
    pub(super) fn start(clients: &Handle, at: SocketAddr, request: Request) -> Self {
        Self(clients.spawn(async move { Connection::open(at).await.ask(&request).await }))
    }
}

impl Future for Asking {
    type Output = Answer;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Answer> {
        match ready!(Pin::new(&mut self.0).poll(cx)) {
            Ok(answer) => Poll::Ready(answer),
            Err(failed) => resume_unwind(failed.into_panic()),
        }
    }
}

impl Drop for Asking {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Many requests on their way; awaited, all their answers, in the order in which they were made.
#[must_use = "dropped, the clients hang up"]
pub struct AskingAll(pub(super) Vec<Asking>);

impl IntoFuture for AskingAll {
    type Output = Vec<Answer>;
    type IntoFuture = Pin<Box<dyn Future<Output = Vec<Answer>> + Send>>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(async move {
            let mut answers = Vec::with_capacity(self.0.len());
            for asking in self.0 {
                answers.push(asking.await);
            }
            answers
        })
    }
}
