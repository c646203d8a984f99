//! Calibration: initial values of parameters from data.

use burn::tensor::Tensor;
use serde::{Deserialize, Serialize};

use crate::{error::QuantizerError, host::values, site::Grouping, staircase::Staircase};

/// How the clipping value is found from samples x.
///
/// ```
/// use burn::tensor::{Device, Tensor};
/// use quant_core::{Calibration, Levels, Method, QuantizerConfig, Role, Site};
///
/// let device = Device::flex();
/// let config = QuantizerConfig::new(Method::Lsq, Role::Activation, Levels::from_bits(2)?);
/// let mut quantizer = config.init(&Site::activation("quant", 1), &device)?;
/// let x = Tensor::<1>::from_floats([0.0, 0.5, 0.5, 1.0, 4.0], &device);
/// quantizer.calibrate_on(x.clone(), Calibration::MinMax);
/// assert_eq!(quantizer.learned_values("clip_val"), Some(vec![4.0]));
/// // Clipping some samples can make the squared error smaller, and never makes it larger.
/// let info = quantizer.calibrate_on(x, Calibration::SquaredError).unwrap();
/// assert!(info.error_after <= info.error_before);
/// # Ok::<(), quant_core::QuantizerError>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Calibration {
    /// The value with the least squared error, of 100 evenly spaced candidates; the largest is the
    /// smallest value that clips no sample.
    #[default]
    SquaredError,
    /// LSQ's step 2·mean|x|/sqrt(Qp) (Esser et al. 2020, section 2.1), as the clipping value
    /// 2·mean|x|·sqrt(Qp). Qp is the number of levels above 0 (n/2 if the levels are symmetric and
    /// their number is even).
    MeanMagnitude,
    /// The smallest range that holds all samples. An unsigned range cannot hold negative samples.
    MinMax,
    /// The smallest range that holds this percentage of the samples.
    Percentile(Percentile),
}

/// A percentage: above 0, at most 100.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "f64", into = "f64")]
pub struct Percentile(f64);

impl Percentile {
    /// Returns the percentage `percent`, such as 99.9.
    ///
    /// # Errors
    /// [`QuantizerError::Option`] unless `percent` is above 0 and at most 100.
    pub fn new(percent: f64) -> Result<Self, QuantizerError> {
        if percent > 0.0 && percent <= 100.0 {
            Ok(Self(percent))
        } else {
            Err(QuantizerError::Option {
                option: "percentile".into(),
                value: percent.to_string(),
                accepted: "expected a number above 0 and at most 100",
            })
        }
    }

    /// Returns the percentage as a number.
    pub fn get(self) -> f64 {
        self.0
    }
}

impl TryFrom<f64> for Percentile {
    type Error = QuantizerError;

    fn try_from(percent: f64) -> Result<Self, QuantizerError> {
        Self::new(percent)
    }
}

impl From<Percentile> for f64 {
    fn from(percentile: Percentile) -> f64 {
        percentile.0
    }
}

/// The result of calibrating one quantizer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CalibrationInfo {
    /// Name of the layer.
    pub layer: String,
    /// How the clipping value was found.
    pub calibration: Calibration,
    /// The number of finite elements that were seen.
    pub elements: u64,
    /// The name of the parameter whose values `before` and `after` are: the clipping value or step
    /// size, if the quantizer has one.
    pub parameter: String,
    /// The values of the parameter before calibration, one per group.
    #[serde(deserialize_with = "crate::number::all_or_nan")]
    pub before: Vec<f32>,
    /// The values of the parameter after calibration, one per group.
    #[serde(deserialize_with = "crate::number::all_or_nan")]
    pub after: Vec<f32>,
    /// The sum of squared quantization errors divided by the sum of squared inputs, before
    /// calibration: 0 is perfect, and 1 is the error of zeros. Where the method normalises its
    /// input, the inputs are the normalised ones.
    #[serde(deserialize_with = "crate::number::or_nan")]
    pub error_before: f64,
    /// The same ratio after calibration.
    #[serde(deserialize_with = "crate::number::or_nan")]
    pub error_after: f64,
}

/// The number of samples that are kept per group for the squared error.
const SAMPLES: usize = 8192;

/// What was seen of one group, from its finite elements only.
#[derive(Debug, Clone)]
pub(crate) struct GroupSamples {
    pub(crate) elements: u64,
    pub(crate) lowest: f32,
    pub(crate) highest: f32,
    sum: f64,
    kept: Vec<f32>,
}

impl Default for GroupSamples {
    fn default() -> Self {
        let (lowest, highest) = (f32::INFINITY, f32::NEG_INFINITY);
        Self { elements: 0, lowest, highest, sum: 0.0, kept: Vec::new() }
    }
}

/// What was seen, one entry for each group.
#[derive(Debug, Clone, Default)]
pub(crate) struct Samples(pub(crate) Vec<GroupSamples>);

impl Samples {
    /// Returns the samples of one tensor.
    pub(crate) fn of<const D: usize>(x: &Tensor<D>, grouping: Grouping) -> Self {
        let mut samples = Self::default();
        samples.add(x, grouping);
        samples
    }

    /// Returns all samples that were kept, at most 8192 per group.
    pub(crate) fn values(self) -> Vec<f32> {
        self.0.into_iter().flat_map(|group| group.kept).collect()
    }

