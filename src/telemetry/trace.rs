//! Whose request it is: W3C trace context and request ids, kept where they are valid, else made.
//!
//! A trace that comes in goes on through us, with a span id of its own for each try, so that a tracing
//! backend of the services on both sides sees one unbroken trace, whether we export our spans or not.

use bytes::Bytes;
use http::{HeaderName, HeaderValue};

/// The header that carries a trace's id and the caller's span.
pub const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
/// The header that carries what the tracing systems on the way want to keep.
pub const TRACESTATE: HeaderName = HeaderName::from_static("tracestate");
/// The header that carries a request's id.
pub const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
/// The older word for it; used where it is the only id.
pub const CORRELATION_ID: HeaderName = HeaderName::from_static("x-correlation-id");

/// Bytes of a request id that are taken from a client.
const MAX_REQUEST_ID: usize = 128;

/// The flag that says: the caller keeps this trace.
const SAMPLED: u8 = 0x01;
/// The flags that version 00 knows: sampled, and that the trace's id is random.
const KNOWN_FLAGS: u8 = 0x03;

/// What a request's headers say of whose it is, as it came.
#[derive(Debug, Default)]
pub struct Claims<'a> {
    request_id: Option<&'a HeaderValue>,
    correlation_id: Option<&'a HeaderValue>,
    traceparent: Option<&'a HeaderValue>,
    /// There is more than one `traceparent`: then none is believed.
    many_traces: bool,
}

impl<'a> Claims<'a> {
    /// Takes note of a header, if it says anything of it.
    pub fn note(&mut self, name: &str, value: &'a HeaderValue) {
        match name {
            "x-request-id" => _ = self.request_id.get_or_insert(value),
            "x-correlation-id" => _ = self.correlation_id.get_or_insert(value),
            "traceparent" => self.many_traces |= self.traceparent.replace(value).is_some(),
            _ => {}
        }
    }
}

/// Whose a request is.
#[derive(Debug)]
pub struct Identity {
    /// Its `x-request-id` where that is valid, else its `x-correlation-id`, else a new one. Valid are
    /// up to 128 visible ASCII characters.
    pub request_id: HeaderValue,
    /// The trace that its `traceparent` names, else a new one. Where that has no `parent`, there was
    /// no valid `traceparent`, and the `tracestate` must not be passed on.
    pub trace: TraceContext,
}

impl Identity {
    /// What the claims are worth.
    pub fn of(claims: &Claims<'_>) -> Self {
        let given = claims.request_id.filter(|id| is_valid(id));
        let given = given.or_else(|| claims.correlation_id.filter(|id| is_valid(id)));
        let trace = claims.traceparent.filter(|_| !claims.many_traces);
        Self {
            request_id: given.cloned().unwrap_or_else(new_request_id),
            trace: trace
                .and_then(|trace| TraceContext::read(trace.as_bytes()))
                .unwrap_or_else(TraceContext::begin),
        }
    }
}

/// The trace that a request belongs to, and our place in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TraceContext {
    /// The trace; never 0.
    pub trace_id: u128,
    /// Our own span; never 0.
    pub span_id: u64,
    /// The caller's span; `None` where we began the trace.
    pub parent: Option<u64>,
    /// What the caller decided about the trace.
    pub flags: u8,
}

impl TraceContext {
    /// A new trace. It is marked as kept: a service behind us that samples by its parent's word
    /// would otherwise never keep a trace of a caller that sends none.
    pub fn begin() -> Self {
        Self {
            trace_id: fastrand::u128(..).max(1),
            span_id: span(),
            parent: None,
            flags: SAMPLED,
        }
    }

