//! A small, fast generator, handed to policies so that a test can repeat every choice.

/// Pseudo-random numbers for balancing (xorshift64*); not for secrets.
#[derive(Debug, Clone)]
pub struct Chance {
    state: u64,
}

impl Chance {
    /// The same seed gives the same numbers; every seed is good, zero too.
    pub fn seeded(seed: u64) -> Self {
        // Xorshift must not start at zero, and neighbouring seeds must not start alike.
        Self { state: super::hash::mix(seed) | 1 }
    }

    fn next(&mut self) -> u64 {
        self.state ^= self.state >> 12;
        self.state ^= self.state << 25;
        self.state ^= self.state >> 27;
        self.state.wrapping_mul(0x2545_F491_4F6C_DD1D)
    }

    /// A number from 0 to n - 1; 0 when n is 0.
    pub fn below(&mut self, n: usize) -> usize {
        // The high half of a 64 x 64 bit product; the bias is n / 2^64.
        ((u128::from(self.next()) * n as u128) >> 64) as usize
    }

    /// A number from 0 up to but without 1.
    pub fn unit(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1_u64 << 53) as f64
    }

    /// Fills the front of `chosen` with distinct numbers below n, all sets equally likely; says how many.
    ///
    /// Floyd's method: no rejection and no list of the others.
    pub(super) fn distinct(&mut self, n: usize, chosen: &mut [usize]) -> usize {
        let wanted = chosen.len().min(n);
        for filled in 0..wanted {
            let last = n - wanted + filled;
            let number = self.below(last + 1);
            chosen[filled] = if chosen[..filled].contains(&number) { last } else { number };
        }
        wanted
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_repeats_its_numbers_and_seeds_differ() {
        let numbers = |seed| {
            let mut chance = Chance::seeded(seed);
            (0..8).map(|_| chance.below(1000)).collect::<Vec<_>>()
        };
        assert_eq!(numbers(7), numbers(7));
        assert_ne!(numbers(7), numbers(8));
        assert_ne!(numbers(0), numbers(1));
    }

    #[test]
    fn below_is_even_and_in_range() {
        let mut chance = Chance::seeded(1);
        let mut counts = [0_u32; 5];
        for _ in 0..50_000 {
            counts[chance.below(5)] += 1;
        }
        assert!(counts.iter().all(|count| (9_700..10_300).contains(count)), "{counts:?}");
        assert_eq!(chance.below(0), 0);
        assert_eq!(chance.below(1), 0);
    }

    #[test]
    fn unit_is_even_and_in_range() {
        let mut chance = Chance::seeded(2);
        let numbers: Vec<f64> = (0..50_000).map(|_| chance.unit()).collect();
        assert!(numbers.iter().all(|number| (0.0..1.0).contains(number)));
        let mean = numbers.iter().sum::<f64>() / 50_000.0;
        assert!((mean - 0.5).abs() < 0.01, "{mean}");
    }

    #[test]
    fn distinct_numbers_are_distinct_and_even() {
        let mut chance = Chance::seeded(3);
        let mut counts = [0_u32; 20];
        for _ in 0..20_000 {
            let mut chosen = [0; 4];
            assert_eq!(chance.distinct(20, &mut chosen), 4);
            for (at, number) in chosen.iter().enumerate() {
                assert!(!chosen[..at].contains(number), "{chosen:?}");
                counts[*number] += 1;
            }
        }
        assert!(counts.iter().all(|count| (3_800..4_200).contains(count)), "{counts:?}");
    }

    #[test]
    fn distinct_numbers_of_a_small_set_are_all_of_it() {
        let mut chosen = [9; 4];
        assert_eq!(Chance::seeded(4).distinct(3, &mut chosen), 3);
        chosen[..3].sort_unstable();
        assert_eq!(chosen[..3], [0, 1, 2]);
        assert_eq!(Chance::seeded(4).distinct(0, &mut chosen), 0);
    }
}
