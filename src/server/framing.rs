//! Where in a client's bytes a request ends: its head at an empty line, its body where the head says.

use memchr::memchr;

/// Where in a request the next byte belongs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
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
pub enum Chunk {
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
    pub fn advance(self, bytes: &[u8]) -> (usize, Place) {
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
pub fn body(left: u64) -> Place {
    match left {
        0 => Place::Head,
        left => Place::Body { left },
    }
}

/// One past the empty line that ends a head, which does not lie before `from`. A line may end
/// without its carriage return, as the codec allows.
pub fn head_end(head: &[u8], from: usize) -> Option<usize> {
    (from..head.len()).find_map(|at| {
        let line_before = head[..at].strip_suffix(b"\r").unwrap_or(&head[..at]);
        (head[at] == b'\n' && line_before.ends_with(b"\n")).then_some(at + 1)
    })
}

/// One past the end of the head at the beginning of `bytes`, and what follows it; `None`: not all of
/// it is here. Nearly all heads come whole, and are read once, where they lie.
pub fn whole_head(bytes: &[u8]) -> Option<(usize, Place)> {
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
pub fn framing(head: &[u8]) -> Place {
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
