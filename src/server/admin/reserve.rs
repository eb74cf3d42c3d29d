//! File descriptors kept back for the admin interface: when the traffic has used up all others, the
//! probes and the metrics are what an operator needs most.

use std::fs::File;
use std::io;

/// Descriptors kept back.
pub(super) const RESERVED: usize = 8;

const ENFILE: i32 = 23;
const EMFILE: i32 = 24;

/// Descriptors that are open only to be given up when a connection needs one.
#[derive(Debug, Default)]
pub(super) struct Reserve(Vec<File>);

impl Reserve {
    /// Takes as many as are missing, as far as there are any.
    pub(super) fn fill(&mut self) {
        while self.0.len() < RESERVED
            && let Ok(file) = File::open("/dev/null")
        {
            self.0.push(file);
        }
    }

    /// Gives one up after such an error; gives whether another try is worth it.
    pub(super) fn give_up_one(&mut self, error: &io::Error) -> bool {
        is_want_of_descriptors(error) && self.0.pop().is_some()
    }
}

/// Whether the error says that there are no descriptors.
pub(super) fn is_want_of_descriptors(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(EMFILE | ENFILE))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fault_070_as_many_as_are_reserved_are_given_up_and_taken_again() {
        let mut reserve = Reserve::default();
        let full = io::Error::from_raw_os_error(EMFILE);
        assert!(!reserve.give_up_one(&full), "nothing is reserved yet");
        for _ in 0..2 {
            reserve.fill();
            assert!(!reserve.give_up_one(&io::ErrorKind::ConnectionAborted.into()));
            let given = (0..20).filter(|_| reserve.give_up_one(&full)).count();
            assert_eq!(given, RESERVED);
        }
    }
}
