//! What is asked for next, by what came of the last question.

use tokio::net::UdpSocket;

use super::*;

/// A server that fails for one name, and has an address for every other one, as a wildcard has.
async fn server(fails: &'static str) -> SocketAddr {
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let address = socket.local_addr().unwrap();
    tokio::spawn(async move {
        let mut packet = [0; 1500];
        loop {
            let (length, from) = socket.recv_from(&mut packet).await.unwrap();
            let end = 12 + packet[12..].iter().position(|byte| *byte == 0).unwrap() + 1;
            let asked = String::from_utf8_lossy(&packet[12..end]).into_owned();
            let is_a = packet[end..end + 2] == [0, 1];
            let fails = asked.contains(fails);
            let found = !fails && is_a;
            let mut answer = packet[..2].to_vec();
            let code = if fails { 2 } else { 0 };
            answer.extend([0x85, 0x80 | code, 0, 1, 0, found.into(), 0, 0, 0, 0]);
            answer.extend(&packet[12..(end + 4).min(length)]);
            if found {
                answer.extend([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 9, 0, 4, 10, 0, 0, 9]);
            }
            socket.send_to(&answer, from).await.unwrap();
        }
    });
    address
}

/// Rule 68: what could not be found out is not taken for what somebody else's name stands for.
#[tokio::test]
async fn rule_68_a_failure_ends_the_search() {
    let servers = [server("first").await];
    let asker = |search: [&str; 2]| Asker {
        search: search.map(str::to_owned).into(),
        ndots: 5,
        ..Asker::new(&servers)
    };
    let found = asker(["other.test", "first.test"])
        .host("pay")
        .await
        .unwrap();
    assert_eq!(found.addresses, [IpAddr::from([10, 0, 0, 9])]);
    let failed = asker(["first.test", "other.test"]).host("pay").await;
    assert!(failed.is_err_and(|missing| missing.is_failure()));
}
