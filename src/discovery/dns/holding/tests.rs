//! Scripts: one step a line, `at milliseconds, what came -> what is held, and when it wakes`. An address is
//! a letter; in brackets it is only kept.

use std::fmt::Write;
use std::net::SocketAddr;

use super::super::answer::Silent;
use super::*;

fn address(letter: char) -> SocketAddr {
    SocketAddr::from(([10, 0, 0, letter as u8], 80))
}

/// Each letter is a host of its own.
fn host(letter: char) -> Arc<str> {
    letter.to_string().into()
}

fn stands(addresses: impl Iterator<Item = SocketAddr>, ttl: Duration) -> Stands {
    let found = addresses.map(|one| {
        let host = match one {
            SocketAddr::V4(v4) => host(char::from(v4.ip().octets()[3])),
            SocketAddr::V6(_) => "6".into(),
        };
        (one.into(), host)
    });
    Stands {
        name: "pay.".into(),
        doubt: None,
        found: found.collect(),
        ttl,
        silent: Vec::new(),
        unasked: 0,
    }
}

fn shown(found: &[Found]) -> String {
    let mut letters: Vec<(char, u32)> = found
        .iter()
        .map(|one| match one.address {
            SocketAddr::V4(v4) => (char::from(v4.ip().octets()[3]), one.weight),
            SocketAddr::V6(_) => ('6', one.weight),
        })
        .collect();
    letters.sort_unstable();
    let mut text = String::new();
    for (letter, weight) in letters {
        let _ = match weight {
            0 => write!(text, "({letter})"),
            _ => write!(text, "{letter}"),
        };
    }
    if text.is_empty() { "-".into() } else { text }
}

/// `ab 30s`: found; `nothing`, `nothing 7s`; `failed`; `a 30s silent v4`,
/// `a 30s silent bc`: of the hosts b and c; `-`: only time passes.
fn answer(words: &str) -> Option<Answer> {
    let words: Vec<&str> = words.split_whitespace().collect();
    let seconds = |word: &str| {
        let number = word.strip_suffix('s').unwrap().parse().unwrap();
        Duration::from_secs(number)
    };
    Some(match words[..] {
        ["-"] => return None,
        ["failed"] => Answer::Failed { why: "x".into() },
        ["nothing"] => Answer::Nothing {
            why: "x".into(),
            ttl: None,
        },
        ["nothing", ttl] => Answer::Nothing {
            why: "x".into(),
            ttl: Some(seconds(ttl)),
        },
        [letters, ttl, ref rest @ ..] => {
            let silent = match rest {
                ["silent", "v4"] => Silent::V4,
                ["silent", "v6"] => Silent::V6,
                ["silent", ..] => Silent::Everywhere,
                _ => Silent::Nowhere,
            };
            // Of these hosts only.
            let hosts = match rest {
                ["silent", hosts] if silent == Silent::Everywhere => hosts,
                _ => "abcdef",
            };
            Answer::Found(Stands {
                silent: hosts.chars().map(|one| (host(one), silent)).collect(),
                ..stands(letters.chars().map(address), seconds(ttl))
            })
        }
        _ => panic!("{words:?}"),
    })
}

fn run(script: &str) {
    let begin = crate::clock::now();
    let mut holding = Holding::default();
    for line in script
        .lines()
        .map(str::trim)
        .filter(|line| !line.is_empty())
    {
        let (step, expected) = line.split_once("->").unwrap();
        let (at, words) = step.trim().split_once(' ').unwrap();
        let now = begin + Duration::from_millis(at.parse().unwrap());
        match answer(words) {
            Some(answer) => {
                assert!(holding.is_due(now), "{line}: it is not time to ask");
                holding.learn(now, answer, 0.0);
            }
            None => holding.settle(now),
        }
        let wakes = holding.wakes().expect("it was asked");
        let wakes = (wakes - begin).as_millis();
        let found = format!("{}, {wakes}", shown(&holding.found()));
        assert_eq!(found, expected.trim(), "{line}");
    }
}

