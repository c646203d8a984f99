//! The data of a run, as a recipe describes them.

use std::{path::Path, sync::Arc};

use quant_data::{
    Cifar, DataError, Dataset, Fake, Idx, ImageFolder, LoaderConfig, Pipeline, Shards, Transform,
    Truncated,
    dataset::{
        cifar::{CifarKind, Split},
        shapes::ShapesConfig,
    },
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{
    error::TrainError,
    output::text_of,
    schema::{
        choices::{Choice, Steps},
        stand_ins::{DeviationField, MeanField, RenderedFields},
    },
};

/// The training data and the validation data.
pub type DataPair = (Arc<dyn Dataset>, Arc<dyn Dataset>);

/// The data.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct DataRecipe {
    /// The format of the data that `--data` names.
    pub kind: DataKind,
    /// The side of the network's input, in pixels. Time and memory grow with its square. 224 is
    /// usual for photographs, and 32 for CIFAR.
    #[schemars(range(min = 1, max = 4096))]
    pub input_size: usize,
    /// The mean of the red, green and blue channel, for bytes that are scaled to 0..1. It is
    /// subtracted from the images. By default it is the usual mean for the format. Change it to the
    /// mean of the data that the network of `init` was trained on.
    #[schemars(with = "Option<[MeanField; 3]>")]
    pub mean: Option<[f64; 3]>,
    /// The standard deviation of the red, green and blue channel, by which the images are divided
    /// after the subtraction of `mean`. By default it is the usual deviation for the format.
    #[schemars(with = "Option<[DeviationField; 3]>")]
    pub std: Option<[f64; 3]>,
    /// Augmentation: the steps that training images go through, which have to end in squares of
    /// `input_size` pixels. `docs/recipes.md` shows them. By default they are the usual steps for
    /// the format. Add steps against overfitting.
    #[schemars(with = "Option<Steps>")]
    pub train: Option<Pipeline>,
    /// The steps that validation images go through. By default they are the usual steps for the
    /// format.
    #[schemars(with = "Option<Steps>")]
    pub eval: Option<Pipeline>,
    /// The number of images per batch in evaluation. Lower it if memory does not suffice. Scores do
    /// not depend on it.
    #[serde(default = "eval_batch_size")]
    #[schemars(range(min = 1, max = 65_536))]
    pub eval_batch_size: usize,
    /// The number of threads that decode and augment images, for each device. 0 takes as many
    /// threads as there are cores. Lower it on a machine that others use too. Results do not depend
    /// on it.
    #[serde(default)]
    #[schemars(range(min = 0, max = 1024))]
    pub workers: usize,
    /// The number of batches that are loaded in advance. Raise it if the device has to wait for
    /// data from time to time. Each of them takes the memory of a batch.
    #[serde(default = "prefetch")]
    #[schemars(range(min = 1, max = 1024))]
    pub prefetch: usize,
    /// How image files that are cut short or damaged are treated, for the kinds `image-folder` and
    /// `shards`: `refuse` counts them as unusable, and `accept` reads them as far as they go.
    #[serde(default)]
    #[schemars(with = "Choice<Truncated>")]
    pub truncated: Truncated,
    /// The share of the images that may be unusable, from 0 to 1. A run or an evaluation ends with
    /// an error if more are unusable. A few unusable images are always allowed, unless the share is
    /// 0. Raise it for a data set that is known to be damaged.
    #[serde(default = "max_broken")]
    #[schemars(extend("minimum" = 0, "maximum" = 1))]
    pub max_broken: f64,
    /// The number of images, where `kind` is `fake`. By default there are 1024 training images and
    /// 256 validation images in 10 classes.
    pub fake: Option<FakeRecipe>,
    /// The number of pictures and their size, where `kind` is `rendered`. By default each of its
    /// fields has its own default.
    #[schemars(with = "Option<RenderedFields>")]
    pub rendered: Option<ShapesConfig>,
}

