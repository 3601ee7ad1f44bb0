//! How long ago the primary was where a replica is now.
//!
//! A replica's own word is not enough: one that is cut off believes that it has everything, and on an idle primary the
//! last transaction is old without anybody being late. The primary's positions over time tell both apart.

use std::collections::VecDeque;

/// Most positions that are kept.
const KEPT_MAX: usize = 512;

/// Where a primary was when. One for each primary; a promotion begins a new one.
#[derive(Debug, Default)]
pub struct History {
    /// Times and positions, both growing.
    noted: VecDeque<(u64, u64)>,
}

impl History {
    /// The primary was at `position` at some time after `begun_us`. Samples must come in order.
    pub fn note(&mut self, begun_us: u64, position: u64) {
        match self.noted.back_mut() {
            // It has not moved: the first time it was there is the one that counts.
            Some((_, last)) if *last >= position => return,
            _ => self.noted.push_back((begun_us, position)),
        }
        if self.noted.len() > KEPT_MAX {
            self.thin();
        }
    }

    /// Makes one of every two in the older half: the time of the first and the position of the second, so that a replica
    /// can only look later than it is.
    fn thin(&mut self) {
        let newer = self.noted.split_off(KEPT_MAX / 2);
        let older = std::mem::take(&mut self.noted);
        let (times, positions) = (older.iter().step_by(2), older.iter().skip(1).step_by(2));
        self.noted = times.zip(positions).map(|((time, _), (_, position))| (*time, *position)).chain(newer).collect();
    }

    /// How long, in microseconds, a replica at `position` has been without something that the primary had: zero when it has
    /// all that was noted. It is exact to the time between two samples, and more coarse for old positions.
    pub fn lag_us(&self, position: u64, now_us: u64) -> u64 {
        let missing = self.noted.partition_point(|(_, noted)| *noted <= position);
        self.noted.get(missing).map_or(0, |(begun_us, _)| now_us.saturating_sub(*begun_us))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lag_is_the_age_of_the_first_thing_missing() {
        let mut history = History::default();
        assert_eq!(history.lag_us(0, 1000), 0);
        for (begun_us, position) in [(100, 10), (200, 10), (300, 20), (400, 30), (500, 30)] {
            history.note(begun_us, position);
        }
        for (position, lag_us) in [(30, 0), (31, 0), (29, 600), (20, 600), (19, 700), (10, 700), (9, 900)] {
            assert_eq!(history.lag_us(position, 1000), lag_us, "at {position}");
        }
    }

    #[test]
    fn a_long_history_is_thinned_and_still_never_flatters() {
        let mut history = History::default();
        for step in 1..=100_000 {
            history.note(step * 10, step);
        }
        assert!(history.noted.len() <= KEPT_MAX);
        let now_us = 1_000_010;
        for position in [0, 1, 5_000, 99_000, 99_998] {
            let (told, exact) = (history.lag_us(position, now_us), now_us - (position + 1) * 10);
            assert!(told >= exact, "at {position}: {told} instead of {exact}");
        }
        assert_eq!(history.lag_us(99_999, now_us), 10);
        assert_eq!(history.lag_us(100_000, now_us), 0);
    }
}
