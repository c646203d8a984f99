//! Measures how many 500x375 JPEG images are decoded and augmented to 224x224 per second of CPU
//! time.

use std::{error::Error, fs, path::Path, sync::Arc};

use cpu_time::ProcessTime;
use quant_data::{
    Dataset, ImageFolder, LastBatch, Loader, LoaderConfig, Pipeline, RgbImage, Share,
    dataset::shapes, random::Random,
};

use crate::{Row, median};

/// Number of images.
const IMAGES: usize = 200;

pub(crate) fn measure(rounds: usize, images: Option<&Path>) -> Result<Vec<Row>, Box<dyn Error>> {
    let temporary = tempfile::tempdir()?;
    let folder = images.unwrap_or(temporary.path());
    let bytes = make_images(folder)?;
    let dataset: Arc<dyn Dataset> = Arc::new(ImageFolder::open(folder)?);
    let sides = [
        ("loader-train", Pipeline::imagenet_train(224), 2 * 238),
        ("loader-val", Pipeline::imagenet_eval(224), 2 * 183),
    ];
    let mut rates = vec![Vec::new(); sides.len()];
    for round in 0..=rounds {
        for ((_, pipeline, _), rates) in sides.iter().zip(&mut rates) {
            let config = LoaderConfig {
                batch_size: 50,
                training: false,
                last_batch: LastBatch::Drop,
                seed: round as u64,
                workers: 1,
                prefetch: 4,
                share: Share::ALL,
                max_broken: LoaderConfig::MAX_BROKEN,
            };
            let loader = Loader::new(Arc::clone(&dataset), pipeline.clone(), config)?;
            let start = ProcessTime::now();
            let mut count = 0;
            for batch in loader.epoch(round, 0) {
                count += batch?.labels.len();
            }
            if round > 0 {
                rates.push(count as f64 / start.elapsed().as_secs_f64());
            }
        }
    }
    let mut rows: Vec<Row> = sides
        .into_iter()
        .zip(rates)
        .map(|((name, _, target), rates)| Row {
            name: name.into(),
            value: median(rates),
            unit: "images/CPU-second",
            target: format!("at least {target}"),
        })
        .collect();
    rows.push(Row {
        name: "loader-decode-only".into(),
        value: decode_rate(dataset.as_ref(), rounds)?,
        unit: "images/CPU-second",
        target: String::new(),
    });
    rows.push(Row {
        name: "loader-file-size".into(),
        value: bytes as f64 / IMAGES as f64 / 1024.0,
        unit: "KiB/image",
        target: String::new(),
    });
    Ok(rows)
}

/// Measures reading and decoding alone, which is the upper bound for every pipeline.
fn decode_rate(dataset: &dyn Dataset, rounds: usize) -> Result<f64, Box<dyn Error>> {
    let mut rates = Vec::new();
    for _ in 0..rounds.max(1) {
        let start = ProcessTime::now();
        for index in 0..dataset.len() {
            dataset.image(index)?;
        }
        rates.push(dataset.len() as f64 / start.elapsed().as_secs_f64());
    }
    Ok(median(rates))
}

/// Writes the images that do not exist yet. Returns their total size in bytes.
fn make_images(folder: &Path) -> Result<u64, Box<dyn Error>> {
    let mut bytes = 0;
    for index in 0..IMAGES {
        let class = index % shapes::CLASSES.len();
        let path = folder.join(shapes::CLASSES[class]).join(format!("{index:04}.jpg"));
        if !path.exists() {
            fs::create_dir_all(path.parent().unwrap_or(folder))?;
            let mut random = Random::new(&[9, index as u64]);
            let mut image = shapes::draw(class, 500, &mut random);
            image.pixels.truncate(500 * 375 * 3);
            // The noise gives as much detail as in photographs: ImageNet's files have 110 KiB on
            // average.
            for byte in &mut image.pixels {
                *byte = byte.saturating_add_signed(random.below(41) as i8 - 20);
            }
            let image = RgbImage { height: 375, ..image };
            fs::write(&path, image.to_jpeg(88)?)?;
        }
        bytes += fs::metadata(&path)?.len();
    }
    Ok(bytes)
}
