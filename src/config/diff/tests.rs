//! Differences as they are printed after a reload.

use super::*;
use crate::config::Place;

/// Settings, one a line: `path value`, with `!` before those that are written at their place `^` before
/// those that are inherited from an upstream, `~` from `defaults`.
fn effective(text: &str) -> Effective {
    let mut effective = Effective::default();
    for (number, line) in text.lines().enumerate() {
        let Some((path, value)) = line.trim().split_once(' ') else {
            continue;
        };
        let place = Place {
            file: "a.yaml".into(),
            line: number + 1,
            column: 1,
        };
        let (origin, path) = match path.split_at(1) {
            ("!", path) => (Origin::Written(place), path),
            ("~", path) => (
                Origin::Inherited {
                    from: "defaults",
                    place,
                },
                path,
            ),
            ("^", path) => (
                Origin::Inherited {
                    from: "upstream",
                    place,
                },
                path,
            ),
            _ => (Origin::Default, path),
        };
        effective.insert(path, value, origin);
    }
    effective
}

fn lines(old: &str, new: &str) -> Vec<String> {
    diff(&effective(old), &effective(new))
        .iter()
        .map(Change::to_string)
        .collect()
}

#[test]
fn equal_configurations_have_no_difference_wherever_the_lines_stand() {
    let text = "!a.b 1\n!a.c[0].d 2\nx off";
    assert_eq!(lines(text, &format!("\n\n{text}")), [""; 0]);
}

#[test]
fn a_value_that_changes_is_one_line() {
    let old = "!upstreams.payments.retry.max_attempts 3\n!service a";
    let new = "!upstreams.payments.retry.max_attempts 5\n!service a";
    assert_eq!(
        lines(old, new),
        ["upstreams.payments.retry.max_attempts: 3 -> 5"]
    );
}

/// Names of files are no secrets, though one of the keys is called `key`.
#[test]
fn what_changed_in_tls_is_named() {
    let old = "!listeners.in.tls.cert tls.crt\n!listeners.in.tls.key tls.key
        !upstreams.a.endpoints [a:1]";
    let new = "!listeners.in.tls.cert tls.crt\n!listeners.in.tls.key new.key
        !upstreams.a.endpoints [a:1]\n!upstreams.a.tls.server_name b";
    assert_eq!(
        lines(old, new),
        [
            "listeners.in.tls.key: tls.key -> new.key",
            "+ upstreams.a.tls: { server_name: b }",
        ]
    );
}

#[test]
fn a_block_that_comes_or_goes_is_one_line_with_what_is_written_in_it() {
    let old = "!upstreams.a.endpoints [a:1]";
    let new = "!upstreams.a.endpoints [a:1]
        !upstreams.b.endpoints [b:1]
        upstreams.b.critical false
        !upstreams.b.retry.max_attempts 5";
    let line = "upstreams.b: { endpoints: [b:1], retry.max_attempts: 5 }";
    assert_eq!(lines(old, new), [format!("+ {line}")]);
    assert_eq!(lines(new, old), [format!("- {line}")]);
    assert_eq!(
        lines("", "!upstreams.new.endpoints[0] 127.0.0.1:9003"),
        ["+ upstreams: { new.endpoints[0]: 127.0.0.1:9003 }"]
    );
    assert_eq!(lines("a.b 1", "a.b 1\n!a.c 2"), ["+ a.c: 2"]);
    assert_eq!(lines("!a.b 1\n!a.c 2", "!a.b 1"), ["- a.c: 2"]);
}

#[test]
fn a_block_that_is_switched_is_one_line() {
    let off = "upstreams.a.retry off";
    let on = "upstreams.a.retry.max_attempts 3\nupstreams.a.retry.backoff.base 25ms";
    assert_eq!(lines(off, on), ["upstreams.a.retry: off -> {}"]);
    assert_eq!(lines(on, off), ["upstreams.a.retry: {} -> off"]);
    let on = "!upstreams.a.retry.max_attempts 5\nupstreams.a.retry.backoff.base 25ms";
    assert_eq!(
        lines(off, on),
        ["upstreams.a.retry: off -> { max_attempts: 5 }"]
    );
}

#[test]
fn a_long_block_is_counted() {
    let new: String = (0..11).map(|n| format!("!a.k{n} {n}\n")).collect();
    let told = lines("", &new);
    assert!(told[0].ends_with("k7: 7, and 3 more }"), "{told:?}");
}

