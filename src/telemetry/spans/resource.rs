//! Whose spans they are: the service that we stand beside, this process, and what the environment's
//! OTEL_RESOURCE_ATTRIBUTES says, as it does to every program that exports spans.

use super::encode::Attributes;
use crate::telemetry::protobuf::Message;

/// What the environment calls them.
const VARIABLE: &str = "OTEL_RESOURCE_ATTRIBUTES";
/// Where the system says what this host is called; in a pod it is the pod's name.
const HOST_NAME: &str = "/proc/sys/kernel/hostname";
/// Those that are ours to say.
const OURS: [&str; 6] = [
    "service.name",
    "telemetry.sdk.name",
    "telemetry.sdk.language",
    "telemetry.sdk.version",
    "process.pid",
    "host.name",
];

/// Writes them, as a field of a message `ResourceSpans`.
pub(super) fn write(to: &mut Vec<u8>, service: &str) {
    let given = std::env::var(VARIABLE).unwrap_or_default();
    let host = std::fs::read_to_string(HOST_NAME).ok();
    write_with(to, service, host.as_deref().map(str::trim), &given);
}

fn write_with(to: &mut Vec<u8>, service: &str, host: Option<&str>, given: &str) {
    const RESOURCE: u8 = 1;
    const ATTRIBUTES: u8 = 1;
    Message::new(to).message(RESOURCE, |resource| {
        let mut to = Attributes::new(resource, ATTRIBUTES);
        let program = env!("CARGO_PKG_NAME");
        to.text("service.name", service);
        to.text("telemetry.sdk.name", program);
        to.text("telemetry.sdk.language", "rust");
        to.text("telemetry.sdk.version", env!("CARGO_PKG_VERSION"));
        to.number("process.pid", i64::from(std::process::id()));
        if let Some(host) = host {
            to.text("host.name", host);
        }
        for (key, value) in pairs(given).filter(|(key, _)| !OURS.contains(key)) {
            to.text(key, value);
        }
    });
}

/// `deployment.environment.name=test,k8s.pod.name=orders-0`, with values percent-encoded.
fn pairs(given: &str) -> impl Iterator<Item = (&str, String)> {
    given.split(',').filter_map(|pair| {
        let (key, value) = pair.split_once('=')?;
        let key = key.trim();
        (!key.is_empty()).then(|| (key, decoded(value.trim())))
    })
}

/// Without percent-encoding; what is none stays as it is.
fn decoded(value: &str) -> String {
    let mut bytes = Vec::with_capacity(value.len());
    let mut rest = value.as_bytes();
    while let [first, after @ ..] = rest {
        let digits = after.get(..2).filter(|_| *first == b'%');
        let byte = digits
            .and_then(|digits| std::str::from_utf8(digits).ok())
            .and_then(|digits| u8::from_str_radix(digits, 16).ok());
        bytes.push(byte.unwrap_or(*first));
        rest = if byte.is_some() { &after[2..] } else { after };
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_environment_says_is_read() {
        let given = "a=1, b = two%20words%2C ,=x,no,c=%zz%,d=a=b,e=";
        let read: Vec<_> = pairs(given).collect();
        let expected = [
            ("a", "1"),
            ("b", "two words,"),
            ("c", "%zz%"),
            ("d", "a=b"),
            ("e", ""),
        ];
        assert_eq!(read, expected.map(|(key, value)| (key, value.to_owned())));
        assert_eq!(pairs("").count(), 0);
    }

    #[test]
    fn what_is_ours_to_say_is_said_once() {
        let mut bytes = Vec::new();
        let given = "service.name=other,deployment.environment.name=test";
        write_with(&mut bytes, "orders", Some("pod-1"), given);
        let text = String::from_utf8_lossy(&bytes);
        assert_eq!(text.matches("service.name").count(), 1);
        assert!(!text.contains("other"), "{text}");
        for told in ["orders", "pod-1", "deployment.environment.name", "test"] {
            assert!(text.contains(told), "{told}: {text}");
        }
    }
}
