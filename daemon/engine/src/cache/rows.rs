//! One array that grows along the token axis, and whose beginning several sequences may share.

use mlx_rs::{Array, Dtype, error::Exception, ops::concatenate, transforms::eval};

use super::full::{first, grown, has_room, like, written};

/// A sequence that has gone on for so many tokens behind what it shares gets an array of its own: to join the two for every token
/// costs more in time than it saves in memory then. Candidate lines are shorter.
pub(crate) const SHARED_TAIL_MAX: i32 = 256;
/// So many shared parts, of forks of forks.
pub(crate) const SHARED_PARTS_MAX: usize = 4;

/// `[1, heads, tokens, dim]`.
#[derive(Clone, Default)]
pub(crate) struct Rows {
    /// The first tokens, in parts that other sequences may hold too: nobody writes to them.
    shared: Vec<Array>,
    /// The tokens behind them, with room for more. A copy of this shares it too, until one of the two writes, which costs that one
    /// a copy.
    own: Option<Array>,
}

impl Rows {
    pub(crate) fn arrays(&self) -> impl Iterator<Item = &Array> {
        self.shared.iter().chain(&self.own)
    }

    /// Appends `rows` after the first `len` tokens, and hands back all of them.
    pub(crate) fn append(&mut self, len: i32, rows: &Array) -> Result<Array, Exception> {
        self.cut(len)?;
        let end = len + rows.dim(2);
        if self.is_by_itself(end) {
            self.own = Some(self.first(len)?);
            self.shared.clear();
        }
        let (len, end) = (len - self.shared_len(), end - self.shared_len());
        let own = match self.own.take() {
            Some(own) if has_room(&own, end) => own,
            own => grown(own, like(rows), len, end)?,
        };
        let own = written(own, rows, len, end)?;
        let seen = first(&own, end)?;
        self.own = Some(own);
        self.joined(seen)
    }

    /// The arrays for whoever writes `tokens` rows of `heads · dim` after the first `len` himself: those to read, and the last one
    /// with room for them, to be given back ([`Rows::give`]).
    pub(crate) fn lend(
        &mut self,
        len: i32,
        tokens: i32,
        width: (i32, i32),
    ) -> Result<(Vec<Array>, Array), Exception> {
        self.cut(len)?;
        let end = len + tokens;
        if self.is_by_itself(end) {
            self.own = Some(self.first(len)?);
            self.shared.clear();
        }
        let (len, end) = (len - self.shared_len(), end - self.shared_len());
        let own = match self.own.take() {
            Some(own) if has_room(&own, end) => own,
            own => {
                let own = grown(own, (width, Dtype::Float32), len, end)?;
                // At once: MLX would make those of many layers before it lets go of what they are copied from.
                eval([&own])?;
                own
            }
        };
        Ok((self.shared.clone(), own))
    }

    /// Takes back what was lent, with the new rows in it.
    pub(crate) fn give(&mut self, own: Array) {
        self.own = Some(own);
    }

    /// Whether a sequence that goes on to `end` has gone on for too long to share its beginning.
    fn is_by_itself(&self, end: i32) -> bool {
        let tail = end - self.shared_len();
        !self.shared.is_empty() && (tail > SHARED_TAIL_MAX || self.shared.len() > SHARED_PARTS_MAX)
    }

    /// The first `len` tokens can be shared from now on: copies of this go on by themselves, and none of them pays for the beginning.
    pub(crate) fn share(&mut self, len: i32) -> Result<(), Exception> {
        self.cut(len)?;
        let own_len = len - self.shared_len();
        if let Some(own) = self.own.take().filter(|_| own_len > 0) {
            self.shared.push(first(&own, own_len)?);
        }
        Ok(())
    }

    /// The first `len` tokens; nothing if there are none at all.
    pub(crate) fn save(&self, len: i32) -> Result<Option<Array>, Exception> {
        if self.shared.is_empty() && self.own.is_none() {
            return Ok(None);
        }
        self.first(len).map(Some)
    }

    /// Takes back what [`Rows::save`] gave.
    pub(crate) fn load(&mut self, rows: Option<Array>) {
        *self = Rows { shared: Vec::new(), own: rows };
    }

    fn shared_len(&self) -> i32 {
        self.shared.iter().map(|part| part.dim(2)).sum()
    }

    /// Shared parts beyond the first `len` tokens go.
    fn cut(&mut self, len: i32) -> Result<(), Exception> {
        while let Some(last) = self.shared.last()
            && self.shared_len() > len
        {
            let kept = last.dim(2) - (self.shared_len() - len);
            let part = if kept > 0 { Some(first(last, kept)?) } else { None };
            self.shared.pop();
            self.shared.extend(part);
            self.own = None;
        }
        Ok(())
    }

