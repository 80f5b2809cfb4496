//! The closed sets that labels are drawn from, and which combinations the routes can produce.

/// A tuple of labels of one metric.
pub trait Labels: Copy + 'static {
    /// The labels' names, in the order of the tuple.
    const NAMES: &'static [&'static str];
    /// Every combination, in the order of their indices.
    fn all() -> Vec<Self>;
    /// The place of this combination in [`Labels::all`].
    fn index(self) -> usize;
    /// The labels' values, in the order of the tuple.
    fn texts(self) -> Vec<&'static str>;
}

/// One label: a closed set of values.
pub trait Label: Copy + 'static {
    const NAME: &'static str;
    const ALL: &'static [Self];
    fn index(self) -> usize;
    fn as_str(self) -> &'static str;
}

macro_rules! label {
    ($(#[$doc:meta])* $name:ident as $label:literal { $($(#[$vdoc:meta])* $variant:ident = $text:literal),+ $(,)? }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum $name { $($(#[$vdoc])* $variant),+ }

        impl Label for $name {
            const NAME: &'static str = $label;
            const ALL: &'static [Self] = &[$(Self::$variant),+];
            fn index(self) -> usize { self as usize }
            fn as_str(self) -> &'static str { match self { $(Self::$variant => $text),+ } }
        }
    };
}

label! {
    /// What was asked for.
    Kind as "kind" { Narinfo = "narinfo", Nar = "nar", Document = "document", Info = "info", Other = "other" }
}
label! {
    Method as "method" { Get = "GET", Head = "HEAD", Put = "PUT", Delete = "DELETE", Other = "other" }
}
label! {
    /// Where an answer's bytes came from.
    Source as "source" {
        Memory = "memory", Disk = "disk", Index = "index", Fill = "fill",
        Bucket = "bucket", Substituter = "substituter", None = "none",
    }
}
label! {
    Tier as "tier" { Memory = "memory", Disk = "disk", Index = "index", Bucket = "bucket", Substituter = "substituter" }
}
label! {
    /// What a tier answered.
    Outcome as "result" {
        Hit = "hit", Miss = "miss", NegativeHit = "negative_hit", Stale = "stale", Unknown = "unknown",
    }
}
label! {
    MemoryCache as "cache" { Documents = "documents", Negative = "negative", Nars = "nars" }
}
label! {
    /// The state of the disk or the index.
    PartState as "state" { Starting = "starting", Ok = "ok", Degraded = "degraded" }
}
label! {
    FillOutcome as "outcome" {
        Stored = "stored",
        /// Delivered whole and verified, but not kept (no room, a sick disk).
        Passed = "passed",
        Absent = "absent",
        /// The origin failed or fell silent.
        Broken = "broken",
        /// The bytes were not those that the name or the narinfo promises.
        Corrupt = "corrupt",
        Abandoned = "abandoned",
    }
}
label! {
    Origin as "origin" { Bucket = "bucket", Substituter = "substituter" }
}
label! {
    Operation as "operation" {
        Get = "get", Head = "head", Put = "put", Delete = "delete", List = "list", Multipart = "multipart",
    }
}
label! {
    OriginOutcome as "outcome" {
        Found = "found", Absent = "absent", NotModified = "not_modified", Precondition = "precondition",
        Timeout = "timeout", Refused = "refused", Throttled = "throttled", Failed = "failed",
    }
}
label! {
    Direction as "direction" { In = "in", Out = "out" }
}
label! {
    PriceClass as "class" { A = "a", B = "b" }
}
label! {
    UploadOutcome as "outcome" {
        Created = "created", Existing = "existing",
        /// The upload itself was wrong: malformed, unsigned, other bytes than its name says.
        Refused = "refused",
        /// The client went away, fell silent or sent fewer bytes than announced.
        Cut = "cut",
        /// The bucket did not take it.
        Failed = "failed",
    }
}
label! {
    AuthFailure as "reason" { Missing = "missing", Malformed = "malformed", Unknown = "unknown", Scope = "scope", Namespace = "namespace" }
}
label! {
    UnknownReason as "reason" {
        Timeout = "timeout", Connect = "connect", Refused = "refused", Throttled = "throttled", Server = "server",
        Garbage = "garbage", Corrupt = "corrupt", Busy = "busy", BreakerOpen = "breaker_open", Internal = "internal",
    }
}

/// Statuses that `http/error.rs` and `http/reply.rs` know; anything else counts as the last.
const STATUSES: [(u16, &str); 21] = [
    (200, "200"),
    (201, "201"),
    (206, "206"),
    (304, "304"),
    (400, "400"),
    (401, "401"),
    (403, "403"),
    (404, "404"),
    (405, "405"),
    (409, "409"),
    (411, "411"),
    (412, "412"),
    (413, "413"),
    (414, "414"),
    (415, "415"),
    (416, "416"),
    (422, "422"),
    (431, "431"),
    (500, "500"),
    (503, "503"),
    (0, "other"),
];

/// A status code as a label.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Status(u8);

impl Status {
    pub fn of(code: u16) -> Self {
        let known = STATUSES.iter().position(|(known, _)| *known == code);
        Self(known.unwrap_or(STATUSES.len() - 1) as u8)
    }
}

impl Label for Status {
    const NAME: &'static str = "status";
    const ALL: &'static [Self] = &{
        let mut all = [Self(0); STATUSES.len()];
        let mut at = 0;
        while at < all.len() {
            all[at] = Self(at as u8);
            at += 1;
        }
        all
    };
    fn index(self) -> usize {
        usize::from(self.0)
    }
    fn as_str(self) -> &'static str {
        STATUSES[self.index()].1
    }
}

