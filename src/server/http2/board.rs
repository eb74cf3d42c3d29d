//! Who of a connection has something to do: its streams, the library, its clock. All of them live in one
//! task. Each has a waker of its own that puts its number on the board, so that the task looks only at
//! those whose numbers are there; and what they do to one another while the task runs does not wake it
//! once more.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::AcqRel, Ordering::Release};
use std::task::{Wake, Waker};

use parking_lot::Mutex;

/// Numbers of those that have something to do.
#[derive(Debug, Default)]
pub(super) struct Board(Mutex<Inner>);

#[derive(Debug, Default)]
struct Inner {
    numbers: Vec<u32>,
    /// The task looks at the board anyway, before it rests.
    attended: bool,
    task: Option<Waker>,
}

impl Board {
    /// The task looks at the board until [`Self::leave`].
    pub(super) fn attend(&self, task: &Waker) {
        let mut inner = self.0.lock();
        inner.attended = true;
        if !inner.task.as_ref().is_some_and(|old| old.will_wake(task)) {
            inner.task = Some(task.clone());
        }
    }

    /// Moves the numbers to `into`. If there are none, the task may rest: whoever comes wakes it.
    pub(super) fn take(&self, into: &mut Vec<u32>) -> bool {
        let mut inner = self.0.lock();
        inner.attended = !inner.numbers.is_empty();
        into.append(&mut inner.numbers);
        inner.attended
    }

    /// The task rests though numbers may be there; the next that comes wakes it.
    pub(super) fn leave(&self) {
        self.0.lock().attended = false;
    }

    /// The waker of a number.
    pub(super) fn bell(self: &Arc<Self>, number: u32) -> Bell {
        let board = Arc::clone(self);
        let rung = AtomicBool::new(false);
        Bell(Arc::new(Ringer {
            board,
            number,
            rung,
        }))
    }
}

/// What puts one number on the board.
#[derive(Debug, Clone)]
pub(super) struct Bell(Arc<Ringer>);

#[derive(Debug)]
struct Ringer {
    board: Arc<Board>,
    number: u32,
    /// Its number is on the board.
    rung: AtomicBool,
}

impl Bell {
    pub(super) fn waker(&self) -> Waker {
        Waker::from(Arc::clone(&self.0))
    }

    pub(super) fn ring(&self) {
        self.0.wake_by_ref();
    }

    /// Its number has been taken from the board.
    pub(super) fn heard(&self) {
        self.0.rung.store(false, Release);
    }
}

impl Wake for Ringer {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        if self.rung.swap(true, AcqRel) {
            return;
        }
        let mut inner = self.board.0.lock();
        inner.numbers.push(self.number);
        if !inner.attended
            && let Some(task) = &inner.task
        {
            task.wake_by_ref();
        }
    }
}
