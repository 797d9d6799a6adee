//! What all tests of a process use together, and what ends with the process.
//!
//! A static is never dropped, so a server in one would leave its directory behind. What is kept
//! here is dropped when the process exits, after the last test, however the tests went.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::signals;

/// Something that the first test to ask for it makes, and that the end of the process drops.
#[derive(Debug)]
pub struct Shared<T: 'static>(Mutex<Option<Arc<T>>>);

type Cleaner = Box<dyn FnOnce() + Send>;

/// What is to be dropped at the end.
static KEPT: Mutex<Vec<Cleaner>> = Mutex::new(Vec::new());

impl<T: Send + Sync> Shared<T> {
    /// Nothing so far.
    #[allow(clippy::new_without_default, reason = "it is for statics, which need a const fn")]
    pub const fn new() -> Self {
        Self(Mutex::new(None))
    }

    /// The one there is, or the one that is made now; the others wait for it. If making it
    /// panics, the next one tries again.
    pub fn get_or_make(&'static self, make: impl FnOnce() -> T) -> Arc<T> {
        let mut kept = lock(&self.0);
        if let Some(kept) = &*kept {
            return Arc::clone(kept);
        }
        let made = Arc::new(make());
        *kept = Some(Arc::clone(&made));
        drop(kept);
        let mut cleaners = lock(&KEPT);
        if cleaners.is_empty() {
            signals::at_exit(clean_up);
        }
        cleaners.push(Box::new(|| drop(lock(&self.0).take())));
        made
    }
}

/// Runs while the process exits: the main thread has returned, others may still be there.
extern "C" fn clean_up() {
    let cleaners = std::mem::take(&mut *lock(&KEPT));
    for clean in cleaners {
        // A panic must not pass the C library; what is left behind then has been said.
        let _ = std::panic::catch_unwind(std::panic::AssertUnwindSafe(clean));
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
