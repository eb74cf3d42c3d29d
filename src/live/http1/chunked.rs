//! A body in chunks (RFC 9112, section 7.1).

use bytes::{Buf, Bytes, BytesMut};
use http::HeaderMap;

use super::body::Piece;
use super::{Malformed, bad, fields};

/// Bytes of chunk extensions that a whole body may have.
const MAX_EXTENSIONS: usize = 4096;
/// Bytes that the trailers may have.
const MAX_TRAILERS: usize = 16 * 1024;
/// Lines that the trailers may have.
const MAX_LINES: usize = 100;

/// Follows one body in chunks.
#[derive(Debug, PartialEq, Eq)]
pub struct Chunked {
    step: Step,
    /// Bytes that are left of the current chunk.
    size: u64,
    extensions: usize,
    /// What has come of the trailers.
    trailers: Vec<u8>,
    lines: usize,
    max_trailers: usize,
    max_lines: usize,
    strict: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Step {
    /// In the size, after so many digits.
    Size(u8),
    /// In the space behind a size.
    Space,
    /// In an extension's name, after so many bytes.
    Name(usize),
    /// In an extension's value that is no quoted string, after so many bytes.
    Value(usize),
    Quoted,
    /// In a quoted string, after a backslash.
    Escaped,
    AfterQuoted,
    /// In an extension that is passed over.
    Passed,
    SizeEnd,
    Data,
    DataReturn,
    DataEnd,
    Trailers,
    Complete,
}

impl Chunked {
    /// A request's, strictly: what comes is passed on to others, who might read it differently. The
    /// trailers may have so many bytes and lines, and never more than limits of our own.
    pub fn strict(max_trailers: usize, max_lines: usize) -> Self {
        Self {
            step: Step::Size(0),
            size: 0,
            extensions: 0,
            trailers: Vec::new(),
            lines: 0,
            max_trailers: max_trailers.min(MAX_TRAILERS),
            max_lines: max_lines.min(MAX_LINES),
            strict: true,
        }
    }

    /// An answer's. Old servers pad sizes with spaces, and nobody looks into extensions.
    pub fn lenient() -> Self {
        Self {
            strict: false,
            ..Self::strict(MAX_TRAILERS, MAX_LINES)
        }
    }

    /// Whether the end has come, trailers included.
    pub fn is_complete(&self) -> bool {
        self.step == Step::Complete
    }

    /// As [`super::body::Decoder::next`].
    ///
    /// # Errors
    /// The framing is malformed, or over a limit.
    pub fn next(&mut self, buffer: &mut BytesMut) -> Result<Piece, Malformed> {
        if self.is_complete() {
            return Ok(Piece::End(None));
        }
        while !buffer.is_empty() {
            if self.step == Step::Data {
                return Ok(Piece::Data(self.take_data(buffer)));
            }
            if self.step != Step::Trailers {
                self.take_framing(buffer)?;
            } else if let Some(trailers) = self.take_trailers(buffer)? {
                return Ok(Piece::End(trailers));
            }
        }
        Ok(Piece::More)
    }

    fn take_data(&mut self, buffer: &mut BytesMut) -> Bytes {
        let size = usize::try_from(self.size).unwrap_or(usize::MAX);
        let some = size.min(buffer.len());
        self.size -= some as u64;
        if self.size == 0 {
            self.step = Step::DataReturn;
        }
        buffer.split_to(some).freeze()
    }

    /// Takes what is between data and data, or data and trailers.
    fn take_framing(&mut self, buffer: &mut BytesMut) -> Result<(), Malformed> {
        let mut taken = 0;
        for byte in buffer.iter() {
            if matches!(self.step, Step::Data | Step::Trailers) {
                break;
            }
            self.step = self.step(*byte)?;
            taken += 1;
        }
        buffer.advance(taken);
        Ok(())
    }

