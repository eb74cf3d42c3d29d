//! Frames of HTTP/2 that no library would send, against a listener that speaks it: nothing of them is left, and
//! what goes on to the endpoint is well-formed HTTP/1.1 with what the client said.

use bolero::TypeGenerator;

use super::chance;
use super::stage::Stage;

/// One frame, more or less as it should be.
#[derive(Debug, TypeGenerator)]
enum Frame {
    Headers {
        stream: u8,
        flags: u8,
        fields: Vec<u8>,
    },
    Continuation {
        stream: u8,
        flags: u8,
        fields: Vec<u8>,
    },
    Data {
        stream: u8,
        flags: u8,
        length: u8,
    },
    Reset {
        stream: u8,
        code: u8,
    },
    Settings(Vec<(u8, u32)>),
    Acknowledge,
    Ping(u8),
    Window {
        stream: u8,
        by: u32,
    },
    GoAway(u8),
    Request(u8),
    Raw {
        kind: u8,
        stream: u8,
        flags: u8,
        payload: Vec<u8>,
    },
    Bytes(Vec<u8>),
}

#[rustfmt::skip]
const FIELDS: &[(&[u8], &[u8])] = &[
    (b":method", b"GET"), (b":method", b"POST"), (b":method", b"CONNECT"), (b":path", b"/"), (b":path", b"/a?b"),
    (b":path", b""), (b":path", b"*"), (b":path", b"a"), (b":path", b"/a b"), (b":path", b"/a\r\nx: y"),
    (b":scheme", b"http"), (b":scheme", b"https"), (b":authority", b"a"), (b":authority", b"b@a"), (b":protocol", b"websocket"),
    (b"host", b"a"), (b"host", b"b"), (b"content-length", b"3"), (b"content-length", b"5, 5"), (b"content-length", b"0"),
    (b"transfer-encoding", b"chunked"), (b"connection", b"close"), (b"connection", b"x-a"), (b"te", b"trailers"), (b"te", b"gzip"),
    (b"x-a", b"1"), (b"X-A", b"1"), (b"x-a", b"1\r\nhost: z"), (b"x-a", b"\0"), (b"x a", b"1"), (b"", b"1"), (b"x-b", b""),
    (b"upgrade", b"h2c"), (b"trailer", b"x-t"), (b"x-t", b"1"), (b"expect", b"100-continue"), (b"cookie", b"a=b"), (b"cookie", b"c=d"),
    (b"content-type", b"application/grpc"), (b"grpc-timeout", b"1S"), (b"grpc-timeout", b"99999999H"), (b"grpc-timeout", b"-1m"),
    (b"grpc-timeout", b"0n"), (b"grpc-timeout", b"999999999u"), (b":status", b"200"), (b"x-mamparo-attempt", b"9"),
];

impl Frame {
    fn write(&self, out: &mut Vec<u8>) {
        match self {
            Self::Headers {
                stream,
                flags,
                fields,
            } => frame(out, 1, flags & 0x2d, *stream, &block(fields)),
            Self::Continuation {
                stream,
                flags,
                fields,
            } => frame(out, 9, flags & 4, *stream, &block(fields)),
            Self::Data {
                stream,
                flags,
                length,
            } => frame(
                out,
                0,
                flags & 9,
                *stream,
                &vec![b'x'; usize::from(*length)],
            ),
            Self::Reset { stream, code } => frame(out, 3, 0, *stream, &[0, 0, 0, *code]),
            Self::Settings(settings) => {
                let entry =
                    |(id, value): &(u8, u32)| [&[0, id % 10][..], &value.to_be_bytes()].concat();
                let payload: Vec<u8> = settings.iter().flat_map(entry).collect();
                frame(out, 4, 0, 0, &payload);
            }
            Self::Acknowledge => frame(out, 4, 1, 0, &[]),
            Self::Ping(flags) => frame(out, 6, flags & 1, 0, &[7; 8]),
            Self::Window { stream, by } => frame(out, 8, 0, *stream, &by.to_be_bytes()),
            Self::GoAway(last) => frame(out, 7, 0, 0, &[0, 0, 0, *last, 0, 0, 0, 0]),
            // The head of a GET that is as it should be.
            Self::Request(stream) => frame(out, 1, 5, stream | 1, &block(&[0, 3, 10, 12])),
            Self::Raw {
                kind,
                stream,
                flags,
                payload,
            } => frame(out, kind % 12, *flags, *stream, payload),
            Self::Bytes(bytes) => out.extend(bytes),
        }
    }
}

fn frame(out: &mut Vec<u8>, kind: u8, flags: u8, stream: u8, payload: &[u8]) {
    let length = u32::try_from(payload.len()).unwrap();
    out.extend(&length.to_be_bytes()[1..]);
    out.extend([kind, flags, 0, 0, 0, stream % 16]);
    out.extend(payload);
}

/// Fields in HPACK, none of them indexed or packed.
fn block(fields: &[u8]) -> Vec<u8> {
    let mut block = Vec::new();
    for field in fields.iter().take(40) {
        let (name, value) = FIELDS[usize::from(*field) % FIELDS.len()];
        for text in [name, value] {
            if text == name {
                block.push(0);
            }
            block.push(u8::try_from(text.len()).unwrap());
            block.extend(text);
        }
    }
    block
}

#[test]
fn fuzz_frames() {
    let stage = Stage::speaking("http2", "inbound", "timeouts: { request: 5s, idle: 3s }");
    let target = |(letter, frames): &(u8, Vec<Frame>)| {
        let mut bytes = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0".to_vec();
        for frame in frames.iter().take(60) {
            frame.write(&mut bytes);
        }
        let (_, seen) = stage.run(&bytes, *letter, Vec::new());
        assert_eq!(seen.wrong, [], "what goes on is well-formed");
        for request in seen.whole.iter().chain(&seen.parts) {
            assert_eq!(request.all("host").count(), 1, "{request:?}");
            for name in ["upgrade", "http2-settings", "x-mamparo-attempt"] {
                assert!(!request.has(name), "{name}: {request:?}");
            }
            let framed = request.has("content-length") && request.has("transfer-encoding");
            assert!(!framed, "{request:?}");
            assert!(!request.line[1].contains(&b' '), "{request:?}");
        }
    };
    chance::fixed_values(300, 120, target);
    bolero::check!()
        .with_type::<(u8, Vec<Frame>)>()
        .with_iterations(chance::iterations())
        .for_each(target);
}
