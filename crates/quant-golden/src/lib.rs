//! Helps the tests of this workspace: it reads the golden vectors with which they compare their
//! results, and reports on the comparison. [`hostile`] damages files for the readers.
//!
//! Each crate keeps its vectors in `tests/golden`. The environment variable `QUANT_GOLDEN_DIR`
//! names another folder in the same format to be checked instead.

pub mod hostile;

use std::{
    collections::BTreeMap,
    env, fs,
    path::{Path, PathBuf},
    process::ExitCode,
};

use safetensors::{Dtype, SafeTensors};
use serde::de::DeserializeOwned;

/// Returns the 64-bit FNV-1a hash of a text.
pub fn fnv1a64(text: &str) -> u64 {
    text.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    })
}

fn splitmix64(x: u64) -> u64 {
    let z = x.wrapping_add(0x9E37_79B9_7F4A_7C15);
    let z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

/// Returns number `index` of the uniform sequence called `name`, in [0, 1).
pub fn uniform(name: &str, index: u64) -> f32 {
    (splitmix64(fnv1a64(name).wrapping_add(index)) >> 40) as f32 / (1u32 << 24) as f32
}

/// Returns number `index` of the approximately normal sequence called `name`.
pub fn normal(name: &str, index: u64) -> f32 {
    let sum: f64 = (0..4).map(|k| f64::from(uniform(name, 4 * index + k))).sum();
    ((sum - 2.0) * 3f64.sqrt()) as f32
}

/// Returns the first `count` numbers of [`normal`].
pub fn normals(name: &str, count: usize) -> Vec<f32> {
    (0..count as u64).map(|index| normal(name, index)).collect()
}

/// Returns the values that golden networks give to the parameter or running statistic with this
/// PyTorch name and this shape.
pub fn parameter(name: &str, shape: &[usize]) -> Vec<f32> {
    let last = name.rsplit('.').next().unwrap_or_default();
    let count: usize = shape.iter().product();
    let positive = ["running_var", "clip_val", "gamma"].contains(&last)
        || ["alpha", "fixup_scale"].iter().any(|start| last.starts_with(start))
        || name.contains("scales.")
        || last == "weight" && shape.len() < 2;
    let bound = match (last, shape.len()) {
        ("weight", 2..) => (3.0 * shape[0] as f64 / count as f64).sqrt(),
        _ => 0.1,
    };
    let uniforms = (0..count as u64).map(|index| f64::from(uniform(name, index)));
    if positive {
        uniforms.map(|u| (0.5 + u) as f32).collect()
    } else {
        uniforms.map(|u| ((2.0 * u - 1.0) * bound) as f32).collect()
    }
}

/// The relative amounts by which [`nudged`] moves values: one ulp or a few.
pub const NUDGES: [f32; 12] =
    [1e-7, -1e-7, 1.4e-7, -1.4e-7, 1.8e-7, -1.8e-7, 2.2e-7, -2.2e-7, 2.6e-7, -2.6e-7, 3e-7, -3e-7];

/// Moves every value up or down by the relative amount `by`, in a pattern that depends on `by`. If
/// results depend on rounding in the last place, as in low-bit networks, runs from nudged values
/// show by how much.
pub fn nudged(values: Vec<f32>, by: f32) -> Vec<f32> {
    let pattern = by.to_bits().to_string();
    let nudge = |(index, x)| x * if uniform(&pattern, index) < 0.5 { 1.0 + by } else { 1.0 - by };
    (0..).zip(values).map(nudge).collect()
}

/// A folder of golden files.
#[derive(Debug)]
pub struct Folder(PathBuf);

impl Folder {
    /// Returns the parsed JSON file `name`, or `None` if the folder does not have it.
    ///
    /// # Panics
    /// If the file cannot be read or parsed, because a broken golden file is a failed test.
    pub fn json<T: DeserializeOwned>(&self, name: &str) -> Option<T> {
        let text = fs::read_to_string(self.existing(name)?);
        let text = text.unwrap_or_else(|error| panic!("{name}: {error}"));
        Some(serde_json::from_str(&text).unwrap_or_else(|error| panic!("{name}: {error}")))
    }

    /// Returns the float tensors of the safetensors file `name`, or `None` if the folder does not
    /// have it.
    ///
    /// # Panics
    /// If the file cannot be read or parsed.
    pub fn tensors(&self, name: &str) -> Option<BTreeMap<String, Values>> {
        let bytes = fs::read(self.existing(name)?);
        let bytes = bytes.unwrap_or_else(|error| panic!("{name}: {error}"));
        let file = SafeTensors::deserialize(&bytes);
        let file = file.unwrap_or_else(|error| panic!("{name}: {error}"));
        let floats = file.tensors().into_iter().map(|(name, view)| {
            let values = match view.dtype() {
                Dtype::F32 => chunks(view.data(), f32::from_le_bytes),
                Dtype::I64 => chunks(view.data(), |bytes| i64::from_le_bytes(bytes) as f32),
                other => panic!("{name}: type {other:?} is not used by golden files"),
            };
            let shape = view.shape().to_vec();
            (name, Values { shape, values })
        });
        Some(floats.collect())
    }

    /// Checks every case of the JSON file `file`. `name` returns the name of a case. Returns `None`
    /// if the folder does not have the file.
    pub fn cases<C: DeserializeOwned>(
        &self,
        file: &str,
        name: impl Fn(&C) -> &str,
        check: impl Fn(&C) -> Result<(), String>,
    ) -> Option<Report> {
        let cases: Vec<C> = self.json(file)?;
        let mut report = Report::default();
        for case in &cases {
            report.case(name(case), check(case));
        }
        Some(report)
    }

    /// Returns the path of the file `name`, or `None` if the folder does not have it.
    pub fn existing(&self, name: &str) -> Option<PathBuf> {
        Some(self.0.join(name)).filter(|path| path.exists())
    }
}

fn chunks<const N: usize>(data: &[u8], read: impl Fn([u8; N]) -> f32) -> Vec<f32> {
    data.as_chunks::<N>().0.iter().map(|bytes| read(*bytes)).collect()
}

/// A float tensor of a golden file.
#[derive(Debug, Clone, PartialEq)]
pub struct Values {
    /// The shape of the tensor.
    pub shape: Vec<usize>,
    /// The elements, row-major.
    pub values: Vec<f32>,
}

/// The results of the cases of one file: the name of each case, and what is wrong with it, if
/// anything.
#[derive(Debug, Default)]
pub struct Report {
    cases: Vec<(String, Result<(), String>)>,
}

impl Report {
    /// Records the result of a case.
    pub fn case(&mut self, name: &str, result: Result<(), String>) {
        self.cases.push((name.to_owned(), result));
    }
}

/// The check of one golden file: its name, and a function that returns `None` if the file is
/// missing.
pub type Check = (&'static str, fn(&Folder) -> Option<Report>);

/// Runs the checks and prints, for each file, `<file>: N cases, M within tolerance` and the cases
/// that are not. Returns the exit code of the test program.
#[expect(clippy::print_stdout, reason = "the report of a test program")]
pub fn run(manifest_dir: &str, checks: &[Check]) -> ExitCode {
    let folder = match env::var_os("QUANT_GOLDEN_DIR") {
        Some(folder) => PathBuf::from(folder),
        None => Path::new(manifest_dir).join("tests/golden"),
    };
    let folder = Folder(folder);
    let (mut files, mut failed) = (0, 0);
    for (name, check) in checks {
        let Some(report) = check(&folder) else {
            continue;
        };
        files += 1;
        let failures = report
            .cases
            .iter()
            .filter_map(|(name, result)| result.as_ref().err().map(|error| (name, error)));
        let failures: Vec<_> = failures.collect();
        let passed = report.cases.len() - failures.len();
        println!("{name}: {} cases, {passed} within tolerance", report.cases.len());
        for (case, error) in &failures {
            println!("  {case}: {error}");
        }
        failed += failures.len() + usize::from(report.cases.is_empty());
    }
    if files == 0 {
        let names: Vec<_> = checks.iter().map(|(name, _)| *name).collect();
        println!("{}: none of {} is here", folder.0.display(), names.join(", "));
        return ExitCode::FAILURE;
    }
    if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Checks that |actual - expected| <= `relative`·|expected| + `absolute` for every element that
/// `excused` does not excuse.
///
/// # Errors
/// The index and the values of the worst element, or the two lengths if they differ.
pub fn close(
    what: &str,
    actual: &[f32],
    expected: &[f32],
    (relative, absolute): (f32, f32),
    excused: impl Fn(usize) -> bool,
) -> Result<(), String> {
    if actual.len() != expected.len() {
        return Err(format!("{what}: {} elements, expected {}", actual.len(), expected.len()));
    }
    let beyond = |(a, e): (f32, f32)| {
        let error = (a - e).abs() - relative * e.abs() - absolute;
        if error.is_nan() { f32::INFINITY } else { error }
    };
    let worst = (0..actual.len())
        .map(|index| (index, beyond((actual[index], expected[index]))))
        .filter(|(index, error)| *error > 0.0 && !excused(*index))
        .max_by(|a, b| a.1.total_cmp(&b.1));
    match worst {
        None => Ok(()),
        Some((index, _)) => {
            Err(format!("{what}[{index}] = {}, expected {}", actual[index], expected[index]))
        }
    }
}

/// Returns |actual - expected| / |expected| in the L2 norm, or NaN if the lengths differ.
pub fn relative_l2(actual: &[f32], expected: &[f32]) -> f64 {
    if actual.len() != expected.len() {
        return f64::NAN;
    }
    let norm = |values: &mut dyn Iterator<Item = f64>| values.map(|x| x * x).sum::<f64>().sqrt();
    let pairs = actual.iter().zip(expected);
    let difference = norm(&mut pairs.map(|(a, e)| f64::from(*a) - f64::from(*e)));
    difference / norm(&mut expected.iter().map(|e| f64::from(*e)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_those_of_the_vectors_description() {
        assert_eq!(fnv1a64("abc/x"), 0x63fc_b02d_76bc_157c);
        let uniforms: Vec<_> = (0..3).map(|i| uniform("abc/x", i)).collect();
        assert_eq!(uniforms, [0.63076276, 0.06121844, 0.70177704]);
        assert_eq!(normals("abc/x", 3), [-0.06853039, -2.0280414, 1.5830157]);
    }

    #[test]
    fn a_value_that_is_not_a_number_is_not_close() {
        assert!(close("x", &[f32::NAN], &[1.0], (1e-5, 0.0), |_| false).is_err());
    }
}