impl<A: Label> Labels for (A,) {
    const NAMES: &'static [&'static str] = &[A::NAME];
    fn all() -> Vec<Self> {
        A::ALL.iter().map(|a| (*a,)).collect()
    }
    fn index(self) -> usize {
        self.0.index()
    }
    fn texts(self) -> Vec<&'static str> {
        vec![self.0.as_str()]
    }
}

impl<A: Label, B: Label> Labels for (A, B) {
    const NAMES: &'static [&'static str] = &[A::NAME, B::NAME];
    fn all() -> Vec<Self> {
        A::ALL
            .iter()
            .flat_map(|a| B::ALL.iter().map(|b| (*a, *b)))
            .collect()
    }
    fn index(self) -> usize {
        self.0.index() * B::ALL.len() + self.1.index()
    }
    fn texts(self) -> Vec<&'static str> {
        vec![self.0.as_str(), self.1.as_str()]
    }
}

impl<A: Label, B: Label, C: Label> Labels for (A, B, C) {
    const NAMES: &'static [&'static str] = &[A::NAME, B::NAME, C::NAME];
    fn all() -> Vec<Self> {
        <(A, B)>::all()
            .into_iter()
            .flat_map(|(a, b)| C::ALL.iter().map(move |c| (a, b, *c)))
            .collect()
    }
    fn index(self) -> usize {
        (self.0, self.1).index() * C::ALL.len() + self.2.index()
    }
    fn texts(self) -> Vec<&'static str> {
        vec![self.0.as_str(), self.1.as_str(), self.2.as_str()]
    }
}

/// Which statuses a kind's methods can be answered with. "other" stands for a client that left
/// before there was an answer.
pub fn can_be_answered((kind, method, status): (Kind, Method, Status)) -> bool {
    let stored = !matches!(kind, Kind::Info | Kind::Other);
    let statuses: &[u16] = match (kind, method) {
        (Kind::Nar, Method::Get | Method::Head) => &[200, 206, 304, 401, 404, 412, 416, 503, LEFT],
        (Kind::Narinfo | Kind::Document, Method::Get | Method::Head) => {
            &[200, 304, 401, 404, 412, 503, LEFT]
        }
        (Kind::Info, Method::Get | Method::Head) => &[200, 401, LEFT],
        (Kind::Other, Method::Get | Method::Head) => &[200, 401, 403, 404, 414, 431, 503, LEFT],
        (_, Method::Put) if stored => &[
            200, 201, 400, 401, 403, 405, 409, 411, 413, 415, 422, 503, LEFT,
        ],
        (Kind::Info, Method::Put) => &[200, 401, 403, 405, LEFT],
        (Kind::Other, Method::Put | Method::Delete | Method::Other) => &[404, 405, 414, 431, LEFT],
        (_, Method::Delete) if stored => &[200, 401, 403, 404, 405, 503, LEFT],
        _ => &[405, LEFT],
    };
    statuses.iter().any(|code| Status::of(*code) == status)
}

/// What [`Status::of`] knows as "other".
const LEFT: u16 = 0;

/// Which sources a kind can be served from.
pub fn can_serve((kind, source): (Kind, Source)) -> bool {
    match kind {
        Kind::Nar => matches!(
            source,
            Source::Memory | Source::Disk | Source::Fill | Source::Bucket | Source::None
        ),
        Kind::Narinfo | Kind::Document => {
            matches!(
                source,
                Source::Memory | Source::Index | Source::Bucket | Source::None
            )
        }
        Kind::Info | Kind::Other => matches!(source, Source::None),
    }
}

/// What a tier can answer about a kind. A read counts as a miss at each tier that it passed and with
/// another result at the one that answered it (the bucket's miss is an answer too: not there).
pub fn can_look_up((kind, tier, result): (Kind, Tier, Outcome)) -> bool {
    match (kind, tier) {
        (Kind::Nar, Tier::Disk) => {
            matches!(result, Outcome::Hit | Outcome::Miss | Outcome::Unknown)
        }
        // Memory holds the few NARs that are hot, and to pass it by is no miss.
        (Kind::Nar, Tier::Memory) => matches!(result, Outcome::Hit | Outcome::NegativeHit),
        (Kind::Narinfo | Kind::Document, Tier::Memory) => !matches!(result, Outcome::Unknown),
        (Kind::Narinfo | Kind::Document, Tier::Index) => {
            matches!(result, Outcome::Hit | Outcome::Miss | Outcome::Stale)
        }
        (Kind::Narinfo | Kind::Document | Kind::Nar, Tier::Bucket) => {
            matches!(result, Outcome::Hit | Outcome::Miss | Outcome::Unknown)
        }
        _ => false,
    }
}

/// What the bucket can be asked and can answer.
pub fn can_be_asked((origin, operation, outcome): (Origin, Operation, OriginOutcome)) -> bool {
    let reads = matches!(operation, Operation::Get | Operation::Head);
    origin == Origin::Bucket
        && match outcome {
            OriginOutcome::Absent | OriginOutcome::NotModified => reads,
            OriginOutcome::Precondition => reads || operation == Operation::Put,
            _ => true,
        }
}
