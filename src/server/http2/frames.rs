//! Follows the frames in one direction of a connection (RFC 9113 section 4.1), however their bytes are
//! cut into pieces. Nothing is copied but the nine bytes of a frame's head.

/// What a client sends first.
pub(crate) const PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

pub(super) const DATA: u8 = 0;
pub(super) const HEADERS: u8 = 1;
pub(super) const RST_STREAM: u8 = 3;
pub(super) const SETTINGS: u8 = 4;
const GOAWAY: u8 = 7;
pub(super) const CONTINUATION: u8 = 9;
/// Stands for what comes before the first frame.
const NONE: u8 = u8::MAX;

/// The last piece of a header block.
const END_HEADERS: u8 = 4;

const HEAD: usize = 9;

/// Bytes of a goodbye that are kept: a stream, a code, and a few words.
const GOODBYE: usize = 64;

/// A frame's head.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Head {
    pub(super) length: u32,
    pub(super) kind: u8,
    pub(super) flags: u8,
    pub(super) stream: u32,
}

impl Head {
    fn read(bytes: [u8; HEAD]) -> Self {
        let [a, b, c, kind, flags, stream @ ..] = bytes;
        Self {
            length: u32::from_be_bytes([0, a, b, c]),
            kind,
            flags,
            stream: u32::from_be_bytes(stream) & !(1 << 31),
        }
    }

    /// Whether it belongs to a header block.
    pub(super) const fn is_header_block(&self) -> bool {
        matches!(self.kind, HEADERS | CONTINUATION)
    }

    /// Whether its header block ends with it.
    pub(super) const fn ends_block(&self) -> bool {
        self.is_header_block() && self.flags & END_HEADERS != 0
    }
}

/// What the bytes have brought.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Seen {
    /// The head of a frame.
    Begun(Head),
    /// The last byte of a frame, with the first four bytes of what it carries: the code of a reset.
    Ended(Head, u32),
}

/// Where one direction stands. Give it every byte once, in order.
#[derive(Debug)]
pub(super) struct Frames {
    partial: [u8; HEAD],
    /// Bytes of `partial`.
    have: usize,
    /// The frame whose bytes are coming.
    current: Option<Head>,
    /// Bytes of it that are still to come.
    left: u32,
    code: u32,
    goodbye: Vec<u8>,
}

impl Frames {
    /// The client's direction, which begins with the preface.
    pub(super) const fn after_preface() -> Self {
        let preface = Head {
            length: PREFACE.len() as u32,
            kind: NONE,
            flags: 0,
            stream: 0,
        };
        let mut frames = Self::new();
        frames.left = preface.length;
        frames.current = Some(preface);
        frames
    }

    /// A direction that begins with a frame.
    pub(super) const fn new() -> Self {
        Self {
            partial: [0; HEAD],
            have: 0,
            current: None,
            left: 0,
            code: 0,
            goodbye: Vec::new(),
        }
    }

    /// What the frame said that ends the connection, if it has come.
    pub(super) fn goodbye(&self) -> &[u8] {
        self.goodbye.get(8..).unwrap_or_default()
    }

    /// Takes in some of the bytes, up to something that is worth telling.
    pub(super) fn next(&mut self, bytes: &mut &[u8]) -> Option<Seen> {
        let Some(head) = self.current else {
            return self.begin(bytes).map(Seen::Begun);
        };
        let some = bytes.len().min(self.left as usize);
        let (taken, rest) = bytes.split_at(some);
        if head.kind == RST_STREAM {
            let add = |code: u32, byte: &u8| (code << 8) | u32::from(*byte);
            self.code = taken.iter().fold(self.code, add);
        } else if head.kind == GOAWAY && self.goodbye.len() < GOODBYE {
            let room = GOODBYE - self.goodbye.len();
            self.goodbye.extend(taken.iter().take(room));
        }
        *bytes = rest;
        self.left -= some as u32;
        (self.left == 0).then(|| {
            self.current = None;
            Seen::Ended(head, std::mem::take(&mut self.code))
        })
    }

    fn begin(&mut self, bytes: &mut &[u8]) -> Option<Head> {
        let head = match bytes.split_first_chunk::<HEAD>() {
            Some((head, rest)) if self.have == 0 => {
                *bytes = rest;
                *head
            }
            _ => {
                let some = bytes.len().min(HEAD - self.have);
                let (taken, rest) = bytes.split_at(some);
                self.partial[self.have..self.have + some].copy_from_slice(taken);
                self.have += some;
                *bytes = rest;
                if self.have < HEAD {
                    return None;
                }
                self.have = 0;
                self.partial
            }
        };
        let head = Head::read(head);
        self.left = head.length;
        self.current = Some(head);
        Some(head)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
        let mut bytes = (payload.len() as u32).to_be_bytes()[1..].to_vec();
        bytes.extend([kind, flags]);
        bytes.extend(stream.to_be_bytes());
        bytes.extend(payload);
        bytes
    }

    fn all(frames: &mut Frames, mut bytes: &[u8]) -> Vec<Seen> {
        let mut seen = Vec::new();
        loop {
            match frames.next(&mut bytes) {
                Some(one) => seen.push(one),
                None if bytes.is_empty() => return seen,
                None => {}
            }
        }
    }

    #[test]
    fn frames_are_the_same_however_they_are_cut() {
        let mut bytes = PREFACE.to_vec();
        bytes.extend(frame(SETTINGS, 0, 0, &[]));
        bytes.extend(frame(HEADERS, END_HEADERS, 1, b"head"));
        bytes.extend(frame(DATA, 0, 1 << 31 | 1, &[7; 20_000]));
        bytes.extend(frame(RST_STREAM, 0, 1, &[0, 0, 1, 8]));
        let whole = all(&mut Frames::after_preface(), &bytes);
        let kinds: Vec<u8> = whole
            .iter()
            .map(|seen| match seen {
                Seen::Begun(head) | Seen::Ended(head, _) => head.kind,
            })
            .collect();
        assert_eq!(kinds, [NONE, 4, 4, 1, 1, 0, 0, 3, 3]);
        let reset = Head {
            length: 4,
            kind: RST_STREAM,
            flags: 0,
            stream: 1,
        };
        assert_eq!(whole.last(), Some(&Seen::Ended(reset, 0x108)));
        for size in [1, 2, 3, 8, 9, 10, 64] {
            let mut frames = Frames::after_preface();
            let cut: Vec<Seen> = bytes
                .chunks(size)
                .flat_map(|piece| all(&mut frames, piece))
                .collect();
            assert_eq!(cut, whole, "pieces of {size}");
        }
    }
}
