//! Rotary positions.

use std::sync::{Arc, Mutex, PoisonError};

/// Cosines and sines of so many stretches of positions are remembered: all layers of a pass ask for the same.
const ANGLES_MAX: usize = 32;

/// How heads are rotated by the positions of their tokens.
#[derive(Debug)]
pub struct Rope {
    /// Radians per position of each pair of dimensions; twice as many dimensions are rotated, the others stay.
    frequencies: Vec<f32>,
    /// Pairs are neighbours; otherwise the halves of what is rotated face each other.
    interleaved: bool,
    /// Multiplies positions.
    position_scale: f32,
    /// Multiplies what is rotated.
    amplitude: f32,
    recent: Mutex<Vec<Arc<Angles>>>,
}

/// Cosines and sines of `tokens` positions from `first` on, `[tokens, pairs]`, times the amplitude.
#[derive(Debug)]
pub struct Angles {
    first: usize,
    tokens: usize,
    cosines: Vec<f32>,
    sines: Vec<f32>,
}

impl Rope {
    /// See the fields: radians per position of each pair, whether pairs are neighbours, and what positions and rotated dimensions are
    /// multiplied by (1 and 1 in most models).
    pub fn new(
        frequencies: Vec<f32>,
        interleaved: bool,
        position_scale: f32,
        amplitude: f32,
    ) -> Rope {
        Rope { frequencies, interleaved, position_scale, amplitude, recent: Mutex::default() }
    }

    /// How many dimensions of a head are rotated: its first.
    pub fn dims(&self) -> usize {
        2 * self.frequencies.len()
    }

    /// Those of `tokens` positions from `first` on.
    pub fn angles(&self, first: usize, tokens: usize) -> Arc<Angles> {
        let mut recent = self.recent.lock().unwrap_or_else(PoisonError::into_inner);
        let is_it = |angles: &Arc<Angles>| angles.first == first && angles.tokens == tokens;
        if let Some(place) = recent.iter().position(is_it) {
            let found = recent.remove(place);
            recent.push(found.clone());
            return found;
        }
        let made = Arc::new(self.made(first, tokens));
        if recent.len() >= ANGLES_MAX {
            recent.remove(0);
        }
        recent.push(made.clone());
        made
    }

    fn made(&self, first: usize, tokens: usize) -> Angles {
        let count = tokens * self.frequencies.len();
        let (mut cosines, mut sines) = (Vec::with_capacity(count), Vec::with_capacity(count));
        for position in first..first + tokens {
            let position = position as f32 * self.position_scale;
            for frequency in &self.frequencies {
                // The product is rounded as MLX rounds it; so is what becomes of it.
                let angle = f64::from(position * frequency);
                cosines.push(angle.cos() as f32 * self.amplitude);
                sines.push(angle.sin() as f32 * self.amplitude);
            }
        }
        Angles { first, tokens, cosines, sines }
    }

    /// Rotates one head of a token, the `token`th of `angles`. A head that is narrower than the rotation is left as it is.
    #[inline(always)]
    pub(crate) fn rotate(&self, head: &mut [f32], angles: &Angles, token: usize) {
        let pairs = self.frequencies.len();
        let at = token * pairs..(token + 1) * pairs;
        let (cosines, sines) = (&angles.cosines[at.clone()], &angles.sines[at]);
        let Some(rotated) = head.get_mut(..2 * pairs) else { return };
        if self.interleaved {
            for ((pair, &cos), &sin) in
                rotated.as_chunks_mut::<2>().0.iter_mut().zip(cosines).zip(sines)
            {
                *pair = [pair[0] * cos - pair[1] * sin, pair[0] * sin + pair[1] * cos];
            }
        } else {
            let (left, right) = rotated.split_at_mut(pairs);
            for (((left, right), &cos), &sin) in left.iter_mut().zip(right).zip(cosines).zip(sines)
            {
                (*left, *right) = (*left * cos - *right * sin, *left * sin + *right * cos);
            }
        }
    }
}

/// Rotates heads that lie one after the other, `[tokens, heads, dim]`, the first token at position `first`.
pub fn rotate(rope: &Rope, first: usize, heads: usize, dim: usize, x: &mut [f32]) {
    let width = (heads * dim).max(1);
    let angles = rope.angles(first, x.len() / width);
    for (token, row) in x.chunks_exact_mut(width).enumerate() {
        row.chunks_exact_mut(dim.max(1)).for_each(|head| rope.rotate(head, &angles, token));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Turns by a right angle per position.
    fn right_angles(interleaved: bool) -> Rope {
        Rope::new(vec![std::f32::consts::FRAC_PI_2, 0.0], interleaved, 1.0, 2.0)
    }

    fn close(x: &[f32], y: &[f32]) {
        assert!(x.iter().zip(y).all(|(x, y)| (x - y).abs() < 1e-5), "{x:?}, not {y:?}");
    }

    #[test]
    fn pairs_are_halves_or_neighbours_and_the_rest_stays() {
        let x = [1.0, 2.0, 3.0, 4.0, 5.0, 1.0, 2.0, 3.0, 4.0, 5.0];
        let mut halves = x;
        rotate(&right_angles(false), 1, 1, 5, &mut halves);
        close(&halves, &[-6.0, 4.0, 2.0, 8.0, 5.0, -2.0, 4.0, -6.0, 8.0, 5.0]);
        let mut neighbours = x;
        rotate(&right_angles(true), 1, 1, 5, &mut neighbours);
        close(&neighbours, &[-4.0, 2.0, 6.0, 8.0, 5.0, -2.0, -4.0, 6.0, 8.0, 5.0]);
    }

    #[test]
    fn angles_are_remembered_and_bounded() {
        let rope = right_angles(false);
        let first = rope.angles(7, 3);
        assert!(Arc::ptr_eq(&first, &rope.angles(7, 3)));
        (0..2 * ANGLES_MAX).for_each(|position| drop(rope.angles(position, 1)));
        assert_eq!(rope.recent.lock().unwrap().len(), ANGLES_MAX);
        assert!(!Arc::ptr_eq(&first, &rope.angles(7, 3)));
    }
}
