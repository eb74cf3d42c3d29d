use super::*;

fn message<T: std::fmt::Debug>(result: Result<T, Complaint>) -> String {
    let complaint = result.unwrap_err();
    format!(
        "{} {}",
        complaint.message,
        complaint.help.unwrap_or_default()
    )
}

#[test]
fn endpoints_are_addresses_names_or_http_urls() {
    for (text, shown) in [
        ("127.0.0.1:9001", "127.0.0.1:9001"),
        ("[::1]:9001", "[::1]:9001"),
        ("payments:9001", "payments:9001"),
        (
            "Payments.Prod.svc.cluster.local.:80",
            "payments.prod.svc.cluster.local.:80",
        ),
        ("my_service:1", "my_service:1"),
        ("http://payments", "payments:80"),
        ("http://payments:8080/", "payments:8080"),
        ("http://10.0.0.1", "10.0.0.1:80"),
        ("https://payments.example.com", "payments.example.com:443"),
        ("https://[::1]:8443/", "[::1]:8443"),
        ("http://[::1]", "[::1]:80"),
        ("http://[::1]:81", "[::1]:81"),
    ] {
        assert_eq!(endpoint(text).unwrap().0.to_string(), shown, "{text}");
    }
}

#[test]
fn what_is_no_endpoint_is_refused_with_a_reason() {
    for (text, reason) in [
        ("unix:run/a.sock", "is absolute"),
        ("unix:///run/a.sock", "did you mean `unix:/run/a.sock`?"),
        ("unix:@a", "names without one are not there"),
        ("unix:/run/", "is no path of a socket"),
        ("/run/a.sock", "did you mean `unix:/run/a.sock`?"),
        ("kubernetes:a", "is written as a block"),
        ("k8s://a", "is written as a block"),
        ("tcp://a:1", "other schemes are not there"),
        ("ftp://a", "other schemes are not there"),
        ("payments", "did you mean `payments:80`?"),
        ("::1", "did you mean `[::1]:80`?"),
        ("[::1]", "did you mean `[::1]:80`?"),
        ("1.2.3.4", "did you mean `1.2.3.4:80`?"),
        ("a:0", "is no port"),
        ("a:65536", "is no port"),
        ("127.0.0.1:0", "an endpoint's port"),
        ("http://a/b", "has no path"),
        ("http://a?b", "has no path"),
        ("http://u:p@a", "no user name"),
        ("-a:1", "is no name of a host"),
        ("a..b:1", "is no name of a host"),
        ("1.2.3:80", "is no name of a host"),
        (":80", "is no name of a host"),
    ] {
        let told = message(endpoint(text));
        assert!(told.contains(reason), "{text}: {told}");
    }
}

#[test]
fn listeners_have_an_ip_address_and_a_port() {
    for text in [
        "127.0.0.1:8080",
        "[::1]:8080",
        "0.0.0.0:0",
        "unix:/run/a.sock",
    ] {
        assert_eq!(listen_address(text).unwrap().to_string(), text);
    }
    for (text, reason) in [
        ("8080", "`127.0.0.1:8080` for this host"),
        (":80", "`0.0.0.0:80` for every network"),
        ("localhost:80", "did you mean `127.0.0.1:80`?"),
        ("::1", "did you mean `[::1]:8080`?"),
        ("*:80", "did you mean `0.0.0.0:80`?"),
        ("127.0.0.1:70000", "`70000` is no port"),
        ("payments:80", "needs an IP address"),
        ("unix:a", "is absolute"),
    ] {
        let told = message(listen_address(text));
        assert!(told.contains(reason), "{text}: {told}");
    }
}

#[test]
fn hosts_are_exact_or_all_below_one() {
    assert_eq!(
        host_pattern("A.internal"),
        Ok(HostPattern::Exact("a.internal".into()))
    );
    assert_eq!(
        host_pattern("*.Internal"),
        Ok(HostPattern::Suffix(".internal".into()))
    );
    assert_eq!(
        host_pattern("10.0.0.1"),
        Ok(HostPattern::Exact("10.0.0.1".into()))
    );
    assert_eq!(
        host_pattern("[::1]"),
        Ok(HostPattern::Exact("[::1]".into()))
    );
    for text in ["*", "*.", "a*.b", "", "a b", "*internal", "a:80", "a/b"] {
        assert!(host_pattern(text).is_err(), "{text}");
    }
}

#[test]
fn expressions_match_whole_texts_only() {
    let either = whole("a|b").unwrap();
    assert!(
        either.is_match("a")
            && either.is_match("b")
            && !either.is_match("ab")
            && !either.is_match("xb")
    );
    assert!(message(whole("a)(b")).contains("unopened group"));
    assert!(message(whole("(a{1000}){1000}")).contains("is no regular expression"));
}

#[test]
fn statuses_are_three_digits_or_a_hundred() {
    assert!(statuses("503").unwrap().contains(503));
    assert_eq!(statuses("4xx").unwrap().iter().count(), 100);
    for text in ["99", "600", "0503", "5x", "xx", "6xx", "+50"] {
        assert!(statuses(text).is_err(), "{text}");
    }
}

#[test]
fn a_breaker_ignores_statuses_and_codes() {
    let (statuses, codes) = ignorable("unknown").unwrap();
    assert!(statuses.is_empty() && codes.contains(Code::Unknown));
    assert!(ignorable("5xx").unwrap().0.contains(501));
    let told = message(ignorable("unavailible").map(drop));
    assert!(told.contains("did you mean `unavailable`?"), "{told}");
    assert!(message(ignorable("600").map(drop)).contains("no status"));
}

#[test]
fn conditions_are_those_of_the_policies() {
    for word in retry::WORDS {
        assert_eq!(retry_condition(word), Ok(()), "{word}");
    }
    for word in fallback::WORDS {
        assert_eq!(fallback_condition(word), Ok(()), "{word}");
    }
    for text in ["deadline-exceeded", "DEADLINE_EXCEEDED"] {
        let told = message(retry_condition(text));
        assert!(told.contains("did you mean `deadline_exceeded`?"), "{told}");
    }
    assert!(message(retry_condition("ok")).contains("cannot be a condition"));
    assert!(message(retry_condition("rest")).contains("did you mean `reset`?"));
    assert!(message(retry_condition("whenever")).contains("one of `connect_failure`"));
    assert!(message(retry_condition("breaker_open")).contains("cannot be a condition"));
}

#[test]
fn other_texts() {
    assert!(name("a.b-C_9").is_ok() && name(&"a".repeat(65)).is_err() && name("a b").is_err());
    assert!(
        path("/a/b%20c").is_ok()
            && path("/a b").is_err()
            && path("/ä").is_err()
            && path("/a#b").is_err()
    );
    assert!(file("./off").is_ok() && message(file("access.log")).contains("`./access.log`"));
    assert!(
        url("https://a/{error_code}").is_ok()
            && url("https://a b").is_err()
            && url("ftp://a").is_err()
    );
    assert!(value("a\tb").is_ok() && value("a\nb").is_err() && value("").is_ok());
    assert!(host_value("a:80").is_ok() && host_value("a b").is_err());
    assert!(
        method("M-SEARCH").is_ok()
            && message(method("get")).contains("`GET`")
            && method("").is_err()
    );
    assert!(one_line(" ").is_err() && header_name("x:y").is_err());
}
