use super::*;

/// `10.0.0.1`, or with more: `10.0.0.1 draining zone=a for=a,b pod=u1`.
fn endpoint(text: &str) -> Endpoint {
    let mut words = text.split(' ');
    let mut endpoint = Endpoint {
        address: words.next().unwrap().parse().unwrap(),
        state: State::Ready,
        zone: None,
        for_zones: Vec::new(),
        pod: None,
    };
    for word in words {
        match word.split_once('=') {
            None => {
                endpoint.state = match word {
                    "draining" => State::Draining,
                    "unready" => State::NotReady,
                    other => panic!("{other}"),
                }
            }
            Some(("zone", zone)) => endpoint.zone = Some(zone.into()),
            Some(("for", zones)) => endpoint.for_zones = zones.split(',').map(Arc::from).collect(),
            Some(("pod", pod)) => endpoint.pod = Some(pod.into()),
            Some((other, _)) => panic!("{other}"),
        }
    }
    endpoint
}

/// A slice with ports such as `http:8080`, `:8080` or `http:`.
fn slice(name: &str, ports: &[&str], endpoints: &[&str]) -> Slice {
    let port = |text: &&str| {
        let (name, number) = text.split_once(':').unwrap();
        Port {
            name: name.into(),
            number: number.parse().ok(),
        }
    };
    Slice {
        name: name.into(),
        foreign: None,
        endpoints: endpoints.iter().map(|text| endpoint(text)).collect(),
        unusable: 0,
        ports: ports.iter().map(port).collect(),
    }
}

fn slices<const N: usize>(all: [Slice; N]) -> Slices {
    let named = all.into_iter().map(|slice| (slice.name.clone(), slice));
    named.map(|(name, slice)| (name, Arc::new(slice))).collect()
}

fn wanted<'a>(port: &'a str, zone: Option<&'a str>) -> Wanted<'a> {
    Wanted {
        port,
        zone,
        seed: 7,
    }
}

/// What is used, such as `10.0.0.1:80` or with a weight `10.0.0.1:80×100`.
fn used(choice: &Choice) -> Vec<String> {
    let all = choice.found.iter();
    all.map(|one| match one.weight {
        1 => one.address.to_string(),
        weight => format!("{}×{weight}", one.address),
    })
    .collect()
}

/// What is used of one slice whose only port is 80.
fn of(endpoints: &[&str], zone: Option<&str>) -> Vec<String> {
    let slices = slices([slice("a", &["http:80"], endpoints)]);
    used(&serving(&slices, wanted("http", zone)))
}

#[test]
fn those_that_are_ready_serve() {
    let all = [
        "10.0.0.2",
        "10.0.0.1",
        "10.0.0.3 unready",
        "10.0.0.4 draining",
    ];
    assert_eq!(of(&all, None), ["10.0.0.1:80", "10.0.0.2:80"]);
}

#[test]
fn where_none_is_ready_those_that_end_still_serve() {
    let slices = slices([slice(
        "a",
        &["http:80"],
        &["10.0.0.3 unready", "10.0.0.4 draining"],
    )]);
    let choice = serving(&slices, wanted("http", None));
    assert_eq!(used(&choice), ["10.0.0.4:80"]);
    assert!(
        choice.remarks[0]
            .text
            .contains("none of its endpoints is ready, of 2; 1 that are about to end")
    );
    let none = super::tests::slices([slice("a", &["http:80"], &["10.0.0.3 unready"])]);
    let choice = serving(&none, wanted("http", None));
    assert!(choice.found.is_empty() && choice.remarks[0].text.ends_with("is ready, of 1"));
}

#[test]
fn a_port_is_found_by_name_by_number_or_alone() {
    let two = slices([
        slice("a", &["http:8080", "metrics:9090"], &["10.0.0.1"]),
        // The name stands for another number here: pods of two versions, say.
        slice("b", &["http:8081"], &["10.0.0.2"]),
    ]);
    let by = |slices: &Slices, port| used(&serving(slices, wanted(port, None)));
    assert_eq!(by(&two, "http"), ["10.0.0.1:8080", "10.0.0.2:8081"]);
    assert_eq!(by(&two, "9090"), ["10.0.0.1:9090"]);
    assert_eq!(by(&two, "8081"), ["10.0.0.2:8081"]);
    assert_eq!(by(&two, ""), [""; 0]);
    let one = slices([
        slice("a", &[":8080"], &["10.0.0.1"]),
        slice("b", &[":8081"], &["10.0.0.2"]),
    ]);
    assert_eq!(by(&one, ""), ["10.0.0.1:8080", "10.0.0.2:8081"]);
    // A slice for every port.
    let any = slices([slice("a", &["any:"], &["10.0.0.1"])]);
    assert_eq!(by(&any, "1234"), ["10.0.0.1:1234"]);
    assert_eq!(by(&any, "any"), [""; 0]);
    // A name of digits is a name first.
    let digits = slices([slice("a", &["8080:1", "b:8080"], &["10.0.0.1"])]);
    assert_eq!(by(&digits, "8080"), ["10.0.0.1:1"]);
}