const ROUTES: &str = "!upstreams.pay.retry.max_attempts 3
    upstreams.pay.retry.max_body 64KiB
    !listeners.out.routes[0].name charges
    !listeners.out.routes[0].upstream pay
    ^listeners.out.routes[0].retry.max_attempts 3
    listeners.out.routes[0].retry.max_body 64KiB
    !listeners.out.routes[1].upstream pay
    !listeners.out.routes[1].retry.max_attempts 9
    listeners.out.routes[1].retry.max_body 64KiB";

#[test]
fn a_route_that_inherits_a_change_is_not_told_again() {
    let new = ROUTES
        .replace("pay.retry.max_attempts 3", "pay.retry.max_attempts 5")
        .replace(
            "routes[0].retry.max_attempts 3",
            "routes[0].retry.max_attempts 5",
        );
    assert_eq!(
        lines(ROUTES, &new),
        ["upstreams.pay.retry.max_attempts: 3 -> 5"]
    );
}

#[test]
fn a_route_that_is_changed_by_itself_is_told() {
    let new = ROUTES
        .replace("pay.retry.max_attempts 3", "pay.retry.max_attempts 5")
        .replace(
            "^listeners.out.routes[0].retry.max_attempts 3",
            "!listeners.out.routes[0].retry.max_attempts 5",
        )
        .replace("max_attempts 9", "max_attempts 8");
    assert_eq!(
        lines(ROUTES, &new),
        [
            "upstreams.pay.retry.max_attempts: 3 -> 5",
            "listeners.out.routes[0].retry.max_attempts: 3 -> 5",
            "listeners.out.routes[1].retry.max_attempts: 9 -> 8",
        ]
    );
}

#[test]
fn a_policy_that_is_switched_on_for_an_upstream_is_not_told_for_its_routes() {
    let old = "!upstreams.pay.endpoints [a:1]
        upstreams.pay.bulkhead off
        !listeners.out.routes[0].upstream pay
        listeners.out.routes[0].bulkhead off";
    let new = "!upstreams.pay.endpoints [a:1]
        !upstreams.pay.bulkhead.max_queue 7
        !listeners.out.routes[0].upstream pay
        ^listeners.out.routes[0].bulkhead.max_queue 7";
    assert_eq!(
        lines(old, new),
        ["upstreams.pay.bulkhead: off -> { max_queue: 7 }"]
    );
    let own = new.replace('^', "!");
    assert_eq!(lines(old, &own).len(), 2);
}

#[test]
fn what_upstreams_inherit_from_defaults_is_told_once() {
    let old = "~upstreams.a.retry.max_attempts 3
        ~upstreams.b.retry.max_attempts 3
        !upstreams.c.retry.max_attempts 3
        ~listeners.out.routes[0].retry.max_attempts 3
        !listeners.out.routes[0].upstream a";
    let new = old.replace(
        "~upstreams.a.retry.max_attempts 3",
        "~upstreams.a.retry.max_attempts 4",
    );
    let new = new.replace(
        "~upstreams.b.retry.max_attempts 3",
        "~upstreams.b.retry.max_attempts 4",
    );
    let new = new.replace("[0].retry.max_attempts 3", "[0].retry.max_attempts 4");
    assert_eq!(lines(old, &new), ["defaults.retry.max_attempts: 3 -> 4"]);
    let removed = new.replace('~', "").replace('4', "9");
    assert_eq!(
        lines(&new, &removed),
        ["defaults.retry.max_attempts: 4 -> 9"]
    );
    let own = new.replace(
        "~upstreams.b.retry.max_attempts 4",
        "!upstreams.b.retry.max_attempts 4",
    );
    assert_eq!(
        lines(old, &own),
        [
            "defaults.retry.max_attempts: 3 -> 4",
            "upstreams.b.retry.max_attempts: 3 -> 4",
        ]
    );
}

#[test]
fn a_block_that_defaults_switch_on_is_told_once() {
    let old = "!upstreams.a.endpoints [a:1]\n!upstreams.b.endpoints [b:1]\nupstreams.a.retry off\nupstreams.b.retry off";
    let on = "!upstreams.a.endpoints [a:1]
        !upstreams.b.endpoints [b:1]
        ~upstreams.a.retry.max_attempts 5
        upstreams.a.retry.max_body 64KiB
        ~upstreams.b.retry.max_attempts 5
        upstreams.b.retry.max_body 64KiB";
    assert_eq!(
        lines(old, on),
        ["defaults.retry: off -> { max_attempts: 5 }"]
    );
    assert_eq!(
        lines(on, old),
        ["defaults.retry: { max_attempts: 5 } -> off"]
    );
}

