//! How the API is reached: where it is, who signs its certificate, and what we show it. Files are read
//! anew for each request, since the system writes a new token every hour.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use bytes::Bytes;
use http::header::{ACCEPT, AUTHORIZATION, HOST, RETRY_AFTER, USER_AGENT};
use http::{HeaderValue, Request};
use http_body_util::Full;
use hyper::body::Incoming;

use super::pace::Pace;
use crate::errand::{Line, Server};
use crate::live::wire::{Dialer, Pipe};
use crate::plan::cluster::{Api, Cluster};

/// Where a pod finds the token, the authority and the namespace of its service account.
pub(super) const SERVICE_ACCOUNT: &str = "/var/run/secrets/kubernetes.io/serviceaccount";

/// The largest token that is read.
const LONGEST_TOKEN: u64 = 64 << 10;

/// The way to one API.
#[derive(Debug)]
pub(super) struct Access {
    pub(super) api: Api,
    pub(super) token_file: Option<PathBuf>,
    ca: Option<PathBuf>,
    dialer: Dialer,
}

/// The head of an answer, and its body to come. Dropped, it closes the connection.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) status: u16,
    /// When the API wants to be asked again.
    pub(super) retry_after: Option<Duration>,
    pub(super) body: Incoming,
    _line: Line,
}

impl Access {
    /// The way that the configuration names, and where it is silent the surroundings of a pod: its
    /// environment, and the folder of its service account.
    ///
    /// # Errors
    /// A sentence: this is no pod, and no API is configured.
    pub(super) fn of(
        cluster: &Cluster,
        service_account: &Path,
        environment: &dyn Fn(&str) -> Option<String>,
        dialer: Dialer,
    ) -> Result<Self, String> {
        let of_pod = |file: &str| cluster.api.is_none().then(|| service_account.join(file));
        let api = match &cluster.api {
            Some(api) => api.clone(),
            None => of_environment(environment)?,
        };
        Ok(Self {
            api,
            token_file: cluster.token_file.clone().or_else(|| of_pod("token")),
            ca: cluster.ca.clone().or_else(|| of_pod("ca.crt")),
            dialer,
        })
    }

    /// Asks for something below the API, and waits for the head of the answer.
    ///
    /// # Errors
    /// A sentence: the API cannot be reached, or does not answer in time.
    pub(super) async fn get(&self, target: &str, pace: &Pace) -> Result<Answer, String> {
        let api = &self.api;
        let request = self.request(target)?;
        let server = Server {
            host: &api.host,
            port: api.port,
            tls: api.tls,
            ca: self.ca.as_deref(),
            called: api,
        };
        let pipe = server.connect(&self.dialer, pace.connect).await?;
        let asking = tokio::time::timeout(pace.answer, self.ask(pipe, request));
        match asking.await {
            Ok(answered) => answered,
            Err(_) => Err(format!("{api} did not answer within {:?}", pace.answer)),
        }
    }

    fn request(&self, target: &str) -> Result<Request<Full<Bytes>>, String> {
        let api = &self.api;
        let host = if api.host.contains(':') {
            format!("[{}]:{}", api.host, api.port)
        } else {
            format!("{}:{}", api.host, api.port)
        };
        let mut request = Request::get(format!("{}{target}", api.path))
            .header(HOST, host)
            .header(ACCEPT, "application/json")
            .header(USER_AGENT, concat!("mamparo/", env!("CARGO_PKG_VERSION")));
        if let Some(file) = &self.token_file {
            request = request.header(AUTHORIZATION, bearer(file)?);
        }
        let request = request.body(Full::default());
        request.map_err(|error| format!("`{target}` cannot be asked for: {error}"))
    }

    async fn ask(
        &self,
        pipe: Box<dyn Pipe>,
        request: Request<Full<Bytes>>,
    ) -> Result<Answer, String> {
        let failed = |error: hyper::Error| format!("{} gave no answer: {error}", self.api);
        let mut line = Line::over(pipe).await.map_err(failed)?;
        let answer = line.ask(request).await.map_err(failed)?;
        let (head, body) = answer.into_parts();
        let retry_after = head.headers.get(RETRY_AFTER);
        let seconds = retry_after.and_then(|value| value.to_str().ok()?.parse().ok());
        Ok(Answer {
            status: head.status.as_u16(),
            retry_after: seconds.map(Duration::from_secs),
            body,
            _line: line,
        })
    }
}

