//! A rendered image classification set, for machines without data: ten classes of shapes and
//! textures on cluttered backgrounds, in ImageNet's folder layout.
//!
//! Position, size, rotation, colours, lighting and noise are random, so that neither the colour nor
//! the position reveals the class.

use std::{
    f64::consts::{PI, TAU},
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use serde::{Deserialize, Serialize};

use crate::{error::DataError, image::RgbImage, random::Random};

/// Names of the classes.
pub const CLASSES: [&str; 10] = [
    "checker", "crescent", "cross", "disc", "dots", "ring", "square", "star", "stripes", "triangle",
];

/// The configuration of the rendered set.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ShapesConfig {
    /// Side of the images, in pixels.
    pub side: usize,
    /// Number of training images per class.
    pub train_per_class: usize,
    /// Number of validation images per class.
    pub val_per_class: usize,
    /// Seed of all random numbers.
    pub seed: u64,
}

impl Default for ShapesConfig {
    fn default() -> Self {
        Self { side: 64, train_per_class: 400, val_per_class: 200, seed: 1 }
    }
}

/// Version of the rendering. It is part of the folder's name, so that sets of different versions
/// cannot be confused.
const VERSION: u32 = 2;

impl ShapesConfig {
    /// Returns the name of the set's folder, which is different for every configuration.
    pub fn name(&self) -> String {
        let Self { side, train_per_class, val_per_class, seed } = self;
        format!("shapes-v{VERSION}-{side}px-{train_per_class}+{val_per_class}-{seed}")
    }

    /// Renders the set below `cache` unless it is there, and returns its folder, which holds
    /// `train/<class>/*.jpg` and `val/<class>/*.jpg`. The folder appears complete or not at all. A
    /// set from which images were removed is rendered again.
    ///
    /// # Errors
    /// [`DataError::Io`] where the folder cannot be written.
    pub fn render(&self, cache: &Path) -> Result<PathBuf, DataError> {
        let folder = cache.join(self.name());
        if self.is_complete(&folder) {
            return Ok(folder);
        }
        fs::create_dir_all(cache).map_err(DataError::io(cache))?;
        remove_abandoned(cache);
        let mut builder = tempfile::Builder::new();
        builder.prefix(PARTIAL);
        #[cfg(unix)]
        builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o777));
        let partial = builder.tempdir_in(cache).map_err(DataError::io(cache))?;
        for (part, (name, count)) in
            [("train", self.train_per_class), ("val", self.val_per_class)].into_iter().enumerate()
        {
            for (label, class) in CLASSES.iter().enumerate() {
                let class_folder = partial.path().join(name).join(class);
                fs::create_dir_all(&class_folder).map_err(DataError::io(&class_folder))?;
                for index in 0..count {
                    let purpose = [self.seed, part as u64, label as u64, index as u64];
                    let image = draw(label, self.side, &mut Random::new(&purpose));
                    let path = class_folder.join(format!("{index:05}.jpg"));
                    let jpeg = image.to_jpeg(92).map_err(|reason| DataError::Image {
                        path: crate::names::printable(&path),
                        reason,
                    })?;
                    fs::write(&path, jpeg).map_err(DataError::io(&path))?;
                }
            }
        }
        // A set that lacks images is moved away first.
        let incomplete = tempfile::Builder::new().prefix(PARTIAL).tempdir_in(cache);
        let incomplete = incomplete.map_err(DataError::io(cache))?;
        if folder.is_dir() && !self.is_complete(&folder) {
            let _moved_by_another = fs::rename(&folder, incomplete.path().join("set"));
        }
        match fs::rename(partial.path(), &folder) {
            Ok(()) => {
                let _moved_away = partial.keep();
                Ok(folder)
            }
            // Another process has finished first.
            Err(_) if self.is_complete(&folder) => Ok(folder),
            Err(error) => Err(DataError::io(&folder)(error)),
        }
    }

    /// Returns whether a folder has as many images of each class as the set. What is in the files
    /// is not read.
    fn is_complete(&self, folder: &Path) -> bool {
        let images = |part: &str, class: &str| {
            let entries = fs::read_dir(folder.join(part).join(class)).into_iter().flatten();
            let is_image = |entry: &fs::DirEntry| {
                entry.path().extension().is_some_and(|extension| extension == "jpg")
            };
            entries.flatten().filter(is_image).count()
        };
        CLASSES.iter().all(|class| {
            images("train", class) == self.train_per_class
                && images("val", class) == self.val_per_class
        })
    }
}

/// The names of folders that are not complete yet begin with this.
const PARTIAL: &str = ".shapes-";

/// The time after which an incomplete folder is taken for that of a process that was killed.
/// Rendering the default set takes a few seconds.
const ABANDONED: Duration = Duration::from_secs(24 * 60 * 60);

