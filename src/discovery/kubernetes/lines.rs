//! Bodies of answers, read with bounds: whole, or line by line as they come.

use bytes::{Buf, Bytes, BytesMut};
use http_body::Body;
use http_body_util::BodyExt;

/// Why there is no next line, or no whole body.
#[derive(Debug, thiserror::Error)]
pub(super) enum Cut {
    /// It is longer than allowed.
    #[error("it is longer than {0} bytes")]
    TooLong(usize),
    /// The connection broke off.
    #[error("the connection broke off: {0}")]
    Broken(Box<dyn std::error::Error + Send + Sync>),
    /// It ended in the midst of a line.
    #[error("it ended in the midst of a line")]
    Unfinished,
}

/// A body line by line.
#[derive(Debug)]
pub(super) struct Lines<B> {
    body: B,
    longest: usize,
    buffer: BytesMut,
    /// Bytes of the buffer in which there is no end of a line.
    searched: usize,
}

impl<B> Lines<B>
where
    B: Body<Data = Bytes> + Unpin,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    /// Reads lines of at most so many bytes.
    pub(super) fn new(body: B, longest: usize) -> Self {
        Self {
            body,
            longest,
            buffer: BytesMut::new(),
            searched: 0,
        }
    }

    /// The next line without its end, never an empty one; `None`: the body has ended. What was read is
    /// kept when the future is dropped.
    pub(super) async fn next(&mut self) -> Result<Option<Bytes>, Cut> {
        loop {
            if let Some(line) = self.buffered()? {
                return Ok(Some(line));
            }
            match self.body.frame().await {
                Some(Ok(frame)) => {
                    if let Ok(data) = frame.into_data() {
                        self.buffer.extend_from_slice(&data);
                    }
                }
                Some(Err(error)) => return Err(Cut::Broken(error.into())),
                None if self.buffer.iter().all(u8::is_ascii_whitespace) => return Ok(None),
                None => return Err(Cut::Unfinished),
            }
        }
    }

    fn buffered(&mut self) -> Result<Option<Bytes>, Cut> {
        loop {
            let unsearched = self.buffer.get(self.searched..).unwrap_or_default();
            let end = unsearched.iter().position(|byte| *byte == b'\n');
            let length = self.searched + end.unwrap_or(unsearched.len());
            if length > self.longest {
                return Err(Cut::TooLong(self.longest));
            }
            if end.is_none() {
                self.searched = length;
                return Ok(None);
            }
            let line = self.buffer.split_to(length).freeze();
            self.buffer.advance(1);
            self.searched = 0;
            if !line.iter().all(u8::is_ascii_whitespace) {
                return Ok(Some(line));
            }
        }
    }
}

/// A whole body of at most so many bytes.
pub(super) async fn whole<B>(mut body: B, longest: usize) -> Result<BytesMut, Cut>
where
    B: Body<Data = Bytes> + Unpin,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let mut bytes = BytesMut::new();
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| Cut::Broken(error.into()))?;
        if let Ok(data) = frame.into_data() {
            bytes.extend_from_slice(&data);
        }
        if bytes.len() > longest {
            return Err(Cut::TooLong(longest));
        }
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;
    use std::pin::Pin;
    use std::task::{Context, Poll};

    use http_body::Frame;

    use super::*;

    /// A body of these parts, and then its end, or that the connection breaks off.
    struct Parts(VecDeque<&'static str>, bool);

    impl Body for Parts {
        type Data = Bytes;
        type Error = std::io::Error;

        fn poll_frame(
            mut self: Pin<&mut Self>,
            _: &mut Context<'_>,
        ) -> Poll<Option<Result<Frame<Bytes>, std::io::Error>>> {
            Poll::Ready(match self.0.pop_front() {
                Some(part) => Some(Ok(Frame::data(Bytes::from(part)))),
                None if self.1 => Some(Err(std::io::ErrorKind::ConnectionReset.into())),
                None => None,
            })
        }
    }

    /// The lines, and how it ended.
    async fn lines(parts: &[&'static str], breaks: bool) -> (Vec<String>, Option<String>) {
        let body = Parts(parts.iter().copied().collect(), breaks);
        let mut lines = Lines::new(body, 8);
        let mut read = Vec::new();
        loop {
            match lines.next().await {
                Ok(Some(line)) => read.push(String::from_utf8(line.to_vec()).unwrap()),
                Ok(None) => return (read, None),
                Err(cut) => return (read, Some(cut.to_string())),
            }
        }
    }

    #[tokio::test]
    async fn lines_are_found_however_they_are_cut_into_parts() {
        for (parts, expected) in [
            (&["a\nbc\n"][..], &["a", "bc"][..]),
            (
                &["a", "", "b", "\n", "c\n\n", "  \n", "d\n"],
                &["ab", "c", "d"],
            ),
            (&["12345678\n"], &["12345678"]),
            (&["1234", "5678", "\n1\n"], &["12345678", "1"]),
            (&["a\r\n "], &["a\r"]),
            (&[], &[]),
        ] {
            let (read, end) = lines(parts, false).await;
            assert_eq!(
                (read.as_slice(), end),
                (
                    expected
                        .iter()
                        .map(|line| (*line).to_owned())
                        .collect::<Vec<_>>()
                        .as_slice(),
                    None
                ),
                "{parts:?}"
            );
        }
    }

    #[tokio::test]
    async fn a_line_that_is_too_long_or_cut_off_is_none() {
        for (parts, breaks, expected, end) in [
            (
                &["a\n123456789\n"][..],
                false,
                &["a"][..],
                "longer than 8 bytes",
            ),
            (&["1234", "5678", "9"], false, &[], "longer than 8 bytes"),
            (&["a\nb"], false, &["a"], "in the midst of a line"),
            (&["a\nb"], true, &["a"], "broke off"),
        ] {
            let (read, cut) = lines(parts, breaks).await;
            assert_eq!(read, expected, "{parts:?}");
            assert!(cut.as_ref().is_some_and(|cut| cut.contains(end)), "{cut:?}");
        }
    }

    #[tokio::test]
    async fn a_whole_body_has_its_bound() {
        let body = |parts: &[&'static str], breaks| Parts(parts.iter().copied().collect(), breaks);
        assert_eq!(
            &*whole(body(&["ab", "cd"], false), 4).await.unwrap(),
            b"abcd"
        );
        assert!(matches!(
            whole(body(&["ab", "cde"], false), 4).await,
            Err(Cut::TooLong(4))
        ));
        assert!(matches!(
            whole(body(&["ab"], true), 4).await,
            Err(Cut::Broken(_))
        ));
    }
}
