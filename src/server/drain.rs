//! What goes on beside the requests: signals, word to systemd, and a little tidying.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use tokio::runtime::Runtime;
use tokio::signal::unix::{SignalKind, signal as listen_for};

use crate::gateway::{Gateway, PULSE_EVERY};
use crate::http::Front;

/// Waits for SIGTERM or SIGINT.
pub async fn signal() -> io::Result<()> {
    let mut term = listen_for(SignalKind::terminate())?;
    let mut int = listen_for(SignalKind::interrupt())?;
    tokio::select! {
        _ = term.recv() => tracing::info!("SIGTERM: draining"),
        _ = int.recv() => tracing::info!("SIGINT: draining"),
    }
    Ok(())
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
