//! Spans as a collector gets them: protobuf read by hand, field by field, as OTLP's documents have them.

use std::collections::BTreeMap;

use super::Upstream;

pub(crate) type Attributes = BTreeMap<String, String>;

/// One span. Ids are hexadecimal, as in a `traceparent`.
#[derive(Debug, Clone)]
pub(crate) struct Span {
    pub(crate) trace: String,
    pub(crate) id: String,
    pub(crate) parent: String,
    pub(crate) name: String,
    pub(crate) kind: u64,
    pub(crate) start: u64,
    pub(crate) end: u64,
    pub(crate) attributes: Attributes,
    /// Their names.
    pub(crate) events: Vec<String>,
    pub(crate) is_error: bool,
    /// Whose it is.
    pub(crate) resource: Attributes,
}

impl Span {
    pub(crate) const SERVER: u64 = 2;
    pub(crate) const CLIENT: u64 = 3;

    pub(crate) fn has(&self, pairs: &[(&str, &str)]) -> bool {
        let same = |(key, value): &(&str, &str)| {
            self.attributes
                .get(*key)
                .is_some_and(|found| found == value)
        };
        pairs.iter().all(same)
    }
}

/// Every span that a collector has got, request by request.
#[track_caller]
pub(crate) fn spans_at(collector: &Upstream) -> Vec<Span> {
    let received = collector.received();
    let bodies = received.iter().filter(|one| !one.body.is_empty());
    bodies.flat_map(|one| spans_in(&one.body)).collect()
}

/// The spans of one request.
#[track_caller]
pub(crate) fn spans_in(body: &[u8]) -> Vec<Span> {
    let mut spans = Vec::new();
    for all in Message::of(body).messages(1) {
        let resource = all.messages(1).first().map(|one| one.attributes(1));
        for scope in all.messages(2) {
            for span in scope.messages(2) {
                spans.push(span.span(resource.clone().unwrap_or_default()));
            }
        }
    }
    spans
}

struct Message(Vec<(u64, Value)>);

enum Value {
    Number(u64),
    Bytes(Vec<u8>),
}

impl Message {
    #[track_caller]
    fn of(mut rest: &[u8]) -> Self {
        let mut fields = Vec::new();
        while !rest.is_empty() {
            let tag = varint(&mut rest);
            let value = match tag & 7 {
                0 => Value::Number(varint(&mut rest)),
                1 => Value::Number(fixed(&mut rest, 8)),
                5 => Value::Number(fixed(&mut rest, 4)),
                2 => {
                    let length = varint(&mut rest) as usize;
                    let (bytes, after) = rest.split_at(length);
                    rest = after;
                    Value::Bytes(bytes.to_vec())
                }
                other => panic!("no such type: {other}"),
            };
            fields.push((tag >> 3, value));
        }
        Self(fields)
    }

    fn bytes(&self, field: u64) -> impl Iterator<Item = &[u8]> {
        self.0.iter().filter_map(move |one| match one {
            (number, Value::Bytes(bytes)) if *number == field => Some(bytes.as_slice()),
            _ => None,
        })
    }

    fn messages(&self, field: u64) -> Vec<Message> {
        self.bytes(field).map(Message::of).collect()
    }

    fn number(&self, field: u64) -> u64 {
        let found = self.0.iter().find_map(|one| match one {
            (number, Value::Number(value)) if *number == field => Some(*value),
            _ => None,
        });
        found.unwrap_or_default()
    }

    fn text(&self, field: u64) -> String {
        let bytes = self.bytes(field).next().unwrap_or_default();
        String::from_utf8(bytes.to_vec()).expect("a text is UTF-8")
    }

    fn hex(&self, field: u64) -> String {
        let bytes = self.bytes(field).next().unwrap_or_default();
        bytes.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    fn attributes(&self, field: u64) -> Attributes {
        let pairs = self.messages(field).into_iter().map(|pair| {
            let value = &pair.messages(2)[0];
            let told = match value.0.first() {
                Some((1, Value::Bytes(_))) => value.text(1),
                Some((2, Value::Number(truth))) => (*truth == 1).to_string(),
                Some((3, Value::Number(number))) => number.to_string(),
                Some((4, Value::Number(bits))) => f64::from_bits(*bits).to_string(),
                _ => panic!("no value of {}", pair.text(1)),
            };
            (pair.text(1), told)
        });
        pairs.collect()
    }

    fn span(&self, resource: Attributes) -> Span {
        Span {
            trace: self.hex(1),
            id: self.hex(2),
            parent: self.hex(4),
            name: self.text(5),
            kind: self.number(6),
            start: self.number(7),
            end: self.number(8),
            attributes: self.attributes(9),
            events: self.messages(11).iter().map(|one| one.text(2)).collect(),
            is_error: self.messages(15).iter().any(|one| one.number(3) == 2),
            resource,
        }
    }
}

fn varint(rest: &mut &[u8]) -> u64 {
    let mut value = 0;
    for shift in (0..64).step_by(7) {
        let byte = rest[0];
        *rest = &rest[1..];
        value |= u64::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            return value;
        }
    }
    panic!("a number without an end");
}

fn fixed(rest: &mut &[u8], length: usize) -> u64 {
    let (bytes, after) = rest.split_at(length);
    *rest = after;
    let shifted = |(index, byte): (usize, &u8)| u64::from(*byte) << (8 * index);
    bytes.iter().enumerate().map(shifted).sum()
}