/// Removes the incomplete folders of processes that were killed. What cannot be removed stays.
fn remove_abandoned(cache: &Path) {
    let is_old = |path: &Path| {
        let changed = fs::metadata(path).and_then(|found| found.modified());
        changed.is_ok_and(|at| at.elapsed().is_ok_and(|age| age > ABANDONED))
    };
    for entry in fs::read_dir(cache).into_iter().flatten().flatten() {
        if entry.file_name().as_encoded_bytes().starts_with(PARTIAL.as_bytes())
            && is_old(&entry.path())
        {
            let _stays = fs::remove_dir_all(entry.path());
        }
    }
}

type Color = [f64; 3];

/// Draws an image of `side` by `side` pixels that shows class `label`, an index into [`CLASSES`].
///
/// # Panics
/// If `label` is out of range.
pub fn draw(label: usize, side: usize, random: &mut Random) -> RgbImage {
    let mut canvas = Canvas::background(side, random);
    let object = Object::new(label, side, canvas.base, random);
    for y in 0..side {
        for x in 0..side {
            let (color, coverage) = object.at(x as f64 + 0.5, y as f64 + 0.5);
            canvas.blend(x, y, color, coverage);
        }
    }
    canvas.finish(random)
}

struct Canvas {
    side: usize,
    base: Color,
    pixels: Vec<Color>,
}

impl Canvas {
    /// Draws a gradient with a few lines and blobs on it.
    fn background(side: usize, random: &mut Random) -> Self {
        let base: Color = std::array::from_fn(|_| random.uniform(0.15, 0.85));
        let slope: [Color; 2] =
            std::array::from_fn(|_| std::array::from_fn(|_| random.uniform(-0.25, 0.25)));
        let scale = side as f64;
        let mut canvas = Self { side, base, pixels: vec![[0.0; 3]; side * side] };
        for y in 0..side {
            for x in 0..side {
                let (u, v) = (x as f64 / scale - 0.5, y as f64 / scale - 0.5);
                canvas.pixels[y * side + x] =
                    std::array::from_fn(|c| base[c] + slope[0][c] * u + slope[1][c] * v);
            }
        }
        for _ in 0..4 + random.below(5) {
            let color: Color = std::array::from_fn(|c| base[c] + random.uniform(-0.22, 0.22));
            let (cx, cy) = (random.uniform(0.0, scale), random.uniform(0.0, scale));
            let angle = random.uniform(0.0, PI);
            let (length, width) = if random.chance(0.5) {
                (random.uniform(0.2, 0.7) * scale, random.uniform(0.008, 0.02) * scale)
            } else {
                let size = random.uniform(0.02, 0.06) * scale;
                (size, size)
            };
            for y in 0..side {
                for x in 0..side {
                    let (dx, dy) = rotate(x as f64 - cx, y as f64 - cy, angle);
                    let distance = (dx.abs() - length).max(dy.abs() - width);
                    canvas.blend(x, y, color, coverage(distance));
                }
            }
        }
        canvas
    }

    fn blend(&mut self, x: usize, y: usize, color: Color, coverage: f64) {
        let pixel = &mut self.pixels[y * self.side + x];
        *pixel = std::array::from_fn(|c| pixel[c] + (color[c] - pixel[c]) * coverage);
    }

    /// Applies lighting from one side, and noise.
    fn finish(self, random: &mut Random) -> RgbImage {
        let (angle, strength) = (random.uniform(0.0, TAU), random.uniform(0.0, 0.5));
        let (gain, noise) = (random.uniform(0.8, 1.15), random.uniform(0.01, 0.05));
        let mut image = RgbImage::new(self.side, self.side);
        for (index, (bytes, color)) in
            image.pixels.chunks_exact_mut(3).zip(&self.pixels).enumerate()
        {
            let x = (index % self.side) as f64 / self.side as f64 - 0.5;
            let y = (index / self.side) as f64 / self.side as f64 - 0.5;
            let light = gain * (1.0 + strength * (x * angle.cos() + y * angle.sin()));
            for (byte, channel) in bytes.iter_mut().zip(color) {
                let value = channel * light + random.uniform(-noise, noise);
                *byte = (value.clamp(0.0, 1.0) * 255.0).round() as u8;
            }
        }
        image
    }
}

/// The object in the picture.
struct Object {
    label: usize,
    center: (f64, f64),
    radius: f64,
    angle: f64,
    colors: [Color; 2],
    /// Number of corners of the outline of a textured patch; 0 for a circle.
    corners: usize,
    phase: f64,
}

impl Object {
    fn new(label: usize, side: usize, background: Color, random: &mut Random) -> Self {
        let scale = side as f64;
        let radius = random.uniform(0.22, 0.38) * scale;
        let margin = 0.8 * radius;
        let mut place = || random.uniform(margin, scale - margin);
        let center = (place(), place());
        let first = contrasting(background, random);
        Self {
            label,
            center,
            radius,
            angle: random.uniform(0.0, TAU),
            colors: [first, contrasting(first, random)],
            corners: [0, 4, 5, 6][random.below(4)],
            phase: random.uniform(0.0, 1.0),
        }
    }