/// The format of the data.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum DataKind {
    /// `train/<class>/*.jpg` and `val/<class>/*.jpg`, or Tiny ImageNet's `val/images/*.jpg` with
    /// `val/val_annotations.txt`.
    ImageFolder,
    /// The files of CIFAR-10, in the binary version or the Python version.
    Cifar10,
    /// The files of CIFAR-100, in the binary version or the Python version.
    Cifar100,
    /// MNIST's format: `train-images-idx3-ubyte`, `train-labels-idx1-ubyte`, `t10k-...`.
    Idx,
    /// Tar files in WebDataset's layout: `train/*.tar` and `val/*.tar`.
    Shards,
    /// The rendered data set, which is made in the cache folder when it is first used. It needs no
    /// data.
    Rendered,
    /// Random noise. It needs no data.
    Fake,
    /// Data that the program opens itself, for formats of its own: see `docs/own-models.md`.
    /// `quant` has no such data.
    Own,
}

impl DataKind {
    /// Returns the name of the kind in a recipe, such as `image-folder`.
    pub fn name(self) -> String {
        text_of(&self)
    }
}

/// The number of images of noise.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct FakeRecipe {
    /// The number of training images.
    #[schemars(range(min = 1, max = 10_000_000))]
    pub train: usize,
    /// The number of validation images.
    #[schemars(range(min = 1, max = 10_000_000))]
    pub val: usize,
    /// The number of classes.
    #[schemars(range(min = 1, max = 65_536))]
    pub classes: usize,
}

impl Default for FakeRecipe {
    fn default() -> Self {
        Self { train: 1024, val: 256, classes: 10 }
    }
}

fn eval_batch_size() -> usize {
    100
}
fn prefetch() -> usize {
    4
}
fn max_broken() -> f64 {
    LoaderConfig::MAX_BROKEN
}

impl DataRecipe {
    /// Returns data of a kind, with the defaults for everything else.
    pub fn new(kind: DataKind, input_size: usize) -> Self {
        Self {
            kind,
            input_size,
            mean: None,
            std: None,
            train: None,
            eval: None,
            eval_batch_size: eval_batch_size(),
            workers: 0,
            prefetch: prefetch(),
            truncated: Truncated::default(),
            max_broken: max_broken(),
            fake: None,
            rendered: None,
        }
    }

    /// Returns the mean and the standard deviation of every channel.
    pub fn normalization(&self) -> ([f64; 3], [f64; 3]) {
        let (mean, std) = match self.kind {
            DataKind::ImageFolder
            | DataKind::Shards
            | DataKind::Rendered
            | DataKind::Fake
            | DataKind::Own => ([0.485, 0.456, 0.406], [0.229, 0.224, 0.225]),
            DataKind::Cifar10 | DataKind::Cifar100 => {
                ([0.4914, 0.4822, 0.4465], [0.2023, 0.1994, 0.2010])
            }
            DataKind::Idx => ([0.5; 3], [0.5; 3]),
        };
        (self.mean.unwrap_or(mean), self.std.unwrap_or(std))
    }

    /// Returns the steps that training images go through.
    pub fn train(&self) -> Pipeline {
        self.train.clone().unwrap_or_else(|| match self.kind {
            DataKind::ImageFolder | DataKind::Shards | DataKind::Own => {
                Pipeline::imagenet_train(self.input_size)
            }
            DataKind::Rendered => Pipeline(vec![
                Transform::RandomResizedCrop { size: self.input_size, scale: [0.6, 1.0] },
                Transform::HorizontalFlip,
            ]),
            DataKind::Fake => self.centre(),
            // The image is shifted by up to two pixels, and the pixels that come in at the edges
            // are black.
            DataKind::Idx => Pipeline(vec![
                Transform::CenterCrop { size: self.input_size + 4 },
                Transform::PaddedCrop { size: self.input_size, padding: 0 },
            ]),
            DataKind::Cifar10 | DataKind::Cifar100 => Pipeline::cifar_train(self.input_size),
        })
    }

    /// Returns the steps that validation images go through.
    pub fn eval(&self) -> Pipeline {
        self.eval.clone().unwrap_or_else(|| match self.kind {
            DataKind::ImageFolder | DataKind::Shards | DataKind::Own => {
                Pipeline::imagenet_eval(self.input_size)
            }
            DataKind::Rendered => {
                let resize = Transform::Resize { size: self.input_size };
                Pipeline([vec![resize], self.centre().0].concat())
            }
            DataKind::Cifar10 | DataKind::Cifar100 | DataKind::Idx | DataKind::Fake => {
                self.centre()
            }
        })
    }

