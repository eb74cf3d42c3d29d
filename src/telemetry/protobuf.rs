//! Messages in the encoding of protocol buffers, as much of it as spans and health checks need: written in
//! one go into a buffer and read from one, field after field, without a tree of them before.

use smallvec::SmallVec;

/// A message that is being written.
#[derive(Debug)]
pub(crate) struct Message<'a>(&'a mut Vec<u8>);

/// How a field's value stands in the bytes.
const VARINT: u8 = 0;
const FIXED64: u8 = 1;
const LENGTH: u8 = 2;
const FIXED32: u8 = 5;

impl<'a> Message<'a> {
    /// What is written goes behind what is there.
    pub(crate) fn new(to: &'a mut Vec<u8>) -> Self {
        Self(to)
    }

    /// A number. Nothing is nothing: it is not written.
    pub(crate) fn number(&mut self, field: u8, value: u64) {
        if value != 0 {
            self.tag(field, VARINT);
            varint(self.0, value);
        }
    }

    /// A truth, written even where it is none: an attribute has its value.
    pub(crate) fn truth(&mut self, field: u8, value: bool) {
        self.tag(field, VARINT);
        varint(self.0, u64::from(value));
    }

    /// A number with a sign, written even where it is nothing: an attribute has its value.
    pub(crate) fn integer(&mut self, field: u8, value: i64) {
        self.tag(field, VARINT);
        varint(self.0, value.cast_unsigned());
    }

    /// A number of eight bytes.
    pub(crate) fn fixed64(&mut self, field: u8, value: u64) {
        self.tag(field, FIXED64);
        self.0.extend_from_slice(&value.to_le_bytes());
    }

    /// A number of four bytes.
    pub(crate) fn fixed32(&mut self, field: u8, value: u32) {
        self.tag(field, FIXED32);
        self.0.extend_from_slice(&value.to_le_bytes());
    }

    /// A fraction.
    pub(crate) fn double(&mut self, field: u8, value: f64) {
        self.fixed64(field, value.to_bits());
    }

    /// Bytes, or a text.
    pub(crate) fn bytes(&mut self, field: u8, value: impl AsRef<[u8]>) {
        let value = value.as_ref();
        self.tag(field, LENGTH);
        varint(self.0, value.len() as u64);
        self.0.extend_from_slice(value);
    }

    /// Fields that are written already.
    pub(crate) fn append(&mut self, fields: &[u8]) {
        self.0.extend_from_slice(fields);
    }

    /// A message within this one.
    pub(crate) fn message(&mut self, field: u8, write: impl FnOnce(&mut Message<'_>)) {
        self.tag(field, LENGTH);
        // Most are so short that one byte says how long: room for it is left, and for longer ones made.
        let at = self.0.len();
        self.0.push(0);
        write(&mut Message(self.0));
        let length = self.0.len() - at - 1;
        match u8::try_from(length) {
            Ok(short @ ..0x80) => self.0[at] = short,
            Ok(_) | Err(_) => {
                let mut digits = SmallVec::<[u8; 10]>::new();
                varint(&mut digits, length as u64);
                self.0.splice(at..=at, digits);
            }
        }
    }

    fn tag(&mut self, field: u8, kind: u8) {
        varint(self.0, u64::from(field) << 3 | u64::from(kind));
    }
}

/// Writes a number, seven bits a byte, the last ones first.
fn varint(to: &mut impl Extend<u8>, mut value: u64) {
    while value >= 0x80 {
        to.extend([value as u8 | 0x80]);
        value >>= 7;
    }
    to.extend([value as u8]);
}

/// A field that was read.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Read<'a> {
    /// A number of any width.
    Number(u64),
    /// Bytes, a text or a message.
    Bytes(&'a [u8]),
}

/// The next field of a message, with its number; `None`: there is none, or what follows is no field.
pub(crate) fn next<'a>(rest: &mut &'a [u8]) -> Option<(u64, Read<'a>)> {
    let tag = read_varint(rest)?;
    let value = match (tag & 7) as u8 {
        VARINT => Read::Number(read_varint(rest)?),
        FIXED64 => Read::Number(u64::from_le_bytes(take(rest, 8)?.try_into().ok()?)),
        FIXED32 => {
            let bytes = take(rest, 4)?.try_into().ok()?;
            Read::Number(u64::from(u32::from_le_bytes(bytes)))
        }
        LENGTH => {
            let length = usize::try_from(read_varint(rest)?).ok()?;
            Read::Bytes(take(rest, length)?)
        }
        _ => return None,
    };
    Some((tag >> 3, value))
}

fn take<'a>(rest: &mut &'a [u8], length: usize) -> Option<&'a [u8]> {
    let (taken, after) = rest.split_at_checked(length)?;
    *rest = after;
    Some(taken)
}

fn read_varint(rest: &mut &[u8]) -> Option<u64> {
    let mut value = 0;
    for shift in (0..64).step_by(7) {
        let byte = *take(rest, 1)?.first()?;
        value |= u64::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            return Some(value);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(write: impl FnOnce(&mut Message<'_>)) -> Vec<u8> {
        let mut bytes = Vec::new();
        write(&mut Message::new(&mut bytes));
        bytes
    }

    #[test]
    fn fields_are_written_as_the_encodings_documentation_has_them() {
        assert_eq!(written(|it| it.number(1, 150)), [0x08, 0x96, 0x01]);
        assert!(written(|it| it.number(1, 0)).is_empty());
        assert_eq!(written(|it| it.bytes(2, "testing")), *b"\x12\x07testing");
        let nested = written(|it| it.message(3, |inner| inner.number(1, 150)));
        assert_eq!(nested, [0x1a, 0x03, 0x08, 0x96, 0x01]);
        assert_eq!(written(|it| it.fixed32(16, 1)), [0x85, 0x01, 1, 0, 0, 0]);
        let minus = written(|it| it.integer(1, -1));
        assert_eq!((minus.len(), minus[10]), (11, 0x01));
    }

    #[test]
    fn a_message_of_any_length_is_read_as_it_was_written() {
        for length in [0, 1, 127, 128, 129, 16_383, 16_384, 70_000] {
            let text = "x".repeat(length);
            let bytes = written(|it| {
                it.message(1, |inner| inner.bytes(2, &text));
                it.fixed64(3, u64::MAX);
                it.truth(4, false);
            });
            let mut rest = bytes.as_slice();
            let Some((1, Read::Bytes(mut inner))) = next(&mut rest) else {
                panic!("no message of {length}");
            };
            assert_eq!(next(&mut inner), Some((2, Read::Bytes(text.as_bytes()))));
            assert_eq!(next(&mut inner), None);
            assert_eq!(next(&mut rest), Some((3, Read::Number(u64::MAX))));
            assert_eq!(next(&mut rest), Some((4, Read::Number(0))));
            assert!(rest.is_empty());
        }
    }

    #[test]
    fn what_is_no_message_is_read_without_harm() {
        for bytes in [
            &b"\x0a\x05abc"[..],
            b"\xff\xff\xff",
            b"\x0b\x01",
            b"\x09\x01",
        ] {
            assert_eq!(next(&mut { bytes }), None, "{bytes:?}");
        }
        let endless = [0xff; 20];
        assert_eq!(next(&mut &endless[..]), None);
    }
}
