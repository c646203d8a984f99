//! Lets one thread at a time draw weights.

use parking_lot::{ReentrantMutex, ReentrantMutexGuard};

/// Waits until no other thread draws weights.
///
/// A device has one random generator for the whole process, and a parameter is drawn from it when
/// it is first read. Between the seed and the last weight of a network, no other network's
/// parameters may be read for the first time.
pub(crate) fn drawing() -> ReentrantMutexGuard<'static, ()> {
    static DRAWING: ReentrantMutex<()> = ReentrantMutex::new(());
    DRAWING.lock()
}
