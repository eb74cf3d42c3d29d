//! What happens in the demo, and when. The story takes half a minute and begins again.

use std::time::Duration;

/// What the demo does to its upstreams or its load.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Act {
    /// Everything works.
    Calm,
    /// One of the catalog's servers fails a fifth of its requests.
    Flaky,
    /// It dies.
    Kill,
    /// It comes back.
    Revive,
    /// Many clients at once ask for the stock.
    Crowd,
    /// They leave.
    CrowdLeaves,
    /// The recommendations stop answering.
    Hang,
    /// They answer again.
    Recover,
}

/// An act, when it comes, and what is said about it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Scene {
    pub(super) at: Duration,
    pub(super) act: Act,
    pub(super) says: &'static str,
}

const fn scene(at: u64, act: Act, says: &'static str) -> Scene {
    Scene {
        at: Duration::from_secs(at),
        act,
        says,
    }
}

/// The whole story, in order.
pub(super) const SCENES: [Scene; 9] = [
    scene(0, Act::Calm, "All is well: three upstreams answer."),
    scene(
        3,
        Act::Flaky,
        "One of the three servers of 'catalog' now answers 20 % of its requests with 503.",
    ),
    scene(
        8,
        Act::Kill,
        "That server dies: its connections are cut, new ones refused.",
    ),
    scene(
        13,
        Act::Revive,
        "The server is back. Its breaker finds out by its next probe.",
    ),
    scene(
        18,
        Act::Crowd,
        "A crowd asks for 'stock', which can work on 4 requests at once.",
    ),
    scene(21, Act::CrowdLeaves, "The crowd leaves."),
    scene(
        22,
        Act::Hang,
        "'recommendations' takes requests and no longer answers.",
    ),
    scene(25, Act::Recover, "'recommendations' answers again."),
    scene(27, Act::Calm, "All is well again."),
];

/// After so long it begins again.
pub(super) const LENGTH: Duration = Duration::from_secs(30);

/// The scenes between two moments since the start, the first excluded, the last included, each with its
/// moment.
pub(super) fn due(after: Option<Duration>, until: Duration) -> Vec<(Duration, Scene)> {
    let is_new = |at: Duration| after.is_none_or(|after| at > after) && at <= until;
    let first = after.map_or(0, rounds);
    (first..=rounds(until))
        .flat_map(|round| SCENES.map(|scene| (LENGTH * round + scene.at, scene)))
        .filter(|(at, _)| is_new(*at))
        .collect()
}

fn rounds(elapsed: Duration) -> u32 {
    u32::try_from(elapsed.as_secs() / LENGTH.as_secs()).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_scene_comes_once_in_each_round_whatever_the_steps() {
        for step in [70, 100, 900, 31_000] {
            let step = Duration::from_millis(step);
            let (mut after, mut seen) = (None, Vec::new());
            let mut now = Duration::ZERO;
            while now < LENGTH * 3 {
                seen.extend(due(after, now));
                after = Some(now);
                now += step;
            }
            seen.extend(due(after, LENGTH * 3 - Duration::from_millis(1)));
            let times: Vec<Duration> = seen.iter().map(|(at, _)| *at).collect();
            assert!(times.is_sorted(), "{step:?}");
            assert_eq!(seen.len(), SCENES.len() * 3, "{step:?}");
        }
    }

    #[test]
    fn one_round_leaves_time_for_everything() {
        assert!(SCENES.is_sorted_by(|a, b| a.at < b.at));
        let at = |act| SCENES.iter().find(|scene| scene.act == act).unwrap().at;
        // Dead for longer than the breaker stays open at first, so that a probe fails as well.
        assert!(at(Act::Revive) - at(Act::Kill) > Duration::from_secs(4));
        assert!(SCENES.last().unwrap().at < LENGTH);
    }
}
