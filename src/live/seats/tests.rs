//! No seat is lost and none is given twice, whatever moment a request leaves at.

use super::*;

fn route(name: &str) -> RouteName {
    RouteName {
        listener: "in".into(),
        route: name.into(),
    }
}

fn settings(seats: usize, queue: usize) -> Settings {
    Settings {
        max_in_flight: Some(seats),
        max_queue: queue,
        ..Settings::default()
    }
}

fn seated(seating: Seating) -> Seat {
    match seating {
        Seating::Seated(seat) => seat,
        other @ (Seating::Queued(_) | Seating::Refused) => panic!("{other:?}"),
    }
}

fn queued(seating: Seating) -> Queued {
    match seating {
        Seating::Queued(queued) => queued,
        other @ (Seating::Seated(_) | Seating::Refused) => panic!("{other:?}"),
    }
}

/// Whether it has its seat already.
fn has_seat(queued: &mut Queued) -> Option<Seat> {
    let mut seat = std::pin::pin!(queued.seat());
    let cx = &mut std::task::Context::from_waker(std::task::Waker::noop());
    match seat.as_mut().poll(cx) {
        std::task::Poll::Ready(seat) => seat,
        std::task::Poll::Pending => None,
    }
}

fn counts(seats: &Seats) -> (usize, usize) {
    let bells = seats.room.lock().bells.len();
    assert_eq!(bells, seats.queued(), "a bell for each who waits");
    (seats.in_flight(), seats.queued())
}

#[test]
fn rule_58_who_leaves_the_queue_makes_room_at_once() {
    let (seats, limit) = (Arc::new(Seats::default()), settings(1, 1));
    let seat = seated(seats.enter(&limit, || route("a")));
    let waiting = queued(seats.enter(&limit, || route("a")));
    assert!(matches!(
        seats.enter(&limit, || route("a")),
        Seating::Refused
    ));
    drop(waiting);
    assert_eq!(counts(&seats), (1, 0));
    let mut waiting = queued(seats.enter(&limit, || route("a")));
    assert!(has_seat(&mut waiting).is_none());
    drop(seat);
    assert_eq!(counts(&seats), (1, 0), "the seat is its own already");
    let seat = has_seat(&mut waiting).expect("a seat");
    drop(waiting);
    assert_eq!(counts(&seats), (1, 0), "a place that was used is no place");
    drop(seat);
    assert_eq!(counts(&seats), (0, 0));
}

#[test]
fn a_seat_that_comes_at_the_moment_of_leaving_goes_on_to_the_next() {
    let (seats, limit) = (Arc::new(Seats::default()), settings(1, 3));
    let seat = seated(seats.enter(&limit, || route("a")));
    let mut first = queued(seats.enter(&limit, || route("a")));
    let second = queued(seats.enter(&limit, || route("a")));
    let third = queued(seats.enter(&limit, || route("a")));
    // It rings for the third, which does not listen any more; then for the second.
    drop(seat);
    drop(third);
    drop(second);
    assert_eq!(counts(&seats), (1, 0));
    let seat = has_seat(&mut first).expect("it came down to the first");
    drop((seat, first));
    assert_eq!(counts(&seats), (0, 0));
}

#[test]
fn a_time_limit_that_drops_the_waiting_keeps_the_place() {
    let (seats, limit) = (Arc::new(Seats::default()), settings(1, 1));
    let seat = seated(seats.enter(&limit, || route("a")));
    let mut waiting = queued(seats.enter(&limit, || route("a")));
    assert!(has_seat(&mut waiting).is_none(), "polled and dropped");
    drop(seat);
    assert!(has_seat(&mut waiting).is_some());
}

#[test]
fn rule_81_a_reload_moves_up_the_waiters_of_the_routes_that_it_widens() {
    let (seats, limit) = (Arc::new(Seats::default()), settings(1, 9));
    let _seat = seated(seats.enter(&limit, || route("a")));
    let mut a = queued(seats.enter(&limit, || route("a")));
    let mut b = queued(seats.enter(&limit, || route("b")));
    let mut gone = queued(seats.enter(&limit, || route("gone")));
    seats.configure(|name| match &*name.route {
        "a" => Some(settings(2, 9)),
        "b" => Some(settings(1, 9)),
        _ => None,
    });
    let second = has_seat(&mut a).expect("its limit rose");
    assert!(has_seat(&mut b).is_none());
    assert!(has_seat(&mut gone).is_none());
    assert_eq!(counts(&seats), (2, 2));
    drop(second);
    assert!(has_seat(&mut b).is_none(), "one is taken, and one may be");
}

/// What a waiter is now.
enum Guest {
    Seated(#[expect(dead_code, reason = "held")] Seat),
    Waiting(Queued),
}

#[test]
fn walk_no_seat_is_lost_whatever_the_order() {
    let mut rng = fastrand::Rng::with_seed(58);
    for round in 0..200 {
        let seats = Arc::new(Seats::default());
        let mut limit = settings(rng.usize(1..5), rng.usize(..5));
        let mut guests: Vec<Guest> = Vec::new();
        for step in 0..300 {
            match rng.usize(..10) {
                0..4 => match seats.enter(&limit, || route("a")) {
                    Seating::Seated(seat) => guests.push(Guest::Seated(seat)),
                    Seating::Queued(queued) => guests.push(Guest::Waiting(queued)),
                    Seating::Refused => {
                        assert!(Some(seats.in_flight()) >= limit.max_in_flight);
                        assert!(seats.queued() >= limit.max_queue);
                    }
                },
                // Whoever it is leaves: seated, waiting, or told of a seat it never looked at.
                4..8 if !guests.is_empty() => {
                    guests.swap_remove(rng.usize(..guests.len()));
                }
                8 => {
                    limit = settings(rng.usize(1..5), rng.usize(..5));
                    seats.configure(|_| Some(limit));
                }
                _ => {
                    for guest in &mut guests {
                        if let Guest::Waiting(queued) = guest
                            && let Some(seat) = has_seat(queued)
                        {
                            *guest = Guest::Seated(seat);
                        }
                    }
                }
            }
            let (in_flight, queued) = counts(&seats);
            assert_eq!(
                in_flight + queued,
                guests.len(),
                "round {round} step {step}"
            );
            let seated = guests.iter().filter(|g| matches!(g, Guest::Seated(_)));
            assert!(seated.count() <= in_flight);
            assert!(queued == 0 || Some(in_flight) >= limit.max_in_flight);
        }
        drop(guests);
        assert_eq!(counts(&seats), (0, 0), "round {round}");
    }
}
