//! The standard's health check of gRPC: the two messages of `grpc.health.v1.Health/Check`, and how a call
//! ended. They have one field each, so that no code is generated for them.

use bytes::{Buf, BufMut, Bytes, BytesMut};
use http::HeaderMap;

use crate::policy::grpc::Code;
use crate::policy::health::Fault;
use crate::telemetry::protobuf::{self, Message, Read};

/// The method's path.
pub(super) const PATH: &str = "/grpc.health.v1.Health/Check";
/// Bytes of an answer that are read; a true one has seven.
pub(super) const LONGEST: usize = 4096;

/// Before each message: whether it is compressed, and its length.
const PREFIX: usize = 5;
/// The field of `HealthCheckRequest`.
const SERVICE: u8 = 1;
/// The field of `HealthCheckResponse`, a number.
const STATUS: u64 = 1;
/// The names of the statuses, by their numbers.
const STATUSES: [&str; 4] = ["UNKNOWN", "SERVING", "NOT_SERVING", "SERVICE_UNKNOWN"];
const SERVING: u64 = 1;

/// The request, framed.
pub(super) fn request(service: &str) -> Bytes {
    let mut message = Vec::new();
    if !service.is_empty() {
        Message::new(&mut message).bytes(SERVICE, service);
    }
    let mut framed = BytesMut::with_capacity(PREFIX + message.len());
    framed.put_u8(0);
    framed.put_u32(u32::try_from(message.len()).unwrap_or(u32::MAX));
    framed.put_slice(&message);
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
    while !message.is_empty() {
        if let (STATUS, Read::Number(value)) = protobuf::next(&mut message)? {
            status = value;
        }
    }
    Some(status)
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