    /// Returns the colour and the coverage of the pixel at (x, y).
    fn at(&self, x: f64, y: f64) -> (Color, f64) {
        let (u, v) = rotate(x - self.center.0, y - self.center.1, self.angle);
        let r = self.radius;
        let length = u.hypot(v);
        let patch = || match self.corners {
            0 => length - r,
            corners => polygon(u, v, corners, r),
        };
        let textured = |second: bool| (self.colors[usize::from(second)], coverage(patch()));
        let wave = |t: f64| (t / (0.22 * r.max(8.0)) * 0.5 + self.phase).rem_euclid(1.0) < 0.5;
        match CLASSES[self.label] {
            "stripes" => textured(wave(u)),
            "checker" => textured(wave(u * 0.7) != wave(v * 0.7)),
            "dots" => {
                // Dots have to be farther apart than the squares of a checker board, or small
                // networks confuse the two.
                let cell = 0.65 * r;
                let center = |t: f64| (t / cell + self.phase).rem_euclid(1.0) - 0.5;
                textured(center(u).hypot(center(v)) < 0.28)
            }
            shape => {
                let distance = match shape {
                    "disc" => length - 0.85 * r,
                    "ring" => (length - 0.75 * r).abs() - 0.2 * r,
                    "square" => u.abs().max(v.abs()) - 0.75 * r,
                    "triangle" => polygon(u, v, 3, r),
                    "star" => star(u, v, r),
                    "cross" => {
                        let (a, b) = (u.abs().max(v.abs()), u.abs().min(v.abs()));
                        (a - r).max(b - 0.28 * r)
                    }
                    _ => (length - 0.9 * r).max(0.75 * r - (u - 0.5 * r).hypot(v)),
                };
                (self.colors[0], coverage(distance))
            }
        }
    }
}

/// Returns a colour whose brightness differs clearly from that of another.
fn contrasting(other: Color, random: &mut Random) -> Color {
    let brightness = |color: &Color| 0.3 * color[0] + 0.6 * color[1] + 0.1 * color[2];
    loop {
        let color: Color = std::array::from_fn(|_| random.uniform(0.0, 1.0));
        if (brightness(&color) - brightness(&other)).abs() > 0.28 {
            return color;
        }
    }
}

fn rotate(x: f64, y: f64, angle: f64) -> (f64, f64) {
    let (sin, cos) = angle.sin_cos();
    (x * cos + y * sin, y * cos - x * sin)
}

/// Returns the signed distance to a regular polygon whose corners are at `radius`.
fn polygon(x: f64, y: f64, corners: usize, radius: f64) -> f64 {
    let sector = TAU / corners as f64;
    let angle = y.atan2(x).rem_euclid(sector) - sector / 2.0;
    x.hypot(y) * angle.cos() - radius * (sector / 2.0).cos()
}

/// Returns the approximate signed distance to a five-pointed star.
fn star(x: f64, y: f64, radius: f64) -> f64 {
    let sector = TAU / 5.0;
    let angle = (y.atan2(x).rem_euclid(sector) - sector / 2.0).abs() / (sector / 2.0);
    let edge = radius * (0.4 + 0.6 * angle.powf(1.6));
    (x.hypot(y) - edge) * 0.7
}

/// Returns the share of a pixel that is inside an edge at this distance from the pixel's centre.
fn coverage(distance: f64) -> f64 {
    (0.5 - distance).clamp(0.0, 1.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_seed_draws_the_same_image() {
        let image = |seed| draw(3, 32, &mut Random::new(&[seed]));
        assert_eq!(image(1), image(1));
        assert_ne!(image(1), image(2));
    }

    #[test]
    fn rendering_makes_the_layout_once_and_makes_up_for_losses() {
        let cache = tempfile::tempdir().unwrap();
        let config = ShapesConfig { side: 16, train_per_class: 2, val_per_class: 1, seed: 1 };
        let folder = config.render(cache.path()).unwrap();
        let file = folder.join("train/star/00001.jpg");
        assert!(RgbImage::read(&file, crate::Truncated::Refuse).is_ok());
        let kept = folder.join("train/star/00000.jpg");
        fs::write(&kept, "other bytes").unwrap();
        assert_eq!(config.render(cache.path()).unwrap(), folder);
        assert_eq!(fs::read(&kept).unwrap(), b"other bytes", "a whole set is left alone");
        fs::remove_file(&file).unwrap();
        assert_eq!(config.render(cache.path()).unwrap(), folder);
        assert!(file.exists(), "a set that lacks an image is rendered again");
        assert!(RgbImage::read(&kept, crate::Truncated::Refuse).is_ok());
        let left: Vec<_> = fs::read_dir(cache.path()).unwrap().collect();
        assert_eq!(left.len(), 1, "{left:?}");
    }
}
