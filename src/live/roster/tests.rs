//! What endpoints, breakers and the balance do together.

use std::net::SocketAddr;

use super::*;

const ADDRESSES: [([u8; 4], u16); 2] = [([127, 0, 0, 1], 1), ([127, 0, 0, 1], 2)];

fn roster() -> Arc<Roster> {
    let roster = Roster::new(1);
    let places = ADDRESSES.map(|address| (SocketAddr::from(address).into(), 1).into());
    roster.set(&places);
    roster
}

fn settings() -> Arc<breaker::Settings> {
    Arc::new(breaker::Settings {
        consecutive_failures: Some(5),
        open_for: Duration::from_secs(1),
        probes: 1,
        ..breaker::Settings::default()
    })
}

/// Asks once: the first endpoint fails where `fails`, the second never. Answers which was asked.
fn ask(
    roster: &Arc<Roster>,
    settings: &Arc<breaker::Settings>,
    now: Instant,
    random: &mut fastrand::Rng,
    fails: bool,
) -> u16 {
    let wish = Wish {
        breaker: Some(settings),
        balance: &balance::Settings::LeastRequest,
        hash: None,
        tried: &[],
    };
    let (admission, _moves) = roster.pick(&wish, now, [random.f64(), random.f64()]);
    let admission = admission.unwrap();
    let address = admission.endpoint().address.ip();
    let port = address.expect("on the network").port();
    let outcome = if fails && port == 1 {
        Outcome::Failure
    } else {
        Outcome::Success
    };
    let took = Duration::from_millis(1);
    admission.settle(Observation { outcome, took }, now, random.f64());
    port
}

fn state(roster: &Roster, settings: &breaker::Settings, now: Instant) -> State {
    let reading = roster.readings(Some(settings), now).remove(0);
    reading
        .breaker
        .map_or(State::Closed, |breaker| breaker.state)
}

#[test]
fn probes_reach_a_half_open_endpoint_although_it_failed_a_moment_ago() {
    let (roster, settings) = (roster(), settings());
    let mut random = fastrand::Rng::with_seed(7);
    let mut now = crate::clock::now();
    // Twenty requests a second, one after another: the balance always finds an idle peer.
    let step = Duration::from_millis(50);
    while state(&roster, &settings, now) == State::Closed {
        now += step;
        ask(&roster, &settings, now, &mut random, true);
    }
    assert_eq!(state(&roster, &settings, now), State::Open);
    let until = now + Duration::from_secs(2);
    let mut probed = None;
    while probed.is_none() && now < until {
        now += step;
        let port = ask(&roster, &settings, now, &mut random, false);
        probed = (port == 1).then_some(now);
    }
    let probed = probed.expect("a probe within a second of its time");
    assert_eq!(state(&roster, &settings, probed), State::Closed);
}

mod choice;
