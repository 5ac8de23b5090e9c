//! Places that a memory which cannot be cut back can come back to.
//!
//! What is remembered at a place are references to arrays that are never written again, so a place costs the bytes that no other
//! place holds. The latest ones are all kept, for steering goes back a few tokens; of older ones fewer the further they lie back,
//! as the tokens that have to be fed again are then few beside those that were saved.

/// So many of the latest places are all kept.
pub(crate) const RECENT_PLACES_MAX: usize = 8;
/// So many older ones are kept.
pub(crate) const OLDER_PLACES_MAX: usize = 16;
/// So many places are kept of a sequence that rests: the next one comes back to its end, to where its answer began, or far back.
pub(crate) const RESTING_PLACES_MAX: usize = 4;
/// A place where reading ended and writing began is worth so many others: the next prompt often differs from there on.
const TURN_WORTH: f64 = 16.0;

/// Remembered values by the number of tokens seen, in ascending order.
#[derive(Debug, Clone)]
pub(crate) struct Places<T> {
    kept: Vec<Place<T>>,
    older_max: usize,
}

#[derive(Debug, Clone)]
struct Place<T> {
    len: i32,
    value: T,
    /// Chunks of a prompt came before, and single tokens after.
    is_turn: bool,
}

impl<T> Default for Places<T> {
    fn default() -> Self {
        Self { kept: Vec::new(), older_max: OLDER_PLACES_MAX }
    }
}

impl<T: Clone> Places<T> {
    /// Keeps no more places than take `bytes`, if each of them takes `each`; the latest ones in any case.
    pub(crate) fn within(bytes: u64, each: u64) -> Self {
        let affordable = usize::try_from(bytes / each.max(1)).unwrap_or(usize::MAX);
        let older_max = affordable.saturating_sub(RECENT_PLACES_MAX).min(OLDER_PLACES_MAX);
        Self { older_max, ..Self::default() }
    }

    /// How many places are kept at most.
    pub(crate) fn count_max(&self) -> usize {
        RECENT_PLACES_MAX + self.older_max
    }

    /// Remembers `value` after `len` tokens, which are not fewer than at the last place.
    pub(crate) fn remember(&mut self, len: i32, value: T) {
        self.kept.retain(|place| place.len < len);
        let before = self.kept.iter().rev().nth(1).map_or(0, |place| place.len);
        if let Some(last) = self.kept.last_mut() {
            last.is_turn |= last.len + 1 == len && before + 1 < last.len;
        }
        self.kept.push(Place { len, value, is_turn: false });
        self.thin(RECENT_PLACES_MAX, self.older_max);
    }

    /// The sequence rests: nobody goes back a few tokens.
    pub(crate) fn rest(&mut self) {
        self.thin(1, RESTING_PLACES_MAX - 1);
    }

    /// Keeps so many at most, one of them the last.
    pub(crate) fn keep(&mut self, count: usize) {
        self.thin(1, count.saturating_sub(1));
    }

    /// Keeps the `recent` latest places, and so many older ones.
    fn thin(&mut self, recent: usize, older_max: usize) {
        while self.kept.len() > recent + older_max {
            let least = self.least_useful(self.kept.len() - recent);
            self.kept.remove(least);
        }
    }

    /// The place among the first `older` without which the least would be lost: the one whose neighbours are nearest to each other,
    /// measured by how far they lie back. The first of all stays, where more than one may.
    fn least_useful(&self, older: usize) -> usize {
        let now = self.kept.last().map_or(0, |place| place.len);
        let loss = |index: &usize| {
            let gap = f64::from(self.kept[index + 1].len - self.kept[index - 1].len);
            let worth = if self.kept[*index].is_turn { TURN_WORTH } else { 1.0 };
            worth * gap / f64::from(now - self.kept[*index].len)
        };
        (1..older).min_by(|a, b| loss(a).total_cmp(&loss(b))).unwrap_or(0)
    }

    /// The value at the greatest place of at most `len` tokens. Places behind it are forgotten.
    pub(crate) fn back_to(&mut self, len: i32) -> Option<(i32, T)> {
        self.kept.retain(|place| place.len <= len);
        self.kept.last().map(|place| (place.len, place.value.clone()))
    }

    /// What is remembered, with the numbers of tokens.
    pub(crate) fn entries(&self) -> impl DoubleEndedIterator<Item = (i32, &T)> {
        self.kept.iter().map(|place| (place.len, &place.value))
    }

    /// What is remembered.
    pub(crate) fn values(&self) -> impl Iterator<Item = &T> {
        self.kept.iter().map(|place| &place.value)
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

    #[test]
    fn the_place_where_writing_began_outlives_others() {
        let mut places = Places::default();
        for len in [1024, 2048, 3072, 3500] {
            places.remember(len, len);
        }
        for len in 3501..4000 {
            places.remember(len, len);
        }
        let kept = |places: &Places<i32>| places.values().copied().collect::<Vec<i32>>();
        assert!(kept(&places).contains(&3500), "{:?}", kept(&places));
        places.rest();
        assert_eq!(places.values().count(), RESTING_PLACES_MAX);
        let resting = kept(&places);
        assert_eq!((resting[0], resting[RESTING_PLACES_MAX - 1]), (1024, 3999), "{resting:?}");
        assert!(resting.contains(&3500), "{resting:?}");
    }

    #[test]
    fn places_that_take_much_are_few() {
        let count = |bytes: u64| {
            let mut places = Places::within(1000, bytes);
            (1..500).for_each(|len| places.remember(len, len));
            places.values().count()
        };
        assert_eq!(count(1), RECENT_PLACES_MAX + OLDER_PLACES_MAX);
        assert_eq!(count(100), 10);
        assert_eq!(count(100_000), RECENT_PLACES_MAX);
    }
}
