//! Keys and values of a layer that looks back a limited distance.
//!
//! Rows lie in the order of their tokens, a few more than the window needs: so the cache can be cut back by moving the
//! sequence's length as long as the rows before the new end are still there. Further back it comes to a place that it
//! remembers, or to nothing: when rows move on and leave the oldest out, what they were is kept for the places that would be
//! lost with them. So a place costs no copy, and nothing at all before that.
//!
//! mlx-lm writes over the oldest row instead, so one new token meets rows in a turned order; where results have to be mlx-lm's
//! to the last bit, the rows are handed out in that order, for sums depend on it.

use mlx_rs::{Array, Dtype, error::Exception, ops, transforms::eval};

use super::{Lent, full::written, places::Places};
use crate::ops::slice;

/// Rows beyond the window that are kept: so many tokens can be taken back without feeding any again.
pub(crate) const MARGIN_ROWS: i32 = 256;
/// Room for so many more rows is made at a time.
const GROWTH: i32 = 64;
/// A layer keeps at most so many rows for places that it can come back to, or those of one place.
pub(crate) const PLACE_ROWS_MAX: i32 = 4096;

/// The most rows that a layer with this window keeps.
pub(crate) fn rows_max(window: usize) -> u64 {
    let rows = rows_at_once(window as i32);
    (rows + rows * places_max(window as i32)) as u64
}

fn rows_at_once(window: i32) -> i32 {
    window + MARGIN_ROWS + GROWTH
}

fn places_max(window: i32) -> i32 {
    (PLACE_ROWS_MAX / rows_at_once(window)).max(1)
}

/// A window over the latest tokens.
#[derive(Clone)]
pub(crate) struct Ring {
    /// A token sees itself and `window - 1` before it.
    window: i32,
    is_turned: bool,
    rows: Option<Rows>,
    turns: Turns,
    /// Lengths to come back to for which the rows are still there, ascending.
    asked: Vec<i32>,
    /// Those for which they would be gone.
    places: Places<(Rows, Turns)>,
    /// Where the rows begin that are lent.
    lent: i32,
}

/// Keys and values, `[1, heads, capacity, dim]`, the first of the token at `start`.
#[derive(Clone)]
struct Rows {
    keys: Array,
    values: Array,
    start: i32,
}

/// The lengths at which mlx-lm's ring began at its first row again: behind every pass of more than one token, as far as they
/// can be come back to. Ascending.
#[derive(Clone, Default)]
struct Turns(Vec<i32>);

/// What new queries see.
pub(crate) struct View {
    pub(crate) keys: Array,
    pub(crate) values: Array,
    pub(crate) mask: Mask,
}

/// Which of the rows each query sees.
pub(crate) enum Mask {
    All,
    Causal,
    /// `[queries, rows]`, true where it sees.
    Window(Array),
}

impl Ring {
    /// Rows are handed out in mlx-lm's order if they `is_turned`, which costs a copy of them.
    pub(crate) fn new(window: usize, is_turned: bool) -> Ring {
        Ring {
            is_turned,
            window: window as i32,
            rows: None,
            turns: Turns::default(),
            asked: Vec::new(),
            places: Places::default(),
            lent: 0,
        }
    }

    pub(crate) fn arrays(&self) -> Vec<&Array> {
        let kept = self.places.values().map(|(rows, _)| rows);
        self.rows.iter().chain(kept).flat_map(|rows| [&rows.keys, &rows.values]).collect()
    }

    /// Appends the keys and values of new tokens after the first `seen`.
    pub(crate) fn append(
        &mut self,
        seen: i32,
        keys: &Array,
        values: &Array,
    ) -> Result<View, Exception> {
        let tokens = keys.dim(2);
        let end = seen + tokens;
        let first = (seen + 1 - self.window).max(0);
        let (keys, values) = match self.rows.take() {
            Some(rows) if rows.start + rows.keys.dim(2) >= end && rows.start <= first => {
                let start = rows.start;
                let keys = written(rows.keys, keys, seen - start, end - start)?;
                let values = written(rows.values, values, seen - start, end - start)?;
                let view = (
                    between(&keys, first - start, end - start)?,
                    between(&values, first - start, end - start)?,
                );
                self.rows = Some(Rows { keys, values, start });
                view
            }
            old => self.moved(old, seen, keys, values)?,
        };
        if tokens == 1 {
            let first_row = if end <= self.window || !self.is_turned {
                0
            } else {
                (first - self.turns.last(seen)).rem_euclid(self.window)
            };
            let turned = |rows: &Array| turned(rows, first_row);
            return Ok(View { keys: turned(&keys)?, values: turned(&values)?, mask: Mask::All });
        }
        if end >= self.window {
            self.turns.push(end, end - self.window - MARGIN_ROWS);
        }
        let mask = if end - first > self.window {
            Mask::Window(self.mask(seen - first, tokens)?)
        } else {
            Mask::Causal
        };
        Ok(View { keys, values, mask })
    }