#[test]
fn a_route_that_is_inserted_leaves_the_others_alone() {
    let new = "!listeners.out.routes[0].name first
        !listeners.out.routes[0].upstream pay
        !listeners.out.routes[1].name charges
        !listeners.out.routes[1].upstream pay
        !listeners.out.routes[1].retry.max_attempts 1
        !listeners.out.routes[2].upstream pay";
    let old = "!listeners.out.routes[0].name charges
        !listeners.out.routes[0].upstream pay
        !listeners.out.routes[0].retry.max_attempts 2
        !listeners.out.routes[1].upstream pay";
    assert_eq!(
        lines(old, new),
        [
            "listeners.out.routes[1].retry.max_attempts: 2 -> 1",
            "+ listeners.out.routes[0]: { name: first, upstream: pay }",
        ]
    );
}

#[test]
fn another_order_of_routes_is_told() {
    let route = |index, name| format!("!listeners.out.routes[{index}].name {name}\n");
    let old = [route(0, "a"), route(1, "b"), route(2, "c")].concat();
    let new = [route(0, "c"), route(1, "b"), route(2, "d")].concat();
    assert_eq!(
        lines(&old, &new),
        [
            "- listeners.out.routes[0]: { name: a }",
            "+ listeners.out.routes[2]: { name: d }",
            "listeners.out.routes: [b, c] -> [c, b]",
        ]
    );
}

#[test]
fn weighted_endpoints_are_known_by_their_address() {
    let old = "!upstreams.a.endpoints[0] a:1
        !upstreams.a.endpoints[1].address b:1
        !upstreams.a.endpoints[1].weight 2";
    let new = "!upstreams.a.endpoints[0].address b:1
        !upstreams.a.endpoints[0].weight 3
        !upstreams.a.endpoints[1] a:1";
    assert_eq!(lines(old, new), ["upstreams.a.endpoints[0].weight: 2 -> 3"]);
    let list = "!upstreams.a.endpoints [a:1, b:1]";
    assert_eq!(
        lines(list, old),
        ["upstreams.a.endpoints: [a:1, b:1] -> { [0]: a:1, [1].address: b:1, [1].weight: 2 }"]
    );
}

#[test]
fn secrets_are_told_to_have_changed_and_not_what_they_are() {
    let old = "!a.headers.authorization Bearer one\n!u.endpoints [http://u:one@a]";
    let new =
        "!a.headers.authorization Bearer two\n!u.endpoints [http://u:two@a]\n!b.headers.cookie two";
    let told = lines(old, new);
    assert_eq!(
        told,
        [
            "a.headers.authorization: (hidden) -> (hidden)",
            "u.endpoints: [http://(hidden)@a] -> [http://(hidden)@a]",
            "+ b: { headers.cookie: (hidden) }",
        ]
    );
}

#[test]
fn strange_paths_do_no_harm() {
    let strange = "a.. 1\n[ 2\n.[0 3\nroutes[x] 4\nlisteners.a.routes[0] 5\nupstreams.a.a 6";
    assert_eq!(lines(strange, strange), [""; 0]);
    assert!(!lines(strange, "").is_empty() && !lines("", strange).is_empty());
}

const REAL: &str = "\
listeners:
  out:
    address: 127.0.0.1:8080
    routes:
      - { name: charges, match: { path_prefix: /charges }, upstream: pay, timeouts: { request: 2s } }
      - { match: { path_prefix: /pay }, upstream: pay }
      - { upstream: users }
defaults:
  retry: { max_attempts: 3 }
upstreams:
  pay:
    endpoints: [127.0.0.1:1, 127.0.0.1:2]
    timeouts: {}
  users:
    endpoints: [127.0.0.1:3]
";

fn real_lines(changes: &[(&str, &str)]) -> Vec<String> {
    let effective = |text: &str| match crate::config::parse("a.yaml", text, &|_| None) {
        Ok(loaded) => loaded.effective,
        Err(problems) => panic!("{problems}"),
    };
    let new = changes.iter().fold(REAL.to_owned(), |text, (from, to)| {
        assert!(text.contains(from), "{from}");
        text.replace(from, to)
    });
    let (old, new) = (effective(REAL), effective(&new));
    assert_eq!(diff(&new, &new), []);
    diff(&old, &new).iter().map(Change::to_string).collect()
}

