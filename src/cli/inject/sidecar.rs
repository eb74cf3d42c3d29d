//! What is put into a pod: the container, its volume, and what tells Prometheus where to look.

use super::edit::Fragment;
use super::{Inject, Mode};

/// The name of the container and of the volume.
pub(super) const NAME: &str = "mamparo";
/// The annotation that says whether a pod is scraped.
pub(super) const SCRAPE: &str = "prometheus.io/scrape";

/// The annotation that says whose logs kubectl shows.
pub(super) const DEFAULT_CONTAINER: &str = "kubectl.kubernetes.io/default-container";

/// How long a plain container goes on as before while the application ends. Kubernetes stops both at
/// once, and the application's last calls must still get through.
const OUTLIVE: u32 = 20;
/// What a pod with a plain container needs in all: [`OUTLIVE`], then `runtime.drain` at its default, and
/// some room.
pub(super) const PLAIN_GRACE: u32 = 60;

/// The container, as it is in deploy/kubernetes.
const CONTAINER: &str = include_str!("sidecar.yaml");

/// The container.
pub(super) fn container(inject: &Inject) -> Fragment {
    let image = format!("image: {}", scalar(&inject.image));
    let (native, plain) = match inject.mode {
        Mode::Native => ("restartPolicy: Always", None),
        Mode::Plain => ("", Some(OUTLIVE)),
    };
    let mut text = String::new();
    for line in CONTAINER.lines() {
        let line = match line {
            "image: mamparo" => &image,
            "restartPolicy: Always" => native,
            line => line,
        };
        if !line.is_empty() {
            text.push_str(line);
            text.push('\n');
        }
    }
    if let Some(seconds) = plain {
        text.push_str(&lifecycle(seconds));
    }
    Fragment(text)
}

/// Begin and end of a plain container. The next container is started when `postStart` has ended. It asks
/// where the probes do: the address of the admin interface is the configuration's to say.
fn lifecycle(seconds: u32) -> String {
    let command = [
        "mamparo",
        "probe",
        "--admin",
        "127.0.0.1:9902",
        "--wait",
        "60s",
    ];
    let command: String = command
        .iter()
        .map(|word| format!("        - {word}\n"))
        .collect();
    format!(
        "lifecycle:\n  postStart:\n    exec:\n      command:\n{command}  \
         preStop:\n    sleep:\n      seconds: {seconds}\n"
    )
}

/// The volume with the configuration: a folder, so that a changed ConfigMap is a reload.
pub(super) fn volume(inject: &Inject) -> Fragment {
    let config_map = scalar(&inject.config_map);
    Fragment(format!("name: {NAME}\nconfigMap:\n  name: {config_map}\n"))
}

/// Where Prometheus finds the metrics; a line each.
pub(super) fn scraped() -> String {
    format!("{SCRAPE}: \"true\"\nprometheus.io/port: \"9902\"\nprometheus.io/path: /metrics\n")
}

/// Whose logs kubectl shows; a line.
pub(super) fn default_container(name: &str) -> String {
    format!("{DEFAULT_CONTAINER}: {}\n", scalar(name))
}

/// A text as one YAML value: plain where nothing else could be read in it.
fn scalar(text: &str) -> String {
    let begins = text.starts_with(|first: char| first.is_ascii_alphabetic());
    let plain = text
        .chars()
        .all(|c| c.is_ascii_alphanumeric() || "._/:@-".contains(c));
    let word = ["true", "false", "null", "yes", "no", "on", "off", "y", "n"]
        .contains(&text.to_ascii_lowercase().as_str());
    if begins && plain && !word && !text.ends_with(':') {
        text.to_owned()
    } else {
        serde_json::Value::from(text).to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_stays_one_text() {
        for plain in ["mamparo:0.1.0", "registry.example.com/a/mamparo@sha256:00"] {
            assert_eq!(scalar(plain), plain);
        }
        for quoted in [
            "", "1", "1.5", "true", "No", "a: b", "a\nb: c", "a:", "*a", "-",
        ] {
            assert_eq!(scalar(quoted), format!("{quoted:?}"));
        }
    }
}
