//! Tests of the order, of shares, of unusable images and of invalid settings.

use super::*;
use crate::{image::RgbImage, transform::Transform};

/// A data set whose image i is filled with the value i. The images in `broken` cannot be decoded.
struct Numbers {
    count: usize,
    broken: Vec<usize>,
    classes: Vec<String>,
}

impl Dataset for Numbers {
    fn len(&self) -> usize {
        self.count
    }
    fn classes(&self) -> &[String] {
        &self.classes
    }
    fn label(&self, index: usize) -> usize {
        index
    }
    fn image(&self, index: usize) -> Result<RgbImage, DataError> {
        if self.broken.contains(&index) {
            let (path, reason) = (format!("image {index}"), "broken".into());
            return Err(DataError::Image { path, reason });
        }
        Ok(RgbImage { width: 8, height: 8, pixels: vec![index as u8; 192] })
    }
}

fn numbered(count: usize) -> Vec<String> {
    (0..count).map(|class| class.to_string()).collect()
}

fn loader(count: usize, broken: &[usize], training: bool, workers: usize) -> Loader {
    let dataset = Numbers { count, broken: broken.to_vec(), classes: numbered(count) };
    let pipeline = Pipeline(vec![Transform::PaddedCrop { size: 4, padding: 2 }]);
    let config = LoaderConfig {
        batch_size: 8,
        training,
        last_batch: LastBatch::Drop,
        seed: 3,
        workers,
        prefetch: 3,
        share: Share::ALL,
        max_broken: LoaderConfig::MAX_BROKEN,
    };
    Loader::new(Arc::new(dataset), pipeline, config).unwrap()
}

fn all(loader: &Loader, epoch: usize, first: usize) -> Vec<Batch> {
    loader.epoch(epoch, first).collect::<Result<_, _>>().unwrap()
}

#[test]
fn order_and_pixels_do_not_depend_on_the_number_of_workers() {
    assert_eq!(all(&loader(50, &[], true, 1), 2, 0), all(&loader(50, &[], true, 5), 2, 0));
}

/// Returns the batches of every one of `of` processes, and those of a single process with a batch
/// size that is `of` times as large.
fn shared_and_whole(
    count: usize,
    broken: &[usize],
    of: usize,
    settings: impl Fn(&mut LoaderConfig),
) -> (Vec<Vec<Batch>>, Vec<Batch>) {
    let batches = |share: Share, batch_size| {
        let mut loader = loader(count, broken, true, 2);
        settings(&mut loader.config);
        (loader.config.share, loader.config.batch_size) = (share, batch_size);
        all(&loader, 1, 0)
    };
    let shared = (0..of).map(|rank| batches(Share { rank, of }, 8)).collect();
    (shared, batches(Share::ALL, 8 * of))
}

/// Asserts that batch n of all processes together is batch n of the single process.
fn assert_shared(shared: &[Vec<Batch>], whole: &[Batch]) {
    for (number, expected) in whole.iter().enumerate() {
        let parts: Vec<&Batch> = shared.iter().map(|batches| &batches[number]).collect();
        assert!(parts.iter().all(|part| part.number == expected.number), "{parts:?}");
        let labels = parts.iter().flat_map(|part| &part.labels).collect::<Vec<_>>();
        assert_eq!(labels, expected.labels.iter().collect::<Vec<_>>());
        let pixels = parts.iter().flat_map(|part| &part.pixels);
        assert!(pixels.eq(&expected.pixels));
        let skipped = parts.iter().flat_map(|part| &part.skipped).collect::<Vec<_>>();
        assert_eq!(skipped, expected.skipped.iter().collect::<Vec<_>>());
    }
    assert!(shared.iter().all(|batches| batches.len() == whole.len()), "equally many batches");
}

#[test]
fn processes_share_the_epoch_of_a_single_one_with_larger_batches() {
    for (training, last_batch) in
        [(true, LastBatch::Drop), (true, LastBatch::Keep), (false, LastBatch::Drop)]
    {
        // 53 and 51 images leave an incomplete batch, 48 fill two rounds of three processes, and 9
        // leave none for the third process.
        for count in [53, 51, 48, 49, 9] {
            let (shared, whole) = shared_and_whole(count, &[], 3, |config| {
                (config.training, config.last_batch) = (training, last_batch);
            });
            assert_shared(&shared, &whole);
            let images: usize = whole.iter().map(|batch| batch.labels.len()).sum();
            let dropped = training && last_batch == LastBatch::Drop;
            assert_eq!(images, if dropped { count / 24 * 24 } else { count });
        }
    }
}

