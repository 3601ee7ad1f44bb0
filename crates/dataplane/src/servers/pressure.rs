//! How long a newcomer to the queue would wait, and how long it may. Pure: times are handed in.
//!
//! A burst may fill the queue up to its limits. When there is more work than can be done for longer than that, a long queue
//! helps nobody: everyone is served late, and whoever gave up is served in vain. Newcomers who would wait too long are
//! then refused at the door, at once, and those who are let in are served soon.

/// Handovers that must have been seen before the time between them is believed.
const SAMPLES: u32 = 8;
/// Share of the newest sample in the mean.
const NEWEST: f64 = 1.0 / 16.0;
/// A time between two handovers counts as this many times the mean at most: one stall is not a pace, and a pace that
/// has changed is learned all the same, by a fifth with each handover.
const OUTLIER: f64 = 4.0;
/// Up to this time nothing is an outlier.
const USUAL_US: f64 = 1_000.0;

/// What a pool allows.
#[derive(Debug, Clone, Copy)]
pub struct Patience {
    /// Longest wait there is.
    pub timeout_us: u64,
    /// Wait that may last.
    pub target_us: u64,
    /// Requests that are served at the same time; so many may always wait.
    pub slots: usize,
}

/// Seen since somebody began to wait; forgotten when nobody does.
#[derive(Debug, Default, Clone, Copy)]
pub struct Pressure {
    last_us: Option<u64>,
    interval_us: f64,
    samples: u32,
    /// Everyone served since then had waited for longer than the target.
    late_since_us: Option<u64>,
}

impl Pressure {
    /// Somebody who waited for `waited_us` got a slot.
    pub fn handed_over(&mut self, now_us: u64, waited_us: u64, target_us: u64) {
        if let Some(last_us) = self.last_us.replace(now_us) {
            let mut interval_us = now_us.saturating_sub(last_us) as f64;
            if self.samples >= SAMPLES {
                interval_us = interval_us.min(USUAL_US.max(self.interval_us * OUTLIER));
            }
            let share = NEWEST.max(1.0 / f64::from(self.samples + 1));
            self.interval_us += (interval_us - self.interval_us) * share;
            self.samples = self.samples.saturating_add(1);
        }
        if waited_us <= target_us {
            self.late_since_us = None;
        } else {
            self.late_since_us.get_or_insert(now_us);
        }
    }

    /// Whether somebody with `ahead` others in front may wait.
    pub fn admits(&self, now_us: u64, ahead: usize, patience: &Patience) -> bool {
        if ahead < patience.slots || self.samples < SAMPLES {
            return true;
        }
        let lasting = self.late_since_us.is_some_and(|since_us| now_us.saturating_sub(since_us) > patience.timeout_us);
        let may_us = if lasting { patience.target_us.min(patience.timeout_us) } else { patience.timeout_us };
        (ahead + 1) as f64 * self.interval_us <= may_us as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: u64 = 1_000;
    const PATIENCE: Patience = Patience { timeout_us: 10_000 * MS, target_us: 500 * MS, slots: 4 };

    /// One request every `interval_ms`, each of which had waited for `waited_ms`.
    fn after(seconds: u64, interval_ms: u64, waited_ms: u64) -> (Pressure, u64) {
        let (mut pressure, mut now) = (Pressure::default(), 1);
        while now < seconds * 1_000 * MS {
            now += interval_ms * MS;
            pressure.handed_over(now, waited_ms * MS, PATIENCE.target_us);
        }
        (pressure, now)
    }

    fn room(pressure: &Pressure, now: u64) -> usize {
        (0..10_000).find(|ahead| !pressure.admits(now, *ahead, &PATIENCE)).unwrap_or(10_000)
    }

    #[test]
    fn nothing_is_known_at_first() {
        assert_eq!(room(&Pressure::default(), 1), 10_000);
        let (pressure, now) = after(1, 200, 0);
        assert_eq!(room(&pressure, now), 10_000, "too few samples");
    }

    #[test]
    fn who_would_wait_beyond_the_timeout_need_not_begin() {
        let (pressure, now) = after(5, 10, 100);
        assert_eq!(room(&pressure, now), 1_000);
    }

    #[test]
    fn overload_that_lasts_shortens_the_queue() {
        let (pressure, now) = after(9, 10, 900);
        assert_eq!(room(&pressure, now), 1_000, "a burst");
        let (mut pressure, now) = after(12, 10, 900);
        assert_eq!(room(&pressure, now), 50, "it lasts");
        pressure.handed_over(now + 10 * MS, 400 * MS, PATIENCE.target_us);
        assert_eq!(room(&pressure, now + 10 * MS), 1_000, "it is over");
    }

    #[test]
    fn as_many_as_are_served_may_always_wait() {
        let (pressure, now) = after(60, 2_000, 20_000);
        assert_eq!(room(&pressure, now), PATIENCE.slots);
    }

    #[test]
    fn one_stall_is_not_a_pace() {
        let (mut pressure, mut now) = after(5, 10, 100);
        now += 30_000 * MS;
        pressure.handed_over(now, 30_000 * MS, PATIENCE.target_us);
        assert!(room(&pressure, now) > 800);
        for _ in 0..100 {
            now += 1_000 * MS;
            pressure.handed_over(now, 400 * MS, PATIENCE.target_us);
        }
        assert!((10..=11).contains(&room(&pressure, now)), "a pace that lasts");
    }

    #[test]
    fn the_mean_follows_what_changes() {
        let (mut pressure, mut now) = after(5, 100, 0);
        for _ in 0..200 {
            now += MS;
            pressure.handed_over(now, 0, PATIENCE.target_us);
        }
        assert!((9_000..=10_000).contains(&room(&pressure, now)));
    }
}
