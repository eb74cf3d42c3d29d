//! What the API says, as far as we read it: lists, events and EndpointSlices. Everything else in its
//! JSON is passed over, since a later version may add to it.

use std::net::IpAddr;
use std::sync::Arc;

use serde::Deserialize;

/// One page of a list.
#[derive(Debug, Deserialize)]
pub(super) struct Page {
    #[serde(default)]
    pub(super) metadata: PageMeta,
    #[serde(default)]
    items: Option<Vec<Object>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct PageMeta {
    /// From where a watch goes on.
    pub(super) resource_version: Option<Box<str>>,
    /// What the next page is asked for with.
    #[serde(rename = "continue")]
    pub(super) next: Option<Box<str>>,
}

/// One line of a watch.
#[derive(Debug, Deserialize)]
struct Event {
    #[serde(rename = "type")]
    kind: Box<str>,
    object: Object,
}

/// What a watch tells.
#[derive(Debug)]
pub(super) enum Told {
    /// A slice is new or has changed.
    Is(Version, Slice),
    /// A slice is gone.
    Gone(Version, Box<str>),
    /// Nothing but how far the watch has come.
    Bookmark(Version),
    /// The API cannot go on.
    Error(Status),
}

/// How far a watch has come. It means something to the API only.
pub(super) type Version = Box<str>;

/// Why the API does not do what it was asked.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Status {
    pub(super) code: Option<u16>,
    pub(super) message: Option<Box<str>>,
}

