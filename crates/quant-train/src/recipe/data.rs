//! The data of a recipe.

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
    schema::{
        choices::{Choice, Steps, text_of},
        stand_ins::{PositiveField, RenderedFields},
    },
};

/// Training and validation data.
pub type DataPair = (Arc<dyn Dataset>, Arc<dyn Dataset>);

/// The data.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct DataRecipe {
    /// Format of the data at `--data`.
    pub kind: DataKind,
    /// Side of the network's input, in pixels. Time and memory grow with its square; 224 is usual
    /// for photographs, 32 for CIFAR.
    #[schemars(range(min = 1, max = 4096))]
    pub input_size: usize,
    /// Mean of the red, green and blue channel, of bytes scaled to 0..1, which is subtracted. By
    /// default it is the usual one of the format. Change it to that of the data which `init` was
    /// trained on.
    pub mean: Option<[f64; 3]>,
    /// Deviation of every channel, which the rest is divided by. By default it is the usual one of
    /// the format.
    #[schemars(with = "Option<[PositiveField; 3]>")]
    pub std: Option<[f64; 3]>,
    /// Augmentation: the steps that training images go through, which end in squares of
    /// `input_size` pixels; `docs/recipes.md` shows them. By default they are the usual
    /// ones of the format. Add steps against overfitting.
    #[schemars(with = "Option<Steps>")]
    pub train: Option<Pipeline>,
    /// The steps that validation images go through. By default they are the usual ones of the
    /// format.
    #[schemars(with = "Option<Steps>")]
    pub eval: Option<Pipeline>,
    /// Images per batch in evaluation. Lower it where memory does not suffice; scores do not depend
    /// on it.
    #[serde(default = "eval_batch_size")]
    #[schemars(range(min = 1, max = 65_536))]
    pub eval_batch_size: usize,
    /// Threads that decode and augment images, for each device. 0 takes as many as there are cores.
    /// Lower it on a machine that others use too. Results do not depend on it.
    #[serde(default)]
    #[schemars(range(min = 0, max = 1024))]
    pub workers: usize,
    /// Batches that are loaded ahead of the one in use. Raise it where the device waits for data
    /// from time to time; each takes the memory of a batch.
    #[serde(default = "prefetch")]
    #[schemars(range(min = 1, max = 1024))]
    pub prefetch: usize,
    /// What becomes of image files that are cut short or damaged, of the kinds `image-folder` and
    /// `shards`: `refuse` counts them as unusable, `accept` reads them as far as they go.
    #[serde(default)]
    #[schemars(with = "Choice<Truncated>")]
    pub truncated: Truncated,
    /// Share of the images that may be unusable, 0 to 1: more end a run or an evaluation. A handful
    /// may be in any case, unless it is 0. Raise it for a set that is known to be damaged.
    #[serde(default = "max_broken")]
    #[schemars(extend("minimum" = 0, "maximum" = 1))]
    pub max_broken: f64,
    /// How many images there are, where `kind` is `fake`. By default there are 1024 and 256 of 10
    /// classes.
    pub fake: Option<FakeRecipe>,
    /// How many pictures there are, and of which size, where `kind` is `rendered`. By default they
    /// are as its fields say.
    #[schemars(with = "Option<RenderedFields>")]
    pub rendered: Option<ShapesConfig>,
}

/// Format of the data.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum DataKind {
    /// `train/<class>/*.jpg` and `val/<class>/*.jpg`, or Tiny ImageNet's `val/images/*.jpg` with
    /// `val/val_annotations.txt`.
    ImageFolder,
    /// CIFAR-10's files, binary or of the Python version.
    Cifar10,
    /// CIFAR-100's files, binary or of the Python version.
    Cifar100,
    /// MNIST's format: `train-images-idx3-ubyte`, `train-labels-idx1-ubyte`, `t10k-...`.
    Idx,
    /// Tar files in WebDataset's layout: `train/*.tar` and `val/*.tar`.
    Shards,
    /// The rendered set, made in the cache folder on first use; no data are needed.
    Rendered,
    /// Noise; no data are needed.
    Fake,
}

impl DataKind {
    /// Its name in a recipe, such as `image-folder`.
    pub fn name(self) -> String {
        text_of(&self)
    }
}