#[test]
fn a_process_without_usable_images_has_as_many_batches_as_the_others() {
    // Of 51 images in order, the second of three processes has the images 8 to 15 and 32 to 39.
    let broken: Vec<usize> = (8..16).collect();
    let (shared, whole) = shared_and_whole(51, &broken, 3, |config| {
        (config.training, config.max_broken) = (false, 0.5);
    });
    assert_shared(&shared, &whole);
    assert!(shared[1][0].labels.is_empty() && shared[1][0].skipped.len() == 8);
    let (shared, whole) = shared_and_whole(51, &broken, 3, |config| {
        (config.last_batch, config.max_broken) = (LastBatch::Keep, 0.5);
    });
    assert_shared(&shared, &whole);
    // No image of the second process is usable, but it still has its batches.
    let broken: Vec<usize> = (8..16).chain(32..40).collect();
    let (shared, whole) = shared_and_whole(48, &broken, 3, |config| {
        (config.training, config.max_broken) = (false, 1.0);
    });
    assert_shared(&shared, &whole);
    assert!(shared[1].iter().all(|batch| batch.labels.is_empty()));
}

#[test]
fn a_process_of_several_judges_the_images_that_it_reads() {
    let errors = |of: usize| -> Vec<Option<DataError>> {
        let of_rank = |rank| {
            // The first of two processes has the images 0 to 7, 16 to 23, and so on.
            let mut loader = loader(1600, &[0, 1, 2, 3, 4, 5, 6, 7, 16], false, 2);
            loader.config.share = Share { rank, of };
            loader.epoch(0, 0).find_map(Result::err)
        };
        (0..of).map(of_rank).collect()
    };
    // 9 images are less than 1 % of 1600, but more than 1 % of 800.
    assert!(errors(1)[0].is_none());
    let errors = errors(2);
    assert!(
        matches!(errors[0], Some(DataError::TooManyBroken { total: 800, accepted: 8, .. })),
        "{errors:?}"
    );
    assert!(errors[1].is_none());
}

#[test]
fn a_kept_last_batch_has_the_images_that_are_left() {
    let mut loader = loader(50, &[], true, 2);
    let whole = all(&loader, 1, 0);
    loader.config.last_batch = LastBatch::Keep;
    let kept = all(&loader, 1, 0);
    // 50 images are 6 batches of 8, and 2 images more.
    assert_eq!((loader.batches(), kept.len()), (7, 7));
    assert_eq!(kept[..6], whole);
    assert_eq!(kept[6].labels.len(), 2);
    let mut labels: Vec<usize> = kept.into_iter().flat_map(|batch| batch.labels).collect();
    labels.sort_unstable();
    assert_eq!(labels, (0..50).collect::<Vec<_>>());
}

#[test]
fn the_last_batch_of_some_processes_has_fewer_images_or_none() {
    let sizes = |count| -> Vec<Vec<usize>> {
        let (shared, _) = shared_and_whole(count, &[], 3, |config| {
            config.last_batch = LastBatch::Keep;
        });
        shared.iter().map(|all| all.iter().map(|batch| batch.labels.len()).collect()).collect()
    };
    // 45 images are 5 batches of 8 and one of 5, which fill two rounds of three processes.
    assert_eq!(sizes(45), [[8, 8], [8, 8], [8, 5]]);
    // 53 images are one more batch of 8, which only the first process gets.
    assert_eq!(sizes(53), [[8, 8, 5], [8, 8, 0], [8, 8, 0]]);
}

#[test]
fn epochs_differ_and_repeat() {
    let loader = loader(50, &[], true, 2);
    assert_eq!(all(&loader, 0, 0), all(&loader, 0, 0));
    assert_ne!(all(&loader, 0, 0), all(&loader, 1, 0));
}

#[test]
fn an_epoch_resumes_at_any_batch() {
    let loader = loader(50, &[], true, 3);
    assert_eq!(all(&loader, 4, 0)[4..], all(&loader, 4, 4));
}

#[test]
fn evaluation_sees_every_image_once_in_order() {
    let batches = all(&loader(19, &[], false, 3), 0, 0);
    let labels: Vec<usize> = batches.into_iter().flat_map(|batch| batch.labels).collect();
    assert_eq!(labels, (0..19).collect::<Vec<_>>());
}

#[test]
fn a_broken_image_is_named_and_skipped() {
    let batches = all(&loader(200, &[9, 10], false, 2), 0, 0);
    assert_eq!(batches[1].labels, [8, 11, 12, 13, 14, 15]);
    assert_eq!(batches[1].skipped.len(), 2);
    assert!(batches[1].skipped[0].contains("image 9"));
}

