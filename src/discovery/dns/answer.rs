//! What came of asking for a name: in parts, as servers answer, and what the parts say together.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use crate::live::upstream::Found;

/// What came of asking for a name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Answer {
    /// It stands for something.
    Found(Stands),
    /// There is no such name, or there is nothing behind it.
    Nothing {
        /// In words.
        why: String,
        /// How long that holds, where it is said.
        ttl: Option<Duration>,
    },
    /// It could not be found out.
    Failed {
        /// In words.
        why: String,
    },
}

/// What a name stands for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Stands {
    /// The name that was asked for in its place, complete.
    pub(super) name: Arc<str>,
    /// Why it could not be found out of a name that comes before it; `None`: every one says that there is
    /// nothing.
    pub(super) doubt: Option<String>,
    /// Addresses, each with the host whose it is; at least one.
    pub(super) found: Vec<(Found, Arc<str>)>,
    /// How long that holds.
    pub(super) ttl: Duration,
    /// The hosts that this does not say everything about.
    pub(super) silent: Vec<(Arc<str>, Silent)>,
    /// Hosts that were not asked for, since they are too many.
    pub(super) unasked: usize,
}

/// What is not known of a host, since a part of it could not be had: what is held of that, stays.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Silent {
    /// It says everything.
    Nowhere,
    /// Addresses of version 4.
    V4,
    /// Addresses of version 6.
    V6,
    /// It may lack any.
    Everywhere,
}

impl Silent {
    /// Whether the absence of this address says nothing.
    pub(super) const fn about(self, address: IpAddr) -> bool {
        match self {
            Self::Nowhere => false,
            Self::V4 => address.is_ipv4(),
            Self::V6 => address.is_ipv6(),
            Self::Everywhere => true,
        }
    }
}

impl Answer {
    /// What is wrong, where something is.
    pub(super) fn problem(&self) -> Option<String> {
        match self {
            Self::Found(_) => None,
            Self::Nothing { why, .. } | Self::Failed { why } => Some(why.clone()),
        }
    }
}

/// Why nothing was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Missing {
    /// There is none.
    Nothing {
        /// In words.
        why: String,
        /// How long that holds, where it is said.
        ttl: Option<Duration>,
    },
    /// It could not be found out.
    Failed {
        /// In words.
        why: String,
    },
}

impl Missing {
    pub(super) const fn nothing(why: String, ttl: Option<Duration>) -> Self {
        Self::Nothing { why, ttl }
    }

    pub(super) const fn failed(why: String) -> Self {
        Self::Failed { why }
    }

    /// Whether it could not be found out.
    pub(super) const fn is_failure(&self) -> bool {
        match self {
            Self::Nothing { .. } => false,
            Self::Failed { .. } => true,
        }
    }

    /// Why it could not be found out, where it could not.
    pub(super) fn doubt(self) -> Option<String> {
        match self {
            Self::Nothing { .. } => None,
            Self::Failed { why } => Some(why),
        }
    }

    /// What counts of two: that there is nothing is only known where every answer says so.
    pub(super) fn weightier(one: Option<Self>, other: Self) -> Self {
        match one {
            Some(one) if one.is_failure() => one,
            Some(_) | None => other,
        }
    }
}

impl From<Missing> for Answer {
    fn from(missing: Missing) -> Self {
        match missing {
            Missing::Nothing { why, ttl } => Self::Nothing { why, ttl },
            Missing::Failed { why } => Self::Failed { why },
        }
    }
}

/// What came of one question.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Part<T> {
    /// These, and how long they hold.
    Found(T, Duration),
    /// None.
    Nothing {
        /// There is not even the name.
        no_such_name: bool,
        /// How long that holds, where it is said.
        ttl: Option<Duration>,
    },
    /// It could not be found out, in words.
    Failed(String),
}

impl<T> Part<T> {
    pub(super) fn map<U>(self, convert: impl FnOnce(T) -> U) -> Part<U> {
        match self {
            Self::Found(found, ttl) => Part::Found(convert(found), ttl),
            Self::Nothing { no_such_name, ttl } => Part::Nothing { no_such_name, ttl },
            Self::Failed(why) => Part::Failed(why),
        }
    }

