//! What the service manager is told: when the process is ready, and when it begins to end. Systemd's protocol
//! is one datagram of a few words to the socket that `NOTIFY_SOCKET` names, so it needs no library. Where nobody
//! waits for it, nothing is sent.

use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};

use crate::server::status::Listener;

/// The variable that names the socket.
const SOCKET: &str = "NOTIFY_SOCKET";

/// Every listener accepts and the admin interface answers.
pub(super) fn ready(listeners: &[Listener]) {
    let all: Vec<String> = listeners
        .iter()
        .map(|one| format!("listener {} on {}", one.name, one.address))
        .collect();
    tell(&format!("READY=1\nSTATUS=ready: {}\n", all.join(", ")));
}

/// The end has begun; `status` says what is waited for.
pub(super) fn stopping(status: &str) {
    tell(&format!("STOPPING=1\nSTATUS={status}\n"));
}

fn tell(words: &str) {
    let Some(socket) = super::environment(SOCKET).filter(|name| !name.is_empty()) else {
        return;
    };
    if let Err(problem) = send(&socket, words) {
        tracing::warn!(
            socket,
            "the service manager was not told '{}': {problem}; it may take this process for one that does not start, and end it",
            words.lines().next().unwrap_or_default()
        );
    }
}

/// Sends a datagram to a socket in the file system, or to one whose name is in none and begins with `@`.
fn send(socket: &str, words: &str) -> io::Result<()> {
    let address = match socket.strip_prefix('@') {
        Some(name) => SocketAddr::from_abstract_name(name)?,
        None if socket.starts_with('/') => SocketAddr::from_pathname(socket)?,
        None => {
            return Err(io::Error::new(
                io::ErrorKind::Unsupported,
                "the socket is neither a path nor a name that begins with @",
            ));
        }
    };
    let datagram = UnixDatagram::unbound()?;
    // A manager that does not read must not hold up the traffic.
    datagram.set_nonblocking(true)?;
    datagram.send_to_addr(words.as_bytes(), &address)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn received(on: &UnixDatagram) -> String {
        let mut words = [0; 256];
        let count = on.recv(&mut words).unwrap();
        String::from_utf8(words[..count].to_vec()).unwrap()
    }

    #[test]
    fn a_socket_is_a_path_or_a_name_outside_the_file_system() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("notify");
        let manager = UnixDatagram::bind(&path).unwrap();
        send(path.to_str().unwrap(), "READY=1\n").unwrap();
        assert_eq!(received(&manager), "READY=1\n");

        let name = format!("mamparo-test-{}", std::process::id());
        let manager =
            UnixDatagram::bind_addr(&SocketAddr::from_abstract_name(&name).unwrap()).unwrap();
        send(&format!("@{name}"), "STOPPING=1\n").unwrap();
        assert_eq!(received(&manager), "STOPPING=1\n");
    }

    #[test]
    fn a_socket_that_is_not_there_is_an_error_and_no_more() {
        for (socket, words) in [
            ("/nonexistent/notify", "No such file"),
            ("vsock:2:1", "neither"),
        ] {
            let error = send(socket, "READY=1\n").unwrap_err().to_string();
            assert!(error.contains(words), "{error}");
        }
    }
}
