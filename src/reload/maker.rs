//! The one thread that reads, builds, compares and drops generations, one after the other.
//!
//! It is always the same thread because of memory: the system's allocator gives each thread an arena of
//! its own, and what one thread has allocated goes back to that thread's arena, whoever drops it. Were a
//! large generation built by whichever thread is free, each of those threads would come to hold room for one.

use std::sync::Arc;
use std::time::Duration;

use tokio::runtime::{Builder, Handle, Runtime};
use tokio::task::JoinHandle;

/// How much less than a worker a thread is worth to the system that reads a configuration, builds a
/// generation or writes the text of a scrape: where both want the one processor, it gets a tenth.
const NICENESS: i32 = 10;

/// The thread's idle time is without bound, in effect.
const FOR_EVER: Duration = Duration::from_secs(100 * 365 * 24 * 3_600);

/// For threads that are left such work. It may be half a second's: at an equal share, requests would wait
/// for it.
pub fn yield_to_workers() {
    // A system that does not allow it is no reason not to work.
    let _ = rustix::process::nice(NICENESS);
}

/// The thread, started with its first job. Clones share it; it ends with the last of them.
#[derive(Debug, Clone)]
pub struct Maker(Arc<Thread>);

/// A runtime that is never driven has its threads for blocking work alone, and this one has one of them.
#[derive(Debug)]
struct Thread(Option<Runtime>);

impl Default for Maker {
    fn default() -> Self {
        let runtime = Builder::new_current_thread()
            .max_blocking_threads(1)
            .thread_keep_alive(FOR_EVER)
            .thread_name("maker")
            .on_thread_start(yield_to_workers)
            .build();
        // Without it, memory is the price, and nothing else.
        Self(Arc::new(Thread(runtime.ok())))
    }
}

impl Maker {
    /// Does the job after those that were given before. It may spawn tasks: they run on the runtime that
    /// this is called on. The handle's error is that the job panicked, or that the process ends.
    pub fn run<T: Send + 'static>(
        &self,
        job: impl FnOnce() -> T + Send + 'static,
    ) -> JoinHandle<T> {
        let here = Handle::current();
        let job = {
            let here = here.clone();
            move || {
                let _entered = here.enter();
                job()
            }
        };
        match &self.0.0 {
            Some(runtime) => runtime.spawn_blocking(job),
            None => here.spawn_blocking(job),
        }
    }
}

impl Drop for Thread {
    /// The last holder may be a task, which must not wait for a thread.
    fn drop(&mut self) {
        if let Some(runtime) = self.0.take() {
            runtime.shutdown_background();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn every_job_is_done_by_the_same_thread_even_after_one_that_panicked() {
        let maker = Maker::default();
        let id = || std::thread::current().id();
        let first = maker.run(id).await.unwrap();
        assert!(maker.run(|| panic!("as it must")).await.is_err());
        let jobs: Vec<_> = (0..8).map(|_| maker.clone().run(id)).collect();
        for job in jobs {
            assert_eq!(job.await.unwrap(), first);
        }
        assert_ne!(first, id());
    }

    #[tokio::test]
    async fn tasks_of_a_job_run_where_it_was_given() {
        let maker = Maker::default();
        let task = maker.run(|| tokio::spawn(async { std::thread::current().id() }));
        let ran = task.await.unwrap().await.unwrap();
        assert_eq!(ran, std::thread::current().id());
    }
}
