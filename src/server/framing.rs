//! Where in a client's bytes a request ends: its head at an empty line, its body where the head says.

use std::time::Instant;

use memchr::memchr;

/// Longer heads are refused by the codec; their bytes are of no interest here.
const LONGEST_HEAD: usize = 128 * 1024;

/// Follows a connection's bytes from request to request.
#[derive(Debug, Default)]
pub struct Framing {
    place: Place,
    /// Few heads come in pieces, so that no connection need keep room for one.
    partial: Option<Box<Partial>>,
}

/// As much of a head as has come; empty lines before it count as its beginning.
#[derive(Debug)]
struct Partial {
    bytes: Vec<u8>,
    since: Instant,
}

/// How far some bytes led.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Taken {
    /// At least one.
    pub bytes: usize,
    /// A request's head ends with them.
    pub ends_head: bool,
}

impl Taken {
    fn on(bytes: usize) -> Self {
        Self {
            bytes,
            ends_head: false,
        }
    }

    fn head(bytes: usize) -> Self {
        Self {
            bytes,
            ends_head: true,
        }
    }
}

impl Framing {
    /// The next byte begins a request, or an empty line before it.
    pub fn is_at_request(&self) -> bool {
        self.place == Place::Head && self.has_no_head()
    }

    /// Since when a head comes that is not all here.
    pub fn head_comes_since(&self) -> Option<Instant> {
        self.partial.as_ref().map(|partial| partial.since)
    }

    /// Goes on by these bytes, of which there is one, but not beyond the end of a head or a body.
    pub fn take(&mut self, bytes: &[u8]) -> Taken {
        match self.place {
            Place::Unknown => Taken::on(bytes.len()),
            Place::Body { left } => {
                let count = left.min(bytes.len() as u64);
                self.place = body(left - count);
                Taken::on(count as usize)
            }
            Place::Chunks(chunk) => {
                let (count, place) = chunk.advance(bytes);
                self.place = place;
                Taken::on(count)
            }
            Place::Head => self.take_head(bytes),
        }
    }

    fn take_head(&mut self, bytes: &[u8]) -> Taken {
        let (is_first, is_blank) = (self.has_no_head(), matches!(bytes[0], b'\r' | b'\n'));
        if is_first
            && !is_blank
            && let Some((end, next)) = whole_head(bytes)
        {
            return self.end_head(end, next);
        }
        let partial = self.partial.get_or_insert_with(|| {
            Box::new(Partial {
                bytes: Vec::new(),
                since: Instant::now(),
            })
        });
        if is_first && is_blank {
            return Taken::on(1); // Empty lines before a request are skipped (RFC 9112 §2.2).
        }
        let had = partial.bytes.len();
        partial.bytes.extend_from_slice(bytes);
        let Some(end) = head_end(&partial.bytes, had) else {
            if partial.bytes.len() > LONGEST_HEAD {
                (self.place, self.partial) = (Place::Unknown, None);
            }
            return Taken::on(bytes.len());
        };
        let next = after(&partial.bytes[..end]);
        self.end_head(end - had, next)
    }

    fn end_head(&mut self, bytes: usize, next: Place) -> Taken {
        (self.place, self.partial) = (next, None);
        Taken::head(bytes)
    }

    /// Nothing of a head is here, but for empty lines before it.
    fn has_no_head(&self) -> bool {
        let partial = self.partial.as_ref();
        partial.is_none_or(|partial| partial.bytes.is_empty())
    }
}

/// Where in a request the next byte belongs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum Place {
    #[default]
    Head,
    Body {
        left: u64,
    },
    Chunks(Chunk),
    /// Only the codec can tell, and so it is shown everything.
    Unknown,
}

/// Where in a chunked body (RFC 9112 §7.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Chunk {
    /// In the digits of a chunk's length.
    Length(u64),
    /// Behind them, up to the end of the line.
    Extension(u64),
    /// So many bytes of data and of the line's end behind them.
    Data(u64),
    /// In a line of the trailer, of which so much was seen that is no line's end.
    Trailer(u64),
}

impl Chunk {
    const FIRST: Self = Self::Length(0);

