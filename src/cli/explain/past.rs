//! What became of a request: a process that runs has written it down, and tells it in words.

use std::process::ExitCode;
use std::time::Duration;

use crate::cli::ask::{AdminAddress, ask};
use crate::cli::print;

/// How long the process may take to answer.
const WITHIN: Duration = Duration::from_secs(5);

/// Prints what became of the request with that id, or the list of those that can be told of; 1 where there
/// is nothing to tell.
pub(super) fn run(admin: &AdminAddress, id: Option<&str>) -> ExitCode {
    let path = match id {
        Some(id) => format!("/api/v1/explain/{}", percent_encoded(id)),
        None => "/api/v1/explain".to_owned(),
    };
    match ask(admin, "GET", &path, Some("text/plain"), WITHIN) {
        Ok(reply) if reply.status == 200 => print(&reply.body),
        Ok(reply) => {
            eprintln!("mamparo: {}", reply.body.trim_end());
            ExitCode::FAILURE
        }
        Err(error) => {
            eprintln!("mamparo: {error}");
            ExitCode::FAILURE
        }
    }
}

/// An id as a part of a path: it may have any visible character.
fn percent_encoded(id: &str) -> String {
    let mut encoded = String::with_capacity(id.len());
    for byte in id.trim().bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
                encoded.push(char::from(byte));
            }
            other => encoded.push_str(&format!("%{other:02X}")),
        }
    }
    encoded
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_with_any_characters_is_one_part_of_a_path() {
        assert_eq!(percent_encoded("a-1.b_2~"), "a-1.b_2~");
        assert_eq!(percent_encoded("a/b?c%d#\u{fc}"), "a%2Fb%3Fc%25d%23%C3%BC");
    }
}