    fn step(&mut self, byte: u8) -> Result<Step, Malformed> {
        match (self.step, byte) {
            (Step::Size(digits), _) if byte.is_ascii_hexdigit() => self.digit(digits, byte),
            (Step::Size(0), _) => bad("A chunk has no size."),
            (
                Step::Size(_)
                | Step::Space
                | Step::Name(1..)
                | Step::Value(1..)
                | Step::AfterQuoted
                | Step::Passed,
                b'\r',
            ) => Ok(Step::SizeEnd),
            (
                Step::Size(_)
                | Step::Space
                | Step::Name(1..)
                | Step::Value(1..)
                | Step::AfterQuoted,
                b';',
            ) => self.extend(if self.strict {
                Step::Name(0)
            } else {
                Step::Passed
            }),
            (Step::Size(_) | Step::Space, b' ' | b'\t') if !self.strict => self.extend(Step::Space),
            (Step::Size(_) | Step::Space, _) => bad("A chunk's size is not a hexadecimal number."),
            (Step::Passed, b'\t' | b' '..=b'~' | 0x80..) => self.extend(Step::Passed),
            (Step::Name(1..), b'=') => self.extend(Step::Value(0)),
            (Step::Name(bytes), _) if is_token_byte(byte) => self.extend(Step::Name(bytes + 1)),
            (Step::Value(0), b'"') => self.extend(Step::Quoted),
            (Step::Value(bytes), _) if is_token_byte(byte) => self.extend(Step::Value(bytes + 1)),
            (Step::Quoted, b'"') => self.extend(Step::AfterQuoted),
            (Step::Quoted, b'\\') => self.extend(Step::Escaped),
            (Step::Quoted | Step::Escaped, b'\t' | b' '..=b'~' | 0x80..) => {
                self.extend(Step::Quoted)
            }
            (
                Step::Name(_)
                | Step::Value(_)
                | Step::Quoted
                | Step::Escaped
                | Step::AfterQuoted
                | Step::Passed,
                _,
            ) => bad("A chunk's extension is malformed."),
            (Step::SizeEnd, b'\n') if self.size == 0 => Ok(Step::Trailers),
            (Step::SizeEnd, b'\n') => Ok(Step::Data),
            (Step::SizeEnd, _) => bad("A chunk's size does not end with a line end."),
            (Step::DataReturn, b'\r') => Ok(Step::DataEnd),
            (Step::DataEnd, b'\n') => Ok(Step::Size(0)),
            (Step::DataReturn | Step::DataEnd, _) => bad("A chunk is longer than its size."),
            (Step::Data | Step::Trailers | Step::Complete, _) => Ok(self.step),
        }
    }

    fn digit(&mut self, digits: u8, byte: u8) -> Result<Step, Malformed> {
        let value = match byte {
            b'0'..=b'9' => byte - b'0',
            _ => (byte | 0x20) - b'a' + 10,
        };
        if digits == 16 || self.size >> 59 != 0 {
            return bad("A chunk's size is too large.");
        }
        self.size = self.size << 4 | u64::from(value);
        Ok(Step::Size(digits + 1))
    }

    fn extend(&mut self, step: Step) -> Result<Step, Malformed> {
        self.extensions += 1;
        if self.extensions > MAX_EXTENSIONS {
            return bad("The chunk extensions are too long.");
        }
        Ok(step)
    }

    /// Takes lines up to an empty one, which is the end. `None`: it has not come.
    fn take_trailers(
        &mut self,
        buffer: &mut BytesMut,
    ) -> Result<Option<Option<HeaderMap>>, Malformed> {
        while let Some(end) = buffer.iter().position(|byte| *byte == b'\n') {
            let begin = self.trailers.iter().rposition(|byte| *byte == b'\n');
            let begin = begin.map_or(0, |before| before + 1);
            self.keep(buffer, end + 1)?;
            match &self.trailers[begin..] {
                [b'\r', b'\n'] => {
                    self.step = Step::Complete;
                    return self.trailers().map(Some);
                }
                [.., b'\r', b'\n'] => {}
                _ => return bad("A trailer's line ends without a carriage return."),
            }
            self.lines += 1;
            if self.lines > self.max_lines {
                return bad("There are too many trailers.");
            }
        }
        self.keep(buffer, buffer.len())?;
        Ok(None)
    }

    fn keep(&mut self, buffer: &mut BytesMut, bytes: usize) -> Result<(), Malformed> {
        if self.trailers.len() + bytes > self.max_trailers {
            return bad("The trailers are too long.");
        }
        self.trailers.extend_from_slice(&buffer[..bytes]);
        buffer.advance(bytes);
        Ok(())
    }

    fn trailers(&mut self) -> Result<Option<HeaderMap>, Malformed> {
        if self.lines == 0 {
            return Ok(None);
        }
        let bytes = Bytes::from(std::mem::take(&mut self.trailers));
        let mut space = [httparse::EMPTY_HEADER; MAX_LINES];
        match httparse::parse_headers(&bytes, &mut space) {
            Ok(httparse::Status::Complete((_, parsed))) => {
                fields::map(&bytes, &bytes, parsed, HeaderMap::new()).map(Some)
            }
            Ok(httparse::Status::Partial) | Err(_) => bad("A trailer is malformed."),
        }
    }
}

const fn is_token_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric()
        || matches!(
            byte,
            b'!' | b'#'
                | b'$'
                | b'%'
                | b'&'
                | b'\''
                | b'*'
                | b'+'
                | b'-'
                | b'.'
                | b'^'
                | b'_'
                | b'`'
                | b'|'
                | b'~'
        )
}

#[cfg(test)]
mod tests;
