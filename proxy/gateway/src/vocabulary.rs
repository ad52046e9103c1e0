//! The vocabularies of models, which take a while to load.

use std::sync::atomic::{AtomicU8, Ordering};

use proxy_core::tokens::Encoding;

/// The vocabulary of a model, if it is public and loaded.
pub(crate) fn of_model(model: &str) -> Option<Encoding> {
    Encoding::of_model(model).filter(|encoding| is_loaded(*encoding))
}

/// Whether a vocabulary is loaded. The first call loads it on a thread of its own, in about 0.1 s: no
/// request waits for that, and a gateway that counts nothing loads nothing.
fn is_loaded(encoding: Encoding) -> bool {
    const UNASKED: u8 = 0;
    const LOADING: u8 = 1;
    const LOADED: u8 = 2;
    static CL100K: AtomicU8 = AtomicU8::new(UNASKED);
    static O200K: AtomicU8 = AtomicU8::new(UNASKED);
    let state = match encoding {
        Encoding::Cl100k => &CL100K,
        Encoding::O200k => &O200K,
    };
    if state.load(Ordering::Acquire) == LOADED {
        return true;
    }
    let first = state.compare_exchange(UNASKED, LOADING, Ordering::AcqRel, Ordering::Relaxed);
    if first.is_ok() {
        let load = move || {
            encoding.load();
            state.store(LOADED, Ordering::Release);
        };
        // Without a thread nothing is counted.
        drop(
            std::thread::Builder::new()
                .name("vocabulary".to_owned())
                .spawn(load),
        );
    }
    false
}
