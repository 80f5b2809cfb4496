//! What goes on beside the requests: signals, word to systemd, and a little tidying.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use tokio::runtime::Runtime;
use tokio::signal::unix::{Signal, SignalKind, signal as listen_for};

use crate::gateway::upload::SWEEP_EVERY;
use crate::gateway::{Gateway, PULSE_EVERY};
use crate::http::Front;

/// How long after the start old uploads are looked for, when the first rush is over.
const FIRST_SWEEP: Duration = Duration::from_secs(60);

/// The signals that mean something to a server. Until there is one of these, each of them ends the
/// process.
pub struct Signals {
    term: Signal,
    int: Signal,
    hup: Signal,
}

impl Signals {
    /// From now on none is lost. To be called within a runtime.
    pub fn listen() -> io::Result<Self> {
        Ok(Self {
            term: listen_for(SignalKind::terminate())?,
            int: listen_for(SignalKind::interrupt())?,
            hup: listen_for(SignalKind::hangup())?,
        })
    }

    /// Waits for SIGTERM or SIGINT; at each SIGHUP before that, calls `reload`, which may block for a
    /// moment.
    pub async fn until_the_end(&mut self, reload: impl Fn()) {
        loop {
            tokio::select! {
                _ = self.term.recv() => tracing::info!("SIGTERM: draining"),
                _ = self.int.recv() => tracing::info!("SIGINT: draining"),
                _ = self.hup.recv() => {
                    reload();
                    continue;
                }
            }
            return;
        }
    }
}

/// Tells systemd, if it started us, that requests are accepted.
pub fn announce_ready() {
    announce(&[sd_notify::NotifyState::Ready]);
}

/// Tells systemd that we are leaving.
pub fn announce_stopping() {
    announce(&[sd_notify::NotifyState::Stopping]);
}

fn announce(state: &[sd_notify::NotifyState]) {
    if let Err(cause) = sd_notify::notify(state) {
        tracing::debug!(%cause, "systemd was not told");
    }
}

/// The front page tells how fast things go, and so has to look each second; ends with the front.
pub fn tick(engine: &Runtime, front: &Arc<Front>) {
    let front = Arc::downgrade(front);
    engine.spawn(async move {
        let mut second = tokio::time::interval(Duration::from_secs(1));
        while let Some(front) = front.upgrade() {
            front.tick();
            drop(front);
            second.tick().await;
        }
    });
}

/// moka frees what it pushed out when told to, and the bucket's pulse is felt; ends with the gateway.
pub fn tidy_and_feel(engine: &Runtime, gateway: &Arc<Gateway>) {
    let (tidied, felt) = (Arc::downgrade(gateway), Arc::downgrade(gateway));
    engine.spawn(async move {
        let mut second = tokio::time::interval(Duration::from_secs(1));
        while let Some(gateway) = tidied.upgrade() {
            gateway.tidy();
            drop(gateway);
            second.tick().await;
        }
    });
    engine.spawn(async move {
        let mut beat = tokio::time::interval(PULSE_EVERY);
        beat.tick().await;
        loop {
            beat.tick().await;
            let Some(gateway) = felt.upgrade() else {
                return;
            };
            gateway.feel_pulse(false).await;
        }
    });
}

/// Uploads that earlier processes began and did not end are aborted now, others when they are old.
/// To be called before requests are taken.
pub fn sweep_uploads(engine: &Runtime, gateway: &Arc<Gateway>) {
    if !gateway.takes_uploads() {
        return;
    }
    let left = gateway.uploads_left();
    let swept = Arc::downgrade(gateway);
    engine.spawn(async move {
        if let Some(gateway) = swept.upgrade() {
            gateway.abort_left(left).await;
        }
        let first = tokio::time::Instant::now() + FIRST_SWEEP;
        let mut sweep = tokio::time::interval_at(first, SWEEP_EVERY);
        loop {
            sweep.tick().await;
            let Some(gateway) = swept.upgrade() else {
                return;
            };
            gateway.sweep_uploads().await;
        }
    });
}