    /// Returns the samples that were kept, at most 8192 per group, as one list for each group.
    pub(crate) fn by_group(self) -> Vec<Vec<f32>> {
        self.0.into_iter().map(|group| group.kept).collect()
    }

    pub(crate) fn add<const D: usize>(&mut self, x: &Tensor<D>, grouping: Grouping) {
        let [_, groups, inner] = grouping.view(&x.shape());
        self.0.resize_with(groups, GroupSamples::default);
        let values = values(x.clone().detach());
        // An odd stride visits all positions of images with even sides.
        let stride = (values.len() / groups / (SAMPLES / 4)).max(1) | 1;
        for (row, values) in values.chunks(inner.max(1)).enumerate() {
            self.0[row % groups].add(values, stride);
        }
    }

    /// Returns the sum of squared errors of the staircases divided by the sum of squared inputs.
    pub(crate) fn relative_error(&self, staircases: &[Staircase]) -> f64 {
        let energy: f64 = self.0.iter().flat_map(GroupSamples::kept).map(square).sum();
        let groups = self.0.iter().zip(staircases);
        let error: f64 = groups.map(|(group, staircase)| group.error(staircase)).sum();
        if energy > 0.0 { error / energy } else { 0.0 }
    }
}

impl GroupSamples {
    fn add(&mut self, values: &[f32], stride: usize) {
        let finite = || values.iter().copied().filter(|x| x.is_finite());
        self.elements += finite().count() as u64;
        self.sum += finite().map(|x| f64::from(x.abs())).sum::<f64>();
        self.lowest = finite().fold(self.lowest, f32::min);
        self.highest = finite().fold(self.highest, f32::max);
        self.kept.extend(values.iter().step_by(stride).filter(|x| x.is_finite()));
        while self.kept.len() > SAMPLES {
            let mut index = 0;
            self.kept.retain(|_| {
                index += 1;
                index % 2 == 1
            });
        }
    }

    pub(crate) fn kept(&self) -> impl Iterator<Item = f32> {
        self.kept.iter().copied()
    }

    pub(crate) fn mean_magnitude(&self) -> f32 {
        (self.sum / self.elements.max(1) as f64) as f32
    }

    pub(crate) fn largest_magnitude(&self) -> f32 {
        self.highest.max(-self.lowest).max(0.0)
    }

    /// Returns the smallest sample that at least `percent` percent of the samples do not exceed.
    pub(crate) fn quantile(&self, percent: f64) -> f32 {
        quantile(self.kept.clone(), percent)
    }

    /// Returns the sum of the squared errors of the kept samples.
    pub(crate) fn error(&self, staircase: &Staircase) -> f64 {
        self.kept().map(|x| square(x - staircase.value(x))).sum()
    }

    /// Adds samples of the group.
    pub(crate) fn extend(&mut self, samples: &[f32]) {
        self.add(samples, 1);
    }

    /// Returns the scale for a quantizer whose staircase for a scale is `stairs(scale)`. The least
    /// squared error is computed from these staircases. The other calibrations assume that values
    /// are proportional to the scale.
    pub(crate) fn scale(
        &self,
        calibration: Calibration,
        stairs: impl Fn(f32) -> Staircase,
    ) -> Option<f32> {
        let unit = stairs(1.0);
        let steps = unit.values().iter().filter(|value| **value > 0.0).count() as f32;
        if calibration != Calibration::SquaredError {
            return self.clipping_value(calibration, &unit, steps);
        }
        let largest = self.clipping_value(Calibration::MinMax, &unit, steps)?;
        let candidates = (1..=100).map(|part| largest * part as f32 / 100.0);
        let candidates = candidates.filter(|scale| *scale > 0.0 && scale.is_finite());
        let errors = candidates.map(|scale| (scale, self.error(&stairs(scale))));
        errors.min_by(|a, b| a.1.total_cmp(&b.1)).map(|(scale, _)| scale)
    }

    /// Returns the clipping value for a quantizer that has the staircase `unit` at the clipping
    /// value 1, and `steps` levels above 0. Returns `None` where no sample has a sign that the
    /// range includes.
    pub(crate) fn clipping_value(
        &self,
        calibration: Calibration,
        unit: &Staircase,
        steps: f32,
    ) -> Option<f32> {
        let largest = unit.needs(self.lowest).max(unit.needs(self.highest));
        let clip = match calibration {
            _ if self.elements == 0 => return None,
            Calibration::MinMax => largest,
            Calibration::Percentile(percent) => {
                quantile(self.kept().map(|x| unit.needs(x)).collect(), percent.get())
            }
            Calibration::MeanMagnitude => 2.0 * self.mean_magnitude() * steps.sqrt(),
            Calibration::SquaredError => (1..=100)
                .map(|part| largest * part as f32 / 100.0)
                .filter(|clip| *clip > 0.0)
                .map(|clip| (clip, self.error(&unit.scaled(clip))))
                .min_by(|a, b| a.1.total_cmp(&b.1))
                .map_or(0.0, |(clip, _)| clip),
        };
        (clip > 0.0 && clip.is_finite()).then_some(clip)
    }
}

fn quantile(mut values: Vec<f32>, percent: f64) -> f32 {
    values.sort_by(f32::total_cmp);
    let rank = (percent / 100.0 * values.len() as f64).ceil() as usize;
    values.get(rank.clamp(1, values.len().max(1)) - 1).copied().unwrap_or(0.0)
}

fn square(x: f32) -> f64 {
    f64::from(x) * f64::from(x)
}