    fn centre(&self) -> Pipeline {
        Pipeline(vec![Transform::CenterCrop { size: self.input_size }])
    }

    /// Returns the number of classes, as far as it is known without the data. For class folders,
    /// shards and data of a program's own it is 1000, the number of ImageNet's classes.
    #[doc(hidden)]
    pub fn usual_classes(&self) -> usize {
        match self.kind {
            DataKind::Cifar100 => 100,
            DataKind::ImageFolder | DataKind::Shards | DataKind::Own => 1000,
            DataKind::Fake => self.fake.unwrap_or_default().classes,
            DataKind::Cifar10 | DataKind::Idx | DataKind::Rendered => 10,
        }
    }

    /// Returns the number of training images, if it is known without the data.
    #[doc(hidden)]
    pub fn train_images(&self) -> Option<usize> {
        match self.kind {
            DataKind::Fake => Some(self.fake.unwrap_or_default().train),
            DataKind::Rendered => {
                let rendered = self.rendered.clone().unwrap_or_default();
                Some(rendered.train_per_class * self.usual_classes())
            }
            DataKind::Cifar10 | DataKind::Cifar100 => Some(Split::Train.images()),
            DataKind::ImageFolder | DataKind::Shards | DataKind::Idx | DataKind::Own => None,
        }
    }

    /// Returns whether the data are made by the program, so that no data are needed.
    pub fn is_made(&self) -> bool {
        matches!(self.kind, DataKind::Rendered | DataKind::Fake)
    }

    /// Opens the training data and the validation data at `data`. `cache` is a folder for files
    /// that can be made again.
    ///
    /// # Errors
    /// The errors of the data sets; [`TrainError::Field`] for the kind `own`, which only a program
    /// can open: see [`OpenData`](crate::OpenData).
    pub fn open(&self, data: &Path, cache: &Path) -> Result<DataPair, TrainError> {
        let cifar = |kind| -> Result<DataPair, TrainError> {
            let train = Cifar::open(data, kind, Split::Train)?;
            let test = Cifar::open(data, kind, Split::Test)?;
            Ok((Arc::new(train), Arc::new(test)))
        };
        let parts = |data: &Path| {
            if !data.is_dir() {
                return Err(DataError::NoFolder { path: data.to_owned() });
            }
            let missing = ["train", "val"].into_iter().find(|part| !data.join(part).is_dir());
            missing
                .map_or(Ok(()), |missing| Err(DataError::NoPart { path: data.to_owned(), missing }))
        };
        let folders = |data: &Path, origin: String| -> Result<DataPair, TrainError> {
            parts(data)?;
            let train = ImageFolder::open_cached(&data.join("train"), cache)?;
            let val = ImageFolder::open_cached(&data.join("val"), cache)?.like(&train)?;
            let finished = |images: ImageFolder| {
                Arc::new(images.with_truncated(self.truncated).with_origin(origin.clone()))
            };
            Ok((finished(train), finished(val)))
        };
        match self.kind {
            DataKind::ImageFolder => folders(data, String::new()),
            DataKind::Cifar10 => cifar(CifarKind::Cifar10),
            DataKind::Cifar100 => cifar(CifarKind::Cifar100),
            DataKind::Idx => {
                let train = Idx::open(data, Split::Train)?;
                let test = Idx::open(data, Split::Test)?.like(&train, data)?;
                Ok((Arc::new(train), Arc::new(test)))
            }
            DataKind::Shards => {
                parts(data)?;
                let train = Shards::open(&data.join("train"))?;
                let val = Shards::open_like(&data.join("val"), &train)?;
                let truncated = |images: Shards| Arc::new(images.with_truncated(self.truncated));
                Ok((truncated(train), truncated(val)))
            }
            DataKind::Rendered => {
                let rendered = self.rendered.clone().unwrap_or_default();
                folders(&rendered.render(cache)?, rendered.name())
            }
            DataKind::Fake => {
                let FakeRecipe { train, val, classes } = self.fake.unwrap_or_default();
                let fake =
                    |images, seed| Arc::new(Fake::new(images, self.input_size, classes, seed));
                Ok((fake(train, 0), fake(val, 1)))
            }
            DataKind::Own => Err(TrainError::Field {
                field: "data.kind".into(),
                value: self.kind.name(),
                accepted: "another kind, or the program that opens these data itself",
            }),
        }
    }

