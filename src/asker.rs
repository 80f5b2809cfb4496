//! On whose behalf something is done: the id of the request that caused it, carried along to the
//! tasks that it begins, so that what the log says of an origin names the request that asked.
//!
//! A span around every request would do the same and cost each hit in memory half a microsecond;
//! here a request merely carries its id, and a span is made where work leaves for another task.

use std::sync::Arc;

use tracing::{Instrument, Span};

tokio::task_local! {
    static REQUEST: Arc<str>;
}

/// Does the work of a request.
pub async fn asking<F: Future>(id: Arc<str>, work: F) -> F::Output {
    REQUEST.scope(id, work).await
}

/// Work for a task of its own: whatever it logs names the request that begins it now, or what the
/// caller was already doing.
pub fn on_behalf<F: Future>(work: F) -> impl Future<Output = F::Output> + use<F> {
    // Of the highest level, so that it is there whatever `log.level` lets through.
    let span = REQUEST
        .try_with(|id| tracing::error_span!("request", id = &**id))
        .unwrap_or_else(|_| Span::current());
    work.instrument(span)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;
    use std::sync::Mutex;

    #[derive(Clone, Default)]
    struct Lines(Arc<Mutex<Vec<u8>>>);

    impl Write for Lines {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn what_a_task_logs_names_the_request_that_began_it() {
        let lines = Lines::default();
        let to = lines.clone();
        let subscriber = tracing_subscriber::fmt()
            .with_writer(move || to.clone())
            .with_ansi(false)
            .finish();
        let runtime = tokio::runtime::Builder::new_current_thread()
            .build()
            .unwrap();
        tracing::subscriber::with_default(subscriber, || {
            runtime.block_on(asking("7f-1".into(), async {
                let task = on_behalf(async { tracing::warn!("the bucket fails") });
                tokio::spawn(task).await.unwrap();
            }));
            runtime.block_on(on_behalf(async { tracing::warn!("nobody asked") }));
        });
        let said = String::from_utf8(lines.0.lock().unwrap().clone()).unwrap();
        let (first, second) = said.trim().split_once('\n').unwrap();
        assert!(
            first.contains("request{id=\"7f-1\"}") && first.ends_with("the bucket fails"),
            "{said}"
        );
        assert!(!second.contains("request"), "{said}");
    }
}
