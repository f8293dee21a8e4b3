//! Gives freed memory back to the system.
//!
//! The allocator (mimalloc) keeps freed memory for a second in case that it is needed again, and notices that the second is over only when
//! a thread frees a whole page or ends. A process that has read a large configuration and then rests does neither, and would keep what
//! that took. The function of the allocator for this (`mi_collect`) cannot be called without unsafe code, so a thread is started that
//! ends at once.

use std::{hint::black_box, thread, time::Duration};

/// The time from the start to the first time, in which the lists of endpoints come.
const FIRST: Duration = Duration::from_secs(5);

/// The time between two times.
const INTERVAL: Duration = Duration::from_secs(60);

/// The stack of the thread, in bytes.
const STACK: usize = 64 << 10;

/// Gives back what was freed, again and again. Never ends.
pub(crate) async fn trim_regularly() {
    let mut pause = FIRST;
    loop {
        tokio::time::sleep(pause).await;
        trim();
        pause = INTERVAL;
    }
}

fn trim() {
    let thread = thread::Builder::new().name("trim".into()).stack_size(STACK);
    // The allocator takes part in the end of a thread only if the thread has allocated. Without a thread the memory stays for now.
    drop(thread.spawn(|| drop(black_box(Box::new(0_u8)))));
}
