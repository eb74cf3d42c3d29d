//! `via`: who has passed a message on (RFC 9110 section 7.6.3). We call ourselves by a name that no other
//! process has, and no other listener of ours, so that a request that comes back to where it was is known
//! for a loop, and one that goes from an inbound listener through the service to an outbound one is not.

use http::{HeaderMap, HeaderValue, Version, header};

use crate::policy::balance::hash;

/// What one listener calls itself.
#[derive(Debug)]
pub struct Via {
    name: String,
    old: HeaderValue,
    usual: HeaderValue,
    new: HeaderValue,
}

impl Via {
    /// The listener of that name in the process with this number.
    pub fn new(process: u64, listener: &str) -> Self {
        let own = hash(&[&process.to_le_bytes(), listener.as_bytes()].concat());
        let name = format!("mamparo-{:08x}", own >> 32);
        let value = |version: &str| {
            let text = format!("{version} {name}");
            HeaderValue::try_from(text).unwrap_or_else(|_| HeaderValue::from_static("1.1 mamparo"))
        };
        Self {
            old: value("1.0"),
            usual: value("1.1"),
            new: value("2"),
            name,
        }
    }

    /// The entry for a message that came in this version.
    pub fn entry(&self, version: Version) -> &HeaderValue {
        if version == Version::HTTP_2 {
            &self.new
        } else if version < Version::HTTP_11 {
            &self.old
        } else {
            &self.usual
        }
    }

    /// Whether a request with these headers has been here before.
    pub fn is_in(&self, headers: &HeaderMap) -> bool {
        let lines = headers.get_all(header::VIA).into_iter();
        let mut entries = lines
            .filter_map(|line| line.to_str().ok())
            .flat_map(|line| line.split(','));
        entries.any(|entry| entry.split_ascii_whitespace().nth(1) == Some(&*self.name))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_same_listener_of_the_same_process_is_a_loop() {
        let here = Via::new(7, "outbound");
        let entry = here.entry(Version::HTTP_11).clone();
        let mut headers = HeaderMap::new();
        headers.append(
            header::VIA,
            HeaderValue::from_static("1.0 fred, 1.1 mamparo"),
        );
        assert!(!here.is_in(&headers));
        headers.append(header::VIA, entry);
        assert!(here.is_in(&headers));
        assert!(!Via::new(7, "inbound").is_in(&headers));
        assert!(!Via::new(8, "outbound").is_in(&headers));
    }

    #[test]
    fn the_version_is_that_of_the_message() {
        let via = Via::new(1, "a");
        for (version, begins) in [
            (Version::HTTP_10, "1.0 mamparo-"),
            (Version::HTTP_11, "1.1 mamparo-"),
            (Version::HTTP_2, "2 mamparo-"),
        ] {
            let entry = via.entry(version).to_str().expect("text");
            assert!(entry.starts_with(begins), "{entry}");
        }
    }
}