#[test]
fn a_port_that_is_not_there_is_told_with_those_that_are() {
    let two = slices([slice("a", &["http:8080", "metrics:9090"], &["10.0.0.1"])]);
    for (port, said) in [
        (
            "grpc",
            "no endpoint of it has the port `grpc`; there is http (8080), metrics (9090)",
        ),
        ("80", "no endpoint of it has the port `80`; there is http"),
        (
            "",
            "several ports, and `port` does not say which is meant; there is http (8080)",
        ),
    ] {
        let choice = serving(&two, wanted(port, None));
        assert!(choice.found.is_empty());
        assert!(
            choice.remarks[0].text.contains(said),
            "{:?}",
            choice.remarks
        );
    }
    let none = slices([slice("a", &[], &["10.0.0.1"])]);
    assert!(
        serving(&none, wanted("80", None)).remarks[0]
            .text
            .contains("there is none of TCP")
    );
    // Without an endpoint there is nothing to say of ports.
    let empty = slices([slice("a", &["http:8080"], &[])]);
    assert_eq!(serving(&empty, wanted("grpc", None)), Choice::default());
}

#[test]
fn a_service_without_slices_is_told() {
    let choice = serving(&Slices::new(), wanted("http", None));
    assert!(choice.found.is_empty() && choice.remarks[0].text.contains("no EndpointSlice"));
}

#[test]
fn an_endpoint_in_two_slices_is_one_and_its_best_state_counts() {
    let both = slices([
        slice(
            "a",
            &["http:80"],
            &["10.0.0.1 unready", "10.0.0.2 draining"],
        ),
        slice(
            "b",
            &["http:80"],
            &["10.0.0.1", "10.0.0.2 unready", "10.0.0.3"],
        ),
    ]);
    let choice = serving(&both, wanted("http", None));
    assert_eq!(used(&choice), ["10.0.0.1:80", "10.0.0.3:80"]);
}

#[test]
fn a_pod_of_two_families_is_one_endpoint() {
    let both = slices([
        slice(
            "v4",
            &["http:80"],
            &["10.0.0.1 pod=a", "10.0.0.2 unready pod=b", "10.0.0.3"],
        ),
        slice(
            "v6",
            &["http:80"],
            &["fd00::1 pod=a", "fd00::2 pod=b", "fd00::3", "fd00::4 pod=d"],
        ),
    ]);
    let choice = serving(&both, wanted("http", None));
    let expected = [
        "10.0.0.1:80",
        "10.0.0.3:80",
        "[fd00::2]:80",
        "[fd00::3]:80",
        "[fd00::4]:80",
    ];
    assert_eq!(used(&choice), expected);
}

#[test]
fn what_is_no_address_is_told_and_left_out() {
    let mut names = slice("a", &["http:80"], &[]);
    names.foreign = Some("FQDN".into());
    names.unusable = 3;
    let mut odd = slice("b", &["http:80"], &["10.0.0.1"]);
    odd.unusable = 1;
    let choice = serving(&slices([names, odd]), wanted("http", None));
    assert_eq!(used(&choice), ["10.0.0.1:80"]);
    assert!(
        choice.remarks[0]
            .text
            .contains("address type `FQDN` are left out")
    );
    assert!(
        choice.remarks[1]
            .text
            .starts_with("1 of its endpoints have no address")
    );
}

#[test]
fn those_of_our_zone_are_preferred_and_the_others_stay() {
    let all = [
        "10.0.0.1 zone=a",
        "10.0.0.2 zone=a",
        "10.0.0.3 zone=b",
        "10.0.0.4 zone=c",
    ];
    let expected = [
        "10.0.0.1:80×100",
        "10.0.0.2:80×100",
        "10.0.0.3:80",
        "10.0.0.4:80",
    ];
    assert_eq!(of(&all, Some("a")), expected);
    assert_eq!(
        of(&all, None),
        expected.map(|one| one.trim_end_matches("×100"))
    );
    // Only those that are used count.
    let ready = ["10.0.0.1 zone=a unready", "10.0.0.3 zone=b"];
    assert_eq!(of(&ready, Some("a")), ["10.0.0.3:80"]);
}

