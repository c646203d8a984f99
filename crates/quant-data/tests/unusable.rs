//! Images that a data set of a program's own cannot give, or gives wrongly.

#![expect(clippy::unwrap_used, reason = "a failed helper is a failed test")]

use std::sync::Arc;

use quant_data::{
    DataError, Dataset, LastBatch, Loader, LoaderConfig, Pipeline, RgbImage, Share, Transform,
};

/// Returns a loader of all images in order, in batches of eight.
fn loader(dataset: Arc<dyn Dataset>) -> Loader {
    let config = LoaderConfig {
        batch_size: 8,
        training: false,
        last_batch: LastBatch::Keep,
        seed: 3,
        workers: 2,
        prefetch: 3,
        share: Share::ALL,
        max_broken: LoaderConfig::MAX_BROKEN,
    };
    Loader::new(dataset, Pipeline(vec![Transform::CenterCrop { size: 4 }]), config).unwrap()
}

/// A data set whose image 5 cannot be opened, because the process has too many open files.
#[cfg(unix)]
struct Exhausted(Vec<String>);

#[cfg(unix)]
impl Dataset for Exhausted {
    fn len(&self) -> usize {
        50
    }
    fn classes(&self) -> &[String] {
        &self.0
    }
    fn label(&self, _index: usize) -> usize {
        0
    }
    fn image(&self, index: usize) -> Result<RgbImage, DataError> {
        const EMFILE: i32 = 24;
        match index {
            1 => Err(DataError::Image { path: "1.jpg".into(), reason: "broken".into() }),
            5 => {
                let source = std::io::Error::from_raw_os_error(EMFILE);
                Err(DataError::Io { path: "5.jpg".into(), source })
            }
            _ => Ok(RgbImage::new(8, 8)),
        }
    }
}

#[test]
#[cfg(unix)]
fn an_image_is_not_left_out_because_the_process_lacks_something() {
    let mut epoch = loader(Arc::new(Exhausted(vec!["only".into()]))).epoch(0, 0);
    let error = epoch.next().unwrap().unwrap_err();
    assert!(error.to_string().contains("5.jpg"), "{error}");
    assert!(epoch.next().is_none(), "the epoch ends after an error");
}

/// A data set with an image of each number of bytes, all of which claim 8 x 8 pixels, and one of no
/// pixels.
struct Lengths(Vec<String>);

impl Dataset for Lengths {
    fn len(&self) -> usize {
        4
    }
    fn classes(&self) -> &[String] {
        &self.0
    }
    fn label(&self, _index: usize) -> usize {
        0
    }
    fn image(&self, index: usize) -> Result<RgbImage, DataError> {
        let (side, bytes) = [(8, 192), (8, 100), (8, 193), (0, 0)][index];
        Ok(RgbImage { width: side, height: side, pixels: vec![7; bytes] })
    }
}

#[test]
fn images_without_the_bytes_of_their_pixels_are_unusable() {
    let lengths = loader(Arc::new(Lengths(vec!["only".into()])));
    let found: Vec<_> = lengths.epoch(0, 0).collect::<Result<_, _>>().unwrap();
    assert_eq!(found[0].labels.len(), 1);
    let reasons = found[0].skipped.join("; ");
    assert!(
        reasons.contains("8 x 8 pixels take 3 bytes each, and there are 100 bytes"),
        "{reasons}"
    );
    assert!(reasons.contains("193 bytes") && reasons.contains("it has no pixel"), "{reasons}");
}