#[test]
fn real_configurations_are_compared_as_an_operator_would() {
    for (from, to, expected) in [
        (
            "  retry: { max_attempts: 3 }",
            "  retry: { max_attempts: 5 }",
            &["defaults.retry.max_attempts: 3 -> 5"][..],
        ),
        (
            "  retry: { max_attempts: 3 }",
            "  {}",
            &["defaults.retry: { max_attempts: 3 } -> off"],
        ),
        (
            "timeouts: {}",
            "timeouts: { try: 1s }",
            &["upstreams.pay.timeouts.try: none -> 1s"],
        ),
        (
            "    timeouts: {}\n",
            "",
            &["upstreams.pay.timeouts: {} -> off"],
        ),
        (
            "127.0.0.1:2]",
            "127.0.0.1:4]",
            &["upstreams.pay.endpoints: [127.0.0.1:1, 127.0.0.1:2] -> [127.0.0.1:1, 127.0.0.1:4]"],
        ),
        (
            "request: 2s",
            "request: 3s",
            &["listeners.out.routes[0].timeouts.request: 2s -> 3s"],
        ),
        (
            "    routes:\n",
            "    routes:\n      - { name: first, match: { path: /x }, upstream: users }\n",
            &["+ listeners.out.routes[0]: { name: first, match.path: /x, upstream: users }"],
        ),
    ] {
        let told = real_lines(&[(from, to)]);
        assert_eq!(told, expected, "{from} -> {to}");
    }
}

/// What is the same in two files is not listed to compare them; what is told must not depend on that.
#[test]
fn the_difference_of_files_is_that_of_all_their_settings() {
    let whole = |text: &str| crate::config::parse("a.yaml", text, &|_| None).unwrap();
    let listed = |effective: &Effective| {
        let mut all = Effective::default();
        for (path, entry) in effective.iter() {
            all.insert(path, entry.value.clone(), entry.origin.clone());
        }
        all
    };
    let text = "
defaults:
  retry: { max_attempts: 4 }
  fallback: [{ on: any, respond: { status: 503 } }]
listeners:
  in:
    address: 127.0.0.1:1
    routes:
      - { name: x, match: { path: /x, headers: { a.b: c } }, upstream: one, retry: { max_body: 1KiB } }
      - { name: y, match: { path: /y }, upstream: two, bulkhead: { max_in_flight: 1 } }
      - { upstream: two }
upstreams:
  one: { endpoints: [a:1, { address: b:2, weight: 3 }], circuit_breaker: {} }
  two: { endpoints: [a:1], timeouts: { request: 3s } }
";
    let y =
        "      - { name: y, match: { path: /y }, upstream: two, bulkhead: { max_in_flight: 1 } }\n";
    let first = "    routes:\n";
    let edits = [
        ("", ""),
        ("defaults:", "# a line more\ndefaults:"),
        ("max_attempts: 4", "max_attempts: 5"),
        (
            "defaults:\n",
            "defaults:\n  bulkhead: { max_in_flight: 7 }\n",
        ),
        ("on: any", "on: [timeout]"),
        ("max_body: 1KiB", "max_body: 2KiB"),
        ("retry: { max_body: 1KiB }", "retry: off"),
        (y, ""),
        (first, "    routes:\n      - { name: z, upstream: one }\n"),
        (
            first,
            &format!("{first}{}", y.replace("name: y", "name: z")),
        ),
        ("a.b: c", "a.b: d"),
        ("weight: 3", "weight: 4"),
        ("a:1, {", "c:3, a:1, {"),
        (", circuit_breaker: {}", ""),
        ("request: 3s", "request: 4s"),
        ("  two: {", "  three: { endpoints: [c:3] }\n  two: {"),
        ("127.0.0.1:1\n", "127.0.0.1:2\n    limits: { headers: 7 }\n"),
    ];
    let mut reordered = text.replace(y, "");
    reordered = reordered.replace(first, &format!("{first}{y}"));
    let changed = edits.map(|(from, to)| text.replacen(from, to, 1));
    for other in changed.iter().chain([&reordered]) {
        for (old, new) in [(text, other.as_str()), (other.as_str(), text)] {
            let (old, new) = (whole(old).effective, whole(new).effective);
            let told = diff(&old, &new);
            assert_eq!(told, diff(&listed(&old), &listed(&new)), "{other}");
            assert_eq!(
                told.is_empty(),
                other.ends_with(&text[1..]) || other.contains("# a line")
            );
        }
    }
}
