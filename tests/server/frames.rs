//! Frames of HTTP/2, made and read by hand.

use std::time::Duration;

use h2::Reason as Code;
use tokio::io::{AsyncReadExt, DuplexStream};

pub(crate) fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    let mut bytes = length[1..].to_vec();
    bytes.extend([kind, flags]);
    bytes.extend(stream.to_be_bytes());
    bytes.extend(payload);
    bytes
}

/// What a client begins with, with these settings.
pub(crate) fn preface(settings: &[(u16, u32)]) -> Vec<u8> {
    let mut payload = Vec::new();
    for (id, value) in settings {
        payload.extend(id.to_be_bytes());
        payload.extend(value.to_be_bytes());
    }
    let mut bytes = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
    bytes.extend(frame(4, 0, 0, &payload));
    bytes
}

/// A header without an index, uncompressed (RFC 7541 section 6.2.2).
pub(crate) fn literal(name: &str, value: &str) -> Vec<u8> {
    field(0, name, value)
}

/// A header that goes into the table.
pub(crate) fn indexed(name: &str, value: &str) -> Vec<u8> {
    field(0x40, name, value)
}

fn field(first: u8, name: &str, value: &str) -> Vec<u8> {
    let mut bytes = vec![first];
    for text in [name, value] {
        let length = text.len();
        if length < 127 {
            bytes.push(length as u8);
        } else {
            bytes.push(127);
            let mut rest = length - 127;
            while rest >= 128 {
                bytes.push((rest % 128 + 128) as u8);
                rest /= 128;
            }
            bytes.push(rest as u8);
        }
        bytes.extend(text.as_bytes());
    }
    bytes
}

/// The head of a GET.
pub(crate) fn block(path: &str) -> Vec<u8> {
    let mut block = vec![0x82, 0x86];
    block.extend(literal(":path", path));
    block.extend(literal(":authority", "a"));
    block
}

pub(crate) fn get(stream: u32, path: &str) -> Vec<u8> {
    frame(1, 5, stream, &block(path))
}

/// A POST whose body is to come.
pub(crate) fn post(stream: u32, path: &str) -> Vec<u8> {
    let mut block = vec![0x83, 0x86];
    block.extend(literal(":path", path));
    block.extend(literal(":authority", "a"));
    frame(1, 4, stream, &block)
}

/// What came from the server, in short.
#[derive(Debug, Default)]
pub(crate) struct Frames {
    /// The code of the last GOAWAY.
    pub(crate) gone: Option<Code>,
    pub(crate) resets: Vec<(u32, Code)>,
    pub(crate) settings: Vec<(u16, u32)>,
}

fn read(mut bytes: &[u8]) -> Frames {
    let mut frames = Frames::default();
    let word = |bytes: &[u8]| u32::from_be_bytes(bytes[..4].try_into().unwrap());
    while bytes.len() >= 9 {
        let length = word(&[0, bytes[0], bytes[1], bytes[2]]) as usize;
        let (kind, flags, stream) = (bytes[3], bytes[4], word(&bytes[5..]));
        let Some(payload) = bytes.get(9..9 + length) else {
            break;
        };
        match kind {
            3 => frames.resets.push((stream, word(payload).into())),
            4 if flags == 0 => {
                for setting in payload.chunks(6) {
                    let id = u16::from_be_bytes([setting[0], setting[1]]);
                    frames.settings.push((id, word(&setting[2..])));
                }
            }
            7 => frames.gone = Some(word(&payload[4..]).into()),
            _ => {}
        }
        bytes = &bytes[9 + length..];
    }
    frames
}

/// Everything up to the end of the connection.
pub(crate) async fn read_to_end(io: &mut DuplexStream) -> Frames {
    let mut bytes = Vec::new();
    io.read_to_end(&mut bytes).await.unwrap();
    read(&bytes)
}

/// What comes within a millisecond of silence.
pub(crate) async fn read_some(io: &mut DuplexStream) -> Frames {
    let mut bytes = Vec::new();
    let mut buffer = [0; 4096];
    let quiet = Duration::from_millis(1);
    while let Ok(read) = tokio::time::timeout(quiet, io.read(&mut buffer)).await {
        match read.unwrap() {
            0 => break,
            some => bytes.extend_from_slice(&buffer[..some]),
        }
    }
    read(&bytes)
}