#[test]
fn a_batch_without_a_usable_image_comes_without_images() {
    let batches = all(&loader(2000, &[8, 9, 10, 11, 12, 13, 14, 15], false, 2), 0, 0);
    assert_eq!((batches[1].number, batches[1].labels.len(), batches[1].skipped.len()), (1, 0, 8));
    assert_eq!((batches.len(), batches[2].number, batches[2].labels.len()), (250, 2, 8));
    let broken_at_first = loader(2000, &[0, 1, 2, 3, 4, 5, 6, 7], false, 2);
    assert_eq!(broken_at_first.first_images().unwrap().unwrap().number, 1);
    // The last batch consists of image 800 alone.
    let batches = all(&loader(801, &[3, 800], false, 2), 0, 0);
    let last = batches.last().unwrap();
    assert!(last.labels.is_empty() && last.skipped[0].contains("image 800"), "{last:?}");
    let skipped: usize = batches.iter().map(|batch| batch.skipped.len()).sum();
    let used: usize = batches.iter().map(|batch| batch.labels.len()).sum();
    assert_eq!((batches.len(), skipped, used), (101, 2, 799));
}

#[test]
fn an_error_about_unusable_images_has_the_number_that_the_process_reads() {
    // Of 19 images, two processes with batches of 8 have 8 and 8, and then 3 and none.
    for (rank, read) in [(0, 11), (1, 8)] {
        let mut loader = loader(19, &(0..19).collect::<Vec<_>>(), false, 2);
        loader.config.share = Share { rank, of: 2 };
        loader.config.max_broken = 0.0;
        let error = loader.epoch(0, 0).find_map(Result::err).unwrap();
        assert!(
            matches!(error, DataError::TooManyBroken { total, .. } if total == read),
            "{error}"
        );
    }
}

/// Returns the error that ends the epoch of a loader of `count` images, if there is one.
fn ends(count: usize, broken: &[usize], max_broken: f64) -> Option<DataError> {
    let mut loader = loader(count, broken, false, 2);
    loader.config.max_broken = max_broken;
    loader.epoch(0, 0).find_map(Result::err)
}

#[test]
fn more_broken_images_than_the_share_allows_stop_the_epoch() {
    let broken: Vec<usize> = (0..100).map(|index| index * 7).collect();
    // 1 % of 1000 images are 10, and 2.9 % are 29.
    for (share, accepted) in [(0.01, 10), (0.029, 29), (0.1, 100)] {
        assert!(ends(1000, &broken[..accepted], share).is_none(), "{share}");
    }
    for (share, expected) in [(0.01, 10), (0.029, 29)] {
        let error = ends(1000, &broken[..=expected], share).unwrap();
        match &error {
            DataError::TooManyBroken { broken, total: 1000, accepted, .. } => {
                assert_eq!((*broken, *accepted), (expected + 1, expected));
            }
            _ => panic!("{error}"),
        }
        let text = error.to_string();
        assert!(text.contains(&format!("data.max_broken = {share}")), "{text}");
    }
}

#[test]
fn a_handful_of_broken_images_is_accepted_unless_none_is() {
    assert!(ends(60, &[1, 9, 20, 33, 50], 0.01).is_none());
    let error = ends(60, &[1, 9, 20, 33, 50, 51], 0.01).unwrap();
    assert!(
        matches!(error, DataError::TooManyBroken { broken: 6, total: 60, accepted: 5, .. }),
        "{error}"
    );
    let error = ends(60, &[9], 0.0).unwrap();
    assert!(matches!(error, DataError::TooManyBroken { broken: 1, accepted: 0, .. }), "{error}");
}

#[test]
fn every_error_for_broken_images_names_the_first_of_them() {
    let first_six: Vec<usize> = (0..6).collect();
    let all: Vec<usize> = (0..16).collect();
    let cases: [(usize, &[usize], f64, &[&str]); 4] = [
        // The cases: some images of several batches, all of one batch, all of a small set, and all
        // of a larger one.
        (60, &[1, 9, 20, 33, 50, 51], 0.01, &["image 1:", "image 9:", "image 20:", ", ..."]),
        (60, &first_six, 0.01, &["image 0:", "image 4:", ", ..."]),
        (3, &first_six, 0.01, &["none of the 3 images", "image 0:", "image 1:", "image 2:"]),
        (16, &all, 1.0, &["none of the 16 images", "image 0:", "image 4:", ", ..."]),
    ];
    for (count, broken, share, parts) in cases {
        let error = ends(count, broken, share).unwrap().to_string();
        assert!(parts.iter().all(|part| error.contains(part)), "{error}");
    }
}

#[test]
fn an_epoch_ends_after_its_error() {
    for (count, broken) in [(60, vec![0, 1, 2, 3, 4, 5]), (3, vec![0, 1, 2])] {
        let mut epoch = loader(count, &broken, false, 2).epoch(0, 0);
        assert!(epoch.any(|batch| batch.is_err()));
        assert!(epoch.next().is_none());
    }
}

