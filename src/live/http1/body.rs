//! The end of a body, and what comes before it: by a length, by chunks, or by the end of the connection.

use bytes::{Bytes, BytesMut};
use http::HeaderMap;

use super::Malformed;
use super::chunked::Chunked;

/// Follows one body.
#[derive(Debug)]
pub enum Decoder {
    /// There is none.
    Empty,
    /// So many bytes are still to come.
    Length(u64),
    /// In chunks.
    Chunked(Box<Chunked>),
    /// Up to the end of the connection.
    UntilEnd,
}

/// What the bytes have brought.
#[derive(Debug, PartialEq, Eq)]
pub enum Piece {
    /// A part of the body, never empty.
    Data(Bytes),
    /// Nothing, until more bytes come.
    More,
    /// The end of the body, with the trailers where there are any.
    End(Option<HeaderMap>),
}

impl Decoder {
    /// Takes from the front of the buffer what belongs to the body, and nothing that is behind it.
    ///
    /// # Errors
    /// The body is framed in a way that nobody can be sure of.
    pub fn next(&mut self, buffer: &mut BytesMut) -> Result<Piece, Malformed> {
        match self {
            Self::Empty | Self::Length(0) => Ok(Piece::End(None)),
            Self::Chunked(chunked) => chunked.next(buffer),
            _ if buffer.is_empty() => Ok(Piece::More),
            Self::UntilEnd => Ok(Piece::Data(buffer.split().freeze())),
            Self::Length(left) => {
                let some = usize::try_from(*left)
                    .unwrap_or(usize::MAX)
                    .min(buffer.len());
                *left -= some as u64;
                Ok(Piece::Data(buffer.split_to(some).freeze()))
            }
        }
    }

    /// Whether nothing more will come.
    pub fn is_end(&self) -> bool {
        match self {
            Self::Empty => true,
            Self::Length(left) => *left == 0,
            Self::Chunked(chunked) => chunked.is_complete(),
            Self::UntilEnd => false,
        }
    }

    /// The bytes that are still to come, where that is known.
    pub fn left(&self) -> Option<u64> {
        match self {
            Self::Empty => Some(0),
            Self::Length(left) => Some(*left),
            Self::Chunked(chunked) => chunked.is_complete().then_some(0),
            Self::UntilEnd => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_length_ends_the_body_and_leaves_what_is_behind_it() {
        let mut buffer = BytesMut::from(&b"abcdNEXT"[..]);
        let mut decoder = Decoder::Length(6);
        let mut first = buffer.split_to(4);
        assert_eq!(decoder.next(&mut first), Ok(Piece::Data("abcd".into())));
        assert_eq!(decoder.next(&mut first), Ok(Piece::More));
        assert_eq!((decoder.left(), decoder.is_end()), (Some(2), false));
        assert_eq!(decoder.next(&mut buffer), Ok(Piece::Data("NE".into())));
        assert_eq!(decoder.next(&mut buffer), Ok(Piece::End(None)));
        assert_eq!((decoder.left(), decoder.is_end()), (Some(0), true));
        assert_eq!(buffer, "XT");
    }

    #[test]
    fn without_a_length_all_that_comes_belongs_to_it() {
        let mut buffer = BytesMut::from(&b"abc"[..]);
        let mut decoder = Decoder::UntilEnd;
        assert_eq!(decoder.next(&mut buffer), Ok(Piece::Data("abc".into())));
        assert_eq!(decoder.next(&mut buffer), Ok(Piece::More));
        assert_eq!((decoder.left(), decoder.is_end()), (None, false));
        assert_eq!(Decoder::Empty.next(&mut buffer), Ok(Piece::End(None)));
    }
}
