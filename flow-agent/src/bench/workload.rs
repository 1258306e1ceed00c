//! Workloads: which flow each packet of a measurement belongs to. Seeded.

use flow_common::random::SplitMix64;

/// How packets spread over flows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Distribution {
    /// Every flow alike.
    Uniform,
    /// Few flows have most packets: exponent 1.1.
    Zipf,
}

impl Distribution {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Uniform, Self::Zipf];

    /// The name in results.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Uniform => "uniform",
            Self::Zipf => "zipf",
        }
    }
}

const ZIPF_EXPONENT: f64 = 1.1;

/// The flows, numbers below `flows`, of `packets` packets.
pub fn workload(distribution: Distribution, flows: u32, packets: usize, seed: u64) -> Vec<u32> {
    let mut random = SplitMix64::new(seed);
    match distribution {
        Distribution::Uniform => {
            (0..packets).map(|_| (random.next() % u64::from(flows)) as u32).collect()
        }
        Distribution::Zipf => {
            let mut sum = 0.0;
            let cumulated: Vec<f64> = (1..=flows)
                .map(|rank| {
                    sum += f64::from(rank).powf(-ZIPF_EXPONENT);
                    sum
                })
                .collect();
            (0..packets)
                .map(|_| {
                    let uniform = (random.next() >> 11) as f64 / (1u64 << 53) as f64;
                    let rank = cumulated.partition_point(|&share| share < uniform * sum) as u32;
                    // Neighbours in rank are not neighbours in number.
                    rank.min(flows - 1).wrapping_mul(0x9e37_79b1)
                })
                .collect()
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;

    #[test]
    fn zipf_is_skewed_and_uniform_is_not() {
        let most = |distribution| {
            let mut counts = HashMap::new();
            for flow in workload(distribution, 1000, 100_000, 1) {
                *counts.entry(flow).or_insert(0u32) += 1;
            }
            assert!(counts.len() <= 1000);
            counts.into_values().max().expect("packets")
        };
        assert!(most(Distribution::Uniform) < 200);
        // The first of 1,000 ranks has 1 / 5.57 of all.
        assert!((17_000..19_000).contains(&most(Distribution::Zipf)));
    }
}