    /// How many of these bytes, of which there is one, belong to the body, and what comes then. What is
    /// malformed the codec refuses, and closes.
    fn advance(self, bytes: &[u8]) -> (usize, Place) {
        let next = match (self, bytes[0]) {
            (Self::Data(left), _) => {
                let count = left.min(bytes.len() as u64);
                let next = match left - count {
                    0 => Self::FIRST,
                    left => Self::Data(left),
                };
                return (count as usize, Place::Chunks(next));
            }
            (Self::Length(0) | Self::Extension(0), b'\n') => Self::Trailer(0),
            (Self::Length(len) | Self::Extension(len), b'\n') => Self::Data(len.saturating_add(2)),
            (Self::Length(len), digit) => match (digit as char).to_digit(16) {
                Some(digit) => Self::Length(len.saturating_mul(16).saturating_add(digit.into())),
                None => Self::Extension(len),
            },
            (Self::Extension(len), _) => Self::Extension(len),
            (Self::Trailer(0), b'\n') => return (1, Place::Head),
            (Self::Trailer(_), b'\n') => Self::Trailer(0),
            (Self::Trailer(seen), b'\r') => Self::Trailer(seen),
            (Self::Trailer(seen), _) => Self::Trailer(seen.saturating_add(1)),
        };
        (1, Place::Chunks(next))
    }
}

/// So many bytes of a body, and behind them a head.
fn body(left: u64) -> Place {
    match left {
        0 => Place::Head,
        left => Place::Body { left },
    }
}

/// One past the empty line that ends a head, which does not lie before `from`. A line may end
/// without its carriage return, as the codec allows.
fn head_end(head: &[u8], from: usize) -> Option<usize> {
    (from..head.len()).find_map(|at| {
        let line_before = head[..at].strip_suffix(b"\r").unwrap_or(&head[..at]);
        (head[at] == b'\n' && line_before.ends_with(b"\n")).then_some(at + 1)
    })
}

/// One past the end of the head at the beginning of `bytes`, and what follows it; `None`: not all of
/// it is here. Nearly all heads come whole, and are read once, where they lie.
fn whole_head(bytes: &[u8]) -> Option<(usize, Place)> {
    let (mut place, mut at) = (Place::Head, 0);
    loop {
        let end = at + memchr(b'\n', &bytes[at..])?;
        let line = &bytes[at..end];
        if matches!(line, b"" | b"\r") {
            return Some((end + 1, place));
        }
        if at > 0 {
            place = framed_by(line).unwrap_or(place);
        }
        if place == Place::Unknown {
            return Some((end + 1, place));
        }
        at = end + 1;
    }
}

/// What follows a head (RFC 9112 §6.3). What is malformed the codec refuses, and closes.
fn after(head: &[u8]) -> Place {
    let mut place = Place::Head;
    for line in head.split(|byte| *byte == b'\n').skip(1) {
        match framed_by(line) {
            Some(Place::Unknown) => return Place::Unknown,
            Some(framed) => place = framed,
            None => {}
        }
    }
    place
}

/// What one header field says of what follows the head; `None`: nothing.
fn framed_by(line: &[u8]) -> Option<Place> {
    if !matches!(line.first(), Some(b'c' | b'C' | b't' | b'T')) {
        return None;
    }
    let colon = line.iter().position(|byte| *byte == b':')?;
    let (name, value) = (&line[..colon], line[colon + 1..].trim_ascii());
    if name.eq_ignore_ascii_case(b"transfer-encoding") {
        return Some(Place::Chunks(Chunk::FIRST));
    }
    if !name.eq_ignore_ascii_case(b"content-length") {
        return None;
    }
    let length = str::from_utf8(value)
        .ok()
        .and_then(|text| text.parse().ok());
    Some(length.map_or(Place::Unknown, body))
}

#[cfg(test)]
mod tests {
    use super::*;

    const GET: &[u8] = b"GET /a HTTP/1.1\r\nHost: x\r\n\r\n";
    const CHUNKED: &[u8] =
        b"PUT /a HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\n\r\n";

    fn take(framing: &mut Framing, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            bytes = &bytes[framing.take(bytes).bytes..];
        }
    }

    #[test]
    fn a_head_comes_from_its_first_byte_to_its_last() {
        let mut framing = Framing::default();
        assert_eq!(framing.head_comes_since(), None);
        take(&mut framing, &GET[..5]);
        let since = framing.head_comes_since();
        assert!(since.is_some());
        take(&mut framing, &GET[5..9]);
        assert_eq!(
            framing.head_comes_since(),
            since,
            "more of it is no new one"
        );
        take(&mut framing, &GET[9..]);
        assert_eq!(framing.head_comes_since(), None);
    }

    #[test]
    fn neither_empty_lines_nor_the_chunks_of_the_one_before_hide_a_head_that_comes() {
        for before in [&b"\r\n"[..], CHUNKED] {
            let mut framing = Framing::default();
            take(&mut framing, before);
            take(&mut framing, &GET[..1]);
            assert!(framing.head_comes_since().is_some());
            take(&mut framing, &GET[1..]);
            assert_eq!(framing.head_comes_since(), None);
        }
    }
}
