//! Selection of a device by its name.

use std::{
    panic::{self, AssertUnwindSafe, PanicHookInfo, catch_unwind},
    sync::{Arc, Mutex, PoisonError},
};

use burn::tensor::{Device, Tensor};

use crate::error::TrainError;

/// One line for each device: its name, which is also the name of its feature, and how the one with
/// the number `index` is made.
macro_rules! devices {
    ($index:ident: $($name:tt => $device:expr;)*) => {
        /// Every device that a build can have.
        const KNOWN: &[&str] = &[$($name),*];

        /// Returns the names of the devices of this build.
        pub fn available() -> Vec<&'static str> {
            let compiled = [$(cfg!(feature = $name)),*];
            KNOWN.iter().zip(compiled).filter(|(_, here)| *here).map(|(name, _)| *name).collect()
        }

        /// Returns the name of a kind of device, if this is one.
        pub(crate) fn known(name: &str) -> Option<&'static str> {
            KNOWN.iter().copied().find(|known| *known == name)
        }

        fn construct(name: &str, $index: usize) -> Option<Device> {
            let _without_such = $index;
            match name {
                $(#[cfg(feature = $name)]
                $name => Some($device),)*
                _ => None,
            }
        }
    };
}

/// What users look for if a device does not start.
const NEEDS: &str =
    "a GPU needs its driver, and CUDA also a toolkit, which CUDA_PATH can name (docs/gpu.md)";

devices! { index:
    "flex" => Device::flex();
    "cuda" => Device::cuda(index);
    "rocm" => Device::rocm(index);
    "wgpu" => Device::wgpu(gpu(index));
    "vulkan" => Device::vulkan(gpu(index));
    "metal" => Device::metal(gpu(index));
}

/// Returns the device with a name, such as `flex` (the CPU) or `cuda`. It is tested with a small
/// computation.
///
/// # Errors
/// [`TrainError::Device`] for an unknown name, for a device whose feature this build lacks, and for
/// a device that does not work.
pub fn select(name: &str) -> Result<Device, TrainError> {
    select_number(name, 0)
}

/// Returns one of several devices with the same name: the one with the number `index`, from 0. The
/// CPU is a single device for all numbers.
///
/// # Errors
/// As [`select`].
#[doc(hidden)]
pub fn select_number(name: &str, index: usize) -> Result<Device, TrainError> {
    let fail = |reason: String| {
        let available = match available().as_slice() {
            [] => "no device (build with one of the features flex, cuda, wgpu, ...)".to_owned(),
            names => names.join(", "),
        };
        Err(TrainError::Device { name: name.to_owned(), reason, available })
    };
    let works = || {
        let device = construct(name, index)?;
        // Exponentials need mathematical functions, which CUDA has in files of its own.
        let sum: f32 = Tensor::<1>::ones([4], &device).exp().sum().into_scalar();
        ((sum / 4.0 - std::f32::consts::E).abs() < 1e-4).then_some(device)
    };
    if !KNOWN.contains(&name) {
        return fail(format!("unknown name; the known names are {}", KNOWN.join(", ")));
    }
    if !available().contains(&name) {
        return fail(format!("this build lacks it; build with --features {name}"));
    }
    match quietly(works) {
        Ok(Some(device)) => Ok(device),
        Ok(None) => fail("its result in a test is wrong".into()),
        Err(None) => fail(format!("it does not start; {NEEDS}")),
        Err(Some(cause)) => fail(format!("it does not start ({cause}); {NEEDS}")),
    }
}

/// Returns what `task` returns. If it panics, returns the first line of the first panic instead,
/// of this thread or of another one, and nothing is printed: a driver that is not installed makes
/// threads of the backend panic before this one.
fn quietly<T>(task: impl FnOnce() -> T) -> Result<T, Option<String>> {
    let first: Arc<Mutex<Option<String>>> = Arc::default();
    let keep = {
        let first = Arc::clone(&first);
        move |info: &PanicHookInfo<'_>| {
            let line = info.payload_as_str().and_then(|text| text.lines().next());
            let mut first = first.lock().unwrap_or_else(PoisonError::into_inner);
            if first.is_none() {
                *first = line.map(str::to_owned);
            }
        }
    };
    let usual = panic::take_hook();
    panic::set_hook(Box::new(keep));
    let result = catch_unwind(AssertUnwindSafe(task));
    panic::set_hook(usual);
    let mut first = first.lock().unwrap_or_else(PoisonError::into_inner);
    result.map_err(|_| first.take())
}

/// Number 0 is the device that the driver prefers.
#[cfg(any(feature = "wgpu", feature = "vulkan", feature = "metal"))]
fn gpu(index: usize) -> burn::tensor::DeviceKind {
    match index {
        0 => burn::tensor::DeviceKind::DefaultDevice,
        index => burn::tensor::DeviceKind::DiscreteGpu(index),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cpu_answers() {
        assert!(select("flex").is_ok());
    }

    #[test]
    fn a_device_that_was_not_compiled_in_says_which_feature_it_needs() {
        if !cfg!(feature = "cuda") {
            let text = select("cuda").unwrap_err().to_string();
            assert!(text.contains("--features cuda") && text.contains("flex"), "{text}");
        }
    }

    #[test]
    fn a_device_that_does_not_start_is_one_message() {
        use std::sync::atomic::{AtomicUsize, Ordering};

        let printed = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&printed);
        let usual = panic::take_hook();
        panic::set_hook(Box::new(move |_| {
            count.fetch_add(1, Ordering::SeqCst);
        }));
        let found = quietly(|| {
            let runner = std::thread::spawn(|| panic!("no driver\nof this kind"));
            assert!(runner.join().is_ok(), "the runner failed");
        });
        let after = catch_unwind(|| panic!("printed as before"));
        panic::set_hook(usual);
        assert_eq!(found, Err(Some("no driver".to_owned())));
        assert!(after.is_err());
        assert_eq!(printed.load(Ordering::SeqCst), 1);
    }

    #[test]
    fn an_unknown_device_lists_the_known_ones() {
        let text = select("tpu").unwrap_err().to_string();
        assert!(text.contains("vulkan"), "{text}");
    }
}