    /// The rows for whoever appends `tokens` of `heads · dim` after the first `seen` himself.
    pub(crate) fn lend(
        &mut self,
        seen: i32,
        tokens: i32,
        (heads, dim): (i32, i32),
    ) -> Result<Lent, Exception> {
        let end = seen + tokens;
        let first = (seen + 1 - self.window).max(0);
        let rows = match self.rows.take() {
            Some(rows) if rows.start + rows.keys.dim(2) >= end && rows.start <= first => rows,
            old => {
                let old_start = self.start_of(old.as_ref(), seen, first)?;
                let kept = old_start.max(end + 1 - self.window - MARGIN_ROWS).min(first);
                if let Some(old) = &old {
                    self.leave(old, kept);
                }
                let room = (1, heads, tokens + GROWTH, dim);
                let zeros = ops::zeros_dtype(&[room.0, room.1, room.2, room.3], Dtype::Float32)?;
                let join = |old: Option<&Array>| match old.filter(|_| kept < seen) {
                    None => Ok(zeros.clone()),
                    Some(old) => {
                        let old = between(old, kept - old_start, seen - old_start)?;
                        ops::concatenate(&[&old, &zeros], 2)
                    }
                };
                let keys = join(old.as_ref().map(|rows| &rows.keys))?;
                Rows { keys, values: join(old.as_ref().map(|rows| &rows.values))?, start: kept }
            }
        };
        let Rows { keys, values, start } = rows;
        self.lent = start;
        Ok(Lent { shared: Vec::new(), keys, values, start, window: Some(self.window) })
    }

    /// Takes back what was lent.
    pub(crate) fn give(&mut self, keys: Array, values: Array) {
        self.rows = Some(Rows { keys, values, start: self.lent });
    }

    /// The token of the first row; an error if rows from `first` on are not there any more.
    fn start_of(&self, old: Option<&Rows>, seen: i32, first: i32) -> Result<i32, Exception> {
        let start = old.map_or(seen, |rows| rows.start);
        if start > first {
            return Err(Exception::custom(format!("rows {first}..{start} of a window are gone")));
        }
        Ok(start)
    }

    /// Makes room for new rows by leaving out the oldest; hands back those that the new tokens see.
    fn moved(
        &mut self,
        old: Option<Rows>,
        seen: i32,
        keys: &Array,
        values: &Array,
    ) -> Result<(Array, Array), Exception> {
        let end = seen + keys.dim(2);
        let first = (seen + 1 - self.window).max(0);
        let old_start = self.start_of(old.as_ref(), seen, first)?;
        let kept = old_start.max(end + 1 - self.window - MARGIN_ROWS);
        if let Some(old) = &old {
            self.leave(old, kept);
        }
        let join = |old: Option<&Array>, new: &Array| {
            let zeros = ops::zeros_dtype(&[1, new.dim(1), GROWTH, new.dim(3)], new.dtype())?;
            let tail = |from: i32, room: Option<&Array>| {
                let mut parts = Vec::with_capacity(3);
                if let Some(old) = old.filter(|_| from < seen) {
                    parts.push(between(old, from - old_start, seen - old_start)?);
                }
                parts.push(between(new, (from - seen).max(0), end - seen)?);
                parts.extend(room.cloned());
                if parts.len() == 1 { Ok(parts.remove(0)) } else { ops::concatenate(&parts, 2) }
            };
            let stored = tail(kept, Some(&zeros))?;
            let view = if kept <= first {
                between(&stored, first - kept, end - kept)?
            } else {
                tail(first, None)?
            };
            Ok::<_, Exception>((stored, view))
        };
        let (stored_keys, keys) = join(old.as_ref().map(|rows| &rows.keys), keys)?;
        let (stored_values, values) = join(old.as_ref().map(|rows| &rows.values), values)?;
        self.rows = Some(Rows { keys: stored_keys, values: stored_values, start: kept });
        Ok((keys, values))
    }

