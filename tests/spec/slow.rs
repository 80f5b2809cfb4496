//! Clients that take their time over their own words.

use crate::bed::TestBed;

/// The first head of a connection and each after it: what is never finished holds no connection. The
/// second was waited for until the client left, since to the codec its first byte ends all waiting.
#[tokio::test]
async fn a_head_that_does_not_end_ends_the_connection() {
    let bed = TestBed::start().await;
    let part = "GET /health HTTP/1.1\r\nHos";
    let whole = "GET /health HTTP/1.1\r\nHost: h\r\n\r\n";
    let chunked = whole.replace("Host", "Transfer-Encoding: chunked\r\nHost") + "0\r\n\r\n";
    let slow = |before: &str, part: &str| {
        let (bed, before, part) = (&bed, before.to_owned(), part.to_owned());
        async move {
            let mut connection = bed.connect().await;
            if !before.is_empty() {
                connection.send(before.as_bytes()).await;
                assert_eq!(connection.answer("GET").await.status, 200);
            }
            connection.send(part.as_bytes()).await;
            connection.rest().await
        }
    };
    let (first, second, blank, behind_chunks) = tokio::join!(
        slow("", part),
        slow(whole, part),
        slow(whole, "\r\n"),
        slow(&chunked, part)
    );
    assert!(first.starts_with(b"HTTP/1.1 408 "));
    // Nothing is said to who speaks.
    assert!(second.is_empty() && blank.is_empty() && behind_chunks.is_empty());
}
