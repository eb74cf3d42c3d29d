//! A second reader of HTTP/1.1, written from RFC 9112 alone: what a message is, or that it is none. Where
//! the rules leave a reader freedom it takes none, so that what it accepts has one meaning; but a line feed
//! alone ends a line in an answer's head, and empty lines may come before it, as endpoints are known to send.

use std::fmt;

/// A message that came to its end.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Message {
    /// Method, target and version; or version, status and phrase.
    pub(crate) line: [Vec<u8>; 3],
    /// By lower-case name, in their order.
    pub(crate) headers: Fields,
    pub(crate) body: Vec<u8>,
    pub(crate) trailers: Fields,
}

/// Names, lower-case, with their values.
pub(crate) type Fields = Vec<(String, Vec<u8>)>;

impl fmt::Debug for Message {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let line = self.line.each_ref().map(|word| text(word));
        writeln!(f, "{:?}", line.join(" "))?;
        for (name, value) in self.headers.iter().chain(&self.trailers) {
            writeln!(f, "{name:?}: {:?}", text(value))?;
        }
        write!(f, "{:?}", text(&self.body))
    }
}

impl Message {
    /// All values of that name.
    pub(crate) fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a [u8]> {
        let named = self.headers.iter().filter(move |(n, _)| n == name);
        named.map(|(_, value)| value.as_slice())
    }

    pub(crate) fn has(&self, name: &str) -> bool {
        self.all(name).next().is_some()
    }

    pub(crate) fn method(&self) -> &[u8] {
        &self.line[0]
    }

    pub(crate) fn status(&self) -> u16 {
        let digits = std::str::from_utf8(&self.line[1]).expect("it was checked");
        digits.parse().expect("it was checked")
    }
}

/// What bytes begin with.
#[derive(Debug)]
pub(crate) enum Begin {
    /// A message of so many bytes.
    Whole(Box<Message>, usize),
    /// A message whose end has not come. Its head, where that has.
    Part(Option<Box<Message>>),
    /// No message.
    Wrong(&'static str),
}

/// Why a message with malformed trailers is none.
pub(crate) const TRAILERS: &str = "trailers are headers";

enum Stop {
    More,
    Wrong(&'static str),
}

type Step<T> = Result<T, Stop>;

fn wrong<T>(why: &'static str) -> Step<T> {
    Err(Stop::Wrong(why))
}

/// The request that these bytes begin with. Empty lines before it are passed over.
pub(crate) fn request(bytes: &[u8]) -> Begin {
    begin(bytes, false, |reader| {
        let mut line = reader.line()?;
        while line.is_empty() {
            line = reader.line()?;
        }
        let mut words = line.split(|byte| *byte == b' ');
        let (Some(method), Some(target), Some(version), None) =
            (words.next(), words.next(), words.next(), words.next())
        else {
            return wrong("a request line has three words");
        };
        if method.is_empty() || !method.iter().all(|byte| is_token(*byte)) {
            return wrong("a method is a token");
        }
        if target.is_empty()
            || !target
                .iter()
                .all(|byte| matches!(byte, 0x21..=0x7e | 0x80..))
        {
            return wrong("a target has no controls");
        }
        if version != b"HTTP/1.1" && version != b"HTTP/1.0" {
            return wrong("the version is 1.0 or 1.1");
        }
        Ok(([method, target, version].map(<[u8]>::to_vec), Length::None))
    })
}

/// The answer to a request of that method that these bytes begin with. `ended`: nothing follows them.
pub(crate) fn answer(bytes: &[u8], method: &[u8], ended: bool) -> Begin {
    begin(bytes, true, |reader| {
        let mut line = reader.line()?;
        while line.is_empty() {
            line = reader.line()?;
        }
        let mut words = line.splitn(3, |byte| *byte == b' ');
        let (Some(version), Some(status)) = (words.next(), words.next()) else {
            return wrong("a status line has a status");
        };
        if version != b"HTTP/1.1" && version != b"HTTP/1.0" {
            return wrong("the version is 1.0 or 1.1");
        }
        let [first @ b'1'..=b'9', b'0'..=b'9', b'0'..=b'9'] = status else {
            return wrong("a status has three digits");
        };
        let phrase = words.next().unwrap_or_default();
        if !phrase.iter().all(|byte| is_value(*byte)) {
            return wrong("a phrase has no controls");
        }
        let bare = *first == b'1' || matches!(status, b"204" | b"304") || method == b"HEAD";
        let length = match (bare, ended) {
            (true, _) => Length::Bare,
            (false, true) => Length::ToTheEnd,
            (false, false) => Length::Unknown,
        };
        Ok(([version, status, phrase].map(<[u8]>::to_vec), length))
    })
}

/// What a body's length is where no header says it.
enum Length {
    None,
    /// None even where a header says one.
    Bare,
    ToTheEnd,
    /// To the end, which has not come.
    Unknown,
}

fn begin(
    bytes: &[u8],
    lenient: bool,
    first: impl Fn(&mut Reader<'_>) -> Step<([Vec<u8>; 3], Length)>,
) -> Begin {
    let mut reader = Reader {
        bytes,
        at: 0,
        lenient,
    };
    let mut message = None;
    let read = (|| {
        let (line, length) = first(&mut reader)?;
        let headers = reader.fields()?;
        reader.lenient = false;
        let message = message.insert(Box::new(Message {
            line,
            headers,
            body: Vec::new(),
            trailers: Vec::new(),
        }));
        reader.body(message, length)
    })();
    match (read, message) {
        (Ok(()), Some(message)) => Begin::Whole(message, reader.at),
        (Err(Stop::Wrong(why)), _) => Begin::Wrong(why),
        (Err(Stop::More) | Ok(()), message) => Begin::Part(message),
    }
}

struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
    /// A line feed alone ends a line.
    lenient: bool,
}

impl<'a> Reader<'a> {
    /// A line without its end. No line holds a carriage return or line feed of its own.
    fn line(&mut self) -> Step<&'a [u8]> {
        let rest = &self.bytes[self.at..];
        let end = rest.iter().position(|byte| matches!(byte, b'\r' | b'\n'));
        match end.map(|end| (end, &rest[end..])) {
            None | Some((_, [b'\r'])) => Err(Stop::More),
            Some((end, [b'\r', b'\n', ..])) => {
                self.at += end + 2;
                Ok(&rest[..end])
            }
            Some((end, [b'\n', ..])) if self.lenient => {
                self.at += end + 1;
                Ok(&rest[..end])
            }
            Some(_) => wrong("a line ends with a carriage return and a line feed"),
        }
    }