    /// Remembers `old` for the places that need rows before `kept`.
    fn leave(&mut self, old: &Rows, kept: i32) {
        let lost = self.asked.partition_point(|&len| (len + 1 - self.window).max(0) < kept);
        for len in self.asked.drain(..lost) {
            self.places.remember(len, (old.clone(), self.turns.until(len)));
        }
        self.places.keep(places_max(self.window) as usize);
    }

    /// For `tokens` queries behind `before` rows: each sees the rows up to its own, and not more than the window.
    fn mask(&self, before: i32, tokens: i32) -> Result<Array, Exception> {
        let rows = Array::arange::<i32, i32>(0, before + tokens, 1)?.reshape(&[1, -1])?;
        let queries = Array::arange::<i32, i32>(before, before + tokens, 1)?.reshape(&[-1, 1])?;
        let ends = rows.add(Array::from_int(self.window))?;
        queries.ge(&rows)?.logical_and(queries.lt(ends)?)
    }

    /// Goes back to `len` tokens, or to the greatest length below that it can have; says which.
    pub(crate) fn truncate(&mut self, len: i32) -> i32 {
        let place = self.places.back_to(len);
        if self.rows.as_ref().is_none_or(|rows| rows.start <= (len + 1 - self.window).max(0)) {
            self.turns = self.turns.until(len);
            self.asked.retain(|&asked| asked <= len);
            return if self.rows.is_some() { len } else { 0 };
        }
        match place {
            Some((len, (rows, turns))) => {
                (self.rows, self.turns) = (Some(rows), turns);
                self.asked = vec![len];
                len
            }
            None => {
                (self.rows, self.turns) = (None, Turns::default());
                self.asked.clear();
                0
            }
        }
    }

    /// Remembers the place after the first `len` tokens.
    pub(crate) fn checkpoint(&mut self, len: i32) {
        if self.rows.is_some() && self.asked.last().is_none_or(|&last| last < len) {
            self.asked.push(len);
        }
    }

    /// The arrays for a file, of a sequence of `len` tokens.
    pub(crate) fn save(&self, len: i32) -> Result<Vec<(String, Array)>, Exception> {
        let Some(Rows { keys, values, start }) = &self.rows else { return Ok(Vec::new()) };
        let places: Vec<i32> =
            std::iter::once(*start).chain(self.turns.0.iter().copied()).collect();
        Ok(vec![
            ("keys".to_owned(), between(keys, 0, len - start)?),
            ("values".to_owned(), between(values, 0, len - start)?),
            ("places".to_owned(), Array::from_slice(&places, &[places.len() as i32])),
        ])
    }

    /// Takes back what [`Ring::save`] gave.
    pub(crate) fn load(&mut self, take: &mut dyn FnMut(&str) -> Option<Array>) {
        let (keys, values, places) = (take("keys"), take("values"), take("places"));
        let places = places.and_then(|places| {
            eval([&places]).ok()?;
            places.try_as_slice::<i32>().ok().map(<[i32]>::to_vec)
        });
        let places = places.unwrap_or_default();
        let (Some(keys), Some(values), Some((&start, turns))) =
            (keys, values, places.split_first())
        else {
            return;
        };
        self.rows = Some(Rows { keys, values, start });
        self.turns = Turns(turns.to_vec());
    }
}

impl Turns {
    /// The ring began anew after `len` tokens. Nobody comes back to before `oldest`.
    fn push(&mut self, len: i32, oldest: i32) {
        self.0.push(len);
        let unused = self.0.iter().filter(|&&turn| turn <= oldest).count();
        self.0.drain(..unused.saturating_sub(1));
    }

    /// What is known of them when `len` tokens have been seen.
    fn until(&self, len: i32) -> Turns {
        Turns(self.0.iter().copied().filter(|&turn| turn <= len).collect())
    }

    /// Where it began anew last, when `seen` tokens have been seen.
    fn last(&self, seen: i32) -> i32 {
        self.0.iter().rev().find(|&&turn| turn <= seen).copied().unwrap_or(0)
    }
}

/// The rows `start..end` of the token axis, axis 2.
fn between(rows: &Array, start: i32, end: i32) -> Result<Array, Exception> {
    let (heads, len, dim) = (rows.dim(1), rows.dim(2), rows.dim(3));
    if (start, end) == (0, len) {
        return Ok(rows.clone());
    }
    slice(rows, &[0, 0, start, 0], &[1, heads, end, dim])
}