    /// The trace that a `traceparent` names; `None` where it is invalid.
    pub fn read(value: &[u8]) -> Option<Self> {
        let (known, rest) = value.split_at_checked(55)?;
        let version = hex(&known[..2])? as u8;
        let complete = match version {
            0x00 => rest.is_empty(),
            0xff => false,
            // A version that we do not know may have more to say after another dash.
            0x01..=0xfe => rest.is_empty() || rest[0] == b'-',
        };
        let dashes = known[2] == b'-' && known[35] == b'-' && known[52] == b'-';
        if !complete || !dashes {
            return None;
        }
        let trace_id = hex(&known[3..35]).filter(|id| *id != 0)?;
        let parent = hex(&known[36..52]).filter(|id| *id != 0)? as u64;
        let flags = hex(&known[53..])? as u8;
        Some(Self {
            trace_id,
            span_id: span(),
            parent: Some(parent),
            flags: flags & if version == 0 { KNOWN_FLAGS } else { SAMPLED },
        })
    }

    /// Whether the caller keeps the trace, or we began it.
    pub const fn is_sampled(&self) -> bool {
        self.flags & SAMPLED != 0
    }

    /// The `traceparent` that names this span: each try has one of its own (rule 22).
    pub fn header(&self, span_id: u64) -> HeaderValue {
        // All numbers at once, and a few bytes more: written in one go that takes no longer than one.
        let mut bytes = [0; 32];
        bytes[..16].copy_from_slice(&self.trace_id.to_be_bytes());
        bytes[16..24].copy_from_slice(&span_id.to_be_bytes());
        bytes[24] = self.flags;
        let mut digits = [0; 64];
        write_hex(&mut digits, bytes);
        let mut text = *b"00-00000000000000000000000000000000-0000000000000000-00";
        text[3..35].copy_from_slice(&digits[..32]);
        text[36..52].copy_from_slice(&digits[32..48]);
        text[53..].copy_from_slice(&digits[48..50]);
        value(text)
    }
}

/// A span id; never 0.
pub fn span() -> u64 {
    fastrand::u64(..).max(1)
}

fn is_valid(id: &HeaderValue) -> bool {
    let id = id.as_bytes();
    (1..=MAX_REQUEST_ID).contains(&id.len()) && id.iter().all(u8::is_ascii_graphic)
}

/// A new request id: a random UUID (version 4).
pub fn new_request_id() -> HeaderValue {
    const VERSION: u128 = 0x4 << 76;
    const VARIANT: u128 = 0x2 << 62;
    let random = fastrand::u128(..) & !(0xf << 76) & !(0x3 << 62) | VERSION | VARIANT;
    let mut digits = [0; 32];
    write_hex(&mut digits, random.to_be_bytes());
    let mut text = [b'-'; 36];
    for (to, from) in [
        (0..8, 0..8),
        (9..13, 8..12),
        (14..18, 12..16),
        (19..23, 16..20),
        (24..36, 20..32),
    ] {
        text[to].copy_from_slice(&digits[from]);
    }
    value(text)
}

/// A header value of hexadecimal digits and dashes, which is always valid. It goes through several
/// hands, and bytes with an owner of their own are shared without being moved.
#[inline(never)] // Inlined, the check of its bytes is unrolled, which takes longer.
fn value(text: impl AsRef<[u8]> + Send + 'static) -> HeaderValue {
    HeaderValue::from_maybe_shared(Bytes::from_owner(text))
        .unwrap_or_else(|_| HeaderValue::from_static(""))
}

/// Writes bytes in lower-case hexadecimal, two digits for each, over the whole of `to`.
#[inline]
pub(crate) fn write_hex<const N: usize>(to: &mut [u8], bytes: [u8; N]) {
    // Reckoned, since a table is looked up one digit at a time.
    let digit = |half: u8| half + if half > 9 { b'a' - 10 } else { b'0' };
    let mut pairs = [[0; 2]; N];
    for (pair, byte) in pairs.iter_mut().zip(bytes) {
        *pair = [digit(byte >> 4), digit(byte & 0xf)];
    }
    to.copy_from_slice(pairs.as_flattened());
}

