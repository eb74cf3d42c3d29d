//! `runtime.workers: auto`: the cgroup's CPU quota, else the cores.

use std::num::NonZeroUsize;

/// The workers for this process.
pub(super) fn available() -> NonZeroUsize {
    let cores = std::thread::available_parallelism().unwrap_or(NonZeroUsize::MIN);
    count(&|path| std::fs::read_to_string(path).ok(), cores)
}

/// The workers, given what the system's files hold and the cores that the system counts. That count
/// may already be cut down to the quota, rounded down; a quota of 1.5 CPUs is worth two workers.
fn count(read: &dyn Fn(&str) -> Option<String>, cores: NonZeroUsize) -> NonZeroUsize {
    match quota(read) {
        Some((quota, period)) if quota / period <= cores.get() as u64 => {
            usize::try_from(quota.div_ceil(period))
                .ok()
                .and_then(NonZeroUsize::new)
                .unwrap_or(NonZeroUsize::MIN)
        }
        Some(_) | None => cores,
    }
}

/// The tightest quota and its period, both in microseconds, of our cgroup and those around it.
fn quota(read: &dyn Fn(&str) -> Option<String>) -> Option<(u64, u64)> {
    let groups = read("/proc/self/cgroup")?;
    let mut found = Vec::new();
    for line in groups.lines() {
        let mut parts = line.splitn(3, ':').skip(1);
        let (Some(controllers), Some(path)) = (parts.next(), parts.next()) else {
            continue;
        };
        if controllers.is_empty() {
            found
                .extend(upwards(path).filter_map(|path| {
                    version_2(&read(&format!("/sys/fs/cgroup{path}/cpu.max"))?)
                }));
        } else if controllers.split(',').any(|controller| controller == "cpu") {
            found.extend(upwards(path).filter_map(|path| {
                let value = |name| {
                    read(&format!("/sys/fs/cgroup/cpu{path}/cpu.cfs_{name}_us"))?
                        .trim()
                        .parse::<u64>()
                        .ok()
                };
                Some((
                    value("quota")?,
                    value("period").filter(|period| *period > 0)?,
                ))
            }));
        }
    }
    found
        .into_iter()
        .min_by(|a, b| (a.0 * b.1).cmp(&(b.0 * a.1)))
}

/// `150000 100000`, or `max 100000` for none.
fn version_2(text: &str) -> Option<(u64, u64)> {
    let (quota, period) = text.trim().split_once(' ')?;
    Some((
        quota.parse().ok()?,
        period.parse().ok().filter(|period| *period > 0)?,
    ))
}

/// A group's path and those of the groups around it; the root is the empty path.
fn upwards(path: &str) -> impl Iterator<Item = &str> {
    let path = path.trim_end_matches('/');
    std::iter::successors(Some(path), |path| {
        path.rfind('/').and_then(|end| path.get(..end))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn workers(files: &[(&str, &str)], cores: usize) -> usize {
        let read = |path: &str| {
            files
                .iter()
                .find(|(name, _)| *name == path)
                .map(|(_, text)| (*text).to_owned())
        };
        count(&read, NonZeroUsize::new(cores).unwrap()).get()
    }

    #[test]
    fn a_quota_is_rounded_up() {
        let group = ("/proc/self/cgroup", "0::/\n");
        let quota = |text| workers(&[group, ("/sys/fs/cgroup/cpu.max", text)], 4);
        assert_eq!(quota("150000 100000\n"), 2);
        assert_eq!(quota("10000 100000\n"), 1);
        assert_eq!(quota("max 100000\n"), 4);
        assert_eq!(quota("1600000 100000\n"), 4);
        assert_eq!(quota("1 0\n"), 4);
        assert_eq!(quota("rubbish"), 4);
        // The system has already counted 1 for a quota of 1.5.
        assert_eq!(
            workers(&[group, ("/sys/fs/cgroup/cpu.max", "150000 100000")], 1),
            2
        );
    }

    #[test]
    fn the_tightest_group_around_us_counts() {
        let files = [
            ("/proc/self/cgroup", "0::/a/b\n"),
            ("/sys/fs/cgroup/a/b/cpu.max", "400000 100000"),
            ("/sys/fs/cgroup/a/cpu.max", "100000 50000"),
            ("/sys/fs/cgroup/cpu.max", "max 100000"),
        ];
        assert_eq!(workers(&files, 8), 2);
    }

    #[test]
    fn version_1_is_understood() {
        let files = [
            (
                "/proc/self/cgroup",
                "5:memory:/x\n4:cpu,cpuacct:/docker/1\nrubbish\n",
            ),
            ("/sys/fs/cgroup/cpu/cpu.cfs_quota_us", "300000\n"),
            ("/sys/fs/cgroup/cpu/cpu.cfs_period_us", "100000\n"),
        ];
        assert_eq!(workers(&files, 8), 3);
        let unlimited = [
            files[0],
            ("/sys/fs/cgroup/cpu/cpu.cfs_quota_us", "-1\n"),
            files[2],
        ];
        assert_eq!(workers(&unlimited, 8), 8);
    }

    #[test]
    fn without_groups_the_cores_count() {
        assert_eq!(workers(&[], 3), 3);
        assert!(available().get() >= 1);
    }
}