/// A full window whose oldest row lies at `place` of mlx-lm's ring, from the ring's first row on.
fn turned(rows: &Array, place: i32) -> Result<Array, Exception> {
    let len = rows.dim(2);
    if place == 0 {
        return Ok(rows.clone());
    }
    ops::concatenate(&[between(rows, len - place, len)?, between(rows, 0, len - place)?], 2)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// What mlx-lm's ring holds: tokens by their positions.
    struct Turning {
        window: usize,
        rows: Vec<i32>,
        place: usize,
        seen: i32,
    }

    impl Turning {
        /// The rows in the order in which new tokens meet them.
        fn append(&mut self, tokens: i32) -> Vec<i32> {
            let new = self.seen..self.seen + tokens;
            self.seen += tokens;
            if tokens > 1 {
                self.rows.sort_unstable();
                self.rows.drain(..(self.rows.len() + 1).saturating_sub(self.window));
                self.rows.extend(new);
                self.place = self.rows.len();
                return self.rows.clone();
            }
            self.rows.drain(..self.rows.len().saturating_sub(self.window));
            self.place = self.place.min(self.window) % self.window;
            match self.rows.get_mut(self.place) {
                Some(row) => *row = new.start,
                None => self.rows.push(new.start),
            }
            self.place += 1;
            self.rows.clone()
        }
    }

    /// Rows whose only number is the position of their token.
    fn rows(positions: std::ops::Range<i32>) -> Array {
        let numbers: Vec<f32> = positions.map(|position| position as f32).collect();
        Array::from_slice(&numbers, &[1, 1, numbers.len() as i32, 1])
    }

    fn positions(array: &Array) -> Vec<i32> {
        let array = array.contiguous().unwrap();
        eval([&array]).unwrap();
        array.try_as_slice::<f32>().unwrap().iter().map(|&position| position as i32).collect()
    }

    fn feed(ring: &mut Ring, seen: i32, tokens: i32) -> Vec<i32> {
        let new = rows(seen..seen + tokens);
        positions(&ring.append(seen, &new, &new).unwrap().keys)
    }

    proptest! {
        #[test]
        fn rows_come_in_the_order_of_mlx_lms_ring(
            window in 2usize..9,
            passes in proptest::collection::vec(prop_oneof![6 => Just(1), 1 => 2i32..20, 1 => 100i32..400], 1..60),
        ) {
            let mut ring = Ring::new(window, true);
            let mut turning = Turning { window, rows: Vec::new(), place: 0, seen: 0 };
            for tokens in passes {
                let seen = turning.seen;
                prop_assert_eq!(feed(&mut ring, seen, tokens), turning.append(tokens));
                prop_assert!(ring.arrays()[0].dim(2) < window as i32 + MARGIN_ROWS + GROWTH);
            }
        }
    }

    #[test]
    fn places_are_bounded_and_come_back_to_just_what_was_there() {
        let mut ring = Ring::new(5, true);
        let mut views = Vec::new();
        for seen in 0..6000 {
            ring.checkpoint(seen);
            views.push(feed(&mut ring, seen, 1));
        }
        let most = 2 * (1 + places_max(5)) as usize;
        assert!(ring.arrays().len() <= most, "{} arrays", ring.arrays().len());
        let mut len = 6000;
        let mut stops = 0;
        while len > 0 {
            let wanted = (len - 300).max(0);
            let back = ring.truncate(wanted);
            assert!(back <= wanted, "{back} {len}");
            let mut there = ring.clone();
            for seen in back..back + 3 {
                assert_eq!(feed(&mut there, seen, 1), views[seen as usize]);
            }
            (len, stops) = (back, stops + 1);
        }
        assert!(stops > 3, "{stops}");
    }

    #[test]
    fn a_saved_window_goes_on_where_it_was() {
        let mut ring = Ring::new(5, true);
        feed(&mut ring, 0, 300);
        (300..333).for_each(|seen| drop(feed(&mut ring, seen, 1)));
        let saved = ring.save(333).unwrap();
        let mut loaded = Ring::new(5, true);
        loaded.load(&mut |name| {
            let found = saved.iter().find(|(saved, _)| saved == name);
            found.map(|(_, array)| array.clone())
        });
        assert_eq!(loaded.truncate(320), 320);
        assert_eq!(ring.truncate(320), 320);
        for seen in 320..330 {
            assert_eq!(feed(&mut loaded, seen, 1), feed(&mut ring, seen, 1));
        }
        // What was never saved cannot be gone on from.
        let new = rows(333..334);
        assert!(Ring::new(5, true).append(333, &new, &new).is_err());
    }
}
