//! Follows a chunked body (RFC 9112, section 7.1), strictly.

use super::{Fault, bad, line_end};
use crate::proxy::Reason;

/// Bytes of chunk extensions that a whole body may have.
const MAX_EXTENSIONS: usize = 4096;
/// Bytes that the trailers may have; the parser's own limit is as high.
const MAX_TRAILERS: usize = 16 * 1024 - 64;

/// Follows one chunked body.
#[derive(Debug, PartialEq, Eq)]
pub(in crate::server) struct Chunked {
    step: Step,
    size: u64,
    extensions: usize,
    trailers: usize,
    trailer_lines: usize,
    max_trailers: usize,
    max_lines: usize,
    /// The byte before, within the trailers; for line ends that fall between two reads.
    before: u8,
    line: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Step {
    /// In the size, after so many digits.
    Size(u8),
    /// In an extension's name, after so many bytes.
    Name(usize),
    /// In an extension's value that is no quoted string, after so many bytes.
    Value(usize),
    Quoted,
    /// In a quoted string, after a backslash.
    Escaped,
    AfterQuoted,
    SizeEnd,
    Data,
    DataReturn,
    DataEnd,
    Trailers,
    Complete,
}

impl Chunked {
    pub(super) fn new(max_head: usize, max_lines: usize) -> Self {
        Self {
            step: Step::Size(0),
            size: 0,
            extensions: 0,
            trailers: 0,
            trailer_lines: 0,
            max_trailers: max_head.min(MAX_TRAILERS),
            max_lines: max_lines.min(100),
            before: 0,
            line: 0,
        }
    }

    pub(super) fn is_complete(&self) -> bool {
        self.step == Step::Complete
    }

    /// As [`super::Scan::take`].
    pub(super) fn take(&mut self, bytes: &[u8]) -> Result<usize, Fault> {
        let mut taken = 0;
        while taken < bytes.len() && !self.is_complete() {
            let rest = &bytes[taken..];
            taken += if self.step == Step::Data {
                let size = usize::try_from(self.size).unwrap_or(usize::MAX);
                let some = size.min(rest.len());
                self.size -= some as u64;
                if self.size == 0 {
                    self.step = Step::DataReturn;
                }
                some
            } else if self.step == Step::Trailers {
                self.take_trailers(rest)?
            } else {
                self.step = self.step(rest[0])?;
                1
            };
        }
        Ok(taken)
    }

    fn step(&mut self, byte: u8) -> Result<Step, Fault> {
        match (self.step, byte) {
            (Step::Size(digits), _) if byte.is_ascii_hexdigit() => self.digit(digits, byte),
            (Step::Size(0), _) => bad("A chunk has no size."),
            (Step::Size(_) | Step::Name(1..) | Step::Value(1..) | Step::AfterQuoted, b'\r') => {
                Ok(Step::SizeEnd)
            }
            (Step::Size(_) | Step::Name(1..) | Step::Value(1..) | Step::AfterQuoted, b';') => {
                self.extend(Step::Name(0))
            }
            (Step::Size(_), _) => bad("A chunk's size is not a hexadecimal number."),
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
                Step::Name(_) | Step::Value(_) | Step::Quoted | Step::Escaped | Step::AfterQuoted,
                _,
            ) => bad("A chunk's extension is malformed."),
            (Step::SizeEnd, b'\n') if self.size == 0 => Ok(Step::Trailers),
            (Step::SizeEnd, b'\n') => Ok(Step::Data),
            (Step::SizeEnd, _) => bad("A chunk's size does not end with a line end."),
            (Step::DataReturn, b'\r') => Ok(Step::DataEnd),
            (Step::DataEnd, b'\n') => {
                self.size = 0;
                Ok(Step::Size(0))
            }
            (Step::DataReturn | Step::DataEnd, _) => bad("A chunk is longer than its size."),
            (Step::Data | Step::Trailers | Step::Complete, _) => Ok(self.step),
        }
    }

    fn digit(&mut self, digits: u8, byte: u8) -> Result<Step, Fault> {
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

    fn extend(&mut self, step: Step) -> Result<Step, Fault> {
        self.extensions += 1;
        if self.extensions > MAX_EXTENSIONS {
            return bad("The chunk extensions are too long.");
        }
        Ok(step)
    }

    /// Lines up to an empty one. Their names and values are the parser's to check.
    fn take_trailers(&mut self, bytes: &[u8]) -> Result<usize, Fault> {
        let mut taken = 0;
        while let Some(end) = line_end(&bytes[taken..]) {
            let before = match end {
                0 => self.before,
                _ => bytes[taken + end - 1],
            };
            let length = self.line + end + 1;
            taken += end + 1;
            self.count_trailers(end + 1)?;
            if before != b'\r' || length < 2 {
                return bad("A trailer's line ends without a carriage return.");
            }
            (self.line, self.before) = (0, 0);
            if length == 2 {
                self.step = Step::Complete;
                return Ok(taken);
            }
            self.trailer_lines += 1;
            if self.trailer_lines > self.max_lines {
                return bad("There are too many trailers.");
            }
        }
        let rest = &bytes[taken..];
        self.count_trailers(rest.len())?;
        self.line += rest.len();
        self.before = rest.last().copied().unwrap_or(self.before);
        Ok(bytes.len())
    }

    fn count_trailers(&mut self, bytes: usize) -> Result<(), Fault> {
        self.trailers += bytes;
        if self.trailers > self.max_trailers {
            return Err((Reason::BadRequest, "The trailers are too long."));
        }
        Ok(())
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
