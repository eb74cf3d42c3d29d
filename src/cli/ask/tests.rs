use std::net::TcpListener;
use std::os::unix::net::UnixListener;

use super::*;

const WITHIN: Duration = Duration::from_secs(10);

/// Answers one connection with these bytes, and gives what it was sent.
fn answer(mut stream: impl Read + Write, with: &[u8]) -> String {
    let mut asked = Vec::new();
    let mut byte = [0];
    while !asked.ends_with(b"\r\n\r\n") {
        stream.read_exact(&mut byte).unwrap();
        asked.push(byte[0]);
    }
    stream.write_all(with).unwrap();
    String::from_utf8(asked).unwrap()
}

/// A server on a port of its own that answers one question.
fn serving(with: &'static [u8]) -> (AdminAddress, thread::JoinHandle<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let admin = AdminAddress::Network(listener.local_addr().unwrap().to_string());
    let served = thread::spawn(move || answer(listener.accept().unwrap().0, with));
    (admin, served)
}

#[test]
fn an_answer_comes_with_its_status_and_its_body() {
    let (admin, served) =
        serving(b"HTTP/1.1 503 Service Unavailable\r\ncontent-length: 9\r\n\r\ndraining\n");
    let reply = ask(&admin, "GET", "/readyz", Some("text/plain"), WITHIN).unwrap();
    assert_eq!((reply.status, reply.body.as_str()), (503, "draining\n"));
    let asked = served.join().unwrap();
    assert!(asked.starts_with("GET /readyz HTTP/1.0\r\n"), "{asked}");
    // A name that the admin interface takes changes from.
    assert!(asked.contains("\r\nhost: localhost\r\n"), "{asked}");
    assert!(asked.contains("\r\naccept: text/plain\r\n"), "{asked}");
}

#[test]
fn a_socket_in_the_file_system_is_asked_the_same() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("admin.sock");
    let listener = UnixListener::bind(&path).unwrap();
    let served = thread::spawn(move || {
        answer(
            listener.accept().unwrap().0,
            b"HTTP/1.1 200 OK\r\n\r\nlive\n",
        )
    });
    let reply = ask(
        &AdminAddress::Unix(path),
        "POST",
        "/api/v1/drain",
        None,
        WITHIN,
    )
    .unwrap();
    assert_eq!((reply.status, reply.body.as_str()), (200, "live\n"));
    assert!(served.join().unwrap().contains("content-length: 0\r\n"));
}

#[test]
fn nobody_there_is_told_with_what_to_do() {
    // Nobody listens there any more.
    let gone = TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap();
    let admin: AdminAddress = gone.to_string().parse().unwrap();
    let told = ask(&admin, "GET", "/readyz", None, WITHIN)
        .unwrap_err()
        .to_string();
    for words in [
        &gone.to_string(),
        "refused",
        "--admin",
        "MAMPARO_ADMIN_ADDRESS",
    ] {
        assert!(told.contains(words), "{words}: {told}");
    }
    let admin: AdminAddress = "unix:/nonexistent/admin.sock".parse().unwrap();
    let told = ask(&admin, "GET", "/readyz", None, WITHIN)
        .unwrap_err()
        .to_string();
    assert!(told.contains("unix:/nonexistent/admin.sock"), "{told}");
}

#[test]
fn silence_ends_with_the_time() {
    // It is in the queue of connections, and nobody takes it from there.
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let admin = AdminAddress::Network(listener.local_addr().unwrap().to_string());
    let within = Duration::from_millis(50);
    let error = ask(&admin, "GET", "/readyz", None, within).unwrap_err();
    assert!(matches!(error, AskError::TooSlow { .. }), "{error}");
    assert!(error.to_string().contains("within 50ms"), "{error}");
}

#[test]
fn a_search_for_a_name_ends_with_the_time() {
    let time = Time {
        end: clock::now() + Duration::from_millis(50),
    };
    let (_release, held) = mpsc::channel::<()>();
    let late = in_time(&time, move || {
        let _ = held.recv();
        Ok(())
    });
    assert_eq!(late.unwrap_err().kind(), ErrorKind::TimedOut);
    let time = Time {
        end: clock::now() + WITHIN,
    };
    assert!(!looked_up("localhost:9901", &time).unwrap().is_empty());
    let refused = in_time::<()>(&time, || Err(ErrorKind::NotFound.into()));
    assert_eq!(refused.unwrap_err().kind(), ErrorKind::NotFound);
}

#[test]
fn a_time_that_no_clock_counts_to_is_taken() {
    let (admin, _served) = serving(b"HTTP/1.1 200 OK\r\n\r\nlive\n");
    let reply = ask(&admin, "GET", "/livez", None, Duration::MAX).unwrap();
    assert_eq!(reply.status, 200);
}

#[test]
fn what_is_no_answer_is_told_as_such() {
    for (sent, words) in [
        (&b""[..], "closed at once"),
        (b"220 mail.example.com ESMTP\r\n", "no HTTP"),
        (b"HTTP/1.1 200 OK\r\ncontent-le", "no HTTP"),
        (
            b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nlive\n",
            "broke off after 5 of 10",
        ),
    ] {
        let (admin, _served) = serving(sent);
        let error = ask(&admin, "GET", "/readyz", None, WITHIN).unwrap_err();
        assert!(matches!(error, AskError::Broken { .. }), "{error}");
        assert!(error.to_string().contains(words), "{error}");
    }
}

#[test]
fn addresses_are_read_as_people_write_them() {
    let network = |text: &str| Ok(AdminAddress::Network(text.to_owned()));
    for (text, read) in [
        ("127.0.0.1:9901", network("127.0.0.1:9901")),
        ("[::1]:9901", network("[::1]:9901")),
        ("localhost:9901", network("localhost:9901")),
        ("http://127.0.0.1:9901/", network("127.0.0.1:9901")),
        (
            "unix:/run/admin.sock",
            Ok(AdminAddress::Unix("/run/admin.sock".into())),
        ),
    ] {
        assert_eq!(text.parse::<AdminAddress>(), read, "{text}");
    }
    for (text, words) in [
        ("9901", "HOST:PORT"),
        (":9901", "HOST:PORT"),
        ("127.0.0.1", "HOST:PORT"),
        ("https://127.0.0.1:9901", "HOST:PORT"),
        ("127.0.0.1:99010", "HOST:PORT"),
        ("127.0.0.1:0", "any port"),
        ("unix:admin.sock", "absolute"),
    ] {
        let refused = text.parse::<AdminAddress>().unwrap_err();
        assert!(refused.contains(words), "{text}: {refused}");
    }
}
