//! A quantizer as a function of one number.

/// What a quantizer does to one element of a group, for given parameters: ascending values with a
/// threshold between each two neighbours. A number becomes the value of the interval that it lies
/// in.
#[derive(Debug, Clone, PartialEq)]
pub struct Staircase {
    values: Vec<f32>,
    thresholds: Vec<f32>,
    /// The first value and the step, where values are evenly spaced and thresholds lie half way.
    even: Option<(f32, f32)>,
}

impl Staircase {
    /// Returns the values `first`, `first + step`, .., with thresholds half way between them.
    pub fn even(first: f32, step: f32, count: usize) -> Self {
        let value = |index: usize| first + step * index as f32;
        Self {
            values: (0..count).map(value).collect(),
            thresholds: (1..count).map(|index| value(index) - step / 2.0).collect(),
            even: Some((first, step)),
        }
    }

    /// Returns these ascending values, with thresholds half way between them.
    pub fn midway(values: Vec<f32>) -> Self {
        let thresholds = values.windows(2).map(|pair| pair[0] + (pair[1] - pair[0]) / 2.0);
        Self { thresholds: thresholds.collect(), values, even: None }
    }

    /// Returns these ascending values and ascending thresholds, of which there is one fewer.
    pub fn new(values: Vec<f32>, thresholds: Vec<f32>) -> Self {
        Self { values, thresholds, even: None }
    }

    /// Returns the values, ascending.
    pub fn values(&self) -> &[f32] {
        &self.values
    }

    /// Returns the thresholds, ascending. There is one fewer than values.
    pub fn thresholds(&self) -> &[f32] {
        &self.thresholds
    }

    /// Returns the value of x. On a threshold it is one of the two values beside it.
    pub fn value(&self, x: f32) -> f32 {
        let last = self.values.len().saturating_sub(1);
        let index = match self.even {
            // The cast from float saturates, so a negative number becomes 0.
            Some((first, step)) => ((x - first) / step).round_ties_even() as usize,
            None => self.thresholds.partition_point(|threshold| x > *threshold),
        };
        self.values.get(index.min(last)).copied().unwrap_or(f32::NAN)
    }

    /// Checks that this is the staircase of a quantizer with this number of levels. Parameters that
    /// are not numbers give values that are not, which the trainer finds by itself.
    ///
    /// # Errors
    /// What is wrong.
    pub(crate) fn check(&self, levels: usize) -> Result<(), String> {
        let (values, thresholds) = (self.values.len(), self.thresholds.len());
        if values != levels {
            return Err(format!("has {values} values, and the quantizer {levels} levels"));
        }
        if thresholds + 1 != values {
            return Err(format!(
                "has {thresholds} thresholds for {values} values, and needs one fewer than values"
            ));
        }
        let falls = |numbers: &[f32]| numbers.windows(2).any(|pair| pair[0] > pair[1]);
        if falls(&self.thresholds) {
            return Err("has thresholds that do not ascend".into());
        }
        Ok(())
    }

    /// Returns the staircase with values and thresholds times a positive factor.
    pub(crate) fn scaled(&self, factor: f32) -> Self {
        let times = |values: &[f32]| values.iter().map(|value| value * factor).collect();
        Self {
            values: times(&self.values),
            thresholds: times(&self.thresholds),
            even: self.even.map(|(first, step)| (first * factor, step * factor)),
        }
    }

    /// Returns the staircase with the same thresholds, and values times a factor.
    pub(crate) fn with_values_times(&self, factor: f32) -> Self {
        let values = self.values.iter().map(|value| value * factor).collect();
        Self { values, thresholds: self.thresholds.clone(), even: None }
    }

    /// Returns the smallest divisor d > 0 for which x/d lies between the lowest and the highest
    /// value, or 0 if x is 0 or no such divisor exists. The lowest value has to be 0 or less, and
    /// the highest 0 or more.
    pub(crate) fn needs(&self, x: f32) -> f32 {
        let part = |end: Option<&f32>| match end {
            Some(end) if *end != 0.0 && x / end > 0.0 => x / end,
            _ => 0.0,
        };
        part(self.values.first()).max(part(self.values.last()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_staircase_has_a_value_for_each_level() {
        let reason = |values: &[f32], thresholds: &[f32]| {
            Staircase::new(values.to_vec(), thresholds.to_vec()).check(2).err().unwrap_or_default()
        };
        assert_eq!(reason(&[-1.0, 1.0], &[0.0]), "");
        assert!(reason(&[], &[]).contains("0 values, and the quantizer 2 levels"));
        assert!(reason(&[0.0, 1.0], &[]).contains("0 thresholds for 2 values"));
        let falling = Staircase::new(vec![0.0, 1.0, 2.0], vec![1.0, 0.5]);
        assert!(falling.check(3).unwrap_err().contains("do not ascend"));
    }
}
