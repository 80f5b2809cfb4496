//! On whose behalf something is done: the id of the request that caused it, carried along to the
//! tasks that it begins, so that what the log says of an origin names the request that asked.
//!
//! A span around every request would do the same and cost each hit in memory half a microsecond;
//! here a request merely carries its id, and a span is made where work leaves for another task.

use std::str;

use tracing::{Instrument, Span};

tokio::task_local! {
    static REQUEST: RequestId;
}

/// Names a request, here and in other programs' logs: eight hexadecimal digits, a dash, and more of
/// them. It is copied rather than shared, since all that is done with it is to write it down.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct RequestId {
    text: [u8; Self::LONGEST],
    len: usize,
}

impl RequestId {
    const LONGEST: usize = "01234567-0123456789abcdef".len();

    /// The `count`th of a worker, whose `own` half was drawn by lot.
    pub fn new(own: u32, count: u64) -> Self {
        let digits = (u64::BITS - count.leading_zeros()).div_ceil(4).max(1) as usize;
        let mut text = [b'-'; Self::LONGEST];
        write_hex(own.into(), &mut text[..8]);
        write_hex(count, &mut text[9..9 + digits]);
        Self {
            text,
            len: 9 + digits,
        }
    }

    pub fn as_str(&self) -> &str {
        str::from_utf8(&self.text[..self.len]).expect("digits and a dash")
    }
}

impl std::fmt::Debug for RequestId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

fn write_hex(mut number: u64, digits: &mut [u8]) {
    for digit in digits.iter_mut().rev() {
        *digit = b"0123456789abcdef"[(number & 0xf) as usize];
        number >>= 4;
    }
}

/// Does the work of a request.
pub async fn asking<F: Future>(id: RequestId, work: F) -> F::Output {
    REQUEST.scope(id, work).await
}

/// Work for a task of its own: whatever it logs names the request that begins it now, or what the
/// caller was already doing.
pub fn on_behalf<F: Future>(work: F) -> impl Future<Output = F::Output> + use<F> {
    // Of the highest level, so that it is there whatever `log.level` lets through.
    let span = REQUEST
        .try_with(|id| tracing::error_span!("request", id = id.as_str()))
        .unwrap_or_else(|_| Span::current());
    work.instrument(span)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;
    use std::sync::{Arc, Mutex};

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
    fn an_id_is_a_half_for_the_worker_and_a_count() {
        for (own, count, text) in [
            (0x7f, 0, "0000007f-0"),
            (0xdead_beef, 16, "deadbeef-10"),
            (0, u64::MAX, "00000000-ffffffffffffffff"),
        ] {
            assert_eq!(RequestId::new(own, count).as_str(), text);
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
            runtime.block_on(asking(RequestId::new(0x7f, 1), async {
                let task = on_behalf(async { tracing::warn!("the bucket fails") });
                tokio::spawn(task).await.unwrap();
            }));
            runtime.block_on(on_behalf(async { tracing::warn!("nobody asked") }));
        });
        let said = String::from_utf8(lines.0.lock().unwrap().clone()).unwrap();
        let (first, second) = said.trim().split_once('\n').unwrap();
        assert!(
            first.contains("request{id=\"0000007f-1\"}") && first.ends_with("the bucket fails"),
            "{said}"
        );
        assert!(!second.contains("request"), "{said}");
    }
}
