//! A body as bytes: as it is, or in chunks.

use std::io::Write;

use bytes::Bytes;
use http::HeaderMap;

use super::fields;
use super::output::Output;

/// How the end of a body is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Encoder {
    /// By its length, of which so many bytes are still to come.
    Length(u64),
    /// By its last chunk.
    Chunked,
    /// By the end of the connection.
    UntilEnd,
}

/// The body is not as long as its head has said: its connection is of no more use.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the body is not as long as its head has said")]
pub struct WrongLength;

impl Encoder {
    /// Appends a part of the body. Not to be called while the output is full.
    ///
    /// # Errors
    /// It is longer than was said.
    pub fn part(&mut self, data: Bytes, to: &mut Output) -> Result<(), WrongLength> {
        // An empty chunk would be the end.
        if data.is_empty() {
            return Ok(());
        }
        match self {
            Self::UntilEnd => to.piece(data, b""),
            Self::Length(left) => {
                *left = left.checked_sub(data.len() as u64).ok_or(WrongLength)?;
                to.piece(data, b"");
            }
            Self::Chunked => {
                // Writing into memory does not fail.
                let _ = write!(to.bytes(), "{:x}\r\n", data.len());
                to.piece(data, b"\r\n");
            }
        }
        Ok(())
    }

    /// Appends the end of the body; only chunks can have trailers. Not to be called while the output is
    /// full.
    ///
    /// # Errors
    /// It is shorter than was said.
    pub fn end(&self, trailers: Option<&HeaderMap>, to: &mut Output) -> Result<(), WrongLength> {
        match self {
            Self::UntilEnd | Self::Length(0) => Ok(()),
            Self::Length(_) => Err(WrongLength),
            Self::Chunked => {
                let bytes = to.bytes();
                bytes.extend_from_slice(b"0\r\n");
                if let Some(trailers) = trailers {
                    fields::append(trailers, bytes);
                }
                bytes.extend_from_slice(b"\r\n");
                Ok(())
            }
        }
    }

    /// Whether nothing more has to be told, not even an end.
    pub fn is_done(&self) -> bool {
        *self == Self::Length(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(output: &mut Output) -> String {
        String::from_utf8(std::mem::take(output.bytes())).unwrap()
    }

    #[test]
    fn chunks_have_sizes_and_the_last_one_has_the_trailers() {
        let (mut output, mut encoder) = (Output::default(), Encoder::Chunked);
        for part in ["hello world of bytes", "", "!"] {
            encoder.part(part.into(), &mut output).unwrap();
        }
        assert_eq!(
            text(&mut output),
            "14\r\nhello world of bytes\r\n1\r\n!\r\n"
        );
        let mut trailers = HeaderMap::new();
        trailers.insert("x-sum", http::HeaderValue::from_static("1"));
        encoder.end(Some(&trailers), &mut output).unwrap();
        assert_eq!(text(&mut output), "0\r\nx-sum: 1\r\n\r\n");
        encoder.end(None, &mut output).unwrap();
        assert_eq!(text(&mut output), "0\r\n\r\n");
    }

    #[test]
    fn a_length_is_kept_to_the_byte() {
        let (mut output, mut encoder) = (Output::default(), Encoder::Length(3));
        encoder.part("ab".into(), &mut output).unwrap();
        assert_eq!(encoder.end(None, &mut output), Err(WrongLength));
        assert_eq!(encoder.part("cd".into(), &mut output), Err(WrongLength));
        encoder.part("c".into(), &mut output).unwrap();
        assert_eq!(
            (encoder.end(None, &mut output), encoder.is_done()),
            (Ok(()), true)
        );
        assert_eq!(text(&mut output), "abc");
    }
}
