//! Header lines: from bytes into a map, and back.

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue};

use super::{Malformed, bad};

/// The fields of a head in a map. They were parsed from `bytes`, of which `head` is a copy that begins
/// at the same byte: the values are parts of it and not copied again.
///
/// They are put into `spare`, an empty map.
///
/// # Errors
/// A name or value that is none. The parser lets hardly any through.
pub fn map(
    head: &Bytes,
    bytes: &[u8],
    parsed: &[httparse::Header<'_>],
    spare: HeaderMap,
) -> Result<HeaderMap, Malformed> {
    let mut map = spare;
    for field in parsed {
        let Ok(name) = HeaderName::from_bytes(field.name.as_bytes()) else {
            return bad("A header's name is malformed.");
        };
        let value = part(head, bytes, field.value);
        let Some(value) = value.and_then(|value| HeaderValue::from_maybe_shared(value).ok()) else {
            return bad("A header's value is malformed.");
        };
        map.append(name, value);
    }
    Ok(map)
}

/// The part of `head` that is where `part` is in `bytes`. `None`: `part` is not in there.
pub fn part(head: &Bytes, bytes: &[u8], part: &[u8]) -> Option<Bytes> {
    if part.is_empty() {
        return Some(Bytes::new());
    }
    let from = (part.as_ptr() as usize).checked_sub(bytes.as_ptr() as usize)?;
    let to = from.checked_add(part.len())?;
    (to <= head.len()).then(|| head.slice(from..to))
}

/// Appends a line for each header.
pub fn append(headers: &HeaderMap, to: &mut Vec<u8>) {
    for (name, value) in headers {
        append_one(name.as_str().as_bytes(), value.as_bytes(), to);
    }
}

/// Appends one header's line.
pub fn append_one(name: &[u8], value: &[u8], to: &mut Vec<u8>) {
    to.extend_from_slice(name);
    to.extend_from_slice(b": ");
    to.extend_from_slice(value);
    to.extend_from_slice(b"\r\n");
}

/// Whether a header's list has that word, in whatever case.
pub fn has_word(list: &[u8], word: &[u8]) -> bool {
    let mut words = list.split(|byte| *byte == b',');
    words.any(|each| each.trim_ascii().eq_ignore_ascii_case(word))
}

#[cfg(test)]
mod tests {
    use super::*;

    const LINES: &[u8] = b"host: a\r\nX-Empty:\r\nx-two: 1\r\nX-Two:  2 \r\n\r\n";

    #[test]
    fn lines_become_a_map_and_lines_again() {
        let mut space = [httparse::EMPTY_HEADER; 8];
        let parsed = httparse::parse_headers(LINES, &mut space).unwrap();
        let httparse::Status::Complete((length, parsed)) = parsed else {
            panic!("the lines are not complete");
        };
        let head = Bytes::copy_from_slice(&LINES[..length]);
        let headers = map(&head, LINES, parsed, HeaderMap::new()).unwrap();
        let mut bytes = Vec::new();
        append(&headers, &mut bytes);
        let text = String::from_utf8(bytes).unwrap();
        assert_eq!(text, "host: a\r\nx-empty: \r\nx-two: 1\r\nx-two: 2\r\n");
    }

    #[test]
    fn what_is_not_of_these_bytes_is_no_part_of_their_copy() {
        let head = Bytes::from_static(b"abc");
        let bytes = b"abcdef".to_vec();
        assert_eq!(part(&head, &bytes, &bytes[1..3]).unwrap(), "bc");
        assert_eq!(part(&head, &bytes, &bytes[2..4]), None);
        assert_eq!(part(&head, &bytes, b"").unwrap(), "");
    }
}