/// Where a pod's environment says that the API is.
fn of_environment(environment: &dyn Fn(&str) -> Option<String>) -> Result<Api, String> {
    let set = |name: &str| environment(name).filter(|value| !value.is_empty());
    let Some(host) = set("KUBERNETES_SERVICE_HOST") else {
        return Err(
            "this process is in no pod, since KUBERNETES_SERVICE_HOST is not set; outside of a \
             cluster, set runtime.kubernetes.api, such as http://127.0.0.1:8001 for `kubectl proxy`"
                .to_owned(),
        );
    };
    let port = set("KUBERNETES_SERVICE_PORT").unwrap_or_else(|| "443".to_owned());
    let port = port
        .parse()
        .map_err(|_| format!("KUBERNETES_SERVICE_PORT is `{port}`, which is no port"))?;
    Ok(Api {
        tls: true,
        host: host.into(),
        port,
        path: "".into(),
    })
}

/// What is shown to the API. No error tells what is in the file.
fn bearer(file: &Path) -> Result<HeaderValue, String> {
    let named = file.display();
    let token = read_bounded(file).map_err(|error| {
        format!(
            "the token {named} cannot be read: {error} (a pod has one unless \
             automountServiceAccountToken is false)"
        )
    })?;
    let token = token.trim();
    if token.is_empty() {
        return Err(format!("the token {named} is empty"));
    }
    let value = HeaderValue::try_from(format!("Bearer {token}"));
    let mut value =
        value.map_err(|_| format!("the token {named} has characters that none can have"))?;
    value.set_sensitive(true);
    Ok(value)
}

fn read_bounded(file: &Path) -> io::Result<String> {
    use io::Read;
    let mut text = String::new();
    let mut bounded = std::fs::File::open(file)?.take(LONGEST_TOKEN);
    bounded.read_to_string(&mut text)?;
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(cluster: &Cluster, variables: &[(&str, &str)]) -> Result<Access, String> {
        let environment = |wanted: &str| {
            let found = variables.iter().find(|(name, _)| *name == wanted);
            found.map(|(_, value)| (*value).to_owned())
        };
        Access::of(cluster, Path::new("/sa"), &environment, Dialer::System)
    }

    #[test]
    fn a_pod_is_told_by_its_surroundings() {
        let pod = [
            ("KUBERNETES_SERVICE_HOST", "10.96.0.1"),
            ("KUBERNETES_SERVICE_PORT", "6443"),
        ];
        let access = of(&Cluster::default(), &pod).unwrap();
        assert_eq!(access.api.to_string(), "https://10.96.0.1:6443");
        assert_eq!(access.token_file.as_deref(), Some(Path::new("/sa/token")));
        assert_eq!(access.ca.as_deref(), Some(Path::new("/sa/ca.crt")));
        let v6 = of(
            &Cluster::default(),
            &[("KUBERNETES_SERVICE_HOST", "fd00::1")],
        )
        .unwrap();
        assert_eq!(v6.api.to_string(), "https://[fd00::1]:443");
        let own = Cluster {
            token_file: Some("/t".into()),
            ..Cluster::default()
        };
        let access = of(&own, &pod).unwrap();
        assert_eq!(access.token_file.as_deref(), Some(Path::new("/t")));
        assert_eq!(access.ca.as_deref(), Some(Path::new("/sa/ca.crt")));
    }

    #[test]
    fn elsewhere_the_configuration_says_and_nothing_of_a_pod_is_taken() {
        let error = of(&Cluster::default(), &[]).unwrap_err();
        assert!(error.contains("set runtime.kubernetes.api"), "{error}");
        let api = Api {
            tls: false,
            host: "127.0.0.1".into(),
            port: 8001,
            path: "".into(),
        };
        let cluster = Cluster {
            api: Some(api),
            ..Cluster::default()
        };
        let access = of(&cluster, &[("KUBERNETES_SERVICE_HOST", "10.96.0.1")]).unwrap();
        assert_eq!(access.api.to_string(), "http://127.0.0.1:8001");
        assert!(access.token_file.is_none() && access.ca.is_none());
        let bad = [
            ("KUBERNETES_SERVICE_HOST", "a"),
            ("KUBERNETES_SERVICE_PORT", "tcp://"),
        ];
        assert!(of(&Cluster::default(), &bad).is_err_and(|error| error.contains("no port")));
    }

    #[test]
    fn a_token_is_read_anew_and_never_told() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("token");
        assert!(bearer(&file).is_err_and(|error| error.contains("cannot be read")));
        for token in ["one", "two"] {
            std::fs::write(&file, format!("{token}\n")).unwrap();
            let value = bearer(&file).unwrap();
            assert_eq!(value.to_str().unwrap(), format!("Bearer {token}"));
            assert!(!format!("{value:?}").contains(token));
        }
        std::fs::write(&file, " \n").unwrap();
        assert!(bearer(&file).is_err_and(|error| error.ends_with("is empty")));
        std::fs::write(&file, "se\ncret").unwrap();
        assert!(bearer(&file).is_err_and(|error| !error.contains("cret")));
    }
}