/// Reads lower-case hexadecimal, at most 32 digits; upper case is invalid in a `traceparent`.
fn hex(text: &[u8]) -> Option<u128> {
    text.iter().try_fold(0, |sum: u128, digit| {
        let digit = match digit {
            b'0'..=b'9' => digit - b'0',
            b'a'..=b'f' => digit - b'a' + 10,
            _ => return None,
        };
        Some(sum << 4 | u128::from(digit))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const VALID: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    fn identity(pairs: &[(&str, &str)]) -> Identity {
        let values: Vec<HeaderValue> = pairs.iter().map(|pair| pair.1.parse().unwrap()).collect();
        let mut claims = Claims::default();
        for ((name, _), value) in pairs.iter().zip(&values) {
            claims.note(name, value);
        }
        Identity::of(&claims)
    }

    #[test]
    fn a_valid_traceparent_is_kept_with_a_span_of_our_own() {
        let trace = identity(&[("traceparent", VALID)]).trace;
        assert_eq!(trace.trace_id, 0x4bf9_2f35_77b3_4da6_a3ce_929d_0e0e_4736);
        assert_eq!(trace.parent, Some(0x00f0_67aa_0ba9_02b7));
        assert_eq!(trace.flags, 1);
        assert_ne!(Some(trace.span_id), trace.parent);
    }

    #[test]
    fn rule_22_each_try_has_its_own_span_in_the_same_trace() {
        let trace = TraceContext::read(VALID.as_bytes()).unwrap();
        let (first, second) = (trace.header(span()), trace.header(span()));
        assert_ne!(first, second);
        for header in [first, second] {
            let read = TraceContext::read(header.as_bytes()).unwrap();
            assert_eq!((read.trace_id, read.flags), (trace.trace_id, 1));
        }
        assert_eq!(trace.header(0x00f0_67aa_0ba9_02b7), VALID);
    }

    #[test]
    fn an_invalid_traceparent_begins_a_new_trace() {
        let long = format!("{VALID}-more");
        for invalid in [
            "",
            "00",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-0",
            "00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01",
            "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01",
            "ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            "00_4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            "cc-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01x",
            "0g-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-0g",
            long.as_str(),
        ] {
            assert_eq!(TraceContext::read(invalid.as_bytes()), None, "{invalid}");
        }
        let twice = identity(&[("traceparent", VALID), ("traceparent", VALID)]);
        assert_eq!(twice.trace.parent, None);
        assert_eq!(identity(&[]).trace.parent, None);
    }

    #[test]
    fn of_a_later_version_what_we_know_is_read() {
        for later in [
            "cc-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-ff",
            "cc-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-ff-more",
        ] {
            let trace = TraceContext::read(later.as_bytes()).unwrap();
            assert_eq!(trace.flags, SAMPLED);
            assert!(trace.header(1).to_str().unwrap().starts_with("00-4bf9"));
        }
    }

    #[test]
    fn a_request_id_is_kept_if_it_is_fit_for_a_log() {
        let given = identity(&[("x-request-id", "abc-1"), ("x-correlation-id", "other")]);
        assert_eq!(given.request_id, "abc-1");
        let correlated = identity(&[("x-correlation-id", "other")]);
        assert_eq!(correlated.request_id, "other");
        let long = "x".repeat(129);
        for unfit in ["", "with space", "ümlaut", long.as_str()] {
            let made = identity(&[("x-request-id", unfit)]).request_id;
            assert_eq!(made.len(), 36, "{unfit}");
        }
    }

    #[test]
    fn a_new_request_id_is_a_uuid_of_version_4() {
        for _ in 0..100 {
            let id = new_request_id();
            let id = id.to_str().unwrap();
            let groups: Vec<&str> = id.split('-').collect();
            let lengths: Vec<usize> = groups.iter().map(|group| group.len()).collect();
            assert_eq!(lengths, [8, 4, 4, 4, 12], "{id}");
            assert!(groups[2].starts_with('4'), "{id}");
            assert!(groups[3].starts_with(['8', '9', 'a', 'b']), "{id}");
        }
        assert_ne!(new_request_id(), new_request_id());
    }
}
