//! What is told of a service, and how often.

use super::objects::Page;
use super::*;
use crate::telemetry::Telemetry;

/// So many endpoints, none of which is ready.
fn unready(count: usize) -> Seen {
    let endpoint = |number| {
        format!("{{\"addresses\":[\"10.0.0.{number}\"],\"conditions\":{{\"ready\":false}}}}")
    };
    let endpoints: Vec<String> = (1..=count).map(endpoint).collect();
    let page = format!(
        "{{\"items\":[{{\"metadata\":{{\"name\":\"a\"}},\"addressType\":\"IPv4\",\"endpoints\":[{}],\
         \"ports\":[{{\"name\":\"http\",\"port\":80}}]}}]}}",
        endpoints.join(",")
    );
    let slices = Page::read(page.as_bytes()).unwrap().slices().unwrap();
    let named = slices
        .into_iter()
        .map(|one| (one.name.clone(), Arc::new(one)));
    Seen {
        slices: Some(Arc::new(named.collect())),
        problem: None,
    }
}

#[test]
fn a_remark_is_made_once_however_its_numbers_change() {
    let telemetry = Arc::<Telemetry>::default();
    let source = Address::Kubernetes {
        namespace: "shop".into(),
        service: "payments".into(),
        port: "http".into(),
    };
    let audience = super::super::feed::Audience {
        name: "u".into(),
        upstream: None,
        listeners: Vec::new(),
    };
    let feed = Feed::new(source, vec![audience], &telemetry);
    let wanted = Wanted {
        port: "http",
        zone: None,
        seed: 7,
    };
    let mut remarks = Vec::new();
    let mut told = |seen: &Seen| {
        tell(&feed, seen, wanted, &mut remarks);
        let events = telemetry.events().recent();
        events
            .iter()
            .filter(|one| one.text.contains("none of its endpoints"))
            .count()
    };
    for count in [3, 2, 1] {
        assert_eq!(told(&unready(count)), 1, "{count}");
    }
    // It has been well in between.
    let none = Seen {
        slices: Some(Arc::default()),
        problem: None,
    };
    assert_eq!(told(&none), 1);
    assert_eq!(told(&unready(2)), 2);
}
