//! What is promised to the models of this process.
//!
//! Free memory alone would promise the same bytes twice: a model that is being loaded has not taken its share yet, and one that
//! is there has not grown the caches that it was admitted with.

use std::sync::{Mutex, MutexGuard, PoisonError};

/// Bytes of each model, by a number.
static LEDGER: Mutex<Vec<(u64, u64)>> = Mutex::new(Vec::new());

/// A model's entry, which goes with it.
#[derive(Debug)]
pub(crate) struct Reservation {
    number: u64,
}

impl Drop for Reservation {
    fn drop(&mut self) {
        entries().retain(|(number, _)| *number != self.number);
    }
}

fn entries() -> MutexGuard<'static, Vec<(u64, u64)>> {
    LEDGER.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Bytes promised to all models.
pub(crate) fn promised() -> u64 {
    entries().iter().map(|(_, bytes)| bytes).sum()
}

/// Asks `decide` with what is promised already, and promises what it says. Nobody else is admitted meanwhile.
pub(crate) fn admit<T, E>(
    decide: impl FnOnce(u64) -> Result<(u64, T), E>,
) -> Result<(Reservation, T), E> {
    let mut entries = entries();
    let (bytes, result) = decide(entries.iter().map(|(_, bytes)| bytes).sum())?;
    let number = entries.last().map_or(0, |(number, _)| number + 1);
    entries.push((number, bytes));
    Ok((Reservation { number }, result))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_promised_counts_until_it_goes() {
        let before = promised();
        let (first, seen) = admit(|promised| Ok::<_, ()>((1000, promised))).unwrap();
        assert_eq!(seen, before);
        let refused = admit(|promised| if promised > before { Err("full") } else { Ok((1, ())) });
        assert_eq!(refused.err(), Some("full"));
        let (second, seen) = admit(|promised| Ok::<_, ()>((10, promised))).unwrap();
        assert_eq!((seen, promised()), (before + 1000, before + 1010));
        drop(first);
        assert_eq!(promised(), before + 10);
        drop(second);
        assert_eq!(promised(), before);
    }
}
