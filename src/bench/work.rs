//! What a measurement runs, and what of its times counts.

/// What to run.
#[derive(Debug, Clone, Copy)]
pub struct Work {
    /// Tokens of the prompt.
    pub prompt: u32,
    /// Tokens written after it.
    pub tokens: u32,
    /// Times that both are repeated; the median counts.
    pub repeats: u32,
}

/// The middle one; 0 of none.
pub(super) fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    match values.len() {
        0 => 0.0,
        n if n % 2 == 1 => values[n / 2],
        n => (values[n / 2 - 1] + values[n / 2]) / 2.0,
    }
}

#[cfg(test)]
mod tests {
    use super::median;

    #[test]
    fn the_middle_one() {
        assert_eq!(median(vec![]), 0.0);
        assert_eq!(median(vec![7.0]), 7.0);
        assert_eq!(median(vec![9.0, 1.0, 2.0]), 2.0);
        assert_eq!(median(vec![9.0, 1.0, 2.0, 4.0]), 3.0);
        assert_eq!(median(vec![f64::INFINITY, 1.0, 2.0]), 2.0);
    }
}
