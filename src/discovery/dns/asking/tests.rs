//! What is asked for next, by what came of the last question.

use hickory_resolver::proto::op::Query;
use hickory_resolver::proto::rr::rdata::SRV;
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

async fn asker(search: [&str; 2]) -> Asker {
    Asker {
        search: search.map(str::to_owned).into(),
        ndots: 5,
        ..Asker::new(&[server("first").await])
    }
}

/// As in the C library; but what is found then is not as good as what is found without.
#[tokio::test]
async fn rule_68_a_failure_does_not_end_the_search_and_is_not_forgotten() {
    for (search, name, doubted) in [
        (["other.test", "first.test"], "pay.other.test.", false),
        (["first.test", "other.test"], "pay.other.test.", true),
    ] {
        let (all, under, doubt) = asker(search).await.host("pay").await.unwrap();
        assert_eq!(all.addresses, [IpAddr::from([10, 0, 0, 9])]);
        assert_eq!((&*under, doubt.is_some()), (name, doubted));
    }
    let none = asker(["first.test", "first.test"])
        .await
        .host("first")
        .await;
    assert!(none.is_err_and(|missing| missing.is_failure()));
}

/// Rule 68: what could not be asked for is not said to be gone, and an operator hears of it.
#[tokio::test]
async fn rule_68_targets_beyond_the_bound_are_not_taken_for_gone() {
    let name = |text: &str| Name::from_ascii(text).unwrap();
    let target = |number: u16| {
        let host = name(&format!("h{number:03}.test."));
        let data = RData::SRV(SRV::new(1, 1, 1_000 + number, host));
        Record::from_rdata(name("_http._tcp.pay.test."), 9, data)
    };
    let query = Query::query(name("_http._tcp.pay.test."), RecordType::SRV);
    let records: Vec<Record> = (0..300).map(target).collect();
    let lookup = Lookup::new_with_max_ttl(query, records);
    let asker = Arc::new(asker(["a.test", "b.test"]).await);
    let ttl = Duration::from_secs(9);
    let record = "_http._tcp.pay.test.";
    let answer = asker.targets(record, &lookup, ttl, None).await;
    let Ok(Answer::Found(stands)) = answer else {
        panic!("{answer:?}");
    };
    assert_eq!(
        (stands.found.len(), stands.unasked),
        (TARGETS, 300 - TARGETS)
    );
    let is_open = |host: &str| {
        let mut silent = stands.silent.iter();
        silent.any(|one| &*one.0 == host && one.1 == Silent::Everywhere)
    };
    assert!(is_open("h299.test.") && !is_open("h000.test."));
}