/// How much noise.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct FakeRecipe {
    /// Training images.
    #[schemars(range(min = 1, max = 10_000_000))]
    pub train: usize,
    /// Validation images.
    #[schemars(range(min = 1, max = 10_000_000))]
    pub val: usize,
    /// Classes.
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
    /// Of a kind, with all else as usual.
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

    /// Mean and deviation of every channel.
    pub fn normalization(&self) -> ([f64; 3], [f64; 3]) {
        let (mean, std) = match self.kind {
            DataKind::ImageFolder | DataKind::Shards | DataKind::Rendered | DataKind::Fake => {
                ([0.485, 0.456, 0.406], [0.229, 0.224, 0.225])
            }
            DataKind::Cifar10 | DataKind::Cifar100 => {
                ([0.4914, 0.4822, 0.4465], [0.2023, 0.1994, 0.2010])
            }
            DataKind::Idx => ([0.5; 3], [0.5; 3]),
        };
        (self.mean.unwrap_or(mean), self.std.unwrap_or(std))
    }

    /// Augmentation.
    pub fn train(&self) -> Pipeline {
        self.train.clone().unwrap_or_else(|| match self.kind {
            DataKind::ImageFolder | DataKind::Shards => Pipeline::imagenet_train(self.input_size),
            DataKind::Rendered => Pipeline(vec![
                Transform::RandomResizedCrop { size: self.input_size, scale: [0.6, 1.0] },
                Transform::HorizontalFlip,
            ]),
            DataKind::Fake => self.centre(),
            // A shift by up to two pixels; what comes in at the edges is black.
            DataKind::Idx => Pipeline(vec![
                Transform::CenterCrop { size: self.input_size + 4 },
                Transform::PaddedCrop { size: self.input_size, padding: 0 },
            ]),
            DataKind::Cifar10 | DataKind::Cifar100 => Pipeline::cifar_train(self.input_size),
        })
    }

    /// Preparation for evaluation.
    pub fn eval(&self) -> Pipeline {
        self.eval.clone().unwrap_or_else(|| match self.kind {
            DataKind::ImageFolder | DataKind::Shards => Pipeline::imagenet_eval(self.input_size),
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

    /// Whether it is made, and needs no data.
    pub fn is_made(&self) -> bool {
        matches!(self.kind, DataKind::Rendered | DataKind::Fake)
    }

    /// Opens training and validation data at `data`; `cache` is a folder for what can be made
    /// again.
    ///
    /// # Errors
    /// Those of the data sets.
    pub fn open(&self, data: &Path, cache: &Path) -> Result<DataPair, DataError> {
        let cifar = |kind| -> Result<DataPair, DataError> {
            let train = Cifar::open(data, kind, Split::Train)?;
            let test = Cifar::open(data, kind, Split::Test)?;
            Ok((Arc::new(train), Arc::new(test)))
        };
        let parts = |data: &Path| {
            let missing = ["train", "val"].into_iter().find(|part| !data.join(part).is_dir());
            missing
                .map_or(Ok(()), |missing| Err(DataError::NoPart { path: data.to_owned(), missing }))
        };
        let folders = |data: &Path, origin: String| -> Result<DataPair, DataError> {
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
        }
    }

    /// Opens the validation data alone, for evaluation. Image folders and shards may lack the
    /// folder `train`: classes are then those of `val`.
    ///
    /// # Errors
    /// Those of the data sets.
    pub fn open_val(&self, data: &Path, cache: &Path) -> Result<Arc<dyn Dataset>, DataError> {
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

    /// Whether a folder of images or shards has validation data alone.
    pub fn lacks_training(&self, data: &Path) -> bool {
        let in_folders = matches!(self.kind, DataKind::ImageFolder | DataKind::Shards);
        in_folders && !data.join("train").exists() && data.join("val").is_dir()
    }

    /// Checks what types and bounds leave open.
    ///
    /// # Errors
    /// [`TrainError::Field`] with field, value and range.
    pub fn validate(&self) -> Result<(), TrainError> {
        let check = |good: bool, field: &str, value: String, accepted| match good {
            true => Ok(()),
            false => Err(TrainError::Field { field: field.to_owned(), value, accepted }),
        };
        for (name, pipeline) in [("data.train", self.train()), ("data.eval", self.eval())] {
            let fits = pipeline.output_size() == Some(self.input_size);
            let size = pipeline.output_size();
            let value = size.map_or("no fixed size".into(), |size| format!("{size} pixels"));
            let accepted = "steps that end in squares of input_size pixels";
            check(fits, name, value, accepted)?;
        }
        let extra = [
            (self.fake.is_some(), DataKind::Fake, "data.fake"),
            (self.rendered.is_some(), DataKind::Rendered, "data.rendered"),
        ];
        for (given, kind, field) in extra {
            let accepted = "none, unless data.kind is of that name";
            check(!given || self.kind == kind, field, "given".into(), accepted)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
