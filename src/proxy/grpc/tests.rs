//! What a call is, and how an answer of ours looks. How calls are judged is tested with the pipeline.

use http::Request;

use super::*;

fn call(headers: &[(&str, &str)]) -> Option<Box<Call>> {
    let mut request = Request::post("/a.B/C").version(Version::HTTP_2);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let (head, ()) = request.body(()).unwrap().into_parts();
    Call::of(&head, clock::now())
}

#[test]
fn a_call_is_known_by_its_content_type() {
    for (kind, expected) in [
        ("application/grpc", true),
        ("application/grpc+proto", true),
        ("application/grpc;charset=utf-8", true),
        ("application/grpc-web", false),
        ("application/grpc-web+proto", false),
        ("application/grpcx", false),
        ("application/json", false),
        ("", false),
    ] {
        assert_eq!(
            call(&[("content-type", kind)]).is_some(),
            expected,
            "{kind}"
        );
    }
    assert!(call(&[]).is_none());
}

#[test]
fn rule_6_a_try_is_told_what_is_left_and_how_often_the_call_was_made() {
    let began = clock::now();
    let told = |headers: &[(&str, &str)], number, later: u64| {
        let mut all = vec![("content-type", "application/grpc")];
        all.extend(headers);
        let mut request = Request::post("/a.B/C");
        for (name, value) in &all {
            request = request.header(*name, *value);
        }
        let (mut head, ()) = request.body(()).unwrap().into_parts();
        let call = Call::of(&head, began).unwrap();
        call.for_try(
            &mut head.headers,
            number,
            began + Duration::from_millis(later),
        );
        let text = |name: HeaderName| {
            head.headers
                .get(name)
                .map(|value| value.to_str().unwrap().to_owned())
        };
        (text(TIMEOUT), text(PREVIOUS))
    };
    let some = |text: &str| Some(text.to_owned());
    assert_eq!(told(&[], 1, 9), (None, None));
    assert_eq!(told(&[], 3, 9), (None, some("2")));
    assert_eq!(
        told(&[("grpc-timeout", "2S")], 1, 500),
        (some("1500000u"), None)
    );
    assert_eq!(
        told(&[("grpc-timeout", "2S")], 2, 1_999),
        (some("1000000n"), some("1"))
    );
    assert_eq!(told(&[("grpc-timeout", "2S")], 2, 2_001).0, some("1n"));
    assert_eq!(
        told(&[("grpc-timeout", "soon")], 1, 5),
        (some("soon"), None)
    );
    let again = [("grpc-previous-rpc-attempts", "2")];
    assert_eq!(told(&again, 1, 0).1, some("2"));
    assert_eq!(told(&again, 2, 0).1, some("3"));
}

#[test]
fn rule_73_a_message_is_percent_encoded() {
    let call = call(&[("content-type", "application/grpc+json")]).unwrap();
    let mut headers = HeaderMap::new();
    call.end(
        &mut headers,
        Code::Unavailable,
        "100% of 'a' ~\n\u{e4}".as_bytes(),
    );
    assert_eq!(headers[CONTENT_TYPE], "application/grpc+json");
    assert_eq!(headers[STATUS], "14");
    assert_eq!(headers[MESSAGE], "100%25 of 'a' ~%0A%C3%A4");
    let mut headers = HeaderMap::new();
    end(&mut headers, Code::Ok, b"");
    assert_eq!(headers.len(), 1);
    assert_eq!(framed(b"abc"), b"\0\0\0\0\x03abc"[..]);
    assert_eq!(framed(b""), [0; 5][..]);
}
