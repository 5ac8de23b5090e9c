//! Places that a memory which cannot be cut back can come back to.
//!
//! What is remembered at a place are references to arrays that are never written again, so a place costs the bytes that no other
//! place holds. The latest ones are all kept, for steering goes back a few tokens; of older ones fewer the further they lie back,
//! as the tokens that have to be fed again are then few beside those that were saved.

/// So many of the latest places are all kept.
pub(crate) const RECENT_PLACES_MAX: usize = 8;
/// So many older ones are kept.
pub(crate) const OLDER_PLACES_MAX: usize = 16;

/// Remembered values by the number of tokens seen, in ascending order.
#[derive(Debug, Clone)]
pub(crate) struct Places<T> {
    kept: Vec<(i32, T)>,
}

impl<T> Default for Places<T> {
    fn default() -> Self {
        Self { kept: Vec::new() }
    }
}

#[allow(dead_code, reason = "for the families that follow")]
impl<T: Clone> Places<T> {
    /// Remembers `value` after `len` tokens, which are not fewer than at the last place.
    pub(crate) fn remember(&mut self, len: i32, value: T) {
        self.kept.retain(|&(old, _)| old < len);
        self.kept.push((len, value));
        if self.kept.len() > RECENT_PLACES_MAX + OLDER_PLACES_MAX {
            let least = self.least_useful();
            self.kept.remove(least);
        }
    }

    /// The older place without which the least would be lost: the one whose neighbours are nearest to each other, measured by how far
    /// they lie back.
    fn least_useful(&self) -> usize {
        let now = self.kept.last().map_or(0, |&(len, _)| len);
        let older = 1..self.kept.len() - RECENT_PLACES_MAX;
        let loss = |index: &usize| {
            let gap = f64::from(self.kept[index + 1].0 - self.kept[index - 1].0);
            gap / f64::from(now - self.kept[*index].0)
        };
        older.min_by(|a, b| loss(a).total_cmp(&loss(b))).unwrap_or(0)
    }

    /// The value at the greatest place of at most `len` tokens. Places behind it are forgotten.
    pub(crate) fn back_to(&mut self, len: i32) -> Option<(i32, T)> {
        self.kept.retain(|&(old, _)| old <= len);
        self.kept.last().cloned()
    }

    /// What is remembered, with the numbers of tokens.
    pub(crate) fn entries(&self) -> impl DoubleEndedIterator<Item = (i32, &T)> {
        self.kept.iter().map(|(len, value)| (*len, value))
    }

    /// What is remembered.
    pub(crate) fn values(&self) -> impl Iterator<Item = &T> {
        self.kept.iter().map(|(_, value)| value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_latest_are_all_kept_and_older_ones_thinned() {
        let mut places = Places::default();
        for len in 1..=10_000 {
            places.remember(len, len);
        }
        assert_eq!(places.values().count(), RECENT_PLACES_MAX + OLDER_PLACES_MAX);
        for back in 0..RECENT_PLACES_MAX as i32 {
            assert_eq!(places.clone().back_to(10_000 - back), Some((10_000 - back, 10_000 - back)));
        }
        // However far one goes back, less is fed again than twice the way.
        for back in (0..10_000).step_by(37) {
            let len = 10_000 - back;
            let (place, _) = places.clone().back_to(len).unwrap();
            assert!(len - place <= 2 * back + 1, "{back} back: {place} of {len}");
        }
    }

    #[test]
    fn places_behind_the_one_that_was_gone_back_to_are_forgotten() {
        let mut places = Places::default();
        for len in [3, 7, 9] {
            places.remember(len, len);
        }
        assert_eq!(places.back_to(8), Some((7, 7)));
        assert_eq!(places.back_to(100), Some((7, 7)));
        assert_eq!(places.back_to(2), None);
    }
}
