//! Follows the frames in one direction of an HTTP/2 connection (RFC 9113 section 4.1), however their bytes
//! are cut into pieces. Nothing is copied but the nine bytes of a frame's head. Both ends of the proxy
//! learn by it what the protocol's library does not tell.

/// What a client sends first.
pub const PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// Kinds of frames.
pub const DATA: u8 = 0;
/// Begins a header block.
pub const HEADERS: u8 = 1;
/// Ends a stream with an error code.
pub const RST_STREAM: u8 = 3;
/// Says what its sender takes.
pub const SETTINGS: u8 = 4;
/// Says which stream is the last that its sender acts on.
pub const GOAWAY: u8 = 7;
/// Goes on with a header block.
pub const CONTINUATION: u8 = 9;
/// Stands for what comes before the first frame.
const NONE: u8 = u8::MAX;

/// The last piece of a header block.
const END_HEADERS: u8 = 4;

const HEAD: usize = 9;

/// Bytes of a goodbye that are kept: a stream, a code, and a few words.
const GOODBYE: usize = 64;

/// A frame's head.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Head {
    /// Bytes that follow it.
    pub length: u32,
    /// What the frame is for.
    pub kind: u8,
    /// What its kind makes of them.
    pub flags: u8,
    /// Its stream; 0: the connection.
    pub stream: u32,
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
    pub const fn is_header_block(&self) -> bool {
        matches!(self.kind, HEADERS | CONTINUATION)
    }

    /// Whether its header block ends with it.
    pub const fn ends_block(&self) -> bool {
        self.is_header_block() && self.flags & END_HEADERS != 0
    }
}

/// What the bytes have brought.
#[derive(Debug, PartialEq, Eq)]
pub enum Seen {
    /// The head of a frame.
    Begun(Head),
    /// The last byte of a frame, with the first four bytes of what it carries where those are wanted: the
    /// code of a reset, or the last stream of a goodbye.
    Ended(Head, u32),
}

/// Where one direction stands. Give it every byte once, in order.
#[derive(Debug)]
pub struct Frames {
    partial: [u8; HEAD],
    /// Bytes of `partial`.
    have: usize,
    /// The frame whose bytes are coming.
    current: Option<Head>,
    /// Bytes of it that are still to come.
    left: u32,
    /// The first four bytes of what it carries, where they are wanted.
    word: u32,
    goodbye: Vec<u8>,
}

impl Frames {
    /// The client's direction, which begins with the preface.
    pub const fn after_preface() -> Self {
        let preface = Head {
            length: PREFACE.len() as u32,
            kind: NONE,
            flags: 0,
            stream: 0,
        };
        let mut frames = Self::without_preface();
        frames.left = preface.length;
        frames.current = Some(preface);
        frames
    }

    /// A direction that begins with a frame.
    pub const fn without_preface() -> Self {
        Self {
            partial: [0; HEAD],
            have: 0,
            current: None,
            left: 0,
            word: 0,
            goodbye: Vec::new(),
        }
    }

    /// What the frame said that ends the connection, if it has come.
    pub fn goodbye(&self) -> &[u8] {
        self.goodbye.get(8..).unwrap_or_default()
    }

    /// Takes in some of the bytes, up to something that is worth telling.
    pub fn next(&mut self, bytes: &mut &[u8]) -> Option<Seen> {
        let Some(head) = self.current else {
            return self.begin(bytes).map(Seen::Begun);
        };
        let some = bytes.len().min(self.left as usize);
        let (taken, rest) = bytes.split_at(some);
        if matches!(head.kind, RST_STREAM | GOAWAY) {
            self.read_word(taken, head.length - self.left);
        }
        if head.kind == GOAWAY && self.goodbye.len() < GOODBYE {
            let room = GOODBYE - self.goodbye.len();
            self.goodbye.extend(taken.iter().take(room));
        }
        *bytes = rest;
        self.left -= some as u32;
        (self.left == 0).then(|| {
            self.current = None;
            Seen::Ended(head, std::mem::take(&mut self.word))
        })
    }

    /// `before` bytes of the frame have come already.
    fn read_word(&mut self, bytes: &[u8], before: u32) {
        let wanted = 4_usize.saturating_sub(before as usize);
        let add = |word: u32, byte: &u8| (word << 8) | u32::from(*byte);
        self.word = bytes.iter().take(wanted).fold(self.word, add);
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
        if head.kind == GOAWAY {
            // The last one counts.
            self.goodbye.clear();
        }
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
        bytes.extend(frame(GOAWAY, 0, 0, &[0x80, 0, 1, 5, 0, 0, 0, 2, b'a']));
        bytes.extend(frame(GOAWAY, 0, 0, b"\0\0\0\x03\0\0\0\x02last"));
        bytes.extend(frame(RST_STREAM, 0, 1, &[0, 0, 1, 8]));
        let whole = all(&mut Frames::after_preface(), &bytes);
        let kinds: Vec<u8> = whole
            .iter()
            .map(|seen| match seen {
                Seen::Begun(head) | Seen::Ended(head, _) => head.kind,
            })
            .collect();
        assert_eq!(kinds, [NONE, 4, 4, 1, 1, 0, 0, 7, 7, 7, 7, 3, 3]);
        let reset = Head {
            length: 4,
            kind: RST_STREAM,
            flags: 0,
            stream: 1,
        };
        assert_eq!(whole.last(), Some(&Seen::Ended(reset, 0x108)));
        let words: Vec<u32> = whole
            .iter()
            .filter_map(|seen| match seen {
                Seen::Ended(head, word) if head.kind == GOAWAY => Some(*word),
                Seen::Ended(..) | Seen::Begun(_) => None,
            })
            .collect();
        assert_eq!(words, [0x8000_0105, 3]);
        for size in [1, 2, 3, 8, 9, 10, 64] {
            let mut frames = Frames::after_preface();
            let cut: Vec<Seen> = bytes
                .chunks(size)
                .flat_map(|piece| all(&mut frames, piece))
                .collect();
            assert_eq!(cut, whole, "pieces of {size}");
            assert_eq!(frames.goodbye(), b"last");
        }
    }
}