/// A slice, or in its place a status: an event has either.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Object {
    metadata: Option<Meta>,
    address_type: Option<Box<str>>,
    endpoints: Option<Vec<ObjectEndpoint>>,
    ports: Option<Vec<ObjectPort>>,
    code: Option<u16>,
    message: Option<Box<str>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Meta {
    name: Option<Box<str>>,
    resource_version: Option<Box<str>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct ObjectEndpoint {
    addresses: Option<Vec<Box<str>>>,
    conditions: Option<Conditions>,
    hints: Option<Hints>,
    target_ref: Option<TargetRef>,
    zone: Option<Box<str>>,
}

#[derive(Debug, Clone, Copy, Default, Deserialize)]
#[serde(default)]
struct Conditions {
    ready: Option<bool>,
    serving: Option<bool>,
    terminating: Option<bool>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Hints {
    for_zones: Option<Vec<ForZone>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct ForZone {
    name: Box<str>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct TargetRef {
    uid: Option<Box<str>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct ObjectPort {
    name: Option<Box<str>>,
    port: Option<u32>,
    protocol: Option<Box<str>>,
}

/// An EndpointSlice, as far as it matters to us.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Slice {
    /// Its name in its namespace.
    pub(super) name: Box<str>,
    /// The type of its addresses where they are none that one can connect to, such as `FQDN`.
    pub(super) foreign: Option<Box<str>>,
    /// Its endpoints; none where they are `foreign`.
    pub(super) endpoints: Vec<Endpoint>,
    /// How many endpoints it lists that we cannot use.
    pub(super) unusable: usize,
    /// Its ports of TCP.
    pub(super) ports: Vec<Port>,
}

/// One endpoint of a slice; mostly a pod.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Endpoint {
    /// Where it is, without a port.
    pub(super) address: IpAddr,
    /// How it is.
    pub(super) state: State,
    /// Where it is located.
    pub(super) zone: Option<Arc<str>>,
    /// The zones that are to use it; empty: nothing is said.
    pub(super) for_zones: Vec<Arc<str>>,
    /// Which pod it is: of a pod with two addresses, both slices say the same.
    pub(super) pod: Option<Arc<str>>,
}

/// How an endpoint is; the later, the better.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum State {
    /// It is not to be used.
    NotReady,
    /// It is about to end, and still serves.
    Draining,
    /// It serves.
    Ready,
}

/// One port of a slice.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Port {
    /// Its name; empty where the service has but one.
    pub(super) name: Box<str>,
    /// Its number at the pods; `None`: any.
    pub(super) number: Option<u16>,
}

impl Page {
    /// Reads a page. The error says what is wrong with it.
    pub(super) fn read(json: &[u8]) -> Result<Self, String> {
        serde_json::from_slice(json).map_err(|error| format!("no list of EndpointSlices: {error}"))
    }

    /// Its slices.
    pub(super) fn slices(&mut self) -> Result<Vec<Slice>, String> {
        let items = self.items.take().unwrap_or_default();
        items.into_iter().map(|item| Ok(item.slice()?.1)).collect()
    }
}

impl Told {
    /// Reads a line of a watch; `None`: a kind of event that we do not know, and need not.
    pub(super) fn read(json: &[u8]) -> Result<Option<Self>, String> {
        let event: Event =
            serde_json::from_slice(json).map_err(|error| format!("no event: {error}"))?;
        Ok(Some(match &*event.kind {
            "ADDED" | "MODIFIED" => {
                let (version, slice) = event.object.slice()?;
                Self::Is(version, slice)
            }
            "DELETED" => {
                let (name, version) = event.object.known_by()?;
                Self::Gone(version, name)
            }
            "BOOKMARK" => Self::Bookmark(event.object.version()?),
            "ERROR" => Self::Error(Status {
                code: event.object.code,
                message: event.object.message,
            }),
            _ => return Ok(None),
        }))
    }
}

impl Object {
    fn version(self) -> Result<Version, String> {
        let version = self.metadata.and_then(|meta| meta.resource_version);
        version.ok_or_else(|| "an object without a resourceVersion".to_owned())
    }

    fn known_by(self) -> Result<(Box<str>, Version), String> {
        let meta = self.metadata.unwrap_or_default();
        let name = meta.name.filter(|name| !name.is_empty());
        match (name, meta.resource_version) {
            (Some(name), version) => Ok((name, version.unwrap_or_default())),
            (None, _) => Err("an EndpointSlice without a name".to_owned()),
        }
    }

    fn slice(mut self) -> Result<(Version, Slice), String> {
        let kind = self.address_type.take().unwrap_or_default();
        let endpoints = self.endpoints.take().unwrap_or_default();
        let ports = self.ports.take().unwrap_or_default();
        let (name, version) = self.known_by()?;
        let count = endpoints.len();
        let is_ip = matches!(&*kind, "IPv4" | "IPv6");
        let usable: Vec<Endpoint> = endpoints
            .into_iter()
            .filter(|_| is_ip)
            .filter_map(ObjectEndpoint::usable)
            .collect();
        let slice = Slice {
            name,
            unusable: count - usable.len(),
            foreign: (!is_ip).then_some(kind),
            endpoints: usable,
            ports: ports.into_iter().filter_map(ObjectPort::usable).collect(),
        };
        Ok((version, slice))
    }
}

impl ObjectEndpoint {
    /// `None`: it has no address. What further addresses would mean, nobody has defined.
    fn usable(self) -> Option<Endpoint> {
        let address = self.addresses?.first()?.parse().ok()?;
        let hints = self.hints.and_then(|hints| hints.for_zones);
        let for_zones = hints.unwrap_or_default().into_iter();
        Some(Endpoint {
            address,
            state: self.conditions.unwrap_or_default().state(),
            zone: self.zone.filter(|zone| !zone.is_empty()).map(Arc::from),
            for_zones: for_zones.map(|zone| zone.name.into()).collect(),
            pod: self.target_ref.and_then(|pod| pod.uid).map(Arc::from),
        })
    }
}

impl Conditions {
    /// As the API defines it: what is unset is ready; `serving` is as `ready` unless it is set; and who
    /// ends is not ready, whether it serves or not.
    fn state(self) -> State {
        let ready = self.ready.unwrap_or(true);
        let serving = self.serving.unwrap_or(ready);
        match (ready, serving && self.terminating.unwrap_or(false)) {
            (true, _) => State::Ready,
            (false, true) => State::Draining,
            (false, false) => State::NotReady,
        }
    }
}

impl ObjectPort {
    /// `None`: it is none of TCP, or no port.
    fn usable(self) -> Option<Port> {
        let number = match self.port {
            None => None,
            Some(number) => Some(u16::try_from(number).ok().filter(|number| *number > 0)?),
        };
        let tcp = self.protocol.is_none_or(|protocol| &*protocol == "TCP");
        tcp.then(|| Port {
            name: self.name.unwrap_or_default(),
            number,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SLICE: &str = r#"{"apiVersion":"discovery.k8s.io/v1","kind":"EndpointSlice",
        "metadata":{"name":"payments-x7","namespace":"shop","resourceVersion":"41",
            "labels":{"kubernetes.io/service-name":"payments"},"managedFields":[{"manager":"m"}]},
        "addressType":"IPv4",
        "endpoints":[
            {"addresses":["10.0.0.1"],"conditions":{"ready":true,"serving":true,"terminating":false},
             "nodeName":"n1","zone":"a","hints":{"forZones":[{"name":"a"}]},
             "targetRef":{"kind":"Pod","name":"p-1","uid":"u1"}},
            {"addresses":["10.0.0.2"],"conditions":{"ready":false,"serving":true,"terminating":true}},
            {"addresses":["10.0.0.3"],"conditions":{"ready":null},"hints":null,"zone":null},
            {"addresses":["nonsense"]},{"addresses":[]}],
        "ports":[{"name":"http","port":8080,"protocol":"TCP"},{"name":"dns","port":53,"protocol":"UDP"},
            {"name":"","port":9090},{"name":"odd","port":70000}]}"#;

    fn read(slice: &str) -> Slice {
        let mut page = Page::read(format!("{{\"items\":[{slice}]}}").as_bytes()).unwrap();
        page.slices().unwrap().remove(0)
    }

    #[test]
    fn a_slice_is_read_as_far_as_it_matters() {
        let slice = read(SLICE);
        assert_eq!(
            (&*slice.name, slice.unusable, &slice.foreign),
            ("payments-x7", 2, &None)
        );
        let states: Vec<_> = slice
            .endpoints
            .iter()
            .map(|one| (one.address.to_string(), one.state))
            .collect();
        let expected = [
            ("10.0.0.1", State::Ready),
            ("10.0.0.2", State::Draining),
            ("10.0.0.3", State::Ready),
        ];
        assert_eq!(
            states,
            expected.map(|(address, state)| (address.to_owned(), state))
        );
        let first = &slice.endpoints[0];
        assert_eq!(first.zone.as_deref(), Some("a"));
        assert_eq!(first.for_zones, ["a".into()]);
        assert_eq!(first.pod.as_deref(), Some("u1"));
        let ports: Vec<_> = slice
            .ports
            .iter()
            .map(|one| (&*one.name, one.number))
            .collect();
        assert_eq!(ports, [("http", Some(8080)), ("", Some(9090))]);
    }

    #[test]
    fn conditions_that_are_unset_mean_what_the_api_says() {
        let t = Some(true);
        let f = Some(false);
        for (ready, serving, terminating, state) in [
            (None, None, None, State::Ready),
            (t, t, f, State::Ready),
            // The service publishes addresses that are not ready.
            (t, t, t, State::Ready),
            (f, t, t, State::Draining),
            (f, None, t, State::NotReady),
            (f, f, t, State::NotReady),
            (f, t, f, State::NotReady),
            (f, t, None, State::NotReady),
            (None, f, t, State::Ready),
        ] {
            let conditions = Conditions {
                ready,
                serving,
                terminating,
            };
            assert_eq!(conditions.state(), state, "{conditions:?}");
        }
    }

    #[test]
    fn what_is_null_or_absent_is_nothing() {
        let slice =
            read(r#"{"metadata":{"name":"a"},"addressType":"IPv6","endpoints":null,"ports":null}"#);
        assert!(slice.endpoints.is_empty() && slice.ports.is_empty() && slice.foreign.is_none());
        let slice = read(
            r#"{"metadata":{"name":"a"},"addressType":"FQDN","endpoints":[{"addresses":["a.example"]}]}"#,
        );
        assert_eq!(
            (slice.foreign.as_deref(), slice.unusable),
            (Some("FQDN"), 1)
        );
        let mut page =
            Page::read(br#"{"metadata":{"resourceVersion":"7","continue":"more"},"items":null}"#)
                .unwrap();
        assert!(page.slices().unwrap().is_empty());
        assert_eq!(page.metadata.resource_version.as_deref(), Some("7"));
        assert_eq!(page.metadata.next.as_deref(), Some("more"));
    }

    #[test]
    fn every_kind_of_event_is_known_and_others_are_passed_over() {
        let event = |kind: &str, object: &str| {
            Told::read(format!("{{\"type\":\"{kind}\",\"object\":{object}}}").as_bytes())
        };
        assert!(
            matches!(event("ADDED", SLICE), Ok(Some(Told::Is(version, _))) if &*version == "41")
        );
        assert!(matches!(event("MODIFIED", SLICE), Ok(Some(Told::Is(..)))));
        let gone = event("DELETED", SLICE);
        assert!(matches!(gone, Ok(Some(Told::Gone(_, name))) if &*name == "payments-x7"));
        let bookmark = event(
            "BOOKMARK",
            r#"{"kind":"EndpointSlice","metadata":{"resourceVersion":"99"}}"#,
        );
        assert!(matches!(bookmark, Ok(Some(Told::Bookmark(version))) if &*version == "99"));
        let error = event(
            "ERROR",
            r#"{"kind":"Status","code":410,"reason":"Expired","message":"too old"}"#,
        );
        assert!(matches!(error, Ok(Some(Told::Error(status))) if status.code == Some(410)));
        assert!(matches!(event("NEWS", "{}"), Ok(None)));
    }

    #[test]
    fn what_is_no_event_is_said() {
        for (line, said) in [
            (&b"nonsense"[..], "no event: expected"),
            (br#"{"type":"ADDED"}"#, "missing field `object`"),
            (
                br#"{"type":"ADDED","object":{"metadata":{}}}"#,
                "without a name",
            ),
            (
                br#"{"type":"BOOKMARK","object":{}}"#,
                "without a resourceVersion",
            ),
            (
                br#"{"type":"ADDED","object":{"metadata":{"name":"a"},"endpoints":5}}"#,
                "invalid type",
            ),
            (b"\xff\xfe", "no event"),
        ] {
            let error = Told::read(line).unwrap_err();
            assert!(error.contains(said), "{error}");
        }
        assert!(Page::read(b"7").is_err_and(|error| error.starts_with("no list")));
    }
}