/// Returns the error of `Loader::new` for these steps and a changed configuration.
fn refused(steps: &[Transform], change: impl Fn(&mut LoaderConfig)) -> String {
    let dataset = Numbers { count: 20, broken: Vec::new(), classes: numbered(20) };
    let mut config = loader(20, &[], true, 1).config;
    change(&mut config);
    let loader = Loader::new(Arc::new(dataset), Pipeline(steps.to_vec()), config);
    loader.err().map(|error| error.to_string()).unwrap_or_default()
}

#[test]
fn numbers_out_of_range_are_refused_with_their_range() {
    let crop = [Transform::CenterCrop { size: 4 }];
    type Change = fn(&mut LoaderConfig);
    let cases: [(Change, &str); 7] = [
        (|config| config.batch_size = 0, "batch_size = 0: expected at least 1"),
        (|config| config.workers = 1025, "workers = 1025: expected 1024 at most"),
        (|config| config.prefetch = usize::MAX, "expected 1024 at most"),
        (|config| config.max_broken = 1.5, "max_broken = 1.5: expected a share, 0 to 1"),
        (|config| config.max_broken = f64::NAN, "max_broken = NaN"),
        (|config| config.share = Share { rank: 2, of: 2 }, "process 2 of 2"),
        (|config| config.share = Share { rank: 0, of: 0 }, "at least 1 process"),
    ];
    for (change, part) in cases {
        let error = refused(&crop, change);
        assert!(error.contains(part), "{error}");
    }
    assert_eq!(refused(&crop, |config| (config.workers, config.prefetch) = (0, 0)), "");
    // A batch of this size has all images, whatever the rank.
    let huge = |config: &mut LoaderConfig| {
        (config.batch_size, config.last_batch) = (usize::MAX, LastBatch::Keep);
        config.share = Share { rank: 1, of: 2 };
    };
    assert_eq!(refused(&crop, huge), "");
}

#[test]
fn steps_that_leave_the_size_open_or_make_it_too_large_are_refused() {
    for steps in [&[][..], &[Transform::HorizontalFlip], &[Transform::Resize { size: 8 }]] {
        assert!(refused(steps, |_| {}).contains("center-crop"), "{steps:?}");
    }
    for (step, part) in [
        (Transform::CenterCrop { size: 0 }, "size of center-crop = 0: expected 1 to 16384 pixels"),
        (Transform::Resize { size: 1 << 40 }, "size of resize"),
        (Transform::PaddedCrop { size: 4, padding: usize::MAX }, "padding of padded-crop"),
        (Transform::RandomResizedCrop { size: 20_000, scale: [0.1, 1.0] }, "20000"),
    ] {
        let error = refused(&[step, Transform::CenterCrop { size: 4 }], |_| {});
        assert!(error.contains(part), "{error}");
    }
}

#[test]
fn a_resize_behind_a_crop_gives_the_size() {
    let steps = vec![Transform::CenterCrop { size: 4 }, Transform::Resize { size: 6 }];
    let dataset = Numbers { count: 20, broken: Vec::new(), classes: numbered(20) };
    let config = loader(20, &[], true, 1).config;
    let loader = Loader::new(Arc::new(dataset), Pipeline(steps.clone()), config).unwrap();
    assert_eq!(Pipeline(steps).output_size(), Some(6));
    assert_eq!(all(&loader, 0, 0)[0].pixels.len(), 8 * 3 * 6 * 6);
}

#[test]
fn a_label_that_no_class_has_is_refused() {
    let dataset = Numbers { count: 20, broken: Vec::new(), classes: numbered(12) };
    let config = loader(20, &[], false, 2).config;
    let pipeline = Pipeline(vec![Transform::CenterCrop { size: 4 }]);
    let error = Loader::new(Arc::new(dataset), pipeline, config).err().unwrap();
    let expected = ("image 12", 12, 12);
    assert!(
        matches!(&error, DataError::UnknownLabel { image, label, classes }
            if (image.as_str(), *label, *classes) == expected),
        "{error}"
    );
}

#[test]
fn an_epoch_can_be_left_early() {
    let loader = loader(500, &[], true, 2);
    assert!(loader.epoch(0, 0).next().is_some());
}

#[test]
fn a_training_set_smaller_than_a_batch_is_refused() {
    let dataset = Numbers { count: 7, broken: Vec::new(), classes: numbered(7) };
    let config = LoaderConfig {
        batch_size: 8,
        training: true,
        last_batch: LastBatch::Drop,
        seed: 0,
        workers: 1,
        prefetch: 1,
        share: Share::ALL,
        max_broken: LoaderConfig::MAX_BROKEN,
    };
    let loader = Loader::new(Arc::new(dataset), Pipeline::cifar_train(8), config);
    assert!(matches!(
        loader.err(),
        Some(DataError::TooSmall { images: 7, batch_size: 8, processes: 1 })
    ));
}