    fn fields(&mut self) -> Step<Fields> {
        let mut fields = Vec::new();
        loop {
            let line = self.line()?;
            if line.is_empty() {
                return Ok(fields);
            }
            let Some(colon) = line.iter().position(|byte| *byte == b':') else {
                return wrong("a header has a colon");
            };
            let (name, value) = (&line[..colon], &line[colon + 1..]);
            if name.is_empty() || !name.iter().all(|byte| is_token(*byte)) {
                return wrong("a header's name is a token");
            }
            if !value.iter().all(|byte| is_value(*byte)) {
                return wrong("a header's value has no controls");
            }
            let name = String::from_utf8_lossy(name).to_ascii_lowercase();
            fields.push((name, trim(value).to_vec()));
        }
    }

    fn body(&mut self, message: &mut Message, otherwise: Length) -> Step<()> {
        let lengths: Vec<&[u8]> = message.all("content-length").collect();
        let codings: Vec<&[u8]> = message.all("transfer-encoding").collect();
        let framing = match (&lengths[..], &codings[..]) {
            ([], []) => None,
            ([length], []) => Some(Some(decimal(length)?)),
            ([], [coding])
                if coding.eq_ignore_ascii_case(b"chunked")
                    && message.line.iter().all(|word| word != b"HTTP/1.0") =>
            {
                Some(None)
            }
            _ => return wrong("there is one length, or chunks"),
        };
        match (framing, otherwise) {
            (_, Length::Bare) | (None, Length::None) => Ok(()),
            (Some(Some(length)), _) => {
                let rest = self.bytes.len() - self.at;
                let there = usize::try_from(length).unwrap_or(usize::MAX).min(rest);
                message.body = self.bytes[self.at..self.at + there].to_vec();
                self.at += there;
                if there as u64 == length {
                    Ok(())
                } else {
                    Err(Stop::More)
                }
            }
            (Some(None), _) => self.chunks(message),
            (None, Length::ToTheEnd) => {
                message.body = self.bytes[self.at..].to_vec();
                self.at = self.bytes.len();
                Ok(())
            }
            (None, Length::Unknown) => Err(Stop::More),
        }
    }

    fn chunks(&mut self, message: &mut Message) -> Step<()> {
        loop {
            let line = self.line()?;
            let end = line.iter().position(|byte| !byte.is_ascii_hexdigit());
            let (digits, extensions) = line.split_at(end.unwrap_or(line.len()));
            if digits.is_empty() || digits.len() > 16 {
                return wrong("a chunk has a size");
            }
            if !matches!(extensions.first(), None | Some(b';')) {
                return wrong("only extensions follow a chunk's size");
            }
            if !extensions.iter().all(|byte| is_value(*byte)) {
                return wrong("extensions have no controls");
            }
            let digits = std::str::from_utf8(digits).expect("digits");
            let size = u64::from_str_radix(digits, 16).expect("digits");
            if size == 0 {
                message.trailers = self.fields().map_err(|stop| match stop {
                    Stop::More => Stop::More,
                    Stop::Wrong(_) => Stop::Wrong(TRAILERS),
                })?;
                return Ok(());
            }
            let rest = self.bytes.len() - self.at;
            let there = usize::try_from(size).unwrap_or(usize::MAX).min(rest);
            message
                .body
                .extend_from_slice(&self.bytes[self.at..self.at + there]);
            self.at += there;
            if (there as u64) < size {
                return Err(Stop::More);
            }
            if !self.line()?.is_empty() {
                return wrong("a chunk is as long as its size");
            }
        }
    }
}

fn decimal(digits: &[u8]) -> Step<u64> {
    if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
        return wrong("a length is a number");
    }
    let number = std::str::from_utf8(digits).expect("digits").parse();
    number.map_or_else(|_| wrong("a length fits"), Ok)
}

fn trim(value: &[u8]) -> &[u8] {
    let mut value = value;
    while let [b' ' | b'\t', rest @ ..] | [rest @ .., b' ' | b'\t'] = value {
        value = rest;
    }
    value
}

fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

fn is_value(byte: u8) -> bool {
    matches!(byte, b'\t' | 0x20..=0x7e | 0x80..)
}