    fn first(&self, len: i32) -> Result<Array, Exception> {
        let own_len = len - self.shared_len();
        match &self.own {
            Some(own) if own_len > 0 => self.joined(first(own, own_len)?),
            _ => {
                let mut whole = self.clone();
                whole.cut(len)?;
                match whole.shared.pop() {
                    None => Err(Exception::custom("a cache holds fewer tokens than it should")),
                    Some(last) => whole.joined(last),
                }
            }
        }
    }

    /// What is shared, and `own` behind it.
    fn joined(&self, own: Array) -> Result<Array, Exception> {
        if self.shared.is_empty() {
            return Ok(own);
        }
        let parts: Vec<&Array> = self.shared.iter().chain([&own]).collect();
        concatenate(&parts, 2)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Rows of one number each.
    fn rows(numbers: &[f32]) -> Array {
        Array::from_slice(numbers, &[1, 1, numbers.len() as i32, 1])
    }

    fn numbers(array: &Array) -> Vec<f32> {
        let array = array.contiguous().unwrap();
        eval([&array]).unwrap();
        array.try_as_slice::<f32>().unwrap().to_vec()
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

        /// Whatever is appended, cut back, shared and forked: every sequence holds what it was given, and nobody else's.
        #[test]
        fn sequences_that_share_a_beginning_do_not_meet(
            acts in prop::collection::vec((0usize..4, 0usize..3, 1usize..300, 0usize..400), 1..24)
        ) {
            let mut sequences = vec![(Rows::default(), Vec::<f32>::new())];
            let mut next = 0.0;
            for (act, which, count, back) in acts {
                let which = which % sequences.len();
                let (held, told) = &mut sequences[which];
                match act {
                    0 | 1 => {
                        let new: Vec<f32> = (0..count).map(|index| next + index as f32).collect();
                        next += count as f32;
                        let all = held.append(told.len() as i32, &rows(&new)).unwrap();
                        told.extend(new);
                        prop_assert_eq!(&numbers(&all), told);
                    }
                    2 => told.truncate(told.len().saturating_sub(back)),
                    _ => {
                        held.share(told.len() as i32).unwrap();
                        let fork = sequences[which].clone();
                        sequences.push(fork);
                    }
                }
            }
            for (held, told) in sequences.iter().filter(|(_, told)| !told.is_empty()) {
                prop_assert_eq!(&numbers(&held.save(told.len() as i32).unwrap().unwrap()), told);
            }
        }
    }

    #[test]
    fn what_was_lent_and_not_given_back_is_missed() {
        let mut lent = Rows::default();
        let (_, own) = lent.lend(0, 3, (1, 1)).unwrap();
        lent.give(own);
        assert!(lent.lend(3, 1, (1, 1)).is_ok());
        assert!(lent.lend(4, 1, (1, 1)).is_err());
        assert!(lent.append(4, &rows(&[1.0])).is_err());
        // Who begins anew misses nothing.
        assert!(lent.append(0, &rows(&[1.0])).is_ok());
    }

    #[test]
    fn a_short_fork_of_a_long_sequence_does_not_copy_its_room() {
        let mut one = Rows::default();
        one.append(0, &rows(&[1.0; 9000])).unwrap();
        let mut fork = one.clone();
        let all = fork.append(100, &rows(&[2.0])).unwrap();
        assert_eq!(numbers(&all)[99..], [1.0, 2.0]);
        let room = |rows: &Rows| rows.own.as_ref().map_or(0, |own| own.dim(2));
        assert!(room(&fork) < 1000, "{}", room(&fork));
        // Whoever goes back a little keeps the array.
        one.append(8000, &rows(&[3.0])).unwrap();
        assert!(room(&one) >= 9000);
    }

    #[test]
    fn a_fork_holds_nothing_of_its_own_and_grows_by_its_own_tokens() {
        let mut one = Rows::default();
        one.append(0, &rows(&[1.0; 5000])).unwrap();
        one.share(5000).unwrap();
        eval(one.arrays()).unwrap();
        let mut fork = one.clone();
        assert!(fork.own.is_none());
        fork.append(5000, &rows(&[2.0])).unwrap();
        let own = fork.own.as_ref().map(|own| own.dim(2));
        assert!(own.is_some_and(|len| len <= 256), "{own:?}");
        // After many tokens it is by itself.
        fork.append(5001, &rows(&[3.0; SHARED_TAIL_MAX as usize])).unwrap();
        assert!(fork.shared.is_empty());
        assert_eq!(one.shared.len(), 1);
    }
}
