//! Interim answers (status 100 to 199, 101 apart) on their way from an upstream to one client.
//!
//! An upstream's connection passes them on while the task of the request drives it. The client's
//! connection polls that same task, and takes them right after each poll, before anything of the final
//! answer. So nobody has to be woken, and an ordinary request costs one look at a flag.
//!
//! They are hints, so few of them wait: those that the client's connection cannot take in time are
//! dropped. How many an upstream may send at all is limited where they are received.

use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use http::{HeaderMap, StatusCode};
use parking_lot::Mutex;

use super::hop_by_hop;

/// Interim answers that may wait for the client's connection.
const MAX_WAITING: usize = 8;

/// One interim answer.
#[derive(Debug, Clone)]
pub struct Head {
    /// 100 to 199, never 101.
    pub status: StatusCode,
    /// Its headers, without those that concern one connection only.
    pub headers: HeaderMap,
}

impl Head {
    /// The interim answer that came with these headers. `None`: it is none. 101 is a final answer.
    pub fn received(status: StatusCode, mut headers: HeaderMap) -> Option<Self> {
        if !status.is_informational() || status == StatusCode::SWITCHING_PROTOCOLS {
            return None;
        }
        hop_by_hop::strip(&mut headers);
        // It has no body, so these would speak of another message.
        headers.remove(http::header::CONTENT_LENGTH);
        headers.remove(http::header::TRANSFER_ENCODING);
        headers.remove(http::header::TRAILER);
        Some(Self { status, headers })
    }

    /// `100 Continue`: the client may send its body.
    pub fn go_on() -> Self {
        Self {
            status: StatusCode::CONTINUE,
            headers: HeaderMap::new(),
        }
    }
}

/// The interim answers to the request that a client's connection, or one stream of it, is waiting for.
#[derive(Debug, Default)]
pub struct Interim {
    waiting: AtomicBool,
    heads: Mutex<Vec<Head>>,
}

impl Interim {
    /// Passes one on to the client. Too many at once are dropped.
    pub fn pass(&self, head: Head) {
        let mut heads = self.heads.lock();
        if heads.len() < MAX_WAITING {
            heads.push(head);
            self.waiting.store(true, Relaxed);
        }
    }

    /// Whether there is one for the client to take. Cheap.
    pub fn is_waiting(&self) -> bool {
        self.waiting.load(Relaxed)
    }

    /// Takes what waits, in the order of its coming. Also to be called when a request ends, so that
    /// nothing is left for the next one.
    pub fn take(&self) -> Vec<Head> {
        self.waiting.store(false, Relaxed);
        std::mem::take(&mut *self.heads.lock())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fault_049_what_waits_is_bounded_and_keeps_its_order() {
        let interim = Interim::default();
        assert!(!interim.is_waiting());
        for number in 0..20 {
            let mut headers = HeaderMap::new();
            headers.insert("x-number", number.into());
            headers.insert("connection", http::HeaderValue::from_static("x-mine"));
            headers.insert("x-mine", number.into());
            headers.insert("content-length", number.into());
            let head = Head::received(StatusCode::EARLY_HINTS, headers).unwrap();
            assert_eq!(head.headers.len(), 1);
            interim.pass(head);
        }
        assert!(interim.is_waiting());
        let taken = interim.take();
        let numbers: Vec<_> = taken.iter().map(|head| &head.headers["x-number"]).collect();
        assert_eq!(numbers, ["0", "1", "2", "3", "4", "5", "6", "7"]);
        assert!(!interim.is_waiting() && interim.take().is_empty());
    }

    #[test]
    fn a_final_answer_is_no_interim_one() {
        for status in [StatusCode::OK, StatusCode::SWITCHING_PROTOCOLS] {
            assert!(Head::received(status, HeaderMap::new()).is_none());
        }
        assert!(Head::received(StatusCode::PROCESSING, HeaderMap::new()).is_some());
    }
}
