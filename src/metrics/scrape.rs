//! A scrape: what is read rather than counted is brought up to date, and all series become text.

use std::sync::Mutex;

use prometheus::{Encoder, TextEncoder};

use super::Metrics;

type Refresh = Box<dyn Fn(&Metrics) + Send + Sync>;

/// Whoever has values that are read rather than counted.
#[derive(Default)]
pub struct Refreshers(Mutex<Vec<Refresh>>);

impl Metrics {
    /// Has `refresh` called before each scrape, for values that are read rather than counted.
    pub fn on_scrape(&self, refresh: impl Fn(&Metrics) + Send + Sync + 'static) {
        let mut refreshers = self.refreshers.0.lock().expect("no panic while refreshing");
        refreshers.push(Box::new(refresh));
    }

    /// All series in Prometheus' text format, version 0.0.4.
    pub fn render(&self) -> String {
        self.refresh();
        let mut text = Vec::new();
        TextEncoder::new()
            .encode(&self.registry.gather(), &mut text)
            .expect("writing into memory does not fail");
        String::from_utf8(text).expect("the text format is UTF-8")
    }

    /// Brings up to date what is read rather than counted.
    pub fn refresh(&self) {
        self.http_in_flight.set(self.in_flight());
        let refreshers = self.refreshers.0.lock().expect("no panic while refreshing");
        refreshers.iter().for_each(|refresh| refresh(self));
    }
}