    /// What was found, or why nothing was.
    pub(super) fn found(self) -> Result<(T, Duration), Missing> {
        match self {
            Self::Found(found, ttl) => Ok((found, ttl)),
            Self::Nothing { no_such_name, ttl } => {
                let why = if no_such_name {
                    "there is no such name (NXDOMAIN)"
                } else {
                    "there is nothing behind the name"
                };
                Err(Missing::nothing(why.to_owned(), ttl))
            }
            Self::Failed(why) => Err(Missing::failed(why)),
        }
    }
}

/// The addresses of a host, of both versions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Together {
    /// At least one.
    pub(super) addresses: Vec<IpAddr>,
    /// How long they hold.
    pub(super) ttl: Duration,
    /// The version that could not be found out.
    pub(super) silent: Silent,
}

/// What the answers for both versions say together. A server that cannot answer for one of them, as some
/// cannot for version 6, takes nothing from the other.
pub(super) fn together(v4: Part<Vec<IpAddr>>, v6: Part<Vec<IpAddr>>) -> Result<Together, Missing> {
    let silent = match (&v4, &v6) {
        (Part::Failed(_), _) => Silent::V4,
        (_, Part::Failed(_)) => Silent::V6,
        (_, _) => Silent::Nowhere,
    };
    let no_such_name = [&v4, &v6].into_iter().any(|part| match part {
        Part::Nothing { no_such_name, .. } => *no_such_name,
        Part::Found(..) | Part::Failed(_) => false,
    });
    let (v4, v6) = (v4.found(), v6.found());
    match (v4, v6) {
        (Ok((mut addresses, ttl)), Ok((more, other))) => {
            addresses.extend(more);
            some(addresses, ttl.min(other), silent)
        }
        (Ok((addresses, ttl)), Err(_)) | (Err(_), Ok((addresses, ttl))) => {
            some(addresses, ttl, silent)
        }
        (Err(one), Err(other)) => Err(match (one.is_failure(), other.is_failure()) {
            // There is no name without an address of one version that has one of the other.
            (true, false) if no_such_name => other,
            (true, _) => one,
            (false, true) if no_such_name => one,
            (false, _) => other,
        }),
    }
}

fn some(addresses: Vec<IpAddr>, ttl: Duration, silent: Silent) -> Result<Together, Missing> {
    if addresses.is_empty() {
        let why = "there is no address behind the name".to_owned();
        return Err(Missing::nothing(why, Some(ttl)));
    }
    Ok(Together {
        addresses,
        ttl,
        silent,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn seconds(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    fn part(words: &str) -> Part<Vec<IpAddr>> {
        match words {
            "failed" => Part::Failed("SERVFAIL".into()),
            "none" => Part::Nothing {
                no_such_name: false,
                ttl: Some(seconds(7)),
            },
            "no name" => Part::Nothing {
                no_such_name: true,
                ttl: None,
            },
            address => Part::Found(vec![address.parse().unwrap()], seconds(9)),
        }
    }

    #[test]
    fn fault_060_what_both_versions_say_together() {
        for (v4, v6, expected) in [
            ("10.0.0.1", "::1", "10.0.0.1 ::1 Nowhere"),
            ("10.0.0.1", "none", "10.0.0.1 Nowhere"),
            ("10.0.0.1", "failed", "10.0.0.1 V6"),
            ("failed", "::1", "::1 V4"),
            ("none", "none", "nothing behind the name"),
            ("no name", "no name", "no such name"),
            ("no name", "failed", "no such name"),
            ("failed", "no name", "no such name"),
            ("failed", "none", "failed"),
            ("none", "failed", "failed"),
            ("failed", "failed", "failed"),
        ] {
            let said = match together(part(v4), part(v6)) {
                Ok(all) => {
                    let addresses = all.addresses.iter().map(|one| format!("{one} "));
                    format!("{}{:?}", addresses.collect::<String>(), all.silent)
                }
                Err(Missing::Failed { .. }) => "failed".into(),
                Err(Missing::Nothing { why, .. }) => why,
            };
            assert!(said.contains(expected), "{v4}, {v6}: {said}");
        }
    }

    #[test]
    fn that_there_is_nothing_is_only_known_where_every_answer_says_so() {
        let failed = || Missing::failed("x".into());
        let nothing = || Missing::nothing("y".into(), None);
        for (one, other, expected) in [
            (None, failed(), failed()),
            (None, nothing(), nothing()),
            (Some(failed()), nothing(), failed()),
            (Some(nothing()), failed(), failed()),
        ] {
            assert_eq!(Missing::weightier(one, other), expected);
        }
    }
}