#[test]
fn hints_count_for_more_than_the_place_but_only_if_every_endpoint_has_some() {
    let all = ["10.0.0.1 zone=a for=b", "10.0.0.2 zone=b for=a,c"];
    assert_eq!(of(&all, Some("a")), ["10.0.0.1:80", "10.0.0.2:80×100"]);
    let some = ["10.0.0.1 zone=a", "10.0.0.2 zone=b for=a"];
    assert_eq!(of(&some, Some("a")), ["10.0.0.1:80×100", "10.0.0.2:80"]);
}

#[test]
fn too_few_of_our_zone_are_not_overloaded() {
    // Three zones, twelve endpoints: an even share is four, half of it two.
    let all = |local: usize| -> Vec<String> {
        (0..12)
            .map(|number| {
                let zone = match number {
                    _ if number < local => "a",
                    _ if number % 2 == 0 => "b",
                    _ => "c",
                };
                format!("10.0.0.{number} zone={zone}")
            })
            .collect()
    };
    for (count, preferred) in [(0, 0), (1, 0), (2, 2), (4, 4), (12, 0)] {
        let all = all(count);
        let all: Vec<&str> = all.iter().map(String::as_str).collect();
        let slices = slices([slice("a", &["http:80"], &all)]);
        let choice = serving(&slices, wanted("http", Some("a")));
        assert_eq!(
            (choice.local, choice.found.len()),
            (preferred, 12),
            "{count}"
        );
        let heavy = choice.found.iter().filter(|one| one.weight == 100).count();
        assert_eq!(heavy, preferred);
    }
}

#[test]
fn of_too_many_a_share_is_drawn_that_stays_and_differs_from_process_to_process() {
    let texts: Vec<String> = (0..1_200)
        .map(|number| format!("10.0.{}.{}", number / 250, number % 250))
        .collect();
    let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
    let slices = slices([slice("a", &["http:80"], &texts)]);
    let drawn = |seed| {
        let port = "http";
        let zone = None;
        serving(&slices, Wanted { port, zone, seed })
    };
    let choice = drawn(1);
    assert_eq!(choice.found.len(), MOST);
    assert!(
        choice.remarks[0]
            .text
            .contains("1200 endpoints; 1000 of them")
    );
    assert_eq!(choice, drawn(1));
    assert_ne!(choice.found, drawn(2).found);
    assert!(choice.found.is_sorted_by_key(|one| one.address));
}

/// Whatever the slices say: nothing is used twice, nothing that is not ready while something is.
#[test]
fn walk_nothing_unready_is_used_while_something_is_ready() {
    let mut rng = fastrand::Rng::with_seed(68);
    for _ in 0..3_000 {
        let mut all = Slices::new();
        for name in 0..rng.usize(0..4) {
            let endpoints: Vec<String> = (0..rng.usize(0..6))
                .map(|_| {
                    let state = ["", " draining", " unready"][rng.usize(..3)];
                    let zone = ["", " zone=a", " zone=b for=a"][rng.usize(..3)];
                    format!("10.0.0.{}{state}{zone}", rng.u8(1..6))
                })
                .collect();
            let endpoints: Vec<&str> = endpoints.iter().map(String::as_str).collect();
            let name = name.to_string();
            all.insert(
                name.as_str().into(),
                Arc::new(slice(&name, &["http:80"], &endpoints)),
            );
        }
        let choice = serving(&all, wanted("http", [None, Some("a")][rng.usize(..2)]));
        let states = |address: SocketAddr| {
            let every = all.values().flat_map(|slice| &slice.endpoints);
            every
                .filter(move |one| one.address == address.ip())
                .map(|one| one.state)
                .max()
        };
        let best = all
            .values()
            .flat_map(|slice| &slice.endpoints)
            .map(|one| one.state)
            .max();
        assert!(choice.found.is_sorted_by(|a, b| a.address < b.address));
        for one in &choice.found {
            assert_eq!(states(one.address), best, "{all:#?}");
        }
        let expected = best.is_some_and(|best| best > State::NotReady);
        assert_eq!(!choice.found.is_empty(), expected);
    }
}
