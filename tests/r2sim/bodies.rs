//! Bodies on their way through: counted, paced by the line, and spoilt where a rule says so.

use std::future::pending;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use futures_util::stream;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Empty, Full, StreamBody};
use hyper::body::{Body, Frame, Incoming};
use tokio::runtime::Handle;

use super::conn::Wire;
use super::faults::Gate;
use super::line::{Line, Pace};
use super::log::Record;

pub type BoxError = Box<dyn std::error::Error + Send + Sync>;

pub type Outgoing = UnsyncBoxBody<Bytes, BoxError>;

/// What the bodies of one request share.
#[derive(Clone)]
pub struct Way {
    pub line: Arc<Line>,
    pub pace: Arc<Pace>,
    pub wire: Arc<Wire>,
    pub record: Record,
}

/// What is done to an answer's body. Offsets are within that body.
#[derive(Default)]
pub struct Script {
    pub flip: Option<u64>,
    pub stop: Option<(u64, Stop)>,
    /// Ends here, as if that were all.
    pub truncate: Option<u64>,
    /// Follows after `declared` bytes.
    pub surplus: Option<Bytes>,
    /// The `Content-Length`, if there is one.
    pub declared: Option<u64>,
}

pub enum Stop {
    /// Goes on when the gate opens.
    Hold(Gate),
    /// The connection is closed when the gate opens.
    Stall(Gate),
    Cut,
}

pub fn empty() -> Outgoing {
    Empty::new().map_err(|never| match never {}).boxed_unsync()
}

pub fn text(text: String) -> Outgoing {
    Full::from(text)
        .map_err(|never| match never {})
        .boxed_unsync()
}

/// A request's body as s3s shall see it; none stays visibly none, or s3s would ask for its length.
pub fn incoming(body: Incoming, way: Way) -> Outgoing {
    if body.is_end_stream() {
        return empty();
    }
    let lent = Lent(Some(Receiving { body, way }));
    let frames = stream::unfold(lent, |mut lent| async move {
        let frame = lent.0.as_mut()?.next().await;
        if !matches!(frame, Some(Ok(_))) {
            lent.0 = None;
        }
        Some((frame?, lent))
    });
    StreamBody::new(frames).boxed_unsync()
}

struct Receiving {
    body: Incoming,
    way: Way,
}

impl Receiving {
    async fn next(&mut self) -> Option<Result<Frame<Bytes>, BoxError>> {
        let frame = self.body.frame().await?.map_err(Into::into);
        if let Some(bytes) = frame.as_ref().ok().and_then(|frame| frame.data_ref()) {
            self.way.pace.carry(&self.way.line, bytes.len()).await;
            self.way.record.received(bytes.len());
        }
        Some(frame)
    }
}

/// A body lent to s3s. Returned before its end, because the request is refused, it is read on in the
/// background: a client that is still sending would else see a reset instead of the refusal.
struct Lent(Option<Receiving>);

impl Drop for Lent {
    fn drop(&mut self) {
        let unread = self.0.take().filter(|it| !it.body.is_end_stream());
        if let (Some(mut unread), Ok(runtime)) = (unread, Handle::try_current()) {
            runtime.spawn(async move { while let Some(Ok(_)) = unread.next().await {} });
        }
    }
}

/// Reads a request's body to its end, for an answer that has no use for it.
pub async fn drain(mut body: Outgoing) {
    while let Some(Ok(_)) = body.frame().await {}
}

/// An answer's body as the client shall see it.
pub fn outgoing<B>(body: B, script: Script, way: Way) -> Outgoing
where
    B: Body<Data = Bytes, Error: Into<BoxError>> + Send + Unpin + 'static,
{
    if body.is_end_stream() && script.stop.is_none() && script.surplus.is_none() {
        way.record.whole();
        return empty();
    }
    let sending = Sending {
        body,
        script,
        way,
        rest: Bytes::new(),
        sent: 0,
    };
    let frames = stream::unfold(sending, |mut sending| async move {
        let frame = sending.next().await?;
        Some((frame, sending))
    });
    StreamBody::new(frames).boxed_unsync()
}

struct Sending<B> {
    body: B,
    script: Script,
    way: Way,
    /// Read from `body`, not yet sent.
    rest: Bytes,
    sent: u64,
}

impl<B> Sending<B>
where
    B: Body<Data = Bytes, Error: Into<BoxError>> + Unpin,
{
    /// The next piece. Pieces end where the script has something to do, and while it waits hyper
    /// flushes, so the client then holds exactly what was sent before.
    async fn next(&mut self) -> Option<Result<Frame<Bytes>, BoxError>> {
        self.stop_if_due().await;
        if self.script.truncate == Some(self.sent) {
            return self.end();
        }
        while self.rest.is_empty() {
            match self.body.frame().await {
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(bytes) => self.rest = bytes,
                    Err(_trailers) => continue,
                },
                Some(Err(broken)) => return Some(Err(broken.into())),
                None => return self.end(),
            }
        }
        let mut piece = self.rest.split_to(self.piece_len());
        self.way.pace.carry(&self.way.line, piece.len()).await;
        if let Some(at) = self.script.flip
            && let Some(at) = at.checked_sub(self.sent)
            && let Ok(at) = usize::try_from(at)
            && at < piece.len()
        {
            let mut spoilt = BytesMut::from(piece);
            spoilt[at] ^= 1;
            piece = spoilt.freeze();
        }
        self.sent += piece.len() as u64;
        self.way.record.sent(piece.len());
        if self.script.declared == Some(self.sent) {
            self.last_byte_given();
        }
        Some(Ok(Frame::data(piece)))
    }

    async fn stop_if_due(&mut self) {
        if !matches!(self.script.stop, Some((at, _)) if at == self.sent) {
            return;
        }
        match self.script.stop.take() {
            Some((_, Stop::Hold(gate))) => gate.opened().await,
            Some((_, Stop::Stall(gate))) => {
                gate.opened().await;
                self.way.wire.cut();
            }
            Some((_, Stop::Cut)) => self.way.wire.cut(),
            None => return,
        }
        if self.way.wire.is_cut() {
            // The connection takes this body with it, at its next flush. hyper may poll a body
            // without flushing afterwards if nothing new is buffered, so ask for another round.
            tokio::task::yield_now().await;
            pending().await
        }
    }

    fn piece_len(&self) -> usize {
        let until = [
            self.script.stop.as_ref().map(|stop| stop.0),
            self.script.truncate,
        ]
        .into_iter()
        .flatten()
        .filter(|at| *at > self.sent)
        .map(|at| usize::try_from(at - self.sent).unwrap_or(usize::MAX));
        until
            .chain(self.way.line.piece())
            .fold(self.rest.len(), usize::min)
    }

    /// hyper asks for no more once `Content-Length` is reached, so what follows is arranged now.
    fn last_byte_given(&mut self) {
        if let Some(surplus) = self.script.surplus.take() {
            self.way.wire.add(surplus);
        }
        self.way.record.whole();
    }

    fn end(&mut self) -> Option<Result<Frame<Bytes>, BoxError>> {
        self.way.record.whole();
        None
    }
}
