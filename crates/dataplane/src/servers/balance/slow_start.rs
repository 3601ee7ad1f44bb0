//! A new server's share grows: cold caches and unfilled connection pools make its first requests slow.

/// The least part of its weight that a server starts with, so that it gets requests at all.
const LEAST: f64 = 0.1;

/// What to multiply a server's weight by: 0.1 at age 0, 1 from `slow_start_ms` on, a straight line between.
pub fn factor(age_ms: u64, slow_start_ms: u64) -> f64 {
    if age_ms >= slow_start_ms {
        return 1.0;
    }
    LEAST + (1.0 - LEAST) * (age_ms as f64 / slow_start_ms as f64)
}

#[cfg(test)]
mod tests {
    use super::factor;

    #[test]
    fn the_factor_climbs_from_a_tenth_to_one() {
        for (age_ms, slow_start_ms, expected) in [
            (0, 10_000, 0.1),
            (5_000, 10_000, 0.55),
            (10_000, 10_000, 1.0),
            (u64::MAX, 10_000, 1.0),
            (0, 0, 1.0),
            (0, u64::MAX, 0.1),
        ] {
            let found = factor(age_ms, slow_start_ms);
            assert!((found - expected).abs() < 1e-9, "{age_ms} of {slow_start_ms}: {found}");
        }
    }
}