#[test]
fn it_is_asked_for_by_its_time_to_live_within_bounds() {
    run("
        0       ab 30s    -> ab, 30000
        30000   ab 0s     -> ab, 31000
        31000   ab 9999s  -> ab, 331000
    ");
}

#[test]
fn an_address_that_is_missing_is_kept_for_one_more_answer_and_gets_no_requests() {
    run("
        0       abc 30s   -> abc, 30000
        30000   ab 30s    -> ab(c), 60000
        60000   ab 30s    -> ab, 90000
        90000   b 1s      -> (a)b, 91000
        91000   bc 1s     -> (a)bc, 92000
        92000   b 1s      -> (a)b(c), 93000
        99000   b 10s     -> (a)b(c), 100000
        100000  -         -> b(c), 102000
        102000  -         -> b, 109000
    ");
}

/// Rule 68: one address at a time, of many.
#[test]
fn answers_that_rotate_lose_nothing() {
    run("
        0       ab 5s    -> ab, 5000
        5000    cd 5s    -> (a)(b)cd, 10000
        10000   ab 5s    -> ab(c)(d), 15000
        15000   cd 5s    -> (a)(b)cd, 20000
        20000   cd 5s    -> (a)(b)cd, 25000
        25000   cd 5s    -> cd, 30000
    ");
}

#[test]
fn failures_keep_everything_and_wait_longer_each_time() {
    run("
        0       ab 30s   -> ab, 30000
        30000   failed   -> ab, 31000
        31000   failed   -> ab, 33000
        33000   failed   -> ab, 37000
        37000   failed   -> ab, 45000
        45000   failed   -> ab, 61000
        61000   failed   -> ab, 91000
        91000   failed   -> ab, 121000
        9000000 failed   -> ab, 9030000
        9030000 a 30s    -> a(b), 9060000
        9060000 failed   -> a, 9061000
    ");
}

#[test]
fn a_name_that_is_gone_is_given_up_after_five_minutes() {
    run("
        0       a 300s     -> a, 300000
        300000  nothing    -> a, 301000
        301000  nothing    -> a, 303000
        303000  nothing 7s -> a, 310000
        310000  nothing 99999s -> a, 340000
        598000  nothing 30s -> a, 600000
        600000  -          -> -, 628000
        628000  nothing    -> -, 658000
        658000  a 5s       -> a, 663000
        663000  nothing    -> a, 664000
    ");
}

/// What is not known to be gone is not given up.
#[test]
fn a_failure_among_negative_answers_begins_the_time_anew() {
    run("
        0       a 1s       -> a, 1000
        1000    nothing    -> a, 2000
        290000  nothing    -> a, 292000
        292000  failed     -> a, 296000
        302000  nothing    -> a, 310000
        590000  nothing    -> a, 602000
        602000  -          -> -, 606000
    ");
}

#[test]
fn half_an_answer_takes_nothing_away_of_the_other_half() {
    run("
        0       ab 1s             -> ab, 1000
        1000    a 1s silent v4    -> ab, 2000
        2000    a 1s silent       -> ab, 3000
        3000    a 1s silent v6    -> a(b), 4000
    ");
}

/// Rule 68: of a host that cannot be found out nothing is lost, and what others have left is.
#[test]
fn rule_68_what_is_not_known_of_one_host_keeps_nothing_of_the_others() {
    run("
        0       abcd 1s           -> abcd, 1000
        1000    a 1s silent b     -> ab(c)(d), 2000
        2000    a 1s silent bc    -> ab(c)(d), 3000
        11000   a 1s silent b     -> ab, 12000
        12000   a 1s              -> a(b), 13000
    ");
}

/// Rule 68: while one name cannot be found out, a later one may be somebody else's.
#[test]
fn rule_68_what_is_held_of_a_name_does_not_give_way_while_that_fails() {
    let now = crate::clock::now();
    let named = |name: &str, letter: char, doubt: Option<&str>| {
        Answer::Found(Stands {
            name: name.into(),
            doubt: doubt.map(str::to_owned),
            ..stands([address(letter)].into_iter(), FLOOR)
        })
    };
    let mut holding = Holding::default();
    let mut learn = |answer: Answer| {
        let answer = holding.believed(answer);
        let problem = answer.problem();
        holding.learn(now, answer, 0.0);
        (shown(&holding.found()), problem)
    };
    // There is nothing yet: it is used, as another program of this machine would.
    let first = named("pay.other.", 'b', Some("SERVFAIL"));
    assert_eq!(learn(first.clone()), ("b".into(), None));
    assert_eq!(learn(first.clone()), ("b".into(), None));
    assert_eq!(learn(named("pay.first.", 'a', None)), ("a(b)".into(), None));
    let doubted = Some("SERVFAIL".to_owned());
    assert_eq!(learn(first), ("a(b)".into(), doubted));
    assert_eq!(learn(named("pay.other.", 'b', None)), ("(a)b".into(), None));
}

#[test]
fn it_is_asked_for_earlier_by_chance_and_never_later() {
    let now = crate::clock::now();
    for (chance, millis) in [(0.0, 30_000), (0.5, 28_500), (0.999_999, 27_000)] {
        let mut holding = Holding::default();
        holding.learn(now, answer("a 30s").unwrap(), chance);
        let waits = holding.next().unwrap() - now;
        assert_eq!((waits.as_secs_f64() * 1e3).round() as u64, millis);
    }
}

#[test]
fn fault_060_of_500_addresses_256_are_held_and_they_stay() {
    let now = crate::clock::now();
    let at = |n: u16| SocketAddr::from(([10, 0, (n / 250) as u8, (n % 250) as u8], 80));
    let all = |from: u16, to: u16| Answer::Found(stands((from..to).map(at), FLOOR));
    let mut holding = Holding::default();
    assert_eq!(holding.learn(now, all(200, 500), 0.0), 44);
    let before = holding.found();
    assert_eq!(before.len(), MOST);
    // Others come before them in every order; those that are held stay all the same.
    assert_eq!(holding.learn(now, all(0, 500), 0.0), 244);
    assert_eq!(holding.found(), before);
    // Of what is missing only as much is kept as there is room for.
    assert_eq!(holding.learn(now, all(0, 200), 0.0), 0);
    let found = holding.found();
    assert_eq!(found.len(), MOST);
    assert_eq!(found.iter().filter(|one| one.weight > 0).count(), 200);
}

#[test]
fn walk_what_was_found_is_held_and_nothing_for_ever() {
    let mut rng = fastrand::Rng::with_seed(68);
    for _ in 0..200 {
        let (mut holding, mut now) = (Holding::default(), crate::clock::now());
        for _ in 0..60 {
            let before = holding.found();
            let letters: Vec<char> = ('a'..'i').filter(|_| rng.bool()).collect();
            let answer = match rng.u8(..4) {
                0 => Answer::Failed { why: "x".into() },
                1 => Answer::Nothing {
                    why: "x".into(),
                    ttl: None,
                },
                _ if letters.is_empty() => continue,
                _ => {
                    let ttl = Duration::from_secs(rng.u64(..400));
                    Answer::Found(stands(letters.iter().copied().map(address), ttl))
                }
            };
            let is_found = answer.problem().is_none();
            holding.learn(now, answer, rng.f64());
            let held = holding.found();
            let used: Vec<&Found> = held.iter().filter(|one| one.weight > 0).collect();
            if is_found {
                assert_eq!(used.len(), letters.len(), "what was found, and no more");
            } else {
                let lost = before.iter().any(|one| one.weight > 0) && used.is_empty();
                assert!(
                    !lost || holding.held.is_empty(),
                    "all or nothing is given up"
                );
            }
            let wakes = holding.wakes().expect("it was asked");
            assert!(wakes > now && wakes <= now + CEILING, "{:?}", wakes - now);
            now = wakes;
            holding.settle(now);
        }
    }
}
