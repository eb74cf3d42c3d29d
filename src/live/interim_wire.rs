//! Finds interim answers in the bytes that come over an HTTP/1.1 connection. The HTTP library passes
//! over them: it would tell of them only at the price of two allocations for each request.

use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};

use super::interim::Head;

/// Bytes that the head of an interim answer may have to be passed on. The HTTP library judges it in
/// any case.
const MAX_HEAD: usize = 8 * 1024;

/// The interim answers that are told of at once, at most.
const MAX_AT_ONCE: usize = 8;

/// Where the first digit of the status is: behind `HTTP/1.1 `.
const STATUS_AT: usize = 9;

/// Follows the bytes of an answer up to its final head.
#[derive(Debug, Default)]
pub(super) struct Watch {
    /// The beginning of a head whose end has not come; empty for nearly all answers.
    partial: Vec<u8>,
}

/// What the bytes of an answer have brought.
#[derive(Debug)]
pub(super) enum Found {
    /// The final head begins: there is nothing more to look for.
    Final,
    /// Nothing that could be told of yet.
    Nothing,
    /// Interim answers.
    Interim {
        /// In the order of their coming.
        heads: Vec<Head>,
        /// The final head begins behind them.
        then_final: bool,
    },
}

impl Watch {
    /// Takes in bytes of an answer whose final head has not begun yet.
    pub(super) fn look(&mut self, fresh: &[u8]) -> Found {
        let status = fresh.get(STATUS_AT);
        if self.partial.is_empty() && status.is_some_and(|digit| *digit != b'1') {
            return Found::Final;
        }
        self.look_closely(fresh)
    }

    #[cold]
    fn look_closely(&mut self, fresh: &[u8]) -> Found {
        self.partial.extend_from_slice(fresh);
        let mut heads = Vec::new();
        let mut done = 0;
        let then_final = loop {
            let rest = &self.partial[done..];
            match rest.get(STATUS_AT) {
                None => break false,
                Some(b'1') => {}
                Some(_) => break true,
            }
            let Some(end) = end_of_head(rest) else {
                break rest.len() > MAX_HEAD;
            };
            let Some(head) = read(&rest[..end]) else {
                break true;
            };
            if heads.len() < MAX_AT_ONCE {
                heads.push(head);
            }
            done += end;
        };
        if then_final {
            self.partial = Vec::new();
        } else {
            self.partial.drain(..done);
        }
        match (heads.is_empty(), then_final) {
            (true, true) => Found::Final,
            (true, false) => Found::Nothing,
            (false, _) => Found::Interim { heads, then_final },
        }
    }
}

/// Behind the empty line that ends a head.
fn end_of_head(bytes: &[u8]) -> Option<usize> {
    let end = bytes.windows(4).position(|four| four == b"\r\n\r\n")?;
    Some(end + 4)
}

/// An interim answer's head; `None`: it is none, or malformed, which is the HTTP library's to say.
fn read(bytes: &[u8]) -> Option<Head> {
    let text = bytes.strip_suffix(b"\r\n\r\n")?;
    let mut lines = text.split(|byte| *byte == b'\n').map(|line| {
        let end = line.strip_suffix(b"\r");
        end.unwrap_or(line)
    });
    let status = lines.next()?.get(STATUS_AT..STATUS_AT + 3)?;
    let status = StatusCode::from_bytes(status).ok()?;
    let mut headers = HeaderMap::new();
    for line in lines {
        let colon = line.iter().position(|byte| *byte == b':')?;
        let name = HeaderName::from_bytes(&line[..colon]).ok()?;
        let value = HeaderValue::from_bytes(line[colon + 1..].trim_ascii()).ok()?;
        headers.append(name, value);
    }
    Head::received(status, headers)
}

#[cfg(test)]
mod tests {
    use super::*;

    const HINTS: &str = "HTTP/1.1 103 Early Hints\r\nlink: </a>; rel=preload\r\nLink: </b>\r\n\r\n";
    const GO_ON: &str = "HTTP/1.1 100 Continue\r\n\r\n";
    const FINAL: &str = "HTTP/1.1 200 OK\r\ncontent-length: 1\r\n\r\nx";

    /// The statuses found when the bytes come in pieces of that size, and whether the final head was
    /// seen.
    fn seen(bytes: &str, piece: usize) -> (Vec<u16>, bool) {
        let mut watch = Watch::default();
        let mut statuses = Vec::new();
        for piece in bytes.as_bytes().chunks(piece) {
            match watch.look(piece) {
                Found::Final => return (statuses, true),
                Found::Nothing => {}
                Found::Interim { heads, then_final } => {
                    statuses.extend(heads.iter().map(|head| head.status.as_u16()));
                    if then_final {
                        return (statuses, true);
                    }
                }
            }
        }
        (statuses, false)
    }

    #[test]
    fn interim_answers_are_found_however_the_bytes_are_cut() {
        let three = [HINTS, GO_ON, HINTS, FINAL].concat();
        for piece in 1..three.len() {
            assert_eq!(seen(FINAL, piece), (vec![], true), "{piece}");
            assert_eq!(seen(&three, piece), (vec![103, 100, 103], true), "{piece}");
            let (found, last) = seen(&[GO_ON, "HTTP/1"].concat(), piece);
            assert_eq!((found.as_slice(), last), (&[100][..], false));
        }
    }

    #[test]
    fn their_headers_are_kept_in_order() {
        let Found::Interim { heads, then_final } = Watch::default().look(HINTS.as_bytes()) else {
            panic!("no interim answer");
        };
        assert!(!then_final);
        let links: Vec<_> = heads[0].headers.get_all("link").iter().collect();
        assert_eq!(links, ["</a>; rel=preload", "</b>"]);
    }

    #[test]
    fn what_is_no_interim_answer_ends_the_search() {
        for bytes in [
            "HTTP/1.1 101 Switching Protocols\r\nupgrade: x\r\n\r\n",
            "HTTP/1.1 103 Early Hints\r\nno colon\r\n\r\n",
            "HTTP/1.1 1x0 What\r\n\r\n",
        ] {
            assert!(matches!(
                Watch::default().look(bytes.as_bytes()),
                Found::Final
            ));
        }
        let endless = [GO_ON.trim_end(), &"x".repeat(MAX_HEAD)].concat();
        assert_eq!(seen(&endless, 1000), (vec![], true));
    }
}
