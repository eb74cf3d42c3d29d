//! The frames of HTTP/2 that a client needs for the same small request again and again (RFC 9113, RFC 7541).

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const SETTINGS: u8 = 4;
const WINDOW_UPDATE: u8 = 8;

/// Of a SETTINGS frame; and of the others: the last of its stream.
const ACK: u8 = 1;
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;

/// GET, http, and literals that are not indexed for the authority (1) and the path (4).
const HEAD: &[u8] = b"\x82\x86\x01\x0e127.0.0.1:8080\x04\x03/64";

/// A client's side of a connection.
#[derive(Default)]
pub(crate) struct Frames {
    /// Of the last request; 0: there was none.
    stream: u32,
}

impl Frames {
    /// Appends a request, and before the first ones what the protocol wants.
    pub(crate) fn write_request(&mut self, to: &mut Vec<u8>) {
        match self.stream {
            0 => {
                to.extend_from_slice(PREFACE);
                write(to, SETTINGS, 0, 0, &[]);
                // As large a window as there is, so that it need not be opened again.
                write(to, WINDOW_UPDATE, 0, 0, &0x7fff_0000_u32.to_be_bytes());
            }
            1 => write(to, SETTINGS, ACK, 0, &[]),
            _ => {}
        }
        self.stream = if self.stream == 0 { 1 } else { self.stream + 2 };
        write(to, HEADERS, END_STREAM | END_HEADERS, self.stream, HEAD);
    }

    /// Whether the last frame of the answer is there.
    pub(crate) fn is_answered(&self, mut bytes: &[u8]) -> bool {
        while let Some((head, rest)) = bytes.split_first_chunk::<9>() {
            let [a, b, c, kind, flags, stream @ ..] = *head;
            let length = u32::from_be_bytes([0, a, b, c]) as usize;
            let is_last = matches!(kind, DATA | HEADERS) && flags & END_STREAM != 0;
            if rest.len() >= length && is_last && u32::from_be_bytes(stream) == self.stream {
                return true;
            }
            bytes = rest.get(length..).unwrap_or(&[]);
        }
        false
    }
}

fn write(to: &mut Vec<u8>, kind: u8, flags: u8, stream: u32, payload: &[u8]) {
    let [_, length @ ..] = u32::try_from(payload.len()).unwrap().to_be_bytes();
    to.extend_from_slice(&length);
    to.extend_from_slice(&[kind, flags]);
    to.extend_from_slice(&stream.to_be_bytes());
    to.extend_from_slice(payload);
}
