//! The process as the kernel sees it, under the names that every exporter uses. Read from `/proc` at
//! scrape time; what cannot be read is left out.
//!
//! Read by ourselves, since the collector of the `prometheus` crate tells CPU time in whole seconds: the
//! few per cent of a core that a sidecar takes would come as a step every minute.

use std::fs;

/// Clock ticks in a second in `/proc/self/stat`. The kernel's interface fixes it on every architecture
/// that we run on.
const TICKS: f64 = 100.0;

/// The process at one moment.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Process {
    /// CPU time used, user and system, in seconds.
    pub cpu_seconds: Option<f64>,
    /// Start in seconds since 1970.
    pub start_seconds: Option<f64>,
    /// Open file descriptors.
    pub open_fds: Option<u64>,
    /// File descriptors that may be open.
    pub max_fds: Option<u64>,
    /// Memory in RAM, in bytes.
    pub resident_bytes: Option<u64>,
    /// Address space, in bytes.
    pub virtual_bytes: Option<u64>,
    /// Threads.
    pub threads: Option<u64>,
}

impl Process {
    /// Reads `/proc`.
    pub fn read() -> Self {
        let text = |path: &str| fs::read_to_string(path).unwrap_or_default();
        let mut process = Self::parse(
            &text("/proc/self/stat"),
            &text("/proc/self/status"),
            &text("/proc/self/limits"),
            &text("/proc/stat"),
        );
        // The folder's own descriptor is among them.
        process.open_fds = fs::read_dir("/proc/self/fd")
            .ok()
            .map(|entries| (entries.count() as u64).saturating_sub(1));
        process
    }

    fn parse(stat: &str, status: &str, limits: &str, system: &str) -> Self {
        // The second field is the program's name in parentheses, which may hold anything.
        let fields = stat.rsplit_once(')').map_or("", |(_, rest)| rest);
        let fields: Vec<&str> = fields.split_ascii_whitespace().collect();
        // Field 3 of the manual is the first one here.
        let ticks = |number: usize| fields.get(number - 3)?.parse::<f64>().ok();
        let cpu = || Some((ticks(14)? + ticks(15)?) / TICKS);
        let start = || Some(number::<f64>(system, "btime ")? + ticks(22)? / TICKS);
        let kibibytes = |name| number::<u64>(status, name).map(|count| count * 1024);
        Self {
            cpu_seconds: cpu(),
            start_seconds: start(),
            open_fds: None,
            max_fds: number(limits, "Max open files"),
            resident_bytes: kibibytes("VmRSS:"),
            virtual_bytes: kibibytes("VmSize:"),
            threads: number(status, "Threads:"),
        }
    }
}

/// The first number after `name` at the start of a line.
fn number<T: std::str::FromStr>(text: &str, name: &str) -> Option<T> {
    let rest = text.lines().find_map(|line| line.strip_prefix(name))?;
    rest.split_ascii_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_texts_are_read() {
        let process = Process::parse(
            "7 (a) b) S 1 7 7 0 -1 4194560 1 0 0 0 150 50 0 0 20 0 4 0 1200 9 9",
            "Name:\ta\nVmSize:\t  2048 kB\nVmRSS:\t  1024 kB\nThreads:\t4\n",
            "Limit  Soft  Hard  Units\nMax open files            1024        4096      files\n",
            "cpu 1 2\nbtime 1700000000\n",
        );
        let expected = Process {
            cpu_seconds: Some(2.0),
            start_seconds: Some(1_700_000_012.0),
            open_fds: None,
            max_fds: Some(1024),
            resident_bytes: Some(1024 * 1024),
            virtual_bytes: Some(2048 * 1024),
            threads: Some(4),
        };
        assert_eq!(process, expected);
    }

    #[test]
    fn what_cannot_be_read_is_left_out() {
        assert_eq!(Process::parse("", "", "", ""), Process::default());
        assert_eq!(
            Process::parse("7 (a", "VmRSS: x", "", "btime"),
            Process::default()
        );
    }
}
