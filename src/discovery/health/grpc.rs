//! The standard's health check of gRPC: the two messages of `grpc.health.v1.Health/Check`, and how a call
//! ended. They have one field each, so that no code is generated for them.

use bytes::{Buf, BufMut, Bytes, BytesMut};
use http::HeaderMap;

use crate::policy::grpc::Code;
use crate::policy::health::Fault;

/// The method's path.
pub(super) const PATH: &str = "/grpc.health.v1.Health/Check";
/// Bytes of an answer that are read; a true one has seven.
pub(super) const LONGEST: usize = 4096;

/// Before each message: whether it is compressed, and its length.
const PREFIX: usize = 5;
/// `HealthCheckRequest.service`: field 1, with its length before it.
const SERVICE: u8 = 1 << 3 | 2;
/// `HealthCheckResponse.status`: field 1, a number.
const STATUS: u64 = 1 << 3;
/// The names of the statuses, by their numbers.
const STATUSES: [&str; 4] = ["UNKNOWN", "SERVING", "NOT_SERVING", "SERVICE_UNKNOWN"];
const SERVING: u64 = 1;

/// The request, framed.
pub(super) fn request(service: &str) -> Bytes {
    let mut message = BytesMut::new();
    if !service.is_empty() {
        message.put_u8(SERVICE);
        put_number(&mut message, service.len() as u64);
        message.put_slice(service.as_bytes());
    }
    let mut framed = BytesMut::with_capacity(PREFIX + message.len());
    framed.put_u8(0);
    framed.put_u32(u32::try_from(message.len()).unwrap_or(u32::MAX));
    framed.put(message);
    framed.freeze()
}

/// What the framed answer says.
pub(super) fn judge(answer: &[u8]) -> Result<(), Fault> {
    match status(answer) {
        Some(SERVING) => Ok(()),
        Some(other) => {
            let word = usize::try_from(other).ok();
            let word = word.and_then(|number| STATUSES.get(number));
            Err(Fault::NotServing(
                word.copied().unwrap_or("an unknown status"),
            ))
        }
        None => Err(Fault::Broken("no message of grpc.health.v1".into())),
    }
}

/// How the call ended, by the head of an answer without a message or by its trailers.
pub(super) fn ended(headers: &HeaderMap) -> Option<Code> {
    let status = headers.get("grpc-status")?;
    Some(Code::of_status(status.as_bytes()))
}

/// The status in a framed message; `None`: it is none. What is not there is 0, as protobuf has it.
fn status(mut framed: &[u8]) -> Option<u64> {
    if framed.len() < PREFIX || framed.get_u8() != 0 {
        return None;
    }
    let length = usize::try_from(framed.get_u32()).ok()?;
    let mut message = framed.get(..length)?;
    let mut status = 0;
    while message.has_remaining() {
        let tag = number(&mut message)?;
        match tag & 7 {
            0 => {
                let value = number(&mut message)?;
                if tag == STATUS {
                    status = value;
                }
            }
            1 => message = message.get(8..)?,
            2 => {
                let length = usize::try_from(number(&mut message)?).ok()?;
                message = message.get(length..)?;
            }
            5 => message = message.get(4..)?,
            _ => return None,
        }
    }
    Some(status)
}

/// Seven bits a byte, the lowest first; the highest bit says that another byte follows.
fn number(from: &mut &[u8]) -> Option<u64> {
    let mut number = 0_u64;
    for place in 0..10 {
        let byte = from.split_off_first()?;
        number |= u64::from(byte & 0x7f).checked_shl(7 * place)?;
        if byte & 0x80 == 0 {
            return Some(number);
        }
    }
    None
}

fn put_number(to: &mut BytesMut, mut number: u64) {
    while number > 0x7f {
        to.put_u8((number & 0x7f) as u8 | 0x80);
        number >>= 7;
    }
    to.put_u8(number as u8);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn framed(message: &[u8]) -> Vec<u8> {
        let length = u32::try_from(message.len()).expect("short");
        [&[0], &length.to_be_bytes()[..], message].concat()
    }

    #[test]
    fn a_request_names_the_service_where_there_is_one() {
        assert_eq!(request(""), framed(&[])[..]);
        assert_eq!(request("a.B"), framed(b"\x0a\x03a.B")[..]);
        let long = "x".repeat(300);
        let expected = [b"\x0a\xac\x02", long.as_bytes()].concat();
        assert_eq!(request(&long), framed(&expected)[..]);
    }

    #[test]
    fn only_serving_is_a_success() {
        assert_eq!(judge(&framed(&[8, 1])), Ok(()));
        // A field that a later version may have changes nothing, whichever its type.
        let more = [
            0x10, 0x80, 0x01, 0x1a, 2, 7, 7, 0x25, 1, 2, 3, 4, 0x29, 1, 2, 3, 4, 5, 6, 7, 8, 8, 1,
        ];
        assert_eq!(judge(&framed(&more)), Ok(()));
        for (message, word) in [
            (&[][..], "UNKNOWN"),
            (&[8, 0], "UNKNOWN"),
            (&[8, 2], "NOT_SERVING"),
            (&[8, 3], "SERVICE_UNKNOWN"),
            (&[8, 0x80, 0x01], "an unknown status"),
        ] {
            assert_eq!(judge(&framed(message)), Err(Fault::NotServing(word)));
        }
    }

    #[test]
    fn what_is_no_such_message_is_broken() {
        let whole = framed(&[8, 1]);
        let endless = framed(&[
            8, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff,
        ]);
        let compressed = [1, 0, 0, 0, 2, 8, 1];
        let group = framed(&[0x0b]);
        for bytes in [
            &[][..],
            &whole[..6],
            &whole[..3],
            &endless,
            &compressed,
            &group,
            &framed(&[0x0a, 9]),
            &framed(&[0x29, 1]),
        ] {
            assert!(
                matches!(judge(bytes), Err(Fault::Broken(_))),
                "{bytes:?} is taken"
            );
        }
    }
}