    /// Opens the validation data alone, for evaluation. Image folders and shards may lack the
    /// folder `train`. The classes are then those of `val`.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub fn open_val(&self, data: &Path, cache: &Path) -> Result<Arc<dyn Dataset>, TrainError> {
        if !self.is_made() && self.kind != DataKind::Own && !data.is_dir() {
            return Err(DataError::NoFolder { path: data.to_owned() }.into());
        }
        let val = data.join("val");
        match self.kind {
            DataKind::ImageFolder if self.lacks_training(data) => {
                let val = ImageFolder::open_cached(&val, cache)?;
                Ok(Arc::new(val.with_truncated(self.truncated)))
            }
            DataKind::Shards if self.lacks_training(data) => {
                Ok(Arc::new(Shards::open(&val)?.with_truncated(self.truncated)))
            }
            _ => Ok(self.open(data, cache)?.1),
        }
    }

    /// Returns whether a folder of images or shards has validation data only.
    pub fn lacks_training(&self, data: &Path) -> bool {
        let in_folders = matches!(self.kind, DataKind::ImageFolder | DataKind::Shards);
        in_folders && !data.join("train").exists() && data.join("val").is_dir()
    }

    /// Checks everything that the types and the bounds of numbers do not ensure.
    ///
    /// # Errors
    /// [`TrainError::Field`] with the field, its value and what is accepted.
    pub fn validate(&self) -> Result<(), TrainError> {
        for (name, pipeline) in [("data.train", self.train()), ("data.eval", self.eval())] {
            let fits = pipeline.output_size() == Some(self.input_size);
            let size = pipeline.output_size();
            let value = size.map_or("no fixed size".into(), |size| format!("{size} pixels"));
            let accepted = "steps that end in squares of input_size pixels";
            TrainError::check_field(fits, name, value, accepted)?;
        }
        let extra = [
            (self.fake.is_some(), DataKind::Fake, "data.fake"),
            (self.rendered.is_some(), DataKind::Rendered, "data.rendered"),
        ];
        for (given, kind, field) in extra {
            let accepted = "no such table, unless data.kind has its name";
            TrainError::check_field(!given || self.kind == kind, field, "given", accepted)?;
        }
        let has_files = matches!(self.kind, DataKind::ImageFolder | DataKind::Shards);
        let read = has_files || self.truncated == Truncated::default();
        let accepted = "refuse, unless data.kind is image-folder or shards";
        TrainError::check_field(read, "data.truncated", "accept", accepted)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn truncated_images_are_a_matter_of_image_files() {
        let recipe = |kind: &str| -> DataRecipe {
            let size = "input_size = 32\ntruncated = 'accept'";
            toml::from_str(&format!("kind = '{kind}'\n{size}")).unwrap()
        };
        recipe("image-folder").validate().unwrap();
        recipe("shards").validate().unwrap();
        let error = recipe("cifar10").validate().unwrap_err().to_string();
        assert!(error.contains("data.truncated"), "{error}");
    }

    #[test]
    fn the_share_of_broken_images_is_a_field_with_a_range() {
        let recipe = |line: &str| -> DataRecipe {
            toml::from_str(&format!("kind = 'fake'\ninput_size = 8\n{line}")).unwrap()
        };
        assert_eq!(recipe("").max_broken, 0.01);
        for (line, share) in [("max_broken = 0.0", 0.0), ("max_broken = 1", 1.0)] {
            assert_eq!(recipe(line).max_broken, share);
            recipe(line).validate().unwrap();
        }
        let text = "name = 'a'\ndata = { kind = 'fake', input_size = 8, max_broken = SHARE }\n\
                    model = { depth = 'resnet18', stem = 'imagenet' }\n\
                    [[phase]]\nname = 'p'\nepochs = 1\nbatch_size = 8\nlearning_rate = 0.1";
        for share in ["1.1", "-0.1", "nan"] {
            let text = text.replace("SHARE", share);
            let error = crate::Recipe::parse(&text, Path::new("a.toml")).unwrap_err().to_string();
            assert!(error.contains("data.max_broken"), "{error}");
        }
    }
}
